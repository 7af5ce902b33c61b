//! Two services whose records name some of the same resources, and the one table of claims between them.
//!
//! **What runs.** The production `decide` and `settle` for each service, over its own production facts; each loop
//! observes, decides, records (state and claims in one conditional transaction, as `src/store/dynamo/write.rs` has
//! it), sends, and records the answer. All interleavings of the two are explored, and between any two lines a process
//! may crash, answers may be lost, requests may land late, people may delete and restore a service's record and ask
//! for another revision.
//!
//! **What is asked.** No resource is ever held by two, by the table and by what each remembers (S10). No effect is
//! decided or sent for a resource that its service does not hold, and none lands there late (S29). Claims go last:
//! nothing but the version that serves is left of a service that gives them up, no answer is outstanding, and no request
//! whose answer was lost is on its way. Who is refused is told by whom. And from every state, once nothing goes wrong
//! any more, both services come to rest as asked (L2).
//!
//! **What is abstracted.** Each service sees a world of its own, in which the other's work does not show: a shared
//! group is empty and a shared rule as the service left it. So preflight never saves anybody, and the claims alone
//! keep the two apart; what preflight adds is tested elsewhere. One process runs both services, and leases do not
//! change hands: `model` explores that for one service. A service whose loop has nothing to wait for is not overtaken
//! by the clock. A request that was *answered* may land a second time here (within a tick), which the daemon cannot know
//! of and does not bring about itself, because it sends each request once; that it then lands on what another service holds is met,
//! and not asked to be impossible.

use std::collections::BTreeSet;

use pointsman_core::decide::{Decision, Input, Next, decide};

use crate::model::properties;
use crate::search::report::{self, Outcome};
use crate::search::{Broken, Found, FoundIn};

mod mind;
mod steps;

pub use steps::Two;

use steps::{Side, State};

/// ARNs in the table of claims: up to four of each service.
pub const ARNS: usize = 8;

/// Which resources are the same.
#[derive(Clone, Copy, Debug)]
pub struct Overlap {
    /// Its name in the table.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The ARNs of the second service: its ECS service, group a, group b, rule. Those of the first are 0 to 3.
    pub second: [u8; 4],
}

/// The ways in which two records can overlap.
pub const OVERLAPS: &[Overlap] = &[
    Overlap { name: "two-service", about: "the same ECS service in two records", second: [0, 5, 6, 7] },
    Overlap { name: "two-group", about: "one's group a is the other's group b", second: [4, 5, 1, 7] },
    Overlap { name: "two-rule", about: "the same production rule", second: [4, 5, 6, 3] },
    Overlap { name: "two-all", about: "the same record twice", second: [0, 1, 2, 3] },
];

/// Two services that share nothing: neither may wait for the other.
const APART: Overlap = Overlap { name: "two-apart", about: "nothing in common", second: [4, 5, 6, 7] };

/// How the table of claims is broken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Table {
    /// A claim is written whoever owns it.
    pub unconditional: bool,
    /// Claims are written after the state, and not with it.
    pub apart: bool,
}

/// A seeded bug.
#[derive(Debug)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// The thought behind it.
    thought: &'static str,
    /// Instead of `decide`.
    pub decide: fn(&Input<'_>) -> Decision,
    /// Instead of the table.
    pub table: Table,
}

const SOUND: Table = Table { unconditional: false, apart: false };

/// All of them.
const BUGS: &[Bug] = &[
    Bug {
        name: "claim-unconditional",
        thought: "whoever starts last knows best whose the resources are",
        decide,
        table: Table { unconditional: true, ..SOUND },
    },
    Bug {
        name: "claims-apart",
        thought: "the state first, the claims right after it",
        decide,
        table: Table { apart: true, ..SOUND },
    },
    Bug {
        name: "claims-early",
        thought: "a deleted record needs no claims",
        decide: claims_early,
        table: SOUND,
    },
    Bug {
        name: "no-claim",
        thought: "the release may start while the claims are on their way",
        decide: no_claim,
        table: SOUND,
    },
    Bug {
        name: "denial-ignored",
        thought: "a claim that was denied once will be granted the next time",
        decide: denial_ignored,
        table: SOUND,
    },
    Bug {
        name: "late-calls-forgotten",
        thought: "what was followed by an acknowledged call is settled, so that nothing of it is left",
        decide: late_calls_forgotten,
        table: SOUND,
    },
    Bug {
        name: "claims-kept",
        thought: "a deleted record keeps its claims as long as a request waits for it",
        decide: claims_kept,
        table: SOUND,
    },
];

fn claims_early(input: &Input<'_>) -> Decision {
    let mut decision = decide(input);
    if matches!(input.service, pointsman_core::decide::Asked::Absent) {
        decision.unclaim.extend(std::mem::take(&mut decision.facts.claims));
    }
    decision
}

