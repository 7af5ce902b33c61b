"""ECS: services with the EXTERNAL deployment controller, their task sets and tasks."""

from __future__ import annotations

import uuid

from aws import NETWORK, SUBNETS, Aws, at_once, fixed, forward
from suite import Service, need, refused, same, stays, until

ECS = Service("ecs")
CASES = ECS.cases
case = ECS.case

TASKS = ("tasks",)
GUIDE = "developer guide, deployment-type-external"
ISSUE = "aws-facts §1.4 (aws-samples/ecs-bg-external-controller#6, pipecd#4692)"
GUIDE_K = "aws-facts §1.5 (Comprehensive Guide of ECS External Deployment & TaskSet)"
STEADY = "All tasks are reporting a healthy status from the load balancers, service discovery, and container health checks."


# --- services


@case(
    "an EXTERNAL service is created from its name alone",
    "When creating a service that uses the EXTERNAL deployment controller, you can specify only parameters that aren't "
    "controlled at the task set level. The only required parameter is the service name.",
    "ecs CreateService",
)
def _(aws: Aws) -> None:
    service = aws.service()
    described = service.described()
    same(described["deploymentController"]["type"], "EXTERNAL")
    same(described["status"], "ACTIVE")
    same(described.get("taskSets"), [], "taskSets")
    same(described.get("deployments", []), [], "deployments")


@case(
    "an EXTERNAL service takes nothing that belongs to its task sets",
    "you can specify only parameters that aren't controlled at the task set level.",
    "ecs CreateService",
)
def _(aws: Aws) -> None:
    service, definition = aws.service(), aws.definition()
    for member in ({"taskDefinition": definition}, {"launchType": "FARGATE"}, {"networkConfiguration": NETWORK}):
        made = {"cluster": service.cluster, "serviceName": aws.name("s"), "deploymentController": {"type": "EXTERNAL"}}
        refused(lambda: aws.ecs.create_service(**made, **member), "InvalidParameterException")


@case(
    "an EXTERNAL service is never a DAEMON",
    "Tasks using the Fargate launch type or the CODE_DEPLOY or EXTERNAL deployment controller types don't support the "
    "DAEMON scheduling strategy.",
    "ecs CreateServiceRequest.schedulingStrategy",
)
def _(aws: Aws) -> None:
    service = aws.service()
    made = {"cluster": service.cluster, "serviceName": aws.name("s"), "deploymentController": {"type": "EXTERNAL"}}
    refused(lambda: aws.ecs.create_service(**made, schedulingStrategy="DAEMON"), "InvalidParameterException")


@case(
    "an EXTERNAL service has no deployment circuit breaker",
    "Deployment circuit breaker feature is only supported with ECS deployment controller.",
    "aws-facts §1.1 (troubleshooting-deployment-controller-migration)",
)
def _(aws: Aws) -> None:
    service = aws.service()
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    made = {"cluster": service.cluster, "serviceName": aws.name("s"), "deploymentController": {"type": "EXTERNAL"}}
    refused(
        lambda: aws.ecs.create_service(**made, deploymentConfiguration=breaker),
        "InvalidParameterException",
        says="circuit breaker",
    )


@case(
    "availability zone rebalancing is ENABLED when it is left out",
    "For create service requests, when no value is specified for AvailabilityZoneRebalancing, Amazon ECS defaults the "
    "value to ENABLED.",
    "ecs CreateServiceRequest.availabilityZoneRebalancing",
)
def _(aws: Aws) -> None:
    same(aws.service().described()["availabilityZoneRebalancing"], "ENABLED")


@case(
    "UpdateService changes the desired count and the grace period of an EXTERNAL service",
    "For services using an external deployment controller, you can update only the desired count, task placement "
    "constraints and strategies, health check grace period, enable ECS managed tags option, and propagate tags option",
    "ecs UpdateService",
)
def _(aws: Aws) -> None:
    service = aws.service()
    changed = aws.ecs.update_service(**service.key, desiredCount=3, healthCheckGracePeriodSeconds=7)["service"]
    same((changed["desiredCount"], changed["healthCheckGracePeriodSeconds"]), (3, 7))
    same(aws.ecs.update_service(**service.key, enableECSManagedTags=True)["service"]["enableECSManagedTags"], True)
    same(service.described()["desiredCount"], 3, "an omitted desired count")


@case(
    "UpdateService refuses the rest on an EXTERNAL service and changes nothing",
    "If the launch type, load balancer, network configuration, platform version, or task definition need to be updated, "
    "create a new task set",
    "ecs UpdateService",
)
def _(aws: Aws) -> None:
    service = aws.service()
    for member in (
        {"taskDefinition": service.definition},
        {"networkConfiguration": NETWORK},
        {"platformVersion": "1.4.0"},
        {"loadBalancers": [{"targetGroupArn": aws.group(), "containerName": "web", "containerPort": 8080}]},
    ):
        refused(lambda: aws.ecs.update_service(**service.key, desiredCount=5, **member), "InvalidParameterException")
    same(service.described()["desiredCount"], 1)


