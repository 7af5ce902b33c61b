//! `promote`, `abort`, `rollback`, `retry`, `break-glass`: wishes of operators about one release.

use clap::Args;
use serde::Serialize;

use super::desk::Desk;
use super::output::{Format, Output, Tone, toned};
use super::{CliError, Common};
use crate::ports::Clock;
use crate::records::check::read_command;
use crate::records::command::{All, Command, CommandKind, CommandSpec, PromoteStep, Verb};
use crate::records::desired_release::ApiVersion;
use crate::records::status::{CommandAnswer, Phase, Status, WAITING};
use crate::records::{ReleaseStatus, ServiceKey, Span};

/// Exit code of a command that the daemon ignored.
const IGNORED: u8 = 1;
/// Exit code when the daemon did not answer in time.
const NO_ANSWER: u8 = super::wait::TIMED_OUT;
/// How often the answer is looked for.
const LOOK: Span = Span::from_secs(1);

/// Arguments of every command about a release.
#[derive(Debug, Args)]
pub struct CommandArgs {
    /// Which service, as namespace/name
    service: ServiceKey,
    /// Which release, such as checkout-42.1; the current one when left out
    #[arg(long)]
    release: Option<String>,
    /// Who asks, for people; the account's audit log has the proof
    #[arg(long, env = "USER")]
    by: Option<String>,
    /// How long to wait for the daemon's answer; 0s only writes the command
    #[arg(long, default_value = "15s", value_name = "DURATION")]
    timeout: Span,
    /// Tables and form of the answer.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// As of every command.
    #[command(flatten)]
    pub command: CommandArgs,
    /// The step whose pause ends, counted from 1, or all; the present one when left out
    #[arg(long, value_parser = step)]
    step: Option<PromoteStep>,
}

fn step(text: &str) -> Result<PromoteStep, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(PromoteStep::All(All::All)),
        (_, Ok(number @ 1..)) => Ok(PromoteStep::Step(number)),
        (_, Ok(0) | Err(_)) => Err("allowed: a step number from 1, or all".to_owned()),
    }
}

/// What was sent, and what became of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    id: String,
    verb: Verb,
    service: ServiceKey,
    release: String,
    step: Option<PromoteStep>,
    answer: Option<CommandAnswer>,
}

/// Ends a pause.
pub async fn promote(
    args: &PromoteArgs,
    desk: &dyn Desk,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    let status = status_of(&args.command, desk).await?;
    let step = match args.step {
        Some(step) => step,
        None => present_pause(&status.status).ok_or_else(|| {
            CliError::Usage(format!(
                "{} is {:?} and not paused; name the step with --step N, or --step all",
                args.command.service, status.status.phase
            ))
        })?,
    };
    carry_out(&args.command, Verb::Promote, Some(step), &status, desk, clock, output).await
}

/// Sends one of the other commands.
pub async fn send(
    args: &CommandArgs,
    verb: Verb,
    desk: &dyn Desk,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    let status = status_of(args, desk).await?;
    carry_out(args, verb, None, &status, desk, clock, output).await
}

async fn status_of(args: &CommandArgs, desk: &dyn Desk) -> Result<ReleaseStatus, CliError> {
    desk.status(&args.service).await?.ok_or_else(|| CliError::no_service(&args.service))
}

fn present_pause(status: &Status) -> Option<PromoteStep> {
    let step = status.release.as_ref()?.step.as_ref()?;
    (status.phase == Phase::Paused).then_some(PromoteStep::Step(step.index))
}

/// The release that a command means when none is named: the one in flight or waiting; for the commands about
/// what has ended, the last one.
pub(super) fn current_release(name: &str, verb: Verb, status: &Status) -> Option<String> {
    let newest = || {
        let (generation, attempt) = (status.observed_generation, status.observed.attempt);
        (attempt > 0).then(|| format!("{name}-{generation}.{attempt}"))
    };
    let last = || status.last_outcome.as_ref().map(|last| last.release.clone());
    let taken_back = || status.retained.as_ref().and_then(|kept| kept.release.clone());
    let in_flight = || {
        let release = status.release.as_ref().map(|release| release.id.clone());
        // The status keeps the last release; in flight is what has no outcome yet.
        release.filter(|id| last().as_ref() != Some(id))
    };
    match verb {
        Verb::Retry => last(),
        Verb::Rollback => in_flight().or_else(taken_back).or_else(last),
        Verb::Promote | Verb::Abort | Verb::BreakGlass => in_flight().or_else(newest),
    }
}

