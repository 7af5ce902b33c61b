//! No secret in words (S25): the daemon runs over real sockets with credentials that would be recognised, meets an
//! AWS that answers, one that quotes every signed request back, and records with a password where none belongs. What
//! it logs, shows and counts is read through for all of them.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dynoxide::Database;
use pointsman::aws::clients;
use pointsman::config::Config;
use pointsman::daemon::{self, DaemonSettings};
use pointsman::sandbox::{Sandbox, SandboxSettings};
use pointsman::store::{Tables, tables};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;

use crate::{dynamodb, support};

const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/do-not-say-this-key";
const TOKEN: &str = "FwoGZXIvYXdzEBYaDo-not-say-this-token";
/// In a field that the record does not have, or as a value of a type that its field does not have.
const IN_RECORD: &str = "hunter2-do-not-say-this-value";

/// All that our own crates say, and of the libraries what the documentation recommends.
const LOUD: &str = "warn,pointsman=trace,pointsman_core=trace";

/// What of the secrets a text holds. Signatures are those of the requests that were made.
fn leaks(text: &str, signatures: &BTreeSet<String>) -> Vec<String> {
    let lower = text.to_ascii_lowercase();
    let words = [SECRET_KEY, TOKEN, IN_RECORD, "aws4-hmac-sha256", "x-amz-security-token"];
    let words = words.into_iter().filter(|word| lower.contains(&word.to_ascii_lowercase()));
    let signed = signatures.iter().filter(|signature| lower.contains(signature.as_str()));
    words.map(str::to_owned).chain(signed.cloned()).collect()
}

/// The lines that were logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(line);
        Ok(line.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Everything on this thread is logged here; the runtime of a test has one thread.
    fn catch(&self, filter: &str) -> tracing::subscriber::DefaultGuard {
        let (lines, filter) = (self.clone(), EnvFilter::new(filter));
        let layer = tracing_subscriber::fmt::layer().json().with_writer(move || lines.clone());
        tracing::subscriber::set_default(tracing_subscriber::registry().with(filter).with(layer))
    }
}

fn sdk(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIDRECOGNISABLE", SECRET_KEY, Some(TOKEN.to_owned()), None, "tests");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .timeout_config(clients::timeouts(pointsman::records::Span::from_secs(2)))
        .retry_config(clients::read_retries())
        .build()
}

/// A daemon with its words caught.
struct Bench {
    daemon: daemon::Daemon,
    client: aws_sdk_dynamodb::Client,
    tables: Tables,
    lines: Lines,
    shutdown: CancellationToken,
    _caught: tracing::subscriber::DefaultGuard,
}

impl Bench {
    async fn start(endpoint: &str, filter: &str) -> Self {
        let lines = Lines::default();
        let caught = lines.catch(filter);
        let sdk = sdk(endpoint);
        let client = aws_sdk_dynamodb::Client::new(&sdk);
        let tables = Tables { records: "records".to_owned(), state: "state".to_owned() };
        tables::create_tables(&client, &tables).await.unwrap();
        let config: Config = serde_json::from_value(json!({
            "installation": "main", "records_table": tables.records, "state_table": tables.state,
            "listen": "127.0.0.1:0", "poll": "100ms", "idle_poll": "200ms", "shards": 1,
        }))
        .unwrap();
        let shutdown = CancellationToken::new();
        let daemon = daemon::start(DaemonSettings { config, sdk }, shutdown.clone()).await.unwrap();
        Self { daemon, client, tables, lines, shutdown, _caught: caught }
    }

    async fn put(&self, key: (&str, &str), mut document: Value) {
        (document["pk"], document["sk"]) = (json!(key.0), json!(key.1));
        let item = serde_dynamo::to_item(document).unwrap();
        self.client.put_item().table_name(&self.tables.records).set_item(Some(item)).send().await.unwrap();
    }

