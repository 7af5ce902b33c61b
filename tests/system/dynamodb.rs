//! Where the tests' tables are: `DynamoDB` Local when `POINTSMAN_DYNAMODB_LOCAL` names its endpoint (see
//! `.ci/dynamodb-local`), otherwise the engine `dynoxide` behind a small HTTP front in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Intercept, Region, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The endpoint of an engine.
pub async fn endpoint() -> String {
    if let Ok(given) = std::env::var("POINTSMAN_DYNAMODB_LOCAL") {
        return given;
    }
    let engine = Database::memory().expect("an engine in memory");
    let app = axum::Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
        let engine = engine.clone();
        async move { front(engine, &headers, body).await }
    });
    serve(app).await
}

/// Serves on a loopback port of its own, for as long as the runtime lives.
pub async fn serve(app: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(async move { axum::serve(listener, app).await.expect("the front serves") });
    format!("http://{address}")
}

/// One call, answered by the engine.
pub async fn front(engine: Database, headers: &HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let work = move || answer(&engine, &operation, &body);
    tokio::task::spawn_blocking(work).await.expect("the engine does not panic")
}

fn run<I: DeserializeOwned, O: Serialize>(
    body: &[u8],
    call: impl FnOnce(I) -> Result<O, DynoxideError>,
) -> Result<String, DynoxideError> {
    let input = serde_json::from_slice(body)
        .map_err(|error| DynoxideError::ValidationException(error.to_string()))?;
    let output = call(input)?;
    serde_json::to_string(&output).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

fn answer(engine: &Database, operation: &str, body: &[u8]) -> Response {
    let answer = match operation {
        "BatchGetItem" => run(body, |input| engine.batch_get_item(input)),
        "CreateTable" => run(body, |input| engine.create_table(input)),
        "DeleteItem" => run(body, |input| engine.delete_item(input)),
        "DescribeStream" => run(body, |input| engine.describe_stream(input)),
        "DescribeTable" => run(body, |input| engine.describe_table(input)),
        "GetItem" => run(body, |input| engine.get_item(input)),
        "GetRecords" => run(body, |input| engine.get_records(input)),
        "GetShardIterator" => run(body, |input| engine.get_shard_iterator(input)),
        "PutItem" => run(body, |input| engine.put_item(input)),
        "Query" => run(body, |input| engine.query(input)),
        "TransactWriteItems" => run(body, |input| engine.transact_write_items(input)),
        "UpdateItem" => run(body, |input| engine.update_item(input)),
        "UpdateTimeToLive" => run(body, |input| engine.update_time_to_live(input)),
        other => panic!("the store called {other}, which it has no grant for"),
    };
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => {
            let status = StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::BAD_REQUEST);
            (status, error.to_json())
        }
    };
    (status, [("content-type", "application/x-amz-json-1.0")], body).into_response()
}

fn credentials() -> Credentials {
    Credentials::new("AKIDEXAMPLE", "secret", None, None, "tests")
}

/// A client with the SDK's own retries.
pub fn client(endpoint: &str) -> Client {
    Client::from_conf(config(endpoint).build())
}

fn config(endpoint: &str) -> aws_sdk_dynamodb::config::Builder {
    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials())
        .endpoint_url(endpoint)
}

/// A client whose calls meet `trouble` when it is armed. With `attempts` 1 the SDK does not retry.
pub fn troubled_client(endpoint: &str, trouble: Arc<Trouble>, attempts: u32) -> Client {
    let retry =
        RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(Duration::from_millis(1));
    Client::from_conf(config(endpoint).retry_config(retry).interceptor(Armed(trouble)).build())
}

/// A client of the streams.
pub fn streams(endpoint: &str) -> aws_sdk_dynamodbstreams::Client {
    let config = aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials())
        .endpoint_url(endpoint)
        .build();
    aws_sdk_dynamodbstreams::Client::from_conf(config)
}

/// How many of the next attempts go wrong, and how.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Attempts that have their effect and are answered by a broken server.
    pub lose_answers: AtomicU32,
    /// Attempts that never leave.
    pub lose_requests: AtomicU32,
}

fn strikes(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[derive(Debug)]
struct Armed(Arc<Trouble>);

impl Intercept for Armed {
    fn name(&self) -> &'static str {
        "Trouble"
    }

    fn modify_before_transmit(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if strikes(&self.0.lose_requests) { Err("the test cut the line".into()) } else { Ok(()) }
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if strikes(&self.0.lose_answers) {
            *context.response_mut() = HttpResponse::new(500_u16.try_into()?, SdkBody::from("{}"));
        }
        Ok(())
    }
}
