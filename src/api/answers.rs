//! The answers, as types; their JSON schemas are generated from them and kept in `crds-schemas/`.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::ports::HistoryItem;
use crate::records::schema::{generate, text_of};
use crate::records::status::{LastOutcome, Outcome, Phase};
use crate::records::{Percent, ReleaseStatus, Span};

/// `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceList {
    /// In the order of their names.
    pub items: Vec<ServiceSummary>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub next: Option<String>,
    /// How many services fit the filters, on all pages.
    pub matching: usize,
    /// How many shards this daemon owns. The services of the others are not here: another process has them.
    pub shards_held: u16,
    /// How many shards there are.
    pub shards: u16,
}

/// One service in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSummary {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Where it stands; null until it was looked at.
    pub phase: Option<Phase>,
    /// `family:revision` that serves, as far as it is known.
    pub serving: Option<String>,
    /// The release in flight, or the last one.
    pub release: Option<String>,
    /// `family:revision` that this release brings.
    pub releasing: Option<String>,
    /// The share of production traffic that it has, on the route where that is largest.
    pub weight: Option<Percent>,
    /// Why it waits, in one word.
    pub reason: Option<String>,
    /// Why it waits, in one sentence.
    pub message: Option<String>,
    /// When it is expected to go on.
    pub until: Option<Timestamp>,
    /// Names of alarms in ALARM; at most 10.
    pub burning: Vec<String>,
    /// How the last release ended.
    pub last_outcome: Option<LastOutcome>,
    /// Labels of its `ManagedService`.
    pub labels: BTreeMap<String, String>,
    /// Why the daemon could not look at it, if so.
    pub trouble: Option<String>,
    /// When it was looked at last.
    pub at: Timestamp,
}

/// `GET /v1/services/{namespace}/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDetail {
    /// As the daemon writes it into the table; null until the service was looked at.
    pub service: Option<ReleaseStatus>,
    /// Labels of its `ManagedService`.
    pub labels: BTreeMap<String, String>,
    /// Why the daemon could not look at it, if so.
    pub trouble: Option<String>,
    /// When it was looked at last.
    pub at: Timestamp,
}

/// `GET /v1/services/{namespace}/{name}/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryList {
    /// Ended releases, newest first: the last one, and up to 10 that ended since this daemon took the lease. All of
    /// them are in the table: `pointsman history`.
    pub items: Vec<HistoryEntry>,
}

/// One ended release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// `<name>-<generation>.<attempt>`.
    pub release: String,
    /// How it ended.
    pub outcome: Outcome,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// `family:revision`.
    pub revision: String,
    /// The strategy's name, when it is still known here.
    pub strategy: Option<String>,
    /// As in the request.
    pub request_id: Option<String>,
    /// The release that this one took back, when an operator asked for it and no record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<String>,
    /// When it was seen, when that is still known here.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
}

impl From<&HistoryItem> for HistoryEntry {
    fn from(item: &HistoryItem) -> Self {
        Self {
            release: item.release.clone(),
            outcome: item.outcome,
            reason: item.reason.clone(),
            message: item.message.clone(),
            revision: item.revision.clone(),
            strategy: Some(item.strategy.clone()),
            request_id: item.request_id.clone(),
            takes_back: item.takes_back.clone(),
            started_at: Some(item.started_at),
            ended_at: item.ended_at,
        }
    }
}

impl From<&LastOutcome> for HistoryEntry {
    fn from(last: &LastOutcome) -> Self {
        Self {
            release: last.release.clone(),
            outcome: last.outcome,
            reason: last.reason.clone(),
            message: last.message.clone(),
            revision: last.revision.clone(),
            strategy: None,
            request_id: last.request_id.clone(),
            takes_back: last.takes_back.clone(),
            started_at: None,
            ended_at: last.at,
        }
    }
}

/// `GET /healthz` and `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether it is; then the answer is 200, else 503.
    pub ok: bool,
    /// Why, in one sentence.
    pub message: String,
    /// How long ago the loop last attempted something.
    pub last_attempt: Span,
    /// Passes attempted since the start, those that failed included.
    pub attempted: u64,
    /// How many shards this process owns.
    pub shards_held: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Whether the services were listed since a shard was taken last.
    pub listed: bool,
}

/// `GET /`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// `pointsman`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// What there is.
    pub endpoints: Vec<Endpoint>,
}

/// One line of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Path, with the parameters it knows.
    pub path: String,
    /// What it answers.
    pub answers: String,
}

/// Every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// One word, stable, for scripts.
    pub code: String,
    /// What, why, and what to do.
    pub message: String,
}

/// An error on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    body: ErrorAnswer,
}

impl ApiError {
    /// The message may repeat what was asked for: cut, and without anything that a terminal or a browser would
    /// take for more than text.
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let error = ErrorDetail { code: code.to_owned(), message: without_markup(&message.into()) };
        Self { status, body: ErrorAnswer { error } }
    }
}

fn without_markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in crate::decide::explain::plain(text).chars() {
        if matches!(letter, '<' | '>' | '&') {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    out
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

/// File name and schema of every answer.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("api-error.v1.schema.json", generate::<ErrorAnswer>()),
        ("api-health.v1.schema.json", generate::<Health>()),
        ("api-history.v1.schema.json", generate::<HistoryList>()),
        ("api-index.v1.schema.json", generate::<Index>()),
        ("api-service.v1.schema.json", generate::<ServiceDetail>()),
        ("api-services.v1.schema.json", generate::<ServiceList>()),
    ]
}

/// File name and text of every schema.
pub fn schema_texts() -> Vec<(&'static str, String)> {
    schemas().into_iter().map(|(name, schema)| (name, text_of(&schema))).collect()
}
