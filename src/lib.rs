//! **pointsman** brings Amazon ECS services to the release their developers asked for: through
//! EXTERNAL task sets, weight by weight, with alarms armed in every state and the way back kept warm.

pub mod api;
pub mod aws;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod logging;
pub mod sandbox;
pub mod store;

// The pure part and the loop are a crate of their own; here they keep their names.
pub use pointsman_core::{clock, controller, decide, lease, model, ports, records, telemetry, world};
