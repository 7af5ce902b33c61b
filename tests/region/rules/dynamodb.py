"""DynamoDB and its streams: conditional writes, transactions, queries, time to live."""

from __future__ import annotations

import time
import uuid

from botocore.exceptions import ClientError

from aws import Aws, at_once, key
from suite import Service, need, refused, same, until

DYNAMODB = Service("dynamodb")
CASES = DYNAMODB.cases
case = DYNAMODB.case

NEW = "attribute_not_exists(pk)"


def _number(value: int) -> dict:
    return {"N": str(value)}


def _put(table, pk: str, sk: str = "a", condition: str = "", **attributes: dict) -> dict:
    put = {"TableName": table.name, "Item": {**key(pk, sk), **attributes}}
    return {"Put": {**put, "ConditionExpression": condition} if condition else put}


# --- conditional writes


@case(
    "a conditional put of a new item succeeds once",
    "To prevent a new item from replacing an existing item, use a conditional expression that contains the "
    "attribute_not_exists function with the name of the attribute being used as the partition key for the table.",
    "dynamodb PutItem",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("p", attributes={"v": _number(1)}, ConditionExpression=NEW)
    refused(
        lambda: table.put("p", attributes={"v": _number(2)}, ConditionExpression=NEW),
        "ConditionalCheckFailedException",
        says="The conditional request failed",
    )
    same(table.get("p")["v"], _number(1))


@case(
    "the item that stood in the way comes with the error when it is asked for",
    "An optional parameter that returns the item attributes for a PutItem operation that failed a condition check.",
    "dynamodb PutItemInput.ReturnValuesOnConditionCheckFailure",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("p", attributes={"v": _number(1)})
    again = {"ConditionExpression": NEW}
    error = refused(
        lambda: table.put("p", ReturnValuesOnConditionCheckFailure="ALL_OLD", **again), "ConditionalCheckFailedException"
    )
    same(error.response.get("Item"), {**key("p"), "v": _number(1)})
    error = refused(lambda: table.put("p", **again), "ConditionalCheckFailedException")
    same(error.response.get("Item"), None, "not asked for")


@case(
    "a put replaces the whole item",
    "If an item that has the same primary key as the new item already exists in the specified table, the new item "
    "completely replaces the existing item.",
    "dynamodb PutItem",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("p", attributes={"old": {"S": "x"}, "v": _number(1)})
    answer = table.put("p", attributes={"v": _number(2)}, ReturnValues="ALL_OLD")
    same(answer["Attributes"]["old"], {"S": "x"})
    same(table.get("p"), {**key("p"), "v": _number(2)})


@case(
    "one of sixteen who want a lock at once gets it",
    "Conditional deletes are useful for deleting items only if specific conditions are met.",
    "dynamodb DeleteItem",
)
def _(aws: Aws) -> str:
    table = aws.table()

    def take(who: int) -> list[int]:
        won = []
        for lock in range(10):
            try:
                table.put(f"lock{lock}", attributes={"owner": _number(who)}, ConditionExpression=NEW)
                won.append(lock)
            except ClientError as error:
                same(error.response["Error"]["Code"], "ConditionalCheckFailedException")
        return won

    same(sorted(lock for won in at_once(16, take) for lock in won), list(range(10)))
    return "10 locks, 16 threads, one owner each"


@case(
    "an update of a stale version is refused and changes nothing",
    "A condition that must be satisfied in order for a conditional update to succeed.",
    "dynamodb UpdateItemInput.ConditionExpression",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("p", attributes={"v": _number(1)})
    step = {"ConditionExpression": "v = :e", "ReturnValues": "ALL_NEW"}
    values = lambda expected: {":one": _number(1), ":e": _number(expected)}
    answer = table.update("p", "SET v = v + :one", ExpressionAttributeValues=values(1), **step)
    same(answer["Attributes"]["v"], _number(2))
    refused(
        lambda: table.update("p", "SET v = v + :one", ExpressionAttributeValues=values(1), **step),
        "ConditionalCheckFailedException",
    )
    same(table.get("p")["v"], _number(2))


@case(
    "if_not_exists, list_append, ADD and REMOVE do what they say",
    "if the item does not contain an attribute at the specified path, then if_not_exists evaluates to operand; otherwise, "
    "it evaluates to path.",
    "dynamodb UpdateItemInput.UpdateExpression",
)
def _(aws: Aws) -> None:
    table = aws.table()
    values = {":n": _number(3), ":l": {"L": [_number(1)]}}
    for _ in range(2):
        table.update("p", "SET f = if_not_exists(f, :n) ADD c :n", ExpressionAttributeValues={":n": values[":n"]})
    same((table.get("p")["f"], table.get("p")["c"]), (_number(3), _number(6)))
    table.update("p", "SET l = :l", ExpressionAttributeValues={":l": values[":l"]})
    table.update("p", "SET l = list_append(l, :l) REMOVE f", ExpressionAttributeValues={":l": values[":l"]})
    now = table.get("p")
    same((now["l"], "f" in now), ({"L": [_number(1), _number(1)]}, False))


# --- transactions


@case(
    "a transaction happens as a whole or not at all, and says why not, action by action",
    "The actions are completed atomically so that either all of them succeed, or all of them fail.",
    "dynamodb TransactWriteItems",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("there", attributes={"v": _number(1)})
    blocked = _put(table, "there", condition=NEW)
    blocked["Put"]["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    error = refused(
        lambda: aws.dynamodb.transact_write_items(TransactItems=[_put(table, "new"), blocked]),
        "TransactionCanceledException",
        says="[None, ConditionalCheckFailed]",
    )
    reasons = error.response["CancellationReasons"]
    same([reason["Code"] for reason in reasons], ["None", "ConditionalCheckFailed"])
    need("Message" not in reasons[0], "the message is left out where there is no error")
    same(reasons[1]["Item"], {**key("there"), "v": _number(1)})
    same(table.get("new"), None)


@case(
    "a condition check binds a transaction to an item that it does not write",
    "Applies a condition to an item that is not being modified by the transaction.",
    "dynamodb TransactWriteItems",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("lease", attributes={"epoch": _number(4)})

    def write(epoch: int) -> None:
        check = {
            "TableName": table.name,
            "Key": key("lease"),
            "ConditionExpression": "epoch = :e",
            "ExpressionAttributeValues": {":e": _number(epoch)},
        }
        aws.dynamodb.transact_write_items(TransactItems=[{"ConditionCheck": check}, _put(table, f"by{epoch}")])

    write(4)
    refused(lambda: write(3), "TransactionCanceledException")
    same((table.get("by4") is not None, table.get("by3")), (True, None))


@case(
    "a transaction with the same token happens once",
    "Providing a ClientRequestToken makes the call to TransactWriteItems idempotent, meaning that multiple identical calls "
    "have the same effect as one single call.",
    "dynamodb TransactWriteItemsInput.ClientRequestToken",
)
def _(aws: Aws) -> None:
    table, token = aws.table(), uuid.uuid4().hex
    add = {"TableName": table.name, "Key": key("p"), "UpdateExpression": "ADD n :one"}
    items = [{"Update": {**add, "ExpressionAttributeValues": {":one": _number(1)}}}]
    for _ in range(3):
        aws.dynamodb.transact_write_items(TransactItems=items, ClientRequestToken=token)
    same(table.get("p")["n"], _number(1))
    refused(
        lambda: aws.dynamodb.transact_write_items(TransactItems=[_put(table, "q")], ClientRequestToken=token),
        "IdempotentParameterMismatchException",
    )


@case(
    "no two actions of a transaction write one item",
    "no two actions can target the same item. For example, you cannot both ConditionCheck and Update the same item.",
    "dynamodb TransactWriteItems",
)
def _(aws: Aws) -> None:
    table = aws.table()
    twice = [_put(table, "p"), {"Delete": {"TableName": table.name, "Key": key("p")}}]
    refused(lambda: aws.dynamodb.transact_write_items(TransactItems=twice), "ValidationException")


@case(
    "a transaction has 100 actions and not 101",
    "TransactWriteItems is a synchronous write operation that groups up to 100 action requests.",
    "dynamodb TransactWriteItems",
)
def _(aws: Aws) -> None:
    table = aws.table()
    puts = [_put(table, f"p{index}") for index in range(101)]
    aws.dynamodb.transact_write_items(TransactItems=puts[:100])
    refused(lambda: aws.dynamodb.transact_write_items(TransactItems=puts), "ValidationException")


@case(
    "eight who count by compare-and-set in transactions count exactly",
    "Operation was rejected because there is an ongoing transaction for the item.",
    "dynamodb TransactionConflictException",
)
def _(aws: Aws) -> str:
    table = aws.table()
    table.put("n", attributes={"n": _number(0)})
    refusals: list[str] = []

    def count(_: int) -> None:
        done = 0
        while done < 5:
            seen = int(table.get("n")["n"]["N"])
            update = {
                "TableName": table.name,
                "Key": key("n"),
                "UpdateExpression": "SET n = :new",
                "ConditionExpression": "n = :old",
                "ExpressionAttributeValues": {":new": _number(seen + 1), ":old": _number(seen)},
            }
            log = _put(table, "log", f"{seen + 1:03}", NEW)
            try:
                aws.dynamodb.transact_write_items(TransactItems=[{"Update": update}, log])
                done += 1
            except ClientError as error:
                codes = {reason["Code"] for reason in error.response.get("CancellationReasons", [])} - {"None"}
                need(codes <= {"ConditionalCheckFailed", "TransactionConflict"}, f"{error}")
                refusals.append(",".join(codes))

    at_once(8, count)
    same(table.get("n")["n"], _number(40))
    answer = aws.dynamodb.query(
        TableName=table.name,
        KeyConditionExpression="pk = :p",
        ExpressionAttributeValues={":p": {"S": "log"}},
        ConsistentRead=True,
    )
    same(answer["Count"], 40)
    return f"40 exact, {len(refusals)} refusals"


@case(
    "a transactional read is one snapshot, in the order of the request",
    "TransactGetItems is a synchronous operation that atomically retrieves multiple items from one or more tables",
    "dynamodb TransactGetItems",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("b")
    gets = [{"Get": {"TableName": table.name, "Key": key(pk)}} for pk in ("a", "b")]
    answers = aws.dynamodb.transact_get_items(TransactItems=gets)["Responses"]
    same([answer.get("Item") for answer in answers], [None, key("b")])


# --- reads


@case(
    "a query is sorted by the sort key, either way, page by page",
    "Query results are always sorted by the sort key value. … By default, the sort order is ascending. To reverse the "
    "order, set the ScanIndexForward parameter to false.",
    "dynamodb Query",
)
def _(aws: Aws) -> None:
    table = aws.table(index=True)
    for index in (3, 1, 2, 0, 4):
        table.put(f"p{index}", f"{index:02}", {"g": {"S": "G"}})
    table.put("other")

    def query(**given) -> tuple[list[str], int]:
        found, start, pages = [], {}, 0
        while True:
            answer = aws.dynamodb.query(
                TableName=table.name,
                IndexName="by-g",
                KeyConditionExpression="g = :g AND sk >= :s",
                ExpressionAttributeValues={":g": {"S": "G"}, ":s": {"S": "01"}},
                Limit=3,
                **given,
                **start,
            )
            found += [item["sk"]["S"] for item in answer["Items"]]
            pages += 1
            if "LastEvaluatedKey" not in answer:
                return found, pages
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    up, pages = query()
    same((up, pages), (["01", "02", "03", "04"], 2))
    same(query(ScanIndexForward=False)[0], up[::-1])


@case(
    "a page of a query is at most a megabyte",
    "a maximum of 1 MB of data and then apply any filtering to the results using FilterExpression.",
    "dynamodb Query",
)
def _(aws: Aws) -> None:
    table = aws.table()
    for index in range(5):
        table.put("big", str(index), {"b": {"S": "x" * 300_000}})
    arguments = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "big"}}}
    answer = aws.dynamodb.query(TableName=table.name, **arguments)
    need("LastEvaluatedKey" in answer and len(answer["Items"]) < 5, f"{len(answer['Items'])} items in a page")


@case(
    "a filter works after the limit, so that a page may be empty and not the last",
    "A Query operation can return an empty result set and a LastEvaluatedKey if all the items read for the page of results "
    "are filtered out.",
    "dynamodb Query",
)
def _(aws: Aws) -> None:
    table = aws.table()
    for index in range(4):
        table.put("p", str(index), {"v": _number(index)})
    answer = aws.dynamodb.query(
        TableName=table.name,
        KeyConditionExpression="pk = :p",
        FilterExpression="v > :two",
        ExpressionAttributeValues={":p": {"S": "p"}, ":two": _number(2)},
        Limit=2,
    )
    same((answer["Count"], answer["ScannedCount"], "LastEvaluatedKey" in answer), (0, 2, True))


@case(
    "a batch read takes 100 keys and not 101",
    "If you request more than 100 items, BatchGetItem returns a ValidationException with the message \"Too many items "
    'requested for the BatchGetItem call."',
    "dynamodb BatchGetItem",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("p7")
    keys = [key(f"p{index}") for index in range(101)]
    get = lambda some: aws.dynamodb.batch_get_item(RequestItems={table.name: {"Keys": some, "ConsistentRead": True}})
    same(get(keys[:100])["Responses"][table.name], [key("p7")])
    refused(lambda: get(keys), "ValidationException")


@case(
    "a strongly consistent read of a global secondary index is refused",
    "Strongly consistent reads are not supported on global secondary indexes.",
    "dynamodb QueryInput.ConsistentRead",
)
def _(aws: Aws) -> None:
    table = aws.table(index=True)
    refused(
        lambda: aws.dynamodb.query(
            TableName=table.name,
            IndexName="by-g",
            ConsistentRead=True,
            KeyConditionExpression="g = :g",
            ExpressionAttributeValues={":g": {"S": "G"}},
        ),
        "ValidationException",
    )


# --- wrong inputs


@case(
    "an item has at most 400 KB",
    "An item size becomes too large (bigger than 400 KB)",
    "dynamodb TransactWriteItems",
)
def _(aws: Aws) -> None:
    table = aws.table()
    table.put("p", attributes={"b": {"S": "x" * 400_000}})
    refused(lambda: table.put("p", attributes={"b": {"S": "x" * 410_000}}), "ValidationException")


@case(
    "a key attribute is not empty, and no key is left out",
    "Attribute values of type String and Binary must have a length greater than zero if the attribute is used as a key "
    "attribute for a table or index.",
    "dynamodb PutItem",
)
def _(aws: Aws) -> None:
    table = aws.table()
    refused(lambda: table.put(""), "ValidationException")
    refused(lambda: aws.dynamodb.get_item(TableName=table.name, Key={"pk": {"S": "p"}}), "ValidationException")
    wrong = {"pk": _number(1), "sk": {"S": "a"}}
    refused(lambda: aws.dynamodb.put_item(TableName=table.name, Item=wrong), "ValidationException")


@case("a set is not empty", "Set type attributes cannot be empty.", "dynamodb PutItem")
def _(aws: Aws) -> None:
    table = aws.table()
    refused(lambda: table.put("p", attributes={"s": {"SS": []}}), "ValidationException")
    table.put("p", attributes={"s": {"S": ""}})


@case(
    "names and values of expressions must be used, and reserved words need a name",
    "To access an attribute whose name conflicts with a DynamoDB reserved word.",
    "dynamodb UpdateItemInput.ExpressionAttributeNames",
)
def _(aws: Aws) -> None:
    table = aws.table()
    value = {":s": {"S": "x"}}
    refused(lambda: table.update("p", "SET status = :s", ExpressionAttributeValues=value), "ValidationException")
    names = {"#s": "status"}
    table.update("p", "SET #s = :s", ExpressionAttributeNames=names, ExpressionAttributeValues=value)
    unused = {**value, ":u": {"S": "y"}}
    refused(lambda: table.update("p", "SET z = :s", ExpressionAttributeValues=unused), "ValidationException")
    refused(
        lambda: table.update("p", "SET z = :s", ExpressionAttributeNames=names, ExpressionAttributeValues=value),
        "ValidationException",
    )


@case(
    "an update writes no key",
    "You cannot use UpdateItem to update any primary key attributes.",
    "aws-facts §4.4 (API reference, UpdateItem: AttributeUpdates)",
)
def _(aws: Aws) -> None:
    table = aws.table()
    refused(
        lambda: table.update("p", "SET sk = :s", ExpressionAttributeValues={":s": {"S": "b"}}), "ValidationException"
    )


@case("an unknown table is ResourceNotFoundException", "The operation tried to access a nonexistent table or index.", "dynamodb ResourceNotFoundException")
def _(aws: Aws) -> None:
    name = aws.name("none")
    refused(lambda: aws.dynamodb.get_item(TableName=name, Key=key("p")), "ResourceNotFoundException")
    refused(lambda: aws.dynamodb.describe_table(TableName=name), "ResourceNotFoundException")


@case(
    "a second table of the same name is ResourceInUseException",
    "table names must be unique within each Region.",
    "dynamodb CreateTable",
)
def _(aws: Aws) -> None:
    table = aws.table()
    refused(
        lambda: aws.dynamodb.create_table(
            TableName=table.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        ),
        "ResourceInUseException",
    )


# --- time to live


@case(
    "time to live is enabled for one attribute, and described",
    "The name of the TTL attribute for items in the table.",
    "dynamodb TimeToLiveDescription.AttributeName",
)
def _(aws: Aws) -> None:
    table = aws.table()
    before = aws.dynamodb.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]
    same(before["TimeToLiveStatus"], "DISABLED")
    specification = {"Enabled": True, "AttributeName": "expires"}
    aws.dynamodb.update_time_to_live(TableName=table.name, TimeToLiveSpecification=specification)
    after = aws.dynamodb.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]
    need(after["TimeToLiveStatus"] in ("ENABLED", "ENABLING"), after)
    same(after["AttributeName"], "expires")
    table.put("later", attributes={"expires": _number(int(time.time()) + 3600)})
    need(table.get("later"), "an item that has not expired")


# --- streams


@case(
    "every change is one record, with its images, in order",
    "INSERT - a new item was added to the table. MODIFY - one or more of an existing item's attributes were modified. "
    "REMOVE - the item was deleted from the table",
    "dynamodbstreams Record.eventName",
)
def _(aws: Aws) -> None:
    table = aws.table(stream="NEW_AND_OLD_IMAGES")
    table.put("p", attributes={"v": _number(1)})
    table.put("p", attributes={"v": _number(2)})
    aws.dynamodb.delete_item(TableName=table.name, Key=key("p"))
    records = until("three records", lambda: table.records() if len(table.records()) == 3 else None)
    same([record["eventName"] for record in records], ["INSERT", "MODIFY", "REMOVE"])
    same([record["dynamodb"].get("OldImage", {}).get("v") for record in records], [None, _number(1), _number(2)])
    same([record["dynamodb"].get("NewImage", {}).get("v") for record in records], [_number(1), _number(2), None])
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in records]
    same(numbers, sorted(set(numbers)), "sequence numbers")
    same({record["eventSource"] for record in records}, {"aws:dynamodb"})


@case(
    "a stream of keys tells keys only",
    "KEYS_ONLY - only the key attributes of the modified item.",
    "dynamodbstreams StreamRecord.StreamViewType",
)
def _(aws: Aws) -> None:
    table = aws.table(stream="KEYS_ONLY")
    table.put("p", attributes={"v": _number(1)})
    record = until("a record", table.records)[0]["dynamodb"]
    same((record["Keys"], "NewImage" in record, "OldImage" in record), (key("p"), False, False))


@case(
    "a write that changes nothing, or is refused, is no record",
    "no-op writes emit no record",
    "aws-facts §4.4 (Streams)",
)
def _(aws: Aws) -> None:
    table = aws.table(stream="KEYS_ONLY")
    table.put("p", attributes={"v": _number(1)})
    table.put("p", attributes={"v": _number(1)})
    aws.dynamodb.delete_item(TableName=table.name, Key=key("none"))
    refused(lambda: table.put("p", ConditionExpression=NEW), "ConditionalCheckFailedException")
    table.put("last")
    records = until("the last record", lambda: table.records() if _keys(table)[-1:] == ["last"] else None)
    same([record["dynamodb"]["Keys"]["pk"]["S"] for record in records], ["p", "last"])


@case(
    "reading goes on right after a sequence number, and from the newest",
    "AFTER_SEQUENCE_NUMBER - Start reading right after the position denoted by a specific sequence number. … LATEST - "
    "Start reading just after the most recent stream record in the shard",
    "dynamodbstreams GetShardIteratorInput.ShardIteratorType",
)
def _(aws: Aws) -> None:
    table = aws.table(stream="KEYS_ONLY")
    for index in range(4):
        table.put(f"p{index}")
    records = until("four records", lambda: table.records() if len(table.records()) == 4 else None)
    arn = table.described()["LatestStreamArn"]
    shard = aws.streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][-1]["ShardId"]
    where = {"StreamArn": arn, "ShardId": shard}

    def read(kind: str, **given) -> tuple[list[str], str]:
        iterator = aws.streams.get_shard_iterator(**where, ShardIteratorType=kind, **given)["ShardIterator"]
        answer = aws.streams.get_records(ShardIterator=iterator)
        return [one["dynamodb"]["Keys"]["pk"]["S"] for one in answer["Records"]], answer["NextShardIterator"]

    second = records[1]["dynamodb"]["SequenceNumber"]
    same(read("AFTER_SEQUENCE_NUMBER", SequenceNumber=second)[0], ["p2", "p3"])
    same(read("AT_SEQUENCE_NUMBER", SequenceNumber=second)[0], ["p1", "p2", "p3"])
    found, following = read("LATEST")
    same(found, [])
    table.put("p4")
    seen: list[str] = []

    def more() -> bool:
        nonlocal following
        answer = aws.streams.get_records(ShardIterator=following)
        seen.extend(one["dynamodb"]["Keys"]["pk"]["S"] for one in answer["Records"])
        following = answer["NextShardIterator"]
        return bool(seen)

    until("the new record", more)
    same(seen, ["p4"])


@case(
    "a stream describes its table, its keys and its shards, whose ids have AWS's length",
    "The identifier of the shard. The iterator will be returned for this shard ID.",
    "dynamodbstreams GetShardIteratorInput.ShardId",
)
def _(aws: Aws) -> None:
    table = aws.table(stream="NEW_IMAGE")
    described = aws.streams.describe_stream(StreamArn=table.described()["LatestStreamArn"])["StreamDescription"]
    same((described["StreamStatus"], described["StreamViewType"]), ("ENABLED", "NEW_IMAGE"))
    same((described["TableName"], [one["AttributeName"] for one in described["KeySchema"]]), (table.name, ["pk", "sk"]))
    need(described["Shards"] and all(28 <= len(one["ShardId"]) <= 65 for one in described["Shards"]), described["Shards"])


@case(
    "an unknown stream is ResourceNotFoundException",
    "The operation tried to access a nonexistent table or index.",
    "dynamodb ResourceNotFoundException",
)
def _(aws: Aws) -> None:
    table = aws.table(stream="KEYS_ONLY")
    arn = table.described()["LatestStreamArn"].replace(table.name, aws.name("none"))
    refused(lambda: aws.streams.describe_stream(StreamArn=arn), "ResourceNotFoundException")


def _keys(table) -> list[str]:
    return [record["dynamodb"]["Keys"]["pk"]["S"] for record in table.records()]
