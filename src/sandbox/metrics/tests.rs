use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::world::alarm::{AlarmKind, AlarmState, MetricCondition, Watched};

/// A sandbox with its clock in the test's hand; seconds count from a whole hour.
struct Sandbox {
    cloudwatch: CloudWatch,
    alarms: Alarms,
    now: Timestamp,
}

const HOUR: i64 = 1_800_000_000;

impl Sandbox {
    fn new(speed: u32) -> Self {
        let now = Timestamp::from_second(HOUR).unwrap();
        Self { cloudwatch: CloudWatch::new(Tempo::new(speed)), alarms: Alarms::default(), now }
    }

    fn call(&mut self, operation: &str, input: Value) -> Value {
        self.cloudwatch.call(&mut self.alarms, self.now, operation, input).unwrap()
    }

    fn refusal(&mut self, operation: &str, input: Value) -> ApiError {
        self.cloudwatch.call(&mut self.alarms, self.now, operation, input).unwrap_err()
    }

    /// Lets time pass up to this second, evaluating whenever something is due.
    fn run_to(&mut self, second: i64) {
        let end = Timestamp::from_second(HOUR + second).unwrap();
        while let Some(due) = self.cloudwatch.next_due().filter(|due| *due <= end) {
            assert!(due > self.now, "the evaluator does not stand still");
            self.now = due;
            self.cloudwatch.evaluate(&mut self.alarms, due);
        }
        self.now = end;
    }

    fn record(&mut self, value: f64) {
        let dimensions = [("TargetGroup", "green")];
        self.cloudwatch.record(self.now, "AWS/ApplicationELB", "Errors", &dimensions, value, "Count");
    }

    fn state(&self, name: &str) -> AlarmState {
        self.alarms.get(name).unwrap().state
    }

    fn reason(&self, name: &str) -> &str {
        &self.alarms.get(name).unwrap().reason
    }
}

/// An alarm on the sum of errors above 5 in one minute, with some fields changed.
fn alarm(name: &str, changes: &Value) -> Value {
    let mut input = json!({
        "AlarmName": name,
        "Namespace": "AWS/ApplicationELB",
        "MetricName": "Errors",
        "Dimensions": [{"Name": "TargetGroup", "Value": "green"}],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 5,
        "ComparisonOperator": "GreaterThanThreshold",
    });
    for (field, value) in changes.as_object().unwrap() {
        input[field] = value.clone();
    }
    input
}

fn query(id: &str, stat: &str, period: u32) -> Value {
    json!({"Id": id, "MetricStat": {"Period": period, "Stat": stat, "Metric": {
        "Namespace": "AWS/ApplicationELB", "MetricName": "Errors",
        "Dimensions": [{"Name": "TargetGroup", "Value": "green"}]}}})
}

#[test]
fn a_new_alarm_has_insufficient_data_until_the_first_evaluation_within_a_minute() {
    let mut sandbox = Sandbox::new(1);
    sandbox.run_to(30);
    sandbox.record(9.0);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({})));
    assert_eq!(sandbox.state("errors"), AlarmState::InsufficientData);
    assert_eq!(sandbox.cloudwatch.next_due().unwrap().as_second(), HOUR + 65);
    sandbox.run_to(65);
    assert_eq!(sandbox.state("errors"), AlarmState::Alarm);
    assert_eq!(
        sandbox.reason("errors"),
        "Threshold Crossed: 1 out of the last 1 datapoints [9.0 (15/01/27 08:00:00)] was greater than the threshold \
         (5.0) (minimum 1 datapoint for INSUFFICIENT_DATA -> ALARM transition)."
    );
}

#[test]
fn nothing_is_due_while_there_are_no_alarms() {
    let mut sandbox = Sandbox::new(1);
    assert_eq!(sandbox.cloudwatch.next_due(), None);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({})));
    sandbox.call("DeleteAlarms", json!({"AlarmNames": ["errors"]}));
    assert_eq!(sandbox.cloudwatch.next_due(), None);
}

