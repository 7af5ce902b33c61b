//! Breadth first through all states, then back to rest from each of them.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::mind::BrokenId;
use super::properties;
use super::state::{Action, Hand, State};
use super::steps::{Model, Step};

/// All states that were reached, in the order of their distance.
pub struct Reached {
    pub states: Vec<State>,
    parents: Vec<u32>,
    /// Where each goes when nothing happens any more.
    fair: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    pub generated: u64,
    pub depth: u32,
    /// Steps by kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

/// What the search found.
pub enum Found {
    /// Nothing in any state.
    Nothing,
    /// This, at the end of this path; shortest, because breadth came first.
    Broken { broken: BrokenId, path: Vec<Step> },
}

const NONE: u32 = u32::MAX;

impl Reached {
    fn new() -> Self {
        Self {
            states: Vec::new(),
            parents: Vec::new(),
            fair: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            generated: 0,
            depth: 0,
            kinds: BTreeMap::new(),
        }
    }

    /// The number of a state, new or known.
    fn add(&mut self, state: State, parent: u32) -> u32 {
        let Self { states, parents, fair, index, hasher, .. } = self;
        let hash = hasher.hash_one(state);
        if let Some(known) = index.find(hash, |id| states[*id as usize] == state) {
            return *known;
        }
        let id = u32::try_from(states.len()).unwrap_or(NONE);
        states.push(state);
        parents.push(parent);
        fair.push(NONE);
        index.insert_unique(hash, id, |id| hasher.hash_one(states[*id as usize]));
        id
    }
}

/// Explores everything, at most `cap` states.
pub fn explore(model: &mut Model, start: State, cap: usize) -> anyhow::Result<(Reached, Found)> {
    let mut reached = Reached::new();
    reached.add(start, NONE);
    let mut steps = Vec::new();
    let (mut next, mut end_of_level) = (0, 1);
    while next < reached.states.len() {
        if next == end_of_level {
            reached.depth += 1;
            end_of_level = reached.states.len();
        }
        let id = u32::try_from(next).unwrap_or(NONE);
        let state = reached.states[next];
        let fair = Model::fair(&state);
        model.steps(&state, &mut steps);
        for step in &steps {
            reached.generated += 1;
            *reached.kinds.entry(kind(step.action)).or_default() += 1;
            if let Some(broken) = step.broken {
                let mut path = trace(model, &reached, id);
                path.push(*step);
                return Ok((reached, Found::Broken { broken, path }));
            }
            let to = reached.add(step.state, id);
            if step.action == fair {
                reached.fair[next] = to;
            }
        }
        anyhow::ensure!(reached.fair[next] != NONE, "no fair step out of {state:?}");
        anyhow::ensure!(reached.states.len() <= cap, "more than {cap} states");
        next += 1;
    }
    Ok((reached, Found::Nothing))
}

/// The steps from the start to a state.
fn trace(model: &mut Model, reached: &Reached, to: u32) -> Vec<Step> {
    let mut ids = vec![to];
    while let Some(last) = ids.last().copied()
        && reached.parents[last as usize] != NONE
    {
        ids.push(reached.parents[last as usize]);
    }
    ids.reverse();
    let mut steps = Vec::new();
    let mut path = Vec::new();
    for pair in ids.windows(2) {
        let (from, to) = (reached.states[pair[0] as usize], reached.states[pair[1] as usize]);
        model.steps(&from, &mut steps);
        path.extend(steps.iter().find(|step| step.state == to).copied());
    }
    path
}

/// How long the way to rest is, from the state that is farthest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// Ticks.
    pub ticks: u32,
    /// States at rest.
    pub resting: u32,
}

/// From every state, with nothing going wrong any more, the way must end where everything is as asked.
///
/// Each state has one fair step, so the ways form chains that end in circles. A circle is rest: it may hold no effect,
/// and what stands there must be right.
pub fn come_to_rest(model: &mut Model, reached: &Reached) -> (Rest, Found) {
    const UNSEEN: u32 = NONE;
    const ON_PATH: u32 = NONE - 1;
    let mut ticks = vec![UNSEEN; reached.states.len()];
    let mut rest = Rest::default();
    for start in 0..reached.states.len() {
        let mut path = Vec::new();
        let mut at = start;
        while ticks[at] == UNSEEN {
            ticks[at] = ON_PATH;
            path.push(at);
            at = reached.fair[at] as usize;
        }
        if ticks[at] == ON_PATH {
            let begin = path.iter().position(|seen| *seen == at).unwrap_or(0);
            if let Some(found) = judge_circle(model, reached, &path[begin..]) {
                return (rest, found);
            }
            for resting in path.drain(begin..) {
                ticks[resting] = 0;
                rest.resting += 1;
            }
        }
        let mut so_far = ticks[at];
        for passed in path.into_iter().rev() {
            let state = reached.states[passed];
            so_far += u32::from(Model::fair(&state) == Action::Tick);
            ticks[passed] = so_far;
            rest.ticks = rest.ticks.max(so_far);
        }
    }
    (rest, Found::Nothing)
}

fn judge_circle(model: &mut Model, reached: &Reached, circle: &[usize]) -> Option<Found> {
    for id in circle {
        let state = reached.states[*id];
        let busy = state.owner().hand != Hand::Empty;
        let wrong = if busy {
            Some(properties::Broken::new(properties::REST, "the same effect is repeated for ever"))
        } else {
            properties::at_rest(&state, model.mind.digest(state.durable))
        };
        if let Some(broken) = model.mind.note(wrong) {
            let path = trace(model, reached, u32::try_from(*id).unwrap_or(NONE));
            return Some(Found::Broken { broken, path });
        }
    }
    None
}

/// The name under which a step is counted.
pub fn kind(action: Action) -> &'static str {
    use super::state::{Fate, Sight};
    match action {
        Action::Turn(0, Sight::Clear) => "turn",
        Action::Turn(_, Sight::Clear) => "late pass",
        Action::Turn(_, Sight::Stale) => "stale read",
        Action::Turn(..) => "unread",
        Action::Send(0, Fate::Done) => "effect",
        Action::Send(_, Fate::Done) => "late send",
        Action::Send(_, Fate::AnswerLost) => "answer lost",
        Action::Send(_, Fate::CallLost) => "call lost",
        Action::Send(_, Fate::Late) => "delayed",
        Action::Send(_, Fate::Twice) => "duplicated",
        Action::Send(_, Fate::Throttled) => "refused",
        Action::Settle(0) => "settle",
        Action::Settle(_) => "late settle",
        Action::Crash(..) => "crash",
        Action::TakeOver(_) => "take-over",
        Action::Pause => "pause",
        Action::Land(_) => "landing",
        Action::Tick => "tick",
        Action::Drift(_) => "drift",
        Action::Flip => "alarm",
        Action::Edit(_) => "edit",
        Action::Order(_) => "command",
        Action::Die(_) => "tasks die",
    }
}
