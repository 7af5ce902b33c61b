//! Every fault at every call of the real loop, in virtual time.

use std::collections::BTreeMap;
use std::process::ExitCode;

use pointsman_core::records::Span;

mod fault;
mod log;
mod ports;
#[path = "../../core/sim/region.rs"]
#[allow(dead_code, clippy::expect_used, reason = "shared with the core's tests, which use the rest")]
mod region;
mod run;
mod scenarios;
mod script;
mod world;

use fault::{Fault, applicable};
use script::Scenario;
use world::{Base, People, Planned};

/// The longest that one mutating call may take.
const OPERATION: Span = Span::from_secs(6);

/// How much of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This scenario alone.
    #[arg(long)]
    scenario: Option<String>,
    /// The number of the call that the fault befalls.
    #[arg(long, requires = "fault")]
    call: Option<u32>,
    /// The fault.
    #[arg(long, requires = "call")]
    fault: Option<Fault>,
    /// Print everything that happens.
    #[arg(short, long)]
    verbose: bool,
}

/// Runs it and prints what was reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    for scenario in scenarios::all() {
        if args.scenario.as_ref().is_some_and(|name| name != scenario.name) {
            continue;
        }
        let base = base(&scenario)?;
        let faults: Vec<Planned> =
            args.call.zip(args.fault).map(|(call, fault)| Planned { call, fault }).into_iter().collect();
        let before = std::time::Instant::now();
        let outcome = run::run(&base, &scenario, &faults)?;
        if args.verbose {
            for entry in &outcome.log {
                println!("{entry}");
            }
        }
        println!("{} {:?} {:?} ticks {} calls {} {:?} {:?}", scenario.name, outcome.settled_ms, outcome.ended, outcome.ticks, outcome.ops.len(), outcome.complaints, before.elapsed());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a scenario begins.
fn base(scenario: &Scenario) -> anyhow::Result<Base> {
    let mut region = region::SmallRegion::new();
    let mut spec = region.managed_service();
    (scenario.edit)(&mut spec);
    region.add_alarms(&spec);
    let people = People { service: Some(script::managed(&spec)), ..People::default() };
    let empty = Base {
        region,
        people,
        state: None,
        claims: BTreeMap::new(),
        epoch: 0,
        at: region::SmallRegion::epoch(),
    };
    if !scenario.serving {
        return Ok(empty);
    }
    let Some(first) = scenarios::named("first") else { anyhow::bail!("there is no first release") };
    let outcome = run::run(&empty, &first, &[])?;
    anyhow::ensure!(outcome.settled_ms.is_some(), "the first release does not end");
    Ok(outcome.base)
}
