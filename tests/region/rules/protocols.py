"""Errors and answers on the wire, in each protocol's own shape, and throttling as SDKs know it."""

from __future__ import annotations

import json
import urllib.request
import zlib

from aws import Aws
from suite import Service, need, refused, same

PROTOCOLS = Service("protocols")
CASES = PROTOCOLS.cases
case = PROTOCOLS.case

ECS = "AmazonEC2ContainerServiceV20141113"
DYNAMODB = "DynamoDB_20120810"
SMITHY = "smithy.io, aws-json-1_1-protocol, operation error serialization"


def _json(aws: Aws, target: str, body: bytes, version: str = "1.1") -> tuple[int, dict[str, str], bytes]:
    headers = {"x-amz-target": target, "content-type": f"application/x-amz-json-{version}"}
    return aws.post(headers, body)


def _query(aws: Aws, service: str, form: str) -> tuple[int, dict[str, str], bytes]:
    headers = {"content-type": "application/x-www-form-urlencoded", "host": f"{service}.eu-central-1.amazonaws.com"}
    scope = f"AKIDREGION/20260101/eu-central-1/{service}/aws4_request"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    return aws.post(headers, form.encode())


def _cbor(texts: dict[str, str]) -> bytes:
    """A CBOR map of short texts."""
    text = lambda word: bytes([0x60 + len(word)]) + word.encode()
    return bytes([0xA0 + len(texts)]) + b"".join(text(one) + text(other) for one, other in texts.items())


