//! When a pass must write: what changed by itself (clocks, timestamps) is not worth a write of its own.

use jiff::Timestamp;

use crate::model::Facts;
use crate::records::Span;
use crate::records::status::{ReleaseStatus, Status};

/// While clocks run in a release, a clean-up or a waiting request, they are written every so many polls: one write
/// beside six looks, which ask the tables and AWS at least three times each.
const POLLS: u64 = 6;

/// And at least this often, however long the poll: a crash costs at most so much of a bake.
const LONGEST: Span = Span::from_secs(30);

/// While nothing runs but the retention of a previous version, which may last two days, so many times as long:
/// 2 min at the default poll of 2 s, and 5 min at most.
const RETENTION: u64 = 10;

/// How long the clocks of these facts may run unwritten; none: for ever.
pub fn checkpoint(facts: &Facts, poll: Span) -> Option<Span> {
    let busy = poll.times(POLLS).min(LONGEST);
    if facts.is_busy() { Some(busy) } else { facts.retained.is_some().then(|| busy.times(RETENTION)) }
}

/// Whether two status documents differ in more than the passing of time.
pub fn differs(before: Option<&ReleaseStatus>, after: &ReleaseStatus) -> bool {
    before.is_none_or(|before| timeless(before) != timeless(after))
}

fn timeless(status: &ReleaseStatus) -> ReleaseStatus {
    let mut still = status.clone();
    let Status { release, traffic, waiting_on, conditions, retained, .. } = &mut still.status;
    if let Some(step) = release.as_mut().and_then(|release| release.step.as_mut()) {
        step.bake_done = Span::ZERO;
    }
    for route in traffic {
        route.read_at = Timestamp::UNIX_EPOCH;
    }
    if let Some(waiting) = waiting_on {
        waiting.until = Timestamp::UNIX_EPOCH;
        waiting.deadline = waiting.deadline.map(|_| Timestamp::UNIX_EPOCH);
        waiting.message = without_spans(&waiting.message);
    }
    for condition in conditions {
        condition.last_transition_time = Timestamp::UNIX_EPOCH;
        condition.message = condition.message.as_deref().map(without_spans);
    }
    if let Some(retained) = retained {
        retained.remaining = Span::ZERO;
    }
    still
}

/// `1m40s of 5m left` says the same as `1m38s of 5m left`.
fn without_spans(sentence: &str) -> String {
    let blank = |word: &str| {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if core.parse::<Span>().is_ok() { word.replace(core, "~") } else { word.to_owned() }
    };
    sentence.split(' ').map(blank).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::{Pending, Retained, Version};
    use crate::records::{Group, Percent};

    #[test]
    fn clocks_are_written_in_proportion_to_the_looks_and_at_least_every_half_minute() {
        let busy = Facts { pending: Some(Pending::default()), ..Facts::default() };
        let version = Version {
            revision: "web:1".parse().unwrap(),
            task_set: "set".to_owned(),
            external_id: "id".to_owned(),
            group: Group::A,
            scale: Percent::FULL,
        };
        let retained = Retained { version, kept: Span::ZERO, uncertain: false, release: None };
        let warm = Facts { retained: Some(retained), ..Facts::default() };
        for (poll, releasing, retaining) in
            [("250ms", "1500ms", "15s"), ("5s", "30s", "5m"), ("1m", "30s", "5m")]
        {
            let every = |facts: &Facts| checkpoint(facts, poll.parse().unwrap());
            assert_eq!(every(&busy), Some(releasing.parse().unwrap()), "{poll}");
            assert_eq!(every(&warm), Some(retaining.parse().unwrap()), "{poll}");
            assert_eq!(every(&Facts::default()), None);
        }
    }

    #[test]
    fn a_sentence_that_only_counts_down_says_the_same() {
        let say = without_spans;
        assert_eq!(say("baking 10 %; 1m40s of 5m left"), say("baking 10 %; 1m38s of 5m left"));
        assert_eq!(say("(90s left)"), say("(88s left)"));
        assert_ne!(say("baking 10 %"), say("baking 20 %"));
        assert_ne!(say("3 of 6 run"), say("4 of 6 run"));
    }
}
