//! The sandbox as unmodified SDK clients see it, over TCP.

mod region;
mod weather;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, StreamSpecification, StreamViewType,
};
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use serde_json::json;

use super::*;
use crate::sandbox::faults::Effect;

async fn sandbox() -> (Sandbox, aws_config::SdkConfig) {
    let sandbox = Sandbox::start(SandboxSettings::default()).await.expect("a free port");
    let config = client_config(sandbox.endpoint()).await;
    (sandbox, config)
}

async fn client_config(endpoint: &str) -> aws_config::SdkConfig {
    let timeouts =
        aws_config::timeout::TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(5));
    aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region("eu-central-1")
        .credentials_provider(aws_sdk_dynamodb::config::Credentials::new(
            "AKIDTEST", "secret", None, None, "test",
        ))
        .app_name(aws_config::AppName::new("tests").expect("a valid name"))
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .load()
        .await
}

fn rule(operation: &str, effect: Effect) -> FaultRule {
    FaultRule {
        service: None,
        operation: operation.to_owned(),
        containing: None,
        access_key: None,
        skip: 0,
        per_mille: None,
        seed: 0,
        count: Some(1),
        effect,
    }
}

async fn records_table(client: &aws_sdk_dynamodb::Client) -> String {
    let key = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build().unwrap();
    let attribute = AttributeDefinition::builder()
        .attribute_name("pk")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .unwrap();
    let stream =
        StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::KeysOnly);
    let made = client
        .create_table()
        .table_name("records")
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key)
        .attribute_definitions(attribute)
        .stream_specification(stream.build().unwrap())
        .send()
        .await
        .expect("the table is made");
    made.table_description.unwrap().latest_stream_arn.expect("it has a stream")
}

fn put_once(
    client: &aws_sdk_dynamodb::Client,
) -> aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder {
    client
        .put_item()
        .table_name("records")
        .item("pk", AttributeValue::S("lease#a".to_owned()))
        .item("epoch", AttributeValue::N("1".to_owned()))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
}

#[tokio::test]
async fn a_conditional_write_is_refused_with_the_item_that_stands_in_its_way() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_dynamodb::Client::new(&config);
    records_table(&client).await;
    put_once(&client).send().await.expect("the first write");
    let refused = put_once(&client).send().await.expect_err("the second write").into_service_error();
    let aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(refused) =
        refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(refused.item().unwrap()["epoch"], AttributeValue::N("1".to_owned()));

    let record = sandbox.calls(0).pop().unwrap();
    assert_eq!(record.result.as_deref(), Some("ConditionalCheckFailedException"));
    assert_eq!(record.resource.as_deref(), Some("records"));
    assert_eq!((record.access_key.as_deref(), record.app.as_deref()), (Some("AKIDTEST"), Some("tests")));
}

#[tokio::test]
async fn a_stream_tells_of_the_write_to_the_unmodified_streams_client() {
    let (_sandbox, config) = sandbox().await;
    let client = aws_sdk_dynamodb::Client::new(&config);
    let arn = records_table(&client).await;
    put_once(&client).send().await.unwrap();

    let streams = aws_sdk_dynamodbstreams::Client::new(&config);
    let described = streams.describe_stream().stream_arn(&arn).send().await.unwrap();
    let shard = described.stream_description.unwrap().shards.unwrap().remove(0).shard_id.unwrap();
    let iterator = streams
        .get_shard_iterator()
        .stream_arn(&arn)
        .shard_id(shard)
        .shard_iterator_type(ShardIteratorType::TrimHorizon)
        .send()
        .await
        .unwrap();
    let records = streams.get_records().set_shard_iterator(iterator.shard_iterator).send().await.unwrap();
    let keys = records.records.unwrap().remove(0).dynamodb.unwrap().keys.unwrap();
    assert_eq!(keys["pk"], aws_sdk_dynamodbstreams::types::AttributeValue::S("lease#a".to_owned()));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_took_effect_all_the_same() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_dynamodb::Client::new(&config);
    records_table(&client).await;
    sandbox.arm(rule("PutItem", Effect::ResetAfter)).unwrap();
    let lost = put_once(&client).send().await.expect_err("the connection is reset");
    assert!(lost.as_service_error().is_none(), "{lost:?}");
    let again = put_once(&client).send().await.expect_err("the first write stands").into_service_error();
    assert!(again.is_conditional_check_failed_exception(), "{again:?}");

    let first = sandbox.calls(0).into_iter().find(|record| record.operation == "PutItem").unwrap();
    assert_eq!((first.result.as_deref(), first.faults), (Some("OK"), vec!["resetAfter"]));
}

#[tokio::test]
async fn a_fault_before_the_effect_hits_only_as_many_calls_as_ordered() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_dynamodb::Client::new(&config);
    records_table(&client).await;
    sandbox.arm(rule("Put*", Effect::ServerError)).unwrap();
    let failed = put_once(&client).send().await.expect_err("ordered").into_service_error();
    assert!(failed.is_internal_server_error(), "{failed:?}");
    put_once(&client).send().await.expect("the failed call changed nothing and the fault is spent");
}

#[tokio::test]
async fn a_held_call_takes_effect_only_after_its_rule_is_taken_away() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_dynamodb::Client::new(&config);
    records_table(&client).await;
    let id = sandbox.arm(rule("PutItem", Effect::Hold)).unwrap();
    let held = tokio::spawn(put_once(&client).send());
    // The rule is spent by the held call, so this one overtakes it.
    while sandbox.faults.list()[0].hit == 0 {
        tokio::task::yield_now().await;
    }
    put_once(&client).send().await.expect("overtakes the held one");
    sandbox.disarm(Some(id));
    let late = held.await.unwrap().expect_err("comes second").into_service_error();
    assert!(late.is_conditional_check_failed_exception(), "{late:?}");
}

#[tokio::test]
async fn every_call_is_a_line_in_the_logs_file_when_the_sandbox_has_stopped() {
    let path = std::env::temp_dir().join(format!("pointsman-calls-{:032x}.jsonl", rand::random::<u128>()));
    let settings = SandboxSettings { call_log: Some(path.clone()), ..SandboxSettings::default() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let client = aws_sdk_dynamodb::Client::new(&client_config(sandbox.endpoint()).await);
    for _ in 0..20 {
        client.list_tables().send().await.unwrap();
    }
    sandbox.stop().await;
    let text = tokio::fs::read_to_string(&path).await.unwrap();
    tokio::fs::remove_file(&path).await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=20).collect::<Vec<u64>>());
    assert!(lines.iter().all(|line| line["operation"] == "ListTables" && line["result"] == "OK"));
}

#[test]
fn a_fault_rule_reads_from_the_json_that_the_control_api_takes() {
    let read: FaultRule = serde_json::from_value(json!({
        "service": "elb", "operation": "ModifyRule", "skip": 1, "count": 2,
        "effect": {"kind": "latency", "millis": 250},
    }))
    .unwrap();
    assert_eq!(read.service, Some(Service::Elb));
    assert_eq!(read.effect, Effect::Latency { millis: 250 });
    assert!(
        serde_json::from_value::<FaultRule>(json!({"effect": {"kind": "hold"}, "operaton": "x"})).is_err()
    );
}
