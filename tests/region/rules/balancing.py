"""Elastic Load Balancing v2, data plane: where requests go. Upstreams are web servers of this process."""

from __future__ import annotations

import math
import socket
import threading
import time

from aws import Aws, at_once, fixed, forward, get
from suite import Service, need, refused, same, stays, until

BALANCING = Service("balancing")
CASES = BALANCING.cases

TRAFFIC = ("traffic",)
RULES = "application load balancer guide, rule-action-types"
HEALTH = "application load balancer guide, target-group-health-checks"


def case(name: str, quote: str, source: str, needs: tuple[str, ...] = TRAFFIC):
    """Every case here sends requests."""
    return BALANCING.case(name, quote, source, needs)


def _pair(aws: Aws, a: int, b: int, **group: int):
    route = aws.route(a, b, **group)
    webs = [aws.web("blue"), aws.web("green")]
    for index, web in enumerate(webs):
        route.serve(index, web)
    until("requests are answered", lambda: route.get()[0] == 200)
    return route, webs


@case(
    "requests are shared in the ratio of the weights",
    "each target group receives a share of the requests in proportion to its weight",
    RULES,
)
def _(aws: Aws) -> str:
    route, _webs = _pair(aws, 90, 10)
    seen = route.seen(400)
    # 5 sigma of a binomial distribution: a right share fails once in 1.7 million runs.
    expected, bound = 40, 5 * math.sqrt(400 * 0.1 * 0.9)
    need(abs(seen.get("green", 0) - expected) <= bound, f"{seen}, not {expected} ± {bound:.0f} green")
    return f"{seen}"


@case("weights are relative: 3 and 1 of 4", "Weights are relative ratios", "aws-facts §2 (rule-action-types)")
def _(aws: Aws) -> str:
    route, _webs = _pair(aws, 3, 1)
    seen = route.seen(400)
    bound = 5 * math.sqrt(400 * 0.25 * 0.75)
    need(abs(seen.get("green", 0) - 100) <= bound, f"{seen}, not 100 ± {bound:.0f} green")
    return f"{seen}"


@case("a group of weight 0 gets nothing", "The weight. The range is 0 to 999.", "elbv2 TargetGroupTuple.Weight")
def _(aws: Aws) -> None:
    route, webs = _pair(aws, 1, 0)
    same(route.seen(500), {"blue": 500})
    same([path for path in webs[1].paths if path != "/health"], [], "what green was asked")


@case(
    "a weight change holds for the next request, also on an open connection",
    "Every request is decided on its own",
    "aws-facts §2 (last writer wins; propagation ??)",
)
def _(aws: Aws) -> None:
    route, _webs = _pair(aws, 1, 0)
    same(route.seen(20), {"blue": 20})
    route.weigh(0, 1)
    until("green answers", lambda: route.get()[1] == "green")
    same(route.seen(50), {"green": 50})


@case(
    "an empty group with weight answers 503, and nothing fails over",
    "If … one of the target groups is empty or has only unhealthy targets, the load balancer does not automatically fail "
    "over to a target group with healthy targets.",
    RULES,
)
def _(aws: Aws) -> str:
    route, web = aws.route(1, 1), aws.web("blue")
    route.serve(0, web)
    until("requests are answered", lambda: route.get()[0] == 200)
    seen = route.seen(100)
    same(set(seen), {"blue", "503"})
    need(abs(seen["blue"] - 50) <= 25, f"{seen}: no 5 sigma of a half")
    route.weigh(0, 1)
    until("503", lambda: route.get()[0] == 503)
    same(route.seen(30), {"503": 30})
    return f"{seen}"


@case(
    "a group with unhealthy targets only fails open",
    "If the number of healthy targets is below this value, send traffic to all targets, including unhealthy targets.",
    "elbv2 TargetGroupAttribute.Key",
)
def _(aws: Aws) -> None:
    route, webs = _pair(aws, 1, 0)
    webs[0].health = 500
    until("unhealthy", lambda: route.health(0, webs[0]) == "unhealthy")
    same(route.seen(30), {"blue": 30})


