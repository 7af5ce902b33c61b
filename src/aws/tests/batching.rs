use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::aws::batch::{Batcher, Source, Suspects};
use crate::aws::error::CallError;
use crate::model::Seen;
use crate::records::Span;

type Call = (Vec<u32>, oneshot::Sender<()>);

/// Tells the test of every call and answers when the test says so.
struct Held {
    calls: mpsc::UnboundedSender<Call>,
}

#[async_trait]
impl Source for Held {
    type Key = u32;
    type Item = u32;

    fn divide(&self, keys: BTreeSet<u32>, suspects: &Suspects<u32>) -> Vec<Vec<u32>> {
        suspects.divide(keys, 10)
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
    let (calls, told) = mpsc::unbounded_channel();
    (Arc::new(Batcher::new(Held { calls }, window)), Arc::new(Mutex::new(told)))
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
