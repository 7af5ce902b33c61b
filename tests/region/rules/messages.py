"""SNS, SQS, EventBridge and STS: what carries events, and who one is."""

from __future__ import annotations

import json
import time
import uuid

from botocore.exceptions import ClientError

from aws import Aws
from suite import Service, need, refused, same, stays, until

MESSAGES = Service("messages")
CASES = MESSAGES.cases
case = MESSAGES.case

#: Codes of a queue that is not there, before and after SQS's change to JSON.
NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


class Queue:
    """A queue of its own."""

    def __init__(self, aws: Aws, **attributes: str):
        self._sqs = aws.sqs
        self.url = aws.sqs.create_queue(QueueName=aws.name("q"), Attributes=attributes)["QueueUrl"]
        aws.after(aws.sqs.delete_queue, QueueUrl=self.url)
        read = aws.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]
        self.attributes, self.arn = read, read["QueueArn"]

    def send(self, body: str, **given) -> dict:
        """SendMessage."""
        return self._sqs.send_message(QueueUrl=self.url, MessageBody=body, **given)

    def receive(self, **given) -> list[dict]:
        """ReceiveMessage; short polls unless told otherwise."""
        return self._sqs.receive_message(QueueUrl=self.url, **{"MaxNumberOfMessages": 10, **given}).get("Messages", [])

    def one(self, **given) -> dict:
        """Waits for a message."""
        return until("a message", lambda: self.receive(WaitTimeSeconds=1, **given))[0]

    def delete(self, message: dict) -> None:
        """DeleteMessage."""
        self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])


# --- SQS


@case(
    "SQS: a message is received, hidden while it is worked on, and comes again if it is not deleted",
    "If the message is not deleted or its visibility timeout is not extended before the timeout expires, it becomes "
    "visible again and can be retrieved by other consumers.",
    "sqs ReceiveMessageRequest.VisibilityTimeout",
)
def _(aws: Aws) -> None:
    queue = Queue(aws)
    queue.send("work")
    first = queue.one(VisibilityTimeout=1)
    same((first["Body"], queue.receive()), ("work", []))
    again = queue.one(VisibilityTimeout=30)
    same(again["MessageId"], first["MessageId"])
    need(again["ReceiptHandle"] != first["ReceiptHandle"], "the receipt handle is the same")
    queue.delete(again)
    stays("it is gone", lambda: not queue.receive(), 0.5)


@case(
    "SQS: the visibility of a message is changed, also to none",
    "The minimum is 0 seconds. The maximum is 12 hours.",
    "sqs ChangeMessageVisibility",
)
def _(aws: Aws) -> None:
    queue = Queue(aws)
    queue.send("work")
    first = queue.one(VisibilityTimeout=600)
    aws.sqs.change_message_visibility(
        QueueUrl=queue.url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0
    )
    same(queue.one()["MessageId"], first["MessageId"])


@case(
    "SQS: a long poll returns as soon as there is a message",
    "If a message is available, the call returns sooner than WaitTimeSeconds.",
    "sqs ReceiveMessageRequest.WaitTimeSeconds",
)
def _(aws: Aws) -> str:
    import threading

    queue = Queue(aws)
    timer = threading.Timer(0.5, queue.send, ("late",))
    began = time.monotonic()
    timer.start()
    received = queue.receive(WaitTimeSeconds=20)
    took = time.monotonic() - began
    same([message["Body"] for message in received], ["late"])
    need(took < 15, f"{took:.1f} s")
    return f"after {took:.1f} s of 20"


