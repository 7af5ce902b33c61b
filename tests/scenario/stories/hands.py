"""Several daemons on one table: each service has one that acts."""

from __future__ import annotations

import itertools
import time

from harness import LEASE_TTL, Call, Daemon, check, holds_for, until
from stories import Stage, story
from subject import Subject, World

#: Beyond two lease times, for a busy machine: starting to act takes a pass and a write.
SLACK = 1.5


@story("of two daemons one acts; the other takes over from a killed and from a stopped one")
def two_daemons(stage: Stage) -> str:
    world = stage.installation("pair")
    strategies = {"canary": {"canary": {"weight": 10, "bake": "6s"}}}
    # One shard has one owner: a daemon that comes back does not take it from the other.
    world.daemon.shards = 1
    first, second = world.daemon.start(), _mate(world, "pairmate", shards=1)
    subject = world.subject("pairrel", strategies=strategies, releaseMayChoose=["canary"])
    try:
        stable = subject.first_release()
        holder, standby = _holder_and_standby(subject, first, second)

        # Killed: the standby finishes the release.
        request = subject.desire(subject.revision())
        subject.await_phase("Baking", weight=10)
        check(not subject.moves(keys=(standby.access_key,)), "the standby should not act")
        killed_at = time.time()
        holder.kill()
        took = _taken_over(subject, standby, killed_at)
        outcome = subject.await_outcome(request)
        check(outcome["outcome"] == "Succeeded", f"the release should have succeeded: {outcome}")

        # Stopped: the other one finishes, and the old one never acts again as if nothing had been.
        holder, standby = standby, holder
        standby.start()
        request = subject.desire(subject.revision())
        subject.await_phase("Baking", weight=10)
        check(not subject.moves(keys=(standby.access_key,)), "the new standby should not act")
        holder.pause()
        stopped_at = time.time()
        took_again = _taken_over(subject, standby, stopped_at)
        outcome = subject.await_outcome(request)
        check(outcome["outcome"] == "Succeeded", f"the release should have succeeded: {outcome}")
        mark = subject.mark()
        holder.go_on()
        holds_for("the daemon that was stopped does not act", lambda: _idle(subject, holder, mark), 2 * LEASE_TTL)
        subject.await_settled()
        check(_idle(subject, holder, mark), f"the old holder acted: {subject.moves(mark, (holder.access_key,))}")
        check(subject.region.serving(subject.service) != stable, "the new version should have all weight")
        return f"took over after {took:.1f} s and {took_again:.1f} s; the lease is {LEASE_TTL:g} s"
    finally:
        first.end()
        second.end()


#: By the hash of `scenario/<name>` these lie in shards 0, 2 and 3 of 4.
TRIO = ("trioa", "triob", "triod")


@story("three daemons share the services; what one of them had goes on when it is killed")
def three_daemons(stage: Stage) -> str:
    world = stage.installation("trio")
    world.daemon.shards = 4
    daemons = [world.daemon.start(), _mate(world, "triomate", shards=4), _mate(world, "triothird", shards=4)]
    strategies = {"canary": {"canary": {"weight": 10, "bake": "6s"}}}
    subjects = [world.subject(name, strategies=strategies, releaseMayChoose=["canary"]) for name in TRIO]
    try:
        for subject in subjects:
            subject.first_release()
        requests = [subject.desire(subject.revision()) for subject in subjects]
        for subject in subjects:
            subject.await_phase("Baking", weight=10)
        owners = {subject.moves()[-1].access_key for subject in subjects}
        check(len(owners) > 1, f"more than one daemon should act, only this one did: {owners}")

        killed = next(daemon for daemon in daemons if daemon.access_key == subjects[0].moves()[-1].access_key)
        killed.kill()
        for subject, request in zip(subjects, requests):
            outcome = subject.await_outcome(request)
            check(outcome["outcome"] == "Succeeded", f"the release should have succeeded: {outcome}")
            subject.await_settled()
        for subject in subjects:
            turns = [key for key, _ in itertools.groupby(call.access_key for call in subject.moves())]
            check(len(turns) == len(set(turns)), f"{subject.name}: a daemon acted again after another: {turns}")
        return f"{len(owners)} daemons acted on {len(subjects)} services"
    finally:
        for daemon in daemons:
            daemon.end()


#: How long a version is kept, in seconds: the next release is at its first step before that is over, on a busy machine too.
KEPT = 20.0
#: How long no daemon runs, in seconds: longer than the lease, the bake and the time for which a version is kept.
WITHOUT_DAEMONS = KEPT + LEASE_TTL


