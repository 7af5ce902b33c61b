//! The lease's decisions, without input or output: what to do next, and what an answer means.

use super::LeaseTiming;

/// The lease item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseItem {
    /// Grows with every owner.
    pub epoch: u64,
    /// Grows with every renewal.
    pub beat: u64,
    /// Who.
    pub holder: String,
    /// Given up by its owner: free to take at once.
    pub released: bool,
}

/// What became of a renewal or a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Done: the lease was still ours.
    Done,
    /// It is somebody else's.
    Lost,
}

/// What became of a take or a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Ours, under this new epoch.
    Epoch(u64),
    /// Still ours.
    Renewed,
    /// Somebody else's.
    Lost,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for so many milliseconds.
    Wait {
        /// At least 1.
        ms: u64,
    },
    /// Look at the item.
    Read,
    /// Take the lease, if the item is still this one.
    Take {
        /// As last read; none: there is no item yet.
        seen: Option<LeaseItem>,
    },
    /// Renew it, if it is still ours.
    Renew {
        /// Our epoch.
        epoch: u64,
    },
}

/// One process's view of the lease.
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    holder: String,
    ttl_ms: u64,
    renew_ms: u64,
    margin_ms: u64,
    state: State,
    /// When the next step is due; 0: at once.
    due_ms: u64,
    troubled: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// Somebody else's, or nobody's.
    Watching { seen: Seen, watched_ms: u64, read_at_ms: u64 },
    /// To be taken: the item is released, missing, or has stood still.
    Taking { seen: Option<LeaseItem> },
    /// Ours: this epoch, until then.
    Holding { epoch: u64, valid_until_ms: u64 },
}

#[derive(Clone, Debug)]
enum Seen {
    Nothing,
    Item(LeaseItem),
}

impl LeaseWatch {
    /// Watches from nothing; the first step is a read.
    pub fn new(holder: String, timing: LeaseTiming) -> Self {
        Self {
            holder,
            ttl_ms: timing.ttl.millis(),
            renew_ms: timing.renew.millis(),
            margin_ms: timing.margin.millis(),
            state: State::watching(),
            due_ms: 0,
            troubled: false,
        }
    }

    /// What to do at `now_ms`.
    pub fn next(&self, now_ms: u64) -> Step {
        if now_ms < self.due_ms {
            return Step::Wait { ms: self.due_ms - now_ms };
        }
        match &self.state {
            State::Watching { .. } => Step::Read,
            State::Taking { seen } => Step::Take { seen: seen.clone() },
            State::Holding { epoch, .. } => Step::Renew { epoch: *epoch },
        }
    }

    /// A read came back at `now_ms`.
    ///
    /// The same beat counts for the time since the read before, at most twice the interval: a clock that
    /// jumps can't make one read into a whole time to live.
    pub fn read(&mut self, now_ms: u64, item: Option<LeaseItem>) {
        self.troubled = false;
        self.due_ms = now_ms.saturating_add(self.renew_ms);
        let Some(item) = item else { return self.take(None) };
        if item.released {
            return self.take(Some(item));
        }
        if item.holder == self.holder {
            // A take whose answer was lost has landed. Renewing proves it and starts the clock.
            self.state = State::Holding { epoch: item.epoch, valid_until_ms: 0 };
            self.due_ms = 0;
            return;
        }
        let State::Watching { seen, watched_ms, read_at_ms } = &mut self.state else {
            self.state = State::Watching { seen: Seen::Item(item), watched_ms: 0, read_at_ms: now_ms };
            return;
        };
        match seen {
            Seen::Item(before) if before.epoch == item.epoch && before.beat == item.beat => {
                *watched_ms += now_ms.saturating_sub(*read_at_ms).min(2 * self.renew_ms);
            }
            _ => *watched_ms = 0,
        }
        *read_at_ms = now_ms;
        let stood_still = *watched_ms >= self.ttl_ms;
        *seen = Seen::Item(item.clone());
        if stood_still {
            self.take(Some(item));
        }
    }

    fn take(&mut self, seen: Option<LeaseItem>) {
        self.state = State::Taking { seen };
        self.due_ms = 0;
    }

    /// A take or a renewal that was sent at `sent_ms` came back at `now_ms`; `None`: nobody knows how.
    ///
    /// The time to live counts from when the call was *sent*: the item changed no earlier than that.
    pub fn answered(&mut self, sent_ms: u64, now_ms: u64, answer: Option<impl Into<Taken>>) {
        let Some(answer) = answer else { return self.failed(now_ms) };
        self.troubled = false;
        self.due_ms = sent_ms.saturating_add(self.renew_ms);
        let until = sent_ms.saturating_add(self.ttl_ms).saturating_sub(self.margin_ms);
        match (answer.into(), &mut self.state) {
            (Taken::Epoch(epoch), _) => self.state = State::Holding { epoch, valid_until_ms: until },
            (Taken::Renewed, State::Holding { valid_until_ms, .. }) => *valid_until_ms = until,
            (Taken::Renewed, _) => {}
            (Taken::Lost, _) => {
                self.state = State::watching();
                self.due_ms = now_ms;
            }
        }
    }

    /// A call failed without an answer. A holder goes on renewing, which proves itself; a taker looks again,
    /// since its take may have landed; a watcher has seen nothing and counts nothing.
    pub fn failed(&mut self, now_ms: u64) {
        self.troubled = true;
        self.due_ms = now_ms.saturating_add(self.renew_ms / 2);
        if matches!(self.state, State::Taking { .. }) {
            self.state = State::watching();
        }
    }

    /// Epoch and end of the permit, while it is held at `now_ms`.
    pub fn held(&self, now_ms: u64) -> Option<(u64, u64)> {
        match self.state {
            State::Holding { epoch, valid_until_ms } if now_ms < valid_until_ms => {
                Some((epoch, valid_until_ms))
            }
            _ => None,
        }
    }

    /// Our epoch, as far as we know, valid or not.
    pub fn epoch(&self) -> Option<u64> {
        match self.state {
            State::Holding { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    /// Whether the last call failed.
    pub const fn is_troubled(&self) -> bool {
        self.troubled
    }
}

impl State {
    const fn watching() -> Self {
        Self::Watching { seen: Seen::Nothing, watched_ms: 0, read_at_ms: 0 }
    }
}

impl From<Renewal> for Taken {
    fn from(renewal: Renewal) -> Self {
        match renewal {
            Renewal::Done => Self::Renewed,
            Renewal::Lost => Self::Lost,
        }
    }
}
