//! What follows when AWS does not do what it was asked, or does not say what is: operation × error class × phase.
//!
//! An error's own meaning (`aws/error/table.rs`: was it done, and what would help) ends in a [`Class`]. This table
//! says what the service does about it. It has no wildcard, so a new operation, class or phase does not compile
//! before somebody has said what follows.
//!
//! One occurrence never changes how a release ends: a refused or lost effect is asked for again, at most a poll
//! later, and what was not read is read again. The [`Response`] says what happens when it *lasts*. The class
//! decides only whether a doubt stays behind ([`leaves_doubt`]), for none of the classes is a verdict on a release.
//!
//! `decide` goes by [`limit_of`] and [`at_limit`], `settle` by [`leaves_doubt`]; the rest is the specification that
//! `tests/core/trouble.rs` holds production code to, cell by cell. What follows when the tables do not do what they
//! were asked is the loop's to know, and has a table there (`controller/response.rs`).

use crate::model::facts::Stage;
use crate::model::{Effect, Facts, Mutation, Plan, RefusalClass};
use crate::records::Span;

/// Where a service stands, as far as errors are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// A request is judged before it starts.
    Starting,
    /// From the start to the passed gate.
    Preparing,
    /// Scaling the candidate for a step.
    Scaling,
    /// Writing and verifying the weights of a step.
    Shifting,
    /// Waiting for a promotion.
    Pausing,
    /// Baking a step.
    Baking,
    /// Making the candidate PRIMARY.
    Completing,
    /// Latched: bringing traffic back.
    GoingBack,
    /// No release in flight; a task set leaves.
    Leaving,
    /// No release in flight; the previous version is kept warm.
    Retaining,
    /// Nothing is under way.
    Idle,
}

impl Phase {
    /// All of them, in the order of a release's life.
    pub const ALL: [Self; 11] = [
        Self::Starting,
        Self::Preparing,
        Self::Scaling,
        Self::Shifting,
        Self::Pausing,
        Self::Baking,
        Self::Completing,
        Self::GoingBack,
        Self::Leaving,
        Self::Retaining,
        Self::Idle,
    ];

    /// Derived from facts, like everything else.
    pub fn of(facts: &Facts) -> Self {
        let Some(release) = &facts.release else {
            return match (facts.cleanups.is_empty(), facts.pending.is_some(), facts.retained.is_some()) {
                (false, _, _) => Self::Leaving,
                (true, true, _) => Self::Starting,
                (true, false, true) => Self::Retaining,
                (true, false, false) => Self::Idle,
            };
        };
        match release.progress.stage {
            _ if release.latch.is_some() => Self::GoingBack,
            Stage::Preparing => Self::Preparing,
            Stage::Scaling => Self::Scaling,
            Stage::Shifting => Self::Shifting,
            Stage::Pausing => Self::Pausing,
            Stage::Baking => Self::Baking,
            Stage::Completing => Self::Completing,
            Stage::GoingBack => Self::GoingBack,
        }
    }
}

/// What the daemon asks AWS to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Make the candidate's task set.
    CreateTaskSet,
    /// Scale it.
    ScaleTaskSet,
    /// Remove a tombstoned one.
    DeleteTaskSet,
    /// Move PRIMARY.
    SetPrimary,
    /// Write a production route's weights.
    ProductionWeights,
    /// Write the test route's weights.
    TestWeights,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CreateTaskSet,
        Self::ScaleTaskSet,
        Self::DeleteTaskSet,
        Self::SetPrimary,
        Self::ProductionWeights,
        Self::TestWeights,
    ];

    /// The work of an effect under the plan that it goes by.
    pub fn of(effect: &Effect, plan: &Plan) -> Self {
        match effect {
            Effect::CreateTaskSet { .. } => Self::CreateTaskSet,
            Effect::ScaleTaskSet { .. } => Self::ScaleTaskSet,
            Effect::DeleteTaskSet { .. } => Self::DeleteTaskSet,
            Effect::SetPrimary { .. } => Self::SetPrimary,
            Effect::SetWeights { route, .. } => {
                if plan.spec.routes.production.iter().any(|known| known.name == *route) {
                    Self::ProductionWeights
                } else {
                    Self::TestWeights
                }
            }
        }
    }

    /// Which work an AWS operation is done for. Rules and listeners differ in the call alone, and nothing is
    /// tagged before adoption comes.
    pub const fn done_by(mutation: Mutation) -> &'static [Self] {
        match mutation {
            Mutation::CreateTaskSet => &[Self::CreateTaskSet],
            Mutation::UpdateTaskSet => &[Self::ScaleTaskSet],
            Mutation::DeleteTaskSet => &[Self::DeleteTaskSet],
            Mutation::UpdateServicePrimaryTaskSet => &[Self::SetPrimary],
            Mutation::ModifyRule | Mutation::ModifyListener => &[Self::ProductionWeights, Self::TestWeights],
            Mutation::TagResource => &[],
        }
    }
}

