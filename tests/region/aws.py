"""What cases use: clients of one endpoint, and the things that many of them set up first."""

from __future__ import annotations

import http.server
import itertools
import json
import os
import socket
import threading
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Callable, Optional

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from suite import need, until

REGION = "eu-central-1"
#: Both are replaced by the endpoint's own where it has any.
SUBNETS = ["subnet-0a1b2c3d", "subnet-4e5f6a7b"]
PLACE = {"vpc": "vpc-0a1b2c3d"}
NETWORK = {"awsvpcConfiguration": {"subnets": SUBNETS, "securityGroups": ["sg-0123abcd"]}}
SERVICES = ("ecs", "elbv2", "cloudwatch", "dynamodb", "dynamodbstreams", "lambda", "sns", "sqs", "events", "sts")


class Endpoint:
    """Clients of one endpoint; shared by all cases."""

    def __init__(self, url: str, speed: float):
        self.url = url.rstrip("/")
        #: How many times faster than AWS alarm periods, health checks and draining go.
        self.speed = speed
        self._session = boto3.session.Session(
            aws_access_key_id="AKIDREGION", aws_secret_access_key="not-a-secret", region_name=REGION
        )
        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=30,
            max_pool_connections=64,
            # Wrong inputs must reach the endpoint.
            parameter_validation=False,
        )
        self._clients = {
            name: self._session.client(name, endpoint_url=self.url, config=config) for name in SERVICES
        }

    def find_subnets(self) -> None:
        """Takes subnets that the endpoint knows, if it answers EC2: some refuse others."""
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10)
        client = self._session.client("ec2", endpoint_url=self.url, config=config)
        try:
            found = client.describe_subnets()["Subnets"]
        except (BotoCoreError, ClientError):
            return
        of_one_vpc = [subnet for subnet in found if subnet["VpcId"] == found[0]["VpcId"]]
        if len(of_one_vpc) >= len(SUBNETS):
            PLACE["vpc"] = found[0]["VpcId"]
            SUBNETS[:] = [subnet["SubnetId"] for subnet in of_one_vpc[: len(SUBNETS)]]

    def client(self, service: str) -> Any:
        """A client without retries."""
        return self._clients[service]


