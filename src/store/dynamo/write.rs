//! The one conditional write of a service's state.
//!
//! A plain `UpdateItem`, or a transaction when claims or history go with it. The condition is the revision
//! the caller read and an epoch that is not newer than the caller's, so a late writer can't win. Each fact is
//! set by name (`facts.<field>`): a fact that this program does not know stays as it is. New knowledge must
//! therefore be a new top-level fact; inside of a known fact it lasts until an older daemon writes that fact.
//!
//! **Lost answers.** Every attempt carries a `writeId`, which is the transaction's `ClientRequestToken` too.
//! When the SDK repeats a call that had landed, its condition fails on our own write: the item that comes back
//! with the failure has our `writeId`, and the answer is yes. When no answer came at all, the item is read:
//! our `writeId` there means yes, another revision there means `Conflict`, the old revision means "not yet",
//! answered as `Unavailable` with `retry`. A request that lands after that moves `rev`, so the caller's next
//! write meets `Conflict`, reads, and finds its own earlier write: no write is ever lost or doubled.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use tracing::{debug, warn};
use ulid::Ulid;

use super::{DynamoStore, MIN_READER, STATE_FORMAT, key};
use crate::ports::{HistoryItem, Permit, StateWrite, StoreError};
use crate::records::ServiceKey;
use crate::store::convert::{self, Item, count, n, s, text, to_fields, to_value};
use crate::store::error::{CallFailed, passes, passing, permanent, timed};
use crate::store::tables::{self, CURRENT, EXPIRE_AT, KIND, OWNER, PK, SK, STATE_KIND};

const ACTION: &str = "write state";
/// Actions of one transaction (the API's limit).
const ACTIONS: usize = 100;
/// Bytes of one history item (`semantics` 1.8).
const HISTORY_BYTES: usize = 16 * 1024;
const HISTORY_KEPT_SECS: i64 = 180 * 24 * 3600;
/// Above this a state item is worth a word: `DynamoDB` takes 400 KB and charges by the KB.
const LARGE_STATE_BYTES: usize = 160 * 1024;

/// What became of one attempt.
enum Attempt {
    /// It is written.
    Landed,
    /// Somebody else wrote, or a newer epoch did.
    Conflict,
    /// Another service owns this.
    Taken { arn: String, owner: String },
    /// These were to be given up but belong to others.
    NotOurs(BTreeSet<String>),
    /// It may have landed.
    Perhaps(StoreError),
    /// It did not land and trying again does not help.
    Refused(StoreError),
}

impl DynamoStore {
    pub(super) async fn write_state(
        &self,
        service: &ServiceKey,
        write: StateWrite,
        permit: &Permit,
    ) -> Result<u64, StoreError> {
        let mut write = write;
        write.unclaim.retain(|arn| !write.claim.contains(arn));
        // Twice: the second without what turned out to belong to others.
        for _ in 0..2 {
            let longest_ms = u64::try_from(self.operation.as_millis()).unwrap_or(u64::MAX);
            if !permit.allows(longest_ms) {
                return Err(StoreError::NoLease);
            }
            let id = Ulid::from_parts(self.now_ms(), rand::random()).to_string();
            match self.attempt(service, &write, permit.epoch(), &id).await {
                Attempt::Landed => return Ok(write.rev + 1),
                Attempt::Conflict => return Err(StoreError::Conflict { key: service.clone() }),
                Attempt::Taken { arn, owner } => return Err(StoreError::ClaimTaken { arn, owner }),
                Attempt::Perhaps(error) => return self.settle(service, write.rev, &id, error).await,
                Attempt::Refused(error) => return Err(error),
                Attempt::NotOurs(arns) => {
                    warn!(service = %service, ?arns, "claims to be given up belong to others: left alone");
                    write.unclaim.retain(|arn| !arns.contains(arn));
                }
            }
        }
        Err(passing(ACTION, "claims changed hands while they were given up"))
    }

    async fn attempt(&self, service: &ServiceKey, write: &StateWrite, epoch: u64, id: &str) -> Attempt {
        let update = match StateUpdate::new(service, write, epoch, id) {
            Ok(update) => update,
            Err(error) => return Attempt::Refused(permanent(ACTION, error)),
        };
        if write.claim.is_empty() && write.unclaim.is_empty() && write.ended.is_empty() {
            self.update(update, id).await
        } else {
            self.transact(service, write, update, id).await
        }
    }

