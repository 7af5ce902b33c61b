//! The loop.
pub mod workqueue;