async fn carry_out(
    args: &CommandArgs,
    verb: Verb,
    step: Option<PromoteStep>,
    status: &ReleaseStatus,
    desk: &dyn Desk,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    let current = || current_release(args.service.name(), verb, &status.status);
    let release = args.release.clone().or_else(current).ok_or_else(|| {
        CliError::Usage(format!("{} has had no release yet; name one with --release", args.service))
    })?;
    let spec = CommandSpec { verb, release: release.clone(), step, by: args.by.clone() };
    let command = Command { api_version: ApiVersion::V1, kind: CommandKind::Command, spec, expire_at: None };
    judged(&args.service, &command)?;
    let id = desk.send(&args.service, &command).await?;
    let answer = answer(args, &id, desk, clock).await?;
    let sent = Sent { id, verb, service: args.service.clone(), release, step, answer };
    tell(args, &sent, output)
}

/// The same judgement as the daemon's, before anything is written.
fn judged(service: &ServiceKey, command: &Command) -> Result<(), CliError> {
    let mut item =
        serde_json::to_value(command).map_err(|error| CliError::Encoding("JSON", Box::new(error)))?;
    item["pk"] = format!("command#{service}").into();
    let refused = |refusal| CliError::Usage(format!("nothing was sent: {refusal}"));
    read_command(&item).map(drop).map_err(refused)
}

async fn answer(
    args: &CommandArgs,
    id: &str,
    desk: &dyn Desk,
    clock: &dyn Clock,
) -> Result<Option<CommandAnswer>, CliError> {
    let until = clock.monotonic_ms().saturating_add(args.timeout.millis());
    let mut found = None;
    while clock.monotonic_ms() < until {
        tokio::time::sleep(LOOK.std()).await;
        let status = desk.status(&args.service).await?;
        let answers = status.map(|status| status.status.commands).unwrap_or_default();
        match answers.into_iter().find(|answer| answer.id == id) {
            Some(answer) if answer.verdict != WAITING => return Ok(Some(answer)),
            // As it was told last.
            waiting => found = waiting.or(found),
        }
    }
    Ok(found)
}

fn tell(args: &CommandArgs, sent: &Sent, output: &mut Output) -> Result<u8, CliError> {
    let answered = sent.answer.as_ref().filter(|answer| answer.verdict != WAITING);
    let done = answered.map(|answer| answer.verdict == "Done");
    let code = match done {
        Some(true) => 0,
        Some(false) => IGNORED,
        None if args.timeout == Span::ZERO => 0,
        None => NO_ANSWER,
    };
    if output.format != Format::Text {
        output.document(sent)?;
        return Ok(code);
    }
    let step = match sent.step {
        Some(PromoteStep::Step(number)) => format!(" step {number}"),
        Some(PromoteStep::All(_)) => " all steps".to_owned(),
        None => String::new(),
    };
    let what = format!("{} {}{step}", verb_name(sent.verb), sent.release);
    let became = match &sent.answer {
        Some(answer) if answered.is_none() => toned(format!("waits: {}", answer.reason), Tone::Careful),
        Some(answer) if answer.verdict == "Done" => toned(format!("done: {}", answer.reason), Tone::Good),
        Some(answer) => toned(format!("ignored: {}", answer.reason), Tone::Bad),
        None if args.timeout == Span::ZERO => toned("written", Tone::Neutral),
        None => {
            let text =
                format!("written, but the daemon has not answered within {}: is it running?", args.timeout);
            toned(text, Tone::Careful)
        }
    };
    let became = output.paint(&became);
    output.line(format!("{what}: {became}"))?;
    output.remark(format!("command {}; `pointsman describe {}` tells the rest", sent.id, sent.service))?;
    Ok(code)
}

/// As on the command line.
pub(super) const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Promote => "promote",
        Verb::Abort => "abort",
        Verb::Rollback => "rollback",
        Verb::Retry => "retry",
        Verb::BreakGlass => "break-glass",
    }
}