    async fn update(&self, update: StateUpdate, id: &str) -> Attempt {
        let table = &self.tables.state;
        let call = self
            .client
            .update_item()
            .table_name(table)
            .set_key(Some(update.key))
            .update_expression(update.expression)
            .condition_expression(update.condition)
            .set_expression_attribute_names(Some(update.names))
            .set_expression_attribute_values(Some(update.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match timed(self.operation, call.send()).await {
            Ok(_) => Attempt::Landed,
            Err(failed) => match failed.service() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => judged(refused.item(), id),
                _ => unanswered(failed, table),
            },
        }
    }

    async fn transact(
        &self,
        service: &ServiceKey,
        write: &StateWrite,
        update: StateUpdate,
        id: &str,
    ) -> Attempt {
        let table = &self.tables.state;
        let actions = match self.actions(service, write, update) {
            Ok(actions) if actions.len() <= ACTIONS => actions,
            Ok(actions) => {
                let many = format!("{} items in one write; at most {ACTIONS}", actions.len());
                return Attempt::Refused(permanent(ACTION, many));
            }
            Err(error) => return Attempt::Refused(error),
        };
        let call =
            self.client.transact_write_items().set_transact_items(Some(actions)).client_request_token(id);
        match timed(self.operation, call.send()).await {
            Ok(_) => Attempt::Landed,
            Err(failed) => match failed.service() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    cancelled_for(cancelled.cancellation_reasons(), write, id)
                }
                _ => unanswered(failed, table),
            },
        }
    }

    /// The actions in a fixed order, by which the reasons of a cancellation are read: the state, claims,
    /// claims given up, history.
    fn actions(
        &self,
        service: &ServiceKey,
        write: &StateWrite,
        update: StateUpdate,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let built = |error: aws_sdk_dynamodb::error::BuildError| permanent(ACTION, error);
        let table = &self.tables.state;
        let old = ReturnValuesOnConditionCheckFailure::AllOld;
        let state = Update::builder()
            .table_name(table)
            .set_key(Some(update.key))
            .update_expression(update.expression)
            .condition_expression(update.condition)
            .set_expression_attribute_names(Some(update.names))
            .set_expression_attribute_values(Some(update.values))
            .return_values_on_condition_check_failure(old.clone())
            .build()
            .map_err(built)?;
        let mut actions = vec![TransactWriteItem::builder().update(state).build()];
        let free_or_mine = "attribute_not_exists(#pk) OR #owner = :me";
        let me = s(service.to_string());
        for arn in &write.claim {
            let mut item = key(&tables::claim_pk(arn), OWNER);
            item.insert("owner".to_owned(), me.clone());
            item.insert("uid".to_owned(), s(&write.facts.uid));
            let put = Put::builder()
                .table_name(table)
                .set_item(Some(item))
                .condition_expression(free_or_mine)
                .expression_attribute_names("#pk", PK)
                .expression_attribute_names("#owner", "owner")
                .expression_attribute_values(":me", me.clone())
                .return_values_on_condition_check_failure(old.clone());
            actions.push(TransactWriteItem::builder().put(put.build().map_err(built)?).build());
        }
        for arn in &write.unclaim {
            let delete = Delete::builder()
                .table_name(table)
                .set_key(Some(key(&tables::claim_pk(arn), OWNER)))
                .condition_expression(free_or_mine)
                .expression_attribute_names("#pk", PK)
                .expression_attribute_names("#owner", "owner")
                .expression_attribute_values(":me", me.clone())
                .return_values_on_condition_check_failure(old.clone());
            actions.push(TransactWriteItem::builder().delete(delete.build().map_err(built)?).build());
        }
        // A release ends once: should it be written twice, the last word counts.
        let ended: BTreeMap<_, _> =
            write.ended.iter().map(|item| ((item.generation, item.attempt), item)).collect();
        for item in ended.into_values() {
            let item = history_item(service, item).map_err(|error| permanent(ACTION, error))?;
            let put = Put::builder().table_name(table).set_item(Some(item)).build().map_err(built)?;
            actions.push(TransactWriteItem::builder().put(put).build());
        }
        Ok(actions)
    }

    /// Finds out what became of a write whose answer is missing.
    async fn settle(
        &self,
        service: &ServiceKey,
        rev: u64,
        id: &str,
        error: StoreError,
    ) -> Result<u64, StoreError> {
        let seen = self.get(ACTION, &tables::state_pk(service), CURRENT).await;
        match seen {
            Ok(Some(item)) if text(&item, "writeId") == Some(id) => {
                debug!(service = %service, "a write without an answer is found to have landed");
                Ok(rev + 1)
            }
            Ok(item) if item.as_ref().and_then(|item| count(item, "rev")).unwrap_or(0) != rev => {
                Err(StoreError::Conflict { key: service.clone() })
            }
            Ok(_) => Err(error),
            Err(unread) => {
                debug!(service = %service, error = %unread, "the outcome of a write could not be read");
                Err(error)
            }
        }
    }
}

/// The state's condition failed: on our own write, when the SDK repeated a call that had landed.
fn judged(old: Option<&Item>, id: &str) -> Attempt {
    if old.and_then(|item| text(item, "writeId")) == Some(id) { Attempt::Landed } else { Attempt::Conflict }
}

fn unanswered<E>(failed: CallFailed<E>, table: &str) -> Attempt
where
    E: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let perhaps = failed.may_pass();
    let error = failed.into_store_error(ACTION, table);
    if perhaps { Attempt::Perhaps(error) } else { Attempt::Refused(error) }
}

