//! What the command line needs of the tables, so that its tests can bring a table of their own.

use async_trait::async_trait;
use serde_json::Value;

use crate::ports::{Store, StoreError, Wishes};
use crate::records::{Command, ReleaseStatus, ServiceKey};
use crate::store::{DynamoStore, HistoryPage, RecordError, RecordKind};

/// The two tables, as people use them.
#[async_trait]
pub trait Desk: Send + Sync {
    /// What people wrote about a service.
    async fn wishes(&self, key: &ServiceKey) -> Result<Wishes, StoreError>;
    /// What the daemon says about it.
    async fn status(&self, key: &ServiceKey) -> Result<Option<ReleaseStatus>, StoreError>;
    /// Every service with its status.
    async fn services(&self) -> Result<Vec<(ServiceKey, Option<ReleaseStatus>)>, StoreError>;
    /// Ended releases, newest first.
    async fn ended(
        &self,
        key: &ServiceKey,
        limit: u16,
        after: Option<&str>,
    ) -> Result<HistoryPage, StoreError>;
    /// Stores a record.
    async fn put(&self, document: &Value) -> Result<(), RecordError>;
    /// Deletes a record; answers whether there was one.
    async fn delete(&self, key: &ServiceKey, kind: RecordKind) -> Result<bool, StoreError>;
    /// Stores a command; answers its id.
    async fn send(&self, key: &ServiceKey, command: &Command) -> Result<String, StoreError>;
}

#[async_trait]
impl Desk for DynamoStore {
    async fn wishes(&self, key: &ServiceKey) -> Result<Wishes, StoreError> {
        Store::wishes(self, key).await
    }
    async fn status(&self, key: &ServiceKey) -> Result<Option<ReleaseStatus>, StoreError> {
        self.get_status(key).await
    }
    async fn services(&self) -> Result<Vec<(ServiceKey, Option<ReleaseStatus>)>, StoreError> {
        self.list_services().await
    }
    async fn ended(
        &self,
        key: &ServiceKey,
        limit: u16,
        after: Option<&str>,
    ) -> Result<HistoryPage, StoreError> {
        self.history(key, limit, after).await
    }
    async fn put(&self, document: &Value) -> Result<(), RecordError> {
        self.put_record(document).await.map(drop)
    }
    async fn delete(&self, key: &ServiceKey, kind: RecordKind) -> Result<bool, StoreError> {
        self.delete_record(key, kind).await
    }
    async fn send(&self, key: &ServiceKey, command: &Command) -> Result<String, StoreError> {
        self.put_command(key, command).await
    }
}
