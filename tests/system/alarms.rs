//! `CloudWatch` as the Rust SDK speaks it, rpc-v2-cbor, where numbers, instants and errors have shapes of their own.
//! `tests/region` asks the same service in JSON and XML.

#![expect(clippy::disallowed_methods, reason = "the metrics of a real region are of now")]

use std::time::SystemTime;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::operation::set_alarm_state::SetAlarmStateError;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    AlarmType, ComparisonOperator, Metric, MetricDataQuery, MetricDatum, MetricStat, StateValue, Statistic,
};
use aws_sdk_dynamodb::config::Credentials;
use pointsman::sandbox::{Sandbox, SandboxSettings};

async fn bench() -> (Sandbox, Client) {
    let sandbox = Sandbox::start(SandboxSettings::default()).await.unwrap();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(sandbox.endpoint())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("AKIDALARMS", "secret", None, None, "tests"))
        .load()
        .await;
    (sandbox, Client::new(&config))
}

async fn put_alarm(client: &Client, name: &str) {
    let call = client.put_metric_alarm().alarm_name(name).namespace("shop").metric_name("errors");
    let call = call.statistic(Statistic::Sum).period(60).evaluation_periods(3).datapoints_to_alarm(2);
    let call = call.threshold(0.1).comparison_operator(ComparisonOperator::GreaterThanThreshold);
    call.treat_missing_data("ignore").send().await.unwrap();
}

#[tokio::test]
async fn a_definition_comes_back_with_its_fractions_and_instants() {
    let (_sandbox, client) = bench().await;
    put_alarm(&client, "errors").await;
    let found = client.describe_alarms().alarm_names("errors").send().await.unwrap();
    let [alarm] = found.metric_alarms() else { panic!("{found:?}") };
    assert_eq!(
        (alarm.threshold(), alarm.period(), alarm.datapoints_to_alarm()),
        (Some(0.1), Some(60), Some(2))
    );
    assert_eq!(alarm.state_value(), Some(&StateValue::InsufficientData));
    let changed = alarm.state_transitioned_timestamp().unwrap();
    let now = DateTime::from(SystemTime::now());
    assert!((changed.as_secs_f64() - now.as_secs_f64()).abs() < 3_600.0, "{changed:?}");
}

#[tokio::test]
async fn composite_alarms_come_only_when_their_type_is_asked_for() {
    let (_sandbox, client) = bench().await;
    put_alarm(&client, "errors").await;
    let call = client.put_composite_alarm().alarm_name("all").alarm_rule("ALARM(\"errors\")");
    call.send().await.unwrap();
    let plain = client.describe_alarms().send().await.unwrap();
    assert_eq!((plain.metric_alarms().len(), plain.composite_alarms().len()), (1, 0));
    let types = [AlarmType::MetricAlarm, AlarmType::CompositeAlarm];
    let both = client.describe_alarms().set_alarm_types(Some(types.to_vec())).send().await.unwrap();
    assert_eq!((both.metric_alarms().len(), both.composite_alarms().len()), (1, 1));
}

#[tokio::test]
async fn an_unknown_alarm_is_the_modelled_error() {
    let (_sandbox, client) = bench().await;
    let call =
        client.set_alarm_state().alarm_name("none").state_value(StateValue::Ok).state_reason("by hand");
    let error = call.send().await.unwrap_err().into_service_error();
    assert!(matches!(error, SetAlarmStateError::ResourceNotFound(_)), "{error:?}");
}

#[tokio::test]
async fn data_are_read_back_with_values_and_instants_in_pairs() {
    let (_sandbox, client) = bench().await;
    let minute = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 60 * 60;
    let instant = |minutes: u64| DateTime::from_secs(i64::try_from(minute - 60 * minutes).unwrap());
    let datum = |minutes, value| {
        MetricDatum::builder().metric_name("errors").timestamp(instant(minutes)).value(value).build()
    };
    let call =
        client.put_metric_data().namespace("shop").metric_data(datum(3, 1.5)).metric_data(datum(2, 4.0));
    call.send().await.unwrap();
    let metric = Metric::builder().namespace("shop").metric_name("errors").build();
    let stat = MetricStat::builder().metric(metric).period(60).stat("Sum").build();
    let query = MetricDataQuery::builder().id("errors").metric_stat(stat).build();
    let call =
        client.get_metric_data().metric_data_queries(query).start_time(instant(10)).end_time(instant(0));
    let found = call.send().await.unwrap();
    let [result] = found.metric_data_results() else { panic!("{found:?}") };
    assert_eq!((result.values(), result.timestamps()), (&[4.0, 1.5][..], &[instant(2), instant(3)][..]));
}
