"""What developers ask for meanwhile: releases that are good, bad, overtaken, given up, taken back."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Callable, Optional

from harness import check, until
from region import NAMESPACE, item, document
from schedule import CALM, OUTAGE, PROPAGATION, QUIET_AFTER_UNKNOWN, STORM
from subject import Subject

#: For one release with all its disturbances, in seconds. Whoever waits longer has found a release that does not end. In a long
#: run a storm with its calm is under faults and the next one is not; a release that just missed one of those may pause for a
#: minute (`response::longest_pause`) into the next, and is through in the third.
RELEASE_TIMEOUT = OUTAGE + 3 * 2 * (STORM + CALM)
#: Watched time for a candidate to come up; shorter for one that never will.
PREPARE, PREPARE_IN_VAIN = "120s", "6s"
#: Calls of a first release that can change something: create, test route, weight, primary.
FIRST_CALLS = 4
#: Those of a two-step canary: create, test route, weight, weight, primary, and the delete of the version before.
CANARY_CALLS = 6
#: History items read of one service.
HISTORY_MAX = 1_000

#: Kinds of releases and how often each comes up, relative to the others.
KINDS = {
    "good": 5,
    "bad": 3,
    "stillborn": 1,
    "superseded": 2,
    "aborted": 1,
    "editedBack": 1,
    "returned": 1,
    "deleted": 1,
}


@dataclass(frozen=True)
class Order:
    """One release to come."""

    kind: str
    #: Before the second of two edits, in seconds.
    delay: float


def orders(seed: int, service: int, count: int) -> list[Order]:
    """What happens to a service, by the seed alone."""
    rng = random.Random(f"{seed}/{service}")
    kinds, weights = list(KINDS), list(KINDS.values())
    return [Order(rng.choices(kinds, weights)[0], round(rng.uniform(0.0, 8.0), 2)) for _ in range(count)]


def specification(subject: Subject) -> dict:
    """What differs from the stories' record: shorter waits, and deadlines that only a dead release reaches."""
    deadlines = {"start": "120s", "prepare": PREPARE, "capacity": "120s", "weightWrite": "120s"}
    return {
        "strategies": {
            "quick": {"canary": {"weight": 20, "bake": "1s"}},
            # Long enough for a period of metrics and the evaluation of an alarm.
            "slow": {"canary": {"weight": 20, "bake": "8s"}},
            "paused": {"steps": [{"weight": 20, "bake": "1s"}, {"pause": {"timeout": "10m"}}]},
        },
        "defaultStrategy": "quick",
        "releaseMayChoose": ["quick", "slow", "paused"],
        "testHold": "200ms",
        "bake": "2s",
        "retention": "3s",
        "deadlines": {**deadlines, "primary": "120s", "cleanup": "240s"},
        "waits": {
            "propagation": f"{1000 * PROPAGATION:.0f}ms",
            "quiet": "500ms",
            "quietAfterUnknown": f"{QUIET_AFTER_UNKNOWN:g}s",
        },
    }


@dataclass(frozen=True)
class Expected:
    """What must have come of a request."""

    kind: str
    revision: str
    outcomes: tuple[str, ...]
    #: An edit that was overtaken before any daemon saw it leaves no trace.
    may_be_unseen: bool = False


@dataclass(frozen=True)
class Calm:
    """A release that nobody disturbed."""

    #: Records of the call log before it and at its end.
    after: int
    until: int
    #: How many calls that can change something it takes.
    calls: int


