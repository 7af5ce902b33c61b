//! Breadth first through all states of a system, then back to rest from each of them.
//!
//! It is plain, so a counterexample is a shortest one, and a state is kept once. What the systems are is said in
//! `model` and in `lease`.

pub mod report;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// More than this does not fit into memory.
const MOST_STATES: usize = 60_000_000;

/// A number for a broken property; the system knows which.
pub type BrokenId = u16;

/// A property that does not hold, and where one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Number and name.
    pub property: &'static str,
    /// The evidence.
    pub detail: String,
}

impl Broken {
    /// With its evidence.
    pub fn new(property: &'static str, detail: impl Into<String>) -> Self {
        Self { property, detail: detail.into() }
    }
}

/// One step out of a state.
#[derive(Clone, Copy, Debug)]
pub struct Step<S, A> {
    /// What happens.
    pub action: A,
    /// What is then.
    pub state: S,
    /// A property that it breaks.
    pub broken: Option<BrokenId>,
}

/// What can be explored.
pub trait System {
    /// Small, and equal when nothing that matters differs.
    type State: Copy + Eq + Hash + Debug;
    /// What can happen.
    type Action: Copy + Eq + Debug;

    /// The one thing that happens when nothing goes wrong and nobody acts. Every state has it.
    fn fair(&self, state: &Self::State) -> Self::Action;
    /// Every step out of a state; the fair one is among them.
    fn steps(&mut self, state: &Self::State, out: &mut Vec<Step<Self::State, Self::Action>>);
    /// Judges the circle in which the fair way out of some states ends: which state of it is wrong, and why.
    fn at_rest(&mut self, circle: &[Self::State]) -> Option<(usize, BrokenId)>;
    /// Judges the longest way to rest, in ticks.
    fn too_far(&mut self, ticks: u32) -> Option<BrokenId>;
    /// The name under which a step is counted.
    fn kind(action: Self::Action) -> &'static str;
    /// Whether time passes with it.
    fn is_tick(action: Self::Action) -> bool;
}

/// Kinds of faults and of people's acts, each with a place among the budgets.
pub trait Kinds: Copy {
    /// Which place.
    fn place(self) -> usize;
}

/// What is left of each budget, and of all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget<const N: usize> {
    /// By place.
    pub each: [u8; N],
    /// Of all kinds together.
    pub all: u8,
}

impl<const N: usize> Budget<N> {
    /// Nothing to spend.
    pub const NOTHING: Self = Self { each: [0; N], all: 0 };

    /// These, and so many of all together.
    pub fn of<K: Kinds>(each: &[(K, u8)], all: u8) -> Self {
        let mut budget = Self { all, ..Self::NOTHING };
        for (kind, most) in each {
            budget.each[kind.place()] = *most;
        }
        budget
    }

    /// The budget after one more of `kind`, when there is any.
    pub fn spend(mut self, kind: impl Kinds) -> Option<Self> {
        let left = &mut self.each[kind.place()];
        *left = left.checked_sub(1)?;
        self.all = self.all.checked_sub(1)?;
        if self.all == 0 {
            // What cannot be spent any more does not tell states apart.
            self.each = [0; N];
        }
        Some(self)
    }
}

/// All states that were reached, in the order of their distance.
pub struct Reached<S> {
    pub states: Vec<S>,
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
pub enum Found<S, A> {
    /// Nothing in any state.
    Nothing,
    /// This, at the end of this path; shortest, because breadth came first.
    Broken { broken: BrokenId, path: Vec<Step<S, A>> },
}

/// What the search of a system found.
pub type FoundIn<T> = Found<<T as System>::State, <T as System>::Action>;
/// A path through a system.
type Path<T> = Vec<Step<<T as System>::State, <T as System>::Action>>;

const NONE: u32 = u32::MAX;

impl<S: Copy + Eq + Hash> Reached<S> {
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
    fn add(&mut self, state: S, parent: u32) -> u32 {
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
fn explore<T: System>(
    system: &mut T,
    start: T::State,
    cap: usize,
) -> anyhow::Result<(Reached<T::State>, FoundIn<T>)> {
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
        let fair = system.fair(&state);
        system.steps(&state, &mut steps);
        for step in &steps {
            reached.generated += 1;
            *reached.kinds.entry(T::kind(step.action)).or_default() += 1;
            if let Some(broken) = step.broken {
                let mut path = trace(system, &reached, id);
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
fn trace<T: System>(system: &mut T, reached: &Reached<T::State>, to: u32) -> Path<T> {
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
        system.steps(&from, &mut steps);
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
/// Each state has one fair step, so the ways form chains that end in circles. A circle is rest, and what stands there must
/// be right; and no way may be longer than the system says.
fn come_to_rest<T: System>(system: &mut T, reached: &Reached<T::State>) -> (Rest, FoundIn<T>) {
    const UNSEEN: u32 = NONE;
    const ON_PATH: u32 = NONE - 1;
    let mut ticks = vec![UNSEEN; reached.states.len()];
    let (mut rest, mut farthest) = (Rest::default(), 0);
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
            if let Some(found) = judge_circle(system, reached, &path[begin..]) {
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
            so_far += u32::from(T::is_tick(system.fair(&state)));
            ticks[passed] = so_far;
            if so_far > rest.ticks {
                (rest.ticks, farthest) = (so_far, passed);
            }
        }
    }
    let found = system.too_far(rest.ticks).map_or(Found::Nothing, |broken| {
        let path = trace(system, reached, u32::try_from(farthest).unwrap_or(NONE));
        Found::Broken { broken, path }
    });
    (rest, found)
}

fn judge_circle<T: System>(
    system: &mut T,
    reached: &Reached<T::State>,
    circle: &[usize],
) -> Option<FoundIn<T>> {
    let states: Vec<T::State> = circle.iter().map(|id| reached.states[*id]).collect();
    let (at, broken) = system.at_rest(&states)?;
    let path = trace(system, reached, u32::try_from(circle[at]).unwrap_or(NONE));
    Some(Found::Broken { broken, path })
}

#[cfg(test)]
mod tests {
    use super::report::Outcome;
    use super::*;

    /// So many ticks to rest, and at most so many are allowed.
    struct Countdown {
        most: u32,
    }

    impl System for Countdown {
        type State = u8;
        type Action = ();

        fn fair(&self, _: &u8) {}
        fn steps(&mut self, state: &u8, out: &mut Vec<Step<u8, ()>>) {
            *out = vec![Step { action: (), state: state.saturating_sub(1), broken: None }];
        }
        fn at_rest(&mut self, circle: &[u8]) -> Option<(usize, BrokenId)> {
            (circle != [0]).then_some((0, 7))
        }
        fn too_far(&mut self, ticks: u32) -> Option<BrokenId> {
            (ticks > self.most).then_some(9)
        }
        fn kind((): ()) -> &'static str {
            "tick"
        }
        fn is_tick((): ()) -> bool {
            true
        }
    }

    #[test]
    fn a_way_to_rest_that_is_longer_than_the_bound_is_found_with_the_state_that_it_begins_in() {
        for (from, most, found) in [(4, 4, false), (5, 4, true)] {
            let outcome = Outcome::of(&mut Countdown { most }, from).expect("it is small");
            assert_eq!(outcome.rest.ticks, u32::from(from));
            assert_eq!(outcome.is_clean(), !found);
            if let Found::Broken { broken, path } = outcome.found {
                assert_eq!((broken, path.len()), (9, 0), "the start is the farthest");
            }
        }
    }
}
