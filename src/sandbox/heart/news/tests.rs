//! What changes in the region and who hears of it, through the same calls that clients make.

use std::sync::Arc;

use jiff::SignedDuration;
use tokio::sync::mpsc;

use super::*;
use crate::sandbox::faults::Faults;
use crate::sandbox::heart::Heart;
use crate::sandbox::weather::{Conditions, Profile, Weather};
use crate::sandbox::wire::{Backend as _, Caller, Request, Service};
use crate::world::{Runtime, Tuning};

const URL: &str = "http://127.0.0.1:1/111122223333/q";
const QUEUE: &str = "arn:aws:sqs:eu-central-1:111122223333:q";

struct Place {
    heart: Heart,
    messages: Arc<Messages>,
}

impl Place {
    fn new() -> Self {
        let (invocations, _) = mpsc::channel(1);
        let messages = Arc::new(Messages::new(
            ("http://127.0.0.1:1", "eu-central-1", "111122223333"),
            invocations,
            None,
        ));
        let tuning =
            Tuning { runtime: Runtime::External, steady_lag: SignedDuration::ZERO, ..Tuning::default() };
        let faults = Arc::new(Faults::new("111122223333"));
        let weather = Arc::new(Weather::new(Conditions::of(Profile::Calm)));
        let heart = Heart::new(
            ("111122223333", "eu-central-1"),
            tuning,
            1,
            faults,
            weather,
            Arc::clone(&messages),
            None,
        );
        Self { heart, messages }
    }

    async fn call(&self, service: Service, operation: &str, input: Value) -> Value {
        let (operation, caller) = (operation.to_owned(), Caller::default());
        let request = Request { service, operation, input, stale_versions: 0, caller };
        let answer = match service {
            Service::Ecs | Service::Elb | Service::CloudWatch => self.heart.call(request).await,
            _ => self.messages.call(request).await,
        };
        answer.expect("the call is answered")
    }

    /// A queue that a rule leads to.
    async fn listen(&self, source: &str) {
        self.call(Service::Sqs, "CreateQueue", json!({"QueueName": "q"})).await;
        let pattern = json!({"source": [source]}).to_string();
        self.call(Service::Events, "PutRule", json!({"Name": "r", "EventPattern": pattern})).await;
        let targets = json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": QUEUE}]});
        self.call(Service::Events, "PutTargets", targets).await;
    }

    async fn heard(&self) -> Vec<Value> {
        let input = json!({"QueueUrl": URL, "MaxNumberOfMessages": 10});
        let answer = self.call(Service::Sqs, "ReceiveMessage", input).await;
        let bodies = members(&answer, "Messages").filter_map(|message| message["Body"].as_str());
        bodies.map(|body| serde_json::from_str(body).expect("JSON")).collect()
    }

    async fn alarm(&self, more: Value) {
        let mut input = json!({"AlarmName": "errors", "Namespace": "Shop", "MetricName": "Errors",
            "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 5.0,
            "ComparisonOperator": "GreaterThanThreshold", "AlarmDescription": "too many"});
        for (member, value) in more.as_object().expect("members") {
            input[member] = value.clone();
        }
        self.call(Service::CloudWatch, "PutMetricAlarm", input).await;
    }

    async fn set(&self, name: &str, state: &str) {
        let input = json!({"AlarmName": name, "StateValue": state, "StateReason": "by hand"});
        self.call(Service::CloudWatch, "SetAlarmState", input).await;
    }
}

#[tokio::test]
async fn an_alarm_that_changes_its_state_is_an_event_with_both_states() {
    let place = Place::new();
    place.listen("aws.cloudwatch").await;
    place.alarm(json!({})).await;
    assert!(place.heard().await.is_empty(), "a new alarm changed nothing");
    place.set("errors", "ALARM").await;
    place.set("errors", "ALARM").await;
    let heard = place.heard().await;
    let [event] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(event["detail-type"], "CloudWatch Alarm State Change");
    assert_eq!(event["resources"], json!(["arn:aws:cloudwatch:eu-central-1:111122223333:alarm:errors"]));
    let detail = &event["detail"];
    assert_eq!((&detail["alarmName"], &detail["state"]["value"]), (&json!("errors"), &json!("ALARM")));
    assert_eq!(detail["state"]["reason"], "by hand");
    assert_eq!(detail["previousState"]["value"], "INSUFFICIENT_DATA");
    assert_eq!(detail["configuration"]["metrics"][0]["metricStat"]["metric"]["name"], "Errors");
}

