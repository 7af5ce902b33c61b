"""What happens to the daemons and when: a plan made of a seed alone. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Optional

#: Lease time-to-live of the daemons, and how often they renew it, in seconds. A look at the table must come back within the
#: latter: with half of it, two cores with other work besides kept each daemon from looking for a minute and a half.
LEASE_TTL, LEASE_RENEW = 6.0, 1.0
#: `waits.quietAfterUnknown` of all services, in seconds. No task set is deleted earlier than this after a
#: take-over or an answer that never came.
QUIET_AFTER_UNKNOWN = 6.0
#: The longest that a daemon stands still. Its write may be one that passed the lease gate before the stop; a successor
#: takes over LEASE_TTL after the last renewal at the earliest and deletes nothing for QUIET_AFTER_UNKNOWN after that:
#: 6.0 - 1.0 + 6.0 = 11 s. On AWS the quiet time is 15 minutes and signatures end after five.
STOP_MAX = 10.0
#: The longest that a call is held back or a path is silent: a living owner waits QUIET_AFTER_UNKNOWN alone.
LATE_MAX = 5.0

#: `waits.propagation` of all services, in seconds: weights that are read other than written for longer than this are
#: believed. Reads are stale for STALE_MAX at a time; the other half is for a busy machine that ends the fault late.
PROPAGATION = 2.0
STALE_MAX = PROPAGATION / 2

#: Disturbances come in storms, in seconds. A new owner begins the quiet time anew, so between two storms one must live
#: through the longest disturbance, LEASE_TTL and QUIET_AFTER_UNKNOWN, and have some time for a busy machine:
#: 12 + 6 + 6 + 11.
STORM, CALM = 45.0, 35.0

#: Once in a long run DynamoDB is down for so long, in seconds: twenty leases, and longer than any wait of a daemon for it.
OUTAGE = 120.0

#: How often each kind comes up, relative to the others.
WEIGHTS = {
    "kill": 8,
    "stop": 2,
    "aimedStop": 4,
    "aimedKill": 2,
    "handOver": 2,
    "hold": 3,
    "cut": 1,
    "silent": 2,
    "tablesDown": 1,
    "stale": 2,
    "jump": 2,
}
#: Operations whose calls are aimed at: a daemon is hit while one of these is under way.
AIMS = ("ModifyRule",) * 4 + ("CreateTaskSet", "DeleteTaskSet", "UpdateServicePrimaryTaskSet")
#: The holder of the lease is meant so often; otherwise one of all replicas.
HOLDER_SHARE = 0.3
#: Clock jumps, in seconds.
JUMPS = (-600.0, -61.0, 47.0, 600.0)


@dataclass(frozen=True)
class Disturbance:
    """One thing that happens."""

    #: Seconds since the plan began.
    at: float
    kind: str
    #: Index of a replica; `None` means whoever holds the lease then.
    replica: Optional[int]
    #: How long it lasts, in seconds.
    lasts: float
    #: The operation that is aimed at, for kinds that aim.
    operation: str = ""
    #: For clock jumps: how far, in seconds.
    jump: float = 0.0


def _lasts(rng: random.Random, kind: str) -> float:
    low, high = {
        # Until the process is started again.
        "kill": (0.1, 2.0),
        "aimedKill": (0.1, 2.0),
        "handOver": (0.1, 1.0),
        # Longer than the lease, so that another replica takes over.
        "stop": (LEASE_TTL + 0.5, STOP_MAX),
        "aimedStop": (LEASE_TTL + 0.5, STOP_MAX),
        "hold": (1.0, LATE_MAX),
        "silent": (1.5, LATE_MAX),
        "cut": (1.0, 5.0),
        # One lease or two; `outage` is the long one.
        "tablesDown": (LEASE_TTL, 2 * LEASE_TTL),
        "stale": (1.0, 8.0),
        "jump": (2.0, 8.0),
    }[kind]
    return round(rng.uniform(low, high), 2)


def _kinds(rng: random.Random, kinds: tuple[str, ...]) -> Iterator[str]:
    """Each kind once, in any order; from then on each as often as its weight says."""
    yield from rng.sample(kinds, len(kinds))
    weights = [WEIGHTS[kind] for kind in kinds]
    while True:
        yield rng.choices(kinds, weights)[0]


def plan(seed: int, seconds: float, replicas: int, every: float, kinds: tuple[str, ...]) -> list[Disturbance]:
    """Disturbances over a time, one each `every` seconds of a storm on average, and none between two storms."""
    rng = random.Random(seed)
    order = _kinds(rng, kinds)
    found, at = [], 0.0
    while True:
        at += rng.uniform(0.3, 1.7) * every
        if at >= seconds:
            return found
        if at % (STORM + CALM) >= STORM:
            continue
        kind = next(order)
        any_replica, of_holder = rng.randrange(replicas), rng.random() < HOLDER_SHARE
        found.append(
            Disturbance(
                at=round(at, 2),
                kind=kind,
                replica=None if of_holder else any_replica,
                lasts=_lasts(rng, kind),
                # The first of a kind aims at what happens most, because it must hit.
                operation=AIMS[0] if len(found) < len(kinds) else rng.choice(AIMS),
                jump=rng.choice(JUMPS),
            )
        )


def with_outage(found: list[Disturbance]) -> list[Disturbance]:
    """The plan and, once its first calm is over, DynamoDB down for minutes. Nothing of the plan happens meanwhile, nor in a
    calm after it: the rest comes later by as much.
    """
    begins = STORM + CALM
    later = OUTAGE + CALM
    before = [one for one in found if one.at < begins]
    after = [replace(one, at=round(one.at + later, 2)) for one in found if one.at >= begins]
    return [*before, Disturbance(begins, "tablesDown", None, OUTAGE), *after]


def never(planned: Iterable[Disturbance], done: Mapping[str, int]) -> list[Disturbance]:
    """The first of each kind that was planned and has not happened, whatever the reason: nothing was shown of it."""
    first: dict[str, Disturbance] = {}
    for one in planned:
        first.setdefault(one.kind, one)
    return [one for one in first.values() if not done.get(one.kind)]