def _alarms(aws: Aws, operation: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    headers = {"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor", "accept": "application/cbor"}
    return aws.post(headers, body, f"/service/GraniteServiceVersion20100801/operation/{operation}")


@case(
    "ECS: an error is JSON with __type and message, HTTP 400",
    "the error's shape id in the __type field of the body",
    SMITHY,
)
def _(aws: Aws) -> None:
    status, headers, body = _json(aws, f"{ECS}.DescribeServices", b'{"cluster": "none", "services": ["s"]}')
    told = json.loads(body)
    same((status, told["__type"].rpartition("#")[2]), (400, "ClusterNotFoundException"))
    need(told.get("message"), told)
    need(headers["content-type"].startswith("application/x-amz-json-1.1"), headers)
    need(headers.get("x-amzn-requestid"), headers)


@case("ECS: an unknown operation is UnknownOperationException", "UnknownOperationException", SMITHY)
def _(aws: Aws) -> None:
    status, _, body = _json(aws, f"{ECS}.Fly", b"{}")
    same((status // 100, json.loads(body)["__type"].rpartition("#")[2]), (4, "UnknownOperationException"))


@case("ECS and DynamoDB: a body that is no JSON is SerializationException", "SerializationException", SMITHY)
def _(aws: Aws) -> None:
    for target, version in ((f"{ECS}.ListClusters", "1.1"), (f"{DYNAMODB}.ListTables", "1.0")):
        status, _, body = _json(aws, target, b"{not json", version)
        same((status, json.loads(body)["__type"].rpartition("#")[2]), (400, "SerializationException"), target)


@case(
    "ECS: a required member that is missing is refused",
    "The specified parameter isn't valid. Review the available parameters for the API request.",
    "ecs InvalidParameterException",
)
def _(aws: Aws) -> None:
    cluster = json.dumps({"cluster": aws.service(0).cluster}).encode()
    for operation in ("CreateTaskSet", "UpdateTaskSet", "DescribeServices", "DescribeTasks"):
        status, _, body = _json(aws, f"{ECS}.{operation}", cluster)
        code = json.loads(body)["__type"].rpartition("#")[2]
        known = ("InvalidParameterException", "ClientException", "ServiceNotFoundException")
        need(status == 400 and code in known, f"{operation}: {body!r}")


@case(
    "ELB: an error is XML with Type, Code and Message in Error, and a RequestId",
    "<ErrorResponse><Error><Type>Sender</Type><Code>…</Code><Message>…</Message></Error><RequestId>…</RequestId>",
    "smithy.io, aws-query-protocol, operation error serialization",
)
def _(aws: Aws) -> None:
    form = "Action=DescribeTargetGroups&Version=2015-12-01&Names.member.1=none"
    status, headers, body = _query(aws, "elasticloadbalancing", form)
    text = body.decode()
    same(status, 400)
    need("xml" in headers["content-type"], headers)
    for part in ("<ErrorResponse", "<Error>", "<Type>Sender</Type>", "<Code>TargetGroupNotFound</Code>", "<RequestId>"):
        need(part in text, text)


@case("ELB: an unknown action is InvalidAction", "The action or operation requested is invalid.", "ELB API reference, common errors")
def _(aws: Aws) -> None:
    status, _, body = _query(aws, "elasticloadbalancing", "Action=Fly&Version=2015-12-01")
    need(status == 400 and b"<Code>InvalidAction</Code>" in body, body)


@case(
    "ELB: an empty list is sent and answered as such",
    "an empty list is serialized as the key with an empty value",
    "smithy.io, aws-query-protocol",
)
def _(aws: Aws) -> None:
    route = aws.route()
    aws.elb.add_tags(ResourceArns=[route.groups[0]], Tags=[{"Key": "a", "Value": ""}])
    tags = aws.elb.describe_tags(ResourceArns=route.groups)["TagDescriptions"]
    same([one["Tags"] for one in tags], [[{"Key": "a", "Value": ""}], []])


@case(
    "DynamoDB: an error names its namespace, and the answer carries its checksum",
    '"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"',
    "DynamoDB developer guide, Programming.Errors",
)
def _(aws: Aws) -> None:
    status, headers, body = _json(aws, f"{DYNAMODB}.DescribeTable", b'{"TableName": "none"}', "1.0")
    told = json.loads(body)
    same((status, told["__type"]), (400, "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"))
    if "x-amz-crc32" in headers:
        same(int(headers["x-amz-crc32"]), zlib.crc32(body), "x-amz-crc32")


@case(
    "CloudWatch: rpc-v2-cbor answers in CBOR and says so, errors included",
    "the value of the Smithy-Protocol header is rpc-v2-cbor … Content-Type application/cbor",
    "smithy.io, smithy-rpc-v2-cbor-protocol",
)
def _(aws: Aws) -> None:
    request = _cbor({"AlarmName": "none", "StateValue": "OK", "StateReason": "x"})
    status, headers, body = _alarms(aws, "SetAlarmState", request)
    need(status in (400, 404), f"{status} {body!r}")
    same((headers.get("smithy-protocol"), headers.get("content-type")), ("rpc-v2-cbor", "application/cbor"))
    need(b"__type" in body and b"ResourceNotFound" in body, body)
    status, headers, body = _alarms(aws, "DescribeAlarms", _cbor({"AlarmNamePrefix": "no-such-prefix-"}))
    same((status, headers.get("smithy-protocol")), (200, "rpc-v2-cbor"))
    need(b"MetricAlarms" in body, body)


@case(
    "CloudWatch: the query protocol is answered in XML",
    "xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"",
    "CloudWatch API reference, making API requests",
)
def _(aws: Aws) -> None:
    status, _, body = _query(aws, "monitoring", "Action=DescribeAlarms&Version=2010-08-01&AlarmNamePrefix=none-")
    need(status == 200 and b"<DescribeAlarmsResult>" in body, body)
    status, _, body = _query(
        aws, "monitoring", "Action=SetAlarmState&Version=2010-08-01&AlarmName=none&StateValue=OK&StateReason=x"
    )
    need(status in (400, 404) and b"<Code>ResourceNotFound</Code>" in body, body)


def _throttled(aws: Aws, service: str, operation: str, word: str, count: int):
    rule = {
        "service": service,
        "operation": operation,
        "containing": word,
        "count": count,
        "effect": {"kind": "throttle"},
    }
    request = urllib.request.Request(
        f"{aws.endpoint.url}/_sandbox/faults",
        data=json.dumps(rule).encode(),
        method="POST",
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        json.load(answer)


@case(
    "throttling has the code of each service: ThrottlingException, Throttling",
    "ThrottlingException … Throttling … Rate exceeded",
    "AWS general reference, API retries; aws-facts §4.1-4.4",
    needs=("sandbox",),
)
def _(aws: Aws) -> None:
    word = aws.name("word")
    for service, operation, call, codes in (
        ("ecs", "DescribeClusters", lambda: aws.ecs.describe_clusters(clusters=[word]), ["ThrottlingException"]),
        ("elb", "DescribeTargetGroups", lambda: aws.elb.describe_target_groups(Names=[word]), ["Throttling"]),
        (
            "cloudwatch",
            "DescribeAlarms",
            lambda: aws.cloudwatch.describe_alarms(AlarmNames=[word]),
            ["Throttling", "ThrottlingException"],
        ),
        (
            "dynamodb",
            "DescribeTable",
            lambda: aws.dynamodb.describe_table(TableName=word),
            ["ThrottlingException", "ProvisionedThroughputExceededException"],
        ),
    ):
        _throttled(aws, service, operation, word, 1)
        refused(call, *codes)
