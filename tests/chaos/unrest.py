"""Carries the plan out."""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Optional

from fleet import Fleet
from monitor import owners_at, takes
from replica import KEY_PREFIX, Replica
from schedule import LATE_MAX, PROPAGATION, STALE_MAX, Disturbance, never

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
#: Times that a kind is tried which found nothing to befall, after the plan.
TRIES = 3


class Unrest:
    """What is done to the daemons, and how often it was."""

    def __init__(self, fleet: Fleet, options: argparse.Namespace):
        self._fleet, self._options = fleet, options
        self.counts: Counter[str] = Counter()
        #: What was to be done.
        self.plan: list[Disturbance] = []
        #: Calls that a fault hit, by effect.
        self.hits: Counter[str] = Counter()
        #: When somebody could no longer act, and who.
        self.losses: list[tuple[float, str]] = []
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
        for _ in range(TRIES):
            for one in never(plan, self.counts):
                if not over():
                    self._one(one)
        self._calm.set()
        weather.join()

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
            self._on_replica(disturbance, replica)
        finally:
            replica.busy.release()

    def _holder(self) -> Optional[Replica]:
        known = takes(self._fleet.sandbox.calls.since(mentions="lease#"))
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
        if disturbance.kind in ("kill", "stop", "silent", "cut", "aimedKill", "aimedStop"):
            self.losses.append((time.time(), replica.access_key))
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

    def _await_hit(self, rule: int) -> bool:
        deadline = time.monotonic() + AIM_TIMEOUT
        while time.monotonic() < deadline and not self._stop.is_set():
            if self._fleet.sandbox.hits(rule):
                return True
            time.sleep(AIM_EVERY)
        return False

    def _aimed(self, disturbance: Disturbance) -> None:
        """Hits the owner while a call of its is held back; the call goes on before the owner does."""
        rule = self._fleet.sandbox.arm(disturbance.operation, "hold", count=1, accessKey=DAEMONS)
        replica = None
        try:
            if self._await_hit(rule):
                replica = self._holder()
            if replica is None or not replica.busy.acquire(blocking=False):
                self.counts["missed its aim"] += 1
                return
            late = threading.Timer(min(disturbance.lasts / 2, LATE_MAX), self._disarm, (rule, "hold"))
            late.start()
            try:
                self._on_replica(disturbance, replica)
            finally:
                late.join()
                replica.busy.release()
            rule = None
        finally:
            if rule is not None:
                self._disarm(rule, "hold")

    def _hold(self, disturbance: Disturbance) -> None:
        """One call takes effect long after its caller has given it up."""
        rule = self._fleet.sandbox.arm(disturbance.operation, "hold", count=1, accessKey=DAEMONS)
        try:
            hit = self._await_hit(rule)
            self.counts["hold" if hit else "missed its aim"] += 1
            if hit:
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
        relays = [replica.store for replica in self._fleet.replicas]
        for relay in relays:
            relay.set("cut")
        self._stop.wait(disturbance.lasts)
        for relay in relays:
            relay.set("open")
