//! The speed of a sandbox that runs.

use super::*;

/// Status and text of one request to the control API.
async fn patch_clock(sandbox: &Sandbox, body: &str) -> (u16, String) {
    let address = sandbox.endpoint().trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "PATCH /_sandbox/clock HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

#[tokio::test]
async fn a_faster_clock_brings_what_an_alarm_waits_for_and_wrong_speeds_are_refused() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_cloudwatch::Client::new(&config);
    // Alarms that look back more than a day are evaluated every hour.
    let alarm = client.put_metric_alarm().alarm_name("daily").namespace("Shop").metric_name("Errors");
    let alarm = alarm.statistic(Statistic::Sum).period(3_600).evaluation_periods(25).threshold(5.0);
    let alarm = alarm.comparison_operator(ComparisonOperator::GreaterThanThreshold);
    alarm.treat_missing_data("notBreaching").send().await.expect("an alarm");
    let state = async || {
        let read = client.describe_alarms().alarm_names("daily").send().await.unwrap();
        read.metric_alarms()[0].state_value().cloned()
    };
    assert_eq!(state().await, Some(StateValue::InsufficientData));
    for wrong in [r#"{"speed": 0}"#, r#"{"speed": 100001}"#, r#"{"speed": -1}"#, r#"{"pace": 2}"#] {
        assert_eq!(patch_clock(&sandbox, wrong).await.0, 422, "{wrong}");
    }
    let (status, answer) = patch_clock(&sandbox, r#"{"speed": 100000}"#).await;
    assert_eq!(status, 200, "{answer}");
    eventually("evaluated", || async { state().await == Some(StateValue::Ok) }).await;
    let (_, answer) = patch_clock(&sandbox, r#"{"speed": 2}"#).await;
    assert!(answer.ends_with(r#"{"speed":2}"#), "{answer}");
}
