//! The `pointsman` program: see [`pointsman`] for the map of the code.

use std::process::ExitCode;

use clap::Parser as _;
use pointsman::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(cli::run(Cli::parse())).await {
        Ok(code) => code,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("error: {:#}", anyhow::Error::from(error));
            ExitCode::from(code)
        }
    }
}
