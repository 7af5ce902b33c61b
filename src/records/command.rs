//! `Command`: a privileged wish of an operator about one release.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
pub struct CommandSpec {
    /// What to do.
    pub verb: Verb,
    /// The release id, `<name>-<generation>.<attempt>`.
    pub release: String,
    /// For `promote`: the step (from 1) whose pause ends, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<PromoteStep>,
    /// Who asks; untrusted text, `CloudTrail` has the proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PromoteStep {
    /// This one, counted from 1.
    Step(u16),
    /// Every pause of the release.
    All(All),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// `all`.
    All,
}
