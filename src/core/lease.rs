//! Who may write: the services are split into shards, and each shard has one owner at a time (`semantics` 5.13).
//!
//! **What is in the table.** Each replica has a *member* item with a beat that it raises every `renew`. Each shard has
//! an item that names its holder and an epoch that grows with every take. The *layout* item says how many shards
//! there are. A service belongs to the shard [`ShardCount::shard_of`] its key.
//!
//! **What it costs.** One write and three reads a replica every `renew`, however many shards there are: it is the
//! replica that is alive or not, never one of its shards. A shard's item is written when it changes hands.
//!
//! **Why a shard has never two owners.** A replica believes that it owns shard `n` under epoch `e` from the
//! acknowledgement of its own take until it gives `n` up or its life ends, and acts on it only while its permit is
//! valid. For another to own `n`, a take must land that names a later epoch. That take was sent after its sender saw
//! `n` without a holder, or named a holder that was then not among the members (members are read *after* shards, and a
//! replica joins *before* it takes, so one that is missing was there and is gone).
//! - Without a holder: the owner gave `n` up. It did so after its permit was withdrawn and every run under it had
//!   ended or had had its `operation`.
//! - Holder gone: it left, which it does after the same; or it was *buried*: removed, on the condition that its beat is
//!   still `b`, by a replica that has watched `b` stand still for a whole `ttl` on its own monotonic clock, counted
//!   from when the read that showed `b` came back. The permit ends `margin` before `ttl` has passed since the
//!   owner *sent* its last acknowledged beat, which is `b` or an earlier one. So it ended first, as long as two
//!   clocks run at rates within `margin / ttl` (10 %). A beat after the burial finds no item and is refused, and with
//!   that the replica's life is over: it begins a new one under a new name, with no shards.
//!
//! Nothing is inferred from a lost answer. A shard that names us without a take that was acknowledged is taken again,
//! under a later epoch; that also outruns a give-up of ours which may still be on its way. A name joins once: when the
//! answer to a join is lost, the next life has another name. So a life that lives has no join on its way any
//! more, and nothing brings a member back that was buried. (A join delivered late, and then a first beat delivered late,
//! would bring it back far enough for its next beat.) What such a join leaves behind is buried like any other.
//!
//! **How many shards.** Replicas with different counts would place one service in two shards. So a replica takes
//! nothing until it has read, after its own join was acknowledged, the layout with its own count and no member with
//! another one. Of two that join at once at least one sees the other. Who finds another count in the layout leaves; who
//! finds its own waits until the other has left. The layout changes only while there are no members of another
//! count. Epochs go on from the greatest of all shards, so that a service's epoch grows across a change too.
//!
//! **Balance.** A replica takes free shards up to `shards / living replicas`, rounded up, at most [`MOVES`] a look, in an
//! order of its own. Who has more gives some up, at most [`MOVES`] a look, once nothing lies free and the newcomer has
//! been seen to beat.
//!
//! What no lease can give: a process that is stopped between its check and the kernel's send. Effects are therefore safe
//! to repeat, and state writes are fenced by `rev` and by the shard's epoch.

mod replica;
mod shard;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::records::Span;

pub use replica::{Number, Replica};
pub use shard::{Shard, ShardCount};

/// Shards that one replica takes, or gives up, after one look: many that start together must not storm the table,
/// and what is given up lies free for a moment.
pub const MOVES: usize = 16;

/// How many shards there are, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Layout {
    /// None: nobody has said so yet.
    pub shards: Option<u16>,
    /// Epochs begin after this one.
    pub epoch: u64,
}

/// The life of one replica, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Grows with every beat; 1 when it joins.
    pub beat: u64,
    /// The count it goes by.
    pub shards: u16,
}

/// One shard, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Grows with every take.
    pub epoch: u64,
    /// Who took it; none: it was given up.
    pub holder: Option<String>,
}

