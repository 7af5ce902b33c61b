"""Holds an AWS endpoint to what AWS's documents say, case by case; one line each.

Without `--endpoint` it starts a sandbox of its own from `--pointsman` and asks everything. Against another
endpoint it asks what needs nothing but an API; `--with` adds what that endpoint has beside it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent))

from botocore.exceptions import BotoCoreError, ClientError  # noqa: E402

import quotes  # noqa: E402
from deviations import KNOWN  # noqa: E402
from aws import Aws, Endpoint  # noqa: E402
from suite import NEEDS, Case, Failed  # noqa: E402

#: Asked unless other files are named.
FILES = ("ecs", "elbv2", "elbv2_limits", "network", "balancing", "cloudwatch", "dynamodb", "functions", "messages", "protocols")
#: How many times faster than AWS the sandbox goes: a period of 60 s takes 1 s.
SPEED = 60


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Holds an AWS endpoint to what AWS's documents say.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--pointsman", type=Path, help="the program whose sandbox is started")
    where.add_argument("--endpoint", help="an endpoint that runs already")
    parser.add_argument("--speed", type=float, help=f"how many times faster than AWS it goes (own sandbox: {SPEED})")
    parser.add_argument("--only", metavar="WORDS", default="", help="only cases whose line contains this")
    parser.add_argument("--list", action="store_true", help="list the cases with the sentences they hold, and end")
    parser.add_argument("--files", default=",".join(FILES), metavar="NAME,…", help="files of rules/ (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=16, help="cases asked side by side (default 16)")
    parser.add_argument(
        "--with", dest="has", default="", metavar="WHAT,…", help=f"what another endpoint has: {', '.join(NEEDS)}"
    )
    chosen = parser.parse_args()
    if not (chosen.list or chosen.pointsman or chosen.endpoint):
        parser.error("one of --pointsman, --endpoint and --list is needed")
    return chosen


def cases(files: str) -> list[Case]:
    """All cases of these files."""
    return [case for name in files.split(",") for case in importlib.import_module(f"rules.{name}").CASES]


def _interrupted(*_: object) -> None:
    """Ends as after Ctrl-C, so that every child process is ended."""
    raise KeyboardInterrupt


@contextmanager
def sandbox(pointsman: Path, speed: float, *more: str) -> Iterator[str]:
    """A sandbox process of its own; its endpoint."""
    signal.signal(signal.SIGTERM, _interrupted)
    command = [str(pointsman.resolve(strict=True)), "sandbox", "--port", "0", "--speed", f"{speed:g}", *more]
    with tempfile.TemporaryFile("w+") as log:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            yield _endpoint_of(child, log)
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()


def _endpoint_of(child: subprocess.Popen, log: object) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and child.poll() is None:
        log.seek(0)
        for word in log.read().split():
            if word.startswith("AWS_ENDPOINT_URL="):
                return word.partition("=")[2]
        time.sleep(0.05)
    log.seek(0)
    raise SystemExit(f"the sandbox did not start:\n{log.read()}")


def ask(case: Case, endpoint: Endpoint, known: dict[str, str]) -> str:
    """Asks one case and prints its line; `ok`, `FAIL`, or `dev` for a failure that is known."""
    began, aws = time.monotonic(), Aws(endpoint)
    try:
        said, passed = case.check(aws) or "", True
    except Failed as failure:
        said, passed = str(failure), False
    except (ClientError, BotoCoreError) as error:
        said, passed = f"{type(error).__name__}: {error}", False
    except Exception as error:  # A case may fail in any way; the others go on.
        said, passed = repr(error), False
    finally:
        aws.end()
    took = time.monotonic() - began
    result = "ok" if passed else "FAIL"
    if case.title in known:
        result = "FAIL" if passed else "dev"
        said = "it passes and stands in deviations.py" if passed else f"{known[case.title]} ({said})"
    line = f"{result:4} {case.title} [{took:.1f} s] {' '.join(said.split())}".rstrip()
    if result != "ok":
        line += f"\n     {case.source}: “{case.quote}”"
    # One write, so that lines of two threads do not mix.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    return result


def ask_all(chosen: list[Case], endpoint: Endpoint, jobs: int, known: dict[str, str]) -> list[str]:
    """Asks all cases side by side, the longest first: those with tasks, alarms and traffic."""
    ordered = sorted(chosen, key=lambda case: -len(case.needs))
    with ThreadPoolExecutor(jobs) as pool:
        asked = [pool.submit(ask, case, endpoint, known) for case in ordered]
        return [one.result() for one in as_completed(asked)]


def main() -> int:
    options = arguments()
    chosen = [case for case in cases(options.files) if options.only.lower() in case.title.lower()]
    if not chosen:
        print(f"no case's line contains {options.only!r}", file=sys.stderr)
        return 2
    if options.list:
        for case in chosen:
            print(f"{case.title}\n     {case.source}: “{case.quote}”")
        print(f"{len(chosen)} cases")
        return 0
    looked_up, wrong = quotes.complaints(chosen)
    print(f"{'FAIL' if wrong else 'ok  '} quotations: {looked_up} looked up in the API models. {' '.join(wrong)}".rstrip())
    began, able = time.monotonic(), chosen
    if options.pointsman:
        speed = options.speed or SPEED
        with sandbox(options.pointsman, speed) as url:
            results = ask_all(able, Endpoint(url, speed), options.jobs, KNOWN)
    else:
        has = set(filter(None, options.has.split(",")))
        able = [case for case in chosen if case.needs <= has]
        endpoint = Endpoint(options.endpoint, options.speed or 1)
        endpoint.find_subnets()
        results = ask_all(able, endpoint, options.jobs, {})
    failed = results.count("FAIL") + bool(wrong)
    words = [f"{results.count('ok') + (not wrong)} passed", f"{failed} failed"]
    if "dev" in results:
        words.append(f"{results.count('dev')} known deviations")
    if len(able) < len(chosen):
        words.append(f"{len(chosen) - len(able)} not asked: they need more than an API")
    print(f"{', '.join(words)} [{time.monotonic() - began:.0f} s]")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