#[test]
fn an_alarm_stays_until_its_breaching_point_has_left_the_evaluation_range() {
    let mut sandbox = Sandbox::new(1);
    sandbox.record(9.0);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({"TreatMissingData": "notBreaching"})));
    sandbox.run_to(65 + 120);
    assert_eq!(sandbox.state("errors"), AlarmState::Alarm, "the range is one period and two more");
    sandbox.run_to(65 + 180);
    assert_eq!(sandbox.state("errors"), AlarmState::Ok);
    assert_eq!(
        sandbox.reason("errors"),
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as [NonBreaching]."
    );
}

#[test]
fn missing_data_is_treated_as_each_alarm_asks() {
    let mut sandbox = Sandbox::new(1);
    let treatments = ["missing", "ignore", "breaching", "notBreaching"];
    for name in treatments {
        sandbox.call("PutMetricAlarm", alarm(name, &json!({"TreatMissingData": name})));
    }
    sandbox.record(1.0);
    sandbox.run_to(65);
    assert!(treatments.iter().all(|name| sandbox.state(name) == AlarmState::Ok));
    sandbox.run_to(600);
    let states = treatments.map(|name| sandbox.state(name));
    assert_eq!(states, [AlarmState::InsufficientData, AlarmState::Ok, AlarmState::Alarm, AlarmState::Ok]);
    assert_eq!(sandbox.reason("missing"), "Insufficient Data: 1 datapoint was unknown.");
}

#[test]
fn alarms_on_dynamodb_ignore_missing_data_by_default() {
    let mut sandbox = Sandbox::new(1);
    sandbox.cloudwatch.record(
        sandbox.now,
        "AWS/DynamoDB",
        "Errors",
        &[("TargetGroup", "green")],
        9.0,
        "Count",
    );
    sandbox.call("PutMetricAlarm", alarm("table", &json!({"Namespace": "AWS/DynamoDB"})));
    sandbox.run_to(3_600);
    assert_eq!(sandbox.state("table"), AlarmState::Alarm);
}

#[test]
fn m_out_of_n_needs_m_breaching_points_in_n_periods() {
    let mut sandbox = Sandbox::new(1);
    let two_of_three = json!({"EvaluationPeriods": 3, "DatapointsToAlarm": 2});
    sandbox.call("PutMetricAlarm", alarm("errors", &two_of_three));
    for (minute, value, expected) in [
        (0, 1.0, AlarmState::Ok),
        (1, 9.0, AlarmState::Ok),
        (2, 1.0, AlarmState::Ok),
        (3, 9.0, AlarmState::Alarm),
        (4, 1.0, AlarmState::Ok),
    ] {
        sandbox.run_to(minute * 60 + 30);
        sandbox.record(value);
        sandbox.run_to(minute * 60 + 65);
        assert_eq!(sandbox.state("errors"), expected, "after minute {minute}");
    }
}

#[test]
fn every_comparison_treats_the_threshold_itself_as_named() {
    for (operator, expected) in [
        ("GreaterThanThreshold", AlarmState::Ok),
        ("GreaterThanOrEqualToThreshold", AlarmState::Alarm),
        ("LessThanThreshold", AlarmState::Ok),
        ("LessThanOrEqualToThreshold", AlarmState::Alarm),
    ] {
        let mut sandbox = Sandbox::new(1);
        sandbox.record(5.0);
        sandbox.call("PutMetricAlarm", alarm("errors", &json!({"ComparisonOperator": operator})));
        sandbox.run_to(65);
        assert_eq!(sandbox.state("errors"), expected, "{operator}");
    }
}

#[test]
fn a_state_set_by_hand_reverts_at_the_next_evaluation_and_leaves_its_history() {
    let mut sandbox = Sandbox::new(1);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({"TreatMissingData": "notBreaching"})));
    sandbox.run_to(70);
    let set = json!({"AlarmName": "errors", "StateValue": "ALARM", "StateReason": "drill", "StateReasonData": "{}"});
    sandbox.call("SetAlarmState", set);
    assert_eq!((sandbox.state("errors"), sandbox.reason("errors")), (AlarmState::Alarm, "drill"));
    sandbox.run_to(125);
    assert_eq!(sandbox.state("errors"), AlarmState::Ok);
    let history = sandbox
        .call("DescribeAlarmHistory", json!({"AlarmName": "errors", "HistoryItemType": "StateUpdate"}));
    let summaries: Vec<_> = history["AlarmHistoryItems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["HistorySummary"].clone())
        .collect();
    assert_eq!(
        summaries,
        [
            "Alarm updated from ALARM to OK",
            "Alarm updated from OK to ALARM",
            "Alarm updated from INSUFFICIENT_DATA to OK"
        ]
    );
}

