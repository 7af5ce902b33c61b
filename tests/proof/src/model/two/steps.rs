//! All steps of two services and of what befalls them.

use std::collections::BTreeSet;

use super::mind::{Decided, Mind, Move, Question};
use super::{ARNS, Bug, Overlap, Table};
use crate::model::state::{FactsId, Fate, NeedsId, Sight};
use crate::model::view::View;
use crate::model::world::{EffectId, Reply, World};
use crate::search::{Broken, BrokenId, Budget, Kinds, Step, System};

const S10: &str = "S10 one service a resource";
const S29: &str = "S29 nothing of another's is named";
const LAST: &str = "S19 claims go last";
const LATE: &str = "S29 no late request lands after its claims changed hands";
const TOLD: &str = "S10 who is refused is told by whom";
const REST: &str = "L2 every state comes to rest as asked";

/// Kinds of faults and acts.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Crash,
    Lost,
    Late,
    Record,
    Ask,
}

const KINDS: usize = 5;

impl Kinds for Kind {
    fn place(self) -> usize {
        self as usize
    }
}

/// Three in all: what the tests with every change can afford.
const EACH: &[(Kind, u8)] =
    &[(Kind::Crash, 1), (Kind::Lost, 1), (Kind::Late, 1), (Kind::Record, 2), (Kind::Ask, 2)];
const ALL: u8 = 3;

/// What a service's loop has in hand between two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hand {
    Empty,
    /// Announced, and not sent.
    Signed(EffectId),
    /// Answered, and not recorded.
    Answered(EffectId, Reply),
}

/// One service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    /// The state item.
    pub durable: FactsId,
    /// As decided last; none after a crash.
    memory: Option<FactsId>,
    pub hand: Hand,
    /// An ARN that the other has.
    denied: Option<u8>,
    needs: NeedsId,
    since: u8,
    asleep: bool,
    /// Its world.
    world: World,
    /// The number of its request.
    asks: u8,
    /// Its record is there.
    managed: bool,
}

/// Both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub sides: [Side; 2],
    /// By ARN: 0 nobody, 1 the first, 2 the second.
    pub claims: [u8; ARNS],
    /// ARNs that somebody gave up.
    freed: u8,
    left: Budget<KINDS>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A service's loop reads, decides and records.
    Turn(u8),
    /// It sends.
    Send(u8, Fate),
    /// It records the answer.
    Settle(u8),
    /// A late request lands.
    Land(u8, u8),
    /// The process dies and is there again, as far as this service is concerned.
    Crash(u8),
    /// Time passes.
    Tick,
    /// The service's record is deleted, or restored.
    Record(u8),
    /// A developer asks for the next revision.
    Ask(u8),
}

/// The system.
pub struct Two {
    pub mind: Mind,
    table: Table,
    /// What was reached.
    pub met: BTreeSet<&'static str>,
}

impl Two {
    pub fn new(overlap: &Overlap, bug: Option<&'static Bug>) -> anyhow::Result<Self> {
        let table = bug.map_or(Table::default(), |bug| bug.table);
        Ok(Self { mind: Mind::new(overlap, bug)?, table, met: BTreeSet::new() })
    }

    /// Both ask for their first release.
    pub fn start() -> State {
        let side = |side| Side {
            durable: Mind::nothing(side),
            memory: None,
            hand: Hand::Empty,
            denied: None,
            needs: 0,
            since: 0,
            asleep: false,
            world: World::empty(false),
            asks: 1,
            managed: true,
        };
        State { sides: [side(0), side(1)], claims: [0; ARNS], freed: 0, left: Budget::of(EACH, ALL) }
    }

    /// What must be so in every state.
    fn standing(&mut self, state: &State) -> Option<BrokenId> {
        let held = [0, 1].map(|side| self.mind.kept(state.sides[side].durable).held);
        let both = held[0] & held[1];
        let wrong = if both != 0 {
            Some(Broken::new(S10, format!("both remember to hold {both:08b}")))
        } else {
            (0..2).find_map(|side| {
                let missing = held[side] & !owned(state, side);
                (missing != 0).then(|| {
                    Broken::new(
                        S10,
                        format!("the {} remembers to hold {missing:08b}, and does not", ordinal(side)),
                    )
                })
            })
        };
        for side in 0..2 {
            let facts = self.mind.kept(state.sides[side].durable);
            if facts.digest.stable.is_some() && facts.held & state.freed != 0 {
                self.met.insert("serves after the other gave up");
            }
        }
        if state.sides.iter().all(|side| self.mind.kept(side.durable).digest.stable.is_some()) {
            self.met.insert("both serve");
        }
        self.mind.note(wrong)
    }