    /// A service with a request; others whose records hold what they must not, in fields that do not exist and in such
    /// as do; a command with more than a command.
    async fn write_records(&self) {
        self.put(("service#payments/checkout", "spec"), support::service()).await;
        self.put(("desired#payments/checkout", "spec"), support::release()).await;
        let mut secretive = support::release();
        secretive["metadata"]["name"] = json!("search");
        secretive["spec"]["environment"] = json!({"DB_PASSWORD": IN_RECORD});
        secretive["spec"]["authorization"] = json!(IN_RECORD);
        self.put(("desired#payments/search", "spec"), secretive).await;
        let mut service = support::service();
        service["metadata"]["name"] = json!("search");
        service["spec"]["taskSet"]["environment"] = json!([{"name": "DB_PASSWORD", "value": IN_RECORD}]);
        self.put(("service#payments/search", "spec"), service).await;
        for (name, place, value) in [
            ("cart", "requestId", json!([IN_RECORD])),
            ("stock", "taskDefinition", json!({"password": IN_RECORD})),
            ("taxes", "strategy", json!(format!("mysql://shop:{IN_RECORD}@db/shop"))),
        ] {
            let mut release = support::release();
            release["metadata"]["name"] = json!(name);
            release["spec"][place] = value.clone();
            self.put((&format!("desired#payments/{name}"), "spec"), release).await;
            let mut service = support::service();
            service["metadata"]["name"] = json!(name);
            service["spec"]["container"] = value;
            self.put((&format!("service#payments/{name}"), "spec"), service).await;
        }
        let mut command = support::command();
        command["spec"]["headers"] = json!({"authorization": IN_RECORD});
        let id = ulid::Ulid::generate().to_string();
        self.put(("command#payments/checkout", &id), command).await;
    }