@case(
    "SQS: at most ten messages come at once",
    "Valid values: 1 to 10. Default: 1.",
    "sqs ReceiveMessageRequest.MaxNumberOfMessages",
)
def _(aws: Aws) -> None:
    queue = Queue(aws)
    entries = [{"Id": str(index), "MessageBody": f"m{index}"} for index in range(10)]
    same(len(aws.sqs.send_message_batch(QueueUrl=queue.url, Entries=entries)["Successful"]), 10)
    queue.send("m10")
    seen: set[str] = set()

    def more() -> bool:
        received = queue.receive()
        need(len(received) <= 10, f"{len(received)} messages")
        for message in received:
            seen.add(message["Body"])
            queue.delete(message)
        return len(seen) == 11

    until("all eleven", more)
    refused(lambda: queue.receive(MaxNumberOfMessages=11), "InvalidParameterValue", "ReadCountOutOfRange")


@case(
    "SQS: a delayed message comes after its delay",
    "Messages with a positive DelaySeconds value become available for processing after the delay period is finished.",
    "sqs SendMessageRequest.DelaySeconds",
)
def _(aws: Aws) -> None:
    queue = Queue(aws)
    queue.send("later", DelaySeconds=1)
    same(queue.receive(), [])
    same(queue.one()["Body"], "later")


@case(
    "SQS: a new queue has AWS's defaults, and counts its messages",
    "The default visibility timeout for a message is 30 seconds.",
    "sqs ChangeMessageVisibility",
)
def _(aws: Aws) -> None:
    queue = Queue(aws)
    same((queue.attributes["VisibilityTimeout"], queue.attributes["DelaySeconds"]), ("30", "0"))
    queue.send("one")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    count = lambda: aws.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
    same(count(), dict(zip(names, ("1", "0"))))
    queue.one()
    same(count(), dict(zip(names, ("0", "1"))))


@case(
    "SQS: a batch of more than ten, of none, or with an id twice is refused",
    "the maximum number of entries you can include in a single SendMessageBatch, DeleteMessageBatch, or "
    "ChangeMessageVisibilityBatch request is 10.",
    "sqs TooManyEntriesInBatchRequest",
)
def _(aws: Aws) -> None:
    queue = Queue(aws)
    entry = lambda name: {"Id": name, "MessageBody": "m"}
    send = lambda entries: aws.sqs.send_message_batch(QueueUrl=queue.url, Entries=entries)
    old = "AWS.SimpleQueueService."
    many = [entry(str(index)) for index in range(11)]
    refused(lambda: send(many), "TooManyEntriesInBatchRequest", old + "TooManyEntriesInBatchRequest")
    refused(lambda: send([entry("a"), entry("a")]), "BatchEntryIdsNotDistinct", old + "BatchEntryIdsNotDistinct")
    refused(lambda: send([]), "EmptyBatchRequest", old + "EmptyBatchRequest")


@case(
    "SQS: a queue that is not there is QueueDoesNotExist",
    "Ensure that the QueueUrl is correct and that the queue has not been deleted.",
    "sqs QueueDoesNotExist",
)
def _(aws: Aws) -> None:
    url = Queue(aws).url + "-none"
    refused(lambda: aws.sqs.send_message(QueueUrl=url, MessageBody="m"), *NO_QUEUE)
    refused(lambda: aws.sqs.get_queue_url(QueueName=aws.name("none")), *NO_QUEUE)


@case(
    "SQS: creating a queue again succeeds unless an attribute differs",
    "Amazon SQS returns this error only if the request includes attributes whose values differ from those of the existing "
    "queue.",
    "sqs QueueNameExists",
)
def _(aws: Aws) -> None:
    name = aws.name("q")
    make = lambda delay: aws.sqs.create_queue(QueueName=name, Attributes={"DelaySeconds": delay})["QueueUrl"]
    url = make("1")
    aws.after(aws.sqs.delete_queue, QueueUrl=url)
    same(make("1"), url)
    refused(lambda: make("2"), "QueueNameExists", "QueueAlreadyExists")


