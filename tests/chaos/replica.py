"""One daemon among several: its lives, and the times in which its hands were tied."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from harness import Process, Tables, check, daemon_arguments
from relay import Relay
from schedule import LEASE_RENEW, LEASE_TTL
from seen import OPERATION, Life, Tie

#: Access key ids of daemons begin so.
KEY_PREFIX = "AKIDPM"


def config(installation: str) -> str:
    """Short polls and a short lease: the waits of operation, seconds instead of minutes."""
    return f"""\
installation = "{installation}"
listen = "127.0.0.1:0"
poll = "300ms"
idle_poll = "1s"
resync = "10s"
drain = "500ms"
log = "pretty"

[lease]
ttl = "{LEASE_TTL:g}s"
renew = "{1000 * LEASE_RENEW:.0f}ms"
operation = "{1000 * OPERATION:.0f}ms"
margin = "{100 * LEASE_TTL:.0f}ms"
"""


@dataclass
class Replica:
    """A daemon that can be killed, stopped, cut off and started again; it has no local files."""

    name: str
    binaries: list[Path]
    directory: Path
    tables: Tables
    #: To ECS, ELB and CloudWatch; and to DynamoDB.
    cloud: Relay
    store: Relay
    #: The library that fakes the clocks, and whether the monotonic ones are faked too.
    faketime: Optional[Path] = None
    fake_monotonic: bool = False
    process: Optional[Process] = None
    lives: list[Life] = field(default_factory=list)
    ties: list[Tie] = field(default_factory=list)
    #: Held by whatever disturbs this replica.
    busy: threading.Lock = field(default_factory=threading.Lock)

    @property
    def access_key(self) -> str:
        """Tells the calls of this life from all others."""
        return self.lives[-1].access_key if self.lives else ""

    def _environment(self, access_key: str) -> dict[str, str]:
        found = {
            "AWS_ENDPOINT_URL": self.cloud.url,
            "AWS_ENDPOINT_URL_DYNAMODB": self.store.url,
            "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": self.store.url,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RUST_BACKTRACE": "1",
        }
        if self.faketime:
            self.shift(0.0)
            found |= {"LD_PRELOAD": str(self.faketime), "FAKETIME_TIMESTAMP_FILE": str(self._shift_file)}
            found |= {"FAKETIME_NO_CACHE": "1"}
            found |= {} if self.fake_monotonic else {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return found

    @property
    def _shift_file(self) -> Path:
        return self.directory / f"{self.name}-clock"

    def shift(self, seconds: float) -> None:
        """Sets how far this replica's clock is off, from now on."""
        # Replaced as a whole: the daemon reads it at every look at the clock.
        fresh = self._shift_file.with_suffix(".new")
        fresh.write_text(f"{seconds:+g}s\n")
        fresh.replace(self._shift_file)

    def start(self) -> None:
        """A new process under a new access key. Of several binaries, lives take turns."""
        check(self.process is None, f"{self.name} runs already")
        number = len(self.lives) + 1
        home = self.directory / f"{self.name}-{number}"
        home.mkdir()
        (home / "pointsman.toml").write_text(config(self.tables.installation))
        access_key = f"{KEY_PREFIX}{self.name.upper()}L{number}"
        binary = self.binaries[number % len(self.binaries)]
        command = [str(binary), *daemon_arguments(home / "pointsman.toml", self.tables)]
        self.lives.append(Life(access_key, time.time(), None))
        self.process = Process(f"{self.name}-{number}", command, self._environment(access_key), home)

    def check_alive(self) -> None:
        """Complains when the process has ended by itself."""
        process = self.process
        if process is not None and not process.running():
            check(False, f"{self.name} ended by itself:\n{process.tail()}")

    def kill(self) -> None:
        """kill -9."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            self._ended()

    def hand_over(self) -> None:
        """SIGTERM."""
        process, self.process = self.process, None
        if process is not None:
            process.end()
            self._ended()

    def _ended(self) -> None:
        self.lives[-1] = Life(self.access_key, self.lives[-1].began, time.time())

    def stand_still(self, seconds: float, stop: threading.Event) -> None:
        """SIGSTOP, and SIGCONT after a time."""
        began = time.time()
        self.process.signal(signal.SIGSTOP)
        stop.wait(seconds)
        self.process.signal(signal.SIGCONT)
        self.ties.append(Tie(self.access_key, began, time.time()))

    def fall_silent(self, seconds: float, stop: threading.Event) -> None:
        """Neither side of any connection hears of the other for a time, then of all that was said."""
        began = time.time()
        with self.cloud.being("silent"), self.store.being("silent"):
            stop.wait(seconds)
        self.ties.append(Tie(self.access_key, began, time.time()))

    def cut_off(self, relays: tuple[Relay, ...], seconds: float, stop: threading.Event) -> None:
        """Connections are reset and refused for a time."""
        with ExitStack() as cut:
            for relay in relays:
                cut.enter_context(relay.being("cut"))
            stop.wait(seconds)