#[test]
fn speed_shortens_periods_and_evaluations_but_not_timestamps() {
    let mut sandbox = Sandbox::new(20);
    sandbox.record(9.0);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({})));
    let start = sandbox.now;
    let due_after_millis =
        |sandbox: &Sandbox| sandbox.cloudwatch.next_due().unwrap().duration_since(start).as_millis();
    assert_eq!(due_after_millis(&sandbox), 250, "5 / 20 seconds after the beat");
    sandbox.run_to(1);
    assert_eq!(due_after_millis(&sandbox), 3_250, "(60 + 5) / 20 seconds");
    sandbox.run_to(4);
    assert_eq!(sandbox.state("errors"), AlarmState::Alarm);
    sandbox.record(2.0);
    let data = sandbox.call(
        "GetMetricData",
        json!({"MetricDataQueries": [query("m", "Sum", 60)], "StartTime": HOUR, "EndTime": HOUR + 60}),
    );
    let result = &data["MetricDataResults"][0];
    assert_eq!(result["Timestamps"], json!([f(HOUR + 3), f(HOUR)]), "two 3-second buckets, newest first");
    assert_eq!(result["Values"], json!([2.0, 9.0]));
}

#[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
fn f(second: i64) -> f64 {
    second as f64
}

#[test]
fn a_ten_second_alarm_needs_high_resolution_data_and_is_judged_every_ten_seconds() {
    let mut sandbox = Sandbox::new(1);
    for (name, resolution) in [("Fine", 1), ("Coarse", 60)] {
        let datum = json!({"MetricName": name, "Value": 9, "StorageResolution": resolution});
        sandbox.call("PutMetricData", json!({"Namespace": "Shop", "MetricData": [datum]}));
        let changes = json!({"Namespace": "Shop", "MetricName": name, "Dimensions": [], "Period": 10});
        sandbox.call("PutMetricAlarm", alarm(name, &changes));
    }
    sandbox.run_to(15);
    assert_eq!(sandbox.state("Fine"), AlarmState::Alarm);
    assert_eq!(sandbox.state("Coarse"), AlarmState::InsufficientData);
}

#[test]
fn a_five_minute_period_slides_by_the_minute() {
    let mut sandbox = Sandbox::new(1);
    sandbox.run_to(61);
    sandbox.record(9.0);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({"Period": 300})));
    sandbox.run_to(125);
    assert_eq!(
        sandbox.state("errors"),
        AlarmState::Alarm,
        "the period that ends at minute 2 holds the error"
    );
}

#[test]
fn an_alarm_that_looks_back_more_than_a_day_is_judged_every_hour() {
    let mut sandbox = Sandbox::new(1);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({"Period": 3_600, "EvaluationPeriods": 25})));
    assert_eq!(sandbox.cloudwatch.next_due().unwrap().as_second(), HOUR + 5);
    sandbox.run_to(5);
    assert_eq!(sandbox.cloudwatch.next_due().unwrap().as_second(), HOUR + 3_605);
}

#[test]
fn an_alarm_that_cannot_be_computed_says_so_and_keeps_its_state() {
    let mut sandbox = Sandbox::new(1);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({})));
    let mut spec = sandbox.alarms.get("errors").unwrap().spec.clone();
    if let AlarmKind::Metric(MetricCondition { watched: Watched::Metric(stat), .. }) = &mut spec.kind {
        "Mode".clone_into(&mut stat.stat);
    }
    sandbox.alarms.put(sandbox.now, spec).unwrap();
    sandbox.run_to(65);
    let shown = sandbox.call("DescribeAlarms", json!({}))["MetricAlarms"][0].clone();
    assert_eq!(
        (&shown["EvaluationState"], &shown["StateValue"]),
        (&json!("EVALUATION_ERROR"), &json!("INSUFFICIENT_DATA"))
    );
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({"TreatMissingData": "notBreaching"})));
    sandbox.run_to(125);
    assert_eq!(sandbox.call("DescribeAlarms", json!({}))["MetricAlarms"][0].get("EvaluationState"), None);
}

