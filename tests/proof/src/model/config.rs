//! The configurations: which faults and which acts of people, and how many of each and together.

use pointsman_core::records::command::Verb;

use super::state::{KINDS, Kind};
use super::world::SICK;
use crate::search::Budget;

/// So many agreeing reads, and the propagation wait, are believed (`decide::foreign`).
const FOREIGN_READS: u8 = 3;

/// One bounded world.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Name in the table.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Begins with no version serving; otherwise revision 1 serves.
    pub first: bool,
    /// Revision asked for at the beginning.
    pub asks: u8,
    /// Faults and acts, each with its budget.
    pub each: &'static [(Kind, u8)],
    /// All of them together.
    pub all: u8,
    /// What an edit may ask for; none is a deleted record.
    pub edits: &'static [Option<u8>],
    /// What operators may say.
    pub orders: &'static [Verb],
    /// There is a test route.
    pub test_route: bool,
    /// The candidate starts small and is scaled up.
    pub scaling: bool,
    /// Former owners that may still have something in hand.
    pub ghosts: usize,
}

impl Config {
    /// Whether there is any of a kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.each.iter().any(|(known, budget)| *known == kind && *budget > 0)
    }

    /// Whether weights may be somebody else's: a person's, those of an owner without the table, or so old a reading of
    /// ours that it looks like it.
    pub fn has_hands(&self) -> bool {
        let stale =
            self.each.iter().find(|(kind, _)| *kind == Stale).map_or(0, |(_, most)| *most.min(&self.all));
        self.has(Drift) || self.has(CutOff) || stale >= FOREIGN_READS
    }

    /// The budgets at the beginning.
    pub fn budget(&self) -> Budget<{ KINDS.len() }> {
        Budget::of(self.each, self.all)
    }
}

use Kind::{
    Crash, CutOff, Delay, Die, Drift, Duplicate, Edit, Flip, Lost, Order, Refuse, Revive, Stale, TakeOver,
    Unread,
};

const PLAIN: Config = Config {
    name: "plain",
    about: "one release without any fault",
    first: false,
    asks: 2,
    each: &[],
    all: 0,
    edits: &[],
    orders: &[],
    test_route: false,
    scaling: false,
    ghosts: 1,
};

/// Machine faults.
const FAULTS: &[(Kind, u8)] =
    &[(Crash, 1), (TakeOver, 1), (Lost, 1), (Delay, 1), (Duplicate, 1), (Refuse, 1), (Stale, 1), (Unread, 1)];

/// Every machine fault once, and what an alarm does beside them.
const ALARM: &[(Kind, u8)] =
    &[(Crash, 1), (TakeOver, 1), (Lost, 1), (Delay, 1), (Refuse, 1), (Stale, 1), (Flip, 2)];
/// An owner without the table, while another one goes on.
const EMERGENCY: &[(Kind, u8)] = &[(CutOff, 1), (TakeOver, 1), (Flip, 2), (Crash, 1), (Lost, 1), (Delay, 1)];
const EMERGENCY_AND_EDIT: &[(Kind, u8)] =
    &[(CutOff, 1), (TakeOver, 1), (Flip, 2), (Crash, 1), (Lost, 1), (Delay, 1), (Edit, 1)];
const EDITS: &[(Kind, u8)] = &[(Crash, 1), (TakeOver, 1), (Lost, 1), (Delay, 1), (Edit, 3)];
const ORDERS: &[(Kind, u8)] =
    &[(Crash, 1), (TakeOver, 1), (Lost, 1), (Delay, 1), (Order, 1), (Die, 1), (Flip, 1), (Edit, 1)];
const DRIFT: &[(Kind, u8)] = &[(Crash, 1), (TakeOver, 1), (Lost, 1), (Delay, 1), (Stale, 1), (Drift, 2)];
/// Versions that lose their tasks, and may have them again.
const LOSSES: &[(Kind, u8)] =
    &[(Die, 2), (Revive, 2), (Crash, 1), (TakeOver, 1), (Lost, 1), (Delay, 1), (Stale, 1), (Flip, 1)];
const LOSSES_AND_EDIT: &[(Kind, u8)] = &[
    (Die, 2),
    (Revive, 2),
    (Crash, 1),
    (TakeOver, 1),
    (Lost, 1),
    (Delay, 1),
    (Stale, 1),
    (Flip, 1),
    (Unread, 1),
    (Edit, 1),
];
const MIXED: &[(Kind, u8)] =
    &[(Crash, 1), (TakeOver, 1), (Lost, 1), (Delay, 1), (Duplicate, 1), (Flip, 1), (Edit, 1), (Die, 1)];
const EVERYTHING: &[(Kind, u8)] = &[
    (Crash, 1),
    (TakeOver, 1),
    (Lost, 1),
    (Delay, 1),
    (Duplicate, 1),
    (Refuse, 1),
    (Stale, 1),
    (Unread, 1),
    (Drift, 1),
    (Flip, 1),
    (Edit, 1),
    (Order, 1),
    (Die, 1),
];
/// Machine faults, two of a kind. No second copy of a request that was answered: with four other faults it can be older
/// than the last write of ours, and then nobody can tell it from a hand. The daemon sends each request once.
const TWICE: &[(Kind, u8)] =
    &[(Crash, 2), (TakeOver, 2), (Lost, 2), (Delay, 2), (Refuse, 2), (Stale, 2), (Unread, 2), (Flip, 2)];
