//! One replica's decisions, without input or output: what to do next, and what an answer means.

mod numbers;

use std::collections::{BTreeMap, VecDeque};

pub use numbers::Number;

use super::{Claim, LeaseTiming, Look, MOVES, Shard, ShardCount, Step, Written};

/// One replica's view of the table. The module's page says why it is safe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    name: String,
    seed: u64,
    count: ShardCount,
    ttl_ms: u64,
    renew_ms: u64,
    margin_ms: u64,
    operation_ms: u64,
    /// Lives before this one.
    lives: u32,
    life: Life,
    beat_due_ms: u64,
    look_due_ms: u64,
    looks: u64,
    others: BTreeMap<String, Other>,
    /// Taken by us, acknowledged, under these epochs.
    held: BTreeMap<Shard, u64>,
    leaving: BTreeMap<Shard, Leaving>,
    todo: VecDeque<Step>,
    misfit: Option<u16>,
    troubled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    /// No member.
    Outside,
    /// The item is there; no beat was acknowledged yet.
    Joined,
    /// So many beats were acknowledged.
    Alive { beats: u64, valid_until_ms: u64, admitted: bool },
}

/// Another member, as watched on our own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Other {
    beat: u64,
    stood_ms: u64,
    read_at_ms: u64,
    /// Seen to beat.
    moved: bool,
}

/// A shard that is being given up: its permit is withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Leaving {
    epoch: u64,
    /// When whatever began under it has had its time.
    free_at_ms: u64,
}

impl Replica {
    /// `name` must be unique to this process, also across restarts. `seed` spreads the replicas: the order in which
    /// shards are taken and the moments of looks come from it.
    pub fn new(name: String, seed: u64, count: ShardCount, timing: LeaseTiming) -> Self {
        Self {
            name,
            seed,
            count,
            ttl_ms: timing.ttl.millis(),
            renew_ms: timing.renew.millis(),
            margin_ms: timing.margin.millis(),
            operation_ms: timing.operation.millis(),
            lives: 0,
            life: Life::Outside,
            beat_due_ms: 0,
            look_due_ms: 0,
            looks: 0,
            others: BTreeMap::new(),
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            todo: VecDeque::new(),
            misfit: None,
            troubled: false,
        }
    }

    /// What to do at `now_ms`. The answer goes to [`Self::looked`], [`Self::took`] or [`Self::answered`] before
    /// the next question.
    pub fn next(&self, now_ms: u64) -> Step {
        let beats = match self.life {
            Life::Outside => None,
            Life::Joined => Some(0),
            Life::Alive { beats, .. } => Some(beats),
        };
        if let Some(beats) = beats
            && now_ms >= self.beat_due_ms
        {
            return Step::Beat { member: self.member(), floor: beats.saturating_add(1) };
        }
        let drained = self.leaving.iter().find(|(_, leaving)| leaving.free_at_ms <= now_ms);
        if let Some((shard, leaving)) = drained {
            return Step::Free { member: self.member(), shard: *shard, epoch: leaving.epoch };
        }
        if let Some(step) = self.todo.front() {
            return step.clone();
        }
        if now_ms >= self.look_due_ms {
            return Step::Look;
        }
        let drains = self.leaving.values().map(|leaving| leaving.free_at_ms);
        let dues = beats.map(|_| self.beat_due_ms).into_iter().chain([self.look_due_ms]).chain(drains);
        Step::Wait { ms: dues.min().unwrap_or(now_ms).saturating_sub(now_ms).max(1) }
    }

    /// A look came back at `now_ms`; none: it failed, has shown nothing and counts nothing.
    pub fn looked(&mut self, now_ms: u64, look: Option<&Look>) {
        let Some(look) = look else { return self.failed(now_ms) };
        self.troubled = false;
        self.looks = self.looks.wrapping_add(1);
        let jitter = mix(self.seed, self.looks) % (self.renew_ms / 8).max(1);
        self.look_due_ms = now_ms.saturating_add(self.renew_ms - jitter);
        self.todo.clear();
        self.watch(now_ms, look);
        let stood_still: Vec<Step> = self
            .others
            .iter()
            .filter(|(_, other)| other.stood_ms >= self.ttl_ms)
            .map(|(member, other)| Step::Bury { member: member.clone(), beat: other.beat })
            .collect();
        if !stood_still.is_empty() {
            self.todo.extend(stood_still);
            self.look_due_ms = now_ms;
            return;
        }
        let mine = self.count.get();
        let others_fit = look.members.values().all(|member| member.shards == mine);
        match self.life {
            Life::Outside => self.come_in(look, others_fit),
            Life::Joined => {}
            Life::Alive { .. } if !look.members.contains_key(&self.member()) => self.beat_due_ms = now_ms,
            Life::Alive { .. } if look.layout.shards != Some(mine) => {
                self.misfit = look.layout.shards;
                // What still runs under our shards ends first.
                self.give_up(usize::MAX, now_ms);
                if self.leaving.is_empty() {
                    self.todo.push_back(Step::Retire { member: self.member() });
                }
            }
            Life::Alive { ref mut admitted, .. } => {
                *admitted |= others_fit;
                if *admitted {
                    self.balance(now_ms, look);
                }
            }
        }
    }