@case(
    "an unhealthy target beside a healthy one gets nothing",
    "The load balancer routes requests only to healthy targets",
    HEALTH,
)
def _(aws: Aws) -> None:
    route, webs = _pair(aws, 1, 0)
    third = aws.web("third")
    route.serve(0, third)
    until("both answer", lambda: set(route.seen(20)) == {"blue", "third"})
    third.health = 500
    until("unhealthy", lambda: route.health(0, third) == "unhealthy")
    until("it gets nothing", lambda: route.seen(20) == {"blue": 20})


@case(
    "the rule of the lowest priority that matches decides",
    "Rules are evaluated in priority order, from the lowest value to the highest value. When the conditions for a rule "
    "are met, its actions are performed. If the conditions for no rules are met, the actions for the default rule are "
    "performed.",
    "elbv2 CreateRule",
)
def _(aws: Aws) -> None:
    listener, port = aws.listener(aws.load_balancer(), fixed(404, "default"))
    wide = {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a/*"]}}
    narrow = {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a/b"]}}
    first = aws.rule(listener, fixed(200, "wide"), priority=20, **wide)
    second = aws.rule(listener, fixed(200, "narrow"), priority=10, **narrow)
    until("the rules hold", lambda: get(port, "/a/b")[1] == "narrow" and get(port, "/a/c")[1] == "wide")
    same(get(port, "/c")[:2], (404, "default"))
    swap = [{"RuleArn": first, "Priority": 1}, {"RuleArn": second, "Priority": 2}]
    aws.elb.set_rule_priorities(RulePriorities=swap)
    until("the order is turned", lambda: get(port, "/a/b")[1] == "wide")


def _matches(aws: Aws, condition: dict, yes: list, no: list) -> None:
    """Each of `yes` and `no` is a path and headers."""
    listener, port = aws.listener(aws.load_balancer(), fixed(404, "no"))
    aws.rule(listener, fixed(200, "yes"), **condition)
    path, headers = yes[0]
    until("the rule holds", lambda: get(port, path, **headers)[1] == "yes")
    for path, headers in yes:
        same(get(port, path, **headers)[1], "yes", f"{path} {headers}")
    for path, headers in no:
        same(get(port, path, **headers)[1], "no", f"{path} {headers}")


@case(
    "a path pattern has * and ?, is case sensitive, and sees no query string",
    "The comparison is case sensitive. The following wildcard characters are supported: * (matches 0 or more characters) "
    "and ? (matches exactly 1 character). … The path pattern is compared only to the path of the URL, not to its query "
    "string.",
    "elbv2 PathPatternConditionConfig.Values",
)
def _(aws: Aws) -> None:
    condition = {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/img/*.p?g", "/exact"]}}
    yes = [("/img/a.png", {}), ("/img/deep/.pxg?x=1", {}), ("/exact?y", {})]
    no = [("/IMG/a.png", {}), ("/img/a.pg", {}), ("/exact/", {}), ("/?/exact", {})]
    _matches(aws, condition, yes, no)


@case(
    "a host name is compared without case",
    "The comparison is case insensitive. The following wildcard characters are supported: * (matches 0 or more "
    "characters) and ? (matches exactly 1 character).",
    "elbv2 HostHeaderConditionConfig.Values",
)
def _(aws: Aws) -> None:
    condition = {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}}
    yes = [("/", {"host": "a.EXAMPLE.com"}), ("/", {"host": "a.b.example.com:80"})]
    _matches(aws, condition, yes, [("/", {"host": "example.com"}), ("/", {"host": "a.example.org"})])


@case(
    "a header condition compares names and values without case",
    "The comparison strings are case insensitive. … If you specify multiple strings, the condition is satisfied if one "
    "of the strings matches the value of the HTTP header.",
    "elbv2 HttpHeaderConditionConfig.Values",
)
def _(aws: Aws) -> None:
    config = {"HttpHeaderName": "X-Preview", "Values": ["yes", "on*"]}
    condition = {"Field": "http-header", "HttpHeaderConfig": config}
    yes = [("/", {"x_preview": "YES"}), ("/", {"x_preview": "one"})]
    _matches(aws, condition, yes, [("/", {}), ("/", {"x_preview": "no"}), ("/", {"x_other": "yes"})])


@case(
    "a query string condition finds one of its pairs, without case",
    "The comparison is case insensitive. … If you specify multiple key/value pairs or values, the condition is satisfied "
    "if one of them is found in the query string.",
    "elbv2 QueryStringConditionConfig.Values",
)
def _(aws: Aws) -> None:
    values = [{"Key": "version", "Value": "v?"}, {"Value": "canary"}]
    condition = {"Field": "query-string", "QueryStringConfig": {"Values": values}}
    yes = [("/?version=V2", {}), ("/?a=1&version=v1", {}), ("/?x=canary", {})]
    _matches(aws, condition, yes, [("/", {}), ("/?version=v10", {}), ("/?versions=v1", {})])


@case(
    "a method condition is an exact match",
    "The comparison is case sensitive. Wildcards are not supported; therefore, the method name must be an exact match.",
    "elbv2 HttpRequestMethodConditionConfig.Values",
)
def _(aws: Aws) -> None:
    condition = {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}}
    _matches(aws, condition, [("/", {})], [])
    other = {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["POST"]}}
    listener, port = aws.listener(aws.load_balancer(), fixed(404, "no"))
    aws.rule(listener, fixed(200, "yes"), **other)
    stays("GET does not match POST", lambda: get(port)[1] == "no", 0.3)


@case(
    "a source address is that of the connection, not of X-Forwarded-For",
    "This condition is not satisfied by the addresses in the X-Forwarded-For header.",
    "elbv2 SourceIpConditionConfig.Values",
)
def _(aws: Aws) -> None:
    here = {"Field": "source-ip", "SourceIpConfig": {"Values": ["127.0.0.0/8"]}}
    _matches(aws, here, [("/", {}), ("/", {"x_forwarded_for": "10.1.1.1"})], [])
    listener, port = aws.listener(aws.load_balancer(), fixed(404, "no"))
    aws.rule(listener, fixed(200, "yes"), Field="source-ip", SourceIpConfig={"Values": ["10.1.0.0/16"]})
    stays("a forwarded address does not match", lambda: get(port, x_forwarded_for="10.1.1.1")[1] == "no", 0.3)


@case(
    "all conditions of a rule must hold",
    "When the conditions for a rule are met, its actions are performed.",
    "elbv2 CreateRule",
)
def _(aws: Aws) -> None:
    listener, port = aws.listener(aws.load_balancer(), fixed(404, "no"))
    conditions = [
        {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a"]}},
        {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "x-b", "Values": ["1"]}},
    ]
    aws.elb.create_rule(ListenerArn=listener, Priority=1, Conditions=conditions, Actions=fixed(200, "yes"))
    until("the rule holds", lambda: get(port, "/a", x_b="1")[1] == "yes")
    same((get(port, "/a")[1], get(port, "/b", x_b="1")[1]), ("no", "no"))


@case(
    "a redirect keeps what it does not change",
    "Any components that you do not modify retain their original values. You can reuse URI components using the "
    "following reserved keywords: #{protocol} #{host} #{port} #{path} (the leading \"/\" is removed) #{query}",
    "elbv2 RedirectActionConfig",
)
def _(aws: Aws) -> None:
    config = {"Path": "/new/#{path}", "StatusCode": "HTTP_302"}
    _, port = aws.listener(aws.load_balancer(), [{"Type": "redirect", "RedirectConfig": config}])
    answer = until("it redirects", lambda: get(port, "/old?x=1") if get(port)[0] == 302 else None)
    same(answer[2]["location"], f"http://127.0.0.1:{port}/new/old?x=1")


@case(
    "targets are told the client's address, protocol and port",
    "X-Forwarded-For … X-Forwarded-Proto … X-Forwarded-Port",
    "application load balancer guide, x-forwarded-headers",
)
def _(aws: Aws) -> None:
    import json

    route, _webs = _pair(aws, 1, 0)
    told = json.loads(route.get("/headers", x_forwarded_for="10.9.9.9")[1])
    told = {name.lower(): value for name, value in told.items()}
    same(told["x-forwarded-for"], "10.9.9.9, 127.0.0.1")
    same((told["x-forwarded-proto"], told["x-forwarded-port"]), ("http", str(route.port)))


@case(
    "with group stickiness a client stays with its group, and others follow the weights",
    "The time period, in seconds, during which requests from a client should be routed to the same target group.",
    "elbv2 TargetGroupStickinessConfig.DurationSeconds",
)
def _(aws: Aws) -> None:
    route, _webs = _pair(aws, 1, 1)
    route.weigh(1, 1, stickiness=600)
    until("a cookie is set", lambda: "AWSALBTG=" in route.get()[2].get("set-cookie", ""))
    _, group, headers = route.get()
    cookie = headers["set-cookie"].split(";")[0]
    same(route.seen(40, cookie=cookie), {group: 40})
    same(set(route.seen(60)), {"blue", "green"}, "without the cookie")


@case(
    "without group stickiness no cookie is set",
    "Indicates whether target group stickiness is enabled.",
    "elbv2 TargetGroupStickinessConfig.Enabled",
)
def _(aws: Aws) -> None:
    route, _webs = _pair(aws, 1, 1)
    same(route.get()[2].get("set-cookie"), None)


@case(
    "a deregistered target gets nothing new and finishes what it has",
    "The load balancer stops sending requests to targets that are deregistering, but uses connection draining to ensure "
    "that in-flight traffic completes on the existing connections.",
    "elbv2 DeregisterTargets",
)
def _(aws: Aws) -> None:
    route, webs = _pair(aws, 1, 0)
    other = aws.web("other")
    route.serve(0, other)
    until("both answer", lambda: set(route.seen(20)) == {"blue", "other"})
    answers: list = []

    def slowly() -> None:
        while not webs[0].busy.is_set():
            answers.append(route.get("/slow"))
            other.busy.clear()

    # The other target answers `/slow` at once.
    other.release.set()
    thread = threading.Thread(target=slowly, daemon=True)
    thread.start()
    until("blue is busy", webs[0].busy.is_set)
    target = {"Id": "127.0.0.1", "Port": webs[0].port}
    aws.elb.deregister_targets(TargetGroupArn=route.groups[0], Targets=[target])
    same(route.described(0, webs[0])["State"], "draining")
    same(route.described(0, webs[0])["Reason"], "Target.DeregistrationInProgress")
    until("blue gets nothing new", lambda: route.seen(20) == {"other": 20})
    webs[0].release.set()
    thread.join(10)
    same(answers[-1][:2], (200, "blue"), "the request in flight")


@case(
    "a deregistered target drains for the whole delay and is unused then",
    "The amount of time, in seconds, for Elastic Load Balancing to wait before changing the state of a deregistering "
    "target from draining to unused.",
    "elbv2 TargetGroupAttribute.Key",
)
def _(aws: Aws) -> str:
    route, webs = _pair(aws, 1, 0)
    delay = [{"Key": "deregistration_delay.timeout_seconds", "Value": "60"}]
    aws.elb.modify_target_group_attributes(TargetGroupArn=route.groups[0], Attributes=delay)
    target = {"Id": "127.0.0.1", "Port": webs[0].port}
    began = time.monotonic()
    aws.elb.deregister_targets(TargetGroupArn=route.groups[0], Targets=[target])
    until("unused", lambda: route.health(0, webs[0]) == "unused", patience=aws.seconds(60) + 10)
    took = time.monotonic() - began
    need(took >= 0.9 * aws.seconds(60), f"only {took:.2f} s")
    return f"{took * aws.speed:.0f} s of AWS"


@case(
    "weights changed by many at once leave the last write, and no request is lost",
    "Last-writer-wins",
    "aws-facts §2 (no ETag, no compare-and-set)",
)
def _(aws: Aws) -> str:
    route, _webs = _pair(aws, 1, 1)
    stop = threading.Event()
    seen: list[dict] = []

    def ask(_: int) -> None:
        while not stop.is_set():
            seen.append(route.seen(1))

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    at_once(4, lambda number: [route.weigh(1 + number, 1 + index) for index in range(10)])
    last = route.weigh(7, 3)
    stop.set()
    for thread in threads:
        thread.join(10)
    same(route.actions(), last)
    wrong = [one for one in seen if not set(one) <= {"blue", "green"}]
    same(wrong, [], "answers that are no 200")
    return f"{len(seen)} requests under 41 writes"


@case(
    "a listener that is deleted answers no more",
    "Deletes the specified listener.",
    "elbv2 DeleteListener",
)
def _(aws: Aws) -> None:
    listener, port = aws.listener(aws.load_balancer(), fixed(200, "here"))
    until("it answers", lambda: get(port)[1] == "here")
    aws.elb.delete_listener(ListenerArn=listener)

    def gone() -> bool:
        try:
            return get(port)[0] != 200
        except OSError:
            return True

    until("it is gone", gone)


@case(
    "requests of a group become its metrics, and errors count only when there are any",
    "reported only when requests flow",
    "aws-facts §3 (load-balancer-cloudwatch-metrics)",
    needs=("traffic", "alarms"),
)
def _(aws: Aws) -> None:
    import datetime

    route, _webs = _pair(aws, 1, 0)
    route.seen(25)
    dimensions = [
        {"Name": "LoadBalancer", "Value": route.load_balancer.partition(":loadbalancer/")[2]},
        {"Name": "TargetGroup", "Value": route.groups[0].rpartition(":")[2]},
    ]

    def points(metric: str) -> list[float]:
        now = datetime.datetime.now(datetime.timezone.utc)
        stat = {"Metric": {"Namespace": "AWS/ApplicationELB", "MetricName": metric, "Dimensions": dimensions}}
        answer = aws.cloudwatch.get_metric_data(
            MetricDataQueries=[{"Id": "m", "MetricStat": {**stat, "Period": 60, "Stat": "Sum"}}],
            StartTime=now - datetime.timedelta(hours=1),
            EndTime=now + datetime.timedelta(minutes=2),
        )
        return answer["MetricDataResults"][0]["Values"]

    until("RequestCount", lambda: sum(points("RequestCount")) >= 25)
    need(sum(points("HTTPCode_Target_2XX_Count")) >= 25, points("HTTPCode_Target_2XX_Count"))
    same(points("HTTPCode_Target_5XX_Count"), [], "no error, no data point")


@case(
    "a client connection without data for the idle timeout is closed, and a shorter one stays",
    "The connection idle timeout is the period of time an existing client or target connection can remain inactive, with "
    "no data being sent or received, before the load balancer closes the connection.",
    "application load balancer guide, edit-load-balancer-attributes#connection-idle-timeout",
)
def _(aws: Aws) -> None:
    short, long = aws.load_balancer(), aws.load_balancer()
    aws.elb.modify_load_balancer_attributes(
        LoadBalancerArn=short, Attributes=[{"Key": "idle_timeout.timeout_seconds", "Value": "1"}]
    )
    ports = [aws.listener(balancer, fixed(200, "here"))[1] for balancer in (short, long)]
    for port in ports:
        until("it answers", lambda: get(port)[0] == 200)
    silent, patient = (socket.create_connection(("127.0.0.1", port), timeout=20) for port in ports)
    with silent, patient:
        for connection in (silent, patient):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            need(connection.recv(4096).startswith(b"HTTP/1.1 200"), "an answer")
        same(silent.recv(4096), b"", "what comes after the idle timeout")
        # By default it is 60 seconds; this one has been idle for as long as the other.
        patient.sendall(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        need(patient.recv(4096).startswith(b"HTTP/1.1 200"), "a second answer")
