//! The shipped `decide` and `settle`, asked once for each different question.
//!
//! Facts, effects and wanted reads are kept once and named by number, so a state of the model is a few dozen bytes,
//! and a question that was answered before costs a look-up. This is sound because both functions are pure.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use hashbrown::HashMap;
use jiff::Timestamp;
use pointsman_core::decide::safety::violations;
use pointsman_core::decide::{Asked, Decision, Input, Limits, Next, Wish, plan_to_observe};
use pointsman_core::model::facts::Facts;
use pointsman_core::model::{Acknowledgement, Answer, Effect, Need, Plan, RefusalClass};
use pointsman_core::records::ServiceKey;
use pointsman_core::records::command::Verb;
use pointsman_core::records::managed_service::ManagedServiceSpec;

use super::bugs::Bug;
use super::config::Config;
use super::digest::Digest;
use super::emergency::Emergencies;
use super::normal::{Possible, normalise};
use super::plan::{self, TICK};
use super::properties;
use super::state::{FactsId, NeedsId};
use super::view::View;
use super::world::{EffectId, Reply};
use crate::search::{Broken, BrokenId};

/// Everything a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub facts: FactsId,
    pub epoch: u8,
    /// In ticks.
    pub watched: u8,
    pub desired: Option<u8>,
    pub order: Option<(Verb, (u8, u8))>,
    pub view: View,
    pub needs: NeedsId,
}

/// The next move, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    Act(EffectId),
    Look(NeedsId),
    Again,
    Wait(NeedsId),
    Settled,
    Halted,
}

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    pub facts: FactsId,
    pub next: Move,
    /// More than clocks changed, so it is written.
    pub write: bool,
    pub broken: Option<BrokenId>,
}

/// The facts after an answer, and what it broke.
type Settled = (FactsId, Option<BrokenId>);

/// Facts without their plan, which is the same whenever there is one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kept {
    facts: Facts,
    pinned: bool,
}

/// Answers questions, and remembers.
pub struct Mind {
    key: ServiceKey,
    limits: Limits,
    service: Asked<ManagedServiceSpec>,
    plan: Plan,
    /// A seeded bug.
    pub bug: Option<&'static Bug>,
    /// `decide::safety` is asked too.
    pub second_opinion: bool,
    patient: bool,
    kept: Vec<Rc<Kept>>,
    ids: HashMap<Rc<Kept>, FactsId>,
    digests: Vec<Digest>,
    effects: Vec<Effect>,
    needs: Vec<BTreeSet<Need>>,
    decided: HashMap<Question, Decided>,
    settled: HashMap<(FactsId, EffectId, Reply, u8), Settled>,
    followed: HashMap<(FactsId, FactsId), Option<BrokenId>>,
    broken: Vec<Broken>,
    /// What is remembered of emergencies.
    pub(super) emergencies: Emergencies,
    /// How often each next move, wait, stage, latch cause and outcome was met among the different decisions.
    pub reached: BTreeMap<String, u64>,
}

