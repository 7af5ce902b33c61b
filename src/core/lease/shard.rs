//! Which shard a service belongs to.

use std::fmt;
use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::records::ServiceKey;

/// One part of all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(pub u16);

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many shards the services are split into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ShardCount(NonZeroU16);

impl ShardCount {
    /// A look reads every shard's item, about 100 bytes each: 256 of them are 25 KB.
    pub const MOST: u16 = 256;

    /// One shard: no split.
    pub const ONE: Self = Self(NonZeroU16::MIN);

    /// None for zero.
    pub const fn new(count: u16) -> Option<Self> {
        match NonZeroU16::new(count) {
            Some(count) => Some(Self(count)),
            None => None,
        }
    }

    /// As a number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// All shards.
    pub fn all(self) -> impl Iterator<Item = Shard> {
        (0..self.get()).map(Shard)
    }

    /// The shard of a service: the first eight bytes of the SHA-256 of `namespace/name`, as a big-endian number,
    /// modulo the count. Replicas of any version must agree on this.
    pub fn shard_of(self, key: &ServiceKey) -> Shard {
        let digest = Sha256::digest(key.to_string());
        let first = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        let shard = first % u64::from(self.get());
        Shard(u16::try_from(shard).unwrap_or(u16::MAX))
    }
}

impl Default for ShardCount {
    /// 64.
    fn default() -> Self {
        Self(NonZeroU16::MIN.saturating_add(63))
    }
}
