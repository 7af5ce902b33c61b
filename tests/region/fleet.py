"""Measures a sandbox that holds a large fleet: EXTERNAL services whose tasks are ghosts, in one process.

Each service gets one task set through the API. Clients are processes of their own on kept connections, and while the
calls are counted they look at an answer's bytes only, so that Python is not the limit. Printed at each size: answered
DescribeServices calls a second (ten services each), the processor time that one takes of the sandbox and of its
client, the median time of CreateTaskSet by one client at rest, and the resident memory of the sandbox. Every answer is
checked: a service that is not steady, and in each hundredth answer one without all its tasks, ends the run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import random
import re
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import sandbox  # noqa: E402

CLUSTER = "fleet"
#: Services in one DescribeServices call (AWS's limit).
BATCH = 10
#: CreateTaskSet calls that one median is taken of.
SAMPLES = 60
#: Seconds until all ghosts of a fleet must be steady.
PATIENCE = 120.0
HEADERS = {
    "Content-Type": "application/x-amz-json-1.1",
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDFLEET/20250101/eu-central-1/ecs/aws4_request, "
    "SignedHeaders=host, Signature=0",
}


class Client:
    """ECS on one kept connection."""

    def __init__(self, url: str):
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """One call; anything but an answer of 200 ends the run."""
        headers = {**HEADERS, "X-Amz-Target": f"AmazonEC2ContainerServiceV20141113.{operation}"}
        self._connection.request("POST", "/", json.dumps(members), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{operation}: {answer.status} {body[:300]!r}")
        return json.loads(body)

    def create_task_set(self, service: str) -> dict[str, Any]:
        """A task set of ghosts at full scale."""
        return self.call(
            "CreateTaskSet",
            cluster=CLUSTER,
            service=service,
            taskDefinition="ghost",
            launchType="FARGATE",
            scale={"value": 100, "unit": "PERCENT"},
            networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"]}},
        )["taskSet"]


def name(index: int) -> str:
    """Of one service."""
    return f"service-{index:05}"


def grow(job: tuple[str, int, int, int]) -> None:
    """Creates the services of one client, each with its task set."""
    url, first, last, tasks = job
    client = Client(url)
    for index in range(first, last):
        client.call(
            "CreateService",
            cluster=CLUSTER,
            serviceName=name(index),
            desiredCount=tasks,
            deploymentController={"type": "EXTERNAL"},
        )
        client.create_task_set(name(index))


def describe(client: Client, indexes: list[int], tasks: int) -> bool:
    """One batch; whether all its services are steady."""
    answer = client.call("DescribeServices", cluster=CLUSTER, services=[name(index) for index in indexes])
    if len(answer["services"]) != len(indexes):
        raise SystemExit(f"{len(answer['services'])} of {len(indexes)} services came back")
    return all(
        service["taskSets"][0]["stabilityStatus"] == "STEADY_STATE" and service["runningCount"] >= tasks
        for service in answer["services"]
    )


class Bare:
    """DescribeServices on one kept connection, with no more HTTP than that needs."""

    def __init__(self, url: str):
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = "X-Amz-Target: AmazonEC2ContainerServiceV20141113.DescribeServices"
        lines = [f"POST / HTTP/1.1\r\nHost: {place.netloc}", target, *(f"{name}: {text}" for name, text in HEADERS.items())]
        self._head = "\r\n".join(lines)

    def describe(self, indexes: list[int]) -> bytes:
        """The body of an answer of 200; anything else ends the run."""
        body = json.dumps({"cluster": CLUSTER, "services": [name(index) for index in indexes]})
        self._socket.sendall(f"{self._head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        got = self._socket.recv(1 << 18)
        while b"\r\n\r\n" not in got:
            got += self._more()
        head, _, answer = got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise SystemExit(f"DescribeServices: {got[:300]!r}")
        parts, missing = [answer], int(length[1]) - len(answer)
        while missing > 0:
            parts.append(self._more())
            missing -= len(parts[-1])
        return b"".join(parts)

    def _more(self) -> bytes:
        piece = self._socket.recv(1 << 18)
        if not piece:
            raise SystemExit("the sandbox closed the connection within an answer")
        return piece


def poll(job: tuple[str, int, int, float]) -> tuple[int, float]:
    """Asks for batches from all over the fleet; how many were answered, and this process's milliseconds for them."""
    url, services, tasks, seconds = job
    bare, calls, used, end = Bare(url), 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        answer = bare.describe(random.sample(range(services), BATCH))
        if answer.count(b'"stabilityStatus":"STEADY_STATE"') != BATCH:
            raise SystemExit("a service is not steady any more")
        if calls % 100 == 0 and any(found["runningCount"] < tasks for found in json.loads(answer)["services"]):
            raise SystemExit("a service is without some of its tasks")
        calls += 1
    return calls, (time.process_time() - used) * 1000


