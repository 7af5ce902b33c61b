//! The small world of the model beside the pure region that the property tests, the harness and the sandbox run on.
//!
//! Both are driven by the same effects, deliveries, ticks, hands and deaths; after each step both are read as a pass
//! reads them, the one through [`View`], the other through the harness's adapters, and must show the same.
//!
//! **What is made equal first**, and nothing else: names (ARNs, the family); the instants at which the alarm changed,
//! which count as first, second, …; the alarm's range and the network mode, which no model of either side decides;
//! actions that forward nowhere, and the order of lists; of a set whose tasks died, how many are pending and how many
//! targets drain, because the region waits before it tries again and the model does not care. For the same reason no
//! trace scales such a set, or deletes it in the tick in which its tasks died (walks of the model let only a candidate's
//! tasks die); and none lets a set grow in the tick in which it shrank, because the model does not tell a task that is
//! being stopped from the one that replaces it. No trace has tasks come back: in the region it is the delay of a restart
//! that says when, in the model the budget of [`Kind::Revive`](super::state::Kind); then they start as those of a new set.
//!
//! **How time is made equal.** A tick of the model is an hour of the region, in which tasks need half an hour to run
//! and an hour from there to their first health check: what the model says of a tick is what an hour brings. Within a
//! tick each step takes two milliseconds, in which a task set becomes steady that has nothing left to do. A client
//! token is remembered for ever, as the model has it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use pointsman_core::decide::Asked;
use pointsman_core::model::effect::Shares;
use pointsman_core::model::observed::{AlarmState, LoadBalancer, Observed, Targets};
use pointsman_core::model::{Acknowledgement, Answer, Effect, Need, Plan, Revision, Seen};
use pointsman_core::records::{DesiredReleaseSpec, Group};
use pointsman_core::world::{Runtime, Tuning};

use super::mind::answer;
use super::plan::{self, group_arn, load_balancer_arn, rule_arn};
use super::state::{Fate, Sight};
use super::view::{View, changed_at};
use super::world::{EffectId, Reply, SICK, SIGNATURE, World, serial_of};
use crate::faults::region::{GROUPS, SmallRegion};

mod deviations;
mod traces;

use deviations::Deviation;

/// One step of a trace.
#[derive(Clone, Debug)]
enum Event {
    /// An effect is sent.
    Send(Effect, Fate),
    /// The so-many-th request on its way lands.
    Land(usize),
    /// Time passes.
    Tick,
    /// A person moves all production weight.
    Drift(bool),
    /// The alarm changes.
    Flip,
    /// All tasks of a set die.
    Die(u8),
}

/// Both worlds, and the names of the one in the other.
struct Pair {
    small: World,
    /// What is wrong with the small one.
    deviation: Option<Deviation>,
    region: SmallRegion,
    /// The plan by which each is read.
    plans: (Plan, Plan),
    ticks: i64,
    steps: i64,
    /// Task set ARN by serial number.
    arns: BTreeMap<u8, String>,
    /// When the alarm changed; the first is the beginning.
    flips: Vec<Timestamp>,
    /// Effects by the number that the model's mail has.
    effects: Vec<Effect>,
    /// What is on its way, and for how many ticks: kept beside the model's.
    mail: Vec<(EffectId, u8)>,
    /// Sets whose tasks died, and in which tick.
    dead: BTreeMap<u8, i64>,
    /// How often each thing happened.
    met: BTreeMap<String, u32>,
}

const ALARM: &str = "5xx";

fn tuning() -> Tuning {
    let never = SignedDuration::from_hours(1_000_000);
    Tuning {
        runtime: Runtime::Simulated,
        task_start: SignedDuration::from_mins(30),
        target_registration: SignedDuration::from_hours(1),
        steady_lag: SignedDuration::from_millis(1),
        restart_delay: never,
        restart_delay_max: never,
        client_token_life: never,
        ..Tuning::default()
    }
}

