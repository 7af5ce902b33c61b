use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep};

use super::support::TokioClock;
use crate::aws::batch::{Batcher, Source, Suspects};
use crate::aws::budget::{Family, Limiter, Rates, Urgency};
use crate::aws::error::{CallError, Cause};
use crate::model::Seen;
use crate::records::Span;

type Call = (Vec<u32>, oneshot::Sender<()>);

/// Tells the test of every call and answers when the test says so; takes its turns from the test.
struct Held {
    turns: Arc<Semaphore>,
    calls: mpsc::UnboundedSender<Call>,
}

#[async_trait]
impl Source for Held {
    type Key = u32;
    type Item = u32;

    fn divide(&self, keys: BTreeSet<u32>, suspects: &Suspects<u32>) -> Vec<Vec<u32>> {
        suspects.divide(keys, 10)
    }

    async fn turn(&self) -> Result<(), CallError> {
        self.turns.acquire().await.unwrap().forget();
        Ok(())
    }

    async fn describe(&self, keys: &[u32]) -> Result<BTreeMap<u32, Seen<u32>>, CallError> {
        let (answer, told) = oneshot::channel();
        self.calls.send((keys.to_vec(), answer)).unwrap();
        told.await.unwrap();
        Ok(keys.iter().filter(|key| **key != 13).map(|key| (*key, Seen::Known(key * 2))).collect())
    }

    fn absence(&self, _: &CallError) -> Option<u32> {
        None
    }
}

fn held(window: Span) -> (Arc<Batcher<Held>>, Arc<Mutex<mpsc::UnboundedReceiver<Call>>>) {
    held_with(window, Arc::new(Semaphore::new(1_000)))
}

fn held_with(
    window: Span,
    turns: Arc<Semaphore>,
) -> (Arc<Batcher<Held>>, Arc<Mutex<mpsc::UnboundedReceiver<Call>>>) {
    let (calls, told) = mpsc::unbounded_channel();
    (Arc::new(Batcher::new(Held { turns, calls }, window)), Arc::new(Mutex::new(told)))
}

fn ask(batcher: &Arc<Batcher<Held>>, keys: &[u32]) -> tokio::task::JoinHandle<BTreeMap<u32, Seen<u32>>> {
    let (batcher, keys) = (Arc::clone(batcher), keys.iter().copied().collect());
    tokio::spawn(async move { batcher.ask(keys).await })
}

#[tokio::test(start_paused = true)]
async fn a_question_joins_a_round_only_before_it_is_sent() {
    let (batcher, calls) = held(Span::from_millis(15));
    let mut calls = calls.lock().await;
    let first = ask(&batcher, &[1, 2]);
    let joins = ask(&batcher, &[2, 3]);
    let (keys, answer_first) = calls.recv().await.unwrap();
    assert_eq!(keys, [1, 2, 3]);
    let late = ask(&batcher, &[1]);
    let (keys, answer_late) = calls.recv().await.unwrap();
    assert_eq!(keys, [1], "asked after the first call was sent, so it needs one of its own");
    answer_late.send(()).unwrap();
    assert_eq!(late.await.unwrap(), BTreeMap::from([(1, Seen::Known(2))]));
    answer_first.send(()).unwrap();
    assert_eq!(first.await.unwrap(), BTreeMap::from([(1, Seen::Known(2)), (2, Seen::Known(4))]));
    assert_eq!(joins.await.unwrap(), BTreeMap::from([(2, Seen::Known(4)), (3, Seen::Known(6))]));
}

