//! SQS as its documentation says it, in virtual time.

#![expect(clippy::needless_pass_by_value, reason = "called with `json!` again and again")]

use serde_json::json;

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn queues(attributes: Value) -> Queues {
    let mut queues = Queues::new("http://127.0.0.1:1", "eu-central-1", "111122223333");
    queues.call(at(0), "CreateQueue", &json!({"QueueName": "q", "Attributes": attributes})).unwrap();
    queues
}

fn with(mut input: Value) -> Value {
    input["QueueUrl"] = "http://127.0.0.1:1/111122223333/q".into();
    input
}

fn call(queues: &mut Queues, millis: i64, operation: &str, input: Value) -> Result<Value, ApiError> {
    queues.call(at(millis), operation, &with(input))
}

fn send(queues: &mut Queues, millis: i64, body: &str) -> Value {
    call(queues, millis, "SendMessage", json!({"MessageBody": body})).unwrap()
}

fn receive(queues: &mut Queues, millis: i64, input: Value) -> Vec<Value> {
    let (wanted, _) = queues.wanted("q", &input).unwrap();
    queues.receive(at(millis), "q", &wanted).unwrap()
}

fn bodies(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["Body"].as_str()).collect()
}

#[test]
fn a_received_message_is_invisible_for_the_visibility_timeout_and_then_there_again() {
    // "Immediately after a message is received, it remains in the queue. To prevent other consumers from
    // processing the message again, SQS sets a visibility timeout … The default is 30 seconds."
    let mut queues = queues(json!({}));
    send(&mut queues, 0, "a");
    let first = receive(&mut queues, 0, json!({}));
    assert_eq!(bodies(&receive(&mut queues, 29_999, json!({}))), [""; 0]);
    assert_eq!(queues.next_visible(at(1), "q"), Some(at(30_000)));
    let again = receive(&mut queues, 30_000, json!({"AttributeNames": ["ApproximateReceiveCount"]}));
    assert_eq!(again[0]["MessageId"], first[0]["MessageId"]);
    assert_ne!(again[0]["ReceiptHandle"], first[0]["ReceiptHandle"]);
    assert_eq!(again[0]["Attributes"], json!({"ApproximateReceiveCount": "2"}));
}

#[test]
fn the_newest_receipt_deletes_and_an_old_one_does_not() {
    // "If you receive a message more than once, the ReceiptHandle is different each time you receive a
    // message. … you must provide the most recently received ReceiptHandle."
    let mut queues = queues(json!({"VisibilityTimeout": "1"}));
    send(&mut queues, 0, "a");
    let old = receive(&mut queues, 0, json!({}))[0]["ReceiptHandle"].clone();
    let new = receive(&mut queues, 1_000, json!({}))[0]["ReceiptHandle"].clone();
    call(&mut queues, 1_000, "DeleteMessage", json!({"ReceiptHandle": old})).unwrap();
    assert_eq!(receive(&mut queues, 2_000, json!({})).len(), 1, "still there");
    let refused = call(&mut queues, 2_000, "DeleteMessage", json!({"ReceiptHandle": "nonsense"}));
    assert_eq!(refused.unwrap_err().code, "ReceiptHandleIsInvalid");
    assert_ne!(old, new);
}

#[test]
fn visibility_may_be_ended_early_or_extended_while_the_message_is_in_flight() {
    let mut queues = queues(json!({}));
    send(&mut queues, 0, "a");
    let handle = receive(&mut queues, 0, json!({}))[0]["ReceiptHandle"].clone();
    let change = |seconds: u32| json!({"ReceiptHandle": handle, "VisibilityTimeout": seconds});
    call(&mut queues, 1_000, "ChangeMessageVisibility", change(60)).unwrap();
    assert_eq!(queues.next_visible(at(1_000), "q"), Some(at(61_000)));
    call(&mut queues, 2_000, "ChangeMessageVisibility", change(0)).unwrap();
    let late = call(&mut queues, 2_000, "ChangeMessageVisibility", change(5)).unwrap_err();
    assert_eq!(late.code, "MessageNotInflight");
    assert_eq!(receive(&mut queues, 2_000, json!({})).len(), 1);
    let over = json!({"ReceiptHandle": handle, "VisibilityTimeout": 43_201});
    let refused = call(&mut queues, 2_000, "ChangeMessageVisibility", over).unwrap_err();
    assert_eq!(refused.code, "InvalidParameterValue");
}

