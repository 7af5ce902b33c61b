"""Stops a sandbox that keeps its region in a file, starts it again, and holds it to what AWS's documents say of
queues, topics, rules and streams: nothing of them depends on the process that serves them.

Each line names a check and the sentence of AWS that it holds, which is looked up in the API models as in `run.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import quotes  # noqa: E402
from aws import Endpoint  # noqa: E402
from run import sandbox  # noqa: E402
from suite import Case, Failed, need, same, until  # noqa: E402

#: Seconds that a received message stays invisible: long beside a restart of the sandbox.
INVISIBLE = 12
ACCOUNT = "000000000000"
REGION = "eu-central-1"


class Held(NamedTuple):
    """A documented rule."""

    quote: str
    source: str


#: What is held: AWS's own sentence and where it stands in the API models.
HOLDS = {
    "a message in flight is visible again when its time is over": Held(
        "If the message is not deleted or its visibility timeout is not extended before the timeout expires, it becomes "
        "visible again and can be retrieved by other consumers.",
        "sqs ReceiveMessageRequest.VisibilityTimeout",
    ),
    "a subscription goes on with its filter policy": Held(
        "If you send a message to a topic, Amazon SNS delivers the message to each endpoint that is subscribed to the topic.",
        "sns Publish",
    ),
    "a rule goes on with its pattern and target": Held(
        "Targets are the resources that are invoked when a rule is triggered.", "events PutTargets"
    ),
    "a reader of a stream goes on where it was": Held(
        "AFTER_SEQUENCE_NUMBER - Start reading right after the position denoted by a specific sequence number.",
        "dynamodbstreams GetShardIteratorInput.ShardIteratorType",
    ),
}


def holds(what: str) -> None:
    """Says what held."""
    print(f"ok   restart: {what} ({HOLDS[what].source}: “{HOLDS[what].quote}”)", flush=True)


class Region:
    """The clients of one run of the sandbox."""

    def __init__(self, url: str):
        endpoint = Endpoint(url, 1)
        self.sqs, self.sns = endpoint.client("sqs"), endpoint.client("sns")
        self.events, self.dynamodb = endpoint.client("events"), endpoint.client("dynamodb")
        self.streams = endpoint.client("dynamodbstreams")

    def queue(self, name: str) -> str:
        """Its URL, which names the port of this run."""
        return self.sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def receive(self, name: str, wait: int = 0) -> list[dict]:
        """What is visible now, or comes within so many seconds."""
        answer = self.sqs.receive_message(
            QueueUrl=self.queue(name),
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["All"],
        )
        return answer.get("Messages", [])

    def put(self, key: str) -> None:
        """One item, and so one record of the stream."""
        self.dynamodb.put_item(TableName="records", Item={"pk": {"S": key}})

    def records(self, iterator: str) -> tuple[list[dict], str]:
        """All records from there on, and where the next one will be."""
        found: list[dict] = []
        for _ in range(10):
            answer = self.streams.get_records(ShardIterator=iterator)
            found += answer["Records"]
            iterator = answer["NextShardIterator"]
        return found, iterator


def keys(records: list[dict]) -> list[str]:
    """Of the items that were written."""
    return [record["dynamodb"]["Keys"]["pk"]["S"] for record in records]


def prepare(region: Region) -> dict[str, Any]:
    """Queues with messages, a topic, a rule and a stream; what is remembered of them."""
    attributes = {"VisibilityTimeout": str(INVISIBLE)}
    for name in ("work", "news", "changes"):
        region.sqs.create_queue(QueueName=name, Attributes=attributes, tags={"owner": "tests"})
    arn = lambda name: f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
    topic = region.sns.create_topic(Name="releases")["TopicArn"]
    policy = json.dumps({"env": ["prod"]})
    region.sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arn("news"),
        Attributes={"RawMessageDelivery": "true", "FilterPolicy": policy},
    )
    region.events.put_rule(Name="shop", EventPattern=json.dumps({"source": [{"prefix": "shop."}]}))
    region.events.put_targets(Rule="shop", Targets=[{"Id": "q", "Arn": arn("changes"), "InputPath": "$.detail"}])

    for body in ("in flight", "deleted", "waiting"):
        region.sqs.send_message(QueueUrl=region.queue("work"), MessageBody=body)
        if body == "waiting":
            continue
        received = region.receive("work")
        same([message["Body"] for message in received], [body])
        if body == "deleted":
            region.sqs.delete_message(QueueUrl=region.queue("work"), ReceiptHandle=received[0]["ReceiptHandle"])
        else:
            flying = received[0]

    made = region.dynamodb.create_table(
        TableName="records",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    stream = made["TableDescription"]["LatestStreamArn"]
    region.put("read before")
    shard = region.streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"][0]["ShardId"]
    start = region.streams.get_shard_iterator(StreamArn=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    read, iterator = region.records(start["ShardIterator"])
    same(keys(read), ["read before"])
    region.put("written before")
    sequence = read[0]["dynamodb"]["SequenceNumber"]
    return {
        "topic": topic,
        "message": flying,
        "stream": stream,
        "shard": shard,
        "iterator": iterator,
        "sequence": sequence,
    }


def queues_go_on(region: Region, before: dict[str, Any]) -> None:
    """What waited is there, what was in flight comes back in its time, what was deleted does not."""
    same([message["Body"] for message in region.receive("work")], ["waiting"], "visible after the restart")
    again = until("the message in flight is visible again", lambda: region.receive("work", wait=20), INVISIBLE + 20)
    flying = before["message"]
    same([(message["Body"], message["MessageId"]) for message in again], [("in flight", flying["MessageId"])])
    same(again[0]["Attributes"]["ApproximateReceiveCount"], "2")
    holds("a message in flight is visible again when its time is over")
    same(region.sqs.list_queue_tags(QueueUrl=region.queue("work"))["Tags"], {"owner": "tests"})
    held = region.sqs.get_queue_attributes(QueueUrl=region.queue("work"), AttributeNames=["All"])["Attributes"]
    same(held["VisibilityTimeout"], str(INVISIBLE))


def subscriptions_go_on(region: Region, before: dict[str, Any]) -> None:
    """A message that meets the filter policy arrives, another does not."""
    for env in ("test", "prod"):
        attribute = {"DataType": "String", "StringValue": env}
        region.sns.publish(TopicArn=before["topic"], Message=env, MessageAttributes={"env": attribute})
    same([message["Body"] for message in region.receive("news")], ["prod"])
    holds("a subscription goes on with its filter policy")


def rules_go_on(region: Region) -> None:
    """An event that meets the pattern arrives, another does not."""
    entry = lambda source: {"Source": source, "DetailType": "x", "Detail": json.dumps({"from": source})}
    region.events.put_events(Entries=[entry("other"), entry("shop.orders")])
    same([message["Body"] for message in region.receive("changes")], ['{"from":"shop.orders"}'])
    holds("a rule goes on with its pattern and target")


def streams_go_on(region: Region, before: dict[str, Any]) -> None:
    """Nothing is lost and nothing comes twice, by an iterator or a sequence number from before the restart."""
    region.put("written after")
    unread = ["written before", "written after"]
    same(keys(region.records(before["iterator"])[0]), unread, "by the iterator")
    by_number = region.streams.get_shard_iterator(
        StreamArn=before["stream"],
        ShardId=before["shard"],
        ShardIteratorType="AFTER_SEQUENCE_NUMBER",
        SequenceNumber=before["sequence"],
    )
    found = region.records(by_number["ShardIterator"])[0]
    same(keys(found), unread, "by the sequence number")
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in found]
    need(int(before["sequence"]) < numbers[0] < numbers[1], f"{before['sequence']} and then {numbers}")
    holds("a reader of a stream goes on where it was")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pointsman", type=Path, required=True, help="the program whose sandbox is started")
    given = parser.parse_args()
    cases = [Case("restart", what, *held, frozenset(), lambda _: None) for what, held in HOLDS.items()]
    checked, wrong = quotes.complaints(cases)
    if wrong or checked != len(cases):
        print("\n".join(["FAIL a quotation", *wrong]))
        return 1
    with tempfile.TemporaryDirectory() as folder:
        state = ("--state", str(Path(folder) / "region.json"))
        try:
            with sandbox(given.pointsman, 1, *state) as url:
                before = prepare(Region(url))
            with sandbox(given.pointsman, 1, *state) as url:
                region = Region(url)
                streams_go_on(region, before)
                queues_go_on(region, before)
                subscriptions_go_on(region, before)
                rules_go_on(region)
        except Failed as failure:
            print(f"FAIL {failure}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
