//! `EventBridge` as its documentation says it.

use super::*;
use crate::world::ApiError;

const QUEUE: &str = "arn:aws:sqs:eu-central-1:111122223333:q";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn call(rules: &mut Rules, operation: &str, input: &Value) -> Result<(Value, Vec<Matched>), ApiError> {
    rules.call(now(), operation, input)
}

fn rules(pattern: &str) -> Rules {
    let mut rules = Rules::new("eu-central-1", "111122223333");
    call(&mut rules, "PutRule", &json!({"Name": "r", "EventPattern": pattern})).unwrap();
    let target = json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": QUEUE}]});
    call(&mut rules, "PutTargets", &target).unwrap();
    rules
}

fn put(rules: &mut Rules, detail: &str) -> (Value, Vec<Matched>) {
    let entry = json!({"Source": "app", "DetailType": "step", "Detail": detail, "Resources": ["arn:x"]});
    call(rules, "PutEvents", &json!({"Entries": [entry]})).unwrap()
}

#[test]
fn an_event_that_matches_goes_to_the_target_in_its_envelope() {
    let mut rules = rules(r#"{"source": ["app"], "detail": {"x": ["yes"]}}"#);
    let (answer, matched) = put(&mut rules, r#"{"x": "yes"}"#);
    let event: Value = serde_json::from_str(&matched[0].text).unwrap();
    assert_eq!(matched[0].arn, QUEUE);
    assert_eq!(event["id"], answer["Entries"][0]["EventId"]);
    assert_eq!(event["time"], "2027-01-15T08:00:00Z");
    assert_eq!((&event["detail-type"], &event["resources"]), (&json!("step"), &json!(["arn:x"])));
    assert_eq!((&event["version"], &event["account"]), (&json!("0"), &json!("111122223333")));
    assert!(put(&mut rules, r#"{"x": "no"}"#).1.is_empty());
}

#[test]
fn each_entry_fails_by_itself_and_says_why() {
    let mut rules = rules(r#"{"source": ["app"]}"#);
    let entries = json!({"Entries": [
        {"Source": "app", "DetailType": "t", "Detail": "not json"},
        {"Source": "app", "DetailType": "t", "Detail": "{}"},
        {"DetailType": "t", "Detail": "{}"},
        {"Source": "aws.ecs", "DetailType": "t", "Detail": "{}"},
        {"Source": "app", "DetailType": "t", "Detail": "{}", "EventBusName": "other"},
    ]});
    let (answer, matched) = call(&mut rules, "PutEvents", &entries).unwrap();
    let codes: Vec<_> =
        answer["Entries"].as_array().unwrap().iter().map(|one| one["ErrorCode"].as_str()).collect();
    assert_eq!(
        codes,
        [
            Some("MalformedDetail"),
            None,
            Some("InvalidArgument"),
            Some("NotAuthorizedForSourceException"),
            Some("ResourceNotFoundException")
        ]
    );
    assert_eq!((&answer["FailedEntryCount"], matched.len()), (&json!(4), 1));
}

#[test]
fn a_disabled_rule_matches_nothing_until_it_is_enabled() {
    let mut rules = rules(r#"{"source": ["app"]}"#);
    call(&mut rules, "DisableRule", &json!({"Name": "r"})).unwrap();
    assert!(put(&mut rules, "{}").1.is_empty());
    assert!(!rules.listen());
    call(&mut rules, "EnableRule", &json!({"Name": "r"})).unwrap();
    assert_eq!(put(&mut rules, "{}").1.len(), 1);
}

#[test]
fn a_target_gets_a_constant_or_a_part_of_the_event_when_it_asks_for_it() {
    let mut rules = rules(r#"{"source": ["app"]}"#);
    let targets = json!({"Rule": "r", "Targets": [
        {"Id": "1", "Arn": QUEUE, "Input": "{\"wake\": true}"},
        {"Id": "2", "Arn": QUEUE, "InputPath": "$.detail.state"},
    ]});
    call(&mut rules, "PutTargets", &targets).unwrap();
    let texts: Vec<String> =
        put(&mut rules, r#"{"state": {"value": 1}}"#).1.into_iter().map(|one| one.text).collect();
    assert_eq!(texts, ["{\"wake\": true}", "{\"value\":1}"]);
}

#[test]
fn a_rule_has_at_most_five_targets_and_goes_only_without_any() {
    // "Each rule can have up to five (5) targets"; "Before you can delete the rule, you must remove all
    // targets".
    let mut rules = rules(r#"{"source": ["app"]}"#);
    let many: Vec<Value> = (0..6).map(|id| json!({"Id": id.to_string(), "Arn": QUEUE})).collect();
    let refused = call(&mut rules, "PutTargets", &json!({"Rule": "r", "Targets": many})).unwrap_err();
    assert_eq!(refused.code, "LimitExceededException");
    let refused = call(&mut rules, "DeleteRule", &json!({"Name": "r"})).unwrap_err();
    assert_eq!(refused.message, "Rule can't be deleted since it has targets.");
    call(&mut rules, "RemoveTargets", &json!({"Rule": "r", "Ids": ["1"]})).unwrap();
    call(&mut rules, "DeleteRule", &json!({"Name": "r"})).unwrap();
    let gone = call(&mut rules, "DescribeRule", &json!({"Name": "r"})).unwrap_err();
    assert_eq!(gone.code, "ResourceNotFoundException");
}

#[test]
fn rules_are_listed_page_by_page() {
    let mut rules = Rules::new("eu-central-1", "111122223333");
    for name in ["a-1", "a-2", "b-1"] {
        call(&mut rules, "PutRule", &json!({"Name": name, "EventPattern": "{\"source\": [\"x\"]}"})).unwrap();
    }
    let page = |rules: &mut Rules, input: Value| call(rules, "ListRules", &input).unwrap().0;
    let first = page(&mut rules, json!({"NamePrefix": "a-", "Limit": 1}));
    assert_eq!((&first["Rules"][0]["Name"], &first["NextToken"]), (&json!("a-1"), &json!("a-1")));
    let second = page(&mut rules, json!({"NamePrefix": "a-", "Limit": 1, "NextToken": first["NextToken"]}));
    assert_eq!((&second["Rules"][0]["Name"], second.get("NextToken")), (&json!("a-2"), None));
}

#[test]
fn a_pattern_is_tested_against_an_event_with_the_mandatory_members() {
    let mut rules = Rules::new("eu-central-1", "111122223333");
    let event = json!({"id": "1", "account": "1", "source": "app", "time": "2027-01-15T08:00:00Z",
        "region": "x", "resources": [], "detail-type": "t"});
    let mut test = |pattern: &str, event: &Value| {
        let input = json!({"EventPattern": pattern, "Event": event.to_string()});
        call(&mut rules, "TestEventPattern", &input).map(|(answer, _)| answer["Result"].clone())
    };
    assert_eq!(test("{\"source\": [\"app\"]}", &event), Ok(json!(true)));
    assert_eq!(test("{\"source\": [\"other\"]}", &event), Ok(json!(false)));
    assert_eq!(test("{", &event).unwrap_err().code, "InvalidEventPatternException");
    assert_eq!(test("{\"source\": [\"app\"]}", &json!({"id": "1"})).unwrap_err().code, "ValidationException");
}

#[test]
fn what_the_sandbox_does_not_do_is_refused_with_words() {
    let mut rules = rules(r#"{"source": ["app"]}"#);
    for (operation, input, words) in [
        ("PutRule", json!({"Name": "s", "ScheduleExpression": "rate(1 minute)"}), "no scheduled rules"),
        (
            "PutTargets",
            json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:ecs:x:1:y"}]}),
            "delivers to sqs",
        ),
        (
            "PutTargets",
            json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": QUEUE, "InputTransformer": {}}]}),
            "InputTransformer",
        ),
        ("PutRule", json!({"Name": "s", "EventPattern": "{}", "EventBusName": "mine"}), "does not exist"),
    ] {
        let error = call(&mut rules, operation, &input).unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
}
