//! `DynamoDB` and its Streams, answered by the SQLite-backed engine `dynoxide` in this process.
//!
//! The engine does the work; this module moves JSON in and out, keeps its blocking calls off the async
//! threads, and translates what its answers say about themselves: account and region in ARNs, and the
//! shard id, which must have at least 28 characters (the minimum in the API model of Streams) where the
//! engine's has one fewer than that plus the table's name.
//!
//! In a weather with stale reads, an eventually consistent read may get the answer that the same read got a
//! moment ago: "the response might include some stale data" (`GetItem`, `ConsistentRead`). A read that nobody
//! made before is never stale here.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use dynoxide::{Database, DynoxideError};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::clock;
use super::weather::{VERSIONS_MAX, Weather};
use super::wire::{Backend, Caller, Refusal, Request};
use crate::world::ApiError;

/// Different reads whose answers are kept for stale reads; beyond it, all are forgotten.
const READS_MAX: usize = 1_024;

/// The engine behind the sandbox's `DynamoDB` endpoint.
pub(super) struct DynamoDb {
    engine: Database,
    names: Names,
    weather: Arc<Weather>,
    /// Answers of the last moments, by read.
    earlier: Mutex<BTreeMap<String, VecDeque<(Timestamp, Value)>>>,
}

impl DynamoDb {
    /// An empty engine that keeps its tables in memory.
    pub(super) fn in_memory(
        account: &str,
        region: &str,
        weather: Arc<Weather>,
    ) -> Result<Self, DynoxideError> {
        let names = Names::new(account, region);
        Ok(Self { engine: Database::memory()?, names, weather, earlier: Mutex::default() })
    }

    /// An engine that keeps its tables in this file, which is made when it is not there.
    pub(super) fn in_file(
        file: &Path,
        account: &str,
        region: &str,
        weather: Arc<Weather>,
    ) -> Result<Self, DynoxideError> {
        let names = Names::new(account, region);
        let engine = Database::new(&file.to_string_lossy())?;
        Ok(Self { engine, names, weather, earlier: Mutex::default() })
    }

    /// An earlier answer to the same read, when the weather draws one.
    fn stale_answer(&self, read: &str, caller: &Caller) -> Option<Value> {
        let (back, within) = self.weather.stale_read(caller)?;
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let since = clock::now() - within;
        let back = usize::try_from(back).unwrap_or(usize::MAX);
        let recent = earlier.get(read)?.iter().take(back).take_while(|(at, _)| *at >= since);
        recent.last().map(|(_, answer)| answer.clone())
    }

    fn remember(&self, read: String, asked_at: Timestamp, answer: &Value) {
        if self.weather.now().stale_versions == 0 {
            return;
        }
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        if earlier.len() >= READS_MAX && !earlier.contains_key(&read) {
            earlier.clear();
        }
        let answers = earlier.entry(read).or_default();
        answers.push_front((asked_at, answer.clone()));
        answers.truncate(usize::try_from(VERSIONS_MAX).unwrap_or(usize::MAX));
    }

    /// Removes expired items from tables with a time to live; returns how many.
    pub(super) async fn sweep_expired(&self) -> Result<usize, DynoxideError> {
        let engine = self.engine.clone();
        blocking(move || engine.sweep_ttl()).await
    }
}

/// Runs on a thread that may block; a panic of the engine goes on as one of ours.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => panic!("the runtime stopped under a call: {cancelled}"),
        },
    }
}

#[async_trait]
impl Backend for DynamoDb {
    async fn call(&self, request: Request) -> Result<Value, Refusal> {
        let Request { operation, mut input, caller, .. } = request;
        let read = eventually_consistent(&operation, &input).then(|| format!("{operation} {input}"));
        if let Some(answer) = read.as_ref().and_then(|read| self.stale_answer(read, &caller)) {
            return Ok(answer);
        }
        let asked_at = clock::now();
        self.names.inward(&mut input);
        let engine = self.engine.clone();
        let mut answer = blocking(move || {
            let answer = dispatch(&engine, &operation, &input.to_string());
            let mut answer = answer
                .ok_or_else(|| Refusal::unknown_operation(&operation))?
                .map_err(|error| refusal(&operation, error))?;
            add_key_schema(&engine, &mut answer);
            Ok::<_, Refusal>(answer)
        })
        .await?;
        self.names.outward(&mut answer);
        if let Some(read) = read {
            self.remember(read, asked_at, &answer);
        }
        Ok(answer)
    }
}

