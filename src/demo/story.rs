//! The story: a first release, a good one, and a bad one that takes itself back.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::DemoError;
use super::follow::{Evidence, Follower, version};
use super::judge::Request;
use super::pace::Pace;
use super::setup::{DESIRED_COUNT, NAME, Stage};
use super::teller::{Teller, Who};
use super::traffic::{RATE, Traffic};
use crate::ports::Clock;
use crate::records::status::{LastOutcome, Outcome, Phase, Status};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Traffic goes on for so long after the last release has settled.
const EPILOGUE: Duration = Duration::from_secs(1);

/// One release and how it should end.
#[derive(Clone, Copy, Debug)]
struct Act {
    number: usize,
    expected: Outcome,
    intro: &'static str,
}

const ACTS: [Act; 3] = [
    Act {
        number: 1,
        expected: Outcome::Succeeded,
        intro: "a first release: nothing serves yet, so there is nothing to compare it with",
    },
    Act {
        number: 2,
        expected: Outcome::Succeeded,
        intro: "a good version: a canary first, then everybody, then the old one goes",
    },
    Act {
        number: 3,
        expected: Outcome::RolledBack,
        intro: "a bad version: half of its answers are errors, which nobody knows yet",
    },
];

/// A release as it went.
#[derive(Clone, Debug)]
pub struct Played {
    /// Which act, from 1.
    pub number: usize,
    /// `family:revision`.
    pub revision: String,
    /// How it should have ended.
    pub expected: Outcome,
    /// How it ended; none when it did not in time.
    pub outcome: Option<LastOutcome>,
    /// From the request to its outcome, in milliseconds.
    pub took_ms: u64,
    /// Whether nothing was left to do and one task set stood at the end.
    pub settled: bool,
}

impl Played {
    /// Whether it went as it should.
    pub fn as_told(&self) -> bool {
        self.settled && self.outcome.as_ref().is_some_and(|outcome| outcome.outcome == self.expected)
    }
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Told {
    /// The releases, as far as they were played.
    pub played: Vec<Played>,
    /// From the logs.
    pub evidence: Evidence,
    /// From the traffic client.
    pub requests: Vec<Request>,
    /// How long traffic ran, in milliseconds.
    pub traffic_ms: u64,
}

/// Plays all acts; stops early when one does not end as it should.
pub async fn tell(
    stage: &Stage,
    pace: &Pace,
    clock: &Arc<dyn Clock>,
    teller: &mut Teller,
) -> Result<Told, DemoError> {
    let mut follower = Follower::new(stage, pace, teller);
    let mut played = Vec::new();
    let mut traffic: Option<(Traffic, u64)> = None;
    for act in ACTS {
        let release = play(&mut follower, stage, pace, act, traffic.as_ref().map(|(run, _)| run)).await?;
        let as_told = release.as_told();
        played.push(release);
        if !as_told {
            break;
        }
        if traffic.is_none() {
            traffic = Some((begin_traffic(&mut follower, stage, clock)?, follower.elapsed_ms()));
        }
    }
    tokio::time::sleep(EPILOGUE).await;
    let (mut requests, mut traffic_ms) = (Vec::new(), 0);
    if let Some((run, since)) = traffic {
        requests = run.stop().await;
        traffic_ms = follower.elapsed_ms().saturating_sub(since);
    }
    // What came after the last look.
    follower.look(None).await?;
    Ok(Told { played, evidence: follower.into_evidence(), requests, traffic_ms })
}

fn begin_traffic(
    follower: &mut Follower<'_>,
    stage: &Stage,
    clock: &Arc<dyn Clock>,
) -> Result<Traffic, DemoError> {
    let url = format!("http://127.0.0.1:{}/", stage.site.port);
    let text = format!("sends {RATE} requests a second to {url}, a fifth of them over fresh connections");
    follower.say(Who::Traffic, &text)?;
    let uri: Uri = url.parse().map_err(|_| DemoError::Missing { what: "the address of the listener" })?;
    Ok(Traffic::start(&uri, clock))
}

async fn play(
    follower: &mut Follower<'_>,
    stage: &Stage,
    pace: &Pace,
    act: Act,
    traffic: Option<&Traffic>,
) -> Result<Played, DemoError> {
    let revision = format!("{NAME}:{}", act.number);
    let request_id = format!("demo-{}", act.number);
    follower.begin(act.number);
    let text = format!("asks for {} ({revision}, {DESIRED_COUNT} tasks): {}", version(&revision), act.intro);
    follower.say(Who::You, &text)?;
    let began = follower.elapsed_ms();
    stage.desire(&revision, &request_id).await?;
    let mut release = Played {
        number: act.number,
        revision,
        expected: act.expected,
        outcome: None,
        took_ms: 0,
        settled: false,
    };
    while follower.elapsed_ms().saturating_sub(began) < pace.patience.millis() {
        let status = follower.look(traffic).await?;
        if let Some(status) = status.as_ref().map(|status| &status.status) {
            if release.outcome.is_none()
                && let Some(outcome) = outcome_of(status, &request_id)
            {
                release.took_ms = follower.elapsed_ms().saturating_sub(began);
                follower.say(Who::Outcome, &ending(&release, &outcome))?;
                release.outcome = Some(outcome);
            }
            if release.outcome.is_some() && is_at_rest(status) {
                release.settled = true;
                return Ok(release);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let text = format!("{} is not through after {}", version(&release.revision), pace.patience);
    follower.say(Who::Trouble, &text)?;
    Ok(release)
}

fn outcome_of(status: &Status, request_id: &str) -> Option<LastOutcome> {
    status.last_outcome.clone().filter(|outcome| outcome.request_id.as_deref() == Some(request_id))
}

fn is_at_rest(status: &Status) -> bool {
    status.phase == Phase::Settled && status.task_sets.len() == 1
}

fn ending(release: &Played, outcome: &LastOutcome) -> String {
    let mut text = format!(
        "{} {:?} after {}.{} s",
        version(&release.revision),
        outcome.outcome,
        release.took_ms / 1_000,
        release.took_ms % 1_000 / 100
    );
    if !outcome.message.is_empty() {
        text.push_str(": ");
        text.push_str(&outcome.message);
    }
    text
}
