"""Processes, their call log, and waiting: what every story stands on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional, Protocol, TypeVar

T = TypeVar("T")

#: How many times faster the sandbox's alarm periods, health checks and draining go.
SPEED = 30
#: What AWS does not promise, as every sandbox of the stories has it: three load-balancer nodes that learn of a
#: weight after 200, 400 and 600 ms; reads of up to two versions or 600 ms ago; AWS's published request rates.
WEATHER = "real"
#: The slowest node's delay in that weather, in seconds.
SLOWEST_NODE = 0.6
#: Seconds after which no read of ECS or ELB misses a change any more: its age of 600 ms at most, and some for the way.
OLDEST_READ = 0.8
#: Weights count as in force on every node after this, in seconds; also written into the records. It leaves a busy
#: machine time for what a node does after its delay.
PROPAGATION = SLOWEST_NODE + 0.4
#: The access key of everything that the stories themselves do: observers see the present and spend nobody's tokens.
OUR_KEY = "AKIDSCENARIO"
#: Lease time-to-live of the daemons under test, in seconds.
LEASE_TTL = 4.0
#: Services the daemon moves; the rest of the call log are its tables and reads.
MOVED_SERVICES = ("ecs", "elb")
#: Between two looks at something that is waited for, in seconds.
LOOK_EVERY = 0.2
#: Failed reads of the call log in a row that a story may live through.
FAILURES_MAX = 20
#: Call records asked for at once.
PAGE = 1_000
#: Call records kept by one follower.
RECORDS_MAX = 400_000


class StoryFailed(AssertionError):
    """A story did not go as it must."""


def check(holds: Any, complaint: str) -> None:
    """Fails the story with this complaint unless it holds."""
    if not holds:
        raise StoryFailed(complaint)


def until(what: str, look: Callable[[], T], timeout: float, every: float = LOOK_EVERY) -> T:
    """Waits for a true answer and returns it; fails the story when the time is up."""
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise StoryFailed(f"not within {timeout:g} s: {what}")
        time.sleep(every)


def holds_for(what: str, look: Callable[[], Any], seconds: float) -> None:
    """Fails the story when something stops being true within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check(look(), f"did not stay so for {seconds:g} s: {what}")
        time.sleep(LOOK_EVERY)


