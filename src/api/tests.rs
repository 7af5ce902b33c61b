mod fuzz;

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::clock::ManualClock;
use crate::controller::View;
use crate::ports::HistoryItem;
use crate::records::status::Outcome;

/// A complete status document, as the daemon writes it.
const STATUS: &str = include_str!("tests/status.json");

struct Api {
    router: Router,
    clock: Arc<ManualClock>,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

fn view(name: &str, phase: &str, team: &str) -> View {
    let mut status: Value = serde_json::from_str(STATUS).unwrap();
    status["metadata"]["name"] = name.into();
    status["status"]["phase"] = phase.into();
    let item = HistoryItem {
        generation: 40,
        attempt: 1,
        release: format!("{name}-40.1"),
        outcome: Outcome::RolledBack,
        reason: "Alarm".to_owned(),
        message: "checkout-b-5xx".to_owned(),
        revision: "checkout:40".to_owned(),
        strategy: "fast".to_owned(),
        request_id: None,
        spec_hash: "sha256:41".to_owned(),
        takes_back: None,
        started_at: "2026-11-20T10:00:00Z".parse().unwrap(),
        ended_at: "2026-11-20T10:20:00Z".parse().unwrap(),
    };
    View {
        status: Some(Arc::new(serde_json::from_value(status).unwrap())),
        trouble: None,
        at: "2026-11-21T10:06:41Z".parse().unwrap(),
        labels: Arc::new(BTreeMap::from([("team".to_owned(), team.to_owned())])),
        history: Arc::new(vec![item]),
    }
}

impl Api {
    fn with(services: Vec<(&str, View)>) -> Self {
        let services =
            services.into_iter().map(|(key, view)| (key.parse().unwrap(), Arc::new(view))).collect();
        let (sender, snapshots) =
            watch::channel(Arc::new(Snapshot { shards_held: 64, shards: 64, listed: true, services }));
        let clock = Arc::new(ManualClock::at("2026-11-21T10:06:42Z".parse().unwrap()));
        let sources = Sources {
            snapshots,
            heartbeat: Arc::new(Heartbeat::default()),
            metrics: Arc::new(Metrics::default()),
            clock: clock.clone(),
        };
        Self { router: router(sources), clock, snapshots: sender }
    }

    fn of_three() -> Self {
        Self::with(vec![
            ("payments/checkout", view("checkout", "Baking", "payments")),
            ("payments/ledger", view("ledger", "Settled", "payments")),
            ("search/query", view("query", "Baking", "search")),
        ])
    }

