//! A path as sentences: what happens, and what is then.

use super::bugs::BUGS;
use super::state::{Action, Fate, Hand, Sight, State, kind};
use super::steps::{Model, Step};
use crate::search::{Found, FoundIn};

/// Prints what was found, step by step.
pub fn found(model: &Model, found: &FoundIn<Model>) {
    let Found::Broken { broken, path } = found else { return };
    let why = model.mind.why(*broken);
    println!("    {}: {}", why.property, why.detail);
    for (number, step) in path.iter().enumerate() {
        println!("    {:>3}. {}", number + 1, sentence(model, step));
    }
}

fn who(index: u8) -> &'static str {
    if index == 0 { "the owner" } else { "a former owner" }
}

fn sentence(model: &Model, step: &Step) -> String {
    let state = &step.state;
    let now = || format!("[{}]", world(state));
    match step.action {
        Action::Turn(index, sight) => {
            let sees = match sight {
                Sight::Clear => "",
                Sight::Stale => " (reads weights and stability of before the last change)",
                Sight::NoService => " (cannot read the service)",
                Sight::NoRoutes => " (cannot read the routes)",
                Sight::NoAlarms => " (cannot read the alarms)",
            };
            let hand = state.replicas[usize::from(index)].map_or(Hand::Empty, |replica| replica.hand);
            let does = match hand {
                Hand::Signed { effect, .. } => format!("announces: {}", model.mind.effect(effect)),
                Hand::Empty | Hand::Answered { .. } => stands(model, state),
            };
            format!("{}{sees} {does}", who(index))
        }
        Action::Send(index, fate) => {
            let becomes = match fate {
                Fate::Done => "sends it",
                Fate::AnswerLost => "sends it; it is done, the answer is lost",
                Fate::CallLost => "sends it; it is lost on the way, and nobody can tell",
                Fate::Late => "sends it and gives up; it is still on its way",
                Fate::Twice => "sends it; it is done, and a second copy is on its way",
                Fate::Throttled => "sends it; it is refused by rate limit",
            };
            format!("{} {becomes} {}", who(index), now())
        }
        Action::Settle(index) => format!("{} records the answer", who(index)),
        Action::Crash(_, written) => {
            let clocks = if written { ", its clocks just written" } else { "" };
            format!("the owner crashes{clocks}")
        }
        Action::TakeOver(in_pass) => {
            let former = if in_pass { ", while the former owner is in a pass" } else { "" };
            format!("another replica takes the lease (epoch {}){former}", state.epoch)
        }
        Action::Pause => "the owner is stopped before it sends".to_owned(),
        Action::Land(_) => format!("a late request lands {}", now()),
        Action::Tick => format!("time passes {}", now()),
        Action::Drift(to_b) => {
            format!("a person moves all weight to {} {}", if to_b { "b" } else { "a" }, now())
        }
        Action::Flip => {
            format!("the alarm {}", if state.world.flips % 2 == 1 { "burns" } else { "is OK again" })
        }
        Action::Edit(Some(revision)) => format!("a developer asks for revision {revision}"),
        Action::Edit(None) => "a developer deletes the record".to_owned(),
        Action::Order(verb) => format!("an operator writes {verb:?}"),
        Action::Die(serial) => format!("all tasks of ts-{serial} die"),
        Action::Revive(serial) => format!("tasks of ts-{serial} start again"),
        Action::CutOff => "the owner cannot reach the table, and its lease runs out".to_owned(),
        Action::Judge(index) => match state.replicas[usize::from(index)].map(|replica| replica.hand) {
            Some(Hand::Signed { effect, .. }) => {
                format!("{} without a lease judges: {}", who(index), model.mind.effect(effect))
            }
            _ => format!("{} without a lease looks", who(index)),
        },
        Action::TakeBack(index, fate) => {
            format!("{} without a lease sends it ({fate:?}) {}", who(index), now())
        }
        Action::Back(index) => format!("the table answers {} again", who(index)),
    }
}

fn stands(model: &Model, state: &State) -> String {
    let facts = model.mind.digest(state.durable);
    match (facts.release, facts.latched) {
        (Some((generation, attempt)), Some(cause)) => {
            format!("records: release {generation}.{attempt} goes back ({cause:?})")
        }
        (Some((generation, attempt)), None) => format!("looks after release {generation}.{attempt}"),
        (None, _) if facts.pending => "judges whether the request may start".to_owned(),
        (None, _) if facts.busy => "cleans up".to_owned(),
        (None, _) => "has nothing to do".to_owned(),
    }
}

fn world(state: &State) -> String {
    let b = state.world.production;
    let sets = state.world.sets().map(|set| {
        let group = if set.in_b { "b" } else { "a" };
        let leaving = if set.draining { ", leaving" } else { "" };
        let primary = if set.primary { ", PRIMARY" } else { "" };
        format!("ts-{} rev {} in {group}: {} up{primary}{leaving}", set.serial, set.revision, set.running)
    });
    let sets: Vec<String> = sets.collect();
    format!("a {} b {}; {}", 1000 - b, b, sets.join("; "))
}

/// The names of all kinds of steps that the faults and acts of a configuration must show.
pub fn kinds_of(model: &Model) -> Vec<&'static str> {
    use super::state::Kind;
    let names = [
        (Kind::Crash, "crash"),
        (Kind::TakeOver, "take-over"),
        (Kind::Lost, "answer lost"),
        (Kind::Lost, "call lost"),
        (Kind::Delay, "delayed"),
        (Kind::Delay, "pause"),
        (Kind::Duplicate, "duplicated"),
        (Kind::Refuse, "refused"),
        (Kind::Stale, "stale read"),
        (Kind::Unread, "unread"),
        (Kind::Drift, "drift"),
        (Kind::Flip, "alarm"),
        (Kind::Edit, "edit"),
        (Kind::Order, "command"),
        (Kind::Die, "tasks die"),
        (Kind::Revive, "tasks come back"),
        (Kind::CutOff, "cut off"),
        (Kind::CutOff, "emergency look"),
        (Kind::CutOff, "emergency write"),
        (Kind::CutOff, "table is back"),
    ];
    let there = names.into_iter().filter(|(kind, _)| model.config.has(*kind));
    there.map(|(_, name)| name).chain([kind(Action::Tick)]).collect()
}

/// All names of seeded bugs, for a wrong one.
pub fn bug_names() -> String {
    BUGS.iter().map(|bug| bug.name).collect::<Vec<_>>().join(", ")
}