/// What the daemon asks AWS to tell. An error of any class leaves it unknown, which is never absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Read {
    /// The ECS service with its task sets.
    Service,
    /// The live weights.
    Routes,
    /// The alarms by name.
    Alarms,
    /// What an alarm did between two looks.
    AlarmHistory,
    /// A group's targets.
    Targets,
    /// All rules and listeners of the load balancer.
    LoadBalancer,
    /// What a start is judged by.
    Preflight,
    /// Why a task stopped, for people.
    LastStop,
}

impl Read {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Service,
        Self::Routes,
        Self::Alarms,
        Self::AlarmHistory,
        Self::Targets,
        Self::LoadBalancer,
        Self::Preflight,
        Self::LastStop,
    ];
}

/// What an error says of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Certainly not done.
    Refused(RefusalClass),
    /// It may have been done, may yet be done, or not.
    Unknown,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Refused(RefusalClass::Throttled),
        Self::Refused(RefusalClass::Conflict),
        Self::Refused(RefusalClass::Denied),
        Self::Refused(RefusalClass::Permanent),
        Self::Refused(RefusalClass::NoLease),
        Self::Unknown,
    ];
}

/// A patience that the record sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// `deadlines.start`.
    Start,
    /// `deadlines.prepare`.
    Prepare,
    /// `deadlines.capacity`.
    Capacity,
    /// `deadlines.weightWrite`.
    WeightWrite,
    /// The pause's own time-out.
    Pause,
    /// `deadlines.primary`.
    Primary,
    /// `alarmPolicy.evidenceDeadline`.
    Evidence,
}

impl Limit {
    /// Its name in the record, and in what people are told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Prepare => "prepare",
            Self::Capacity => "capacity",
            Self::WeightWrite => "weightWrite",
            Self::Pause => "pause",
            Self::Primary => "primary",
            Self::Evidence => "evidenceDeadline",
        }
    }

    /// How long it is; none for a pause, which has one of its own.
    pub const fn span(self, plan: &Plan) -> Option<Span> {
        let deadlines = &plan.spec.deadlines;
        match self {
            Self::Start => Some(deadlines.start),
            Self::Prepare => Some(deadlines.prepare),
            Self::Capacity => Some(deadlines.capacity),
            Self::WeightWrite => Some(deadlines.weight_write),
            Self::Primary => Some(deadlines.primary),
            Self::Evidence => Some(plan.spec.alarm_policy.evidence_deadline),
            Self::Pause => None,
        }
    }
}

/// The deadline of a stage. Baking has none of its own: it ends, or its evidence or its weights run out of time.
pub const fn limit_of(stage: Stage) -> Option<Limit> {
    match stage {
        Stage::Preparing => Some(Limit::Prepare),
        Stage::Scaling => Some(Limit::Capacity),
        Stage::Shifting => Some(Limit::WeightWrite),
        Stage::Pausing => Some(Limit::Pause),
        Stage::Completing => Some(Limit::Primary),
        Stage::Baking | Stage::GoingBack => None,
    }
}

