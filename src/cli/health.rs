//! `healthcheck`: for containers, whose image has no other program to ask with.

use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::CliError;
use crate::records::Span;

/// An answer is a few hundred bytes.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Arguments of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// What to ask; `/readyz` instead of `/healthz` asks whether this process owns shards
    #[arg(long, env = "POINTSMAN_HEALTH_URL", default_value = "http://127.0.0.1:8080/healthz")]
    url: String,
    /// How long the answer may take
    #[arg(long, default_value = "3s", value_name = "DURATION")]
    timeout: Span,
}

/// 0 when the daemon answers 200, 1 otherwise, with what it said.
pub async fn check(args: &HealthcheckArgs) -> Result<u8, CliError> {
    let url: hyper::Uri = args
        .url
        .parse()
        .map_err(|error| CliError::Usage(format!("--url {:?} is no http URL: {error}", args.url)))?;
    let answered = tokio::time::timeout(args.timeout.std(), ask(url)).await;
    let said = answered.map_err(|_| unhealthy(args, &format!("no answer within {}", args.timeout)))?;
    let (status, body) = said.map_err(|why| unhealthy(args, &why))?;
    let body = crate::decide::explain::plain(body.trim());
    if status != 200 {
        return Err(unhealthy(args, &format!("{status} {body}")));
    }
    println!("{body}");
    Ok(0)
}

fn unhealthy(args: &HealthcheckArgs, why: &str) -> CliError {
    CliError::Unfit(format!("{} is not healthy: {why}", args.url))
}

async fn ask(url: hyper::Uri) -> Result<(u16, String), String> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.get(url).await.map_err(|error| crate::telemetry::chain(&error))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
    let bytes = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}
