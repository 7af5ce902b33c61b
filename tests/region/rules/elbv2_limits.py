"""Elastic Load Balancing v2, what may be set: attributes, conditions, fixed responses, redirects; and slow start."""

from __future__ import annotations

import math
import time

from aws import Aws, fixed, get
from suite import Service, need, refused, same, until

LIMITS = Service("elbv2-limits")
CASES = LIMITS.cases
case = LIMITS.case

WRONG = ("ValidationError", "InvalidConfigurationRequest")
CONDITIONS = "application load balancer guide, rule-condition-types"
SLOW = "application load balancer guide, edit-target-group-attributes#slow-start-mode"


def _attributes(aws: Aws, group: str, **values: str) -> None:
    pairs = [{"Key": key.replace("__", "."), "Value": value} for key, value in values.items()]
    aws.elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=pairs)


# --- attributes


@case(
    "slow start lasts 30 to 900 seconds, or is off",
    "The range is 30-900 seconds (15 minutes). The default is 0 seconds (disabled).",
    "elbv2 TargetGroupAttribute.Key",
)
def _(aws: Aws) -> None:
    group = aws.group()
    for right in ("30", "900", "0"):
        _attributes(aws, group, slow_start__duration_seconds=right)
    for wrong in ("29", "901"):
        refused(lambda: _attributes(aws, group, slow_start__duration_seconds=wrong), *WRONG)


@case(
    "slow start needs round robin",
    "You cannot enable both slow start mode and least outstanding requests.",
    SLOW,
)
def _(aws: Aws) -> None:
    group = aws.group()
    _attributes(aws, group, load_balancing__algorithm__type="least_outstanding_requests")
    refused(lambda: _attributes(aws, group, slow_start__duration_seconds="60"), *WRONG)


@case(
    "a routing algorithm is one of three",
    "The value is round_robin, least_outstanding_requests, or weighted_random. The default is round_robin.",
    "elbv2 TargetGroupAttribute.Key",
)
def _(aws: Aws) -> None:
    group = aws.group()
    for right in ("weighted_random", "least_outstanding_requests", "round_robin"):
        _attributes(aws, group, load_balancing__algorithm__type=right)
    refused(lambda: _attributes(aws, group, load_balancing__algorithm__type="hash"), *WRONG)


@case(
    "target stickiness lasts a second to a week",
    "The range is 1 second to 1 week (604800 seconds). The default value is 1 day (86400 seconds).",
    "elbv2 TargetGroupAttribute.Key",
)
def _(aws: Aws) -> None:
    group = aws.group()
    _attributes(aws, group, stickiness__lb_cookie__duration_seconds="604800")
    for wrong in ("0", "604801"):
        refused(lambda: _attributes(aws, group, stickiness__lb_cookie__duration_seconds=wrong), *WRONG)


@case(
    "the load balancer's own cookie names are not for applications",
    "Names that start with the following prefixes are not allowed: AWSALB, AWSALBAPP, and AWSALBTG",
    "elbv2 TargetGroupAttribute.Key",
)
def _(aws: Aws) -> None:
    group = aws.group()
    refused(lambda: _attributes(aws, group, stickiness__app_cookie__cookie_name="AWSALBTG"), *WRONG)


@case(
    "the idle timeout of a load balancer is 1 to 4000 seconds",
    "The valid range is 1-4000 seconds. The default is 60 seconds.",
    "elbv2 LoadBalancerAttribute.Key",
)
def _(aws: Aws) -> None:
    arn, key = aws.load_balancer(), "idle_timeout.timeout_seconds"
    write = lambda value: aws.elb.modify_load_balancer_attributes(
        LoadBalancerArn=arn, Attributes=[{"Key": key, "Value": value}]
    )
    held = aws.elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    same([one["Value"] for one in held if one["Key"] == key], ["60"])
    write("4000")
    refused(lambda: write("4001"), *WRONG)


# --- conditions


def _rule(aws: Aws, listener: str, **condition: object) -> None:
    aws.rule(listener, fixed(200), **condition)


def _paths(*values: str) -> dict:
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(values)}}


@case(
    "a condition has three values and not four",
    "You can specify up to three match evaluations per condition.",
    CONDITIONS,
)
def _(aws: Aws) -> None:
    listener, _port = aws.listener(aws.load_balancer())
    refused(lambda: _rule(aws, listener, **_paths("/a", "/b", "/c", "/d")), *WRONG)
    _rule(aws, listener, **_paths("/a", "/b", "/c"))


@case(
    "a rule has few wildcards",
    # Some versions of the quotas page say six.
    "There is a limit of five wildcard characters per rule.",
    CONDITIONS,
)
def _(aws: Aws) -> None:
    listener, _port = aws.listener(aws.load_balancer())
    refused(lambda: _rule(aws, listener, **_paths("/*/*/*/*/*/*/*")), *WRONG)
    _rule(aws, listener, **_paths("/*/*/*/*/*"))


