//! A release in flight while the records of people cannot be read: what burns goes back, and nothing else is done.

use super::support::{Bench, TableTrouble, act, script, secs, unavailable, wait};
use super::*;

/// A release at 10 % and 50 %, seen once; from then on the records cannot be read.
async fn deaf() -> Bench {
    let mut bench = Bench::new();
    let scene = Scene::burning();
    {
        let mut inner = bench.fake.inner();
        inner.state.insert(bench.key.clone(), Remembered { rev: 3, facts: scene.facts, status: None });
        inner.observed = Some(scene.observed);
    }
    script(|input| wait(input.facts.clone()));
    // What is in flight is known from the first run on.
    for _ in 0..2 {
        assert_eq!(bench.run().await.outcome, "waiting");
    }
    let (call, error) = (Call::ReadRecords, unavailable as fn() -> StoreError);
    bench.fake.inner().trouble = Some(TableTrouble { call, spared: 0, landed: false, error, met: 0 });
    bench
}

#[tokio::test(start_paused = true)]
async fn an_alarm_brings_traffic_back_while_the_records_cannot_be_read() {
    let mut bench = deaf().await;
    bench.reconciler.core.decide = crate::decide::decide;
    bench.run().await;
    assert!(bench.fake.log().contains(&"call".to_owned()), "{:?}", bench.fake.log());
    let facts = bench.remembered();
    assert_eq!(facts.release.unwrap().latch.unwrap().cause, LatchCause::Alarm);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_done_and_nothing_written_while_the_records_cannot_be_read() {
    let mut bench = deaf().await;
    let before = bench.fake.log();
    script(|input| act(input.facts));
    assert_eq!(bench.run().await.outcome, "store");
    assert_eq!(bench.fake.log(), before);
    bench.fake.inner().trouble = None;
    secs(1).await;
    script(|input| {
        assert!(input.watched > Span::ZERO, "what was watched before is not lost");
        wait(input.facts.clone())
    });
    assert_eq!(bench.run().await.outcome, "waiting");
}