#[test]
fn an_alarm_on_metric_math_judges_the_one_query_that_returns_data() {
    let mut sandbox = Sandbox::new(1);
    let mut metric = query("m1", "Sum", 60);
    metric["ReturnData"] = json!(false);
    let rate = json!({"Id": "rate", "Expression": "100 * m1 / 10", "ReturnData": true});
    let input = json!({"AlarmName": "math", "Metrics": [metric, rate], "EvaluationPeriods": 1, "Threshold": "50.0",
        "ComparisonOperator": "GreaterThanThreshold"});
    sandbox.call("PutMetricAlarm", input);
    sandbox.record(6.0);
    sandbox.run_to(65);
    assert_eq!(sandbox.state("math"), AlarmState::Alarm);
    let shown = sandbox.call("DescribeAlarms", json!({"AlarmNames": ["math"]}));
    assert_eq!(shown["MetricAlarms"][0]["Metrics"][1]["Expression"], "100 * m1 / 10");
    assert_eq!(shown["MetricAlarms"][0]["Threshold"], json!(50.0));
}

#[test]
fn a_composite_follows_what_the_metrics_do_to_its_children() {
    let mut sandbox = Sandbox::new(1);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({})));
    sandbox.call("PutCompositeAlarm", json!({"AlarmName": "any", "AlarmRule": "ALARM(\"errors\")"}));
    assert_eq!(sandbox.state("any"), AlarmState::Ok);
    sandbox.record(9.0);
    sandbox.run_to(65);
    assert_eq!(sandbox.state("any"), AlarmState::Alarm);
}

#[test]
fn describe_alarms_shows_metric_alarms_only_unless_asked_and_leaves_unknown_names_out() {
    let mut sandbox = Sandbox::new(1);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({"AlarmActions": ["arn:aws:sns:x"]})));
    sandbox.call("PutCompositeAlarm", json!({"AlarmName": "any", "AlarmRule": "ALARM(errors)"}));
    let count = |answer: &Value| {
        let length = |field: &str| answer[field].as_array().unwrap().len();
        (length("MetricAlarms"), length("CompositeAlarms"))
    };
    let names = json!(["errors", "any", "Errors"]);
    for (input, expected) in [
        (json!({}), (1, 0)),
        (json!({"AlarmNames": names}), (1, 0)),
        (json!({"AlarmNames": names, "AlarmTypes": ["MetricAlarm", "CompositeAlarm", "LogAlarm"]}), (1, 1)),
        (json!({"AlarmNamePrefix": "a", "AlarmTypes": ["CompositeAlarm"]}), (0, 1)),
        (json!({"StateValue": "ALARM"}), (0, 0)),
        (json!({"StateValue": "INSUFFICIENT_DATA"}), (1, 0)),
        (json!({"ActionPrefix": "arn:aws:sns"}), (1, 0)),
        (json!({"ActionPrefix": "arn:aws:lambda"}), (0, 0)),
        (json!({"ChildrenOfAlarmName": "any"}), (1, 0)),
        (json!({"ParentsOfAlarmName": "errors"}), (0, 1)),
    ] {
        let answer = sandbox.call("DescribeAlarms", input.clone());
        assert_eq!(count(&answer), expected, "{input}");
    }
    let both = sandbox.refusal("DescribeAlarms", json!({"AlarmNames": ["errors"], "AlarmNamePrefix": "e"}));
    assert_eq!(both.code, "InvalidParameterCombination");
}

#[test]
fn describe_alarms_pages_through_all_of_them_once() {
    let mut sandbox = Sandbox::new(1);
    for number in 0..7 {
        sandbox.call("PutMetricAlarm", alarm(&format!("a{number}"), &json!({})));
    }
    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let mut input = json!({"MaxRecords": 3});
        if let Some(token) = token {
            input["NextToken"] = token;
        }
        let answer = sandbox.call("DescribeAlarms", input);
        let page = answer["MetricAlarms"].as_array().unwrap();
        seen.extend(page.iter().map(|alarm| alarm["AlarmName"].as_str().unwrap().to_owned()));
        token = answer.get("NextToken").cloned();
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..7).map(|number| format!("a{number}")).collect::<Vec<_>>());
    assert_eq!(sandbox.refusal("DescribeAlarms", json!({"NextToken": "%"})).code, "InvalidNextToken");
    assert_eq!(sandbox.refusal("DescribeAlarms", json!({"MaxRecords": 101})).code, "InvalidParameterValue");
    let too_many: Vec<_> = (0..101).map(|number| number.to_string()).collect();
    assert_eq!(sandbox.refusal("DescribeAlarms", json!({"AlarmNames": too_many})).code, "ValidationError");
}