@case(
    "a path can be matched by regular expressions",
    "The regular expressions to compare against the request URL. The maximum length of each string is 128 characters.",
    "elbv2 PathPatternConditionConfig.RegexValues",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    listener, port = aws.listener(aws.load_balancer())
    config = {"RegexValues": ["^/v[0-9]+/items$", "^/exact$"]}
    _rule(aws, listener, Field="path-pattern", PathPatternConfig=config)
    until("the rule holds", lambda: get(port, "/v12/items")[0] == 200)
    same([get(port, path)[0] for path in ("/exact", "/v/items", "/v1/items/2", "/V1/items")], [200, 404, 404, 404])
    long = {"RegexValues": ["a" * 129]}
    refused(lambda: _rule(aws, listener, priority=11, Field="path-pattern", PathPatternConfig=long), *WRONG)


@case(
    "a header condition is not for the host header",
    "You can't use an HTTP header condition to specify the host header.",
    "elbv2 HttpHeaderConditionConfig.HttpHeaderName",
)
def _(aws: Aws) -> None:
    listener, _port = aws.listener(aws.load_balancer())
    config = {"HttpHeaderName": "Host", "Values": ["a.example"]}
    refused(lambda: _rule(aws, listener, Field="http-header", HttpHeaderConfig=config), *WRONG)


# --- answers of the load balancer itself


@case(
    "a fixed response is answered as it was set",
    "The HTTP response code (2XX, 4XX, or 5XX).",
    "elbv2 FixedResponseActionConfig.StatusCode",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    config = {"StatusCode": "418", "ContentType": "application/json", "MessageBody": '{"tea": true}'}
    _, port = aws.listener(aws.load_balancer(), [{"Type": "fixed-response", "FixedResponseConfig": config}])
    answer = until("it answers", lambda: get(port) if get(port)[0] == 418 else None)
    same((answer[1], answer[2]["content-type"]), ('{"tea": true}', "application/json"))


@case(
    "a fixed response has no other status",
    "The HTTP response code (2XX, 4XX, or 5XX).",
    "elbv2 FixedResponseActionConfig.StatusCode",
)
def _(aws: Aws) -> None:
    arn = aws.load_balancer()
    for status in (100, 302, 600):
        refused(lambda: aws.listener(arn, fixed(status)), *WRONG)


@case(
    "a redirect changes something",
    "You must modify at least one of the following components to avoid a redirect loop: protocol, hostname, port, or path.",
    "elbv2 RedirectActionConfig",
)
def _(aws: Aws) -> None:
    arn = aws.load_balancer()
    loop = [{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301", "Query": "a=b"}}]
    refused(lambda: aws.listener(arn, loop), "InvalidLoadBalancerAction", *WRONG)


@case(
    "a redirect sends to the host, port, path and query that it names",
    "The query parameters, URL-encoded when necessary, but not percent-encoded. Do not include the leading \"?\", as it "
    "is automatically added.",
    "elbv2 RedirectActionConfig.Query",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    config = {
        "Protocol": "HTTPS",
        "Host": "new.#{host}",
        "Port": "443",
        "Path": "/moved/#{path}",
        "Query": "#{query}&from=old",
        "StatusCode": "HTTP_301",
    }
    _, port = aws.listener(aws.load_balancer(), [{"Type": "redirect", "RedirectConfig": config}])
    answer = until("it redirects", lambda: get(port, "/a?x=1") if get(port, "/a?x=1")[0] == 301 else None)
    same(answer[2]["location"], "https://new.127.0.0.1:443/moved/a?x=1&from=old")


# --- slow start


@case(
    "a target that comes to a healthy one starts slowly",
    "The load balancer linearly increases the number of requests that it can send to a target in slow start mode.",
    SLOW,
    needs=("traffic",),
)
def _(aws: Aws) -> str:
    route = aws.route(1, 0)
    old, new = aws.web("old"), aws.web("new")
    route.serve(0, old)
    _attributes(aws, route.groups[0], slow_start__duration_seconds="900")
    began, requests = time.monotonic(), 100
    route.serve(0, new)
    seen = route.seen(requests)
    grown = min(1.0, (time.monotonic() - began) / aws.seconds(900))
    # At the end of the requests its share was at most this; 5 sigma of a binomial distribution above it.
    share = grown / (1 + grown)
    most = requests * share + 5 * math.sqrt(requests * share * (1 - share)) + 1
    need(seen.get("new", 0) <= most, f"{seen} after {grown:.0%} of slow start")
    return f"{seen} up to {grown:.0%} of slow start"


@case(
    "targets registered together in an empty group do not start slowly",
    "When you enable slow start for an empty target group and then register targets using a single registration "
    "operation, these targets do not enter slow start mode.",
    SLOW,
    needs=("traffic",),
)
def _(aws: Aws) -> str:
    route = aws.route(1, 0)
    webs = [aws.web("one"), aws.web("two")]
    _attributes(aws, route.groups[0], slow_start__duration_seconds="900")
    targets = [{"Id": "127.0.0.1", "Port": web.port} for web in webs]
    aws.elb.register_targets(TargetGroupArn=route.groups[0], Targets=targets)
    for web in webs:
        until("healthy", lambda: route.health(0, web) == "healthy")
    # Two targets with full shares take turns.
    seen = route.seen(100)
    need(min(seen.get("one", 0), seen.get("two", 0)) >= 40, f"{seen}")
    return f"{seen}"
