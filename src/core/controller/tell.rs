//! What is said about a run besides the status that `decide` explains: history items, the one log line of a
//! change, and the status of a service of which nothing else can be said.

use tracing::{debug, info};

use crate::decide::Next;
use crate::model::facts::Ended;
use crate::model::{Facts, Revision};
use crate::ports::HistoryItem;
use crate::records::desired_release::ApiVersion;
use crate::records::status::{self, Phase, ReleaseStatusKind, Status, StatusMetadata};
use crate::records::{ReleaseStatus, ServiceKey};

pub(super) fn history(key: &ServiceKey, ended: &Ended) -> HistoryItem {
    let asked = &ended.identity.task_definition;
    HistoryItem {
        generation: ended.release.generation,
        attempt: ended.release.attempt,
        release: format!("{}-{}", key.name(), ended.release),
        outcome: ended.outcome,
        reason: ended.reason.clone(),
        message: ended.message.clone(),
        revision: asked.parse::<Revision>().map_or_else(|_| asked.clone(), |revision| revision.to_string()),
        strategy: ended.strategy.clone(),
        request_id: ended.identity.request_id.clone(),
        started_at: ended.started_at,
        ended_at: ended.at,
    }
}

/// A status for a service of which nothing else can be said.
pub(super) fn bare_status(key: &ServiceKey, facts: &Facts, phase: Phase) -> ReleaseStatus {
    ReleaseStatus {
        api_version: ApiVersion::V1,
        kind: ReleaseStatusKind::ReleaseStatus,
        metadata: StatusMetadata {
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
            uid: facts.uid.clone(),
        },
        status: Status {
            observed_generation: facts.generation,
            observed: status::Observed::default(),
            phase,
            release: None,
            traffic: Vec::new(),
            task_sets: Vec::new(),
            alarms: Vec::new(),
            waiting_on: None,
            conditions: Vec::new(),
            last_outcome: None,
            quarantined: Vec::new(),
            retained: None,
            commands: Vec::new(),
        },
    }
}

/// One line when what is done changes; a debug line when it is still the same.
pub(super) fn announce(announced: &mut Option<String>, next: &Next, status: &ReleaseStatus) {
    let reason = match (&status.status.waiting_on, next) {
        (_, Next::Halted(halt)) => halt.detail.as_str(),
        (Some(waiting), _) => waiting.message.as_str(),
        (None, _) => "",
    };
    if let Some((from, to)) = change(announced, next) {
        info!(from, to, reason, "changed");
    } else {
        debug!(doing = announced.as_deref(), reason, "still");
    }
}

/// From what to what, when it changed. Looking twice is not doing.
pub(super) fn change(announced: &mut Option<String>, next: &Next) -> Option<(String, String)> {
    let doing = match next {
        Next::Act(action) => action.effect.to_string(),
        Next::Look(_) | Next::Again => return None,
        Next::Wait(wait) => format!("wait for {}", wait.on.name()),
        Next::Settled => "settled".to_owned(),
        Next::Halted(halt) => format!("halted: {:?}", halt.reason),
    };
    if announced.as_ref() == Some(&doing) {
        return None;
    }
    let from = announced.replace(doing.clone()).unwrap_or_else(|| "nothing".to_owned());
    Some((from, doing))
}
