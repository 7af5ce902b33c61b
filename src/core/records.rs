//! The documents people write and read: [`ManagedService`], [`DesiredRelease`], [`Command`] and
//! [`ReleaseStatus`], with their bounds.
//!
//! Nothing here knows AWS, a table or a clock. Every type refuses what is out of bounds while it is
//! being read, and the JSON schemas in `crds-schemas/` are generated from the same types.
//!
//! **Architecture Invariant:** this module imports nothing of the rest of the crate.

pub mod check;
pub mod command;
pub mod desired_release;
pub mod managed_service;
pub mod names;
pub mod schema;
pub mod status;
pub mod strategy;
pub mod units;

pub use command::{Command, CommandSpec, Verb};
pub use desired_release::{DesiredRelease, DesiredReleaseSpec};
pub use managed_service::{ManagedService, ManagedServiceSpec};
pub use names::{Group, ServiceKey};
pub use status::ReleaseStatus;
pub use units::{Percent, Span};

/// The one `apiVersion` that this program reads and writes.
pub const API_VERSION: &str = "pointsman/v1";
