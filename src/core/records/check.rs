//! Judges records beyond their shape: bounds, cross-references, and what a release may choose.
//!
//! [`read_service`], [`read_desired`] and [`read_command`] are the only way from a table item to a typed
//! record; [`files`] does the same for files and says everything it finds. The daemon and `pointsman check` refuse the same things with the same words.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::Command;
use super::desired_release::{DesiredRelease, DesiredReleaseSpec};
use super::managed_service::{ManagedService, ManagedServiceSpec};
use super::names::ServiceKey;

mod arns;
mod bounds;
mod document;
mod files;
mod hash;
mod release;
mod said;
mod service;
pub(in crate::records) mod template;

pub use files::{Checked, Finding, Report, files};
pub use hash::spec_hash;
pub use release::{strategy_of, task_definition_of};

/// The longest text anywhere in a record, in characters.
pub const LONGEST_TEXT: usize = 512;
/// Production routes of a service.
pub const MAX_ROUTES: usize = 8;
/// Alarms of a service.
pub const MAX_ALARMS: usize = 100;
/// Steps of a strategy, as written.
pub const MAX_STEPS: usize = 30;
/// Strategies of a service, and names in `releaseMayChoose`.
pub const MAX_STRATEGIES: usize = 32;
/// Annotations of a release, labels of a service.
pub const MAX_ANNOTATIONS: usize = 32;
/// Keys and values of all annotations (or labels) together, in bytes.
pub const MAX_ANNOTATION_BYTES: usize = 4096;
/// A service's spec without its strategies, as JSON: a release keeps a copy of it in its state item, which
/// stays far below DynamoDB's 400 KB.
pub const MAX_PINNED_BYTES: usize = 16 * 1024;
/// Characters of a `requestId`.
pub const MAX_REQUEST_ID: usize = 64;

/// Why a record or a request is refused. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// One word, stable: for scripts and dashboards.
    pub code: RefusalCode,
    /// The field, as a path: `spec.routes.production[0].rule`.
    pub field: String,
    /// What it says, where that is a slip of the pen; what kind of value it is, where that may be a secret.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}; allowed: {}; {}", self.field, self.value, self.allowed, self.fix)
    }
}

/// Why something is refused, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RefusalCode {
    /// The record has a wrong shape: unknown field, wrong type, missing field.
    Malformed,
    /// A value is out of its bounds.
    OutOfBounds,
    /// `pk` is not prefix + namespace + `/` + name.
    KeyMismatch,
    /// Two fields contradict each other.
    Inconsistent,
    /// There is no `ManagedService` for this release.
    NotManaged,
    /// Another family, account or region.
    ForeignTaskDefinition,
    /// The release may not choose this strategy, or it does not exist.
    StrategyNotAllowed,
    /// The task definition is unknown, INACTIVE, or lacks the container or port.
    TaskDefinitionUnfit,
    /// The ECS service is missing, not ACTIVE or not EXTERNAL.
    ServiceUnfit,
    /// Task sets that this daemon did not make.
    ForeignTaskSet,
    /// A route does not forward to exactly this pair, or an action cannot be kept as it is.
    RouteUnfit,
    /// Another rule or listener names one of the groups.
    GroupUsedElsewhere,
    /// Routes or groups belong to more than one load balancer, or not to an Application Load Balancer.
    LoadBalancerUnfit,
    /// Group stickiness is on and not accepted.
    Sticky,
    /// An alarm of the record does not exist.
    AlarmMissing,
    /// A resource is already managed under another name.
    AlreadyClaimed,
    /// The routes do not stand at one side.
    WeightsSplit,
    /// The revision failed before; a new `requestId` or `retry` tries it again.
    Quarantined,
    /// What passes by itself did not pass in time.
    StartDeadline,
}

impl Refusal {
    /// All five parts; `field` and `value` are cut to what a person can read, and cannot move a terminal's cursor.
    pub(crate) fn new(
        code: RefusalCode,
        field: impl Into<String>,
        value: impl fmt::Display,
        allowed: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let field: String = field.into();
        // A key may be empty, and so may the path to the whole document.
        let field = if field.is_empty() { "document".to_owned() } else { shown(&field) };
        Self { code, field, value: shown(&value.to_string()), allowed: allowed.into(), fix: fix.into() }
    }
}

/// Characters of a refused value, and of the path to it, that are repeated to its writer.
const SHOWN: usize = 160;

/// A foreign text as it is repeated: its beginning, with control characters spelt out.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (index, letter) in text.chars().enumerate() {
        if index == SHOWN {
            shown.push('…');
            break;
        }
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Everything that is wrong with one record, in the order it was found.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Refusal>);

impl Findings {
    fn add(
        &mut self,
        code: RefusalCode,
        field: impl Into<String>,
        value: impl fmt::Display,
        allowed: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.0.push(Refusal::new(code, field, value, allowed, fix));
    }

    fn push(&mut self, refusal: Refusal) {
        self.0.push(refusal);
    }

    fn into_first(self) -> Result<(), Refusal> {
        self.0.into_iter().next().map_or(Ok(()), Err)
    }
}

/// Reads a table item as the `ManagedService` of `key`: its spec and the hash of the spec as written.
///
/// The item may carry `pk`, `sk` and `expireAt` beside the document. A refusal comes with the hash of what
/// is there (the spec, or the whole item without one), so that it can be said once and waited for.
#[expect(clippy::result_large_err, reason = "a refusal is the answer to a person, made once per edit")]
pub fn read_service(
    key: &ServiceKey,
    item: &Value,
) -> Result<(ManagedServiceSpec, String), (Refusal, String)> {
    let hash = hash::of_item(item);
    let read = || {
        document::keys_fit(item, "service#", key)?;
        let record: ManagedService = document::parse(&document::without_keys(item))?;
        document::names_fit(&record.metadata.namespace, &record.metadata.name, key)?;
        let mut findings = Findings::default();
        service::judge(&record, &mut findings);
        bounds::judge_texts(item, &mut findings);
        findings.into_first().map(|()| record.spec)
    };
    read().map(|spec| (spec, hash.clone())).map_err(|refusal| (refusal, hash))
}

/// Reads a table item as the `DesiredRelease` of `key`; otherwise as [`read_service`].
///
/// Whether the release fits its service is judged by `Plan::resolve`, which has both.
#[expect(clippy::result_large_err, reason = "a refusal is the answer to a person, made once per edit")]
pub fn read_desired(
    key: &ServiceKey,
    item: &Value,
) -> Result<(DesiredReleaseSpec, String), (Refusal, String)> {
    let hash = hash::of_item(item);
    let read = || {
        document::keys_fit(item, "desired#", key)?;
        let record: DesiredRelease = document::parse(&document::without_keys(item))?;
        document::names_fit(&record.metadata.namespace, &record.metadata.name, key)?;
        let mut findings = Findings::default();
        release::judge(&record, &mut findings);
        bounds::judge_texts(item, &mut findings);
        findings.into_first().map(|()| record.spec)
    };
    read().map(|spec| (spec, hash.clone())).map_err(|refusal| (refusal, hash))
}

/// Reads a table item as a [`Command`]. With `pk` present, the release it names must be of that service.
pub fn read_command(item: &Value) -> Result<Command, Refusal> {
    let service = document::command_key(item)?;
    let command: Command = document::parse(&document::without_table_keys(item))?;
    let mut findings = Findings::default();
    release::judge_command(&command, service.as_ref(), &mut findings);
    bounds::judge_texts(item, &mut findings);
    findings.into_first().map(|()| command)
}
