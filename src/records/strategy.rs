//! How a release goes from 0 to 100 %: the strategies people write, and the steps they become.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Percent, Span};

mod resolve;

pub use resolve::{PREDEFINED_PREFIX, is_predefined, predefined_names, steps_of};
pub(crate) use resolve::{known_names, resolve};

/// A strategy as written: exactly one of the four forms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Strategy {
    /// All traffic in one write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_at_once: Option<AllAtOnce>,
    /// One small share, then everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Equal shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear: Option<Linear>,
    /// Any list of steps, at most 30. 100 % is always the last, implicit step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepSpec>>,
}

/// `allAtOnce: {}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllAtOnce {}

/// `canary: {weight: 10, bake: 5m}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The first share, above 0 and below 100.
    pub weight: Percent,
    /// How long it bakes.
    pub bake: Span,
}

/// `linear: {weight: 10, bake: 1m}`: 10, 20, … 100 %.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// The share added by each step, 3 to 99.9, as in ECS's own linear deployments.
    pub weight: Percent,
    /// How long each step bakes.
    pub bake: Span,
}

/// One step as written: a shift (`weight`, `scale`, `bake`) or a `pause`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepSpec {
    /// The candidate's share, above 0 and below 100, never below the step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Percent>,
    /// The candidate's scale: a percentage, or `follow` (default: as much as the weight).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// How long this step bakes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Span>,
    /// Wait for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// The candidate's scale in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scale {
    /// A percentage of the service's desiredCount, at least the weight.
    Fixed(Percent),
    /// As much as the weight.
    Follow(Follow),
}

/// The word `follow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Follow {
    /// `follow`.
    Follow,
}

/// A step that waits until an operator promotes the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {
    /// The longest wait. Default 24h.
    #[serde(default = "a_day")]
    pub timeout: Span,
    /// What then. Default rollback.
    #[serde(default)]
    pub on_timeout: OnTimeout,
}

const fn a_day() -> Span {
    Span::from_mins(24 * 60)
}

/// What becomes of a pause that nobody ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// Roll back.
    #[default]
    Rollback,
    /// Go on.
    Continue,
}

/// A resolved step, as a release carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Scale the candidate, then give it this share, then bake.
    #[serde(rename_all = "camelCase")]
    Shift {
        /// The candidate's share of production traffic.
        weight: Percent,
        /// The candidate's scale; never below `weight`.
        scale: Percent,
        /// How long to bake.
        bake: Span,
    },
    /// Wait for a promotion.
    Pause(Pause),
}
