//! The shipped `Replica`, asked once for each different event.
//!
//! Replicas are kept once, in their normal form, and named by number. This is sound because a replica has no input or
//! output: what it does next and what it makes of an answer depend on what it remembers and on the time alone.

use std::collections::BTreeMap;
use std::rc::Rc;

use hashbrown::HashMap;
use pointsman_core::lease::{Claim, LeaseTiming, Number, Replica, Shard, ShardCount, Step, Written};
use pointsman_core::records::Span;

use super::bugs::Flaw;
use super::normal::{self, NOW};
use super::state::ReplicaId;
use super::table::{Name, SHARDS, Table, Write};
use crate::search::{Broken, BrokenId};

/// In ticks: the smallest times that `LeaseTiming::checked` accepts, apart from their unit, with a renewal of two.
pub const TIMING: LeaseTiming = LeaseTiming {
    ttl: Span::from_millis(6),
    renew: Span::from_millis(2),
    operation: Span::from_millis(1),
    margin: Span::from_millis(1),
};
/// A time to live, in ticks.
pub const TTL: u8 = 6;
/// The longest that something runs under a permit.
pub const OPERATION: u8 = 1;

/// What a replica wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    /// Nothing yet.
    Wait,
    /// To read.
    Look,
    /// To write; several together are the parts of a take.
    Write([Option<Write>; SHARDS]),
}

/// What befalls a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A tick of its clock.
    Tick,
    /// A look came back so many ticks after it was sent; none: it failed.
    Looked(Option<Table>, u8),
    /// A write that was sent so many ticks ago came back; none: nobody knows how.
    Answered { write: Write, ago: u8, answer: Option<bool> },
    /// A take came back.
    Took { writes: [Option<Write>; SHARDS], answers: [Option<bool>; SHARDS] },
    /// Nothing runs under the withdrawn permit of this shard.
    Drained(u8),
    /// Another number for a beat.
    Beat { of: Name, from: u8, to: u8 },
}

/// What is known of a replica, worked out once.
#[derive(Clone, Debug)]
pub struct Known {
    /// What it remembers.
    pub replica: Rc<Replica>,
    /// What it does now.
    pub intent: Intent,
    /// Ticks for which its permits hold.
    pub valid: u8,
    /// The epochs under which it holds each shard; 0: it doesn't.
    pub held: [u8; SHARDS],
    /// In this life.
    pub name: Option<Name>,
    /// There may be an item of it.
    pub is_member: bool,
    /// The count that it goes by.
    pub count: u8,
    /// Beats of others that it remembers.
    pub beats: Vec<(Name, u8)>,
}

/// Answers for the shipped code, and remembers.
pub struct Mind {
    /// A seeded bug.
    pub flaw: Option<Flaw>,
    known: Vec<Known>,
    ids: HashMap<(Rc<Replica>, u8), ReplicaId>,
    memo: HashMap<(ReplicaId, Event), ReplicaId>,
    broken: Vec<Broken>,
    /// Beats by member with their ranks: scratch space of the normal form.
    pub ranks: Vec<(Name, u8, u8)>,
    /// How often each thing was wanted, of the different replicas.
    pub wanted: BTreeMap<&'static str, u64>,
}

impl Mind {
    /// With the shipped code, or with a flaw.
    pub fn new(flaw: Option<Flaw>) -> Self {
        Self {
            flaw,
            known: Vec::new(),
            ids: HashMap::new(),
            memo: HashMap::new(),
            broken: Vec::new(),
            ranks: Vec::new(),
            wanted: BTreeMap::new(),
        }
    }

    /// Whether this is the seeded bug.
    pub fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// A process that starts.
    pub fn begin(&mut self, name: Name, seed: u64, count: u8) -> ReplicaId {
        let margin = if self.has(Flaw::NoMargin) { Span::ZERO } else { TIMING.margin };
        let shards = ShardCount::new(u16::from(count)).unwrap_or(ShardCount::ONE);
        let replica = Replica::new(name.process(), seed, shards, LeaseTiming { margin, ..TIMING });
        self.keep(&replica, count)
    }

    /// By its number.
    pub fn known(&self, id: ReplicaId) -> &Known {
        &self.known[id as usize]
    }

    /// How many different replicas were met, and how many different events befell them.
    pub fn sizes(&self) -> (usize, usize) {
        (self.known.len(), self.memo.len())
    }

