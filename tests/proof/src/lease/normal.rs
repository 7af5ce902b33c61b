//! Replicas and states that lead to the same for ever are made equal.
//!
//! **Time.** A replica compares its clock with moments and subtracts moments, so only distances matter: each state
//! is told as if it were [`NOW`] on every clock. What is due is due, however long already; a permit that has ended
//! has ended; a look that is two renewals old counts as no more than that; a beat that stood still for a time to live
//! stands still.
//!
//! **Beats.** A beat is compared with beats of the same member, raised by one, and made anew as 1. A member's item
//! that was not removed has a beat above every acknowledged one and at least as great as any that was seen. One that
//! was removed and joins again by a late copy begins at 1, and late copies of beats can raise it by no more than there
//! are writes on their way. So beats from [`FEW`] on can never be met from below: their order is all that matters,
//! and a floor of at least [`FEW`] is as good as [`FEW`].
//!
//! The test walks both forms side by side. (A name joins once, so that a removed member never comes back in the shipped
//! protocol; seeded bugs make it.)

use pointsman_core::lease::{LeaseTiming, Number, Replica};

use super::mind::{Event, Mind};
use super::state::{Doing, FLYING, Phase, Process, State};
use super::table::{Name, Write};

/// The moment at which every state is told.
pub const NOW: u64 = 1_000;
/// 1 for the join, one for each write that can be on its way ([`super::state::FLYING`]), and one more.
pub const FEW: u8 = 5;

/// Brings a replica, told at [`NOW`], into its normal form.
pub fn normal(replica: &Replica, timing: LeaseTiming) -> Replica {
    let oldest = NOW - 2 * timing.renew.millis();
    replica.renumbered(|number, value| match number {
        Number::Due | Number::ValidUntil => value.max(NOW),
        Number::ReadAt => value.max(oldest),
        Number::Stood => value.min(timing.ttl.millis()),
        Number::Looks => 0,
        Number::Beats => value.min(u64::from(FEW) - 1),
        Number::BeatOf(_) => value,
    })
}

/// The replica a tick later.
pub fn older(replica: &Replica) -> Replica {
    earlier(replica, 1)
}

/// The replica with its clock so many ticks ahead, told at [`NOW`] again.
pub fn earlier(replica: &Replica, ticks: u64) -> Replica {
    replica.renumbered(|number, value| match number {
        Number::Due | Number::ValidUntil | Number::ReadAt => value.saturating_sub(ticks),
        _ => value,
    })
}

/// Takes those writes off their way that can never do anything again, whenever they land: epochs only grow, a beat
/// from [`FEW`] on does not come back, and a member that is gone comes back by a join alone.
pub fn drop_dead(state: &mut State, mind: &Mind) {
    let (items, flying) = (state.table, state.flying);
    let joins = |name: Name| {
        let same = |write: &Write| matches!(write, Write::Join { name: of, .. } if *of == name);
        let is_its = |process: &Process| {
            process.phase != Phase::Absent && mind.known(process.replica).name == Some(name)
        };
        flying.iter().flatten().any(same) || state.processes.iter().any(is_its)
    };
    let comes_back = |name: Name| items.member(name).is_some() || joins(name);
    let can_land = |write: &Write| match *write {
        Write::Found { .. } | Write::Join { .. } => true,
        Write::Take { shard, seen, .. } => items.shards[usize::from(shard)].map(|item| item.epoch) <= seen,
        Write::Free { name, shard, epoch } => items.shards[usize::from(shard)]
            .is_none_or(|item| item.epoch < epoch || (item.epoch == epoch && item.holder == Some(name))),
        Write::Bury { name, beat } => {
            let older = items.member(name).is_none_or(|item| item.beat > beat);
            beat < FEW || !older
        }
        Write::Beat { name, .. } | Write::Retire { name } => comes_back(name),
    };
    let mut kept = [None; FLYING];
    for (slot, write) in kept.iter_mut().zip(flying.into_iter().flatten().filter(can_land)) {
        *slot = Some(write);
    }
    state.flying = kept;
}

/// Numbers the beats of each member by their order, from [`FEW`] on.
pub fn rank_beats(state: &mut State, mind: &mut Mind) {
    let mut ranks = std::mem::take(&mut mind.ranks);
    ranks.clear();
    each_beat(state, mind, |name, beat| {
        if beat >= FEW && !ranks.iter().any(|(of, known, _)| (*of, *known) == (name, beat)) {
            ranks.push((name, beat, FEW));
        }
    });
    ranks.sort_unstable();
    for index in 1..ranks.len() {
        if ranks[index].0 == ranks[index - 1].0 {
            ranks[index].2 = ranks[index - 1].2 + 1;
        }
    }
    if ranks.iter().any(|(_, beat, rank)| beat != rank) {
        rename(state, mind, &ranks);
    }
    mind.ranks = ranks;
}

