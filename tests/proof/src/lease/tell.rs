//! A path through the lease's model as sentences.

use super::mind::{Intent, Mind};
use super::state::{Action, Doing, Fate, Kind, LAYOUT_READ, MEMBERS_READ, Phase, State, kind};
use super::steps::{Model, Step};
use super::table::{Name, SHARDS, Table};
use crate::search::{Found, FoundIn};

/// Prints what was found, step by step.
pub fn found(model: &Model, found: &FoundIn<Model>) {
    let Found::Broken { broken, path } = found else { return };
    let why = model.mind.why(*broken);
    println!("    {}: {}", why.property, why.detail);
    let mut before = model.start.unwrap_or_else(|| model.empty());
    for (number, step) in path.iter().enumerate() {
        println!("    {:>3}. {}", number + 1, sentence(&model.mind, &before, step));
        before = step.state;
    }
}

fn sentence(mind: &Mind, before: &State, step: &Step) -> String {
    let now = || format!("[{}]", table(&step.state.table));
    let wants = |place: u8| intent(mind, before, place);
    match step.action {
        Action::Start(place) => format!("{place} starts"),
        Action::Foul => "everything is in order; from here on faults can happen".to_owned(),
        Action::Go(place, Fate::Done, _) => format!("{place} does {} {}", wants(place), now()),
        Action::Go(place, fate, mask) => {
            let becomes = match fate {
                Fate::Done | Fate::Lost => "lost on its way",
                Fate::Unheard => "done, and the answer is lost",
                Fate::Late => "given up, and still on its way",
                Fate::Twice => "done, and a second copy is on its way",
                Fate::Again => "done, done again, and the second answer is heard",
                Fate::Slow => "under way",
            };
            format!("{place} sends {}: {becomes} (parts {mask:b}) {}", wants(place), now())
        }
        Action::Part(place, part) => format!("{place}'s {} {}", reaches(before, place, part), now()),
        Action::Hear(place) => format!("{place} hears the answer"),
        Action::GiveUp(place) => format!("{place} gives its call up"),
        Action::Ended(place, shard) => format!("what ran for shard {shard} in {place} has ended"),
        Action::Crash(place) => format!("{place} crashes"),
        Action::Leave(place) => format!("{place} is told to stop, and withdraws its permits"),
        Action::Gone(place, Fate::Done) => format!("{place} removes its member and ends {}", now()),
        Action::Gone(place, _) => format!("{place} ends, and the removal of its member is lost or late"),
        Action::Pause(place) => format!("{place} is stopped"),
        Action::Resume(place) => format!("{place} goes on"),
        Action::Land(index) => {
            let write = before.flying[usize::from(index)].map(|write| format!("{write:?}"));
            format!("late lands {} {}", write.unwrap_or_default(), now())
        }
        Action::Tick(None) => format!("time passes {}", permits(mind, &step.state)),
        Action::Tick(Some(place)) => {
            format!("time passes, and not on the clock of {place} {}", permits(mind, &step.state))
        }
    }
}

fn intent(mind: &Mind, state: &State, place: u8) -> String {
    match mind.known(state.processes[usize::from(place)].replica).intent {
        Intent::Wait => "nothing".to_owned(),
        Intent::Look => "a look".to_owned(),
        Intent::Write(writes) => {
            writes.iter().flatten().map(|write| format!("{write:?}")).collect::<Vec<_>>().join(" and ")
        }
    }
}

fn reaches(state: &State, place: u8, part: u8) -> String {
    match state.processes[usize::from(place)].call.map(|call| call.doing) {
        Some(Doing::Look { .. }) => match part {
            MEMBERS_READ => "look reads the members".to_owned(),
            LAYOUT_READ => "look reads the layout".to_owned(),
            _ => "look reads the shards".to_owned(),
        },
        Some(Doing::Write { writes, .. }) => format!("call lands {:?}", writes[usize::from(part)]),
        None => String::new(),
    }
}

fn permits(mind: &Mind, state: &State) -> String {
    let there = state.processes.iter().enumerate().filter(|(_, process)| process.phase != Phase::Absent);
    let each = there.map(|(place, process)| {
        let known = mind.known(process.replica);
        let held: Vec<String> = (0..SHARDS)
            .filter(|shard| known.held[*shard] > 0)
            .map(|shard| format!("shard {shard} under {}", known.held[shard]))
            .collect();
        let rest: u8 = process.rest.iter().map(|rest| rest.ticks).max().unwrap_or(0);
        let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
        let name = known.name.map_or_else(String::new, Name::full);
        let rest = if rest > 0 { format!(", runs for {rest}") } else { String::new() };
        format!("{place} ({name}) holds {held} for {}{rest}", known.valid)
    });
    format!("[{}]", each.collect::<Vec<_>>().join("; "))
}

fn table(table: &Table) -> String {
    let members = table.members.iter().flatten();
    let members: Vec<String> =
        members.map(|item| format!("{} beat {}", item.name.full(), item.beat)).collect();
    let shards = (0..).zip(table.shards).filter_map(|(shard, item): (u8, _)| {
        let item = item?;
        let holder = item.holder.map_or_else(|| "nobody".to_owned(), Name::full);
        Some(format!("shard {shard} {holder} epoch {}", item.epoch))
    });
    let shards: Vec<String> = shards.collect();
    let layout = table.layout.map_or_else(String::new, |count| format!("; {count} shards"));
    format!("{}; {}{layout}", members.join(", "), shards.join(", "))
}

/// The names of all kinds of steps that the faults of a configuration must show.
pub fn kinds_of(model: &Model) -> Vec<&'static str> {
    let names = [
        (Kind::Crash, "crash"),
        (Kind::Leave, "leave"),
        (Kind::Leave, "gone"),
        (Kind::Pause, "pause"),
        (Kind::Pause, "resume"),
        (Kind::Lost, "lost"),
        (Kind::Unheard, "answer lost"),
        (Kind::Late, "late"),
        (Kind::Late, "late landing"),
        (Kind::Twice, "duplicated"),
        (Kind::Twice, "repeated"),
        (Kind::Slow, "slow"),
        (Kind::Slow, "slow part"),
        (Kind::Slow, "slow answer"),
        (Kind::Slow, "given up"),
        (Kind::Slip, "slow clock"),
    ];
    let there = names.into_iter().filter(|(kind, _)| model.config.has(*kind));
    there.map(|(_, name)| name).chain(["call", kind(Action::Tick(None))]).collect()
}
