//! `pointsman demo`: a sandbox, the daemon and steady traffic, which meet over TCP alone, and a story told as it
//! happens: a first release, a good one, and a bad one that takes itself back.
//!
//! The daemon is started as `pointsman run` starts it and knows nothing but an endpoint. What the story says of
//! it is read from outside: the sandbox's call log, the state table, the alarms and the answers that clients
//! got.

mod follow;
pub mod judge;
mod pace;
mod setup;
mod story;
mod summary;
mod teller;
mod traffic;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::pace::Pace;
use self::setup::Stage;
use self::story::Told;
use self::summary::summarize;
use self::teller::{Teller, Who};
use crate::clock::SystemClock;
use crate::daemon::{self, DaemonError, DaemonSettings};
use crate::ports::{Clock, StoreError};
use crate::records::names::BadName;
use crate::sandbox::SandboxError;
use crate::store::RecordError;

/// How long the daemon may take to stop after its own drain time.
const STOP_SLACK: Duration = Duration::from_secs(10);
/// As a shell reports a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// How the demo is told.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DemoArgs {
    /// Seconds instead of minutes: shorter waits, none skipped
    #[arg(long)]
    pub fast: bool,
    /// Print the summary as one JSON object on standard output, and tell the story on standard error
    #[arg(long)]
    pub json: bool,
}

/// Why the demo could not be told.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No sandbox.
    #[error("failed to start the sandbox")]
    Sandbox(#[source] SandboxError),
    /// No daemon.
    #[error("failed to start the daemon")]
    Daemon(#[source] DaemonError),
    /// A call that the demo makes in the place of people.
    #[error("failed to {action}")]
    Aws {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tables.
    #[error("failed to use the tables")]
    Store(#[source] StoreError),
    /// A record.
    #[error("failed to write a record")]
    Record(#[source] RecordError),
    /// A record or the summary as JSON.
    #[error("failed to write JSON")]
    Json(#[source] serde_json::Error),
    /// A name or ARN of an unexpected shape.
    #[error("failed to use a name")]
    Name(#[source] BadName),
    /// No free port.
    #[error("failed to find a free port")]
    Port(#[source] std::io::Error),
    /// Something that must be there is not.
    #[error("there is no {what}")]
    Missing {
        /// What.
        what: &'static str,
    },
    /// The terminal is gone.
    #[error("failed to tell the story")]
    Output(#[source] std::io::Error),
}

/// Tells the whole story, or as much of it as there is time for before `shutdown`. The code is 0 when all went
/// as told, 1 when something did not, and 130 when it was interrupted.
pub async fn run(args: DemoArgs, shutdown: CancellationToken) -> Result<ExitCode, DemoError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let pace = if args.fast { Pace::fast() } else { Pace::watchable() };
    let mut teller = Teller::new(args.json, Arc::clone(&clock));
    let stage = tokio::select! {
        stage = Stage::set(&pace) => stage?,
        () = shutdown.cancelled() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    introduce(&stage, &pace, &mut teller)?;
    let told = on_stage(&stage, &pace, &clock, &mut teller, &shutdown).await;
    let site = stage.site.clone();
    stage.sandbox.stop().await;
    let Some(told) = told? else {
        teller.say(Who::You, "stopped; nothing is left running").map_err(DemoError::Output)?;
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let summary = summarize(&told, &pace, &site, teller.elapsed_ms());
    summary.print(&mut teller)?;
    if args.json {
        let json = serde_json::to_string(&summary).map_err(DemoError::Json)?;
        std::io::Write::write_all(&mut std::io::stdout(), format!("{json}\n").as_bytes())
            .map_err(DemoError::Output)?;
    }
    Ok(if summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn introduce(stage: &Stage, pace: &Pace, teller: &mut Teller) -> Result<(), DemoError> {
    let site = &stage.site;
    let text = format!(
        "made a region at {} (speed {}): EXTERNAL service {}, target groups a and b, routes public and preview, \
         alarms {}, {} and {}, two tables, a ManagedService record",
        stage.sandbox.endpoint(),
        pace.speed,
        stage.key,
        site.group_alarms.a,
        site.group_alarms.b,
        site.service_alarm
    );
    teller.say(Who::You, &text).map_err(DemoError::Output)
}

/// Runs the daemon while the story is told, and stops it in order whatever happens. `None`: interrupted.
async fn on_stage(
    stage: &Stage,
    pace: &Pace,
    clock: &Arc<dyn Clock>,
    teller: &mut Teller,
    shutdown: &CancellationToken,
) -> Result<Option<Told>, DemoError> {
    let config = pace.config(Stage::installation()?, &stage.tables);
    let settings = DaemonSettings { config, sdk: stage.daemons_sdk(pace) };
    // The daemon ends with the story, and with the program.
    let end = shutdown.child_token();
    let _end_on_return = end.clone().drop_guard();
    let daemon = daemon::start(settings, end.clone()).await.map_err(DemoError::Daemon)?;
    let story = Box::pin(story::tell(stage, pace, clock, teller));
    let told = shutdown.run_until_cancelled(story).await;
    end.cancel();
    let stopped = tokio::time::timeout(pace.drain.std() + STOP_SLACK, daemon.stopped()).await;
    match stopped {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let text = format!("the daemon did not end in order: {}", crate::telemetry::chain(&error));
            teller.say(Who::Trouble, &text).map_err(DemoError::Output)?;
        }
        Err(_) => {
            let text = "the daemon did not stop in time";
            teller.say(Who::Trouble, text).map_err(DemoError::Output)?;
        }
    }
    told.transpose()
}
