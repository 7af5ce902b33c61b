//! Two services side by side over one region, by random pairs of records: no call that is made for one names a
//! resource that only the other binds, and of what both name exactly one gets it.
//!
//! Both run the shipped `decide` and `settle`, and share a table of claims with the conditions of the real one. Their
//! records name the one's resources, the other's, or some of each; they are written anew, deleted, and written again.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pointsman_core::decide::{Asked, Decision, Input, Limits, Next, decide, plan_to_observe, settle};
use pointsman_core::model::facts::{Ended, Facts};
use pointsman_core::model::{Effect, Need, Plan};
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{DesiredReleaseSpec, Group, ServiceKey, Span};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::json;
use world::World;

use crate::sim::region::SmallRegion;

/// Pairs in the ordinary run; `POINTSMAN_PAIRS` raises it.
const PAIRS: u32 = 60;
const NAMES: [&str; 2] = ["checkout", "checkout-api"];

/// Of which service each part of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Names {
    service: usize,
    a: usize,
    b: usize,
    public: usize,
    preview: Option<usize>,
    alarm: usize,
}

impl Names {
    fn all_of(of: usize) -> Self {
        Self { service: of, a: of, b: of, public: of, preview: Some(of), alarm: of }
    }

    /// The groups and the rules that forward to them.
    fn routed_to(self, of: usize) -> Self {
        Self { a: of, b: of, public: of, preview: Some(of), ..self }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Pass,
    /// The record of the service is written.
    Bind(Names),
    /// A release is asked for.
    Ask(u32),
    /// The record of the service is deleted.
    Withdraw,
    /// The alarm of this service's own burns, or no longer.
    Alarm(bool),
}

/// How the loop is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leak {
    None,
    /// An effect of one service is carried out by the plan of the other.
    PlansMixedUp,
    /// A claim is given whoever has it.
    ClaimsUnchecked,
    /// The other's memory is decided by.
    MemoryMixedUp,
}

struct Party {
    key: ServiceKey,
    uid: &'static str,
    service: Asked<ManagedServiceSpec>,
    desired: Asked<DesiredReleaseSpec>,
    facts: Facts,
    needs: BTreeSet<Need>,
    claim_denied: Option<(String, String)>,
    last_pass: Option<Timestamp>,
    /// What it may name: its records since it last held nothing, its plan and claims.
    bound: BTreeSet<String>,
    made: BTreeSet<String>,
    ended: Vec<Ended>,
    calls: usize,
    hash: u32,
}

struct Pair {
    world: World,
    now: Timestamp,
    parties: [Party; 2],
    claims: BTreeMap<String, ServiceKey>,
    leak: Leak,
    limits: Limits,
}

fn arns(spec: &ManagedServiceSpec) -> BTreeSet<String> {
    let routes = spec.routes.production.iter().chain(spec.routes.test.iter());
    let rules = routes.filter_map(|route| route.rule.as_ref()).map(|arn| arn.as_str().to_owned());
    let groups = [Group::A, Group::B].map(|group| spec.target_groups.of(group).as_str().to_owned());
    rules.chain(groups).chain([spec.ecs.service.as_str().to_owned()]).collect()
}

impl Pair {
    fn new(leak: Leak) -> Self {
        let now = SmallRegion::epoch();
        let party = |name: &str, uid| Party {
            key: format!("payments/{name}").parse().unwrap(),
            uid,
            service: Asked::Absent,
            desired: Asked::Absent,
            facts: Facts::default(),
            needs: BTreeSet::new(),
            claim_denied: None,
            last_pass: None,
            bound: BTreeSet::new(),
            made: BTreeSet::new(),
            ended: Vec::new(),
            calls: 0,
            hash: 0,
        };
        let poll = Span::from_secs(2);
        Self {
            world: World::new(now, &NAMES),
            now,
            parties: [party(NAMES[0], "01JD6Z6H1A"), party(NAMES[1], "01JD6Z6H1B")],
            claims: BTreeMap::new(),
            leak,
            limits: Limits { installation: "test".to_owned(), poll, idle_poll: poll },
        }
    }

