//! The command line: what people and CI write into the tables and read out of them.
//!
//! Everything but `run`, `sandbox`, `demo` and `healthcheck` works on the two tables alone: CI has no way to the
//! daemon, and needs none. Text for people, `-o json|yaml` for machines.
//!
//! **Architecture Invariant:** nothing here calls ECS, Elastic Load Balancing or `CloudWatch`.

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::config::{Config, ConfigArgs, ConfigError};
use crate::daemon::{DaemonError, DaemonSettings};
use crate::demo::DemoArgs;
use crate::ports::{Clock, StoreError};
use crate::records::{ServiceKey, Span};
use crate::sandbox::plane::PlaneSettings;
use crate::sandbox::{self, Conditions, ConditionsChange, LocalFunction, Profile, SandboxSettings};
use crate::store::{DynamoStore, RecordError, RecordKind, Tables};

pub mod apply;
pub mod command;
pub mod desk;
pub mod health;
pub mod offline;
pub mod output;
pub mod show;
#[cfg(test)]
mod tests;
pub mod wait;

use desk::Desk;
use output::{Format, Output};

/// Brings Amazon ECS services to the release their developers asked for.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, about, arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write records from files into the table, after judging all of them
    Apply(apply::ApplyArgs),
    /// List services, or show one: phase, versions, weight, what it waits for
    Get(show::GetArgs),
    /// Tell everything about a service: why it waits, until when, what comes next
    Describe(show::DescribeArgs),
    /// Wait for the outcome of a request; the exit code says which
    Wait(wait::WaitArgs),
    /// List ended releases, newest first
    History(show::HistoryArgs),
    /// End a pause
    Promote(command::PromoteArgs),
    /// Give up the release in flight: all traffic goes back
    Abort(command::CommandArgs),
    /// Return to the version that is kept, or give up the release in flight
    Rollback(command::CommandArgs),
    /// Try a failed release again
    Retry(command::CommandArgs),
    /// Set aside the alarms that are in ALARM now, until each has been OK once
    BreakGlass(command::CommandArgs),
    /// Delete a record
    Delete(apply::DeleteArgs),
    /// Judge files without a table or AWS
    Check(offline::CheckArgs),
    /// Print or write the JSON schemas of records and API answers
    Schema(offline::SchemaArgs),
    /// Make the two tables, where no template does
    CreateTables(TableArgs),
    /// Ask a daemon whether it works; for containers
    Healthcheck(health::HealthcheckArgs),
    /// Run the daemon
    Run(ConfigArgs),
    /// Serve a local AWS region (ECS, Elastic Load Balancing, `CloudWatch`, `DynamoDB`) on 127.0.0.1
    ///
    /// Tasks are real servers and processes on this machine; those whose task definition has `POINTSMAN_SIM=ghost` in
    /// its environment are not, so that thousands of services fit.
    Sandbox(SandboxArgs),
    /// Show a good and a bad release on a local AWS region
    Demo(DemoArgs),
}

/// Which tables.
#[derive(Clone, Debug, Args)]
pub struct TableArgs {
    /// Table that people write
    #[arg(long, env = "POINTSMAN_RECORDS_TABLE", value_name = "TABLE", default_value = "pointsman-records")]
    pub records_table: String,
    /// Table that the daemon writes
    #[arg(long, env = "POINTSMAN_STATE_TABLE", value_name = "TABLE", default_value = "pointsman-state")]
    pub state_table: String,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// text for people, json or yaml for machines
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// What every command on the tables takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Which tables.
    #[command(flatten)]
    pub tables: TableArgs,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Port of the AWS endpoint; 0 takes a free one.
    #[arg(long, default_value_t = 4580)]
    port: u16,
    /// How many times faster alarm periods, health checks and draining go.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    speed: u32,
    /// Account id in ARNs.
    #[arg(long, default_value = "000000000000")]
    account: String,
    /// Region name in ARNs.
    #[arg(long, default_value = "eu-central-1")]
    region: String,
    /// What AWS does not promise, as a named profile; the flags below change single values of it.
    #[arg(long, value_enum, default_value_t)]
    weather: Profile,
    /// Load-balancer nodes: each learns of a changed rule after its own delay.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: Option<u32>,
    /// Milliseconds until the slowest node routes by a changed rule.
    #[arg(long)]
    propagation_millis: Option<u64>,
    /// Reads answer with up to so many versions ago.
    #[arg(long)]
    stale_versions: Option<u32>,
    /// No read answers with a version that was replaced longer ago than this.
    #[arg(long)]
    stale_millis: Option<u64>,
    /// Enforce AWS's published request rates.
    #[arg(long)]
    throttling: bool,
    /// Access key id of somebody who only watches: sees the present, and is never throttled. May be repeated.
    #[arg(long)]
    observer: Vec<String>,
    /// What the draws of stale reads depend on.
    #[arg(long)]
    seed: Option<u64>,
    /// Append every call to this file, as JSON lines.
    #[arg(long)]
    call_log: Option<PathBuf>,
    /// Keep the region in this file and go on with what it holds; the DynamoDB tables live in FILE.dynamodb.
    /// Queues, topics, event rules and uploaded functions are not kept.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// A Lambda function that is a local command, its event on standard input and its result on
    /// standard output; one word `file.py` or `file.py:function` is a Python file. Repeatable.
    #[arg(long = "function", value_name = "NAME=COMMAND")]
    functions: Vec<LocalFunction>,
    /// Mutant for tests of tests: thousandths of requests that go to a target group of weight 0.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    leak_per_mille: Option<u32>,
}

