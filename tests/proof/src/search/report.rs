//! A search from its start to rest, and what people are told of it: a table of what was explored, and one of the
//! seeded bugs. The systems differ in the sizes that they keep besides.

use std::fmt::Display;
use std::time::{Duration, Instant};

use super::{Broken, Found, FoundIn, MOST_STATES, Reached, Rest, System, come_to_rest, explore};

/// What a whole search came to.
pub struct Outcome<T: System> {
    /// The states.
    pub reached: Reached<T::State>,
    /// The way to rest; nothing when something was found before.
    pub rest: Rest,
    /// What was found.
    pub found: FoundIn<T>,
    took: Duration,
}

impl<T: System> Outcome<T> {
    /// Explores everything from `start` on, then has every state come to rest.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long the search takes is told to people, and nothing is decided by it"
    )]
    pub fn of(system: &mut T, start: T::State) -> anyhow::Result<Self> {
        let began = Instant::now();
        let (reached, mut found) = explore(system, start, MOST_STATES)?;
        let mut rest = Rest::default();
        if matches!(found, Found::Nothing) {
            (rest, found) = come_to_rest(system, &reached);
        }
        Ok(Self { reached, rest, found, took: began.elapsed() })
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        matches!(self.found, Found::Nothing)
    }

    /// Its line in the table, and how often each kind of step was taken.
    pub fn tell(&self, name: &str, sizes: &[usize], about: &str) {
        let Reached { states, generated, depth, kinds, .. } = &self.reached;
        let sizes = columns(sizes);
        let (ticks, seconds) = (self.rest.ticks, self.took.as_secs_f64());
        println!(
            "{name:<13} {:>10} {generated:>11} {depth:>6}{sizes} {ticks:>6} {seconds:>8.1}   {about}",
            states.len()
        );
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("    {}", kinds.join(", "));
    }
}

/// The head of the table.
pub fn head(first: &str, sizes: &[&str]) {
    let sizes = columns(sizes);
    println!(
        "{first:<13} {:>10} {:>11} {:>6}{sizes} {:>6} {:>8}",
        "states", "steps", "depth", "ticks", "seconds"
    );
}

fn columns(all: &[impl Display]) -> String {
    let all: Vec<String> = all.iter().map(|one| format!(" {one:>9}")).collect();
    all.concat()
}

/// Whether nothing that was to be met is missing; else the search would be blind.
pub fn nothing_missing(never: &str, missing: &[&str]) -> bool {
    if !missing.is_empty() {
        println!("{never}: {}", missing.join(", "));
    }
    missing.is_empty()
}

/// The head of the table of seeded bugs.
pub fn bugs_head() {
    println!("\n{:<22} {:>6}  property", "seeded bug", "steps");
}

/// The line of a seeded bug that was caught after so many steps.
pub fn caught(name: &str, steps: usize, why: &Broken) {
    println!("{name:<22} {steps:>6}  {}: {}", why.property, why.detail);
}

/// The line of one that was not.
pub fn not_caught(name: &str, thought: &str) {
    println!("{name:<22} {:>6}  not caught: {thought}", "-");
}

/// The line below the table; whether all were caught.
pub fn bugs_foot(what: &str, all: usize, survivors: usize) -> bool {
    println!("{all} seeded bugs{what}, {survivors} not caught");
    survivors == 0
}
