//! Model checking of the lease protocol: every interleaving of a few processes over one table, within stated budgets
//! of faults.
//!
//! **What runs.** The production `Replica` of `pointsman_core::lease`, which decides what a process does next and what
//! an answer means; around it, what `store::lease` does: a call at a time, permits that are withdrawn before
//! anything is given up, a graceful end. The table ([`table`]) keeps the conditions of the real one. Processes start at
//! any time and act in any order; a process may crash, be started anew, be told to stop, be stopped for any time; a
//! call may be lost, answered and lost, be done twice, be slow in each of its parts, and land at any time
//! after its sender has given up, was buried or is gone; a clock may lose a tick.
//!
//! **Time** is counted in ticks: a renewal is two, a time to live six, margin and operation one each, which is
//! what `LeaseTiming::checked` asks for at least. A process that has something to do does it before time passes,
//! unless it is stopped or in a call: both are faults with a budget, and as long as you like.
//!
//! **What is judged** ([`properties`]): in each state, that nobody but one process may write for a shard, what had
//! begun under a withdrawn permit included; that the take behind a permit that holds is the last one in the table,
//! so that each later epoch begins after the permit has ended; that nobody acts by another number of
//! shards; with each write, that epochs grow. And from every state that was reached, without further faults, every shard has
//! an owner again and each process its share.
//!
//! **Whether it can fail.** [`bugs`]: each must give a counterexample.
//!
//! **What is abstracted, and therefore not proved here.** Two or three processes and one or two shards. One clock
//! loses one tick of a time to live of six, in a run: that is the margin. The jitter of looks is nothing at this scale. A
//! look's members are read at one moment, as one page. What is stopped between its last check and the kernel's send is
//! no matter of the lease: no permit can tell (`docs/reliability.md`, "What is only bounded").

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

mod bugs;
mod config;
mod mind;
mod normal;
mod properties;
mod state;
mod steps;
mod table;
mod tell;

use bugs::{BUGS, Bug};
use config::{Config, From};
use mind::Mind;
use state::{Action, Phase, State};
use steps::Model;
use table::Name;

use crate::search::report::{self, Outcome};
use crate::search::{Found, System as _};

/// How much of it. Without arguments: what runs with every change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The larger budgets instead.
    #[arg(long)]
    long: bool,
    /// Only this configuration.
    #[arg(long, value_name = "NAME")]
    config: Option<String>,
    /// So many faults together, instead of the configuration's.
    #[arg(long, value_name = "NUMBER")]
    faults: Option<u8>,
    /// Only the seeded bugs.
    #[arg(long)]
    bugs: bool,
    /// Only this seeded bug, with the steps that show it.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
}

/// Runs it and prints what was reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.bug {
        let names = || BUGS.iter().map(|bug| bug.name).collect::<Vec<_>>().join(", ");
        let bug = BUGS.iter().find(|bug| bug.name == *name);
        let bug = bug.with_context(|| format!("no such bug; there are {}", names()))?;
        return Ok(if caught(bug, true)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut fine = true;
    if !args.bugs {
        fine &= configurations(args)?;
    }
    if args.bugs || (!args.long && args.config.is_none()) {
        fine &= all_bugs()?;
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// --- the configurations

fn configurations(args: &Args) -> anyhow::Result<bool> {
    let all = if args.long { config::LONG } else { config::CI };
    let chosen: Vec<&Config> = match &args.config {
        Some(name) => config::CI.iter().chain(config::LONG).filter(|config| config.name == *name).collect(),
        None => all.iter().collect(),
    };
    ensure!(!chosen.is_empty(), "no such configuration");
    report::head("lease", &["replicas", "events"]);
    let mut met = BTreeSet::new();
    for config in chosen {
        let config = Config { all: args.faults.unwrap_or(config.all), ..*config };
        if !check(&config, &mut met)? {
            return Ok(false);
        }
    }
    let whole = args.config.is_none() && !args.long;
    let missing: Vec<&str> =
        config::MUST_BE_MET.iter().filter(|name| whole && !met.contains(**name)).copied().collect();
    Ok(report::nothing_missing("never met", &missing))
}

/// Explores one configuration; whether nothing was found.
fn check(config: &Config, met: &mut BTreeSet<&'static str>) -> anyhow::Result<bool> {
    let (model, outcome) = explore(config, None)?;
    let (replicas, events) = model.mind.sizes();
    outcome.tell(config.name, &[replicas, events], config.about);
    met.extend(model.mind.wanted.keys());
    tell::found(&model, &outcome.found);
    let wanted = tell::kinds_of(&model).into_iter();
    let missing: Vec<&str> = wanted.filter(|name| !outcome.reached.kinds.contains_key(name)).collect();
    Ok(report::nothing_missing("    never explored", &missing) && outcome.is_clean())
}

fn explore(config: &Config, bug: Option<&Bug>) -> anyhow::Result<(Model, Outcome<Model>)> {
    let mut mind = Mind::new(bug.map(|bug| bug.flaw));
    // An absent process is told as the first one that could be.
    mind.begin(Name::new(0, 0), 0, config.counts[0]);
    let mut model = Model { config: *config, mind, start: None };
    let start = start(&mut model)?;
    model.start = Some(start);
    let outcome = Outcome::of(&mut model, start)?;
    Ok((model, outcome))
}

/// Where a configuration begins.
fn start(model: &mut Model) -> anyhow::Result<State> {
    let mut state = model.empty();
    let at_once = matches!(model.config.faults, From::OneRest | From::AtOnce);
    if !at_once {
        return Ok(state);
    }
    let mut steps = Vec::new();
    for _ in 0..1000 {
        let started = state.processes.iter().filter(|process| process.phase != Phase::Absent).count();
        let all = started == model.config.places() && model.config.faults == From::AtOnce;
        if all || model.is_settled(&state) {
            return Ok(State { foul: true, left: model.budget(), ..state });
        }
        model.steps(&state, &mut steps);
        let fair = model.fair(&state);
        let starts = steps.iter().find(|step| matches!(step.action, Action::Start(_)));
        let step =
            starts.or_else(|| steps.iter().find(|step| step.action == fair)).context("no fair step")?;
        state = step.state;
    }
    bail!("the processes do not come to rest: {state:?}")
}

// --- the seeded bugs

fn all_bugs() -> anyhow::Result<bool> {
    report::bugs_head();
    let mut survivors = 0;
    for bug in BUGS {
        survivors += usize::from(!caught(bug, false)?);
    }
    Ok(report::bugs_foot(" of the lease", BUGS.len(), survivors))
}

/// Whether a bug yields a counterexample; with as few faults as it takes.
fn caught(bug: &Bug, tell: bool) -> anyhow::Result<bool> {
    let config = config::CI.iter().find(|config| config.name == bug.config).context("a configuration")?;
    for all in 0..=config.all {
        let (model, outcome) = explore(&Config { all, ..*config }, Some(bug))?;
        if let Found::Broken { broken, path } = &outcome.found {
            report::caught(bug.name, path.len(), model.mind.why(*broken));
            if tell {
                println!("    the thought: {}", bug.thought);
                tell::found(&model, &outcome.found);
            }
            return Ok(true);
        }
    }
    report::not_caught(bug.name, bug.thought);
    Ok(false)
}