    fn push(
        &mut self,
        out: &mut Vec<Step<State, Action>>,
        action: Action,
        state: State,
        broken: Option<BrokenId>,
    ) {
        let broken = broken.or_else(|| self.standing(&state));
        out.push(Step { action, state, broken });
    }

    /// Whether everything that an effect names is its service's.
    fn named(&mut self, state: &State, side: usize, effect: EffectId) -> Option<BrokenId> {
        let what = self.mind.effect(effect).clone();
        let foreign = self.mind.named(small(side), &what) & !owned(state, side);
        let wrong = (foreign != 0)
            .then(|| Broken::new(S29, format!("{what} for the {} names {foreign:08b}", ordinal(side))));
        self.mind.note(wrong)
    }

    // --- observe, decide, record

    fn turn(&mut self, state: &State, index: usize, out: &mut Vec<Step<State, Action>>) {
        let action = Action::Turn(small(index));
        let mut next = *state;
        let before = state.sides[index];
        let question = Question {
            side: small(index),
            facts: before.memory.unwrap_or(before.durable),
            watched: if before.memory.is_none() { 0 } else { before.since },
            asks: before.asks,
            managed: before.managed,
            denied: before.denied,
            view: View::of(&before.world, Sight::Clear),
            needs: if before.memory.is_none() { 0 } else { before.needs },
        };
        let decided = self.mind.decide(&question);
        let mut broken = self.told(&question, &decided);
        if decided.late {
            self.met.insert("claims wait for what may still land");
        }
        let side = &mut next.sides[index];
        side.since = 0;
        if !matches!(decided.next, Move::Look(_)) {
            side.denied = None;
        }
        if decided.write {
            if let Some(taken) = self.taken(state, index, decided.claim) {
                // Nothing was written: the next decision is told who has it.
                side.denied = Some(taken);
                side.memory = Some(question.facts);
                side.needs = 0;
                self.push(out, action, next, broken);
                return;
            }
            broken = broken.or_else(|| self.gives_up(state, index, &decided));
            next.sides[index].durable = decided.facts;
            if self.table.apart && decided.claim != 0 {
                let half = next.sides[index];
                let mut crashed = next;
                crashed.sides[index] = forgetful(half);
                let standing = self.standing(&crashed);
                broken = broken.or(standing);
            }
            self.claim(&mut next, index, &decided);
        }
        let side = &mut next.sides[index];
        side.memory = Some(decided.facts);
        match decided.next {
            Move::Act(effect) => (side.needs, side.hand) = (0, Hand::Signed(effect)),
            Move::Look(needs) => side.needs = self.mind.join(side.needs, needs),
            Move::Again => side.needs = 0,
            Move::Wait(needs) => (side.needs, side.asleep) = (needs, true),
            Move::Rest => (side.needs, side.asleep) = (0, true),
        }
        if let Move::Act(effect) = decided.next {
            broken = broken.or_else(|| self.named(&next, index, effect));
        }
        self.push(out, action, next, broken);
    }

    /// A denial ends the request, in words that say who has the resource.
    fn told(&mut self, question: &Question, decided: &Decided) -> Option<BrokenId> {
        let refusing = question.denied.is_some() && !matches!(decided.next, Move::Look(_));
        if refusing && decided.told {
            self.met.insert("denied and told by whom");
        }
        // What was denied to a request that is no longer the newest need not be told.
        let same = self.mind.kept(question.facts).digest.asked == Some(question.asks);
        let wrong = (refusing && !decided.told && question.managed && same)
            .then(|| Broken::new(TOLD, "a claim was denied, and nothing says who has the resource"));
        self.mind.note(wrong)
    }

    /// An ARN of these that the other has.
    fn taken(&self, state: &State, index: usize, claim: u8) -> Option<u8> {
        let theirs = claim & owned(state, 1 - index);
        (theirs != 0 && !self.table.unconditional).then(|| u8::try_from(theirs.trailing_zeros()).unwrap_or(0))
    }

