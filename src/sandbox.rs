//! Under construction.

pub mod metrics;