def await_steady(client: Client, services: int, tasks: int) -> None:
    """Returns once all of the fleet is steady."""
    deadline = time.monotonic() + PATIENCE
    for first in range(0, services, BATCH):
        batch = list(range(first, min(first + BATCH, services)))
        while not describe(client, batch, tasks):
            if time.monotonic() > deadline:
                raise SystemExit(f"{batch} did not become steady")
            time.sleep(0.2)


def creation_millis(client: Client, services: int) -> float:
    """The median time of CreateTaskSet; the sets are deleted again."""
    took = []
    for index in random.sample(range(services), SAMPLES):
        began = time.perf_counter()
        made = client.create_task_set(name(index))
        took.append((time.perf_counter() - began) * 1000)
        client.call("DeleteTaskSet", cluster=CLUSTER, service=name(index), taskSet=made["id"], force=True)
    return statistics.median(took)


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def cpu_millis(pid: int) -> float:
    """Processor time that a process has had, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def child() -> int:
    """The sandbox's process id: our only child so far."""
    main = multiprocessing.current_process().pid
    return int(Path(f"/proc/{main}/task/{main}/children").read_text(encoding="ascii").split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pointsman", type=Path, required=True, help="the program whose sandbox is started")
    parser.add_argument("--sizes", default="500,5000", help="services, growing (default %(default)s)")
    parser.add_argument("--tasks", type=int, default=10, help="ghosts of each service (default %(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="processes that ask (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="of polling at each size (default %(default)s)")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    with sandbox(given.pointsman, 1) as url:
        pid, client = child(), Client(url)
        client.call("CreateCluster", clusterName=CLUSTER)
        client.call(
            "RegisterTaskDefinition",
            family="ghost",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            containerDefinitions=[
                {"name": "web", "image": "web", "environment": [{"name": "POINTSMAN_SIM", "value": "ghost"}]}
            ],
        )
        figures, before = [], 0
        with multiprocessing.get_context("spawn").Pool(given.clients) as pool:
            print(f"empty: {resident_mib(pid):.0f} MiB", flush=True)
            for size in sizes:
                step = -(-(size - before) // given.clients)
                jobs = [(url, first, min(first + step, size), given.tasks) for first in range(before, size, step)]
                pool.map(grow, jobs)
                # The sandbox closes a connection that was idle that long.
                client = Client(url)
                await_steady(client, size, given.tasks)
                used = cpu_millis(pid)
                polled = pool.map(poll, [(url, size, given.tasks, given.seconds)] * given.clients)
                calls, of_clients = (sum(column) for column in zip(*polled))
                used, rate = (cpu_millis(pid) - used) / calls, calls / given.seconds
                creation = creation_millis(Client(url), size)
                figures.append((rate, used, creation))
                print(
                    f"{size} services, {size * given.tasks} tasks: {rate:.0f} DescribeServices/s of {BATCH} at {used:.2f} ms of "
                    f"processor time each and {of_clients / calls:.2f} ms of the client's, CreateTaskSet {creation:.2f} ms, "
                    f"{resident_mib(pid):.0f} MiB",
                    flush=True,
                )
                before = size
        rate, used, creation = (last / first for first, last in zip(figures[0], figures[-1]))
        print(
            f"{sizes[0]} to {sizes[-1]} services: DescribeServices/s x {rate:.2f}, processor time of one x {used:.2f}, "
            f"CreateTaskSet time x {creation:.2f}"
        )


if __name__ == "__main__":
    main()
