//! All steps out of a state: what the daemon does, seam by seam, and what befalls it.

use pointsman_core::model::Effect;
use pointsman_core::model::effect::Shares;
use pointsman_core::records::Group;

use super::config::Config;
use super::lapsed::fair_without_lease;
use super::mind::{Mind, Move, Question};
use super::properties;
use super::state::{Action, Fate, Hand, Kind, REPLICAS, Replica, Sight, State, kind};
use super::view::View;
use super::world::{EffectId, Reply, SIGNATURE, World};
use crate::search::{self, Broken, BrokenId, Budget, System};

/// One step of the model.
pub type Step = search::Step<State, Action>;

/// The model: a configuration, and the shipped code behind numbers.
pub struct Model {
    /// The bounds.
    pub config: Config,
    /// The code.
    pub mind: Mind,
}

pub(super) const OWNER: usize = 0;

impl System for Model {
    type State = State;
    type Action = Action;

    fn fair(&self, state: &State) -> Action {
        let late = |hand: Hand| matches!(hand, Hand::Answered { .. });
        for index in 1..REPLICAS {
            if state.replicas[index].is_some_and(|replica| late(replica.hand)) {
                return Action::Settle(small(index));
            }
            if let Some(replica) = state.replicas[index].filter(|replica| replica.cut.is_some()) {
                return fair_without_lease(replica.hand, small(index));
            }
        }
        let owner = state.owner();
        if owner.cut.is_some() {
            return fair_without_lease(owner.hand, 0);
        }
        match owner.hand {
            Hand::Signed { .. } => Action::Send(0, Fate::Done),
            Hand::Answered { .. } => Action::Settle(0),
            Hand::Empty if owner.asleep => Action::Tick,
            Hand::Empty => Action::Turn(0, Sight::Clear),
        }
    }

    fn steps(&mut self, state: &State, out: &mut Vec<Step>) {
        out.clear();
        for index in 0..REPLICAS {
            if let Some(replica) = state.replicas[index] {
                self.replica(state, index, replica, out);
            }
        }
        let owner = state.owner();
        let stopped = owner.paused || (owner.asleep && owner.hand == Hand::Empty);
        if stopped {
            self.push(out, Action::Tick, tick(state), None);
        }
        self.requests(state, out);
        self.take_over(state, out);
        self.cut_off(state, out);
        self.people(state, out);
    }

    /// It may hold no effect, and what stands there must be right.
    fn at_rest(&mut self, circle: &[State]) -> Option<(usize, BrokenId)> {
        circle.iter().enumerate().find_map(|(at, state)| {
            let busy = state.owner().hand != Hand::Empty;
            let wrong = if busy {
                Some(Broken::new(properties::REST, "the same effect is repeated for ever"))
            } else {
                properties::at_rest(state, self.mind.digest(state.durable))
            };
            Some((at, self.mind.note(wrong)?))
        })
    }

    fn too_far(&mut self, ticks: u32) -> Option<BrokenId> {
        self.mind.note(properties::too_far(ticks))
    }

    fn kind(action: Action) -> &'static str {
        kind(action)
    }

    fn is_tick(action: Action) -> bool {
        action == Action::Tick
    }
}

impl Model {
    /// Where everything begins: nothing is recorded, nothing serves.
    pub fn empty(&self) -> State {
        State {
            durable: 0,
            replicas: [Some(Replica::fresh(1)), None, None],
            epoch: 1,
            world: World::empty(self.config.test_route),
            desired: Some(1),
            order: None,
            left: Budget::NOTHING,
        }
    }

    pub(super) fn push(
        &mut self,
        out: &mut Vec<Step>,
        action: Action,
        mut state: State,
        broken: Option<BrokenId>,
    ) {
        state.tidy();
        let broken = broken.or_else(|| {
            let standing = properties::of_state(&state.world, self.mind.digest(state.durable));
            self.mind.note(standing)
        });
        out.push(Step { action, state, broken });
    }

