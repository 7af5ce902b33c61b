//! The decision core in a small world: production `decide` and `settle` over the pure region, with the
//! order of writes that the reconcile loop keeps, in virtual time, with faults at every seam.

mod bugs;
mod people;
pub mod region;
pub mod seen;
pub mod trouble;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pointsman_core::decide::safety::{Violation, violations};
use pointsman_core::decide::{Asked, Decision, Input, Limits, Next, Wish, plan_to_observe};
use pointsman_core::model::facts::{Ended, Facts, Stage};
use pointsman_core::model::observed::{Targets, Weights};
use pointsman_core::model::{Action, Answer, Effect, Need, Observed, Plan, RefusalClass, Seen};
use pointsman_core::records::desired_release::DesiredReleaseSpec;
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::{ServiceKey, Span};

pub use bugs::Bug;
pub use region::GROUPS;
use region::SmallRegion;
use trouble::Injection;

/// What happens to one pass besides what should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing.
    None,
    /// The process dies after the announcement, before the effect.
    CrashBefore,
    /// The process dies after the effect, before its answer is recorded.
    CrashAfter,
    /// The effect happens, the answer is lost.
    LostAnswer,
    /// Neither happens, and nobody can tell.
    LostCall,
    /// The answer is lost and the effect happens some passes later.
    Late,
    /// Rate limit.
    Throttled,
    /// No permission.
    Denied,
    /// Another replica takes over before the pass.
    TakeOver,
    /// The ECS service cannot be read.
    ServiceUnread,
    /// Routes cannot be read.
    RoutesUnread,
    /// Alarms cannot be read.
    AlarmsUnread,
    /// Routes show what they were before the last write.
    StaleRoutes,
    /// The targets are not healthy when they are looked at once more.
    TargetsUnwell,
    /// desiredCount grew and the task set has not followed yet.
    DesiredJustGrew,
}

impl Fault {
    /// Whether it befalls what is read, and not an effect.
    pub const fn is_of_reading(self) -> bool {
        matches!(
            self,
            Self::ServiceUnread
                | Self::RoutesUnread
                | Self::AlarmsUnread
                | Self::StaleRoutes
                | Self::TargetsUnwell
                | Self::DesiredJustGrew
        )
    }
}

/// Spoils a decision.
pub type Forge = Box<dyn Fn(&mut Decision)>;

/// One service, its memory and its world.
pub struct Sim {
    pub region: SmallRegion,
    pub now: Timestamp,
    pub service: Asked<ManagedServiceSpec>,
    pub desired: Asked<DesiredReleaseSpec>,
    pub wishes: Vec<Wish>,
    pub durable: Facts,
    pub memory: Option<Facts>,
    pub epoch: u64,
    pub ended: Vec<Ended>,
    pub effects: Vec<Effect>,
    /// What was sent before all other work.
    pub urgent: Vec<Effect>,
    pub violations: Vec<String>,
    pub reached: BTreeMap<String, u64>,
    pub bug: Bug,
    pub last_next: Option<Next>,
    needs: BTreeSet<Need>,
    late: Vec<(u32, Plan, Effect)>,
    last_pass: Option<Timestamp>,
    turn: u32,
    key: ServiceKey,
    limits: Limits,
    foreign_hand: bool,
    withdrawn: Option<ManagedServiceSpec>,
    armed: Fault,
    /// Trouble of one kind in one phase.
    pub injections: Vec<Injection>,
    /// What somebody else did to the world that the region has no call for.
    pub hand: Option<fn(&mut Observed)>,
    /// What a decision that nobody would make says otherwise.
    pub forge: Option<Forge>,
    /// What preflight sees otherwise than it is.
    pub twist: Option<fn(&mut Observed)>,
    /// A claim that another service holds.
    pub claim_denied: Option<(String, String)>,
    /// `observedGeneration` of the status as told last, when a test wants to know it.
    pub told_generation: Option<u64>,
}

const POLL: Span = Span::from_secs(2);

impl Sim {
    pub fn new(spec: impl FnOnce(&mut ManagedServiceSpec)) -> Self {
        let mut region = SmallRegion::new();
        let mut service = region.managed_service();
        spec(&mut service);
        region.add_alarms(&service);
        Self {
            now: SmallRegion::epoch(),
            region,
            service: Asked::Valid { spec: service, hash: "sha256:service".to_owned() },
            desired: Asked::Absent,
            wishes: Vec::new(),
            durable: Facts::default(),
            memory: None,
            epoch: 1,
            ended: Vec::new(),
            effects: Vec::new(),
            urgent: Vec::new(),
            violations: Vec::new(),
            reached: BTreeMap::new(),
            bug: Bug::None,
            last_next: None,
            needs: BTreeSet::new(),
            late: Vec::new(),
            last_pass: None,
            turn: 0,
            key: "payments/checkout".parse().expect("a key"),
            limits: Limits { installation: "test".to_owned(), poll: POLL, idle_poll: Span::from_secs(60) },
            foreign_hand: false,
            withdrawn: None,
            armed: Fault::None,
            injections: Vec::new(),
            hand: None,
            forge: None,
            twist: None,
            claim_denied: None,
            told_generation: None,
        }
    }

