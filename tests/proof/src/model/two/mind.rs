//! The shipped `decide` and `settle` for either service, asked once for each different question.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use jiff::Timestamp;
use pointsman_core::decide::{Asked, Decision, Input, Limits, Next, WaitingOn, decide, plan_to_observe};
use pointsman_core::model::observed::{LoadBalancer, Observed};
use pointsman_core::model::{Effect, Facts, Need, Plan, Seen};
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, ServiceKey};

use super::{ARNS, Bug, Overlap};
use crate::model::config::CI;
use crate::model::digest::Digest;
use crate::model::mind::answer;
use crate::model::normal::{Possible, normalise};
use crate::model::plan::{self, TICK, group_arn, rule_arn};
use crate::model::state::{FactsId, NeedsId};
use crate::model::view::View;
use crate::model::world::{EffectId, Reply};
use crate::search::{Broken, BrokenId};

/// Everything a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Whose.
    pub side: u8,
    pub facts: FactsId,
    /// In ticks.
    pub watched: u8,
    /// Number of the request.
    pub asks: u8,
    /// The service's record is there.
    pub managed: bool,
    /// An ARN that the other has.
    pub denied: Option<u8>,
    pub view: View,
    pub needs: NeedsId,
}

/// The next move, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Act(EffectId),
    Look(NeedsId),
    Again,
    Wait(NeedsId),
    Rest,
}

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    pub facts: FactsId,
    pub next: Move,
    pub write: bool,
    /// ARNs, one bit each.
    pub claim: u8,
    pub unclaim: u8,
    /// A request was refused in words that name the other service.
    pub told: bool,
    /// It waits for nothing but what may still land.
    pub late: bool,
}

/// Facts, and what the search needs of them.
pub struct Kept {
    facts: Facts,
    pinned: bool,
    pub digest: Digest,
    /// ARNs that it believes to hold, one bit each.
    pub held: u8,
    /// Something was sent and not answered.
    pub outstanding: bool,
    /// Something of it is under way, but for a request that has not started.
    pub works: bool,
}

/// One service.
struct Service {
    key: ServiceKey,
    record: Asked<ManagedServiceSpec>,
    plan: Plan,
    uid: &'static str,
    /// Its ARNs: ECS service, group a, group b, rule.
    arns: [u8; 4],
}

