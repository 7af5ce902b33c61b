"""Sends HTTP traffic from several threads and keeps what came back, request by request.

Each traffic is a process of its own, so that many clients do not wait for each other's interpreter: this file,
run as a program, sends until its standard input is closed and prints what it saw.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from typing import Optional

from judge import Request

#: For connecting and for an answer, in seconds. Longer than any honest answer here.
TIMEOUT = 10.0
#: Requests kept by one traffic; it stops sending beyond.
REQUESTS_MAX = 300_000
#: Between two reports of a traffic process, in seconds.
REPORT_EVERY = 0.1
#: An answer's head and body are far smaller.
ANSWER_BYTES_MAX = 64 * 1024


class Broken(Exception):
    """No whole answer came; `untouched` when not a byte of it did."""

    def __init__(self, reason: str, untouched: bool):
        super().__init__(reason)
        self.untouched = untouched


class Connection:
    """One HTTP/1.1 connection to 127.0.0.1; only what this traffic needs of the protocol."""

    def __init__(self, port: int):
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        except OSError as error:
            raise Broken(f"connect: {error}", untouched=False) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def close(self) -> None:
        self._socket.close()

    def get(self, request: bytes) -> tuple[int, Optional[str], bool]:
        """Sends a request; returns status, `x-revision` and whether the connection stays open."""
        answer = self._rest
        try:
            self._socket.sendall(request)
            while b"\r\n\r\n" not in answer:
                answer = self._more(answer)
            head, _, body = answer.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ", 2)[1])
            headers = {}
            for line in lines[1:]:
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            length = int(headers["content-length"])
            while len(body) < length:
                body = self._more(body)
            self._rest = body[length:]
        except OSError as error:
            raise Broken(f"{type(error).__name__}: {error}", untouched=not answer) from error
        except (ValueError, IndexError, KeyError) as error:
            raise Broken(f"not an HTTP answer: {error!r}", untouched=False) from error
        return status, headers.get("x-revision"), headers.get("connection", "").lower() != "close"

    def _more(self, so_far: bytes) -> bytes:
        if len(so_far) > ANSWER_BYTES_MAX:
            raise Broken("the answer does not end", untouched=False)
        piece = self._socket.recv(16 * 1024)
        if not piece:
            raise Broken("closed by the server", untouched=not so_far)
        return so_far + piece


class Traffic:
    """Steady traffic to one listener: most of it over kept-alive connections, some over fresh ones.

    `rate` is requests per second over all threads; `None` sends as fast as answers come.
    """

    def __init__(self, port: int, rate: Optional[float] = 210.0):
        self._command = [sys.executable, __file__, str(port), str(rate or 0)]
        self._seen: list[Request] = []
        self._child: Optional[subprocess.Popen] = None
        self._reader = threading.Thread(target=self._read, name=f"traffic-{port}", daemon=True)

    def __enter__(self) -> "Traffic":
        self._child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the traffic; every request that was begun is answered or timed out."""
        self._child.stdin.close()
        self._reader.join(timeout=3 * TIMEOUT)
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait(timeout=TIMEOUT)

    def _read(self) -> None:
        for line in self._child.stdout:
            self._seen.extend(Request(*one) for one in json.loads(line))
        # The process has ended or is about to.
        self._child.wait(timeout=TIMEOUT)

    def requests(self) -> list[Request]:
        """Everything so far, by start; what the last moment brought may be missing while it goes on."""
        return sorted(self._seen, key=lambda one: one.start)

    def count(self) -> int:
        """How many requests so far."""
        return len(self._seen)


class Sender:
    """The threads of one traffic process."""

    def __init__(self, port: int, rate: float):
        self._port = port
        self._head = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        self._stop = threading.Event()
        self._kept: list[list[Request]] = []
        self._threads = []
        # Three threads keep their connection, one opens a new one for each request.
        for place, fresh in enumerate((False, False, False, True)):
            kept: list[Request] = []
            self._kept.append(kept)
            pause = 4.0 / rate if rate else 0.0
            thread = threading.Thread(target=self._run, args=(kept, fresh, pause, place), daemon=True)
            self._threads.append(thread)

    def send(self) -> None:
        """Sends and reports until standard input ends."""
        told = [0] * len(self._kept)
        threading.Thread(target=self._until_told, daemon=True).start()
        for thread in self._threads:
            thread.start()
        while not self._stop.wait(REPORT_EVERY):
            self._report(told)
        for thread in self._threads:
            thread.join(timeout=2 * TIMEOUT)
        self._report(told)

    def _until_told(self) -> None:
        sys.stdin.read()
        self._stop.set()

    def _report(self, told: list[int]) -> None:
        news = []
        for index, kept in enumerate(self._kept):
            until = len(kept)
            news.extend(kept[told[index] : until])
            told[index] = until
        print(json.dumps(news), flush=True)

    def _run(self, kept: list[Request], fresh: bool, pause: float, place: int) -> None:
        ending = "Connection: close\r\n\r\n" if fresh else "\r\n"
        request = (self._head + ending).encode("latin-1")
        connection: Optional[Connection] = None
        due = time.monotonic() + pause * place / 4
        while not self._stop.is_set() and len(kept) < REQUESTS_MAX // 4:
            wait = due - time.monotonic()
            if wait > 0:
                self._stop.wait(wait)
            elif wait < -1.0:
                # Far behind: a burst to make up for it would not be steady traffic.
                due = time.monotonic()
            due += pause
            seen, connection = self._one(request, connection, fresh)
            kept.append(seen)
        if connection is not None:
            connection.close()

    def _one(
        self, request: bytes, connection: Optional[Connection], fresh: bool
    ) -> tuple[Request, Optional[Connection]]:
        start = time.time()
        if connection is not None:
            try:
                return self._answered(connection, request, start, False)
            except Broken as broken:
                connection.close()
                if not broken.untouched:
                    return Request(start, time.time(), 0, None, False, str(broken)), None
                # A server may close an idle connection at any time; clients then begin anew (RFC 9112 §9.3.1).
                start = time.time()
        opened: Optional[Connection] = None
        try:
            opened = Connection(self._port)
            return self._answered(opened, request, start, fresh)
        except Broken as broken:
            if opened is not None:
                opened.close()
            return Request(start, time.time(), 0, None, True, str(broken)), None

    @staticmethod
    def _answered(
        connection: Connection, request: bytes, start: float, fresh: bool
    ) -> tuple[Request, Optional[Connection]]:
        status, revision, stays = connection.get(request)
        seen = Request(start, time.time(), status, revision, fresh)
        if fresh or not stays:
            connection.close()
            return seen, None
        return seen, connection


if __name__ == "__main__":
    Sender(int(sys.argv[1]), float(sys.argv[2])).send()
