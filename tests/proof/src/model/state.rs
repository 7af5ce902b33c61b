//! One state of the model: small, equal when nothing that matters differs.

use pointsman_core::records::command::Verb;

use super::world::{EffectId, Reply, World};
use crate::search::{Budget, Kinds};

/// A number for facts; `Mind` knows what they are.
pub type FactsId = u32;
/// A number for a set of reads that were asked for.
pub type NeedsId = u16;

/// Replicas that can have something in hand at a time: the owner, and former owners who are paused.
pub const REPLICAS: usize = 3;

/// What a replica has in hand between two lines of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hand {
    /// Nothing: between two turns.
    Empty,
    /// An effect is announced, signed and past the lease gate; it was not sent yet.
    Signed {
        /// Which.
        effect: EffectId,
        /// Ticks since then.
        age: u8,
    },
    /// The answer is there and not recorded.
    Answered {
        /// To what.
        effect: EffectId,
        /// What AWS said.
        reply: Reply,
    },
}

/// What a replica has that cannot reach the table, and has no lease any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cut {
    /// What was durable last, as far as it knows.
    pub facts: FactsId,
    /// What it saw and did since; `Mind` knows what it is.
    pub emergency: u16,
}

/// One replica of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "each may hold with or without the others")]
pub struct Replica {
    /// The epoch of its lease, which may be another's by now.
    pub epoch: u8,
    /// Where it stands.
    pub hand: Hand,
    /// The facts as it decided last; none after a crash.
    pub memory: Option<FactsId>,
    /// Nobody else has written the state since it read it (its `rev` is the state's).
    pub current: bool,
    /// Ticks since its last turn, up to two.
    pub since: u8,
    /// It waits for the next tick, or for something to happen.
    pub asleep: bool,
    /// It was stopped in the middle (SIGSTOP, a slow disk): time goes on without it.
    pub paused: bool,
    /// What its next turn reads besides.
    pub needs: NeedsId,
    /// What it has in hand was never recorded. Only a seeded bug does this.
    pub unrecorded: bool,
    /// It cannot reach the table, and its lease has run out.
    pub cut: Option<Cut>,
}

impl Replica {
    /// One that has nothing.
    pub const fn fresh(epoch: u8) -> Self {
        Self {
            epoch,
            hand: Hand::Empty,
            memory: None,
            current: false,
            since: 0,
            asleep: false,
            paused: false,
            needs: 0,
            unrecorded: false,
            cut: None,
        }
    }

    /// Loses its memory, as by a crash; the process is there again at once.
    pub fn forget(&mut self) {
        *self = Self::fresh(self.epoch);
    }
}

/// Kinds of faults and of people's acts; each has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The process dies.
    Crash,
    /// Another replica takes the lease.
    TakeOver,
    /// An answer is lost, whether the effect happened or not.
    Lost,
    /// An effect lands after its caller gave up, or its caller is paused before it sends.
    Delay,
    /// An effect lands twice.
    Duplicate,
    /// AWS refuses: rate limit.
    Refuse,
    /// A read shows weights and stability as they were before the last change.
    Stale,
    /// A part of the world cannot be read.
    Unread,
    /// A person moves production weights.
    Drift,
    /// The alarm changes.
    Flip,
    /// The desired record changes, goes or comes back.
    Edit,
    /// An operator's command.
    Order,
    /// All tasks of a set die, whoever's it is.
    Die,
    /// They start again.
    Revive,
    /// The owner cannot reach the table, until its lease has run out and longer.
    CutOff,
}

/// Every kind, in the order of the budgets.
pub const KINDS: [Kind; 15] = [
    Kind::Crash,
    Kind::TakeOver,
    Kind::Lost,
    Kind::Delay,
    Kind::Duplicate,
    Kind::Refuse,
    Kind::Stale,
    Kind::Unread,
    Kind::Drift,
    Kind::Flip,
    Kind::Edit,
    Kind::Order,
    Kind::Die,
    Kind::Revive,
    Kind::CutOff,
];

