"""The sandbox, the daemons before it, and whoever watches task sets."""

from __future__ import annotations

import argparse
import threading
import time
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from harness import Call, Sandbox, Tables
from region import CLUSTER, OUR_KEY, Region
from relay import Loop, Relay
from releases import Line
from replica import Replica
from seen import Bound, Trace, Trouble
from subject import Subject
from together import together

#: Three nodes learn of a weight one after the other, on a busy machine somewhat later. Traffic is judged by what the
#: records state.
WEATHER = ("--nodes", "3", "--propagation-millis", "300")
#: Between two looks at all task sets, in seconds.
LOOK_EVERY = 0.25
#: For a daemon to refuse its configuration, in seconds.
START = 1.0
#: Services in one DescribeServices call.
BATCH = 10


class Fleet:
    """Several daemons of one installation and the services they move."""

    def __init__(self, options: argparse.Namespace, directory: Path):
        self.directory = directory
        server = options.sandbox or options.pointsman
        self.sandbox = Sandbox(server.resolve(strict=True), directory, weather=WEATHER)
        self.region = Region(self.sandbox.endpoint)
        self.tables = self.region.create_tables(Tables("chaos", "chaos-records", "chaos-state"))
        self._loop = Loop()
        where = urlsplit(self.sandbox.endpoint)
        target = (where.hostname, where.port)
        binaries = [options.pointsman.resolve(strict=True)]
        if options.old:
            binaries.append(options.old.resolve(strict=True))
        faketime = options.faketime.resolve(strict=True) if options.faketime else None
        self.replicas = [
            Replica(
                name=f"replica{number}",
                # The first lives differ too, so that old and new run side by side from the start.
                binaries=binaries[number % len(binaries) :] + binaries[: number % len(binaries)],
                directory=directory,
                tables=self.tables,
                cloud=Relay(self._loop, target).start(),
                store=Relay(self._loop, target).start(),
                faketime=faketime if "jump" in options.kinds.split(",") else None,
                fake_monotonic=options.fake_monotonic,
            )
            for number in range(options.replicas)
        ]
        self.lines: list[Line] = []
        #: When a task set was first steady, by ARN.
        self.steady: dict[str, float] = {}
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look, name="task-sets", daemon=True)
        # What a subject asks its world for.
        self.daemon = self

    def running(self) -> bool:
        """Whether any daemon runs."""
        return any(replica.process and replica.process.running() for replica in self.replicas)

    def ended(self) -> list[str]:
        """Daemons that ended by themselves, and panics of all their lives."""
        found = []
        for replica in self.replicas:
            try:
                replica.check_alive()
            except AssertionError as failed:
                found.append(str(failed))
        for log in sorted(self.directory.glob("replica*/*.log")):
            found += [f"{log.stem}: {line}" for line in log.read_text(errors="replace").splitlines() if "panicked" in line]
        return found

    def set_up(self, services: int, calm: bool) -> list[Line]:
        """Starts the daemons and brings each service to its first version, undisturbed; if `calm`, to its second."""
        made = [self.region.create_service(f"chaos{number}x", patient=True) for number in range(services)]
        self.lines = [Line(Subject(self, service)) for service in made]
        self._watch.start()
        for replica in self.replicas:
            replica.start()
        time.sleep(START)
        for replica in self.replicas:
            replica.check_alive()
        together([partial(line.prepare, calm) for line in self.lines])
        return self.lines

    def _look(self) -> None:
        arns = [line.subject.service.arn for line in self.lines]
        while not self._stop.wait(LOOK_EVERY):
            for first in range(0, len(arns), BATCH):
                try:
                    answer = self.region.ecs.describe_services(cluster=CLUSTER, services=arns[first : first + BATCH])
                except (ClientError, BotoCoreError):
                    # The next look sees it too: the time in question is in the answer.
                    continue
                for service in answer["services"]:
                    self._note(service.get("taskSets", []))

    def _note(self, task_sets: list[dict]) -> None:
        for one in task_sets:
            if one["stabilityStatus"] == "STEADY_STATE" and one["runningCount"] > 0:
                at = one["stabilityStatusAt"].timestamp()
                arn = one["taskSetArn"]
                self.steady[arn] = min(at, self.steady.get(arn, at))

    def bounds(self) -> list[Bound]:
        """What the records bind, for the monitor."""
        services = [line.subject.service for line in self.lines]
        return [Bound(one.name, one.arn, one.groups, one.production, one.test) for one in services]

    def trace(self, calls: list[Call], troubles: list[Trouble]) -> Trace:
        """Everything that the monitor looks at."""
        lives = [life for replica in self.replicas for life in replica.lives]
        ties = [tie for replica in self.replicas for tie in replica.ties]
        return Trace(calls, self.bounds(), OUR_KEY, lives, ties, troubles, dict(self.steady))

    def end(self) -> None:
        """Ends every process and thread that was started here."""
        self._stop.set()
        together([replica.hand_over for replica in self.replicas])
        if self._watch.is_alive():
            self._watch.join(timeout=30)
        for replica in self.replicas:
            replica.cloud.end()
            replica.store.end()
        self._loop.end()
        self.sandbox.end()
