"""Measures the load balancer of a sandbox from outside: shares, leaks, lost requests, and speed beside HAProxy.

The client reads from each answer which version gave it; nothing is counted by the load balancer itself. Shares may
differ from their weights by 5 sigma of a binomial distribution: a right share fails once in 1.7 million runs.
Speed is measured by `wrk`, HAProxy and the sandbox in turn, with the same upstreams, in the same run. Upstreams are an
HAProxy that answers by itself. Figures of speed are printed; they are judged only with `--judge-speed`, which is for
an optimised build.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent))

from aws import Aws, Endpoint, Route, at_once, free_port  # noqa: E402
from run import SPEED, sandbox  # noqa: E402
from suite import Failed, need, until  # noqa: E402

SIGMAS = 5
CONNECTIONS = 16
#: What an optimised sandbox must reach beside HAProxy.
LEAST_RATIO, MOST_ADDED = 0.3, 3.0
#: Seconds in which one request must be answered.
PATIENCE = 10.0
VERSIONS = ("blue", "green")


@dataclass
class Seen:
    """What a client saw."""

    versions: dict[str, int] = field(default_factory=dict)
    #: Requests without an answer of 200, by reason.
    lost: dict[str, int] = field(default_factory=dict)
    #: Start, end and version of every request, when they are kept.
    log: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.versions.values()) + sum(self.lost.values())


class Client(asyncio.Protocol):
    """One kept-alive connection that asks again as soon as it was answered."""

    def __init__(self, seen: Seen, left: list[int], done: asyncio.Future, keep: bool):
        self._seen, self._left, self._done, self._keep = seen, left, done, keep
        self._rest, self._began = b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        if self._left[0] <= 0:
            self._transport.close()
            self._finish()
            return
        self._left[0] -= 1
        self._began = time.monotonic()
        self._transport.write(b"GET / HTTP/1.1\r\nhost: region\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, body = self._rest.partition(b"\r\n\r\n")
        if not found:
            return
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if not length:
            self._lose("no content-length")
            return
        if len(body) < int(length[1]):
            return
        self._rest = body[int(length[1]) :]
        version = re.search(rb"x-version: *(\w+)", head, re.IGNORECASE)
        if head[9:12] != b"200" or not version:
            self._count(self._seen.lost, head[9:12].decode("latin-1"))
        else:
            name = version[1].decode()
            self._count(self._seen.versions, name)
            if self._keep:
                self._seen.log.append((self._began, time.monotonic(), name))
        self._ask()

    @staticmethod
    def _count(where: dict[str, int], what: str) -> None:
        where[what] = where.get(what, 0) + 1

    def _lose(self, why: str) -> None:
        self._count(self._seen.lost, why)
        self._transport.close()
        self._finish()

    def connection_lost(self, error: Optional[Exception]) -> None:
        if not self._done.done():
            self._count(self._seen.lost, f"closed: {error}")
            self._finish()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


def send(port: int, requests: int, keep: bool = False, left: Optional[list[int]] = None) -> Seen:
    """Sends so many requests over several connections; `left` lets somebody else end it."""
    seen, left = Seen(), left if left is not None else [requests]

    async def all_of_them() -> None:
        loop = asyncio.get_running_loop()
        ends = []
        for _ in range(CONNECTIONS):
            done = loop.create_future()
            await loop.create_connection(lambda done=done: Client(seen, left, done, keep), "127.0.0.1", port)
            ends.append(done)
        before = -1
        while any(not end.done() for end in ends):
            await asyncio.wait(ends, timeout=PATIENCE)
            if before == seen.requests:
                raise Failed(f"no answer within {PATIENCE:g} s")
            before = seen.requests

    asyncio.run(all_of_them())
    return seen


@contextmanager
def haproxy(program: str, config: str) -> Iterator[None]:
    """An HAProxy process."""
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write(
            "global\n  nbthread 2\n  maxconn 2000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n"
            "  timeout server 60s\n  option http-keep-alive\n" + config
        )
        file.flush()
        child = subprocess.Popen([program, "-f", file.name, "-db"], stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            yield
        finally:
            child.terminate()
            child.wait(timeout=10)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


# --- what is measured


def shares(route: Route, requests: int) -> None:
    """Every weight shows its share."""
    for weights in ((900, 100), (500, 500), (999, 1), (1, 0)):
        route.weigh(*weights)
        seen = send(route.port, requests)
        need(not seen.lost, f"lost {seen.lost}")
        share = weights[1] / sum(weights)
        bound = SIGMAS * math.sqrt(requests * share * (1 - share))
        green = seen.versions.get("green", 0)
        said = f"{weights[0]}/{weights[1]}: {green} of {requests} to green, {requests * share:g} ± {bound:.0f} expected"
        need(abs(green - requests * share) <= bound, said)
        print(f"ok   shares {said}", flush=True)


def no_leak(route: Route, requests: int) -> None:
    """Nothing reaches a group of weight 0, whichever it is."""
    for index, version in enumerate(VERSIONS):
        route.weigh(*(1 - index, index))
        seen = send(route.port, requests // 2)
        need(not seen.lost and set(seen.versions) == {version}, f"{seen.versions} {seen.lost}")
    print(f"ok   no leak: 0 of {requests} requests reached a group of weight 0", flush=True)


def shifting(route: Route, requests: int) -> None:
    """Weights change under load: no request is lost, and after an answered write none is served by the old."""
    result: list[Seen] = []
    left = [requests]
    thread = threading.Thread(target=lambda: result.append(send(route.port, requests, True, left)))
    writes: list[tuple[float, float, set[str]]] = []
    chooser = random.Random(7)
    thread.start()
    while thread.is_alive():
        weights = chooser.choice([(1, 0), (0, 1), (1, 1)])
        sent = time.monotonic()
        route.weigh(*weights)
        allowed = {version for version, weight in zip(VERSIONS, weights) if weight}
        writes.append((sent, time.monotonic(), allowed))
        time.sleep(0.02)
    thread.join()
    need(result, "the client failed")
    seen = result[0]
    need(not seen.lost, f"lost {seen.lost}")
    judged = leaked = 0
    ends = [sent for sent, _, _ in writes[1:]] + [math.inf]
    for (_, acked, allowed), end in zip(writes, ends):
        if len(allowed) < 2:
            # A request that the next write overtook may have been decided by either.
            within = [version for began, ended, version in seen.log if acked <= began and ended <= end]
            judged += len(within)
            leaked += sum(version not in allowed for version in within)
    need(not leaked, f"{leaked} of {judged} requests were answered by a version without weight")
    need(judged > 0, "no request fell between two writes while one version had all weight")
    print(
        f"ok   shifting: {seen.requests} requests under {len(writes)} weight writes, 0 lost; "
        f"0 of {judged} between an answered write and the next were served by the version without weight",
        flush=True,
    )


def draining(aws: Aws, in_flight: int) -> None:
    """Requests in flight end well when their target is deregistered."""
    route, web, other = aws.route(1, 0), aws.web("old"), aws.web("new")
    route.serve(0, web)
    until("it answers", lambda: route.get()[0] == 200)
    answers: list = []
    asked = threading.Thread(target=lambda: answers.extend(at_once(in_flight, lambda _: route.get("/slow"))))
    asked.start()
    until("all are in flight", lambda: web.paths.count("/slow") == in_flight)
    other.release.set()
    route.serve(0, other)
    aws.elb.deregister_targets(TargetGroupArn=route.groups[0], Targets=[{"Id": "127.0.0.1", "Port": web.port}])
    until("new requests go elsewhere", lambda: route.seen(20) == {"new": 20})
    web.release.set()
    asked.join()
    need([answer[:2] for answer in answers] == [(200, "old")] * in_flight, f"{[answer[:2] for answer in answers]}")
    print(f"ok   draining: {in_flight} requests in flight at deregistration, all answered", flush=True)


@dataclass
class Run:
    """One run of wrk."""

    rate: float
    #: Milliseconds.
    p50: float


def wrk(program: str, port: int, connections: int, seconds: float) -> Run:
    """Requests per second and the median time of one."""
    command = [program, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", f"http://127.0.0.1:{port}/"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", told)
    need(rate and p50 and "Non-2xx" not in told, told)
    return Run(float(rate[1]), float(p50[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[p50[2]])


def speed(ports: dict[str, int], program: str, rounds: int, seconds: float, judge: bool) -> None:
    """The sandbox beside HAProxy, in turn, several times."""
    rates: dict[str, list[float]] = {name: [] for name in ports}
    times: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(rounds):
        for name, port in ports.items():
            rates[name].append(wrk(program, port, CONNECTIONS, seconds).rate)
            times[name].append(wrk(program, port, 1, seconds).p50)
    rate = {name: statistics.median(found) for name, found in rates.items()}
    p50 = {name: statistics.median(found) for name, found in times.items()}
    for name in ports:
        print(f"     {name}: {rate[name]:.0f} requests/s on {CONNECTIONS} connections, p50 {p50[name]:.3f} ms on one")
    ratio = rate["sandbox"] / rate["haproxy"]
    added = (p50["sandbox"] - p50["upstream"]) / max(p50["haproxy"] - p50["upstream"], 1e-3)
    said = f"throughput {ratio:.2f} of HAProxy's, added p50 {added:.1f} times HAProxy's"
    if judge:
        need(ratio >= LEAST_RATIO and added <= MOST_ADDED, f"{said}; wanted ≥ {LEAST_RATIO} and ≤ {MOST_ADDED}")
    print(f"{'ok  ' if judge else '    '} speed: {said}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the sandbox's load balancer from outside.")
    parser.add_argument("--pointsman", type=Path, required=True, help="the program whose sandbox is started")
    parser.add_argument("--full", action="store_true", help="100,000 requests in search of a leak, 20,000 elsewhere, instead of 5,000")
    parser.add_argument("--no-speed", action="store_true", help="leave wrk and the comparison with HAProxy out")
    parser.add_argument("--judge-speed", action="store_true", help="fail below the bounds; for an optimised build")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    ports = {version: free_port() for version in VERSIONS}
    answer = "  http-request return status 200 content-type text/plain hdr x-version {0} string {0}\n"
    upstreams = "".join(
        f"frontend {version}\n  bind 127.0.0.1:{port}\n" + answer.format(version) for version, port in ports.items()
    )
    proxy = free_port()
    balancer = f"frontend lb\n  bind 127.0.0.1:{proxy}\n  default_backend both\nbackend both\n  balance roundrobin\n"
    for version, weight in zip(VERSIONS, (90, 10)):
        balancer += f"  server {version} 127.0.0.1:{ports[version]} weight {weight}\n"
    requests, searched = (20_000, 100_000) if options.full else (5_000, 5_000)
    with haproxy(program, upstreams), haproxy(program, balancer), sandbox(options.pointsman, SPEED) as url:
        aws = Aws(Endpoint(url, SPEED))
        try:
            until("HAProxy listens", lambda: _accepts(proxy) and all(map(_accepts, ports.values())))
            route = aws.route(1, 0)
            for group, port in zip(route.groups, ports.values()):
                aws.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "127.0.0.1", "Port": port}])
                healthy = lambda: aws.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
                until("healthy", lambda: healthy()[0]["TargetHealth"]["State"] == "healthy")
            until("it answers", lambda: route.get()[0] == 200)
            shares(route, requests)
            no_leak(route, searched)
            shifting(route, requests)
            draining(aws, 20)
            if not options.no_speed:
                route.weigh(90, 10)
                compared = {"upstream": ports["blue"], "haproxy": proxy, "sandbox": route.port}
                rounds, seconds = (3, 5.0) if options.full else (1, 2.0)
                speed(compared, shutil.which("wrk") or "wrk", rounds, seconds, options.judge_speed)
        except Failed as failure:
            print(f"FAIL {failure}", flush=True)
            return 1
        finally:
            aws.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
