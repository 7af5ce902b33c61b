//! What stops a service and nobody else: a second opinion that objects, a panic.

use super::support::{Bench, Fake, act, act_once, decision, script, secs, start, wait};
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

/// A release in flight, and how long its weights have been astray as far as is durable.
fn in_flight() -> Bench {
    let bench = Bench::new();
    let remembered = Remembered { rev: 3, facts: Scene::burning().facts, status: None };
    bench.fake.inner().state.insert(bench.key.clone(), remembered);
    bench
}

/// These facts, the watched time later.
fn later(input: &Input<'_>) -> (Facts, Span) {
    let mut facts = input.facts.clone();
    let astray = &mut facts.release.as_mut().unwrap().progress.astray;
    *astray = astray.plus(input.watched);
    let astray = *astray;
    (facts, astray)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_the_second_opinion_objects_to_time_and_again() {
    let mut bench = in_flight();
    bench.reconciler.core.violations = objects;
    let deadline = Span::from_secs(30);
    script(move |input| match later(input) {
        (facts, astray) if astray < deadline => act(&facts),
        (facts, _) => wait(facts),
    });
    let mut objected = 0;
    loop {
        let verdict = bench.run().await;
        if verdict.outcome == "waiting" {
            break;
        }
        assert_eq!(verdict.outcome, "unsafe");
        objected += 1;
        assert!(objected < 20, "it never ends");
        advance(verdict.again.unwrap().std()).await;
    }
    // The first look has watched nothing, the second one a poll of 2 s, and each further one two of them: the last one
    // of 28 / 4 comes to the deadline.
    assert_eq!(objected, 1 + 1 + 6);
    assert!(!bench.fake.log().contains(&"call".to_owned()));
    assert_eq!(bench.remembered().release.unwrap().progress.astray, deadline);
}

#[tokio::test(start_paused = true)]
async fn what_a_stopped_decision_had_to_see_or_to_be_told_stands_before_the_next_one() {
    let mut bench = in_flight();
    bench.reconciler.core.violations = objects;
    bench.slot.claim_denied = Some(("arn:x".to_owned(), "team/y".to_owned()));
    let mut looked = false;
    script(move |input| {
        assert!(input.claim_denied.is_some());
        if std::mem::replace(&mut looked, true) {
            return act(input.facts);
        }
        decision(input.facts.clone(), Next::Look(BTreeSet::from([Need::LoadBalancer])))
    });
    for _ in 0..2 {
        assert_eq!(bench.run().await.outcome, "unsafe");
    }
    let read = |needs: &BTreeSet<Need>| needs.contains(&Need::LoadBalancer);
    assert_eq!(bench.fake.inner().needs.iter().map(read).collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn passes_that_panic_now_and_then_take_no_watched_time_back() {
    let mut bench = in_flight();
    let mut passes = 0;
    script(move |input| {
        passes += 1;
        assert!(passes % 2 == 1, "every other pass");
        wait(later(input).0)
    });
    for _ in 0..10 {
        assert_eq!(bench.run().await.outcome, "waiting");
        secs(1).await;
        assert_eq!(bench.run().await.outcome, "panicked");
        secs(1).await;
    }
    let astray = bench.slot.memory.as_ref().unwrap().facts.release.as_ref().unwrap().progress.astray;
    assert_eq!(astray, Span::from_secs(9), "what was seen before a panic is forgotten, and only that");
}

#[tokio::test(start_paused = true)]
async fn the_last_try_before_a_halt_begins_with_what_is_durable() {
    let mut bench = in_flight();
    script(|input| {
        let (facts, astray) = later(input);
        assert!(astray == Span::ZERO, "it cannot bear what only this process remembers");
        wait(facts)
    });
    assert_eq!(bench.run().await.outcome, "waiting");
    bench.slot.memory.as_mut().unwrap().facts.release.as_mut().unwrap().progress.astray = Span::from_secs(1);
    for outcome in ["panicked", "panicked", "waiting"] {
        assert_eq!(bench.run().await.outcome, outcome);
    }
    assert!(bench.remembered().halted.is_none());
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
