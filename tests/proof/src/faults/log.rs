//! What happened in one run, as a sequence of plain records. The monitors read nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pointsman_core::model::effect::short;
use pointsman_core::model::observed::{AlarmState, Service, TaskSet};
use pointsman_core::model::{Action, Answer, Effect, Facts, Shares};
use pointsman_core::ports::HistoryItem;
use pointsman_core::records::Group;

use super::fault::{Fault, Op};

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Virtual milliseconds since the run began.
    pub at_ms: u64,
    /// The number of the call that it belongs to; 0 for what no call brought about.
    pub call: u32,
    /// Which process; 0 for nobody's.
    pub by: u32,
    /// Its lease epoch.
    pub epoch: u64,
    /// What.
    pub what: What,
}

/// See [`Entry::what`].
#[derive(Clone, Debug)]
pub enum What {
    /// A process started, without memory.
    Started,
    /// A process died.
    Died,
    /// A process was told that it has no lease any more.
    Unleased,
    /// A process's lease has run out, and it cannot reach the table.
    Lapsed,
    /// The table answers a process whose lease has run out, and nobody else had the shard.
    Renewed,
    /// Somebody wrote a record, or the world changed by itself.
    Happened(String),
    /// A fault was put here.
    Befell(Op, Fault),
    /// A read was answered.
    Read(Reading),
    /// The state item changed.
    Wrote(Wrote),
    /// A write of the state item was not answered with yes, though it may have landed; whether because it is somebody else's.
    Unwritten {
        /// The condition failed.
        overtaken: bool,
    },
    /// A mutating call was sent: its lease gate was passed.
    Sent(Action),
    /// A way back was sent without a lease, or with one and without a record.
    SentWithoutLease(Action),
    /// A mutating call reached the region.
    Landed(Landed),
    /// The process was answered.
    Answered(Effect, Answer),
    /// Nothing is left to be done.
    Settled,
}

/// The content of an answered read, as far as a monitor needs it.
#[derive(Clone, Debug)]
pub enum Reading {
    /// The service.
    Service(Service),
    /// Live weights by route.
    Routes(BTreeMap<String, Shares>),
    /// Alarms by name.
    Alarms(BTreeMap<String, AlarmState>),
    /// Healthy targets of a group, and all of them.
    Targets(Group, u32, u32),
    /// The largest weight that any rule of the load balancer gives each group.
    Balancer(BTreeMap<Group, u32>),
    /// The states that an alarm entered.
    History(String, Vec<AlarmState>),
    /// Anything else.
    Other(Op),
    /// It failed.
    Failed(Op),
}

/// A landed state write.
#[derive(Clone, Debug)]
pub struct Wrote {
    /// The new revision.
    pub rev: u64,
    /// The new facts.
    pub facts: Arc<Facts>,
    /// What ended with it.
    pub ended: Vec<HistoryItem>,
    /// What is claimed now.
    pub claims: Vec<String>,
}

