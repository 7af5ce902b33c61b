//! The command line of the program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigArgs};
use crate::daemon::DaemonSettings;
use crate::demo::{self, DemoArgs};
use crate::sandbox::plane::PlaneSettings;
use crate::sandbox::{self, SandboxSettings};

/// Brings Amazon ECS services to the release their developers asked for.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a local AWS region (ECS, Elastic Load Balancing, `CloudWatch`, `DynamoDB`) on 127.0.0.1.
    Sandbox(SandboxArgs),
    /// Run the daemon.
    Run(ConfigArgs),
    /// Watch a good and a bad release on this machine: sandbox, daemon and traffic in one
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
struct SandboxArgs {
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
    /// Enforce AWS's published request rates.
    #[arg(long)]
    throttling: bool,
    /// Append every call to this file, as JSON lines.
    #[arg(long)]
    call_log: Option<PathBuf>,
    /// Mutant for tests of tests: thousandths of requests that go to a target group of weight 0.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    leak_per_mille: u32,
}

/// Runs the program to its end; answers its exit code.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Sandbox(args) => serve_sandbox(args).await?,
        Command::Run(args) => run_daemon(&args).await?,
        Command::Demo(args) => return Ok(demo::run(args, until_terminated()).await?),
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_daemon(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = Config::load(args)?;
    crate::telemetry::start_logging(config.log)?;
    let sdk = crate::aws::load_config(config.lease.operation).await;
    let daemon = crate::daemon::start(DaemonSettings { config, sdk }, until_terminated()).await?;
    daemon.stopped().await?;
    Ok(())
}

async fn serve_sandbox(args: SandboxArgs) -> anyhow::Result<()> {
    let SandboxArgs { port, speed, account, region, throttling, call_log, leak_per_mille } = args;
    let plane = PlaneSettings { leak_per_mille, ..PlaneSettings::default() };
    let settings =
        SandboxSettings { port, speed, account, region: region.clone(), throttling, call_log, plane };
    sandbox::run(settings, until_terminated(), |sandbox| {
        println!("sandbox ready: export AWS_ENDPOINT_URL={} AWS_REGION={region}", sandbox.endpoint());
    })
    .await?;
    Ok(())
}

/// Is cancelled by the first SIGINT or SIGTERM.
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
async fn terminated() {
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