class Aws:
    """One case's view of an endpoint: names of its own, and an end to everything that it made."""

    _numbers = itertools.count()

    def __init__(self, endpoint: Endpoint):
        self.endpoint, self.speed = endpoint, endpoint.speed
        self._undo = ExitStack()
        self._tag = f"{uuid.uuid4().hex[:6]}{next(self._numbers)}"
        client = endpoint.client
        self.ecs, self.elb, self.cloudwatch = client("ecs"), client("elbv2"), client("cloudwatch")
        self.dynamodb, self.streams = client("dynamodb"), client("dynamodbstreams")
        self.functions, self.sns, self.sqs = client("lambda"), client("sns"), client("sqs")
        self.events, self.sts = client("events"), client("sts")

    def name(self, word: str) -> str:
        """A name that nobody else has; at most 32 characters for a short word."""
        return f"{word}-{self._tag}-{next(self._numbers)}"[:32]

    def seconds(self, of_aws: float) -> float:
        """How long this time of AWS takes here."""
        return of_aws / self.speed

    def after(self, undo: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Undoes something when the case has ended; whether that works is not the case's matter."""

        def quietly() -> None:
            try:
                undo(*arguments, **named)
            except Exception:  # Not judged: the thing may be gone already.
                pass

        self._undo.callback(quietly)

    def end(self) -> None:
        """Undoes everything, newest first."""
        self._undo.close()

    def post(self, headers: dict[str, str], body: bytes, path: str = "/") -> tuple[int, dict[str, str], bytes]:
        """One raw request: status, headers, body. For the shape of answers that boto3 hides."""
        signed = {
            "authorization": f"AWS4-HMAC-SHA256 Credential=AKIDREGION/20260101/{REGION}/any/aws4_request, "
            "SignedHeaders=host, Signature=0",
            **headers,
        }
        request = urllib.request.Request(self.endpoint.url + path, data=body, headers=signed, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    # --- load balancing

    def group(self, **given: Any) -> str:
        """A target group for IP addresses; its ARN."""
        arguments: dict[str, Any] = dict(
            Name=self.name("tg"),
            Protocol="HTTP",
            Port=8080,
            VpcId=PLACE["vpc"],
            TargetType="ip",
            HealthCheckPath="/health",
            HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=2,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=2,
        )
        arguments.update(given)
        # None takes a member away.
        arguments = {member: value for member, value in arguments.items() if value is not None}
        arn = self.elb.create_target_group(**arguments)["TargetGroups"][0]["TargetGroupArn"]
        self.after(self.elb.delete_target_group, TargetGroupArn=arn)
        return arn

    def load_balancer(self, kind: str = "application") -> str:
        """A load balancer of this type; its ARN."""
        answer = self.elb.create_load_balancer(Name=self.name("lb"), Type=kind, Scheme="internal", Subnets=SUBNETS)
        arn = answer["LoadBalancers"][0]["LoadBalancerArn"]
        self.after(self.elb.delete_load_balancer, LoadBalancerArn=arn)
        return arn

    def listener(
        self, load_balancer: str, actions: Optional[list] = None, protocol: str = "HTTP"
    ) -> tuple[str, int]:
        """A listener on a free port; its ARN and the port. Without actions it answers 404."""
        port = free_port()
        answer = self.elb.create_listener(
            LoadBalancerArn=load_balancer, Protocol=protocol, Port=port, DefaultActions=actions or fixed(404)
        )
        arn = answer["Listeners"][0]["ListenerArn"]
        self.after(self.elb.delete_listener, ListenerArn=arn)
        return arn, port

    def route(self, a: int = 100, b: int = 0, **group: Any) -> "Route":
        """A load balancer whose listener has two weighted groups."""
        return Route(self, [self.group(**group), self.group(**group)], [a, b])

    def rule(self, listener: str, actions: list, priority: int = 10, **condition: Any) -> str:
        """A rule; its ARN. Without a condition it matches `/svc/*`."""
        chosen = condition or {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/svc/*"]}}
        answer = self.elb.create_rule(ListenerArn=listener, Priority=priority, Conditions=[chosen], Actions=actions)
        arn = answer["Rules"][0]["RuleArn"]
        self.after(self.elb.delete_rule, RuleArn=arn)
        return arn

    def web(self, says: str, **behaviour: Any) -> "Web":
        """A web server whose every answer is this word."""
        server = Web(says, **behaviour)
        self.after(server.close)
        return server

    # --- containers

    def definition(self, family: str = "", **environment: str) -> str:
        """A task definition of the sandbox's demo application; its ARN."""
        container = {
            "name": "web",
            "image": "pointsman/demo:1",
            "essential": True,
            "cpu": 128,
            "memory": 256,
            "portMappings": [{"containerPort": 8080, "protocol": "tcp"}],
            "environment": [{"name": key, "value": value} for key, value in environment.items()],
        }
        answer = self.ecs.register_task_definition(
            family=family or self.name("web"),
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[container],
        )
        return answer["taskDefinition"]["taskDefinitionArn"]

    def service(self, desired: int = 1) -> "Service":
        """A service with the EXTERNAL deployment controller, in a cluster of its own."""
        return Service(self, desired)

    # --- tables

    def table(self, stream: str = "", index: bool = False) -> "Table":
        """A table with the keys `pk` and `sk`."""
        return Table(self, stream, index)


class Route:
    """A load balancer, one listener, and weighted target groups behind it."""

    def __init__(self, aws: Aws, groups: list[str], weights: list[int]):
        self._aws, self.groups = aws, groups
        self.load_balancer = aws.load_balancer()
        self.listener, self.port = aws.listener(self.load_balancer, self.forward(*weights))

    def forward(self, *weights: int, **config: Any) -> list:
        """The forward action with these weights."""
        return forward(dict(zip(self.groups, weights)), **config)

    def weigh(self, *weights: int, **config: Any) -> list:
        """Sets the weights of the default action; the actions that AWS answers with."""
        actions = self.forward(*weights, **config)
        answer = self._aws.elb.modify_listener(ListenerArn=self.listener, DefaultActions=actions)
        return answer["Listeners"][0]["DefaultActions"]

    def actions(self) -> list:
        """The default actions, read back."""
        return self._aws.elb.describe_listeners(ListenerArns=[self.listener])["Listeners"][0]["DefaultActions"]

    def serve(self, group: int, web: "Web") -> None:
        """Registers a web server in a group and waits until it is healthy."""
        elb, arn = self._aws.elb, self.groups[group]
        target = {"Id": "127.0.0.1", "Port": web.port}
        elb.register_targets(TargetGroupArn=arn, Targets=[target])
        until(f"{web.says} is healthy", lambda: self.health(group, web) == "healthy")

    def described(self, group: int, web: "Web") -> dict:
        """What DescribeTargetHealth says of a web server."""
        targets = [{"Id": "127.0.0.1", "Port": web.port}]
        answer = self._aws.elb.describe_target_health(TargetGroupArn=self.groups[group], Targets=targets)
        return answer["TargetHealthDescriptions"][0]["TargetHealth"]

    def health(self, group: int, web: "Web") -> str:
        """The state of a web server as a target."""
        return self.described(group, web)["State"]

    def get(self, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
        """One request on a connection of its own: status, body, headers."""
        return get(self.port, path, **headers)

    def seen(self, requests: int, path: str = "/", **headers: str) -> dict[str, int]:
        """How often each body or error status was answered."""
        counts: dict[str, int] = {}
        for _ in range(requests):
            status, body, _ = self.get(path, **headers)
            answer = body if status == 200 else str(status)
            counts[answer] = counts.get(answer, 0) + 1
        return counts


class Service:
    """An EXTERNAL service and its task sets."""

    def __init__(self, aws: Aws, desired: int):
        self._aws = aws
        self.cluster, self.name = aws.name("c"), aws.name("s")
        aws.ecs.create_cluster(clusterName=self.cluster)
        aws.after(aws.ecs.delete_cluster, cluster=self.cluster)
        answer = aws.ecs.create_service(
            cluster=self.cluster,
            serviceName=self.name,
            desiredCount=desired,
            schedulingStrategy="REPLICA",
            deploymentController={"type": "EXTERNAL"},
        )
        self.arn = answer["service"]["serviceArn"]
        self.key = {"cluster": self.cluster, "service": self.name}
        aws.after(aws.ecs.delete_service, **self.key, force=True)
        self._definition: Optional[str] = None

    @property
    def definition(self) -> str:
        """Its task definition unless a task set is given another."""
        self._definition = self._definition or self._aws.definition()
        return self._definition

    def request(self, scale: Optional[float] = 100.0, group: str = "", **given: Any) -> dict:
        """The members of a CreateTaskSet request."""
        request: dict[str, Any] = {
            **self.key,
            "taskDefinition": given.pop("taskDefinition", None) or self.definition,
            "launchType": "FARGATE",
            "networkConfiguration": NETWORK,
            **given,
        }
        if scale is not None:
            request["scale"] = {"value": scale, "unit": "PERCENT"}
        if group:
            request["loadBalancers"] = [{"targetGroupArn": group, "containerName": "web", "containerPort": 8080}]
        return {member: value for member, value in request.items() if value is not None}

    def make(self, scale: Optional[float] = 100.0, group: str = "", **given: Any) -> dict:
        """CreateTaskSet; the task set."""
        return self._aws.ecs.create_task_set(**self.request(scale, group, **given))["taskSet"]

    def sets(self) -> list[dict]:
        """All task sets."""
        return self._aws.ecs.describe_task_sets(**self.key)["taskSets"]

    def set(self, task_set: dict) -> dict:
        """A task set as it is now."""
        found = [held for held in self.sets() if held["id"] == task_set["id"]]
        need(found, f"task set {task_set['id']} is gone")
        return found[0]

    def scale(self, task_set: dict, percent: float) -> dict:
        """UpdateTaskSet."""
        scale = {"value": percent, "unit": "PERCENT"}
        return self._aws.ecs.update_task_set(**self.key, taskSet=task_set["taskSetArn"], scale=scale)["taskSet"]

    def steady(self, task_set: dict) -> dict:
        """Waits for STEADY_STATE with all its tasks."""

        def look() -> Optional[dict]:
            now = self.set(task_set)
            settled = now["stabilityStatus"] == "STEADY_STATE"
            return now if settled and now["runningCount"] == now["computedDesiredCount"] else None

        return until("STEADY_STATE", look)

    def promote(self, task_set: dict) -> dict:
        """UpdateServicePrimaryTaskSet."""
        arn = task_set["taskSetArn"]
        return self._aws.ecs.update_service_primary_task_set(**self.key, primaryTaskSet=arn)["taskSet"]

    def delete(self, task_set: dict, force: bool = False) -> dict:
        """DeleteTaskSet."""
        return self._aws.ecs.delete_task_set(**self.key, taskSet=task_set["taskSetArn"], force=force)["taskSet"]

    def described(self) -> dict:
        """The service in DescribeServices."""
        return self._aws.ecs.describe_services(cluster=self.cluster, services=[self.name])["services"][0]

    def tasks(self, **filters: Any) -> list[dict]:
        """Its tasks, described."""
        chosen = filters or {"serviceName": self.name}
        arns = self._aws.ecs.list_tasks(cluster=self.cluster, **chosen)["taskArns"]
        return self._aws.ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []


class Table:
    """A DynamoDB table."""

    def __init__(self, aws: Aws, stream: str, index: bool):
        self._aws, self.name = aws, aws.name("t")
        keys = [("pk", "HASH"), ("sk", "RANGE")]
        extra: dict[str, Any] = {}
        attributes = ["pk", "sk"]
        if index:
            attributes.append("g")
            schema = [{"AttributeName": "g", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
            projection = {"ProjectionType": "ALL"}
            extra["GlobalSecondaryIndexes"] = [{"IndexName": "by-g", "KeySchema": schema, "Projection": projection}]
        if stream:
            extra["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": stream}
        aws.dynamodb.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in attributes],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
            **extra,
        )
        aws.after(aws.dynamodb.delete_table, TableName=self.name)
        until("the table is ACTIVE", lambda: self.described()["TableStatus"] == "ACTIVE")

    def described(self) -> dict:
        """DescribeTable."""
        return self._aws.dynamodb.describe_table(TableName=self.name)["Table"]

    def put(self, pk: str, sk: str = "a", attributes: Optional[dict] = None, **given: Any) -> dict:
        """PutItem of a key and attributes in DynamoDB's form."""
        item = {**key(pk, sk), **(attributes or {})}
        return self._aws.dynamodb.put_item(TableName=self.name, Item=item, **given)

    def get(self, pk: str, sk: str = "a") -> Optional[dict]:
        """GetItem, strongly consistent."""
        answer = self._aws.dynamodb.get_item(TableName=self.name, Key=key(pk, sk), ConsistentRead=True)
        return answer.get("Item")

    def update(self, pk: str, expression: str, sk: str = "a", **given: Any) -> dict:
        """UpdateItem; the answer."""
        return self._aws.dynamodb.update_item(
            TableName=self.name, Key=key(pk, sk), UpdateExpression=expression, **given
        )

    def records(self) -> list[dict]:
        """Everything in the stream, shard by shard."""
        streams, arn = self._aws.streams, self.described()["LatestStreamArn"]
        found: list[dict] = []
        for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
            iterator = streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while iterator:
                answer = streams.get_records(ShardIterator=iterator)
                found += answer["Records"]
                iterator = answer.get("NextShardIterator") if answer["Records"] else None
        return found


class Web:
    """A web server on a loopback port that says one word, and can be told to be slow or sick."""

    def __init__(self, says: str, health: int = 200):
        self.says, self.health = says, health
        #: Set while requests to `/slow` are being answered; they end when `release` is set.
        self.busy, self.release = threading.Event(), threading.Event()
        self.paths: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are two writes; together they leave at once.
            wbufsize = -1

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                del outer.paths[:-1_000]
                status = outer.health if self.path == "/health" else 200
                if self.path.startswith("/slow"):
                    outer.busy.set()
                    outer.release.wait(30)
                body = json.dumps(dict(self.headers)).encode() if self.path == "/headers" else outer.says.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Stops answering."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


def forward(weights: dict[str, int], stickiness: Optional[int] = None) -> list:
    """A weighted forward action; with seconds of group stickiness if given."""
    tuples = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
    config: dict[str, Any] = {"TargetGroups": tuples}
    if stickiness is not None:
        config["TargetGroupStickinessConfig"] = {"Enabled": True, "DurationSeconds": stickiness}
    return [{"Type": "forward", "ForwardConfig": config}]


def fixed(status: int, body: str = "") -> list:
    """A fixed-response action."""
    config = {"StatusCode": str(status), "ContentType": "text/plain", "MessageBody": body}
    return [{"Type": "fixed-response", "FixedResponseConfig": config}]


def weights(actions: list) -> list[int]:
    """The weights in a list of actions."""
    config = [action for action in actions if action["Type"] == "forward"][-1]["ForwardConfig"]
    return [one["Weight"] for one in config["TargetGroups"]]


def key(pk: str, sk: str = "a") -> dict:
    """A primary key."""
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port: int, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    """One request on a connection of its own: status, body, headers. `host` sets that header."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with _opener.open(request, timeout=15) as answer:
            return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), {k.lower(): v for k, v in error.headers.items()}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def at_once(count: int, what: Callable[[int], Any]) -> list:
    """Runs something in this many threads; the results in order."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(what, range(count)))
