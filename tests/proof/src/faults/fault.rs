//! What may go wrong, and where.

use std::fmt;

/// A call of the loop to the outside, or a hint to it. Each instance of one gets a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// The list of all services.
    List,
    /// What people wrote.
    Wishes,
    /// The state item.
    Remembered,
    /// A conditional write of the state item.
    Write,
    /// `DescribeServices`.
    Service,
    /// `DescribeRules` of the routes.
    Routes,
    /// `DescribeAlarms` by name.
    Alarms,
    /// Everything a release is judged by before it starts.
    Preflight,
    /// `DescribeTargetHealth`.
    Targets,
    /// All rules of the load balancer.
    Balancer,
    /// `DescribeAlarmHistory`.
    History,
    /// Why a task stopped.
    LastStop,
    /// A mutating call.
    Effect,
    /// A way back while the lease has run out for want of the table.
    TakeBack,
    /// The table's stream says that somebody wrote.
    Hint,
}

impl Op {
    /// Every kind.
    #[cfg(test)]
    pub const ALL: [Self; 15] = [
        Self::List,
        Self::Wishes,
        Self::Remembered,
        Self::Write,
        Self::Service,
        Self::Routes,
        Self::Alarms,
        Self::Preflight,
        Self::Targets,
        Self::Balancer,
        Self::History,
        Self::LastStop,
        Self::Effect,
        Self::TakeBack,
        Self::Hint,
    ];

    const fn is_table_read(self) -> bool {
        matches!(self, Self::List | Self::Wishes | Self::Remembered)
    }

    /// Whether it changes something.
    pub const fn is_mutation(self) -> bool {
        matches!(self, Self::Write | Self::Effect | Self::TakeBack)
    }
}

/// What befalls one call. Seconds are virtual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The process dies before the call is sent.
    CrashBefore,
    /// The process dies when the call has landed.
    CrashAfter,
    /// The process dies, and the call lands so much later.
    CrashLate(u64),
    /// It lands, and the answer is lost.
    LoseAnswer,
    /// It does not land, and nobody can tell.
    NotApplied,
    /// The answer is lost, and it lands so much later.
    Late(u64),
    /// It lands, is acknowledged, and lands once more so much later.
    Duplicate(u64),
    /// Refused by a rate limit.
    Throttled,
    /// This call and all of its kind are refused by a rate limit for so long.
    ThrottledFor(u64),
    /// This call and every second one of its kind after it are refused by a rate limit for so long.
    EveryOtherFor(u64),
    /// Refused: something else changes the resource.
    Conflict,
    /// Refused: no permission.
    Denied,
    /// It cannot be read.
    Unread,
    /// This read and all of its kind fail for so long.
    UnreadFor(u64),
    /// It shows the world as it was so many passes ago.
    Stale(usize),
    /// It takes so long.
    Slow(u64),
    /// It never answers; the run is dropped at its limit.
    Hang,
    /// The process stands still in this call, its lease gate passed, for so long. Meanwhile another one takes over.
    TakeOver(u64),
    /// Another process takes over, and this one goes on for a lease's time as if nothing had happened.
    SplitBrain,
    /// The hint is lost.
    HintMissed,
    /// The hint comes so much later.
    HintLate(u64),
    /// Storms and calms from this call on, by this seed: see [`super::weather`].
    Weather(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashLate(n) => write!(f, "crash-late-{n}"),
            Self::Late(n) => write!(f, "late-{n}"),
            Self::Duplicate(n) => write!(f, "duplicate-{n}"),
            Self::ThrottledFor(n) => write!(f, "throttled-for-{n}"),
            Self::EveryOtherFor(n) => write!(f, "every-other-for-{n}"),
            Self::UnreadFor(n) => write!(f, "unread-for-{n}"),
            Self::Stale(n) => write!(f, "stale-{n}"),
            Self::Slow(n) => write!(f, "slow-{n}"),
            Self::TakeOver(n) => write!(f, "take-over-{n}"),
            Self::HintLate(n) => write!(f, "hint-late-{n}"),
            Self::Weather(n) => write!(f, "weather-{n}"),
            Self::CrashBefore => f.write_str("crash-before"),
            Self::CrashAfter => f.write_str("crash-after"),
            Self::LoseAnswer => f.write_str("lose-answer"),
            Self::NotApplied => f.write_str("not-applied"),
            Self::Throttled => f.write_str("throttled"),
            Self::Conflict => f.write_str("conflict"),
            Self::Denied => f.write_str("denied"),
            Self::Unread => f.write_str("unread"),
            Self::Hang => f.write_str("hang"),
            Self::SplitBrain => f.write_str("split-brain"),
            Self::HintMissed => f.write_str("hint-missed"),
        }
    }
}