/// What a stage does at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtLimit {
    /// The release goes back.
    GoBack,
    /// It goes on without: PRIMARY is only a label.
    GoOn,
    /// The record says which.
    AsThePauseSays,
}

/// See [`AtLimit`].
pub const fn at_limit(limit: Limit) -> AtLimit {
    match limit {
        // A request at its `start` deadline has nothing to take back and is refused (`start`).
        Limit::Start | Limit::Prepare | Limit::Capacity | Limit::WeightWrite | Limit::Evidence => {
            AtLimit::GoBack
        }
        Limit::Primary => AtLimit::GoOn,
        Limit::Pause => AtLimit::AsThePauseSays,
    }
}

/// What a lasting trouble leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Response {
    /// It is not asked for in this phase.
    NotAsked,
    /// *No effect*: the phase goes on and ends as it would have.
    GoesOn,
    /// *Retry or hold, then roll back*: nothing forward; at the limit the release goes back.
    RollsBackAfter(Limit),
    /// *Retry, then go on*: at the limit it is given up, and the release succeeds without it.
    GoesOnAfter(Limit),
    /// *Hold, then reject*: nothing is touched; at the limit the request is refused.
    RefusedAfter(Limit),
    /// *Retry or hold* without an end: what is safe now stays so, and nothing else would help.
    Persists,
}

/// Whether it may yet happen: the effect stays outstanding until a later write on its resource is acknowledged,
/// and clean-ups of the release wait as long as a signed request can linger.
pub const fn leaves_doubt(class: Class) -> bool {
    match class {
        Class::Refused(
            RefusalClass::Throttled
            | RefusalClass::Conflict
            | RefusalClass::Denied
            | RefusalClass::Permanent
            | RefusalClass::NoLease,
        ) => false,
        Class::Unknown => true,
    }
}

/// What happens when `work` fails in `phase` by `class`, again and again.
#[expect(clippy::too_many_lines, reason = "one table; in parts, its gaps would be harder to see")]
pub const fn to_failed_work(work: Work, class: Class, phase: Phase) -> Response {
    match work {
        Work::CreateTaskSet => match phase {
            Phase::Preparing => Response::RollsBackAfter(Limit::Prepare),
            Phase::Starting
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing
            | Phase::GoingBack
            | Phase::Leaving
            | Phase::Retaining
            | Phase::Idle => Response::NotAsked,
        },
        Work::ScaleTaskSet => match phase {
            Phase::Scaling => Response::RollsBackAfter(Limit::Capacity),
            // Somebody scaled the candidate down between the writes of two routes.
            Phase::Shifting => Response::RollsBackAfter(Limit::WeightWrite),
            Phase::Starting
            | Phase::Preparing
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing
            | Phase::GoingBack
            | Phase::Leaving
            | Phase::Retaining
            | Phase::Idle => Response::NotAsked,
        },
        Work::DeleteTaskSet => match phase {
            Phase::Leaving => Response::Persists,
            Phase::Starting
            | Phase::Preparing
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing
            | Phase::GoingBack
            | Phase::Retaining
            | Phase::Idle => Response::NotAsked,
        },
        Work::SetPrimary => match phase {
            Phase::Completing => Response::GoesOnAfter(Limit::Primary),
            // A leaving set must not be PRIMARY; later, only a doubt that a release left behind is repeated.
            Phase::Leaving | Phase::Retaining | Phase::Idle | Phase::Starting => Response::Persists,
            Phase::Preparing
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::GoingBack => Response::NotAsked,
        },
        Work::ProductionWeights => match phase {
            // The step's own write, or what somebody moved is put back.
            Phase::Preparing | Phase::Scaling | Phase::Shifting | Phase::Pausing | Phase::Baking => {
                Response::RollsBackAfter(Limit::WeightWrite)
            }
            // At 100 % nobody can move weight forward, and whoever moves it back is obeyed.
            Phase::Completing => Response::NotAsked,
            // The way back, the barrier before a deletion, the repair of an outage.
            Phase::GoingBack | Phase::Leaving | Phase::Starting | Phase::Idle => Response::Persists,
            // Both versions run: retention goes by beside the repair, but nothing is removed in doubt.
            Phase::Retaining => {
                if leaves_doubt(class) {
                    Response::Persists
                } else {
                    Response::GoesOn
                }
            }
        },
        Work::TestWeights => match phase {
            Phase::Preparing => Response::RollsBackAfter(Limit::Prepare),
            Phase::Leaving => Response::Persists,
            Phase::Starting
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing
            | Phase::GoingBack
            | Phase::Retaining
            | Phase::Idle => Response::NotAsked,
        },
    }
}

