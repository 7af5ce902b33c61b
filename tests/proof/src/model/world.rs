//! The world in small integers: task sets, weights, an alarm, and requests that are still on their way.
//!
//! It answers the seven mutating operations as the pure region does (the tests in `agree` compare the two), and nothing that
//! only a person reads is kept.

use pointsman_core::model::Effect;
use pointsman_core::records::{Group, Percent};

/// `desiredCount` of the one service.
pub const DESIRED: u32 = 4;
/// Task sets that can exist at a time, those that drain included (`aws-facts.md` §1.4).
pub const SETS: usize = 5;
/// Requests that can be on their way at a time.
pub const MAILS: usize = 2;
/// After this many ticks AWS refuses a request by its signature (`reliability.md` §0.4).
pub const SIGNATURE: u8 = 3;
/// A revision whose tasks never pass their health checks.
pub const SICK: u8 = 9;

/// A number for an effect; `Mind` knows what it stands for.
pub type EffectId = u16;

/// One task set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "each may hold with or without the others")]
pub struct Set {
    /// Its ARN is `ts-<serial>`.
    pub serial: u8,
    /// Its external id ends in `<generation>.<attempt>`.
    pub release: (u8, u8),
    /// What it runs.
    pub revision: u8,
    /// Where it registers.
    pub in_b: bool,
    /// In tenths of a percent.
    pub scale: u16,
    /// Running tasks, those that are being stopped included.
    pub running: u8,
    /// Of those that shall run: how many pass their health checks.
    pub healthy: u8,
    /// No task of it passes its health checks, or starts at all.
    pub sick: bool,
    /// Its targets were all healthy once.
    pub proved: bool,
    /// PRIMARY.
    pub primary: bool,
    /// DRAINING: gone with the next tick.
    pub draining: bool,
}

impl Set {
    /// How many tasks there should be.
    pub fn wanted(self) -> u32 {
        Percent::from_tenths(self.scale).map_or(0, |scale| scale.of(DESIRED))
    }

    /// computedDesiredCount: nothing is wanted of a set that drains.
    pub fn computed(self) -> u32 {
        if self.draining { 0 } else { self.wanted() }
    }

    /// The conditions of `STEADY_STATE` (`aws-facts.md` §1.7): what should run does, and all of it is healthy.
    pub fn is_steady(self) -> bool {
        let (running, healthy) = (u32::from(self.running), u32::from(self.healthy));
        !self.draining && running == self.wanted() && healthy == running
    }
}

/// A request that may still land: sent, and its answer lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mail {
    /// What it does.
    pub effect: EffectId,
    /// Ticks since it was signed.
    pub age: u8,
    /// A second copy of a request that was answered.
    pub copy: bool,
}

/// What AWS said; the details follow from the effect and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reply {
    /// Done; for a creation, this is the set.
    Done(u8),
    /// Not done: rate limit.
    Throttled,
    /// Not done: something is not what the caller thought, and may be so later.
    Conflict,
    /// Not done: AWS will not do this.
    Permanent,
    /// The answer was lost.
    Lost,
}

/// Everything outside of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// By serial number.
    pub sets: [Option<Set>; SETS],
    /// Weight of group b on the production route, in tenths of a percent; a has the rest.
    pub production: u16,
    /// What a stale read of it shows.
    pub before: u16,
    /// Weight of group b on the test route, when there is one.
    pub test: Option<u16>,
    /// How often the alarm changed: odd is ALARM.
    pub flips: u8,
    /// The next serial number.
    pub next: u8,
    /// On their way, sorted.
    pub mail: [Option<Mail>; MAILS],
    /// A person moved weights, and nobody of us has read them since.
    pub hand: bool,
}

/// The weight of `group`, out of a share of b.
pub fn share_of(group_b: bool, share: u16) -> u16 {
    if group_b { share } else { 1000 - share }
}

impl World {
    /// Nothing serves; all weight on b, so that a first release takes a.
    pub fn empty(test_route: bool) -> Self {
        Self {
            sets: [None; SETS],
            production: 1000,
            before: 1000,
            test: test_route.then_some(1000),
            flips: 0,
            next: 0,
            mail: [None; MAILS],
            hand: false,
        }
    }

