//! The records table's stream, read as a hint: which services have a changed record. Nothing is decided by
//! it, and nothing is lost without it: services are listed and read anyway.
//!
//! At most one reader (`semantics` 1.12). A shard that was there at the start is read from its end, one that
//! appeared later from its beginning; after an expired or trimmed iterator reading goes on from the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::error::{passing, timed};
use super::tables::{PK, service_of};
use crate::ports::StoreError;
use crate::records::ServiceKey;

/// The longest that one call may take.
const CALL: Duration = Duration::from_secs(10);
/// Between two reads of a shard: 4 a second, of the 5 that the API allows.
const FASTEST: Duration = Duration::from_millis(250);
/// Between two looks at the list of shards, and after trouble.
const SHARDS_EVERY: Duration = Duration::from_secs(30);
/// Shards read at once: a table of this kind has a handful.
const SHARDS: usize = 64;
/// Pages of the list of shards, 100 each.
const PAGES: usize = 50;

/// Sends the services whose records changed, until `shutdown` is cancelled or nobody receives. `every` is the
/// time between two reads of a shard, at least 250 ms.
///
/// When the receiver's queue is full the reader waits: the stream itself is the buffer, for 24 hours.
pub async fn follow(
    tables: aws_sdk_dynamodb::Client,
    streams: aws_sdk_dynamodbstreams::Client,
    records_table: String,
    every: Duration,
    changed: mpsc::Sender<ServiceKey>,
    shutdown: CancellationToken,
) {
    let mut reader = Reader {
        tables,
        streams,
        table: records_table,
        every: every.max(FASTEST),
        shards: BTreeMap::new(),
        finished: BTreeSet::new(),
        started: false,
        troubled: false,
        unlisted: false,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = reader.run(&changed) => {}
    }
}

/// Where the next read of a shard begins; none when that is lost.
type Position = Option<String>;

struct Reader {
    tables: aws_sdk_dynamodb::Client,
    streams: aws_sdk_dynamodbstreams::Client,
    table: String,
    every: Duration,
    shards: BTreeMap<String, Position>,
    /// Shards that were read to their end and are still listed.
    finished: BTreeSet<String>,
    started: bool,
    troubled: bool,
    /// The last look at the list of shards failed.
    unlisted: bool,
}

impl Reader {
    async fn run(&mut self, changed: &mpsc::Sender<ServiceKey>) {
        let mut since_listing = SHARDS_EVERY;
        while !changed.is_closed() {
            let mut answer = Ok(());
            if since_listing >= SHARDS_EVERY {
                since_listing = Duration::ZERO;
                answer = self.list_shards().await;
                self.unlisted = answer.is_err();
            }
            if answer.is_ok() {
                answer = self.read_all(changed, &mut since_listing).await;
            }
            self.say(answer);
            tokio::time::sleep(self.every).await;
            since_listing += self.every;
        }
    }

    /// Trouble is said once, and once when it is over.
    fn say(&mut self, answer: Result<(), StoreError>) {
        match answer {
            Ok(()) if self.troubled && !self.unlisted => {
                self.troubled = false;
                info!("the stream of records is read again");
            }
            Err(error) if !self.troubled => {
                self.troubled = true;
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                warn!(%error, cause, "the stream of records is not read; changes are seen by polling");
            }
            _ => {}
        }
    }

    async fn list_shards(&mut self) -> Result<(), StoreError> {
        const ACTION: &str = "find the stream of records";
        let table = timed(CALL, self.tables.describe_table().table_name(&self.table).send())
            .await
            .map_err(|failed| failed.into_store_error(ACTION, &self.table))?;
        let arn = table
            .table()
            .and_then(|table| table.latest_stream_arn())
            .ok_or_else(|| passing(ACTION, format!("table {} has no stream", self.table)))?
            .to_owned();
        let mut listed = BTreeSet::new();
        let mut from: Option<String> = None;
        for _ in 0..PAGES {
            let call =
                self.streams.describe_stream().stream_arn(&arn).set_exclusive_start_shard_id(from.take());
            let page = timed(CALL, call.send())
                .await
                .map_err(|failed| failed.into_store_error(ACTION, &self.table))?;
            let Some(stream) = page.stream_description else { break };
            listed.extend(stream.shards().iter().filter_map(|shard| shard.shard_id()).map(str::to_owned));
            from = stream.last_evaluated_shard_id;
            if from.is_none() {
                break;
            }
        }
        self.finished.retain(|id| listed.contains(id));
        self.shards.retain(|id, _| listed.contains(id));
        // One that has ended already answers so at its first read: what the list says about ends is not used.
        let begin = if self.started { ShardIteratorType::TrimHorizon } else { ShardIteratorType::Latest };
        for id in listed.difference(&self.finished) {
            if !self.shards.contains_key(id) && self.shards.len() < SHARDS {
                let iterator = self.iterator(&arn, id, begin.clone()).await?;
                self.shards.insert(id.clone(), iterator);
            }
        }
        let lost: Vec<String> =
            self.shards.iter().filter(|(_, position)| position.is_none()).map(|(id, _)| id.clone()).collect();
        for id in lost {
            let renewed = self.iterator(&arn, &id, ShardIteratorType::Latest).await?;
            self.shards.insert(id, renewed);
        }
        self.started = true;
        Ok(())
    }

    async fn iterator(&self, arn: &str, id: &str, begin: ShardIteratorType) -> Result<Position, StoreError> {
        let call = self.streams.get_shard_iterator().stream_arn(arn).shard_id(id).shard_iterator_type(begin);
        let answer = timed(CALL, call.send())
            .await
            .map_err(|failed| failed.into_store_error("begin to read the stream of records", &self.table))?;
        Ok(answer.shard_iterator)
    }

    async fn read_all(
        &mut self,
        changed: &mpsc::Sender<ServiceKey>,
        since_listing: &mut Duration,
    ) -> Result<(), StoreError> {
        let ids: Vec<String> = self.shards.keys().cloned().collect();
        let mut answer = Ok(());
        for id in ids {
            let Some(Some(iterator)) = self.shards.get(&id).cloned() else { continue };
            match timed(CALL, self.streams.get_records().shard_iterator(iterator).send()).await {
                Ok(page) => {
                    if let Some(next) = page.next_shard_iterator {
                        self.shards.insert(id, Some(next));
                    } else {
                        // It was split or rotated: its children are listed now.
                        self.shards.remove(&id);
                        self.finished.insert(id);
                        *since_listing = SHARDS_EVERY;
                    }
                    let services: BTreeSet<ServiceKey> =
                        page.records.unwrap_or_default().iter().filter_map(service).collect();
                    for service in services {
                        if changed.send(service).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                Err(failed) => {
                    let code = failed.service().and_then(ProvideErrorMetadata::code);
                    if matches!(code, Some("ExpiredIteratorException" | "TrimmedDataAccessException")) {
                        self.shards.insert(id, None);
                        *since_listing = SHARDS_EVERY;
                    } else {
                        answer = Err(failed.into_store_error("read the stream of records", &self.table));
                    }
                }
            }
        }
        answer
    }
}

fn service(record: &Record) -> Option<ServiceKey> {
    let pk = record.dynamodb()?.keys()?.get(PK)?.as_s().ok()?;
    service_of(pk)
}