    async fn send(&self, method: &str, path: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The answer, which fits its schema.
    async fn get(&self, path: &str, schema: &str) -> (StatusCode, Value) {
        let (status, text) = self.send("GET", path).await;
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        let (_, schema) = answers::schemas().into_iter().find(|(name, _)| name.contains(schema)).unwrap();
        let validator = jsonschema::validator_for(schema.as_value()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{path}: {errors:?}");
        (status, answer)
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_shows_what_each_service_does_and_waits_for() {
    let api = Api::of_three();
    let (status, list) = api.get("/v1/services", "api-services").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(names(&list), ["checkout", "ledger", "query"]);
    let first = &list["items"][0];
    assert_eq!(first["serving"], "checkout:41");
    assert_eq!(first["releasing"], "checkout:43");
    assert_eq!(first["weight"], 10, "the test route at 100 % does not count");
    assert_eq!(first["reason"], "Bake");
    assert_eq!(first["burning"], serde_json::json!([]));
    assert_eq!(list["items"][1]["weight"], Value::Null, "nothing is in flight");
}

#[tokio::test]
async fn pages_of_one_hold_every_service_once() {
    let api = Api::of_three();
    let (mut path, mut seen) = ("/v1/services?limit=1".to_owned(), Vec::new());
    loop {
        let (_, page) = api.get(&path, "api-services").await;
        assert_eq!(page["matching"], 3);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/services?limit=1&cursor={next}");
        assert!(seen.len() < 4, "it ends");
    }
    assert_eq!(seen, ["checkout", "ledger", "query"]);
}

#[tokio::test]
async fn filters_narrow_the_list_and_repeat_as_alternatives_or_demands() {
    let api = Api::of_three();
    for (query, expected) in [
        ("namespace=payments", vec!["checkout", "ledger"]),
        ("phase=Baking", vec!["checkout", "query"]),
        ("phase=Baking&phase=Settled&namespace=payments", vec!["checkout", "ledger"]),
        ("label=team%3Dsearch", vec!["query"]),
        ("label=team%3Dsearch&label=team%3Dpayments", vec![]),
    ] {
        let (_, list) = api.get(&format!("/v1/services?{query}"), "api-services").await;
        assert_eq!(names(&list), expected, "{query}");
    }
}

#[tokio::test]
async fn a_bad_query_says_what_is_allowed() {
    let api = Api::of_three();
    for (query, word) in [
        ("limit=0", "from 1 to 500"),
        ("limit=501", "from 1 to 500"),
        ("limit=ten", "from 1 to 500"),
        ("cursor=%00", "cursor"),
        ("phase=baking", "Baking"),
        ("label=team", "name=value"),
        ("sort=name", "allowed: namespace, phase"),
    ] {
        let (status, answer) = api.get(&format!("/v1/services?{query}"), "api-error").await;
        assert_eq!((status, answer["error"]["code"].as_str()), (StatusCode::BAD_REQUEST, Some("BadQuery")));
        assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{answer}");
    }
    let many = "label=a%3Db&".repeat(40);
    assert_eq!(api.send("GET", &format!("/v1/services?{many}")).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn one_service_is_told_in_full() {
    let api = Api::of_three();
    let (status, answer) = api.get("/v1/services/payments/checkout", "api-service.").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["service"]["status"]["waitingOn"]["then"], "shift to 100 %");
    assert_eq!(answer["labels"]["team"], "payments");
}

#[tokio::test]
async fn history_begins_with_the_last_outcome_and_has_each_release_once() {
    let api = Api::of_three();
    let (_, answer) = api.get("/v1/services/payments/checkout/history", "api-history").await;
    let releases: Vec<&str> =
        answer["items"].as_array().unwrap().iter().map(|item| item["release"].as_str().unwrap()).collect();
    assert_eq!(releases, ["checkout-41.1", "checkout-40.1"]);
}

#[tokio::test]
async fn what_is_not_there_answers_404_in_json() {
    let api = Api::of_three();
    for path in ["/v1/services/payments/none", "/v1/services/a/B%1b/history", "/v1", "/v1/services/"] {
        let (status, answer) = api.get(path, "api-error").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
    }
}

#[tokio::test]
async fn nothing_can_be_written() {
    let api = Api::of_three();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let (status, text) = api.send(method, "/v1/services/payments/checkout").await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(text.contains("ReadsOnly"), "{text}");
    }
}

#[tokio::test]
async fn health_depends_on_attempts_alone_and_readiness_on_lease_and_list() {
    let api = Api::of_three();
    // The manual clock starts at an hour, and nobody has beaten yet.
    let (status, answer) = api.get("/healthz", "api-health").await;
    assert_eq!((status, answer["ok"].as_bool()), (StatusCode::SERVICE_UNAVAILABLE, Some(false)));
    assert_eq!(api.get("/readyz", "api-health").await.0, StatusCode::OK);
    for (shards_held, listed) in [(0, false), (64, false)] {
        let services = BTreeMap::new();
        api.snapshots.send_replace(Arc::new(Snapshot { shards_held, shards: 64, listed, services }));
        let (status, answer) = api.get("/readyz", "api-health").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    }
    api.clock.advance(Span::from_secs(1));
}

#[tokio::test]
async fn the_index_names_paths_that_answer() {
    let api = Api::of_three();
    let (_, index) = api.get("/", "api-index").await;
    for endpoint in index["endpoints"].as_array().unwrap() {
        let path = endpoint["path"].as_str().unwrap().split('?').next().unwrap();
        let path = path.replace("{namespace}", "payments").replace("{name}", "checkout");
        let (status, _) = api.send("GET", &path).await;
        assert_ne!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn metrics_are_text_that_ends_as_open_metrics_do() {
    let (status, text) = Api::of_three().send("GET", "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("pointsman_") && text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn over_a_socket_a_slow_head_holds_up_nobody_and_shutdown_ends_the_server() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(serve(listener, Api::of_three().router, shutdown.clone()));
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut quick = tokio::net::TcpStream::connect(address).await.unwrap();
    quick.write_all(b"GET /v1/services HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    quick.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shutdown.cancel();
    server.await.unwrap().unwrap();
}