    /// All task sets.
    pub fn sets(&self) -> impl Iterator<Item = &Set> {
        self.sets.iter().flatten()
    }

    /// A task set by its number, leaving or not.
    pub fn set(&self, serial: u8) -> Option<&Set> {
        self.sets().find(|set| set.serial == serial)
    }

    /// Whether the stability of some set is about to change, so that an old one can be read.
    pub fn is_settling(&self) -> bool {
        self.sets().any(|set| !set.draining && !set.is_steady())
    }

    fn set_mut(&mut self, serial: u8) -> Option<&mut Set> {
        self.sets.iter_mut().flatten().find(|set| set.serial == serial)
    }

    /// What the adapters see before they send: weights that are not those that were expected, or a set to be deleted
    /// that is somebody else's.
    pub fn objection(&self, effect: &Effect) -> Option<Reply> {
        match effect {
            Effect::SetWeights { route, expect: Some(expect), .. } => {
                let live = if route == "public" { Some(self.production) } else { self.test };
                let same = live.is_some_and(|live| super::view::shares(live).same_ratio(*expect));
                (!same).then_some(Reply::Conflict)
            }
            Effect::DeleteTaskSet { task_set, external_id } => {
                let set = self.set(serial_of(task_set))?;
                (set.release != release_of(external_id)).then_some(Reply::Permanent)
            }
            _ => None,
        }
    }

    /// Carries out one effect, as AWS would, with the classes of refusal that `src/aws/error/table.rs` reads out of
    /// its errors. It is absolute: doing it twice is doing it once.
    pub fn carry_out(&mut self, effect: &Effect) -> Reply {
        match effect {
            Effect::SetWeights { route, shares, .. } => {
                let share = shares.share(Group::B).tenths();
                if route == "public" {
                    self.before = self.production;
                    self.production = share;
                } else {
                    self.test = Some(share);
                }
                Reply::Done(0)
            }
            Effect::CreateTaskSet { group, revision, scale, external_id, .. } => {
                let revision = u8::try_from(revision.number).unwrap_or(u8::MAX);
                self.create(*group == Group::B, revision, scale.tenths(), release_of(external_id))
            }
            Effect::ScaleTaskSet { task_set, scale } => match self.set_mut(serial_of(task_set)) {
                Some(set) if !set.draining => {
                    set.scale = scale.tenths();
                    set.healthy = set.healthy.min(small(set.wanted()));
                    Reply::Done(0)
                }
                _ => Reply::Permanent,
            },
            Effect::DeleteTaskSet { task_set, .. } => self.delete(serial_of(task_set)),
            Effect::SetPrimary { task_set } => self.set_primary(serial_of(task_set)),
        }
    }

    /// The same client token gives the same set, as long as it is there, and is refused for another one.
    fn create(&mut self, in_b: bool, revision: u8, scale: u16, release: (u8, u8)) -> Reply {
        if let Some(set) = self.sets().find(|set| set.release == release) {
            let same = set.in_b == in_b && set.revision == revision;
            return if same { Reply::Done(set.serial) } else { Reply::Permanent };
        }
        let serial = self.next;
        let Some(free) = self.sets.iter_mut().find(|slot| slot.is_none()) else { return Reply::Conflict };
        *free = Some(Set {
            serial,
            release,
            revision,
            in_b,
            scale,
            running: 0,
            healthy: 0,
            sick: revision == SICK,
            proved: false,
            primary: false,
            draining: false,
        });
        self.next += 1;
        Reply::Done(serial)
    }

    /// Gone is what a deletion is for. A set without running tasks has nothing to wait for.
    fn delete(&mut self, serial: u8) -> Reply {
        match self.set_mut(serial) {
            Some(set) if set.primary => return Reply::Conflict,
            Some(set) if set.running > 0 => (set.draining, set.healthy) = (true, 0),
            Some(_) => {
                for slot in &mut self.sets {
                    *slot = slot.filter(|set| set.serial != serial);
                }
                self.pack();
            }
            None => {}
        }
        Reply::Done(0)
    }

