"""Releases that go badly: alarms, dead candidates, deleted records."""

from __future__ import annotations

from harness import check, holds_for, until
from judge import is_failed
from stories import Stage, story
from subject import Subject


def _all_back(subject: Subject, stable: str, candidate: str, traffic) -> str:
    """All weight is on stable, clients see only stable, and the candidate's task set goes away."""
    check(subject.region.serving(subject.service) == stable, f"{stable} should have all weight again")
    subject.await_settled()
    verdict = subject.judge(traffic)
    check(not verdict.leaks and not verdict.strangers, "; ".join(verdict.complaints()))
    others = [one for one in verdict.failed if one.revision != candidate]
    check(not others, f"only {candidate} should fail requests, but {len(others)} others did: {others[:1]}")
    after = subject.production_writes()[-1].ended + 1.0
    until("traffic after the way back", lambda: any(one.start > after for one in traffic.requests()[-20:]), 10)
    late = {(one.status, one.revision) for one in traffic.requests() if one.start > after}
    check(late == {(200, stable)}, f"after the way back only {stable} should answer, got {late}")
    left = [one["taskDefinition"].rpartition("/")[2] for one in subject.region.task_sets(subject.service)]
    check(left == [stable], f"only the task set of {stable} should be left: {left}")
    served = sum(one.revision == candidate for one in traffic.requests())
    check(served > 0, f"{candidate} was never served, so nothing was proved")
    return f"{candidate} answered {served} of {verdict.requests} requests before"


@story("an alarm that real traffic fired rolls the bad version back")
def alarm(stage: Stage) -> str:
    subject = stage.running("alarmrel").subject("alarmrel")
    stable = subject.first_release()
    # Longer bakes: an alarm needs a period of metrics and its evaluation.
    subject.manage(strategies={"canary": {"canary": {"weight": 10, "bake": "20s"}}}, releaseMayChoose=["canary"])
    bad = subject.revision(ERROR_RATE="100")
    with subject.steady_traffic() as traffic:
        outcome = subject.release_and_wait(bad, "RolledBack")
        said = _all_back(subject, stable, bad, traffic)
    check(outcome["reason"] == "Alarm", f"the reason should be Alarm: {outcome}")
    errors = sum(is_failed(one) and one.revision == bad for one in traffic.requests())
    check(errors > 0, "the bad version should have failed requests")
    latched = subject.release().get("latched") or {}
    check(latched.get("detail") in subject.service.alarms.values(), f"the latch should name the alarm: {latched}")
    return said


@story("an ALARM that came and went while the daemon was away rolls the release back")
def flap(stage: Stage) -> str:
    world = stage.running("flap")
    strategies = {"canary": {"canary": {"weight": 10, "bake": "15s"}}}
    subject = world.subject("flaprel", strategies=strategies, releaseMayChoose=["canary"])
    stable = subject.first_release()
    candidate = subject.revision()
    with subject.steady_traffic(rate=60) as traffic:
        request = subject.desire(candidate)
        subject.await_phase("Baking", weight=10)
        watching = subject.service.alarms[subject.group_of(candidate)]
        world.daemon.end()
        for state in ("ALARM", "OK"):
            subject.region.cloudwatch.set_alarm_state(AlarmName=watching, StateValue=state, StateReason="a flap")
        check(subject.region.alarm_state(watching) == "OK", "the alarm should be OK again")
        world.daemon.start()
        outcome = subject.await_outcome(request)
        check(outcome["outcome"] == "RolledBack", f"the flap should have rolled it back: {outcome}")
        said = _all_back(subject, stable, candidate, traffic)
    world.daemon.end()
    return said


@story("a record deleted in flight brings all weight back to stable")
def deleted(stage: Stage) -> str:
    strategies = {"canary": {"canary": {"weight": 10, "bake": "30s"}}}
    subject = stage.running("deletedrel").subject("deletedrel", strategies=strategies, releaseMayChoose=["canary"])
    stable = subject.first_release()
    candidate = subject.revision()
    with subject.steady_traffic(rate=60) as traffic:
        request = subject.desire(candidate)
        subject.await_phase("Baking", weight=10)
        subject.delete_desired()
        outcome = subject.await_outcome(request)
        expected = ("RolledBack", "Failed")
        check(outcome["outcome"] in expected, f"the outcome should be one of {expected}: {outcome}")
        said = _all_back(subject, stable, candidate, traffic)
    return said


@story("a version that crashes on boot, or is never healthy, fails without production weight")
def stillborn(stage: Stage) -> str:
    subject = stage.running("stillborn").subject("stillborn")
    stable = subject.first_release()
    deadlines = {**subject.managed_service()["spec"]["deadlines"], "prepare": "8s"}
    subject.manage(deadlines=deadlines)
    for faults in ({"CRASH_ON_BOOT": "3"}, {"UNHEALTHY": "true"}):
        candidate, mark, home = subject.revision(**faults), subject.mark(), subject.group_of(stable)
        outcome = subject.release_and_wait(candidate, "Failed")
        with_weight = [
            call
            for call in subject.production_writes(mark)
            if subject.service.group_of(_heaviest(call)) != home
        ]
        check(not with_weight, f"{candidate} must not get production weight: {with_weight}")
        check(outcome["reason"] == "Deadline", f"the reason should be Deadline: {outcome}")
        subject.await_settled()
        serving = subject.region.serving(subject.service)
        check(serving == stable, f"{stable} should serve, not {serving}")
    holds_for("the stable version serves", lambda: subject.region.serving(subject.service) == stable, 1)
    return "both Failed, no production weight"


def _heaviest(call) -> str:
    pair = call.parameters["Actions"][0]["ForwardConfig"]["TargetGroups"]
    return max(pair, key=lambda one: int(one["Weight"]))["TargetGroupArn"]

