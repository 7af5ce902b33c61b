//! **pointsman** brings Amazon ECS services to the release their developers asked for: through
//! EXTERNAL task sets, weight by weight, with alarms armed in every state and the way back kept warm.

pub mod api;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod daemon;
pub mod decide;
pub mod demo;
pub mod model;
pub mod ports;
pub mod records;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod world;
