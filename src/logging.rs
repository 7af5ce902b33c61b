//! What the daemon says about itself in words: log lines on standard error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for `CloudWatch` Logs and the like.
    Json,
    /// For people at a terminal.
    Pretty,
}

/// The filter when `POINTSMAN_LOG` is not set: our own steps, and only trouble of the libraries.
const DEFAULT_FILTER: &str = "warn,pointsman=info";

/// Sends log lines to standard error. `POINTSMAN_LOG` holds a filter such as `pointsman=debug`.
///
/// # Errors
/// When the process has a subscriber already.
pub fn start_logging(format: LogFormat) -> Result<(), TryInitError> {
    let filter = EnvFilter::try_from_env("POINTSMAN_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Pretty => registry.with(lines.compact()).try_init(),
    }
}