/// What happens when `read` stays unknown in `phase`.
#[expect(clippy::too_many_lines, reason = "one table; in parts, its gaps would be harder to see")]
pub const fn to_failed_read(read: Read, phase: Phase) -> Response {
    match read {
        Read::Service => match phase {
            Phase::Starting => Response::RefusedAfter(Limit::Start),
            Phase::Preparing => Response::RollsBackAfter(Limit::Prepare),
            Phase::Scaling | Phase::Shifting | Phase::Pausing | Phase::Baking | Phase::Completing => {
                Response::RollsBackAfter(Limit::Evidence)
            }
            // Unknown counts as running: nothing holds the way back.
            Phase::GoingBack | Phase::Retaining | Phase::Idle => Response::GoesOn,
            Phase::Leaving => Response::Persists,
        },
        Read::Routes => match phase {
            Phase::Starting => Response::RefusedAfter(Limit::Start),
            Phase::Preparing => Response::RollsBackAfter(Limit::Prepare),
            Phase::Scaling | Phase::Shifting | Phase::Pausing | Phase::Baking | Phase::Completing => {
                Response::RollsBackAfter(Limit::Evidence)
            }
            // It is written back unseen; that it is back is not told before it is seen.
            Phase::GoingBack | Phase::Leaving => Response::Persists,
            Phase::Retaining | Phase::Idle => Response::GoesOn,
        },
        Read::Alarms => match phase {
            Phase::Starting => Response::RefusedAfter(Limit::Start),
            Phase::Preparing
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing => Response::RollsBackAfter(Limit::Evidence),
            Phase::GoingBack | Phase::Leaving | Phase::Retaining | Phase::Idle => Response::GoesOn,
        },
        Read::AlarmHistory => match phase {
            Phase::Preparing
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing => Response::RollsBackAfter(Limit::Evidence),
            Phase::Starting | Phase::GoingBack | Phase::Leaving | Phase::Retaining | Phase::Idle => {
                Response::NotAsked
            }
        },
        Read::Targets => match phase {
            Phase::Preparing => Response::RollsBackAfter(Limit::Prepare),
            Phase::Leaving => Response::Persists,
            Phase::Starting
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing
            | Phase::GoingBack
            | Phase::Retaining
            | Phase::Idle => Response::NotAsked,
        },
        Read::LoadBalancer => match phase {
            Phase::Leaving => Response::Persists,
            Phase::Starting
            | Phase::Preparing
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing
            | Phase::GoingBack
            | Phase::Retaining
            | Phase::Idle => Response::NotAsked,
        },
        Read::Preflight => match phase {
            Phase::Starting => Response::RefusedAfter(Limit::Start),
            Phase::Preparing
            | Phase::Scaling
            | Phase::Shifting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing
            | Phase::GoingBack
            | Phase::Leaving
            | Phase::Retaining
            | Phase::Idle => Response::NotAsked,
        },
        Read::LastStop => match phase {
            Phase::Preparing | Phase::Scaling | Phase::Shifting => Response::GoesOn,
            Phase::Starting
            | Phase::Pausing
            | Phase::Baking
            | Phase::Completing
            | Phase::GoingBack
            | Phase::Leaving
            | Phase::Retaining
            | Phase::Idle => Response::NotAsked,
        },
    }
}