@case(
    "an unknown service in UpdateService is ServiceNotFoundException",
    "The specified service wasn't found.",
    "ecs ServiceNotFoundException",
)
def _(aws: Aws) -> None:
    cluster = aws.service().cluster
    refused(lambda: aws.ecs.update_service(cluster=cluster, service="none"), "ServiceNotFoundException")


@case(
    "an unknown cluster is ClusterNotFoundException",
    "The specified cluster wasn't found.",
    "ecs ClusterNotFoundException",
)
def _(aws: Aws) -> None:
    unknown = aws.name("none")
    refused(lambda: aws.ecs.describe_services(cluster=unknown, services=["s"]), "ClusterNotFoundException")
    refused(lambda: aws.ecs.list_tasks(cluster=unknown), "ClusterNotFoundException")


@case(
    "DescribeServices lists an unknown service under failures, with its reason",
    "Any failures associated with the call.",
    "ecs DescribeServicesResponse.failures",
)
def _(aws: Aws) -> None:
    service = aws.service()
    answer = aws.ecs.describe_services(cluster=service.cluster, services=[service.name, "none"])
    same([found["serviceName"] for found in answer["services"]], [service.name])
    same([failure["reason"] for failure in answer["failures"]], ["MISSING"])
    need(answer["failures"][0]["arn"].endswith("none"), answer["failures"])


@case(
    "DescribeServices takes ten services and not eleven",
    "You may specify up to 10 services to describe in a single operation.",
    "ecs DescribeServicesRequest.services",
)
def _(aws: Aws) -> None:
    service = aws.service()
    ten = [service.name] + [f"none{number}" for number in range(9)]
    same(len(aws.ecs.describe_services(cluster=service.cluster, services=ten)["failures"]), 9)
    refused(
        lambda: aws.ecs.describe_services(cluster=service.cluster, services=[*ten, "more"]), "InvalidParameterException"
    )


@case(
    "tags of a service are described only when they are asked for",
    "If this field is omitted, tags aren't included in the response.",
    "ecs DescribeServicesRequest.include",
)
def _(aws: Aws) -> None:
    service = aws.service()
    aws.ecs.tag_resource(resourceArn=service.arn, tags=[{"key": "team", "value": "points"}])
    same(service.described().get("tags", []), [])
    asked = aws.ecs.describe_services(cluster=service.cluster, services=[service.name], include=["TAGS"])
    same(asked["services"][0]["tags"], [{"key": "team", "value": "points"}])


@case(
    "a service that is scaled up is deleted only by force",
    "If true, allows you to delete a service even if it wasn't scaled down to zero tasks.",
    "ecs DeleteServiceRequest.force",
)
def _(aws: Aws) -> None:
    service = aws.service(desired=1)
    refused(lambda: aws.ecs.delete_service(**service.key), "InvalidParameterException")
    same(service.described()["status"], "ACTIVE")
    aws.ecs.delete_service(**service.key, force=True)


@case(
    "a deleted service is INACTIVE in the end, and still described",
    "Services in the DRAINING or INACTIVE status can still be viewed with the DescribeServices API operation.",
    "ecs DeleteService",
)
def _(aws: Aws) -> None:
    service = aws.service(desired=0)
    need(aws.ecs.delete_service(**service.key)["service"]["status"] in ("DRAINING", "INACTIVE"), "its first status")
    until("it is INACTIVE", lambda: service.described()["status"] == "INACTIVE")
    same(aws.ecs.list_services(cluster=service.cluster)["serviceArns"], [], "ListServices")


@case(
    "an INACTIVE service is updated and given task sets by nobody",
    "The specified service isn't active. You can't update a service that's inactive.",
    "ecs ServiceNotActiveException",
)
def _(aws: Aws) -> None:
    service = aws.service(desired=0)
    request = service.request()
    aws.ecs.delete_service(**service.key)
    until("it is INACTIVE", lambda: service.described()["status"] == "INACTIVE")
    refused(lambda: aws.ecs.update_service(**service.key, desiredCount=1), "ServiceNotActiveException")
    refused(lambda: aws.ecs.create_task_set(**request), "ServiceNotActiveException")


@case(
    "a deleted service can be created again",
    "If you have previously deleted a service, you can re-create it with CreateService.",
    "ecs ServiceNotActiveException",
)
def _(aws: Aws) -> None:
    service = aws.service(desired=0)
    aws.ecs.delete_service(**service.key)
    until("it is INACTIVE", lambda: service.described()["status"] == "INACTIVE")
    again = {"cluster": service.cluster, "serviceName": service.name, "deploymentController": {"type": "EXTERNAL"}}
    aws.ecs.create_service(**again)
    same(service.described()["status"], "ACTIVE")


