//! The load balancer: shares, zero, change, failures.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::{Method, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::StickyAtZero;
use super::super::metrics::AlbDatum;
use super::*;
use crate::world::Condition;

/// Sends requests and counts them by the revision that answered; every one must be answered 200.
async fn tally(bench: &Bench, connections: usize, requests_each: usize) -> BTreeMap<String, u32> {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let port = bench.port;
        clients.spawn(async move {
            let (mut browser, mut counts) = (Browser::connect(port).await, BTreeMap::new());
            for _ in 0..requests_each {
                let answer = browser.get("/").await;
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                *counts.entry(answer.header("x-revision").to_owned()).or_insert(0_u32) += 1;
            }
            counts
        });
    }
    let mut total = BTreeMap::new();
    while let Some(counts) = clients.join_next().await {
        for (revision, count) in counts.unwrap() {
            *total.entry(revision).or_insert(0) += count;
        }
    }
    total
}

async fn two_groups(settings: PlaneSettings) -> (Bench, Address, Address) {
    let mut bench = Bench::start(settings).await;
    let blue = bench.run_task("blue", "web:1", &[]).await;
    let green = bench.run_task("green", "web:2", &[]).await;
    (bench, blue, green)
}

async fn weigh(bench: &mut Bench, blue: (&Address, u32), green: (&Address, u32)) {
    let rule = default_rule(forward(&[("blue", blue.1), ("green", green.1)]));
    let groups: &[(&str, &[Address])] =
        &[("blue", slice::from_ref(blue.0)), ("green", slice::from_ref(green.0))];
    bench.publish(vec![rule], groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_at_weight_0_gets_no_request_at_all_and_the_leak_fault_is_noticed() {
    for (leak_per_mille, leaks) in [(0, false), (20, true)] {
        let (mut bench, blue, green) =
            two_groups(PlaneSettings { leak_per_mille, ..PlaneSettings::default() }).await;
        weigh(&mut bench, (&blue, 100), (&green, 0)).await;
        let counts = tally(&bench, 4, 750).await;
        assert_eq!(counts.contains_key("web:2"), leaks, "leak {leak_per_mille}: {counts:?}");
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_shared_by_weight_and_counted_by_group() {
    let (mut bench, blue, green) = two_groups(PlaneSettings::default()).await;
    weigh(&mut bench, (&blue, 90), (&green, 10)).await;
    let counts = tally(&bench, 4, 500).await;
    let green_share = f64::from(counts["web:2"]);
    // 2000 requests at 0.1: 200 expected, standard deviation sqrt(2000 * 0.1 * 0.9) = 13.4.
    assert!((green_share - 200.0).abs() <= 4.0 * 13.42, "{counts:?}");
    let data = bench.plane.metrics().drain();
    let sum = |group: Option<&str>, metric: &str| {
        let found = data.iter().find(|d| d.target_group.as_deref() == group && d.metric == metric);
        found.map(|datum| datum.values.iter().map(|(_, count)| count).sum::<f64>())
    };
    assert_eq!(sum(Some("targetgroup/green/1"), "RequestCount"), Some(green_share));
    assert_eq!(sum(Some("targetgroup/green/1"), "HTTPCode_Target_2XX_Count"), Some(green_share));
    assert_eq!(sum(None, "RequestCount"), Some(2000.0));
    assert_eq!(sum(None, "TargetResponseTime"), Some(2000.0));
    assert_eq!(sum(None, "HTTPCode_ELB_5XX_Count"), None);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weight_change_holds_for_the_next_request_of_an_open_connection_on_every_node() {
    let settings = PlaneSettings {
        nodes: NonZeroU32::new(3).unwrap(),
        propagation: Duration::from_millis(60),
        ..PlaneSettings::default()
    };
    let (mut bench, blue, green) = two_groups(settings).await;
    weigh(&mut bench, (&blue, 1), (&green, 0)).await;
    let mut browsers = Vec::new();
    for _ in 0..6 {
        browsers.push(bench.browser().await);
    }
    for (weights, expected) in [((0, 1), "web:2"), ((1, 0), "web:1")] {
        // `publish` returns when the slowest node has the change.
        weigh(&mut bench, (&blue, weights.0), (&green, weights.1)).await;
        for browser in &mut browsers {
            for _ in 0..20 {
                assert_eq!(browser.get("/").await.header("x-revision"), expected);
            }
        }
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_weights_change_and_the_old_task_stops() {
    let (mut bench, blue, green) = two_groups(PlaneSettings::default()).await;
    weigh(&mut bench, (&blue, 100), (&green, 0)).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..4 {
        let (port, done) = (bench.port, Arc::clone(&done));
        clients.spawn(async move {
            let (mut browser, mut answered) = (Browser::connect(port).await, 0_u32);
            while !done.load(Ordering::Relaxed) && answered < 100_000 {
                let path = format!("/{client}/{answered}");
                let answer = browser.get(&path).await;
                assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
                answered += 1;
            }
            answered
        });
    }
    for to_green in [1, 10, 50, 100] {
        weigh(&mut bench, (&blue, 100 - to_green), (&green, to_green)).await;
        bench.browser().await.get("/step").await;
    }
    let rule = default_rule(forward(&[("blue", 0), ("green", 100)]));
    bench.publish(vec![rule], &[("blue", &[]), ("green", slice::from_ref(&green))]).await;
    bench.stop_task("blue");
    assert_eq!(bench.stopped().await.0, Some(0));
    for _ in 0..50 {
        assert_eq!(bench.browser().await.get("/after").await.header("x-revision"), "web:2");
    }
    done.store(true, Ordering::Relaxed);
    while let Some(answered) = clients.join_next().await {
        assert!(answered.expect("every request of this client was answered 200") > 0);
    }
    bench.end().await;
}

#[tokio::test]
async fn an_empty_group_answers_503_a_dead_target_502_and_a_slow_one_504() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    bench.idle = 100;
    let slow = bench.run_task("slow", "web:1", &[("LATENCY", "1m")]).await;
    let dead = Address { ip: "127.0.0.1".to_owned(), port: free_port().await };
    let outside = Address { ip: "192.0.2.1".to_owned(), port: 80 };
    for (targets, expected) in [(vec![], 503), (vec![dead], 502), (vec![outside], 502), (vec![slow], 504)] {
        bench.publish(vec![default_rule(forward(&[("group", 1)]))], &[("group", &targets)]).await;
        // One each: a client that is idle for 100 ms is disconnected, too.
        assert_eq!(bench.browser().await.get("/").await.status.as_u16(), expected, "{targets:?}");
    }
    bench.publish(vec![default_rule(forward(&[("group", 0)]))], &[("group", &[])]).await;
    assert_eq!(bench.browser().await.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let data = bench.plane.metrics().drain();
    let count = |metric: &str| {
        data.iter().find(|d| d.metric == metric && d.target_group.is_none()).map(AlbDatum::sum)
    };
    // Requests for which no target could be chosen are not in RequestCount.
    assert_eq!(count("RequestCount"), Some(3.0));
    assert_eq!(count("HTTPCode_ELB_5XX_Count"), Some(5.0));
    assert_eq!(count("HTTPCode_ELB_503_Count"), Some(2.0));
    assert_eq!(count("TargetConnectionErrorCount"), Some(2.0));
    bench.end().await;
}

#[tokio::test]
async fn a_connection_ends_when_its_client_is_silent_and_after_its_time_with_one_more_request() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let target = bench.run_task("t1", "web:1", &[]).await;
    (bench.idle, bench.keep_alive) = (150, 3_600_000);
    let group: &[(&str, &[Address])] = &[("group", &[target])];
    bench.publish(vec![default_rule(forward(&[("group", 1)]))], group).await;
    let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, bench.port)).await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("the connection is closed");
    assert_eq!((closed.unwrap(), rest), (0, Vec::new()));
    let mut used = bench.browser().await;
    assert_eq!(used.get("/").await.status, StatusCode::OK);
    timeout(PATIENCE, used.0.ready()).await.unwrap().unwrap();
    timeout(PATIENCE, async {
        while !used.0.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();

    (bench.idle, bench.keep_alive) = (60_000, 1);
    bench.publish(vec![default_rule(forward(&[("group", 1)]))], group).await;
    let mut old = bench.browser().await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let last = old.get("/").await;
    assert_eq!((last.status, last.header("connection")), (StatusCode::OK, "close"));
    bench.end().await;
}

#[tokio::test]
async fn rules_choose_between_forward_fixed_answer_and_redirect_in_their_order() {
    let (mut bench, blue, green) = two_groups(PlaneSettings::default()).await;
    let rule = |arn: &str, condition: Condition, target: RouteTarget| RuleRoute {
        arn: arn.to_owned(),
        conditions: vec![condition, Condition::SourceIp(vec!["127.0.0.0/8".to_owned()])],
        target,
    };
    let path = |pattern: &str| Condition::Path(vec![pattern.to_owned()]);
    let fixed = RouteTarget::Fixed {
        status: 418,
        content_type: "text/plain".to_owned(),
        body: "short and stout".to_owned(),
    };
    let redirect =
        RouteTarget::Redirect { status: 301, location: "https://#{host}/new/#{path}?#{query}".to_owned() };
    let rules = vec![
        rule("rule/1", path("/tea"), fixed),
        rule("rule/2", path("/old/*"), redirect),
        rule(
            "rule/3",
            Condition::Header("x-test".to_owned(), vec!["yes".to_owned()]),
            forward(&[("green", 1)]),
        ),
        rule("rule/4", path("/old/never"), forward(&[("green", 1)])),
        default_rule(forward(&[("blue", 1), ("green", 0)])),
    ];
    bench.publish(rules, &[("blue", &[blue]), ("green", &[green])]).await;
    let mut browser = bench.browser().await;
    let tea = browser.get("/tea").await;
    assert_eq!((tea.status.as_u16(), &tea.body[..]), (418, &b"short and stout"[..]));
    let moved = browser.get("/old/never?a=b").await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (301, "https://app.test/new/old/never?a=b")
    );
    assert_eq!(browser.get("/anything").await.header("x-revision"), "web:1");
    let test = Request::get("/anything").header("host", "app.test").header("x-test", "YES");
    assert_eq!(browser.send(test.body(Full::default()).unwrap()).await.header("x-revision"), "web:2");
    bench.end().await;
}

#[tokio::test]
async fn a_sticky_client_stays_on_its_group_and_at_weight_0_as_the_setting_says() {
    for (sticky_at_zero, at_zero) in [(StickyAtZero::Honour, "web:2"), (StickyAtZero::Reweigh, "web:1")] {
        let (mut bench, blue, green) =
            two_groups(PlaneSettings { sticky_at_zero, ..PlaneSettings::default() }).await;
        let groups: &[(&str, &[Address])] = &[("blue", &[blue]), ("green", &[green])];
        let sticky = |blue, green| {
            let groups = vec![("blue".to_owned(), blue), ("green".to_owned(), green)];
            vec![default_rule(RouteTarget::Forward { groups, sticky_secs: Some(600) })]
        };
        bench.publish(sticky(0, 1), groups).await;
        let mut browser = bench.browser().await;
        let first = browser.get("/").await;
        let cookie = first.header("set-cookie").to_owned();
        assert!(cookie.starts_with("AWSALBTG=") && cookie.contains("Max-Age=600"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let again =
            || Request::get("/").header("cookie", format!("other=1; {pair}")).body(Full::default()).unwrap();
        bench.publish(sticky(999, 1), groups).await;
        for _ in 0..20 {
            assert_eq!(browser.send(again()).await.header("x-revision"), "web:2");
        }
        bench.publish(sticky(1, 0), groups).await;
        assert_eq!(browser.send(again()).await.header("x-revision"), at_zero, "{sticky_at_zero:?}");
        assert_eq!(browser.get("/").await.header("x-revision"), "web:1", "a client without a cookie");
        bench.end().await;
    }
}

/// A target that answers each request with the request itself, and closes after `per_connection` of them.
async fn echo_target(per_connection: usize) -> Address {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                for _ in 0..per_connection {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\ncontent-length: {}\r\n\r\n",
                        head.len()
                    );
                    stream.write_all(&[answer.as_bytes(), &head].concat()).await.unwrap();
                }
                // Reads one more request and closes without a byte of response, as a target that
                // stops at the wrong moment does.
                let _ = stream.read_u8().await;
            });
        }
    });
    Address { ip: "127.0.0.1".to_owned(), port }
}

#[tokio::test]
async fn headers_of_one_connection_stay_there_and_the_client_is_named_to_the_target() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let target = echo_target(1).await;
    bench.publish(vec![default_rule(forward(&[("group", 1)]))], &[("group", &[target])]).await;
    let request = Request::get("/path?query=1")
        .header("host", "app.test")
        .header("connection", "x-secret-hop")
        .header("x-secret-hop", "1")
        .header("te", "trailers")
        .header("x-forwarded-for", "203.0.113.9")
        .body(Full::default())
        .unwrap();
    let answer = bench.browser().await.send(request).await;
    let seen = String::from_utf8_lossy(&answer.body).to_lowercase();
    assert!(seen.starts_with("get /path?query=1 http/1.1\r\n"), "{seen}");
    for line in [
        "host: app.test",
        "x-forwarded-for: 203.0.113.9, 127.0.0.1",
        "x-forwarded-proto: http",
        &format!("x-forwarded-port: {}", bench.port),
    ] {
        assert!(seen.contains(line), "{line} is missing in {seen}");
    }
    for gone in ["x-secret-hop", "te:", "connection:"] {
        assert!(!seen.contains(gone), "{gone} was passed on: {seen}");
    }
    assert_eq!(answer.header("keep-alive"), "");
    bench.end().await;
}