/// The whole table as one look shows it. **The members and the layout are read after the shards**; apart from that
/// the parts may come from different moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Look {
    /// How many shards there are.
    pub layout: Layout,
    /// Who lives, by name.
    pub members: BTreeMap<String, Member>,
    /// Shards that were ever taken; those of a larger layout may be among them.
    pub shards: BTreeMap<u16, Owner>,
}

/// One shard to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Which.
    pub shard: Shard,
    /// The epoch that must still be there; none: no item yet.
    pub seen: Option<u64>,
    /// The new one.
    pub epoch: u64,
}

/// What to do next. Every write is one conditional write of one item and, but for [`Step::Join`], safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Nothing, for so many milliseconds.
    Wait {
        /// At least 1.
        ms: u64,
    },
    /// Read the table.
    Look,
    /// Write our count, if the layout still says `seen`.
    Found {
        /// As last read.
        seen: Option<u16>,
    },
    /// Make our member item with beat 1, unless it is there. **Sent once**: the one step that is not safe to repeat.
    Join {
        /// Our name in this life.
        member: String,
    },
    /// Add one to our beat, if the item is there and its beat is at least `floor`.
    Beat {
        /// Our name in this life.
        member: String,
        /// What it must have reached.
        floor: u64,
    },
    /// Remove a member, if its beat is still this one.
    Bury {
        /// Whose beat stood still.
        member: String,
        /// At what.
        beat: u64,
    },
    /// Become the holder of these shards, each on its own condition; together or one after another.
    Take {
        /// Our name in this life.
        member: String,
        /// At most [`MOVES`].
        claims: Vec<Claim>,
    },
    /// Take our name off a shard, if it is still ours under this epoch.
    Free {
        /// Our name in this life.
        member: String,
        /// Which.
        shard: Shard,
        /// Of the take.
        epoch: u64,
    },
    /// Remove our member item.
    Retire {
        /// Our name in this life.
        member: String,
    },
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// Done.
    Done,
    /// Its condition did not hold.
    Refused,
}

/// The lease's times. A call starts only while the lease outlasts `operation` and `margin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeaseTiming {
    /// Another daemon takes over when the beat stood still for so long on its own clock. 20s unless told.
    pub ttl: Span,
    /// Time between two beats. 4s unless told.
    pub renew: Span,
    /// The longest that one AWS call may take. 6s unless told.
    pub operation: Span,
    /// For clocks that run at different speeds. 2s unless told.
    pub margin: Span,
}

impl Default for LeaseTiming {
    /// 20 s, 4 s, 6 s, 2 s (`semantics` 5.13).
    fn default() -> Self {
        Self {
            ttl: Span::from_secs(20),
            renew: Span::from_secs(4),
            operation: Span::from_secs(6),
            margin: Span::from_secs(2),
        }
    }
}

/// Why four times are not a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTiming {
    /// Nothing may be zero.
    #[error("none of ttl, renew, operation and margin may be zero")]
    Zero,
    /// One lost renewal must not cost the lease.
    #[error(
        "ttl {ttl} must be at least margin + operation + 2 × renew = {needed}, so that a lost renewal does not stop the daemon"
    )]
    TooShort {
        /// As given.
        ttl: Span,
        /// What it must be at least.
        needed: Span,
    },
    /// Clocks of two hosts run at slightly different rates.
    #[error("margin {margin} must be at least a tenth of ttl {ttl}")]
    MarginTooSmall {
        /// As given.
        margin: Span,
        /// As given.
        ttl: Span,
    },
}

impl LeaseTiming {
    /// Refuses times that do not hold together.
    pub fn checked(self) -> Result<Self, BadTiming> {
        let Self { ttl, renew, operation, margin } = self;
        if [ttl, renew, operation, margin].contains(&Span::ZERO) {
            return Err(BadTiming::Zero);
        }
        let needed = margin.plus(operation).plus(renew.times(2));
        if ttl < needed {
            return Err(BadTiming::TooShort { ttl, needed });
        }
        if margin.times(10) < ttl {
            return Err(BadTiming::MarginTooSmall { margin, ttl });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
