//! The numbers in a replica's memory, for who explores all of its states.
//!
//! No decision depends on where a clock or a beat begins to count, so states that differ by that alone are one
//! state. Which number may become which is said by the model checker (`tests/proof/src/lease/normal.rs`); here is only
//! the way to each of them.

use super::{Life, Replica};
use crate::lease::Step;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number<'a> {
    /// The moment, on our clock, from which something may be done.
    Due,
    /// The moment, on our clock, at which the permits end.
    ValidUntil,
    /// The moment, on our clock, of the last look.
    ReadAt,
    /// Milliseconds for which a beat was watched standing still.
    Stood,
    /// Looks since the process began; they spread the moments of the next ones.
    Looks,
    /// Our acknowledged beats in this life.
    Beats,
    /// A beat of another member, as seen.
    BeatOf(&'a str),
}

impl Replica {
    /// The same replica with each of these numbers replaced.
    #[must_use]
    pub fn renumbered(&self, mut number: impl FnMut(Number<'_>, u64) -> u64) -> Self {
        let mut next = self.clone();
        next.beat_due_ms = number(Number::Due, next.beat_due_ms);
        next.look_due_ms = number(Number::Due, next.look_due_ms);
        next.looks = number(Number::Looks, next.looks);
        if let Life::Alive { beats, valid_until_ms, .. } = &mut next.life {
            *beats = number(Number::Beats, *beats);
            *valid_until_ms = number(Number::ValidUntil, *valid_until_ms);
        }
        for (member, other) in &mut next.others {
            other.beat = number(Number::BeatOf(member), other.beat);
            other.stood_ms = number(Number::Stood, other.stood_ms);
            other.read_at_ms = number(Number::ReadAt, other.read_at_ms);
        }
        for leaving in next.leaving.values_mut() {
            leaving.free_at_ms = number(Number::Due, leaving.free_at_ms);
        }
        for step in &mut next.todo {
            if let Step::Bury { member, beat } = step {
                *beat = number(Number::BeatOf(member), *beat);
            }
        }
        next
    }
}
