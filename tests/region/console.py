"""Runs the commands that `docs/sandbox.md` shows, with the `aws` program, against a sandbox of its own.

In the page, a block that begins with `<!-- console -->` holds commands (after `$ `, continued after `\\`) and what they
print. Without `--write` the page must say what the commands print now; with it the page is written anew.
What differs from run to run is replaced by a fixed word before the comparison: ids, times, ports.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import SPEED, sandbox  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- console -->\n```console\n)(.*?)(```\n)", re.DOTALL)
#: A command and its answer may take this long, in seconds.
PATIENCE = 60
#: What is different in every run, and the word that stands for it.
CHANGES = (
    (re.compile(r"ecs-svc/\d+"), "ecs-svc/<id>"),
    (re.compile(r"/[0-9a-f]{16}\b"), "/<id>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)"), "<time>"),
)


def commands(block: str) -> list[str]:
    """The commands of a block, each as it stands."""
    found: list[str] = []
    more = False
    for line in block.splitlines():
        if line.startswith("$ ") and not more:
            found.append(line[2:])
        elif more:
            found[-1] += "\n" + line
        more = line.endswith("\\") and (more or line.startswith("$ "))
    return found


def tell(block: str, environment: dict[str, str]) -> str:
    """The block with what its commands print; they share one shell."""
    mark = "--- end of a command ---"
    script = "".join(f"{{ {command}\n}} 2>&1\necho '{mark}'\n" for command in commands(block))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE * len(commands(block)),
        cwd=ROOT,
    )
    answers = done.stdout.split(mark + "\n")
    if done.returncode != 0:
        raise SystemExit(f"a command of docs/sandbox.md failed:\n{answers[-1]}{done.stderr}")
    told = ""
    for command, answer in zip(commands(block), answers):
        for pattern, word in CHANGES:
            answer = pattern.sub(word, answer)
        told += f"$ {command}\n" + "".join(f"{line.rstrip()}\n" for line in answer.splitlines() if line.strip())
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the commands of docs/sandbox.md.")
    parser.add_argument("--pointsman", type=Path, required=True, help="the program whose sandbox is started")
    parser.add_argument("--write", action="store_true", help="write what they print into the page")
    options = parser.parse_args()
    page = ROOT / "docs" / "sandbox.md"
    before = page.read_text()
    with sandbox(options.pointsman, SPEED) as url:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        environment.update(
            PATH=f"{Path(sys.executable).parent}:{environment['PATH']}",
            AWS_ENDPOINT_URL=url,
            AWS_DEFAULT_REGION="eu-central-1",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_EC2_METADATA_DISABLED="true",
            AWS_PAGER="",
        )
        after, blocks = BLOCK.subn(lambda found: found[1] + tell(found[2], environment) + found[3], before)
    if not blocks:
        raise SystemExit("docs/sandbox.md has no console block")
    if options.write:
        page.write_text(after)
    elif after != before:
        import difflib

        shown = difflib.unified_diff(before.splitlines(), after.splitlines(), "docs/sandbox.md", "now", lineterm="")
        print("\n".join(shown))
        print("FAIL the page does not say what its commands print; run console.py --write")
        return 1
    print(f"ok   {blocks} block of commands, {len(commands(''.join(b[1] for b in BLOCK.findall(after))))} commands")
    return 0


if __name__ == "__main__":
    sys.exit(main())
