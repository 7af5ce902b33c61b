"""Sets up a region as a user would, with boto3: tables, cluster, load balancers, services, alarms."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any, Optional

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config

from harness import OUR_KEY, Call, CallLog, Tables, until
from judge import Placement, Write

NAMESPACE = "scenario"
CLUSTER = "prod"

#: A held call takes effect at most so many seconds before its record's end.
HELD_CALL = 0.1

_to_dynamodb, _from_dynamodb = TypeSerializer(), TypeDeserializer()


def item(document: dict) -> dict:
    """A document as a DynamoDB item."""
    return {name: _to_dynamodb.serialize(value) for name, value in document.items()}


def document(item: Optional[dict]) -> dict:
    """A DynamoDB item as a document."""
    return {name: _from_dynamodb.deserialize(value) for name, value in (item or {}).items()}


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Service:
    """One ECS service with everything around it."""

    name: str
    arn: str
    cluster: str
    load_balancer: str
    listener: str
    port: int
    groups: dict[str, str]
    production: str
    test: str
    alarms: dict[str, str]
    #: What was released, for the judge: revision by label.
    revisions: dict[str, str] = field(default_factory=dict)

    def group_of(self, arn: str) -> str:
        """`a` or `b`."""
        return next((group for group, known in self.groups.items() if known == arn), arn)


class Region:
    """The AWS clients of one sandbox."""

    def __init__(self, endpoint: str):
        session = boto3.session.Session(
            aws_access_key_id=OUR_KEY, aws_secret_access_key="not-a-secret", region_name="eu-central-1"
        )
        config = Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=5,
            read_timeout=15,
            max_pool_connections=32,
        )

        def client(service: str) -> Any:
            return session.client(service, endpoint_url=endpoint, config=config)

        self.ecs, self.elb = client("ecs"), client("elbv2")
        self.cloudwatch, self.dynamodb = client("cloudwatch"), client("dynamodb")
        self.ecs.create_cluster(clusterName=CLUSTER)

    # --- tables

    def create_tables(self, tables: Tables) -> Tables:
        """The two tables of an installation."""

        def key(name: str, kind: str) -> dict:
            return {"AttributeName": name, "KeyType": kind}

        def text(name: str) -> dict:
            return {"AttributeName": name, "AttributeType": "S"}

        index = {
            "IndexName": "by-kind",
            "KeySchema": [key("kind", "HASH"), key("pk", "RANGE")],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        stream = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        for name, extra in ((tables.records, {"StreamSpecification": stream}), (tables.state, {})):
            self.dynamodb.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[text("pk"), text("sk"), text("kind")],
                KeySchema=[key("pk", "HASH"), key("sk", "RANGE")],
                GlobalSecondaryIndexes=[index],
                **extra,
            )
        for name in (tables.records, tables.state):
            self.dynamodb.get_waiter("table_exists").wait(
                TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
            )
        return tables

    def put(self, table: str, record: dict) -> None:
        """PutItem of a plain map."""
        self.dynamodb.put_item(TableName=table, Item=item(record))

    def delete(self, table: str, pk: str, sk: str) -> None:
        """DeleteItem."""
        self.dynamodb.delete_item(TableName=table, Key=item({"pk": pk, "sk": sk}))

    def get(self, table: str, pk: str, sk: str, attribute: str) -> Any:
        """One attribute by GetItem; `None` when there is no item or it has none of that name."""
        answer = self.dynamodb.get_item(
            TableName=table,
            Key=item({"pk": pk, "sk": sk}),
            ConsistentRead=True,
            ProjectionExpression="#attribute",
            ExpressionAttributeNames={"#attribute": attribute},
        )
        return document(answer.get("Item")).get(attribute)

    # --- services

    def create_service(
        self, name: str, desired: int = 2, controller: str = "EXTERNAL", patient: bool = False
    ) -> Service:
        """An ECS service without task sets, two target groups behind one load balancer, and their alarms.

        `patient`: a target is given up after 5 s instead of after two checks of a sixth of a second (by the sandbox's
        clock), for machines so busy that sound tasks miss those.
        """
        answer = self.elb.create_load_balancer(
            Name=name, Type="application", Scheme="internal", Subnets=["subnet-0a1b2c3d", "subnet-4e5f6a7b"]
        )
        load_balancer = answer["LoadBalancers"][0]["LoadBalancerArn"]
        groups = {group: self._target_group(f"{name}-{group}", patient) for group in ("a", "b")}
        listener, port = self._listener(load_balancer)
        both = self.forward(groups, 1, 0)
        preview = {"HttpHeaderName": "x-preview", "Values": ["yes"]}
        test = self._rule(listener, 10, {"Field": "http-header", "HttpHeaderConfig": preview}, both)
        everything = {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}
        production = self._rule(listener, 20, everything, both)
        alarms = {group: self._alarm(name, group, load_balancer, arn) for group, arn in groups.items()}
        return Service(
            name=name,
            arn=self._ecs_service(name, desired, controller),
            cluster=self.ecs.describe_clusters(clusters=[CLUSTER])["clusters"][0]["clusterArn"],
            load_balancer=load_balancer,
            listener=listener,
            port=port,
            groups=groups,
            production=production,
            test=test,
            alarms=alarms,
        )

    def _ecs_service(self, name: str, desired: int, controller: str) -> str:
        extra = {}
        if controller != "EXTERNAL":
            extra = {"taskDefinition": self.register(name), "launchType": "FARGATE"}
            network = {"subnets": ["subnet-0a1b2c3d"], "securityGroups": ["sg-0123abcd"]}
            extra["networkConfiguration"] = {"awsvpcConfiguration": network}
        answer = self.ecs.create_service(
            cluster=CLUSTER,
            serviceName=name,
            desiredCount=desired,
            schedulingStrategy="REPLICA",
            deploymentController={"type": controller},
            **extra,
        )
        return answer["service"]["serviceArn"]

    def _target_group(self, name: str, patient: bool) -> str:
        answer = self.elb.create_target_group(
            Name=name,
            Protocol="HTTP",
            Port=8080,
            VpcId="vpc-0a1b2c3d",
            TargetType="ip",
            HealthCheckPath="/health",
            HealthCheckIntervalSeconds=15 if patient else 10,
            HealthCheckTimeoutSeconds=14 if patient else 5,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=10 if patient else 2,
        )
        arn = answer["TargetGroups"][0]["TargetGroupArn"]
        attributes = [{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}]
        self.elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=attributes)
        return arn

    def _listener(self, load_balancer: str) -> tuple[str, int]:
        # Another process may take a free port first; then the next one is tried.
        nobody = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
        port = free_port()
        answer = self.elb.create_listener(
            LoadBalancerArn=load_balancer, Protocol="HTTP", Port=port, DefaultActions=[nobody]
        )
        until("the listener takes connections", lambda: _accepts(port), 10)
        return answer["Listeners"][0]["ListenerArn"], port

    def _rule(self, listener: str, priority: int, condition: dict, actions: list) -> str:
        answer = self.elb.create_rule(
            ListenerArn=listener, Priority=priority, Conditions=[condition], Actions=actions
        )
        return answer["Rules"][0]["RuleArn"]

    @staticmethod
    def forward(groups: dict[str, str], a: int, b: int) -> list:
        """A weighted forward action to the pair."""
        pair = [
            {"TargetGroupArn": groups["a"], "Weight": a},
            {"TargetGroupArn": groups["b"], "Weight": b},
        ]
        return [{"Type": "forward", "ForwardConfig": {"TargetGroups": pair}}]

    def _alarm(self, name: str, group: str, load_balancer: str, target_group: str) -> str:
        alarm = f"{name}-{group}-5xx"
        self.put_alarm(alarm, load_balancer, target_group)
        return alarm

    def put_alarm(self, alarm: str, load_balancer: str, target_group: str) -> None:
        """Fires at three answers of the 5XX class in one period."""
        dimensions = {
            "LoadBalancer": load_balancer.partition(":loadbalancer/")[2],
            "TargetGroup": target_group.rpartition(":")[2],
        }
        self.cloudwatch.put_metric_alarm(
            AlarmName=alarm,
            Namespace="AWS/ApplicationELB",
            MetricName="HTTPCode_Target_5XX_Count",
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=3,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            TreatMissingData="notBreaching",
        )

    def register(self, family: str, **faults: str) -> str:
        """Registers a task definition of the demo app; returns `family:revision`."""
        environment = [{"name": key, "value": value} for key, value in faults.items()]
        container = {
            "name": "web",
            "image": "pointsman/demo:1",
            "essential": True,
            "portMappings": [{"containerPort": 8080}],
            "environment": environment,
        }
        answer = self.ecs.register_task_definition(
            family=family,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[container],
        )
        made = answer["taskDefinition"]
        return f"{made['family']}:{made['revision']}"

    # --- what is really there

    def task_sets(self, service: Service) -> list[dict]:
        """All task sets of the service, draining ones included."""
        answer = self.ecs.describe_services(cluster=service.cluster, services=[service.arn])
        return answer["services"][0].get("taskSets", [])

    def weights(self, service: Service, rule: str) -> dict[str, int]:
        """Live weights of a rule, by `a` and `b`."""
        answer = self.elb.describe_rules(RuleArns=[rule])
        return weights_of(service, answer["Rules"][0]["Actions"])

    def revision_in(self, service: Service, group: str) -> Optional[str]:
        """The revision whose task set is in a group; none when it is empty."""
        for task_set in self.task_sets(service):
            if task_set["loadBalancers"][0]["targetGroupArn"] == service.groups[group]:
                return task_set["taskDefinition"].rpartition("/")[2]
        return None

    def serving(self, service: Service) -> Optional[str]:
        """The revision that has all production weight; none when none has."""
        weights = self.weights(service, service.production)
        with_weight = [group for group, weight in weights.items() if weight > 0]
        return self.revision_in(service, with_weight[0]) if len(with_weight) == 1 else None

    def alarm_state(self, alarm: str) -> str:
        """`OK`, `ALARM` or `INSUFFICIENT_DATA`."""
        return self.cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"][0]["StateValue"]


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def weights_of(service: Service, actions: list) -> dict[str, int]:
    """The weights in a list of actions, by `a` and `b`."""
    for action in actions:
        pair = (action.get("ForwardConfig") or {}).get("TargetGroups")
        if pair:
            return {service.group_of(one["TargetGroupArn"]): int(one["Weight"]) for one in pair}
    return {}


def weight_calls(calls: list[Call], service: Service, rule: str) -> list[Call]:
    """The calls that set a rule's weights: its creation and every change."""
    return [
        call
        for call in calls
        if call.operation in ("CreateRule", "ModifyRule")
        and call.resource == rule
        and weights_of(service, call.parameters.get("Actions", []))
    ]


def writes(log: CallLog, service: Service, rule: Optional[str] = None) -> list[Write]:
    """All weight writes on a rule, the production rule when none is given, for the judge."""
    found = []
    for call in weight_calls(log.since(mentions=service.name), service, rule or service.production):
        if call.result is not None and not call.done:
            # Refused: nothing changed.
            continue
        acked = call.ended if call.done else None
        # A call that was held back took effect when it was let go, not when it came.
        sent = call.ended - HELD_CALL if "hold" in call.faults else call.began
        found.append(Write(sent, acked, weights_of(service, call.parameters["Actions"])))
    return found


def placements(log: CallLog, service: Service) -> list[Placement]:
    """Which revision was ever put into which group."""
    found = []
    for call in log.since(mentions=service.name):
        if call.operation == "CreateTaskSet" and call.done:
            group = call.parameters["loadBalancers"][0]["targetGroupArn"]
            revision = call.parameters["taskDefinition"].rpartition("/")[2]
            found.append(Placement(revision, service.group_of(group)))
    return found
