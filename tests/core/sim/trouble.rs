//! Trouble of one kind in one phase: every cell of `decide::response` can be brought about.

use pointsman_core::decide::response::Response;
use pointsman_core::decide::response::{Class, Phase, Read, Work, to_failed_read, to_failed_work};
use pointsman_core::model::facts::Facts;
use pointsman_core::model::{Answer, Effect, Observed, Plan, Seen};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// An effect, by this class. When its outcome is unknown: whether it happened.
    Work(Work, Class, bool),
    /// Something cannot be read.
    Read(Read),
}

/// Trouble in one phase, a number of times.
#[derive(Clone, Copy, Debug)]
pub struct Injection {
    pub phase: Phase,
    pub what: What,
    pub times: u32,
    pub met: u32,
}

impl Injection {
    pub const fn new(phase: Phase, what: What, times: u32) -> Self {
        Self { phase, what, times, met: 0 }
    }

    const fn is_over(&self) -> bool {
        self.met >= self.times
    }

    /// The class to answer an effect by, and whether it happens nevertheless.
    pub fn befalls(&mut self, facts: &Facts, effect: &Effect, plan: &Plan) -> Option<(Class, bool)> {
        let What::Work(work, class, happens) = self.what else { return None };
        let meant = Work::of(effect, plan) == work && Phase::of(facts) == self.phase;
        if !meant || self.is_over() {
            return None;
        }
        self.met += 1;
        Some((class, happens))
    }

    /// Makes a part of an observation unknown.
    pub fn disturb(&mut self, facts: &Facts, observed: &mut Observed) {
        let What::Read(read) = self.what else { return };
        if Phase::of(facts) != self.phase || self.is_over() || !is_read(read, observed) {
            return;
        }
        self.met += 1;
        let extra = &mut observed.extra;
        match read {
            Read::Service => observed.service = Seen::Unknown(unread()),
            Read::Routes => observed.routes.values_mut().for_each(|seen| *seen = Seen::Unknown(unread())),
            Read::Alarms => observed.alarms.values_mut().for_each(|seen| *seen = Seen::Unknown(unread())),
            Read::AlarmHistory => {
                extra.alarm_history.values_mut().for_each(|seen| *seen = Seen::Unknown(unread()));
            }
            Read::Targets => extra.targets.values_mut().for_each(|seen| *seen = Seen::Unknown(unread())),
            Read::LoadBalancer => extra.load_balancer = Some(Seen::Unknown(unread())),
            Read::Preflight => extra.preflight = Some(Seen::Unknown(unread())),
            Read::LastStop => extra.last_stop.values_mut().for_each(|seen| *seen = Seen::Unknown(unread())),
        }
    }
}

fn unread() -> String {
    "no answer".to_owned()
}

fn is_read(read: Read, observed: &Observed) -> bool {
    let extra = &observed.extra;
    match read {
        Read::Service | Read::Routes | Read::Alarms => true,
        Read::AlarmHistory => !extra.alarm_history.is_empty(),
        Read::Targets => !extra.targets.is_empty(),
        Read::LoadBalancer => extra.load_balancer.is_some(),
        Read::Preflight => extra.preflight.is_some(),
        Read::LastStop => !extra.last_stop.is_empty(),
    }
}

/// The answer of an effect that met this class.
pub fn answer(class: Class) -> Answer {
    match class {
        Class::Refused(class) => Answer::Refused { class, message: "no".to_owned() },
        Class::Unknown => Answer::Unknown { message: "no answer in time".to_owned() },
    }
}

/// What the table says is not asked for in a phase must not be.
pub fn asked_out_of_turn(facts: &Facts, effect: &Effect, plan: &Plan) -> Option<String> {
    let (work, phase) = (Work::of(effect, plan), Phase::of(facts));
    let surprise = to_failed_work(work, Class::Unknown, phase) == Response::NotAsked;
    surprise.then(|| format!("the error table has no row for {work:?} in {phase:?}: {effect}"))
}

/// The same for what is read when asked for.
pub fn read_out_of_turn(facts: &Facts, observed: &Observed) -> Vec<String> {
    let phase = Phase::of(facts);
    let surprising =
        |read: &Read| is_read(*read, observed) && to_failed_read(*read, phase) == Response::NotAsked;
    Read::ALL
        .into_iter()
        .filter(surprising)
        .map(|read| format!("the error table has no row for {read:?} in {phase:?}"))
        .collect()
}
