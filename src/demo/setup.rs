//! Sets the stage as people would: a region, through the unmodified Rust clients.

mod records;
mod region;

use std::sync::Arc;
use std::time::Duration;

use aws_config::{AppName, SdkConfig};
use aws_sdk_ecs::config::{Credentials, Region as AwsRegion, SharedCredentialsProvider};

use super::DemoError;
use super::pace::Pace;
use crate::aws::clients;
use crate::clock::SystemClock;
use crate::records::names::{Arn, PerGroup};
use crate::records::{ServiceKey, Span};
use crate::sandbox::{Sandbox, SandboxSettings};
use crate::store::tables::create_tables;
use crate::store::{DynamoStore, Tables};

/// Namespace of the demo's records.
pub const NAMESPACE: &str = "demo";
/// Name of its service and of its task-definition family.
pub const NAME: &str = "checkout";
/// Access key id of everything that the demo does in the place of people.
pub const PEOPLES_KEY: &str = "AKIDPEOPLE";
/// Access key id of the daemon.
pub const DAEMONS_KEY: &str = "AKIDDAEMON";
/// Tasks of the service.
pub const DESIRED_COUNT: i32 = 3;

/// The region with everything that a platform team makes before the first release.
pub struct Stage {
    /// Behind the endpoint.
    pub sandbox: Sandbox,
    /// Reads status, writes records.
    pub store: DynamoStore,
    /// Reads alarms.
    pub cloudwatch: aws_sdk_cloudwatch::Client,
    /// Both tables.
    pub tables: Tables,
    /// The service's key.
    pub key: ServiceKey,
    /// What was made.
    pub site: Site,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("site", &self.site).finish_non_exhaustive()
    }
}

/// What was made in the region.
#[derive(Clone, Debug)]
pub struct Site {
    /// Cluster.
    pub cluster: Arn,
    /// EXTERNAL service.
    pub service: Arn,
    /// The pair.
    pub groups: PerGroup<Arn>,
    /// Production rule.
    pub production: Arn,
    /// Test rule.
    pub test: Arn,
    /// Where clients send their requests.
    pub port: u16,
    /// One alarm for each group.
    pub group_alarms: PerGroup<String>,
    /// One alarm for the service as a whole.
    pub service_alarm: String,
}

impl Stage {
    /// Starts the sandbox and makes everything but releases.
    pub async fn set(pace: &Pace) -> Result<Self, DemoError> {
        let settings = SandboxSettings { speed: pace.speed, ..SandboxSettings::default() };
        let region = settings.region.clone();
        let sandbox = Sandbox::start(settings).await.map_err(DemoError::Sandbox)?;
        let sdk = sdk(sandbox.endpoint(), &region, PEOPLES_KEY, clients::OPERATION);
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let tables = Tables { records: "pointsman-records".into(), state: "pointsman-state".into() };
        create_tables(&dynamodb, &tables).await.map_err(DemoError::Store)?;
        let site = region::build(&sdk, &sandbox).await?;
        let clock = Arc::new(SystemClock);
        let store = DynamoStore::new(dynamodb, tables.clone(), clock, Duration::from_secs(6));
        let cloudwatch = aws_sdk_cloudwatch::Client::new(&sdk);
        let key = ServiceKey::new(records::label(NAMESPACE)?, records::label(NAME)?);
        let stage = Self { sandbox, store, cloudwatch, tables, key, site };
        let managed = records::managed_service(&stage.site, pace)?;
        stage.store.put_record(&managed).await.map_err(DemoError::Record)?;
        Ok(stage)
    }

    /// The daemon's view of AWS: nothing but the endpoint.
    pub fn daemons_sdk(&self, pace: &Pace) -> SdkConfig {
        let region = SandboxSettings::default().region;
        sdk(self.sandbox.endpoint(), &region, DAEMONS_KEY, pace.lease.operation)
    }

    /// The daemon's installation name.
    pub fn installation() -> Result<crate::records::names::Label, DemoError> {
        records::label("demo")
    }

    /// Asks for a revision, as a developer or a pipeline would.
    pub async fn desire(&self, revision: &str, request_id: &str) -> Result<(), DemoError> {
        let document = records::desired_release(revision, request_id)?;
        self.store.put_record(&document).await.map_err(DemoError::Record)?;
        Ok(())
    }
}

/// Clients of the sandbox and of nothing else: neither environment nor profile of this machine is read.
fn sdk(endpoint: &str, region: &str, key: &str, operation: Span) -> SdkConfig {
    let credentials = Credentials::new(key, "not-a-secret", None, None, "demo");
    let mut config = SdkConfig::builder()
        .behavior_version(clients::behaviour())
        .endpoint_url(endpoint)
        .region(AwsRegion::new(region.to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .timeout_config(clients::timeouts(operation))
        .retry_config(clients::read_retries());
    config.set_app_name(AppName::new("pointsman-demo").ok());
    config.build()
}
