//! All steps out of a state of the lease: what each process does, and what befalls it.

use super::bugs::Flaw;
use super::config::{Config, From};
use super::mind::{Event, Intent, Mind, OPERATION, TTL};
use super::normal;
use super::properties;
use super::state::{
    ALL_READ, Action, Call, Doing, Fate, KINDS, Kind, LAYOUT_READ, MEMBERS_READ, PLACES, Phase, Process,
    ReplicaId, Rest, SHARDS_READ, State, kind,
};
use super::table::{Name, SHARDS, Table, Write};
use crate::search::{self, Broken, BrokenId, Budget, System};

/// One step of the model.
pub type Step = search::Step<State, Action>;

/// Starts of one place; [`Name`] counts them in two bits.
const STARTS: u8 = 4;

/// The model: a configuration, and the shipped code behind numbers.
pub struct Model {
    /// The bounds.
    pub config: Config,
    /// The code.
    pub mind: Mind,
    /// Where it begins, once that is known.
    pub start: Option<State>,
}

impl System for Model {
    type State = State;
    type Action = Action;

    fn fair(&self, state: &State) -> Action {
        let acts = (0..PLACES).find_map(|place| self.fair_of(&state.processes[place], small(place)));
        acts.unwrap_or(if state.processes.iter().all(|process| process.phase == Phase::Absent) {
            let can = |place: &usize| *place < self.config.places() && state.processes[*place].start < STARTS;
            Action::Start((0..PLACES).find(can).map_or(0, small))
        } else {
            Action::Tick(None)
        })
    }

    fn steps(&mut self, state: &State, out: &mut Vec<Step>) {
        out.clear();
        for place in 0..self.config.places() {
            match state.processes[place].phase {
                Phase::Absent => self.start(state, place, out),
                Phase::Running => self.running(state, place, out),
                Phase::Leaving => self.leaving(state, place, out),
            }
            if state.processes[place].phase != Phase::Absent {
                self.stops(state, place, out);
            }
        }
        for index in 0..state.flying.len() {
            let mut next = *state;
            if let Some(write) = next.catch(index) {
                let (_, broken) = self.land(&mut next.table, write);
                self.push(out, Action::Land(small(index)), next, broken);
            }
        }
        self.time(state, out);
        if !state.foul && self.is_settled(state) {
            let next = State { foul: true, left: self.budget(), ..*state };
            self.push(out, Action::Foul, next, None);
        }
    }

    fn at_rest(&mut self, circle: &[State]) -> Option<(usize, BrokenId)> {
        let passes = circle.iter().any(|state| Self::is_tick(self.fair(state)));
        let wrong = if passes {
            circle
                .iter()
                .enumerate()
                .find_map(|(at, state)| Some((at, properties::at_rest(state, &self.mind, &self.config)?)))
        } else {
            Some((0, Broken::new(properties::REST, "the same is repeated for ever, and no time passes")))
        };
        let (at, wrong) = wrong?;
        Some((at, self.mind.note(Some(wrong))?))
    }

    fn too_far(&mut self, ticks: u32) -> Option<BrokenId> {
        self.mind.note(properties::too_far(ticks))
    }

    fn kind(action: Action) -> &'static str {
        kind(action)
    }

    fn is_tick(action: Action) -> bool {
        matches!(action, Action::Tick(_))
    }
}

impl Model {
    /// Where everything begins: no process, no item.
    pub fn empty(&self) -> State {
        State {
            table: Table::default(),
            processes: [Process::absent(0); PLACES],
            flying: [None; super::state::FLYING],
            left: if self.config.faults == From::Nothing { self.budget() } else { Budget::NOTHING },
            foul: self.config.faults == From::Nothing,
        }
    }

    /// Of the configuration.
    pub fn budget(&self) -> Budget<{ KINDS.len() }> {
        Budget::of(self.config.each, self.config.all)
    }

