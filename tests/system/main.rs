//! Tests across real sockets: the unmodified SDK against an engine behind HTTP.

mod dynamodb;
mod store;