/// A landed effect and what the region looks like now.
#[derive(Clone, Debug)]
pub struct Landed {
    /// Which.
    pub effect: Effect,
    /// Whether the region accepted it.
    pub accepted: bool,
    /// Weights by route.
    pub routes: BTreeMap<String, Shares>,
    /// The service.
    pub service: Service,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, ms) = (self.at_ms / 1_000, self.at_ms % 1_000);
        write!(f, "{secs:>5}.{ms:03} ")?;
        match self.call {
            0 => f.write_str("     ")?,
            call => write!(f, "#{call:<4}")?,
        }
        match self.by {
            0 => f.write_str("            ")?,
            by => write!(f, " p{by} epoch {:<3}", self.epoch)?,
        }
        write!(f, " {}", self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("starts"),
            Self::Died => f.write_str("DIES"),
            Self::Unleased => f.write_str("loses its lease"),
            Self::Lapsed => f.write_str("is CUT OFF, and its lease has run out"),
            Self::Renewed => f.write_str("has its lease again"),
            Self::Happened(what) => write!(f, "*** {what}"),
            Self::Befell(op, fault) => write!(f, "!!! {fault} at {op:?}"),
            Self::Read(reading) => write!(f, "reads {reading}"),
            Self::Wrote(wrote) => write!(f, "WRITES {wrote}"),
            Self::Unwritten { overtaken: false } => f.write_str("is told of no write"),
            Self::Unwritten { overtaken: true } => f.write_str("is told that somebody else wrote"),
            Self::Sent(action) if action.rollback => write!(f, "SENDS {} (way back)", action.effect),
            Self::Sent(action) => write!(f, "SENDS {}", action.effect),
            Self::SentWithoutLease(action) => write!(f, "SENDS {} (unrecorded)", action.effect),
            Self::Landed(landed) => write!(f, "LANDS {landed}"),
            Self::Answered(effect, Answer::Acknowledged(_)) => write!(f, "is told yes: {effect}"),
            Self::Answered(effect, Answer::Refused { class, .. }) => {
                write!(f, "is told no ({class:?}): {effect}")
            }
            Self::Answered(effect, Answer::Unknown { .. }) => write!(f, "is told nothing: {effect}"),
            Self::Settled => f.write_str("--- settled"),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => {
                f.write_str("the service:")?;
                service.task_sets.iter().try_for_each(|set| write!(f, " {}", Set(set)))
            }
            Self::Routes(routes) => {
                f.write_str("the routes:")?;
                routes.iter().try_for_each(|(name, live)| write!(f, " {name} {}/{}", live.a, live.b))
            }
            Self::Alarms(alarms) => {
                f.write_str("the alarms:")?;
                let mut loud = alarms.iter().filter(|(_, state)| **state != AlarmState::Ok);
                loud.try_for_each(|(name, state)| write!(f, " {name} {state:?}"))
            }
            Self::Targets(group, healthy, all) => write!(f, "targets of {group}: {healthy} of {all} healthy"),
            Self::Balancer(weights) => {
                f.write_str("the load balancer:")?;
                weights.iter().try_for_each(|(group, most)| write!(f, " {group} at most {most}"))
            }
            Self::History(name, states) => write!(f, "the history of {name}: {states:?}"),
            Self::Other(op) => write!(f, "{op:?}"),
            Self::Failed(op) => write!(f, "{op:?} in vain"),
        }
    }
}

struct Set<'a>(&'a TaskSet);

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.0;
        let group = set.group.map_or_else(|| "?".to_owned(), |group| group.to_string());
        let steady = if set.steady { "" } else { " unsteady" };
        let (running, computed) = (set.running, set.computed);
        write!(
            f,
            "[{} :{} in {group} {:?} {running}/{computed}{steady}]",
            short(&set.arn),
            set.revision.number,
            set.status
        )
    }
}

impl fmt::Display for Wrote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        write!(f, "rev {} generation {}", self.rev, facts.generation)?;
        if facts.pending.is_some() {
            f.write_str(" pending")?;
        }
        if let Some(release) = &facts.release {
            let progress = &release.progress;
            write!(f, " release {} {:?} step {}", release.id, progress.stage, progress.step)?;
            if progress.gate_passed {
                f.write_str(" gated")?;
            }
            if let Some(latch) = &release.latch {
                write!(f, " LATCHED {:?} ({})", latch.cause, latch.detail)?;
            }
        }
        for entry in facts.outstanding.values() {
            write!(f, " outstanding{} <{}>", if entry.unknown { "?" } else { "" }, entry.effect)?;
        }
        for job in &facts.cleanups {
            write!(f, " cleanup {} quiet {} zero {}", job.group, job.quiet, job.zero_reads)?;
        }
        if let Some(kept) = &facts.retained {
            write!(f, " retains {} for {}", kept.version.group, kept.kept)?;
        }
        if let Some(halt) = &facts.halted {
            write!(f, " HALTED {:?}", halt.reason)?;
        }
        self.ended.iter().try_for_each(|ended| {
            write!(f, " ENDED {} {:?} ({})", ended.release, ended.outcome, ended.reason)
        })
    }
}

impl fmt::Display for Landed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = if self.accepted { "" } else { " (refused)" };
        write!(f, "{}{refused}; now", self.effect)?;
        self.routes.iter().try_for_each(|(name, live)| write!(f, " {name} {}/{}", live.a, live.b))?;
        self.service.task_sets.iter().try_for_each(|set| write!(f, " {}", Set(set)))
    }
}
