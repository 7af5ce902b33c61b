//! [`DynamoStore`]: the port [`Store`] over the two tables. Reads are here, writes in `write`, what the
//! command line and the API need in `people`.

#[cfg(test)]
mod fuzz;
mod people;
mod write;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use serde_json::Value;
use tracing::warn;
use ulid::Ulid;

use super::convert::{Item, count, s, text, to_document, to_json};
use super::error::{passing, permanent, timed};
use super::lenient;
use super::tables::{self, BY_KIND, CURRENT, KIND, PK, RecordKind, SK, SPEC, STATE_KIND, Tables};
use crate::model::facts::COMMANDS_KEPT;
use crate::ports::{Clock, Permit, Remembered, StateWrite, Store, StoreError, Wishes};
use crate::records::{Command, ServiceKey};

pub use people::HistoryPage;

/// The format that this program writes into new state items.
pub const STATE_FORMAT: u64 = 1;
/// The oldest reader that may touch what this program writes. An item's `minReader` is set when the item is
/// made and never lowered afterwards; a program that needs more raises it.
pub const MIN_READER: u64 = 1;
/// Which reader this program is: an item with a higher `minReader` is left alone.
pub const READER: u64 = 1;

/// The most commands of one service that a pass looks at: the newest, for the oldest were answered. Never more than
/// are remembered, or a command would be taken twice.
const COMMANDS: usize = COMMANDS_KEPT;
/// Commands older than an hour are ignored (`semantics` 1.11) while `DynamoDB` may take days to expire them:
/// what is further than this from now, clocks of two hosts apart included, is not even read. Nor is what claims to be
/// from the time to come: it would stand before all others for as long.
const COMMAND_AGE_MS: u64 = 2 * 3_600_000;
/// Pages of one listing: at 1 MB a page, some millions of keys.
const PAGES: usize = 500;
/// Rounds for keys that a batch read left unprocessed.
const ROUNDS: u32 = 6;
/// Keys of one batch read (the API's limit).
const BATCH: usize = 100;

/// The two tables through the SDK.
#[derive(Clone)]
pub struct DynamoStore {
    client: Client,
    tables: Tables,
    clock: Arc<dyn Clock>,
    /// The longest that one call may take, all its attempts together.
    operation: Duration,
}

impl std::fmt::Debug for DynamoStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoStore").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl DynamoStore {
    /// `operation` is the longest that one call may take, all attempts together: the lease's
    /// [`LeaseTiming::operation`](crate::lease::LeaseTiming), or a write could outlive the lease.
    pub fn new(client: Client, tables: Tables, clock: Arc<dyn Clock>, operation: Duration) -> Self {
        Self { client, tables, clock, operation }
    }

    /// The names of the tables.
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0)
    }

    /// The services in one partition of the index, all pages.
    async fn of_kind(&self, table: &str, kind: &str) -> Result<BTreeSet<ServiceKey>, StoreError> {
        const ACTION: &str = "list services";
        let mut found = BTreeSet::new();
        let mut from: Option<Item> = None;
        for _ in 0..PAGES {
            let query = self
                .client
                .query()
                .table_name(table)
                .index_name(BY_KIND)
                .key_condition_expression("#kind = :kind")
                .expression_attribute_names("#kind", KIND)
                .expression_attribute_values(":kind", s(kind))
                .set_exclusive_start_key(from.take());
            let page = timed(self.operation, query.send())
                .await
                .map_err(|failed| failed.into_store_error(ACTION, table))?;
            for item in page.items() {
                found.extend(listed(item, kind));
            }
            match page.last_evaluated_key {
                Some(last) if !last.is_empty() => from = Some(last),
                _ => return Ok(found),
            }
        }
        Err(permanent(ACTION, format!("the index of table {table} has more than {PAGES} pages of {kind}")))
    }

    /// Reads items by key, consistently, whatever was left unprocessed again; at most [`BATCH`] keys.
    async fn batch_get(&self, table: &str, keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        const ACTION: &str = "read records";
        let mut found = Vec::new();
        let mut keys = keys;
        for round in 0..ROUNDS {
            let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
            let wanted = wanted.map_err(|error| permanent(ACTION, error))?;
            let call = self.client.batch_get_item().request_items(table, wanted);
            let answer = timed(self.operation, call.send())
                .await
                .map_err(|failed| failed.into_store_error(ACTION, table))?;
            found.extend(answer.responses.unwrap_or_default().remove(table).unwrap_or_default());
            let left = answer.unprocessed_keys.unwrap_or_default().remove(table);
            keys = left.map(|left| left.keys).unwrap_or_default();
            if keys.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(50 << round)).await;
        }
        Err(passing(ACTION, format!("table {table} left keys unprocessed {ROUNDS} times")))
    }

    async fn get(&self, action: &'static str, pk: &str, sk: &str) -> Result<Option<Item>, StoreError> {
        let table = &self.tables.state;
        let call = self.client.get_item().table_name(table).consistent_read(true).set_key(Some(key(pk, sk)));
        let answer = timed(self.operation, call.send())
            .await
            .map_err(|failed| failed.into_store_error(action, table))?;
        Ok(answer.item)
    }

    /// Commands young enough to count, the newest [`COMMANDS`] of them, oldest first.
    async fn commands(&self, key: &ServiceKey) -> Result<Vec<(String, Result<Command, String>)>, StoreError> {
        let table = &self.tables.records;
        let now = self.now_ms();
        let at = |ms: u64| Ulid::from_parts(ms, 0).to_string();
        let mut commands = Vec::new();
        let mut from: Option<Item> = None;
        // Each page brings at least one command or is the last.
        while commands.len() < COMMANDS {
            let query = self
                .client
                .query()
                .table_name(table)
                .consistent_read(true)
                .scan_index_forward(false)
                .key_condition_expression("#pk = :pk AND #sk BETWEEN :from AND :to")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_names("#sk", SK)
                .expression_attribute_values(":pk", s(RecordKind::Command.pk(key)))
                .expression_attribute_values(":from", s(at(now.saturating_sub(COMMAND_AGE_MS))))
                .expression_attribute_values(":to", s(at(now.saturating_add(COMMAND_AGE_MS))))
                .limit(100)
                .set_exclusive_start_key(from.take());
            let page = timed(self.operation, query.send())
                .await
                .map_err(|failed| failed.into_store_error("read commands", table))?;
            let empty = page.items().is_empty();
            commands.extend(page.items().iter().filter_map(command));
            match page.last_evaluated_key {
                Some(last) if !last.is_empty() && !empty => from = Some(last),
                _ => break,
            }
        }
        commands.truncate(COMMANDS);
        commands.reverse();
        Ok(commands)
    }
}

