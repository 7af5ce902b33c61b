//! `get`, `describe` and `history`: what the tables say, for people and machines.

use clap::Args;
use jiff::Timestamp;

use super::desk::Desk;
use super::output::{Cell, Format, Output, Tone, cell, headings, instant, maybe, relative, toned};
use super::{CliError, Common};
use crate::api::{serving, weight};
use crate::ports::Clock;
use crate::records::status::{Phase, Status};
use crate::records::{ReleaseStatus, ServiceKey};

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Which service, as namespace/name; all of them when left out
    service: Option<ServiceKey>,
    /// Only services of this namespace
    #[arg(short, long, conflicts_with = "service")]
    namespace: Option<String>,
    /// Tables and form of the answer.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Which service, as namespace/name
    service: ServiceKey,
    /// Tables and form of the answer.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Which service, as namespace/name
    service: ServiceKey,
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=100))]
    limit: u16,
    /// Only those older than this mark, which the page before ended with
    #[arg(long)]
    after: Option<String>,
    /// Tables and form of the answer.
    #[command(flatten)]
    pub common: Common,
}

/// Lists services, or shows one on one line.
pub async fn get(
    args: &GetArgs,
    desk: &dyn Desk,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    if let Some(service) = &args.service {
        let status = desk.status(service).await?.ok_or_else(|| CliError::no_service(service))?;
        if output.format != Format::Text {
            output.document(&status)?;
            return Ok(0);
        }
        return list(&[(service.clone(), Some(status))], clock.now(), output);
    }
    let mut services = desk.services().await?;
    services.retain(|(key, _)| args.namespace.as_ref().is_none_or(|namespace| namespace == key.namespace()));
    services.sort_by(|(one, _), (other, _)| one.cmp(other));
    if output.format != Format::Text {
        let items: Vec<&ReleaseStatus> = services.iter().filter_map(|(_, status)| status.as_ref()).collect();
        output.document(&serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    if services.is_empty() {
        output.remark("no services; `pointsman apply -f FILE` writes the first")?;
        return Ok(0);
    }
    list(&services, clock.now(), output)
}

fn list(
    services: &[(ServiceKey, Option<ReleaseStatus>)],
    now: Timestamp,
    output: &mut Output,
) -> Result<u8, CliError> {
    let mut rows =
        vec![headings(["SERVICE", "PHASE", "SERVING", "RELEASING", "WEIGHT", "WAITING", "UNTIL", "LAST"])];
    for (key, status) in services {
        rows.push(match status {
            Some(status) => row(key, &status.status, now),
            None => vec![cell(key.to_string()), toned("not seen by the daemon yet", Tone::Careful)],
        });
    }
    output.table(0, &rows)?;
    Ok(0)
}

fn row(key: &ServiceKey, status: &Status, now: Timestamp) -> Vec<Cell> {
    let burning = status.alarms.iter().filter(|alarm| alarm.state == "ALARM" && alarm.armed).count();
    let waiting = status.waiting_on.as_ref();
    let reason = match (waiting, burning) {
        (Some(waiting), 0) => cell(&waiting.reason),
        (Some(waiting), burning) => toned(format!("{} ({burning} ALARM)", waiting.reason), Tone::Bad),
        (None, _) => cell("-"),
    };
    let releasing = status.release.as_ref().filter(|_| in_flight(status)).map(|release| &release.to.revision);
    let last = status.last_outcome.as_ref();
    vec![
        cell(key.to_string()),
        toned(format!("{:?}", status.phase), status.phase.into()),
        maybe(serving(status)),
        maybe(releasing),
        maybe(weight(status).map(|weight| format!("{weight} %"))),
        reason,
        maybe(waiting.map(|waiting| relative(now, waiting.until))),
        last.map_or_else(
            || cell("-"),
            |last| toned(format!("{:?} {}", last.outcome, relative(now, last.at)), last.outcome.into()),
        ),
    ]
}

/// The status keeps the last release; in flight is what has no outcome yet.
fn in_flight(status: &Status) -> bool {
    let last = status.last_outcome.as_ref().map(|last| &last.release);
    status.release.as_ref().is_some_and(|release| Some(&release.id) != last)
}

/// Tells everything about one service.
pub async fn describe(
    args: &DescribeArgs,
    desk: &dyn Desk,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    let service = &args.service;
    let status = desk.status(service).await?;
    let Some(status) = status else {
        let wishes = desk.wishes(service).await?;
        let missing = match (wishes.service.is_some(), wishes.desired.is_some()) {
            (true, true) => {
                "its records are there, but the daemon has not said anything about it yet: does it run?"
            }
            (true, false) => "its ManagedService is there; it waits for a DesiredRelease",
            (false, true) => "its DesiredRelease is there; it waits for a ManagedService",
            (false, false) => "there is no record of this name; `pointsman get` lists what there is",
        };
        return Err(CliError::Unfit(format!("{service}: {missing}")));
    };
    if output.format != Format::Text {
        output.document(&status)?;
        return Ok(0);
    }
    let mut page = Page { status: &status.status, key: service, now: clock.now(), output };
    page.head()?;
    page.release()?;
    page.traffic()?;
    page.task_sets()?;
    page.alarms()?;
    page.conditions()?;
    page.past()?;
    page.commands()?;
    Ok(0)
}

/// One page about one service.
struct Page<'a> {
    status: &'a Status,
    key: &'a ServiceKey,
    now: Timestamp,
    output: &'a mut Output,
}

impl Page<'_> {
    fn heading(&mut self, text: &str) -> Result<(), CliError> {
        let painted = self.output.paint(&toned(text, Tone::Strong));
        self.output.line(format!("\n{painted}"))
    }

    fn head(&mut self) -> Result<(), CliError> {
        let status = self.status;
        let phase = self.output.paint(&toned(format!("{:?}", status.phase), status.phase.into()));
        self.output.line(format!("{}  {phase}", self.key))?;
        let mut rows = Vec::new();
        if let Some(waiting) = &status.waiting_on {
            rows.push(vec![cell("why"), cell(&waiting.message)]);
            rows.push(vec![cell("until"), cell(instant(self.now, waiting.until))]);
            rows.push(vec![cell("then"), cell(&waiting.then)]);
            if let Some(deadline) = waiting.deadline {
                let otherwise = waiting.otherwise.as_deref().unwrap_or("gives up");
                rows.push(vec![cell("else"), cell(format!("{}: {otherwise}", instant(self.now, deadline)))]);
            }
        } else if let Some(last) = status.last_outcome.as_ref().filter(|_| status.phase == Phase::Refused) {
            rows.push(vec![cell("why"), cell(&last.message)]);
            rows.push(vec![
                cell("then"),
                cell("nothing, until the record is corrected; nothing was touched"),
            ]);
        } else if status.phase == Phase::Settled {
            rows.push(vec![cell("why"), cell("nothing to do")]);
        }
        if let Some(serving) = serving(status) {
            rows.push(vec![cell("serving"), cell(serving)]);
        }
        let observed = &status.observed;
        let mut asked = observed.task_definition.clone().unwrap_or_else(|| "nothing".to_owned());
        if let Some(id) = &observed.request_id {
            asked = format!("{asked}, request {id}");
        }
        rows.push(vec![cell("asked"), cell(format!("{asked} (generation {})", status.observed_generation))]);
        self.output.table(2, &rows)
    }

    fn release(&mut self) -> Result<(), CliError> {
        let Some(release) = &self.status.release else { return Ok(()) };
        let ended = if in_flight(self.status) { "" } else { " (ended)" };
        self.heading(&format!("Release {}{ended}", release.id))?;
        let mut rows = vec![
            vec![cell("strategy"), cell(&release.strategy)],
            vec![cell("started"), cell(instant(self.now, release.started_at))],
        ];
        let version = |version: &crate::records::status::Version| {
            let set = version.task_set.as_deref().unwrap_or("no task set yet");
            format!("{}  group {}  {set}  scale {} %", version.revision, version.target_group, version.scale)
        };
        if let Some(from) = &release.from {
            rows.push(vec![cell("from"), cell(version(from))]);
        }
        rows.push(vec![cell("to"), cell(version(&release.to))]);
        if let Some(step) = &release.step {
            let what = step.weight.map_or_else(
                || "pause".to_owned(),
                |weight| format!("{weight} %, baked {} of {}", step.bake_done, step.bake),
            );
            rows.push(vec![cell("step"), cell(format!("{} of {}: {what}", step.index, step.of))]);
        }
        if let Some(count) = &release.desired_count {
            rows.push(vec![
                cell("tasks"),
                cell(format!("{} desired, {} at the start", count.now, count.at_start)),
            ]);
        }
        if let Some(latched) = &release.latched {
            let text = format!("{}: {} {}", latched.cause, latched.detail, relative(self.now, latched.at));
            let went = if in_flight(self.status) { "goes back" } else { "went back" };
            rows.push(vec![cell(went), toned(text, Tone::Bad)]);
        }
        self.output.table(2, &rows)
    }

    fn traffic(&mut self) -> Result<(), CliError> {
        if self.status.traffic.is_empty() {
            return Ok(());
        }
        self.heading("Traffic")?;
        let mut rows = vec![headings(["ROUTE", "A", "B", "VERIFIED", "READ"])];
        for route in &self.status.traffic {
            let name = if route.test { format!("{} (test)", route.route) } else { route.route.clone() };
            rows.push(vec![
                cell(name),
                cell(format!("{} %", route.a)),
                cell(format!("{} %", route.b)),
                if route.verified { cell("yes") } else { toned("no", Tone::Careful) },
                cell(relative(self.now, route.read_at)),
            ]);
        }
        self.output.table(2, &rows)
    }

    fn task_sets(&mut self) -> Result<(), CliError> {
        if self.status.task_sets.is_empty() {
            return Ok(());
        }
        self.heading("Task sets")?;
        let mut rows = vec![headings(["ROLE", "ID", "REVISION", "GROUP", "RUNNING", "STEADY", "LAST STOP"])];
        for set in &self.status.task_sets {
            rows.push(vec![
                cell(format!("{:?}", set.role).to_lowercase()),
                cell(&set.id),
                cell(&set.revision),
                maybe(set.target_group.map(|group| group.to_string())),
                cell(format!("{}/{}", set.running, set.desired)),
                if set.steady { cell("yes") } else { toned("no", Tone::Careful) },
                maybe(set.last_stop.as_ref()),
            ]);
        }
        self.output.table(2, &rows)
    }

    fn alarms(&mut self) -> Result<(), CliError> {
        if self.status.alarms.is_empty() {
            return Ok(());
        }
        self.heading("Alarms")?;
        let mut rows = vec![headings(["NAME", "WATCHES", "STATE", "ARMED", "CHANGED"])];
        for alarm in &self.status.alarms {
            let tone = match alarm.state.as_str() {
                "OK" => Tone::Good,
                "ALARM" => Tone::Bad,
                _ => Tone::Careful,
            };
            rows.push(vec![
                cell(&alarm.name),
                cell(format!("{:?}", alarm.watches).to_lowercase()),
                toned(&alarm.state, tone),
                cell(if alarm.armed { "yes" } else { "no" }),
                maybe(alarm.changed_at.map(|at| relative(self.now, at))),
            ]);
        }
        self.output.table(2, &rows)
    }

    fn conditions(&mut self) -> Result<(), CliError> {
        if self.status.conditions.is_empty() {
            return Ok(());
        }
        self.heading("Conditions")?;
        let mut rows = vec![headings(["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"])];
        for condition in &self.status.conditions {
            rows.push(vec![
                cell(&condition.kind),
                cell(&condition.status),
                cell(&condition.reason),
                cell(relative(self.now, condition.last_transition_time)),
                cell(condition.message.as_deref().unwrap_or_default()),
            ]);
        }
        self.output.table(2, &rows)
    }

    fn past(&mut self) -> Result<(), CliError> {
        let status = self.status;
        if status.last_outcome.is_none() && status.quarantined.is_empty() && status.retained.is_none() {
            return Ok(());
        }
        self.heading("Before")?;
        let mut rows = Vec::new();
        if let Some(last) = &status.last_outcome {
            let text = format!("{:?} {} ({})", last.outcome, last.release, last.revision);
            let why = format!("{}: {}", last.reason, last.message);
            rows.push(vec![
                cell("last"),
                toned(text, last.outcome.into()),
                cell(relative(self.now, last.at)),
                cell(why),
            ]);
        }
        if let Some(kept) = &status.retained {
            let text = format!("{} in group {}", kept.revision, kept.target_group);
            rows.push(vec![cell("kept"), cell(text), cell(format!("for {}", kept.remaining))]);
        }
        for entry in &status.quarantined {
            let text = format!("{} ({})", entry.revision, entry.release);
            rows.push(vec![
                cell("failed"),
                cell(text),
                cell(relative(self.now, entry.at)),
                cell(&entry.cause),
            ]);
        }
        self.output.table(2, &rows)
    }

    fn commands(&mut self) -> Result<(), CliError> {
        if self.status.commands.is_empty() {
            return Ok(());
        }
        self.heading("Commands")?;
        let mut rows = vec![headings(["ID", "COMMAND", "BY", "VERDICT", "REASON", "AT"])];
        for answer in &self.status.commands {
            rows.push(vec![
                cell(&answer.id),
                cell(super::command::verb_name(answer.verb)),
                maybe(answer.by.as_ref()),
                cell(&answer.verdict),
                cell(&answer.reason),
                cell(relative(self.now, answer.at)),
            ]);
        }
        self.output.table(2, &rows)
    }
}

