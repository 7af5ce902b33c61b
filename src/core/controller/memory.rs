//! What the process remembers of a service between runs. Losing it is harmless: the next run reads the table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::persist;
use super::tell::Announced;
use super::trouble::Blocked;
use super::workqueue::Lane;
use crate::decide::emergency::{self, Emergency};
use crate::model::{Facts, Need};
use crate::ports::{HistoryItem, Remembered, Wishes};
use crate::records::{ReleaseStatus, Span};

/// One service's share.
#[derive(Debug, Default)]
pub struct Slot {
    pub(super) memory: Option<Box<Memory>>,
    /// The facts that were durable last, while they hold a way back that may be needed without a lease.
    pub(super) known: Option<Facts>,
    /// What people wrote, as read last, while a release is in flight: what burns goes back also while it can't be read.
    pub(super) wishes: Option<Wishes>,
    /// What was done without a lease and is not recorded yet.
    pub(super) emergency: Emergency,
    /// A resource that a claim was refused for, and whose it is; told to the next decision.
    pub(super) claim_denied: Option<(String, String)>,
    /// What was said last.
    pub(super) announced: Announced,
    /// Why it waits, in one word.
    pub(super) waiting: Option<&'static str>,
    /// What people see.
    pub(super) shown: Option<Arc<ReleaseStatus>>,
    /// Labels of its `ManagedService`.
    pub(super) labels: Arc<BTreeMap<String, String>>,
    /// What ended while this process held the lease, newest first.
    pub(super) history: Arc<Vec<HistoryItem>>,
    /// Its lane.
    pub(super) lane: Option<Lane>,
    /// Failed runs in a row since anything that was decided was written.
    pub(super) failures: u32,
    /// Since when a table does not do what is needed.
    pub(super) blocked: Blocked,
    /// Panicking runs in a row, and what the last one said.
    pub(super) panics: u32,
    pub(super) panic_detail: String,
    /// When it was observed last, monotonic.
    pub(super) observed_ms: Option<u64>,
}

impl Slot {
    /// Forgets what was read; the next run reads it again.
    pub(super) fn forget(&mut self) {
        self.memory = None;
    }

    /// Has the next run see whether the table still stands where the memory began.
    pub(super) fn doubt(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.doubtful = true;
        }
    }

    /// What a run wanted to see and did not come to: the next one looks at it at once.
    pub(super) fn still_needs(&mut self, needs: BTreeSet<Need>) {
        if let Some(memory) = &mut self.memory {
            memory.needs.extend(needs);
        }
    }

    /// A release is in flight, as far as is known, be it by what was durable before the memory was given up.
    pub(super) fn in_flight(&self) -> bool {
        let facts = self.memory.as_ref().map(|memory| &memory.facts).or(self.known.as_ref());
        facts.is_some_and(|facts| facts.release.is_some())
    }

    /// Keeps the facts that a way back without a lease would go by.
    pub(super) fn know(&mut self, facts: &Facts) {
        self.known = emergency::to_observe(facts).is_some().then(|| facts.clone());
    }

    /// Puts ended releases before those shown.
    pub(super) fn show_ended(&mut self, ended: Vec<HistoryItem>) {
        if ended.is_empty() {
            return;
        }
        let history = Arc::make_mut(&mut self.history);
        for item in ended {
            history.insert(0, item);
        }
        history.truncate(super::HISTORY_SHOWN);
    }

    /// Labels as written; those of a record that cannot be read do no harm.
    pub(super) fn show_labels(&mut self, service: Option<&serde_json::Value>) {
        let written = service.and_then(|item| item.pointer("/metadata/labels")).and_then(|it| it.as_object());
        let pairs = written.into_iter().flatten();
        let labels: BTreeMap<String, String> = pairs
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .take(crate::records::check::MAX_ANNOTATIONS)
            .collect();
        if labels != *self.labels {
            self.labels = Arc::new(labels);
        }
    }

    /// A slot for the run after one that panicked outside the pure part.
    pub(super) fn after_panic(panics: u32, detail: String) -> Self {
        Self { panics, panic_detail: detail, ..Self::default() }
    }
}

/// The state as this process knows it: the durable one, and what is so whether or not it was written since: time
/// that was watched, and the answer of an effect. What was decided and could not be written is not in it.
#[derive(Debug)]
pub(super) struct Memory {
    /// Of the durable state.
    pub(super) rev: u64,
    /// Ahead of the durable ones by clocks, and by an answer while `answered`.
    pub(super) facts: Facts,
    /// As said last; differs from the durable one by timestamps only.
    pub(super) status: Option<ReleaseStatus>,
    /// When the last pass looked, monotonic.
    pub(super) last_pass_ms: Option<u64>,
    /// When it was written last, monotonic.
    pub(super) last_write_ms: u64,
    /// Clocks have run since.
    pub(super) unsaved: bool,
    /// An effect was answered, and the write that says so failed: who reads the table must take the outcome for
    /// unknown, so it is written with the next pass.
    pub(super) answered: bool,
    /// A write failed, and may have been done or may yet be: it is good only if the table still stands at `rev`.
    pub(super) doubtful: bool,
    /// What the last wait, or a run that failed, wants to see.
    pub(super) needs: BTreeSet<Need>,
}

impl Memory {
    /// Nothing yet.
    pub(super) fn of_a_new_service() -> Self {
        Self::of(0, Facts::default(), None, 0)
    }

    /// As read from the table at `now_ms`.
    pub(super) fn recalled(remembered: Remembered, now_ms: u64) -> Self {
        Self::of(remembered.rev, remembered.facts, remembered.status, now_ms)
    }

    fn of(rev: u64, facts: Facts, status: Option<ReleaseStatus>, last_write_ms: u64) -> Self {
        let (last_pass_ms, needs) = (None, BTreeSet::new());
        let (unsaved, answered, doubtful) = (false, false, false);
        Self { rev, facts, status, last_pass_ms, last_write_ms, unsaved, answered, doubtful, needs }
    }

    /// A look that began then is followed by nothing: what was seen is forgotten, and the time before it with it.
    pub(super) const fn forgets_a_look(&mut self, began_ms: u64) {
        self.last_pass_ms = Some(began_ms);
    }

    /// Of a decision that is not carried out: what it was stopped for may stay so, and its deadlines must end it.
    pub(super) fn keeps_time_of(&mut self, decided: &Facts) {
        self.facts.keep_time_of(decided);
        self.unsaved = true;
    }

    /// Takes over what time alone has changed.
    pub(super) fn goes_on(&mut self, facts: &Facts) {
        self.unsaved |= *facts != self.facts;
        self.facts.clone_from(facts);
    }

    /// Whether clocks have run unwritten for long enough.
    pub(super) fn checkpoint_due(&self, now_ms: u64, poll: Span) -> bool {
        let since_ms = now_ms.saturating_sub(self.last_write_ms);
        self.unsaved && persist::checkpoint(&self.facts, poll).is_some_and(|every| since_ms >= every.millis())
    }

    /// Whether these facts say more than that time has passed.
    pub(super) fn is_changed_by(&self, facts: &Facts) -> bool {
        self.facts.without_clocks() != facts.without_clocks()
    }

    /// Whether this status says more than that time has passed.
    pub(super) fn is_told_otherwise_by(&self, status: &ReleaseStatus) -> bool {
        persist::differs(self.status.as_ref(), status)
    }
}
