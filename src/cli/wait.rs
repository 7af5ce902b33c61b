//! `wait`: the outcome of exactly one request, as an exit code.
//!
//! A request is told by its request id or by the hash of its spec, never by the present phase: a pipeline must
//! not take the outcome of somebody else's newer release for its own (`semantics` 1.5).

use clap::Args;
use serde::Serialize;

use super::desk::Desk;
use super::output::{Format, Output, Tone, instant, toned};
use super::{CliError, Common};
use crate::ports::{Clock, HistoryItem, StoreError};
use crate::records::check::read_desired;
use crate::records::status::{Outcome, Phase, Status};
use crate::records::{ServiceKey, Span};

/// Exit code when the outcome did not come in time.
pub const TIMED_OUT: u8 = 15;
/// How often the tables are looked at.
const LOOK: Span = Span::from_secs(2);
/// Pages of history that are searched for an older request.
const PAGES: u32 = 10;
/// Ended releases of one page.
const PAGE: u16 = 100;

/// Arguments of `wait`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 Succeeded, 10 RolledBack, 11 Failed, 12 Refused, 13 Superseded, 14 Halted, 15 no outcome in time."
)]
pub struct WaitArgs {
    /// Which service, as namespace/name
    service: ServiceKey,
    /// Wait for the request with this spec.requestId
    #[arg(long, conflicts_with = "for_current")]
    request_id: Option<String>,
    /// Wait for what the `DesiredRelease` asks for now, by the hash of its spec (the default)
    #[arg(long)]
    for_current: bool,
    /// How long to wait
    #[arg(long, default_value = "30m", value_name = "DURATION")]
    timeout: Span,
    /// Tables and form of the answer.
    #[command(flatten)]
    pub common: Common,
}

/// The exit code of an outcome (`semantics` §2).
pub const fn code_of(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::RolledBack => 10,
        Outcome::Failed => 11,
        Outcome::Refused => 12,
        Outcome::Superseded => 13,
        Outcome::Halted => 14,
    }
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A request id.
    RequestId(String),
    /// The hash of a spec.
    Hash(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RequestId(id) => write!(f, "request {id}"),
            Self::Hash(hash) => write!(f, "spec {}", hash.get(..19).unwrap_or(hash)),
        }
    }
}

/// The end of a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    pub(super) outcome: Outcome,
    pub(super) release: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) reason: String,
    pub(super) message: String,
}

impl From<&crate::records::status::LastOutcome> for Found {
    fn from(last: &crate::records::status::LastOutcome) -> Self {
        Self {
            outcome: last.outcome,
            release: Some(last.release.clone()),
            revision: Some(last.revision.clone()),
            reason: last.reason.clone(),
            message: last.message.clone(),
        }
    }
}

impl From<&HistoryItem> for Found {
    fn from(item: &HistoryItem) -> Self {
        Self {
            outcome: item.outcome,
            release: Some(item.release.clone()),
            revision: Some(item.revision.clone()),
            reason: item.reason.clone(),
            message: item.message.clone(),
        }
    }
}

/// What one look shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It ended.
    Ended(Found),
    /// It is the newest request, and not over.
    UnderWay,
    /// A newer request or a return has taken its place; this generation was it.
    Gone(u64),
    /// The daemon has not taken it, as far as the status tells.
    NotTaken,
}

/// Compares a status with what is waited for. `generation` is the one under which it was seen before: the hash of
/// a request that is only written differently changes under it.
pub(super) fn look(name: &str, target: &Target, generation: Option<u64>, status: &Status) -> Look {
    let observed = &status.observed;
    let named = match target {
        Target::RequestId(id) => observed.request_id.as_ref() == Some(id),
        Target::Hash(hash) => observed.spec_hash.as_ref() == Some(hash),
    };
    let newest = status.observed_generation;
    if named || generation == Some(newest) {
        return newest_look(name, status);
    }
    // What a return came to says nothing yet about the request that it takes back; the history tells both.
    let last = status.last_outcome.as_ref().filter(|last| last.takes_back.is_none());
    let ended = last.filter(|last| match (target, generation) {
        (_, Some(generation)) => last.release.starts_with(&format!("{name}-{generation}.")),
        (Target::RequestId(id), None) => last.request_id.as_ref() == Some(id),
        (Target::Hash(_), None) => false,
    });
    match (ended, generation) {
        (Some(last), _) => Look::Ended(last.into()),
        (None, Some(generation)) => Look::Gone(generation),
        (None, None) => Look::NotTaken,
    }
}

