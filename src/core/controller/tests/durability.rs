//! What is durable before what is done, and when nothing is worth a write.

use super::support::{
    self, Bench, IDLE, POLL, TableTrouble, act, act_once, decision, script, shift, unavailable, wait,
};
use super::*;

#[tokio::test(start_paused = true)]
async fn the_intent_is_durable_before_the_call_and_the_answer_after_it() {
    let mut bench = Bench::new();
    script(act_once);
    let verdict = bench.run().await;
    assert_eq!(
        bench.fake.log()[..5],
        ["recall", "write 1 outstanding 1", "call", "answer", "write 1 outstanding 0"]
    );
    assert_eq!(verdict.outcome, "waiting");
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_cannot_be_written_is_not_carried_out() {
    let mut bench = Bench::new();
    script(act_once);
    bench.fake.inner().refuse_writes = vec![Some(unavailable())];
    let verdict = bench.run().await;
    assert_eq!((verdict.outcome, verdict.why), ("store", Trigger::Retry));
    assert_eq!(verdict.trouble.as_deref(), Some("failed to write the state: failed to write: no route"));
    assert_eq!(bench.fake.log(), ["recall", "refused write"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_written_is_known_to_this_process_alone() {
    let mut bench = Bench::new();
    bench.reconciler.core.explain =
        |input, decision, _| bare_status(input.key, &decision.facts, Phase::Pending);
    script(act_once);
    bench.fake.inner().refuse_writes = vec![Some(unavailable()), Some(unavailable()), None];
    assert_eq!(bench.run().await.outcome, "store");
    assert_eq!(bench.fake.log(), ["recall", "write 1 outstanding 1", "call", "answer", "refused write"]);

    // Who starts anew must take the outcome for unknown.
    assert_eq!(bench.remembered().outstanding.len(), 1);

    // Who was answered goes on with that, and writes it as soon as it can, though nothing else is to be written.
    script(|input| {
        assert!(input.facts.outstanding.is_empty());
        wait(input.facts.clone())
    });
    assert_eq!(bench.run().await.outcome, "store");
    assert_eq!(bench.run().await.outcome, "waiting");
    assert_eq!(bench.fake.log()[5..], ["recall", "refused write", "recall", "write 1 outstanding 0"]);
    assert_eq!(bench.reconciler.metrics.state_writes("settle"), 1);
    assert_eq!(bench.run().await.outcome, "waiting");
    assert_eq!(bench.fake.log().len(), 9, "once");
}

#[tokio::test(start_paused = true)]
async fn the_next_intent_takes_an_answer_along_that_could_not_be_written() {
    let mut bench = Bench::new();
    script(act_once);
    bench.fake.inner().refuse_writes = vec![Some(unavailable()), None];
    assert_eq!(bench.run().await.outcome, "store");
    script(|input| match input.facts.generation {
        1 => {
            assert!(input.facts.outstanding.is_empty(), "nothing is in doubt");
            act(input.facts)
        }
        _ => wait(input.facts.clone()),
    });
    assert_eq!(bench.run().await.outcome, "waiting");
    let second = ["recall", "write 2 outstanding 1", "call", "answer", "write 2 outstanding 0"];
    assert_eq!(bench.fake.log()[5..10], second);
}

/// The intent was sent to the table and not answered, and is done only after the next run has read the state.
#[tokio::test(start_paused = true)]
async fn an_intent_that_lands_after_the_state_was_read_again_keeps_the_next_one_from_being_sent() {
    let mut bench = Bench::new();
    script(act_once);
    bench.fake.inner().refuse_writes = vec![Some(unavailable())];
    assert_eq!(bench.run().await.outcome, "store");
    let (fake, key) = (Arc::clone(&bench.fake), bench.key.clone());
    script(move |input| {
        assert!(input.facts.outstanding.is_empty(), "what was not sent is not outstanding");
        let late = act(input.facts).facts;
        fake.inner().state.insert(key.clone(), Remembered { rev: 1, facts: late, status: None });
        act(input.facts)
    });
    assert_eq!(bench.run().await.outcome, "conflict");
    assert!(!bench.fake.log().contains(&"call".to_owned()));
    script(|input| {
        assert_eq!(input.facts.outstanding.len(), 1, "what landed counts");
        wait(input.facts.clone())
    });
    assert_eq!(bench.run().await.outcome, "waiting");
    assert!(!bench.fake.log().contains(&"call".to_owned()));
}

/// Counts watched time in a waiting request.
fn count(input: &Input<'_>) -> Facts {
    let mut facts = input.facts.clone();
    let (waited, break_glass) = (Span::ZERO, BTreeSet::new());
    let pending = Pending { waited, return_to_retained: false, identity: None, break_glass, doubt: None };
    let pending = facts.pending.get_or_insert(pending);
    pending.waited = pending.waited.plus(input.watched);
    facts
}

/// Says something else in every pass, as when reads fail now and then.
fn flapping(input: &Input<'_>, decision: &Decision, _: Option<&ReleaseStatus>) -> ReleaseStatus {
    let polls = u64::try_from(input.now.as_millisecond()).unwrap() / POLL.millis();
    let phase = if polls.is_multiple_of(2) { Phase::Pending } else { Phase::Halted };
    bare_status(input.key, &decision.facts, phase)
}

#[tokio::test(start_paused = true)]
async fn watched_time_outlasts_a_table_that_does_nothing_but_every_other_write() {
    watched_while_every_other_write_fails(support::explain, 5).await;
    watched_while_every_other_write_fails(flapping, 50).await;
}

/// `least`: so many writes fail meanwhile.
async fn watched_while_every_other_write_fails(
    explain: fn(&Input<'_>, &Decision, Option<&ReleaseStatus>) -> ReleaseStatus,
    least: usize,
) {
    let mut bench = Bench::new();
    bench.reconciler.core.explain = explain;
    script(|input| wait(count(input)));
    let mut passed = Span::ZERO;
    while passed < Span::from_mins(5) {
        if bench.fake.inner().refuse_writes.is_empty() {
            bench.fake.inner().refuse_writes = vec![None, Some(unavailable())];
        }
        let again = bench.run().await.again.unwrap();
        advance(again.std()).await;
        passed = passed.plus(again);
    }
    let failed = bench.fake.log().iter().filter(|line| *line == "refused write").count();
    assert!(failed > least, "{failed}");
    bench.fake.inner().refuse_writes.clear();
    bench.run().await;
    let waited = bench.slot.memory.as_ref().unwrap().facts.pending.as_ref().unwrap().waited;
    assert_eq!(waited, passed);
}

#[tokio::test(start_paused = true)]
async fn watched_time_is_that_of_the_table_once_a_write_of_ours_turns_out_to_have_landed() {
    let mut bench = Bench::new();
    script(|input| wait(count(input)));
    bench.run().await;
    advance(POLL.std()).await;
    let call = Call::Write(Reason::Change);
    let trouble = TableTrouble { call, spared: 0, landed: true, error: unavailable, met: 0 };
    bench.fake.inner().trouble = Some(trouble);
    script(|input| wait(Facts { generation: 1, ..count(input) }));
    assert_eq!(bench.run().await.outcome, "store");
    bench.fake.inner().trouble = None;
    advance(POLL.std()).await;
    let writes = bench.fake.log().len();
    assert_eq!(bench.run().await.outcome, "waiting");
    assert_eq!(bench.fake.log()[writes..], ["recall"], "what landed is not written again");
    assert_eq!(bench.remembered().pending.unwrap().waited, POLL);
}

#[tokio::test(start_paused = true)]
async fn another_writer_makes_a_run_read_again() {
    let mut bench = Bench::new();
    script(|input| wait(input.facts.clone()));
    bench.run().await;
    bench.fake.inner().state.get_mut(&bench.key).unwrap().rev += 1;
    bench.fake.inner().state.get_mut(&bench.key).unwrap().facts.generation = 7;
    script(|input| if input.facts.generation == 7 { wait(input.facts.clone()) } else { act(input.facts) });
    assert_eq!(bench.run().await.outcome, "conflict");
    assert_eq!(bench.run().await.outcome, "waiting");
    assert!(!bench.fake.log().contains(&"call".to_owned()));
    assert_eq!(bench.remembered().generation, 7);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_another_service_has_is_told_to_the_next_decision_only() {
    let mut bench = Bench::new();
    let taken = StoreError::ClaimTaken { arn: "arn:x".to_owned(), owner: "team/other".to_owned() };
    bench.fake.inner().refuse_writes = vec![Some(taken)];
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    script(move |input| {
        let mut told = seen.lock().unwrap();
        told.push(input.claim_denied.cloned());
        let mut facts = input.facts.clone();
        match told.len() {
            1 => Decision { claim: BTreeSet::from(["arn:x".to_owned()]), ..wait(facts) },
            2 => {
                facts.generation = 1;
                decision(facts, Next::Again)
            }
            _ => wait(facts),
        }
    });
    assert_eq!(bench.run().await.outcome, "waiting");
    let denied = Some(("arn:x".to_owned(), "team/other".to_owned()));
    assert_eq!(*told.lock().unwrap(), [None, denied, None]);
}

#[tokio::test(start_paused = true)]
async fn clocks_are_written_every_six_polls_and_timestamps_never() {
    let mut bench = Bench::new();
    let watched = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&watched);
    script(move |input| {
        seen.lock().unwrap().push(input.watched);
        wait(count(input))
    });
    for _ in 0..40 {
        bench.run().await;
        advance(POLL.std()).await;
    }
    let metrics = &bench.reconciler.metrics;
    assert_eq!((metrics.state_writes("change"), metrics.state_writes("checkpoint")), (1, 6));
    assert_eq!(bench.remembered().pending.unwrap().waited, POLL.times(36));
    advance(Span::from_mins(60).std()).await;
    bench.run().await;
    let watched = watched.lock().unwrap().clone();
    assert_eq!(watched[..2], [Span::ZERO, POLL]);
    assert_eq!(*watched.last().unwrap(), POLL.times(2), "an hour without passes counts as two polls");
    // A process that starts anew has watched nothing yet.
    bench.slot = Slot::default();
    let fresh = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&fresh);
    script(move |input| {
        *seen.lock().unwrap() = Some(input.watched);
        wait(input.facts.clone())
    });
    bench.run().await;
    assert_eq!(*fresh.lock().unwrap(), Some(Span::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_an_effect_begins_with_its_acknowledgement() {
    let mut bench = Bench::new();
    bench.fake.inner().carry_out_takes = Span::from_secs(3);
    let watched = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&watched);
    script(move |input| {
        seen.lock().unwrap().push(input.watched);
        act_once(input)
    });
    bench.run().await;
    assert_eq!(*watched.lock().unwrap(), [Span::ZERO, Span::ZERO]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_is_not_written_however_often_it_is_looked_at() {
    let mut bench = Bench::new();
    script(|input| decision(input.facts.clone(), Next::Settled));
    for _ in 0..100 {
        assert_eq!(bench.run().await.again, Some(IDLE));
        advance(IDLE.std()).await;
    }
    assert_eq!(bench.fake.log(), ["recall", "write 0 outstanding 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_a_newer_daemon_wrote_is_left_alone() {
    let mut bench = Bench::new();
    bench.fake.inner().too_new = true;
    script(|_| unreachable!("nothing is decided on what cannot be read"));
    let verdict = bench.run().await;
    assert_eq!(verdict.outcome, "too_new");
    assert!(verdict.trouble.unwrap().contains("needs reader version 9"));
    assert_eq!(bench.fake.log(), ["recall"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_without_records_and_memory_is_forgotten_without_a_write() {
    let mut bench = Bench::new();
    bench.fake.inner().asked.clear();
    script(|_| unreachable!("there is nothing to decide"));
    assert_eq!(bench.run().await.again, None);
    assert_eq!(bench.fake.log(), ["recall"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_settled_as_unknown() {
    let mut bench = Bench::new();
    bench.fake.inner().answer = Some(Answer::Unknown { message: "timed out".to_owned() });
    script(act_once);
    bench.run().await;
    assert!(bench.remembered().outstanding.values().all(|outstanding| outstanding.unknown));
    bench.fake.inner().answer =
        Some(Answer::Refused { class: RefusalClass::Throttled, message: "slow down".to_owned() });
    script(|input| if input.facts.generation == 1 { act(input.facts) } else { wait(input.facts.clone()) });
    bench.run().await;
    let text = bench.reconciler.metrics.encode().unwrap();
    assert!(text.contains("pointsman_effects_total{effect=\"SetWeights\",result=\"unknown\"} 1"));
    assert!(text.contains("pointsman_effects_total{effect=\"SetWeights\",result=\"refused\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_is_repeated_is_announced_again_under_this_runs_condition() {
    let mut bench = Bench::new();
    bench.reconciler.core.explain =
        |input, decision, _| bare_status(input.key, &decision.facts, Phase::Pending);
    bench.fake.inner().answer = Some(Answer::Unknown { message: "timed out".to_owned() });
    script(act_once);
    bench.run().await;
    let before = bench.fake.log().len();
    // The facts hold the very same effect already: nothing changes but that it is sent once more.
    let mut repeated = false;
    script(move |input| {
        let facts = input.facts.clone();
        if std::mem::replace(&mut repeated, true) { wait(facts) } else { decision(facts, Next::Act(shift())) }
    });
    bench.run().await;
    assert_eq!(bench.fake.log()[before..][..3], ["write 1 outstanding 1", "call", "answer"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_between_two_looks_leaves_the_second_one_to_the_next_run() {
    let mut bench = Bench::new();
    let fake = Arc::clone(&bench.fake);
    script(move |input| {
        let wanted = BTreeSet::from([Need::LoadBalancer]);
        if fake.inner().needs.last() == Some(&wanted) {
            return wait(input.facts.clone());
        }
        let call = Call::ReadRecords;
        let trouble = TableTrouble { call, spared: 0, landed: false, error: unavailable, met: 0 };
        fake.inner().trouble = Some(trouble);
        decision(input.facts.clone(), Next::Look(wanted))
    });
    assert_eq!(bench.run().await.outcome, "store");
    bench.fake.inner().trouble = None;
    assert_eq!(bench.run().await.outcome, "waiting");
    assert_eq!(bench.fake.inner().needs, [BTreeSet::new(), BTreeSet::from([Need::LoadBalancer])]);
}

#[tokio::test(start_paused = true)]
async fn the_pause_after_a_failure_grows_only_while_nothing_is_written() {
    let mut bench = Bench::new();
    // Each run writes what it decides, and fails at the next turn.
    let fake = Arc::clone(&bench.fake);
    script(move |input| {
        let call = Call::ReadRecords;
        let trouble = TableTrouble { call, spared: 0, landed: false, error: unavailable, met: 0 };
        fake.inner().trouble = Some(trouble);
        decision(Facts { generation: input.facts.generation + 1, ..input.facts.clone() }, Next::Again)
    });
    for _ in 0..5 {
        bench.fake.inner().trouble = None;
        assert_eq!(bench.run().await.again, Some(POLL));
    }
    assert_eq!(bench.run().await.again, Some(POLL.times(2)), "nothing was read");
}
