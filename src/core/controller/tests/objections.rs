//! What stops a service and nobody else: a second opinion that objects, a panic.

use super::support::{Bench, Fake, act_once, script, secs, start, wait};
use super::*;

/// A second opinion that objects to everything.
fn objects(_: &Input<'_>, _: &Decision) -> Vec<Violation> {
    vec![Violation { property: Property::GateBeforeTraffic, detail: "in this test".to_owned() }]
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_breaks_a_property_is_neither_announced_nor_carried_out() {
    let mut bench = Bench::new();
    script(act_once);
    bench.reconciler.core.violations = objects;
    let verdict = bench.run().await;
    assert_eq!((verdict.outcome, verdict.why), ("unsafe", Trigger::Retry));
    assert_eq!(bench.fake.log(), ["recall"]);
}

#[tokio::test(start_paused = true)]
async fn bringing_traffic_back_is_carried_out_whatever_the_second_opinion_says() {
    let mut bench = Bench::new();
    script(|input| {
        let mut decided = act_once(input);
        if let Next::Act(action) = &mut decided.next {
            action.rollback = true;
        }
        decided
    });
    bench.reconciler.core.violations = objects;
    let verdict = bench.run().await;
    assert_eq!(verdict.outcome, "waiting");
    assert!(bench.fake.log().contains(&"call".to_owned()), "{:?}", bench.fake.log());
}

#[tokio::test(start_paused = true)]
async fn three_panics_in_a_row_halt_a_service_which_is_decided_for_all_the_same() {
    let mut bench = Bench::new();
    script(|_| panic!("a hole in the ladder"));
    for _ in 0..3 {
        let verdict = bench.run().await;
        assert_eq!(verdict.outcome, "panicked");
        assert_eq!(verdict.trouble.as_deref(), Some("panicked while deciding: a hole in the ladder"));
    }
    assert!(bench.fake.inner().state.is_empty());
    script(|input| {
        let halt = input.facts.halted.clone().expect("halted before it is asked again");
        assert_eq!(halt.reason, HaltReason::Panicked);
        act_once(input)
    });
    bench.run().await;
    assert!(bench.fake.log().contains(&"call".to_owned()), "its way back is still carried out");
    assert_eq!(bench.remembered().halted.unwrap().detail, "a hole in the ladder");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_told_does_not_hold_up_a_decision() {
    let mut bench = Bench::new();
    bench.reconciler.core.explain = |_, _, _| panic!("no words");
    script(act_once);
    assert_eq!(bench.run().await.outcome, "waiting");
    assert!(bench.fake.log().contains(&"call".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_runs_panic_does_not_stop_the_others() {
    let fake = Arc::<Fake>::default();
    let (bad, good) = (fake.ask("bad"), fake.ask("good"));
    fake.inner().observe_panics = Some("bad".to_owned());
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.grant(1);
    secs(30).await;
    let views = running.views.borrow().clone();
    assert_eq!(views.services[&bad].trouble.as_deref(), Some("the adapter met something new"));
    assert!(views.services[&good].trouble.is_none() && views.services[&good].status.is_some());
    let halted = running.fake.inner().state[&bad].facts.halted.clone();
    assert_eq!(halted.map(|halt| halt.reason), Some(HaltReason::Panicked));
    running.fake.inner().observe_panics = None;
    secs(10).await;
    assert!(running.views.borrow().services[&bad].trouble.is_none());
}
