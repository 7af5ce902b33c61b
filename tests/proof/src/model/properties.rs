//! What must never be, said of the world itself and of what is written; the numbers are those of `docs/reliability.md`.
//!
//! These predicates share nothing with `decide::safety`, which judges single decisions from the inside: here stands
//! what an outsider with perfect sight would object to.

use pointsman_core::decide::{Decision, Next};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{Facts, LatchCause, Release, ReleaseKind};
use pointsman_core::model::{Effect, Resource};
use pointsman_core::records::Group;
use pointsman_core::records::command::Verb;
use pointsman_core::records::status::Outcome;

use super::digest::Digest;
use super::state::{Sight, State};
use super::world::{Reply, Set, World, serial_of, share_of};
use crate::search::Broken;

pub const S1: &str = "S1 no weight without a proved set";
pub const S2: &str = "S2 the rollback asset is kept";
pub const S3: &str = "S3 one set in a group";
pub const S4: &str = "S4 the latch stays";
pub const S5: &str = "S5 no orphan at rest";
pub const S6: &str = "S6a no lost update, no older epoch";
pub const S7: &str = "S7 recorded before done";
pub const S9: &str = "S9 nothing forward that is not asked for";
pub const S12: &str = "S12 an outcome is final";
pub const S16: &str = "S16 only a hand is a hand";
pub const S21: &str = "S21 unknown stays unknown";
pub const S22: &str = "S22 quiet before a deletion";
pub const BY_ID: &str = "S6c deleted by recorded id";
pub const TOMBS: &str = "S6c a tombstone gets no weight";
pub const EMERGENCY: &str = "S18 without a lease only back to the recorded stable, and recorded";
pub const REST: &str = "L3 every state comes to rest as asked";
pub const RECOVERY: &str = "L2 recovery within a bounded number of ticks";

/// From weights that are not ours until they are believed: three reads that agree.
const FOREIGN: u32 = 3;
/// The quiet time after an unknown outcome (3), two looks of the whole load balancer (2), and a set that drains (1).
pub const CLEAN_UP: u32 = 3 + 2 + 1;
/// Preparing (its deadline is 3), two steps of propagation and bake (2 · 2), retention (1), and the old set's clean-up.
pub const RELEASE: u32 = 3 + 2 * 2 + 1 + CLEAN_UP;
/// Recovery from any state, once nothing goes wrong any more, in ticks of one poll. At most two releases are known at a
/// time, one in flight and one that waits: somebody moved the weights of the one in flight, so that it goes back
/// and is cleaned up; then the other one starts and runs to its end. Within a pass whatever can be done is done at once.
const MOST_TICKS: u32 = FOREIGN + CLEAN_UP + RELEASE;

/// Judges the longest way to rest.
pub fn too_far(ticks: u32) -> Option<Broken> {
    (ticks > MOST_TICKS)
        .then(|| Broken::new(RECOVERY, format!("{ticks} ticks to rest; {MOST_TICKS} at most are explained")))
}

/// Judges one decision by the facts around it.
pub fn of_decision(before: &Facts, decision: &Decision) -> Option<Broken> {
    let after = &decision.facts;
    unknown_was_forgotten(before, after).or_else(|| ended_twice(before, decision)).or_else(|| {
        let Next::Act(action) = &decision.next else { return None };
        announced(after, &action.effect).or_else(|| weight_is_right(before, after, &action.effect))
    })
}

/// Only an acknowledgement ends what is unknown about a route: neither a read nor a refusal.
fn unknown_was_forgotten(before: &Facts, after: &Facts) -> Option<Broken> {
    let routes = before.outstanding.keys().filter(|resource| matches!(resource, Resource::Route(_)));
    let forgotten = routes.into_iter().find(|route| !after.outstanding.contains_key(*route))?;
    Some(Broken::new(S21, format!("{forgotten:?} had an unknown outcome, which a read settled")))
}

fn ended_twice(before: &Facts, decision: &Decision) -> Option<Broken> {
    let last = before.last.as_ref()?;
    let in_flight = before.release.as_ref().map(|release| release.id);
    let again = decision
        .ended
        .iter()
        .find(|ended| ended.release == last.release && in_flight != Some(last.release))?;
    Some(Broken::new(
        S12,
        format!("{} ended as {:?}, and now as {:?}", again.release, last.outcome, again.outcome),
    ))
}