    async fn until_said(&self, words: &[&str]) {
        for _ in 0..600 {
            let text = self.lines.text();
            if words.iter().all(|word| text.contains(word)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not all of {words:?} were said: {}", self.lines.text());
    }

    async fn page(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.daemon.api).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn until_shown(&self, path: &str, words: &str) {
        for _ in 0..600 {
            if self.page(path).await.contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path} does not say {words:?}: {}", self.page(path).await);
    }

    /// Everything that anybody can read: each page of the API, the state table, the log.
    async fn everything(self) -> String {
        let mut said = String::new();
        for path in [
            "/",
            "/healthz",
            "/readyz",
            "/metrics",
            "/v1/services",
            "/v1/services/payments/checkout",
            "/v1/services/payments/search",
            "/v1/services/payments/cart",
            "/v1/services/payments/stock",
            "/v1/services/payments/taxes",
            "/v1/services/payments/checkout/history",
        ] {
            let page = self.page(path).await;
            assert!(page.starts_with("HTTP/1.1 "), "{path}: {page}");
            said.push_str(&page);
        }
        self.shutdown.cancel();
        self.daemon.stopped().await.unwrap();
        said.push_str(&self.lines.text());
        said
    }
}

#[tokio::test]
async fn a_daemon_that_works_says_no_secret() {
    let sandbox = Sandbox::start(SandboxSettings::default()).await.unwrap();
    let bench = Bench::start(sandbox.endpoint(), LOUD).await;
    bench.write_records().await;
    bench.until_said(&["payments/checkout", "payments/search", "changed"]).await;
    // The field is named, so that it can be taken out.
    bench.until_shown("/v1/services/payments/search", "is an unknown field").await;
    // The type that was found is said, so that it can be put right.
    bench.until_shown("/v1/services/payments/cart", "spec.requestId is a list of 1 item").await;
    bench.until_shown("/v1/services/payments/stock", "spec.taskDefinition is a map of 1 field").await;
    bench.until_shown("/v1/services/payments/taxes", "spec.strategy is a text of ").await;
    let said = bench.everything().await;
    assert_eq!(leaks(&said, &BTreeSet::new()), Vec::<String>::new(), "{said}");
}

/// What AWS answers when a signature does not match: the request as it was signed, headers and all.
fn quotation(headers: &HeaderMap) -> String {
    let headers = headers.iter();
    let quoted: Vec<String> =
        headers.map(|(name, value)| format!("{name}:{}", value.to_str().unwrap_or_default())).collect();
    format!(
        "The request signature we calculated does not match the signature you provided. The Canonical String for \
         this request should have been\n'POST\n/\n\n{}'",
        quoted.join("\n")
    )
}

fn refusal(headers: &HeaderMap) -> Response {
    let message = quotation(headers);
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if said("content-type").contains("x-www-form-urlencoded") {
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>{message}</Message>\
             </Error><RequestId>1</RequestId></ErrorResponse>"
        );
        return (StatusCode::FORBIDDEN, [("content-type", "text/xml")], body).into_response();
    }
    let body = json!({"__type": "InvalidSignatureException", "message": message}).to_string();
    (StatusCode::BAD_REQUEST, [("content-type", "application/x-amz-json-1.1")], body).into_response()
}

#[tokio::test]
async fn calls_that_fail_with_the_signed_request_in_their_answer_say_no_secret() {
    for filter in [LOUD, "warn,pointsman=info"] {
        let (unkind, signatures) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let engine = Database::memory().unwrap();
        let (tables_too, seen) = (Arc::clone(&unkind), Arc::clone(&signatures));
        let app = axum::Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let (engine, tables_too, seen) = (engine.clone(), Arc::clone(&tables_too), Arc::clone(&seen));
            async move {
                let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
                let signature = text("authorization").rsplit("Signature=").next().unwrap_or_default();
                assert_eq!(signature.len(), 64, "requests are signed");
                assert_eq!(text("x-amz-security-token"), TOKEN);
                seen.lock().unwrap().insert(signature.to_owned());
                if text("x-amz-target").starts_with("DynamoDB_") && !tables_too.load(Ordering::SeqCst) {
                    dynamodb::front(engine, &headers, body).await
                } else {
                    refusal(&headers)
                }
            }
        });
        let bench = Bench::start(&dynamodb::serve(app).await, filter).await;
        bench.write_records().await;
        bench.until_said(&["payments/checkout", "changed", "the stream of records is not read"]).await;
        // Now the tables answer like that too: records, state, lease and stream.
        unkind.store(true, Ordering::SeqCst);
        bench.until_said(&["failed; comes again", "the lease table could not be read or written"]).await;
        let said = bench.everything().await;
        let signatures = signatures.lock().unwrap().clone();
        assert!(signatures.len() > 10);
        assert_eq!(leaks(&said, &signatures), Vec::<String>::new(), "{said}");
        assert!(
            said.contains("InvalidSignatureException"),
            "the code is said, by which help is found: {said}"
        );
        assert!(said.contains("left out, for they quote the signed request"), "{said}");
    }
}

#[tokio::test]
async fn a_leak_anywhere_would_be_noticed() {
    let lines = Lines::default();
    let signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b".to_owned();
    {
        let _caught = lines.catch(LOUD);
        let sdk = sdk("http://127.0.0.1:1");
        let provider = sdk.credentials_provider().unwrap();
        let credentials = aws_sdk_dynamodb::config::ProvideCredentials::provide_credentials(&provider).await;
        let credentials = credentials.unwrap();
        tracing::trace!(target: "pointsman::aws", key = credentials.secret_access_key(), "one");
        tracing::debug!(target: "pointsman_core::controller", token = ?credentials.session_token(), "two");
        tracing::warn!(target: "aws_smithy_runtime", header = "AWS4-HMAC-SHA256 Credential=", signature, "three");
        tracing::warn!(target: "pointsman::store", record = %json!({"environment": IN_RECORD}), "four");
    }
    let found = leaks(&lines.text(), &BTreeSet::from([signature.clone()]));
    assert_eq!(found, [SECRET_KEY, TOKEN, IN_RECORD, "aws4-hmac-sha256", &signature]);
}
