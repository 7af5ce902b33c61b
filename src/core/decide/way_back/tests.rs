//! Several routes go back: in which order, when one refuses, and when a read says that one is back already; and how a
//! release ends that has nothing to go back to.

use super::*;
use crate::decide::emergency::tests::Scene;
use crate::decide::{Asked, Decision, Input, Limits, decide, settle};
use crate::model::effect::Shares;
use crate::model::facts::{Absent, Acknowledged};
use crate::model::observed::{AlarmState, Weights};
use crate::model::{Acknowledgement, Answer, Effect, RefusalClass, Seen};
use crate::records::{DesiredReleaseSpec, Group, Percent};

const EPOCH: u64 = 7;

fn to_stable() -> Shares {
    Shares::giving(Group::A, Percent::FULL)
}

fn to_candidate(tenths: u16) -> Shares {
    Shares::giving(Group::B, Percent::from_tenths(tenths).unwrap())
}

/// A release whose alarm burns, with 10 % of `public` and 50 % of `internal` on the candidate.
struct Bench {
    scene: Scene,
}

impl Bench {
    fn new() -> Self {
        let mut scene = Scene::burning();
        scene.facts.asked = scene.facts.release.as_ref().map(|release| release.identity.clone());
        scene.facts.generation = 42;
        scene.facts.attempt = 1;
        scene.facts.epoch = EPOCH;
        Self { scene }
    }

    fn shows(&mut self, route: &str, weights: Seen<Weights>) {
        self.scene.observed.routes.insert(route.to_owned(), weights);
    }

    fn wrote(&mut self, route: &str, shares: Shares) {
        self.scene.facts.acknowledged.insert(route.to_owned(), Acknowledged { shares, epoch: EPOCH });
    }

    fn release(&mut self) -> &mut Release {
        self.scene.facts.release.as_mut().unwrap()
    }

    fn decide(&self) -> Decision {
        let spec = self.scene.facts.plan.clone().unwrap().spec;
        let service = Asked::Valid { spec, hash: "sha256:service".to_owned() };
        let spec = DesiredReleaseSpec {
            task_definition: "checkout:43".to_owned(),
            strategy: None,
            request_id: None,
        };
        let poll = Span::from_secs(5);
        let limits = Limits { installation: "test".to_owned(), poll, idle_poll: Span::from_mins(1) };
        decide(&Input {
            key: &"payments/checkout".parse().unwrap(),
            now: jiff::Timestamp::UNIX_EPOCH,
            watched: poll,
            epoch: EPOCH,
            limits: &limits,
            service: &service,
            desired: &Asked::Valid { spec, hash: String::new() },
            commands: &[],
            observed: &self.scene.observed,
            facts: &self.scene.facts,
            fresh_uid: "u1",
            claim_denied: None,
        })
    }

    fn pass(&mut self) -> Next {
        let decision = self.decide();
        self.scene.facts = decision.facts;
        decision.next
    }

    /// One pass whose write is answered so; the route that was written.
    fn writes_back(&mut self, answer: &Answer) -> String {
        let next = self.pass();
        let Next::Act(action) = next else { panic!("no write: {next:?}") };
        assert!(action.rollback);
        let Effect::SetWeights { route, shares, expect: None } = action.effect.clone() else {
            panic!("another effect: {}", action.effect)
        };
        assert_eq!(shares, to_stable());
        self.scene.facts = settle(&self.scene.facts, &action.effect, answer, EPOCH);
        route
    }
}

fn done() -> Answer {
    Answer::Acknowledged(Acknowledgement::Echo(to_stable()))
}

fn refused() -> Answer {
    Answer::Refused { class: RefusalClass::Throttled, message: "slow down".to_owned() }
}

fn is_pause(next: &Next, route: &str) -> bool {
    let Next::Wait(wait) = next else { return false };
    matches!(&wait.on, WaitingOn::Effect { resource: Resource::Route(name), .. } if name == route)
}

#[test]
fn the_route_that_gives_the_candidate_most_goes_back_first() {
    let mut bench = Bench::new();
    assert_eq!(bench.writes_back(&done()), "internal");
    bench.shows("internal", Seen::Known(Weights::Pair(to_stable())));
    assert_eq!(bench.writes_back(&done()), "public");
}

#[test]
fn a_route_that_cannot_be_read_may_give_the_candidate_everything() {
    let mut bench = Bench::new();
    bench.shows("public", Seen::Unknown("throttled".to_owned()));
    assert_eq!(bench.writes_back(&done()), "public");
    assert_eq!(bench.writes_back(&done()), "internal");
    // Written and not seen is not verified.
    bench.shows("internal", Seen::Known(Weights::Pair(to_stable())));
    let next = bench.pass();
    assert!(matches!(&next, Next::Wait(wait) if wait.on == WaitingOn::RollbackVerify), "{next:?}");
}

