//! The daemon's configuration: a TOML file, then environment, then flags; the later one wins.
//!
//! AWS region, endpoint and credentials are the SDK's own business (`AWS_REGION`, `AWS_ENDPOINT_URL`, …) and have
//! no second name here.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::controller::Timing;
use crate::decide::Limits;
use crate::lease::{LeaseTiming, ShardCount};
use crate::logging::LogFormat;
use crate::records::Span;
use crate::records::names::Label;

/// All settings of the daemon, as in the file. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names this installation in external ids. Two installations that share an AWS account need two names; a
    /// changed name makes the daemon take its own task sets for foreign ones.
    pub installation: Label,
    /// The `DynamoDB` table that people write.
    pub records_table: String,
    /// The `DynamoDB` table that the daemon writes.
    pub state_table: String,
    /// Where the status API listens. 127.0.0.1:8080 unless told.
    #[serde(default = "default_listen")]
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// How often a service in flight is looked at. 2s unless told; from 100ms to 1m.
    #[serde(default = "default_poll")]
    pub poll: Span,
    /// How often a settled service is looked at. 60s unless told; from `poll` to 1h.
    #[serde(default = "default_idle_poll")]
    pub idle_poll: Span,
    /// How often all services are listed anew. 5m unless told; from 10s to 1h.
    #[serde(default = "default_resync")]
    pub resync: Span,
    /// Services looked at at once. 64 unless told; at most 1024.
    #[serde(default = "default_concurrency")]
    #[schemars(range(max = 1024))]
    pub concurrency: NonZeroUsize,
    /// A run of one service that takes longer is dropped, as a crash would. 5m unless told; from 30s to 1h.
    #[serde(default = "default_longest_run")]
    pub longest_run: Span,
    /// How long runs under way may take to end at shutdown; below ECS's `stopTimeout`. 20s unless told; at most 2m.
    #[serde(default = "default_drain")]
    pub drain: Span,
    /// Into how many shards the services are split, of which each daemon owns some. 64 unless told; at most 256.
    /// The same on every daemon of an installation: one with another number does nothing while the others live.
    #[serde(default)]
    #[schemars(range(min = 1, max = 256))]
    pub shards: ShardCount,
    /// The lease that keeps two daemons from acting on one service.
    #[serde(default)]
    pub lease: LeaseTiming,
    /// What an alarm may do while the lease has run out and cannot be renewed. `guarded` unless told.
    #[serde(default)]
    pub emergency_rollback: EmergencyRollback,
    /// How log lines look. `json` unless told.
    #[serde(default = "default_log")]
    pub log: LogFormat,
}

/// What may be done without a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmergencyRollback {
    /// Traffic of a release in flight is taken back to a stable version that runs, when an alarm burns and nobody else
    /// has moved weights.
    #[default]
    Guarded,
    /// Nothing.
    Off,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}
const fn default_poll() -> Span {
    Span::from_secs(2)
}
const fn default_idle_poll() -> Span {
    Span::from_secs(60)
}
const fn default_resync() -> Span {
    Span::from_mins(5)
}
const fn default_concurrency() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(63)
}
const fn default_longest_run() -> Span {
    Span::from_mins(5)
}
const fn default_drain() -> Span {
    Span::from_secs(20)
}
const fn default_log() -> LogFormat {
    LogFormat::Json
}

