"""Who owned which lease, and what must hold of it: nobody acts without, and nobody is missed for long. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Iterable, NamedTuple, Optional, Sequence

from harness import Call
from schedule import LEASE_RENEW, LEASE_TTL
from seen import OPERATION, Trace, told, was_tied, weights

#: A lease without its owner is taken within two times to live, and what is on its way then (L4): the last beat of who died
#: may land an OPERATION late. See `_chance` for which seconds count.
FAILOVER = 2 * LEASE_TTL + OPERATION
#: A beat that took longer says that the table is slow, in seconds: a look takes three such calls, within `LEASE_RENEW`.
PROMPT = LEASE_RENEW / 8


class Take(NamedTuple):
    """A process became the owner of a lease."""

    at: float
    access_key: str
    lease: str
    epoch: int


def takes(calls: Iterable[Call]) -> list[Take]:
    """When who became the owner of a lease, by the writes on lease items."""
    found = []
    for call in calls:
        key = call.parameters.get("Key") or {}
        lease = "/".join(key.get(part, {}).get("S", "") for part in ("pk", "sk"))
        if call.operation != "UpdateItem" or not call.done or not lease.startswith("lease#"):
            continue
        values = call.parameters.get("ExpressionAttributeValues") or {}
        if "#holder = :me" in call.parameters.get("UpdateExpression", "") and ":epoch" in values:
            found.append(Take(call.ended, call.access_key, lease, int(values[":epoch"]["N"])))
    return sorted(found)


def stale_writers(trace: Trace) -> list[str]:
    """Calls on AWS that began after somebody else had taken the lease, but for what was on its way.

    Which of several leases is a service's is not known from outside. There must be one whose owner made all its calls.
    """
    found = []
    leases: dict[str, list[Take]] = {"none": []}
    for one in takes(trace.calls):
        leases.setdefault(one.lease, []).append(one)
    for service in trace.services:
        calls = trace.moves(service)
        found += min((list(_not_owned(trace, calls, known)) for known in leases.values()), key=len)
    return found


def _not_owned(trace: Trace, calls: Sequence[Call], known: Sequence[Take]) -> Iterable[str]:
    for call in calls:
        before = [take for take in known if take.at <= call.began]
        owner = before[-1] if before else None
        # A take's record says when it ended, to the millisecond; its taker may have acted within the last ones.
        just_taken = any(take.access_key == call.access_key and 0 <= take.at - call.began < 0.01 for take in known)
        if just_taken or (owner and owner.access_key == call.access_key):
            continue
        if owner is None or not any(was_tied(tie, call, owner.at) for tie in trace.ties):
            yield f"{told(call)}, the owner is {owner.access_key if owner else 'nobody'}"


def owners_at(known: Sequence[Take], at: float) -> list[str]:
    """Who owned leases at a time; the owner of the youngest one last."""
    last = {take.lease: take for take in known if take.at <= at}
    return [take.access_key for take in sorted(last.values())]


@dataclass(frozen=True)
class Failover:
    """A lease whose owner has died."""

    lease: str
    owner: str
    #: When it died, and when somebody took the lease; `None` when nobody did.
    lost: float
    taken: Optional[float]
    #: Seconds that the daemon which could best have taken it had for that (`_chance`).
    chance: float

    @property
    def late(self) -> bool:
        """Whether that was time enough (L4)."""
        return self.chance > FAILOVER

    def __str__(self) -> str:
        after = "nobody took it" if self.taken is None else f"it was taken {self.taken - self.lost:.1f} s later"
        return f"{self.lease} of {self.owner}, dead at {self.lost:.3f}: {after}, {self.chance:.1f} s of them undisturbed"


def failovers(trace: Trace) -> list[Failover]:
    """What became of each lease whose owner's process ended, by a kill or by itself."""
    ended = {life.access_key: life.ended for life in trace.lives if life.ended is not None}
    beats = _beats(trace.calls)
    by_lease: dict[str, list[Take]] = defaultdict(list)
    for take in takes(trace.calls):
        by_lease[take.lease].append(take)
    found = []
    for lease, known in by_lease.items():
        for take, after in zip(known, [*known[1:], None]):
            lost = max(take.at, ended.get(take.access_key, float("inf")))
            taken = after.at if after else None
            if lost < (taken or float("inf")) and take.access_key in ended:
                chance = max((_chance(trace, key, some, lost, taken) for key, some in beats.items()), default=0.0)
                found.append(Failover(lease, take.access_key, lost, taken, chance))
    return sorted(found, key=lambda one: one.lost)


def _beats(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Each process's beats in the lease's table: it ran, and its table answered."""
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        member = (call.parameters.get("Key") or {}).get("pk", {}).get("S") == "lease#members"
        if call.operation == "UpdateItem" and call.done and member:
            found[call.access_key].append(call)
    return found


def _chance(trace: Trace, key: str, beats: Sequence[Call], lost: float, taken: Optional[float]) -> float:
    """Seconds between two times in which a process could watch another one's beat stand still: what lies between two beats
    of its own, of which it does one each `LEASE_RENEW`, and two of those at most, as it counts itself. So a busy machine,
    on which a process comes to nothing, makes this time no longer. Nor do beats for which the table took so long that a
    look, which is several calls, may have taken longer than it is waited for. It does not count while something was done
    to it or to all, nor for `OPERATION` after that, by when a call that hung has been given up and the next look is on its
    way.
    """
    end = float("inf") if taken is None else taken
    troubles = [one for one in trace.troubles if one.access_key in ("", key)]
    known = sorted((beat for beat in beats if lost <= beat.began <= end), key=lambda beat: beat.began)
    seconds = 0.0
    for first, second in pairwise(known):
        prompt = all(beat.ended - beat.began <= PROMPT for beat in (first, second))
        if prompt and not any(one.began < second.began and first.began < one.ended + OPERATION for one in troubles):
            seconds += min(second.began - first.began, 2 * LEASE_RENEW)
    return seconds


def moves_without_tables(trace: Trace) -> list[str]:
    """While nobody reaches the tables longer than a lease lives, traffic may go back to one version, and nothing else moves."""
    found = []
    for outage in trace.troubles:
        if outage.kind != "tablesDown":
            continue
        for call in trace.moves():
            lapsed = outage.began + LEASE_TTL
            if not lapsed < call.began < outage.ended or any(was_tied(tie, call, lapsed) for tie in trace.ties):
                continue
            production = any(call.resource == service.production for service in trace.services)
            if not production or min(weights(call).values(), default=1) > 0:
                found.append(f"{told(call)}, {call.began - outage.began:.1f} s after the tables were gone")
    return found


def outages(trace: Trace, longest: float) -> list[str]:
    """What shows that nobody reached the tables once for so long; complaints when that did not happen."""
    long = [one for one in trace.troubles if one.kind == "tablesDown" and one.ended - one.began >= longest]
    found = [] if long else [f"the tables were never gone for {longest:g} s"]
    for outage in long:
        reached = [
            call
            for call in trace.calls
            if call.service == "dynamodb"
            and call.access_key != trace.ours
            and call.done
            and outage.began + OPERATION < call.began < outage.ended
        ]
        found += [f"the tables were said to be gone: {told(call)}" for call in reached]
        if not any(take.at > outage.ended for take in takes(trace.calls)):
            found.append("nobody took a lease after the tables were back")
    return found
