//! Every fault at the calls of the real loop, in virtual time.
//!
//! A scenario is run once without faults; that gives the number of its calls to the outside and the end that every
//! other run must come to. Then each applicable fault is put at each call, one run each.

use std::collections::BTreeMap;
use std::process::ExitCode;

use pointsman_core::records::Span;

mod fault;
mod judge;
mod log;
mod long;
mod monitors;
mod ports;
#[path = "../../core/sim/region.rs"]
#[allow(dead_code, clippy::expect_used, reason = "shared with the core's tests, which use the rest")]
pub mod region;
mod run;
mod scenarios;
mod script;
#[path = "../../core/sim/seen.rs"]
#[allow(clippy::expect_used, reason = "shared with the core's tests")]
mod seen;
mod sweep;
mod weather;
mod world;

use fault::Fault;
use judge::{Reference, Verdict, judge};
use script::Scenario;
use sweep::Tally;
use world::{Base, People, Planned};

/// The longest that one mutating call may take.
const OPERATION: Span = Span::from_secs(6);

/// How much of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This scenario alone.
    #[arg(long)]
    scenario: Option<String>,
    /// The number of the call that a fault befalls; may be repeated, with a `--fault` each.
    #[arg(long, requires = "fault")]
    call: Vec<u32>,
    /// The fault.
    #[arg(long, requires = "call")]
    fault: Vec<Fault>,
    /// With `--call`, or without any fault: print everything that happens.
    #[arg(short, long)]
    verbose: bool,
    /// Findings that are printed of one scenario.
    #[arg(long, default_value_t = 10)]
    show: usize,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Besides: two faults in one run, effects that land at every later second, bad weather.
    #[arg(long)]
    long: bool,
    /// With `--long`: of all pairs of faults one in so many.
    #[arg(long, default_value_t = 60)]
    one_in: u64,
    /// With `--long`: these alone.
    #[arg(long, requires = "long")]
    suite: Option<Suite>,
    /// With `--long`: weathers of each scenario.
    #[arg(long, default_value_t = 20)]
    weathers: u64,
    /// Also at the calls of waits that look like their neighbours.
    #[arg(long)]
    every: bool,
}

/// Which runs of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// One fault each.
    Singles,
    /// Two faults each.
    Doubles,
    /// An effect that lands at each later second.
    Delays,
    /// Storms.
    Weather,
}