/// A stream's description holds the key schema of its table; the engine leaves it out.
fn add_key_schema(engine: &Database, answer: &mut Value) {
    let Some(Value::Object(description)) = answer.get_mut("StreamDescription") else { return };
    let Some(table) = description.get("TableName") else { return };
    let question = serde_json::json!({ "TableName": table }).to_string();
    // A table that is gone takes its schema with it; its stream is described without one.
    if let Some(Ok(mut told)) = dispatch(engine, "DescribeTable", &question)
        && let Some(schema) = told.pointer_mut("/Table/KeySchema")
    {
        description.insert("KeySchema".to_owned(), schema.take());
    }
}

/// Whether a read may answer with what was a moment ago: one that does not ask for `ConsistentRead`, and each
/// of a global secondary index, which has no other ("Strongly consistent reads are not supported on global
/// secondary indexes", `Query`).
fn eventually_consistent(operation: &str, input: &Value) -> bool {
    let strong = |part: &Value| part.get("ConsistentRead").and_then(Value::as_bool).unwrap_or(false);
    match operation {
        "GetItem" | "Query" | "Scan" => !strong(input),
        "BatchGetItem" => {
            let tables = input.get("RequestItems").and_then(Value::as_object);
            tables.is_some_and(|tables| !tables.values().all(strong))
        }
        _ => false,
    }
}

macro_rules! operations {
    ($engine:ident, $name:ident, $body:ident: $($operation:literal => $method:ident,)*) => {
        match $name {
            $($operation => Some(run($body, |input| $engine.$method(input))),)*
            _ => None,
        }
    };
}

/// `None` when the engine has no such operation.
fn dispatch(engine: &Database, operation: &str, body: &str) -> Option<Result<Value, DynoxideError>> {
    operations! { engine, operation, body:
        "BatchExecuteStatement" => batch_execute_statement,
        "BatchGetItem" => batch_get_item,
        "BatchWriteItem" => batch_write_item,
        "CreateTable" => create_table,
        "DeleteItem" => delete_item,
        "DeleteTable" => delete_table,
        "DescribeStream" => describe_stream,
        "DescribeTable" => describe_table,
        "DescribeTimeToLive" => describe_time_to_live,
        "ExecuteStatement" => execute_statement,
        "ExecuteTransaction" => execute_transaction,
        "GetItem" => get_item,
        "GetRecords" => get_records,
        "GetShardIterator" => get_shard_iterator,
        "ListStreams" => list_streams,
        "ListTables" => list_tables,
        "ListTagsOfResource" => list_tags_of_resource,
        "PutItem" => put_item,
        "Query" => query,
        "Scan" => scan,
        "TagResource" => tag_resource,
        "TransactGetItems" => transact_get_items,
        "TransactWriteItems" => transact_write_items,
        "UntagResource" => untag_resource,
        "UpdateItem" => update_item,
        "UpdateTable" => update_table,
        "UpdateTimeToLive" => update_time_to_live,
    }
}

