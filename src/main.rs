//! The `pointsman` program: see [`pointsman`] for the map of the code.

use std::process::ExitCode;

use clap::Parser as _;
use pointsman::cli::{self, Cli};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    cli::run(Cli::parse()).await
}
