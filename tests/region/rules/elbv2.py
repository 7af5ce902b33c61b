"""Elastic Load Balancing v2, control plane: groups, listeners, rules, attributes, target health."""

from __future__ import annotations

from aws import PLACE, Aws, fixed, forward, free_port, weights
from suite import Service, refused, same, until

ELB = Service("elbv2")
CASES = ELB.cases
case = ELB.case

RULES = "application load balancer guide, rule-action-types"
GHOST = "arn:aws:elasticloadbalancing:eu-central-1:000000000000:"


def _path(*values: str) -> list:
    return [{"Field": "path-pattern", "PathPatternConfig": {"Values": list(values)}}]


# --- weights


@case("a weight is 0 to 999", "The weight. The range is 0 to 999.", "elbv2 TargetGroupTuple.Weight")
def _(aws: Aws) -> None:
    route = aws.route(999, 0)
    same(weights(route.actions()), [999, 0])
    for wrong in (1000, -1):
        refused(lambda: route.weigh(wrong, 1), "ValidationError", "InvalidConfigurationRequest")
    same(weights(route.actions()), [999, 0], "after refusals")


@case(
    "a forward action has five target groups and not six",
    "≤5 target groups per action (not adjustable)",
    "aws-facts §2 (load-balancer-limits)",
)
def _(aws: Aws) -> None:
    groups = [aws.group() for _ in range(6)]
    load_balancer = aws.load_balancer()
    listener, _ = aws.listener(load_balancer, forward({group: 1 for group in groups[:5]}))
    refused(
        lambda: aws.elb.modify_listener(ListenerArn=listener, DefaultActions=forward({group: 1 for group in groups})),
        "TooManyTargetGroups",
        "TooManyActions",
        "ValidationError",
        "InvalidConfigurationRequest",
    )


@case(
    "a forward action to one group is answered with its ForwardConfig",
    "Information for creating an action that distributes requests among multiple target groups.",
    "elbv2 Action.ForwardConfig",
)
def _(aws: Aws) -> None:
    group = aws.group()
    listener, _ = aws.listener(aws.load_balancer(), [{"Type": "forward", "TargetGroupArn": group}])
    action = aws.elb.describe_listeners(ListenerArns=[listener])["Listeners"][0]["DefaultActions"][0]
    same(action["TargetGroupArn"], group)
    same([(one["TargetGroupArn"], one.get("Weight", 1)) for one in action["ForwardConfig"]["TargetGroups"]], [(group, 1)])


@case(
    "TargetGroupArn and ForwardConfig must name the same group",
    "If you specify both ForwardConfig and TargetGroupArn, you can specify only one target group using ForwardConfig and "
    "it must be the same target group specified in TargetGroupArn.",
    "elbv2 Action.ForwardConfig",
)
def _(aws: Aws) -> None:
    route = aws.route()
    action = {**route.forward(1, 1)[0], "TargetGroupArn": route.groups[0]}
    refused(
        lambda: aws.elb.modify_listener(ListenerArn=route.listener, DefaultActions=[action]),
        "ValidationError",
        "InvalidLoadBalancerAction",
        "InvalidConfigurationRequest",
    )


@case(
    "an action replaces the whole action, stickiness included",
    "To add an item to a list, remove an item from a list, or update an item in a list, you must provide the entire list.",
    "elbv2 ModifyRule",
)
def _(aws: Aws) -> None:
    route = aws.route()
    rule = aws.rule(route.listener, route.forward(100, 0, stickiness=60))
    read = lambda: aws.elb.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"][0]["ForwardConfig"]
    same(read()["TargetGroupStickinessConfig"], {"Enabled": True, "DurationSeconds": 60})
    aws.elb.modify_rule(RuleArn=rule, Actions=route.forward(50, 50))
    same(read().get("TargetGroupStickinessConfig", {}).get("Enabled", False), False)
    only = {"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": route.groups[1], "Weight": 5}]}}
    aws.elb.modify_rule(RuleArn=rule, Actions=[only])
    same([one["TargetGroupArn"] for one in read()["TargetGroups"]], [route.groups[1]])


