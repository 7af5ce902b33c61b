//! The lease's items, in small integers: what `store::lease` keeps in `DynamoDB`, with the same conditions.
//!
//! A write is atomic, and a read shows one moment; that their answers come late or never is the model's matter
//! (`steps`).

use std::collections::BTreeMap;

use pointsman_core::lease::{Claim, Layout, Look, Member, Owner, Shard, Step};

use super::bugs::Flaw;

/// Shards that a layout of the model can have.
pub const SHARDS: usize = 2;
/// Lives that can be in the table at a time.
pub const MEMBERS: usize = 8;

/// One life of one process: its place, its start, its life in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(u8);

impl Name {
    /// The first life of the process that was started at this place for the `start`-th time.
    pub const fn new(place: u8, start: u8) -> Self {
        Self(place << 6 | start << 4)
    }

    /// As `Replica` calls the process, without the life.
    pub fn process(self) -> String {
        format!("{}.{}", self.0 >> 6, self.0 >> 4 & 3)
    }

    /// As `Replica` calls this life.
    pub fn full(self) -> String {
        format!("{}/{}", self.process(), self.0 & 15)
    }

    /// From [`Self::full`].
    pub fn parse(full: &str) -> Option<Self> {
        let (process, life) = full.split_once('/')?;
        let (place, start) = process.split_once('.')?;
        let life: u8 = life.parse().ok().filter(|life| *life < 16)?;
        Some(Self(Self::new(place.parse().ok()?, start.parse().ok()?).0 | life))
    }
}

/// A member item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberItem {
    /// Its key.
    pub name: Name,
    /// As written.
    pub beat: u8,
    /// The count that it goes by.
    pub count: u8,
}

/// A shard's item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardItem {
    /// As written.
    pub epoch: u8,
    /// As written.
    pub holder: Option<Name>,
}

/// Every item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Table {
    /// The layout's count.
    pub layout: Option<u8>,
    /// Sorted by name, the empty places last.
    pub members: [Option<MemberItem>; MEMBERS],
    /// By number.
    pub shards: [Option<ShardItem>; SHARDS],
}

/// One conditional write of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Write {
    /// The layout's count.
    Found { seen: Option<u8>, count: u8 },
    /// A member, if it is not there.
    Join { name: Name, count: u8 },
    /// Its beat.
    Beat { name: Name, floor: u8 },
    /// Its removal, if its beat is still this.
    Bury { name: Name, beat: u8 },
    /// A shard's new holder.
    Take { name: Name, shard: u8, seen: Option<u8>, epoch: u8 },
    /// A shard without a holder.
    Free { name: Name, shard: u8, epoch: u8 },
    /// Its removal.
    Retire { name: Name },
}

impl Table {
    /// A member by name.
    pub fn member(&self, name: Name) -> Option<&MemberItem> {
        self.members.iter().flatten().find(|item| item.name == name)
    }

    fn member_mut(&mut self, name: Name) -> Option<&mut MemberItem> {
        self.members.iter_mut().flatten().find(|item| item.name == name)
    }

    fn remove(&mut self, name: Name) {
        for slot in &mut self.members {
            *slot = slot.filter(|item| item.name != name);
        }
        self.sort();
    }

    fn add(&mut self, item: MemberItem) {
        if let Some(free) = self.members.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(item);
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.members.sort_unstable_by_key(|slot| slot.map_or(u8::MAX, |item| item.name.0));
    }

    /// Whether there is no room for another life: the model is too small then.
    pub fn is_full(&self) -> bool {
        self.members.iter().all(Option::is_some)
    }

    /// Carries out a write: whether its condition held.
    pub fn write(&mut self, write: Write, flaw: Option<Flaw>) -> bool {
        match write {
            Write::Found { seen, count } => {
                let fits = self.layout == seen;
                if fits {
                    self.layout = Some(count);
                }
                fits
            }
            Write::Join { .. } if flaw == Some(Flaw::NobodyJoins) => true,
            Write::Join { name, count } => {
                let absent = self.member(name).is_none();
                if absent {
                    self.add(MemberItem { name, beat: 1, count });
                }
                absent
            }
            Write::Beat { name, floor } => self.beat(name, floor, flaw),
            Write::Bury { name, beat } => {
                let fits = self
                    .member(name)
                    .is_some_and(|item| item.beat == beat || flaw == Some(Flaw::BuriesBlindly));
                if fits {
                    self.remove(name);
                }
                fits
            }
            Write::Take { name, shard, seen, epoch } => {
                let item = &mut self.shards[usize::from(shard)];
                let fits = item.map(|item| item.epoch) == seen || flaw == Some(Flaw::TakesBlindly);
                if fits {
                    let epoch = if flaw == Some(Flaw::SameEpoch) { seen.unwrap_or(epoch) } else { epoch };
                    *item = Some(ShardItem { epoch, holder: Some(name) });
                }
                fits
            }
            Write::Free { name, shard, epoch } => {
                let item = self.shards[usize::from(shard)].as_mut();
                let ours = item.filter(|item| item.epoch == epoch && item.holder == Some(name));
                ours.map(|item| item.holder = None).is_some()
            }
            Write::Retire { name } => {
                let there = self.member(name).is_some();
                self.remove(name);
                there
            }
        }
    }

