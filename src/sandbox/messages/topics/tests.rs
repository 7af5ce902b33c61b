//! SNS as its documentation says it.

#![expect(clippy::needless_pass_by_value, reason = "called with `json!` again and again")]

use super::*;

const QUEUE: &str = "arn:aws:sqs:eu-central-1:111122223333:q";
const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:alarms";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn call(topics: &mut Topics, operation: &str, input: &Value) -> Result<(Value, Vec<Delivery>), ApiError> {
    topics.call(now(), operation, input)
}

fn topics(attributes: Value) -> Topics {
    let mut topics = Topics::new("eu-central-1", "111122223333");
    call(&mut topics, "CreateTopic", &json!({"Name": "alarms"})).unwrap();
    let input = json!({"TopicArn": TOPIC, "Protocol": "sqs", "Endpoint": QUEUE, "Attributes": attributes});
    call(&mut topics, "Subscribe", &input).unwrap();
    topics
}

fn publish(topics: &mut Topics, attributes: Value) -> Vec<Delivery> {
    let input = json!({"TopicArn": TOPIC, "Message": "{\"a\": 1}", "Subject": "News", "MessageAttributes": attributes});
    call(topics, "Publish", &input).unwrap().1
}

fn stage(value: &str) -> Value {
    json!({"stage": {"DataType": "String", "StringValue": value}, "n": {"DataType": "Number", "StringValue": "7"}})
}

#[test]
fn a_queue_gets_the_message_in_an_envelope() {
    let deliveries = publish(&mut topics(json!({})), stage("prod"));
    let [Delivery::Queue(arn, text, attributes)] = &deliveries[..] else { panic!("{deliveries:?}") };
    let envelope: Value = serde_json::from_str(text).unwrap();
    assert_eq!((arn.as_str(), attributes.len()), (QUEUE, 0));
    for (member, expected) in [
        ("Type", "Notification"),
        ("TopicArn", TOPIC),
        ("Subject", "News"),
        ("Message", "{\"a\": 1}"),
        ("Timestamp", "2027-01-15T08:00:00.000Z"),
    ] {
        assert_eq!(envelope[member], expected, "{member}");
    }
    assert_eq!(envelope["MessageAttributes"]["stage"], json!({"Type": "String", "Value": "prod"}));
}

#[test]
fn raw_delivery_hands_on_text_and_attributes_as_they_were() {
    // "RawMessageDelivery – When set to true, enables raw message delivery to Amazon SQS … This eliminates
    // the need for the endpoints to process JSON formatting, which is otherwise created for Amazon SNS
    // metadata."
    let deliveries = publish(&mut topics(json!({"RawMessageDelivery": "true"})), stage("prod"));
    let [Delivery::Queue(_, text, attributes)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!(text, "{\"a\": 1}");
    assert_eq!(attributes["stage"]["StringValue"], "prod");
}

#[test]
fn a_filter_policy_lets_through_what_matches_all_of_it() {
    for (policy, scope, reaches) in [
        (json!({"stage": ["prod"]}), "MessageAttributes", true),
        (json!({"stage": ["test"]}), "MessageAttributes", false),
        (json!({"stage": [{"prefix": "pr"}], "n": [{"numeric": [">", 5]}]}), "MessageAttributes", true),
        (json!({"stage": ["prod"], "missing": ["x"]}), "MessageAttributes", false),
        (json!({"missing": [{"exists": false}]}), "MessageAttributes", true),
        (json!({"a": [1]}), "MessageBody", true),
        (json!({"a": [2]}), "MessageBody", false),
    ] {
        let attributes = json!({"FilterPolicy": policy.to_string(), "FilterPolicyScope": scope});
        let reached = !publish(&mut topics(attributes), stage("prod")).is_empty();
        assert_eq!(reached, reaches, "{policy} of {scope}");
    }
}

#[test]
fn a_function_gets_records() {
    let mut topics = topics(json!({}));
    let function = "arn:aws:lambda:eu-central-1:111122223333:function:f";
    let input = json!({"TopicArn": TOPIC, "Protocol": "lambda", "Endpoint": function});
    call(&mut topics, "Subscribe", &input).unwrap();
    let deliveries = publish(&mut topics, json!({}));
    let [_, Delivery::Function(arn, event)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!(arn, function);
    let record = &event["Records"][0];
    assert_eq!(
        (&record["EventSource"], &record["Sns"]["Message"]),
        (&json!("aws:sns"), &json!("{\"a\": 1}"))
    );
    assert!(record["Sns"].get("SigningCertUrl").is_some() && record["Sns"].get("SigningCertURL").is_none());
}

#[test]
fn a_structured_message_gives_each_protocol_its_text() {
    // "MessageStructure … json if you want to send a different message for each protocol … must contain at
    // least a top-level JSON key of default".
    let mut topics = topics(json!({"RawMessageDelivery": "true"}));
    let publish = |topics: &mut Topics, message: Value| {
        let input = json!({"TopicArn": TOPIC, "Message": message.to_string(), "MessageStructure": "json"});
        call(topics, "Publish", &input)
    };
    let (_, deliveries) = publish(&mut topics, json!({"default": "d", "sqs": "for queues"})).unwrap();
    let [Delivery::Queue(_, text, _)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!(text, "for queues");
    assert_eq!(publish(&mut topics, json!({"sqs": "x"})).unwrap_err().code, "InvalidParameter");
}

#[test]
fn unknown_topics_other_protocols_and_long_messages_are_refused() {
    let mut topics = topics(json!({}));
    let code = |topics: &mut Topics, operation: &str, input: Value| {
        let error = call(topics, operation, &input).unwrap_err();
        (error.code, error.status)
    };
    let unknown = json!({"TopicArn": format!("{TOPIC}x"), "Message": "m"});
    assert_eq!(code(&mut topics, "Publish", unknown), ("NotFound".to_owned(), 404));
    let web = json!({"TopicArn": TOPIC, "Protocol": "https", "Endpoint": "https://example.com"});
    assert_eq!(code(&mut topics, "Subscribe", web).0, "InvalidParameter");
    let long = json!({"TopicArn": TOPIC, "Message": "x".repeat(envelope::MESSAGE_BYTES_MAX + 1)});
    assert_eq!(code(&mut topics, "Publish", long).0, "InvalidParameter");
}

#[test]
fn subscribing_twice_is_one_subscription_and_unsubscribing_ends_it() {
    let mut topics = topics(json!({}));
    let input = json!({"TopicArn": TOPIC, "Protocol": "sqs", "Endpoint": QUEUE});
    let (again, _) = call(&mut topics, "Subscribe", &input).unwrap();
    let (listed, _) = call(&mut topics, "ListSubscriptionsByTopic", &json!({"TopicArn": TOPIC})).unwrap();
    assert_eq!(listed["Subscriptions"].as_array().unwrap().len(), 1);
    assert_eq!(listed["Subscriptions"][0]["SubscriptionArn"], again["SubscriptionArn"]);
    call(&mut topics, "Unsubscribe", &again).unwrap();
    assert!(publish(&mut topics, json!({})).is_empty());
    call(&mut topics, "DeleteTopic", &json!({"TopicArn": TOPIC})).unwrap();
    call(&mut topics, "DeleteTopic", &json!({"TopicArn": TOPIC})).expect("a second time is no error");
}