impl Pair {
    fn new(deviation: Option<Deviation>) -> Self {
        let mut region = SmallRegion::tuned(tuning(), SICK.into(), |revision| {
            if revision == u32::from(SICK) { "never" } else { "sound" }
        });
        let config = super::config::Config { test_route: true, ..super::config::CI[0] };
        let small_spec = plan::service(&config).expect("a record");
        let mut spec = region.managed_service();
        spec.alarms.clone_from(&small_spec.alarms);
        region.add_alarms(&spec);
        let Asked::Valid { spec: any, .. } = plan::desired(Some(1)) else { panic!("no request") };
        let there = DesiredReleaseSpec { task_definition: "checkout:1".to_owned(), ..any.clone() };
        let resolve = |spec, any| Plan::resolve(spec, any).expect("a plan").0;
        let plans = (resolve(&small_spec, &any), resolve(&spec, &there));
        let start = SmallRegion::epoch();
        // Twice, so that what was there before the last write is the same, too.
        for route in ["public", "preview", "public", "preview"] {
            assert!(region.write_weights(start, route, 0, 100));
        }
        Self {
            small: World::empty(true),
            deviation,
            region,
            plans,
            ticks: 0,
            steps: 0,
            arns: BTreeMap::new(),
            flips: vec![start],
            effects: Vec::new(),
            mail: Vec::new(),
            dead: BTreeMap::new(),
            met: BTreeMap::new(),
        }
    }

    fn now(&self) -> Timestamp {
        SmallRegion::epoch()
            + SignedDuration::from_hours(self.ticks)
            + SignedDuration::from_millis(2 * self.steps)
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.met.entry(what.into()).or_default() += 1;
    }

    /// Does the same to both; says how they differ then.
    fn apply(&mut self, event: &Event) -> Result<(), String> {
        self.steps += 1;
        match event {
            Event::Send(effect, fate) => self.send(effect, *fate)?,
            Event::Land(index) => {
                let taken = self.small.take(*index).ok_or("nothing is on its way here")?;
                let known = self.mail.iter().position(|mail| *mail == (taken.effect, taken.age));
                self.mail.remove(known.ok_or_else(|| format!("{taken:?} was never sent"))?);
                self.count("landing");
                self.land(&self.effects[usize::from(taken.effect)].clone())?;
            }
            Event::Tick => self.tick(),
            Event::Drift(to_b) => {
                self.small.drift(*to_b);
                let (a, b) = if *to_b { (0, 100) } else { (100, 0) };
                self.region.write_weights(self.now(), "public", a, b);
                self.count("drift");
            }
            Event::Flip => {
                self.small.flips += 1;
                let state = if self.small.flips % 2 == 1 { AlarmState::Alarm } else { AlarmState::Ok };
                self.region.set_alarm(self.now(), ALARM, state);
                self.flips.push(self.now());
                self.count("alarm");
            }
            Event::Die(serial) => {
                self.small.die(*serial);
                let arn = self.arn(*serial);
                self.region.kill_tasks(self.now(), &arn);
                self.dead.insert(*serial, self.ticks);
                self.count("tasks die");
            }
        }
        // What needs nothing more than a moment happens.
        self.steps += 1;
        self.region.advance(self.now());
        self.compare()
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.steps = 0;
        self.region.advance(self.now());
        deviations::tick(self.deviation, &mut self.small);
        for (_, age) in &mut self.mail {
            *age += 1;
        }
        self.mail.retain(|(_, age)| *age < SIGNATURE);
        self.count("tick");
    }

    // --- effects

    fn send(&mut self, effect: &Effect, fate: Fate) -> Result<(), String> {
        let there = self.there(effect);
        let now = self.now();
        let theirs = self.region.objection(now, &self.plans.1, &there);
        if let Some(ours) = self.small.objection(effect) {
            let theirs = theirs.ok_or_else(|| format!("{effect}: {ours:?} here, no objection there"))?;
            self.count(format!("objection {ours:?}"));
            return same_class(effect, &answer(effect, ours), &theirs);
        }
        if let Some(theirs) = theirs {
            return Err(format!("{effect}: {theirs:?} there, no objection here"));
        }
        self.count(format!("sent {fate:?}"));
        match fate {
            Fate::Done | Fate::AnswerLost => self.land(effect)?,
            Fate::CallLost | Fate::Throttled => {}
            Fate::Late => self.post(effect, 0),
            Fate::Twice => {
                self.land(effect)?;
                self.post(effect, SIGNATURE - 1);
            }
        }
        Ok(())
    }

    fn post(&mut self, effect: &Effect, age: u8) {
        let known = self.effects.iter().position(|known| known == effect);
        let id = known.unwrap_or_else(|| {
            self.effects.push(effect.clone());
            self.effects.len() - 1
        });
        let id = u16::try_from(id).expect("few effects");
        if self.small.post(id, age) {
            self.mail.push((id, age));
        }
    }