/// The service that an entry of the index names; other keys are reported and passed over.
fn listed(item: &Item, kind: &str) -> Option<ServiceKey> {
    let (pk, sk) = (text(item, PK).unwrap_or_default(), text(item, SK).unwrap_or_default());
    let right_sort_key = match kind {
        STATE_KIND => sk == CURRENT,
        _ => sk == SPEC || kind == RecordKind::Command.as_str(),
    };
    let named = tables::service_of(pk).filter(|_| right_sort_key);
    if named.is_none() {
        warn!(pk, sk, kind, "item with a foreign key is ignored");
    }
    named
}

fn command(item: &Item) -> Option<(String, Result<Command, String>)> {
    let id = text(item, SK)?.to_owned();
    let read = if Ulid::from_string(&id).is_ok() {
        serde_json::from_value(to_document(item)).map_err(|error| error.to_string())
    } else {
        Err("its sort key is not a ULID".to_owned())
    };
    Some((id, read))
}

pub(super) fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([(PK.to_owned(), s(pk)), (SK.to_owned(), s(sk))])
}

/// What a state item says, to a reader that may be older than its writer.
fn remembered(key: &ServiceKey, item: &Item) -> Result<Remembered, StoreError> {
    let damaged = |detail: String| StoreError::Damaged { pk: tables::state_pk(key), detail };
    let number =
        |name: &str| count(item, name).ok_or_else(|| damaged(format!("{name} is missing or no count")));
    let min_reader = number("minReader")?;
    if min_reader > READER {
        return Err(StoreError::TooNew { key: key.clone(), min_reader, mine: READER });
    }
    let facts = item.get("facts").map(to_json).ok_or_else(|| damaged("facts are missing".to_owned()))?;
    let facts = lenient::from_json(facts).map_err(|error| damaged(format!("facts: {error}")))?;
    let status = item.get("status").map(to_json).and_then(|status| readable_status(key, status));
    Ok(Remembered { rev: number("rev")?, facts, status })
}

/// A status is for people: one that cannot be read costs its history of transitions, not the release.
fn readable_status<T: serde::de::DeserializeOwned>(key: &ServiceKey, status: Value) -> Option<T> {
    lenient::from_json(status)
        .inspect_err(|error| warn!(service = %key, %error, "the status as written last can't be read"))
        .ok()
}

#[async_trait]
impl Store for DynamoStore {
    async fn list(&self) -> Result<BTreeSet<ServiceKey>, StoreError> {
        let mut found = self.of_kind(&self.tables.state, STATE_KIND).await?;
        for kind in RecordKind::ALL {
            found.append(&mut self.of_kind(&self.tables.records, kind.as_str()).await?);
        }
        Ok(found)
    }

    async fn wishes(&self, service: &ServiceKey) -> Result<Wishes, StoreError> {
        let [service_pk, desired_pk] =
            [RecordKind::ManagedService, RecordKind::DesiredRelease].map(|kind| kind.pk(service));
        let keys = vec![key(&service_pk, SPEC), key(&desired_pk, SPEC)];
        let items = self.batch_get(&self.tables.records, keys).await?;
        let document = |pk: &str| items.iter().find(|item| text(item, PK) == Some(pk)).map(to_document);
        let commands = self.commands(service).await?;
        Ok(Wishes { service: document(&service_pk), desired: document(&desired_pk), commands })
    }

    async fn remembered(&self, service: &ServiceKey) -> Result<Option<Remembered>, StoreError> {
        let item = self.get("read state", &tables::state_pk(service), CURRENT).await?;
        item.map(|item| remembered(service, &item)).transpose()
    }

    async fn write(
        &self,
        service: &ServiceKey,
        write: StateWrite,
        permit: &Permit,
    ) -> Result<u64, StoreError> {
        Box::pin(self.write_state(service, write, permit)).await
    }
}