#[test]
fn one_call_receives_at_most_ten_in_the_order_they_were_sent() {
    // "MaxNumberOfMessages … Valid values: 1 to 10."
    let mut queues = queues(json!({}));
    for number in 0..12 {
        send(&mut queues, number, &format!("m{number}"));
    }
    assert_eq!(receive(&mut queues, 100, json!({"MaxNumberOfMessages": 10})).len(), 10);
    assert_eq!(bodies(&receive(&mut queues, 100, json!({"MaxNumberOfMessages": 10}))), ["m10", "m11"]);
    let refused = queues.wanted("q", &json!({"MaxNumberOfMessages": 11})).unwrap_err();
    assert_eq!(refused.code, "InvalidParameterValue");
}

#[test]
fn a_delayed_message_waits_and_counts_as_delayed() {
    let mut queues = queues(json!({"DelaySeconds": "5"}));
    send(&mut queues, 0, "late");
    call(&mut queues, 0, "SendMessage", json!({"MessageBody": "now", "DelaySeconds": 0})).unwrap();
    let counts = call(&mut queues, 0, "GetQueueAttributes", json!({"AttributeNames": ["All"]})).unwrap();
    assert_eq!(counts["Attributes"]["ApproximateNumberOfMessagesDelayed"], "1");
    assert_eq!(counts["Attributes"]["ApproximateNumberOfMessages"], "1");
    assert_eq!(counts["Attributes"]["QueueArn"], "arn:aws:sqs:eu-central-1:111122223333:q");
    assert_eq!(bodies(&receive(&mut queues, 0, json!({"MaxNumberOfMessages": 10}))), ["now"]);
    assert_eq!(bodies(&receive(&mut queues, 5_000, json!({}))), ["late"]);
}

#[test]
fn a_message_over_the_queues_limit_is_refused_and_at_the_limit_taken() {
    // "The maximum size is 1 MiB or 1,048,576 bytes."
    let mut queues = queues(json!({}));
    send(&mut queues, 0, &"x".repeat(MESSAGE_BYTES_MAX));
    let over = call(&mut queues, 0, "SendMessage", json!({"MessageBody": "x".repeat(MESSAGE_BYTES_MAX + 1)}));
    assert_eq!(over.unwrap_err().code, "InvalidParameterValue");
    call(&mut queues, 0, "SetQueueAttributes", json!({"Attributes": {"MaximumMessageSize": "1024"}}))
        .unwrap();
    let over = call(&mut queues, 0, "SendMessage", json!({"MessageBody": "x".repeat(1_025)})).unwrap_err();
    assert!(over.message.contains("shorter than 1024 bytes"), "{over}");
}

#[test]
fn a_full_sandbox_refuses_instead_of_growing_and_a_purge_makes_room() {
    let mut queues = queues(json!({}));
    let whole = "x".repeat(MESSAGE_BYTES_MAX);
    for _ in 0..BYTES_MAX / MESSAGE_BYTES_MAX {
        send(&mut queues, 0, &whole);
    }
    let full = call(&mut queues, 0, "SendMessage", json!({"MessageBody": "x"})).unwrap_err();
    assert_eq!((full.code.as_str(), full.status), ("OverLimit", 403));
    call(&mut queues, 0, "PurgeQueue", json!({})).unwrap();
    send(&mut queues, 0, &whole);
}

