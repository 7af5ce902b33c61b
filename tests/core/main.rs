//! Tests of the pure core through its public face.
#![allow(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod bounds;
mod commands;
mod decide_properties;
mod decide_stories;
mod filling_in;
mod gone_routes;
mod hands;
mod history;
mod isolation;
mod late_writes;
mod lost_versions;
mod one_look;
mod outcomes;
mod pairs;
mod pinned;
mod rare;
mod records;
mod refusals;
mod requests;
mod second_opinion;
mod sim;
mod trouble;
