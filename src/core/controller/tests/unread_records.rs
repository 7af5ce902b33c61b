//! A release in flight while the records of people cannot be read: what burns goes back, and nothing else is done.

use super::support::{Bench, Fake, TableTrouble, act, script, secs, start, unavailable, wait};
use super::trouble::ReconcileError;
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
async fn an_alarm_brings_traffic_back_also_when_the_lease_had_lapsed_meanwhile() {
    let mut bench = deaf().await;
    bench.reconciler.core.decide = crate::decide::decide;
    // What was read before the gap may be old; who was in flight then is known all the same.
    bench.slot.forget();
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

/// Records that are denied, which no time ends.
fn denied() -> StoreError {
    StoreError::Unavailable { action: "read records", retry: false, source: "AccessDenied".into() }
}

#[tokio::test(start_paused = true)]
async fn what_a_table_has_not_done_for_a_minute_is_counted_until_it_is_done() {
    script(|input| wait(input.facts.clone()));
    for (call, error, name) in [
        (Call::ReadRecords, denied as fn() -> StoreError, "ReadRecords"),
        (Call::ReadState, unavailable, "ReadState"),
    ] {
        let fake = Arc::<Fake>::default();
        fake.ask("web");
        fake.inner().trouble = Some(TableTrouble { call, spared: 0, landed: false, error, met: 0 });
        let running = start(fake);
        running.grant(4);
        let line = format!("pointsman_blocked{{on=\"{name}\"}} 1");
        let counted = || running.metrics.encode().unwrap().lines().any(|found| found == line);
        secs(55).await;
        assert!(!counted(), "{name}: it may pass");
        secs(15).await;
        assert!(counted(), "{name}");
        running.fake.inner().trouble = None;
        secs(70).await;
        assert!(!counted(), "{name}: it is done again");
    }
}

#[test]
fn a_table_that_does_not_do_what_is_needed_is_told_once_until_it_does() {
    let error = |call| ReconcileError::Store { call, source: denied() };
    let mut blocked = trouble::Blocked::default();
    let tries = [(0, Call::ReadRecords), (40_000, Call::ReadState), (60_000, Call::ReadRecords)];
    let told: Vec<_> = tries.map(|(at_ms, call)| blocked.failed(&error(call), at_ms)).into();
    assert_eq!(told, [None, None, Some(Span::from_secs(60))]);
    assert_eq!(blocked.failed(&error(Call::ReadRecords), 90_000), None, "once");
    assert_eq!(blocked.failed(&ReconcileError::LeaseEnding, 91_000), None, "no table did that");
    assert_eq!((blocked.call(), blocked.ended()), (Some(Call::ReadRecords), true));
    assert_eq!((blocked.call(), blocked.ended()), (None, false));
    assert_eq!(blocked.failed(&error(Call::ReadState), 100_000), None, "it begins anew");
}
