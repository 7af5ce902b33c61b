//! How a release goes from 0 to 100 %: the strategies people write, and the steps they become.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, IntoDeserializer as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::check::MAX_STEPS;
use super::schema;
use super::units::{Percent, Span};

mod resolve;

pub use resolve::{PREDEFINED_PREFIX, is_predefined, predefined_names, steps_of};
pub(crate) use resolve::{known_names, resolve};

/// A strategy as written: exactly one of the four forms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = schema::exactly_one(&["allAtOnce", "canary", "linear", "steps"])))]
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
    #[schemars(extend("minItems" = 1, "maxItems" = MAX_STEPS))]
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
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 100))]
    pub weight: Percent,
    /// How long it bakes.
    pub bake: Span,
}

/// `linear: {weight: 10, bake: 1m}`: 10, 20, … 100 %.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// The share added by each step, 3 to 99.9, as in ECS's own linear deployments.
    #[schemars(extend("minimum" = 3, "exclusiveMaximum" = 100))]
    pub weight: Percent,
    /// How long each step bakes.
    pub bake: Span,
}

/// One step as written: a shift (`weight`, `scale`, `bake`) or a `pause`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {
        "required": ["pause"],
        "properties": {
            "pause": {"type": "object"}, "weight": {"type": "null"},
            "scale": {"type": "null"}, "bake": {"type": "null"}
        }
    },
    {
        "required": ["weight", "bake"],
        "properties": {
            "weight": {"type": "number"}, "bake": {"type": "string"}, "pause": {"type": "null"}
        }
    }
]))]
pub struct StepSpec {
    /// The candidate's share, above 0 and below 100, never below the step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 100))]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Scale {
    /// A percentage of the service's desiredCount, at least the weight.
    Fixed(Percent),
    /// As much as the weight.
    Follow(Follow),
}

impl<'de> Deserialize<'de> for Scale {
    // By hand, so that the error says what is allowed; an untagged enum only says that nothing matched.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Scale;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("follow, or a number from 0 to 100 with at most one decimal")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scale, E> {
                Percent::deserialize(value.into_deserializer()).map(Scale::Fixed)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scale, E> {
                Percent::deserialize(value.into_deserializer()).map(Scale::Fixed)
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scale, E> {
                Percent::deserialize(value.into_deserializer()).map(Scale::Fixed)
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scale, E> {
                match value {
                    "follow" => Ok(Scale::Follow(Follow::Follow)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
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
