//! The items of the lease in the state table.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Config;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::lease::{Claim, Layout, Look, Member, Owner, Shard, ShardCount, Written};
use crate::ports::StoreError;
use crate::store::convert::{Item, count, n, s, text};
use crate::store::error::timed;
use crate::store::tables::{LAYOUT, MEMBERS_PK, PK, SHARDS_PK, SK, shard_sk};

/// Pages of one partition of the lease, of 1 MB each: shards fit on one, and so do thousands of members.
const PAGES: usize = 8;

/// The calls on the items of the lease. Each write is conditional and, but for the join, safe to repeat.
#[async_trait]
pub trait LeaseTable: Send + Sync {
    /// Reads everything, consistently: **first** the shards, and when they are there, members and layout.
    async fn look(&self) -> Result<Look, StoreError>;
    /// Writes the count, if the layout still says `seen`.
    async fn found(&self, shards: ShardCount, seen: Option<u16>) -> Result<Written, StoreError>;
    /// Makes a member with beat 1, unless it is there. Sent once, and never repeated by the client.
    async fn join(&self, member: &str, shards: ShardCount) -> Result<Written, StoreError>;
    /// Adds one to a member's beat, if it is there and its beat is at least `floor`.
    async fn beat(&self, member: &str, floor: u64) -> Result<Written, StoreError>;
    /// Removes a member, if its beat is still this one; none: whatever its beat is.
    async fn remove(&self, member: &str, beat: Option<u64>) -> Result<Written, StoreError>;
    /// Makes a member the holder of a shard under a new epoch, if the epoch is still the one that was seen.
    async fn take(&self, member: &str, claim: Claim) -> Result<Written, StoreError>;
    /// Takes a member's name off a shard, if it is still its holder under this epoch.
    async fn free(&self, member: &str, shard: Shard, epoch: u64) -> Result<Written, StoreError>;
}

/// The items in `DynamoDB`.
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

    async fn update<const N: usize>(
        &self,
        action: &'static str,
        key: Item,
        expressions: (&str, &str),
        values: [(&str, AttributeValue); N],
    ) -> Result<Written, StoreError> {
        let (expression, condition) = expressions;
        // Every name that an expression uses, and no other: `DynamoDB` refuses unused ones.
        let used =
            |name: &&str| [expression, condition].iter().any(|text| text.contains(&format!("#{name}")));
        let names = ["pk", "epoch", "beat", "holder", "shards"].into_iter().filter(used);
        let names: HashMap<_, _> = names.map(|name| (format!("#{name}"), name.to_owned())).collect();
        let values = values.into_iter().map(|(name, value)| (format!(":{name}"), value)).collect();
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .update_expression(expression)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values));
        self.send(action, Box::pin(call.send())).await
    }

    async fn send<T, E>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> Result<Written, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match timed(self.operation, call).await {
            Ok(_) => Ok(Written::Done),
            Err(failed) if failed.code() == Some("ConditionalCheckFailedException") => Ok(Written::Refused),
            Err(failed) => Err(failed.into_store_error(action, &self.table)),
        }
    }

    async fn partition(&self, pk: &str) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        let mut from = None;
        for _ in 0..PAGES {
            let query = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("#pk = :pk")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_values(":pk", s(pk))
                .set_exclusive_start_key(from);
            let page = timed(self.operation, query.send())
                .await
                .map_err(|failed| failed.into_store_error("read the lease", &self.table))?;
            items.extend(page.items.unwrap_or_default());
            match page.last_evaluated_key {
                Some(last) if !last.is_empty() => from = Some(last),
                _ => return Ok(items),
            }
        }
        Err(StoreError::Damaged { pk: pk.to_owned(), detail: format!("more than {PAGES} pages") })
    }

    async fn layout(&self) -> Result<Layout, StoreError> {
        let (pk, sk) = LAYOUT;
        let call =
            self.client.get_item().table_name(&self.table).consistent_read(true).set_key(Some(key(pk, sk)));
        let answer = timed(self.operation, call.send())
            .await
            .map_err(|failed| failed.into_store_error("read the lease", &self.table))?;
        let item = answer.item.unwrap_or_default();
        Ok(Layout {
            shards: count(&item, "shards").map(|shards| small(pk, shards)).transpose()?,
            epoch: count(&item, "epoch").unwrap_or(0),
        })
    }
}

fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([(PK.to_owned(), s(pk)), (SK.to_owned(), s(sk))])
}

fn shard_key(shard: Shard) -> Item {
    key(SHARDS_PK, &shard_sk(shard.0))
}

