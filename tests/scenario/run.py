"""Tells the stories of pointsman against real processes: a sandbox, a daemon, and this client.

    python tests/scenario/run.py --pointsman target/debug/pointsman [-k WORD] [--jobs N] [--keep]

It knows nothing of the program's code: it sets a region up with boto3, writes records with PutItem, sends its
own traffic, and judges by answers, DescribeRules, DescribeServices, the status item and the call log.
"""

from __future__ import annotations

import argparse
import importlib
import io
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import unittest
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402
import permissions  # noqa: E402
import stories  # noqa: E402

MODULES = ["kills", "hands", "mutant", "seams", "burning", "refusals", "releases"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Black-box acceptance test of pointsman.")
    parser.add_argument("--pointsman", type=Path, required=True, help="the program under test")
    parser.add_argument("-k", metavar="WORD", default="", help="only stories whose name contains this")
    parser.add_argument("--jobs", type=int, default=4, help="stories told side by side (default 4)")
    parser.add_argument("--keep", action="store_true", help="keep the logs of the processes")
    parser.add_argument("--list", action="store_true", help="list the stories and end")
    parser.add_argument("-v", "--verbose", action="store_true", help="show where a story failed")
    return parser.parse_args()


def judge_is_sound() -> bool:
    """The judge's own tests: without them its silence would mean nothing."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(["test_judge", "test_permissions"])
    result = unittest.TextTestRunner(verbosity=0, stream=io.StringIO()).run(suite)
    print(f"{'ok  ' if result.wasSuccessful() else 'FAIL'} the judge flags what it must ({result.testsRun} tests)")
    return result.wasSuccessful()


def tell(story: stories.Story, stage: stories.Stage, verbose: bool) -> bool:
    """Tells one story and prints one line about it."""
    began, scene = time.monotonic(), stage.scene()
    try:
        said, passed = story.tell(scene), True
    except Exception as failure:  # A story may fail in any way; the others go on.
        said, passed = f"{failure}" if isinstance(failure, AssertionError) else f"{failure!r}", False
        if verbose:
            traceback.print_exc()
    finally:
        scene.clear()
    took = time.monotonic() - began
    print(f"{'ok  ' if passed else 'FAIL'} {story.name}: {story.sentence} [{took:.0f} s] {said}", flush=True)
    return passed


def report(name: str, sentence: str, said: str, complaints: list[str]) -> bool:
    """One line about something that held, or not, during all stories."""
    print(f"{'FAIL' if complaints else 'ok  '} {name}: {sentence} {'; '.join(complaints) or said}", flush=True)
    return not complaints


def answers_fit(stage: stories.Stage) -> bool:
    """Judges the answers that daemons gave while they ran."""
    seen, complaints = stage.answers.verdict()
    return report("api", "every answer of the status API fits its schema", f"({seen} answers)", complaints)


def permissions_fit(stage: stories.Stage, whole: bool) -> bool:
    """Judges what daemons called; whether they called everything they may is known only after all stories."""
    called = stage.called_by_daemons()
    said = f"({len({(call.service, call.operation) for call in called})} operations)"
    sentence = "what daemons called is what the template allows, no more" + (" and no fewer" if whole else "")
    return report("permissions", sentence, said, permissions.complaints(called, whole))


def interrupted(*_: object) -> None:
    """Ends as after Ctrl-C, so that every child process is ended."""
    raise KeyboardInterrupt


def main() -> int:
    options = arguments()
    for module in MODULES:
        importlib.import_module(f"stories.{module}")
    chosen = [story for story in stories.ALL.known if options.k in story.name]
    if options.list:
        for story in chosen:
            print(f"{story.name}: {story.sentence}")
        return 0
    if not chosen:
        print(f"no story's name contains {options.k!r}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, interrupted)
    directory = Path(tempfile.mkdtemp(prefix="pointsman-scenario-"))
    stage = stories.Stage(options.pointsman.resolve(strict=True), directory)
    print(
        f"speed {harness.SPEED}, weather {harness.WEATHER}, propagation {harness.PROPAGATION:g} s, lease {harness.LEASE_TTL:g} s, "
        f"{options.jobs} stories side by side"
    )
    results = [judge_is_sound()]
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            told = [pool.submit(tell, story, stage, options.verbose) for story in chosen]
            try:
                results += [one.result() for one in as_completed(told)]
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                stage.clear()
                raise
    finally:
        stage.clear()
    results += [answers_fit(stage), permissions_fit(stage, whole=not options.k)]
    failed = results.count(False)
    if failed or options.keep:
        print(f"logs: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    if left:
        print(f"threads left: {left}", file=sys.stderr)
    print(f"{results.count(True)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
