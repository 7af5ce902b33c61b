//! `Command`: a privileged wish of an operator about one release.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::schema::{self, PRINTABLE, RELEASE_ID};

/// The record `command#<namespace>/<name>`, sort key a ULID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// Always `pointsman/v1`.
    pub api_version: super::desired_release::ApiVersion,
    /// Always `Command`.
    pub kind: CommandKind,
    /// What is wished.
    pub spec: CommandSpec,
    /// `DynamoDB` time-to-live, seconds since 1970; commands older than an hour are ignored anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_at: Option<u64>,
}

/// The one value of `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CommandKind {
    /// `Command`.
    Command,
}

/// A wish. It names the release it means, so that a late one is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend(
    "if" = {"required": ["verb"], "properties": {"verb": {"const": "promote"}}},
    "then" = schema::given("step"),
    "else" = {"properties": {"step": {"type": "null"}}}
))]
pub struct CommandSpec {
    /// What to do.
    pub verb: Verb,
    /// The release id, `<name>-<generation>.<attempt>`.
    #[schemars(extend("pattern" = RELEASE_ID))]
    pub release: String,
    /// For `promote`: the step (from 1) whose pause ends, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<PromoteStep>,
    /// Who asks; untrusted text, `CloudTrail` has the proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "pattern" = PRINTABLE))]
    pub by: Option<String>,
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// End a pause.
    Promote,
    /// Give up a release in flight.
    Abort,
    /// After success: back to the retained version. In flight: the same as abort.
    Rollback,
    /// Try a failed release again.
    Retry,
    /// Ignore the alarms that are in ALARM now until they have been OK once.
    BreakGlass,
}

/// Which pause a promotion ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum PromoteStep {
    /// This one, counted from 1.
    Step(u16),
    /// Every pause of the release.
    All(All),
}

impl<'de> Deserialize<'de> for PromoteStep {
    // By hand, so that the error says what is allowed; an untagged enum only says that nothing matched.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = PromoteStep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a step from 1 to 65535, or all")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<PromoteStep, E> {
                let step = u16::try_from(value).ok().filter(|step| *step > 0);
                step.map(PromoteStep::Step)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<PromoteStep, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(value), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<PromoteStep, E> {
                match value {
                    "all" => Ok(PromoteStep::All(All::All)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for PromoteStep {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PromoteStep".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The number of a step, from 1, or all.",
            "anyOf": [{ "type": "integer", "minimum": 1, "maximum": u16::MAX }, { "const": "all" }]
        })
    }
}

/// The word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// `all`.
    All,
}
