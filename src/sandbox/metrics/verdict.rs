//! The judgement of one alarm over the datapoints of its evaluation range, as the page "Configuring
//! how `CloudWatch` alarms treat missing data" describes it (`aws-facts.md` §3).
//!
//! Where that page leaves a gap: fewer datapoints than needed, all breaching, too young to alarm and
//! missing data treated as missing gives OK, because `INSUFFICIENT_DATA` is only for "all missing".

use crate::world::alarm::{AlarmState, MissingData};

/// Datapoints retrieved beyond `EvaluationPeriods`. AWS does not publish the number; the page's
/// example has an evaluation range of 5 for 3 evaluation periods.
pub const EXTRA_DATAPOINTS: u32 = 2;

/// A datapoint of the evaluation range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapoint {
    /// Nothing was recorded.
    Missing,
    /// Beyond the threshold.
    Breaching,
    /// Within the threshold.
    Within,
}

/// M out of N, and what fills gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// N, `EvaluationPeriods`.
    pub periods: usize,
    /// M, `DatapointsToAlarm`.
    pub needed: usize,
    /// What a missing datapoint counts as.
    pub missing: MissingData,
}

/// What the datapoints mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The new state; `None` keeps the present one.
    pub state: Option<AlarmState>,
    /// Missing datapoints that had to be filled in.
    pub filled: usize,
}

/// Judges the evaluation range, oldest datapoint first.
pub fn judge(range: &[Datapoint], rule: Rule) -> Verdict {
    let newest_first = || range.iter().rev().copied();
    let real = newest_first().filter(|point| *point != Datapoint::Missing);
    let judged: Vec<Datapoint> = real.take(rule.periods).collect();
    let breaching = judged.iter().filter(|point| **point == Datapoint::Breaching).count();
    let filled = rule.periods - judged.len();
    let alarm_if = |alarm: bool| Some(if alarm { AlarmState::Alarm } else { AlarmState::Ok });
    // With enough real datapoints the treatment of missing ones plays no part.
    let state = if filled == 0 || breaching >= rule.needed {
        alarm_if(breaching >= rule.needed)
    } else {
        let all_breach = breaching == judged.len();
        match rule.missing {
            MissingData::Breaching => alarm_if(breaching + filled >= rule.needed),
            MissingData::Ignore if all_breach => None,
            MissingData::Missing if judged.is_empty() => Some(AlarmState::InsufficientData),
            // Only breaching and missing datapoints, and the oldest breaching one is M periods old:
            // "alarms are designed to always go into ALARM state" then.
            MissingData::Missing if all_breach => {
                let oldest = newest_first().collect::<Vec<_>>();
                let age = oldest.iter().rposition(|point| *point == Datapoint::Breaching);
                alarm_if(age.is_some_and(|age| age + 1 >= rule.needed))
            }
            MissingData::NotBreaching | MissingData::Ignore | MissingData::Missing => Some(AlarmState::Ok),
        }
    };
    Verdict { state, filled }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page's notation: `0` within, `X` breaching, `-` missing, oldest first.
    fn judge_all(range: &str, needed: usize) -> [Option<AlarmState>; 4] {
        let range: Vec<_> = range
            .chars()
            .filter_map(|mark| match mark {
                '0' => Some(Datapoint::Within),
                'X' => Some(Datapoint::Breaching),
                '-' => Some(Datapoint::Missing),
                _ => None,
            })
            .collect();
        [MissingData::Missing, MissingData::Ignore, MissingData::Breaching, MissingData::NotBreaching]
            .map(|missing| judge(&range, Rule { periods: range.len().min(3), needed, missing }).state)
    }

    const OK: Option<AlarmState> = Some(AlarmState::Ok);
    const ALARM: Option<AlarmState> = Some(AlarmState::Alarm);
    const NO_DATA: Option<AlarmState> = Some(AlarmState::InsufficientData);
    const KEEP: Option<AlarmState> = None;

    #[test]
    fn three_out_of_three_follows_the_documented_table() {
        for (range, expected) in [
            ("0 - X - X", [OK, OK, OK, OK]),
            ("0 - - - -", [OK, OK, OK, OK]),
            ("- - - - -", [NO_DATA, KEEP, ALARM, OK]),
            ("0 X X - X", [ALARM, ALARM, ALARM, ALARM]),
            ("- - X - -", [ALARM, KEEP, ALARM, OK]),
        ] {
            assert_eq!(judge_all(range, 3), expected, "{range} as missing, ignore, breaching, notBreaching");
        }
    }

    #[test]
    fn two_out_of_three_follows_the_documented_table() {
        for (range, expected) in [
            ("0 - X - X", [ALARM, ALARM, ALARM, ALARM]),
            ("0 0 X 0 X", [ALARM, ALARM, ALARM, ALARM]),
            ("0 - X - -", [OK, OK, ALARM, OK]),
            ("- - - - 0", [OK, OK, ALARM, OK]),
            ("- - - X -", [ALARM, KEEP, ALARM, OK]),
        ] {
            assert_eq!(judge_all(range, 2), expected, "{range} as missing, ignore, breaching, notBreaching");
        }
    }

    #[test]
    fn a_young_breaching_datapoint_after_missing_ones_does_not_alarm_yet() {
        for range in ["- - - - X", "- - - X -"] {
            assert_eq!(judge_all(range, 3)[0], OK, "{range}");
        }
    }

    #[test]
    fn real_datapoints_from_farther_back_come_before_filled_ones() {
        let one = Rule { periods: 1, needed: 1, missing: MissingData::NotBreaching };
        let stopped = [Datapoint::Breaching, Datapoint::Missing, Datapoint::Missing];
        assert_eq!(judge(&stopped, one), Verdict { state: ALARM, filled: 0 });
        assert_eq!(judge(&[Datapoint::Missing; 3], one), Verdict { state: OK, filled: 1 });
    }
}
