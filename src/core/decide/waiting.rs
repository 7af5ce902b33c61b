//! Every reason a service can wait for, with the data its sentence needs.

use serde::{Deserialize, Serialize};

use crate::model::effect::{RefusalClass, Resource};
use crate::records::{Group, Percent};

/// Why a service waits. The name is stable (status, metrics, dashboards); the sentence is for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WaitingOn {
    /// Something could not be read.
    Observation {
        /// What, and what was seen instead.
        what: String,
    },
    /// A record must be written or mended first.
    Record {
        /// What is wrong.
        detail: String,
    },
    /// `ServiceScaledToZero`: desiredCount is 0.
    ServiceScaledToZero,
    /// An armed alarm is in ALARM before the start.
    AlarmBeforeStart {
        /// Which.
        alarm: String,
    },
    /// What was read would have the request refused; that must stand in further reads.
    RefusalStands {
        /// The refusal's sentence.
        refusal: String,
    },
    /// The candidate's group still has targets or a draining task set.
    GroupBusy {
        /// Which.
        group: Group,
    },
    /// The last attempt of an effect was not acknowledged.
    Effect {
        /// On what.
        resource: Resource,
        /// How it was refused; none when the answer was lost.
        class: Option<RefusalClass>,
        /// AWS's words.
        message: String,
    },
    /// The candidate is not up yet.
    TaskSetSteady {
        /// runningCount.
        running: u32,
        /// computedDesiredCount.
        desired: u32,
        /// Why its last task stopped, when known.
        last_stop: Option<String>,
    },
    /// The candidate's targets are not all healthy yet.
    TargetsHealthy {
        /// Healthy targets.
        healthy: u32,
        /// How many there must be.
        wanted: u32,
        /// Why the first unhealthy one is.
        reason: Option<String>,
    },
    /// The candidate is held on the test route.
    TestHold,
    /// The candidate's capacity for a step.
    Capacity {
        /// The step's weight.
        weight: Percent,
        /// runningCount.
        running: u32,
        /// How many there must be.
        wanted: u32,
    },
    /// The stable task set is not steady.
    StableSteady,
    /// desiredCount fell below 80 % of the start.
    DesiredCountFell {
        /// Now.
        now: u32,
        /// At the start.
        at_start: u32,
    },
    /// An armed alarm cannot be judged.
    Evidence {
        /// Which.
        alarm: String,
        /// What it says.
        state: String,
    },
    /// Live weights are not what was last acknowledged; looking again before believing it.
    ForeignWeights {
        /// The route.
        route: String,
    },
    /// Written weights are given time to take effect.
    Propagation {
        /// The step's weight.
        weight: Percent,
    },
    /// A step bakes.
    Bake {
        /// The step's weight.
        weight: Percent,
    },
    /// A pause waits for a promotion.
    Pause {
        /// The step, from 1.
        step: u16,
    },
    /// `suspend` is true.
    Suspended,
    /// Traffic was written back and is being verified.
    RollbackVerify,
    /// The stable task set must be steady before the candidate is removed.
    StableBeforeCleanUp,
    /// A task set leaves: its group must stay at weight 0 for the quiet time.
    Quiet {
        /// Its group.
        group: Group,
    },
    /// A task set leaves: its group still has weight somewhere.
    GroupAtZero {
        /// Where.
        owner: String,
    },
    /// A task set leaves: tasks stop, targets drain.
    Gone {
        /// Its group.
        group: Group,
    },
    /// The previous version is kept warm.
    Retention,
    /// The record is deleted; an earlier call may still land on what is given up.
    LateCalls,
}

impl WaitingOn {
    /// The stable one-word name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Observation { .. } => "Observation",
            Self::Record { .. } => "Record",
            Self::ServiceScaledToZero => "ServiceScaledToZero",
            Self::AlarmBeforeStart { .. } => "AlarmBeforeStart",
            Self::RefusalStands { .. } => "RefusalStands",
            Self::GroupBusy { .. } => "GroupBusy",
            Self::Effect { .. } => "Effect",
            Self::TaskSetSteady { .. } => "TaskSetSteady",
            Self::TargetsHealthy { .. } => "TargetsHealthy",
            Self::TestHold => "TestHold",
            Self::Capacity { .. } => "Capacity",
            Self::StableSteady => "StableSteady",
            Self::DesiredCountFell { .. } => "DesiredCountFell",
            Self::Evidence { .. } => "Evidence",
            Self::ForeignWeights { .. } => "ForeignWeights",
            Self::Propagation { .. } => "Propagation",
            Self::Bake { .. } => "Bake",
            Self::Pause { .. } => "Pause",
            Self::Suspended => "Suspended",
            Self::RollbackVerify => "RollbackVerify",
            Self::StableBeforeCleanUp => "StableBeforeCleanUp",
            Self::Quiet { .. } => "Quiet",
            Self::GroupAtZero { .. } => "GroupAtZero",
            Self::Gone { .. } => "Gone",
            Self::Retention => "Retention",
            Self::LateCalls => "LateCalls",
        }
    }

    /// The same for an outcome, which is read when nothing is waited for any more: with what it is about.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Observation { what } => format!("cannot see {what}"),
            Self::ServiceScaledToZero => "the ECS service has desiredCount 0".to_owned(),
            Self::AlarmBeforeStart { alarm } => format!("alarm {alarm} is in ALARM"),
            Self::GroupBusy { group } => {
                format!("target group {group} still has targets or a task set that leaves")
            }
            Self::Evidence { alarm, state } => format!("alarm {alarm} is {state}"),
            other => other.name().to_owned(),
        }
    }
}
