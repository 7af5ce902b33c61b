//! Tests across real sockets: the unmodified SDK against an engine behind HTTP.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod dynamodb;
mod store;