@case(
    "SQS: a wrong receipt handle is refused",
    "The specified receipt handle isn't valid.",
    "sqs ReceiptHandleIsInvalid",
)
def _(aws: Aws) -> None:
    queue = Queue(aws)
    try:
        queue.delete({"ReceiptHandle": "wrong"})
    except ClientError as error:
        same(error.response["Error"]["Code"], "ReceiptHandleIsInvalid")
        return
    need(False, "accepted")


# --- SNS


@case(
    "SNS: a topic is created once, whatever often it is asked for",
    "This action is idempotent, so if the requester already owns a topic with the specified name, that topic's ARN is "
    "returned without creating a new topic.",
    "sns CreateTopic",
)
def _(aws: Aws) -> None:
    name = aws.name("t")
    first = _topic(aws, name)
    same(_topic(aws, name), first)
    need(first.startswith("arn:aws:sns:") and first.endswith(f":{name}"), first)


@case(
    "SNS: a message reaches every queue that is subscribed, in SNS's envelope",
    "If you send a message to a topic, Amazon SNS delivers the message to each endpoint that is subscribed to the topic.",
    "sns Publish",
)
def _(aws: Aws) -> None:
    topic, queues = _topic(aws), [Queue(aws), Queue(aws)]
    for queue in queues:
        aws.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)
    attributes = {"kind": {"DataType": "String", "StringValue": "test"}}
    published = aws.sns.publish(TopicArn=topic, Message="hello", Subject="s", MessageAttributes=attributes)
    for queue in queues:
        envelope = json.loads(queue.one()["Body"])
        same((envelope["Type"], envelope["Message"], envelope["Subject"]), ("Notification", "hello", "s"))
        same((envelope["TopicArn"], envelope["MessageId"]), (topic, published["MessageId"]))
        same(envelope["MessageAttributes"], {"kind": {"Type": "String", "Value": "test"}})


@case(
    "SNS: raw delivery leaves the envelope out",
    "RawMessageDelivery – When set to true, enables raw message delivery to Amazon SQS or HTTP/S endpoints.",
    "sns SubscribeInput.Attributes",
)
def _(aws: Aws) -> None:
    topic, queue = _topic(aws), Queue(aws)
    raw = {"RawMessageDelivery": "true"}
    aws.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn, Attributes=raw)
    aws.sns.publish(TopicArn=topic, Message="hello")
    same(queue.one()["Body"], "hello")


@case(
    "SNS: a filter policy lets a part of the messages through",
    "FilterPolicy – The simple JSON object that lets your subscriber receive only a subset of messages, rather than "
    "receiving every message published to the topic.",
    "sns SubscribeInput.Attributes",
)
def _(aws: Aws) -> None:
    topic, queue = _topic(aws), Queue(aws)
    policy = {"FilterPolicy": json.dumps({"service": ["web"]}), "RawMessageDelivery": "true"}
    aws.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn, Attributes=policy)
    for value in ("api", "web"):
        attributes = {"service": {"DataType": "String", "StringValue": value}}
        aws.sns.publish(TopicArn=topic, Message=f"for {value}", MessageAttributes=attributes)
    same(queue.one()["Body"], "for web")
    stays("nothing else comes", lambda: not queue.receive(), 0.5)


@case(
    "SNS: after Unsubscribe nothing comes any more",
    "Deletes a subscription.",
    "sns Unsubscribe",
)
def _(aws: Aws) -> None:
    topic, queue = _topic(aws), Queue(aws)
    subscription = aws.sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=queue.arn, ReturnSubscriptionArn=True
    )["SubscriptionArn"]
    listed = lambda: aws.sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    same([one["SubscriptionArn"] for one in listed()], [subscription])
    aws.sns.unsubscribe(SubscriptionArn=subscription)
    same(listed(), [])
    aws.sns.publish(TopicArn=topic, Message="hello")
    stays("nothing comes", lambda: not queue.receive(), 0.5)


@case(
    "SNS: an unknown topic is NotFound",
    "Indicates that the requested resource does not exist.",
    "sns NotFoundException",
)
def _(aws: Aws) -> None:
    ghost = _topic(aws) + "-none"
    refused(lambda: aws.sns.publish(TopicArn=ghost, Message="m"), "NotFound", "NotFoundException", status=404)


