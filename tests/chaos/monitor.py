"""What must hold of every call that daemons made, whatever was done to them. Pure functions over the call log.

The monitor knows calls as the sandbox logged them, what is bound to which service, when a task set was first
steady, and when a daemon's hands were tied. It reads no status and asks no daemon.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Sequence

from harness import Call
from leases import failovers, moves_without_tables, stale_writers
from seen import OPERATION, TIED_GRACE, Bound, Trace, service_of, told, weights

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


@dataclass
class TaskSet:
    """A task set as the log tells its story."""

    arn: str
    group: str
    external_id: str
    scale: float


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
