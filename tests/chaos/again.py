"""Judges the calls of a run once more, from the logs that `--keep` or a failure kept.

    python tests/chaos/again.py DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scenario")]

import monitor  # noqa: E402
from harness import OUR_KEY, Call, CallLog  # noqa: E402
from seen import Bound, Life, Tie, Trace, Trouble  # noqa: E402


def calls(log: Path) -> list[Call]:
    """The calls that can change something."""
    records = (json.loads(line) for line in log.read_text().splitlines())
    return [CallLog.call(record) for record in records if record["mutating"]]


def trace(directory: Path) -> Trace:
    """What the monitor was shown."""
    known = json.loads((directory / "unrest.json").read_text())
    return Trace(
        calls(directory / "sandbox-calls.jsonl"),
        [Bound(**one) for one in known["services"]],
        OUR_KEY,
        [Life(*one) for one in known["lives"]],
        [Tie(*one) for one in known["ties"]],
        [Trouble(*one) for one in known["troubles"]],
        known["steady"],
    )


def main() -> int:
    wrong = 0
    for name, complaints in monitor.violations(trace(Path(sys.argv[1]))).items():
        wrong += len(complaints)
        print(f"{'FAIL' if complaints else 'ok  '} {name}" + (f": {len(complaints)}" if complaints else ""))
        for complaint in complaints:
            print(f"       {complaint}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