    /// Every process runs and has its share.
    pub fn is_settled(&self, state: &State) -> bool {
        let mut first = state.processes.iter().take(self.config.places());
        first.all(|process| process.phase == Phase::Running)
            && properties::at_rest(state, &self.mind, &self.config).is_none()
    }

    fn fair_of(&self, process: &Process, place: u8) -> Option<Action> {
        if process.phase != Phase::Absent && process.paused {
            return Some(Action::Resume(place));
        }
        match process.phase {
            Phase::Absent => None,
            Phase::Running => match process.call {
                Some(call) => Some(match self.missing(&call.doing).next() {
                    Some(part) => Action::Part(place, part),
                    None => Action::Hear(place),
                }),
                None if self.mind.known(process.replica).intent == Intent::Wait => None,
                None => Some(Action::Go(place, Fate::Done, 0)),
            },
            Phase::Leaving => self.may_go(process).then_some(Action::Gone(place, Fate::Done)),
        }
    }

    fn push(&mut self, out: &mut Vec<Step>, action: Action, mut state: State, broken: Option<BrokenId>) {
        if self.mind.flaw.is_none() {
            normal::drop_dead(&mut state, &self.mind);
        }
        normal::rank_beats(&mut state, &mut self.mind);
        let broken = broken.or_else(|| {
            let standing = properties::of_state(&state, &self.mind);
            self.mind.note(standing)
        });
        out.push(Step { action, state, broken });
    }

    /// A write reaches the table: whether its condition held, and what it broke.
    fn land(&mut self, table: &mut Table, write: Write) -> (bool, Option<BrokenId>) {
        let before = *table;
        let held = table.write(write, self.mind.flaw);
        let broken = properties::of_landing(&before, table, write);
        (held, self.mind.note(broken))
    }

    /// What an event makes of a process. A shard that it no longer holds may still be written for, by what had begun.
    fn befall(&mut self, process: &mut Process, event: Event) {
        let after = self.mind.after(process.replica, event);
        let (was, now) = (self.mind.known(process.replica), self.mind.known(after));
        let mut withdrawn: Vec<u8> = Vec::new();
        for shard in 0..SHARDS {
            if was.held[shard] != now.held[shard] && was.held[shard] != 0 && was.valid > 0 {
                let ticks = OPERATION.min(was.valid);
                process.rest[shard] = Rest { ticks, epoch: was.held[shard] };
                withdrawn.push(small(shard));
            }
        }
        process.replica = after;
        if self.mind.has(Flaw::FreesAtOnce) {
            for shard in withdrawn {
                process.replica = self.mind.after(process.replica, Event::Drained(shard));
            }
        }
    }

    // --- a process

    fn start(&mut self, state: &State, place: usize, out: &mut Vec<Step>) {
        let start = state.processes[place].start;
        if start >= STARTS {
            return;
        }
        let mut next = *state;
        let replica = self.begin(place, start);
        next.processes[place] = Process { phase: Phase::Running, replica, ..Process::absent(start) };
        self.push(out, Action::Start(small(place)), next, None);
    }

    fn begin(&mut self, place: usize, start: u8) -> ReplicaId {
        let seed = u64::try_from(place).unwrap_or(0);
        self.mind.begin(Name::new(small(place), start), seed, self.config.counts[place])
    }

    fn running(&mut self, state: &State, place: usize, out: &mut Vec<Step>) {
        let process = state.processes[place];
        for shard in (0..SHARDS).filter(|shard| process.rest[*shard].ticks > 0) {
            let mut next = *state;
            let process = &mut next.processes[place];
            process.rest[shard] = Rest::default();
            process.replica = self.mind.after(process.replica, Event::Drained(small(shard)));
            self.push(out, Action::Ended(small(place), small(shard)), next, None);
        }
        if process.paused {
            return;
        }
        if let Some(call) = process.call {
            return self.calling(state, place, call, out);
        }
        match self.mind.known(process.replica).intent {
            Intent::Wait => {}
            Intent::Look => self.look(state, place, out),
            Intent::Write(writes) => self.write(state, place, writes, out),
        }
    }