@case(
    "a second service of the same name is refused",
    "If you attempt to create a new service with the same name as an existing service in either ACTIVE or DRAINING "
    "status, you receive an error.",
    "ecs DeleteService",
)
def _(aws: Aws) -> None:
    service = aws.service()
    again = {"cluster": service.cluster, "serviceName": service.name, "deploymentController": {"type": "EXTERNAL"}}
    refused(lambda: aws.ecs.create_service(**again), "InvalidParameterException", "ServiceAlreadyExistsException")


# --- task definitions


@case(
    "a family alone means its latest ACTIVE revision",
    "you can simply specify the family to find the latest ACTIVE revision in that family.",
    "ecs DescribeTaskDefinition",
)
def _(aws: Aws) -> None:
    family = aws.name("f")
    first, second = aws.definition(family), aws.definition(family)
    same([first.rpartition(":")[2], second.rpartition(":")[2]], ["1", "2"])
    describe = lambda: aws.ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]["taskDefinitionArn"]
    same(describe(), second)
    aws.ecs.deregister_task_definition(taskDefinition=second)
    same(describe(), first)


@case(
    "a task set of a family takes its latest ACTIVE revision",
    "If a revision isn't specified, the latest ACTIVE revision is used.",
    "ecs CreateTaskSetRequest.taskDefinition",
)
def _(aws: Aws) -> None:
    family = aws.name("f")
    aws.definition(family)
    latest = aws.definition(family)
    same(aws.service(0).make(taskDefinition=family)["taskDefinition"], latest)


