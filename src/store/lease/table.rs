//! The lease item in the state table.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::lease::{LeaseItem, Renewal, Taken};
use crate::ports::StoreError;
use crate::store::convert::{Item, count, n, s, text};
use crate::store::error::timed;
use crate::store::tables::{LEASE_PK, LEASE_SK, PK, SK};

/// The four calls on the lease item. All are safe to repeat.
#[async_trait]
pub trait LeaseTable: Send + Sync {
    /// Reads the item, consistently.
    async fn read(&self) -> Result<Option<LeaseItem>, StoreError>;
    /// Makes `holder` the owner under the next epoch, if the item is still `seen`.
    async fn take(&self, holder: &str, seen: Option<&LeaseItem>) -> Result<Taken, StoreError>;
    /// Adds one to the beat, if the owner is still `holder` under `epoch`.
    async fn renew(&self, holder: &str, epoch: u64) -> Result<Renewal, StoreError>;
    /// Marks the item as free, if the owner is still `holder` under `epoch`.
    async fn release(&self, holder: &str, epoch: u64) -> Result<Renewal, StoreError>;
}

/// The item in `DynamoDB`.
#[derive(Clone, Debug)]
pub struct DynamoLease {
    client: Client,
    table: String,
    operation: Duration,
}

impl DynamoLease {
    /// In the state table; `operation` is the longest that a call may take.
    pub fn new(client: Client, state_table: String, operation: Duration) -> Self {
        Self { client, table: state_table, operation }
    }

    fn update(&self, expression: &str, condition: &str, values: Item) -> UpdateItemFluentBuilder {
        // Every name that an expression uses, and no other: `DynamoDB` refuses unused ones.
        let used =
            |name: &&str| [expression, condition].iter().any(|text| text.contains(&format!("#{name}")));
        let names = ["pk", "epoch", "beat", "holder", "released"].into_iter().filter(used);
        let names: HashMap<_, _> = names.map(|name| (format!("#{name}"), name.to_owned())).collect();
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key()))
            .update_expression(expression)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
    }

    /// `false`: the condition did not hold.
    async fn send(&self, action: &'static str, call: UpdateItemFluentBuilder) -> Result<bool, StoreError> {
        match timed(self.operation, call.send()).await {
            Ok(_) => Ok(true),
            Err(failed) if failed.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(failed) => Err(failed.into_store_error(action, &self.table)),
        }
    }
}

fn key() -> Item {
    HashMap::from([(PK.to_owned(), s(LEASE_PK)), (SK.to_owned(), s(LEASE_SK))])
}

fn values<const N: usize>(values: [(&str, AttributeValue); N]) -> Item {
    values.into_iter().map(|(name, value)| (format!(":{name}"), value)).collect()
}

#[async_trait]
impl LeaseTable for DynamoLease {
    async fn read(&self) -> Result<Option<LeaseItem>, StoreError> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true).set_key(Some(key()));
        let answer = timed(self.operation, call.send())
            .await
            .map_err(|failed| failed.into_store_error("read the lease", &self.table))?;
        let Some(item) = answer.item else { return Ok(None) };
        let damaged = |name: &str| StoreError::Damaged {
            pk: LEASE_PK.to_owned(),
            detail: format!("{name} is missing or of the wrong type"),
        };
        Ok(Some(LeaseItem {
            epoch: count(&item, "epoch").ok_or_else(|| damaged("epoch"))?,
            beat: count(&item, "beat").ok_or_else(|| damaged("beat"))?,
            holder: text(&item, "holder").ok_or_else(|| damaged("holder"))?.to_owned(),
            released: item.get("released").and_then(|flag| flag.as_bool().ok()).copied().unwrap_or(false),
        }))
    }

    async fn take(&self, holder: &str, seen: Option<&LeaseItem>) -> Result<Taken, StoreError> {
        let epoch = seen.map_or(0, |seen| seen.epoch) + 1;
        let set = "SET #holder = :me, #epoch = :epoch, #beat = :beat, #released = :no";
        let beat = seen.map_or(0, |seen| seen.beat) + 1;
        let mut all = values([
            ("me", s(holder)),
            ("epoch", n(epoch)),
            ("beat", n(beat)),
            ("no", AttributeValue::Bool(false)),
        ]);
        let condition = match seen {
            None => "attribute_not_exists(#pk)",
            Some(seen) => {
                all.extend(values([("was", n(seen.epoch)), ("stood", n(seen.beat))]));
                "#epoch = :was AND #beat = :stood"
            }
        };
        let done = self.send("take the lease", self.update(set, condition, all)).await?;
        Ok(if done { Taken::Epoch(epoch) } else { Taken::Lost })
    }

    async fn renew(&self, holder: &str, epoch: u64) -> Result<Renewal, StoreError> {
        let all = values([
            ("me", s(holder)),
            ("epoch", n(epoch)),
            ("one", n(1)),
            ("no", AttributeValue::Bool(false)),
        ]);
        let condition = "#holder = :me AND #epoch = :epoch AND #released = :no";
        let done =
            self.send("renew the lease", self.update("SET #beat = #beat + :one", condition, all)).await?;
        Ok(if done { Renewal::Done } else { Renewal::Lost })
    }

    async fn release(&self, holder: &str, epoch: u64) -> Result<Renewal, StoreError> {
        let all = values([("me", s(holder)), ("epoch", n(epoch)), ("yes", AttributeValue::Bool(true))]);
        let condition = "#holder = :me AND #epoch = :epoch";
        let call = self.update("SET #released = :yes", condition, all);
        Ok(if self.send("give up the lease", call).await? { Renewal::Done } else { Renewal::Lost })
    }
}