    fn set_primary(&mut self, serial: u8) -> Reply {
        if !self.sets().any(|set| set.serial == serial && !set.draining) {
            return Reply::Permanent;
        }
        for set in self.sets.iter_mut().flatten() {
            set.primary = set.serial == serial;
        }
        Reply::Done(0)
    }

    /// A person moves all production weight.
    pub fn drift(&mut self, to_b: bool) {
        self.before = self.production;
        self.production = if to_b { 1000 } else { 0 };
    }

    /// All tasks of a set die, and none starts again until [`Self::revive`].
    pub fn die(&mut self, serial: u8) {
        if let Some(set) = self.set_mut(serial) {
            (set.running, set.healthy, set.sick) = (0, 0, true);
        }
    }

    /// Sets whose tasks died and could start again.
    pub fn dead(&self) -> impl Iterator<Item = u8> {
        let dead = |set: &&Set| set.sick && set.running == 0 && !set.draining && set.revision != SICK;
        self.sets().filter(dead).map(|set| set.serial)
    }

    /// Tasks of a set that died start again with the next tick, as those of a new one.
    pub fn revive(&mut self, serial: u8) {
        if let Some(set) = self.set_mut(serial) {
            set.sick = false;
        }
    }

    /// One tick: tasks start or are gone, requests grow old.
    pub fn tick(&mut self) {
        for slot in &mut self.sets {
            let Some(set) = slot else { continue };
            if set.draining {
                *slot = None;
            } else if !set.sick {
                // Tasks run first, and pass their health checks a tick later.
                let wanted = small(set.wanted());
                set.healthy = set.running.min(wanted);
                set.proved |= wanted > 0 && set.healthy == wanted;
                set.running = wanted;
            }
        }
        self.pack();
        for slot in &mut self.mail {
            *slot = slot.and_then(|mail| {
                let age = mail.age + 1;
                (age < SIGNATURE).then_some(Mail { age, ..mail })
            });
        }
        self.mail.sort_unstable_by_key(|slot| std::cmp::Reverse(*slot));
    }

    /// Keeps the sets at the front, so that equal worlds are equal.
    fn pack(&mut self) {
        self.sets.sort_unstable_by_key(|slot| slot.map_or(u8::MAX, |set| set.serial));
    }

    /// Puts a request on its way; whether there was room.
    pub fn post(&mut self, effect: EffectId, age: u8) -> bool {
        self.send_off(Mail { effect, age, copy: false })
    }

    /// Puts a second copy of an answered request on its way, which is soon too old; whether there was room.
    pub fn post_copy(&mut self, effect: EffectId) -> bool {
        self.send_off(Mail { effect, age: SIGNATURE - 1, copy: true })
    }

    fn send_off(&mut self, mail: Mail) -> bool {
        let Some(free) = self.mail.iter_mut().find(|slot| slot.is_none()) else { return false };
        *free = Some(mail);
        self.mail.sort_unstable_by_key(|slot| std::cmp::Reverse(*slot));
        true
    }

    /// Takes a request out of the mail.
    pub fn take(&mut self, index: usize) -> Option<Mail> {
        let mail = self.mail.get_mut(index)?.take();
        self.mail.sort_unstable_by_key(|slot| std::cmp::Reverse(*slot));
        mail
    }
}

fn small(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// `ts-3` is 3.
pub fn serial_of(arn: &str) -> u8 {
    arn.strip_prefix("ts-").and_then(|digits| digits.parse().ok()).unwrap_or(u8::MAX)
}

/// `…/2.1` is generation 2, attempt 1.
pub fn release_of(external_id: &str) -> (u8, u8) {
    let numbers = external_id.rsplit('/').next().and_then(|tail| tail.split_once('.'));
    let parsed =
        numbers.and_then(|(generation, attempt)| Some((generation.parse().ok()?, attempt.parse().ok()?)));
    parsed.unwrap_or((u8::MAX, u8::MAX))
}