@case(
    "an INACTIVE task definition runs no new tasks",
    "You can't use an INACTIVE task definition to run new tasks or create new services",
    "ecs DeregisterTaskDefinition",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    aws.ecs.deregister_task_definition(taskDefinition=service.definition)
    refused(lambda: service.make(), "ClientException", "InvalidParameterException")


@case(
    "an unknown task definition is a ClientException",
    "it might be specifying an identifier that isn't valid.",
    "ecs ClientException",
)
def _(aws: Aws) -> None:
    refused(lambda: aws.ecs.describe_task_definition(taskDefinition="none:1"), "ClientException")
    refused(lambda: aws.service(0).make(taskDefinition="none:9"), "ClientException", "InvalidParameterException")


# --- task sets


@case(
    "a new task set is ACTIVE and STABILIZING, with its ARN, its service and its external id",
    "The following describes each state. … The task set isn't serving production traffic.",
    "ecs TaskSet.status",
)
def _(aws: Aws) -> None:
    service = aws.service()
    made = service.make(externalId="release-7")
    same((made["status"], made["stabilityStatus"], made["externalId"]), ("ACTIVE", "STABILIZING", "release-7"))
    need(made["taskSetArn"].endswith(f":task-set/{service.cluster}/{service.name}/{made['id']}"), made["taskSetArn"])
    same((made["serviceArn"], made["launchType"]), (service.arn, "FARGATE"))
    need(made["id"].startswith("ecs-svc/"), made["id"])
    need(made["createdAt"] and made["updatedAt"], made)


@case(
    "the external id need not be unique",
    "An optional non-unique tag that identifies this task set in external systems.",
    "ecs CreateTaskSetRequest.externalId",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    ids = {service.make(externalId="same")["id"], service.make(externalId="same")["id"]}
    same(len(ids), 2)


@case(
    "a scale that is left out is 0 percent",
    '"scale": { "value": 0.0, "unit": "PERCENT" }',
    "aws-facts §1.6 (aws-cli examples/ecs/create-task-set.rst)",
)
def _(aws: Aws) -> None:
    made = aws.service(4).make(scale=None)
    same((made["scale"], made["computedDesiredCount"]), ({"value": 0.0, "unit": "PERCENT"}, 0))


@case(
    "computedDesiredCount is always rounded up",
    "The result is always rounded up. For example, if the computed desired count is 1.2, it rounds up to 2 tasks.",
    "ecs TaskSet.computedDesiredCount",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    task_set = service.make(scale=0)
    for desired, percent, wanted in ((0, 100, 0), (1, 0, 0)):
        aws.ecs.update_service(**service.key, desiredCount=desired)
        same(service.scale(task_set, percent)["computedDesiredCount"], wanted, f"{percent} % of {desired}")
    service.scale(task_set, 0)
    # One task more than needed is worse than none: only small counts start anything here.
    aws.ecs.update_service(**service.key, desiredCount=3)
    for percent, wanted in ((0.1, 1), (33.3, 1), (33.4, 2), (40, 2), (66.6, 2), (66.7, 3), (100, 3)):
        same(service.scale(task_set, percent)["computedDesiredCount"], wanted, f"{percent} % of 3")


@case(
    "computedDesiredCount follows the service's desired count",
    "This is calculated by multiplying the service's desiredCount by the task set's scale percentage.",
    "ecs TaskSet.computedDesiredCount",
)
def _(aws: Aws) -> None:
    service = aws.service(1)
    task_set = service.make(scale=50)
    for desired, wanted in ((1, 1), (2, 1), (3, 2), (0, 0)):
        aws.ecs.update_service(**service.key, desiredCount=desired)
        same(service.set(task_set)["computedDesiredCount"], wanted, f"50 % of {desired}")


@case(
    "a scale beyond 0 to 100 is refused",
    "Accepted values are numbers between 0 and 100.",
    "ecs Scale.value",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    task_set = service.make(scale=10)
    for percent in (101.0, -1.0):
        refused(lambda: service.make(scale=percent), "InvalidParameterException")
        refused(lambda: service.scale(task_set, percent), "InvalidParameterException")
    same(service.set(task_set)["scale"]["value"], 10.0)


@case(
    "UpdateTaskSet changes the scale and the time of update, and nothing else",
    "A floating-point percentage of the desired number of tasks to place and keep running in the task set.",
    "ecs UpdateTaskSetRequest.scale",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    before = service.make(scale=10)
    after = service.scale(before, 25)
    same(after["scale"], {"value": 25.0, "unit": "PERCENT"})
    need(after["updatedAt"] >= before["updatedAt"], "updatedAt went back")
    for member in ("id", "taskSetArn", "taskDefinition", "createdAt", "launchType", "networkConfiguration", "status"):
        same(after[member], before[member], member)


@case(
    "the same client token makes one task set, also when asked at once",
    "If you retry a request that completed successfully using the same client token and the same parameters, the retry "
    "succeeds without performing any further actions.",
    "developer guide, ECS_Idempotency (aws-facts §1.8)",
)
def _(aws: Aws) -> str:
    service = aws.service(0)
    request = service.request(clientToken=uuid.uuid4().hex, externalId="one")
    made = at_once(8, lambda _: aws.ecs.create_task_set(**request)["taskSet"]["id"])
    same((len(set(made)), len(service.sets())), (1, 1), "ids answered, task sets")
    return "8 requests, 1 task set"


@case(
    "a client token has at most 36 printable ASCII characters",
    "Up to 36 ASCII characters in the range of 33-126 (inclusive) are allowed.",
    "ecs CreateTaskSetRequest.clientToken",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    for token in ("x" * 37, "with space"):
        refused(lambda: service.make(clientToken=token), "InvalidParameterException")
    service.make(clientToken="x" * 36)


@case(
    "without a client token every request makes a task set",
    "An identifier that you provide to ensure the idempotency of the request.",
    "ecs CreateTaskSetRequest.clientToken",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    same(len({service.make()["id"], service.make()["id"]}), 2)


@case(
    "five task sets are the most, and the sixth is refused in AWS's words",
    "5 deployments exist on the service. Unable to create new TaskSet since this exceeds the maximum limit.",
    ISSUE,
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    for _ in range(5):
        service.make(scale=0)
    refused(
        lambda: service.make(scale=0),
        "InvalidParameterException",
        says="5 deployments exist on the service. Unable to create new TaskSet since this exceeds the maximum limit.",
    )
    same(len(service.sets()), 5)


@case(
    "a task set is found by id and by ARN, and an unknown one is a failure",
    "The ID or full Amazon Resource Name (ARN) of task sets to describe.",
    "ecs DescribeTaskSetsRequest.taskSets",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    made, other = service.make(), service.make()
    for name in (made["id"], made["taskSetArn"]):
        found = aws.ecs.describe_task_sets(**service.key, taskSets=[name])["taskSets"]
        same([one["id"] for one in found], [made["id"]])
    same({one["id"] for one in service.sets()}, {made["id"], other["id"]}, "all of them")
    unknown = made["taskSetArn"].rpartition("/")[0] + "/1234567890123456789"
    failures = aws.ecs.describe_task_sets(**service.key, taskSets=[unknown])["failures"]
    same([failure["reason"] for failure in failures], ["MISSING"])


@case(
    "DescribeServices shows the task sets as DescribeTaskSets does",
    "Information about a set of Amazon ECS tasks in either an CodeDeploy or an EXTERNAL deployment.",
    "ecs Service.taskSets",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    service.make(externalId="a")
    service.make(externalId="b")
    shown, asked = service.described()["taskSets"], service.sets()
    for one in (*shown, *asked):
        one.pop("stabilityStatusAt")
    by_id = lambda found: sorted(found, key=lambda one: one["id"])
    same(by_id(shown), by_id(asked))


@case(
    "stabilityStatusAt is the time of asking",
    "The Unix timestamp for the time when the task set stability status was retrieved.",
    "ecs TaskSet.stabilityStatusAt",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    made = service.make()
    first = service.set(made)["stabilityStatusAt"]
    until("it moves on", lambda: service.set(made)["stabilityStatusAt"] > first)


@case(
    "an unknown task set is TaskSetNotFoundException in every mutation",
    "The specified task set wasn't found.",
    "ecs TaskSetNotFoundException",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    made = service.make()
    ghost = {"taskSetArn": made["taskSetArn"].rpartition("/")[0] + "/1234567890123456789"}
    refused(lambda: service.scale(ghost, 1), "TaskSetNotFoundException")
    refused(lambda: service.promote(ghost), "TaskSetNotFoundException")
    refused(lambda: service.delete(ghost), "TaskSetNotFoundException")


@case(
    "an unknown service is ServiceNotFoundException in every task-set operation",
    "The specified service wasn't found.",
    "ecs ServiceNotFoundException",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    request, made = service.request(), service.make()
    key, scale = {"cluster": service.cluster, "service": "none"}, {"value": 1.0, "unit": "PERCENT"}
    refused(lambda: aws.ecs.create_task_set(**{**request, **key}), "ServiceNotFoundException")
    refused(lambda: aws.ecs.describe_task_sets(**key), "ServiceNotFoundException")
    refused(lambda: aws.ecs.update_task_set(**key, taskSet=made["id"], scale=scale), "ServiceNotFoundException")
    refused(lambda: aws.ecs.delete_task_set(**key, taskSet=made["id"]), "ServiceNotFoundException")


@case(
    "a launch type and a capacity provider strategy exclude each other",
    "If a launchType is specified, the capacityProviderStrategy parameter must be omitted.",
    "ecs CreateTaskSetRequest.launchType",
)
def _(aws: Aws) -> None:
    strategy = [{"capacityProvider": "FARGATE", "weight": 1}]
    refused(lambda: aws.service(0).make(capacityProviderStrategy=strategy), "InvalidParameterException")


@case(
    "an awsvpc task set needs a network configuration, and no security group",
    "needed for awsvpc",
    "aws-facts §1.8 (securityGroups: if you don't specify one, the default for the VPC is used)",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    refused(lambda: service.make(networkConfiguration=None), "InvalidParameterException")
    service.make(networkConfiguration={"awsvpcConfiguration": {"subnets": SUBNETS}})


@case(
    "a task set has one target group",
    "only one Application Load Balancer target group is allowed per task set",
    GUIDE,
)
def _(aws: Aws) -> None:
    service, route = aws.service(0), aws.route()
    both = [{"targetGroupArn": arn, "containerName": "web", "containerPort": 8080} for arn in route.groups]
    refused(lambda: service.make(loadBalancers=both), "InvalidParameterException")


@case(
    "a target group without a load balancer takes no task set",
    "The target group with targetGroupArn … does not have an associated load balancer.",
    "aws-facts §1.8 (terraform-provider-aws internal/service/ecs/task_set.go)",
)
def _(aws: Aws) -> None:
    group = aws.group()
    refused(
        lambda: aws.service(0).make(group=group),
        "InvalidParameterException",
        says="does not have an associated load balancer",
    )


@case(
    "a target group at weight 0 takes a task set",
    "ECS blue/green requires the production rule pre-configured with two target groups with weights of 1 and 0",
    "aws-facts §2 (migrate-codedeploy-to-ecs-bluegreen)",
)
def _(aws: Aws) -> None:
    route = aws.route(1, 0)
    made = aws.service(0).make(group=route.groups[1])
    same(made["loadBalancers"][0]["targetGroupArn"], route.groups[1])


@case(
    "the container of a load balancer must be in the task definition",
    "This port must correspond to a containerPort in the task definition the tasks in the service are using.",
    "ecs LoadBalancer.containerPort",
)
def _(aws: Aws) -> None:
    service, route = aws.service(0), aws.route()
    for name, port in (("other", 8080), ("web", 9)):
        balancers = [{"targetGroupArn": route.groups[0], "containerName": name, "containerPort": port}]
        refused(lambda: service.make(loadBalancers=balancers), "InvalidParameterException")


@case(
    "awsvpc tasks take target groups of type ip only",
    "If your service's task definition uses the awsvpc network mode, you must choose ip as the target type, not instance.",
    "ecs LoadBalancer.targetGroupArn",
)
def _(aws: Aws) -> None:
    group = aws.group(TargetType="instance")
    aws.listener(aws.load_balancer(), forward({group: 1}))
    refused(lambda: aws.service(0).make(group=group), "InvalidParameterException")


@case(
    "tags of a task set are kept, added to and taken away",
    "The metadata that you apply to the task set to help you categorize and organize them.",
    "ecs CreateTaskSetRequest.tags",
)
def _(aws: Aws) -> None:
    made = aws.service(0).make(tags=[{"key": "a", "value": "1"}])
    arn = made["taskSetArn"]
    tags = lambda: {tag["key"]: tag["value"] for tag in aws.ecs.list_tags_for_resource(resourceArn=arn)["tags"]}
    aws.ecs.tag_resource(resourceArn=arn, tags=[{"key": "b", "value": "2"}])
    same(tags(), {"a": "1", "b": "2"})
    aws.ecs.untag_resource(resourceArn=arn, tagKeys=["a"])
    same(tags(), {"b": "2"})


# --- primary


@case(
    "a new primary demotes the old one, which keeps its scale",
    "Modifies which task set in a service is the primary task set.",
    "ecs UpdateServicePrimaryTaskSet",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    old, new = service.make(scale=100), service.make(scale=50)
    same(service.promote(old)["status"], "PRIMARY")
    same(service.promote(new)["status"], "PRIMARY")
    now = {one["id"]: (one["status"], one["scale"]["value"]) for one in service.sets()}
    same(now, {old["id"]: ("ACTIVE", 100.0), new["id"]: ("PRIMARY", 50.0)})


@case(
    "parameters of the primary task set show at the service, and none before there is one",
    "Any parameters that are updated on the primary task set in a service will transition to the service.",
    "ecs UpdateServicePrimaryTaskSet",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    made = service.make()
    same(service.described().get("taskDefinition"), None, "before")
    service.promote(made)
    same(service.described().get("taskDefinition"), service.definition, "after")
    same(service.described().get("launchType"), "FARGATE")


@case(
    "promoting the primary again changes nothing",
    "Modifies which task set in a service is the primary task set.",
    "ecs UpdateServicePrimaryTaskSet",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    made = service.make()
    service.promote(made)
    same(service.promote(made)["status"], "PRIMARY")
    same([one["status"] for one in service.sets()], ["PRIMARY"])


@case("a primary task set is not deleted, not even by force", "Primary TaskSet cannot be deleted", GUIDE_K)
def _(aws: Aws) -> None:
    service = aws.service(0)
    made = service.make(scale=0)
    service.promote(made)
    for force in (False, True):
        refused(
            lambda: service.delete(made, force=force),
            "InvalidParameterException",
            says="Primary TaskSet cannot be deleted",
        )


@case(
    "promotion moves no traffic and scales nothing",
    "These are labels only — nothing in ECS routes traffic; ELB weights do.",
    "aws-facts §1.5",
)
def _(aws: Aws) -> None:
    service, route = aws.service(0), aws.route(1, 0)
    made = service.make(scale=0, group=route.groups[1])
    before = route.actions()
    service.promote(made)
    same(route.actions(), before)
    same(service.set(made)["scale"]["value"], 0.0)


# --- deletion


@case(
    "a task set that is scaled up is deleted only by force",
    "If true, you can delete a task set even if it hasn't been scaled down to zero.",
    "ecs DeleteTaskSetRequest.force",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    up, down = service.make(scale=100), service.make(scale=0)
    refused(lambda: service.delete(up), "InvalidParameterException")
    same(service.delete(down)["status"], "DRAINING")
    same(service.delete(up, force=True)["status"], "DRAINING")
    until("both are gone", lambda: not service.sets())


@case(
    "a deleted task set drains its tasks and targets, then it is gone",
    "DRAINING The tasks in the task set are being stopped, and their corresponding targets are being deregistered from "
    "their target group.",
    "ecs TaskSet.status",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service, route = aws.service(1), aws.route(1, 0)
    # Five minutes of AWS are long enough here to be seen.
    made = service.make(group=route.groups[1])
    service.steady(made)
    same(service.delete(made, force=True)["status"], "DRAINING")
    same(service.set(made)["status"], "DRAINING", "while its target drains")
    health = aws.elb.describe_target_health(TargetGroupArn=route.groups[1])["TargetHealthDescriptions"]
    need(all(one["TargetHealth"]["State"] == "draining" for one in health), health)
    until("it is gone", lambda: not service.sets())
    until("its tasks are STOPPED", lambda: not aws.ecs.list_tasks(cluster=service.cluster)["taskArns"])


@case(
    "a DRAINING task set is neither scaled nor promoted, and deleting it again changes nothing",
    "DRAINING is not reversible (no API)",
    "aws-facts §1.9",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service, route = aws.service(1), aws.route(1, 0)
    made = service.make(group=route.groups[1])
    service.steady(made)
    service.delete(made, force=True)
    refused(lambda: service.scale(made, 100), "InvalidParameterException")
    refused(lambda: service.promote(made), "InvalidParameterException")
    same(service.delete(made, force=True)["status"], "DRAINING")


# --- stability


@case(
    "a task set behind no load balancer is steady when its tasks run",
    "The task runningCount is equal to the computedDesiredCount. The pendingCount is 0.",
    "ecs TaskSet.stabilityStatus",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service = aws.service(2)
    made = service.make()
    steady = service.steady(made)
    same((steady["runningCount"], steady["pendingCount"], steady["computedDesiredCount"]), (2, 0, 2))


@case(
    "a task set of no tasks is steady",
    "The task runningCount is equal to the computedDesiredCount.",
    "ecs TaskSet.stabilityStatus",
)
def _(aws: Aws) -> None:
    service = aws.service(1)
    service.steady(service.make(scale=0))


@case("a task set with a sick target is never steady", STEADY, "ecs TaskSet.stabilityStatus", needs=TASKS)
def _(aws: Aws) -> None:
    service, route = aws.service(1), aws.route(1, 0)
    # A grace period, so that the sick task stays and is judged.
    aws.ecs.update_service(**service.key, healthCheckGracePeriodSeconds=3600)
    made = service.make(group=route.groups[1], taskDefinition=aws.definition(UNHEALTHY="true"))
    until("it runs", lambda: service.set(made)["runningCount"] == 1)
    until("its target is unhealthy", lambda: _states(aws, route.groups[1]) == ["unhealthy"])
    stays("STABILIZING", lambda: service.set(made)["stabilityStatus"] == "STABILIZING", 1.0)


@case(
    "a steady task set is STABILIZING again from the moment its scale changes",
    "If any of those conditions aren't met, the stability status returns STABILIZING.",
    "ecs TaskSet.stabilityStatus",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service = aws.service(2)
    made = service.make(scale=50)
    service.steady(made)
    same(service.scale(made, 100)["stabilityStatus"], "STABILIZING")
    same(service.steady(made)["runningCount"], 2)
    service.scale(made, 50)
    same(service.steady(made)["runningCount"], 1)


@case(
    "tasks in a group that no rule names are never healthy, so their set is not steady",
    "The target group is not used by any load balancer",
    "elbv2 TargetHealth.Reason",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service, route = aws.service(1), aws.route(1, 0)
    made = service.make(group=route.groups[1])
    service.steady(made)
    aws.elb.modify_listener(ListenerArn=route.listener, DefaultActions=fixed(404))
    until("its target is unused", lambda: _states(aws, route.groups[1]) == ["unused"])
    until("STABILIZING", lambda: service.set(made)["stabilityStatus"] == "STABILIZING")


# --- tasks


@case(
    "tasks register their own address in the task set's target group and become healthy at weight 0",
    "Health checks run only on all targets registered to a target group that is specified in a listener rule",
    "aws-facts §2 (load-balancer-target-groups; weight 0 counts as in use)",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service, route = aws.service(2), aws.route(1, 0)
    service.steady(service.make(group=route.groups[1]))
    health = aws.elb.describe_target_health(TargetGroupArn=route.groups[1])["TargetHealthDescriptions"]
    same([one["TargetHealth"]["State"] for one in health], ["healthy", "healthy"])
    details = [detail for task in service.tasks() for one in task["attachments"] for detail in one["details"]]
    addresses = sorted(detail["value"] for detail in details if detail["name"] == "privateIPv4Address")
    same(sorted(one["Target"]["Id"] for one in health), addresses)


@case(
    "a task tells its task set and its service",
    "If an Amazon ECS service started the task, the startedBy parameter contains the deployment ID of that service.",
    "ecs Task.startedBy",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service = aws.service(1)
    made = service.make()
    service.steady(made)
    task = service.tasks()[0]
    same((task["startedBy"], task["group"]), (made["id"], f"service:{service.name}"))
    same((task["lastStatus"], task["desiredStatus"]), ("RUNNING", "RUNNING"))
    same([one["taskArn"] for one in service.tasks(startedBy=made["id"])], [task["taskArn"]])


@case(
    "startedBy is the only filter of ListTasks when it is given",
    "When you specify startedBy as the filter, it must be the only filter that you use.",
    "ecs ListTasksRequest.startedBy",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    for other in ({"serviceName": service.name}, {"family": "f"}, {"desiredStatus": "STOPPED"}):
        refused(
            lambda: aws.ecs.list_tasks(cluster=service.cluster, startedBy="ecs-svc/1", **other),
            "InvalidParameterException",
        )


@case(
    "ListTasks shows the tasks that are to run, unless STOPPED is asked for",
    "The default status filter is RUNNING, which shows tasks that Amazon ECS has set the desired status to RUNNING.",
    "ecs ListTasksRequest.desiredStatus",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service = aws.service(1)
    made = service.make()
    service.steady(made)
    arn = service.tasks()[0]["taskArn"]
    service.scale(made, 0)
    until("it is not listed", lambda: not service.tasks())
    listed = aws.ecs.list_tasks(cluster=service.cluster, desiredStatus="STOPPED")["taskArns"]
    same(listed, [arn])


@case(
    "a stopped task stays described, with its reason and its code",
    "stopped tasks appear in the returned results for at least one hour.",
    "ecs DescribeTasks",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service = aws.service(1)
    made = service.make()
    service.steady(made)
    arn = service.tasks()[0]["taskArn"]
    service.scale(made, 0)
    stopped = lambda: aws.ecs.describe_tasks(cluster=service.cluster, tasks=[arn])["tasks"][0]
    task = until("STOPPED", lambda: stopped() if stopped()["lastStatus"] == "STOPPED" else None)
    same(task["stopCode"], "ServiceSchedulerInitiated")
    need("Scaling activity initiated by" in task["stoppedReason"], task["stoppedReason"])
    need(task["stoppingAt"] <= task["stoppedAt"], "stopped before it was stopping")


@case(
    "StopTask stops a task for the given reason, and the service starts another",
    "An optional message specified when a task is stopped.",
    "ecs StopTaskRequest.reason",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service = aws.service(1)
    made = service.make()
    service.steady(made)
    arn = service.tasks()[0]["taskArn"]
    aws.ecs.stop_task(cluster=service.cluster, task=arn, reason="by hand")
    describe = lambda: aws.ecs.describe_tasks(cluster=service.cluster, tasks=[arn])["tasks"][0]
    until("STOPPED", lambda: describe()["lastStatus"] == "STOPPED")
    same((describe()["stoppedReason"], describe()["stopCode"]), ("by hand", "UserInitiated"))
    until("another runs", lambda: [task for task in service.tasks() if task["taskArn"] != arn])


@case(
    "StopTask of a task that is not there is refused",
    "The specified parameter isn't valid.",
    "ecs InvalidParameterException",
)
def _(aws: Aws) -> None:
    cluster = aws.service(0).cluster
    refused(lambda: aws.ecs.stop_task(cluster=cluster, task="0" * 32), "InvalidParameterException")


@case(
    "a task whose process ends is replaced, and tells why it stopped",
    "Essential container in task exited",
    "developer guide, stopped-task-error-codes",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service = aws.service(1)
    service.make(taskDefinition=aws.definition(CRASH_ON_BOOT="3"))
    listing = lambda: aws.ecs.list_tasks(cluster=service.cluster, desiredStatus="STOPPED")["taskArns"]
    arns = until("two have stopped", lambda: listing() if len(listing()) >= 2 else None)
    task = aws.ecs.describe_tasks(cluster=service.cluster, tasks=arns[:1])["tasks"][0]
    same((task["stopCode"], task["stoppedReason"]), ("EssentialContainerExited", "Essential container in task exited"))
    same(task["containers"][0]["exitCode"], 3)


@case(
    "without a grace period a sick task is replaced because of its load balancer health",
    "The period of time, in seconds, that the Amazon ECS service scheduler ignores unhealthy Elastic Load Balancing, VPC "
    "Lattice, and container health checks after a task has first started. If you do not specify a health check grace "
    "period value, the default value of 0 is used.",
    "ecs CreateServiceRequest.healthCheckGracePeriodSeconds",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service, route = aws.service(1), aws.route(1, 0)
    service.make(group=route.groups[1], taskDefinition=aws.definition(UNHEALTHY="true"))
    listing = lambda: aws.ecs.list_tasks(cluster=service.cluster, desiredStatus="STOPPED")["taskArns"]
    arns = until("one is being stopped", listing)
    task = aws.ecs.describe_tasks(cluster=service.cluster, tasks=arns[:1])["tasks"][0]
    need(task["stoppedReason"].startswith("Task failed ELB health checks in (target-group"), task["stoppedReason"])


@case(
    "an unknown task is a failure of DescribeTasks, and no task at all is refused",
    "A failed resource.",
    "ecs Failure",
)
def _(aws: Aws) -> None:
    service = aws.service(0)
    answer = aws.ecs.describe_tasks(cluster=service.cluster, tasks=["0" * 32])
    same([failure["reason"] for failure in answer["failures"]], ["MISSING"])
    refused(lambda: aws.ecs.describe_tasks(cluster=service.cluster, tasks=[]), "InvalidParameterException")


@case(
    "events of a service say what its task set did, newest first",
    "A maximum of 100 of the latest events are displayed.",
    "ecs Service.events",
    needs=TASKS,
)
def _(aws: Aws) -> None:
    service = aws.service(1)
    made = service.make()
    service.steady(made)
    begins = f"(service {service.name}, taskSet {made['id']})"
    look = lambda: [event["message"] for event in service.described()["events"] if event["message"].startswith(begins)]
    messages = until("it is told", lambda: look() if any("reached a steady state" in one for one in look()) else None)
    need("reached a steady state" in messages[0], messages)
    need("has started 1 tasks" in messages[-1], messages)


def _states(aws: Aws, group: str) -> list[str]:
    health = aws.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    return [one["TargetHealth"]["State"] for one in health]
