//! What the whole came to: figures, what every wait was set to, and whether all went as told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::DemoError;
use super::follow::{grouped, version};
use super::judge::{self, Answered, Share, Verdict};
use super::pace::Pace;
use super::setup::Site;
use super::story::{Played, Told};
use super::teller::Teller;
use crate::records::Span;
use crate::records::status::Outcome;

/// The version that answers with errors.
const BAD: &str = "v3";

/// The summary, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whether all went as told.
    pub ok: bool,
    /// What did not, one sentence each.
    pub problems: Vec<String>,
    /// Seconds from the start of the demo to its summary.
    pub seconds: f64,
    /// By release.
    pub releases: Vec<Release>,
    /// As the client saw it.
    pub traffic: TrafficSummary,
    /// By write that split the traffic.
    pub shares: Vec<Share>,
    /// Of the bad release.
    pub rollback: Option<Rollback>,
    /// Every wait, by setting.
    pub waits: BTreeMap<&'static str, String>,
}

/// One release.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// `v2`.
    pub version: String,
    /// `family:revision`.
    pub revision: String,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// One word.
    pub reason: String,
    /// How it should have ended.
    pub expected: Outcome,
    /// From the request to the outcome.
    pub seconds: f64,
    /// Mutating calls to ECS and the load balancer, clean-up included.
    pub calls: BTreeMap<String, u32>,
    /// Their number.
    pub mutating_calls: u32,
    /// Writes to the daemon's own tables, its lease left out.
    pub table_writes: u32,
}

/// The traffic.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSummary {
    /// In all.
    pub requests: u32,
    /// Over connections of their own.
    pub fresh: u32,
    /// On average.
    pub per_second: f64,
    /// By version.
    pub by_version: BTreeMap<String, Answered>,
    /// Without an answer of the app, and an error.
    pub failed: u32,
    /// Judged while some version was known to have no weight.
    pub judged: u32,
    /// Answered by a version without weight.
    pub leaked: u32,
}

/// From the alarm to the end of the bad version's traffic.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// Which alarm.
    pub alarm: String,
    /// Its state's transition.
    pub alarm_at: Timestamp,
    /// Acknowledgement of weight 0.
    pub zero_at: Timestamp,
    /// Between the two.
    pub seconds: f64,
    /// Errors that clients got from the bad version.
    pub bad_answers: u32,
}

/// Judges everything that was seen.
pub fn summarize(told: &Told, pace: &Pace, site: &Site, elapsed_ms: u64) -> Summary {
    let Told { played, evidence, requests, traffic_ms } = told;
    let verdict = judge::judge(requests, &evidence.writes, &evidence.placements, pace.propagation);
    let mut by_version = BTreeMap::new();
    for (revision, answered) in &verdict.answered {
        by_version.insert(version(revision), *answered);
    }
    let bad_answers = by_version.get(BAD).map_or(0, |answered: &Answered| answered.bad);
    let rollback = rollback(told, site, bad_answers);
    let releases: Vec<Release> = played.iter().map(|release| of_release(release, told)).collect();
    let traffic = TrafficSummary {
        requests: verdict.requests,
        fresh: verdict.fresh,
        per_second: f64::from(verdict.requests) / seconds(*traffic_ms).max(0.001),
        by_version,
        failed: verdict.failed,
        judged: verdict.judged,
        leaked: verdict.leaked,
    };
    let problems = problems(played, &verdict, &traffic, rollback.as_ref());
    Summary {
        ok: problems.is_empty(),
        problems,
        seconds: seconds(elapsed_ms),
        releases,
        traffic,
        shares: verdict.shares,
        rollback,
        waits: pace.values().into_iter().collect(),
    }
}

fn seconds(millis: u64) -> f64 {
    f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1_000.0
}

fn of_release(release: &Played, told: &Told) -> Release {
    let calls = told.evidence.calls.get(&release.number).cloned().unwrap_or_default();
    let outcome = release.outcome.as_ref();
    Release {
        version: version(&release.revision),
        revision: release.revision.clone(),
        outcome: outcome.map(|outcome| outcome.outcome),
        reason: outcome.map(|outcome| outcome.reason.clone()).unwrap_or_default(),
        expected: release.expected,
        seconds: seconds(release.took_ms),
        mutating_calls: calls.values().sum(),
        calls,
        table_writes: told.evidence.table_writes.get(&release.number).copied().unwrap_or(0),
    }
}

/// The first alarm of the bad version's group, and the first write after it that leaves that group nothing.
fn rollback(told: &Told, site: &Site, bad_answers: u32) -> Option<Rollback> {
    let evidence = &told.evidence;
    let bad = evidence.placements.iter().find(|placed| version(&placed.revision) == BAD)?;
    let alarm = site.group_alarms.of(bad.group);
    let (alarm_at, _) = evidence.alarms.iter().find(|(at, name)| name == alarm && *at >= bad.from)?;
    let takes_all = |write: &&judge::Write| write.sent >= *alarm_at && *write.weights.of(bad.group) == 0;
    let zero_at = evidence.writes.iter().find(takes_all)?.acknowledged;
    Some(Rollback {
        alarm: alarm.clone(),
        alarm_at: *alarm_at,
        zero_at,
        seconds: seconds(Span::between(*alarm_at, zero_at).millis()),
        bad_answers,
    })
}