fn newest_look(name: &str, status: &Status) -> Look {
    let newest = format!("{name}-{}.{}", status.observed_generation, status.observed.attempt);
    if let Some(last) = status.last_outcome.as_ref().filter(|last| last.release == newest) {
        return match last.takes_back {
            None => Look::Ended(last.into()),
            Some(_) => Look::Gone(status.observed_generation),
        };
    }
    if status.phase != Phase::Halted {
        return Look::UnderWay;
    }
    let waiting = status.waiting_on.as_ref();
    let halted = status.conditions.iter().find(|condition| condition.kind == "Halted");
    Look::Ended(Found {
        outcome: Outcome::Halted,
        release: Some(newest),
        revision: status.observed.task_definition.clone(),
        reason: halted.map_or_else(|| "Halted".to_owned(), |condition| condition.reason.clone()),
        message: waiting.map(|waiting| waiting.message.clone()).unwrap_or_default(),
    })
}

/// What is said while waiting, once each time it changes.
fn progress(status: &Status) -> (String, String) {
    let step = status.release.as_ref().and_then(|release| release.step.as_ref());
    let step = step.map_or_else(String::new, |step| format!(" step {} of {}", step.index, step.of));
    let waiting = status.waiting_on.as_ref();
    let key = format!("{:?}{step} {}", status.phase, waiting.map_or("", |waiting| waiting.reason.as_str()));
    let message = waiting.map_or_else(String::new, |waiting| format!(": {}", waiting.message));
    (key, format!("{:?}{step}{message}", status.phase))
}

struct Waiter<'a> {
    args: &'a WaitArgs,
    desk: &'a dyn Desk,
    target: Target,
    generation: Option<u64>,
    /// The generation that the first look showed: what ended with this hash before it was another request.
    before: Option<u64>,
    said: String,
}

/// Waits for an outcome and answers its exit code.
pub async fn wait(
    args: &WaitArgs,
    desk: &dyn Desk,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    let target = target(args, desk).await?;
    let mut waiter = Waiter { args, desk, target, generation: None, before: None, said: String::new() };
    let until = clock.monotonic_ms().saturating_add(args.timeout.millis());
    let mut last_status = None;
    loop {
        match waiter.look(output, &mut last_status).await {
            Ok(Some(found)) => return tell(args, &found, output),
            Ok(None) => {}
            // Tables that cannot be reached for a while end no release.
            Err(StoreError::Unavailable { retry: true, action, source }) => {
                output.remark(format!("failed to {action}, trying again: {source}"))?;
            }
            Err(error) => return Err(error.into()),
        }
        let left = until.saturating_sub(clock.monotonic_ms());
        if left == 0 {
            return time_out(&waiter, last_status.as_ref(), clock, output);
        }
        tokio::time::sleep(LOOK.min(Span::from_millis(left)).std()).await;
    }
}

async fn target(args: &WaitArgs, desk: &dyn Desk) -> Result<Target, CliError> {
    if let Some(id) = &args.request_id {
        return Ok(Target::RequestId(id.clone()));
    }
    let service = &args.service;
    let item = desk.wishes(service).await?.desired.ok_or_else(|| {
        CliError::Unfit(format!(
            "there is no DesiredRelease {service} to wait for; write one with `pointsman apply -f FILE`"
        ))
    })?;
    let (Ok((_, hash)) | Err((_, hash))) = read_desired(service, &item);
    Ok(Target::Hash(hash))
}

impl Waiter<'_> {
    async fn look(
        &mut self,
        output: &mut Output,
        last: &mut Option<Status>,
    ) -> Result<Option<Found>, StoreError> {
        let service = &self.args.service;
        // Read before the status: a record that is replaced in between is then found in the next look.
        let replaced = self.was_replaced().await?;
        let Some(status) = self.desk.status(service).await?.map(|status| status.status) else {
            return Ok(replaced.then(|| overwritten(&self.target)));
        };
        let before = *self.before.get_or_insert(status.observed_generation);
        let seen = look(service.name(), &self.target, self.generation, &status);
        let (key, text) = progress(&status);
        let found = match seen {
            Look::Ended(found) => Some(found),
            Look::UnderWay => {
                self.generation = Some(status.observed_generation);
                if self.said != key && output.format == Format::Text {
                    // A remark that cannot be written must not end the wait.
                    let _ = output.remark(text);
                    self.said = key;
                }
                None
            }
            Look::Gone(generation) => self.ended(|item| item.generation == generation).await?,
            Look::NotTaken => match &self.target {
                Target::RequestId(id) => self.ended(|item| item.request_id.as_ref() == Some(id)).await?,
                Target::Hash(hash) if replaced => {
                    let ended =
                        self.ended(|item| item.spec_hash == *hash && item.generation > before).await?;
                    Some(ended.unwrap_or_else(|| overwritten(&self.target)))
                }
                Target::Hash(_) => None,
            },
        };
        *last = Some(status);
        Ok(found)
    }

    /// The record that was there when the wait began has gone before the daemon was seen to take it.
    async fn was_replaced(&self) -> Result<bool, StoreError> {
        let Target::Hash(hash) = &self.target else { return Ok(false) };
        if self.generation.is_some() {
            return Ok(false);
        }
        let service = &self.args.service;
        let Some(item) = self.desk.wishes(service).await?.desired else { return Ok(true) };
        let (Ok((_, now)) | Err((_, now))) = read_desired(service, &item);
        Ok(now != *hash)
    }

    async fn ended(&self, wanted: impl Fn(&HistoryItem) -> bool + Send) -> Result<Option<Found>, StoreError> {
        let mut after: Option<String> = None;
        let mut back = TakenBack::default();
        for _ in 0..PAGES {
            let page = self.desk.ended(&self.args.service, PAGE, after.as_deref()).await?;
            for item in &page.items {
                if item.takes_back.is_none() && wanted(item) {
                    return Ok(Some(back.told(item)));
                }
                back.pass(item);
            }
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        Ok(None)
    }
}