def http_json(url: str, method: str = "GET", body: Any = None, timeout: float = 30.0) -> Any:
    """One call of the sandbox's control API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


# --- processes


class Process:
    """A child process with its own log file; only its own pid is ever signalled."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], directory: Path):
        self.name = name
        self.log = directory / f"{name}.log"
        self._out = open(self.log, "ab")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        # A group of its own: Ctrl-C reaches the runner first, and the runner ends its children.
        self._child = subprocess.Popen(
            command,
            env={**inherited, **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def ended_within(self, seconds: float) -> bool:
        """Waits for its end, at most this long."""
        deadline = time.monotonic() + seconds
        while self.running() and time.monotonic() < deadline:
            time.sleep(min(0.05, seconds))
        return not self.running()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal if it still runs."""
        if self.running():
            self._child.send_signal(number)

    def kill(self) -> None:
        """kill -9, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self._child.wait(timeout=10)
        self._out.close()

    def end(self, patience: float = 8.0) -> None:
        """SIGTERM, then SIGKILL."""
        # A stopped process takes no SIGTERM.
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._child.wait(timeout=patience)
            self._out.close()
        except subprocess.TimeoutExpired:
            self.kill()

    def tail(self, lines: int = 15) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Sandbox:
    """A sandbox process and its control API."""

    def __init__(
        self,
        pointsman: Path,
        directory: Path,
        name: str = "sandbox",
        leak_per_mille: int = 0,
        weather: tuple[str, ...] = ("--weather", WEATHER),
    ):
        command = [str(pointsman), "sandbox", "--port", "0", "--speed", str(SPEED)]
        command += [*weather, "--observer", OUR_KEY]
        # For people who look into a failure; the stories read the control API.
        command += ["--call-log", str(directory / f"{name}-calls.jsonl")]
        if leak_per_mille:
            command += ["--leak-per-mille", str(leak_per_mille)]
        self.process = Process(name, command, {}, directory)
        self.endpoint = until("the sandbox tells its endpoint", self._endpoint, 30)
        self.calls = CallLog(self.endpoint)

    def _endpoint(self) -> Optional[str]:
        check(self.process.running(), f"the sandbox ended:\n{self.process.tail()}")
        for word in self.process.log.read_text(errors="replace").split():
            if word.startswith("AWS_ENDPOINT_URL="):
                return word.partition("=")[2]
        return None

    def arm(self, operation: str, effect: str, versions: Optional[int] = None, **rule: Any) -> int:
        """Orders a fault; returns the rule's id. `versions` is for stale reads."""
        kind = {"kind": effect} if versions is None else {"kind": effect, "versions": versions}
        rule = {"operation": operation, "effect": kind, **rule}
        return http_json(f"{self.endpoint}/_sandbox/faults", "POST", rule)["id"]

    def hits(self, fault: int) -> int:
        """How many calls a fault has hit."""
        armed = http_json(f"{self.endpoint}/_sandbox/faults")
        return next((rule["hit"] for rule in armed if rule["id"] == fault), 0)

    def disarm(self, fault: int) -> None:
        """Takes a fault away."""
        http_json(f"{self.endpoint}/_sandbox/faults/{fault}", "DELETE")

    def end(self) -> None:
        """Stops following and ends the process."""
        self.calls.stop()
        self.process.end()


class Watcher(Protocol):
    """Looks at every daemon process from its start to its end."""

    def watch(self, process: Process) -> None:
        """Begins to."""


class Daemon:
    """A daemon process; it can be killed, stopped and started again, without any local files."""

    def __init__(self, pointsman: Path, directory: Path, endpoint: str, tables: "Tables", name: str, watcher: Watcher):
        self._pointsman, self._directory, self._endpoint = pointsman, directory, endpoint
        self._tables, self._name, self._watcher = tables, name, watcher
        self._starts = 0
        #: Into how many shards it splits the services.
        self.shards = 64
        self.process: Optional[Process] = None

    @property
    def access_key(self) -> str:
        """Tells its calls from those of all others, its own earlier lives included."""
        return f"AKID{self._name.upper().replace('-', '')}{self._starts}"

    def start(self) -> "Daemon":
        """Starts a new process with a new access key and an empty directory."""
        check(self.process is None, "the daemon runs already")
        self._starts += 1
        home = self._directory / f"{self._name}-{self._starts}"
        home.mkdir()
        config = home / "pointsman.toml"
        config.write_text(daemon_config(self._tables.installation, self.shards))
        environment = {
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RUST_BACKTRACE": "1",
        }
        command = [str(self._pointsman), *daemon_arguments(config, self._tables)]
        self.process = Process(f"{self._name}-{self._starts}", command, environment, home)
        self._watcher.watch(self.process)
        return self

    def running(self) -> bool:
        """Whether its process has not ended."""
        return self.process is not None and self.process.running()

    def kill(self) -> None:
        """kill -9."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()

    def end(self) -> None:
        """SIGTERM."""
        process, self.process = self.process, None
        if process is not None:
            process.end()

    def pause(self) -> None:
        """SIGSTOP."""
        check(self.running(), "there is no daemon to stop")
        self.process.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.signal(signal.SIGCONT)


@dataclass(frozen=True)
class Tables:
    """The two tables of an installation, and its name in external ids."""

    installation: str
    records: str
    state: str


def daemon_arguments(config: Path, tables: Tables) -> list[str]:
    """How the daemon is started."""
    return ["run", "--config", str(config), "--records-table", tables.records, "--state-table", tables.state]


def daemon_config(installation: str, shards: int) -> str:
    """Short polls and a short lease: the same waits as ever, seconds instead of minutes."""
    return f"""\
installation = "{installation}"
listen = "127.0.0.1:0"
poll = "300ms"
idle_poll = "2s"
resync = "10s"
drain = "3s"
log = "pretty"
shards = {shards}

[lease]
ttl = "{LEASE_TTL:g}s"
renew = "600ms"
operation = "2s"
margin = "400ms"
"""


# --- the call log


@dataclass(frozen=True)
class Call:
    """One record of the sandbox's call log."""

    seq: int
    began: float
    ended: float
    access_key: str
    service: str
    operation: str
    resource: str
    parameters: dict
    result: Optional[str]
    #: Names of ordered faults that hit it.
    faults: tuple[str, ...]
    #: Resource and parameters as one text, to search in.
    text: str

    @property
    def done(self) -> bool:
        """Whether it was carried out without an error."""
        return self.result == "OK"


@dataclass(frozen=True)
class Called:
    """That somebody called an operation at least once."""

    access_key: str
    service: str
    operation: str
    #: Kinds of a transaction's parts; none when it is none.
    parts: frozenset[str]


def seconds(timestamp: str) -> float:
    """An RFC 3339 timestamp of any precision as seconds since 1970."""
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    base = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    return base + (float(f"0.{fraction}") if fraction else 0.0)


class CallLog:
    """Follows the sandbox's call log in a thread and keeps every call that can change something.

    Of all others it keeps that they were made: the sandbox forgets its oldest records.
    """

    def __init__(self, endpoint: str):
        self._url = f"{endpoint}/_sandbox/calls"
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._called: set[Called] = set()
        self._last = 0
        #: Everything that was logged before this time is here.
        self._whole_until = 0.0
        self._broken = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="call-log", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        failures = 0
        while not self._stop.is_set():
            asked_at = time.time()
            try:
                records = http_json(f"{self._url}?after={self._last}&limit={PAGE}&waitMillis=300")
            except OSError as error:
                failures += 1
                if failures == FAILURES_MAX:
                    self._broken = f"the call log cannot be read: {error}"
                if self._stop.wait(0.5):
                    return
                continue
            failures = 0
            found, called = [], set()
            for record in records:
                if record["seq"] != self._last + 1:
                    self._broken = f"the call log lacks records {self._last + 1} to {record['seq'] - 1}"
                self._last = record["seq"]
                called.add(self._as_called(record))
                if record["mutating"]:
                    found.append(self.call(record))
            with self._lock:
                self._calls.extend(found)
                self._called |= called
                if len(self._calls) > RECORDS_MAX:
                    self._broken = "the call log is longer than any story needs"
                    return
                if len(records) < PAGE:
                    self._whole_until = asked_at

    @staticmethod
    def call(record: dict) -> Call:
        """A record as it was logged."""
        began = seconds(record["at"])
        return Call(
            seq=record["seq"],
            began=began,
            # The log cuts to whole milliseconds.
            ended=began + (record["millis"] + 1) / 1000,
            access_key=record["accessKey"] or "",
            service=record["service"],
            operation=record["operation"],
            resource=record.get("resource") or "",
            parameters=record["parameters"] or {},
            result=record["result"],
            faults=tuple(record.get("faults", ())),
            text=f"{record.get('resource')} {json.dumps(record['parameters'])}",
        )

    @staticmethod
    def _as_called(record: dict) -> Called:
        items = (record["parameters"] or {}).get("TransactItems") or ()
        parts = frozenset(kind for item in items for kind in item)
        return Called(record["accessKey"] or "", record["service"], record["operation"], parts)

    def called(self) -> set[Called]:
        """What was called by whom, reads included."""
        check(not self._broken, self._broken)
        with self._lock:
            return set(self._called)

    def stop(self) -> None:
        """Ends the following."""
        self._stop.set()
        self._thread.join(timeout=35)

    def settle(self) -> None:
        """Waits until everything that was logged before this call is here."""
        now = time.time()
        until("the call log is read", lambda: self._whole_until > now or self._broken, 20, every=0.05)
        check(not self._broken, self._broken)

    def last_seq(self) -> int:
        """The newest record's number, everything before it being known."""
        return self._last

    def since(self, seq: int = 0, mentions: str = "", keys: tuple[str, ...] = ()) -> list[Call]:
        """Calls after a record that can change something, by what their input mentions and who made them."""
        with self._lock:
            calls = list(self._calls)
        return [
            call
            for call in calls
            if call.seq > seq
            and (not keys or call.access_key in keys)
            and mentions in call.text
        ]