    fn replica(&mut self, state: &State, index: usize, replica: Replica, out: &mut Vec<Step>) {
        match replica.hand {
            Hand::Empty if replica.cut.is_some() => self.without_lease(state, index, replica, out),
            Hand::Empty => self.between_turns(state, index, replica, out),
            Hand::Signed { effect, age } => self.sending(state, index, effect, age, out),
            Hand::Answered { effect, reply } => self.settling(state, index, effect, reply, out),
        }
        let has_memory = replica.memory.is_some() || replica.hand != Hand::Empty || replica.cut.is_some();
        if index == OWNER
            && has_memory
            && let Some(left) = state.left.spend(Kind::Crash)
        {
            let mut next = State { left, ..*state };
            if let Some(owner) = &mut next.replicas[OWNER] {
                owner.forget();
            }
            self.push(out, Action::Crash(0, false), next, None);
            let ahead =
                replica.hand == Hand::Empty && replica.current && replica.memory != Some(state.durable);
            if let Some(memory) = replica.memory.filter(|_| ahead) {
                next.durable = memory;
                self.push(out, Action::Crash(0, true), next, None);
            }
        }
    }

    // --- observe, decide, record

    fn between_turns(&mut self, state: &State, index: usize, replica: Replica, out: &mut Vec<Step>) {
        if replica.asleep && index == OWNER {
            return;
        }
        let step = self.turn(state, index, Sight::Clear);
        out.push(step);
        if index != OWNER {
            return;
        }
        let world = &state.world;
        if (world.before != world.production || world.is_settling())
            && let Some(left) = state.left.spend(Kind::Stale)
        {
            let step = self.turn(&State { left, ..*state }, index, Sight::Stale);
            out.push(step);
        }
        if let Some(left) = state.left.spend(Kind::Unread) {
            for sight in [Sight::NoService, Sight::NoRoutes, Sight::NoAlarms] {
                let step = self.turn(&State { left, ..*state }, index, sight);
                out.push(step);
            }
        }
    }

    fn turn(&mut self, state: &State, index: usize, sight: Sight) -> Step {
        let mut next = *state;
        let mut replica = state.replicas[index].unwrap_or(Replica::fresh(state.epoch));
        let recalled = replica.memory.is_none();
        let question = question(state, &replica, sight);
        let decided = self.mind.decide(&question);
        let mut broken = decided.broken;
        replica.current |= recalled;
        if sight == Sight::Clear && !self.deletion_on_its_way(state) {
            next.world.hand = false;
        }
        replica.since = 0;
        let action = Action::Turn(small(index), sight);
        let act_first = self.mind.bug.is_some_and(|bug| bug.protocol.acts_first);
        let records = decided.write && !(act_first && matches!(decided.next, Move::Act(_)));
        if records {
            match self.record(&mut next, index, &mut replica, decided.facts) {
                Ok(wrong) => broken = broken.or(wrong),
                // What was decided on an old memory is of no account: it was never recorded, let alone done.
                Err(Refused) => return self.finished(action, next, index, None, None),
            }
        }
        if index == OWNER {
            let seen = properties::of_turn(
                state,
                self.mind.digest(question.facts),
                self.mind.digest(decided.facts),
                sight,
                self.config.has_hands(),
            );
            broken = broken.or(self.mind.note(seen));
        }
        replica.memory = Some(decided.facts);
        match decided.next {
            Move::Act(effect) => {
                replica.needs = 0;
                replica.unrecorded = !records;
                replica.hand = Hand::Signed { effect, age: 0 };
                if index != OWNER {
                    // Its lease is over: the gate stops it.
                    return self.finished(action, next, index, None, broken);
                }
            }
            Move::Look(needs) => replica.needs = self.mind.join(replica.needs, needs),
            Move::Again => replica.needs = 0,
            Move::Wait(needs) => (replica.needs, replica.asleep) = (needs, true),
            Move::Settled | Move::Halted => (replica.needs, replica.asleep) = (0, true),
        }
        if index != OWNER && replica.hand == Hand::Empty {
            return self.finished(action, next, index, None, broken);
        }
        self.finished(action, next, index, Some(replica), broken)
    }