#[test]
fn alarm_definitions_that_make_no_sense_are_refused_with_the_reason() {
    let mut sandbox = Sandbox::new(1);
    for (changes, code, part) in [
        (json!({"Threshold": null}), "MissingParameter", "Threshold"),
        (json!({"Threshold": "many"}), "InvalidParameterValue", "finite number"),
        (json!({"EvaluationPeriods": 0}), "InvalidParameterValue", "at least 1"),
        (json!({"DatapointsToAlarm": 2}), "ValidationError", "must not be greater than EvaluationPeriods"),
        (json!({"Period": 61}), "InvalidParameterValue", "multiple of 60, found 61"),
        (json!({"Period": 60, "EvaluationPeriods": 1_441}), "ValidationError", "86400 seconds"),
        (json!({"Statistic": "p99"}), "InvalidParameterValue", "p99"),
        (json!({"ExtendedStatistic": "p99"}), "InvalidParameterCombination", "together"),
        (json!({"ComparisonOperator": "GreaterThan"}), "ValidationError", "GreaterThanThreshold"),
        (json!({"TreatMissingData": "notbreaching"}), "ValidationError", "notBreaching"),
        (json!({"Unit": "Apples"}), "ValidationError", "Apples"),
        (json!({"Metrics": [query("m", "Sum", 60)]}), "InvalidParameterCombination", "MetricName"),
        (json!({"AlarmName": ""}), "ValidationError", "1 to 255"),
        (json!({"ThresholdMetricId": "ad1"}), "ValidationError", "does not simulate"),
    ] {
        let refused = sandbox.refusal("PutMetricAlarm", alarm("errors", &changes));
        assert_eq!(refused.code, code, "{changes}: {refused}");
        assert!(refused.message.contains(part), "{changes}: {refused}");
    }
    assert_eq!(sandbox.alarms.states().count(), 0);
}

#[test]
fn metric_math_that_could_never_be_computed_is_refused_when_it_is_put() {
    let mut sandbox = Sandbox::new(1);
    let expression =
        |id: &str, text: &str, returned: bool| json!({"Id": id, "Expression": text, "ReturnData": returned});
    let mut hidden = query("m1", "Sum", 60);
    hidden["ReturnData"] = json!(false);
    for (metrics, part) in [
        (json!([query("m1", "Sum", 60), expression("e1", "m1", true)]), "exactly one member of Metrics"),
        (json!([hidden, expression("e1", "m2 * 2", true)]), "m2"),
        (json!([hidden, expression("e1", "m1 *", true)]), "character 4"),
        (json!([hidden, expression("e1", "e2", true), expression("e2", "e1", false)]), "refers to itself"),
        (json!([hidden, expression("e1", "SUM(m1)", true)]), "one time series"),
        (json!([hidden, expression("m1", "1", true)]), "used twice"),
        (json!([hidden, query("m2", "Sum", 300)]), "one Period"),
        (json!([query("M1", "Sum", 60)]), "lower-case"),
        (json!([query("m1", "tm99", 60)]), "tm99"),
        (json!([expression("e1", "1", true)]), "at least one MetricStat"),
    ] {
        let input = json!({"AlarmName": "math", "Metrics": metrics, "EvaluationPeriods": 1, "Threshold": 1,
            "ComparisonOperator": "GreaterThanThreshold"});
        let refused = sandbox.refusal("PutMetricAlarm", input);
        assert_eq!(refused.code, "ValidationError");
        assert!(refused.message.contains(part), "{metrics}: {refused}");
    }
}

