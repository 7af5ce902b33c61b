//! The two tables: their names, their keys, how they are made.
//!
//! `deploy/` makes the real ones; a test holds its template to [`definitions`], which the sandbox and the
//! tests make theirs from.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, StreamSpecification, StreamViewType, TableStatus,
    TimeToLiveSpecification,
};

use super::error::{passing, permanent, timed};
use crate::ports::StoreError;
use crate::records::ServiceKey;

/// Partition key of both tables.
pub const PK: &str = "pk";
/// Sort key of both tables.
pub const SK: &str = "sk";
/// The attribute that puts an item into [`BY_KIND`].
pub const KIND: &str = "kind";
/// The sparse index of both tables: partition key [`KIND`], sort key [`PK`], keys only.
pub const BY_KIND: &str = "by-kind";
/// The time-to-live attribute of both tables, seconds since 1970.
pub const EXPIRE_AT: &str = "expireAt";
/// [`KIND`] of a state item while its service is claimed or busy; a tombstone has none.
pub const STATE_KIND: &str = "State";

/// The names of the two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// What people write.
    pub records: String,
    /// What the daemon writes.
    pub state: String,
}

/// The kinds of record that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// `service#`
    ManagedService,
    /// `desired#`
    DesiredRelease,
    /// `command#`
    Command,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ManagedService, Self::DesiredRelease, Self::Command];

    /// The value of the record's `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ManagedService => "ManagedService",
            Self::DesiredRelease => "DesiredRelease",
            Self::Command => "Command",
        }
    }

    /// From the value of a record's `kind`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::ManagedService => "service#",
            Self::DesiredRelease => "desired#",
            Self::Command => "command#",
        }
    }

    /// The partition key of a record.
    pub fn pk(self, key: &ServiceKey) -> String {
        format!("{}{key}", self.prefix())
    }
}

/// The sort key of `service#` and `desired#` records.
pub const SPEC: &str = "spec";
pub(super) const CURRENT: &str = "current";
pub(super) const OWNER: &str = "owner";
/// The item that says how many shards there are.
pub(super) const LAYOUT: (&str, &str) = ("lease#0", "lease");
/// The partition of the members; the sort key is a member's name.
pub(super) const MEMBERS_PK: &str = "lease#members";
/// The partition of the shards; see [`shard_sk`].
pub(super) const SHARDS_PK: &str = "lease#shards";
const STATE_PREFIX: &str = "state#";

pub(super) fn state_pk(key: &ServiceKey) -> String {
    format!("{STATE_PREFIX}{key}")
}

pub(super) fn history_pk(key: &ServiceKey) -> String {
    format!("history#{key}")
}

/// Sorts by generation, then attempt: 9 and 2 digits.
pub(super) fn history_sk(generation: u64, attempt: u32) -> String {
    format!("{generation:09}.{attempt:02}")
}

/// Sorts by number: 5 digits.
pub(super) fn shard_sk(shard: u16) -> String {
    format!("{shard:05}")
}

pub(super) fn claim_pk(arn: &str) -> String {
    format!("claim#{arn}")
}

/// The service that an item of people's or the daemon's is about; `None` for keys of other shapes.
pub fn service_of(pk: &str) -> Option<ServiceKey> {
    let mut prefixes = RecordKind::ALL.map(RecordKind::prefix).into_iter().chain([STATE_PREFIX]);
    prefixes.find_map(|prefix| pk.strip_prefix(prefix))?.parse().ok()
}

/// What a table is made of. Billing is on demand; point-in-time recovery and deletion protection are the
/// template's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDefinition {
    /// Its name.
    pub name: String,
    /// Partition and sort key, both texts.
    pub key: [&'static str; 2],
    /// The one index, keys only: its name, its partition and sort key, both texts.
    pub index: (&'static str, [&'static str; 2]),
    /// Whether it has a stream of keys.
    pub stream_of_keys: bool,
    /// The time-to-live attribute.
    pub expires_by: &'static str,
}