/// The kinds of record that can be named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// What a developer asks for.
    DesiredRelease,
    /// What the platform team owns of a service.
    ManagedService,
}

impl From<Kind> for RecordKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::DesiredRelease => Self::DesiredRelease,
            Kind::ManagedService => Self::ManagedService,
        }
    }
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The tables did not answer as they should.
    #[error("the tables could not be used")]
    Store(#[from] StoreError),
    /// A record was not stored.
    #[error("failed at {what}{applied}")]
    Record {
        /// Kind and name.
        what: String,
        /// What was stored before, as the end of a sentence.
        applied: String,
        /// Why.
        #[source]
        source: Box<RecordError>,
    },
    /// Nothing can be written to.
    #[error("the output could not be written")]
    Output(#[from] std::io::Error),
    /// A document could not be put into words.
    #[error("the answer could not be written as {0}")]
    Encoding(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Something is not as the command needs it.
    #[error("{0}")]
    Unfit(String),
    /// The daemon has no configuration.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The daemon did not start, or ended badly.
    #[error("the daemon failed")]
    Daemon(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sandbox ended badly.
    #[error("the sandbox failed")]
    Sandbox(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The demo could not be told.
    #[error("the demo failed")]
    Demo(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CliError {
    /// 2 for a wrong command line, 1 for everything else.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    fn no_service(key: &ServiceKey) -> Self {
        Self::Unfit(format!(
            "the daemon has not said anything about {key} yet; `pointsman get` lists what it knows, and \
             `pointsman apply -f FILE` writes records"
        ))
    }
}

/// The longest that one call on a table may take, its attempts together.
const CALL: Span = Span::from_secs(10);

/// Carries out a command line, and answers the exit code.
pub async fn run(cli: Cli) -> Result<ExitCode, CliError> {
    let code = match cli.command {
        Command::Check(args) => offline::check(&args, &mut Output::stdio(args.output.output))?,
        Command::Schema(args) => offline::schema(&args, &mut Output::stdio(Format::Text))?,
        Command::Healthcheck(args) => health::check(&args).await?,
        Command::Sandbox(args) => serve_sandbox(args).await?,
        Command::CreateTables(args) => create_tables(&args).await?,
        Command::Run(args) => run_daemon(&args).await?,
        Command::Demo(args) => {
            let told = crate::demo::run(args, until_terminated()).await;
            return told.map_err(|error| CliError::Demo(Box::new(error)));
        }
        other => on_tables(other).await?,
    };
    Ok(ExitCode::from(code))
}

async fn on_tables(command: Command) -> Result<u8, CliError> {
    let Some(common) = common_of(&command) else { return Ok(0) };
    let clock = SystemClock;
    let client = aws_sdk_dynamodb::Client::new(&crate::aws::load_config(CALL).await);
    let store = DynamoStore::new(client, tables_of(&common.tables), Arc::new(clock), CALL.std());
    let mut output = Output::stdio(common.output.output);
    carry_out(&command, &store, &clock, &mut output).await
}

fn tables_of(args: &TableArgs) -> Tables {
    Tables { records: args.records_table.clone(), state: args.state_table.clone() }
}

const fn common_of(command: &Command) -> Option<&Common> {
    match command {
        Command::Apply(args) => Some(&args.common),
        Command::Get(args) => Some(&args.common),
        Command::Describe(args) => Some(&args.common),
        Command::Wait(args) => Some(&args.common),
        Command::History(args) => Some(&args.common),
        Command::Promote(args) => Some(&args.command.common),
        Command::Abort(args) | Command::Rollback(args) | Command::Retry(args) | Command::BreakGlass(args) => {
            Some(&args.common)
        }
        Command::Delete(args) => Some(&args.common),
        _ => None,
    }
}

/// Carries out a command on the tables; the tests bring their own.
pub(crate) async fn carry_out(
    command: &Command,
    desk: &dyn Desk,
    clock: &dyn Clock,
    output: &mut Output,
) -> Result<u8, CliError> {
    use crate::records::Verb;
    match command {
        Command::Apply(args) => apply::apply(args, desk, output).await,
        Command::Get(args) => show::get(args, desk, clock, output).await,
        Command::Describe(args) => show::describe(args, desk, clock, output).await,
        Command::Wait(args) => wait::wait(args, desk, clock, output).await,
        Command::History(args) => show::history(args, desk, clock, output).await,
        Command::Promote(args) => command::promote(args, desk, clock, output).await,
        Command::Abort(args) => command::send(args, Verb::Abort, desk, clock, output).await,
        Command::Rollback(args) => command::send(args, Verb::Rollback, desk, clock, output).await,
        Command::Retry(args) => command::send(args, Verb::Retry, desk, clock, output).await,
        Command::BreakGlass(args) => command::send(args, Verb::BreakGlass, desk, clock, output).await,
        Command::Delete(args) => apply::delete(args, desk, output).await,
        _ => Err(CliError::Usage("this command does not work on the tables".to_owned())),
    }
}

async fn create_tables(args: &TableArgs) -> Result<u8, CliError> {
    let client = aws_sdk_dynamodb::Client::new(&crate::aws::load_config(CALL).await);
    crate::store::tables::create_tables(&client, &tables_of(args)).await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "tables {} and {} are there", args.records_table, args.state_table)?;
    Ok(0)
}

async fn run_daemon(args: &ConfigArgs) -> Result<u8, CliError> {
    let config = Config::load(args)?;
    crate::logging::start_logging(config.log).map_err(|error| CliError::Daemon(Box::new(error)))?;
    let sdk = crate::aws::load_config(config.lease.operation).await;
    let started = crate::daemon::start(DaemonSettings { config, sdk }, until_terminated()).await;
    let daemon = started.map_err(|error: DaemonError| CliError::Daemon(Box::new(error)))?;
    daemon.stopped().await.map_err(|error| CliError::Daemon(Box::new(error)))?;
    Ok(0)
}

async fn serve_sandbox(args: SandboxArgs) -> Result<u8, CliError> {
    let change = ConditionsChange {
        nodes: args.nodes,
        propagation_millis: args.propagation_millis,
        stale_versions: args.stale_versions,
        stale_millis: args.stale_millis,
        throttling: args.throttling.then_some(true),
        observers: (!args.observer.is_empty()).then_some(args.observer),
        leak_per_mille: args.leak_per_mille,
        seed: args.seed,
    };
    let weather = Conditions::of(args.weather).changed(change);
    let weather = weather.map_err(|bad| CliError::Usage(bad.to_string()))?;
    let SandboxArgs { port, speed, account, region, call_log, functions, state, .. } = args;
    let (plane, named) = (PlaneSettings::default(), region.clone());
    let settings =
        SandboxSettings { port, speed, account, region, weather, call_log, plane, functions, state };
    let ended = sandbox::run(settings, until_terminated(), |sandbox| {
        println!("sandbox ready: export AWS_ENDPOINT_URL={} AWS_REGION={named}", sandbox.endpoint());
    });
    ended.await.map_err(|error| CliError::Sandbox(Box::new(error)))?;
    Ok(0)
}

/// Cancelled at the first SIGINT or SIGTERM.
fn until_terminated() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let on_signal = shutdown.clone();
    tokio::spawn(async move {
        terminated().await;
        on_signal.cancel();
    });
    shutdown
}

/// Returns at the first SIGINT or SIGTERM.
pub async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        // Without a handler for SIGTERM its default action ends the process; SIGINT still works.
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Colours only for a terminal, and not where `NO_COLOR` asks for none.
fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
