//! A region that outlives its process: one JSON file, written whole and read whole.
//!
//! The file's first line holds its format and the checksum of everything after it, so that a file that was
//! cut short or changed by hand is refused as a whole and never half applied. It is replaced by renaming a
//! finished one over it. `FILE.lock` keeps a second sandbox out; `FILE.dynamodb` is the engine's own file.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::STOP_MAX;
use super::heart::Heart;
use super::messages::KeptMessages;
use super::metrics::KeptMetrics;
use crate::world::Region;
use crate::world::alarm::Alarms;

/// The layout of the file that this program reads and writes.
const FORMAT: u64 = 2;
/// How often changes are saved, and so the most that a crash loses: long beside a write of some 10 ms, short
/// beside the seconds that a person needs to type a command.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// How often metrics alone are a reason to save. With traffic they change every second.
const METRICS_EVERY: Duration = Duration::from_secs(10);

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another sandbox has it.
    #[error(
        "the state file {} is in use by another sandbox; stop that one, or give this one another file",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It, its lock or its directory cannot be read or written.
    #[error("the state file {} cannot be opened or written", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not hold what was written.
    #[error(
        "the state file {} is damaged: {what}. Nothing of it was used. Put back a copy of it, or move it and the \
         file {} away to start with an empty region",
        path.display(),
        tables.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its tables' file.
        tables: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Another version wrote it.
    #[error(
        "the state file {} has format {found}, and this version reads format {FORMAT}. Use the version that wrote it, \
         or another file",
        path.display()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It is of another account or region, whose names are in all its ARNs.
    #[error(
        "the state file {} is of account {account} in {region}. Start with --account {account} --region {region}, or \
         give another file",
        path.display()
    )]
    OtherRegion {
        /// The file.
        path: PathBuf,
        /// Its account.
        account: String,
        /// Its region.
        region: String,
    },
    /// The `DynamoDB` engine cannot use its file.
    #[error(
        "the DynamoDB tables in {} cannot be opened. Put back a copy of that file, or move it away to start without \
         tables",
        path.display()
    )]
    Tables {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: dynoxide::DynoxideError,
    },
}

/// What of the region is kept, `DynamoDB` aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) region: Region,
    pub(super) alarms: Alarms,
    pub(super) metrics: KeptMetrics,
    pub(super) messages: KeptMessages,
}

/// The first thing that is read, whatever the format.
#[derive(Deserialize)]
struct Head {
    format: u64,
}

#[derive(Deserialize)]
struct Document {
    sha256: String,
    account: String,
    region: String,
    held: Held,
}

/// A state file that is ours as long as this lives.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    account: String,
    region: String,
    /// The lock goes with it.
    _lock: File,
}

impl StateFile {
    /// Locks the file and reads it; nothing is held when there is none yet.
    pub(super) fn open(path: &Path, account: &str, region: &str) -> Result<(Self, Option<Held>), StateError> {
        let lock_path = beside(path, ".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|source| StateError::Io { path: lock_path.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(StateError::Io { path: lock_path, source }),
        }
        let file = Self {
            path: path.to_owned(),
            account: account.to_owned(),
            region: region.to_owned(),
            _lock: lock,
        };
        let held = match fs::read(path) {
            Ok(bytes) => Some(file.parse(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(StateError::Io { path: path.to_owned(), source }),
        };
        Ok((file, held))
    }

    /// Where the `DynamoDB` engine keeps its tables.
    pub(super) fn tables(&self) -> PathBuf {
        beside(&self.path, ".dynamodb")
    }

    fn damaged(&self, what: impl Into<String>) -> StateError {
        StateError::Damaged { path: self.path.clone(), tables: self.tables(), what: what.into() }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Held, StateError> {
        let head = serde_json::from_slice::<Head>(bytes);
        let Head { format } = head.map_err(|error| self.damaged(error.to_string()))?;
        if format != FORMAT {
            return Err(StateError::OtherFormat { path: self.path.clone(), found: format });
        }
        let document = serde_json::from_slice::<Document>(bytes);
        let document = document.map_err(|error| self.damaged(error.to_string()))?;
        let body = bytes.split_inclusive(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
        if checksum(&bytes[body..]) != document.sha256 {
            return Err(self.damaged("its checksum is not that of its content"));
        }
        let Document { account, region, held, .. } = document;
        if (account.as_str(), region.as_str()) != (self.account.as_str(), self.region.as_str()) {
            return Err(StateError::OtherRegion { path: self.path.clone(), account, region });
        }
        Ok(held)
    }

    fn text(&self, held: &Held) -> Result<String, serde_json::Error> {
        let (account, region) = (serde_json::to_string(&self.account)?, serde_json::to_string(&self.region)?);
        let held = serde_json::to_string(held)?;
        let body = format!("\"account\":{account},\"region\":{region},\n\"held\":{held}}}\n");
        let sum = checksum(body.as_bytes());
        Ok(format!("{{\"format\":{FORMAT},\"sha256\":\"{sum}\",\n{body}"))
    }

    /// Replaces the file: whoever reads it finds the old or the new content, also after a loss of power.
    pub(super) fn write(&self, held: &Held) -> Result<(), StateError> {
        let failed = |source| StateError::Io { path: self.path.clone(), source };
        let text = self.text(held).map_err(|error| failed(error.into()))?;
        // The lock keeps others away from this name, too.
        let next = beside(&self.path, ".tmp");
        let replace = || {
            let mut file = File::create(&next)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, &self.path)?;
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        };
        replace().map_err(failed)
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn checksum(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Saves the region as it changes.
pub(super) struct Keeper {
    file: Arc<StateFile>,
    heart: Arc<Heart>,
    saved: Arc<Held>,
    saved_at: Instant,
    /// The last write failed, which is told once.
    failing: bool,
}

impl Keeper {
    /// Saves once, so that a place that cannot be written to is known at the start.
    pub(super) fn start(file: StateFile, heart: Arc<Heart>) -> Result<Self, StateError> {
        let saved = Arc::new(heart.held());
        file.write(&saved)?;
        Ok(Self { file: Arc::new(file), heart, saved, saved_at: Instant::now(), failing: false })
    }

    /// Saves until `stop`, and once more when the other parts have ended.
    pub(super) async fn keep(mut self, stop: CancellationToken, parts: TaskTracker) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(SAVE_EVERY) => {}
            }
            if self.heart.was_touched() || self.failing {
                self.save(METRICS_EVERY).await;
            }
        }
        // A part that does not end has been waited for long enough; what there is, is saved.
        let _ = tokio::time::timeout(STOP_MAX, parts.wait()).await;
        self.save(Duration::ZERO).await;
    }

    /// Writes when the region changed, or when the metrics did and the last write is this old.
    async fn save(&mut self, metrics_after: Duration) {
        let held = Arc::new(self.heart.held());
        let Held { region, alarms, metrics, messages } = &*self.saved;
        let changed = *region != held.region || *alarms != held.alarms || *messages != held.messages;
        if !changed && (*metrics == held.metrics || self.saved_at.elapsed() < metrics_after) {
            return;
        }
        let (file, written) = (Arc::clone(&self.file), Arc::clone(&held));
        let outcome = tokio::task::spawn_blocking(move || file.write(&written)).await;
        match outcome {
            Ok(Ok(())) => {
                (self.saved, self.saved_at, self.failing) = (held, Instant::now(), false);
            }
            Ok(Err(error)) => {
                if !self.failing {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "the region cannot be saved; it is tried again");
                }
                self.failing = true;
            }
            Err(error) => tracing::error!(%error, "saving the region ended badly"),
        }
    }
}