fn announced(after: &Facts, effect: &Effect) -> Option<Broken> {
    let entry = after.outstanding.get(&effect.resource());
    if entry.is_none_or(|entry| entry.effect != *effect) {
        return Some(Broken::new(S7, format!("{effect} is not announced")));
    }
    let release = after.release.as_ref()?;
    let blind = release.stable.is_none() && release.kind != ReleaseKind::First;
    blind.then(|| Broken::new(S7, format!("{effect} without a recorded way back")))
}

/// A production weight goes to nothing that is to be removed, forward only to what is asked for, and never forward
/// after the latch, unless three looks in a row found the way back without a task: then nobody else can answer.
fn weight_is_right(before: &Facts, after: &Facts, effect: &Effect) -> Option<Broken> {
    let Effect::SetWeights { route, shares, .. } = effect else { return None };
    let release = after.release.as_ref().filter(|_| route == "public")?;
    let candidate = release.candidate.group;
    if shares.of(candidate) == 0 {
        return None;
    }
    let tombstone = release.candidate.task_set.as_ref().is_some_and(|arn| after.tombstones.contains(arn));
    if tombstone {
        return Some(Broken::new(TOMBS, format!("{effect}, and that set has a tombstone")));
    }
    let nobody_else_answers = release.progress.stable_gone_reads >= 3;
    if release.latch.is_some() && !nobody_else_answers {
        return Some(Broken::new(S4, format!("{effect}, and the release goes back")));
    }
    // A version kept warm is the one that is left, when it was about to return anyway. Nobody can say whether a write whose
    // answer was lost gave it the traffic: it is repeated also when the other one has tasks again.
    let open = before.outstanding.get(&effect.resource()).map(|entry| &entry.effect);
    let repeats = matches!(open, Some(Effect::SetWeights { shares: open, .. }) if open == shares);
    let nobody_else = release.progress.stable_gone_reads > 0 || repeats;
    let takes_over = release.kind == ReleaseKind::Return && nobody_else;
    if !release.progress.gate_passed && !takes_over {
        return Some(Broken::new(S1, format!("{effect}, and the gate was not passed")));
    }
    let asked = after.asked.as_ref().map(|asked| asked.task_definition.as_str());
    let wanted = release.candidate.revision.to_string();
    let right =
        asked == Some(wanted.as_str()) || release.kind != ReleaseKind::Ordinary || nobody_else_answers;
    (!right).then(|| Broken::new(S9, format!("{effect}, and {} is asked for", asked.unwrap_or("nothing"))))
}

/// Judges what an answer did to the facts.
pub fn of_settling(before: &Facts, after: &Facts, effect: &Effect, reply: Reply) -> Option<Broken> {
    let resource = effect.resource();
    let entry = before.outstanding.get(&resource)?;
    let open = match reply {
        Reply::Done(_) => false,
        Reply::Lost => true,
        Reply::Throttled | Reply::Conflict | Reply::Permanent => entry.unknown,
    };
    let forgotten = open && !after.outstanding.contains_key(&resource);
    forgotten.then(|| Broken::new(S21, format!("{effect} may still land, and that was forgotten")))
}

/// Judges a turn by what was to be seen, and by whether anybody but us has `hands` on the weights: a gate is passed by a candidate that was healthy, an alarm turns a release
/// around at once, and a release that went back is over only when its traffic is back.
pub fn of_turn(state: &State, before: &Digest, after: &Digest, sight: Sight, hands: bool) -> Option<Broken> {
    let blamed = before.latched.is_none() && after.latched == Some(LatchCause::MovedByHand);
    if blamed && !hands {
        return Some(Broken::new(S16, "weights of our own are taken for a person's"));
    }
    let release = before.release?;
    let healthy = after.candidate.and_then(|serial| state.world.set(serial)).is_some_and(|set| set.proved);
    if !before.gated && after.gated && !healthy {
        return Some(Broken::new(S1, "the gate is passed, and the candidate was never healthy"));
    }
    let over = after.release != Some(release);
    let won = over && before.candidate.is_some() && after.stable == before.candidate;
    let (unlatched, not_first) = (before.latched.is_none(), before.stable.is_some());
    let burns = state.world.flips % 2 == 1 && sight != Sight::NoAlarms;
    if burns && unlatched && (won && not_first || !over && after.latched.is_none()) {
        return Some(Broken::new(S4, "the alarm burns, and the release goes on"));
    }
    if won && unlatched && before.aborting && state.order == Some((Verb::Abort, release)) {
        return Some(Broken::new(S4, "the release was aborted, and succeeds"));
    }
    let weight = share_of(!before.stable_in_b, state.world.production);
    let early = over && !won && not_first && before.exposed && sight == Sight::Clear && weight > 0;
    early.then(|| Broken::new(S4, format!("the release is over as gone back, with {weight} tenths not back")))
}