    /// The same beat counts for the time since the look before, at most twice the interval: a clock that jumps
    /// can't make one look into a whole time to live.
    fn watch(&mut self, now_ms: u64, look: &Look) {
        let me = self.member();
        let before = std::mem::take(&mut self.others);
        let most_ms = self.renew_ms.saturating_mul(2);
        for (name, member) in look.members.iter().filter(|(name, _)| **name != me) {
            let seen = before.get(name);
            let still = seen.filter(|seen| seen.beat == member.beat);
            let since = |seen: &Other| now_ms.saturating_sub(seen.read_at_ms).min(most_ms);
            let other = Other {
                beat: member.beat,
                stood_ms: still.map_or(0, |seen| seen.stood_ms.saturating_add(since(seen))),
                read_at_ms: now_ms,
                moved: seen.is_some_and(|seen| seen.moved || seen.beat != member.beat),
            };
            self.others.insert(name.clone(), other);
        }
        // What we took changes by us alone; should somebody have tampered with it, it is not ours.
        self.held.retain(|shard, epoch| {
            let owner = look.shards.get(&shard.0);
            owner.is_some_and(|owner| owner.epoch == *epoch && owner.holder.as_ref() == Some(&me))
        });
    }

    fn come_in(&mut self, look: &Look, others_fit: bool) {
        if look.layout.shards == Some(self.count.get()) {
            self.misfit = None;
            self.todo.push_back(Step::Join { member: self.member() });
        } else if others_fit {
            self.misfit = None;
            self.todo.push_back(Step::Found { seen: look.layout.shards });
        } else {
            self.misfit =
                look.layout.shards.or_else(|| look.members.values().map(|member| member.shards).next());
        }
    }

    fn balance(&mut self, now_ms: u64, look: &Look) {
        let me = self.member();
        let unowned = |shard: Shard| {
            let holder = look.shards.get(&shard.0).and_then(|owner| owner.holder.as_ref());
            holder.is_none_or(|holder| *holder == me || !look.members.contains_key(holder))
        };
        let mut free: Vec<Shard> = self
            .count
            .all()
            .filter(|shard| !self.held.contains_key(shard) && !self.leaving.contains_key(shard))
            .filter(|shard| unowned(*shard))
            .collect();
        let named_us = |shard: Shard| {
            look.shards.get(&shard.0).is_some_and(|owner| owner.holder.as_deref() == Some(me.as_str()))
        };
        free.sort_by_key(|shard| (!named_us(*shard), mix(self.seed, u64::from(shard.0))));
        let want = self.share(|_| true).saturating_sub(self.held.len());
        let epoch = look.shards.values().map(|owner| owner.epoch).fold(look.layout.epoch, u64::max) + 1;
        let claims: Vec<Claim> = free
            .iter()
            .take(want.min(MOVES))
            .map(|shard| Claim {
                shard: *shard,
                seen: look.shards.get(&shard.0).map(|owner| owner.epoch),
                epoch,
            })
            .collect();
        // What names us without being ours, and is more than our share, others wait for.
        for shard in free.iter().skip(want).filter(|shard| named_us(**shard)) {
            let epoch = look.shards.get(&shard.0).map_or(0, |owner| owner.epoch);
            self.todo.push_back(Step::Free { member: me.clone(), shard: *shard, epoch });
        }
        if !claims.is_empty() {
            self.todo.push_back(Step::Take { member: me, claims });
            self.look_due_ms = now_ms.saturating_add(self.renew_ms / 8);
        } else if free.is_empty() && self.leaving.is_empty() {
            let more = self.held.len().saturating_sub(self.share(|other| other.moved));
            self.give_up(more.min(MOVES), now_ms);
        }
    }

    fn give_up(&mut self, most: usize, now_ms: u64) {
        let mut shards: Vec<Shard> = self.held.keys().copied().collect();
        shards.sort_by_key(|shard| mix(self.seed, u64::from(shard.0)));
        for shard in shards.into_iter().rev().take(most) {
            if let Some(epoch) = self.held.remove(&shard) {
                let free_at_ms = now_ms.saturating_add(self.operation_ms);
                self.leaving.insert(shard, Leaving { epoch, free_at_ms });
            }
        }
    }

