//! The second opinion objects to each single thing that is wrong with a decision, and says what it is.

use pointsman_core::decide::response::Phase;
use pointsman_core::decide::{Decision, Next};
use pointsman_core::model::Effect;
use pointsman_core::model::effect::Resource;
use pointsman_core::model::facts::Outstanding;
use pointsman_core::records::Span;

use crate::sim::{Fault, Sim};

/// What is wrong with a decision, and the words of the objection.
type Forgery = (fn(&mut Decision), &'static str);

fn is_deletion(decision: &Decision) -> bool {
    matches!(&decision.next, Next::Act(action) if matches!(action.effect, Effect::DeleteTaskSet { .. }))
}

/// Decisions to delete a task set that lack one thing each.
const DELETIONS: &[Forgery] = &[
    (|it| it.facts.cleanups[0].quiet = Span::ZERO, "quiet for"),
    (|it| it.facts.cleanups[0].zero_reads = 1, "1 zero reads"),
    (|it| it.facts.cleanups[0].external_id.push('x'), "goes by"),
    (|it| it.facts.tombstones.clear(), "has no tombstone"),
    (|it| it.facts.cleanups.clear(), "is not up for removal"),
    (|it| it.facts.acknowledged.get_mut("public").expect("written").epoch += 1, "no barrier on public"),
    (|it| it.facts.acknowledged.get_mut("public").expect("written").shares.a = 1, "no barrier on public"),
    (
        |it| {
            let shares = it.facts.acknowledged["public"].shares;
            let effect = Effect::SetWeights { route: "public".to_owned(), shares, expect: None };
            let lost = Outstanding { effect, unknown: true, looked: 0 };
            it.facts.outstanding.insert(Resource::Route("public".to_owned()), lost);
        },
        "a write of public is outstanding",
    ),
    (
        |it| {
            let leaving = it.facts.cleanups[0].task_set.clone().expect("it was made");
            it.facts.stable.as_mut().expect("something serves").task_set = leaving;
        },
        "is still needed",
    ),
];

#[test]
fn a_deletion_that_is_not_due_is_objected_to_for_the_very_reason() {
    for (forgery, words) in DELETIONS {
        let mut sim = Sim::serving(|spec| spec.retention = Span::from_secs(4));
        sim.ask(2);
        sim.run_until(|sim| Phase::of(sim.facts()) == Phase::Leaving, 400);
        assert_eq!(sim.violations, Vec::<String>::new());
        sim.forge = Some(Box::new(|decision| {
            if is_deletion(decision) {
                forgery(decision);
            }
        }));
        sim.run_until(|sim| !sim.violations.is_empty(), 400);
        assert!(sim.violations[0].contains(words), "{words}: {:?}", sim.violations);
    }
}

#[test]
fn a_step_that_is_skipped_and_time_that_nobody_watched_are_objected_to() {
    let forgeries: [Forgery; 3] = [
        (|it| it.facts.release.as_mut().expect("in flight").progress.step += 2, "step 2 after 0"),
        (
            |it| {
                let progress = &mut it.facts.release.as_mut().expect("in flight").progress;
                progress.baked = progress.baked.plus(Span::from_mins(1));
            },
            "baked 1m",
        ),
        (|it| it.facts.release.as_mut().expect("in flight").progress.step += 1, "left step 0 after"),
    ];
    for (forgery, words) in forgeries {
        let mut sim = Sim::serving(|_| {});
        sim.ask(2);
        sim.run_until(|sim| Phase::of(sim.facts()) == Phase::Baking, 200);
        assert_eq!(sim.facts().release.as_ref().map(|release| release.progress.step), Some(0));
        sim.forge = Some(Box::new(forgery));
        sim.pass(Fault::None);
        let said = |words: &str| sim.violations.iter().any(|found| found.contains(words));
        assert!(said(words), "{words}: {:?}", sim.violations);
        assert!(!said("step 1 after 0"), "the next step is what comes next: {:?}", sim.violations);
    }
}
