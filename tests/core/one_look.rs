//! What one look decides right at an edge: a clock that has run out to the moment or not yet, a share that just
//! suffices, two guards of which one alone speaks.
//!
//! Each row bends one thing of a hand-made situation, and tells the one next move. No time was watched in the look, so
//! that clocks stand where the row sets them; the second opinion is asked of every decision.

use pointsman_core::decide::safety::violations;
use pointsman_core::decide::{Asked, Decision, Input, Limits, Next, Wish, decide};
use pointsman_core::model::facts::{Acknowledged, Outstanding, Progress, Release};
use pointsman_core::model::observed::{Extra, TaskSet, Weights};
use pointsman_core::model::{Effect, Facts, Observed, Seen, Shares};
use pointsman_core::records::desired_release::DesiredReleaseSpec;
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::{Group, Span};

use crate::second_opinion::scene::{self, EPOCH, Scene, WATCHED};

mod commands;
mod forward;
mod leaving;
mod repair;
mod requests;
mod start;
mod unanswered;
mod watch;

/// A situation in which something is decided.
pub struct Look {
    pub observed: Observed,
    pub facts: Facts,
    pub service: Asked<ManagedServiceSpec>,
    pub desired: Asked<DesiredReleaseSpec>,
    pub commands: Vec<Wish>,
    pub watched: Span,
}

/// What is bent, the situation, how, and what is decided then.
pub type Row = (&'static str, fn() -> Look, fn(&mut Look), &'static str);

/// Asks for exactly the decision of each row.
pub fn ask(rows: &[Row]) {
    let mut wrong = Vec::new();
    for (what, look, bend, expected) in rows {
        let mut look = look();
        bend(&mut look);
        let told = look.told();
        if told != *expected {
            wrong.push(format!("{what}: {expected}, and it was {told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Look {
    fn of(scene: Scene) -> Self {
        let Scene { mut observed, before: facts, .. } = scene;
        observed.extra = Extra::default();
        let plan = facts.plan.as_ref().expect("each scene has one");
        for name in plan.routes().map(|route| route.name.clone()) {
            let shares = facts.acknowledged.get(&name).map_or(scene::all_to(Group::A), |write| write.shares);
            observed.routes.insert(name, Seen::Known(Weights::Pair(shares)));
        }
        let service = Asked::Valid { spec: plan.spec.clone(), hash: "sha256:service".to_owned() };
        let spec =
            DesiredReleaseSpec { task_definition: "checkout:2".to_owned(), strategy: None, request_id: None };
        let desired = Asked::Valid { spec, hash: "sha256:2".to_owned() };
        Self { observed, facts, service, desired, commands: Vec::new(), watched: Span::ZERO }
    }

    /// In the first step, of 10 %, with its weights in force.
    pub fn baking() -> Self {
        let mut look = Self::of(Scene::baking());
        look.progress().settled = look.spec().waits.propagation;
        look
    }

    /// The last step is next.
    pub fn shifting() -> Self {
        let mut look = Self::of(Scene::shifting());
        look.progress().steady_reads = 2;
        look
    }

    /// On the test route for long enough; nothing else is left of the gate.
    pub fn at_the_gate() -> Self {
        let mut look = Self::of(Scene::at_the_gate());
        look.progress().steady_reads = 2;
        look
    }

    pub fn spec(&self) -> &ManagedServiceSpec {
        &self.facts.plan.as_ref().expect("a plan").spec
    }

    pub fn progress(&mut self) -> &mut Progress {
        &mut self.release().progress
    }

    pub fn release(&mut self) -> &mut Release {
        self.facts.release.as_mut().expect("in flight")
    }

    pub fn sets(&mut self) -> &mut Vec<TaskSet> {
        let Seen::Known(service) = &mut self.observed.service else { unreachable!("it is read") };
        &mut service.task_sets
    }

    /// The set that serves, and the candidate's.
    pub fn stable(&mut self) -> &mut TaskSet {
        &mut self.sets()[0]
    }

    pub fn candidate(&mut self) -> &mut TaskSet {
        &mut self.sets()[1]
    }

    pub fn shows(&mut self, route: &str, shares: Shares) {
        self.observed.routes.insert(route.to_owned(), Seen::Known(Weights::Pair(shares)));
    }

    /// It was written, and is in force.
    pub fn wrote(&mut self, route: &str, shares: Shares) {
        self.facts.acknowledged.insert(route.to_owned(), Acknowledged { shares, epoch: EPOCH });
        self.shows(route, shares);
    }

    fn decide(&self) -> Decision {
        let limits =
            Limits { installation: "test".to_owned(), poll: WATCHED, idle_poll: Span::from_secs(60) };
        let input = Input {
            key: &"payments/checkout".parse().expect("a key"),
            now: jiff::Timestamp::UNIX_EPOCH,
            watched: self.watched,
            epoch: EPOCH,
            limits: &limits,
            service: &self.service,
            desired: &self.desired,
            commands: &self.commands,
            observed: &self.observed,
            facts: &self.facts,
            fresh_uid: "u",
            claim_denied: None,
        };
        let decision = decide(&input);
        assert_eq!(violations(&input, &decision), []);
        decision
    }

    /// An effect whose answer was lost.
    pub fn lose(&mut self, effect: Effect) {
        let resource = effect.resource();
        self.facts.outstanding.insert(resource, Outstanding { effect, unknown: true, looked: 0 });
    }

    /// One look more, for what is believed after several.
    pub fn pass(&mut self) {
        self.facts = self.decide().facts;
    }

    /// The next move; before it why the release was latched in this look, which stage begins and how what ended did.
    fn told(&self) -> String {
        let decision = self.decide();
        let next = match &decision.next {
            Next::Act(action) => action.effect.to_string(),
            Next::Look(_) => "look".to_owned(),
            Next::Again => "again".to_owned(),
            Next::Wait(wait) => format!("wait for {}", wait.on.name()),
            Next::Settled => "settled".to_owned(),
            Next::Halted(halt) => format!("halted: {:?}", halt.reason),
        };
        let latch = |facts: &Facts| facts.release.as_ref()?.latch.as_ref().map(|latch| latch.cause);
        let latched = latch(&decision.facts).filter(|_| latch(&self.facts).is_none());
        let latched = latched.iter().map(|cause| format!("latched by {cause:?}"));
        let stage = |facts: &Facts| facts.release.as_ref().map(|release| release.progress.stage);
        let stage = stage(&decision.facts).filter(|now| stage(&self.facts) != Some(*now));
        let stage = stage.iter().map(|stage| format!("{stage:?}"));
        let ended = decision.ended.iter().map(|it| format!("{:?}: {}", it.outcome, it.message));
        latched.chain(stage).chain(ended).chain([next]).collect::<Vec<_>>().join("; ")
    }
}
