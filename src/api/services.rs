//! Services: lists, one of them, what ended.

use std::collections::BTreeMap;
use std::ops::Bound;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use data_encoding::BASE64URL_NOPAD;

use super::Sources;
use super::answers::{ApiError, HistoryEntry, HistoryList, ServiceDetail, ServiceList, ServiceSummary};
use crate::controller::View;
use crate::records::status::{Phase, Status};
use crate::records::{Group, Percent, ServiceKey};

/// Services of one page, unless told otherwise.
const PAGE: usize = 100;
/// The largest page.
pub(super) const LARGEST_PAGE: usize = 500;
/// Parameters of one query, repeated ones included.
const MOST_PARAMETERS: usize = 32;

/// What is asked of a list.
#[derive(Debug, Default)]
struct Query {
    namespace: Option<String>,
    phases: Vec<Phase>,
    labels: Vec<(String, String)>,
    limit: Option<usize>,
    after: Option<ServiceKey>,
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "BadQuery", message)
}

impl Query {
    fn read(raw: Option<&str>) -> Result<Self, ApiError> {
        let mut query = Self::default();
        let pairs = form_urlencoded::parse(raw.unwrap_or_default().as_bytes());
        for (index, (name, value)) in pairs.enumerate() {
            if index >= MOST_PARAMETERS {
                return Err(bad(format!("more than {MOST_PARAMETERS} parameters")));
            }
            match name.as_ref() {
                "namespace" => query.namespace = Some(value.into_owned()),
                "phase" => query.phases.push(phase(&value)?),
                "label" => query.labels.push(label(&value)?),
                "limit" => query.limit = Some(limit(&value)?),
                "cursor" => query.after = Some(cursor(&value)?),
                other => {
                    let allowed = "namespace, phase, label, limit, cursor";
                    return Err(bad(format!("unknown parameter {other:?}; allowed: {allowed}")));
                }
            }
        }
        Ok(query)
    }

    fn fits(&self, key: &ServiceKey, view: &View) -> bool {
        let phase = view.status.as_ref().map(|status| status.status.phase);
        self.namespace.as_ref().is_none_or(|namespace| namespace == key.namespace())
            && (self.phases.is_empty() || phase.is_some_and(|phase| self.phases.contains(&phase)))
            && self.labels.iter().all(|(name, value)| view.labels.get(name) == Some(value))
    }
}

fn phase(text: &str) -> Result<Phase, ApiError> {
    serde_json::from_value(text.into()).map_err(|_| {
        let all = ALL_PHASES.map(|phase| format!("{phase:?}")).join(", ");
        bad(format!("phase is {text:?}; allowed: {all}"))
    })
}

const ALL_PHASES: [Phase; 13] = [
    Phase::Settled,
    Phase::Pending,
    Phase::Refused,
    Phase::Preparing,
    Phase::Gating,
    Phase::Shifting,
    Phase::Baking,
    Phase::Paused,
    Phase::Completing,
    Phase::RollingBack,
    Phase::CleaningUp,
    Phase::Suspended,
    Phase::Halted,
];

fn label(text: &str) -> Result<(String, String), ApiError> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| bad(format!("label is {text:?}; allowed: name=value, as in label=team%3Dpayments")))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn limit(text: &str) -> Result<usize, ApiError> {
    let number = text.parse().ok().filter(|number| (1..=LARGEST_PAGE).contains(number));
    number.ok_or_else(|| bad(format!("limit is {text:?}; allowed: a whole number from 1 to {LARGEST_PAGE}")))
}