#[test]
fn setting_the_state_of_an_unknown_alarm_is_answered_resource_not_found() {
    let mut sandbox = Sandbox::new(1);
    let set = json!({"AlarmName": "nope", "StateValue": "OK", "StateReason": "x"});
    let refused = sandbox.refusal("SetAlarmState", set);
    assert_eq!((refused.code.as_str(), refused.status), ("ResourceNotFound", 404));
    let set = json!({"AlarmName": "nope", "StateValue": "OK", "StateReason": "x", "StateReasonData": "{"});
    assert_eq!(sandbox.refusal("SetAlarmState", set).code, "InvalidFormat");
    let set = json!({"AlarmName": "nope", "StateValue": "FINE", "StateReason": "x"});
    assert_eq!(sandbox.refusal("SetAlarmState", set).code, "ValidationError");
}

#[test]
fn one_call_deletes_at_most_one_composite_alarm() {
    let mut sandbox = Sandbox::new(1);
    for name in ["a", "b"] {
        sandbox.call("PutCompositeAlarm", json!({"AlarmName": name, "AlarmRule": "FALSE"}));
    }
    let refused = sandbox.refusal("DeleteAlarms", json!({"AlarmNames": ["a", "b"]}));
    assert_eq!(refused.code, "ValidationError");
    sandbox.call("DeleteAlarms", json!({"AlarmNames": ["a", "unknown"]}));
    assert_eq!(sandbox.alarms.states().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn tags_and_actions_are_kept_with_the_alarm() {
    let mut sandbox = Sandbox::new(1);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({"Tags": [{"Key": "team", "Value": "shop"}]})));
    let arn = json!("arn:aws:cloudwatch:us-east-1:123456789012:alarm:errors");
    sandbox.call("TagResource", json!({"ResourceARN": arn, "Tags": [{"Key": "tier", "Value": "1"}]}));
    sandbox.call("UntagResource", json!({"ResourceARN": arn, "TagKeys": ["team"]}));
    let tags = sandbox.call("ListTagsForResource", json!({"ResourceARN": arn}));
    assert_eq!(tags["Tags"], json!([{"Key": "tier", "Value": "1"}]));
    assert_eq!(sandbox.refusal("ListTagsForResource", json!({"ResourceARN": "arn:x"})).status, 404);
    sandbox.call("DisableAlarmActions", json!({"AlarmNames": ["errors", "unknown"]}));
    assert!(!sandbox.alarms.get("errors").unwrap().spec.actions_enabled);
}

#[test]
fn alarms_of_a_metric_are_found_by_its_exact_dimensions() {
    let mut sandbox = Sandbox::new(1);
    sandbox.call("PutMetricAlarm", alarm("errors", &json!({})));
    let mut asked = json!({"Namespace": "AWS/ApplicationELB", "MetricName": "Errors"});
    assert_eq!(sandbox.call("DescribeAlarmsForMetric", asked.clone())["MetricAlarms"], json!([]));
    asked["Dimensions"] = json!([{"Name": "TargetGroup", "Value": "green"}]);
    assert_eq!(sandbox.call("DescribeAlarmsForMetric", asked)["MetricAlarms"][0]["AlarmName"], "errors");
}

#[test]
fn data_may_be_put_as_a_value_as_values_with_counts_or_as_a_summary() {
    let mut sandbox = Sandbox::new(1);
    let summary = json!({"SampleCount": 2, "Sum": 7, "Minimum": 3, "Maximum": 4});
    let data = json!([
        {"MetricName": "Latency", "Value": "1.5", "Unit": "Seconds"},
        {"MetricName": "Latency", "Values": [1, 2], "Counts": [3, 1], "Unit": "Seconds"},
        {"MetricName": "Latency", "StatisticValues": summary, "Unit": "Milliseconds"},
    ]);
    sandbox.call("PutMetricData", json!({"Namespace": "Shop", "MetricData": data}));
    let all = ["SampleCount", "Sum", "Average", "Minimum", "Maximum"];
    let mut asked = json!({"Namespace": "Shop", "MetricName": "Latency", "Statistics": all, "Period": "60",
        "StartTime": "2027-01-15T08:00:00Z", "EndTime": "2027-01-15T08:01:00Z"});
    let point = |answer: &Value| answer["Datapoints"][0].clone();
    assert_eq!(
        point(&sandbox.call("GetMetricStatistics", asked.clone())),
        json!({"Timestamp": f(HOUR), "SampleCount": 7.0, "Sum": 13.5, "Average": 13.5 / 7.0, "Minimum": 1.0, "Maximum": 4.0}),
        "without a unit, data of every unit counts"
    );
    asked["Unit"] = json!("Seconds");
    asked["ExtendedStatistics"] = json!(["p50"]);
    let seconds = point(&sandbox.call("GetMetricStatistics", asked));
    assert_eq!((&seconds["Sum"], &seconds["Unit"]), (&json!(6.5), &json!("Seconds")));
    assert_eq!(seconds["ExtendedStatistics"]["p50"], json!(1.0));
}

