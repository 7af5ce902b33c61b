"""Releases under live traffic while daemons are killed, stopped, cut off and lied to; judged from outside.

    python tests/chaos/chaos.py --pointsman target/debug/pointsman [--seed N] [--replicas 3] [--services 6] …

The plan is a matter of the seed alone; what it meets is a matter of the machine. See README.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
import unittest
from collections import Counter
from functools import partial
from pathlib import Path
from statistics import median
from typing import Optional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scenario")]

import judge  # noqa: E402
import leases  # noqa: E402
import monitor  # noqa: E402
import schedule  # noqa: E402
from fleet import Fleet  # noqa: E402
from region import placements, writes  # noqa: E402
from releases import Line, orders  # noqa: E402
from seen import Trace, weights  # noqa: E402
from together import Together, together  # noqa: E402
from traffic import Traffic  # noqa: E402
from unrest import Unrest  # noqa: E402

#: Requests per second to each service; an alarm needs three errors in two seconds at 20 %.
RATE = 25.0
#: Complaints told of one kind; all are counted.
TOLD_MAX = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Chaos for pointsman, judged from outside.")
    parser.add_argument("--pointsman", type=Path, required=True, help="the program under test")
    parser.add_argument("--old", type=Path, help="another build of it; lives of the daemons take turns")
    parser.add_argument("--sandbox", type=Path, help="the program that serves the sandbox, if not the one under test")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--services", type=int, default=6)
    parser.add_argument("--releases", type=int, default=36, help="in all at most, after the first ones (default 36)")
    parser.add_argument("--seconds", type=float, default=45.0, help="of disturbances (default 45)")
    parser.add_argument("--every", type=float, default=1.6, help="seconds from one disturbance to the next")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--kinds", default=",".join(schedule.WEIGHTS), help="of disturbances")
    parser.add_argument("--throttle", type=int, default=30, metavar="PERCENT", help="of all calls (default 30)")
    parser.add_argument("--errors", type=int, default=10, metavar="PERCENT", help="of all calls (default 10)")
    parser.add_argument("--burst", type=float, default=6.0, help="seconds of those faults, and then as many without")
    parser.add_argument("--faketime", type=Path, help="libfaketimeMT.so.1; found where Debian puts it")
    parser.add_argument("--fake-monotonic", action="store_true", help="the monotonic clock jumps too")
    parser.add_argument("--long", action="store_true", help="hundreds of releases: 8 services, 25 minutes")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    options = parser.parse_args()
    if options.long:
        options.services, options.releases, options.seconds, options.every = 8, 300, 1500.0, 3.0
        # A whole storm with its calm under faults, and one without: in the first a release takes its time, and nothing says how
        # long that is; in the second it ends.
        options.burst = schedule.STORM + schedule.CALM
    return options


def monitor_is_sound() -> bool:
    """The monitor's own tests: without them its silence would mean nothing."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(["test_monitor", "test_schedule", "test_relay", "test_judge"])
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    return result.wasSuccessful()