@case(
    "properties that are not given stay as they were",
    "Any properties that you do not specify are unchanged.",
    "elbv2 ModifyRule",
)
def _(aws: Aws) -> None:
    route = aws.route()
    rule = aws.rule(route.listener, route.forward(100, 0), priority=7)
    changed = aws.elb.modify_rule(RuleArn=rule, Actions=route.forward(10, 90))["Rules"][0]
    same((changed["Priority"], changed["Conditions"][0]["PathPatternConfig"]["Values"]), ("7", ["/svc/*"]))
    changed = aws.elb.modify_rule(RuleArn=rule, Conditions=_path("/other"))["Rules"][0]
    same((weights(changed["Actions"]), changed["Conditions"][0]["PathPatternConfig"]["Values"]), ([10, 90], ["/other"]))
    same(aws.elb.modify_listener(ListenerArn=route.listener)["Listeners"][0]["Port"], route.port)


@case(
    "the answer to a write shows the rule as it is now",
    "Response echoes the resulting rule, so no verify-read needed",
    "aws-facts §2 (ModifyRuleOutput)",
)
def _(aws: Aws) -> None:
    route = aws.route()
    rule = aws.rule(route.listener, route.forward(100, 0))
    answered = aws.elb.modify_rule(RuleArn=rule, Actions=route.forward(30, 70))["Rules"][0]
    same(answered, aws.elb.describe_rules(RuleArns=[rule])["Rules"][0])
    same(route.weigh(1, 2), route.actions())


@case(
    "group stickiness needs a duration of 1 second to 7 days",
    "The range is 1-604800 seconds (7 days). You must specify this value when enabling target group stickiness.",
    "elbv2 TargetGroupStickinessConfig.DurationSeconds",
)
def _(aws: Aws) -> None:
    route = aws.route()
    for seconds in (0, 604_801):
        refused(lambda: route.weigh(1, 1, stickiness=seconds), "ValidationError", "InvalidConfigurationRequest")
    without = route.forward(1, 1)
    without[0]["ForwardConfig"]["TargetGroupStickinessConfig"] = {"Enabled": True}
    refused(
        lambda: aws.elb.modify_listener(ListenerArn=route.listener, DefaultActions=without),
        "ValidationError",
        "InvalidConfigurationRequest",
    )
    route.weigh(1, 1, stickiness=604_800)


@case(
    "a group belongs to one load balancer",
    "You can use each target group with only one load balancer.",
    "elbv2 TargetGroup.LoadBalancerArns",
)
def _(aws: Aws) -> None:
    route = aws.route()
    shown = aws.elb.describe_target_groups(TargetGroupArns=route.groups)["TargetGroups"]
    same([group["LoadBalancerArns"] for group in shown], [[route.load_balancer]] * 2)
    other, actions = aws.load_balancer(), forward({route.groups[0]: 1})
    refused(lambda: aws.listener(other, actions), "TargetGroupAssociationLimit")


@case(
    "a rule has one routing action, and it is the last",
    "Each rule must include exactly one of the following routing actions: forward, fixed-response, or redirect, and it "
    "must be the last action to be performed.",
    "elbv2 Action",
)
def _(aws: Aws) -> None:
    route = aws.route()
    both = [{**fixed(404)[0], "Order": 1}, {**route.forward(1, 1)[0], "Order": 2}]
    codes = ("ValidationError", "InvalidLoadBalancerAction", "InvalidConfigurationRequest", "TooManyActions")
    refused(lambda: aws.elb.modify_listener(ListenerArn=route.listener, DefaultActions=both), *codes)
    refused(
        lambda: aws.elb.create_rule(ListenerArn=route.listener, Priority=1, Conditions=_path("/a"), Actions=[]), *codes
    )