    /// The end of a step of one replica; none: it forgets everything.
    fn finished(
        &mut self,
        action: Action,
        mut next: State,
        index: usize,
        replica: Option<Replica>,
        broken: Option<BrokenId>,
    ) -> Step {
        next.replicas[index] = match replica {
            Some(replica) => Some(replica),
            None if index == OWNER => Some(Replica::fresh(next.epoch)),
            None => None,
        };
        next.tidy();
        let broken = broken.or_else(|| {
            let standing = properties::of_state(&next.world, self.mind.digest(next.durable));
            self.mind.note(standing)
        });
        Step { action, state: next, broken }
    }

    /// The conditional write: the revision that was read must be there, and no newer epoch.
    fn record(
        &mut self,
        state: &mut State,
        index: usize,
        replica: &mut Replica,
        facts: u32,
    ) -> Result<Option<BrokenId>, Refused> {
        let written = self.mind.digest(state.durable).epoch;
        let (unread, older) = (!replica.current, written > replica.epoch);
        if (unread || older) && !self.mind.bug.is_some_and(|bug| bug.protocol.ignores_fences) {
            return Err(Refused);
        }
        let mut broken = self.mind.follows(state.durable, facts);
        if unread || older {
            let what =
                if unread { "a write over one that was never read" } else { "a write under an older epoch" };
            broken = self.mind.note(Some(Broken::new(properties::S6, what)));
        }
        state.durable = facts;
        for (other, slot) in state.replicas.iter_mut().enumerate() {
            if let Some(known) = slot.as_mut().filter(|_| other != index) {
                known.current = false;
            }
        }
        replica.current = true;
        Ok(broken)
    }

    // --- send

    fn sending(&mut self, state: &State, index: usize, effect: EffectId, age: u8, out: &mut Vec<Step>) {
        let replica = state.replicas[index].unwrap_or(Replica::fresh(state.epoch));
        let mut send =
            |model: &mut Self, fate: Fate, left, world: World, reply: Reply, broken: Option<BrokenId>| {
                let mut next = State { world, left, ..*state };
                let hand = Hand::Answered { effect, reply };
                let leased = replica.cut.is_none();
                next.replicas[index] = Some(Replica { hand, paused: leased && index != OWNER, ..replica });
                let send = if leased { Action::Send } else { Action::TakeBack };
                model.push(out, send(small(index), fate), next, broken);
            };
        if let Some(refused) = state.world.objection(self.mind.effect(effect)) {
            send(self, Fate::Done, state.left, state.world, refused, None);
            return;
        }
        let (done, reply, mut broken) = self.land(state, effect, Some(index));
        if replica.unrecorded {
            let what = format!("{} was done and never recorded", self.mind.effect(effect));
            broken = self.mind.note(Some(Broken::new(properties::S7, what)));
        }
        send(self, Fate::Done, state.left, done, reply, broken);
        if index != OWNER && replica.cut.is_none() {
            return;
        }
        if let Some(left) = state.left.spend(Kind::Lost) {
            send(self, Fate::AnswerLost, left, done, Reply::Lost, broken);
            send(self, Fate::CallLost, left, state.world, Reply::Lost, None);
        }
        if let Some(left) = state.left.spend(Kind::Delay) {
            let mut posted = state.world;
            if posted.post(effect, age) {
                send(self, Fate::Late, left, posted, Reply::Lost, None);
            }
        }
        if let Some(left) = state.left.spend(Kind::Duplicate) {
            let mut twice = done;
            if twice.post(effect, SIGNATURE - 1) {
                send(self, Fate::Twice, left, twice, reply, broken);
            }
        }
        if let Some(left) = state.left.spend(Kind::Refuse) {
            send(self, Fate::Throttled, left, state.world, Reply::Throttled, None);
        }
        if !replica.paused
            && replica.cut.is_none()
            && let Some(left) = state.left.spend(Kind::Delay)
        {
            let mut next = State { left, ..*state };
            next.replicas[index] = Some(Replica { paused: true, ..replica });
            self.push(out, Action::Pause, next, None);
        }
    }

    /// An effect reaches AWS. `from`: whose hand it leaves.
    fn land(
        &mut self,
        state: &State,
        effect: EffectId,
        from: Option<usize>,
    ) -> (World, Reply, Option<BrokenId>) {
        let effect = self.mind.effect(effect).clone();
        let mut world = state.world;
        let reply = world.carry_out(&effect);
        let flying: Vec<u16> = self.on_their_way(state, from).filter_map(production_share).collect();
        let broken =
            properties::of_landing(&effect, &state.world, &world, self.mind.digest(state.durable), &flying);
        (world, reply, self.mind.note(broken))
    }