fn run<I: DeserializeOwned, O: Serialize>(
    body: &str,
    operation: impl FnOnce(I) -> Result<O, DynoxideError>,
) -> Result<Value, DynoxideError> {
    let input = serde_json::from_str(body).map_err(|error| unreadable(&error.to_string()))?;
    let output = operation(input)?;
    serde_json::to_value(output).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// Sorts a refused input into the class that `DynamoDB` names: the engine's types say it by a prefix.
fn unreadable(message: &str) -> DynoxideError {
    let sentence = message.rsplit_once(" at line ").map_or(message, |(sentence, _)| sentence);
    for prefix in ["VALIDATION:", "VALIDATION_AS_READ:"] {
        if let Some(rest) = sentence.strip_prefix(prefix) {
            return DynoxideError::ValidationException(rest.to_owned());
        }
    }
    if let Some(rest) = sentence.strip_prefix("VALIDATION_REQUEST:") {
        return DynoxideError::EnvelopedValidation(rest.to_owned());
    }
    for prefix in ["SERIALIZATION:", "SERIALIZATION_AS_READ:"] {
        if let Some(rest) = sentence.strip_prefix(prefix) {
            return DynoxideError::SerializationException(rest.to_owned());
        }
    }
    let invalid = ["missing field", "unknown variant", "invalid type: null", "Supplied AttributeValue"];
    if invalid.iter().any(|part| sentence.contains(part)) {
        return DynoxideError::ValidationException(sentence.to_owned());
    }
    DynoxideError::SerializationException(sentence.to_owned())
}

/// Single-item writes wrap this family of messages (the engine's note on its tag `EnvelopedValidation`).
fn refusal(operation: &str, error: DynoxideError) -> Refusal {
    let error = match error {
        DynoxideError::EnvelopedValidation(message)
            if matches!(operation, "PutItem" | "UpdateItem" | "DeleteItem") =>
        {
            DynoxideError::ValidationException(format!("1 validation error detected: {message}"))
        }
        error => error,
    };
    let status = error.status_code();
    let mut members = match serde_json::from_str(&error.to_json()) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    members.retain(|name, _| !matches!(name.as_str(), "__type" | "message" | "Message"));
    let error = ApiError { code: error.error_type().to_owned(), message: error.to_string(), status };
    Refusal { error, members: Box::new(members) }
}

/// Translates between the engine's names and the sandbox's.
struct Names {
    region: String,
    ours: String,
}

/// What the engine's ARNs begin with.
const ENGINE_ARN: &str = "arn:aws:dynamodb:dynoxide:000000000000:";
const ENGINE_SHARD: &str = "shardId-00000001-";

/// Members that hold an ARN (or, for `TableName`, may hold one).
const ARN_MEMBERS: &[&str] =
    &["IndexArn", "LatestStreamArn", "ResourceArn", "StreamArn", "TableArn", "TableName", "eventSourceARN"];

/// Members whose values are people's data and are never translated.
const DATA_MEMBERS: &[&str] = &[
    "Attributes",
    "ExclusiveStartKey",
    "ExpressionAttributeValues",
    "Item",
    "Items",
    "Key",
    "Keys",
    "LastEvaluatedKey",
    "NewImage",
    "OldImage",
    "Responses",
];

impl Names {
    fn new(account: &str, region: &str) -> Self {
        Self { region: region.to_owned(), ours: format!("arn:aws:dynamodb:{region}:{account}:") }
    }

    fn inward(&self, input: &mut Value) {
        let stream = input.get("StreamArn").and_then(Value::as_str).map(str::to_owned);
        walk(input, &mut |member, text| {
            if ARN_MEMBERS.contains(&member) {
                replace_prefix(text, &self.ours, ENGINE_ARN);
            }
            if let (true, Some(stream)) = (member.ends_with("ShardId"), &stream)
                && *text == public_shard(stream)
            {
                *text = engine_shard(stream);
            }
        });
    }

    fn outward(&self, answer: &mut Value) {
        walk(answer, &mut |member, text| {
            if ARN_MEMBERS.contains(&member) {
                replace_prefix(text, ENGINE_ARN, &self.ours);
            }
            if member == "awsRegion" {
                text.clone_from(&self.region);
            }
        });
        // The public shard id is made of the stream's ARN, which is part of the same answer.
        let Some(description) = answer.get_mut("StreamDescription") else { return };
        let Some(stream) = description.get("StreamArn").and_then(Value::as_str).map(str::to_owned) else {
            return;
        };
        walk(description, &mut |member, text| {
            if member.ends_with("ShardId") && *text == engine_shard(&stream) {
                *text = public_shard(&stream);
            }
        });
    }
}

fn replace_prefix(text: &mut String, from: &str, to: &str) {
    if let Some(rest) = text.strip_prefix(from) {
        *text = format!("{to}{rest}");
    }
}

/// Visits every text of a request or an answer together with its member's name, people's data left out.
fn walk(value: &mut Value, visit: &mut impl FnMut(&str, &mut String)) {
    match value {
        Value::Object(object) => {
            for (member, value) in object.iter_mut() {
                match value {
                    Value::String(text) => visit(member, text),
                    _ if DATA_MEMBERS.contains(&member.as_str()) => {}
                    inner => walk(inner, visit),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

/// A shard id of AWS's form, `shardId-` and twenty digits and eight hexadecimal ones, that is the same
/// for the same stream.
fn public_shard(stream_arn: &str) -> String {
    let digest = Sha256::digest(stream_arn.as_bytes());
    format!("shardId-00000000000000000001-{}", HEXLOWER.encode(&digest[..4]))
}

fn engine_shard(stream_arn: &str) -> String {
    let table = stream_arn.split('/').nth(1).unwrap_or_default();
    format!("{ENGINE_SHARD}{table}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::weather::{Conditions, Profile};
    use crate::sandbox::wire::Service;

    async fn call(db: &DynamoDb, operation: &str, input: Value) -> Result<Value, Refusal> {
        let (operation, caller) = (operation.to_owned(), Caller::default());
        db.call(Request { service: Service::DynamoDb, operation, input, stale_versions: 0, caller }).await
    }

    fn weather(stale_versions: u32) -> Arc<Weather> {
        let calm = Conditions::of(Profile::Calm);
        Arc::new(Weather::new(Conditions { stale_versions, stale_millis: 60_000, ..calm }))
    }

    async fn with_stream() -> (DynamoDb, String) {
        let db = DynamoDb::in_memory("111122223333", "eu-central-1", weather(0)).unwrap();
        let table = json!({"TableName": "records", "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "KEYS_ONLY"}});
        let made = call(&db, "CreateTable", table).await.unwrap();
        let arn = made["TableDescription"]["LatestStreamArn"].as_str().unwrap().to_owned();
        (db, arn)
    }

    #[tokio::test]
    async fn a_streams_names_are_in_our_account_and_its_shard_id_has_awss_length_both_ways() {
        let (db, arn) = with_stream().await;
        assert!(arn.starts_with("arn:aws:dynamodb:eu-central-1:111122223333:table/records/stream/"), "{arn}");
        let put = json!({"TableName": "records", "Item": {"pk": {"S": "arn:aws:dynamodb:dynoxide:000000000000:x"}}});
        call(&db, "PutItem", put).await.unwrap();

        let described = call(&db, "DescribeStream", json!({"StreamArn": arn})).await.unwrap();
        let shard = described["StreamDescription"]["Shards"][0]["ShardId"].as_str().unwrap();
        assert_eq!(shard.len(), 37, "{shard}");
        assert_eq!(described["StreamDescription"]["KeySchema"][0]["AttributeName"], "pk");
        let from = json!({"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
        let iterator = call(&db, "GetShardIterator", from).await.unwrap();
        let records =
            call(&db, "GetRecords", json!({"ShardIterator": iterator["ShardIterator"]})).await.unwrap();
        let record = &records["Records"][0];
        assert_eq!(record["awsRegion"], "eu-central-1");
        // What people store is theirs, even when it looks like one of the engine's names.
        assert_eq!(record["dynamodb"]["Keys"]["pk"]["S"], "arn:aws:dynamodb:dynoxide:000000000000:x");
    }

    #[tokio::test]
    async fn a_failed_condition_gives_the_old_item_back_with_the_error() {
        let (db, _) = with_stream().await;
        let put = json!({"TableName": "records", "Item": {"pk": {"S": "a"}, "v": {"N": "1"}},
            "ConditionExpression": "attribute_not_exists(pk)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"});
        call(&db, "PutItem", put.clone()).await.unwrap();
        let refused = call(&db, "PutItem", put).await.expect_err("the item exists");
        assert!(refused.error.code.ends_with("#ConditionalCheckFailedException"), "{refused}");
        assert_eq!(refused.members["Item"]["v"], json!({"N": "1"}));
    }

    #[tokio::test]
    async fn a_read_without_consistent_read_may_be_stale_and_one_with_it_never_is() {
        let mut db = with_stream().await.0;
        db.weather = weather(2);
        let put =
            |v: u32| json!({"TableName": "records", "Item": {"pk": {"S": "a"}, "v": {"N": v.to_string()}}});
        let get = |consistent: bool| json!({"TableName": "records", "Key": {"pk": {"S": "a"}}, "ConsistentRead": consistent});
        let mut stale = 0;
        for v in 0..50 {
            call(&db, "PutItem", put(v)).await.unwrap();
            let strong = call(&db, "GetItem", get(true)).await.unwrap();
            assert_eq!(strong["Item"]["v"]["N"], v.to_string());
            let weak = call(&db, "GetItem", get(false)).await.unwrap();
            stale += u32::from(weak["Item"]["v"]["N"].as_str() != strong["Item"]["v"]["N"].as_str());
        }
        assert!((10..50).contains(&stale), "{stale} of 50 were stale");
    }

    #[tokio::test]
    async fn an_input_of_the_wrong_type_is_the_callers_mistake() {
        let (db, _) = with_stream().await;
        let refused = call(&db, "GetItem", json!({"TableName": 7})).await.expect_err("no text");
        assert!(refused.error.code.ends_with("#SerializationException"), "{refused}");
        assert_eq!(refused.error.status, 400);
        let refused = call(&db, "Fly", json!({})).await.expect_err("no such operation");
        assert_eq!(refused.error.code, "UnknownOperationException");
    }
}