# --- rules


@case(
    "a listener has no two rules of one priority",
    "A listener can't have multiple rules with the same priority.",
    "elbv2 CreateRuleInput.Priority",
)
def _(aws: Aws) -> None:
    route = aws.route()
    aws.rule(route.listener, route.forward(1, 0), priority=5)
    refused(lambda: aws.rule(route.listener, route.forward(1, 0), priority=5), "PriorityInUse")


@case(
    "rules are listed in the order of their priority, the default last",
    "Rules are evaluated in priority order, from the lowest value to the highest value.",
    "elbv2 CreateRule",
)
def _(aws: Aws) -> None:
    route = aws.route()
    for priority in (30, 4, 200):
        aws.rule(route.listener, route.forward(1, 0), priority=priority)
    rules = aws.elb.describe_rules(ListenerArn=route.listener)["Rules"]
    same([rule["Priority"] for rule in rules], ["4", "30", "200", "default"])
    same([rule["IsDefault"] for rule in rules], [False, False, False, True])


@case(
    "priorities are exchanged in one call, or not at all",
    "You can reorder the rules as long as there are no priority conflicts in the new order. Any existing rules that you "
    "do not specify retain their current priority.",
    "elbv2 SetRulePriorities",
)
def _(aws: Aws) -> None:
    route = aws.route()
    a, b, c = (aws.rule(route.listener, route.forward(1, 0), priority=number) for number in (1, 2, 3))
    read = lambda: [
        rule["Priority"] for rule in aws.elb.describe_rules(RuleArns=[a, b, c])["Rules"]
    ]
    swap = [{"RuleArn": a, "Priority": 2}, {"RuleArn": b, "Priority": 1}]
    aws.elb.set_rule_priorities(RulePriorities=swap)
    same(sorted(read()), ["1", "2", "3"])
    same(aws.elb.describe_rules(RuleArns=[a])["Rules"][0]["Priority"], "2")
    conflict = [{"RuleArn": a, "Priority": 9}, {"RuleArn": b, "Priority": 3}]
    refused(lambda: aws.elb.set_rule_priorities(RulePriorities=conflict), "PriorityInUse")
    same(aws.elb.describe_rules(RuleArns=[a])["Rules"][0]["Priority"], "2", "after the conflict")


@case("the default rule is not deleted", "You can't delete the default rule.", "elbv2 DeleteRule")
def _(aws: Aws) -> None:
    route = aws.route()
    default = aws.elb.describe_rules(ListenerArn=route.listener)["Rules"][-1]["RuleArn"]
    refused(lambda: aws.elb.delete_rule(RuleArn=default), "OperationNotPermitted")


@case(
    "the default rule is changed through its listener, not as a rule",
    "Default rule has a rule ARN but is changed through the listener",
    "aws-facts §2",
)
def _(aws: Aws) -> None:
    route = aws.route()
    default = aws.elb.describe_rules(ListenerArn=route.listener)["Rules"][-1]
    same(weights(default["Actions"]), [100, 0])
    refused(
        lambda: aws.elb.modify_rule(RuleArn=default["RuleArn"], Actions=route.forward(1, 1)), "OperationNotPermitted"
    )


@case("a condition has a value", "Note that the value for a condition can't be empty.", "elbv2 RuleCondition")
def _(aws: Aws) -> None:
    route = aws.route()
    make = lambda conditions: aws.elb.create_rule(
        ListenerArn=route.listener, Priority=1, Conditions=conditions, Actions=route.forward(1, 0)
    )
    refused(lambda: make(_path()), "ValidationError", "InvalidConfigurationRequest")
    refused(lambda: make(_path("")), "ValidationError", "InvalidConfigurationRequest")


