"""Cases: what each one holds, how it is checked, and what a check may use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Optional, TypeVar

from botocore.exceptions import ClientError

T = TypeVar("T")

#: Between two looks at something that is waited for, in seconds.
LOOK_EVERY = 0.05
#: How long a case waits for something that takes seconds in AWS and no time in an emulator.
PATIENCE = 20.0

#: What a case may need beside an endpoint that answers.
NEEDS = {
    "tasks": "tasks really start, register as targets and stop",
    "traffic": "a listener on port P answers HTTP on 127.0.0.1:P",
    "alarms": "alarms are evaluated within seconds",
    "code": "functions really run",
    "sandbox": "the control API of this project's sandbox",
}


class Failed(AssertionError):
    """A case did not hold."""


@dataclass(frozen=True)
class Case:
    """One documented rule."""

    service: str
    name: str
    #: AWS's own sentence.
    quote: str
    #: Where it stands: a member of the API model (`ecs TaskSet.status`), or a page.
    source: str
    needs: frozenset[str]
    check: Callable[[Any], Optional[str]]

    @property
    def title(self) -> str:
        """What `--only` looks at."""
        return f"{self.service}: {self.name}"


class Service:
    """Collects the cases of one service."""

    def __init__(self, name: str):
        self.name = name
        self.cases: list[Case] = []

    def case(self, name: str, quote: str, source: str, needs: Iterable[str] = ()) -> Callable[[Any], Any]:
        """Adds the decorated check."""
        unknown = set(needs) - set(NEEDS)
        assert not unknown, f"unknown needs {unknown}"
        assert name not in {case.name for case in self.cases}, f"two cases are called {name!r}"

        def add(check: Callable[[Any], Optional[str]]) -> Callable[[Any], Optional[str]]:
            self.cases.append(Case(self.name, name, quote, source, frozenset(needs), check))
            return check

        return add


def need(holds: Any, complaint: Any) -> None:
    """Fails the case with this complaint unless it holds."""
    if not holds:
        raise Failed(str(complaint))


def same(found: Any, wanted: Any, what: str = "") -> None:
    """Fails the case unless both are equal."""
    need(found == wanted, f"{what}{': ' if what else ''}{found!r}, not {wanted!r}")


def until(what: str, look: Callable[[], T], patience: float = PATIENCE) -> T:
    """Waits for a true answer and returns it."""
    deadline = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        need(time.monotonic() < deadline, f"not within {patience:g} s: {what}")
        time.sleep(LOOK_EVERY)


def stays(what: str, look: Callable[[], Any], seconds: float) -> None:
    """Fails the case when something stops being true within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        need(look(), f"did not stay so for {seconds:g} s: {what}")
        time.sleep(LOOK_EVERY)


def refused(call: Callable[[], Any], *codes: str, says: str = "", status: int = 400) -> ClientError:
    """The call's error; fails unless its code is one of these, with this HTTP status and these words."""
    try:
        answer = call()
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        message = error.response["Error"].get("Message", "")
        need(code in codes, f"refused with {code} ({message}), not {' or '.join(codes)}")
        need(says.lower() in message.lower(), f"{code} says {message!r}, not {says!r}")
        same(error.response["ResponseMetadata"]["HTTPStatusCode"], status, f"HTTP status of {code}")
        return error
    seen = {key: value for key, value in answer.items() if key != "ResponseMetadata"} if isinstance(answer, dict) else answer
    raise Failed(f"accepted, not refused with {' or '.join(codes)}: {str(seen)[:120]}")
