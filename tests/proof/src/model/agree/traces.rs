//! Random traces, and those that the model itself takes.

use std::collections::BTreeMap;

use pointsman_core::model::{Effect, Revision};
use pointsman_core::records::{Group, Percent};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::deviations::DEVIATIONS;
use super::{Deviation, Event, Pair, shares};
use crate::model::config::{CI, Config};
use crate::model::state::{Action, Fate, Hand, KINDS, Kind, State};
use crate::model::steps::Model;
use crate::model::world::{MAILS, SICK, serial_of};
use crate::model::{model_of, world};
use crate::search::System;

const FATES: [(Fate, u32); 6] = [
    (Fate::Done, 12),
    (Fate::AnswerLost, 2),
    (Fate::CallLost, 1),
    (Fate::Late, 3),
    (Fate::Twice, 3),
    (Fate::Throttled, 1),
];

/// A creation. Its token comes from its release, and always with the same words but for the group.
fn creation(rng: &mut StdRng) -> Effect {
    let release: u32 = rng.random_range(1..=9);
    let other = rng.random_bool(0.1);
    let scale = if release == 5 { Percent::from_tenths(250) } else { Some(Percent::FULL) };
    Effect::CreateTaskSet {
        group: if release.is_multiple_of(2) == other { Group::B } else { Group::A },
        revision: Revision {
            family: "web".to_owned(),
            number: if release == 6 { u32::from(SICK) } else { 1 + release % 3 },
        },
        scale: scale.expect("a percentage"),
        external_id: format!("pm1/proof/U/{release}.1"),
        token: format!("token-{release}"),
    }
}

/// Any effect, on what is there or on what is not.
fn effect(pair: &Pair, rng: &mut StdRng) -> Effect {
    let sets: Vec<_> = pair.small.sets().copied().collect();
    let picked = sets.choose(rng).copied();
    let missing = rng.random_bool(0.1);
    let serial = picked.filter(|_| !missing).map_or(200, |set| set.serial);
    let task_set = format!("ts-{serial}");
    match rng.random_range(0..12) {
        0..=4 => creation(rng),
        5..=6 => {
            let scale = Percent::from_tenths([0, 250, 500, 1000, 1000][rng.random_range(0..5)]);
            Effect::ScaleTaskSet { task_set, scale: scale.expect("a percentage") }
        }
        7..=8 => {
            let (generation, attempt) = picked.map_or((1, 1), |set| set.release);
            let attempt = if rng.random_bool(0.1) { 9 } else { attempt };
            Effect::DeleteTaskSet { task_set, external_id: format!("pm1/proof/U/{generation}.{attempt}") }
        }
        9 => Effect::SetPrimary { task_set },
        _ => {
            let route = if rng.random_bool(0.3) { "preview" } else { "public" };
            let share = [0, 100, 333, 500, 1000][rng.random_range(0..5)];
            let expect = rng.random_bool(0.3).then(|| shares([0, 100, 1000][rng.random_range(0..3)]));
            Effect::SetWeights { route: route.to_owned(), shares: shares(share), expect }
        }
    }
}

/// Whether both sides can be expected to say the same of an effect that lands now (see the head of `agree`).
fn comparable(pair: &Pair, effect: &Effect) -> bool {
    match effect {
        Effect::ScaleTaskSet { task_set, scale } => pair.small.set(serial_of(task_set)).is_none_or(|set| {
            let shrinks = u32::from(set.running) > set.wanted();
            let grows = scale.tenths() > set.scale;
            !(pair.dead.contains_key(&set.serial) || shrinks && grows)
        }),
        Effect::DeleteTaskSet { task_set, .. } => pair.dead.get(&serial_of(task_set)) != Some(&pair.ticks),
        _ => true,
    }
}

fn event(pair: &Pair, rng: &mut StdRng) -> Event {
    let event = any_event(pair, rng);
    let effect = match &event {
        Event::Send(effect, _) => Some(effect),
        Event::Land(index) => pair.small.mail[*index].map(|mail| &pair.effects[usize::from(mail.effect)]),
        _ => None,
    };
    if effect.is_none_or(|effect| comparable(pair, effect)) { event } else { Event::Tick }
}

fn any_event(pair: &Pair, rng: &mut StdRng) -> Event {
    let letters = pair.small.mail.iter().flatten().count();
    match rng.random_range(0..100) {
        0..=19 => Event::Tick,
        20..=27 if letters > 0 => Event::Land(rng.random_range(0..letters)),
        28..=31 => Event::Drift(rng.random_bool(0.5)),
        32..=35 => Event::Flip,
        36..=37 => {
            // What is being stopped already is not killed.
            let alive: Vec<u8> = pair
                .small
                .sets()
                .filter(|set| set.running > 0 && !set.draining && u32::from(set.running) <= set.wanted())
                .map(|set| set.serial)
                .collect();
            alive.choose(rng).map_or(Event::Tick, |serial| Event::Die(*serial))
        }
        _ => {
            let fate = FATES.choose_weighted(rng, |(_, weight)| *weight).expect("weights").0;
            Event::Send(effect(pair, rng), fate)
        }
    }
}