@case(
    "a rule has one condition on the path",
    "Each rule can optionally include up to one of each of the following conditions: http-request-method, host-header, "
    "path-pattern, and source-ip.",
    "elbv2 RuleCondition",
)
def _(aws: Aws) -> None:
    route, twice = aws.route(), _path("/a") + _path("/b")
    refused(
        lambda: aws.elb.create_rule(
            ListenerArn=route.listener, Priority=1, Conditions=twice, Actions=route.forward(1, 0)
        ),
        "ValidationError",
        "InvalidConfigurationRequest",
    )


@case(
    "DescribeRules asks for a listener or for rules",
    "You must specify either a listener or rules.",
    "elbv2 DescribeRules",
)
def _(aws: Aws) -> None:
    refused(lambda: aws.elb.describe_rules(), "ValidationError")


# --- not found, in use


@case("an unknown target group is TargetGroupNotFound", "The specified target group does not exist.", "elbv2 TargetGroupNotFoundException")
def _(aws: Aws) -> None:
    route, ghost = aws.route(), GHOST + "targetgroup/none/0123456789abcdef"
    write = lambda: aws.elb.modify_listener(ListenerArn=route.listener, DefaultActions=forward({ghost: 1}))
    refused(write, "TargetGroupNotFound")
    refused(lambda: aws.elb.describe_target_health(TargetGroupArn=ghost), "TargetGroupNotFound")
    refused(lambda: aws.elb.describe_target_groups(TargetGroupArns=[ghost]), "TargetGroupNotFound")
    same(weights(route.actions()), [100, 0])


@case("an unknown listener is ListenerNotFound", "The specified listener does not exist.", "elbv2 ListenerNotFoundException")
def _(aws: Aws) -> None:
    ghost = GHOST + "listener/app/none/0123456789abcdef/0123456789abcdef"
    refused(lambda: aws.elb.modify_listener(ListenerArn=ghost, DefaultActions=fixed(404)), "ListenerNotFound")
    refused(lambda: aws.elb.describe_listeners(ListenerArns=[ghost]), "ListenerNotFound")


@case("an unknown rule is RuleNotFound", "The specified rule does not exist.", "elbv2 RuleNotFoundException")
def _(aws: Aws) -> None:
    ghost = GHOST + "listener-rule/app/none/0123456789abcdef/0123456789abcdef/0123456789abcdef"
    refused(lambda: aws.elb.modify_rule(RuleArn=ghost, Actions=fixed(404)), "RuleNotFound")
    refused(lambda: aws.elb.describe_rules(RuleArns=[ghost]), "RuleNotFound")


@case("an unknown load balancer is LoadBalancerNotFound", "The specified load balancer does not exist.", "elbv2 LoadBalancerNotFoundException")
def _(aws: Aws) -> None:
    ghost = GHOST + "loadbalancer/app/none/0123456789abcdef"
    refused(lambda: aws.elb.describe_load_balancers(LoadBalancerArns=[ghost]), "LoadBalancerNotFound")
    refused(lambda: aws.elb.describe_listeners(LoadBalancerArn=ghost), "LoadBalancerNotFound")


@case(
    "deleting a load balancer that is gone succeeds",
    "If the load balancer does not exist or has already been deleted, the call succeeds.",
    "elbv2 DeleteLoadBalancer",
)
def _(aws: Aws) -> None:
    arn = aws.load_balancer()
    aws.elb.delete_load_balancer(LoadBalancerArn=arn)
    aws.elb.delete_load_balancer(LoadBalancerArn=arn)


@case(
    "a group that an action names is not deleted",
    "You can delete a target group if it is not referenced by any actions.",
    "elbv2 DeleteTargetGroup",
)
def _(aws: Aws) -> None:
    route = aws.route(1, 0)
    for group in route.groups:
        refused(lambda: aws.elb.delete_target_group(TargetGroupArn=group), "ResourceInUse")
    aws.elb.modify_listener(ListenerArn=route.listener, DefaultActions=fixed(404))
    aws.elb.delete_target_group(TargetGroupArn=route.groups[0])