    fn look(&mut self, state: &State, place: usize, out: &mut Vec<Step>) {
        for (fate, kind) in
            [(Fate::Done, None), (Fate::Lost, Some(Kind::Lost)), (Fate::Slow, Some(Kind::Slow))]
        {
            let Some(left) = kind.map_or(Some(state.left), |kind| state.left.spend(kind)) else { continue };
            let mut next = State { left, ..*state };
            let process = &mut next.processes[place];
            match fate {
                Fate::Slow => {
                    let first = if self.mind.has(Flaw::MembersFirst) { MEMBERS_READ } else { SHARDS_READ };
                    let mut doing = Doing::Look { read: Table::default(), parts: 0 };
                    read(&mut doing, &state.table, first);
                    process.call = Some(Call { age: 0, doing });
                }
                Fate::Lost => self.befall(process, Event::Looked(None, 0)),
                _ => self.befall(process, Event::Looked(Some(state.table), 0)),
            }
            self.push(out, Action::Go(small(place), fate, 0), next, None);
        }
    }

    fn write(&mut self, state: &State, place: usize, writes: [Option<Write>; SHARDS], out: &mut Vec<Step>) {
        self.go(state, place, writes, (Fate::Done, 0), out);
        // One that is lost is a late one that never lands.
        let faults = [
            (Fate::Unheard, Kind::Unheard),
            (Fate::Late, Kind::Late),
            (Fate::Twice, Kind::Twice),
            (Fate::Again, Kind::Twice),
            (Fate::Slow, Kind::Slow),
        ];
        let parts = u8::try_from(writes.iter().flatten().count()).unwrap_or(0);
        for (fate, kind) in faults {
            if kind == Kind::Twice && !self.repeats(writes) {
                continue;
            }
            let Some(left) = state.left.spend(kind) else { continue };
            let spent = State { left, ..*state };
            // Each choice of the parts that it befalls; a slow call is slow as a whole.
            let masks = if fate == Fate::Slow { 1..2 } else { 1..(1 << parts) };
            for mask in masks {
                self.go(&spent, place, writes, (fate, mask), out);
            }
        }
    }

    /// Whether the client sends these again by itself when no answer comes; a join it does not.
    fn repeats(&self, writes: [Option<Write>; SHARDS]) -> bool {
        !matches!(writes[0], Some(Write::Join { .. })) || self.mind.has(Flaw::JoinIsRepeated)
    }

    fn go(
        &mut self,
        state: &State,
        place: usize,
        writes: [Option<Write>; SHARDS],
        (fate, mask): (Fate, u8),
        out: &mut Vec<Step>,
    ) {
        let mut next = *state;
        let mut answers = [None; SHARDS];
        let mut broken = None;
        let action = Action::Go(small(place), fate, mask);
        if fate == Fate::Slow {
            let doing = Doing::Write { writes, answers };
            next.processes[place].call = Some(Call { age: 0, doing });
            return self.push(out, action, next, None);
        }
        for (part, write) in writes.into_iter().enumerate() {
            let Some(write) = write else { continue };
            let fate = if mask & (1 << part) == 0 { Fate::Done } else { fate };
            if matches!(fate, Fate::Late | Fate::Twice) && !next.fly(write) {
                return;
            }
            if matches!(fate, Fate::Lost | Fate::Late) {
                continue;
            }
            let (mut held, wrong) = self.land(&mut next.table, write);
            broken = broken.or(wrong);
            if fate == Fate::Again {
                held = self.land(&mut next.table, write).0;
            }
            answers[part] = (fate != Fate::Unheard).then_some(held);
        }
        let event = heard(writes, answers, 0);
        self.befall(&mut next.processes[place], event);
        self.push(out, action, next, broken);
    }

    // --- a slow call