    /// As above, behind two production routes.
    pub fn behind_two_routes(spec: impl FnOnce(&mut ManagedServiceSpec)) -> Self {
        let mut sim = Self::new(spec);
        if let Asked::Valid { spec, .. } = &mut sim.service {
            sim.region.add_production_route(spec);
        }
        sim
    }

    /// The service with version 1 already serving from group a.
    pub fn serving(spec: impl FnOnce(&mut ManagedServiceSpec)) -> Self {
        let mut sim = Self::new(spec);
        sim.ask(1);
        sim.run_until(Self::is_settled, 400);
        assert!(sim.durable.stable.is_some(), "the first release did not succeed: {:?}", sim.last_next);
        sim.effects.clear();
        sim.ended.clear();
        sim
    }

    /// The id of the release in flight, as people write it.
    pub fn release_id(&self) -> String {
        let facts = self.facts();
        match &facts.release {
            Some(release) => format!("checkout-{}", release.id),
            None => format!("checkout-{}.{}", facts.generation, facts.attempt),
        }
    }

    pub fn facts(&self) -> &Facts {
        self.memory.as_ref().unwrap_or(&self.durable)
    }

    /// The id of the release that ended last.
    pub fn last_release_id(&self) -> String {
        let last = self.facts().last.as_ref().map_or_else(String::new, |last| last.release.to_string());
        format!("checkout-{last}")
    }

    pub fn waits_for_a_record(&self) -> bool {
        matches!(&self.last_next, Some(Next::Wait(wait)) if wait.on.name() == "Record")
    }

    /// A hand moved traffic to a task set that is to go, and no other one could take it: only a person can decide what
    /// becomes of that.
    pub fn waits_for_a_person(&self) -> bool {
        let at_zero = matches!(&self.last_next, Some(Next::Wait(wait)) if wait.on.name() == "GroupAtZero");
        self.foreign_hand && at_zero && self.region.task_sets().len() == 1
    }

    pub fn is_settled(&self) -> bool {
        matches!(self.last_next, Some(Next::Settled)) && self.late.is_empty()
    }

    pub fn run_until(&mut self, done: impl Fn(&Self) -> bool, passes: u32) {
        for _ in 0..passes {
            if done(self) {
                return;
            }
            self.pass(Fault::None);
        }
        assert!(done(self), "not reached in {passes} passes; last move {:#?}", self.last_next);
    }

    /// One pass as the reconcile loop runs it: turns without delay until it waits, at most sixteen.
    pub fn pass(&mut self, fault: Fault) {
        if fault == Fault::TakeOver {
            self.epoch += 1;
            self.forget();
        }
        // A fault of an effect waits for the next effect, however many passes that takes.
        let reading = fault.is_of_reading();
        if !reading && fault != Fault::None && fault != Fault::TakeOver {
            self.armed = fault;
        }
        for _ in 0..16 {
            let fault = if reading { fault } else { self.armed };
            let next = self.turn(fault);
            if matches!(next, Next::Act(_)) && !reading {
                self.armed = Fault::None;
            }
            self.note_next(&next);
            self.last_next = Some(next.clone());
            let pause = match next {
                Next::Act(_) | Next::Look(_) | Next::Again => None,
                Next::Wait(wait) => Some(wait.poll.min(Span::from_secs(10))),
                Next::Settled => Some(Span::from_secs(10)),
                Next::Halted(_) => Some(Span::from_secs(4)),
            };
            if let Some(pause) = pause {
                self.let_time_pass(pause);
                return;
            }
        }
        self.let_time_pass(POLL);
    }

    pub fn let_time_pass(&mut self, span: Span) {
        self.now += span.signed();
        self.region.advance(self.now);
    }

    /// The daemon is away; nobody watches.
    pub fn be_away(&mut self, span: Span) {
        self.forget();
        self.let_time_pass(span);
        if self.bug == Bug::BakeByWallClock {
            self.last_pass = Some(self.now - span.signed());
        }
    }

    fn forget(&mut self) {
        self.memory = None;
        self.last_pass = None;
        self.needs.clear();
    }

    fn watched(&self) -> (Span, Span) {
        let Some(last) = self.last_pass else { return (Span::ZERO, Span::ZERO) };
        let passed = Span::between(last, self.now);
        let honest = passed.min(POLL.times(2));
        (honest, if self.bug == Bug::BakeByWallClock { passed } else { honest })
    }