fn problems(
    played: &[Played],
    verdict: &Verdict,
    traffic: &TrafficSummary,
    rollback: Option<&Rollback>,
) -> Vec<String> {
    let mut found: Vec<String> = played.iter().filter(|release| !release.as_told()).map(misled).collect();
    if played.len() < 3 {
        found.push("the story ended early".to_owned());
    }
    let last = played.last().filter(|_| played.len() == 3).and_then(|release| release.outcome.as_ref());
    if let Some(outcome) = last.filter(|outcome| outcome.reason != "Alarm") {
        found.push(format!("{BAD} went back because of {}, not of its alarm", outcome.reason));
    }
    if let Some((at, what)) = &verdict.first_failure {
        found.push(format!("{} requests failed, the first at {at}: {what}", verdict.failed));
    }
    if let Some((at, who)) = &verdict.first_leak {
        let text = "requests were answered by a version without weight, the first at";
        found.push(format!("{} {text} {at} by {}", verdict.leaked, version(who)));
    }
    if verdict.strangers > 0 {
        found.push(format!("{} answers came from versions that nobody released", verdict.strangers));
    }
    if verdict.judged == 0 {
        found.push("no request could be judged for leaks".to_owned());
    }
    for (name, answered) in traffic.by_version.iter().filter(|(name, _)| name.as_str() != BAD) {
        if answered.bad > 0 {
            found.push(format!("{} errors came from {name}, which is a good version", answered.bad));
        }
    }
    if rollback.is_none_or(|rollback| rollback.bad_answers == 0) {
        found.push(format!("{BAD} was not seen to serve errors, alarm and lose its weight"));
    }
    found.extend(verdict.shares.iter().filter(|share| !share.fits()).map(|share| {
        format!(
            "{} got {} of {} requests, {:.1} σ off",
            version(&share.revision),
            share.answered,
            share.requests,
            share.sigmas
        )
    }));
    if !verdict.shares.iter().any(|share| share.enough) {
        found.push("too few requests fell into any canary to judge its share".to_owned());
    }
    found
}

fn misled(release: &Played) -> String {
    let name = version(&release.revision);
    match &release.outcome {
        Some(outcome) if outcome.outcome == release.expected => {
            format!("{name} ended as told, but its clean-up did not")
        }
        Some(outcome) => {
            format!(
                "{name} was to be {:?} but is {:?}: {}",
                release.expected, outcome.outcome, outcome.message
            )
        }
        None => format!("{name} did not end in time"),
    }
}

impl Summary {
    /// For people.
    pub fn print(&self, teller: &mut Teller) -> Result<(), DemoError> {
        self.lines(teller).map_err(DemoError::Output)
    }

    fn lines(&self, teller: &mut Teller) -> std::io::Result<()> {
        teller.heading("Releases")?;
        for release in &self.releases {
            let outcome = release.outcome.map_or("no outcome".to_owned(), |outcome| format!("{outcome:?}"));
            let calls: Vec<String> =
                release.calls.iter().map(|(name, count)| format!("{count} {name}")).collect();
            teller.line(&format!(
                "  {:<4}{outcome:<12}{:>6.1} s  {} mutating AWS calls, {} table writes",
                release.version, release.seconds, release.mutating_calls, release.table_writes
            ))?;
            teller.line(&format!("      {}", calls.join(", ")))?;
        }
        teller.heading("Traffic")?;
        let traffic = &self.traffic;
        teller.line(&format!(
            "  {} requests, {:.0} a second, {} over fresh connections",
            grouped(traffic.requests),
            traffic.per_second,
            grouped(traffic.fresh)
        ))?;
        for (name, answered) in &traffic.by_version {
            let bad =
                if answered.bad > 0 { format!(", {} of them errors", answered.bad) } else { String::new() };
            teller.line(&format!("  {name:<4}{:>9} answers{bad}", grouped(answered.answers)))?;
        }
        teller.line(&format!("  failed requests: {}", traffic.failed))?;
        teller.line(&format!(
            "  leaked requests: {} of {} that could have leaked",
            traffic.leaked,
            grouped(traffic.judged)
        ))?;
        for share in &self.shares {
            teller.line(&share_line(share))?;
        }
        if let Some(rollback) = &self.rollback {
            teller.heading("Rollback")?;
            teller.line(&format!(
                "  {:.2} s from {} in ALARM to weight 0 acknowledged; {} bad answers in all",
                rollback.seconds, rollback.alarm, rollback.bad_answers
            ))?;
        }
        teller.heading("Every wait")?;
        for (name, value) in &self.waits {
            teller.line(&format!("  {name:<24}{value}"))?;
        }
        teller.heading(&self.verdict())?;
        for problem in &self.problems {
            teller.line(&format!("  - {problem}"))?;
        }
        Ok(())
    }

    fn verdict(&self) -> String {
        if self.ok {
            format!("All went as told, in {:.1} s.", self.seconds)
        } else {
            format!("Not all went as told, in {:.1} s:", self.seconds)
        }
    }
}

fn share_line(share: &Share) -> String {
    let seen = 100.0 * f64::from(share.answered) / f64::from(share.requests.max(1));
    let asked = 100.0 * share.asked;
    let sigmas =
        if share.enough { format!("{:+.1} σ", share.sigmas) } else { "too few to judge".to_owned() };
    format!(
        "  {} at {asked:.1} %: {seen:.1} % of {} requests ({sigmas})",
        version(&share.revision),
        grouped(share.requests)
    )
}