    /// Parts that have not reached the table, and may next.
    fn missing<'a>(&self, doing: &'a Doing) -> Box<dyn Iterator<Item = u8> + 'a> {
        match doing {
            Doing::Look { parts, .. } => {
                let swapped = self.mind.has(Flaw::MembersFirst);
                let rest = [if swapped { SHARDS_READ } else { MEMBERS_READ }, LAYOUT_READ];
                let parts = *parts;
                Box::new(rest.into_iter().filter(move |part| parts & part == 0))
            }
            Doing::Write { writes, answers } => {
                let both = writes.iter().zip(answers).enumerate();
                let open = both.filter(|(_, (write, answer))| write.is_some() && answer.is_none());
                Box::new(open.map(|(part, _)| small(part)))
            }
        }
    }

    fn calling(&mut self, state: &State, place: usize, call: Call, out: &mut Vec<Step>) {
        let missing: Vec<u8> = self.missing(&call.doing).collect();
        for part in &missing {
            let mut next = *state;
            let mut call = call;
            let broken = self.part(&mut next.table, &mut call.doing, *part);
            next.processes[place].call = Some(call);
            self.push(out, Action::Part(small(place), *part), next, broken);
        }
        let process = Process { call: None, ..state.processes[place] };
        if missing.is_empty() {
            let mut next = *state;
            let event = match call.doing {
                Doing::Look { read, .. } => Event::Looked(Some(read), call.age),
                Doing::Write { writes, answers } => heard(writes, answers, call.age),
            };
            next.processes[place] = process;
            self.befall(&mut next.processes[place], event);
            self.push(out, Action::Hear(small(place)), next, None);
        }
        if call.age == 0 {
            return;
        }
        let mut next = *state;
        forget_call(&mut next, place);
        let event = match call.doing {
            Doing::Look { .. } => Event::Looked(None, 0),
            Doing::Write { writes, .. } => heard(writes, [None; SHARDS], call.age),
        };
        self.befall(&mut next.processes[place], event);
        self.push(out, Action::GiveUp(small(place)), next, None);
    }

    fn part(&mut self, table: &mut Table, doing: &mut Doing, part: u8) -> Option<BrokenId> {
        let Doing::Write { writes, answers } = doing else {
            read(doing, table, part);
            return None;
        };
        let write = writes[usize::from(part)]?;
        let (held, broken) = self.land(table, write);
        answers[usize::from(part)] = Some(held);
        broken
    }

    // --- the end of a process

    fn stops(&mut self, state: &State, place: usize, out: &mut Vec<Step>) {
        let process = state.processes[place];
        let absent = Process::absent(process.start + 1);
        if let Some(left) = state.left.spend(Kind::Crash) {
            let mut next = State { left, ..*state };
            forget_call(&mut next, place);
            next.processes[place] = absent;
            self.push(out, Action::Crash(small(place)), next, None);
        }
        if process.phase == Phase::Running
            && !process.paused
            && let Some(left) = state.left.spend(Kind::Leave)
        {
            let mut next = State { left, ..*state };
            forget_call(&mut next, place);
            self.withdraw(&mut next.processes[place]);
            self.push(out, Action::Leave(small(place)), next, None);
        }
        if process.paused {
            let mut next = *state;
            next.processes[place].paused = false;
            self.push(out, Action::Resume(small(place)), next, None);
        } else if let Some(left) = state.left.spend(Kind::Pause) {
            let mut next = State { left, ..*state };
            next.processes[place].paused = true;
            self.push(out, Action::Pause(small(place)), next, None);
        }
    }

    fn withdraw(&self, process: &mut Process) {
        let known = self.mind.known(process.replica);
        process.phase = Phase::Leaving;
        for shard in 0..SHARDS {
            if known.held[shard] != 0 && known.valid > 0 {
                process.rest[shard] = Rest { ticks: OPERATION.min(known.valid), epoch: known.held[shard] };
            }
        }
    }

    fn may_go(&self, process: &Process) -> bool {
        process.rest.iter().all(|rest| rest.ticks == 0) || self.mind.has(Flaw::LeavesAtOnce)
    }

    fn leaving(&mut self, state: &State, place: usize, out: &mut Vec<Step>) {
        let process = state.processes[place];
        for shard in (0..SHARDS).filter(|shard| process.rest[*shard].ticks > 0) {
            let mut next = *state;
            next.processes[place].rest[shard] = Rest::default();
            self.push(out, Action::Ended(small(place), small(shard)), next, None);
        }
        if process.paused || !self.may_go(&process) {
            return;
        }
        let known = self.mind.known(process.replica);
        let retire = known.name.filter(|_| known.is_member).map(|name| Write::Retire { name });
        let mut gone = *state;
        // What still runs under its permits is all that is left of it.
        let rest = process.rest;
        gone.processes[place] = Process { rest, ..Process::absent(process.start + 1) };
        let mut done = gone;
        let broken = retire.and_then(|write| self.land(&mut done.table, write).1);
        self.push(out, Action::Gone(small(place), Fate::Done), done, broken);
        let Some(write) = retire else { return };
        if let Some(left) = state.left.spend(Kind::Lost) {
            self.push(out, Action::Gone(small(place), Fate::Lost), State { left, ..gone }, None);
        }
        if let Some(left) = state.left.spend(Kind::Late) {
            let mut late = State { left, ..gone };
            if late.fly(write) {
                self.push(out, Action::Gone(small(place), Fate::Late), late, None);
            }
        }
    }

    // --- time

    fn time(&mut self, state: &State, out: &mut Vec<Step>) {
        let busy = |process: &Process| {
            let at_once = match process.phase {
                Phase::Absent => false,
                Phase::Running => {
                    process.call.is_none() && self.mind.known(process.replica).intent != Intent::Wait
                }
                Phase::Leaving => self.may_go(process),
            };
            at_once && !process.paused
        };
        let absent = |process: &Process| process.phase == Phase::Absent;
        if state.processes.iter().any(busy) || state.processes.iter().all(absent) {
            return;
        }
        let next = self.tick(state, None);
        self.push(out, Action::Tick(None), next, None);
        let left =
            if self.mind.has(Flaw::ClocksApart) { Some(state.left) } else { state.left.spend(Kind::Slip) };
        let Some(left) = left else { return };
        for place in (0..PLACES).filter(|place| !absent(&state.processes[*place])) {
            let next = self.tick(&State { left, ..*state }, Some(place));
            self.push(out, Action::Tick(Some(small(place))), next, None);
        }
    }

    fn tick(&mut self, state: &State, still: Option<usize>) -> State {
        let mut next = *state;
        for (place, process) in next.processes.iter_mut().enumerate() {
            if still == Some(place) {
                continue;
            }
            for rest in &mut process.rest {
                rest.ticks = rest.ticks.saturating_sub(1);
                if rest.ticks == 0 {
                    rest.epoch = 0;
                }
            }
            if process.phase != Phase::Running {
                continue;
            }
            process.replica = self.mind.after(process.replica, Event::Tick);
            if let Some(call) = &mut process.call {
                call.age = (call.age + 1).min(TTL);
            }
        }
        next
    }
}

fn small(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

/// What writes that came back are to a replica.
fn heard(writes: [Option<Write>; SHARDS], answers: [Option<bool>; SHARDS], ago: u8) -> Event {
    match writes[0] {
        Some(Write::Take { .. }) | None => Event::Took { writes, answers },
        Some(write) => Event::Answered { write, ago, answer: answers[0] },
    }
}

/// What was not there yet is on its way without its sender.
fn forget_call(state: &mut State, place: usize) {
    let Some(call) = state.processes[place].call.take() else { return };
    let Doing::Write { writes, answers } = call.doing else { return };
    for (write, answer) in writes.into_iter().zip(answers) {
        if let (Some(write), None) = (write, answer) {
            // Without room it is lost.
            state.fly(write);
        }
    }
}

fn read(doing: &mut Doing, table: &Table, part: u8) {
    let Doing::Look { read, parts } = doing else { return };
    match part {
        SHARDS_READ => read.shards = table.shards,
        MEMBERS_READ => read.members = table.members,
        _ => read.layout = table.layout,
    }
    *parts = (*parts | part) & ALL_READ;
}
