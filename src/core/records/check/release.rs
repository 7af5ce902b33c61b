//! Judges a `DesiredRelease` and a `Command`, and whether a release fits its service.

use super::{Findings, MAX_REQUEST_ID, Refusal, RefusalCode, bounds, said};
use crate::records::command::{Command, Verb};
use crate::records::desired_release::{DesiredRelease, DesiredReleaseSpec};
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::names::{Arn, Label, ServiceKey};
use crate::records::strategy;

/// What can be said about a release without its service.
pub(super) fn judge(record: &DesiredRelease, findings: &mut Findings) {
    bounds::judge_free_texts("metadata.annotations", &record.metadata.annotations, findings);
    let spec = &record.spec;
    if let Err(refusal) = task_definition(&spec.task_definition) {
        findings.push(refusal);
    }
    if let Some(name) = &spec.strategy {
        bounds::text("spec.strategy", name, 64, STRATEGY_NAME, bounds::is_plain_name, findings);
    }
    if let Some(id) = &spec.request_id {
        bounds::text("spec.requestId", id, MAX_REQUEST_ID, "a text", |_| true, findings);
    }
}

/// What a strategy's name looks like.
pub(super) const STRATEGY_NAME: &str = "letters, digits, -, _ and ., the first a letter or digit";

/// A task definition as written: its parts, and the ARN it came in.
struct Written {
    arn: Option<Arn>,
    family: String,
    revision: u32,
}

fn task_definition(text: &str) -> Result<Written, Refusal> {
    let field = "spec.taskDefinition";
    let refuse = |allowed: &str, fix: &str| {
        Refusal::new(RefusalCode::Malformed, field, said::text(text), allowed, fix)
    };
    let shape = "family:revision, or the full ARN of a task definition";
    let arn = if text.starts_with("arn:") {
        let arn: Arn = text.parse().map_err(|_| refuse(shape, "give the full ARN"))?;
        if arn.service() != "ecs" || !arn.resource().starts_with("task-definition/") {
            return Err(refuse(shape, "give the ARN of a task definition"));
        }
        Some(arn)
    } else {
        None
    };
    let of_arn = |arn: &Arn| arn.resource().strip_prefix("task-definition/").map(str::to_owned);
    let tail = arn.as_ref().map_or_else(|| Some(text.to_owned()), of_arn).unwrap_or_default();
    let pinned = "a pinned revision: a whole number from 1 to 999999999";
    let Some((family, revision)) = tail.split_once(':') else {
        return Err(refuse(pinned, "add :<revision>; a release names exactly what it runs"));
    };
    if revision.eq_ignore_ascii_case("latest") {
        return Err(refuse(pinned, "write the revision's number; what is latest changes under the release"));
    }
    if family.is_empty() || family.len() > 255 || !bounds::is_ecs_name(family) {
        return Err(refuse(shape, "correct the family: letters, digits, - and _, at most 255"));
    }
    let digits =
        revision.len() <= 9 && revision.bytes().all(|b| b.is_ascii_digit()) && !revision.starts_with('0');
    let number = revision.parse().ok().filter(|_| digits);
    let revision = number.ok_or_else(|| refuse(pinned, "write the revision's number"))?;
    Ok(Written { arn: arn.clone(), family: family.to_owned(), revision })
}

/// Family and revision number that `desired` asks for, when `service` may run them: the family of the
/// record, and for an ARN its account, region and partition (`semantics` 1.4).
pub fn task_definition_of(
    service: &ManagedServiceSpec,
    desired: &DesiredReleaseSpec,
) -> Result<(String, u32), Refusal> {
    let written = task_definition(&desired.task_definition)?;
    let refuse = |allowed: String, fix: &str| {
        let value = format!("\"{}\"", desired.task_definition);
        Refusal::new(RefusalCode::ForeignTaskDefinition, "spec.taskDefinition", value, allowed, fix)
    };
    if written.family != service.task_definition_family {
        return Err(refuse(
            format!("a revision of the family {}", service.task_definition_family),
            "release that family, or ask the platform team to change taskDefinitionFamily",
        ));
    }
    if let Some(arn) = written.arn {
        let home = &service.ecs.service;
        let same = arn.partition() == home.partition()
            && arn.region() == home.region()
            && arn.account() == home.account();
        if !same {
            return Err(refuse(
                format!("account {} and region {}, as of the service", home.account(), home.region()),
                "register the task definition where the service runs",
            ));
        }
    }
    Ok((written.family, written.revision))
}

/// The name of the strategy that `desired` goes by: the default when it names none; otherwise the default
/// or one of `releaseMayChoose`.
pub fn strategy_of<'a>(
    service: &'a ManagedServiceSpec,
    desired: &'a DesiredReleaseSpec,
) -> Result<&'a str, Refusal> {
    let default = service.default_strategy.as_str();
    let Some(name) = desired.strategy.as_deref() else { return Ok(default) };
    if name == default || service.release_may_choose.iter().any(|allowed| allowed == name) {
        return Ok(name);
    }
    let mut allowed = vec![default];
    allowed.extend(service.release_may_choose.iter().map(String::as_str).filter(|name| *name != default));
    let exists = service.strategies.contains_key(name) || strategy::is_predefined(name);
    let fix = if exists {
        "choose an allowed one, or ask the platform team to add it to releaseMayChoose"
    } else {
        "choose an allowed one; there is no strategy of that name"
    };
    Err(Refusal::new(
        RefusalCode::StrategyNotAllowed,
        "spec.strategy",
        format_args!("\"{name}\""),
        allowed.join(", "),
        fix,
    ))
}

/// `<name>-<generation>.<attempt>`: the name, when it is one.
pub(super) fn release_name(id: &str) -> Option<Label> {
    let (name, numbers) = id.rsplit_once('-')?;
    let (generation, attempt) = numbers.split_once('.')?;
    let number = |text: &str, longest: usize| {
        (1..=longest).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit())
            && !text.starts_with('0')
    };
    if !number(generation, 18) || !number(attempt, 9) {
        return None;
    }
    name.parse().ok()
}

/// What can be said about a command by itself; `service` is the one whose key it lies under.
pub(super) fn judge_command(command: &Command, service: Option<&ServiceKey>, findings: &mut Findings) {
    let spec = &command.spec;
    let shape = "<name>-<generation>.<attempt>, such as checkout-42.1";
    let value = said::text(&spec.release);
    match (release_name(&spec.release), service) {
        (None, _) => findings.add(
            RefusalCode::Malformed,
            "spec.release",
            value,
            shape,
            "copy the release id from status",
        ),
        (Some(name), Some(key)) if name.as_str() != key.name() => findings.add(
            RefusalCode::KeyMismatch,
            "spec.release",
            value,
            format!("a release of {key}"),
            "put the command under the key of its service",
        ),
        (Some(_), _) => {}
    }
    match (spec.verb, spec.step) {
        (Verb::Promote, None) => findings.add(
            RefusalCode::Inconsistent,
            "spec.step",
            "missing",
            "the number of a step, from 1, or all",
            "name the pause that ends, so that a late promotion ends no other",
        ),
        (Verb::Promote, Some(_)) | (_, None) => {}
        (_, Some(_)) => findings.add(
            RefusalCode::Inconsistent,
            "spec.step",
            "given",
            "a step with promote only",
            "remove it",
        ),
    }
    if let Some(by) = &spec.by {
        bounds::text("spec.by", by, super::LONGEST_TEXT, "a text", |_| true, findings);
    }
}