    /// Effects that are signed or sent and may still land, but for the one in this hand.
    fn on_their_way(&self, state: &State, but: Option<usize>) -> impl Iterator<Item = &Effect> {
        let hands = state.replicas.into_iter().enumerate().filter(move |(index, _)| Some(*index) != but);
        let hands = hands.filter_map(|(_, slot)| match slot?.hand {
            Hand::Signed { effect, .. } => Some(effect),
            Hand::Empty | Hand::Answered { .. } => None,
        });
        let mail = state.world.mail.into_iter().flatten().map(|mail| mail.effect);
        hands.chain(mail).map(|effect| self.mind.effect(effect))
    }

    fn deletion_on_its_way(&self, state: &State) -> bool {
        self.on_their_way(state, None).any(|effect| matches!(effect, Effect::DeleteTaskSet { .. }))
    }

    // --- settle

    fn settling(&mut self, state: &State, index: usize, effect: EffectId, reply: Reply, out: &mut Vec<Step>) {
        let mut replica = state.replicas[index].unwrap_or(Replica::fresh(state.epoch));
        if let Some(cut) = replica.cut {
            return self.took_back(state, index, cut, (effect, reply), out);
        }
        let Some(memory) = replica.memory else { return };
        let mut next = *state;
        let (settled, wrong) = self.mind.settle(memory, effect, reply, replica.epoch);
        let action = Action::Settle(small(index));
        let step = match self.record(&mut next, index, &mut replica, settled) {
            Err(Refused) => self.finished(action, next, index, None, None),
            Ok(broken) => {
                let broken = wrong.or(broken);
                let after = Replica { hand: Hand::Empty, memory: Some(settled), paused: false, ..replica };
                self.finished(action, next, index, (index == OWNER).then_some(after), broken)
            }
        };
        out.push(step);
    }

    // --- what befalls

    fn requests(&mut self, state: &State, out: &mut Vec<Step>) {
        for index in 0..state.world.mail.len() {
            let mut taken = *state;
            let Some(mail) = taken.world.take(index) else { continue };
            let (world, _, broken) = self.land(&taken, mail.effect, None);
            self.push(out, Action::Land(small(index)), State { world, ..taken }, broken);
        }
    }

    fn take_over(&mut self, state: &State, out: &mut Vec<Step>) {
        let Some(left) = state.left.spend(Kind::TakeOver) else { return };
        let former = state.owner();
        let ghosts = state.replicas[1..].iter().flatten().count();
        let epoch = state.epoch + 1;
        let mut next = State { epoch, left, ..*state };
        next.replicas[OWNER] = Some(Replica::fresh(epoch));
        let keeps = |next: &mut State, ghost: Replica| {
            let free = next.replicas.iter_mut().skip(1).find(|slot| slot.is_none());
            free.map(|slot| *slot = Some(ghost)).is_some()
        };
        if former.cut.is_some() {
            if ghosts < self.config.ghosts && keeps(&mut next, former) {
                self.push(out, Action::TakeOver(false), next, None);
            }
            return;
        }
        if former.hand == Hand::Empty || ghosts < self.config.ghosts {
            let mut plain = next;
            let ghost = Replica { paused: true, asleep: false, since: 0, needs: 0, ..former };
            if former.hand == Hand::Empty || keeps(&mut plain, ghost) {
                self.push(out, Action::TakeOver(false), plain, None);
            }
        }
        if former.hand == Hand::Empty
            && former.memory.is_some()
            && ghosts < self.config.ghosts
            && let Some(left) = left.spend(Kind::Delay)
        {
            let mut late = State { left, ..next };
            if keeps(&mut late, Replica { paused: true, asleep: false, ..former }) {
                self.push(out, Action::TakeOver(true), late, None);
            }
        }
    }

