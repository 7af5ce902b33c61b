"""A service under release: its records as a user writes them, and what can be seen of it from outside."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from answers import Answers
from harness import MOVED_SERVICES, PROPAGATION, Call, Daemon, Sandbox, Tables, check, until
from judge import Verdict, judge
from region import NAMESPACE, OUR_KEY, Region, Service, placements, weight_calls, writes
from traffic import Traffic

#: Long enough for any release of these stories on a busy machine; a story that waits so long has failed.
RELEASE_TIMEOUT = 90.0
#: For a clean-up after its release, retention included.
CLEANUP_TIMEOUT = 60.0


def ulid() -> str:
    """A new ULID: 48 bits of milliseconds and 80 random ones, in Crockford's base 32."""
    number = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(number >> shift) & 31] for shift in range(125, -1, -5))


@dataclass
class World:
    """One installation: a sandbox, its region, two tables and a daemon."""

    pointsman: Path
    directory: Path
    sandbox: Sandbox
    region: Region
    tables: Tables
    daemon: Daemon
    answers: Answers

    @classmethod
    def create(
        cls, pointsman: Path, directory: Path, sandbox: Sandbox, region: Region, name: str, answers: Answers
    ) -> "World":
        """An installation of its own in a sandbox; its daemon does not run yet."""
        tables = region.create_tables(Tables(name, f"{name}-records", f"{name}-state"))
        daemon = Daemon(pointsman, directory, sandbox.endpoint, tables, name, answers)
        return cls(pointsman, directory, sandbox, region, tables, daemon, answers)

    def end(self) -> None:
        """Ends its daemon and its sandbox; what was called stays known."""
        self.daemon.end()
        self.sandbox.end()

    def subject(self, name: str, **spec: Any) -> "Subject":
        """A new service that this installation manages."""
        subject = Subject(self, self.region.create_service(name))
        subject.manage(**spec)
        return subject