#[test]
fn a_route_that_refuses_stops_no_other_and_is_tried_again_after_a_pause() {
    let mut bench = Bench::new();
    assert_eq!(bench.writes_back(&refused()), "internal");
    assert_eq!(bench.writes_back(&refused()), "public", "it has not had its turn");
    let next = bench.pass();
    assert!(is_pause(&next, "public"), "{next:?}");
    assert_eq!(bench.writes_back(&refused()), "internal");
    let next = bench.pass();
    assert!(is_pause(&next, "internal"), "{next:?}");
    assert_eq!(bench.writes_back(&done()), "public", "it was tried less");
    assert_eq!(bench.writes_back(&done()), "internal");
}

#[test]
fn the_same_route_is_not_tried_twice_in_a_breath() {
    let mut bench = Bench::new();
    bench.shows("public", Seen::Known(Weights::Pair(to_stable())));
    bench.wrote("public", to_stable());
    assert_eq!(bench.writes_back(&refused()), "internal");
    let next = bench.pass();
    assert!(is_pause(&next, "internal"), "{next:?}");
}

#[test]
fn trouble_with_something_else_holds_no_write_back() {
    let mut bench = Bench::new();
    bench.scene.facts.trouble = Some(crate::model::facts::Trouble {
        resource: Resource::Primary,
        class: Some(RefusalClass::Throttled),
        message: "slow down".to_owned(),
        fresh: true,
    });
    assert_eq!(bench.writes_back(&done()), "internal");
}

#[test]
fn a_read_closes_a_route_only_behind_an_acknowledged_write_with_none_open() {
    let mut bench = Bench::new();
    bench.wrote("internal", to_stable());
    bench.shows("internal", Seen::Known(Weights::Pair(to_stable())));
    // It shows stable alone, and what was written last is a share for the candidate: the read may be an old one.
    bench.shows("public", Seen::Known(Weights::Pair(to_stable())));
    assert_eq!(bench.writes_back(&done()), "public");
    let ended = bench.decide().ended;
    assert_eq!(ended.first().map(|ended| ended.outcome), Some(Outcome::RolledBack));

    // The same, and a write of which nobody knows whether it will land.
    let mut bench = Bench::new();
    for route in ["public", "internal"] {
        bench.wrote(route, to_stable());
        bench.shows(route, Seen::Known(Weights::Pair(to_stable())));
    }
    let late = Effect::SetWeights { route: "public".to_owned(), shares: to_candidate(500), expect: None };
    let open = crate::model::facts::Outstanding { effect: late.clone(), unknown: true, looked: 0 };
    bench.scene.facts.outstanding.insert(late.resource(), open);
    assert_eq!(bench.writes_back(&done()), "public");
}

#[test]
fn how_a_first_release_ends_depends_on_whether_it_had_traffic() {
    for (exposed, cause, outcome, reason, stays) in [
        (false, LatchCause::Alarm, Outcome::Failed, "Alarm", false),
        (true, LatchCause::Alarm, Outcome::Failed, "NoRollbackTarget", true),
        (false, LatchCause::Superseded, Outcome::Superseded, "Superseded", false),
        (true, LatchCause::Superseded, Outcome::Failed, "NoRollbackTarget", true),
    ] {
        let mut bench = Bench::new();
        for alarm in bench.scene.observed.alarms.values_mut() {
            if let Seen::Known(alarm) = alarm {
                alarm.state = AlarmState::Ok;
            }
        }
        let release = bench.release();
        (release.kind, release.stable) = (ReleaseKind::First, None);
        release.progress.exposed = exposed;
        let tried = std::collections::BTreeMap::new();
        let (detail, at) = ("why".to_owned(), jiff::Timestamp::UNIX_EPOCH);
        release.latch = Some(Latch { cause, detail, at, tried, elapsed: Span::ZERO });
        let decision = bench.decide();
        let ended = &decision.ended[0];
        let what = format!("{cause:?}, exposed {exposed}");
        assert_eq!((ended.outcome, ended.reason.as_str()), (outcome, reason), "{what}");
        assert_eq!(decision.facts.stable.is_some(), stays, "{what}");
        assert_eq!(decision.facts.cleanups.len(), usize::from(!stays), "{what}");
    }
}

#[test]
fn of_several_rules_that_are_gone_the_outcome_names_the_first_and_counts_the_others() {
    let mut bench = Bench::new();
    for route in ["public", "internal"] {
        bench.shows(route, Seen::Known(Weights::Gone));
        let (reads, watched) = (3, Span::from_mins(1));
        bench.scene.facts.absent.insert(route.to_owned(), Absent { reads, watched });
    }
    let ended = bench.decide().ended.remove(0);
    let words = "the rule of route public (and 1 more) does not exist any more";
    assert!(ended.message.contains(words), "{}", ended.message);
}
