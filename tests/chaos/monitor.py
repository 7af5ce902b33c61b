"""What must hold of every call that daemons made, whatever was done to them. Pure functions over the call log.

The monitor knows calls as the sandbox logged them, what is bound to which service, when a task set was first
steady, and when a daemon's hands were tied. It reads no status and asks no daemon.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Iterable, NamedTuple, Optional, Sequence

from harness import MOVED_SERVICES, Call
from schedule import LEASE_RENEW, LEASE_TTL

#: The calls that can change something and that daemons may make (docs/architecture.md, `model::Mutation`).
ALLOWED = frozenset(
    (
        "CreateTaskSet",
        "UpdateTaskSet",
        "DeleteTaskSet",
        "UpdateServicePrimaryTaskSet",
        "ModifyRule",
        "ModifyListener",
        "TagResource",
    )
)
#: The longest that one call of a daemon may take, by its configuration, in seconds: then it has given it up.
OPERATION = 2.0
#: A lease without its owner is taken within two times to live, and what is on its way then (L4): the last beat of who died
#: may land an OPERATION late. See `_chance` for which seconds count.
FAILOVER = 2 * LEASE_TTL + OPERATION
#: A beat that took longer says that the table is slow, in seconds: a look takes three such calls, within `LEASE_RENEW`.
PROMPT = LEASE_RENEW / 8
#: A write that passed the lease gate leaves a process that goes on at most so many seconds later.
TIED_GRACE = 0.5
#: What each daemon allows itself of AWS's account-wide quotas (src/aws/budget.rs, `Rates`): operations, burst, tokens a
#: second.
WEIGHT_WRITES = (frozenset(("ModifyRule", "ModifyListener")), 20, 3.0)
TASK_SET_WRITES = (
    frozenset(("CreateTaskSet", "UpdateTaskSet", "DeleteTaskSet", "UpdateServicePrimaryTaskSet", "TagResource")),
    20,
    5.0,
)
#: Of the burst of weight writes, what only a way back may take (`kept_from_forward`).
KEPT_FOR_THE_WAY_BACK = 15
#: Calls that had their token and came late, all at once: a token is taken before the call is signed and sent.
UNDER_WAY = 2
#: Effects of faults after which a client knows nothing.
SILENT_FAULTS = frozenset(("timeoutBefore", "timeoutAfter", "resetBefore", "resetAfter", "serverErrorAfter", "hold"))


class Life(NamedTuple):
    """A process, by the access key that it alone had."""

    access_key: str
    began: float
    #: `None` while it runs.
    ended: Optional[float]


class Tie(NamedTuple):
    """A time in which a process stood still or its path was silent: what it had sent or begun to send comes later."""

    access_key: str
    began: float
    ended: float


class Trouble(NamedTuple):
    """A time in which something was done to a process, or to all of them, that may keep it from the lease's table."""

    #: Empty: to all.
    access_key: str
    began: float
    ended: float
    #: Of the disturbance.
    kind: str


class Take(NamedTuple):
    """A process became the owner of a lease."""

    at: float
    access_key: str
    lease: str
    epoch: int


@dataclass(frozen=True)
class Bound:
    """What a service's record binds."""

    name: str
    service: str
    groups: dict[str, str]
    production: str
    test: str


@dataclass
class TaskSet:
    """A task set as the log tells its story."""

    arn: str
    group: str
    external_id: str
    scale: float


@dataclass
class Trace:
    """Everything the monitor knows."""

    calls: Sequence[Call]
    services: Sequence[Bound]
    #: Access key of everybody who is not a daemon.
    ours: str
    lives: Sequence[Life] = ()
    ties: Sequence[Tie] = ()
    troubles: Sequence[Trouble] = ()
    #: When a task set was first seen steady, by ARN.
    steady: dict[str, float] = field(default_factory=dict)

    def moves(self, service: Optional[Bound] = None) -> list[Call]:
        """Daemons' calls that can change something in ECS and ELB, by when they took effect."""
        found = [
            call
            for call in self.calls
            if call.service in MOVED_SERVICES
            and call.access_key != self.ours
            and (service is None or service_of(call, [service]))
        ]
        return sorted(found, key=lambda call: (call.ended, call.seq))


def service_of(call: Call, services: Iterable[Bound]) -> Optional[Bound]:
    """Whose call this is, by the names in its input."""
    for service in services:
        rules = (service.production, service.test)
        if call.resource in rules or call.parameters.get("service") == service.service:
            return service
    return None


def weights(call: Call) -> dict[str, int]:
    """The weights that a call sets, by target group ARN; empty when it sets none."""
    for action in call.parameters.get("Actions") or ():
        pair = (action.get("ForwardConfig") or {}).get("TargetGroups")
        if pair:
            return {one["TargetGroupArn"]: int(one["Weight"]) for one in pair}
    return {}


