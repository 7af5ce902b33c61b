//! One state of the lease's model: small, equal when nothing that matters differs.

use super::table::{SHARDS, Table, Write};
use crate::search::{Budget, Kinds};

/// A number for a replica; `Mind` knows what it remembers.
pub type ReplicaId = u32;

/// Places for processes.
pub const PLACES: usize = 3;
/// Writes that can be on their way, forgotten by their sender.
pub const FLYING: usize = 3;

/// Whether there is a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// None.
    Absent,
    /// It runs.
    Running,
    /// It was told to stop, has withdrawn its permits, and waits for what runs under them.
    Leaving,
}

/// What may still run under a permit that was withdrawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rest {
    /// So many ticks of the process's clock; 0: nothing.
    pub ticks: u8,
    /// Of the permit.
    pub epoch: u8,
}

/// What a call does that takes longer than a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// Reads: what was read so far, and which parts ([`SHARDS_READ`] and so on).
    Look { read: Table, parts: u8 },
    /// Writes; the parts of a take are each on its own. The answers, once each has landed.
    Write { writes: [Option<Write>; SHARDS], answers: [Option<bool>; SHARDS] },
}

/// Bits of the parts of a look.
pub const SHARDS_READ: u8 = 1;
/// See [`SHARDS_READ`].
pub const MEMBERS_READ: u8 = 2;
/// See [`SHARDS_READ`].
pub const LAYOUT_READ: u8 = 4;
/// All of them.
pub const ALL_READ: u8 = 7;

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Ticks of the process's clock since it was sent, up to a time to live.
    pub age: u8,
    /// What.
    pub doing: Doing,
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Whether it is there.
    pub phase: Phase,
    /// How often it was started before.
    pub start: u8,
    /// What it remembers.
    pub replica: ReplicaId,
    /// It is stopped, and time goes on.
    pub paused: bool,
    /// Under way.
    pub call: Option<Call>,
    /// By shard.
    pub rest: [Rest; SHARDS],
}

impl Process {
    /// Not there.
    pub const fn absent(start: u8) -> Self {
        let rest = [Rest { ticks: 0, epoch: 0 }; SHARDS];
        Self { phase: Phase::Absent, start, replica: 0, paused: false, call: None, rest }
    }
}

/// Kinds of faults and of people's acts; each has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A process dies.
    Crash,
    /// A process is told to stop.
    Leave,
    /// A process is stopped for any time.
    Pause,
    /// A look comes to nothing, or the last call of a process that leaves.
    Lost,
    /// A call's answer is lost.
    Unheard,
    /// A write lands when its sender has given up on it: any time later.
    Late,
    /// The client sends a write again by itself: both land, or one lands any time later.
    Twice,
    /// Time passes between the parts of a call.
    Slow,
    /// A clock stands still for a tick.
    Slip,
}

/// Every kind, in the order of the budgets.
pub const KINDS: [Kind; 9] = [
    Kind::Crash,
    Kind::Leave,
    Kind::Pause,
    Kind::Lost,
    Kind::Unheard,
    Kind::Late,
    Kind::Twice,
    Kind::Slow,
    Kind::Slip,
];

impl Kinds for Kind {
    fn place(self) -> usize {
        self as usize
    }
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// In `DynamoDB`.
    pub table: Table,
    /// By place.
    pub processes: [Process; PLACES],
    /// Sorted, the empty places last.
    pub flying: [Option<Write>; FLYING],
    /// Faults left.
    pub left: Budget<{ KINDS.len() }>,
    /// Faults can happen.
    pub foul: bool,
}

impl State {
    /// Puts a write on its way; whether there was room.
    pub fn fly(&mut self, write: Write) -> bool {
        let Some(free) = self.flying.iter_mut().find(|slot| slot.is_none()) else { return false };
        *free = Some(write);
        self.flying.sort_unstable_by_key(|slot| (slot.is_none(), *slot));
        true
    }

    /// Takes one off its way.
    pub fn catch(&mut self, index: usize) -> Option<Write> {
        let write = self.flying.get_mut(index)?.take();
        self.flying.sort_unstable_by_key(|slot| (slot.is_none(), *slot));
        write
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// Done and answered at once.
    Done,
    /// Not done, and nobody can tell.
    Lost,
    /// Done, and the answer is lost.
    Unheard,
    /// Nobody can tell; it may land later.
    Late,
    /// Done and answered; a second copy may land later.
    Twice,
    /// Done; repeated, and the second answer is heard.
    Again,
    /// It is on its way.
    Slow,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// A process starts.
    Start(u8),
    /// From here on faults can happen.
    Foul,
    /// A process does what comes next; of a take, the fate is that of these parts, and the others are done.
    Go(u8, Fate, u8),
    /// A part of a slow call reaches the table.
    Part(u8, u8),
    /// A slow call's answer is there.
    Hear(u8),
    /// A slow call is given up.
    GiveUp(u8),
    /// What ran under a permit that was withdrawn has ended.
    Ended(u8, u8),
    /// A process dies.
    Crash(u8),
    /// A process is told to stop.
    Leave(u8),
    /// A process that leaves removes its member and ends.
    Gone(u8, Fate),
    /// A process is stopped.
    Pause(u8),
    /// It goes on.
    Resume(u8),
    /// A late write lands.
    Land(u8),
    /// Time passes; for one process it may not.
    Tick(Option<u8>),
}

/// The name under which a step is counted.
pub fn kind(action: Action) -> &'static str {
    match action {
        Action::Start(_) => "start",
        Action::Foul => "foul weather",
        Action::Go(_, Fate::Done, _) => "call",
        Action::Go(_, Fate::Lost, _) => "lost",
        Action::Go(_, Fate::Unheard, _) => "answer lost",
        Action::Go(_, Fate::Late, _) => "late",
        Action::Go(_, Fate::Twice, _) => "duplicated",
        Action::Go(_, Fate::Again, _) => "repeated",
        Action::Go(_, Fate::Slow, _) => "slow",
        Action::Part(..) => "slow part",
        Action::Hear(_) => "slow answer",
        Action::GiveUp(_) => "given up",
        Action::Ended(..) => "run ended early",
        Action::Crash(_) => "crash",
        Action::Leave(_) => "leave",
        Action::Gone(_, Fate::Done) => "gone",
        Action::Gone(..) => "gone unheard",
        Action::Pause(_) => "pause",
        Action::Resume(_) => "resume",
        Action::Land(_) => "late landing",
        Action::Tick(None) => "tick",
        Action::Tick(Some(_)) => "slow clock",
    }
}