@case(
    "SNS: deleting a topic that is gone succeeds",
    "This action is idempotent, so deleting a topic that does not exist does not result in an error.",
    "sns DeleteTopic",
)
def _(aws: Aws) -> None:
    topic = _topic(aws)
    aws.sns.delete_topic(TopicArn=topic)
    aws.sns.delete_topic(TopicArn=topic)


# --- EventBridge


@case(
    "EventBridge: an event reaches the target of a rule that matches, and no other",
    "Sends custom events to Amazon EventBridge so that they can be matched to rules.",
    "events PutEvents",
)
def _(aws: Aws) -> None:
    queue, source = Queue(aws), aws.name("source")
    _bus_rule(aws, {"source": [source], "detail": {"state": ["ALARM"]}}, queue)
    entry = lambda state, of: {"Source": of, "DetailType": "step", "Detail": json.dumps({"state": state})}
    answer = aws.events.put_events(Entries=[entry("OK", source), entry("ALARM", "other"), entry("ALARM", source)])
    same((answer["FailedEntryCount"], len(answer["Entries"])), (0, 3))
    event = json.loads(queue.one()["Body"])
    same((event["source"], event["detail-type"], event["detail"]), (source, "step", {"state": "ALARM"}))
    same(event["id"], answer["Entries"][2]["EventId"])
    same(set(event), {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"})
    stays("nothing else comes", lambda: not queue.receive(), 0.5)


@case(
    "EventBridge: patterns have prefix, anything-but, exists and numeric",
    "Comparison operators: prefix, anything-but, exists, numeric",
    "EventBridge user guide, eb-create-pattern-operators",
)
def _(aws: Aws) -> None:
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "t",
        "source": "s",
        "account": "000000000000",
        "time": "2026-01-01T00:00:00Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": {"alarmName": "web-5xx", "n": 7},
    }
    test = lambda detail: aws.events.test_event_pattern(
        EventPattern=json.dumps({"detail": detail}), Event=json.dumps(event)
    )["Result"]
    for detail, wanted in (
        ({"alarmName": [{"prefix": "web-"}]}, True),
        ({"alarmName": [{"prefix": "api-"}]}, False),
        ({"alarmName": [{"anything-but": ["api-5xx"]}]}, True),
        ({"missing": [{"exists": False}]}, True),
        ({"n": [{"numeric": [">", 5, "<=", 7]}]}, True),
        ({"n": [{"numeric": [">", 7]}]}, False),
        ({"alarmName": ["web-5xx"], "n": [8]}, False),
    ):
        same(test(detail), wanted, f"{detail}")


@case(
    "EventBridge: a detail that is no JSON fails its entry and no other",
    "MalformedDetail The JSON provided is not valid.",
    "events PutEventsResultEntry.ErrorCode",
)
def _(aws: Aws) -> None:
    good = {"Source": "s", "DetailType": "t", "Detail": "{}"}
    answer = aws.events.put_events(Entries=[good, {**good, "Detail": "not json"}])
    same(answer["FailedEntryCount"], 1)
    need("EventId" in answer["Entries"][0], answer["Entries"])
    same(answer["Entries"][1]["ErrorCode"], "MalformedDetail")


@case(
    "EventBridge: a disabled rule matches nothing",
    "A disabled rule won't match any events, and won't self-trigger if it has a schedule expression.",
    "events DisableRule",
)
def _(aws: Aws) -> None:
    queue, source = Queue(aws), aws.name("source")
    rule = _bus_rule(aws, {"source": [source]}, queue)
    put = lambda: aws.events.put_events(Entries=[{"Source": source, "DetailType": "t", "Detail": "{}"}])
    aws.events.disable_rule(Name=rule)
    put()
    stays("nothing comes", lambda: not queue.receive(), 0.5)
    aws.events.enable_rule(Name=rule)
    put()
    queue.one()


@case(
    "EventBridge: a rule with targets is not deleted",
    "Before you can delete the rule, you must remove all targets, using RemoveTargets.",
    "events DeleteRule",
)
def _(aws: Aws) -> None:
    rule = _bus_rule(aws, {"source": [aws.name("s")]}, Queue(aws))
    refused(lambda: aws.events.delete_rule(Name=rule), "ValidationException")
    aws.events.remove_targets(Rule=rule, Ids=["1"])
    aws.events.delete_rule(Name=rule)
    refused(lambda: aws.events.describe_rule(Name=rule), "ResourceNotFoundException")


@case(
    "EventBridge: a pattern that is none is InvalidEventPatternException",
    "The event pattern is not valid.",
    "events InvalidEventPatternException",
)
def _(aws: Aws) -> None:
    for wrong in ("not json", '{"source": "text"}'):
        refused(lambda: aws.events.put_rule(Name=aws.name("r"), EventPattern=wrong), "InvalidEventPatternException")


@case(
    "EventBridge: the change of an alarm is an event of aws.cloudwatch, with both states",
    "CloudWatch guarantees the delivery of alarm state change events to EventBridge.",
    "aws-facts §3 (cloudwatch-and-eventbridge)",
    needs=("alarms",),
)
def _(aws: Aws) -> None:
    queue, alarm = Queue(aws), aws.name("a")
    pattern = {"source": ["aws.cloudwatch"], "detail-type": ["CloudWatch Alarm State Change"]}
    _bus_rule(aws, {**pattern, "detail": {"alarmName": [alarm]}}, queue)
    aws.cloudwatch.put_metric_alarm(
        AlarmName=alarm,
        Namespace="Region",
        MetricName=alarm,
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
    )
    aws.after(aws.cloudwatch.delete_alarms, AlarmNames=[alarm])
    aws.cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="by hand")
    event = json.loads(queue.one()["Body"])
    detail = event["detail"]
    same((event["source"], event["detail-type"]), ("aws.cloudwatch", "CloudWatch Alarm State Change"))
    same((detail["state"]["value"], detail["previousState"]["value"]), ("ALARM", "INSUFFICIENT_DATA"))
    same((detail["alarmName"], detail["state"]["reason"]), (alarm, "by hand"))
    need(event["resources"][0].endswith(f":alarm:{alarm}"), event["resources"])