def told(call: Call) -> str:
    """A call in a complaint."""
    what = json.dumps(sorted(weights(call).values())) if weights(call) else call.resource.rpartition("/")[2]
    return f"{call.operation} {what} of {call.access_key} at {call.began:.3f} (seq {call.seq})"


def violations(trace: Trace) -> dict[str, list[str]]:
    """All complaints, by the name of the property."""
    found: dict[str, list[str]] = {
        "only what is allowed and bound": strangers(trace),
        "one call at a time": [],
        "one task set a release": [],
        "a late owner does not write": stale_writers(trace),
        "rates stay within the budget": rates(trace),
        "what a dead owner had is owned again": [str(one) for one in failovers(trace) if one.late],
        "without the tables only the way back": moves_without_tables(trace),
    }
    for service in trace.services:
        found["one call at a time"] += overlaps(trace, service)
        found["one task set a release"] += doubles(trace, service)
        for name, complaints in replayed(trace, service).items():
            found.setdefault(name, []).extend(complaints)
    return found


def strangers(trace: Trace) -> list[str]:
    """Operations beyond the seven, and resources that no record binds."""
    found = []
    made = {call.resource for call in trace.moves() if call.operation == "CreateTaskSet" and call.done}
    for call in trace.moves():
        service = service_of(call, trace.services)
        names = call.parameters.get("taskSet") or call.parameters.get("primaryTaskSet")
        if call.operation not in ALLOWED:
            found.append(f"never allowed: {told(call)}")
        elif service is None:
            found.append(f"names no bound resource: {told(call)}")
        elif weights(call) and set(weights(call)) != set(service.groups.values()):
            found.append(f"weights on other groups than the pair: {told(call)}")
        elif names and names not in made:
            found.append(f"a task set that no daemon made: {told(call)}")
    return found


def overlaps(trace: Trace, service: Bound) -> list[str]:
    """A second call while the first one's caller still waits for its answer."""
    found = []
    calls = sorted(trace.moves(service), key=lambda call: (call.began, call.seq))
    for index, second in enumerate(calls):
        for first in calls[max(0, index - 8) : index]:
            if first.ended > second.began and not _given_up(trace, first, second.began):
                found.append(f"{told(second)} while {told(first)} was under way")
    return found


def _given_up(trace: Trace, call: Call, at: float) -> bool:
    """Whether the caller no longer waited for the answer: it had died, lost its patience or its path."""
    ended = next((life.ended for life in trace.lives if life.access_key == call.access_key), None)
    if ended is not None and ended <= at:
        return True
    tied = any(tie.access_key == call.access_key and tie.began <= at for tie in trace.ties)
    return tied or at - call.began >= OPERATION or bool(SILENT_FAULTS & set(call.faults))


def rates(trace: Trace) -> list[str]:
    """More calls of one daemon than its budget gives, or more work of all daemons together than one budget gives
    (S24). A write that leaves both groups a share of the traffic is a step forward, whoever makes it: those must leave the
    reserve of the way back alone, and so must all of them together. A daemon saves up one turn at least, however small its
    part is.
    """
    found = []
    moves = sorted(trace.moves(), key=lambda call: (call.began, call.seq))
    for key in sorted({call.access_key for call in moves}):
        mine = [call for call in moves if call.access_key == key]
        for operations, burst, rate in (WEIGHT_WRITES, TASK_SET_WRITES):
            found += _over(trace, [call for call in mine if call.operation in operations], burst, rate, "budget")
        operations, burst, rate = WEIGHT_WRITES
        steps = [call for call in mine if call.operation in operations and min(weights(call).values(), default=0) > 0]
        found += _over(trace, steps, burst - KEPT_FOR_THE_WAY_BACK, rate, "share of steps forward")
    together = _at_a_time(trace)
    operations, burst, rate = WEIGHT_WRITES
    steps = [call for call in moves if call.operation in operations and min(weights(call).values(), default=0) > 0]
    forward = burst - KEPT_FOR_THE_WAY_BACK + together
    found += _over(trace, steps, forward, rate, "share of steps forward of all daemons")
    operations, burst, rate = TASK_SET_WRITES
    sets = [call for call in moves if call.operation in operations]
    found += _over(trace, sets, burst + together, rate, "budget of all daemons")
    return found


def _at_a_time(trace: Trace) -> int:
    """The most daemons that ran at a time; without word of them, all that called."""
    lives = [(life.began, float("inf") if life.ended is None else life.ended) for life in trace.lives]
    if not lives:
        return len({call.access_key for call in trace.moves()})
    return max(sum(began <= at < ended for began, ended in lives) for at, _ in lives)


def _over(trace: Trace, calls: Sequence[Call], burst: int, rate: float, of: str) -> list[str]:
    """The first call that a bucket would not have let through. Where a path was silent or a process stood still, calls are
    not counted: what had its token before comes after it.
    """
    tokens, since = float(burst), None
    ties = [(tie.access_key, tie.began, tie.ended + TIED_GRACE) for tie in trace.ties]
    for call in calls:
        if any(key == call.access_key and began <= call.began <= ended for key, began, ended in ties):
            continue
        if since is not None:
            tokens = min(burst, tokens + (call.began - since) * rate)
        tokens, since = tokens - 1, call.began
        if tokens < -UNDER_WAY:
            return [f"more than the {of}, {burst} and {rate:g} a second: {told(call)}"]
    return []


