"""A test of the test: a load balancer that leaks must be caught."""

from __future__ import annotations

from harness import check, until
from judge import Verdict
from stories import Stage, story
from subject import World

#: One request in a thousand leaks; none in 20,000 would be chance once in 500 million runs.
LEAK_PER_MILLE = 1
JUDGED_MIN = 20_000

#: For all of those requests, on a machine that is busy with other things.
BLAST_TIMEOUT = 300.0


@story("a load balancer that leaks one request in a thousand is caught, and an honest one is not accused")
def leak(stage: Stage) -> str:
    mutant = _judged(stage.sandbox("mutant", leak_per_mille=LEAK_PER_MILLE), JUDGED_MIN)
    check(mutant.leaks, f"not one leak was found in {mutant.judged_at_zero} requests at {LEAK_PER_MILLE} per mille")
    honest = _judged(stage.installation("honest"), JUDGED_MIN // 4)
    check(not honest.complaints(), "; ".join(honest.complaints()))
    return f"{len(mutant.leaks)} leaks in {mutant.judged_at_zero} requests, 0 in {honest.judged_at_zero}"


def _judged(world: World, requests: int) -> Verdict:
    """A version at weight 0 that still runs, and many requests that it must not answer."""
    world.daemon.start()
    # Kept for longer than the traffic lasts.
    subject = world.subject("leakrel", retention="10m")
    subject.first_release()
    subject.release_and_wait(subject.revision(), strategy="whole")
    with subject.steady_traffic(rate=None) as traffic:
        until("enough requests", lambda: traffic.count() > 1.1 * requests, BLAST_TIMEOUT, every=0.5)
    verdict = subject.judge(traffic)
    check(verdict.judged_at_zero >= requests, f"only {verdict.judged_at_zero} requests could be judged")
    world.daemon.end()
    return verdict
