"""Releases that go well."""

from __future__ import annotations

import time

from harness import check, holds_for, until
from stories import Stage, story
from subject import CLEANUP_TIMEOUT, TaskSetWatch


@story("a first release takes an empty service to its first version")
def first(stage: Stage) -> str:
    subject = stage.running("firstrel").subject("firstrel")
    check(not subject.region.task_sets(subject.service), "the service should begin without task sets")
    revision = subject.first_release()
    with subject.steady_traffic(rate=100) as traffic:
        until("some answers", lambda: traffic.count() > 100, 20)
    answers = {(request.status, request.revision) for request in traffic.requests()}
    check(answers == {(200, revision)}, f"only {revision} should answer, got {answers}")
    creations = [call for call in subject.moves() if call.operation == "CreateTaskSet"]
    check(len(creations) == 1, f"one CreateTaskSet is enough, there were {len(creations)}")
    primary = [one for one in subject.region.task_sets(subject.service) if one["status"] == "PRIMARY"]
    check(len(primary) == 1, "the first version should be PRIMARY")
    subject.await_settled()
    mark = subject.mark()
    holds_for("the settled service stays as it is", lambda: not subject.moves(mark), 3)
    return f"{traffic.count()} answers, then quiet"


@story("a canary goes to Succeeded, each weight with its share, no request failed or leaked")
def canary(stage: Stage) -> str:
    # A bake that brings enough requests for a share also on a busy machine.
    strategies = {"canary": {"canary": {"weight": 10, "bake": "8s"}}}
    subject = stage.running("canaryrel").subject("canaryrel", strategies=strategies, releaseMayChoose=["canary"])
    old = subject.first_release()
    new = subject.revision(START_DELAY="1s", LATENCY="5ms")
    with subject.steady_traffic() as traffic:
        subject.release_and_wait(new)
        subject.await_settled()
    check(subject.region.serving(subject.service) == new, f"{new} should have all weight")
    verdict = subject.judge(traffic)
    check(not verdict.complaints(), "; ".join(verdict.complaints()))
    weights = {share.weight for share in verdict.shares if share.revision == new}
    check(weights == {0.1}, f"the canary should have stood at 10 %, it stood at {weights}")
    by = {revision: sum(one.revision == revision for one in traffic.requests()) for revision in (old, new)}
    check(min(by.values()) > 200, f"both versions should have served: {by}")
    fresh = sum(one.fresh for one in traffic.requests())
    check(0 < fresh < len(traffic.requests()), "some connections should be kept alive and some fresh")
    shares = ", ".join(str(share) for share in verdict.shares if share.revision == new)
    return f"{verdict.requests} requests, {verdict.judged_at_zero} judged at weight 0; {shares}"


@story("editing back to the retained version returns in one weight write, without a new task set")
def retention(stage: Stage) -> str:
    subject = stage.running("retainrel").subject("retainrel", retention="60s")
    old = subject.first_release()
    new = subject.revision()
    subject.release_and_wait(new, strategy="whole")
    check(subject.status()["retained"]["revision"] == old, f"{old} should be kept warm")
    mark = subject.mark()
    with subject.steady_traffic(rate=100) as traffic:
        request = subject.desire(old)
        until("the old version serves", lambda: subject.region.serving(subject.service) == old, 45)
        outcome = subject.await_outcome(request)
    check(outcome["outcome"] == "Succeeded", f"the return should have succeeded: {outcome}")
    verdict = subject.judge(traffic)
    check(not verdict.complaints(), "; ".join(verdict.complaints()))
    created = [call for call in subject.moves(mark) if call.operation == "CreateTaskSet"]
    check(not created, "the return must not need a new task set")
    count = len(subject.production_writes(mark))
    check(count == 1, f"the return should take one weight write, it took {count}")
    return f"{verdict.requests} requests, none failed"


@story("a newer request supersedes the one in flight and succeeds, with never three task sets")
def supersede(stage: Stage) -> str:
    strategies = {"slow": {"canary": {"weight": 10, "bake": "30s"}}, "canary": {"canary": {"weight": 10, "bake": "4s"}}}
    subject = stage.running("supersede").subject(
        "supersede", strategies=strategies, defaultStrategy="canary", releaseMayChoose=["slow", "canary"]
    )
    first = subject.first_release()
    second, third = subject.revision(), subject.revision()
    with subject.steady_traffic(rate=120) as traffic, TaskSetWatch(subject) as watch:
        overtaken = subject.desire(second, strategy="slow")
        subject.await_phase("Baking", weight=10)
        request = subject.desire(third)
        outcome = subject.await_outcome(overtaken)
        check(outcome["outcome"] == "Superseded", f"{second} should be Superseded: {outcome}")
        outcome = subject.await_outcome(request)
        check(outcome["outcome"] == "Succeeded", f"{third} should have succeeded: {outcome}")
    check(watch.most == 2, f"there should be two task sets at most, there were {watch.most}")
    verdict = subject.judge(traffic)
    check(not verdict.leaks and not verdict.strangers and not verdict.failed, "; ".join(verdict.complaints()))
    served = {one.revision for one in traffic.requests()}
    check(served == {first, second, third}, f"all three versions should have served: {served}")
    subject.await_settled(CLEANUP_TIMEOUT)
    return f"{verdict.requests} requests, none failed or leaked"


@story("a pause waits for its promotion by command, and an abort by command goes back")
def commands(stage: Stage) -> str:
    steps = [{"weight": 10, "bake": "1s"}, {"pause": {"timeout": "2m"}}]
    subject = stage.running("commandrel").subject(
        "commandrel", strategies={"paused": {"steps": steps}}, defaultStrategy="paused", releaseMayChoose=["paused"]
    )
    first = subject.first_release()
    second, third = subject.revision(), subject.revision()

    request = subject.desire(second)
    release = subject.await_phase("Paused")["release"]["id"]
    mark = subject.mark()
    shares = subject.shares()
    check(shares == {first: 0.9, second: 0.1}, f"the pause should hold at 10 %, the shares are {shares}")
    command = subject.command("promote", release, step=2)
    outcome = subject.await_outcome(request)
    check(outcome["outcome"] == "Succeeded", f"the promoted release should have succeeded: {outcome}")
    check(len(subject.production_writes(mark)) == 1, "one weight write should be left after the pause")
    _answered(subject, command)

    request = subject.desire(third)
    release = subject.await_phase("Paused")["release"]["id"]
    command = subject.command("abort", release)
    outcome = subject.await_outcome(request)
    check(outcome["outcome"] == "RolledBack", f"the aborted release should be rolled back: {outcome}")
    check(subject.region.serving(subject.service) == second, f"{second} should have all weight again")
    _answered(subject, command)
    return "promote and abort answered Done"


def _answered(subject, command: str) -> None:
    answers = {answer["id"]: answer for answer in subject.status()["commands"]}
    verdict = answers.get(command, {}).get("verdict")
    check(verdict == "Done", f"the command should be answered Done, it is {answers.get(command)}")


@story("eight services of one daemon are released at the same time")
def fleet(stage: Stage) -> str:
    world = stage.running("fleet")
    subjects = [world.subject(f"fleet{number}x") for number in range(8)]
    began = time.monotonic()
    requests = [subject.desire(subject.revision()) for subject in subjects]
    for subject, request in zip(subjects, requests):
        outcome = subject.await_outcome(request)
        check(outcome["outcome"] == "Succeeded", f"{subject.name} should have succeeded: {outcome}")
    return f"in {time.monotonic() - began:.0f} s"
