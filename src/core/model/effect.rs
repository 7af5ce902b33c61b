//! The seven mutating AWS operations, as data: what may be done, on what, and what came of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plan::Revision;
use crate::records::{Group, Percent};

/// The raw weights of one forward action. Compared as ratios: (1, 0) and (1000, 0) are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shares {
    /// Weight of group `a`.
    pub a: u32,
    /// Weight of group `b`.
    pub b: u32,
}

impl Shares {
    /// The weights that give `group` this share. ELB's largest weight is 999 (`aws-facts.md` §2), so the
    /// ends are written (0, 100) and (100, 0), everything between in tenths of a percent.
    pub fn giving(group: Group, share: Percent) -> Self {
        let (mine, other) = match share.tenths() {
            0 => (0, 100),
            1000 => (100, 0),
            tenths => (u32::from(tenths), 1000 - u32::from(tenths)),
        };
        match group {
            Group::A => Self { a: mine, b: other },
            Group::B => Self { a: other, b: mine },
        }
    }

    /// The raw weight of `group`.
    pub const fn of(self, group: Group) -> u32 {
        match group {
            Group::A => self.a,
            Group::B => self.b,
        }
    }

    /// Whether both give the same ratio.
    pub fn same_ratio(self, other: Self) -> bool {
        let cross = |x: u32, y: u32| u64::from(x) * u64::from(y);
        (self.a + self.b == 0) == (other.a + other.b == 0) && cross(self.a, other.b) == cross(self.b, other.a)
    }

    /// Orders by the share of `group`: is it larger here than in `other`?
    pub fn gives_more_to(self, group: Group, other: Self) -> bool {
        let (x, y) = (self.of(group), self.of(group.other()));
        let (p, q) = (other.of(group), other.of(group.other()));
        // x/(x+y) > p/(p+q), without division.
        u64::from(x) * u64::from(p + q) > u64::from(p) * u64::from(x + y)
    }

    /// The share of `group`, rounded to tenths of a percent, for people.
    pub fn share(self, group: Group) -> Percent {
        let total = u64::from(self.a) + u64::from(self.b);
        if total == 0 {
            return Percent::ZERO;
        }
        let mine = u64::from(self.of(group));
        let tenths = (mine * 1000 + total / 2) / total;
        // A trace must not read as nothing, nor almost everything as all.
        let tenths = match (mine, mine == total) {
            (0, _) => 0,
            (_, true) => 1000,
            _ => tenths.clamp(1, 999),
        };
        u16::try_from(tenths).ok().and_then(Percent::from_tenths).unwrap_or(Percent::ZERO)
    }
}

/// One change to the world. Every effect is absolute and safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// Make the candidate's task set.
    CreateTaskSet {
        /// Target group it registers in.
        group: Group,
        /// What it runs.
        revision: Revision,
        /// Never omitted: AWS's default is 0 % (`aws-facts.md` §1.6).
        scale: Percent,
        /// `pm1/<installation>/<uid>/<generation>.<attempt>`; how the set is found again.
        external_id: String,
        /// `clientToken`, at most 36 characters.
        token: String,
    },
    /// Set the candidate's scale.
    ScaleTaskSet {
        /// Task set ARN.
        task_set: String,
        /// New scale.
        scale: Percent,
    },
    /// Remove a tombstoned task set, by ARN, with force.
    DeleteTaskSet {
        /// Task set ARN.
        task_set: String,
        /// It must carry this external id.
        external_id: String,
    },
    /// Make a task set PRIMARY.
    SetPrimary {
        /// Task set ARN.
        task_set: String,
    },
    /// Write the weights of one route.
    SetWeights {
        /// The route's name in the pinned plan.
        route: String,
        /// What to write.
        shares: Shares,
        /// Live weights that must still be there; none for a write back to stable, which is never held up.
        expect: Option<Shares>,
    },
}

impl Effect {
    /// What the effect changes.
    pub fn resource(&self) -> Resource {
        match self {
            Self::CreateTaskSet { external_id, .. } => Resource::NewTaskSet(external_id.clone()),
            Self::ScaleTaskSet { task_set, .. } | Self::DeleteTaskSet { task_set, .. } => {
                Resource::TaskSet(task_set.clone())
            }
            Self::SetPrimary { .. } => Resource::Primary,
            Self::SetWeights { route, .. } => Resource::Route(route.clone()),
        }
    }

