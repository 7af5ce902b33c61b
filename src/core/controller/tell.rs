//! What is said about a run besides the status that `decide` explains: history items, the one log line of a
//! change, and the status of a service of which nothing else can be said.

use tracing::{debug, error, info};

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
        spec_hash: ended.identity.spec_hash.clone(),
        takes_back: ended.identity.takes_back.map(|taken| format!("{}-{taken}", key.name())),
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

/// What was said last of a service.
#[derive(Debug, Default)]
pub struct Announced {
    doing: Option<String>,
    stuck: bool,
}

/// One line when what is done changes, and one when traffic does not come back; a debug line when all is the same.
pub(super) fn announce(announced: &mut Announced, next: &Next, status: &ReleaseStatus) {
    if let Some(message) = newly_stuck(&mut announced.stuck, status) {
        error!(message, "RollbackStuck: traffic does not come back; a person should look");
    }
    let announced = &mut announced.doing;
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

/// What the condition `RollbackStuck` says, the first time that it is there.
pub(super) fn newly_stuck<'a>(stuck: &mut bool, status: &'a ReleaseStatus) -> Option<&'a str> {
    let mut conditions = status.status.conditions.iter();
    let found = conditions.find(|condition| condition.kind == "RollbackStuck" && condition.status == "True");
    let was_stuck = std::mem::replace(stuck, found.is_some());
    found.filter(|_| !was_stuck).map(|condition| condition.message.as_deref().unwrap_or_default())
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
