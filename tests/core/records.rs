//! What people may write, and what they are told when they may not.

mod files;
mod fuzz;
mod judging;
mod repeated;
mod strategies;
mod support;
mod units;
