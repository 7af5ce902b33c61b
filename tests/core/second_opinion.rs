//! The second opinion objects to each single thing that is wrong with a decision, and says what it is.
//!
//! Each row of the tables bends one thing of an honest situation and its decision; its neighbours stop short of what is
//! objected to. The story below spoils decisions in the small world.

use pointsman_core::decide::Decision;
use pointsman_core::decide::response::Phase;
use pointsman_core::records::Span;

use crate::sim::{Fault, Sim};

mod effects;
mod progress;
mod releases;
mod removals;
pub mod scene;

/// What is wrong with a decision, and the words of the objection.
type Forgery = (fn(&mut Decision), &'static str);

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
