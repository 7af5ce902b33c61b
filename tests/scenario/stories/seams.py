"""Where other hands and late packets meet a release."""

from __future__ import annotations

from harness import check, holds_for, until
from judge import is_failed
from stories import Stage, story


@story("weight that somebody puts on an empty group is taken back at once, also between releases")
def empty_group(stage: Stage) -> str:
    subject = stage.running("emptygrp").subject("emptygrp")
    stable = subject.first_release()
    subject.await_settled()
    home = subject.group_of(stable)
    away = {"a": 0, "b": 100} if home == "a" else {"a": 100, "b": 0}
    for _ in range(2):
        # As an infrastructure tool does that still believes in the colours of last month.
        actions = subject.region.forward(subject.service.groups, away["a"], away["b"])
        subject.region.elb.modify_rule(RuleArn=subject.service.production, Actions=actions)
        until("the weight is back", lambda: subject.region.serving(subject.service) == stable, 20)
    holds_for("it stays back", lambda: subject.region.serving(subject.service) == stable, 2)
    made = [call for call in subject.moves() if call.operation == "CreateTaskSet"]
    check(len(made) == 1, "no task set is needed for that")
    return "twice"


@story("a weight write of a killed daemon that lands after the rollback leaves nobody on an empty group")
def late_write(stage: Stage) -> str:
    strategies = {"canary": {"canary": {"weight": 10, "bake": "40s"}}}
    world = stage.running("latewrite")
    subject = world.subject("latewrite", strategies=strategies, releaseMayChoose=["canary"])
    stable, candidate = subject.first_release(), subject.revision()
    # The first ModifyRule is the test route's; the second gives the candidate its 10 %.
    held = world.sandbox.arm("ModifyRule", "hold", containing=subject.name, skip=1, count=1)
    with subject.steady_traffic(rate=100) as traffic:
        request = subject.desire(candidate)
        until("the weight write is on its way", lambda: world.sandbox.hits(held), 60)
        world.daemon.kill()
        world.daemon.start()
        subject.await_phase("Baking", weight=10)
        watching = subject.service.alarms[subject.group_of(candidate)]
        subject.region.cloudwatch.set_alarm_state(AlarmName=watching, StateValue="ALARM", StateReason="a story")
        outcome = subject.await_outcome(request)
        check(outcome["outcome"] == "RolledBack", f"it should be rolled back: {outcome}")
        check(subject.region.serving(subject.service) == stable, f"{stable} should have all weight again")
        # Only now the dead daemon's write takes effect.
        world.sandbox.disarm(held)
        until("the late write took effect", lambda: _landed(subject), 10)
        subject.await_settled()
        check(subject.region.serving(subject.service) == stable, f"{stable} should have all weight in the end")
    verdict = subject.judge(traffic)
    failed = [one for one in traffic.requests() if is_failed(one)]
    check(not failed, f"{len(failed)} requests failed, first {failed[:1]}")
    check(not verdict.leaks and not verdict.strangers, "; ".join(verdict.complaints()))
    return f"{verdict.requests} requests, none failed"


def _landed(subject) -> bool:
    return any("hold" in call.faults and call.done for call in subject.moves())