    fn claim(&mut self, state: &mut State, index: usize, decided: &Decided) {
        for arn in 0..ARNS {
            let bit = 1_u8 << arn;
            if decided.claim & bit != 0 {
                state.claims[arn] = small(index) + 1;
                self.met.insert(if index == 0 { "claimed by the first" } else { "claimed by the second" });
                if state.freed & bit != 0 {
                    self.met.insert("claimed after the other gave it up");
                }
            }
            if decided.unclaim & bit != 0 && state.claims[arn] == small(index) + 1 {
                state.claims[arn] = 0;
                state.freed |= bit;
                self.met.insert("given up");
            }
        }
    }

    /// What is left of a service that gives up its claims.
    fn gives_up(&mut self, state: &State, index: usize, decided: &Decided) -> Option<BrokenId> {
        if decided.unclaim == 0 {
            return None;
        }
        let facts = self.mind.kept(decided.facts);
        let side = &state.sides[index];
        let left =
            side.world.sets().find(|set| Some(set.serial) != facts.digest.stable).map(|set| set.serial);
        let wrong = if let Some(serial) = left {
            Some(format!("ts-{serial} is still there"))
        } else if facts.outstanding {
            Some("an answer is outstanding".to_owned())
        } else if side.world.mail.iter().flatten().any(|mail| !mail.copy) {
            Some("a request may still land".to_owned())
        } else {
            facts.works.then(|| "it has work under way".to_owned())
        };
        self.mind.note(wrong.map(|what| Broken::new(LAST, format!("claims are given up, and {what}"))))
    }

    // --- send, settle

    fn send(&mut self, state: &State, index: usize, effect: EffectId, out: &mut Vec<Step<State, Action>>) {
        let what = self.mind.effect(effect).clone();
        let before = state.sides[index].world;
        let broken = self.named(state, index, effect);
        let mut push = |two: &mut Self, fate, left, world, reply| {
            let mut next = State { left, ..*state };
            let side = &mut next.sides[index];
            (side.world, side.hand) = (world, Hand::Answered(effect, reply));
            two.push(out, Action::Send(small(index), fate), next, broken);
        };
        if let Some(refused) = before.objection(&what) {
            push(self, Fate::Done, state.left, before, refused);
            return;
        }
        let mut done = before;
        let reply = done.carry_out(&what);
        push(self, Fate::Done, state.left, done, reply);
        if let Some(left) = state.left.spend(Kind::Lost) {
            push(self, Fate::AnswerLost, left, done, Reply::Lost);
            push(self, Fate::CallLost, left, before, Reply::Lost);
        }
        if let Some(left) = state.left.spend(Kind::Late) {
            let mut posted = before;
            if posted.post(effect, 0) {
                push(self, Fate::Late, left, posted, Reply::Lost);
            }
            let mut twice = done;
            if twice.post_copy(effect) {
                push(self, Fate::Twice, left, twice, reply);
            }
        }
    }

    fn settle(
        &mut self,
        state: &State,
        index: usize,
        effect: EffectId,
        reply: Reply,
        out: &mut Vec<Step<State, Action>>,
    ) {
        let mut next = *state;
        let side = &mut next.sides[index];
        let memory = side.memory.unwrap_or(side.durable);
        let settled = self.mind.settle(small(index), memory, effect, reply);
        (side.durable, side.memory, side.hand) = (settled, Some(settled), Hand::Empty);
        self.push(out, Action::Settle(small(index)), next, None);
    }

    // --- what befalls

    fn befall(&mut self, state: &State, index: usize, out: &mut Vec<Step<State, Action>>) {
        let (side, number) = (state.sides[index], small(index));
        for letter in 0..side.world.mail.len() {
            let mut next = *state;
            if let Some(mail) = next.sides[index].world.take(letter) {
                let what = self.mind.effect(mail.effect).clone();
                let foreign = self.mind.named(number, &what) & owned(state, 1 - index);
                let broken = (foreign != 0 && !mail.copy).then(|| {
                    Broken::new(LATE, format!("{what} of the {} lands on {foreign:08b}", ordinal(index)))
                });
                if foreign != 0 && mail.copy {
                    self.met.insert("a copy of an answered request lands after its claims changed hands");
                }
                next.sides[index].world.carry_out(&what);
                let broken = self.mind.note(broken);
                self.push(out, Action::Land(number, small(letter)), next, broken);
            }
        }
        if side.memory.is_some()
            && let Some(left) = state.left.spend(Kind::Crash)
        {
            let mut next = State { left, ..*state };
            next.sides[index] = forgetful(side);
            self.push(out, Action::Crash(number), next, None);
        }
        if let Some(left) = state.left.spend(Kind::Record) {
            let mut next = State { left, ..*state };
            next.sides[index] = Side { managed: !side.managed, asleep: false, ..side };
            self.push(out, Action::Record(number), next, None);
        }
        if let Some(left) = state.left.spend(Kind::Ask) {
            let mut next = State { left, ..*state };
            next.sides[index] = Side { asks: side.asks + 1, asleep: false, ..side };
            self.push(out, Action::Ask(number), next, None);
        }
    }