/// Both tables: `records`, then `state`.
///
/// `state` has the index too: a service whose records were all deleted while a release was in flight is
/// found again by its state alone, also by a daemon that has just started.
pub fn definitions(tables: &Tables) -> [TableDefinition; 2] {
    let table = |name: &String, stream_of_keys| TableDefinition {
        name: name.clone(),
        key: [PK, SK],
        index: (BY_KIND, [KIND, PK]),
        stream_of_keys,
        expires_by: EXPIRE_AT,
    };
    [table(&tables.records, true), table(&tables.state, false)]
}

const CREATE: &str = "create a table";
/// How often a new table is looked at, 200 ms apart.
const LOOKS: u32 = 150;
const CALL: std::time::Duration = std::time::Duration::from_secs(10);

/// Makes both tables and waits until they can be used. A table that exists is left as it is. For the
/// sandbox, the demo and tests.
pub async fn create_tables(client: &Client, tables: &Tables) -> Result<(), StoreError> {
    for definition in definitions(tables) {
        create(client, &definition).await?;
        wait_until_active(client, &definition.name).await?;
        expire(client, &definition).await?;
    }
    Ok(())
}

async fn create(client: &Client, table: &TableDefinition) -> Result<(), StoreError> {
    let built = |error: aws_sdk_dynamodb::error::BuildError| permanent(CREATE, error);
    let key = |[hash, range]: [&str; 2]| -> Result<Vec<KeySchemaElement>, _> {
        [(hash, KeyType::Hash), (range, KeyType::Range)]
            .into_iter()
            .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build())
            .collect()
    };
    let mut call = client.create_table().table_name(&table.name).billing_mode(BillingMode::PayPerRequest);
    for name in [PK, SK, KIND] {
        let text = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
        call = call.attribute_definitions(text.build().map_err(built)?);
    }
    let (name, index_key) = table.index;
    let index = GlobalSecondaryIndex::builder()
        .index_name(name)
        .set_key_schema(Some(key(index_key).map_err(built)?))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .map_err(built)?;
    call = call.set_key_schema(Some(key(table.key).map_err(built)?)).global_secondary_indexes(index);
    if table.stream_of_keys {
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::KeysOnly)
            .build()
            .map_err(built)?;
        call = call.stream_specification(stream);
    }
    match timed(CALL, call.send()).await {
        Ok(_) => Ok(()),
        Err(failed) if failed.code() == Some("ResourceInUseException") => Ok(()),
        Err(failed) => Err(failed.into_store_error(CREATE, &table.name)),
    }
}

async fn wait_until_active(client: &Client, name: &str) -> Result<(), StoreError> {
    for _ in 0..LOOKS {
        let seen = timed(CALL, client.describe_table().table_name(name).send())
            .await
            .map_err(|failed| failed.into_store_error(CREATE, name))?;
        if seen.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    Err(passing(CREATE, format!("table {name} is not ACTIVE yet")))
}

async fn expire(client: &Client, table: &TableDefinition) -> Result<(), StoreError> {
    let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(table.expires_by);
    let ttl = ttl.build().map_err(|error| permanent(CREATE, error))?;
    let call = client.update_time_to_live().table_name(&table.name).time_to_live_specification(ttl);
    match timed(CALL, call.send()).await {
        Ok(_) => Ok(()),
        Err(failed)
            if failed
                .service()
                .and_then(|error| error.message())
                .is_some_and(|m| m.contains("already enabled")) =>
        {
            Ok(())
        }
        Err(failed) => Err(failed.into_store_error(CREATE, &table.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_documented_shapes_and_are_read_back() {
        let key: ServiceKey = "payments/checkout".parse().unwrap();
        assert_eq!(RecordKind::Command.pk(&key), "command#payments/checkout");
        assert_eq!(history_sk(41, 1), "000000041.01");
        assert_eq!(claim_pk("arn:x"), "claim#arn:x");
        for pk in ["service#", "desired#", "command#", "state#"] {
            assert_eq!(service_of(&format!("{pk}payments/checkout")), Some(key.clone()));
        }
        for other in ["claim#payments/checkout", "service#payments", "service#payments/Check*", "lease#0"] {
            assert_eq!(service_of(other), None, "{other}");
        }
    }
}