/// Drives both along a trace; where they part, if they do, and what was met.
fn drive(seed: u64, deviation: Option<Deviation>) -> (Result<(), String>, BTreeMap<String, u32>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut pair = Pair::new(deviation);
    let mut told = Vec::new();
    for step in 0..80 {
        let event = event(&pair, &mut rng);
        told.push(format!("{step}. {event:?}"));
        if let Err(difference) = pair.apply(&event) {
            let told = told.join("\n");
            return (Err(format!("seed {seed}\n{told}\n{difference}")), pair.met);
        }
    }
    (Ok(()), pair.met)
}

#[test]
fn the_small_world_and_the_pure_region_agree_on_random_traces() {
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..600 {
        let (agreed, counts) = drive(seed, None);
        if let Err(difference) = agreed {
            panic!("{difference}");
        }
        for (what, count) in counts {
            *met.entry(what).or_default() += count;
        }
    }
    let must = [
        "CreateTaskSet done",
        "CreateTaskSet Conflict",
        "CreateTaskSet Permanent",
        "ScaleTaskSet done",
        "ScaleTaskSet Permanent",
        "DeleteTaskSet done",
        "DeleteTaskSet Conflict",
        "SetPrimary done",
        "SetPrimary Permanent",
        "SetWeights done",
        "objection Conflict",
        "objection Permanent",
        "sent Done",
        "sent AnswerLost",
        "sent CallLost",
        "sent Late",
        "sent Twice",
        "landing",
        "tick",
        "drift",
        "alarm",
        "tasks die",
    ];
    println!("{met:?}");
    let rare: Vec<_> = must.iter().filter(|what| met.get(**what).is_none_or(|count| *count < 20)).collect();
    assert!(rare.is_empty(), "hardly met: {rare:?}");
}

#[test]
fn each_mistake_in_the_small_world_is_noticed() {
    for deviation in DEVIATIONS {
        let noticed = (0..600).find(|seed| drive(*seed, Some(*deviation)).0.is_err());
        println!("{deviation:?}: trace {noticed:?}");
        assert!(noticed.is_some(), "{deviation:?} was not noticed");
    }
}

/// What a step of the model does to the world; none: nothing.
fn happening(model: &Model, state: &State, action: Action) -> Option<Event> {
    match action {
        Action::Send(index, fate) => {
            let hand = state.replicas[usize::from(index)]?.hand;
            let Hand::Signed { effect, .. } = hand else { return None };
            Some(Event::Send(model.mind.effect(effect).clone(), fate))
        }
        Action::Land(index) => Some(Event::Land(index.into())),
        Action::Tick => Some(Event::Tick),
        Action::Drift(to_b) => Some(Event::Drift(to_b)),
        Action::Flip => Some(Event::Flip),
        Action::Die(serial) => Some(Event::Die(serial)),
        _ => None,
    }
}

#[test]
fn what_the_model_does_to_its_world_does_the_same_to_the_pure_region() {
    const MANY: &[(Kind, u8)] = &[
        (Kind::Crash, 3),
        (Kind::TakeOver, 3),
        (Kind::Lost, 4),
        (Kind::Delay, 4),
        (Kind::Duplicate, 4),
        (Kind::Refuse, 2),
        (Kind::Drift, 3),
        (Kind::Flip, 6),
        (Kind::Edit, 4),
        (Kind::Die, 1),
    ];
    assert!(MANY.len() < KINDS.len());
    let edits = &[Some(1), Some(2), Some(3), Some(SICK), None];
    let config = Config { each: MANY, all: 20, edits, test_route: true, scaling: true, first: true, ..CI[0] };
    let mut rng = StdRng::seed_from_u64(5);
    let mut followed = 0;
    for walk in 0..150 {
        let mut model = model_of(&config).expect("a model");
        let mut state = State { left: config.budget(), ..model.empty() };
        let mut pair = Pair::new(None);
        let mut steps = Vec::new();
        for _ in 0..400 {
            let fair = model.fair(&state);
            model.steps(&state, &mut steps);
            // Only a candidate's tasks die: another set may be removed in the very tick.
            let candidate = model.mind.digest(state.durable).candidate;
            steps.retain(|step| !matches!(step.action, Action::Die(serial) if Some(serial) != candidate));
            let wild = rng.random_bool(0.15);
            let step = if wild { steps.choose(&mut rng) } else { steps.iter().find(|it| it.action == fair) };
            let step = *step.expect("a step");
            if let Some(event) = happening(&model, &state, step.action) {
                if let Err(difference) = pair.apply(&event) {
                    panic!("walk {walk}, {event:?}: {difference}");
                }
                // The letters have other numbers, and who moved weights is the model's own note.
                let rest = |world: world::World| world::World { mail: [None; MAILS], hand: false, ..world };
                assert_eq!(rest(pair.small), rest(step.state.world), "walk {walk}, {event:?}");
                followed += 1;
            }
            state = step.state;
        }
    }
    assert!(followed > 10_000, "followed {followed} steps only");
}
