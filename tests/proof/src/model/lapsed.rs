//! The steps of a replica whose lease ran out because it cannot reach the table.

use super::emergency;
use super::state::{Action, Cut, Fate, Hand, Kind, Replica, Sight, State};
use super::steps::{Model, OWNER, Step, small};
use super::view::View;
use super::world::{EffectId, Reply};

impl Model {
    /// It looks, judges and signs what it may; or the table answers it again.
    pub(super) fn without_lease(
        &mut self,
        state: &State,
        index: usize,
        replica: Replica,
        out: &mut Vec<Step>,
    ) {
        let Some(cut) = replica.cut else { return };
        if !replica.asleep {
            let judged = self.mind.judge(cut, View::of(&state.world, Sight::Clear));
            let mut next = *state;
            let hand = judged.back.map_or(Hand::Empty, |effect| Hand::Signed { effect, age: 0 });
            let asleep = judged.back.is_none();
            next.replicas[index] = Some(Replica { hand, asleep, cut: Some(judged.cut), ..replica });
            let broken = judged.broken.or_else(|| {
                let (effect, durable) = (self.mind.effect(judged.back?), self.mind.digest(state.durable));
                let wrong = emergency::of_judgement(effect, &state.world, durable);
                self.mind.note(wrong)
            });
            self.push(out, Action::Judge(small(index)), next, broken);
        }
        let (mut next, mut broken) = (*state, None);
        next.replicas[index] = (index == OWNER).then_some(Replica::fresh(state.epoch));
        if index == OWNER
            && let Some((facts, wrong)) = self.mind.record_emergency(state.durable, cut, replica.epoch)
        {
            broken = wrong.or_else(|| self.mind.follows(state.durable, facts));
            next.durable = facts;
        }
        self.push(out, Action::Back(small(index)), next, broken);
    }

    /// The owner's lease runs out for want of the table. What it had in hand was announced, and its answer is lost.
    pub(super) fn cut_off(&mut self, state: &State, out: &mut Vec<Step>) {
        let owner = state.owner();
        let knows = owner.cut.is_none() && owner.memory.is_some() && owner.current && !owner.paused;
        if !knows || matches!(owner.hand, Hand::Signed { .. }) || !self.mind.can_take_back(state.durable) {
            return;
        }
        let Some(left) = state.left.spend(Kind::CutOff) else { return };
        let mut next = State { left, ..*state };
        let cut = Some(Cut { facts: state.durable, emergency: 0 });
        next.replicas[OWNER] = Some(Replica { cut, ..Replica::fresh(owner.epoch) });
        self.push(out, Action::CutOff, next, None);
    }

    /// It remembers what became of its write, and records nothing.
    pub(super) fn took_back(
        &mut self,
        state: &State,
        index: usize,
        cut: Cut,
        (effect, reply): (EffectId, Reply),
        out: &mut Vec<Step>,
    ) {
        let cut = Some(self.mind.took_back(cut, effect, reply));
        let mut next = *state;
        let replica = state.replicas[index].unwrap_or(Replica::fresh(state.epoch));
        next.replicas[index] = Some(Replica { hand: Hand::Empty, cut, ..replica });
        self.push(out, Action::Settle(small(index)), next, None);
    }
}

/// Nothing but the table comes back.
pub(super) fn fair_without_lease(hand: Hand, index: u8) -> Action {
    match hand {
        Hand::Signed { .. } => Action::TakeBack(index, Fate::Done),
        Hand::Answered { .. } => Action::Settle(index),
        Hand::Empty => Action::Back(index),
    }
}
