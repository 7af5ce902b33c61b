//! TCP connections through a Network Load Balancer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

/// A target that says its name to whoever connects, and then returns what it gets.
async fn target(name: &'static str) -> (Address, JoinHandle<()>) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = Address { ip: "127.0.0.1".to_owned(), port: socket.local_addr().unwrap().port() };
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    (address, serving)
}

/// One connection and who answered on it; `None` when it was closed without a word.
async fn connect(port: u16) -> (TcpStream, Option<String>) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let mut name = [0; 5];
    let read = timeout(PATIENCE, stream.read_exact(&mut name)).await.expect("an answer in good time");
    (stream, read.is_ok().then(|| String::from_utf8(name.to_vec()).unwrap()))
}

async fn bench() -> Bench {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    bench.transport = Transport::Tcp;
    bench
}

#[tokio::test]
async fn each_connection_goes_to_a_group_by_weight_and_stays_there_when_the_weights_change() {
    let mut bench = bench().await;
    let ((blue, _b), (green, _g)) = (target("blue ").await, target("green").await);
    let groups = [("blue", &[blue][..]), ("green", &[green][..])];
    bench.publish(vec![default_rule(forward(&[("blue", 1), ("green", 0)]))], &groups).await;
    let (mut kept, name) = connect(bench.port).await;
    assert_eq!(name.as_deref(), Some("blue "));

    bench.publish(vec![default_rule(forward(&[("blue", 1), ("green", 3)]))], &groups).await;
    let mut green = 0_u32;
    for _ in 0..400 {
        green += u32::from(connect(bench.port).await.1.as_deref() == Some("green"));
    }
    // Five standard deviations: 5 × √(400 × 0.75 × 0.25) = 43.
    assert!(green.abs_diff(300) <= 43, "{green} of 400 to green");

    bench.publish(vec![default_rule(forward(&[("blue", 0), ("green", 1)]))], &groups).await;
    for _ in 0..20 {
        assert_eq!(connect(bench.port).await.1.as_deref(), Some("green"));
    }
    kept.write_all(b"still").await.unwrap();
    let mut echo = [0; 5];
    kept.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still", "the connection that was open stays with blue");
    bench.end().await;
}

#[tokio::test]
async fn a_connection_to_a_target_that_leaves_goes_on_and_new_ones_find_nobody() {
    let mut bench = bench().await;
    let (blue, _b) = target("blue ").await;
    let rules = || vec![default_rule(forward(&[("blue", 1)]))];
    bench.publish(rules(), &[("blue", &[blue][..])]).await;
    let (mut kept, _) = connect(bench.port).await;
    bench.publish(rules(), &[("blue", &[][..])]).await;
    assert_eq!(connect(bench.port).await.1, None, "closed without a word");
    kept.write_all(b"still").await.unwrap();
    kept.shutdown().await.unwrap();
    let mut rest = String::new();
    kept.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "still", "bytes and the end of the stream pass in both directions");
    bench.end().await;
}

#[tokio::test]
async fn a_target_that_takes_no_connections_closes_them_and_a_check_by_connecting_says_so() {
    let mut bench = bench().await;
    let (blue, serving) = target("blue ").await;
    let order = crate::world::ProbeOrder {
        group: "blue".to_owned(),
        target: blue.clone(),
        check: crate::world::ProbeCheck::Connect,
        interval_ms: 20,
        timeout_ms: 2000,
    };
    bench.plane.sync_probes(vec![order]);
    let verdict = |event| match event {
        PlaneEvent::Probe(result) => Some(result.healthy),
        _ => None,
    };
    assert_eq!(verdict(bench.event().await), Some(true));
    serving.abort();
    while verdict(bench.event().await) != Some(false) {}
    bench.plane.sync_probes(Vec::new());
    bench.end().await;
}
