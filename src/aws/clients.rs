//! Builds the SDK clients: which region, how long a call may take, how often it is tried.
//!
//! Region, credentials and endpoints come from where every AWS tool takes them (`AWS_REGION`,
//! `AWS_ENDPOINT_URL`, the container's credentials …), read by [`aws_config`].

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, SdkConfig};

use crate::records::Span;

/// One operation with all its attempts, unless configured: what the lease gate asks for (`semantics` 5.13).
/// One attempt gets half of it, a connection a third.
pub const OPERATION: Span = Span::from_secs(6);
/// Attempts of a read. The second one starts when the first has failed after at most half of an operation, and the
/// two fit into it. A third one would be the next pass's business.
pub const READ_ATTEMPTS: u32 = 2;

/// The lease's figures (`semantics` 5.13), for the arithmetic alone: the lease keeper owns them.
const LEASE_TTL: Span = Span::from_secs(20);
const LEASE_RENEWAL: Span = Span::from_secs(4);
const LEASE_MARGIN: Span = Span::from_secs(2);

// A call that starts right before a renewal still ends, margin included, while the lease is held, and even
// when one renewal was missed.
const _: () = assert!(
    OPERATION.millis() + LEASE_MARGIN.millis() + 2 * LEASE_RENEWAL.millis() <= LEASE_TTL.millis(),
    "an operation must fit into what is left of a lease"
);

/// The clients of one account and region.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Amazon ECS.
    pub ecs: aws_sdk_ecs::Client,
    /// Elastic Load Balancing v2.
    pub elb: aws_sdk_elasticloadbalancingv2::Client,
    /// Amazon `CloudWatch`.
    pub cloudwatch: aws_sdk_cloudwatch::Client,
}

impl Clients {
    /// Clients over one configuration, best made by [`load_config`].
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            ecs: aws_sdk_ecs::Client::new(config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(config),
        }
    }
}

/// The configuration that all clients of the daemon share, from the environment and the pinned defaults.
pub async fn load_config(operation: Span) -> SdkConfig {
    loader(operation).load().await
}

fn loader(operation: Span) -> ConfigLoader {
    let loader =
        aws_config::defaults(behaviour()).timeout_config(timeouts(operation)).retry_config(read_retries());
    match AppName::new("pointsman") {
        Ok(name) => loader.app_name(name),
        // The name is a constant of allowed characters; without it only the user agent says less.
        Err(_) => loader,
    }
}

/// Pinned: a new SDK must not change time-outs or retries by itself.
pub fn behaviour() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// Explicit time-outs for calls that may take `operation`.
pub fn timeouts(operation: Span) -> TimeoutConfig {
    let operation = operation.std();
    TimeoutConfig::builder()
        .connect_timeout(operation / 3)
        .operation_attempt_timeout(operation / 2)
        .operation_timeout(operation)
        .build()
}

/// Reads are tried twice, soon: the pass is waiting, and an older answer is worth less.
pub fn read_retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(READ_ATTEMPTS)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(Duration::from_millis(400))
}

/// Mutations are sent once. The SDK cannot know that an unanswered write must stay outstanding; the next pass
/// does, and repeats the same absolute write under a lease it has checked again.
pub fn mutation_retries() -> RetryConfig {
    RetryConfig::disabled()
}

#[cfg(test)]
mod tests {
    use aws_config::Region;
    use aws_sdk_ecs::config::Credentials;

    use super::*;

    #[tokio::test]
    async fn every_client_has_a_name_explicit_time_outs_and_few_retries() {
        let loader = loader(OPERATION).region(Region::from_static("eu-central-1"));
        let config = loader.credentials_provider(Credentials::for_tests()).load().await;
        assert_eq!(config.app_name().unwrap().to_string(), "pointsman");
        let timeouts = config.timeout_config().unwrap();
        assert_eq!(timeouts.connect_timeout(), Some(Duration::from_secs(2)));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(Duration::from_secs(3)));
        assert_eq!(timeouts.operation_timeout(), Some(Duration::from_secs(6)));
        assert_eq!(config.retry_config().unwrap().max_attempts(), 2);
        assert_eq!(mutation_retries().max_attempts(), 1);
    }
}