impl Kinds for Kind {
    fn place(self) -> usize {
        self as usize
    }
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The state item.
    pub durable: FactsId,
    /// The owner of the lease comes first; then those who were, sorted.
    pub replicas: [Option<Replica>; REPLICAS],
    /// The lease's epoch.
    pub epoch: u8,
    /// Outside of the daemon.
    pub world: World,
    /// The desired record's revision; none: there is no record.
    pub desired: Option<u8>,
    /// A command in the table, with the release that it names.
    pub order: Option<(Verb, (u8, u8))>,
    /// Faults left.
    pub left: Budget<{ KINDS.len() }>,
}

impl State {
    /// Brings replicas into their order: those without anything in hand but the owner are like no replica.
    pub fn tidy(&mut self) {
        let rest = &mut self.replicas[1..];
        for slot in rest.iter_mut() {
            *slot =
                slot.filter(|replica| replica.hand != Hand::Empty || replica.paused || replica.cut.is_some());
        }
        rest.sort_unstable_by_key(|slot| std::cmp::Reverse(*slot));
    }

    /// The owner of the lease.
    pub fn owner(&self) -> Replica {
        self.replicas[0].unwrap_or(Replica::fresh(self.epoch))
    }
}

/// What a turn sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sight {
    /// Everything as it is.
    Clear,
    /// Routes as they were before the last write, and an old stability status.
    Stale,
    /// The ECS service cannot be read.
    NoService,
    /// No route can be read.
    NoRoutes,
    /// No alarm can be read.
    NoAlarms,
}

/// What becomes of a request that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// Done and answered.
    Done,
    /// Done, and the answer is lost.
    AnswerLost,
    /// Not done, and nobody can tell.
    CallLost,
    /// The caller gives up; it may land later.
    Late,
    /// Done and answered; it lands a second time.
    Twice,
    /// Refused by rate limit.
    Throttled,
}

/// One step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// A replica reads the world, decides and records.
    Turn(u8, Sight),
    /// A replica sends what it has signed.
    Send(u8, Fate),
    /// A replica records an answer.
    Settle(u8),
    /// A replica dies. With `true`, its clocks had just been written.
    Crash(u8, bool),
    /// Another replica takes the lease. With `true`, the former owner was in the middle of a pass.
    TakeOver(bool),
    /// The owner is stopped with a signed request in hand.
    Pause,
    /// A late request lands.
    Land(u8),
    /// Time passes.
    Tick,
    /// A person moves all production weight to a, or to b.
    Drift(bool),
    /// The alarm changes.
    Flip,
    /// The desired record changes.
    Edit(Option<u8>),
    /// An operator writes a command.
    Order(Verb),
    /// All tasks of a set die.
    Die(u8),
    /// Tasks of a set start again.
    Revive(u8),
    /// The owner's lease runs out for want of the table.
    CutOff,
    /// A replica without a lease looks and judges.
    Judge(u8),
    /// It sends what it judged right.
    TakeBack(u8, Fate),
    /// The table answers it again.
    Back(u8),
}

/// The name under which a step is counted.
pub fn kind(action: Action) -> &'static str {
    match action {
        Action::Turn(0, Sight::Clear) => "turn",
        Action::Turn(_, Sight::Clear) => "late pass",
        Action::Turn(_, Sight::Stale) => "stale read",
        Action::Turn(..) => "unread",
        Action::Send(0, Fate::Done) => "effect",
        Action::Send(_, Fate::Done) => "late send",
        Action::Send(_, Fate::AnswerLost) => "answer lost",
        Action::Send(_, Fate::CallLost) => "call lost",
        Action::Send(_, Fate::Late) => "delayed",
        Action::Send(_, Fate::Twice) => "duplicated",
        Action::Send(_, Fate::Throttled) => "refused",
        Action::Settle(0) => "settle",
        Action::Settle(_) => "late settle",
        Action::Crash(..) => "crash",
        Action::TakeOver(_) => "take-over",
        Action::Pause => "pause",
        Action::Land(_) => "landing",
        Action::Tick => "tick",
        Action::Drift(_) => "drift",
        Action::Flip => "alarm",
        Action::Edit(_) => "edit",
        Action::Order(_) => "command",
        Action::Die(_) => "tasks die",
        Action::Revive(_) => "tasks come back",
        Action::CutOff => "cut off",
        Action::Judge(_) => "emergency look",
        Action::TakeBack(_, Fate::Done | Fate::AnswerLost) => "emergency write",
        Action::TakeBack(..) => "emergency write failed or late",
        Action::Back(_) => "table is back",
    }
}
