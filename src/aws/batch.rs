//! Brings the reads of many services together into few calls.
//!
//! Who asks while a round is still open joins it; a round closes when our budget lets its first call go, and
//! that call is then *sent*. So every answer comes from a call that began after the question did, and a pass
//! never sees the world as it was before the pass. And however many ask, and whenever, one round at a time waits
//! for the budget: the scarcer the turns, the more questions share each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::sync::{Mutex as Line, Semaphore, oneshot};

use super::error::CallError;
use crate::model::Seen;
use crate::records::Span;

/// Rounds in flight at a time. While that many are under way, questions gather in the next one.
const ROUNDS: usize = 4;
/// Calls of one round in flight at a time.
const CALLS: usize = 8;
/// Keys that are known to spoil a batch, at most. More than that and the memory starts anew.
const MOST_SUSPECTS: usize = 1_000;

/// Something that can be read many at a time.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// What names one item.
    type Key: Ord + Clone + Send + Sync + 'static;
    /// The answer for one item.
    type Item: Clone + Send + Sync + 'static;

    /// Divides the keys of a round into calls; [`Suspects::divide`] does the cutting.
    fn divide(&self, keys: BTreeSet<Self::Key>, suspects: &Suspects<Self::Key>) -> Vec<Vec<Self::Key>>;

    /// Waits until our budget allows one call.
    async fn turn(&self) -> Result<(), CallError>;

    /// Makes one call, whose [`turn`](Self::turn) has come. A key without an answer counts as unknown.
    async fn describe(&self, keys: &[Self::Key]) -> Result<BTreeMap<Self::Key, Seen<Self::Item>>, CallError>;

    /// What a refusal says of a key that was asked for alone, when it says that the item does not exist.
    fn absence(&self, error: &CallError) -> Option<Self::Item>;
}

/// Whether our budget allows a call.
type Turn = Result<(), CallError>;
type Askers<S> = Vec<oneshot::Sender<Seen<<S as Source>::Item>>>;
type Waiters<S> = BTreeMap<<S as Source>::Key, Askers<S>>;

struct Shared<S: Source> {
    source: S,
    window: Span,
    open: Mutex<Waiters<S>>,
    rounds: Semaphore,
    /// First come, first served, and only its head waits for the budget: the calls of one round neither overtake
    /// nor starve those of another. (An answer's further pages, which are rare, stay out of it.)
    line: Line<()>,
    suspects: Suspects<S::Key>,
}

/// See the module.
pub struct Batcher<S: Source> {
    shared: Arc<Shared<S>>,
}

