//! `apply` and `delete`: writing records.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::desk::Desk;
use super::output::{Format, Output, Tone, cell, toned};
use super::{CliError, Common, Kind};
use crate::model::Plan;
use crate::records::check::{Checked, read_desired, read_service};
use crate::records::{ServiceKey, check};
use crate::store::RecordKind;

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// File, directory (its .yaml, .yml and .json files) or - for standard input; may be repeated
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Judge and compare, but write nothing
    #[arg(long)]
    dry_run: bool,
    /// Tables and form of the answer.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Which record
    #[arg(value_enum)]
    kind: Kind,
    /// Which service, as namespace/name
    service: ServiceKey,
    /// Tables and form of the answer.
    #[command(flatten)]
    pub common: Common,
}

/// What becomes of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    Created,
    Changed,
    Unchanged,
}

/// One line of the answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied {
    kind: String,
    service: ServiceKey,
    change: Change,
    spec_hash: String,
    request_id: Option<String>,
    dry_run: bool,
}

/// A document on its way into the table.
struct Planned {
    document: Value,
    kind: RecordKind,
    applied: Applied,
}

/// Judges every document, together and against the table, and only then writes the first one.
pub async fn apply(args: &ApplyArgs, desk: &dyn Desk, output: &mut Output) -> Result<u8, CliError> {
    let report = check::files(&args.files);
    if !report.is_good() {
        output.remark_lines(&report.to_string())?;
        return Err(CliError::Unfit("nothing was written: correct the above first".to_owned()));
    }
    let mut planned = Vec::with_capacity(report.checked.len());
    for checked in &report.checked {
        planned.push(plan(checked, desk, args.dry_run).await?);
    }
    judge_against_table(&planned, desk).await?;
    // A release without its service would be waited for; so services first.
    planned.sort_by_key(|one| one.kind != RecordKind::ManagedService);
    let mut written: Vec<String> = Vec::new();
    for one in &planned {
        if args.dry_run || one.applied.change == Change::Unchanged {
            continue;
        }
        let what = format!("{} {}", one.applied.kind, one.applied.service);
        desk.put(&one.document).await.map_err(|source| CliError::Record {
            what: what.clone(),
            applied: match written.as_slice() {
                [] => "; nothing was written".to_owned(),
                done => format!("; written before it: {}", done.join(", ")),
            },
            source: Box::new(source),
        })?;
        written.push(what);
    }
    let applied: Vec<&Applied> = planned.iter().map(|one| &one.applied).collect();
    tell(&applied, output)
}

async fn plan(checked: &Checked, desk: &dyn Desk, dry_run: bool) -> Result<Planned, CliError> {
    let document = checked.document.clone();
    let text =
        |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = text("/kind");
    let known = RecordKind::from_name(&kind)
        .filter(|kind| matches!(kind, RecordKind::ManagedService | RecordKind::DesiredRelease));
    let Some(known) = known else {
        return Err(CliError::Unfit(format!(
            "{}:{}: {kind} is not written with apply, nothing was written; commands are sent with `pointsman \
             promote|abort|rollback|retry|break-glass`, status is the daemon's own",
            checked.file.display(),
            checked.line
        )));
    };
    let name = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
    let service: ServiceKey = name.parse().map_err(|error| CliError::Unfit(format!("metadata: {error}")))?;
    let wishes = desk.wishes(&service).await?;
    let before = if known == RecordKind::ManagedService { wishes.service } else { wishes.desired };
    let change = match before {
        None => Change::Created,
        Some(before) if same(&before, &document) => Change::Unchanged,
        Some(_) => Change::Changed,
    };
    let request_id = document.pointer("/spec/requestId").and_then(Value::as_str).map(str::to_owned);
    let spec_hash = checked.spec_hash.clone();
    let applied = Applied { kind, service, change, spec_hash, request_id, dry_run };
    Ok(Planned { document, kind: known, applied })
}

/// The same document, whatever the table adds and however numbers are spelt there.
fn same(before: &Value, document: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields
                .retain(|name, field| !matches!(name.as_str(), "pk" | "sk" | "expireAt") && !field.is_null());
        }
        check::spec_hash(&value)
    };
    bare(before) == bare(document)
}

/// A release whose service is not among the files is judged by the service in the table.
async fn judge_against_table(planned: &[Planned], desk: &dyn Desk) -> Result<(), CliError> {
    for one in planned.iter().filter(|one| one.kind == RecordKind::DesiredRelease) {
        let key = &one.applied.service;
        let with_it = planned
            .iter()
            .any(|other| other.kind == RecordKind::ManagedService && other.applied.service == *key);
        let Some(item) = desk.wishes(key).await?.service.filter(|_| !with_it) else { continue };
        let (Ok((service, _)), Ok((desired, _))) =
            (read_service(key, &item), read_desired(key, &one.document))
        else {
            // A broken ManagedService is not this release's fault; the daemon waits for it and says so.
            continue;
        };
        Plan::resolve(&service, &desired).map_err(|refusal| {
            CliError::Unfit(format!(
                "nothing was written: DesiredRelease {key}: {:?}: {refusal}",
                refusal.code
            ))
        })?;
    }
    Ok(())
}

fn tell(applied: &[&Applied], output: &mut Output) -> Result<u8, CliError> {
    if output.format != Format::Text {
        output.document(&applied)?;
        return Ok(0);
    }
    let rows: Vec<Vec<_>> = applied
        .iter()
        .map(|one| {
            let (word, tone) = match one.change {
                Change::Created => ("created", Tone::Good),
                Change::Changed => ("changed", Tone::Careful),
                Change::Unchanged => ("unchanged", Tone::Neutral),
            };
            let dry = if one.dry_run { " (dry run)" } else { "" };
            vec![cell(&one.kind), cell(one.service.to_string()), toned(format!("{word}{dry}"), tone)]
        })
        .collect();
    output.table(0, &rows)?;
    let released = applied.iter().find(|one| one.kind == "DesiredRelease" && one.change != Change::Unchanged);
    if let Some(one) = released.filter(|one| !one.dry_run) {
        output.remark(format!("follow it with `pointsman wait {}`", one.service))?;
    }
    Ok(0)
}

/// Deletes a record.
pub async fn delete(args: &DeleteArgs, desk: &dyn Desk, output: &mut Output) -> Result<u8, CliError> {
    let kind = RecordKind::from(args.kind);
    let was_there = desk.delete(&args.service, kind).await?;
    let word = if was_there { "deleted" } else { "was not there" };
    if output.format == Format::Text {
        output.line(format!("{} {} {word}", kind.as_str(), args.service))?;
    } else {
        let answer =
            serde_json::json!({"kind": kind.as_str(), "service": args.service, "deleted": was_there});
        output.document(&answer)?;
    }
    Ok(0)
}
