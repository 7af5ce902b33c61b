//! A region on your laptop.

mod clock;
mod dynamodb;
mod sts;
pub mod wire;