/// A cursor names the last service of the page before: lists stay whole while services come and go.
fn cursor(text: &str) -> Result<ServiceKey, ApiError> {
    let decoded =
        BASE64URL_NOPAD.decode(text.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let key = decoded.and_then(|text| text.parse().ok());
    key.ok_or_else(|| bad("cursor is not one that this API gave; leave it out to start at the beginning"))
}

fn cursor_of(key: &ServiceKey) -> String {
    BASE64URL_NOPAD.encode(key.to_string().as_bytes())
}

pub(super) async fn list(
    State(sources): State<Sources>,
    RawQuery(raw): RawQuery,
) -> Result<Json<ServiceList>, ApiError> {
    let query = Query::read(raw.as_deref())?;
    let snapshot = sources.snapshot();
    let limit = query.limit.unwrap_or(PAGE);
    let matching = snapshot.services.iter().filter(|(key, view)| query.fits(key, view)).count();
    let from = query.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest =
        snapshot.services.range((from, Bound::Unbounded)).filter(|(key, view)| query.fits(key, view));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let next = match (page.last(), rest.next()) {
        (Some((last, _)), Some(_)) => Some(cursor_of(last)),
        _ => None,
    };
    let items = page.into_iter().map(|(key, view)| summary(key, view)).collect();
    Ok(Json(ServiceList {
        items,
        next,
        matching,
        shards_held: snapshot.shards_held,
        shards: snapshot.shards,
    }))
}

fn summary(key: &ServiceKey, view: &View) -> ServiceSummary {
    let status = view.status.as_ref().map(|status| &status.status);
    let release = status.and_then(|status| status.release.as_ref());
    let waiting = status.and_then(|status| status.waiting_on.as_ref());
    let burning =
        status.map_or(&[][..], |status| &status.alarms).iter().filter(|alarm| alarm.state == "ALARM");
    ServiceSummary {
        namespace: key.namespace().to_owned(),
        name: key.name().to_owned(),
        phase: status.map(|status| status.phase),
        serving: status.and_then(serving),
        release: release.map(|release| release.id.clone()),
        releasing: release.map(|release| release.to.revision.clone()),
        weight: status.and_then(weight),
        reason: waiting.map(|waiting| waiting.reason.clone()),
        message: waiting.map(|waiting| waiting.message.clone()),
        until: waiting.map(|waiting| waiting.until),
        burning: burning.map(|alarm| alarm.name.clone()).collect(),
        last_outcome: status.and_then(|status| status.last_outcome.clone()),
        labels: BTreeMap::clone(&view.labels),
        trouble: view.trouble.clone(),
        at: view.at,
    }
}

/// `family:revision` of the stable task set, else of the last release that succeeded.
pub(crate) fn serving(status: &Status) -> Option<String> {
    use crate::records::status::{Outcome, Role};
    let stable = status.task_sets.iter().find(|set| set.role == Role::Stable);
    stable.map(|set| set.revision.clone()).or_else(|| {
        let last = status.last_outcome.as_ref().filter(|last| last.outcome == Outcome::Succeeded);
        last.map(|last| last.revision.clone())
    })
}

/// The largest share that the version being released has; none when nothing is in flight. The test route is the
/// last one, and shows what the others do not.
pub(crate) fn weight(status: &Status) -> Option<Percent> {
    let in_flight =
        !matches!(status.phase, Phase::Settled | Phase::Pending | Phase::Refused | Phase::CleaningUp);
    let group = status.release.as_ref().filter(|_| in_flight)?.to.target_group;
    let production = status.traffic.iter().filter(|route| !route.test);
    production.map(|route| if group == Group::A { route.a } else { route.b }).max()
}

fn find(sources: &Sources, namespace: &str, name: &str) -> Result<std::sync::Arc<View>, ApiError> {
    let key = format!("{namespace}/{name}");
    let snapshot = sources.snapshot();
    let view = key.parse().ok().and_then(|key: ServiceKey| snapshot.services.get(&key).cloned());
    view.ok_or_else(|| {
        let why = match (snapshot.shards_held, snapshot.shards) {
            (0, _) => "this process owns no shard and knows no service; ask one that does".to_owned(),
            (held, all) if held < all => format!(
                "not here; this process owns {held} of {all} shards, and another one may have it; \
                 GET /v1/services lists those here"
            ),
            _ => "no such service; GET /v1/services lists them".to_owned(),
        };
        let key = crate::decide::explain::plain(&key);
        ApiError::new(StatusCode::NOT_FOUND, "NoSuchService", format!("{key}: {why}"))
    })
}

pub(super) async fn one(
    State(sources): State<Sources>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<ServiceDetail>, ApiError> {
    let view = find(&sources, &namespace, &name)?;
    Ok(Json(ServiceDetail {
        service: view.status.as_deref().cloned(),
        labels: BTreeMap::clone(&view.labels),
        trouble: view.trouble.clone(),
        at: view.at,
    }))
}

pub(super) async fn history(
    State(sources): State<Sources>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<HistoryList>, ApiError> {
    let view = find(&sources, &namespace, &name)?;
    let mut items: Vec<HistoryEntry> = view.history.iter().map(HistoryEntry::from).collect();
    let last = view.status.as_ref().and_then(|status| status.status.last_outcome.as_ref());
    if let Some(last) = last
        && items.iter().all(|item| item.release != last.release)
    {
        items.insert(0, last.into());
    }
    Ok(Json(HistoryList { items }))
}
