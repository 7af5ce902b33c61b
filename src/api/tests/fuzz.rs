//! Requests that nobody would send: never a panic, never a 5xx, an answer of bounded size that repeats neither markup
//! nor control characters of the request.

use axum::http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::*;

/// Requests in the ordinary run; `POINTSMAN_REQUESTS` raises it.
const REQUESTS: u32 = 2_000;
/// Three services with their history come to some 10 KB; what a request adds is bounded by its head.
const LONGEST_ANSWER: usize = 64 * 1024;

#[derive(Clone, Debug)]
struct Odd {
    method: String,
    path: String,
    query: Option<String>,
    header: (String, Vec<u8>),
    body: Vec<u8>,
}

/// Percent-encodes what a URI cannot hold, and some of what it can, so that decoding is in the loop.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/=&.-_".contains(&byte) {
            out.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        2 => "[a-z0-9-]{0,70}",
        1 => Just("<script>alert(1)</script>".to_owned()),
        1 => Just("\u{1b}[2J\r\nSet-Cookie: a=b\0\u{202e}".to_owned()),
        1 => Just("../../etc/passwd".to_owned()),
        1 => Just("%00%zz%".to_owned()),
        1 => (1..3_000_usize).prop_map(|long| "a".repeat(long)),
    ]
}

fn paths() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("/v1/services".to_owned()),
        1 => prop_oneof![Just("/"), Just("/healthz"), Just("/readyz"), Just("/metrics")].prop_map(str::to_owned),
        3 => (texts(), texts()).prop_map(|(a, b)| format!("/v1/services/{}/{}", encoded(&a), encoded(&b))),
        2 => texts().prop_map(|a| format!("/v1/services/payments/{}/history", encoded(&a))),
        2 => texts().prop_map(|a| format!("/{}", encoded(&a))),
    ]
}

fn queries() -> impl Strategy<Value = Option<String>> {
    let name = prop_oneof![
        Just("namespace".to_owned()),
        Just("phase".to_owned()),
        Just("label".to_owned()),
        Just("limit".to_owned()),
        Just("cursor".to_owned()),
        texts()
    ];
    let pair = (name, texts()).prop_map(|(name, value)| format!("{}={}", encoded(&name), encoded(&value)));
    proptest::option::of(proptest::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&")))
}

fn requests() -> impl Strategy<Value = Odd> {
    let method = prop_oneof![6 => Just("GET".to_owned()), 1 => Just("HEAD".to_owned()), 1 => Just("POST".to_owned()),
        1 => Just("DELETE".to_owned()), 1 => Just("OPTIONS".to_owned()), 1 => "[A-Z]{1,12}"];
    let header = ("[a-z][a-z-]{0,20}", proptest::collection::vec(any::<u8>(), 0..200));
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    (method, paths(), queries(), header, body).prop_map(|(method, path, query, header, body)| Odd {
        method,
        path,
        query,
        header,
        body,
    })
}

async fn answer(api: &Api, odd: &Odd) -> Option<(StatusCode, Vec<u8>)> {
    let query = odd.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
    let mut request = Request::builder()
        .method(Method::from_bytes(odd.method.as_bytes()).ok()?)
        .uri(format!("{}{query}", odd.path))
        .body(Body::from(odd.body.clone()))
        .ok()?;
    let (name, value) = &odd.header;
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_bytes(value)) {
        request.headers_mut().insert(name, value);
    }
    let response = api.router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let json = response
        .headers()
        .get("content-type")
        .is_some_and(|it| it.as_bytes().starts_with(b"application/json"));
    let bytes = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    assert!(
        json || odd.path == "/metrics" || bytes.is_empty(),
        "{odd:?}: not JSON, so a browser might render it"
    );
    Some((status, bytes))
}

fn judge(odd: &Odd, status: StatusCode, bytes: &[u8]) -> Result<(), TestCaseError> {
    // 503 is what these two are there to say.
    let may_be_unwell = ["/healthz", "/readyz"].contains(&odd.path.as_str());
    prop_assert!(!status.is_server_error() || may_be_unwell, "{status}");
    prop_assert!(bytes.len() <= LONGEST_ANSWER, "{} bytes", bytes.len());
    let text = String::from_utf8(bytes.to_vec()).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(!text.contains("<script>"), "markup is repeated: {text}");
    let raw = text.chars().find(|it| it.is_control() && *it != '\n');
    prop_assert!(raw.is_none(), "{raw:?} is repeated: {text}");
    Ok(())
}

#[test]
fn odd_requests_are_answered_in_bounds_and_never_echoed_raw() {
    let cases = std::env::var("POINTSMAN_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(REQUESTS);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let api = Api::of_three();
    let seen = std::cell::RefCell::new(BTreeMap::<u16, u32>::new());
    let result = runner.run(&requests(), |odd| {
        let Some((status, bytes)) = runtime.block_on(answer(&api, &odd)) else { return Ok(()) };
        *seen.borrow_mut().entry(status.as_u16()).or_default() += 1;
        judge(&odd, status, &bytes)
    });
    println!("answers by status: {:?}", seen.borrow());
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(seen.borrow().contains_key(&200) && seen.borrow().contains_key(&400), "{:?}", seen.borrow());
}
