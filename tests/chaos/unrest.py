"""Carries the plan out."""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Callable, Optional

from fleet import Fleet
from leases import Take, owners_at, takes
from replica import KEY_PREFIX, Replica
from schedule import LATE_MAX, PROPAGATION, STALE_MAX, Disturbance, never
from seen import Trouble

#: How long something that is aimed waits for its call, in seconds.
AIM_TIMEOUT = 12.0
#: Between two looks whether the call has come.
AIM_EVERY = 0.03
#: How many changes ago stale reads look.
STALE_VERSIONS = 2
#: Access keys of all daemons: nobody else meets a fault.
DAEMONS = f"{KEY_PREFIX}*"
#: Disturbances at the same time.
AT_ONCE = 8
#: Kinds that found nothing to befall are tried again after the plan, for so long, in seconds: a release moves its weights in
#: far less, whatever waits are between.
TRY_AGAIN = 180.0
#: How long a lone loss may take to be made good before the next one, in seconds: whether that was too long the monitor says.
ALONE_MAX = 60.0
#: Between two looks who owns what: each reads the whole log.
OWNERS_EVERY = 0.3


class Unrest:
    """What is done to the daemons, and how often it was."""

    def __init__(self, fleet: Fleet, options: argparse.Namespace):
        self._fleet, self._options = fleet, options
        self.counts: Counter[str] = Counter()
        #: What was to be done.
        self.plan: list[Disturbance] = []
        #: Calls that a fault hit, by effect.
        self.hits: Counter[str] = Counter()
        #: When what was done to whom.
        self.troubles: list[Trouble] = []
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE)
        #: No more faults of the background.
        self._calm = threading.Event()

    def carry_out(self, plan: list[Disturbance], over: Callable[[], bool]) -> None:
        """Does what the plan says, until it ends or `over` says so."""
        self.plan = plan
        weather = threading.Thread(target=self._bursts, name="faults", daemon=True)
        weather.start()
        began, under_way = time.monotonic(), list[Future]()
        for disturbance in plan:
            while time.monotonic() - began < disturbance.at and not over():
                time.sleep(0.05)
            if over():
                break
            under_way.append(self._pool.submit(self._one, disturbance))
        for one in under_way:
            one.result()
        deadline = time.monotonic() + TRY_AGAIN
        while time.monotonic() < deadline and not over() and (missed := never(plan, self.counts)):
            for one in missed:
                self._one(one)
        self._calm.set()
        weather.join()
        if any(one.kind == "kill" for one in plan):
            self._one_by_one()

    def _one_by_one(self) -> None:
        """Kills each daemon once while nothing else happens: whoever is left has nothing to excuse a delay."""
        for replica in self._fleet.replicas:
            killed = replica.access_key
            replica.kill()
            self.counts["kill, alone"] += 1
            self._await_owners(lambda owners: killed not in owners)
            replica.start()
            self._await_owners(lambda owners: replica.access_key in owners)

    def _await_owners(self, fit: Callable[[list[str]], bool]) -> None:
        deadline = time.monotonic() + ALONE_MAX
        while time.monotonic() < deadline and not fit(owners_at(self._takes(), time.time())):
            self._stop.wait(OWNERS_EVERY)

    def _takes(self) -> list[Take]:
        return takes(self._fleet.sandbox.calls.since(mentions="lease#"))

    def _bursts(self) -> None:
        """A share of all calls is throttled, another fails; then none for as long."""
        shares = {"throttle": self._options.throttle, "serverError": self._options.errors}
        for burst in itertools.count():
            if self._calm.is_set():
                return
            rules = {
                self._fleet.sandbox.arm(
                    "*", effect, accessKey=DAEMONS, perMille=10 * percent, seed=self._options.seed + burst
                ): effect
                for effect, percent in shares.items()
                if percent
            }
            with self._trouble("weather"):
                self._calm.wait(self._options.burst)
                for rule, effect in rules.items():
                    self._disarm(rule, effect)
            self._calm.wait(self._options.burst)

    def end(self) -> None:
        """Everything is as before: daemons run, paths are open, no fault is armed."""
        self._stop.set()
        self._pool.shutdown(wait=True)
        self._calm.set()
        for replica in self._fleet.replicas:
            if replica.process is None:
                replica.start()

    @contextmanager
    def _trouble(self, kind: str, access_key: str = "") -> Iterator[None]:
        """Notes how long something is done to a process; to all of them, if none is named."""
        began = time.time()
        try:
            yield
        finally:
            self.troubles.append(Trouble(access_key, began, time.time(), kind))

    def _disarm(self, rule: int, effect: str) -> None:
        self.hits[effect] += self._fleet.sandbox.hits(rule)
        self._fleet.sandbox.disarm(rule)

    # --- one disturbance

    def _one(self, disturbance: Disturbance) -> None:
        kind = disturbance.kind
        if kind in ("hold", "stale", "tablesDown"):
            getattr(self, f"_{kind}")(disturbance)
            return
        if kind.startswith("aimed"):
            self._aimed(disturbance)
            return
        replica = self._pick(disturbance)
        if replica is None:
            self.counts["skipped, all are disturbed"] += 1
            return
        try:
            with self._trouble(disturbance.kind, replica.access_key):
                self._on_replica(disturbance, replica)
        finally:
            replica.busy.release()

    def _holder(self) -> Optional[Replica]:
        known = self._takes()
        # Of several owners the one that took over last.
        owner = next(reversed(owners_at(known, time.time())), None)
        return next((one for one in self._fleet.replicas if one.access_key == owner), None)

    def _pick(self, disturbance: Disturbance) -> Optional[Replica]:
        """The replica that is meant, or the next one that nothing is being done to; it is then busy."""
        replicas = self._fleet.replicas
        meant = self._holder() if disturbance.replica is None else replicas[disturbance.replica]
        first = replicas.index(meant) if meant else 0
        for replica in replicas[first:] + replicas[:first]:
            if replica.busy.acquire(blocking=False):
                return replica
        return None

    def _on_replica(self, disturbance: Disturbance, replica: Replica) -> None:
        self.counts[disturbance.kind] += 1
        lasts = disturbance.lasts
        match disturbance.kind:
            case "kill" | "aimedKill":
                replica.kill()
                self._stop.wait(lasts)
                replica.start()
            case "handOver":
                replica.hand_over()
                self._stop.wait(lasts)
                replica.start()
            case "stop" | "aimedStop":
                replica.stand_still(lasts, self._stop)
            case "silent":
                replica.fall_silent(lasts, self._stop)
            case "cut":
                # One in two loses its tables only, so that it sees and may not act.
                relays = (replica.store,) if lasts > 3.0 else (replica.store, replica.cloud)
                replica.cut_off(relays, lasts, self._stop)
            case "jump":
                replica.shift(disturbance.jump)
                self._stop.wait(lasts)
                replica.shift(0.0)

    def _await_hit(self, rules: Iterable[int]) -> Optional[int]:
        """The first of these rules that hits a call; none when none does in time."""
        deadline = time.monotonic() + AIM_TIMEOUT
        while time.monotonic() < deadline and not self._stop.is_set():
            hit = next((rule for rule in rules if self._fleet.sandbox.hits(rule)), None)
            if hit is not None:
                return hit
            time.sleep(AIM_EVERY)
        return None

    def _aimed(self, disturbance: Disturbance) -> None:
        """Hits a daemon while a call of its is held back; the call goes on before the daemon does."""
        arm = partial(self._fleet.sandbox.arm, disturbance.operation, "hold", count=1)
        rules = {arm(accessKey=one.access_key): one for one in self._fleet.replicas if one.process}
        late: Optional[threading.Timer] = None
        try:
            hit = self._await_hit(rules)
            replica = None if hit is None else rules[hit]
            if replica is None or not replica.busy.acquire(blocking=False):
                self.counts["missed its aim"] += 1
                return
            try:
                with self._trouble(disturbance.kind, replica.access_key):
                    late = threading.Timer(min(disturbance.lasts / 2, LATE_MAX), self._disarm, (hit, "hold"))
                    late.start()
                    for rule in rules.keys() - {hit}:
                        self._disarm(rule, "hold")
                    rules = {}
                    self._on_replica(disturbance, replica)
            finally:
                replica.busy.release()
        finally:
            if late is not None:
                late.join()
            for rule in rules:
                self._disarm(rule, "hold")

    def _hold(self, disturbance: Disturbance) -> None:
        """One call takes effect long after its caller has given it up."""
        rule = self._fleet.sandbox.arm(disturbance.operation, "hold", count=1, accessKey=DAEMONS)
        try:
            hit = self._await_hit([rule])
            self.counts["missed its aim" if hit is None else "hold"] += 1
            if hit is not None:
                self._stop.wait(disturbance.lasts)
        finally:
            self._disarm(rule, "hold")

    def _stale(self, disturbance: Disturbance) -> None:
        """Reads of ECS and ELB answer as things were; now and then they are true again."""
        self.counts["stale"] += 1
        ends = time.monotonic() + disturbance.lasts
        while time.monotonic() < ends and not self._stop.is_set():
            rules = [
                self._fleet.sandbox.arm("Describe*", "stale", service=service, accessKey=DAEMONS, versions=STALE_VERSIONS)
                for service in ("ecs", "elb")
            ]
            self._stop.wait(STALE_MAX)
            for rule in rules:
                self._disarm(rule, "stale")
            self._stop.wait(PROPAGATION)

    def _tablesDown(self, disturbance: Disturbance) -> None:
        """No daemon reaches DynamoDB."""
        self.counts["tablesDown"] += 1
        with self._trouble("tablesDown"), ExitStack() as cut:
            for replica in self._fleet.replicas:
                cut.enter_context(replica.store.being("cut"))
            self._stop.wait(disturbance.lasts)
