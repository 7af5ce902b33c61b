//! What must never be of the lease, said by an outsider who sees every process and the table at once.

use super::config::Config;
use super::mind::{Mind, TIMING};
use super::state::{Phase, Process, State};
use super::table::{SHARDS, Table, Write};
use crate::search::Broken;

pub const ONE: &str = "one owner: nobody else may write for a shard";
pub const NAMED: &str = "while a permit holds, its take is the last one in the table";
pub const COUNT: &str = "one count: nobody may write by another number of shards";
pub const GROWS: &str = "the epoch of a shard grows with every take, and does nothing else";
pub const REST: &str = "every shard has an owner again, in equal parts";
pub const RECOVERY: &str = "L4 every shard has an owner again within a bounded number of ticks";
pub const ROOM: &str = "the model has room for what happens";

/// From any state until every shard has an owner again and each process its share, once nothing goes wrong any more. A
/// process that is gone is buried when its beat stood still for a time to live, seen by looks a renewal apart; the next
/// look sees who is left, and what is too much is given up once what runs under the permit has ended; the other's next
/// look finds it free.
const MOST_TICKS: u64 = TIMING.ttl.millis()
    + TIMING.renew.millis()
    + TIMING.renew.millis()
    + TIMING.operation.millis()
    + TIMING.margin.millis()
    + TIMING.renew.millis();

/// Judges the longest way to rest.
pub fn too_far(ticks: u32) -> Option<Broken> {
    let what = || format!("{ticks} ticks to rest; {MOST_TICKS} at most are explained");
    (u64::from(ticks) > MOST_TICKS).then(|| Broken::new(RECOVERY, what()))
}

/// The epoch under which a process may write for a shard at this moment; by a permit, or by what began under one.
fn writes_under(process: &Process, shard: usize, mind: &Mind) -> Option<u8> {
    let known = mind.known(process.replica);
    let holds = process.phase == Phase::Running && known.valid > 0 && known.held[shard] != 0;
    let rest = process.rest[shard];
    if holds { Some(known.held[shard]) } else { (rest.ticks > 0).then_some(rest.epoch) }
}

/// What must be so in every state.
pub fn of_state(state: &State, mind: &Mind) -> Option<Broken> {
    if state.table.is_full() {
        return Some(Broken::new(ROOM, "too many lives in the table"));
    }
    let mut counts: Option<(usize, u8)> = None;
    for shard in 0..SHARDS {
        let mut owner: Option<usize> = None;
        for (place, process) in state.processes.iter().enumerate() {
            let Some(epoch) = writes_under(process, shard, mind) else { continue };
            if let Some(other) = owner {
                return Some(Broken::new(ONE, format!("shard {shard} is {other}'s and {place}'s")));
            }
            owner = Some(place);
            let count = mind.known(process.replica).count;
            if let Some((other, theirs)) = counts.filter(|(_, theirs)| *theirs != count) {
                let detail = format!("{other} goes by {theirs}, {place} by {count}");
                return Some(Broken::new(COUNT, detail));
            }
            counts = Some((place, count));
            let wrong = is_last_take(&state.table, shard, epoch);
            if wrong.is_some() {
                return wrong.map(|detail| Broken::new(NAMED, format!("{place}: {detail}")));
            }
        }
    }
    None
}

fn is_last_take(table: &Table, shard: usize, epoch: u8) -> Option<String> {
    match table.shards[shard] {
        Some(item) if item.epoch == epoch => None,
        Some(item) => Some(format!("shard {shard} under epoch {epoch}, and the table says {}", item.epoch)),
        None => Some(format!("shard {shard} under epoch {epoch}, and nobody ever took it")),
    }
}

/// What a write may not do to the table.
pub fn of_landing(before: &Table, after: &Table, write: Write) -> Option<Broken> {
    for shard in 0..SHARDS {
        let (was, is) = (before.shards[shard], after.shards[shard]);
        let takes = matches!(write, Write::Take { .. }) && is != was;
        let (was, is) = (was.map_or(0, |item| item.epoch), is.map_or(0, |item| item.epoch));
        let right = if takes { is > was } else { is == was };
        if !right {
            return Some(Broken::new(GROWS, format!("shard {shard}: epoch {is} after {was}, by {write:?}")));
        }
    }
    None
}

/// What must be so in every state of the circle in which the fair way ends.
pub fn at_rest(state: &State, mind: &Mind, config: &Config) -> Option<Broken> {
    let wrong = |detail: String| Some(Broken::new(REST, detail));
    let Some(count) = state.table.layout else {
        return wrong("nobody said how many shards there are".to_owned());
    };
    let running = |place: &usize| state.processes[*place].phase == Phase::Running;
    let (inside, outside): (Vec<usize>, Vec<usize>) =
        (0..config.places()).filter(running).partition(|place| config.counts[*place] == count);
    let owned = |place: usize| {
        let process = &state.processes[place];
        (0..SHARDS).filter(|shard| writes_under(process, *shard, mind).is_some()).count()
    };
    if inside.is_empty() {
        return wrong(format!("the layout says {count}, and nobody goes by it"));
    }
    let share = usize::from(count).div_ceil(inside.len());
    if let Some(place) = inside.iter().find(|place| owned(**place) > share) {
        return wrong(format!(
            "{place} owns {} shards for ever, more than its share of {share}",
            owned(*place)
        ));
    }
    if let Some(place) = outside.iter().find(|place| owned(**place) > 0) {
        return wrong(format!("{place} goes by another count, and owns shards"));
    }
    let all: usize = inside.iter().map(|place| owned(*place)).sum();
    (all != usize::from(count)).then(|| Broken::new(REST, format!("{all} of {count} shards are owned")))
}