    fn wrong_at_rest(&mut self, state: &State) -> Option<Broken> {
        (0..2).find_map(|index| {
            let side = &state.sides[index];
            let facts = self.mind.kept(side.durable);
            let known = &facts.digest;
            let name = ordinal(index);
            if known.halted {
                return None;
            }
            if side.hand != Hand::Empty || facts.works || (side.managed && known.pending) {
                return Some(Broken::new(REST, format!("the {name} waits for ever with work under way")));
            }
            // A request without a record of its service keeps until there is one.
            if !side.managed {
                let kept = facts.held | owned(state, index);
                return (kept != 0).then(|| {
                    Broken::new(REST, format!("the record of the {name} is gone, and it keeps {kept:08b}"))
                });
            }
            let answered = known.stable_revision == Some(side.asks) || known.refused;
            (!answered).then(|| Broken::new(REST, format!("the request of the {name} is never answered")))
        })
    }
}

impl System for Two {
    type State = State;
    type Action = Action;

    fn fair(&self, state: &State) -> Action {
        for (index, side) in (0..).zip(&state.sides) {
            match side.hand {
                Hand::Answered(..) => return Action::Settle(index),
                Hand::Signed(_) => return Action::Send(index, Fate::Done),
                Hand::Empty if !side.asleep => return Action::Turn(index),
                Hand::Empty => {}
            }
        }
        Action::Tick
    }

    fn steps(&mut self, state: &State, out: &mut Vec<Step<State, Action>>) {
        out.clear();
        for index in 0..2 {
            match state.sides[index].hand {
                Hand::Empty if state.sides[index].asleep => {}
                Hand::Empty => self.turn(state, index, out),
                Hand::Signed(effect) => self.send(state, index, effect, out),
                Hand::Answered(effect, reply) => self.settle(state, index, effect, reply, out),
            }
            self.befall(state, index, out);
        }
        if state.sides.iter().all(|side| side.asleep && side.hand == Hand::Empty) {
            let mut next = *state;
            for side in &mut next.sides {
                side.world.tick();
                side.since = if side.memory.is_some() { (side.since + 1).min(2) } else { 0 };
                side.asleep = false;
            }
            self.push(out, Action::Tick, next, None);
        }
    }

    fn at_rest(&mut self, circle: &[State]) -> Option<(usize, BrokenId)> {
        circle.iter().enumerate().find_map(|(at, state)| {
            let wrong = self.wrong_at_rest(state);
            Some((at, self.mind.note(wrong)?))
        })
    }

    fn too_far(&mut self, ticks: u32) -> Option<BrokenId> {
        self.mind.note(super::too_far(ticks))
    }

    fn kind(action: Action) -> &'static str {
        match action {
            Action::Turn(_) => "turn",
            Action::Send(_, Fate::AnswerLost) => "answer lost",
            Action::Send(_, Fate::CallLost) => "call lost",
            Action::Send(_, Fate::Late) => "delayed",
            Action::Send(_, Fate::Twice) => "duplicated",
            Action::Send(..) => "effect",
            Action::Settle(_) => "settle",
            Action::Land(..) => "landing",
            Action::Crash(_) => "crash",
            Action::Tick => "tick",
            Action::Record(_) => "record deleted or restored",
            Action::Ask(_) => "request",
        }
    }

    fn is_tick(action: Action) -> bool {
        action == Action::Tick
    }
}

fn small(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

fn ordinal(side: usize) -> &'static str {
    if side == 0 { "first" } else { "second" }
}

/// What a service owns by the table, one bit each.
fn owned(state: &State, side: usize) -> u8 {
    let mine = |(arn, owner): (usize, &u8)| u8::from(*owner == small(side) + 1) << arn;
    state.claims.iter().enumerate().map(mine).fold(0, |all, bit| all | bit)
}

/// The same service after a crash.
fn forgetful(side: Side) -> Side {
    Side { memory: None, hand: Hand::Empty, denied: None, needs: 0, since: 0, asleep: false, ..side }
}