    fn turn(&mut self, fault: Fault) -> Next {
        self.turn += 1;
        self.land_late_effects();
        let facts = self.memory.clone().unwrap_or_else(|| self.durable.clone());
        let plan = plan_to_observe(&facts, &self.service);
        let needs = std::mem::take(&mut self.needs);
        let mut observed = self.region.observe(self.now, plan.as_ref(), &needs);
        disturb(&mut observed, fault, &self.region);
        self.violations.extend(trouble::read_out_of_turn(&facts, &observed));
        if let Some(hand) = self.hand {
            hand(&mut observed);
        }
        for injection in &mut self.injections {
            injection.disturb(&facts, &mut observed);
        }
        if let Some(twist) = self.twist.filter(|_| observed.extra.preflight.is_some()) {
            twist(&mut observed);
        }
        let (honest, watched) = self.watched();
        self.last_pass = Some(self.now);
        let input = Input {
            key: &self.key,
            now: self.now,
            watched,
            epoch: self.epoch,
            limits: &self.limits,
            service: &self.service,
            desired: &self.desired,
            commands: &self.wishes,
            observed: &observed,
            facts: &facts,
            fresh_uid: "01JD6Z6H1W",
            claim_denied: self.claim_denied.as_ref(),
        };
        let mut decision = pointsman_core::decide::decide(&input);
        let again = pointsman_core::decide::decide(&input);
        assert_eq!(decision, again, "decide is not deterministic");
        self.break_it(&mut decision, &input);
        if let Some(forge) = &self.forge {
            forge(&mut decision);
        }
        let honest_input = Input { watched: honest, ..input };
        let found = violations(&honest_input, &decision);
        let tell = |_| pointsman_core::decide::explain::status(&honest_input, &decision, None);
        self.told_generation = self.told_generation.map(tell).map(|told| told.status.observed_generation);
        self.record(&facts, found);
        self.ended.extend(decision.ended.iter().cloned());
        if let Next::Look(needs) = &decision.next {
            self.needs.clone_from(needs);
        }
        if let Next::Wait(wait) = &decision.next {
            self.needs.clone_from(&wait.needs);
        }
        self.note_facts(&decision.facts);
        let plan = decision.facts.plan.clone().or(plan);
        self.carry_on(decision, plan, fault)
    }

    /// Announce, act, settle: in this order, with a crash possible at each seam.
    fn carry_on(&mut self, decision: Decision, plan: Option<Plan>, fault: Fault) -> Next {
        let Next::Act(action) = &decision.next else {
            self.durable = decision.facts.clone();
            self.memory = Some(decision.facts);
            return decision.next;
        };
        let plan = plan.expect("an effect needs a plan");
        if action.rollback {
            self.urgent.push(action.effect.clone());
        }
        if self.bug == Bug::ActBeforeRecord && fault == Fault::CrashBefore {
            // The effect is out, the announcement never was.
            self.apply(&plan, &action.effect);
            self.forget();
            if !self.durable.outstanding.contains_key(&action.effect.resource()) {
                self.violations.push(format!("WriteAhead: {} was never announced", action.effect));
            }
            return decision.next;
        }
        self.durable = decision.facts.clone();
        self.memory = Some(decision.facts.clone());
        let Some(answer) = self.send(&plan, action, fault) else {
            self.forget();
            return decision.next;
        };
        let settled = pointsman_core::decide::settle(&decision.facts, &action.effect, &answer, self.epoch);
        self.durable = settled.clone();
        self.memory = Some(settled);
        decision.next
    }

    /// The answer, or none when the process did not live to see it.
    fn send(&mut self, plan: &Plan, action: &Action, fault: Fault) -> Option<Answer> {
        let effect = &action.effect;
        self.violations.extend(trouble::asked_out_of_turn(&self.durable, effect, plan));
        let facts = &self.durable;
        let met = self.injections.iter_mut().find_map(|it| it.befalls(facts, effect, plan));
        if let Some((class, happens)) = met {
            if happens {
                self.apply(plan, effect);
            }
            return Some(trouble::answer(class));
        }
        let lost = || Some(Answer::Unknown { message: "no answer in time".to_owned() });
        *self.reached.entry(format!("fault {fault:?}")).or_default() += 1;
        match fault {
            Fault::CrashBefore => None,
            Fault::CrashAfter => {
                self.apply(plan, effect);
                None
            }
            Fault::LostAnswer => {
                self.apply(plan, effect);
                lost()
            }
            Fault::LostCall => lost(),
            Fault::Late => {
                self.late.push((self.turn + 5, plan.clone(), effect.clone()));
                lost()
            }
            Fault::Throttled | Fault::Denied => {
                let class =
                    if fault == Fault::Denied { RefusalClass::Denied } else { RefusalClass::Throttled };
                Some(Answer::Refused { class, message: "no".to_owned() })
            }
            Fault::None
            | Fault::TakeOver
            | Fault::ServiceUnread
            | Fault::RoutesUnread
            | Fault::AlarmsUnread
            | Fault::StaleRoutes
            | Fault::TargetsUnwell
            | Fault::DesiredJustGrew => Some(self.apply(plan, effect)),
        }
    }

