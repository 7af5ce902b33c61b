//! The `DynamoDB` side: two tables, one lease, one stream.
//!
//! `records` is what people write, `state` is what the daemon writes. Every state write is conditional on the
//! revision it was decided on and on the lease epoch, and is sent only while the lease holds. Streams wake,
//! nothing more.
//!
//! **Architecture Invariant:** nothing here decides about releases, and no table is ever scanned.

mod convert;
mod dynamo;
mod error;
pub mod lease;
mod lenient;
pub mod stream;
pub mod tables;

pub use dynamo::{DynamoStore, HistoryPage, MIN_READER, READER, STATE_FORMAT};
pub use error::RecordError;
pub use tables::{RecordKind, Tables};
