//! Mistakes in the small world that the comparison must notice, to be believed when it finds none.

use pointsman_core::model::Effect;

use crate::model::world::{Reply, World, serial_of};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// A deleted set is gone at once.
    DeletedAtOnce,
    /// DRAINING sets are not counted to the five.
    DrainingNotCounted,
    /// PRIMARY may be deleted.
    PrimaryDeleted,
    /// Weights are applied to the other route.
    WrongRoute,
    /// Tasks are healthy as soon as they run.
    HealthyAtOnce,
    /// A client token is forgotten.
    TokenForgotten,
    /// The former PRIMARY keeps its label.
    TwoPrimaries,
    /// What is not there is scaled, or made PRIMARY, with success.
    MissingIsDone,
    /// A request that was delayed lands however old it is.
    LettersKeep,
    /// Half of the weight that was asked for.
    HalfTheWeight,
}

/// All of them.
pub const DEVIATIONS: &[Deviation] = &[
    Deviation::DeletedAtOnce,
    Deviation::DrainingNotCounted,
    Deviation::PrimaryDeleted,
    Deviation::WrongRoute,
    Deviation::HealthyAtOnce,
    Deviation::TokenForgotten,
    Deviation::TwoPrimaries,
    Deviation::MissingIsDone,
    Deviation::LettersKeep,
    Deviation::HalfTheWeight,
];

/// `World::carry_out`, with a mistake.
pub fn carry_out(deviation: Option<Deviation>, world: &mut World, effect: &Effect) -> Reply {
    let Some(deviation) = deviation else { return world.carry_out(effect) };
    match (deviation, effect) {
        (Deviation::DeletedAtOnce, Effect::DeleteTaskSet { task_set, .. }) => {
            let reply = world.carry_out(effect);
            let leaving = |serial: u8| reply == Reply::Done(0) && serial == serial_of(task_set);
            world.sets = world.sets.map(|slot| slot.filter(|set| !leaving(set.serial)));
            reply
        }
        (Deviation::DrainingNotCounted, Effect::CreateTaskSet { .. }) => {
            let full = world.sets().count() == world.sets.len();
            let leaving = world.sets.iter_mut().find(|slot| slot.is_some_and(|set| set.draining));
            if let Some(slot) = leaving.filter(|_| full) {
                *slot = None;
            }
            world.carry_out(effect)
        }
        (Deviation::PrimaryDeleted, Effect::DeleteTaskSet { .. }) => {
            world.sets.iter_mut().flatten().for_each(|set| set.primary = false);
            world.carry_out(effect)
        }
        (Deviation::WrongRoute, Effect::SetWeights { shares, .. }) => {
            let route = "preview".to_owned();
            world.carry_out(&Effect::SetWeights { route, shares: *shares, expect: None })
        }
        (Deviation::HalfTheWeight, Effect::SetWeights { route, shares, .. }) => {
            let half = super::shares(shares.share(pointsman_core::records::Group::B).tenths() / 2);
            world.carry_out(&Effect::SetWeights { route: route.clone(), shares: half, expect: None })
        }
        (Deviation::TokenForgotten, Effect::CreateTaskSet { external_id, .. }) => {
            let release = crate::model::world::release_of(external_id);
            let known: Vec<u8> =
                world.sets().filter(|set| set.release == release).map(|set| set.serial).collect();
            let rename = |world: &mut World, release| {
                let sets = world.sets.iter_mut().flatten();
                sets.filter(|set| known.contains(&set.serial)).for_each(|set| set.release = release);
            };
            rename(world, (0, 0));
            let reply = world.carry_out(effect);
            rename(world, release);
            reply
        }
        (Deviation::TwoPrimaries, Effect::SetPrimary { .. }) => {
            let before = *world;
            let reply = world.carry_out(effect);
            for set in world.sets.iter_mut().flatten() {
                set.primary |= before.set(set.serial).is_some_and(|set| set.primary);
            }
            reply
        }
        (
            Deviation::MissingIsDone,
            Effect::ScaleTaskSet { task_set, .. } | Effect::SetPrimary { task_set },
        ) => {
            let missing = world.set(serial_of(task_set)).is_none();
            if missing { Reply::Done(0) } else { world.carry_out(effect) }
        }
        _ => world.carry_out(effect),
    }
}

/// `World::tick`, with a mistake.
pub fn tick(deviation: Option<Deviation>, world: &mut World) {
    let mail = world.mail;
    world.tick();
    match deviation {
        Some(Deviation::HealthyAtOnce) => {
            for set in world.sets.iter_mut().flatten() {
                set.healthy = set.running;
            }
        }
        Some(Deviation::LettersKeep) => world.mail = mail,
        _ => {}
    }
}
