//! Proves pointsman's shipped code: `model` explores every interleaving of the decision code, and `lease` of the lease
//! protocol, within stated budgets of faults; `faults` puts every fault at the calls of the real loop, in virtual time.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod faults;
mod lease;
mod model;
mod search;

// The harness copies small things all the time: with this allocator it takes two thirds of the time that it takes with
// the platform's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Model checking and fault injection of the shipped code.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Explores the reachable states of the decision code.
    Model(model::Args),
    /// Explores the reachable states of the lease protocol.
    Lease(lease::Args),
    /// Puts every fault at the calls of every scenario, through the real loop.
    Faults(faults::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Args::parse().what {
        What::Model(args) => model::run(&args),
        What::Lease(args) => lease::run(&args),
        What::Faults(args) => faults::run(&args),
    }
}
