//! A replica whose lease ran out because it cannot reach the table: what the shipped emergency code does, and what it
//! must not.
//!
//! Such a replica has what was durable when it was cut off, and what it did since. It may look, and send what
//! `decide::emergency::judge` allows; another replica may take the lease meanwhile and go on as it likes. When the table
//! answers again, a replica that is still the owner records what it did before anything else; one that is not
//! forgets it.

use hashbrown::HashMap;
use jiff::Timestamp;
use pointsman_core::decide::emergency::{self, Emergency};
use pointsman_core::model::effect::{Shares, WayBack};
use pointsman_core::model::facts::Facts;
use pointsman_core::model::observed::TaskSetStatus;
use pointsman_core::model::{Effect, Seen};
use pointsman_core::records::{Group, Percent};

use super::digest::Digest;
use super::mind::Mind;
use super::properties;
use super::state::{Cut, FactsId};
use super::view::View;
use super::world::{EffectId, Reply, World};
use crate::search::{Broken, BrokenId};

/// How the emergency code is broken by a seeded bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It does not matter which set is PRIMARY.
    AnyRole,
    /// The stable set surely runs.
    Unsound,
    /// Traffic goes to the other group.
    WrongWay,
    /// Nothing is recorded.
    Forgets,
}

/// What one look without a lease comes to.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// What is remembered after it.
    pub cut: Cut,
    /// The one write.
    pub back: Option<EffectId>,
    /// What it breaks, whatever the world is.
    pub broken: Option<BrokenId>,
}

/// What is remembered of emergencies, by number; 0 is none. And what was asked already.
#[derive(Default)]
pub struct Emergencies {
    kept: Vec<Emergency>,
    judged: HashMap<(Cut, View), Judged>,
    recorded: HashMap<(FactsId, u16, u8), (FactsId, Option<BrokenId>)>,
}

