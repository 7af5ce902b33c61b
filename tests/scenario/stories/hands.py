"""Two daemons on one table: one acts, the other stands by."""

from __future__ import annotations

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
    first, second = world.daemon.start(), _second(stage, world)
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


def _second(stage: Stage, world: World) -> Daemon:
    daemon = Daemon(world.pointsman, world.directory, world.sandbox.endpoint, world.tables, "pairmate", world.answers)
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