    fn land(&mut self, effect: &Effect) -> Result<(), String> {
        let there = self.there(effect);
        let now = self.now();
        let theirs = self.region.carry_out(now, &self.plans.1, &there);
        let ours = deviations::carry_out(self.deviation, &mut self.small, effect);
        self.count(format!("{} {}", effect.name(), word(ours)));
        if let (Reply::Done(serial), Answer::Acknowledged(Acknowledgement::Created { task_set })) =
            (ours, &theirs)
        {
            let stranger = !self.arns.values().any(|known| known == task_set);
            let known = self.arns.entry(serial).or_insert_with(|| task_set.clone());
            if known != task_set || (stranger && self.small.next != serial + 1) {
                return Err(format!("{effect}: ts-{serial} is {known} and {task_set}"));
            }
        }
        let theirs = self.answer_here(theirs);
        same_class(effect, &answer(effect, ours), &theirs)
    }

    /// An effect under the region's names.
    fn there(&self, effect: &Effect) -> Effect {
        let mut there = effect.clone();
        match &mut there {
            Effect::CreateTaskSet { revision, .. } => revision.family = "checkout".to_owned(),
            Effect::ScaleTaskSet { task_set, .. }
            | Effect::DeleteTaskSet { task_set, .. }
            | Effect::SetPrimary { task_set } => *task_set = self.arn(serial_of(task_set)),
            Effect::SetWeights { .. } => {}
        }
        there
    }

    fn arn(&self, serial: u8) -> String {
        let missing = || "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/0".to_owned();
        self.arns.get(&serial).cloned().unwrap_or_else(missing)
    }

    fn answer_here(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Acknowledged(Acknowledgement::Created { task_set }) => {
                Answer::Acknowledged(Acknowledgement::Created { task_set: self.here(&task_set) })
            }
            other => other,
        }
    }

    // --- what a pass reads

    /// The model's name of an ARN of the region.
    fn here(&self, arn: &str) -> String {
        let set = self.arns.iter().find(|(_, known)| *known == arn).map(|(serial, _)| format!("ts-{serial}"));
        let groups = &self.plans.1.spec.target_groups;
        let group = GROUPS.into_iter().find(|group| groups.of(*group).as_str() == arn);
        let mut routes = self.plans.1.routes();
        let route = routes.find(|route| route.rule.as_ref().is_some_and(|rule| rule.as_str() == arn));
        set.or_else(|| group.map(|group| group_arn(group == Group::B)))
            .or_else(|| route.map(|route| rule_arn(&route.name)))
            .unwrap_or_else(|| arn.replace("loadbalancer/app/edge/", "edge/"))
    }

    /// Both are read with every question that `decide` can ask, and once with a stale read.
    fn compare(&mut self) -> Result<(), String> {
        let revision = |family: &str| Revision { family: family.to_owned(), number: 1 };
        let since = self.flips.len() / 2;
        let needs = |family: &str, since: Timestamp| {
            let groups = GROUPS.into_iter().map(Need::Targets);
            let rest = [
                Need::Preflight(revision(family)),
                Need::LoadBalancer,
                Need::AlarmHistory(ALARM.to_owned(), since),
            ];
            groups.chain(rest).collect()
        };
        let now = self.now();
        let there = needs("checkout", self.flips[since]);
        let here = needs("web", nth_change(since));
        let clear = self.region.observe(now, Some(&self.plans.1), &there);
        let mut stale = clear.clone();
        if let Some(before) = self.region.weights_before().get("public") {
            let weights = pointsman_core::model::observed::Weights::Pair(*before);
            stale.routes.insert("public".to_owned(), Seen::Known(weights));
        }
        for (sight, theirs) in [(Sight::Clear, clear), (Sight::Stale, stale)] {
            let ours = View::of(&self.small, sight).observed(Some(&self.plans.0), &here);
            let (mut ours, mut theirs) = (self.normal(ours), self.normal_there(theirs));
            if sight == Sight::Stale {
                // That a status may be an old one is the model's own caution: the region never shows one.
                forget_stability(&mut ours);
                forget_stability(&mut theirs);
                // One read for each route; only the first is a stale one.
                (ours.extra, theirs.extra) = Default::default();
            }
            differ(&ours, &theirs)?;
        }
        let mut letters: Vec<_> =
            self.small.mail.iter().flatten().map(|mail| (mail.effect, mail.age)).collect();
        letters.sort_unstable();
        self.mail.sort_unstable();
        if letters != self.mail {
            return Err(format!("on their way: {letters:?} here, {:?} there", self.mail));
        }
        Ok(())
    }

    /// The region's snapshot under the model's names.
    fn normal_there(&self, mut seen: Observed) -> Observed {
        if let Seen::Known(service) = &mut seen.service {
            for set in &mut service.task_sets {
                set.arn = self.here(&set.arn);
                set.revision.family = "web".to_owned();
            }
        }
        let change_here = |at: Timestamp| {
            let rank = self.flips.iter().position(|flip| *flip == at)?;
            Some(nth_change(rank))
        };
        for alarm in seen.alarms.values_mut() {
            let Seen::Known(alarm) = alarm else { continue };
            alarm.transitioned_at = alarm.transitioned_at.and_then(change_here);
        }
        for history in seen.extra.alarm_history.values_mut() {
            let Seen::Known(entered) = history else { continue };
            for (at, _) in entered {
                *at = change_here(*at).unwrap_or(*at);
            }
        }
        let rename = |read: &mut LoadBalancer| {
            read.actions.retain(|action| !action.groups.is_empty());
            for action in &mut read.actions {
                action.owner = self.here(&action.owner);
                action.load_balancer = load_balancer_arn();
                for (group, _) in &mut action.groups {
                    *group = self.here(group);
                }
            }
            for of_group in read.of_groups.values_mut() {
                *of_group = of_group.iter().map(|_| load_balancer_arn()).collect();
            }
        };
        if let Some(Seen::Known(read)) = &mut seen.extra.load_balancer {
            rename(read);
        }
        if let Some(Seen::Known(read)) = &mut seen.extra.preflight {
            rename(&mut read.load_balancer);
            if let Some(definition) = &mut read.task_definition {
                definition.awsvpc = false;
            }
        }
        self.normal(seen)
    }

    /// See the head of this file.
    fn normal(&self, mut seen: Observed) -> Observed {
        let dead = |arn: &str| self.dead.contains_key(&serial_of(arn));
        let mut grave = Vec::new();
        if let Seen::Known(service) = &mut seen.service {
            service.task_sets.sort_by(|a, b| a.arn.cmp(&b.arn));
            for set in service.task_sets.iter_mut().filter(|set| dead(&set.arn)) {
                set.pending = 0;
                grave.extend(set.group);
            }
        }
        for alarm in seen.alarms.values_mut() {
            if let Seen::Known(alarm) = alarm {
                alarm.range = pointsman_core::records::Span::ZERO;
            }
        }
        let bury = |group: Group, targets: &mut Targets| {
            targets.reason = None;
            if grave.contains(&group) {
                targets.draining = 0;
            }
        };
        for (group, targets) in &mut seen.extra.targets {
            if let Seen::Known(targets) = targets {
                bury(*group, targets);
            }
        }
        let sort = |read: &mut LoadBalancer| read.actions.sort_by(|a, b| a.owner.cmp(&b.owner));
        if let Some(Seen::Known(read)) = &mut seen.extra.load_balancer {
            sort(read);
        }
        if let Some(Seen::Known(read)) = &mut seen.extra.preflight {
            sort(&mut read.load_balancer);
            read.targets.iter_mut().for_each(|(group, targets)| bury(*group, targets));
        }
        seen
    }
}

