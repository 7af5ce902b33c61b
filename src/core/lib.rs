//! The part of pointsman that knows nothing of AWS's SDK, of tables, of sockets and of the sandbox: records, the
//! decision, the loop that carries it out through ports, and the pure model of a region that all of it is proved
//! in. It is a crate of its own so that the compiler keeps it that way, and so that proofs of the shipped code
//! build in seconds.

pub mod clock;
pub mod controller;
pub mod decide;
pub mod lease;
pub mod model;
pub mod ports;
pub mod records;
pub mod telemetry;
pub mod world;