/// Answers questions, and remembers.
pub struct Mind {
    services: [Service; 2],
    names: [String; ARNS],
    limits: Limits,
    decide: fn(&Input<'_>) -> Decision,
    kept: Vec<Kept>,
    ids: [HashMap<(Facts, bool), FactsId>; 2],
    effects: Vec<(u8, Effect)>,
    needs: Vec<BTreeSet<Need>>,
    decided: HashMap<Question, Decided>,
    settled: HashMap<(u8, FactsId, EffectId, Reply), FactsId>,
    broken: Vec<Broken>,
}

fn number<T: PartialEq>(list: &mut Vec<T>, item: T) -> u16 {
    let index = list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    });
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// The ARNs of the first service, and of the second where they are its own.
fn names(spec: &ManagedServiceSpec) -> [String; ARNS] {
    let first = [spec.ecs.service.as_str().to_owned(), group_arn(false), group_arn(true), rule_arn("public")];
    let own = [
        first[0].replace("/web", "/api"),
        first[1].replace("web-a", "api-a"),
        first[2].replace("web-b", "api-b"),
        first[3].replace("0000000000000001/0000", "0000000000000001/1000"),
    ];
    let mut all = first.into_iter().chain(own);
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// The record of the second: that of the first, with its own ARNs in place of some.
fn second(
    spec: &ManagedServiceSpec,
    names: &[String; ARNS],
    arns: [u8; 4],
) -> anyhow::Result<ManagedServiceSpec> {
    let mut record = serde_json::to_value(spec)?;
    let name = |index: usize| serde_json::Value::from(names[usize::from(arns[index])].as_str());
    record["ecs"]["service"] = name(0);
    record["targetGroups"]["a"] = name(1);
    record["targetGroups"]["b"] = name(2);
    record["routes"]["production"][0]["rule"] = name(3);
    Ok(serde_json::from_value(record)?)
}

impl Mind {
    pub fn new(overlap: &Overlap, bug: Option<&'static Bug>) -> anyhow::Result<Self> {
        let spec = plan::service(&CI[0])?;
        let names = names(&spec);
        let other = second(&spec, &names, overlap.second)?;
        let Asked::Valid { spec: any, .. } = plan::desired(Some(1)) else { anyhow::bail!("no request") };
        let service = |key: &str, spec: ManagedServiceSpec, uid, arns| {
            let (plan, _) = Plan::resolve(&spec, &any).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
            let record = Asked::Valid { spec, hash: "sha256:service".to_owned() };
            anyhow::Ok(Service { key: key.parse()?, record, plan, uid, arns })
        };
        let services =
            [service("shop/web", spec, "U", [0, 1, 2, 3])?, service("shop/api", other, "V", overlap.second)?];
        let mut mind = Self {
            services,
            names,
            limits: plan::limits(),
            decide: bug.map_or(decide, |bug| bug.decide),
            kept: Vec::new(),
            ids: [HashMap::new(), HashMap::new()],
            effects: Vec::new(),
            needs: vec![BTreeSet::new()],
            decided: HashMap::new(),
            settled: HashMap::new(),
            broken: Vec::new(),
        };
        for side in 0..2 {
            mind.keep(side, Facts::default());
        }
        Ok(mind)
    }

    /// Nothing is remembered yet.
    pub fn nothing(side: u8) -> FactsId {
        side.into()
    }

    pub fn kept(&self, id: FactsId) -> &Kept {
        &self.kept[id as usize]
    }

    pub fn questions(&self) -> usize {
        self.decided.len()
    }

    pub fn effect(&self, id: EffectId) -> &Effect {
        &self.effects[usize::from(id)].1
    }

    pub fn why(&self, id: BrokenId) -> &Broken {
        &self.broken[usize::from(id)]
    }

    /// Files a broken property.
    pub fn note(&mut self, broken: Option<Broken>) -> Option<BrokenId> {
        broken.map(|broken| number(&mut self.broken, broken))
    }

    /// The reads of both, together.
    pub fn join(&mut self, a: NeedsId, b: NeedsId) -> NeedsId {
        let both = &self.needs[usize::from(a)] | &self.needs[usize::from(b)];
        number(&mut self.needs, both)
    }

    fn wanted(&mut self, needs: &BTreeSet<Need>) -> NeedsId {
        let kept = needs.iter().filter(|need| !matches!(need, Need::LastStop(..))).cloned().collect();
        number(&mut self.needs, kept)
    }

    /// These ARNs, one bit each.
    fn bits(&self, arns: &BTreeSet<String>) -> u8 {
        let bit = |(index, name): (usize, &String)| u8::from(arns.contains(name)) << index;
        self.names.iter().enumerate().map(bit).fold(0, |all, bit| all | bit)
    }

    /// The ARNs that an effect of this service names.
    pub fn named(&self, side: u8, effect: &Effect) -> u8 {
        let [service, a, b, rule] = self.services[usize::from(side)].arns.map(|index| 1_u8 << index);
        match effect {
            Effect::SetWeights { .. } => rule | a | b,
            Effect::CreateTaskSet { group, .. } => service | if *group == Group::A { a } else { b },
            Effect::ScaleTaskSet { .. } | Effect::DeleteTaskSet { .. } | Effect::SetPrimary { .. } => service,
        }
    }

    fn keep(&mut self, side: u8, mut facts: Facts) -> FactsId {
        let possible = Possible { broken_stable: false, deleted_service: true };
        normalise(&mut facts, &self.services[usize::from(side)].plan, possible);
        let (digest, held) = (Digest::of(&facts), self.bits(&facts.claims));
        let outstanding = !facts.outstanding.is_empty();
        let works = Facts { pending: None, ..facts.clone() }.is_busy() || facts.retained.is_some();
        let pinned = facts.plan.take().is_some();
        let ids = &mut self.ids[usize::from(side)];
        if let Some(id) = ids.get(&(facts.clone(), pinned)) {
            return *id;
        }
        let id = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        ids.insert((facts.clone(), pinned), id);
        self.kept.push(Kept { facts, pinned, digest, held, outstanding, works });
        id
    }

    fn facts(&self, side: u8, id: FactsId) -> Facts {
        let kept = self.kept(id);
        let plan = kept.pinned.then(|| self.services[usize::from(side)].plan.clone());
        Facts { plan, ..kept.facts.clone() }
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

    fn ask(&mut self, question: &Question) -> Decided {
        let side = usize::from(question.side);
        let (me, other) = (&self.services[side], &self.services[1 - side]);
        let facts = self.facts(question.side, question.facts);
        let record = if question.managed { me.record.clone() } else { Asked::Absent };
        let observing = plan_to_observe(&facts, &record);
        let seen = question.view.observed(observing.as_ref(), &self.needs[usize::from(question.needs)]);
        let observed = self.renamed(me, seen);
        let desired = plan::desired(Some(question.asks));
        let denied = question.denied.map(|arn| (self.names[usize::from(arn)].clone(), other.key.to_string()));
        let input = Input {
            key: &me.key,
            now: Timestamp::UNIX_EPOCH,
            watched: TICK.times(u64::from(question.watched)),
            epoch: 1,
            limits: &self.limits,
            service: &record,
            desired: &desired,
            commands: &[],
            observed: &observed,
            facts: &facts,
            fresh_uid: me.uid,
            claim_denied: denied.as_ref(),
        };
        let decision = (self.decide)(&input);
        let named = |message: &str| message.contains(&other.key.to_string());
        let told = decision.ended.iter().any(|it| it.outcome == Outcome::Refused && named(&it.message));
        let bound = !decision.claim.is_empty() || !decision.unclaim.is_empty() || !decision.ended.is_empty();
        let acts = matches!(decision.next, Next::Act(_));
        let write = acts || bound || decision.facts.without_clocks() != facts.without_clocks();
        let (claim, unclaim) = (self.bits(&decision.claim), self.bits(&decision.unclaim));
        let next = match &decision.next {
            Next::Act(action) => Move::Act(number(&mut self.effects, (question.side, action.effect.clone()))),
            Next::Look(needs) => Move::Look(self.wanted(needs)),
            Next::Again => Move::Again,
            Next::Wait(wait) => Move::Wait(self.wanted(&wait.needs)),
            Next::Settled | Next::Halted(_) => Move::Rest,
        };
        let late = matches!(&decision.next, Next::Wait(wait) if wait.on == WaitingOn::LateCalls);
        Decided { facts: self.keep(question.side, decision.facts), next, write, claim, unclaim, told, late }
    }

    /// What a view shows, under this service's names.
    fn renamed(&self, me: &Service, mut seen: Observed) -> Observed {
        let first = &self.services[0];
        let names: BTreeMap<&str, &str> = first
            .arns
            .iter()
            .zip(&me.arns)
            .map(|(first, mine)| (&*self.names[usize::from(*first)], &*self.names[usize::from(*mine)]))
            .collect();
        let rename = |arn: &mut String| {
            if let Some(mine) = names.get(arn.as_str()) {
                *arn = (*mine).to_owned();
            }
        };
        let read = |read: &mut LoadBalancer| {
            for action in &mut read.actions {
                rename(&mut action.owner);
                action.groups.iter_mut().for_each(|(group, _)| rename(group));
            }
        };
        if let Seen::Known(service) = &mut seen.service {
            for set in &mut service.task_sets {
                let tail =
                    set.external_id.take().unwrap_or_default().replace("/U/", &format!("/{}/", me.uid));
                set.external_id = Some(tail);
            }
        }
        if let Some(Seen::Known(balancer)) = &mut seen.extra.load_balancer {
            read(balancer);
        }
        if let Some(Seen::Known(preflight)) = &mut seen.extra.preflight {
            read(&mut preflight.load_balancer);
        }
        seen
    }

    /// The shipped `settle`.
    pub fn settle(&mut self, side: u8, facts: FactsId, effect: EffectId, reply: Reply) -> FactsId {
        if let Some(known) = self.settled.get(&(side, facts, effect, reply)) {
            return *known;
        }
        let before = self.facts(side, facts);
        let what = self.effect(effect).clone();
        let after = pointsman_core::decide::settle(&before, &what, &answer(&what, reply), 1);
        let settled = self.keep(side, after);
        self.settled.insert((side, facts, effect, reply), settled);
        settled
    }
}