#[tokio::test]
async fn a_request_that_meets_a_closing_connection_goes_out_again_only_if_that_is_safe() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let target = echo_target(1).await;
    bench.publish(vec![default_rule(forward(&[("group", 1)]))], &[("group", &[target])]).await;
    let mut browser = bench.browser().await;
    // Every second request meets a kept-alive connection that closes on it.
    for request in 0..10 {
        assert_eq!(browser.get("/").await.status, StatusCode::OK, "request {request}");
    }
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let post = Request::builder().method(Method::POST).uri("/").header(header::HOST, "app.test");
        statuses.push(browser.send(post.body(Full::default()).unwrap()).await.status);
    }
    assert!(statuses.contains(&StatusCode::BAD_GATEWAY), "a POST may have had its effect: {statuses:?}");
    bench.end().await;
}

/// A target that answers with the body of the request.
async fn mirror_target() -> Address {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let mirror = service_fn(|request: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(request.into_body()))
            });
            tokio::spawn(server::Builder::new().serve_connection(TokioIo::new(stream), mirror));
        }
    });
    Address { ip: "127.0.0.1".to_owned(), port }
}

#[tokio::test]
async fn bodies_pass_through_whole_and_the_connection_stays_usable() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let (mirror, demo) = (mirror_target().await, bench.run_task("t1", "web:1", &[]).await);
    let rules = vec![
        RuleRoute {
            arn: "rule/mirror".to_owned(),
            conditions: vec![Condition::Path(vec!["/mirror".to_owned()])],
            target: forward(&[("mirror", 1)]),
        },
        default_rule(forward(&[("demo", 1)])),
    ];
    bench.publish(rules, &[("mirror", &[mirror]), ("demo", &[demo])]).await;
    let mut browser = bench.browser().await;
    let post = |path: &str, body: Bytes| Request::post(path).header("host", "app.test").body(Full::new(body));
    for size in [0, 1, 70_000, 3_000_000_u32] {
        let sent: Bytes = (0..size).map(|at| at.to_le_bytes()[(at % 3) as usize]).collect();
        let answer = browser.send(post("/mirror", sent.clone()).unwrap()).await;
        assert!(answer.status == StatusCode::OK && answer.body == sent, "{size} bytes came back changed");
        let answer = browser.send(post("/demo", sent).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{size} bytes that the task has no use for");
    }
    let head = Request::head("/demo").header("host", "app.test").body(Full::default()).unwrap();
    let answer = browser.send(head).await;
    assert!(answer.body.is_empty() && answer.header("content-length").parse::<u32>().unwrap() > 0);
    assert_eq!(browser.get("/demo").await.status, StatusCode::OK);
    let socket = Request::get("/demo").header("connection", "upgrade").header("upgrade", "websocket");
    let refused = browser.send(socket.body(Full::default()).unwrap()).await;
    assert_eq!(refused.status, StatusCode::NOT_IMPLEMENTED);
    bench.end().await;
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_the_listener_opens_once_it_is_free() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, bench.port)).await.unwrap();
    let listener = |arn: &str, port| ListenerRoute {
        arn: arn.to_owned(),
        load_balancer: "app/lb/1".to_owned(),
        port,
        transport: Transport::Http,
        idle_millis: 60_000,
        keep_alive_millis: 60_000,
        rules: vec![default_rule(forward(&[]))],
    };
    let listeners = vec![listener("listener/taken", bench.port), listener("listener/zero", 0)];
    bench.routing.send_replace(Arc::new(Routing { version: 1, listeners, groups: BTreeMap::new() }));
    for expected in ["listener/taken", "listener/zero"] {
        match bench.event().await {
            PlaneEvent::Listener(ListenerEvent::Failed { listener, reason, .. }) => {
                assert_eq!(listener, expected);
                assert!(!reason.is_empty());
            }
            other => panic!("{expected} should have failed: {other:?}"),
        }
    }
    drop(other);
    match bench.event().await {
        PlaneEvent::Listener(ListenerEvent::Open { listener, .. }) => assert_eq!(listener, "listener/taken"),
        other => panic!("the listener should have opened: {other:?}"),
    }
    bench.end().await;
}

#[test]
fn a_privileged_port_is_moved_by_the_offset() {
    let settings = PlaneSettings::default();
    let moved = [80, 443, 8080, 0].map(|port| settings.local_port(port));
    assert_eq!(moved, [Some(8080), Some(8443), Some(8080), None]);
}