impl Mind {
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let spec = plan::service(config)?;
        let Asked::Valid { spec: any, .. } = plan::desired(Some(1)) else { anyhow::bail!("no request") };
        let (plan, _) = Plan::resolve(&spec, &any).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        let mut mind = Self {
            key: plan::key()?,
            limits: plan::limits(),
            service: Asked::Valid { spec, hash: "sha256:service".to_owned() },
            plan,
            bug: None,
            second_opinion: true,
            patient: config.has(super::state::Kind::Die),
            kept: Vec::new(),
            ids: HashMap::new(),
            digests: Vec::new(),
            effects: Vec::new(),
            needs: vec![BTreeSet::new()],
            decided: HashMap::new(),
            settled: HashMap::new(),
            followed: HashMap::new(),
            broken: Vec::new(),
            emergencies: Emergencies::default(),
            reached: BTreeMap::new(),
        };
        mind.keep(Facts::default());
        Ok(mind)
    }

    /// Another code is asked from now on.
    pub fn forget_answers(&mut self) {
        self.decided.clear();
        self.settled.clear();
        self.reached.clear();
    }

    /// Facts by their number.
    pub fn facts(&self, id: FactsId) -> Facts {
        let kept = &self.kept[id as usize];
        let plan = kept.pinned.then(|| self.plan.clone());
        Facts { plan, ..kept.facts.clone() }
    }

    /// What the model needs of facts, worked out once.
    pub fn digest(&self, id: FactsId) -> &Digest {
        &self.digests[id as usize]
    }

    pub fn effect(&self, id: EffectId) -> &Effect {
        &self.effects[usize::from(id)]
    }

    pub fn why(&self, id: BrokenId) -> &Broken {
        &self.broken[usize::from(id)]
    }

    /// How many different facts were met, and how many different questions.
    pub fn sizes(&self) -> (usize, usize) {
        (self.kept.len(), self.decided.len())
    }

    fn possible(&self) -> Possible {
        Possible { broken_stable: self.patient, deleted_service: false }
    }

    fn keep(&mut self, mut facts: Facts) -> FactsId {
        normalise(&mut facts, &self.plan, self.possible());
        let digest = Digest::of(&facts);
        let pinned = facts.plan.take().is_some();
        let kept = Kept { facts, pinned };
        if let Some(id) = self.ids.get(&kept) {
            return *id;
        }
        let id = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        let kept = Rc::new(kept);
        self.kept.push(Rc::clone(&kept));
        self.digests.push(digest);
        self.ids.insert(kept, id);
        id
    }

    fn name<T: PartialEq>(list: &mut Vec<T>, item: T) -> u16 {
        let found = list.iter().position(|known| *known == item);
        let index = found.unwrap_or_else(|| {
            list.push(item);
            list.len() - 1
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    /// An effect's number.
    pub fn name_effect(&mut self, effect: Effect) -> EffectId {
        Self::name(&mut self.effects, effect)
    }

    /// The number of facts, in their normal form.
    pub fn keep_facts(&mut self, facts: Facts) -> FactsId {
        self.keep(facts)
    }

    /// Files a broken property.
    pub fn note(&mut self, broken: Option<Broken>) -> Option<BrokenId> {
        broken.map(|broken| Self::name(&mut self.broken, broken))
    }

    /// The reads of both, together.
    pub fn join(&mut self, a: NeedsId, b: NeedsId) -> NeedsId {
        let both = &self.needs[usize::from(a)] | &self.needs[usize::from(b)];
        Self::name(&mut self.needs, both)
    }

    fn wanted(&mut self, needs: &BTreeSet<Need>) -> NeedsId {
        // Why a task stopped is for people.
        let kept = needs.iter().filter(|need| !matches!(need, Need::LastStop(..))).cloned().collect();
        Self::name(&mut self.needs, kept)
    }

    /// The shipped `decide`.
    pub fn decide(&mut self, question: &Question) -> Decided {
        if let Some(known) = self.decided.get(question) {
            return *known;
        }
        let decided = self.ask(question);
        self.decided.insert(*question, decided);
        decided
    }

    /// Calls `decide` on these facts, whatever the question's are.
    fn call(&self, facts: &Facts, question: &Question) -> (Decision, Option<Broken>) {
        let pinned = plan_to_observe(facts, &self.service);
        let observed = question.view.observed(pinned.as_ref(), &self.needs[usize::from(question.needs)]);
        let desired = plan::desired(question.desired);
        let orders: Vec<Wish> = question.order.into_iter().map(|(verb, id)| plan::wish(verb, id)).collect();
        let input = Input {
            key: &self.key,
            now: Timestamp::UNIX_EPOCH,
            watched: TICK.times(u64::from(question.watched)),
            epoch: u64::from(question.epoch),
            limits: &self.limits,
            service: &self.service,
            desired: &desired,
            commands: &orders,
            observed: &observed,
            facts,
            fresh_uid: "U",
            claim_denied: None,
        };
        let decide = self.bug.and_then(|bug| bug.decide).unwrap_or(pointsman_core::decide::decide);
        let decision = decide(&input);
        let mut broken = properties::of_decision(facts, &decision);
        if broken.is_none() && self.second_opinion {
            let found = violations(&input, &decision);
            broken = found.first().map(|it| Broken::new("second opinion", it.to_string()));
        }
        (decision, broken)
    }

    fn ask(&mut self, question: &Question) -> Decided {
        let facts = self.facts(question.facts);
        let (decision, broken) = self.call(&facts, question);
        self.count(&decision);
        let bound = !decision.claim.is_empty() || !decision.unclaim.is_empty() || !decision.ended.is_empty();
        let write = matches!(decision.next, Next::Act(_))
            || bound
            || decision.facts.without_clocks() != facts.without_clocks();
        let next = match &decision.next {
            Next::Act(action) => Move::Act(Self::name(&mut self.effects, action.effect.clone())),
            Next::Look(needs) => Move::Look(self.wanted(needs)),
            Next::Again => Move::Again,
            Next::Wait(wait) => Move::Wait(self.wanted(&wait.needs)),
            Next::Settled => Move::Settled,
            Next::Halted(_) => Move::Halted,
        };
        Decided { facts: self.keep(decision.facts), next, write, broken: self.note(broken) }
    }

    /// The shipped `settle`.
    pub fn settle(
        &mut self,
        facts: FactsId,
        effect: EffectId,
        reply: Reply,
        epoch: u8,
    ) -> (FactsId, Option<BrokenId>) {
        if let Some(known) = self.settled.get(&(facts, effect, reply, epoch)) {
            return *known;
        }
        let before = self.facts(facts);
        let answer = answer(self.effect(effect), reply);
        let settle = self.bug.and_then(|bug| bug.settle).unwrap_or(pointsman_core::decide::settle);
        let after = settle(&before, &self.effects[usize::from(effect)], &answer, u64::from(epoch));
        let broken = properties::of_settling(&before, &after, &self.effects[usize::from(effect)], reply);
        let settled = (self.keep(after), self.note(broken));
        self.settled.insert((facts, effect, reply, epoch), settled);
        settled
    }

    /// What one write of the state item may not do to the one before it.
    pub fn follows(&mut self, before: FactsId, after: FactsId) -> Option<BrokenId> {
        if before == after {
            return None;
        }
        if let Some(known) = self.followed.get(&(before, after)) {
            return *known;
        }
        let broken = properties::of_history(&self.facts(before), &self.facts(after));
        let broken = self.note(broken);
        self.followed.insert((before, after), broken);
        broken
    }

    fn count(&mut self, decision: &Decision) {
        let next = match &decision.next {
            Next::Act(action) => format!("effect {}", action.effect.name()),
            Next::Look(_) => "look".to_owned(),
            Next::Again => "again".to_owned(),
            Next::Wait(wait) => format!("wait {}", wait.on.name()),
            Next::Settled => "settled".to_owned(),
            Next::Halted(halt) => format!("halted {:?}", halt.reason),
        };
        let release = decision.facts.release.as_ref();
        let stage = release.map(|release| format!("stage {:?}", release.progress.stage));
        let latch = release.and_then(|release| release.latch.as_ref());
        let latch = latch.map(|latch| format!("latch {:?}", latch.cause));
        let ended = decision.ended.iter().map(|ended| format!("outcome {:?}", ended.outcome));
        for name in [Some(next), stage, latch].into_iter().flatten().chain(ended) {
            *self.reached.entry(name).or_default() += 1;
        }
    }
}

/// What the adapters make of a reply.
pub fn answer(effect: &Effect, reply: Reply) -> Answer {
    let refused = |class| Answer::Refused { class, message: "no".to_owned() };
    match (reply, effect) {
        (Reply::Done(_), Effect::SetWeights { shares, .. }) => {
            Answer::Acknowledged(Acknowledgement::Echo(*shares))
        }
        (Reply::Done(set), Effect::CreateTaskSet { .. }) => {
            Answer::Acknowledged(Acknowledgement::Created { task_set: format!("ts-{set}") })
        }
        (Reply::Done(_), _) => Answer::Acknowledged(Acknowledgement::Done),
        (Reply::Throttled, _) => refused(RefusalClass::Throttled),
        (Reply::Conflict, _) => refused(RefusalClass::Conflict),
        (Reply::Permanent, _) => refused(RefusalClass::Permanent),
        (Reply::Lost, _) => Answer::Unknown { message: "no answer".to_owned() },
    }
}

#[cfg(test)]
impl Mind {
    /// The decision on facts as they are, with nothing made equal.
    pub fn decide_on(&self, facts: &Facts, question: &Question) -> Decision {
        self.call(facts, question).0
    }

    /// The normal form of facts.
    pub fn normal(&self, mut facts: Facts) -> Facts {
        normalise(&mut facts, &self.plan, self.possible());
        facts
    }

    /// `settle` on facts as they are.
    pub fn settle_on(&self, facts: &Facts, effect: EffectId, reply: Reply, epoch: u8) -> Facts {
        let effect = self.effect(effect);
        pointsman_core::decide::settle(facts, effect, &answer(effect, reply), u64::from(epoch))
    }
}
