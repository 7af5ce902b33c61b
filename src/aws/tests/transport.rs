//! What reaches the wire, and what its failures mean: real clients against a loopback server.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_sdk_ecs::config::{Credentials, Region, SharedCredentialsProvider};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::support::{HandClock, permit, permit_for, plan, service_arn, task_set_arn};
use crate::aws::{AwsCloud, Clients, Settings, clients};
use crate::model::effect::RefusalClass;
use crate::model::{Acknowledgement, Action, Answer, Effect, Seen};
use crate::ports::Cloud;

type Log = Arc<Mutex<Vec<String>>>;

fn cloud(port: u16) -> AwsCloud {
    let config = SdkConfig::builder()
        .behavior_version(clients::behaviour())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
        .endpoint_url(format!("http://127.0.0.1:{port}"))
        .timeout_config(clients::timeouts(clients::OPERATION))
        .retry_config(clients::read_retries())
        .build();
    AwsCloud::new(Clients::new(&config), &Settings::default(), HandClock::still())
}

/// Answers every request alike and keeps the operation names.
async fn answering(status: u16, body: &'static str) -> (AwsCloud, Log) {
    let log = Log::default();
    let kept = Arc::clone(&log);
    let answer = move |headers: HeaderMap, _: Bytes| async move {
        let target = headers.get("x-amz-target").map(|it| it.to_str().unwrap().to_owned());
        let signed = headers.contains_key("authorization");
        kept.lock().unwrap().push(format!("{} signed={signed}", target.unwrap_or_default()));
        (StatusCode::from_u16(status).unwrap(), body)
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
    (cloud(port), log)
}

/// Takes a connection, reads what comes, and then does as `then` says.
async fn raw(then: &'static [u8]) -> (AwsCloud, Log) {
    let log = Log::default();
    let kept = Arc::clone(&log);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 16 * 1024];
            let _read = stream.read(&mut buffer).await;
            kept.lock().unwrap().push("request".to_owned());
            let _written = stream.write_all(then).await;
        }
    });
    (cloud(port), log)
}

fn promote() -> Action {
    Action { effect: Effect::SetPrimary { task_set: task_set_arn(1, 2) }, rollback: false }
}

async fn promoted(cloud: &AwsCloud) -> Answer {
    cloud.carry_out(&plan(1), &promote(), &permit()).await
}

#[tokio::test]
async fn a_mutation_is_signed_and_sent_once() {
    let (cloud, log) = answering(200, "{}").await;
    assert_eq!(promoted(&cloud).await, Answer::Acknowledged(Acknowledgement::Done));
    let name = "AmazonEC2ContainerServiceV20141113.UpdateServicePrimaryTaskSet signed=true";
    assert_eq!(*log.lock().unwrap(), [name]);
}

#[tokio::test]
async fn a_mutation_that_fails_is_not_sent_again_by_the_sdk() {
    for (status, body) in [
        (500, r#"{"__type":"ServerException","message":"sorry"}"#),
        (503, ""),
        (200, "half a"),
        (400, "<html>a proxy</html>"),
    ] {
        let (cloud, log) = answering(status, body).await;
        let answer = promoted(&cloud).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{status} {body}: {answer:?}");
        assert_eq!(log.lock().unwrap().len(), 1, "{status} {body}");
    }
}

#[tokio::test]
async fn a_refusal_keeps_awss_words_and_its_class() {
    for (code, class) in [
        ("ThrottlingException", RefusalClass::Throttled),
        ("AccessDeniedException", RefusalClass::Denied),
        ("ExpiredTokenException", RefusalClass::Denied),
        ("ServiceNotActiveException", RefusalClass::Conflict),
        ("TaskSetNotFoundException", RefusalClass::Permanent),
    ] {
        let body = format!(r#"{{"__type":"com.amazonaws.ecs#{code}","message":"because of 42"}}"#);
        let (cloud, log) = answering(400, body.leak()).await;
        let answer = promoted(&cloud).await;
        let Answer::Refused { class: got, message } = &answer else { panic!("{code}: {answer:?}") };
        assert_eq!(*got, class, "{code}");
        assert!(message.contains("because of 42") && message.contains(code), "{message}");
        assert_eq!(log.lock().unwrap().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn without_the_lease_nothing_begins() {
    let (cloud, log) = answering(200, "{}").await;
    let answer = cloud.carry_out(&plan(1), &promote(), &permit_for(0)).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::NoLease, .. }), "{answer:?}");
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_lease_lost_between_deciding_and_sending_stops_the_signed_request() {
    let (cloud, log) = answering(200, "{}").await;
    // The first question opens the call, the second one is asked right before transmission.
    let answer = cloud.carry_out(&plan(1), &promote(), &permit_for(1)).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::NoLease, .. }), "{answer:?}");
    assert!(log.lock().unwrap().is_empty());
    let answer = cloud.carry_out(&plan(1), &promote(), &permit_for(2)).await;
    assert!(matches!(answer, Answer::Acknowledged(_)), "{answer:?}");
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_lease_lost_between_two_attempts_sends_one_and_leaves_its_outcome_open() {
    use crate::aws::error::{CallError, Cause};
    use crate::aws::lease_gate::LeaseGate;
    let (cloud, log) = answering(503, "").await;
    // The gate alone, on a client that does retry: the second attempt is stopped.
    let gate = LeaseGate::new(permit_for(1), clients::OPERATION);
    let call = cloud.inner.clients.ecs.update_service_primary_task_set().cluster("c").service("s");
    let call = call.primary_task_set("t").customize().interceptor(gate.clone());
    let error = CallError::of_mutation("it", &call.send().await.unwrap_err(), &gate);
    assert!(matches!(error.cause, Cause::Lost(_)), "{error}");
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_connection_means_certainly_not_sent() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let answer = promoted(&cloud(port)).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::Conflict, .. }), "{answer:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_leaves_the_outcome_open() {
    for then in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
        let (cloud, log) = raw(then).await;
        let answer = promoted(&cloud).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
        assert_eq!(log.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_had_mean_certainly_not_sent() {
    let config = SdkConfig::builder()
        .behavior_version(clients::behaviour())
        .region(Region::from_static("eu-central-1"))
        .endpoint_url("http://127.0.0.1:9")
        .build();
    let cloud = AwsCloud::new(Clients::new(&config), &Settings::default(), HandClock::still());
    let answer = promoted(&cloud).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::Conflict, .. }), "{answer:?}");
}

#[tokio::test]
async fn a_read_is_tried_twice_and_then_unknown() {
    let (cloud, log) = answering(500, r#"{"__type":"ServerException","message":"sorry"}"#).await;
    let key = (plan(1).spec.ecs.cluster.to_string(), service_arn(1));
    let seen = cloud.inner.services.ask_one(key).await;
    assert!(matches!(&seen, Seen::Unknown(why) if why.contains("ServerException")), "{seen:?}");
    assert_eq!(log.lock().unwrap().len(), 2);
}

#[test]
fn what_the_adapters_show_of_themselves_is_their_budget_and_no_credential() {
    let shown = format!("{:?}", cloud(9));
    assert!(shown.starts_with("AwsCloud { limiter: Limiter {"), "{shown}");
    let secret = Credentials::for_tests();
    assert!(
        !shown.contains(secret.secret_access_key()) && !shown.contains(secret.access_key_id()),
        "{shown}"
    );
}