def doubles(trace: Trace, service: Bound) -> list[str]:
    """A release that made two task sets."""
    made: dict[str, set[str]] = defaultdict(set)
    for call in trace.moves(service):
        if call.operation == "CreateTaskSet" and call.done:
            made[call.parameters.get("externalId", "")].add(call.resource)
    return [f"{external} made {sorted(sets)}" for external, sets in made.items() if len(sets) > 1]


def replayed(trace: Trace, service: Bound) -> dict[str, list[str]]:
    """Replays what took effect on a service and looks at every step."""
    replay = Replay(service, trace.steady)
    ours = [call for call in trace.calls if call.operation == "CreateRule" and call.resource == service.production]
    for call in sorted([*ours, *trace.moves(service)], key=lambda call: (call.ended, call.seq)):
        if call.done:
            replay.step(call)
    return replay.found


class Replay:
    """The state of one service as the log's calls make it."""

    def __init__(self, service: Bound, steady: dict[str, float]):
        self._service, self._steady = service, steady
        self._weights: dict[str, int] = {}
        #: All that the weights have been, with when each write took effect.
        self._past: list[tuple[float, dict[str, int]]] = []
        self._sets: dict[str, TaskSet] = {}
        names = (
            "no weight before steady",
            "no weight on an empty group",
            "no delete under weight",
            "no scale-in under weight",
            "primary has all weight",
            "one task set a group",
        )
        self.found: dict[str, list[str]] = {name: [] for name in names}

    def step(self, call: Call) -> None:
        """One call that took effect."""
        act = {
            "CreateRule": self._weight,
            "ModifyRule": self._weight,
            "CreateTaskSet": self._create,
            "UpdateTaskSet": self._scale,
            "DeleteTaskSet": self._delete,
            "UpdateServicePrimaryTaskSet": self._primary,
        }.get(call.operation)
        if act:
            act(call)

    def _weight(self, call: Call) -> None:
        if call.resource != self._service.production or not weights(call):
            return
        self._weights = weights(call)
        self._past.append((call.ended, self._weights))
        if call.operation == "CreateRule":
            return
        for group, weight in self._weights.items():
            if weight == 0:
                continue
            sets = [one for one in self._sets.values() if one.group == group]
            if not sets:
                self.found["no weight on an empty group"].append(told(call))
            elif not any(self._steady.get(one.arn, call.ended + 1) <= call.ended for one in sets):
                self.found["no weight before steady"].append(told(call))

    def _create(self, call: Call) -> None:
        if call.resource in self._sets:
            # The same token again: the same set.
            return
        group = call.parameters["loadBalancers"][0]["targetGroupArn"]
        if any(one.group == group for one in self._sets.values()):
            self.found["one task set a group"].append(told(call))
        scale = float((call.parameters.get("scale") or {}).get("value", 100))
        self._sets[call.resource] = TaskSet(call.resource, group, call.parameters.get("externalId", ""), scale)

    def _scale(self, call: Call) -> None:
        known = self._sets.get(call.resource)
        if known is None:
            return
        scale = float(call.parameters["scale"]["value"])
        if scale < known.scale and self._weights.get(known.group, 0) > 0:
            self.found["no scale-in under weight"].append(told(call))
        known.scale = scale

    def _delete(self, call: Call) -> None:
        known = self._sets.pop(call.resource, None)
        if known is not None and self._weights.get(known.group, 0) > 0:
            self.found["no delete under weight"].append(told(call))

    def _primary(self, call: Call) -> None:
        # Judged by when it was sent: one that was held on its way lands behind a rollback, which must not wait for it. That
        # PRIMARY is put right again before anything is deleted, the releases' ends and the deletions show.
        sent = next((weights for at, weights in reversed(self._past) if at <= call.began), {})
        known = self._sets.get(call.resource)
        others = [weight for group, weight in sent.items() if known is None or group != known.group]
        if known is None or any(others):
            self.found["primary has all weight"].append(told(call))


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
        if owner is None or not any(_was_tied(tie, call, owner.at) for tie in trace.ties):
            yield f"{told(call)}, the owner is {owner.access_key if owner else 'nobody'}"


def _was_tied(tie: Tie, call: Call, before: float) -> bool:
    """Whether the call was sent, or about to be, before a time (that of the new owner), and then kept from arriving."""
    return tie.access_key == call.access_key and tie.began <= before and tie.began <= call.began <= tie.ended + TIED_GRACE


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
            if not lapsed < call.began < outage.ended or any(_was_tied(tie, call, lapsed) for tie in trace.ties):
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