def found_faketime() -> Optional[Path]:
    """Where Debian and its kin put the library."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def run(options: argparse.Namespace, directory: Path) -> int:
    fleet = Fleet(options, directory)
    traffics: list[Traffic] = []
    try:
        began = time.monotonic()
        lines = fleet.set_up(options.services, calm=options.long)
        print(f"{len(lines)} services with their first versions after {time.monotonic() - began:.0f} s", flush=True)
        for line in lines:
            traffics.append(Traffic(line.subject.service.port, RATE).__enter__())
        unrest = Unrest(fleet, options)
        disturb_and_release(options, lines, unrest)
        print(f"quiet again after {time.monotonic() - began:.0f} s", flush=True)
        together([line.finish for line in lines])
        for traffic in traffics:
            traffic.__exit__()
        print(f"all settled after {time.monotonic() - began:.0f} s", flush=True)
        return report(fleet, lines, traffics, unrest)
    finally:
        for traffic in traffics:
            traffic.__exit__()
        fleet.end()


def planned(options: argparse.Namespace) -> list[schedule.Disturbance]:
    """What the seed says; in a long run with minutes without DynamoDB."""
    kinds = tuple(options.kinds.split(","))
    found = schedule.plan(options.seed, options.seconds, options.replicas, options.every, kinds)
    return schedule.with_outage(found) if options.long and "tablesDown" in kinds else found


def disturb_and_release(options: argparse.Namespace, lines: list[Line], unrest: Unrest) -> None:
    """Releases on all services while the plan is carried out; returns when both have ended."""
    each = -(-options.releases // len(lines))
    stop = threading.Event()
    plan = planned(options)
    todo = [orders(options.seed, index, each) for index in range(len(lines))]
    running = Together([partial(line.run, some, stop) for line, some in zip(lines, todo)])
    try:
        unrest.carry_out(plan, running.over)
    finally:
        stop.set()
        unrest.end()
    running.join()


def report(fleet: Fleet, lines: list[Line], traffics: list[Traffic], unrest: Unrest) -> int:
    """Judges everything and prints the table; returns the number of things that are wrong."""
    log = fleet.sandbox.calls
    log.settle()
    calls = log.since()
    wrong: dict[str, list[str]] = {"daemons run": fleet.ended(), "releases": [], "traffic": []}
    outcomes: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for line, traffic in zip(lines, traffics):
        outcomes.update(line.judge_history())
        wrong["releases"] += line.complaints
        wrong["traffic"] += judge_traffic(fleet, line, traffic, totals)
    missed = schedule.never(unrest.plan, unrest.counts)
    wrong["each planned kind happened"] = [f"{one.kind}: planned, and it never happened" for one in missed]
    trace = fleet.trace(calls, unrest.troubles)
    keep(trace, unrest, fleet.directory)
    wrong |= monitor.violations(trace)
    if any(one.lasts >= schedule.OUTAGE for one in unrest.plan):
        wrong["minutes without the tables"] = leases.outages(trace, schedule.OUTAGE)
    wrong["cost of a calm release"] = costs(trace, lines)
    table(outcomes, totals, unrest, fleet, trace, sum(line.begun for line in lines))
    for name, complaints in wrong.items():
        print(f"{'FAIL' if complaints else 'ok  '} {name}" + (f": {len(complaints)}" if complaints else ""))
        for complaint in complaints[:TOLD_MAX]:
            print(f"       {complaint}")
    return sum(len(complaints) for complaints in wrong.values())


def keep(trace: Trace, unrest: Unrest, directory: Path) -> None:
    """Writes down beside the call log what it does not tell, so that a find can be judged again."""
    known = {name: getattr(trace, name) for name in ("lives", "ties", "troubles", "steady")}
    known |= {"services": [vars(one) for one in trace.services]}
    (directory / "unrest.json").write_text(json.dumps(known, indent=1))


def judge_traffic(fleet: Fleet, line: Line, traffic: Traffic, totals: Counter[str]) -> list[str]:
    """Failed, leaked and strange answers of one service."""
    log, service = fleet.sandbox.calls, line.subject.service
    requests = traffic.requests()
    verdict = judge.judge(requests, writes(log, service), placements(log, service), schedule.PROPAGATION)
    by_bad = [one for one in verdict.failed if one.revision in line.bad]
    failed = [one for one in verdict.failed if one.revision not in line.bad]
    totals.update(
        requests=len(requests),
        failed=len(failed),
        leaked=len(verdict.leaks),
        strange=len(verdict.strangers),
        **{"served by a bad revision with weight": len(by_bad), "judged at weight 0": verdict.judged_at_zero},
    )
    found = [f"{line.name}: failed: {one}" for one in failed[:TOLD_MAX]]
    found += [f"{line.name}: leaked: {one}" for one in verdict.leaks[:TOLD_MAX]]
    found += [f"{line.name}: strange: {one}" for one in verdict.strangers[:TOLD_MAX]]
    if not requests:
        found.append(f"{line.name}: no traffic, so nothing is proved")
    return found


def costs(trace: Trace, lines: list[Line]) -> list[str]:
    """Mutating calls of releases that nobody disturbed: no others than needed, and without need none twice.

    A busy machine may keep an answer longer than a daemon waits; then it repeats the same absolute write. It is told
    from a daemon that writes twice by habit: that one does it in every release.
    """
    found, whole = [], []
    for line in lines:
        bound = next(one for one in trace.services if one.name == line.name)
        for calm in line.calm:
            calls = [call for call in trace.moves(bound) if calm.after < call.seq <= calm.until]
            different = {(call.operation, call.resource, str(weights(call))) for call in calls}
            whole.append(len(calls) == calm.calls)
            if len(different) != calm.calls:
                found.append(f"{line.name}: {len(different)} different mutating calls, not {calm.calls}")
    if not any(whole):
        found.append("every undisturbed release made a call twice")
    return found


def table(
    outcomes: Counter[str], totals: Counter[str], unrest: Unrest, fleet: Fleet, trace: Trace, begun: int
) -> None:
    """What was done and what came of it."""
    rows = [("releases begun", begun), *sorted(outcomes.items())]
    rows += [(f"disturbance: {name}", count) for name, count in sorted(unrest.counts.items())]
    rows += [(f"fault hits: {name}", count) for name, count in sorted(unrest.hits.items())]
    rows += sorted(totals.items())
    known = leases.takes(trace.calls)
    rows.append(("epochs", len(known)))
    rows.append(("mutating calls", len(trace.moves())))
    lost = leases.failovers(trace)
    took = sorted(one.taken - one.lost for one in lost if one.taken)
    rows.append(("leases lost with their owner", len(lost)))
    width = max(len(name) for name, _ in rows)
    for name, count in rows:
        print(f"  {name:<{width}}  {count}")
    if took:
        most = max(one.chance for one in lost)
        print(
            f"  failover p50 {median(took):.1f} s, max {max(took):.1f} s, undisturbed at most {most:.1f} of "
            f"{leases.FAILOVER:g} s; the lease is {schedule.LEASE_TTL:g} s"
        )


def interrupted(*_: object) -> None:
    """Ends as after Ctrl-C, so that every child process is ended."""
    raise KeyboardInterrupt


def main() -> int:
    options = arguments()
    options.faketime = options.faketime or found_faketime()
    if "jump" in options.kinds.split(",") and not options.faketime:
        print("libfaketime is not there (Debian: faketime): no clock jumps", file=sys.stderr)
        options.kinds = ",".join(kind for kind in options.kinds.split(",") if kind != "jump")
    signal.signal(signal.SIGTERM, interrupted)
    if not monitor_is_sound():
        return 1
    directory = Path(tempfile.mkdtemp(prefix="pointsman-chaos-"))
    print(
        f"seed {options.seed}: {options.replicas} replicas, {options.services} services, {options.releases} releases, "
        f"{options.seconds:g} s of disturbances, {options.errors} % errors, {options.throttle} % throttled"
    )
    wrong = 1
    try:
        wrong = run(options, directory)
    finally:
        if wrong or options.keep:
            print(f"logs: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    print("all held" if not wrong else f"{wrong} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
