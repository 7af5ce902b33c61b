//! What must be true of every log, read from the log alone.
//!
//! Nothing here is shared with `decide` or `decide::safety` beyond the data: each monitor is a sentence of
//! `docs/reliability.md` ("Safety") told again over what was read, written, sent and landed.

use std::fmt;

use pointsman_core::model::facts::Release;
use pointsman_core::model::observed::{TaskSet, TaskSetStatus};
use pointsman_core::model::{Action, Answer, Effect, Facts, Resource};
use pointsman_core::records::Group;

use super::log::{Entry, Landed, Reading, What, Wrote};

mod cleanup;
mod emergency;
mod memory;
mod pace;
mod traffic;

/// What a log shows to be broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which sentence.
    pub property: Property,
    /// Where in the log.
    pub at: usize,
    /// The evidence.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} (entry {})", self.property, self.detail, self.at)
    }
}

/// The monitored properties, with their numbers in `research/reliability.md` §2 where they have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// S1: production weight only for a version that passed its gate or serves already.
    GateBeforeTraffic,
    /// S1: the gate is passed on evidence: healthy targets, two steady looks, the test route held.
    GateOnEvidence,
    /// S1: no production weight on a group without a running task set.
    NothingOnEmpty,
    /// S2: the recorded way back stays, at its scale, until the release has ended.
    RollbackAssetStays,
    /// S2: after success the old version is kept as long as the record says.
    RetentionIsKept,
    /// S3: one task set a group.
    OneSetPerGroup,
    /// S4: an ALARM that is seen latches in that pass.
    AlarmLatches,
    /// S4: the latch never goes, and what is latched does not succeed.
    LatchStays,
    /// S5: at most one task set is made for a release.
    OneCandidate,
    /// S6: with a newer epoch on the table, an older one writes and announces nothing.
    NewestEpochActs,
    /// S7, S5: an effect is durable, with the way back, before it is sent; once each.
    WriteAhead,
    /// S8: weights of the plan's steps only, never all zero.
    WeightsOfThePlan,
    /// S9: no forward effect of an older request; generations and revisions never fall.
    GenerationsGrow,
    /// S10: one release of the service at a time, and no call on a resource that it has not claimed.
    OneReleaseOnItsOwn,
    /// S11: only what is ours is touched.
    OursAlone,
    /// S12: a release ends once.
    EndsOnce,
    /// S14: a forward weight needs every armed alarm's answer, and none in ALARM.
    NoEvidenceNoSuccess,
    /// S17: tasks for the traffic, before the traffic.
    CapacityFirst,
    /// S18: from the latch until traffic is back nothing but production weights is written.
    RollbackIsStatic,
    /// S18: of the routes the one that gives the candidate most goes back first, and one that refuses stops no other.
    LargestFirst,
    /// S18: without a lease traffic goes back to a sound stable version, on two looks, and nothing else is done.
    GuardedWithoutLease,
    /// S18: what was done without a lease is the first thing that is written with it.
    EmergencyIsRecorded,
    /// S20: a bake is never shortened.
    BakeIsWhole,
    /// S21: an unknown outcome is forgotten only by a later answer on the same resource.
    UnknownIsUnknown,
    /// S22: nothing is deleted before the quiet time and two agreeing reads of the whole load balancer.
    QuiesceBeforeDestroy,
    /// Delete by recorded id: tombstoned before, and with the external id that it was made with.
    DeleteById,
    /// One effect a pass: a fresh look between two effects.
    OneEffectAPass,
    /// L6: nothing is done when nothing is left to do.
    IdleIsQuiet,
}

/// Reads a log with every monitor.
pub fn check(log: &[Entry]) -> Vec<Finding> {
    let tale = Tale { log };
    let mut found = Vec::new();
    for monitor in [traffic::check, memory::check, cleanup::check, emergency::check, pace::check] {
        monitor(&tale, &mut |property, at, detail| found.push(Finding { property, at, detail }));
    }
    found.sort_by_key(|finding| finding.at);
    found
}

/// Notes a finding.
type Note<'a> = &'a mut dyn FnMut(Property, usize, String);

/// A log with the questions that monitors ask of it.
struct Tale<'a> {
    log: &'a [Entry],
}

impl<'a> Tale<'a> {
    fn all(&self) -> impl Iterator<Item = (usize, &'a Entry)> + use<'a> {
        self.log.iter().enumerate()
    }

    fn writes(&self) -> impl Iterator<Item = (usize, &'a Entry, &'a Wrote)> + use<'a> {
        self.all().filter_map(|(at, entry)| match &entry.what {
            What::Wrote(wrote) => Some((at, entry, wrote)),
            _ => None,
        })
    }

    fn sent(&self) -> impl Iterator<Item = (usize, &'a Entry, &'a Action)> + use<'a> {
        self.all().filter_map(|(at, entry)| match &entry.what {
            What::Sent(action) => Some((at, entry, action)),
            _ => None,
        })
    }

    fn landed(&self) -> impl Iterator<Item = (usize, &'a Entry, &'a Landed)> + use<'a> {
        self.all().filter_map(|(at, entry)| match &entry.what {
            What::Landed(landed) => Some((at, entry, landed)),
            _ => None,
        })
    }

    /// Entries before `at`, newest first.
    fn before(&self, at: usize) -> impl Iterator<Item = (usize, &'a Entry)> + use<'a> {
        self.log.iter().enumerate().take(at).rev()
    }

    /// The durable facts at this point.
    fn facts(&self, at: usize) -> Option<&'a Facts> {
        self.before(at).find_map(|(_, entry)| match &entry.what {
            What::Wrote(wrote) => Some(&*wrote.facts),
            _ => None,
        })
    }

    /// What this process wrote last before this point.
    fn intent(&self, at: usize, by: u32) -> Option<(usize, &'a Wrote)> {
        self.before(at).find_map(|(index, entry)| match &entry.what {
            What::Wrote(wrote) if entry.by == by => Some((index, wrote)),
            _ => None,
        })
    }

    /// What this process read before this point, newest first.
    fn readings(&self, at: usize, by: u32) -> impl Iterator<Item = (usize, &'a Reading)> + use<'a> {
        self.before(at).filter_map(move |(index, entry)| match &entry.what {
            What::Read(reading) if entry.by == by => Some((index, reading)),
            _ => None,
        })
    }

    /// The answers that this process was given for a resource between two points.
    fn answers(
        &self,
        from: usize,
        to: usize,
        resource: &Resource,
    ) -> impl Iterator<Item = &'a Answer> + use<'a> {
        let resource = resource.clone();
        self.log.get(from..to).unwrap_or_default().iter().filter_map(move |entry| match &entry.what {
            What::Answered(effect, answer) if effect.resource() == resource => Some(answer),
            _ => None,
        })
    }
}

fn is_production(route: &str) -> bool {
    route != "preview"
}

fn lives(set: &TaskSet, group: Group) -> bool {
    set.group == Some(group) && set.status != TaskSetStatus::Draining
}

fn production_write(effect: &Effect) -> Option<pointsman_core::model::Shares> {
    match effect {
        Effect::SetWeights { route, shares, .. } if is_production(route) => Some(*shares),
        _ => None,
    }
}

fn is_forward(effect: &Effect, release: &Release) -> bool {
    match effect {
        Effect::CreateTaskSet { .. } | Effect::ScaleTaskSet { .. } | Effect::SetPrimary { .. } => true,
        Effect::SetWeights { shares, .. } => shares.of(release.candidate.group) > 0,
        Effect::DeleteTaskSet { .. } => false,
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a helper of a test may fail it")]
mod tests;