#[test]
fn a_batch_tells_of_each_entry_and_refuses_what_no_batch_may_be() {
    let mut queues = queues(json!({}));
    let batch = json!({"Entries": [{"Id": "a", "MessageBody": "1"}, {"Id": "b", "MessageBody": "\u{1}"}]});
    let answer = call(&mut queues, 0, "SendMessageBatch", batch).unwrap();
    assert_eq!(answer["Successful"][0]["Id"], "a");
    assert_eq!(
        (&answer["Failed"][0]["Id"], &answer["Failed"][0]["Code"]),
        (&json!("b"), &json!("InvalidMessageContents"))
    );
    let code = |queues: &mut Queues, entries: Value| {
        call(queues, 0, "SendMessageBatch", json!({"Entries": entries})).unwrap_err().code
    };
    let entry = |id: &str| json!({"Id": id, "MessageBody": "x"});
    assert_eq!(code(&mut queues, json!([])), "EmptyBatchRequest");
    assert_eq!(code(&mut queues, json!([entry("a"), entry("a")])), "BatchEntryIdsNotDistinct");
    let many: Vec<Value> = (0..11).map(|id| entry(&id.to_string())).collect();
    assert_eq!(code(&mut queues, many.into()), "TooManyEntriesInBatchRequest");
    let half = "x".repeat(MESSAGE_BYTES_MAX / 2 + 1);
    let long = json!([{"Id": "a", "MessageBody": half}, {"Id": "b", "MessageBody": half}]);
    assert_eq!(code(&mut queues, long), "BatchRequestTooLong");
}

#[test]
fn a_message_received_too_often_goes_to_the_dead_letter_queue() {
    // "maxReceiveCount – The number of times a message is delivered to the source queue before being
    // moved to the dead-letter queue."
    let policy =
        json!({"deadLetterTargetArn": "arn:aws:sqs:eu-central-1:111122223333:dead", "maxReceiveCount": 2});
    let mut queues = queues(json!({"RedrivePolicy": policy.to_string(), "VisibilityTimeout": "0"}));
    queues.call(at(0), "CreateQueue", &json!({"QueueName": "dead"})).unwrap();
    send(&mut queues, 0, "poison");
    assert_eq!(receive(&mut queues, 1, json!({})).len(), 1);
    assert_eq!(receive(&mut queues, 2, json!({})).len(), 1);
    assert!(receive(&mut queues, 3, json!({})).is_empty());
    let (wanted, _) = queues.wanted("dead", &Value::Null).unwrap();
    assert_eq!(bodies(&queues.receive(at(4), "dead", &wanted).unwrap()), ["poison"]);
}

#[test]
fn messages_end_with_their_retention_period() {
    // "MessageRetentionPeriod … from 60 seconds".
    let mut queues = queues(json!({"MessageRetentionPeriod": "60"}));
    send(&mut queues, 0, "old");
    assert!(receive(&mut queues, 60_000, json!({})).is_empty());
    assert_eq!(queues.bytes, 0);
}

#[test]
fn a_name_is_given_once_and_unknown_queues_and_attributes_are_refused() {
    let mut queues = queues(json!({"DelaySeconds": "5"}));
    let create = |queues: &mut Queues, input: Value| queues.call(at(1), "CreateQueue", &input);
    assert!(create(&mut queues, json!({"QueueName": "q", "Attributes": {"DelaySeconds": "5"}})).is_ok());
    let other = create(&mut queues, json!({"QueueName": "q", "Attributes": {"DelaySeconds": "6"}}));
    assert_eq!(other.unwrap_err().code, "QueueNameExists");
    assert_eq!(create(&mut queues, json!({"QueueName": "q.fifo"})).unwrap_err().code, "UnsupportedOperation");
    let unknown =
        create(&mut queues, json!({"QueueName": "r", "Attributes": {"Colour": "red"}})).unwrap_err();
    assert_eq!(unknown.code, "InvalidAttributeName");
    call(&mut queues, 1, "DeleteQueue", json!({})).unwrap();
    assert_eq!(
        call(&mut queues, 1, "SendMessage", json!({"MessageBody": "x"})).unwrap_err().code,
        "QueueDoesNotExist"
    );
}
