//! Queues, topics and rules together.

use super::*;
use crate::sandbox::wire::Caller;

fn messages() -> (Messages, mpsc::Receiver<Invocation>) {
    let (sender, receiver) = mpsc::channel(1);
    (Messages::new(("http://127.0.0.1:1", "eu-central-1", "111122223333"), sender, None), receiver)
}

async fn call(messages: &Messages, service: Service, operation: &str, input: Value) -> Value {
    let (operation, caller) = (operation.to_owned(), Caller::default());
    let request = Request { service, operation, input, stale_versions: 0, caller };
    messages.call(request).await.expect("the call is answered")
}

const QUEUE_ARN: &str = "arn:aws:sqs:eu-central-1:111122223333:q";
const URL: &str = "http://127.0.0.1:1/111122223333/q";

#[tokio::test]
async fn a_long_poll_ends_with_the_first_message() {
    let (messages, _invoked) = messages();
    call(&messages, Service::Sqs, "CreateQueue", json!({"QueueName": "q"})).await;
    // Twenty seconds: were it not woken, this test would hang there and fail by its answer.
    let poll =
        call(&messages, Service::Sqs, "ReceiveMessage", json!({"QueueUrl": URL, "WaitTimeSeconds": 20}));
    let send = async {
        tokio::task::yield_now().await;
        call(&messages, Service::Sqs, "SendMessage", json!({"QueueUrl": URL, "MessageBody": "hello"})).await
    };
    let (received, answer) = tokio::join!(poll, send);
    assert_eq!(received["Messages"][0]["MessageId"], answer["MessageId"]);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_that_finds_nothing_ends_without_a_list() {
    let (messages, _invoked) = messages();
    call(&messages, Service::Sqs, "CreateQueue", json!({"QueueName": "q"})).await;
    let poll = json!({"QueueUrl": URL, "WaitTimeSeconds": 20});
    assert_eq!(call(&messages, Service::Sqs, "ReceiveMessage", poll).await, json!({}));
}

#[tokio::test]
async fn an_event_travels_from_a_rule_over_a_topic_into_a_queue_before_the_call_is_answered() {
    let (messages, _invoked) = messages();
    call(&messages, Service::Sqs, "CreateQueue", json!({"QueueName": "q"})).await;
    let topic = call(&messages, Service::Sns, "CreateTopic", json!({"Name": "t"})).await["TopicArn"].clone();
    let subscribe = json!({"TopicArn": topic, "Protocol": "sqs", "Endpoint": QUEUE_ARN,
        "Attributes": {"RawMessageDelivery": "true"}});
    call(&messages, Service::Sns, "Subscribe", subscribe).await;
    call(
        &messages,
        Service::Events,
        "PutRule",
        json!({"Name": "r", "EventPattern": "{\"source\": [\"app\"]}"}),
    )
    .await;
    assert!(!messages.listens(), "a rule without a target");
    let targets = json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": topic}]});
    call(&messages, Service::Events, "PutTargets", targets).await;
    assert!(messages.listens());
    let entries = json!({"Entries": [{"Source": "app", "DetailType": "d", "Detail": "{\"x\": 1}"}]});
    call(&messages, Service::Events, "PutEvents", entries).await;
    let received = call(&messages, Service::Sqs, "ReceiveMessage", json!({"QueueUrl": URL})).await;
    let event: Value = serde_json::from_str(received["Messages"][0]["Body"].as_str().unwrap()).unwrap();
    assert_eq!(event["detail"], json!({"x": 1}));
}

#[tokio::test]
async fn a_rule_hands_events_to_a_function_and_what_no_place_is_left_for_is_dropped() {
    let (messages, mut invoked) = messages();
    let function = "arn:aws:lambda:eu-central-1:111122223333:function:f";
    call(
        &messages,
        Service::Events,
        "PutRule",
        json!({"Name": "r", "EventPattern": "{\"source\": [\"app\"]}"}),
    )
    .await;
    let targets = json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": function}]});
    call(&messages, Service::Events, "PutTargets", targets).await;
    let entry = json!({"Source": "app", "DetailType": "d", "Detail": "{}"});
    call(&messages, Service::Events, "PutEvents", json!({"Entries": [entry, entry]})).await;
    let invocation = invoked.try_recv().expect("the first one");
    assert_eq!((invocation.function.as_str(), &invocation.event["source"]), (function, &json!("app")));
    assert!(invoked.try_recv().is_err(), "the channel has one place");
}
