//! Action lists as they were read last, for a way back whose own read fails.
//!
//! A weight write replaces a whole list, so it begins with a read. `DescribeRules` shares its quota with everybody's tools
//! (`aws-facts.md` §4.2) and `ModifyRule` has another one: when the read is throttled or denied, the write may still
//! work, and traffic must not stay on a burning version for want of a list that was read a poll ago.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_elasticloadbalancingv2::types::Action;

use crate::records::Span;

/// The oldest list that is written back. Observation reads a list in every pass, so the age of the last one is the time for
/// which no read has worked, and what could be overwritten is an edit of that time. An hour is longer than throttles last
/// and as long as a release bakes; a person or a tool that edits a rule edits it again, but nothing else brings back traffic.
/// A list of yesterday may have been edited any number of times.
pub const OLDEST: Span = Span::from_mins(60);

/// Lists that are kept: those of 10,000 services with two routes each. At about a kilobyte each, 20 MB.
const MOST: usize = 20_000;

/// A list, and when it was read by the monotonic clock, in milliseconds.
type Read = (u64, Arc<Vec<Action>>);

/// The lists, by the ARN of their rule or listener.
#[derive(Debug, Default)]
pub struct Kept(Mutex<BTreeMap<String, Read>>);

impl Kept {
    /// `actions` were read at `now_ms`, by the monotonic clock.
    pub fn remember(&self, arn: &str, actions: &Arc<Vec<Action>>, now_ms: u64) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= MOST && !lists.contains_key(arn) {
            // Whoever is in flight is read again within a poll.
            lists.clear();
        }
        lists.insert(arn.to_owned(), (now_ms, Arc::clone(actions)));
    }

    /// AWS does not know the rule or listener any more.
    pub fn forget(&self, arn: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(arn);
    }

    /// The last list, unless it is older than [`OLDEST`].
    pub fn recall(&self, arn: &str, now_ms: u64) -> Option<Arc<Vec<Action>>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_ms, actions) = lists.get(arn)?;
        (now_ms.saturating_sub(*read_ms) <= OLDEST.millis()).then(|| Arc::clone(actions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_for_an_hour_after_its_last_read() {
        let (kept, list) = (Kept::default(), Arc::new(Vec::new()));
        let hour = OLDEST.millis();
        kept.remember("rule", &list, 0);
        kept.remember("rule", &list, 5_000);
        assert!(kept.recall("rule", hour + 5_000).is_some());
        assert!(kept.recall("rule", hour + 5_001).is_none());
        assert!(kept.recall("another", 5_000).is_none());
    }

    #[test]
    fn so_many_lists_are_kept_and_no_more() {
        let (kept, list) = (Kept::default(), Arc::new(Vec::new()));
        for number in 0..=MOST {
            kept.remember(&format!("rule {number}"), &list, 0);
            kept.remember("rule 0", &list, 0);
        }
        assert!(kept.0.lock().unwrap().len() <= MOST);
        assert!(kept.recall(&format!("rule {MOST}"), 0).is_some());
    }
}
