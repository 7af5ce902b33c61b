//! One service's records and resources never reach another's, however alike their names are.
//!
//! Two services share a cluster, a load balancer and a listener; the other one's names continue or cut ours. While
//! a release of ours goes through all its phases, the other one's task sets and rules are in everything that is
//! read, and no effect of ours may name them.

use std::cell::RefCell;

use pointsman_core::model::observed::{ForwardAction, TaskSetStatus};
use pointsman_core::model::{Observed, Seen};
use pointsman_core::records::managed_service::IdleDrift;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Percent};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::sim::{Fault, Sim};

/// Pairs in the ordinary run; `POINTSMAN_PAIRS` raises it.
const PAIRS: u32 = 60;
/// Every ARN and id of the other service holds this, and nothing of ours does.
const MARK: &str = "zzother";

/// How the other service shows up beside ours.
#[derive(Clone, Debug)]
struct Other {
    /// The external id of its task set; none when somebody made it without.
    external_id: Option<String>,
    group: Option<Group>,
    status: TaskSetStatus,
    running: u32,
    /// The weight that its rule gives to a group whose name continues one of ours.
    weight: u32,
    /// From this pass on.
    from: u32,
    /// An alarm of ours fires in this pass.
    alarm: Option<u32>,
}

thread_local! {
    static SHOWN: RefCell<Option<Other>> = const { RefCell::new(None) };
}

/// The uid of our service in the small world is `01JD6Z6H1W`, the installation is `test`.
fn external_ids() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        Just(Some(format!("pm1/test/01JD6Z6H1WX/1.1/{MARK}"))),
        Just(Some(format!("pm1/test/01JD6Z6H1/1.1/{MARK}"))),
        Just(Some(format!("pm1/test2/01JD6Z6H1W/1.1/{MARK}"))),
        Just(Some(format!("pm1/tes/01JD6Z6H1W/1.1/{MARK}"))),
        Just(Some(format!("xpm1/test/01JD6Z6H1W/1.1/{MARK}"))),
        "[ -~]{0,40}".prop_map(|text| Some(format!("{text}{MARK}"))),
    ]
}

fn others() -> impl Strategy<Value = Other> {
    let group = prop_oneof![Just(None), Just(Some(Group::A)), Just(Some(Group::B))];
    let status = prop_oneof![Just(TaskSetStatus::Active), Just(TaskSetStatus::Draining)];
    let alarm = prop_oneof![Just(None), (20..60_u32).prop_map(Some)];
    (external_ids(), group, status, 0..5_u32, 0..1000_u32, 0..50_u32, alarm).prop_map(
        |(external_id, group, status, running, weight, from, alarm)| Other {
            external_id,
            group,
            status,
            running,
            weight,
            from,
            alarm,
        },
    )
}

fn show(seen: &mut Observed) {
    SHOWN.with_borrow(|other| {
        let Some(other) = other else { return };
        if let Seen::Known(service) = &mut seen.service
            && let Some(mut set) = service.task_sets.first().cloned()
        {
            set.arn = format!("{}{MARK}", set.arn);
            set.external_id.clone_from(&other.external_id);
            (set.group, set.status, set.running) = (other.group, other.status, other.running);
            set.scale = Percent::FULL;
            service.task_sets.push(set);
        }
        if let Some(Seen::Known(read)) = &mut seen.extra.load_balancer {
            add_rule(&mut read.actions, other.weight);
        }
        if let Some(Seen::Known(read)) = &mut seen.extra.preflight {
            add_rule(&mut read.load_balancer.actions, other.weight);
        }
    });
}

/// A rule of the other service on the same listener: its groups' ARNs continue ours.
fn add_rule(actions: &mut Vec<ForwardAction>, weight: u32) {
    let Some(ours) = actions.first().cloned() else { return };
    let groups = ours.groups.iter().map(|(arn, _)| (format!("{arn}{MARK}"), weight)).collect();
    actions.push(ForwardAction { owner: format!("{}{MARK}", ours.owner), groups, ..ours });
}

fn live_beside(other: &Other) -> Result<(), TestCaseError> {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    for pass in 0..250 {
        if pass == other.from {
            SHOWN.with_borrow_mut(|shown| *shown = Some(other.clone()));
            sim.hand = Some(show);
        }
        if other.alarm == Some(pass) {
            sim.region.set_alarm(sim.now, "b-5xx", pointsman_core::model::observed::AlarmState::Alarm);
        }
        sim.pass(Fault::None);
    }
    for effect in &sim.effects {
        prop_assert!(!format!("{effect:?}").contains(MARK), "{effect:?}");
    }
    for arn in &sim.durable.claims {
        prop_assert!(!arn.contains(MARK), "{arn} is claimed");
    }
    for job in &sim.durable.cleanups {
        prop_assert!(!format!("{job:?}").contains(MARK), "{job:?}");
    }
    Ok(())
}

#[test]
fn nothing_that_is_decided_for_one_service_names_a_resource_of_another() {
    let cases = std::env::var("POINTSMAN_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(PAIRS);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&others(), |other| live_beside(&other));
    println!("{cases} pairs of services");
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn a_service_claims_exactly_what_it_names_and_each_of_these_keeps_another_record_out() {
    let sim = Sim::serving(|_| {});
    let claims = sim.durable.claims.clone();
    // The service, two groups, the production and the test route.
    assert_eq!(claims.len(), 5, "{claims:?}");
    for arn in claims {
        let mut second = Sim::new(|_| {});
        second.claim_denied = Some((arn.clone(), "payments/checkout-api".to_owned()));
        second.ask(1);
        second.run_until(|sim| !sim.ended.is_empty(), 20);
        let ended = &second.ended[0];
        assert_eq!((ended.outcome, ended.reason.as_str()), (Outcome::Refused, "AlreadyClaimed"), "{arn}");
        assert!(ended.message.contains(&arn) && ended.message.contains("payments/checkout-api"));
        assert!(second.effects.is_empty());
    }
}

#[test]
fn a_service_that_gave_up_its_claims_writes_no_weights_any_more() {
    let mut sim = Sim::serving(|spec| spec.drift.idle = IdleDrift::Revert);
    sim.withdraw_service_for_a_while();
    sim.run_until(|sim| sim.durable.claims.is_empty(), 20);
    // Perhaps the hand of the service that has claimed them since.
    sim.move_by_hand(0, 1);
    for back in [false, true] {
        if back {
            sim.restore_service();
        }
        for _ in 0..6 {
            sim.pass(Fault::None);
        }
        assert_eq!(sim.effects, [], "with the record: {back}");
    }
    assert_eq!(sim.violations, Vec::<String>::new());
}
