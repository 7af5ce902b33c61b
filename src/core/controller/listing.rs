//! When all services are listed: at once when a shard was gained, then every few minutes.

use super::spread;
use crate::records::Span;

/// Time between two failed lists: doubled each time, up to a minute, once the services are known.
const RETRY: Span = Span::from_secs(1);
const LONGEST_RETRY: Span = Span::from_mins(1);

/// Where the next list stands.
#[derive(Debug, Default)]
pub(super) struct Listing {
    at_ms: u64,
    failures: u32,
    running: bool,
    /// Whether the services were listed since a shard was taken last.
    pub(super) known: bool,
}

impl Listing {
    /// When the next one may begin; none while one is under way.
    pub(super) fn due_ms(&self) -> Option<u64> {
        (!self.running).then_some(self.at_ms)
    }

    pub(super) fn begins(&mut self) {
        self.running = true;
        self.at_ms = u64::MAX;
    }

    /// Other services than before are ours, or none.
    pub(super) fn begins_anew(&mut self, now_ms: u64) {
        *self = Self { at_ms: now_ms, running: self.running, ..Self::default() };
    }

    pub(super) fn succeeded(&mut self, now_ms: u64, resync: Span, owns_any: bool) {
        self.running = false;
        self.failures = 0;
        // A shard that was gained since it began asks for another one.
        self.known = self.at_ms == u64::MAX && owns_any;
        let resync = now_ms.saturating_add(spread(resync, now_ms).millis());
        self.at_ms = self.at_ms.min(resync);
    }

    /// Answers the pause until the next try, before it is spread.
    pub(super) fn failed(&mut self, now_ms: u64) -> Span {
        self.running = false;
        self.failures = self.failures.saturating_add(1);
        // Until a new owner knows the services nothing moves, rollbacks included.
        let doubled = if self.known { self.failures.min(6) } else { 0 };
        let again = RETRY.times(1 << doubled).min(LONGEST_RETRY);
        self.at_ms = now_ms.saturating_add(spread(again, now_ms).millis());
        again
    }

    /// Its task panicked.
    pub(super) fn lost(&mut self, now_ms: u64) {
        self.running = false;
        self.at_ms = now_ms.saturating_add(RETRY.millis());
    }
}
