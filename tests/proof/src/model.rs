//! Model checking of the shipped decision code: every interleaving within stated budgets of faults.
//!
//! **What runs.** The production functions `decide` and `settle`, over their production facts, in the order that the
//! reconcile loop keeps: observe, decide, record (conditional on `rev` and epoch), send, record the answer. Around
//! them stands a small world ([`world`]): one service, two target groups, a handful of task sets, a production route
//! and if wanted a test route, an alarm, and requests that are still on their way. Between any two lines of the loop
//! the process may crash, be paused, or lose its lease to another replica; every effect may be lost, answered and
//! lost, delayed, duplicated or refused; reads may be stale or fail; people move weights, edit and delete the record,
//! write commands; the alarm comes and goes; tasks die.
//!
//! **Without the table.** The owner may be cut off from the table for any time while its lease runs out ([`lapsed`]): then
//! it does what the shipped emergency code allows ([`emergency`]), beside another owner or none, until the table
//! answers and it records what it did.
//!
//! **How.** Plain breadth first ([`crate::search`]), so a counterexample is a shortest one. Both functions are pure, so each
//! different question is asked once ([`mind`]) and a state is some dozens of bytes ([`state`]). Facts that lead to
//! the same decisions for ever are made equal ([`normal`] says why this is sound).
//!
//! **What is judged.** [`properties`] says of the world and of each write what must never be; `decide::safety` gives
//! its second opinion on each decision; and from *every* state that was reached, the way without further faults must
//! come to rest as asked ([`crate::search`]), which is liveness after any faults within the budgets.
//!
//! **Whether it can fail.** [`bugs`] breaks the design in many ways; each must give a counterexample.
//!
//! **What is abstracted, and therefore not proved here.** One service: `two` has another beside it. One
//! production route: the order among several is not. One alarm that watches the service, never `INSUFFICIENT_DATA`.
//! desiredCount stays 4. Pauses, stickiness, `suspend` and break-glass are left to the property tests. Time moves in
//! ticks of one poll; a healthy owner has a turn in each tick, and a request is refused by its signature after
//! [`world::SIGNATURE`] ticks: that AWS keeps to this is an assumption. The lease itself is abstract: any replica may
//! take it at any moment, which is more than the protocol allows; what a former owner had signed may still land.
//! One read sees the world at one instant; a stale one sees production weights of before the last write, and task
//! sets that still say `STEADY_STATE`. `agree` compares this world with `pointsman_core::world` on random traces.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

#[cfg(test)]
mod agree;
mod bugs;
mod config;
mod digest;
mod emergency;
mod lapsed;
mod mind;
mod normal;
mod plan;
mod properties;
mod state;
mod steps;
mod tell;
mod two;
mod view;
mod world;

use bugs::{BUGS, Bug};
use config::Config;
use mind::Mind;
use state::{Action, State};
use steps::Model;

use crate::search::report::{self, Outcome};
use crate::search::{Found, System as _};

/// How much of it. Without arguments: what runs with every change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The larger budgets instead.
    #[arg(long)]
    long: bool,
    /// Only this configuration; `two` is the one with two services.
    #[arg(long, value_name = "NAME")]
    config: Option<String>,
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
        let bug = BUGS.iter().find(|bug| bug.name == *name);
        let bug = bug.with_context(|| format!("no such bug; there are {}", tell::bug_names()))?;
        return Ok(if caught(bug, true)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if args.config.as_deref() == Some("two") {
        return Ok(if two::run()? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut fine = true;
    if !args.bugs {
        fine &= configurations(args)?;
    }
    if args.bugs || (!args.long && args.config.is_none()) {
        fine &= all_bugs()?;
    }
    if !args.bugs && !args.long && args.config.is_none() {
        fine &= two::run()?;
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
    report::head("configuration", &["facts", "decisions"]);
    let mut met = BTreeSet::new();
    for config in chosen {
        if !check(config, &mut met)? {
            return Ok(false);
        }
    }
    let whole = args.config.is_none() && !args.long;
    let missing: Vec<&str> =
        config::MUST_BE_MET.iter().filter(|name| whole && !met.contains(**name)).copied().collect();
    Ok(report::nothing_missing("never met", &missing))
}

/// Explores one configuration; whether nothing was found.
fn check(config: &Config, met: &mut BTreeSet<String>) -> anyhow::Result<bool> {
    let (model, outcome) = explore(config, None, true)?;
    let (facts, questions) = model.mind.sizes();
    outcome.tell(config.name, &[facts, questions], config.about);
    met.extend(model.mind.reached.keys().cloned());
    tell::found(&model, &outcome.found);
    let wanted = tell::kinds_of(&model).into_iter();
    let missing: Vec<&str> = wanted.filter(|name| !outcome.reached.kinds.contains_key(name)).collect();
    Ok(report::nothing_missing("    never explored", &missing) && outcome.is_clean())
}

fn explore(
    config: &Config,
    bug: Option<&'static Bug>,
    second_opinion: bool,
) -> anyhow::Result<(Model, Outcome<Model>)> {
    let mut model = model_of(config)?;
    let start = start(&mut model)?;
    model.mind.second_opinion = second_opinion;
    model.mind.bug = bug;
    model.mind.forget_answers();
    let outcome = Outcome::of(&mut model, start)?;
    Ok((model, outcome))
}

fn model_of(config: &Config) -> anyhow::Result<Model> {
    Ok(Model { config: *config, mind: Mind::new(config)? })
}

/// Where a configuration begins: with nothing, or after a first release without any fault.
fn start(model: &mut Model) -> anyhow::Result<State> {
    let config = model.config;
    let mut state = model.empty();
    if config.first {
        return Ok(State { left: config.budget(), ..state });
    }
    let mut steps = Vec::new();
    for _ in 0..1000 {
        let fair = model.fair(&state);
        model.steps(&state, &mut steps);
        let step = steps.iter().find(|step| step.action == fair).context("no fair step")?;
        if let Some(broken) = step.broken {
            bail!("{:?}", model.mind.why(broken));
        }
        let known = model.mind.digest(step.state.durable);
        let serves = fair == Action::Tick && known.stable.is_some() && !known.busy;
        state = step.state;
        if serves {
            return Ok(State { desired: Some(config.asks), left: config.budget(), ..state });
        }
    }
    bail!("the first release does not end: {state:?}")
}

// --- the seeded bugs

fn all_bugs() -> anyhow::Result<bool> {
    report::bugs_head();
    let mut survivors = 0;
    for bug in BUGS {
        survivors += usize::from(!caught(bug, false)?);
    }
    Ok(report::bugs_foot("", BUGS.len(), survivors))
}

/// Whether a bug yields a counterexample: by the properties of the world if it can, else by the second opinion; with as
/// few faults and acts as it takes, which is soon found.
fn caught(bug: &'static Bug, tell: bool) -> anyhow::Result<bool> {
    let config = config::CI.iter().find(|config| config.name == bug.config).context("a configuration")?;
    let asked = [false, true].into_iter().flat_map(|opinion| (0..=config.all).map(move |all| (opinion, all)));
    for (second_opinion, all) in asked {
        let (model, outcome) = explore(&Config { all, ..*config }, Some(bug), second_opinion)?;
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