/// What one write of the state item may not do to the one before it.
pub fn of_history(before: &Facts, after: &Facts) -> Option<Broken> {
    if after.generation < before.generation {
        return Some(Broken::new(S9, format!("generation {} after {}", after.generation, before.generation)));
    }
    let latched = before.release.as_ref().filter(|release| release.latch.is_some());
    latched.and_then(|release| unlatched(release, after)).or_else(|| way_back_lost(before, after))
}

fn unlatched(release: &Release, after: &Facts) -> Option<Broken> {
    let cause = |release: &Release| release.latch.as_ref().map(|latch| latch.cause);
    if let Some(now) = after.release.as_ref().filter(|now| now.id == release.id) {
        let same = cause(now) == cause(release);
        return (!same).then(|| Broken::new(S4, format!("the latch of {} is gone or changed", release.id)));
    }
    let last = after.last.as_ref().filter(|last| last.release == release.id)?;
    let good = last.outcome == Outcome::Succeeded;
    good.then(|| Broken::new(S4, format!("{} was latched and succeeded", release.id)))
}

fn way_back_lost(before: &Facts, after: &Facts) -> Option<Broken> {
    let (old, new) = (before.release.as_ref()?, after.release.as_ref()?);
    let changed = old.id == new.id && old.stable != new.stable;
    changed.then(|| Broken::new(S2, format!("the way back of {} is another one", new.id)))
}

/// What an effect of ours may not do to the world. `flying` are the weights of group b that requests on their way
/// would still write.
pub fn of_landing(
    effect: &Effect,
    before: &World,
    after: &World,
    durable: &Digest,
    flying: &[u16],
) -> Option<Broken> {
    match effect {
        Effect::SetWeights { route, shares, .. } if route == "public" => {
            // One that gives a group no more than it had, as a clean-up's, moves nobody there.
            let more = |in_b: &bool| {
                let group = if *in_b { Group::B } else { Group::A };
                shares.share(group).tenths() > share_of(*in_b, before.production)
            };
            let gains = [false, true].into_iter().filter(more);
            gains.into_iter().find_map(|in_b| weight_is_carried(effect, *shares, in_b, after))
        }
        Effect::CreateTaskSet { .. } => two_in_a_group(after),
        Effect::DeleteTaskSet { task_set, .. } => {
            let (set, now) = (before.set(serial_of(task_set))?, after.set(serial_of(task_set)));
            // What was refused, or is the repetition of an earlier one, deletes nothing.
            let deleted = now.is_none_or(|now| now.draining) && !set.draining;
            deleted.then(|| deleted_rightly(*set, durable, after, flying)).flatten()
        }
        Effect::SetWeights { .. } | Effect::ScaleTaskSet { .. } | Effect::SetPrimary { .. } => None,
    }
}

fn weight_is_carried(effect: &Effect, shares: Shares, in_b: bool, world: &World) -> Option<Broken> {
    let group = if in_b { Group::B } else { Group::A };
    if shares.of(group) == 0 {
        return None;
    }
    let carried = world.sets().any(|set| set.in_b == in_b && !set.draining && set.proved);
    (!carried).then(|| Broken::new(S1, format!("{effect}, and group {group} has no set that was healthy")))
}

fn two_in_a_group(world: &World) -> Option<Broken> {
    let count = |in_b: bool| world.sets().filter(|set| set.in_b == in_b && !set.draining).count();
    let double = [false, true].into_iter().find(|in_b| count(*in_b) > 1)?;
    Some(Broken::new(
        S3,
        format!("group {} holds {} task sets", if double { "b" } else { "a" }, count(double)),
    ))
}

