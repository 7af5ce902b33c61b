"""Network Load Balancers: what they refuse, and where TCP connections go."""

from __future__ import annotations

import math
import socket
from typing import Optional

from aws import PLACE, Aws, fixed, forward, free_port
from suite import Service, need, refused, same, until

NETWORK = Service("network")
CASES = NETWORK.cases
case = NETWORK.case

WRONG = ("ValidationError", "InvalidConfigurationRequest", "IncompatibleProtocols")


def _group(aws: Aws, **given: object) -> str:
    """A TCP target group whose health checks ask the web servers by HTTP."""
    return aws.group(Protocol="TCP", HealthCheckProtocol="HTTP", **given)


def _ask(port: int) -> Optional[str]:
    """Which web server answers on a new connection; none when it is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return _ask_on(connection)


def _ask_on(connection: socket.socket) -> Optional[str]:
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.partition(b"\r\n\r\n")[2]:
            more = connection.recv(4096)
            if not more:
                return None
            answer += more
    except OSError:
        return None
    return answer.partition(b"\r\n\r\n")[2].decode()


class _Flows:
    """A Network Load Balancer with two weighted groups and a web server in each."""

    def __init__(self, aws: Aws, a: int, b: int):
        self.aws, self.groups = aws, [_group(aws), _group(aws)]
        self.listener, self.port = aws.listener(aws.load_balancer("network"), self.forward(a, b), "TCP")
        self.webs = [aws.web("blue"), aws.web("green")]
        for group, web in zip(self.groups, self.webs):
            aws.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "127.0.0.1", "Port": web.port}])
            until("healthy", lambda: self.state(group) == "healthy")

    def forward(self, a: int, b: int) -> list:
        return forward(dict(zip(self.groups, (a, b))))

    def weigh(self, a: int, b: int) -> None:
        self.aws.elb.modify_listener(ListenerArn=self.listener, DefaultActions=self.forward(a, b))

    def state(self, group: str) -> str:
        answer = self.aws.elb.describe_target_health(TargetGroupArn=group)
        return answer["TargetHealthDescriptions"][0]["TargetHealth"]["State"]


@case(
    "a network load balancer takes no HTTP listener, and an application load balancer no TCP listener",
    "For Application Load Balancers, the supported protocols are HTTP and HTTPS. For Network Load Balancers, the supported "
    "protocols are TCP, TLS, UDP, TCP_UDP",
    "elbv2 CreateListenerInput.Protocol",
)
def _(aws: Aws) -> None:
    network, application = aws.load_balancer("network"), aws.load_balancer()
    plain, tcp = aws.group(), _group(aws)
    refused(lambda: aws.listener(network, forward({plain: 1}), "HTTP"), "UnsupportedProtocol", *WRONG)
    refused(lambda: aws.listener(application, forward({tcp: 1}), "TCP"), "UnsupportedProtocol", *WRONG)


@case(
    "a target group must fit its listener's protocol",
    "The specified configuration is not valid with this protocol.",
    "elbv2 IncompatibleProtocolsException",
)
def _(aws: Aws) -> None:
    network, application = aws.load_balancer("network"), aws.load_balancer()
    plain, tcp = aws.group(), _group(aws)
    refused(lambda: aws.listener(network, forward({plain: 1}), "TCP"), *WRONG)
    refused(lambda: aws.listener(application, forward({tcp: 1})), *WRONG)


@case(
    "rules are not for the listeners of a network load balancer with IPv4 addresses",
    "The listener must be associated with an Application Load Balancer or a dual-stack Network Load Balancer.",
    "elbv2 CreateRule",
)
def _(aws: Aws) -> None:
    group = _group(aws)
    listener, _ = aws.listener(aws.load_balancer("network"), forward({group: 1}), "TCP")
    refused(lambda: aws.rule(listener, forward({group: 1})), "OperationNotPermitted", "UnsupportedProtocol", *WRONG)


@case(
    "a network load balancer gives no fixed responses",
    "[Application Load Balancer] Information for creating an action that returns a custom HTTP response.",
    "elbv2 Action.FixedResponseConfig",
)
def _(aws: Aws) -> None:
    network = aws.load_balancer("network")
    refused(lambda: aws.listener(network, fixed(404), "TCP"), "InvalidLoadBalancerAction", *WRONG)


@case(
    "a TCP group is checked by TCP every 30 seconds, with 10 seconds to answer",
    "For target groups with a protocol of TCP, TLS or HTTPS, the default is 10 seconds.",
    "elbv2 CreateTargetGroupInput.HealthCheckTimeoutSeconds",
)
def _(aws: Aws) -> None:
    made = aws.elb.create_target_group(Name=aws.name("tg"), Protocol="TCP", Port=80, VpcId=PLACE["vpc"])["TargetGroups"][0]
    aws.after(aws.elb.delete_target_group, TargetGroupArn=made["TargetGroupArn"])
    same((made["HealthCheckProtocol"], made["HealthCheckTimeoutSeconds"]), ("TCP", 10))
    same((made["HealthCheckIntervalSeconds"], made.get("Matcher")), (30, None))


@case(
    "an HTTP group is not checked by TCP",
    "The TCP protocol is not supported for health checks if the protocol of the target group is HTTP or HTTPS.",
    "elbv2 CreateTargetGroupInput.HealthCheckProtocol",
)
def _(aws: Aws) -> None:
    refused(lambda: aws.group(HealthCheckProtocol="TCP"), *WRONG)


@case(
    "cross-zone load balancing is off by default",
    "The default for Network Load Balancers and Gateway Load Balancers is false.",
    "elbv2 LoadBalancerAttribute.Key",
)
def _(aws: Aws) -> None:
    arn = aws.load_balancer("network")
    held = aws.elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    held = {one["Key"]: one["Value"] for one in held}
    same((held["load_balancing.cross_zone.enabled"], held.get("idle_timeout.timeout_seconds")), ("false", None))


@case(
    "connections are shared in the ratio of the weights",
    "Users can assign numeric weights between 0 and 999 to each NLB target group.",
    "AWS blog, Network Load Balancers now support Weighted Target Groups",
    needs=("traffic",),
)
def _(aws: Aws) -> str:
    flows = _Flows(aws, 75, 25)
    until("connections are served", lambda: _ask(flows.port))
    seen = [_ask(flows.port) for _ in range(300)]
    green, bound = seen.count("green"), 5 * math.sqrt(300 * 0.25 * 0.75)
    same(set(seen), {"blue", "green"})
    need(abs(green - 75) <= bound, f"{green} of 300, not 75 ± {bound:.0f} green")
    return f"{green} of 300"


@case(
    "new weights are for new connections, and open ones go on",
    "are not affected and continue until they are closed",
    "aws-facts §2 (network load balancer guide, load-balancer-listeners)",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    flows = _Flows(aws, 1, 0)
    until("connections are served", lambda: _ask(flows.port) == "blue")
    with socket.create_connection(("127.0.0.1", flows.port), timeout=10) as held:
        same(_ask_on(held), "blue")
        flows.weigh(0, 1)
        until("new ones go to green", lambda: _ask(flows.port) == "green")
        same({_ask(flows.port) for _ in range(20)}, {"green"})
        same(_ask_on(held), "blue", "the open connection")


@case(
    "a connection to a target that drains goes on, and it gets no new ones",
    "The load balancer stops sending requests to targets that are deregistering, but uses connection draining to ensure "
    "that in-flight traffic completes on the existing connections.",
    "elbv2 DeregisterTargets",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    flows = _Flows(aws, 1, 0)
    until("connections are served", lambda: _ask(flows.port) == "blue")
    with socket.create_connection(("127.0.0.1", flows.port), timeout=10) as held:
        same(_ask_on(held), "blue")
        target = {"Id": "127.0.0.1", "Port": flows.webs[0].port}
        aws.elb.deregister_targets(TargetGroupArn=flows.groups[0], Targets=[target])
        same(flows.state(flows.groups[0]), "draining")
        until("nobody takes new ones", lambda: _ask(flows.port) is None)
        same(_ask_on(held), "blue", "the open connection")


@case(
    "a target that takes no connections is unhealthy",
    "Target.FailedHealthChecks - The load balancer received an error while establishing a connection to the target",
    "elbv2 TargetHealth.Reason",
    needs=("traffic",),
)
def _(aws: Aws) -> None:
    group = aws.group(Protocol="TCP", HealthCheckProtocol="TCP", HealthCheckPath=None)
    aws.listener(aws.load_balancer("network"), forward({group: 1}), "TCP")
    aws.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "127.0.0.1", "Port": free_port()}])

    def health() -> Optional[dict]:
        found = aws.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"][0]["TargetHealth"]
        return found if found["State"] == "unhealthy" else None

    same(until("unhealthy", health)["Reason"], "Target.FailedHealthChecks")