    fn bind(&mut self, who: usize, names: Names) {
        let of = |it: usize| &self.world.resources[it];
        let mut routes = json!({"production": [{"name": "public", "rule": of(names.public).public}]});
        if let Some(preview) = names.preview {
            routes["test"] = json!({"name": "preview", "rule": of(preview).preview});
        }
        let spec: ManagedServiceSpec = serde_json::from_value(json!({
            "ecs": {"cluster": "arn:aws:ecs:eu-central-1:111122223333:cluster/prod", "service": of(names.service).service},
            "taskDefinitionFamily": "web", "container": {"name": "web", "port": 8080},
            "targetGroups": {"a": of(names.a).groups[&Group::A], "b": of(names.b).groups[&Group::B]},
            "routes": routes,
            "taskSet": {"launchType": "FARGATE", "network": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}},
            "alarms": [{"name": of(names.alarm).alarm, "watches": "service"}],
            "strategies": {"fast": {"canary": {"weight": 10, "bake": "4s"}}}, "defaultStrategy": "fast",
            "testHold": "2s", "bake": "4s", "retention": "6s",
            "deadlines": {"start": "60s", "prepare": "120s", "capacity": "90s", "weightWrite": "60s",
                          "primary": "60s", "cleanup": "10m"},
            "waits": {"propagation": "2s", "quiet": "2s", "quietAfterUnknown": "60s"}
        }))
        .unwrap();
        let party = &mut self.parties[who];
        party.hash += 1;
        party.bound.extend(arns(&spec));
        party.service = Asked::Valid { spec, hash: format!("sha256:service-{}", party.hash) };
    }

    fn ask(&mut self, who: usize, revision: u32) {
        let spec = DesiredReleaseSpec {
            task_definition: format!("web:{revision}"),
            strategy: None,
            request_id: None,
        };
        self.parties[who].desired = Asked::Valid { spec, hash: format!("sha256:{revision}") };
    }

    fn act(&mut self, who: usize, act: &Act) -> Result<(), TestCaseError> {
        match act {
            Act::Pass => return self.pass(who),
            Act::Bind(names) => self.bind(who, *names),
            Act::Ask(revision) => self.ask(who, *revision),
            Act::Withdraw => self.parties[who].service = Asked::Absent,
            Act::Alarm(burns) => {
                let alarm = self.world.resources[who].alarm.clone();
                if *burns {
                    self.world.burning.insert(alarm)
                } else {
                    self.world.burning.remove(&alarm)
                };
            }
        }
        Ok(())
    }

    /// Turns without delay until it waits, at most sixteen.
    fn pass(&mut self, who: usize) -> Result<(), TestCaseError> {
        for _ in 0..16 {
            if !matches!(self.turn(who)?, Next::Act(_) | Next::Look(_) | Next::Again) {
                break;
            }
        }
        self.now += Span::from_secs(1).signed();
        self.world.advance(self.now);
        Ok(())
    }

    fn turn(&mut self, who: usize) -> Result<Next, TestCaseError> {
        let other = 1 - who;
        let source = if self.leak == Leak::MemoryMixedUp { other } else { who };
        let facts = self.parties[source].facts.clone();
        let party = &mut self.parties[who];
        let needs = std::mem::take(&mut party.needs);
        let plan = plan_to_observe(&facts, &party.service);
        let observed = match &plan {
            Some(plan) => self.world.observe(self.now, plan, &needs),
            None => pointsman_core::model::Observed {
                service: pointsman_core::model::Seen::Unknown("no record".to_owned()),
                routes: BTreeMap::new(),
                alarms: BTreeMap::new(),
                extra: pointsman_core::model::observed::Extra::default(),
            },
        };
        let watched = party.last_pass.map_or(Span::ZERO, |last| Span::between(last, self.now));
        party.last_pass = Some(self.now);
        let denied = party.claim_denied.take();
        let input = Input {
            key: &party.key,
            now: self.now,
            watched: watched.min(self.limits.poll.times(2)),
            epoch: 1,
            limits: &self.limits,
            service: &party.service,
            desired: &party.desired,
            commands: &[],
            observed: &observed,
            facts: &facts,
            fresh_uid: party.uid,
            claim_denied: denied.as_ref(),
        };
        let decision = decide(&input);
        match &decision.next {
            Next::Look(needs) => party.needs.clone_from(needs),
            Next::Wait(wait) => party.needs.clone_from(&wait.needs),
            _ => {}
        }
        self.follow(who, decision, plan)
    }

    /// Claims and facts in one transaction, then the effect.
    fn follow(&mut self, who: usize, decision: Decision, plan: Option<Plan>) -> Result<Next, TestCaseError> {
        let key = self.parties[who].key.clone();
        let mut taken = decision.claim.iter().filter_map(|arn| Some((arn, self.claims.get(arn)?)));
        if let Some((arn, owner)) =
            taken.find(|(_, owner)| **owner != key && self.leak != Leak::ClaimsUnchecked)
        {
            self.parties[who].claim_denied = Some((arn.clone(), owner.to_string()));
            return Ok(Next::Again);
        }
        self.claims.extend(decision.claim.iter().map(|arn| (arn.clone(), key.clone())));
        self.claims.retain(|arn, owner| *owner != key || !decision.unclaim.contains(arn));
        let party = &mut self.parties[who];
        party.ended.extend(decision.ended);
        party.facts = decision.facts;
        for arn in &party.facts.claims {
            prop_assert_eq!(self.claims.get(arn), Some(&key), "{} is believed to be claimed", arn);
        }
        let Next::Act(action) = &decision.next else { return Ok(decision.next) };
        let mut plan = party.facts.plan.clone().or(plan).expect("an effect needs a plan");
        if self.leak == Leak::PlansMixedUp
            && let Some(others) = self.parties[1 - who].facts.plan.clone()
        {
            plan = others;
        }
        self.send(who, &plan, &action.effect)?;
        Ok(decision.next)
    }

    fn send(&mut self, who: usize, plan: &Plan, effect: &Effect) -> Result<(), TestCaseError> {
        self.world.named.clear();
        let answer = self.world.carry_out(self.now, plan, effect);
        if let pointsman_core::model::Answer::Acknowledged(
            pointsman_core::model::Acknowledgement::Created { task_set },
        ) = &answer
        {
            self.parties[who].made.insert(task_set.clone());
        }
        let (mine, theirs) = (&self.parties[who], &self.parties[1 - who]);
        for arn in &self.world.named {
            let only_theirs = theirs.bound.contains(arn) && !mine.bound.contains(arn);
            prop_assert!(!only_theirs, "{} for {} names {arn} of {}", effect, mine.key, theirs.key);
            prop_assert!(
                !theirs.made.contains(arn),
                "{} for {} is a set of {}",
                effect,
                mine.key,
                theirs.key
            );
            let claimed = self.claims.get(arn).is_none_or(|owner| *owner == mine.key);
            prop_assert!(
                claimed,
                "{} for {} names {arn}, which {} has claimed",
                effect,
                mine.key,
                theirs.key
            );
        }
        let party = &mut self.parties[who];
        party.calls += 1;
        party.facts = settle(&party.facts, effect, &answer, 1);
        Ok(())
    }
}