# --- STS


@case(
    "STS: an assumed role is who one is with its credentials",
    "These temporary credentials consist of an access key ID, a secret access key, and a security token.",
    "sts AssumeRole",
)
def _(aws: Aws) -> None:
    import boto3

    role = "arn:aws:iam::000000000000:role/points"
    assumed = aws.sts.assume_role(RoleArn=role, RoleSessionName="region")
    need(assumed["AssumedRoleUser"]["Arn"].endswith(":assumed-role/points/region"), assumed["AssumedRoleUser"])
    keys = assumed["Credentials"]
    client = boto3.client(
        "sts",
        endpoint_url=aws.endpoint.url,
        region_name="eu-central-1",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    same(client.get_caller_identity()["Arn"], assumed["AssumedRoleUser"]["Arn"])


def _topic(aws: Aws, name: str = "") -> str:
    arn = aws.sns.create_topic(Name=name or aws.name("t"))["TopicArn"]
    aws.after(aws.sns.delete_topic, TopicArn=arn)
    return arn


def _bus_rule(aws: Aws, pattern: dict, queue: Queue) -> str:
    name = aws.name("r")
    aws.events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    aws.after(aws.events.delete_rule, Name=name)
    answer = aws.events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": queue.arn}])
    same(answer["FailedEntryCount"], 0)
    aws.after(aws.events.remove_targets, Rule=name, Ids=["1"])
    return name
