//! The configurations of the lease: how many processes, by which counts, and which faults.

use super::state::{Kind, PLACES};

/// From when on faults happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// From the beginning, when there is neither process nor item.
    Nothing,
    /// From when every process runs and has its share, on whatever way it came to that.
    AnyRest,
    /// From when all processes, started at once, have their share.
    OneRest,
    /// From when all processes have just been started.
    AtOnce,
}

/// One bounded world.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Name in the table.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The number of shards by which each process goes; 0: there is no such process.
    pub counts: [u8; PLACES],
    /// From when on faults happen.
    pub faults: From,
    /// Faults and acts, each with its budget.
    pub each: &'static [(Kind, u8)],
    /// All of them together.
    pub all: u8,
}

impl Config {
    /// How many processes there can be.
    pub fn places(&self) -> usize {
        self.counts.iter().filter(|count| **count > 0).count()
    }

    /// Whether there is any of a kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.each.iter().any(|(known, budget)| *known == kind && *budget > 0)
    }
}

use Kind::{Crash, Late, Leave, Lost, Pause, Slip, Slow, Twice, Unheard};

/// Everything that can happen.
const ANY: &[(Kind, u8)] = &[
    (Crash, 1),
    (Leave, 1),
    (Pause, 2),
    (Lost, 1),
    (Unheard, 1),
    (Late, 2),
    (Twice, 2),
    (Slow, 2),
    (Slip, 1),
];
/// What takes no time by itself.
const ABRUPT: &[(Kind, u8)] =
    &[(Crash, 1), (Pause, 2), (Lost, 1), (Unheard, 1), (Late, 2), (Twice, 2), (Slip, 1)];
/// What takes time.
const SLOW: &[(Kind, u8)] = &[(Pause, 1), (Slow, 2), (Slip, 1)];
/// A write that lands late, one that is repeated, and a process that is stopped meanwhile: what it takes to bring a buried
/// member back.
const LATE: &[(Kind, u8)] = &[(Pause, 1), (Late, 1), (Twice, 1)];
/// Two that land late.
const LATE_LONG: &[(Kind, u8)] = &[(Pause, 1), (Late, 2), (Twice, 1)];

const PLAIN: Config = Config {
    name: "plain",
    about: "two processes, one shard, no fault",
    counts: [1, 1, 0],
    faults: From::Nothing,
    each: &[],
    all: 0,
};

/// What runs with every change.
pub const CI: &[Config] = &[
    PLAIN,
    Config { name: "one", about: "one shard; any fault", each: ANY, all: 1, ..PLAIN },
    Config {
        name: "pairs",
        about: "one shard; when all is in order, any two faults but slow calls and leaving",
        faults: From::OneRest,
        each: ABRUPT,
        all: 2,
        ..PLAIN
    },
    Config {
        name: "slow",
        about: "one shard; when all is in order, slow calls, a slow clock and a pause, two in all",
        faults: From::OneRest,
        each: SLOW,
        all: 2,
        ..PLAIN
    },
    Config { name: "two", about: "two shards; any fault", counts: [2, 2, 0], each: ANY, all: 1, ..PLAIN },
    Config {
        name: "counts",
        about: "one goes by one shard, the other by two; any fault",
        counts: [1, 2, 0],
        each: ANY,
        all: 1,
        ..PLAIN
    },
    Config {
        name: "late",
        about: "one shard, all start at once; a late write, a repeated one and a pause",
        faults: From::AtOnce,
        each: LATE,
        all: 3,
        ..PLAIN
    },
];

/// The larger budgets. Any three faults together, even of one shard, are more states than fit.
pub const LONG: &[Config] = &[
    Config {
        name: "late-long",
        about: "one shard, all start at once; three of late writes, a repeated one and a pause",
        faults: From::AtOnce,
        each: LATE_LONG,
        all: 3,
        ..PLAIN
    },
    Config {
        name: "pairs-long",
        about: "one shard; when all is in order, any two faults",
        faults: From::OneRest,
        each: ANY,
        all: 2,
        ..PLAIN
    },
    Config {
        name: "one-rests",
        about: "one shard; when all is in order on any way, any two faults",
        faults: From::AnyRest,
        each: ANY,
        all: 2,
        ..PLAIN
    },
    Config {
        name: "two-long",
        about: "two shards; when all is in order, any two faults",
        counts: [2, 2, 0],
        faults: From::OneRest,
        each: ANY,
        all: 2,
    },
    Config {
        name: "three",
        about: "three processes, two shards; when all is in order, any fault",
        counts: [2, 2, 2],
        faults: From::OneRest,
        each: ANY,
        all: 1,
    },
];

/// What some replica of the whole set must have wanted; the checker would be blind otherwise.
pub const MUST_BE_MET: &[&str] = &["wait", "look", "found", "join", "beat", "bury", "take", "free", "retire"];
