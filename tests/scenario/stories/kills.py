"""kill -9 right after every single call that moves something, in a good and in a bad release."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Iterable, Optional

from harness import Call, check, until
from region import weights_of
from stories import Stage, story
from subject import RELEASE_TIMEOUT, Subject

#: Runs side by side, each with its own daemon and tables in the shared sandbox.
SIDE_BY_SIDE = 2
#: For the call after which the daemon is killed.
HIT_TIMEOUT = RELEASE_TIMEOUT


@dataclass(frozen=True)
class Move:
    """A call that moved something, told without ids so that runs can be compared."""

    operation: str
    what: str
    detail: str


@dataclass(frozen=True)
class Run:
    """What a run did and where it ended."""

    moves: tuple[Move, ...]
    end: str


@dataclass(frozen=True)
class Kind:
    """A good or a bad release."""

    name: str
    faults: dict
    outcome: str


GOOD = Kind("good", {}, "Succeeded")
BAD = Kind("bad", {"ERROR_RATE": "100"}, "RolledBack")


@story("a good release ends the same after kill -9 right after each of its calls")
def killed_good(stage: Stage) -> str:
    return _every_kill(stage, GOOD)


@story("a bad release is rolled back all the same after kill -9 right after each of its calls")
def killed_bad(stage: Stage) -> str:
    return _every_kill(stage, BAD)


def _every_kill(stage: Stage, kind: Kind) -> str:
    reference = _run(stage, kind, None)
    check(len(reference.moves) >= 5, f"a release moves at least five things: {reference.moves}")
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        points = range(1, len(reference.moves) + 1)
        runs = list(pool.map(lambda point: _attempt(stage, kind, reference, point), points))
    failed = [complaint for complaint in runs if complaint]
    check(not failed, "; ".join(failed))
    operations = ", ".join(move.operation for move in reference.moves)
    return f"killed after each of {len(reference.moves)} calls: {operations}"


def _attempt(stage: Stage, kind: Kind, reference: Run, point: int) -> Optional[str]:
    """One run with a kill; returns the complaint, so that the other points are still tried."""
    try:
        run = _run(stage, kind, (reference, point))
        _compare(reference, run)
    except AssertionError as complaint:
        return f"killed after call {point} ({reference.moves[point - 1]}): {complaint}"
    return None


def _compare(reference: Run, run: Run) -> None:
    check(run.end == reference.end, f"it ended as {run.end}, without the kill as {reference.end}")
    expected, done = Counter(reference.moves), Counter(run.moves)
    for move, times in done.items():
        allowed = expected[move] + 1
        check(times <= allowed, f"{move} was done {times} times, without the kill {expected[move]} times")
    strange = [move for move in done if move not in expected]
    check(not strange, f"this is never done without the kill: {strange}")


def _run(stage: Stage, kind: Kind, kill: Optional[tuple[Run, int]]) -> Run:
    point = kill[1] if kill else 0
    # No name is the beginning of another.
    world = stage.installation(f"kill{kind.name}{point}x")
    sandbox, daemon = world.sandbox, world.daemon.start()
    strategies = {"canary": {"canary": {"weight": 10, "bake": "20s" if kind is BAD else "2s"}}}
    subject = world.subject(
        f"kill{kind.name}{point}x", strategies=strategies, releaseMayChoose=["canary"], bake="2s", retention="2s"
    )
    try:
        stable = subject.first_release()
        subject.await_settled()
        candidate, mark = subject.revision(**kind.faults), subject.mark()
        fault = _order_silence(subject, kill) if kill else None
        with subject.steady_traffic(rate=40) as traffic:
            request = subject.desire(candidate)
            if fault is not None:
                until("the call after which to kill", lambda: sandbox.hits(fault), HIT_TIMEOUT, every=0.02)
                daemon.kill()
                sandbox.disarm(fault)
                daemon.start()
            outcome = subject.await_outcome(request)
            check(outcome["outcome"] == kind.outcome, f"it should be {kind.outcome}: {outcome}")
            subject.await_settled()
        verdict = subject.judge(traffic)
        check(not verdict.leaks and not verdict.strangers, "; ".join(verdict.complaints()))
        unfair = [one for one in verdict.failed if one.revision != candidate or kind is GOOD]
        check(not unfair, f"{len(unfair)} requests failed that should not: {unfair[:1]}")
        done = [call for call in subject.moves(mark) if call.done]
        made = {call.resource for call in done if call.operation == "CreateTaskSet"}
        check(len(made) == 1, f"one task set should be made, these were: {made}")
        return Run(_without_repeats(_told(subject, call) for call in done), _end(subject, stable, candidate))
    finally:
        world.end()


def _without_repeats(moves: Iterable[Move]) -> tuple[Move, ...]:
    """A read from before a write makes the daemon repeat that write, which is absolute: once is what is meant."""
    return tuple(move for move, _ in groupby(moves))


def _order_silence(subject: Subject, kill: tuple[Run, int]) -> int:
    """The k-th call takes effect and is never answered: the daemon dies not knowing."""
    reference, point = kill
    operation = reference.moves[point - 1].operation
    earlier = sum(move.operation == operation for move in reference.moves[: point - 1])
    return subject.world.sandbox.arm(operation, "timeoutAfter", containing=subject.name, skip=earlier, count=1)


def _told(subject: Subject, call: Call) -> Move:
    parameters, service = call.parameters, subject.service
    if call.operation == "ModifyRule":
        what = "production" if call.resource == service.production else "test"
        return Move(call.operation, what, json.dumps(weights_of(service, parameters["Actions"]), sort_keys=True))
    if call.operation == "UpdateTaskSet":
        return Move(call.operation, "scale", json.dumps(parameters.get("scale"), sort_keys=True))
    return Move(call.operation, "task set", "")


def _end(subject: Subject, stable: str, candidate: str) -> str:
    """Where everything stands, with revisions called by their role."""
    roles = {stable: "stable", candidate: "candidate"}
    sets = [
        (roles.get(one["taskDefinition"].rpartition("/")[2]), one["status"], one["scale"]["value"])
        for one in subject.region.task_sets(subject.service)
    ]
    serving = roles.get(subject.region.serving(subject.service) or "")
    test = subject.region.weights(subject.service, subject.service.test)
    return json.dumps({"taskSets": sets, "serving": serving, "test": test}, sort_keys=True)