@case("a port has one listener", "A listener with the specified port already exists.", "elbv2 DuplicateListenerException")
def _(aws: Aws) -> None:
    route = aws.route()
    refused(
        lambda: aws.elb.create_listener(
            LoadBalancerArn=route.load_balancer, Protocol="HTTP", Port=route.port, DefaultActions=fixed(404)
        ),
        "DuplicateListener",
    )


@case(
    "creating a target group again with the same settings succeeds, with others it is refused",
    "If you attempt to create multiple target groups with the same settings, each call succeeds.",
    "elbv2 CreateTargetGroup",
)
def _(aws: Aws) -> None:
    name = aws.name("tg")
    first = aws.group(Name=name)
    same(aws.group(Name=name), first)
    refused(lambda: aws.group(Name=name, Port=9), "DuplicateTargetGroupName")


@case(
    "a target group has AWS's defaults",
    "The approximate amount of time, in seconds, between health checks of an individual target. The range is 5-300. … the "
    "default is 30 seconds.",
    "elbv2 CreateTargetGroupInput.HealthCheckIntervalSeconds",
)
def _(aws: Aws) -> None:
    made = aws.elb.create_target_group(Name=aws.name("tg"), Protocol="HTTP", Port=80, VpcId=PLACE["vpc"])["TargetGroups"][0]
    aws.after(aws.elb.delete_target_group, TargetGroupArn=made["TargetGroupArn"])
    same(made["TargetType"], "instance")
    same((made["HealthCheckIntervalSeconds"], made["HealthyThresholdCount"], made["UnhealthyThresholdCount"]), (30, 5, 2))
    same((made["HealthCheckPath"], made["HealthCheckPort"], made["Matcher"]), ("/", "traffic-port", {"HttpCode": "200"}))


@case(
    "health check settings out of their ranges are refused",
    "The range is 5-300.",
    "elbv2 CreateTargetGroupInput.HealthCheckIntervalSeconds",
)
def _(aws: Aws) -> None:
    for wrong in (
        {"HealthCheckIntervalSeconds": 4},
        {"HealthCheckIntervalSeconds": 301},
        {"HealthyThresholdCount": 1},
        {"UnhealthyThresholdCount": 11},
        {"HealthCheckTimeoutSeconds": 121},
    ):
        refused(lambda: aws.group(**wrong), "ValidationError", "InvalidConfigurationRequest")


# --- attributes


@case(
    "the deregistration delay is 300 seconds unless told otherwise, and at most 3600",
    "The range is 0-3600 seconds. The default value is 300 seconds.",
    "elbv2 TargetGroupAttribute.Key",
)
def _(aws: Aws) -> None:
    group, key = aws.group(), "deregistration_delay.timeout_seconds"
    read = lambda: {
        one["Key"]: one["Value"]
        for one in aws.elb.describe_target_group_attributes(TargetGroupArn=group)["Attributes"]
    }
    write = lambda value: aws.elb.modify_target_group_attributes(
        TargetGroupArn=group, Attributes=[{"Key": key, "Value": value}]
    )
    before = read()
    same((before[key], before["stickiness.enabled"]), ("300", "false"))
    write("17")
    same(read(), {**before, key: "17"}, "nothing else")
    refused(lambda: write("3601"), "ValidationError", "InvalidConfigurationRequest")
    same(read()[key], "17")


@case(
    "an attribute that does not exist is refused",
    "The name of the attribute.",
    "elbv2 TargetGroupAttribute.Key",
)
def _(aws: Aws) -> None:
    wrong = [{"Key": "no.such.attribute", "Value": "1"}]
    refused(
        lambda: aws.elb.modify_target_group_attributes(TargetGroupArn=aws.group(), Attributes=wrong), "ValidationError"
    )


# --- targets