    /// Files a broken property.
    pub fn note(&mut self, broken: Option<Broken>) -> Option<BrokenId> {
        let broken = broken?;
        let index = self.broken.iter().position(|known| *known == broken).unwrap_or_else(|| {
            self.broken.push(broken);
            self.broken.len() - 1
        });
        Some(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// By its number.
    pub fn why(&self, id: BrokenId) -> &Broken {
        &self.broken[usize::from(id)]
    }

    /// The replica after an event.
    pub fn after(&mut self, id: ReplicaId, event: Event) -> ReplicaId {
        if let Some(known) = self.memo.get(&(id, event)) {
            return *known;
        }
        let known = self.known(id);
        let (mut replica, count) = (Replica::clone(&known.replica), known.count);
        self.befall(&mut replica, event);
        let after = self.keep(&replica, count);
        self.memo.insert((id, event), after);
        after
    }

    fn befall(&self, replica: &mut Replica, event: Event) {
        match event {
            Event::Tick => *replica = normal::older(replica),
            Event::Looked(None, _) => replica.looked(NOW, None),
            Event::Looked(Some(table), ago) => self.looked(replica, &table, u64::from(ago)),
            Event::Answered { write, ago, answer } => {
                let ago = if self.has(Flaw::CountsFromAnswer) { 0 } else { u64::from(ago) };
                if let Some(step) = write.step() {
                    replica.answered(&step, NOW - ago, NOW, answer.map(written));
                }
            }
            Event::Took { writes, answers } => {
                let lost = self.has(Flaw::BelievesLostTakes).then_some(Written::Done);
                let claims = writes
                    .iter()
                    .zip(answers)
                    .filter_map(|(write, answer)| Some(((*write)?.claim()?, answer.map(written).or(lost))));
                let answers: Vec<(Claim, Option<Written>)> = claims.collect();
                replica.took(NOW, &answers);
            }
            Event::Drained(shard) => replica.drained(Shard(u16::from(shard))),
            Event::Beat { of, from, to } => {
                let of = of.full();
                *replica = replica.renumbered(|number, value| match number {
                    Number::BeatOf(name) if name == of && value == u64::from(from) => u64::from(to),
                    _ => value,
                });
            }
        }
    }

    fn looked(&self, replica: &mut Replica, table: &Table, ago: u64) {
        let mut look = table.look();
        if self.has(Flaw::SeesOneCount) {
            let mine = look.members.get(&replica.member()).map(|member| member.shards);
            look.members.retain(|_, member| mine.is_none_or(|mine| member.shards == mine));
            look.layout.shards = mine.or(look.layout.shards);
        }
        let (renew, ttl) = (TIMING.renew.millis(), TIMING.ttl.millis());
        *replica = replica.renumbered(|number, value| match number {
            // What stood still for a renewal is taken for dead.
            Number::Stood if self.has(Flaw::BuriesEarly) && value >= renew => ttl,
            Number::Stood if self.has(Flaw::NeverBuries) => 0,
            _ => value,
        });
        replica.looked(NOW, Some(&look));
        if self.has(Flaw::CountsFromLook) {
            *replica = replica.renumbered(|number, value| match number {
                Number::ReadAt => value - ago,
                _ => value,
            });
        }
        if self.has(Flaw::BelievesNames) && replica.valid_until_ms() > NOW {
            let me = replica.member();
            let mine = look.shards.iter().filter(|(_, owner)| owner.holder.as_ref() == Some(&me));
            let claims = mine.filter(|(shard, _)| !replica.held().contains_key(&Shard(**shard)));
            let named = claims.map(|(shard, owner)| {
                let claim = Claim { shard: Shard(*shard), seen: None, epoch: owner.epoch };
                (claim, Some(Written::Done))
            });
            let named: Vec<_> = named.collect();
            if !named.is_empty() {
                replica.took(NOW, &named);
            }
        }
    }

    fn keep(&mut self, replica: &Replica, count: u8) -> ReplicaId {
        let kept = Rc::new(normal::normal(replica, TIMING));
        let key = (kept, count);
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let known = Known::of(&key.0, count);
        *self.wanted.entry(known.intent.name()).or_default() += 1;
        self.known.push(known);
        self.ids.insert(key, id);
        id
    }
}

const fn written(held: bool) -> Written {
    if held { Written::Done } else { Written::Refused }
}

impl Intent {
    fn of(step: &Step, count: u8) -> Self {
        match step {
            Step::Wait { .. } => Self::Wait,
            Step::Look => Self::Look,
            Step::Take { member, claims } => {
                let mut writes = [None; SHARDS];
                for (slot, claim) in writes.iter_mut().zip(claims) {
                    *slot = Write::of_claim(member, claim);
                }
                Self::Write(writes)
            }
            other => {
                let mut writes = [None; SHARDS];
                writes[0] = Write::of(other, count);
                Self::Write(writes)
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Look => "look",
            Self::Write([Some(write), ..]) => match write {
                Write::Found { .. } => "found",
                Write::Join { .. } => "join",
                Write::Beat { .. } => "beat",
                Write::Bury { .. } => "bury",
                Write::Take { .. } => "take",
                Write::Free { .. } => "free",
                Write::Retire { .. } => "retire",
            },
            Self::Write(_) => "nothing",
        }
    }
}

impl Known {
    fn of(replica: &Rc<Replica>, count: u8) -> Self {
        let small = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
        let mut held = [0; SHARDS];
        for (slot, shard) in held.iter_mut().zip(0..) {
            *slot = replica.held().get(&Shard(shard)).copied().map_or(0, small);
        }
        let mut beats = Vec::new();
        let _ = replica.renumbered(|number, value| {
            if let Number::BeatOf(name) = number {
                beats.extend(Name::parse(name).map(|name| (name, small(value))));
            }
            value
        });
        Self {
            replica: Rc::clone(replica),
            intent: Intent::of(&replica.next(NOW), count),
            valid: small(replica.valid_until_ms().saturating_sub(NOW)),
            held,
            name: Name::parse(&replica.member()),
            is_member: replica.is_member(),
            count,
            beats,
        }
    }
}
