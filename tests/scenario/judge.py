"""Judges what clients saw against what the load balancer was told. Pure functions over plain data.

The judge knows three things: requests as clients saw them, weight writes as the sandbox logged them, and
which revision was put into which target group. All times are seconds since 1970 on the clock of one host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Iterable, NamedTuple, Optional, Sequence

#: A share further than this from its weight is not chance (1 in 16,000 for a fair balancer).
SIGMAS = 4.0
#: Fewer requests than this say nothing about a share.
SHARE_REQUESTS_MIN = 200


class Request(NamedTuple):
    """One request as its client saw it."""

    start: float
    end: float
    #: HTTP status; 0 when there was no whole answer.
    status: int
    #: `x-revision` of the answer.
    revision: Optional[str]
    #: Whether it opened its own connection.
    fresh: bool
    #: What went wrong on the client's side.
    error: str = ""


class Write(NamedTuple):
    """One weight write on the production rule."""

    #: When it reached the load balancer's API: from here on the old weights may be gone.
    sent: float
    #: When it was acknowledged; `None` when it never was, so that its effect is unknown.
    acked: Optional[float]
    #: Weight by target group.
    weights: dict[str, int]


class Placement(NamedTuple):
    """A revision was put into a target group."""

    revision: str
    group: str


@dataclass(frozen=True)
class Phase:
    """A time in which exactly these weights hold on every node."""

    begin: float
    end: float
    weights: dict[str, int]

    def holds(self, request: Request) -> bool:
        """Whether the whole request lies inside, so that no other weights can have decided it."""
        return request.start > self.begin and request.end < self.end


@dataclass(frozen=True)
class Share:
    """How much of the traffic a revision got in a phase, and how much it should have."""

    revision: str
    weight: float
    requests: int
    answered: int
    fits: bool

    def __str__(self) -> str:
        percent = 100.0 * self.answered / self.requests if self.requests else math.nan
        return f"{self.revision}: {percent:.1f} % of {self.requests} requests at weight {100 * self.weight:g} %"


@dataclass
class Verdict:
    """Everything that was found."""

    requests: int = 0
    #: Requests inside some phase in which some revision stood at weight 0.
    judged_at_zero: int = 0
    leaks: list[Request] = field(default_factory=list)
    #: Answered by a revision that nobody released.
    strangers: list[Request] = field(default_factory=list)
    failed: list[Request] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)

    def complaints(self) -> list[str]:
        """One sentence for each kind of trouble; none when all is well."""
        found = []
        if self.leaks:
            found.append(f"{len(self.leaks)} of {self.judged_at_zero} requests leaked, first {self.leaks[0]}")
        if self.strangers:
            found.append(f"{len(self.strangers)} requests answered by a stranger, first {self.strangers[0]}")
        if self.failed:
            found.append(f"{len(self.failed)} of {self.requests} requests failed, first {self.failed[0]}")
        found.extend(f"share is off: {share}" for share in self.shares if not share.fits)
        return found


def phases(writes: Iterable[Write], propagation: float) -> list[Phase]:
    """The times in which the weights are known: from an acknowledgement plus propagation to the next write.

    The next write is the first that may take effect later, wherever it was sent: while one is under way whose
    answer is not in, nothing is known.
    """
    ordered = list(writes)
    found = []
    for index, write in enumerate(ordered):
        if write.acked is None:
            continue
        later = (
            other.sent
            for place, other in enumerate(ordered)
            if place != index and (other.acked > write.acked if other.acked is not None else other.sent > write.sent)
        )
        begin, end = write.acked + propagation, min(later, default=math.inf)
        if begin < end:
            found.append(Phase(begin, end, write.weights))
    return sorted(found, key=lambda phase: phase.begin)


def _weight_of(revision: str, weights: dict[str, int], placements: Sequence[Placement]) -> float:
    total = sum(weights.values())
    groups = {placed.group for placed in placements if placed.revision == revision}
    return sum(weights.get(group, 0) for group in groups) / total if total else 0.0


def is_failed(request: Request) -> bool:
    """No whole answer, or one that blames the server."""
    return request.status == 0 or request.status >= 400


def judge(
    requests: Sequence[Request],
    writes: Sequence[Write],
    placements: Sequence[Placement],
    propagation: float,
) -> Verdict:
    """Judges a whole trace: leaks, strangers, failures, and the share of every revision in every phase.

    A request that straddles a write belongs to no phase: either weights may have decided it. A revision that
    was put into both groups in the course of time counts as allowed when either has weight.
    """
    known = phases(writes, propagation)
    revisions = sorted({placed.revision for placed in placements})
    verdict = Verdict(requests=len(requests))
    counts = [dict.fromkeys(revisions, 0) for _ in known]
    totals = [0] * len(known)
    zero = [
        {revision for revision in revisions if _weight_of(revision, phase.weights, placements) == 0.0}
        for phase in known
    ]
    for request in requests:
        if is_failed(request):
            verdict.failed.append(request)
        if request.revision is not None and request.revision not in revisions:
            verdict.strangers.append(request)
            continue
        place = next((index for index, phase in enumerate(known) if phase.holds(request)), None)
        if place is None:
            continue
        if zero[place]:
            verdict.judged_at_zero += 1
        if request.revision is None:
            continue
        totals[place] += 1
        counts[place][request.revision] += 1
        if request.revision in zero[place]:
            verdict.leaks.append(request)
    for index, phase in enumerate(known):
        for revision in revisions:
            weight = _weight_of(revision, phase.weights, placements)
            if 0.0 < weight < 1.0:
                verdict.shares.append(share(revision, weight, totals[index], counts[index][revision]))
    return verdict


def share(revision: str, weight: float, requests: int, answered: int) -> Share:
    """Compares a share with its weight, within four standard deviations of a fair balancer."""
    spread = SIGMAS * math.sqrt(requests * weight * (1.0 - weight))
    fits = requests >= SHARE_REQUESTS_MIN and abs(answered - requests * weight) <= spread
    return Share(revision, weight, requests, answered, fits)