    fn beat(&mut self, name: Name, floor: u8, flaw: Option<Flaw>) -> bool {
        if flaw == Some(Flaw::NobodyJoins) {
            return true;
        }
        if flaw == Some(Flaw::BeatRevives) && self.member(name).is_none() {
            let count = self.layout.unwrap_or(1);
            self.add(MemberItem { name, beat: floor, count });
        }
        let item = self.member_mut(name).filter(|item| item.beat >= floor);
        item.map(|item| item.beat = item.beat.saturating_add(1)).is_some()
    }

    /// As a look shows it.
    pub fn look(&self) -> Look {
        let members = self.members.iter().flatten().map(|item| {
            let member = Member { beat: u64::from(item.beat), shards: u16::from(item.count) };
            (item.name.full(), member)
        });
        let shards = (0_u16..).zip(self.shards).filter_map(|(shard, item)| {
            let item = item?;
            let holder = item.holder.map(Name::full);
            Some((shard, Owner { epoch: u64::from(item.epoch), holder }))
        });
        Look {
            layout: Layout { shards: self.layout.map(u16::from), epoch: 0 },
            members: members.collect(),
            shards: shards.collect::<BTreeMap<_, _>>(),
        }
    }
}

fn small(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

impl Write {
    /// What the shipped code asks for, but for a take; `count` is its own.
    pub fn of(step: &Step, count: u8) -> Option<Self> {
        let name = |member: &str| Name::parse(member);
        let shard = |shard: &Shard| small(u64::from(shard.0));
        Some(match step {
            Step::Wait { .. } | Step::Look | Step::Take { .. } => return None,
            Step::Found { seen } => Self::Found { seen: seen.map(|seen| small(u64::from(seen))), count },
            Step::Join { member } => Self::Join { name: name(member)?, count },
            Step::Beat { member, floor } => Self::Beat { name: name(member)?, floor: small(*floor) },
            Step::Bury { member, beat } => Self::Bury { name: name(member)?, beat: small(*beat) },
            Step::Free { member, shard: which, epoch } => {
                Self::Free { name: name(member)?, shard: shard(which), epoch: small(*epoch) }
            }
            Step::Retire { member } => Self::Retire { name: name(member)? },
        })
    }

    /// One part of a take.
    pub fn of_claim(member: &str, claim: &Claim) -> Option<Self> {
        let shard = small(u64::from(claim.shard.0));
        Some(Self::Take {
            name: Name::parse(member)?,
            shard,
            seen: claim.seen.map(small),
            epoch: small(claim.epoch),
        })
    }

    /// The part of a take, back.
    pub fn claim(self) -> Option<Claim> {
        let Self::Take { shard, seen, epoch, .. } = self else { return None };
        Some(Claim { shard: Shard(u16::from(shard)), seen: seen.map(u64::from), epoch: u64::from(epoch) })
    }

    /// As the shipped code said it; none for a part of a take.
    pub fn step(self) -> Option<Step> {
        Some(match self {
            Self::Take { .. } => return None,
            Self::Found { seen, .. } => Step::Found { seen: seen.map(u16::from) },
            Self::Join { name, .. } => Step::Join { member: name.full() },
            Self::Beat { name, floor } => Step::Beat { member: name.full(), floor: u64::from(floor) },
            Self::Bury { name, beat } => Step::Bury { member: name.full(), beat: u64::from(beat) },
            Self::Free { name, shard, epoch } => {
                Step::Free { member: name.full(), shard: Shard(u16::from(shard)), epoch: u64::from(epoch) }
            }
            Self::Retire { name } => Step::Retire { member: name.full() },
        })
    }
}