#[test]
fn metric_data_that_makes_no_sense_is_refused_as_a_whole() {
    let mut sandbox = Sandbox::new(1);
    let now = sandbox.now;
    let old = (now - SignedDuration::from_hours(15 * 24)).to_string();
    let future = (now + SignedDuration::from_hours(3)).to_string();
    for (datum, code) in [
        (json!({"MetricName": "m"}), "MissingParameter"),
        (json!({"Value": 1}), "MissingParameter"),
        (json!({"MetricName": "m", "Value": 1, "Values": [1]}), "InvalidParameterCombination"),
        (json!({"MetricName": "m", "Values": [1, 2], "Counts": [1]}), "InvalidParameterValue"),
        (json!({"MetricName": "m", "Value": 1, "Unit": "Apples"}), "ValidationError"),
        (json!({"MetricName": "m", "Value": 1e300}), "InvalidParameterValue"),
        (json!({"MetricName": "m", "Value": "NaN"}), "InvalidParameterValue"),
        (json!({"MetricName": "m", "Value": 1, "Timestamp": old}), "InvalidParameterValue"),
        (json!({"MetricName": "m", "Value": 1, "Timestamp": future}), "InvalidParameterValue"),
        (json!({"MetricName": "m", "Value": 1, "StorageResolution": 30}), "InvalidParameterValue"),
        (
            json!({"MetricName": "m", "Value": 1, "Dimensions": [{"Name": "a", "Value": ""}]}),
            "InvalidParameterValue",
        ),
        (
            json!({"MetricName": "m", "StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 2, "Maximum": 1}}),
            "InvalidParameterValue",
        ),
    ] {
        let data = json!([{"MetricName": "good", "Value": 1}, datum]);
        let refused = sandbox.refusal("PutMetricData", json!({"Namespace": "Shop", "MetricData": data}));
        assert_eq!(refused.code, code, "{datum}: {refused}");
    }
    let reserved = json!({"Namespace": "AWS/ECS", "MetricData": [{"MetricName": "m", "Value": 1}]});
    assert_eq!(sandbox.refusal("PutMetricData", reserved).code, "InvalidParameterValue");
    assert_eq!(sandbox.call("ListMetrics", json!({}))["Metrics"], json!([]));
}

#[test]
fn get_metric_data_computes_expressions_and_returns_what_was_asked_for() {
    let mut sandbox = Sandbox::new(1);
    sandbox.record(2.0);
    sandbox.record(4.0);
    sandbox.run_to(60);
    sandbox.record(6.0);
    let mut hidden = query("m1", "Sum", 60);
    hidden["ReturnData"] = json!(false);
    let queries = json!([hidden, query("m2", "Average", 60), query("m3", "p100", 60),
        {"Id": "e1", "Expression": "m1 / m2 + e2", "Label": "samples"},
        {"Id": "e2", "Expression": "FILL(m1, 0) * 0", "ReturnData": "false"}]);
    let input = json!({"MetricDataQueries": queries, "StartTime": f(HOUR), "EndTime": f(HOUR + 120),
        "ScanBy": "TimestampAscending"});
    let results = sandbox.call("GetMetricData", input)["MetricDataResults"].clone();
    let by_id: BTreeMap<_, _> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (result["Id"].as_str().unwrap(), (result["Label"].clone(), result["Values"].clone())))
        .collect();
    assert_eq!(by_id["m2"], (json!("Errors"), json!([3.0, 6.0])));
    assert_eq!(by_id["m3"].1, json!([4.0, 6.0]));
    assert_eq!(by_id["e1"], (json!("samples"), json!([2.0, 1.0])));
    assert_eq!(by_id.len(), 3);
}

#[test]
fn get_metric_data_pages_by_max_datapoints() {
    let mut sandbox = Sandbox::new(1);
    for minute in 0..5 {
        sandbox.run_to(minute * 60);
        sandbox.record(f(minute));
    }
    let mut input = json!({"MetricDataQueries": [query("a", "Sum", 60), query("b", "Sum", 60)], "StartTime": HOUR,
        "EndTime": HOUR + 300, "ScanBy": "TimestampAscending", "MaxDatapoints": 4});
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut pages = 0;
    loop {
        let answer = sandbox.call("GetMetricData", input.clone());
        pages += 1;
        for result in answer["MetricDataResults"].as_array().unwrap() {
            let found = result["Values"].as_array().unwrap().iter().filter_map(Value::as_f64);
            values.entry(result["Id"].to_string()).or_default().extend(found);
        }
        let Some(token) = answer.get("NextToken") else { break };
        input["NextToken"] = token.clone();
    }
    assert_eq!(pages, 3, "10 datapoints, 4 at a time");
    assert!(values.values().all(|found| *found == [0.0, 1.0, 2.0, 3.0, 4.0]), "{values:?}");
}

#[test]
fn questions_about_data_that_make_no_sense_are_refused() {
    let mut sandbox = Sandbox::new(1);
    let good = json!({"MetricDataQueries": [query("m", "Sum", 60)], "StartTime": HOUR, "EndTime": HOUR + 60});
    for (field, value, code) in [
        ("MetricDataQueries", json!([]), "MissingParameter"),
        ("MetricDataQueries", json!([query("m", "Sum", 45)]), "InvalidParameterValue"),
        ("MetricDataQueries", json!([query("m", "Mode", 60)]), "ValidationError"),
        ("MetricDataQueries", json!([{"Id": "m"}]), "ValidationError"),
        ("EndTime", json!(HOUR), "ValidationError"),
        ("MaxDatapoints", json!(100_801), "InvalidParameterValue"),
        ("NextToken", json!("x"), "InvalidNextToken"),
    ] {
        let mut input = good.clone();
        input[field] = value;
        assert_eq!(sandbox.refusal("GetMetricData", input).code, code, "{field}");
    }
    let long = json!({"Namespace": "Shop", "MetricName": "m", "Period": 60, "Statistics": ["Sum"],
        "StartTime": HOUR, "EndTime": HOUR + 1_441 * 60});
    assert_eq!(sandbox.refusal("GetMetricStatistics", long).code, "InvalidParameterCombination");
    assert_eq!(sandbox.refusal("PutDashboard", json!({})).code, "InvalidAction");
}

#[test]
fn metrics_are_listed_by_namespace_name_and_dimension() {
    let mut sandbox = Sandbox::new(1);
    sandbox.record(1.0);
    sandbox
        .call("PutMetricData", json!({"Namespace": "Shop", "MetricData": [{"MetricName": "m", "Value": 1}]}));
    let names = |answer: &Value| -> Vec<Value> {
        answer["Metrics"].as_array().unwrap().iter().map(|metric| metric["MetricName"].clone()).collect()
    };
    for (input, expected) in [
        (json!({}), vec!["Errors", "m"]),
        (json!({"Namespace": "Shop"}), vec!["m"]),
        (json!({"MetricName": "Errors"}), vec!["Errors"]),
        (json!({"Dimensions": [{"Name": "TargetGroup"}]}), vec!["Errors"]),
        (json!({"Dimensions": [{"Name": "TargetGroup", "Value": "blue"}]}), vec![]),
    ] {
        assert_eq!(names(&sandbox.call("ListMetrics", input.clone())), expected, "{input}");
    }
    sandbox.run_to(4 * 3_600);
    assert_eq!(names(&sandbox.call("ListMetrics", json!({"RecentlyActive": "PT3H"}))), Vec::<Value>::new());
}

#[test]
fn many_requests_cost_one_slot() {
    let mut sandbox = Sandbox::new(1);
    for _ in 0..100_000 {
        sandbox.record(1.0);
    }
    let input =
        json!({"MetricDataQueries": [query("m", "Sum", 60)], "StartTime": HOUR, "EndTime": HOUR + 60});
    let answer = sandbox.call("GetMetricData", input);
    assert_eq!(answer["MetricDataResults"][0]["Values"], json!([100_000.0]));
    sandbox.record(f64::NAN);
    assert_eq!(sandbox.cloudwatch.refused_records(), 1);
}