/// Flags, each with its environment variable. What is given here wins over the file; with all of the required
/// ones no file is needed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArgs {
    /// TOML file with settings
    #[arg(long, env = "POINTSMAN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of this installation
    #[arg(long, env = "POINTSMAN_INSTALLATION")]
    pub installation: Option<String>,
    /// Table that people write
    #[arg(long, env = "POINTSMAN_RECORDS_TABLE", value_name = "TABLE")]
    pub records_table: Option<String>,
    /// Table that the daemon writes
    #[arg(long, env = "POINTSMAN_STATE_TABLE", value_name = "TABLE")]
    pub state_table: Option<String>,
    /// Address of the status API
    #[arg(long, env = "POINTSMAN_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// How often a service in flight is looked at, such as 2s
    #[arg(long, env = "POINTSMAN_POLL", value_name = "DURATION")]
    pub poll: Option<String>,
    /// How often a settled service is looked at, such as 60s
    #[arg(long, env = "POINTSMAN_IDLE_POLL", value_name = "DURATION")]
    pub idle_poll: Option<String>,
    /// How often all services are listed anew, such as 5m
    #[arg(long, env = "POINTSMAN_RESYNC", value_name = "DURATION")]
    pub resync: Option<String>,
    /// Services looked at at once
    #[arg(long, env = "POINTSMAN_CONCURRENCY", value_name = "NUMBER")]
    pub concurrency: Option<NonZeroUsize>,
    /// json or pretty
    #[arg(long, env = "POINTSMAN_LOG_FORMAT", value_name = "FORMAT")]
    pub log: Option<LogFormat>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not TOML", path.display())]
    NotToml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// File, environment and flags together make no configuration.
    #[error("the settings do not fit together")]
    Malformed {
        /// Which field and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is out of its bounds.
    #[error("{field} is {value}; allowed: {allowed}")]
    OutOfBounds {
        /// As in the file.
        field: &'static str,
        /// What it says.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

impl Config {
    /// Reads the file, if one is named, lays environment and flags over it, and checks the whole.
    pub fn load(args: &ConfigArgs) -> Result<Self, ConfigError> {
        let text = match &args.config {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?,
            None => String::new(),
        };
        Self::from_parts(args.config.as_deref(), &text, args)
    }

    fn from_parts(path: Option<&Path>, text: &str, args: &ConfigArgs) -> Result<Self, ConfigError> {
        let mut table: toml::Table = toml::from_str(text).map_err(|source| ConfigError::NotToml {
            path: path.unwrap_or_else(|| Path::new("the configuration")).to_owned(),
            source: Box::new(source),
        })?;
        for (field, value) in args.given() {
            table.insert(field.to_owned(), value);
        }
        let config: Self = table
            .try_into()
            .map_err(|source: toml::de::Error| ConfigError::Malformed { source: Box::new(source) })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let between = |field, value: Span, least: Span, most: Span| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let allowed = format!("{least} to {most}");
            Err(ConfigError::OutOfBounds { field, value: value.to_string(), allowed })
        };
        let hour = Span::from_mins(60);
        between("poll", self.poll, Span::from_millis(100), Span::from_mins(1))?;
        between("idle_poll", self.idle_poll, self.poll, hour)?;
        between("resync", self.resync, Span::from_secs(10), hour)?;
        between("longest_run", self.longest_run, Span::from_secs(30), hour)?;
        between("drain", self.drain, Span::ZERO, Span::from_mins(2))?;
        let LeaseTiming { ttl, renew, operation, margin } = self.lease;
        between("lease.ttl", ttl, Span::from_secs(1), hour)?;
        between("lease.operation", operation, Span::from_millis(100), ttl)?;
        // Two machines' clocks may run apart by a tenth (`store::lease`).
        between("lease.margin", margin, Span::from_millis(ttl.millis().div_ceil(10)), ttl)?;
        // After a beat that failed once there must still be time for one operation.
        let most = ttl.minus(operation).minus(margin);
        between("lease.renew", renew, Span::from_millis(100), Span::from_millis(most.millis() / 2))?;
        if self.shards.get() > ShardCount::MOST {
            let (value, allowed) = (self.shards.get().to_string(), format!("1 to {}", ShardCount::MOST));
            return Err(ConfigError::OutOfBounds { field: "shards", value, allowed });
        }
        if self.concurrency.get() > 1024 {
            let value = self.concurrency.to_string();
            return Err(ConfigError::OutOfBounds {
                field: "concurrency",
                value,
                allowed: "1 to 1024".into(),
            });
        }
        for (field, table) in [("records_table", &self.records_table), ("state_table", &self.state_table)] {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if !(3..=255).contains(&table.len()) || !table.chars().all(fits) {
                let allowed = "3 to 255 of letters, digits, _ . and -".to_owned();
                return Err(ConfigError::OutOfBounds { field, value: table.clone(), allowed });
            }
        }
        if self.records_table == self.state_table {
            let allowed = "another table than records_table".to_owned();
            let value = self.state_table.clone();
            return Err(ConfigError::OutOfBounds { field: "state_table", value, allowed });
        }
        Ok(())
    }

    /// The whole as TOML with every default filled in, for the line that is printed at start.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// What decisions may know of it.
    pub fn limits(&self) -> Limits {
        Limits { installation: self.installation.to_string(), poll: self.poll, idle_poll: self.idle_poll }
    }

    /// What the loop goes by.
    pub const fn timing(&self) -> Timing {
        Timing {
            resync: self.resync,
            concurrency: self.concurrency,
            longest_run: self.longest_run,
            drain: self.drain,
        }
    }

    /// The JSON schema of the file.
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }
}