impl std::str::FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("no fault is called {text}");
        let simple = [
            Self::CrashBefore,
            Self::CrashAfter,
            Self::LoseAnswer,
            Self::NotApplied,
            Self::Throttled,
            Self::Conflict,
            Self::Denied,
            Self::Unread,
            Self::Hang,
            Self::SplitBrain,
            Self::HintMissed,
        ];
        if let Some(fault) = simple.into_iter().find(|fault| fault.to_string() == text) {
            return Ok(fault);
        }
        let (name, number) = text.rsplit_once('-').ok_or_else(unknown)?;
        let secs: u64 = number.parse().map_err(|_| unknown())?;
        match name {
            "crash-late" => Ok(Self::CrashLate(secs)),
            "late" => Ok(Self::Late(secs)),
            "duplicate" => Ok(Self::Duplicate(secs)),
            "throttled-for" => Ok(Self::ThrottledFor(secs)),
            "every-other-for" => Ok(Self::EveryOtherFor(secs)),
            "unread-for" => Ok(Self::UnreadFor(secs)),
            "stale" => usize::try_from(secs).map(Self::Stale).map_err(|_| unknown()),
            "slow" => Ok(Self::Slow(secs)),
            "take-over" => Ok(Self::TakeOver(secs)),
            "hint-late" => Ok(Self::HintLate(secs)),
            "weather" => Ok(Self::Weather(secs)),
            _ => Err(unknown()),
        }
    }
}

/// A storm: longer than a clean-up's quiet wait, shorter than any deadline of the scenarios.
const STORM: u64 = 25;

/// Half a service for longer than any scenario takes without faults, its clean-up included.
pub const HALF_SERVED: u64 = 600;

/// Every single fault that can befall a call of this kind.
pub fn applicable(op: Op) -> Vec<Fault> {
    use Fault::{
        Conflict, CrashAfter, CrashBefore, CrashLate, Denied, Duplicate, EveryOtherFor, Hang, HintLate,
        HintMissed, Late, LoseAnswer, NotApplied, Slow, SplitBrain, Stale, TakeOver, Throttled, ThrottledFor,
        Unread, UnreadFor,
    };
    match op {
        Op::Hint => vec![HintMissed, HintLate(7)],
        Op::Write => vec![
            CrashBefore,
            CrashAfter,
            LoseAnswer,
            NotApplied,
            Late(1),
            Late(10),
            CrashLate(22),
            Denied,
            UnreadFor(STORM),
            EveryOtherFor(HALF_SERVED),
            Hang,
            TakeOver(0),
            TakeOver(4),
            SplitBrain,
        ],
        Op::Effect | Op::TakeBack => vec![
            CrashBefore,
            CrashAfter,
            CrashLate(1),
            CrashLate(24),
            CrashLate(50),
            LoseAnswer,
            NotApplied,
            Late(1),
            Late(7),
            Late(50),
            Duplicate(2),
            Throttled,
            ThrottledFor(STORM),
            Conflict,
            Denied,
            Slow(5),
            Hang,
            TakeOver(0),
            TakeOver(4),
            TakeOver(40),
            SplitBrain,
        ],
        read if read.is_table_read() => {
            vec![CrashBefore, Unread, UnreadFor(STORM), Slow(5), TakeOver(4), SplitBrain]
        }
        _ => {
            vec![Unread, UnreadFor(STORM), Stale(1), Stale(3), CrashBefore, Slow(5), TakeOver(4), SplitBrain]
        }
    }
}

/// Whether the fault means more at `op` than at the call after it. Between two reads of one pass a process does nothing:
/// whether it dies, stands still or is slow at the one or the other comes to the same, but that what it has read
/// by then is oldest at the last.
pub fn tells_here(op: Op, fault: Fault, after: Option<Op>) -> bool {
    let of_process =
        matches!(fault, Fault::CrashBefore | Fault::Slow(_) | Fault::TakeOver(_) | Fault::SplitBrain);
    // A look for an emergency begins with the service, and remembers the one before it.
    let begins = |after: Op| match after {
        Op::Wishes | Op::List => true,
        Op::Service => !matches!(op, Op::Wishes | Op::Remembered),
        _ => false,
    };
    let reads_on = |after: Op| !after.is_mutation() && after != Op::Hint && !begins(after);
    // The list is read beside the runs.
    let reads = !op.is_mutation() && op != Op::List;
    !(of_process && reads && after.is_some_and(reads_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_hit_at_the_last_read_of_a_pass_and_at_every_change() {
        let hit = |op, after| tells_here(op, Fault::CrashBefore, after);
        let pass = [Op::Wishes, Op::Remembered, Op::Service, Op::Routes, Op::Alarms, Op::Targets];
        for two in pass.windows(2) {
            assert!(!hit(two[0], Some(two[1])), "{two:?}");
            assert!(tells_here(two[0], Fault::Unread, Some(two[1])), "a read that fails is not the same");
        }
        for after in [None, Some(Op::Wishes), Some(Op::Write), Some(Op::Effect), Some(Op::Hint)] {
            assert!(hit(Op::Targets, after), "{after:?}");
        }
        assert!(hit(Op::Write, Some(Op::Effect)) && hit(Op::Effect, Some(Op::Write)));
        assert!(hit(Op::Targets, Some(Op::Service)), "between two looks for an emergency");
        assert!(hit(Op::List, Some(Op::Remembered)), "which another task reads");
    }

    #[test]
    fn every_fault_is_named_so_that_it_can_be_replayed() {
        for op in Op::ALL {
            for fault in applicable(op) {
                assert_eq!(fault.to_string().parse(), Ok(fault));
            }
        }
        assert_eq!("weather-7".parse(), Ok(Fault::Weather(7)));
        assert!("late-much".parse::<Fault>().is_err());
    }
}
