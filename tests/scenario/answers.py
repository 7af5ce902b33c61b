"""What the status API answers while stories are told: asked for all the time, held to the program's own schemas."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, Optional

from jsonschema import Draft202012Validator, FormatChecker

from harness import Process, check, seconds

#: Between two requests to one daemon, in seconds.
ASK_EVERY = 0.5
#: For one answer, in seconds.
ANSWER_TIMEOUT = 5.0
#: Requests to one daemon; at two a second this is longer than any story takes.
REQUESTS_MAX = 2_000
#: Services to a page; small, so that a fleet needs several.
PAGE_LIMIT = 2
#: Pages followed by their cursors, and services asked for, in one round.
PAGES_MAX = 10
SERVICES_MAX = 3
#: For the pollers to end, once their daemons have.
END_TIMEOUT = 2 * ANSWER_TIMEOUT
#: Violations told; all are counted.
TOLD_MAX = 5

#: Schema of an answer by what was asked for. Each must be seen, or the run proves nothing about it.
SCHEMAS = {
    "index": "api-index",
    "healthz": "api-health",
    "readyz": "api-health",
    "services": "api-services",
    "service": "api-service",
    "history": "api-history",
    "unknown path": "api-error",
    "unknown service": "api-error",
}
#: The status within an answer is the status item's own, so it fits this one too.
STATUS_SCHEMA = "release-status"
ERROR_SCHEMA = "api-error"

_ADDRESS = re.compile(r"\bapi=(127\.0\.0\.1:\d+)")
_formats = FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_date_time(value: Any) -> bool:
    return not isinstance(value, str) or seconds(value) > 0


class Answers:
    """Judges answers by the schemas that the program prints, and keeps count."""

    def __init__(self, pointsman: Path):
        names = [name for name in _printed(pointsman).split() if name.startswith("api-")]
        strange = set(names) ^ set(SCHEMAS.values())
        check(not strange, f"these schemas of the status API are printed or asked for, but not both: {strange}")
        self._validators = {name: _validator(_printed(pointsman, name)) for name in [*names, STATUS_SCHEMA]}
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._violations: list[str] = []
        self._threads: list[threading.Thread] = []

    def watch(self, process: Process) -> None:
        """Asks this daemon again and again until it ends."""
        thread = threading.Thread(target=self._ask, args=(process,), name=f"api-{process.name}", daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def verdict(self) -> tuple[int, list[str]]:
        """After the daemons' end: how many answers were judged, and what was wrong."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(timeout=END_TIMEOUT)
        with self._lock:
            complaints = self._violations[:TOLD_MAX]
            if len(self._violations) > TOLD_MAX:
                complaints.append(f"and {len(self._violations) - TOLD_MAX} more")
            unseen = [kind for kind in SCHEMAS if not self._seen[kind]]
            if unseen:
                complaints.append(f"no answer at all was seen of: {', '.join(unseen)}")
            return sum(self._seen.values()), complaints

    # --- asking

    def _ask(self, process: Process) -> None:
        address = self._address(process)
        paths = self._rounds(address) if address else iter(())
        left = REQUESTS_MAX
        answer: Optional[Any] = None
        try:
            path = next(paths)
            while left and process.running():
                left -= 1
                answer = self._answer(process, address, *path)
                process.ended_within(ASK_EVERY)
                path = paths.send(answer)
        except StopIteration:
            return
        except Exception as failure:  # Whatever is wrong with an answer, the run must hear of it.
            self._complain(f"{process.name}: {path} cannot be judged: {failure!r}; the answer: {answer}")

    @staticmethod
    def _address(process: Process) -> Optional[str]:
        """Where it says that it listens; none when it ends before."""
        while process.running():
            found = _ADDRESS.search(process.log.read_text(errors="replace"))
            if found:
                return found[1]
            process.ended_within(ASK_EVERY)
        return None

    @staticmethod
    def _rounds(address: str) -> Iterator[tuple[str, str]]:
        """What to ask for next; it is sent the answer to the last, or none when there was none."""
        while True:
            services, cursor = [], ""
            for _ in range(PAGES_MAX):
                page = yield "services", f"/v1/services?limit={PAGE_LIMIT}{cursor}"
                services += [f"{one['namespace']}/{one['name']}" for one in (page or {}).get("items", ())]
                if not (page or {}).get("next"):
                    break
                cursor = f"&cursor={urllib.parse.quote(page['next'], safe='')}"
            for service in services[:SERVICES_MAX]:
                yield "service", f"/v1/services/{service}"
                yield "history", f"/v1/services/{service}/history"
            yield "index", "/"
            yield "healthz", "/healthz"
            yield "readyz", "/readyz"
            yield "unknown path", "/v1/nothing-here"
            yield "unknown service", "/v1/services/scenario/never-made"

    def _answer(self, process: Process, address: str, kind: str, path: str) -> Optional[Any]:
        """Asks once and judges; returns a good answer's body."""
        request = urllib.request.Request(f"http://{address}{path}")
        try:
            try:
                answer = urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT)
            except urllib.error.HTTPError as refusal:
                answer = refusal
            with answer:
                status, media, text = answer.status, answer.headers.get_content_type(), answer.read()
        except (OSError, http.client.HTTPException):
            # Stories kill daemons and stop them; no answer is none to judge.
            return None
        if not process.running():
            # Somebody else may have taken its port.
            return None
        complaints = list(self._judge(kind, status, media, text))
        for complaint in complaints:
            self._complain(f"GET {path} ({status}): {complaint}")
        with self._lock:
            # A service may leave before it is asked for: then this is one more unknown service.
            gone = kind in ("service", "history") and status == 404
            self._seen["unknown service" if gone else kind] += 1
        return json.loads(text) if status == 200 and not complaints else None

    def _complain(self, complaint: str) -> None:
        with self._lock:
            self._violations.append(complaint)

    # --- judging

    def _judge(self, kind: str, status: int, media: str, text: bytes) -> Iterator[str]:
        allowed = {"unknown path": {404}, "unknown service": {404}, "service": {200, 404}, "history": {200, 404}}
        if kind in ("healthz", "readyz"):
            allowed[kind] = {200, 503}
        if status not in allowed.get(kind, {200}):
            yield f"the status code is none of {sorted(allowed.get(kind, {200}))}"
        if media != "application/json":
            yield f"the content type is {media}"
        try:
            body = json.loads(text)
        except ValueError as error:
            yield f"not JSON: {error}"
            return
        yield from self._fits(ERROR_SCHEMA if status == 404 else SCHEMAS[kind], body)
        if kind in ("healthz", "readyz") and body.get("ok") != (status == 200):
            yield f"the body says ok={body.get('ok')}"
        if kind == "service" and status == 200 and body.get("service") is not None:
            yield from self._fits(STATUS_SCHEMA, body["service"])

    def _fits(self, schema: str, body: Any) -> Iterator[str]:
        for error in self._validators[schema].iter_errors(body):
            yield f"{error.json_path} does not fit {schema}: {error.message[:300]}"


def _printed(pointsman: Path, *name: str) -> str:
    command = [str(pointsman), "schema", *name]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def _validator(schema: str) -> Draft202012Validator:
    parsed = json.loads(schema)
    Draft202012Validator.check_schema(parsed)
    return Draft202012Validator(parsed, format_checker=_formats)