#[tokio::test]
async fn the_actions_of_the_new_state_are_taken_and_noted_in_the_history() {
    let place = Place::new();
    let topic = place.call(Service::Sns, "CreateTopic", json!({"Name": "t"})).await["TopicArn"].clone();
    place.call(Service::Sqs, "CreateQueue", json!({"QueueName": "q"})).await;
    let subscribe = json!({"TopicArn": topic, "Protocol": "sqs", "Endpoint": QUEUE});
    place.call(Service::Sns, "Subscribe", subscribe).await;
    let gone = "arn:aws:sns:eu-central-1:111122223333:gone";
    place.alarm(json!({"AlarmActions": [topic, gone]})).await;
    place.set("errors", "OK").await;
    assert!(place.heard().await.is_empty(), "OK has no action");
    place.set("errors", "ALARM").await;
    let heard = place.heard().await;
    let [envelope] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(envelope["Subject"], "ALARM: \"errors\" in eu-central-1");
    let message: Value = serde_json::from_str(envelope["Message"].as_str().unwrap()).unwrap();
    assert_eq!((&message["NewStateValue"], &message["OldStateValue"]), (&json!("ALARM"), &json!("OK")));
    assert_eq!(
        (&message["Trigger"]["MetricName"], &message["Trigger"]["Statistic"]),
        (&json!("Errors"), &json!("SUM"))
    );
    let input = json!({"AlarmName": "errors", "HistoryItemType": "Action", "ScanBy": "TimestampAscending"});
    let history = place.call(Service::CloudWatch, "DescribeAlarmHistory", input).await;
    let said: Vec<_> =
        members(&history, "AlarmHistoryItems").map(|item| item["HistorySummary"].clone()).collect();
    assert_eq!(
        said,
        [
            json!(format!("Successfully executed action {}", topic.as_str().unwrap())),
            json!(format!("Failed to execute action {gone}"))
        ]
    );
}

#[tokio::test]
async fn actions_that_are_switched_off_or_suppressed_are_not_taken() {
    // "While the suppressor alarm is in ALARM state, the composite alarm doesn't perform actions."
    let place = Place::new();
    let topic = place.call(Service::Sns, "CreateTopic", json!({"Name": "t"})).await["TopicArn"].clone();
    place.alarm(json!({"AlarmActions": [topic], "ActionsEnabled": false})).await;
    place.alarm(json!({"AlarmName": "deploying"})).await;
    let composite = json!({"AlarmName": "shop", "AlarmRule": "ALARM(errors)", "AlarmActions": [topic],
        "ActionsSuppressor": "deploying", "ActionsSuppressorWaitPeriod": 0,
        "ActionsSuppressorExtensionPeriod": 0});
    place.call(Service::CloudWatch, "PutCompositeAlarm", composite).await;
    place.set("deploying", "ALARM").await;
    place.set("errors", "ALARM").await;
    let actions = json!({"HistoryItemType": "Action", "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]});
    let history = place.call(Service::CloudWatch, "DescribeAlarmHistory", actions.clone()).await;
    assert_eq!(members(&history, "AlarmHistoryItems").count(), 0);
    place.set("deploying", "OK").await;
    place.set("errors", "OK").await;
    place.set("errors", "ALARM").await;
    let history = place.call(Service::CloudWatch, "DescribeAlarmHistory", actions).await;
    assert_eq!(history["AlarmHistoryItems"][0]["AlarmName"], "shop");
}

#[tokio::test]
async fn tasks_that_start_and_end_are_events_while_a_rule_waits_for_them() {
    let place = Place::new();
    place.call(Service::Ecs, "CreateCluster", json!({"clusterName": "c"})).await;
    let task =
        json!({"family": "app", "containerDefinitions": [{"name": "web", "image": "web", "memory": 64}]});
    place.call(Service::Ecs, "RegisterTaskDefinition", task).await;
    let service = json!({"cluster": "c", "serviceName": "shop", "desiredCount": 1,
        "deploymentController": {"type": "EXTERNAL"}});
    place.call(Service::Ecs, "CreateService", service).await;
    place.listen("aws.ecs").await;
    let set = json!({"cluster": "c", "service": "shop", "taskDefinition": "app:1", "launchType": "EC2",
        "scale": {"value": 100.0, "unit": "PERCENT"}});
    place.call(Service::Ecs, "CreateTaskSet", set).await;
    let heard = place.heard().await;
    let [started] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(started["detail-type"], "ECS Task State Change");
    let arn = started["detail"]["taskArn"].as_str().expect("an ARN").to_owned();
    assert_eq!(started["resources"], json!([arn]));
    let at = started["detail"]["createdAt"].as_str().expect("an instant as text");
    assert!(at.parse::<Timestamp>().is_ok(), "{at}");
    assert!(place.heart.kill_task(&arn));
    let heard = place.heard().await;
    let stopped = heard.iter().find(|event| event["resources"] == json!([arn])).expect("of that task");
    assert_eq!(stopped["detail"]["lastStatus"], "STOPPED");
}