    /// The name used in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateTaskSet { .. } => "CreateTaskSet",
            Self::ScaleTaskSet { .. } => "ScaleTaskSet",
            Self::DeleteTaskSet { .. } => "DeleteTaskSet",
            Self::SetPrimary { .. } => "SetPrimary",
            Self::SetWeights { .. } => "SetWeights",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTaskSet { group, revision, scale, .. } => {
                write!(f, "create a task set of {revision} in group {group} at {scale} %")
            }
            Self::ScaleTaskSet { task_set, scale } => {
                write!(f, "scale task set {} to {scale} %", short(task_set))
            }
            Self::DeleteTaskSet { task_set, .. } => write!(f, "delete task set {}", short(task_set)),
            Self::SetPrimary { task_set } => write!(f, "make task set {} PRIMARY", short(task_set)),
            Self::SetWeights { route, shares, .. } => {
                let (a, b) = (shares.share(Group::A), shares.share(Group::B));
                write!(f, "set route {route} to a {a} % / b {b} %")
            }
        }
    }
}

/// The last part of an ARN or id, for people.
pub fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// What an effect changes. Outstanding effects are kept by resource: only a later acknowledged write on the
/// same one settles an unknown outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// A route, by name.
    Route(String),
    /// A task set, by ARN.
    TaskSet(String),
    /// A task set that is being made, by external id.
    NewTaskSet(String),
    /// The service's PRIMARY.
    Primary,
}

/// The one write that may be made without a lease: all weight of one route back to the stable version's group. It can
/// say nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WayBack {
    route: String,
    stable: Group,
    expect: Shares,
}

impl WayBack {
    /// Back to `stable`, if the live weights are still `expect`.
    pub const fn new(route: String, stable: Group, expect: Shares) -> Self {
        Self { route, stable, expect }
    }

    /// The route's name in the pinned plan.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// What to write: everything to stable.
    pub fn shares(&self) -> Shares {
        Shares::giving(self.stable, Percent::FULL)
    }

    /// Live weights that must still be there.
    pub const fn expect(&self) -> Shares {
        self.expect
    }
}

/// An effect to carry out, with the proof of what it may cost: exactly one mutating call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Action {
    /// What to do.
    pub effect: Effect,
    /// Whether it brings traffic back to stable: such work goes before all other.
    pub rollback: bool,
}

/// What became of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// AWS answered that it is done.
    Acknowledged(Acknowledgement),
    /// It was certainly not done.
    Refused {
        /// How to go on.
        class: RefusalClass,
        /// AWS's or our own words.
        message: String,
    },
    /// It may have been done, may yet be done, or not.
    Unknown {
        /// What was seen instead of an answer.
        message: String,
    },
}

/// What AWS's answer says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Acknowledgement {
    /// Nothing more than yes.
    Done,
    /// The task set that was made.
    Created {
        /// Its ARN.
        task_set: String,
    },
    /// The weights in the answer: what AWS says it now has.
    Echo(Shares),
}

/// Why an effect was not done, and what that means. None of these is a verdict on the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RefusalClass {
    /// Rate limit: again later.
    Throttled,
    /// Something else is changing the resource, or the precondition no longer holds: read again.
    Conflict,
    /// No permission: wait for a person, keep trying slowly.
    Denied,
    /// AWS will not do this, however often it is asked.
    Permanent,
    /// Our own lease gate stopped it before it was sent.
    NoLease,
}

/// The mutating operations. No others exist: the adapters, the IAM template and its test share this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mutation {
    /// ECS.
    CreateTaskSet,
    /// ECS.
    UpdateTaskSet,
    /// ECS.
    DeleteTaskSet,
    /// ECS.
    UpdateServicePrimaryTaskSet,
    /// ELBv2.
    ModifyRule,
    /// ELBv2.
    ModifyListener,
    /// ECS; reserved for adoption.
    TagResource,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CreateTaskSet,
        Self::UpdateTaskSet,
        Self::DeleteTaskSet,
        Self::UpdateServicePrimaryTaskSet,
        Self::ModifyRule,
        Self::ModifyListener,
        Self::TagResource,
    ];
}
