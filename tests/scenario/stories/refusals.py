"""What is refused: with code, field and a message that says what to do, and without touching anything."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Callable, Iterator, Union

from harness import OLDEST_READ, check, until
from stories import Stage, story
from subject import Subject

#: For an answer to a record that cannot work; nothing of a release happens before it.
REFUSAL_TIMEOUT = 30.0


@dataclass(frozen=True)
class Case:
    """A record, or a state of the region, that must be refused."""

    name: str
    codes: tuple[str, ...]
    field: str
    #: Changes the record before it is written.
    spoil: Callable[[Subject, dict], None] = lambda _subject, _record: None
    #: Spoils the region for as long as the case lasts.
    around: Callable[[Subject], AbstractContextManager] = lambda _subject: nullcontext()
    #: What the message must also say.
    words: Union[str, tuple[str, ...]] = ()


def _set(field: str, value: object) -> Callable[[Subject, dict], None]:
    return lambda _subject, record: record["spec"].update({field: value})


def _foreign_account(subject: Subject, record: dict) -> None:
    revision = record["spec"]["taskDefinition"]
    record["spec"]["taskDefinition"] = f"arn:aws:ecs:eu-central-1:999999999999:task-definition/{revision}"


def _family_that_exists(subject: Subject, record: dict) -> None:
    record["spec"]["taskDefinition"] = subject.region.register(f"{subject.name}other")


@contextmanager
def _without_alarm(subject: Subject) -> Iterator[None]:
    alarm = subject.service.alarms["a"]
    subject.region.cloudwatch.delete_alarms(AlarmNames=[alarm])
    try:
        yield
    finally:
        subject.region.put_alarm(alarm, subject.service.load_balancer, subject.service.groups["a"])


@contextmanager
def _with_foreign_rule(subject: Subject) -> Iterator[None]:
    elb = subject.region.elb
    answer = elb.create_rule(
        ListenerArn=subject.service.listener,
        Priority=50,
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/elsewhere"]}}],
        Actions=[{"Type": "forward", "TargetGroupArn": subject.service.groups["b"]}],
    )
    time.sleep(OLDEST_READ)
    try:
        yield
    finally:
        elb.delete_rule(RuleArn=answer["Rules"][0]["RuleArn"])


@contextmanager
def _sticky(subject: Subject) -> Iterator[None]:
    elb, rule = subject.region.elb, subject.service.production
    before = elb.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"]
    pair = before[0]["ForwardConfig"]["TargetGroups"]
    sticky = {"TargetGroups": pair, "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60}}
    elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "ForwardConfig": sticky}])
    time.sleep(OLDEST_READ)
    try:
        yield
    finally:
        elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": pair}}])


RELEASE_CASES = [
    Case("an unknown field", ("Malformed",), "spec.weight", _set("weight", 10), words="unknown field"),
    Case("a misspelt field", ("Malformed",), "spec.stratgy", _set("stratgy", "canary"), words="strategy"),
    Case("a number for a text", ("Malformed",), "spec.taskDefinition", _set("taskDefinition", 7)),
    Case("a revision called latest", ("Malformed",), "spec.taskDefinition", _set("taskDefinition", "refused:latest")),
    Case("another family", ("ForeignTaskDefinition",), "spec.taskDefinition", _family_that_exists),
    Case("another account", ("ForeignTaskDefinition",), "spec.taskDefinition", _foreign_account),
    Case("a strategy that may not be chosen", ("StrategyNotAllowed",), "spec.strategy", _set("strategy", "whole")),
    Case("a strategy that does not exist", ("StrategyNotAllowed",), "spec.strategy", _set("strategy", "fastest")),
    Case("a request id that is too long", ("OutOfBounds",), "spec.requestId", _set("requestId", "x" * 65)),
    Case("an unknown revision", ("TaskDefinitionUnfit",), "spec.taskDefinition", _set("taskDefinition", "refused:99")),
    Case("an alarm that is missing", ("AlarmMissing",), "spec.alarms", around=_without_alarm, words="refused-a-5xx"),
    Case("a foreign rule on a group", ("GroupUsedElsewhere",), "spec.targetGroups", around=_with_foreign_rule),
    Case("a sticky route", ("Sticky",), "spec.routes", around=_sticky),
]


@story("what cannot work is refused by code and field, touches nothing, and the next valid record succeeds")
def refusals(stage: Stage) -> str:
    subject = stage.running("refused").subject("refused", releaseMayChoose=["canary"])
    stable = subject.first_release()
    for case in RELEASE_CASES:
        _refused(subject, case)
    check(subject.region.serving(subject.service) == stable, f"{stable} should serve as before")
    # Once more and valid: a refusal must not leave anything in the way.
    good = subject.revision()
    subject.release_and_wait(good)
    check(subject.region.serving(subject.service) == good, f"{good} should have all weight")
    return f"{len(RELEASE_CASES)} cases"


def _refused(subject: Subject, case: Case) -> None:
    revision = subject.revision()
    record = subject.desired_release(revision, f"refused-{revision.rpartition(':')[2]}")
    case.spoil(subject, record)
    before, mark = subject.last_outcome(), subject.mark()
    with case.around(subject):
        subject.region.put(subject.tables.records, record)
        outcome = subject.await_outcome_after(before, REFUSAL_TIMEOUT)
    check(outcome["outcome"] == "Refused", f"{case.name} should be Refused: {outcome}")
    check(outcome["reason"] in case.codes, f"{case.name} should have a code of {case.codes}: {outcome}")
    words = (case.words,) if isinstance(case.words, str) else case.words
    for word in (case.field, "allowed", *words):
        check(word in outcome["message"], f"{case.name} should be told with {word!r}: {outcome}")
    touched = subject.moves(mark)
    check(not touched, f"{case.name} touched something: {touched}")


@story("a ManagedService with a text for a number says so in its status, and works once mended")
def misshapen_service(stage: Stage) -> str:
    world = stage.running("misshapen")
    subject = world.subject("misshapen", strategies={"canary": {"canary": {"weight": "10", "bake": "4s"}}})
    request, mark = subject.desire(subject.revision()), subject.mark()

    def told() -> bool:
        said = str(subject.status())
        return "spec.strategies.canary.canary.weight" in said and "type N" in said

    until("the status names field and fix", told, REFUSAL_TIMEOUT)
    check(not subject.moves(mark), f"it touched something: {subject.moves(mark)}")
    subject.manage()
    outcome = subject.await_outcome(request)
    if outcome["outcome"] == "Refused":
        # Refused at once rather than kept: then the next request is served.
        outcome = subject.await_outcome(subject.desire(subject.revision()))
    check(outcome["outcome"] == "Succeeded", f"the mended service should be released: {outcome}")
    return "field and fix told"


@story("a service of another controller, or of another owner, is refused and left alone")
def foreign_service(stage: Stage) -> str:
    world = stage.running("foreign")
    rolling = Subject(world, world.region.create_service("rolling", controller="ECS"))
    rolling.manage()
    mark = rolling.mark()
    request = rolling.desire(rolling.revision())
    outcome = rolling.await_outcome(request, REFUSAL_TIMEOUT)
    check((outcome["outcome"], outcome["reason"]) == ("Refused", "ServiceUnfit"), f"not EXTERNAL: {outcome}")
    check("spec.ecs.service" in outcome["message"], f"the field should be named: {outcome}")
    check(not rolling.moves(mark), f"it touched something: {rolling.moves(mark)}")

    owner = world.subject("owned")
    revision = owner.first_release()
    owner.await_settled()
    thief = world.region.create_service("thief")
    # The thief's record names the owner's resources.
    thief.arn, thief.groups = owner.service.arn, owner.service.groups
    thief.production, thief.test, thief.alarms = owner.service.production, owner.service.test, owner.service.alarms
    thief = Subject(world, thief)
    mark = owner.mark()
    thief.manage(taskDefinitionFamily="owned")
    outcome = thief.await_outcome(thief.desire(owner.revision()), REFUSAL_TIMEOUT)
    fits = outcome["outcome"] == "Refused" and outcome["reason"] in ("ForeignTaskSet", "AlreadyClaimed")
    check(fits, f"another owner's service should be refused: {outcome}")
    check(not owner.moves(mark), f"it touched something: {owner.moves(mark)}")
    check(owner.region.serving(owner.service) == revision, "the owner should serve as before")
    return "ServiceUnfit, " + outcome["reason"]
