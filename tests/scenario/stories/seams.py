"""Where other hands and late packets meet a release."""

from __future__ import annotations

from harness import LEASE_TTL, PROPAGATION, check, holds_for, until
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
    held = world.sandbox.arm("ModifyRule", "hold", containing=subject.service.production, count=1)
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


@story("a weight write whose answer was lost, and which lands after the next step's, is put back and is no person's hand")
def late_step(stage: Stage) -> str:
    world = stage.running("latestep")
    subject = world.subject(
        "latestep",
        strategies={"canary": {"canary": {"weight": 10, "bake": "1s"}}},
        releaseMayChoose=["canary"],
        bake="15s",
        waits={"propagation": f"{PROPAGATION:g}s", "quiet": "1s", "quietAfterUnknown": "30s"},
    )
    stable, candidate = subject.first_release(), subject.revision()
    held = world.sandbox.arm("ModifyRule", "hold", containing=subject.service.production, count=1)
    with subject.steady_traffic(rate=100) as traffic:
        request = subject.desire(candidate)
        until("the first step's write is on its way", lambda: world.sandbox.hits(held), 60)
        # The daemon gives it up, repeats it, and goes on to the next step.
        subject.await_phase("Baking", weight=100)
        world.sandbox.disarm(held)
        until("the late write took effect", lambda: stable in subject.shares(), 10)
        until("it is put back", lambda: subject.region.serving(subject.service) == candidate, 20)
        outcome = subject.await_outcome(request)
        check(outcome["outcome"] == "Succeeded", f"a write of its own should not end the release: {outcome}")
    verdict = subject.judge(traffic)
    check(not verdict.failed and not verdict.strangers, "; ".join(verdict.complaints()))
    return f"{verdict.requests} requests, none failed"


@story("with DynamoDB dead, a daemon that lost its lease by that takes a burning release back, and records it afterwards")
def dead_table(stage: Stage) -> str:
    world = stage.running("deadtable")
    strategies = {"canary": {"canary": {"weight": 10, "bake": "40s"}}}
    subject = world.subject("deadtable", strategies=strategies, releaseMayChoose=["canary"])
    stable, bad = subject.first_release(), subject.revision(ERROR_RATE="100")
    with subject.steady_traffic() as traffic:
        request = subject.desire(bad)
        subject.await_phase("Baking", weight=10)
        dead = [
            world.sandbox.arm("*", "resetBefore", service=service, accessKey=world.daemon.access_key)
            for service in ("dynamodb", "dynamodbstreams")
        ]
        mark = subject.mark()
        until("traffic is back", lambda: subject.region.serving(subject.service) == stable, 60)
        holds_for("it stays back", lambda: subject.region.serving(subject.service) == stable, LEASE_TTL)
        moves = subject.moves(mark)
        check([move.operation for move in moves] == ["ModifyRule"], f"it should make one write and no more: {moves}")
        check(subject.status().get("phase") == "Baking", "nothing can be recorded while the table is dead")
        for rule in dead:
            world.sandbox.disarm(rule)
        outcome = subject.await_outcome(request)
        check(outcome["outcome"] == "RolledBack", f"it should be recorded as rolled back: {outcome}")
        subject.await_settled()
    said = outcome["message"]
    watching = subject.service.alarms.values()
    check("EmergencyRollback" in said and any(name in said for name in watching), f"it should say why: {said}")
    left = [one["taskDefinition"].rpartition("/")[2] for one in subject.region.task_sets(subject.service)]
    check(left == [stable], f"only the task set of {stable} should be left: {left}")
    verdict = subject.judge(traffic)
    others = [one for one in verdict.failed if one.revision != bad]
    check(not others and not verdict.leaks and not verdict.strangers, "; ".join(verdict.complaints()))
    waited = moves[0].began - max(one.ended for one in subject.production_writes() if one.seq <= mark)
    return f"back {waited:.0f} s after the step that burnt, by one write"


def _landed(subject) -> bool:
    return any("hold" in call.faults and call.done for call in subject.moves())