class Subject:
    """One managed service."""

    def __init__(self, world: World, service: Service):
        self.world, self.service = world, service
        self.region, self.tables = world.region, world.tables
        self.name = service.name
        self._request = 0

    # --- records

    def managed_service(self, **changes: Any) -> dict:
        """The `ManagedService` record: waits of seconds, so that a story takes less than a minute."""
        service = self.service
        spec = {
            "ecs": {"cluster": service.cluster, "service": service.arn},
            "taskDefinitionFamily": self.name,
            "container": {"name": "web", "port": 8080},
            "targetGroups": dict(service.groups),
            "routes": {
                "production": [{"name": "public", "rule": service.production}],
                "test": {"name": "preview", "rule": service.test},
            },
            "taskSet": {"launchType": "FARGATE", "network": {"subnets": ["subnet-0a1b2c3d"]}},
            "alarms": [{"name": alarm, "watches": group} for group, alarm in service.alarms.items()],
            "strategies": {
                "canary": {"canary": {"weight": 10, "bake": "4s"}},
                "whole": {"allAtOnce": {}},
            },
            "defaultStrategy": "canary",
            "releaseMayChoose": ["canary", "whole"],
            "testHold": "500ms",
            "bake": "4s",
            "retention": "6s",
            "deadlines": {
                "start": "45s",
                "prepare": "45s",
                "capacity": "45s",
                "weightWrite": "45s",
                "primary": "45s",
                "cleanup": "90s",
            },
            "waits": {"propagation": f"{PROPAGATION:g}s", "quiet": "1s", "quietAfterUnknown": "3s"},
        }
        spec.update(changes)
        return {
            "pk": f"service#{NAMESPACE}/{self.name}",
            "sk": "spec",
            "apiVersion": "pointsman/v1",
            "kind": "ManagedService",
            "metadata": {"namespace": NAMESPACE, "name": self.name, "labels": {"team": "scenario"}},
            "spec": spec,
        }

    def manage(self, **changes: Any) -> None:
        """Writes the `ManagedService` record."""
        self.region.put(self.tables.records, self.managed_service(**changes))

    def desired_release(self, revision: str, request: str, **changes: Any) -> dict:
        """The `DesiredRelease` record."""
        return {
            "pk": f"desired#{NAMESPACE}/{self.name}",
            "sk": "spec",
            "apiVersion": "pointsman/v1",
            "kind": "DesiredRelease",
            "metadata": {"namespace": NAMESPACE, "name": self.name, "annotations": {"story": self.name}},
            "spec": {"taskDefinition": revision, "requestId": request, **changes},
        }

    def desire(self, revision: str, **changes: Any) -> str:
        """Writes the `DesiredRelease` record with a new request id, which it returns."""
        self._request += 1
        request = f"{self.name}-{self._request}"
        self.region.put(self.tables.records, self.desired_release(revision, request, **changes))
        return request

    def delete_desired(self) -> None:
        """Deletes the `DesiredRelease` record."""
        self.region.delete(self.tables.records, f"desired#{NAMESPACE}/{self.name}", "spec")

    def command(self, verb: str, release: str, **more: Any) -> str:
        """Writes a `Command` record; returns its ULID."""
        command = ulid()
        record = {
            "pk": f"command#{NAMESPACE}/{self.name}",
            "sk": command,
            "apiVersion": "pointsman/v1",
            "kind": "Command",
            "spec": {"verb": verb, "release": release, "by": "scenario", **more},
            "expireAt": int(time.time()) + 3600,
        }
        self.region.put(self.tables.records, record)
        return command

    # --- what the status says

    def status(self) -> dict:
        """What the `ReleaseStatus` document in the state item says; empty before the first pass."""
        told = self.region.get(self.tables.state, f"state#{NAMESPACE}/{self.name}", "current", "status")
        return (told or {}).get("status", {})

    def release(self) -> dict:
        """The release in flight, or the last one."""
        return self.status().get("release") or {}

    def last_outcome(self) -> dict:
        """How the last release ended."""
        return self.status().get("lastOutcome") or {}

    def await_outcome(self, request: str, timeout: float = RELEASE_TIMEOUT) -> dict:
        """Waits until the release with this request id has ended; returns its outcome."""

        def ended() -> Optional[dict]:
            outcome = self.last_outcome()
            return outcome if outcome.get("requestId") == request else None

        return self.waiting(lambda: until(f"an outcome of {request}", ended, timeout))

    def await_outcome_after(self, before: dict, timeout: float = RELEASE_TIMEOUT) -> dict:
        """Waits until some release has ended since `before` was the last outcome."""

        def ended() -> Optional[dict]:
            outcome = self.last_outcome()
            changed = outcome.get("release") != before.get("release") or outcome.get("at") != before.get("at")
            return outcome if outcome and changed else None

        return self.waiting(lambda: until("the next outcome", ended, timeout))

    def await_seen(self, request: str, timeout: float = RELEASE_TIMEOUT) -> None:
        """Waits until a daemon has seen the request with this id."""

        def seen() -> bool:
            return (self.status().get("observed") or {}).get("requestId") == request

        self.waiting(lambda: until(f"{request} is seen", seen, timeout))

    def await_phase(self, phase: str, weight: Optional[int] = None, timeout: float = RELEASE_TIMEOUT) -> dict:
        """Waits for a phase, at the step of this weight when one is given; returns the status."""

        def reached() -> Optional[dict]:
            status = self.status()
            step = (status.get("release") or {}).get("step") or {}
            fits = weight is None or step.get("weight") == weight
            return status if status.get("phase") == phase and fits else None

        what = f"phase {phase}" if weight is None else f"phase {phase} at {weight} %"
        return self.waiting(lambda: until(what, reached, timeout))

    def await_settled(self, timeout: float = CLEANUP_TIMEOUT) -> None:
        """Waits until nothing is left to do: one task set, and the phase says so."""

        def settled() -> bool:
            return len(self.region.task_sets(self.service)) == 1 and self.status().get("phase") == "Settled"

        self.waiting(lambda: until("settled with one task set", settled, timeout))

    def waiting(self, wait: Callable[[], Any]) -> Any:
        """Waits; a complaint then says where the service stands."""
        try:
            return wait()
        except AssertionError as failed:
            failed.args = (f"{failed}; {self.summary()}",)
            raise

    def summary(self) -> str:
        """Where it stands, for a complaint."""
        status = self.status()
        waiting = status.get("waitingOn") or {}
        daemon = "" if self.world.daemon.running() else "; its daemon does not run"
        return (
            f"{self.name} is {status.get('phase', 'without status')}, waits on {waiting.get('reason')} "
            f"({waiting.get('message')}), last outcome {self.last_outcome()}{daemon}"
        )

    # --- releases

    def revision(self, **faults: str) -> str:
        """Registers a new revision of the demo app."""
        return self.region.register(self.name, **faults)

    def release_and_wait(self, revision: str, expected: str = "Succeeded", **changes: Any) -> dict:
        """Writes a release and waits for its outcome, which must be the expected one."""
        outcome = self.await_outcome(self.desire(revision, **changes))
        check(outcome["outcome"] == expected, f"{revision} is not {expected}: {outcome}")
        return outcome

    def first_release(self) -> str:
        """Brings a first, sound version up; returns its revision."""
        revision = self.revision()
        self.release_and_wait(revision)
        serving = self.region.serving(self.service)
        check(serving == revision, f"all weight should be on {revision}, it is on {serving}")
        return revision

    def group_of(self, revision: str) -> str:
        """The group that a running revision is in."""
        found = [group for group in ("a", "b") if self.region.revision_in(self.service, group) == revision]
        check(len(found) == 1, f"{revision} should be in exactly one group, it is in {found}")
        return found[0]

    def shares(self) -> dict[str, float]:
        """Live production weights as shares, by revision; empty groups with weight show as their letter."""
        weights = self.region.weights(self.service, self.service.production)
        total = sum(weights.values())
        named = {self.region.revision_in(self.service, group) or group: weight for group, weight in weights.items()}
        return {name: weight / total for name, weight in named.items() if weight > 0}

    # --- what happened

    def mark(self) -> int:
        """The place in the call log from which on `moves` counts."""
        self.world.sandbox.calls.settle()
        return self.world.sandbox.calls.last_seq()

    def moves(self, since: int = 0, keys: tuple[str, ...] = ()) -> list[Call]:
        """What daemons called on this service that can change something, since a mark."""
        calls = self.world.sandbox.calls.since(since, mentions=self.name, keys=keys)
        return [call for call in calls if call.service in MOVED_SERVICES and call.access_key != OUR_KEY]

    def production_writes(self, since: int = 0) -> list[Call]:
        """Weight writes on the production rule by daemons, since a mark."""
        return weight_calls(self.moves(since), self.service, self.service.production)

    def judge(self, traffic: Traffic) -> Verdict:
        """Judges traffic against the call log."""
        log = self.world.sandbox.calls
        log.settle()
        return judge(traffic.requests(), writes(log, self.service), placements(log, self.service), PROPAGATION)

    def steady_traffic(self, rate: Optional[float] = 210.0) -> Traffic:
        """Traffic to the production route."""
        return Traffic(self.service.port, rate)


class TaskSetWatch:
    """Samples how many task sets a service has, while something else happens."""

    def __init__(self, subject: Subject):
        self.most = 0
        self._subject, self._stop = subject, threading.Event()
        self._thread = threading.Thread(target=self._run, name="task-sets", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self.most = max(self.most, len(self._subject.region.task_sets(self._subject.service)))

    def __enter__(self) -> "TaskSetWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)