#[tokio::test(start_paused = true)]
async fn one_slow_call_keeps_nobody_else_of_its_round_waiting() {
    let (batcher, calls) = held(Span::from_millis(15));
    let mut calls = calls.lock().await;
    let slow = ask(&batcher, &(0..10).collect::<Vec<_>>());
    let quick = ask(&batcher, &[20]);
    let mut sent = BTreeMap::new();
    for _ in 0..2 {
        let (keys, answer) = calls.recv().await.unwrap();
        sent.insert(keys.len(), answer);
    }
    sent.remove(&1).unwrap().send(()).unwrap();
    assert_eq!(quick.await.unwrap(), BTreeMap::from([(20, Seen::Known(40))]));
    assert!(!slow.is_finished());
    sent.remove(&10).unwrap().send(()).unwrap();
    assert_eq!(slow.await.unwrap().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn who_asked_first_may_give_up_without_leaving_the_others_waiting() {
    let (batcher, calls) = held(Span::from_millis(15));
    let mut calls = calls.lock().await;
    let first = ask(&batcher, &[1]);
    tokio::task::yield_now().await;
    let second = ask(&batcher, &[1]);
    tokio::task::yield_now().await;
    first.abort();
    let (_, answer) = calls.recv().await.unwrap();
    answer.send(()).unwrap();
    assert_eq!(second.await.unwrap(), BTreeMap::from([(1, Seen::Known(2))]));
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_does_not_mention_and_what_is_never_answered_is_unknown() {
    let (batcher, calls) = held(Span::from_millis(15));
    let mut calls = calls.lock().await;
    let asked = ask(&batcher, &[13, 14]);
    let (_, answer) = calls.recv().await.unwrap();
    answer.send(()).unwrap();
    let seen = asked.await.unwrap();
    assert!(matches!(seen[&13], Seen::Unknown(_)));
    assert_eq!(seen[&14], Seen::Known(28));
    let asked = ask(&batcher, &[15]);
    // Dropping the reply makes the round panic.
    drop(calls.recv().await.unwrap());
    assert!(matches!(asked.await.unwrap()[&15], Seen::Unknown(_)));
    let after = ask(&batcher, &[16]);
    let (_, answer) = calls.recv().await.unwrap();
    answer.send(()).unwrap();
    assert_eq!(after.await.unwrap()[&16], Seen::Known(32), "a round that failed stops no later one");
}

#[tokio::test]
async fn asking_nothing_costs_nothing() {
    let (batcher, calls) = held(Span::ZERO);
    assert!(batcher.ask(BTreeSet::new()).await.is_empty());
    assert!(calls.lock().await.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_asks_while_a_round_waits_for_its_turn_joins_it() {
    let turns = Arc::new(Semaphore::new(0));
    let (batcher, calls) = held_with(Span::from_millis(15), Arc::clone(&turns));
    let mut calls = calls.lock().await;
    let mut asked = Vec::new();
    for key in 0..12 {
        asked.push(ask(&batcher, &[key]));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(calls.try_recv().is_err(), "no turn, no call");
    turns.add_permits(1);
    let (keys, answer) = calls.recv().await.unwrap();
    assert_eq!(keys, (0..10).collect::<Vec<_>>(), "one turn for all of them");
    answer.send(()).unwrap();
    let late = ask(&batcher, &[0]);
    sleep(Duration::from_secs(1)).await;
    assert!(calls.try_recv().is_err(), "each further call needs a turn of its own");
    turns.add_permits(2);
    for expected in [vec![10, 11], vec![0]] {
        let (keys, answer) = calls.recv().await.unwrap();
        assert_eq!(keys, expected, "first come, first served, and no answer from before the question");
        answer.send(()).unwrap();
    }
    for (key, asked) in (0..12).zip(asked) {
        assert_eq!(asked.await.unwrap(), BTreeMap::from([(key, Seen::Known(key * 2))]));
    }
    assert_eq!(late.await.unwrap(), BTreeMap::from([(0, Seen::Known(0))]));
}

/// Answers after a while, with the budget of `DescribeAlarms`.
struct Alarms(Limiter);

#[async_trait]
impl Source for Alarms {
    type Key = u32;
    type Item = u32;

    fn divide(&self, keys: BTreeSet<u32>, suspects: &Suspects<u32>) -> Vec<Vec<u32>> {
        suspects.divide(keys, 100)
    }

    async fn turn(&self) -> Result<(), CallError> {
        self.0.turn("DescribeAlarms", Family::Alarms, Urgency::Look).await
    }

    async fn describe(&self, keys: &[u32]) -> Result<BTreeMap<u32, Seen<u32>>, CallError> {
        sleep(Duration::from_millis(40)).await;
        Ok(keys.iter().map(|key| (*key, Seen::Known(*key))).collect())
    }

    fn absence(&self, _: &CallError) -> Option<u32> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn many_services_that_poll_out_of_step_share_the_few_calls_of_the_budget() {
    // One refill takes a third of a second. Were several rounds to wait for it at a time, some would lose the race
    // for it again and again; the default patience merely makes that rarer.
    let rates = Rates { longest_wait: Span::from_millis(500), ..Rates::default() };
    let limiter = Limiter::new(&rates, Arc::new(TokioClock(Instant::now())));
    let batcher = Arc::new(Batcher::new(Alarms(limiter.clone()), Span::from_millis(15)));
    let services = (0..60).map(|service| {
        let batcher = Arc::clone(&batcher);
        tokio::spawn(async move {
            sleep(Duration::from_millis(17 * u64::from(service))).await;
            for _ in 0..50 {
                let alarms = BTreeSet::from([service * 3, service * 3 + 1, service * 3 + 2]);
                for (alarm, seen) in batcher.ask(alarms).await {
                    assert_eq!(seen, Seen::Known(alarm));
                }
                sleep(Duration::from_millis(1_000 + u64::from(service))).await;
            }
        })
    });
    for service in services.collect::<Vec<_>>() {
        service.await.unwrap();
    }
    assert!(limiter.calls()["DescribeAlarms"] < 60 * 50 / 5, "{:?}", limiter.calls());
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_ran_out_is_said_to_be_ours() {
    let rates = Rates { longest_wait: Span::ZERO, ..Rates::default() };
    let limiter = Limiter::new(&rates, Arc::new(TokioClock(Instant::now())));
    while limiter.turn("DescribeAlarms", Family::Alarms, Urgency::Look).await.is_ok() {}
    let batcher = Batcher::new(Alarms(limiter), Span::ZERO);
    let seen = batcher.ask_one(1).await;
    let ours = "DescribeAlarms: not sent: our own request budget for it ran out";
    assert_eq!(seen, Seen::Unknown(ours.to_owned()));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(batcher.ask_one(1).await, Seen::Known(1), "the next round has a turn of its own");
}

/// Refuses everything while `refuses` says with which code, then only calls that name 13; counts its calls.
struct Refusing {
    refuses: Arc<std::sync::Mutex<Option<&'static str>>>,
    calls: Arc<std::sync::Mutex<Vec<usize>>>,
}

#[async_trait]
impl Source for Refusing {
    type Key = u32;
    type Item = u32;

    fn divide(&self, keys: BTreeSet<u32>, suspects: &Suspects<u32>) -> Vec<Vec<u32>> {
        suspects.divide(keys, 100)
    }

    async fn turn(&self) -> Result<(), CallError> {
        Ok(())
    }

    async fn describe(&self, keys: &[u32]) -> Result<BTreeMap<u32, Seen<u32>>, CallError> {
        self.calls.lock().unwrap().push(keys.len());
        let code = *self.refuses.lock().unwrap();
        match code.or(keys.contains(&13).then_some("ValidationError")) {
            None => Ok(keys.iter().map(|key| (*key, Seen::Known(key * 2))).collect()),
            Some(code) => {
                let cause =
                    Cause::Answered { code: Some(code.to_owned()), status: 400, message: "no".to_owned() };
                Err(CallError { operation: "DescribeAlarms", cause })
            }
        }
    }

    fn absence(&self, _: &CallError) -> Option<u32> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_spoil_a_batch_are_remembered_up_to_a_limit() {
    let (refuses, calls) = (Arc::new(std::sync::Mutex::new(Some("RuleNotFound"))), Arc::default());
    let batcher = Batcher::new(Refusing { refuses, calls: Arc::clone(&calls) }, Span::from_millis(15));
    let cost = async |keys: std::ops::Range<u32>| {
        let seen = batcher.ask(keys.collect()).await;
        assert!(seen.values().all(|seen| matches!(seen, Seen::Unknown(_))));
        std::mem::take(&mut *calls.lock().unwrap()).len()
    };
    assert_eq!(cost(0..2).await, 3, "together, then each alone");
    assert_eq!(cost(0..2).await, 2, "each alone");
    cost(2..1_001).await;
    assert_eq!(cost(0..2).await, 3, "the memory began anew");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_everything_leaves_no_key_under_suspicion() {
    for (code, most) in
        [("ExpiredTokenException", 1), ("RequestTimeTooSkewed", 1), ("AccessDeniedException", 199)]
    {
        let (refuses, calls) = (Arc::default(), Arc::default());
        let batcher =
            Batcher::new(Refusing { refuses: Arc::clone(&refuses), calls: Arc::clone(&calls) }, Span::ZERO);
        let keys: BTreeSet<u32> = (100..200).collect();
        let calls = || std::mem::take(&mut *calls.lock().unwrap());
        *refuses.lock().unwrap() = Some(code);
        assert!(batcher.ask(keys.clone()).await.values().all(|seen| matches!(seen, Seen::Unknown(_))));
        assert_eq!(calls().len(), most, "{code}");
        *refuses.lock().unwrap() = None;
        assert!(batcher.ask(keys).await.values().all(|seen| matches!(seen, Seen::Known(_))));
        assert_eq!(calls(), [100], "{code}: one call for all");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_spoils_a_call_is_asked_alone_from_then_on() {
    let (refuses, calls) = (Arc::default(), Arc::default());
    let batcher = Batcher::new(Refusing { refuses, calls: Arc::clone(&calls) }, Span::ZERO);
    let keys: BTreeSet<u32> = (10..20).collect();
    for most in [9, 2] {
        let seen = batcher.ask(keys.clone()).await;
        assert!(seen.iter().all(|(key, seen)| matches!(seen, Seen::Unknown(_)) == (*key == 13)));
        let calls = std::mem::take(&mut *calls.lock().unwrap());
        assert!(calls.len() <= most, "{calls:?}");
    }
}
