//! What the command line and the API read and write. None of it needs the lease: people's records are
//! theirs, and status and history are only read.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;
use ulid::Ulid;

use super::{BATCH, DynamoStore, key, readable_status};
use crate::ports::{HistoryItem, Store as _, StoreError};
use crate::records::{Command, ReleaseStatus, ServiceKey};
use crate::store::convert::{Item, n, s, text, to_document, to_fields, to_json};
use crate::store::error::{RecordError, permanent, timed};
use crate::store::lenient;
use crate::store::tables::{self, CURRENT, EXPIRE_AT, PK, RecordKind, SK, SPEC};

/// A command item is kept for a day, for those who look at the table.
const COMMAND_KEPT_SECS: u64 = 24 * 3600;

/// Ended releases, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// At most as many as asked for.
    pub items: Vec<HistoryItem>,
    /// Pass it as `after` for the next page; none at the end.
    pub next: Option<String>,
}

impl DynamoStore {
    /// Ended releases, newest first, at most `limit` (1 to 100), those older than `after` (from
    /// [`HistoryPage::next`]).
    pub async fn history(
        &self,
        service: &ServiceKey,
        limit: u16,
        after: Option<&str>,
    ) -> Result<HistoryPage, StoreError> {
        let table = &self.tables.state;
        let pk = tables::history_pk(service);
        let query = self
            .client
            .query()
            .table_name(table)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(i32::from(limit.clamp(1, 100)))
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", s(pk.clone()))
            .set_exclusive_start_key(after.map(|sk| key(&pk, sk)));
        let page = timed(self.operation, query.send())
            .await
            .map_err(|failed| failed.into_store_error("read history", table))?;
        let next = page.last_evaluated_key().and_then(|last| text(last, SK)).map(str::to_owned);
        let read = |item: &Item| {
            lenient::from_json(to_document(item))
                .map_err(|error| StoreError::Damaged { pk: pk.clone(), detail: error.to_string() })
        };
        Ok(HistoryPage { items: page.items().iter().map(read).collect::<Result<_, _>>()?, next })
    }

    /// The status as written last; none when the daemon has not seen the service yet. Unlike the daemon, a
    /// reader for people takes what a newer daemon wrote, as far as it understands it.
    pub async fn get_status(&self, service: &ServiceKey) -> Result<Option<ReleaseStatus>, StoreError> {
        let item = self.get("read status", &tables::state_pk(service), CURRENT).await?;
        let Some(status) = item.as_ref().and_then(|item| item.get("status")) else { return Ok(None) };
        lenient::from_json(to_json(status))
            .map(Some)
            .map_err(|error| StoreError::Damaged { pk: tables::state_pk(service), detail: error.to_string() })
    }

    /// Every service with its status, for lists; a status that cannot be read is left out, with a warning.
    pub async fn list_services(&self) -> Result<Vec<(ServiceKey, Option<ReleaseStatus>)>, StoreError> {
        let keys: Vec<ServiceKey> = self.list().await?.into_iter().collect();
        let mut services = Vec::with_capacity(keys.len());
        for some in keys.chunks(BATCH) {
            let wanted = some.iter().map(|service| key(&tables::state_pk(service), CURRENT)).collect();
            let items = self.batch_get(&self.tables.state, wanted).await?;
            for service in some {
                let pk = tables::state_pk(service);
                let item = items.iter().find(|item| text(item, PK) == Some(&pk));
                let status = item.and_then(|item| item.get("status")).map(to_json);
                services.push((service.clone(), status.and_then(|status| readable_status(service, status))));
            }
        }
        Ok(services)
    }

    /// Stores a `ManagedService` or `DesiredRelease` document under the key that its metadata names, in place
    /// of the one before. Judging it is the caller's part.
    pub async fn put_record(&self, document: &Value) -> Result<ServiceKey, RecordError> {
        let member = |path: &'static str, value: &Value| {
            value.as_str().map(str::to_owned).ok_or(RecordError::Unusable {
                field: path,
                detail: "it is missing or not a text".to_owned(),
            })
        };
        let kind = member("kind", &document["kind"])?;
        let Some(kind @ (RecordKind::ManagedService | RecordKind::DesiredRelease)) =
            RecordKind::from_name(&kind)
        else {
            let detail = format!("\"{kind}\" is neither ManagedService nor DesiredRelease");
            return Err(RecordError::Unusable { field: "kind", detail });
        };
        let namespace = member("metadata.namespace", &document["metadata"]["namespace"])?;
        let name = member("metadata.name", &document["metadata"]["name"])?;
        let service: ServiceKey =
            format!("{namespace}/{name}").parse().map_err(|error: crate::records::names::BadName| {
                RecordError::Unusable { field: "metadata", detail: error.to_string() }
            })?;
        let unusable =
            |error: serde_dynamo::Error| RecordError::Unusable { field: "value", detail: error.to_string() };
        let fields = to_fields(document).map_err(unusable)?;
        self.put(&kind.pk(&service), SPEC, fields, false).await.map_err(RecordError::Store)?;
        Ok(service)
    }

    /// Removes a `ManagedService` or `DesiredRelease`; answers whether there was one.
    pub async fn delete_record(&self, service: &ServiceKey, kind: RecordKind) -> Result<bool, StoreError> {
        let table = &self.tables.records;
        let call = self
            .client
            .delete_item()
            .table_name(table)
            .set_key(Some(key(&kind.pk(service), SPEC)))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllOld);
        let answer = timed(self.operation, call.send())
            .await
            .map_err(|failed| failed.into_store_error("delete the record", table))?;
        Ok(answer.attributes.is_some_and(|old| !old.is_empty()))
    }

    /// Stores a command under a new id and answers the id, by which status tells what became of it.
    pub async fn put_command(&self, service: &ServiceKey, command: &Command) -> Result<String, StoreError> {
        let id = Ulid::from_parts(self.now_ms(), rand::random()).to_string();
        let mut fields = to_fields(command).map_err(|error| permanent("store the command", error))?;
        let expires = self.now_ms() / 1000 + COMMAND_KEPT_SECS;
        fields.entry(EXPIRE_AT.to_owned()).or_insert_with(|| n(expires));
        self.put(&RecordKind::Command.pk(service), &id, fields, true).await?;
        Ok(id)
    }

    async fn put(&self, pk: &str, sk: &str, fields: Item, new: bool) -> Result<(), StoreError> {
        let table = &self.tables.records;
        let mut item = fields;
        item.extend(key(pk, sk));
        // An absent optional field is left out, as a person would; NULL would be another document.
        item.retain(|_, value| !matches!(value, AttributeValue::Null(_)));
        let mut call = self.client.put_item().table_name(table).set_item(Some(item));
        if new {
            call =
                call.condition_expression("attribute_not_exists(#pk)").expression_attribute_names("#pk", PK);
        }
        let done = timed(self.operation, call.send()).await;
        // The SDK repeats a call whose answer was lost; ids are new each time, so the item there is ours.
        match done {
            Err(failed) if new && failed.code() == Some("ConditionalCheckFailedException") => Ok(()),
            other => other.map(drop).map_err(|failed| failed.into_store_error("store the record", table)),
        }
    }
}