/// The return that took back what is between it and the release it names, in a history read from its end.
#[derive(Debug, Default)]
struct TakenBack(Option<HistoryItem>);

impl TakenBack {
    fn pass(&mut self, item: &HistoryItem) {
        let named = self.0.as_ref().and_then(|by| by.takes_back.as_ref());
        if named == Some(&item.release) {
            // When that is a return itself, what it took back serves again.
            self.0 = None;
        } else if self.0.is_none() && item.takes_back.is_some() && item.outcome == Outcome::Succeeded {
            self.0 = Some(item.clone());
        }
    }

    fn told(&self, item: &HistoryItem) -> Found {
        let found = Found::from(item);
        match &self.0 {
            Some(by) if item.outcome == Outcome::Succeeded => Found {
                outcome: Outcome::RolledBack,
                reason: "TakenBack".to_owned(),
                message: format!("it had succeeded, and {} took it back: {} serves", by.release, by.revision),
                ..found
            },
            Some(_) | None => found,
        }
    }
}

fn overwritten(target: &Target) -> Found {
    Found {
        outcome: Outcome::Superseded,
        release: None,
        revision: None,
        reason: "Overwritten".to_owned(),
        message: format!("{target} was replaced in the record before the daemon was seen to take it"),
    }
}

fn tell(args: &WaitArgs, found: &Found, output: &mut Output) -> Result<u8, CliError> {
    let code = code_of(found.outcome);
    if output.format != Format::Text {
        let mut answer =
            serde_json::to_value(found).map_err(|error| CliError::Encoding("JSON", Box::new(error)))?;
        answer["service"] = args.service.to_string().into();
        answer["exitCode"] = code.into();
        output.document(&answer)?;
        return Ok(code);
    }
    let release = found.release.clone().unwrap_or_else(|| args.service.to_string());
    let revision = found.revision.as_ref().map_or_else(String::new, |revision| format!(" ({revision})"));
    let outcome = output.paint(&toned(format!("{:?}", found.outcome), Tone::from(found.outcome)));
    let rest = toned(format!("{release}{revision}"), Tone::Neutral);
    let why = toned(format!("{}: {}", found.reason, found.message), Tone::Neutral);
    let line = format!("{outcome} {}: {}", output.paint(&rest), output.paint(&why));
    output.line(line)?;
    Ok(code)
}

fn time_out(
    waiter: &Waiter<'_>,
    status: Option<&Status>,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    let (args, target) = (waiter.args, &waiter.target);
    let state = match (status, waiter.generation) {
        (Some(status), Some(_)) => {
            let until = status.waiting_on.as_ref().map(|waiting| instant(clock.now(), waiting.until));
            let until = until.map_or_else(String::new, |until| format!("; expected to go on {until}"));
            format!("it is under way, {}{until}", progress(status).1)
        }
        (Some(_), None) => "the daemon has not taken it; does it run, and does the request exist?".to_owned(),
        (None, _) => "the daemon has not said anything about this service; does it run?".to_owned(),
    };
    let text = format!("no outcome of {target} of {} within {}: {state}", args.service, args.timeout);
    if output.format == Format::Text {
        output.remark(text)?;
    } else {
        let answer = serde_json::json!({
            "service": args.service, "outcome": null, "message": text, "exitCode": TIMED_OUT
        });
        output.document(&answer)?;
    }
    Ok(TIMED_OUT)
}