@dataclass
class Line:
    """One service and its releases, one after the other."""

    subject: Subject
    stable: str = ""
    #: Revisions that answer with errors.
    bad: set[str] = field(default_factory=set)
    expected: dict[str, Expected] = field(default_factory=dict)
    begun: int = 0
    calm: list[Calm] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the service."""
        return self.subject.name

    def manage(self, prepare: str = PREPARE) -> None:
        """Writes the `ManagedService` record."""
        changes = specification(self.subject)
        changes["deadlines"]["prepare"] = prepare
        self.subject.manage(**changes)

    def prepare(self, calm: bool) -> None:
        """A first version; if `calm`, a canary too. Nobody disturbs them, so that their calls can be counted."""
        self.manage()
        self._counted(self._first, FIRST_CALLS)
        if calm:
            self._counted(self._canary, CANARY_CALLS)

    def _counted(self, release: Callable[[], None], calls: int) -> None:
        mark = self.subject.mark()
        release()
        self.calm.append(Calm(mark, self.subject.mark(), calls))

    def _first(self) -> None:
        self.stable = self._new()
        self._finish(self._ask("good", self.stable, ("Succeeded",)))

    def _canary(self) -> None:
        self.good(0.0)
        self.subject.await_settled(RELEASE_TIMEOUT)

    def run(self, todo: list[Order], stop: threading.Event) -> None:
        """Carries orders out until there are none, or it is time to stop."""
        acts: dict[str, Callable[[float], None]] = {
            "good": self.good,
            "bad": self.bad_one,
            "stillborn": self.stillborn,
            "superseded": self.superseded,
            "aborted": self.aborted,
            "editedBack": self.edited_back,
            "returned": self.returned,
            "deleted": self.deleted,
        }
        for order in todo:
            if stop.is_set():
                return
            self.begun += 1
            try:
                acts[order.kind](order.delay)
            except AssertionError as failed:
                # The next release would only suffer from this one.
                self.complaints.append(f"{self.name}, {order.kind}: {failed}")
                return

    def finish(self) -> None:
        """At the end everything is as desired, with nothing left over."""
        try:
            self.subject.await_settled(RELEASE_TIMEOUT)
        except AssertionError as failed:
            self.complaints.append(f"{self.name} does not settle: {failed}")
            return
        serving = self.subject.region.serving(self.subject.service)
        if serving != self.stable:
            self.complaints.append(f"{self.name} should end with {self.stable}, it serves {serving}")

    # --- kinds

    def _new(self, **faults: str) -> str:
        return self.subject.revision(**faults)

    def _ask(self, kind: str, revision: str, outcomes: tuple[str, ...], unseen: bool = False, **changes: str) -> str:
        request = self.subject.desire(revision, **changes)
        self.expected[request] = Expected(kind, revision, outcomes, unseen)
        return request

    def _finish(self, request: str) -> dict:
        outcome = self.subject.await_outcome(request, RELEASE_TIMEOUT)
        expected = self.expected[request].outcomes
        check(outcome["outcome"] in expected, f"should be {' or '.join(expected)}: {outcome}")
        return outcome

    def good(self, _: float) -> None:
        """A sound version comes."""
        revision = self._new()
        self._finish(self._ask("good", revision, ("Succeeded",), strategy="quick"))
        self.stable = revision

    def bad_one(self, _: float) -> None:
        """A version that answers with errors goes back by its alarm."""
        revision = self._new(ERROR_RATE="100")
        self.bad.add(revision)
        outcome = self._finish(self._ask("bad", revision, ("RolledBack",), strategy="slow"))
        check(outcome["reason"] == "Alarm", f"the alarm should have been the reason: {outcome}")

    def stillborn(self, _: float) -> None:
        """A version that is never healthy fails without traffic."""
        self.manage(prepare=PREPARE_IN_VAIN)
        self._finish(self._ask("stillborn", self._new(UNHEALTHY="true"), ("Failed",)))
        self.manage()

    def superseded(self, delay: float) -> None:
        """A newer request overtakes one that is under way."""
        overtaken, revision = self._new(), self._new()
        self._ask("superseded", overtaken, ("Superseded", "Succeeded"), unseen=True, strategy="slow")
        time.sleep(delay)
        self._finish(self._ask("superseding", revision, ("Succeeded",), strategy="quick"))
        self.stable = revision

    def aborted(self, delay: float) -> None:
        """An operator gives a release up."""
        revision = self._new()
        request = self._ask("aborted", revision, ("RolledBack", "Failed"), strategy="paused")

        def started() -> Optional[str]:
            release = self.subject.release()
            return release.get("id") if (release.get("to") or {}).get("revision") == revision else None

        release = until(f"{request} starts; {self.name}", started, RELEASE_TIMEOUT)
        time.sleep(delay)
        self.subject.command("abort", release)
        self._finish(request)

    def edited_back(self, delay: float) -> None:
        """The developer writes the old version again before the new one is through."""
        revision, before = self._new(), self.stable
        self._ask("editedBack", revision, ("Superseded", "Succeeded"), unseen=True, strategy="slow")
        time.sleep(delay)
        self._back_to(before)

    def returned(self, _: float) -> None:
        """The developer writes the old version again after the new one is through."""
        before = self.stable
        self.good(0.0)
        self._back_to(before)
        self.stable = before

    def _back_to(self, revision: str) -> None:
        request = self._ask("back", revision, ("Succeeded",), unseen=True, strategy="quick")

        def back() -> bool:
            status = self.subject.status()
            seen = (status.get("observed") or {}).get("requestId") == request
            resting = status.get("phase") in ("Settled", "CleaningUp")
            return seen and resting and self.subject.region.serving(self.subject.service) == revision

        self.subject.waiting(lambda: until(f"{self.name} is back at {revision}", back, RELEASE_TIMEOUT))

    def deleted(self, delay: float) -> None:
        """The record goes away while its release is under way."""
        revision = self._new()
        request = self._ask("deleted", revision, ("RolledBack", "Failed", "Superseded"), strategy="paused")
        self.subject.await_seen(request, RELEASE_TIMEOUT)
        time.sleep(delay)
        self.subject.delete_desired()
        self._finish(request)

    # --- what came of it

    def judge_history(self) -> dict[str, int]:
        """Compares the history items with what was expected; returns how many ended how."""
        region, tables = self.subject.region, self.subject.tables
        key = {":pk": f"history#{NAMESPACE}/{self.name}"}
        answer = region.dynamodb.query(
            TableName=tables.state,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=item(key),
            ConsistentRead=True,
            Limit=HISTORY_MAX,
        )
        ended: dict[str, list[str]] = {}
        for one in answer["Items"]:
            told = document(one)
            ended.setdefault(str(told.get("requestId")), []).append(str(told.get("outcome")))
        counts: dict[str, int] = {}
        for request, expected in self.expected.items():
            outcomes = ended.get(request, [])
            for outcome in outcomes:
                counts[f"{expected.kind} {outcome}"] = counts.get(f"{expected.kind} {outcome}", 0) + 1
            if not outcomes and not expected.may_be_unseen and not self.complaints:
                self.complaints.append(f"{request} ({expected.kind}) has no history item")
            wrong = set(outcomes) - set(expected.outcomes)
            if wrong or len(outcomes) > 1:
                self.complaints.append(f"{request} ({expected.kind}) ended as {outcomes}, not {expected.outcomes}")
        return counts