impl Emergencies {
    fn keep(&mut self, emergency: Emergency) -> u16 {
        if self.kept.is_empty() {
            self.kept.push(Emergency::default());
        }
        let index = self.kept.iter().position(|known| *known == emergency).unwrap_or_else(|| {
            self.kept.push(emergency);
            self.kept.len() - 1
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    fn get(&self, id: u16) -> Emergency {
        self.kept.get(usize::from(id)).cloned().unwrap_or_default()
    }
}

impl Mind {
    fn flaw(&self, flaw: Flaw) -> bool {
        self.bug.is_some_and(|bug| bug.emergency == Some(flaw))
    }

    /// Whether these facts hold a way back that may be needed without a lease.
    pub fn can_take_back(&self, facts: FactsId) -> bool {
        emergency::to_observe(&self.facts(facts)).is_some()
    }

    /// The shipped `judge`.
    pub fn judge(&mut self, cut: Cut, view: View) -> Judged {
        if let Some(known) = self.emergencies.judged.get(&(cut, view)) {
            return *known;
        }
        let judged = self.ask_emergency(cut, &view);
        self.emergencies.judged.insert((cut, view), judged);
        judged
    }

    fn ask_emergency(&mut self, cut: Cut, view: &View) -> Judged {
        let facts = self.facts(cut.facts);
        let mut memory = self.emergencies.get(cut.emergency);
        let Some((plan, needs)) = emergency::to_observe(&facts) else {
            return Judged { cut, back: None, broken: None };
        };
        let mut observed = view.observed(Some(plan), &needs);
        let stable = facts.release.as_ref().and_then(|release| release.stable.clone());
        if self.flaw(Flaw::Unsound)
            && let Some(stable) = &stable
        {
            View::pretend(&stable.task_set, stable.group, &mut observed);
        }
        if self.flaw(Flaw::AnyRole)
            && let Seen::Known(service) = &mut observed.service
        {
            let active = service.task_sets.iter_mut().filter(|set| set.status == TaskSetStatus::Active);
            for set in active {
                set.status = TaskSetStatus::Primary;
            }
        }
        let (burning, next) = emergency::judge(&facts, &observed, &memory);
        let twice: Vec<String> = burning.intersection(&memory.burning).cloned().collect();
        memory.burning = burning;
        let back = next.ok().map(|back| {
            memory.because.extend(twice);
            memory.release = facts.release.as_ref().map(|release| release.id);
            *memory.tried.entry(back.route().to_owned()).or_default() += 1;
            self.effect_of(&back)
        });
        let broken = back.as_ref().and_then(|effect| leads_back(effect, stable.map(|stable| stable.group)));
        let back = back.map(|effect| self.name_effect(effect));
        let cut = Cut { emergency: self.emergencies.keep(memory), ..cut };
        Judged { cut, back, broken: self.note(broken) }
    }

    fn effect_of(&self, back: &WayBack) -> Effect {
        let group = if back.shares().of(Group::A) > 0 { Group::A } else { Group::B };
        let group = if self.flaw(Flaw::WrongWay) { group.other() } else { group };
        let shares = Shares::giving(group, Percent::FULL);
        Effect::SetWeights { route: back.route().to_owned(), shares, expect: Some(back.expect()) }
    }

    /// What an answer is to the process.
    pub fn took_back(&mut self, cut: Cut, effect: EffectId, reply: Reply) -> Cut {
        let Effect::SetWeights { route, shares, .. } = self.effect(effect).clone() else { return cut };
        let mut memory = self.emergencies.get(cut.emergency);
        if matches!(reply, Reply::Done(_)) {
            memory.done.insert(route, shares);
        }
        Cut { emergency: self.emergencies.keep(memory), ..cut }
    }

    /// The shipped `record`: the facts that are durable after it, when there is something to record.
    pub fn record_emergency(
        &mut self,
        durable: FactsId,
        cut: Cut,
        epoch: u8,
    ) -> Option<(FactsId, Option<BrokenId>)> {
        let memory = self.emergencies.get(cut.emergency);
        if memory.tried.is_empty() {
            return None;
        }
        let key = (durable, cut.emergency, epoch);
        if let Some(known) = self.emergencies.recorded.get(&key) {
            return Some(*known);
        }
        let before = self.facts(durable);
        let after = emergency::record(&before, &memory, u64::from(epoch), Timestamp::UNIX_EPOCH);
        let mut after = after.filter(|_| !self.flaw(Flaw::Forgets)).unwrap_or_else(|| before.clone());
        after.epoch = u64::from(epoch);
        let broken = is_recorded(&before, &after, &memory);
        let known = (self.keep_facts(after), self.note(broken));
        self.emergencies.recorded.insert(key, known);
        Some(known)
    }
}

fn leads_back(effect: &Effect, stable: Option<Group>) -> Option<Broken> {
    let right = match effect {
        Effect::SetWeights { route, shares, .. } => {
            route == "public" && stable.is_some_and(|group| shares.share(group) == Percent::FULL)
        }
        _ => false,
    };
    (!right).then(|| Broken::new(properties::EMERGENCY, format!("{effect} without a lease")))
}

/// A release that is still in flight goes back from now on, and says why.
fn is_recorded(before: &Facts, after: &Facts, done: &Emergency) -> Option<Broken> {
    let release = before.release.as_ref().filter(|release| Some(release.id) == done.release)?;
    let now = after.release.as_ref().filter(|now| now.id == release.id);
    let latch = now.and_then(|now| now.latch.as_ref());
    let told =
        latch.is_some_and(|latch| release.latch.is_some() || latch.detail.contains("EmergencyRollback"));
    (!told).then(|| Broken::new(properties::EMERGENCY, "what was done without a lease is not recorded"))
}

/// Judges the write by what an outsider sees when it is decided: nobody is about to remove the set that gets the traffic.
pub fn of_judgement(effect: &Effect, world: &World, durable: &Digest) -> Option<Broken> {
    let Effect::SetWeights { shares, .. } = effect else { return None };
    let in_b = shares.of(Group::B) > 0;
    let doomed = |serial: u8| durable.tombs & (1 << (serial & 63)) != 0;
    let serves =
        world.sets().any(|set| set.in_b == in_b && !set.draining && set.proved && !doomed(set.serial));
    (!serves).then(|| Broken::new(properties::EMERGENCY, format!("{effect}, and that set is to be removed")))
}