/// Lists ended releases.
pub async fn history(
    args: &HistoryArgs,
    desk: &dyn Desk,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    let page = desk.ended(&args.service, args.limit, args.after.as_deref()).await?;
    if output.format != Format::Text {
        output.document(&serde_json::json!({ "items": page.items, "next": page.next }))?;
        return Ok(0);
    }
    if page.items.is_empty() {
        output.remark(format!("no release of {} has ended yet", args.service))?;
        return Ok(0);
    }
    let now = clock.now();
    let mut rows = vec![headings(["RELEASE", "OUTCOME", "REVISION", "STRATEGY", "TOOK", "ENDED", "WHY"])];
    for item in &page.items {
        let took = crate::records::Span::between(item.started_at, item.ended_at);
        rows.push(vec![
            cell(&item.release),
            toned(format!("{:?}", item.outcome), item.outcome.into()),
            cell(&item.revision),
            maybe(Some(&item.strategy).filter(|name| !name.is_empty())),
            cell(crate::decide::explain::brief(took).to_string()),
            cell(instant(now, item.ended_at)),
            cell(format!("{}: {}", item.reason, item.message)),
        ]);
    }
    output.table(0, &rows)?;
    if let Some(next) = &page.next {
        output.remark(format!("older ones: pointsman history {} --after {next}", args.service))?;
    }
    Ok(0)
}