impl<S: Source> Batcher<S> {
    /// A round stays open for `window` after its first question, and on until its first call has its turn.
    pub fn new(source: S, window: Span) -> Self {
        let shared = Shared {
            source,
            window,
            open: Mutex::new(BTreeMap::new()),
            rounds: Semaphore::new(ROUNDS),
            line: Line::new(()),
            suspects: Suspects(Mutex::new(BTreeSet::new())),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Reads these items; each is in the answer.
    pub async fn ask(&self, keys: BTreeSet<S::Key>) -> BTreeMap<S::Key, Seen<S::Item>> {
        let mut answers = Vec::with_capacity(keys.len());
        {
            let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
            let first = open.is_empty() && !keys.is_empty();
            for key in keys {
                let (sender, receiver) = oneshot::channel();
                open.entry(key.clone()).or_default().push(sender);
                answers.push((key, receiver));
            }
            if first {
                // Detached: whoever asked first may give up without leaving the others waiting.
                tokio::spawn(Arc::clone(&self.shared).round());
            }
        }
        let mut seen = BTreeMap::new();
        for (key, answer) in answers {
            let unanswered = || Seen::Unknown("the read ended without an answer".to_owned());
            seen.insert(key, answer.await.unwrap_or_else(|_| unanswered()));
        }
        seen
    }

    /// Reads one item.
    pub async fn ask_one(&self, key: S::Key) -> Seen<S::Item> {
        let unanswered = || Seen::Unknown("the read ended without an answer".to_owned());
        self.ask(BTreeSet::from([key])).await.into_values().next().unwrap_or_else(unanswered)
    }
}

impl<S: Source> Shared<S> {
    async fn round(self: Arc<Self>) {
        tokio::time::sleep(self.window.std()).await;
        // The semaphore is never closed; without a permit the round would merely go unthrottled.
        let _permit = self.rounds.acquire().await;
        let first = self.turn().await;
        // Only now is it settled who is in this round.
        let mut waiters = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        let calls = self.source.divide(waiters.keys().cloned().collect(), &self.suspects);
        let calls = calls.into_iter().enumerate().map(|(index, keys)| {
            let waiting: Vec<_> =
                keys.iter().filter_map(|key| Some((key.clone(), waiters.remove(key)?))).collect();
            // The turn is the first call's alone; when there was none, waiting on would only delay the others.
            let turn = (index == 0 || first.is_err()).then(|| first.clone());
            (keys, waiting, turn)
        });
        let calls: Vec<_> = calls.collect();
        futures_util::stream::iter(calls)
            .for_each_concurrent(CALLS, |(keys, waiting, turn)| self.call(keys, waiting, turn))
            .await;
    }

    async fn turn(&self) -> Turn {
        let _head = self.line.lock().await;
        self.source.turn().await
    }

    /// One call; its askers are answered as soon as it ends, whatever the rest of the round does.
    async fn call(&self, keys: Vec<S::Key>, waiting: Vec<(S::Key, Askers<S>)>, turn: Option<Turn>) {
        let mut answers = self.read(keys, turn).await;
        for (key, askers) in waiting {
            let answer = answers
                .remove(&key)
                .unwrap_or_else(|| Seen::Unknown("AWS's answer does not mention it".to_owned()));
            for asker in askers {
                // An asker that went away needs no answer.
                drop(asker.send(answer.clone()));
            }
        }
    }

    /// Reads `keys`. When AWS refuses the request as such, one bad key may be to blame: the keys are halved
    /// until it stands alone, so that it never blinds the others. At most `2n − 1` calls. Where all are denied, the
    /// permission is missing, and none is to blame.
    /// `turn` is that of the first call, if it was waited for already.
    async fn read(&self, keys: Vec<S::Key>, mut turn: Option<Turn>) -> BTreeMap<S::Key, Seen<S::Item>> {
        let (mut seen, mut denied, mut any_answered) = (BTreeMap::new(), Vec::new(), false);
        let mut parts = vec![keys];
        while let Some(mut part) = parts.pop() {
            let turn = match turn.take() {
                Some(turn) => turn,
                None => self.turn().await,
            };
            let answers = match turn {
                Ok(()) => self.source.describe(&part).await,
                Err(error) => Err(error),
            };
            match answers {
                Ok(answers) => {
                    any_answered = true;
                    self.suspects.clear(&part);
                    seen.extend(answers);
                }
                Err(error) if part.len() > 1 && error.blames_the_request() => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Err(error) => {
                    let spoils = error.blames_the_request();
                    if spoils && error.is_denied() {
                        denied.extend(part.iter().cloned());
                    } else if spoils {
                        self.suspects.remember(part.clone());
                    }
                    for key in part {
                        let absent = self.source.absence(&error);
                        seen.insert(
                            key,
                            absent.map_or_else(|| Seen::Unknown(error.to_string()), Seen::Known),
                        );
                    }
                }
            }
        }
        if any_answered {
            self.suspects.remember(denied);
        }
        seen
    }
}

/// Keys that made a whole call fail lately. They are asked one by one, so that finding them anew does not cost
/// a bisection in every round.
#[derive(Debug)]
pub struct Suspects<K: Ord>(Mutex<BTreeSet<K>>);

impl<K: Ord + Clone> Suspects<K> {
    /// Calls of at most `most` keys each; suspects have a call of their own.
    pub fn divide(&self, keys: impl IntoIterator<Item = K>, most: usize) -> Vec<Vec<K>> {
        let suspects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (alone, together): (Vec<K>, Vec<K>) = keys.into_iter().partition(|key| suspects.contains(key));
        let together = together.chunks(most.max(1)).map(<[K]>::to_vec);
        together.chain(alone.into_iter().map(|key| vec![key])).collect()
    }

    fn remember(&self, keys: Vec<K>) {
        let mut suspects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if suspects.len() >= MOST_SUSPECTS && !suspects.contains(&key) {
                suspects.clear();
            }
            suspects.insert(key);
        }
    }

    fn clear(&self, keys: &[K]) {
        let mut suspects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            suspects.remove(key);
        }
    }
}
