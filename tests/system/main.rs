//! Tests of the whole: the sources against the map, the templates and schemas against the code, and the unmodified
//! SDK against engines behind real sockets.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod alarms;
mod architecture;
mod contract;
mod deploy;
mod dynamodb;
mod lease;
mod reliability;
mod schemas;
mod secrets;
mod store;
#[expect(dead_code, reason = "shared with the tests of the core, which use all of it")]
#[path = "../core/records/support.rs"]
mod support;