/// Why a transaction was cancelled: the state first, since whoever lost the race must read again whatever
/// else is wrong.
fn cancelled_for(reasons: &[CancellationReason], write: &StateWrite, id: &str) -> Attempt {
    let failed =
        |index: usize| reasons.get(index).filter(|reason| reason.code() == Some("ConditionalCheckFailed"));
    if let Some(reason) = failed(0) {
        return judged(reason.item(), id);
    }
    for (index, arn) in write.claim.iter().enumerate() {
        if let Some(reason) = failed(1 + index) {
            let owner = reason.item().and_then(|item| text(item, "owner")).unwrap_or("another service");
            return Attempt::Taken { arn: arn.clone(), owner: owner.to_owned() };
        }
    }
    let first = 1 + write.claim.len();
    let not_ours: BTreeSet<String> = write
        .unclaim
        .iter()
        .enumerate()
        .filter(|(index, _)| failed(first + index).is_some())
        .map(|(_, arn)| arn.clone())
        .collect();
    if !not_ours.is_empty() {
        return Attempt::NotOurs(not_ours);
    }
    let codes = || reasons.iter().filter_map(CancellationReason::code).filter(|code| *code != "None");
    let words: Vec<_> = reasons.iter().filter_map(CancellationReason::message).collect();
    let because = format!("the transaction was cancelled: {}", words.join("; "));
    if codes().all(passes) {
        Attempt::Perhaps(passing(ACTION, because))
    } else {
        Attempt::Refused(permanent(ACTION, because))
    }
}

/// The update of the state item.
struct StateUpdate {
    key: Item,
    expression: String,
    condition: &'static str,
    names: HashMap<String, String>,
    values: Item,
}

impl StateUpdate {
    fn new(
        service: &ServiceKey,
        write: &StateWrite,
        epoch: u64,
        id: &str,
    ) -> Result<Self, serde_dynamo::Error> {
        let facts = to_fields(&write.facts)?;
        let status = to_value(&write.status)?;
        let large = convert::size(&facts) + convert::size(&Item::from([("status".into(), status.clone())]));
        if large > LARGE_STATE_BYTES {
            warn!(service = %service, bytes = large, "the state item is large");
        }
        let mut update = Self {
            key: key(&tables::state_pk(service), CURRENT),
            expression: String::new(),
            condition: "#rev = :was AND #epoch <= :epoch",
            names: HashMap::new(),
            values: Item::new(),
        };
        let mut set = vec![
            update.set("rev", n(write.rev + 1)),
            update.set("epoch", n(epoch)),
            update.set("writtenBy", s(env!("CARGO_PKG_VERSION"))),
            update.set("writeId", s(id)),
            update.set("uid", s(&write.facts.uid)),
            update.set("status", status),
        ];
        if write.rev == 0 {
            set.push(update.set("format", n(STATE_FORMAT)));
            set.push(update.set("minReader", n(MIN_READER)));
            set.push(update.set("facts", AttributeValue::M(facts)));
            update.names.insert("#pk".to_owned(), PK.to_owned());
            update.condition = "attribute_not_exists(#pk)";
        } else {
            update.names.insert("#facts".to_owned(), "facts".to_owned());
            update.values.insert(":was".to_owned(), n(write.rev));
            let sorted: BTreeMap<_, _> = facts.into_iter().collect();
            for (index, (fact, value)) in sorted.into_iter().enumerate() {
                update.names.insert(format!("#f{index}"), fact);
                update.values.insert(format!(":f{index}"), value);
                set.push(format!("#facts.#f{index} = :f{index}"));
            }
        }
        // The index holds the services that need passes even without a record.
        let listed = write.facts.is_busy() || !write.facts.claims.is_empty();
        let remove = if listed {
            set.push(update.set(KIND, s(STATE_KIND)));
            String::new()
        } else {
            update.names.insert("#kind".to_owned(), KIND.to_owned());
            " REMOVE #kind".to_owned()
        };
        update.expression = format!("SET {}{remove}", set.join(", "));
        Ok(update)
    }

    fn set(&mut self, name: &str, value: AttributeValue) -> String {
        self.names.insert(format!("#{name}"), name.to_owned());
        self.values.insert(format!(":{name}"), value);
        format!("#{name} = :{name}")
    }
}

fn history_item(service: &ServiceKey, ended: &HistoryItem) -> Result<Item, serde_dynamo::Error> {
    let mut ended = ended.clone();
    let build = |ended: &HistoryItem| -> Result<Item, serde_dynamo::Error> {
        let mut item = to_fields(ended)?;
        item.insert(PK.to_owned(), s(tables::history_pk(service)));
        item.insert(SK.to_owned(), s(tables::history_sk(ended.generation, ended.attempt)));
        let expires = ended.ended_at.as_second().saturating_add(HISTORY_KEPT_SECS);
        item.insert(EXPIRE_AT.to_owned(), n(u64::try_from(expires).unwrap_or(0)));
        Ok(item)
    };
    let item = build(&ended)?;
    let over = convert::size(&item).saturating_sub(HISTORY_BYTES);
    if over == 0 {
        return Ok(item);
    }
    // Of all fields only the sentence may be long.
    let mark = "…";
    let keep = ended.message.floor_char_boundary(ended.message.len().saturating_sub(over + mark.len()));
    ended.message.truncate(keep);
    ended.message.push_str(mark);
    build(&ended)
}

#[cfg(test)]
pub(super) mod tests;
