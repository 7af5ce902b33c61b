"""What a run leaves to be judged: calls as the sandbox logged them, what is bound to which service, and what was done to whom.
Plain data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Iterable, NamedTuple, Optional, Sequence

from harness import MOVED_SERVICES, Call

#: The longest that one call of a daemon may take, by its configuration, in seconds: then it has given it up.
OPERATION = 2.0
#: A write that passed the lease gate leaves a process that goes on at most so many seconds later.
TIED_GRACE = 0.5


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


@dataclass(frozen=True)
class Bound:
    """What a service's record binds."""

    name: str
    service: str
    groups: dict[str, str]
    production: str
    test: str


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


def was_tied(tie: Tie, call: Call, before: float) -> bool:
    """Whether the call was sent, or about to be, before a time (that of the new owner), and then kept from arriving."""
    return tie.access_key == call.access_key and tie.began <= before and tie.began <= call.began <= tie.ended + TIED_GRACE