fn no_claim(input: &Input<'_>) -> Decision {
    Decision { claim: BTreeSet::new(), ..decide(input) }
}

fn denial_ignored(input: &Input<'_>) -> Decision {
    decide(&Input { claim_denied: None, ..*input })
}

fn late_calls_forgotten(input: &Input<'_>) -> Decision {
    let facts = pointsman_core::model::Facts { overtaken: None, late: Vec::new(), ..input.facts.clone() };
    decide(&Input { facts: &facts, ..*input })
}

fn claims_kept(input: &Input<'_>) -> Decision {
    let decision = decide(input);
    if decision.unclaim.is_empty() || decision.facts.pending.is_none() {
        return decision;
    }
    let facts = pointsman_core::model::Facts { claims: decision.unclaim, ..decision.facts };
    Decision { facts, unclaim: BTreeSet::new(), next: Next::Settled, ..decision }
}

/// What must have been met; the search would be blind otherwise.
const MUST_BE_MET: &[&str] = &[
    "claimed by the first",
    "claimed by the second",
    "denied and told by whom",
    "given up",
    "claims wait for what may still land",
    "a copy of an answered request lands after its claims changed hands",
    "claimed after the other gave it up",
    "serves after the other gave up",
    "both serve",
];

/// Until the claims of a deleted record are given up: the quiet time after an unknown outcome (3), and two polls more.
const CLAIMS: u32 = 3 + 2;
/// Recovery once nothing goes wrong any more: a release whose record is deleted goes back and is cleaned up, its claims
/// are given up, and the other service's release starts and runs to its end.
const MOST_TICKS: u32 = properties::CLEAN_UP + CLAIMS + properties::RELEASE;

/// Judges the longest way to rest.
fn too_far(ticks: u32) -> Option<Broken> {
    let what = || format!("{ticks} ticks to rest; {MOST_TICKS} at most are explained");
    (ticks > MOST_TICKS).then(|| Broken::new(properties::RECOVERY, what()))
}

/// Explores every overlap and every seeded bug; whether all is as it should be.
pub fn run() -> anyhow::Result<bool> {
    println!();
    report::head("two services", &["decisions"]);
    let mut met = BTreeSet::new();
    for overlap in OVERLAPS.iter().chain([&APART]) {
        if !check(overlap, &mut met)? {
            return Ok(false);
        }
    }
    println!("met: {}", met.iter().copied().collect::<Vec<_>>().join("; "));
    let missing: Vec<&str> = MUST_BE_MET.iter().filter(|name| !met.contains(**name)).copied().collect();
    let met_all = report::nothing_missing("never met", &missing);
    let mut survivors = 0;
    for bug in BUGS {
        survivors += usize::from(!caught(bug)?);
    }
    Ok(report::bugs_foot(" of claims", BUGS.len(), survivors) && met_all)
}

fn check(overlap: &Overlap, met: &mut BTreeSet<&'static str>) -> anyhow::Result<bool> {
    let mut two = Two::new(overlap, None)?;
    let outcome = Outcome::of(&mut two, Two::start())?;
    outcome.tell(overlap.name, &[two.mind.questions()], overlap.about);
    met.extend(two.met.iter().copied());
    tell(&two, &outcome.found);
    Ok(outcome.is_clean())
}

fn caught(bug: &'static Bug) -> anyhow::Result<bool> {
    for overlap in OVERLAPS {
        let mut two = Two::new(overlap, Some(bug))?;
        let outcome = Outcome::of(&mut two, Two::start())?;
        if let Found::Broken { broken, path } = &outcome.found {
            report::caught(bug.name, path.len(), two.mind.why(*broken));
            return Ok(true);
        }
    }
    report::not_caught(bug.name, bug.thought);
    Ok(false)
}

/// Prints what was found, step by step.
fn tell(two: &Two, found: &FoundIn<Two>) {
    let Found::Broken { broken, path } = found else { return };
    let why = two.mind.why(*broken);
    println!("    {}: {}", why.property, why.detail);
    for (number, step) in path.iter().enumerate() {
        println!("    {:>3}. {:?}: {}", number + 1, step.action, stands(two, &step.state));
    }
}

fn stands(two: &Two, state: &State) -> String {
    let side = |side: &Side| {
        let facts = two.mind.kept(side.durable);
        let release = facts.digest.release;
        format!(
            "holds {:08b}, release {release:?}, serves {:?}, {:?}",
            facts.held, facts.digest.stable, side.hand
        )
    };
    format!("first {}; second {}; claims {:?}", side(&state.sides[0]), side(&state.sides[1]), state.claims)
}