    fn apply(&mut self, plan: &Plan, effect: &Effect) -> Answer {
        *self.reached.entry(format!("effect {}", effect.name())).or_default() += 1;
        if let Effect::SetWeights { route, .. } = effect {
            *self.reached.entry(format!("weights of {route}")).or_default() += 1;
        }
        self.effects.push(effect.clone());
        let answer = self.region.carry_out(self.now, plan, effect);
        self.look_at_the_world(effect);
        answer
    }

    /// What must be true of the world itself after each of our effects.
    fn look_at_the_world(&mut self, effect: &Effect) {
        if self.foreign_hand {
            return;
        }
        for route in self.region.production_routes() {
            let is_its =
                |effect: &Effect| matches!(effect, Effect::SetWeights { route: its, .. } if its == route);
            if !self.durable.acknowledged.contains_key(route) && !self.effects.iter().any(is_its) {
                // It is as it was before the first release.
                continue;
            }
            for (group, weight) in self.region.group_weights(route) {
                let serves_nothing_yet = self.durable.stable.is_none();
                if weight > 0 && !serves_nothing_yet && !self.region.has_task_set(group) {
                    let what = format!("group {group} with weight {weight} on {route} is empty");
                    self.violations.push(format!("outage: {effect}, and {what}"));
                }
            }
        }
    }

    fn land_late_effects(&mut self) {
        let turn = self.turn;
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, _, _)| *at <= turn);
        self.late = rest;
        for (_, plan, effect) in due {
            *self.reached.entry("late effect".to_owned()).or_default() += 1;
            self.apply(&plan, &effect);
        }
    }

    fn record(&mut self, facts: &Facts, found: Vec<Violation>) {
        for violation in found {
            self.violations.push(format!("{violation} (generation {})", facts.generation));
        }
    }

    fn note_next(&mut self, next: &Next) {
        let name = match next {
            Next::Act(_) => return,
            Next::Look(_) => "look".to_owned(),
            Next::Again => "again".to_owned(),
            Next::Wait(wait) => format!("wait {}", wait.on.name()),
            Next::Settled => "settled".to_owned(),
            Next::Halted(halt) => format!("halted {:?}", halt.reason),
        };
        *self.reached.entry(name).or_default() += 1;
    }

    fn note_facts(&mut self, facts: &Facts) {
        if let Some(release) = &facts.release {
            *self.reached.entry(format!("stage {:?}", release.progress.stage)).or_default() += 1;
            if let Some(latch) = &release.latch {
                *self.reached.entry(format!("latch {:?}", latch.cause)).or_default() += 1;
            }
        }
    }
}

/// Every stage there is.
pub const STAGES: [Stage; 7] = [
    Stage::Preparing,
    Stage::Scaling,
    Stage::Shifting,
    Stage::Baking,
    Stage::Pausing,
    Stage::Completing,
    Stage::GoingBack,
];

/// Makes a part of an observation unreadable, or stale.
fn disturb(observed: &mut Observed, fault: Fault, region: &SmallRegion) {
    let unread = || "throttled".to_owned();
    match fault {
        Fault::ServiceUnread => observed.service = Seen::Unknown(unread()),
        Fault::RoutesUnread => observed.routes.values_mut().for_each(|seen| *seen = Seen::Unknown(unread())),
        Fault::AlarmsUnread => observed.alarms.values_mut().for_each(|seen| *seen = Seen::Unknown(unread())),
        Fault::StaleRoutes => {
            for (route, before) in region.weights_before() {
                if let Some(seen) = observed.routes.get_mut(route) {
                    *seen = Seen::Known(Weights::Pair(*before));
                }
            }
        }
        Fault::TargetsUnwell => {
            for targets in observed.extra.targets.values_mut() {
                let sick = Targets { unhealthy: 4, ..Targets::default() };
                *targets = Seen::Known(sick);
            }
        }
        Fault::DesiredJustGrew => {
            if let Seen::Known(service) = &mut observed.service {
                service.desired_count += 20;
            }
        }
        Fault::None
        | Fault::CrashBefore
        | Fault::CrashAfter
        | Fault::LostAnswer
        | Fault::LostCall
        | Fault::Late
        | Fault::Throttled
        | Fault::Denied
        | Fault::TakeOver => {}
    }
}
