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