fn damaged(pk: &str, detail: &str) -> StoreError {
    StoreError::Damaged { pk: pk.to_owned(), detail: detail.to_owned() }
}

fn small(pk: &str, number: u64) -> Result<u16, StoreError> {
    u16::try_from(number).map_err(|_| damaged(pk, "a number of shards is too large"))
}

fn member(item: &Item) -> Result<(String, Member), StoreError> {
    let missing = || damaged(MEMBERS_PK, "a member without name, beat or shards");
    let name = text(item, SK).ok_or_else(missing)?.to_owned();
    let beat = count(item, "beat").ok_or_else(missing)?;
    let shards = small(MEMBERS_PK, count(item, "shards").ok_or_else(missing)?)?;
    Ok((name, Member { beat, shards }))
}

fn owner(item: &Item) -> Result<(u16, Owner), StoreError> {
    let missing = || damaged(SHARDS_PK, "a shard without number or epoch");
    let shard = text(item, SK).and_then(|sk| sk.parse().ok()).ok_or_else(missing)?;
    let epoch = count(item, "epoch").ok_or_else(missing)?;
    Ok((shard, Owner { epoch, holder: text(item, "holder").map(str::to_owned) }))
}

#[async_trait]
impl LeaseTable for DynamoLease {
    async fn look(&self) -> Result<Look, StoreError> {
        // The order matters: a holder that is missing among the members must have been one before.
        let shards = self.partition(SHARDS_PK).await?;
        let (members, layout) = tokio::try_join!(self.partition(MEMBERS_PK), self.layout())?;
        Ok(Look {
            layout,
            members: members.iter().map(member).collect::<Result<_, _>>()?,
            shards: shards.iter().map(owner).collect::<Result<_, _>>()?,
        })
    }

    async fn found(&self, shards: ShardCount, seen: Option<u16>) -> Result<Written, StoreError> {
        let (action, set) = ("write the number of shards", "SET #shards = :shards");
        let key = key(LAYOUT.0, LAYOUT.1);
        let count = ("shards", n(u64::from(shards.get())));
        match seen {
            None => self.update(action, key, (set, "attribute_not_exists(#shards)"), [count]).await,
            Some(seen) => {
                let seen = ("seen", n(u64::from(seen)));
                self.update(action, key, (set, "#shards = :seen"), [count, seen]).await
            }
        }
    }

    async fn join(&self, member: &str, shards: ShardCount) -> Result<Written, StoreError> {
        let mut item = key(MEMBERS_PK, member);
        item.insert("beat".to_owned(), n(1));
        item.insert("shards".to_owned(), n(u64::from(shards.get())));
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            // A copy that lands late could bring a buried member back: the client must not repeat it by itself.
            .customize()
            .config_override(Config::builder().retry_config(RetryConfig::disabled()));
        self.send("join the replicas", Box::pin(call.send())).await
    }

    async fn beat(&self, member: &str, floor: u64) -> Result<Written, StoreError> {
        let expressions = ("SET #beat = #beat + :one", "#beat >= :floor");
        let values = [("one", n(1)), ("floor", n(floor))];
        self.update("renew the lease", key(MEMBERS_PK, member), expressions, values).await
    }

    async fn remove(&self, member: &str, beat: Option<u64>) -> Result<Written, StoreError> {
        let call = self.client.delete_item().table_name(&self.table).set_key(Some(key(MEMBERS_PK, member)));
        let call = match beat {
            Some(beat) => call
                .condition_expression("#beat = :beat")
                .expression_attribute_names("#beat", "beat")
                .expression_attribute_values(":beat", n(beat)),
            None => call,
        };
        self.send("remove a replica", Box::pin(call.send())).await
    }

    async fn take(&self, member: &str, claim: Claim) -> Result<Written, StoreError> {
        let set = "SET #holder = :me, #epoch = :epoch";
        let (action, key) = ("take a shard", shard_key(claim.shard));
        let (me, epoch) = (("me", s(member)), ("epoch", n(claim.epoch)));
        match claim.seen {
            None => self.update(action, key, (set, "attribute_not_exists(#pk)"), [me, epoch]).await,
            Some(seen) => {
                let seen = ("seen", n(seen));
                self.update(action, key, (set, "#epoch = :seen"), [me, epoch, seen]).await
            }
        }
    }

    async fn free(&self, member: &str, shard: Shard, epoch: u64) -> Result<Written, StoreError> {
        let expressions = ("REMOVE #holder", "#holder = :me AND #epoch = :epoch");
        let values = [("me", s(member)), ("epoch", n(epoch))];
        self.update("give up a shard", shard_key(shard), expressions, values).await
    }
}