@case(
    "a target of a group that no load balancer uses is unused: Target.NotInUse",
    "Target.NotInUse - The target group is not used by any load balancer or the target is in an Availability Zone that "
    "is not enabled for its load balancer.",
    "elbv2 TargetHealth.Reason",
)
def _(aws: Aws) -> None:
    group, target = aws.group(), {"Id": "10.0.0.1", "Port": 80}
    aws.elb.register_targets(TargetGroupArn=group, Targets=[target])
    health = aws.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"][0]["TargetHealth"]
    same((health["State"], health["Reason"]), ("unused", "Target.NotInUse"))


@case(
    "a target that is not registered is unused: Target.NotRegistered",
    "Target.NotRegistered - The target is not registered with the target group.",
    "elbv2 TargetHealth.Reason",
)
def _(aws: Aws) -> None:
    answer = aws.elb.describe_target_health(
        TargetGroupArn=aws.route().groups[0], Targets=[{"Id": "10.0.0.9", "Port": 80}]
    )
    health = answer["TargetHealthDescriptions"][0]["TargetHealth"]
    same((health["State"], health["Reason"]), ("unused", "Target.NotRegistered"))


@case(
    "deregistering a target that is not there succeeds",
    "If the specified target does not exist, the action returns successfully.",
    "elbv2 DeregisterTargets",
)
def _(aws: Aws) -> None:
    aws.elb.deregister_targets(TargetGroupArn=aws.group(), Targets=[{"Id": "10.0.0.9", "Port": 80}])


@case(
    "a target that answers nothing becomes unhealthy, with the reason",
    "Target.FailedHealthChecks - The load balancer received an error while establishing a connection to the target",
    "elbv2 TargetHealth.Reason",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    route, target = aws.route(), {"Id": "127.0.0.1", "Port": free_port()}
    aws.elb.register_targets(TargetGroupArn=route.groups[0], Targets=[target])
    read = lambda: aws.elb.describe_target_health(TargetGroupArn=route.groups[0])["TargetHealthDescriptions"][0][
        "TargetHealth"
    ]
    health = until("unhealthy", lambda: read() if read()["State"] == "unhealthy" else None)
    same(health["Reason"], "Target.FailedHealthChecks")


@case(
    "a target that answers a wrong code is unhealthy: Target.ResponseCodeMismatch",
    "Target.ResponseCodeMismatch - The health checks did not return an expected HTTP code.",
    "elbv2 TargetHealth.Reason",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    route, web = aws.route(), aws.web("sick", health=503)
    aws.elb.register_targets(TargetGroupArn=route.groups[0], Targets=[{"Id": "127.0.0.1", "Port": web.port}])
    until("unhealthy", lambda: route.health(0, web) == "unhealthy")
    same(route.described(0, web)["Reason"], "Target.ResponseCodeMismatch")


@case(
    "a new target is healthy after one passed check, whatever the threshold",
    "must pass one health check to be considered healthy",
    "aws-facts §2 (target-group-health-checks)",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    route, web = aws.route(HealthyThresholdCount=10, HealthCheckIntervalSeconds=300), aws.web("fine")
    aws.elb.register_targets(TargetGroupArn=route.groups[0], Targets=[{"Id": "127.0.0.1", "Port": web.port}])
    # Ten checks would take 9 × 300 s of AWS.
    until("healthy", lambda: route.health(0, web) == "healthy", patience=min(20.0, 4 + 2 * aws.seconds(300)))
    same(web.paths.count("/health") < 10, True, "fewer checks than the threshold")


@case(
    "an unhealthy target is healthy again after as many passed checks as the threshold says",
    "The number of consecutive health checks successes required before considering an unhealthy target healthy.",
    "elbv2 TargetGroup.HealthyThresholdCount",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    route, web = aws.route(), aws.web("recovers")
    route.serve(0, web)
    web.health = 500
    until("unhealthy", lambda: route.health(0, web) == "unhealthy")
    web.health = 200
    until("healthy", lambda: route.health(0, web) == "healthy")