const VERBS: &[Verb] = &[Verb::Abort, Verb::Rollback, Verb::Retry];

/// What runs with every change.
pub const CI: &[Config] = &[
    PLAIN,
    Config { name: "MC1", about: "one release, three machine faults", each: FAULTS, all: 3, ..PLAIN },
    Config {
        name: "MC1-alarm",
        about: "an alarm that burns and goes out, four in all",
        each: ALARM,
        all: 4,
        ..PLAIN
    },
    Config {
        name: "MC2",
        about: "edits of the record (back, on, again, deleted) and faults, three in all",
        each: EDITS,
        all: 3,
        edits: &[Some(1), Some(2), Some(3), None],
        ..PLAIN
    },
    Config {
        name: "MC2-order",
        about: "a command, an edit, dying tasks and faults, three in all",
        each: ORDERS,
        all: 3,
        edits: &[Some(3)],
        orders: VERBS,
        ..PLAIN
    },
    Config {
        name: "drift",
        about: "a person moves weights, and faults, three in all",
        each: DRIFT,
        all: 3,
        ..PLAIN
    },
    Config {
        name: "first",
        about: "nothing serves yet; three in all",
        first: true,
        asks: 1,
        each: MIXED,
        all: 3,
        edits: &[Some(2), None],
        ..PLAIN
    },
    Config {
        name: "sick",
        about: "a revision that never becomes healthy; three in all",
        asks: SICK,
        each: MIXED,
        all: 3,
        edits: &[Some(2), None],
        ..PLAIN
    },
    Config {
        name: "scaled",
        about: "a test route, and a candidate that is scaled up; two in all",
        test_route: true,
        scaling: true,
        each: MIXED,
        all: 2,
        edits: &[Some(3), None],
        ..PLAIN
    },
    Config {
        name: "MC5",
        about: "an owner without the table, an alarm and faults, four in all",
        each: EMERGENCY,
        all: 4,
        ..PLAIN
    },
    Config {
        name: "losses",
        about: "versions without tasks, which come back, and faults, three in all",
        each: LOSSES,
        all: 3,
        ..PLAIN
    },
    Config {
        name: "everything",
        about: "any two of all faults and acts",
        each: EVERYTHING,
        all: 2,
        edits: &[Some(1), Some(3), None],
        orders: VERBS,
        test_route: true,
        ..PLAIN
    },
];

/// The larger budgets.
pub const LONG: &[Config] = &[
    Config {
        name: "MC5-long",
        about: "an owner without the table, an alarm, edits and faults, four in all",
        each: EMERGENCY_AND_EDIT,
        all: 4,
        edits: &[Some(1), None],
        ..PLAIN
    },
    Config {
        name: "MC3",
        about: "three replicas, four faults, two of a kind",
        each: TWICE,
        all: 4,
        ghosts: 2,
        ..PLAIN
    },
    Config {
        name: "MC2-long",
        about: "edits and faults, four in all",
        each: EDITS,
        all: 4,
        edits: &[Some(1), Some(2), Some(3), None],
        ..PLAIN
    },
    Config {
        name: "drift-long",
        about: "a person moves weights, and faults, five in all",
        each: DRIFT,
        all: 5,
        ..PLAIN
    },
    Config {
        name: "losses-long",
        about: "versions without tasks, which come back, edits and faults, four in all",
        each: LOSSES_AND_EDIT,
        all: 4,
        edits: &[Some(1), Some(3), None],
        ..PLAIN
    },
    Config {
        name: "all-long",
        about: "any three of all faults and acts",
        each: EVERYTHING,
        all: 3,
        edits: &[Some(1), Some(3), None],
        orders: VERBS,
        test_route: true,
        ..PLAIN
    },
];

/// What some decision of the whole set must have come to; the checker would be blind otherwise.
pub const MUST_BE_MET: &[&str] = &[
    "effect CreateTaskSet",
    "effect ScaleTaskSet",
    "effect DeleteTaskSet",
    "effect SetPrimary",
    "effect SetWeights",
    "look",
    "again",
    "settled",
    "latch Alarm",
    "latch MovedByHand",
    "latch Aborted",
    "latch RecordDeleted",
    "latch Superseded",
    "latch Deadline",
    "latch CandidateLost",
    "stage Preparing",
    "stage Scaling",
    "stage Shifting",
    "stage Baking",
    "stage Completing",
    "stage GoingBack",
    "wait Effect",
    "wait Evidence",
    "wait ForeignWeights",
    "wait Propagation",
    "wait Bake",
    "wait Quiet",
    "wait Gone",
    "wait Retention",
    "outcome Succeeded",
    "outcome RolledBack",
    "outcome Failed",
    "outcome Superseded",
    "outcome Refused",
];