fn deleted_rightly(set: Set, durable: &Digest, world: &World, flying: &[u16]) -> Option<Broken> {
    let name = format!("ts-{}", set.serial);
    if durable.needs(set.serial) {
        return Some(Broken::new(S2, format!("{name} is deleted and still needed")));
    }
    if durable.tombs & (1 << (set.serial & 63)) == 0 {
        return Some(Broken::new(BY_ID, format!("{name} is deleted without a tombstone")));
    }
    if world.hand {
        // A person moved weights between the last read and now: nobody can know.
        return None;
    }
    for (route, share) in [("production", Some(world.production)), ("test", world.test)] {
        let weight = share.map_or(0, |share| share_of(set.in_b, share));
        if weight > 0 {
            return Some(Broken::new(
                S1,
                format!("{name} is deleted with {weight} tenths of the {route} traffic"),
            ));
        }
    }
    let flying = flying.iter().any(|share| share_of(set.in_b, *share) > 0);
    flying.then(|| {
        Broken::new(S22, format!("{name} is deleted, and a write that gives it weight is on its way"))
    })
}

/// What must be so in every state.
pub fn of_state(world: &World, durable: &Digest) -> Option<Broken> {
    let kept = [
        ("serves", durable.stable),
        ("is the way back", durable.way_back),
        ("is kept warm", durable.retained),
    ];
    kept.into_iter().zip(durable.scales).find_map(|((role, serial), scale)| {
        let serial = serial?;
        match world.set(serial) {
            Some(set) if !set.draining && Some(set.scale) == scale => None,
            Some(set) if !set.draining => {
                Some(Broken::new(S2, format!("ts-{serial} {role} and was scaled to {} tenths", set.scale)))
            }
            _ => Some(Broken::new(S2, format!("ts-{serial} {role} and is gone"))),
        }
    })
}

/// Whether a release goes back to a version without a task: it waits for it, and for people.
fn has_nothing_to_go_back_to(world: &World, durable: &Digest) -> bool {
    durable.latched.is_some() && durable.way_back.is_some_and(|serial| !runs(world, serial))
}

/// The candidate, if it runs, has all traffic meanwhile, and a newer request is not kept waiting.
fn waits_for_its_way_back(world: &World, durable: &Digest) -> Option<Broken> {
    let serves = durable.exposed && durable.candidate.is_some_and(|serial| runs(world, serial));
    let weight = share_of(!durable.stable_in_b, world.production);
    (serves && (weight != 1000 || durable.pending)).then(|| {
        Broken::new(
            REST,
            format!("nobody else answers, and the candidate has {weight} tenths of the traffic"),
        )
    })
}

fn runs(world: &World, serial: u8) -> bool {
    world.set(serial).is_some_and(|set| !set.draining && set.running > 0)
}

/// What must be so at rest.
pub fn at_rest(state: &State, durable: &Digest) -> Option<Broken> {
    let (world, desired) = (&state.world, state.desired);
    if durable.halted {
        return None;
    }
    if has_nothing_to_go_back_to(world, durable) {
        return waits_for_its_way_back(world, durable);
    }
    if durable.stable.is_some_and(|serial| !runs(world, serial)) && durable.release.is_none() {
        // Tasks that never come back: weights and task sets are left as they are, for people to mend.
        return None;
    }
    if durable.busy || durable.release.is_some() || durable.pending {
        return Some(Broken::new(REST, "it waits for ever with work under way"));
    }
    if let Some(orphan) = world.sets().find(|set| Some(set.serial) != durable.stable) {
        return Some(Broken::new(S5, format!("ts-{} is left over", orphan.serial)));
    }
    durable.stable?;
    let weight = share_of(durable.stable_in_b, world.production);
    if weight != 1000 {
        return Some(Broken::new(
            REST,
            format!("the version that serves has {weight} tenths of the traffic"),
        ));
    }
    // An operator's word goes over the record's, until that changes.
    let ordered = matches!(state.order, Some((Verb::Rollback, _)));
    let answered = ordered || desired.is_none() || durable.stable_revision == desired || durable.refused;
    (!answered).then(|| {
        Broken::new(
            REST,
            format!("{desired:?} is asked for, {:?} serves, and nothing says why", durable.stable_revision),
        )
    })
}