    /// The shards of one replica, when all that were seen to beat lately, and pass `counts`, have equally many.
    fn share(&self, counts: impl Fn(&Other) -> bool) -> usize {
        let lately = self.renew_ms.saturating_mul(2);
        let others = self.others.values().filter(|other| other.stood_ms <= lately && counts(other)).count();
        usize::from(self.count.get()).div_ceil(1 + others)
    }

    /// Takes that were sent came back; none: nobody knows how. Only what is acknowledged is ours.
    pub fn took(&mut self, now_ms: u64, answers: &[(Claim, Option<Written>)]) {
        self.todo.pop_front();
        for (claim, answer) in answers {
            match answer {
                Some(Written::Done) => drop(self.held.insert(claim.shard, claim.epoch)),
                Some(Written::Refused) => {}
                None => self.failed(now_ms),
            }
        }
    }

    /// A write that was sent at `sent_ms` came back at `now_ms`; none: nobody knows how.
    ///
    /// The time to live counts from when a beat was *sent*: the item changed no earlier than that.
    pub fn answered(&mut self, step: &Step, sent_ms: u64, now_ms: u64, answer: Option<Written>) {
        if self.todo.front() == Some(step) {
            self.todo.pop_front();
        }
        match (step, answer) {
            (Step::Beat { .. }, Some(Written::Done)) => self.has_beaten(sent_ms, now_ms),
            (Step::Beat { .. }, Some(Written::Refused)) | (Step::Retire { .. }, _) => self.die(now_ms),
            (Step::Beat { .. }, None) => {
                self.troubled = true;
                self.beat_due_ms = now_ms.saturating_add(self.renew_ms / 4);
            }
            (Step::Join { .. }, Some(Written::Done)) => {
                self.life = Life::Joined;
                self.beat_due_ms = now_ms;
            }
            // A name joins once: a join that may still be on its way could bring it back when it was buried.
            (Step::Join { .. }, _) => {
                self.die(now_ms);
                self.failed(now_ms);
            }
            (Step::Free { shard, .. }, _) => {
                self.leaving.remove(shard);
                if answer.is_none() {
                    self.failed(now_ms);
                }
            }
            (_, Some(_)) => self.look_due_ms = now_ms,
            (_, None) => self.failed(now_ms),
        }
        if answer.is_some() {
            self.troubled = false;
        }
    }

    fn has_beaten(&mut self, sent_ms: u64, now_ms: u64) {
        let until_ms = sent_ms.saturating_add(self.ttl_ms).saturating_sub(self.margin_ms);
        self.beat_due_ms = sent_ms.saturating_add(self.renew_ms);
        match &mut self.life {
            Life::Alive { beats, valid_until_ms, .. } => {
                *beats = beats.saturating_add(1);
                *valid_until_ms = until_ms;
            }
            Life::Outside | Life::Joined => {
                self.life = Life::Alive { beats: 1, valid_until_ms: until_ms, admitted: false };
                self.look_due_ms = now_ms;
            }
        }
    }

    /// We were buried, or left. Whatever we had is others'; we come back under another name.
    fn die(&mut self, now_ms: u64) {
        self.lives = self.lives.saturating_add(1);
        self.life = Life::Outside;
        self.held.clear();
        self.leaving.clear();
        self.todo.clear();
        self.look_due_ms = if self.misfit.is_some() { now_ms.saturating_add(self.renew_ms) } else { now_ms };
    }

    fn failed(&mut self, now_ms: u64) {
        self.troubled = true;
        self.todo.clear();
        self.look_due_ms = now_ms.saturating_add(self.renew_ms / 2);
    }

    /// Every run under a shard that is being given up has ended: it need not wait any longer.
    pub fn drained(&mut self, shard: Shard) {
        if let Some(leaving) = self.leaving.get_mut(&shard) {
            leaving.free_at_ms = 0;
        }
    }

    /// Our name in this life.
    pub fn member(&self) -> String {
        format!("{}/{}", self.name, self.lives)
    }

    /// Whether there may be a member item of ours.
    pub fn is_member(&self) -> bool {
        self.life != Life::Outside
    }

    /// What we own, by epoch. It may be written for only until [`Self::valid_until_ms`].
    pub const fn held(&self) -> &BTreeMap<Shard, u64> {
        &self.held
    }

    /// Until when permits hold; 0: they don't.
    pub const fn valid_until_ms(&self) -> u64 {
        match self.life {
            Life::Alive { valid_until_ms, .. } => valid_until_ms,
            Life::Outside | Life::Joined => 0,
        }
    }

    /// Why we stay out: others go by this count, and live.
    pub const fn misfit(&self) -> Option<u16> {
        self.misfit
    }

    /// Whether the last call failed.
    pub const fn is_troubled(&self) -> bool {
        self.troubled
    }
}

/// Spreads numbers: the finaliser of `SplitMix64`.
const fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
