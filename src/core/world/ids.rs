//! Identifiers in AWS's shapes, made from a counter.
//!
//! A pure model may not draw random numbers, and two runs with the same calls must give the same
//! ARNs, so each identifier is a scrambled counter value: unique, stable, and of a realistic look.

use serde::{Deserialize, Serialize};

use super::Address;

/// The counter behind every identifier of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Ids {
    issued: u64,
    addresses: u32,
}

impl Ids {
    /// A bijection on `u64` (the finaliser of `SplitMix64`), so no two counter values collide.
    fn next(&mut self) -> u64 {
        self.issued += 1;
        let mut z = self.issued.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number of a plain sequence: later things have greater numbers.
    pub(super) fn sequence(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// 16 hexadecimal digits, as in load balancer and target group ARNs.
    pub(super) fn hex16(&mut self) -> String {
        format!("{:016x}", self.next())
    }

    /// 32 hexadecimal digits, as in task ARNs.
    pub(super) fn hex32(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }

    /// `ecs-svc/` and 19 digits, as task sets and deployments have.
    pub(super) fn task_set(&mut self) -> String {
        format!("ecs-svc/{}", 1_000_000_000_000_000_000 + self.next() % 9_000_000_000_000_000_000)
    }

    /// The UUID form that service events and attachments have.
    pub(super) fn uuid(&mut self) -> String {
        let hex = self.hex32();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// An address in 10.0.0.0/8 that no other simulated task has had.
    pub(super) fn address(&mut self, port: u16) -> Address {
        self.addresses += 1;
        let [_, a, b, c] = self.addresses.to_be_bytes();
        Address { ip: format!("10.{a}.{b}.{c}"), port }
    }
}