impl ConfigArgs {
    /// What was given by flag or environment, by field name.
    fn given(&self) -> impl Iterator<Item = (&'static str, toml::Value)> {
        let concurrency = self.concurrency.map(|number| i64::try_from(number.get()).unwrap_or(i64::MAX));
        let log = self.log.map(|log| match log {
            LogFormat::Json => "json".to_owned(),
            LogFormat::Pretty => "pretty".to_owned(),
        });
        let texts = [
            ("installation", self.installation.clone()),
            ("records_table", self.records_table.clone()),
            ("state_table", self.state_table.clone()),
            ("listen", self.listen.clone()),
            ("poll", self.poll.clone()),
            ("idle_poll", self.idle_poll.clone()),
            ("resync", self.resync.clone()),
            ("log", log),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| Some((field, toml::Value::String(text?))));
        texts.chain(concurrency.map(|number| ("concurrency", toml::Value::Integer(number))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "installation = \"main\"\nrecords_table = \"records\"\nstate_table = \"state\"\n";

    fn read(text: &str) -> Result<Config, String> {
        Config::from_parts(None, text, &ConfigArgs::default())
            .map_err(|error| crate::telemetry::chain(&error))
    }

    #[test]
    fn three_names_are_enough_and_what_is_printed_reads_back_the_same() {
        let config = read(LEAST).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!((config.poll, config.idle_poll), (Span::from_secs(2), Span::from_secs(60)));
        assert_eq!(config.lease, LeaseTiming::default());
        assert_eq!(config.shards.get(), 64);
        assert_eq!(config.concurrency.get(), 64);
        assert_eq!(read(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let args = ConfigArgs {
            poll: Some("500ms".into()),
            log: Some(LogFormat::Pretty),
            concurrency: NonZeroUsize::new(3),
            ..ConfigArgs::default()
        };
        let config = Config::from_parts(None, &format!("{LEAST}poll = \"5s\"\n"), &args).unwrap();
        assert_eq!(config.poll, Span::from_millis(500));
        assert_eq!((config.log, config.concurrency.get()), (LogFormat::Pretty, 3));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        for (text, named) in [
            (format!("{LEAST}pol = \"2s\"\n"), "pol"),
            (format!("{LEAST}poll = 2\n"), "duration"),
            (format!("{LEAST}poll = \"1ms\"\n"), "poll is 1ms; allowed: 100ms to 1m"),
            (format!("{LEAST}idle_poll = \"1s\"\n"), "idle_poll"),
            (format!("{LEAST}concurrency = 0\n"), "concurrency"),
            (format!("{LEAST}shards = 0\n"), "shards"),
            (format!("{LEAST}shards = 257\n"), "shards is 257; allowed: 1 to 256"),
            (format!("{LEAST}[lease]\nrenew = \"7s\"\n"), "lease.renew"),
            (LEAST.replace("\"state\"", "\"records\""), "another table"),
            (LEAST.replace("main", "a#b"), "DNS label"),
            ("records_table = \"records\"\n".to_owned(), "missing field"),
            ("= 1".to_owned(), "TOML"),
        ] {
            let refusal = read(&text).unwrap_err();
            assert!(refusal.contains(named), "{named:?} is not in {refusal:?}");
        }
    }

    #[test]
    fn the_schema_names_every_setting_and_refuses_others() {
        let schema = serde_json::to_value(Config::schema()).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        let validator = jsonschema::validator_for(&schema).unwrap();
        let config = serde_json::to_value(read(LEAST).unwrap()).unwrap();
        assert!(validator.is_valid(&config), "{:?}", validator.iter_errors(&config).collect::<Vec<_>>());
        let least = serde_json::json!({"installation": "main", "records_table": "r", "state_table": "s"});
        assert!(validator.is_valid(&least));
        assert!(!validator.is_valid(&serde_json::json!({"installation": "main"})));
    }
}