fn forget_stability(seen: &mut Observed) {
    if let Seen::Known(service) = &mut seen.service {
        service.task_sets.iter_mut().for_each(|set| set.steady = false);
    }
}

fn word(reply: Reply) -> String {
    match reply {
        Reply::Done(_) => "done".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Answers agree when their class does, and what an acknowledgement says.
fn same_class(effect: &Effect, ours: &Answer, theirs: &Answer) -> Result<(), String> {
    let same = match (ours, theirs) {
        (Answer::Refused { class: ours, .. }, Answer::Refused { class: theirs, .. }) => ours == theirs,
        (ours, theirs) => ours == theirs,
    };
    if same { Ok(()) } else { Err(format!("{effect}: {ours:?} here, {theirs:?} there")) }
}

fn differ(ours: &Observed, theirs: &Observed) -> Result<(), String> {
    let mut told = String::new();
    let mut compare = |name: &str, ours: &dyn fmt::Debug, theirs: &dyn fmt::Debug| {
        let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
        if ours != theirs {
            told.push_str(&[name, ":\n here ", &ours, "\nthere ", &theirs, "\n"].concat());
        }
    };
    compare("service", &ours.service, &theirs.service);
    compare("routes", &ours.routes, &theirs.routes);
    compare("alarms", &ours.alarms, &theirs.alarms);
    compare("extra", &ours.extra, &theirs.extra);
    if ours == theirs { Ok(()) } else { Err(told) }
}

/// When the alarm changed, as the model has it.
fn nth_change(nth: usize) -> Timestamp {
    changed_at(u8::try_from(nth).expect("few changes"))
}

/// The weights that a write of this share of group b carries.
fn shares(share: u16) -> Shares {
    super::view::shares(share)
}
