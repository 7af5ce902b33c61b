//! `DesiredRelease`: what a developer asks for. A revision and little else, so that nothing in it can
//! aim at somebody else's resource.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{LONGEST_TEXT, MAX_ANNOTATIONS, MAX_REQUEST_ID};
use super::names::Label;
use super::schema::{PLAIN_NAME, PRINTABLE, TASK_DEFINITION};

/// The record `desired#<namespace>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DesiredRelease {
    /// Always `pointsman/v1`.
    pub api_version: ApiVersion,
    /// Always `DesiredRelease`.
    pub kind: DesiredReleaseKind,
    /// Which service, and free annotations.
    pub metadata: ReleaseMetadata,
    /// What is asked for.
    pub spec: DesiredReleaseSpec,
}

/// The one value of `apiVersion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// `pointsman/v1`.
    #[serde(rename = "pointsman/v1")]
    V1,
}

/// The one value of `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DesiredReleaseKind {
    /// `DesiredRelease`.
    DesiredRelease,
}

/// Name and annotations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseMetadata {
    /// As in the `ManagedService`.
    pub namespace: Label,
    /// As in the `ManagedService`.
    pub name: Label,
    /// Untrusted text for people; never part of identity. At most 32 entries, 4 KiB in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = MAX_ANNOTATIONS, "propertyNames" = {"minLength": 1, "maxLength": LONGEST_TEXT}))]
    pub annotations: BTreeMap<String, String>,
}

/// The request. These three fields are its identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DesiredReleaseSpec {
    /// `family:revision`, or the full ARN of the same account, region and family.
    #[schemars(extend("pattern" = TASK_DEFINITION))]
    pub task_definition: String,
    /// A name out of `releaseMayChoose`; omitted means `defaultStrategy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = PLAIN_NAME))]
    pub strategy: Option<String>,
    /// At most 64 characters, echoed in status; a new value on a failed revision is the retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = MAX_REQUEST_ID, "pattern" = PRINTABLE))]
    pub request_id: Option<String>,
}
