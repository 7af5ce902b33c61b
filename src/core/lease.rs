//! The lease: of all processes of one installation, one may write (`semantics` 5.13).
//!
//! One item with an `epoch` that grows with every owner and a `beat` that grows with every renewal. A
//! contender takes it over after it has watched the same beat for a whole time to live on its own monotonic
//! clock, and only if the beat is still that one: no two hosts' clocks are ever compared.
//!
//! An owner's permit ends `margin` before the time to live has passed since the owner *sent* its last
//! successful renewal; a contender counts from after its read came back. So the permit has ended before
//! anybody else can own the lease, as long as the two clocks run at rates within `margin / ttl` (10 %).
//! A process that is stopped between its check and the kernel's send is outside of what any lease can give;
//! effects are safe to repeat and state writes are fenced by `rev` and `epoch`.

mod watch;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::records::Span;

pub use watch::{LeaseItem, LeaseWatch, Renewal, Step, Taken};

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