fn names(of: usize) -> impl Strategy<Value = Names> {
    let part = move || prop_oneof![4 => Just(of), 1 => Just(1 - of)];
    let mixed = (part(), part(), part(), part(), prop::option::weighted(0.8, part()), part())
        .prop_map(|(service, a, b, public, preview, alarm)| Names { service, a, b, public, preview, alarm });
    let own = Names::all_of(of);
    prop_oneof![
        4 => Just(own),
        2 => Just(own.routed_to(1 - of)),
        2 => Just(Names { service: 1 - of, ..own }),
        2 => Just(Names::all_of(1 - of)),
        4 => mixed,
    ]
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = (0..2_usize).prop_flat_map(|who| {
        let act = prop_oneof![
            60 => Just(Act::Pass),
            3 => names(who).prop_map(Act::Bind),
            3 => (1..5_u32).prop_map(Act::Ask),
            1 => Just(Act::Withdraw),
            1 => any::<bool>().prop_map(Act::Alarm),
        ];
        (Just(who), act)
    });
    prop::collection::vec(act, 300..600)
}

/// What the pairs reached.
#[derive(Debug, Default)]
struct Reached {
    calls: usize,
    pairs_in_which_both_acted: usize,
    releases: BTreeMap<String, usize>,
}

fn explore(pairs: u32, leak: Leak) -> (Result<(), String>, Reached) {
    let config = Config { cases: pairs, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let reached = std::cell::RefCell::new(Reached::default());
    let history = (names(0), names(1), acts());
    let result = runner.run(&history, |(first, second, acts)| {
        let mut pair = Pair::new(leak);
        for (who, names) in [first, second].into_iter().enumerate() {
            pair.bind(who, names);
            pair.ask(who, 1);
        }
        for (who, act) in &acts {
            pair.act(*who, act)?;
        }
        let reached = &mut *reached.borrow_mut();
        reached.calls += pair.parties.iter().map(|party| party.calls).sum::<usize>();
        reached.pairs_in_which_both_acted += usize::from(pair.parties.iter().all(|party| party.calls > 0));
        for ended in pair.parties.iter().flat_map(|party| &party.ended) {
            let refused = ended.outcome == Outcome::Refused;
            let name = if refused { ended.reason.clone() } else { format!("{:?}", ended.outcome) };
            *reached.releases.entry(name).or_default() += 1;
        }
        Ok(())
    });
    (result.map_err(|error| error.to_string()), reached.into_inner())
}

#[test]
fn no_call_for_one_service_names_a_resource_that_only_the_other_binds() {
    let pairs = std::env::var("POINTSMAN_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(PAIRS);
    let (result, reached) = explore(pairs, Leak::None);
    println!("{pairs} pairs of records: {reached:#?}");
    assert_eq!(result, Ok(()));
    assert!(reached.pairs_in_which_both_acted > 0);
    for needed in ["Succeeded", "RolledBack", "AlreadyClaimed"] {
        assert!(reached.releases.contains_key(needed), "{needed} was never reached: {reached:?}");
    }
}

#[test]
fn a_loop_that_mixes_two_services_up_is_caught() {
    for leak in [Leak::PlansMixedUp, Leak::ClaimsUnchecked, Leak::MemoryMixedUp] {
        let (result, _) = explore(PAIRS, leak);
        assert!(result.is_err(), "{leak:?} was not noticed");
        println!("{leak:?}: {}", result.unwrap_err().lines().next().unwrap_or_default());
    }
}

#[test]
fn of_what_both_records_name_exactly_one_service_gets_it_and_the_other_touches_nothing() {
    let own = Names::all_of(1);
    let overlaps = [
        Names::all_of(0),
        own.routed_to(0),
        Names { service: 0, ..own },
        Names { a: 0, ..own },
        Names { public: 0, ..own },
        Names { preview: Some(0), ..own },
    ];
    for names in overlaps {
        for first in [0, 1] {
            let mut pair = Pair::new(Leak::None);
            pair.bind(0, Names::all_of(0));
            pair.bind(1, names);
            for who in [0, 1] {
                pair.ask(who, 1);
            }
            for turn in 0..400 {
                pair.pass((turn + first) % 2).unwrap();
            }
            let served: Vec<bool> = pair.parties.iter().map(|party| party.facts.stable.is_some()).collect();
            let told: Vec<_> = pair.parties.iter().map(|party| &party.ended[0].reason).collect();
            assert_eq!(served.iter().filter(|served| **served).count(), 1, "{names:?} {first}: {told:?}");
            let loser = &pair.parties[usize::from(served[0])];
            assert_eq!((loser.calls, loser.ended[0].outcome), (0, Outcome::Refused), "{names:?}: {told:?}");
            assert!(!pair.claims.values().any(|owner| *owner == loser.key), "{names:?}");
        }
    }
}