fn each_beat(state: &State, mind: &Mind, mut seen: impl FnMut(Name, u8)) {
    let mut write = |write: Write| {
        if let Write::Bury { name, beat } = write {
            seen(name, beat);
        }
    };
    state.flying.into_iter().flatten().for_each(&mut write);
    let calls = || state.processes.iter().filter_map(|process| process.call);
    for call in calls() {
        if let Doing::Write { writes, .. } = call.doing {
            writes.into_iter().flatten().for_each(&mut write);
        }
    }
    let reads = calls().filter_map(|call| match call.doing {
        Doing::Look { read, .. } => Some(read),
        Doing::Write { .. } => None,
    });
    for table in reads.chain([state.table]) {
        table.members.iter().flatten().for_each(|item| seen(item.name, item.beat));
    }
    for process in &state.processes {
        mind.known(process.replica).beats.iter().for_each(|(name, beat)| seen(*name, *beat));
    }
}

fn rename(state: &mut State, mind: &mut Mind, ranks: &[(Name, u8, u8)]) {
    let rank = |name: Name, beat: u8| {
        let found = ranks.iter().find(|(of, from, _)| (*of, *from) == (name, beat));
        found.map_or(beat, |(_, _, to)| *to)
    };
    let write = |write: Write| match write {
        Write::Bury { name, beat } => Write::Bury { name, beat: rank(name, beat) },
        Write::Beat { name, floor } => Write::Beat { name, floor: floor.min(FEW) },
        other => other,
    };
    for slot in &mut state.flying {
        *slot = slot.map(write);
    }
    state.table.members.iter_mut().flatten().for_each(|item| item.beat = rank(item.name, item.beat));
    for process in &mut state.processes {
        match process.call.as_mut().map(|call| &mut call.doing) {
            Some(Doing::Look { read, .. }) => {
                read.members.iter_mut().flatten().for_each(|item| item.beat = rank(item.name, item.beat));
            }
            Some(Doing::Write { writes, .. }) => {
                for slot in writes.iter_mut() {
                    *slot = slot.map(write);
                }
            }
            None => {}
        }
        // Ranks only fall, so in this order none is taken for another's.
        for (of, from, to) in ranks.iter().copied().filter(|(_, from, to)| from != to) {
            if mind.known(process.replica).beats.contains(&(of, from)) {
                process.replica = mind.after(process.replica, Event::Beat { of, from, to });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::lease::{Look, Member, Owner, ShardCount, Step, Written};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::super::mind::TIMING;
    use super::*;

    /// What is done next, without the time that is left to wait: a tick at a time is waited anyway.
    fn essence(step: &Step) -> Step {
        match step {
            Step::Wait { .. } => Step::Wait { ms: 1 },
            // Its floor is held down; whether it is reached is the table's matter.
            Step::Beat { member, floor } => {
                Step::Beat { member: member.clone(), floor: (*floor).min(u64::from(FEW)) }
            }
            other => other.clone(),
        }
    }

    /// A table that another replica and many others have worked on.
    fn random_look(rng: &mut StdRng, me: &str, beat: u64) -> Look {
        let mut look = Look::default();
        look.layout.shards = Some(2);
        if rng.random_bool(0.9) {
            look.members.insert(me.to_owned(), Member { beat: 9, shards: 2 });
        }
        for other in ["1.0/0", "2.0/0"] {
            if rng.random_bool(0.6) {
                look.members.insert(other.to_owned(), Member { beat, shards: 2 });
            }
        }
        for shard in 0..2 {
            let holder = match rng.random_range(0..4) {
                0 => None,
                1 => Some("1.0/0".to_owned()),
                _ => Some(me.to_owned()),
            };
            look.shards.insert(shard, Owner { epoch: rng.random_range(1..3), holder });
        }
        look
    }

    #[test]
    fn a_replica_in_its_normal_form_does_what_the_replica_does() {
        let mut rng = StdRng::seed_from_u64(11);
        let mut steps = 0;
        for _ in 0..2_000 {
            let count = ShardCount::new(2).expect("a count");
            let mut raw = Replica::new("0.0".to_owned(), rng.random(), count, TIMING);
            let (mut now, mut beat) = (NOW, 1);
            let mut short = normal(&raw, TIMING);
            for _ in 0..60 {
                let step = raw.next(now);
                assert_eq!(essence(&step), essence(&short.next(NOW)));
                let heard = rng
                    .random_bool(0.85)
                    .then(|| if rng.random_bool(0.9) { Written::Done } else { Written::Refused });
                match &step {
                    Step::Wait { .. } => {
                        now += 1;
                        short = older(&short);
                        beat += u64::from(rng.random_bool(0.3));
                    }
                    Step::Look => {
                        let look = random_look(&mut rng, &raw.member(), beat);
                        let seen = heard.map(|_| &look);
                        raw.looked(now, seen);
                        short.looked(NOW, seen);
                    }
                    Step::Take { claims, .. } => {
                        let answers: Vec<_> = claims.iter().map(|claim| (*claim, heard)).collect();
                        raw.took(now, &answers);
                        short.took(NOW, &answers);
                    }
                    write => {
                        let ago = rng.random_range(0..3);
                        raw.answered(write, now - ago, now, heard);
                        short.answered(write, NOW - ago, NOW, heard);
                    }
                }
                short = normal(&short, TIMING);
                assert_eq!(normal(&earlier(&raw, now - NOW), TIMING), short);
                steps += 1;
            }
        }
        assert!(steps > 100_000, "compared {steps} steps only");
    }
}