@story("while no daemon runs nothing moves and every request is answered; then releases go on where they stood")
def without_daemons(stage: Stage) -> str:
    world = stage.installation("static")
    daemons = [world.daemon.start(), _mate(world, "staticmate", world.daemon.shards)]
    baking, resting = world.subject("staticbaking"), world.subject("staticresting", retention=f"{KEPT:g}s")
    try:
        for subject in (baking, resting):
            subject.first_release()
        # One keeps the version before for a while, the other shares its traffic between two when the daemons die.
        after = resting.await_outcome(resting.desire(resting.revision()))
        check(after["outcome"] == "Succeeded", f"the release should have succeeded: {after}")
        request = baking.desire(baking.revision())
        baking.await_phase("Baking", weight=10)
        for daemon in daemons:
            daemon.kill()
        with baking.steady_traffic() as traffic, resting.steady_traffic() as beside:
            marks = [subject.mark() for subject in (baking, resting)]
            before = [_everything(subject) for subject in (baking, resting)]
            check([len(sets) for _, _, sets in before] == [2, 2], f"each should have two task sets: {before}")
            holds_for(
                "weights and task sets are as the daemons left them",
                lambda: [_everything(subject) for subject in (baking, resting)] == before,
                WITHOUT_DAEMONS,
            )
            moved = [call for subject, mark in zip((baking, resting), marks) for call in subject.moves(mark)]
            check(not moved, f"nobody is there, and yet: {moved}")
        verdicts = [baking.judge(traffic), resting.judge(beside)]
        for verdict in verdicts:
            # Before the traffic there were other weights, and no requests for a share of them.
            verdict.shares = [share for share in verdict.shares if share.requests]
        check(verdicts[0].shares, "the traffic should have been shared between two versions")
        complaints = [told for verdict in verdicts for told in verdict.complaints()]
        check(not complaints, "; ".join(complaints))
        world.daemon.start()
        outcome = baking.await_outcome(request)
        check(outcome["outcome"] == "Succeeded", f"the release should have succeeded: {outcome}")
        for subject in (baking, resting):
            subject.await_settled()
        requests = sum(verdict.requests for verdict in verdicts)
        return f"{requests} requests in {WITHOUT_DAEMONS:g} s without a daemon, none failed"
    finally:
        for daemon in daemons:
            daemon.end()


def _everything(subject: Subject) -> tuple[dict[str, int], dict[str, int], list[tuple]]:
    """Weights of both routes, and the task sets with all that a daemon could change of them."""
    service, region = subject.service, subject.region
    sets = [
        (one["taskSetArn"], one["status"], one["scale"]["value"], one["computedDesiredCount"], one["runningCount"])
        for one in region.task_sets(service)
    ]
    return region.weights(service, service.production), region.weights(service, service.test), sorted(sets)


def _mate(world: World, name: str, shards: int) -> Daemon:
    daemon = Daemon(world.pointsman, world.directory, world.sandbox.endpoint, world.tables, name, world.answers)
    daemon.shards = shards
    return daemon.start()


def _holder_and_standby(subject: Subject, first: Daemon, second: Daemon) -> tuple[Daemon, Daemon]:
    keys = {call.access_key for call in subject.moves()}
    check(len(keys) == 1, f"exactly one daemon should act, these did: {keys}")
    return (first, second) if keys == {first.access_key} else (second, first)


def _state_writes(subject: Subject, daemon: Daemon, since: float) -> list[float]:
    """When this daemon wrote state; all it writes besides are beats of its lease."""
    calls = subject.world.sandbox.calls.since(keys=(daemon.access_key,))
    return [
        call.began
        for call in calls
        # The log leaves out the structures of long inputs; a beat is short, so its key is always there.
        if call.service == "dynamodb" and call.done and call.began > since and not _is_beat(call)
    ]


def _is_beat(call: Call) -> bool:
    return '"lease#' in call.text


def _taken_over(subject: Subject, daemon: Daemon, since: float) -> float:
    limit = 2 * LEASE_TTL
    found = until("the other daemon acts", lambda: _state_writes(subject, daemon, since), limit + 10)
    took = found[0] - since
    check(took <= limit + SLACK, f"taking over took {took:.1f} s, more than two lease times of {LEASE_TTL:g} s")
    return took


def _idle(subject: Subject, daemon: Daemon, mark: int) -> bool:
    return not subject.moves(mark, keys=(daemon.access_key,))
