use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::sandbox::messages::Messages;
use crate::sandbox::metrics::{CloudWatch, Tempo};
use crate::world::{Api, Tuning};

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-central-1";

/// A region with a group, alarms of both kinds, their history, and data of the watched metric.
fn held() -> Held {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut region = Region::new(ACCOUNT, REGION, Tuning::default());
    let group = json!({"Name": "blue", "Protocol": "HTTP", "Port": 80, "VpcId": "vpc-1", "TargetType": "ip"});
    region.call(now, Api::Elb, "CreateTargetGroup", group).unwrap();
    let mut alarms = Alarms::new(REGION, ACCOUNT);
    let mut cloudwatch = CloudWatch::new(Tempo::new(1));
    let metric = json!({"AlarmName": "slow", "Namespace": "Shop", "MetricName": "Latency",
        "ExtendedStatistic": "p99", "Period": 60, "EvaluationPeriods": 2, "Threshold": 0.25,
        "ComparisonOperator": "GreaterThanThreshold"});
    let composite = json!({"AlarmName": "any", "AlarmRule": "ALARM(\"slow\") OR ALARM(slow)"});
    let state = json!({"AlarmName": "slow", "StateValue": "ALARM", "StateReason": "a test"});
    let calls = [("PutMetricAlarm", metric), ("PutCompositeAlarm", composite), ("SetAlarmState", state)];
    for (operation, input) in calls {
        cloudwatch.call(&mut alarms, now, operation, input).unwrap();
    }
    cloudwatch.record(now, "Shop", "Latency", &[], 0.5, "Seconds");
    cloudwatch.record(now, "Shop", "Unwatched", &[], 1.0, "Count");
    // Where the program listens is not kept.
    let place = ("", REGION, ACCOUNT);
    let messages = Messages::new(place, tokio::sync::mpsc::channel(1).0, None).kept();
    Held { metrics: cloudwatch.keep(&alarms), region, alarms, messages }
}

fn open(path: &Path) -> Result<Option<Held>, StateError> {
    StateFile::open(path, ACCOUNT, REGION).map(|(_, held)| held)
}

/// A directory and a state file in it that was written and let go of.
fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.json");
    let (file, none) = StateFile::open(&path, ACCOUNT, REGION).unwrap();
    assert_eq!(none, None);
    file.write(&held()).unwrap();
    (dir, path)
}

#[test]
fn what_was_written_is_read_and_watched_metrics_go_on() {
    let (_dir, path) = written();
    let mut read = open(&path).unwrap().unwrap();
    read.region = read.region.tuned(Tuning::default());
    assert_eq!(read, held());
    assert_eq!(read.alarms.states().map(|(_, state)| state.as_str()).collect::<Vec<_>>(), ["ALARM"; 2]);

    let now = Timestamp::from_second(1_800_000_010).unwrap();
    let list = |speed, metrics| {
        let mut cloudwatch = CloudWatch::with(now, speed, metrics);
        let all = cloudwatch.call(&mut Alarms::default(), now, "ListMetrics", json!({})).unwrap();
        all["Metrics"].as_array().unwrap().iter().map(|one| one["MetricName"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(list(1, read.metrics.clone()), ["Latency"]);
    assert_eq!(list(20, read.metrics), ["Latency"], "API time goes on, at another speed too");
}

#[test]
fn a_file_that_was_cut_or_changed_is_refused_by_name_and_left_alone() {
    let (_dir, path) = written();
    let whole = fs::read_to_string(&path).unwrap();
    let changed = whole.replace("\"blue\"", "\"teal\"");
    assert_ne!(changed, whole);
    for bad in [String::new(), whole[..whole.len() / 2].to_owned(), "not a state".to_owned(), changed] {
        fs::write(&path, &bad).unwrap();
        let refused = open(&path).unwrap_err().to_string();
        assert!(refused.contains("region.json is damaged: "), "{refused}");
        assert!(refused.contains("region.json.dynamodb away"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
}

#[test]
fn another_format_and_another_region_are_refused_with_what_to_do() {
    let (_dir, path) = written();
    let other = StateFile::open(&path, "999988887777", REGION).map(|_| ()).unwrap_err().to_string();
    assert!(other.contains("--account 111122223333 --region eu-central-1"), "{other}");
    fs::write(&path, r#"{"format": 3, "whatever": []}"#).unwrap();
    let refused = open(&path).unwrap_err().to_string();
    assert!(refused.contains("has format 3, and this version reads format 2"), "{refused}");
}

#[test]
fn a_file_belongs_to_one_sandbox_at_a_time() {
    let (_dir, path) = written();
    let (first, _) = StateFile::open(&path, ACCOUNT, REGION).unwrap();
    assert!(matches!(open(&path), Err(StateError::InUse { .. })));
    drop(first);
    assert!(open(&path).unwrap().is_some());
}