/// Runs it and prints what was reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let faults: Vec<Planned> = args
        .call
        .iter()
        .zip(&args.fault)
        .map(|(call, fault)| Planned { call: *call, fault: *fault })
        .collect();
    let chosen: Vec<Scenario> = scenarios::all()
        .into_iter()
        .filter(|scenario| args.scenario.as_ref().is_none_or(|name| name == scenario.name))
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "there is no such scenario");
    let good = good()?;
    let mut fine = true;
    let mut all = Tally::default();
    println!(
        "{:<34}{:>7}{:>8}{:>8}{:>8}{:>8}{:>12}",
        "scenario", "calls", "runs", "same", "other", "WRONG", "most passes"
    );
    for scenario in &chosen {
        let base = base(scenario)?;
        let calm = run::run(&base, scenario, &[])?;
        let reference = Reference::of(&calm);
        let clean = judge(scenario, &reference, &calm, &[]);
        let outcomes: Vec<_> = reference.ended.iter().map(|(outcome, _)| *outcome).collect();
        if clean != Verdict::Same || outcomes != scenario.outcomes {
            println!("{}: without faults {outcomes:?}, {clean:?}", scenario.name);
            fine = false;
        }
        if args.verbose || !faults.is_empty() {
            fine &= replay(&base, scenario, &reference, &faults, args.verbose)?;
            continue;
        }
        for (suite, plans) in suites(args, scenario, &reference, &good) {
            let tally = sweep::sweep(&base, scenario, &reference, &plans, args.jobs)?;
            row(&format!("{}{suite}", scenario.name), reference.ops.len(), &tally);
            fine &= tally.wrong.is_empty();
            tally.wrong.iter().take(args.show).for_each(|(plan, problems)| tell(scenario, plan, problems));
            sum(&mut all, tally);
        }
    }
    if faults.is_empty() && !args.verbose {
        row("all", 0, &all);
        println!("\nmet:");
        all.met.iter().for_each(|(fault, count)| println!("    {fault:<30}{count:>7}"));
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A good release, which most scenarios begin as.
fn good() -> anyhow::Result<Reference> {
    let Some(good) = scenarios::named("good") else { anyhow::bail!("there is no good release") };
    Ok(Reference::of(&run::run(&base(&good)?, &good, &[])?))
}

/// What is run of one scenario.
fn suites(
    args: &Args,
    scenario: &Scenario,
    reference: &Reference,
    good: &Reference,
) -> Vec<(&'static str, Vec<Vec<Planned>>)> {
    let all = [
        (Suite::Singles, "", sweep::singles(reference, good, &scenario.hit, args.every)),
        (Suite::Doubles, " doubles", long::doubles(scenario.name, reference, args.one_in)),
        (Suite::Delays, " delays", long::delays(reference)),
        (Suite::Weather, " weather", long::weathers(args.weathers)),
    ];
    let wanted = |suite: Suite| {
        let only = args.suite.or((!args.long).then_some(Suite::Singles));
        only.is_none_or(|only| only == suite)
    };
    all.into_iter().filter(|(suite, ..)| wanted(*suite)).map(|(_, name, plans)| (name, plans)).collect()
}

/// A run that went wrong, and how to have it again.
fn tell(scenario: &Scenario, plan: &[Planned], problems: &[String]) {
    let each = plan.iter().map(|it| format!(" --call {} --fault {}", it.call, it.fault));
    let place: Vec<String> = each.collect();
    println!("    faults --scenario {}{} -v", scenario.name, place.concat());
    problems.iter().take(3).for_each(|problem| println!("        {problem}"));
}

fn row(name: &str, calls: usize, tally: &Tally) {
    let other: usize = tally.other.values().sum();
    println!(
        "{name:<34}{calls:>7}{:>8}{:>8}{other:>8}{:>8}{:>12}  {}",
        tally.runs,
        tally.same,
        tally.wrong.len(),
        tally.most_ticks,
        tally.other.iter().map(|(end, count)| format!("{end} {count}")).collect::<Vec<_>>().join(", ")
    );
}

fn sum(all: &mut Tally, one: Tally) {
    all.runs += one.runs;
    all.same += one.same;
    all.most_ticks = all.most_ticks.max(one.most_ticks);
    all.wrong.extend(one.wrong);
    for (fault, count) in one.met {
        *all.met.entry(fault).or_default() += count;
    }
    for (end, count) in one.other {
        *all.other.entry(end).or_default() += count;
    }
}

/// One run, told in full.
fn replay(
    base: &Base,
    scenario: &Scenario,
    reference: &Reference,
    faults: &[Planned],
    verbose: bool,
) -> anyhow::Result<bool> {
    let outcome = run::run(base, scenario, faults)?;
    if verbose {
        outcome.log.iter().enumerate().for_each(|(at, entry)| println!("{at:>5} {entry}"));
    }
    let verdict = judge(scenario, reference, &outcome, faults);
    println!("{}: {:?}, {} passes, {} calls", scenario.name, outcome.ended, outcome.ticks, outcome.ops.len());
    println!("{verdict:#?}");
    Ok(!matches!(verdict, Verdict::Wrong(_)))
}

/// Where a scenario begins.
fn base(scenario: &Scenario) -> anyhow::Result<Base> {
    let mut region = region::SmallRegion::new();
    let mut spec = region.managed_service();
    (scenario.edit)(&mut region, &mut spec);
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