    fn people(&mut self, state: &State, out: &mut Vec<Step>) {
        if let Some(left) = state.left.spend(Kind::Drift) {
            for to_b in [false, true] {
                if state.world.production != if to_b { 1000 } else { 0 } {
                    let mut world = World { hand: true, ..state.world };
                    world.drift(to_b);
                    self.push(out, Action::Drift(to_b), awake(State { world, left, ..*state }), None);
                }
            }
        }
        if let Some(left) = state.left.spend(Kind::Flip) {
            let world = World { flips: state.world.flips + 1, ..state.world };
            self.push(out, Action::Flip, awake(State { world, left, ..*state }), None);
        }
        if let Some(left) = state.left.spend(Kind::Edit) {
            for desired in self.config.edits {
                if *desired != state.desired {
                    let next = State { left, desired: *desired, ..*state };
                    self.push(out, Action::Edit(*desired), awake(next), None);
                }
            }
        }
        if state.order.is_none()
            && let Some(left) = state.left.spend(Kind::Order)
        {
            self.orders(&State { left, ..*state }, out);
        }
        if let Some(left) = state.left.spend(Kind::Die) {
            self.die(&State { left, ..*state }, out);
        }
        if let Some(left) = state.left.spend(Kind::Revive) {
            for serial in state.world.dead() {
                let mut next = State { left, ..*state };
                next.world.revive(serial);
                self.push(out, Action::Revive(serial), next, None);
            }
        }
    }

    fn orders(&mut self, state: &State, out: &mut Vec<Step>) {
        use pointsman_core::records::command::Verb;
        let known = self.mind.digest(state.durable).clone();
        for verb in self.config.orders {
            let release = match verb {
                Verb::Rollback | Verb::Retry => known.last,
                _ => known.release.or(known.pending.then_some(known.newest)),
            };
            if let Some(release) = release {
                let next = State { order: Some((*verb, release)), ..*state };
                self.push(out, Action::Order(*verb), awake(next), None);
            }
        }
    }

    fn die(&mut self, state: &State, out: &mut Vec<Step>) {
        for slot in 0..state.world.sets.len() {
            let mut next = *state;
            let Some(set) = next.world.sets[slot].filter(|set| set.running > 0) else { continue };
            next.world.die(set.serial);
            let action = Action::Die(set.serial);
            self.push(out, action, awake(next), None);
        }
    }
}

struct Refused;

/// What a replica's turn asks of the code.
pub fn question(state: &State, replica: &Replica, sight: Sight) -> Question {
    let recalled = replica.memory.is_none();
    Question {
        facts: replica.memory.unwrap_or(state.durable),
        epoch: replica.epoch,
        // The first pass of a process has watched nothing.
        watched: if recalled { 0 } else { replica.since },
        desired: state.desired,
        order: state.order,
        view: View::of(&state.world, sight),
        needs: if recalled { 0 } else { replica.needs },
    }
}

pub(super) fn small(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

/// Streams and alarms wake the owner.
fn awake(mut state: State) -> State {
    if let Some(owner) = &mut state.replicas[OWNER] {
        owner.asleep = false;
    }
    state
}

fn production_share(effect: &Effect) -> Option<u16> {
    let share = |shares: &Shares| shares.share(Group::B).tenths();
    match effect {
        Effect::SetWeights { route, shares, .. } if route == "public" => Some(share(shares)),
        _ => None,
    }
}

/// One tick for everybody.
fn tick(state: &State) -> State {
    let mut next = *state;
    next.world.tick();
    for (index, slot) in next.replicas.iter_mut().enumerate() {
        let Some(replica) = slot else { continue };
        replica.since = if replica.memory.is_some() { (replica.since + 1).min(2) } else { 0 };
        if index == OWNER || replica.cut.is_some() {
            replica.asleep = false;
        }
        match replica.hand {
            Hand::Signed { effect, age } if age + 1 >= SIGNATURE => {
                // AWS refuses the signature: nothing happened, and the caller cannot tell.
                let hand = Hand::Answered { effect, reply: Reply::Lost };
                *slot = (index == OWNER).then_some(Replica { hand, paused: false, ..*replica });
            }
            Hand::Signed { effect, age } => replica.hand = Hand::Signed { effect, age: age + 1 },
            // A pass has a time-out of its own.
            Hand::Empty if index != OWNER && replica.cut.is_none() => *slot = None,
            Hand::Empty | Hand::Answered { .. } => {}
        }
    }
    next
}
