//! What the alarms say: the only judge of a release, besides people and deadlines.
//!
//! No evidence is no success. An ALARM counts in every state of a release; a flap that came and went between
//! two looks counts too.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::WaitingOn;
use super::pass::{Pass, unread};
use crate::model::observed::{Alarm, AlarmState};
use crate::model::{Need, Seen};
use crate::records::managed_service::{AlarmRef, NoData, Unreadable, Watches};
use crate::records::{Group, Span};

/// How far the times of one change may lie apart in an alarm's state and in its history.
const HISTORY_ROUNDS: Span = Span::from_secs(1);

/// The verdict on all armed alarms together; the worst one wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// All answered by name and are fine.
    Clear,
    /// One cannot be judged: nothing goes forward.
    Missing(WaitingOn),
    /// Some changed state between two looks: their history must be read before anything goes forward.
    History(BTreeSet<Need>),
    /// One burns, or burnt.
    Burning(String),
}

/// A group alarm is armed only while that group holds the candidate; an alarm on stable's group never blocks.
pub(super) fn is_armed(watches: Watches, candidate: Group) -> bool {
    match watches {
        Watches::Service => true,
        Watches::A => candidate == Group::A,
        Watches::B => candidate == Group::B,
    }
}

/// Judges the armed alarms and keeps their marks.
pub(super) fn judge(pass: &mut Pass<'_>) -> Evidence {
    let (Some(plan), Some(release)) = (pass.plan(), pass.release()) else { return Evidence::Clear };
    let group = release.candidate.group;
    let armed: Vec<AlarmRef> =
        plan.spec.alarms.iter().filter(|alarm| is_armed(alarm.watches, group)).cloned().collect();
    let mut worst = Evidence::Clear;
    let mut histories = BTreeSet::new();
    for alarm in &armed {
        match judge_one(pass, alarm) {
            Evidence::Clear => {}
            Evidence::History(needs) => histories.extend(needs),
            Evidence::Burning(why) => return Evidence::Burning(why),
            Evidence::Missing(on) => {
                if worst == Evidence::Clear {
                    worst = Evidence::Missing(on);
                }
            }
        }
    }
    // A history may hold an ALARM, so it is read before a missing answer is waited for.
    if histories.is_empty() { worst } else { Evidence::History(histories) }
}

fn judge_one(pass: &mut Pass<'_>, alarm: &AlarmRef) -> Evidence {
    let Some(Seen::Known(read)) = pass.input.observed.alarms.get(&alarm.name) else {
        return unreadable(pass, alarm, "UNREADABLE");
    };
    match read.state {
        AlarmState::Missing => unreadable(pass, alarm, "MISSING"),
        AlarmState::Alarm if pass.release().is_some_and(|r| r.break_glass.contains(&alarm.name)) => {
            Evidence::Clear
        }
        AlarmState::Alarm => Evidence::Burning(alarm.name.clone()),
        AlarmState::Ok | AlarmState::InsufficientData => {
            let flap = look_back(pass, alarm, read);
            if flap != Evidence::Clear {
                return flap;
            }
            if read.state == AlarmState::InsufficientData {
                return no_data(pass, alarm, read);
            }
            if let Some(release) = &mut pass.facts.release {
                // It has been OK once: from now on it counts like any other.
                release.break_glass.remove(&alarm.name);
            }
            Evidence::Clear
        }
    }
}

/// The alarm is not in ALARM now. Was it, since we last knew?
fn look_back(pass: &mut Pass<'_>, alarm: &AlarmRef, read: &Alarm) -> Evidence {
    let Some(changed_at) = read.transitioned_at else { return Evidence::Clear };
    let mark = pass.facts.alarm_marks.get(&alarm.name).copied();
    let broken_glass = pass.release().is_some_and(|r| r.break_glass.contains(&alarm.name));
    let Some(mark) = mark.filter(|mark| *mark != changed_at && !broken_glass) else {
        pass.facts.alarm_marks.insert(alarm.name.clone(), changed_at);
        return Evidence::Clear;
    };
    match pass.input.observed.extra.alarm_history.get(&alarm.name) {
        None => Evidence::History(BTreeSet::from([Need::AlarmHistory(alarm.name.clone(), mark)])),
        Some(Seen::Unknown(_)) => unreadable(pass, alarm, "HISTORY UNREADABLE"),
        Some(Seen::Known(entered)) if entered.iter().any(|(_, state)| *state == AlarmState::Alarm) => {
            Evidence::Burning(format!("{} (came and went)", alarm.name))
        }
        Some(Seen::Known(entered)) if !reaches(entered, changed_at, read.state) => {
            missing(alarm, "HISTORY BEHIND")
        }
        Some(Seen::Known(_)) => {
            pass.facts.alarm_marks.insert(alarm.name.clone(), changed_at);
            Evidence::Clear
        }
    }
}

/// Whether a history has caught up with the state: it must show the change that the alarm announces, or what came
/// right before it may be missing too. AWS gives the change the same time in both answers (CLI examples of
/// `describe-alarms` and `describe-alarm-history`); a second is for what rounds.
fn reaches(entered: &[(Timestamp, AlarmState)], changed_at: Timestamp, state: AlarmState) -> bool {
    entered
        .last()
        .is_some_and(|(at, last)| *last == state && changed_at.duration_since(*at) <= HISTORY_ROUNDS.signed())
}

fn unreadable(pass: &Pass<'_>, alarm: &AlarmRef, state: &str) -> Evidence {
    match pass.plan().map(|plan| plan.spec.alarm_policy.unreadable) {
        Some(Unreadable::Fail) => Evidence::Burning(format!("{} is {state}", alarm.name)),
        Some(Unreadable::Hold) | None => missing(alarm, state),
    }
}

/// ALB metrics exist only while requests flow, so at weight 0 silence is "not yet" (`aws-facts.md` §3).
fn no_data(pass: &Pass<'_>, alarm: &AlarmRef, read: &Alarm) -> Evidence {
    let due = pass.release().is_some_and(|r| r.progress.exposed && r.progress.exposed_for > read.range);
    let policy = alarm.no_data.or_else(|| pass.plan().map(|plan| plan.spec.alarm_policy.no_data));
    match policy.unwrap_or_default() {
        _ if !due => Evidence::Clear,
        NoData::Ok => Evidence::Clear,
        NoData::Fail => Evidence::Burning(format!("{} has no data", alarm.name)),
        NoData::Hold => missing(alarm, "INSUFFICIENT_DATA"),
    }
}

fn missing(alarm: &AlarmRef, state: &str) -> Evidence {
    Evidence::Missing(WaitingOn::Evidence { alarm: alarm.name.clone(), state: state.to_owned() })
}

/// The service answers, and every production route answers and shows our pair; without that nothing can be said
/// about tasks and shares.
pub(super) fn world_readable(pass: &Pass<'_>) -> Result<(), WaitingOn> {
    if pass.service().is_none() {
        return Err(unread("the ECS service", Some(&pass.input.observed.service)));
    }
    for route in pass.production() {
        if let Some(what) = pass.not_our_pair(&route) {
            return Err(WaitingOn::Observation { what: format!("route {route} shows {what}") });
        }
        if pass.live(&route).is_none() {
            let seen = pass.input.observed.routes.get(&route);
            return Err(unread(&format!("route {route}"), seen));
        }
    }
    Ok(())
}
