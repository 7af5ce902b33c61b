//! Replicas over one table, in virtual time: calls take time, answers get lost, writes land late, processes pause and
//! clocks run at different rates.

use super::*;

const TIMING: LeaseTiming = LeaseTiming {
    ttl: Span::from_secs(20),
    renew: Span::from_secs(4),
    operation: Span::from_secs(6),
    margin: Span::from_secs(2),
};
/// The granularity of this world.
const STEP_MS: u64 = 50;

fn count(shards: u16) -> ShardCount {
    ShardCount::new(shards).unwrap()
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most.max(1)
    }
    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

#[derive(Default)]
struct Table {
    layout: Layout,
    members: BTreeMap<String, Member>,
    shards: BTreeMap<u16, Owner>,
    writes: usize,
}

fn done(held: bool) -> Written {
    if held { Written::Done } else { Written::Refused }
}

impl Table {
    fn write(&mut self, step: &Step, shards: u16) -> Written {
        self.writes += 1;
        match step {
            Step::Found { seen } => {
                let fits = self.layout.shards == *seen;
                if fits {
                    self.layout.shards = Some(shards);
                }
                done(fits)
            }
            Step::Join { member } => {
                let absent = !self.members.contains_key(member);
                self.members.entry(member.clone()).or_insert(Member { beat: 1, shards });
                done(absent)
            }
            Step::Beat { member, floor } => {
                let item = self.members.get_mut(member).filter(|item| item.beat >= *floor);
                done(item.map(|item| item.beat += 1).is_some())
            }
            Step::Bury { member, beat } => {
                let fits = self.members.get(member).is_some_and(|item| item.beat == *beat);
                if fits {
                    self.members.remove(member);
                }
                done(fits)
            }
            Step::Retire { member } => done(self.members.remove(member).is_some()),
            Step::Free { member, shard, epoch } => {
                let item = self.shards.get_mut(&shard.0);
                let ours = |item: &&mut Owner| item.epoch == *epoch && item.holder.as_ref() == Some(member);
                done(item.filter(ours).map(|item| item.holder = None).is_some())
            }
            Step::Wait { .. } | Step::Look | Step::Take { .. } => unreachable!("no single write"),
        }
    }

    fn take(&mut self, member: &str, claim: Claim) -> Written {
        self.writes += 1;
        let fits = self.shards.get(&claim.shard.0).map(|item| item.epoch) == claim.seen;
        if fits {
            assert!(claim.epoch > claim.seen.unwrap_or(0), "an epoch must grow");
            let owner = Owner { epoch: claim.epoch, holder: Some(member.to_owned()) };
            self.shards.insert(claim.shard.0, owner);
        }
        done(fits)
    }
}

/// A call under way: when its parts reach the table, and when the answer is back.
struct Call {
    step: Step,
    sent_ms: u64,
    parts: Vec<(u64, Option<Claim>)>,
    answers: Vec<(Claim, Option<Written>)>,
    answer: Option<Written>,
    look: Look,
    back_at: u64,
    heard: bool,
}

struct Process {
    replica: Replica,
    shards: u16,
    /// Milliseconds of its clock in 1,000 of the world's.
    rate: u64,
    offset_ms: u64,
    call: Option<Call>,
    paused_until: u64,
    crashed: bool,
    /// Given up, with what may still run under it until then, on its clock.
    running_out: BTreeMap<Shard, u64>,
    held_before: BTreeMap<Shard, u64>,
}

impl Process {
    fn now_ms(&self, world_ms: u64) -> u64 {
        self.offset_ms + world_ms * self.rate / 1_000
    }

    /// Shards under which something may run at this moment.
    fn may_act(&self, world_ms: u64) -> Vec<Shard> {
        let now_ms = self.now_ms(world_ms);
        let mut shards: Vec<Shard> = Vec::new();
        if now_ms < self.replica.valid_until_ms() {
            shards.extend(self.replica.held().keys());
        }
        shards.extend(self.running_out.iter().filter(|(_, until)| now_ms < **until).map(|(shard, _)| *shard));
        shards
    }
}

/// How bad the network is: one call in so many meets it; 0: never.
#[derive(Clone, Copy)]
struct Weather {
    lost: u64,
    unheard: u64,
    late: u64,
    pause: u64,
}

const FAIR: Weather = Weather { lost: 0, unheard: 0, late: 0, pause: 0 };
const FOUL: Weather = Weather { lost: 12, unheard: 12, late: 12, pause: 400 };

struct World {
    now: u64,
    dice: Dice,
    weather: Weather,
    table: Table,
    processes: Vec<Process>,
    /// Writes that land after their sender has given up on them.
    late: Vec<(u64, Step, Option<Claim>, u16)>,
    greatest: BTreeMap<Shard, u64>,
    handed: usize,
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        Self {
            now: 0,
            dice: Dice(seed.wrapping_mul(2_654_435_761) | 1),
            weather,
            table: Table::default(),
            processes: Vec::new(),
            late: Vec::new(),
            greatest: BTreeMap::new(),
            handed: 0,
        }
    }

    fn join(&mut self, shards: u16) -> usize {
        let number = self.processes.len();
        let seed = self.dice.below(u64::MAX);
        self.processes.push(Process {
            replica: Replica::new(format!("r{number}"), seed, count(shards), TIMING),
            shards,
            // Two of them differ by a tenth at most.
            rate: 955 + self.dice.below(90),
            offset_ms: self.dice.below(10_000_000),
            call: None,
            paused_until: 0,
            crashed: false,
            running_out: BTreeMap::new(),
            held_before: BTreeMap::new(),
        });
        number
    }

    fn owned(&self, number: usize) -> usize {
        let process = &self.processes[number];
        if process.crashed { 0 } else { process.may_act(self.now).len() }
    }

    fn run(&mut self, secs: u64) {
        let end = self.now + secs * 1_000;
        while self.now < end {
            self.now += STEP_MS;
            self.land_late();
            for number in 0..self.processes.len() {
                self.turn(number);
            }
            self.judge();
        }
    }

    /// The weather clears, and what was under way in it ends.
    fn clear_up(&mut self) {
        self.weather = FAIR;
        self.processes.iter_mut().for_each(|process| process.paused_until = 0);
        self.run(130);
    }

    fn run_until(&mut self, secs: u64, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        let began = self.now;
        while !holds(self) {
            assert!(self.now < began + secs * 1_000, "not within {secs} s: {what}");
            self.run(1);
        }
        (self.now - began) / 1_000
    }

    fn land_late(&mut self) {
        let now = self.now;
        let (due, rest) = std::mem::take(&mut self.late).into_iter().partition(|late| late.0 <= now);
        self.late = rest;
        let due: Vec<(u64, Step, Option<Claim>, u16)> = due;
        for (_, step, claim, shards) in due {
            self.land(&step, claim, shards);
        }
    }

    fn land(&mut self, step: &Step, claim: Option<Claim>, shards: u16) -> Written {
        match (step, claim) {
            (Step::Take { member, .. }, Some(claim)) => self.table.take(member, claim),
            _ => self.table.write(step, shards),
        }
    }

    fn turn(&mut self, number: usize) {
        let process = &mut self.processes[number];
        if process.crashed || process.paused_until > self.now {
            // What it has sent goes its way all the same; it hears of it later.
            return self.deliver(number);
        }
        if self.weather.pause > 0 && process.call.is_some() && self.dice.one_in(self.weather.pause) {
            process.paused_until = self.now + self.dice.below(60_000);
        }
        self.deliver(number);
        self.hear(number);
        let process = &mut self.processes[number];
        if process.call.is_none() {
            let now_ms = process.now_ms(self.now);
            let step = process.replica.next(now_ms);
            if !matches!(step, Step::Wait { .. }) {
                self.send(number, step);
            }
        }
        self.drain(number);
    }

    fn send(&mut self, number: usize, step: Step) {
        let claims: Vec<Option<Claim>> = match &step {
            Step::Take { claims, .. } => claims.iter().copied().map(Some).collect(),
            // Shards, then members and layout.
            Step::Look => vec![None, None],
            _ => vec![None],
        };
        let now_ms = self.processes[number].now_ms(self.now);
        let lost = self.weather.lost > 0 && self.dice.one_in(self.weather.lost);
        let unheard = self.weather.unheard > 0 && self.dice.one_in(self.weather.unheard);
        let late = self.weather.late > 0 && self.dice.one_in(self.weather.late);
        let mut parts = Vec::new();
        let mut at = self.now;
        for claim in claims {
            at += self.dice.below(200);
            if late && step != Step::Look {
                // The sender gives up; the write lands long after, some of them never.
                let at = self.now + 4_000 + self.dice.below(60_000);
                self.late.push((at, step.clone(), claim, self.processes[number].shards));
            } else if !lost {
                parts.push((at, claim));
            }
        }
        let heard = !(lost || late || unheard);
        let back_at = if heard { at + self.dice.below(200) } else { self.now + TIMING.renew.millis() };
        self.processes[number].call = Some(Call {
            step,
            sent_ms: now_ms,
            parts,
            answers: Vec::new(),
            answer: None,
            look: Look::default(),
            back_at,
            heard,
        });
    }

    /// Lets the parts of a call that are due reach the table.
    fn deliver(&mut self, number: usize) {
        let Some(mut call) = self.processes[number].call.take() else { return };
        let shards = self.processes[number].shards;
        while call.parts.first().is_some_and(|(at, _)| *at <= self.now) {
            let (_, claim) = call.parts.remove(0);
            if call.step == Step::Look {
                if call.parts.is_empty() {
                    (call.look.members, call.look.layout) = (self.table.members.clone(), self.table.layout);
                } else {
                    call.look.shards = self.table.shards.clone();
                }
                continue;
            }
            let written = self.land(&call.step, claim, shards);
            match claim {
                Some(claim) => call.answers.push((claim, Some(written))),
                None => call.answer = Some(written),
            }
        }
        self.processes[number].call = Some(call);
    }

    fn hear(&mut self, number: usize) {
        let now = self.now;
        let process = &mut self.processes[number];
        let Some(call) = process.call.take_if(|call| call.back_at <= now) else { return };
        let now_ms = process.now_ms(now);
        match &call.step {
            Step::Look => process.replica.looked(now_ms, call.heard.then_some(&call.look)),
            Step::Take { claims, .. } if !call.heard => {
                let unknown: Vec<_> = claims.iter().map(|claim| (*claim, None)).collect();
                process.replica.took(now_ms, &unknown);
            }
            Step::Take { .. } => process.replica.took(now_ms, &call.answers),
            step => process.replica.answered(step, call.sent_ms, now_ms, call.answer.filter(|_| call.heard)),
        }
    }

    /// What was given up runs out, some of it early.
    fn drain(&mut self, number: usize) {
        let process = &mut self.processes[number];
        let now_ms = process.now_ms(self.now);
        let valid_until = process.replica.valid_until_ms();
        let longest = now_ms + TIMING.operation.millis();
        for shard in process.held_before.keys().filter(|shard| !process.replica.held().contains_key(shard)) {
            self.handed += 1;
            process.running_out.insert(*shard, longest.min(valid_until));
        }
        process.held_before = process.replica.held().clone();
        let early: Vec<Shard> =
            process.running_out.keys().copied().filter(|_| self.dice.one_in(50)).collect();
        for shard in early {
            process.running_out.remove(&shard);
            process.replica.drained(shard);
        }
        process.running_out.retain(|_, until| now_ms < *until);
    }

    /// No shard has two owners, and an owner's epoch is the greatest there ever was.
    fn judge(&mut self) {
        let mut seen: BTreeMap<(u16, Shard), usize> = BTreeMap::new();
        for (number, process) in self.processes.iter().enumerate().filter(|(_, process)| !process.crashed) {
            for shard in process.may_act(self.now) {
                let before = seen.insert((process.shards, shard), number);
                assert_eq!(before, None, "shard {shard} also belongs to r{number} at {} ms", self.now);
            }
            for (shard, epoch) in process.replica.held() {
                let greatest = self.greatest.entry(*shard).or_default();
                if process.now_ms(self.now) < process.replica.valid_until_ms() {
                    assert!(epoch >= greatest, "shard {shard} went back to epoch {epoch}");
                    *greatest = *epoch;
                }
            }
        }
        let counts: Vec<u16> = seen.keys().map(|(count, _)| *count).collect();
        assert!(counts.windows(2).all(|two| two[0] == two[1]), "two counts at once");
    }
}

#[test]
fn no_shard_has_two_owners_whatever_is_lost_late_or_paused() {
    let mut handed = 0;
    for seed in 1..=30 {
        let mut world = World::new(seed, FOUL);
        for _ in 0..3 {
            world.join(12);
        }
        for _ in 0..6 {
            world.run(40);
            if world.dice.one_in(3) {
                let number = usize::try_from(world.dice.below(world.processes.len() as u64)).unwrap();
                world.processes[number].crashed = true;
                world.join(12);
            }
        }
        handed += world.handed;
        // The weather clears: everything is owned again, in equal parts.
        world.clear_up();
        world.run_until(60, "every shard is owned, in equal parts", |world| {
            let living: Vec<usize> =
                (0..world.processes.len()).filter(|number| !world.processes[*number].crashed).collect();
            let share = 12_usize.div_ceil(living.len());
            let owned: Vec<usize> = living.iter().map(|number| world.owned(*number)).collect();
            owned.iter().sum::<usize>() == 12 && owned.iter().all(|owned| *owned <= share)
        });
    }
    assert!(handed > 300, "only {handed} shards changed hands in all histories");
}

#[test]
fn one_replica_takes_everything_within_a_ttl_and_costs_one_write_a_renewal() {
    let mut world = World::new(7, FAIR);
    world.join(64);
    world.run_until(20, "all 64 are owned", |world| world.owned(0) == 64);
    let before = world.table.writes;
    world.run(400);
    let writes = world.table.writes - before;
    assert!((90..=110).contains(&writes), "{writes} writes in 100 renewals");
}

#[test]
fn a_late_comer_gets_its_share_from_those_who_have_more() {
    let mut world = World::new(11, FAIR);
    for living in 1..=3_u64 {
        world.join(64);
        let share = 64_usize.div_ceil(usize::try_from(living).unwrap());
        world.run_until(60, "the shares are equal", |world| {
            let owned: Vec<usize> = (0..world.processes.len()).map(|number| world.owned(number)).collect();
            owned.iter().sum::<usize>() == 64 && owned.iter().all(|owned| *owned <= share)
        });
    }
    // At rest nothing changes hands.
    let (before, epochs) = (world.handed, world.greatest.clone());
    world.run(300);
    assert_eq!((world.handed, world.greatest), (before, epochs));
}

#[test]
fn what_a_killed_replica_had_is_taken_over_within_two_ttls() {
    for seed in 1..=20 {
        let mut world = World::new(seed, FAIR);
        for _ in 0..3 {
            world.join(64);
        }
        world.run(60);
        let dead = usize::try_from(seed % 3).unwrap();
        world.processes[dead].crashed = true;
        world.run_until(2 * TIMING.ttl.millis() / 1_000, "the others own everything", |world| {
            (0..3).map(|number| world.owned(number)).sum::<usize>() == 64
        });
    }
}

#[test]
fn a_member_that_was_buried_begins_anew_under_another_name() {
    let mut world = World::new(3, FAIR);
    world.join(8);
    world.join(8);
    world.run(40);
    let name = world.processes[0].replica.member();
    world.processes[0].paused_until = world.now + 60_000;
    world
        .run_until(40, "the other one owns everything", |world| world.processes[1].replica.held().len() == 8);
    world.run_until(80, "it has its share again", |world| world.owned(0) == 4 && world.owned(1) == 4);
    assert_ne!(world.processes[0].replica.member(), name);
}

/// One replica, whose calls reach the table at once.
struct Alone {
    replica: Replica,
    table: Table,
    now_ms: u64,
}

impl Alone {
    /// Does what comes next, until it is a step like this, which it hands back without having done it.
    fn until(&mut self, is_there: impl Fn(&Replica, &Step) -> bool) -> Step {
        loop {
            let step = self.replica.next(self.now_ms);
            if is_there(&self.replica, &step) {
                return step;
            }
            match &step {
                Step::Wait { ms } => self.now_ms += ms,
                Step::Look => {
                    let Table { layout, members, shards, .. } = &self.table;
                    let look = Look { layout: *layout, members: members.clone(), shards: shards.clone() };
                    self.replica.looked(self.now_ms, Some(&look));
                }
                Step::Take { member, claims } => {
                    let take = |claim: &Claim| (*claim, Some(self.table.take(member, *claim)));
                    let answers: Vec<_> = claims.iter().map(take).collect();
                    self.replica.took(self.now_ms, &answers);
                }
                write => {
                    let written = self.table.write(write, 1);
                    self.replica.answered(write, self.now_ms, self.now_ms, Some(written));
                }
            }
        }
    }

    /// It never hears of this step.
    fn unheard(&mut self, step: &Step) {
        self.replica.answered(step, self.now_ms, self.now_ms, None);
    }
}

#[test]
fn a_buried_member_does_not_come_back_by_a_late_join_and_a_late_beat() {
    let replica = Replica::new("r0".to_owned(), 1, count(1), TIMING);
    let mut alone = Alone { replica, table: Table::default(), now_ms: 0 };
    let late_join = alone.until(|_, step| matches!(step, Step::Join { .. }));
    alone.unheard(&late_join);
    let late_beat = alone.until(|_, step| matches!(step, Step::Beat { .. }));
    alone.unheard(&late_beat);
    alone.until(|replica, _| replica.held().len() == 1);
    // It is stopped, another one buries it and takes the shard, and then both calls land.
    alone.now_ms += 60_000;
    let (name, beat) = (alone.replica.member(), alone.table.members[&alone.replica.member()].beat);
    assert_eq!(alone.table.write(&Step::Bury { member: name.clone(), beat }, 1), Written::Done);
    let claim = Claim { shard: Shard(0), seen: Some(1), epoch: 2 };
    assert_eq!(alone.table.take("r1/0", claim), Written::Done);
    alone.table.write(&late_join, 1);
    alone.table.write(&late_beat, 1);
    let next = alone.until(|_, step| matches!(step, Step::Beat { .. }));
    alone.replica.answered(&next, alone.now_ms, alone.now_ms, Some(alone.table.write(&next, 1)));
    assert_eq!(alone.replica.held().len(), 0, "the shard is another's");
    assert_ne!(alone.replica.member(), name);
}

#[test]
fn of_two_counts_one_stays_out_until_the_other_is_gone() {
    for seed in 1..=16 {
        let mut world = World::new(seed, if seed % 2 == 0 { FAIR } else { FOUL });
        world.join(8);
        world.join(5);
        world.run(100);
        world.clear_up();
        world.run_until(60, "one count is in force", |world| world.owned(0) + world.owned(1) >= 5);
        let (inside, outside) = if world.owned(0) > 0 { (0, 1) } else { (1, 0) };
        world.run(60);
        assert_eq!(world.owned(outside), 0);
        assert_eq!(world.processes[outside].replica.misfit(), Some(world.processes[inside].shards));
        let epochs = world.greatest.values().max().copied().unwrap();
        world.processes[inside].crashed = true;
        let shards = usize::from(world.processes[outside].shards);
        world.run_until(60, "the other count is in force", |world| world.owned(outside) == shards);
        let least = world.processes[outside].replica.held().values().min().copied().unwrap();
        assert!(least > epochs, "epochs grow across a change of the count: {least} after {epochs}");
        assert_eq!(world.processes[outside].replica.misfit(), None);
    }
}

#[test]
fn a_clock_that_jumps_buries_nobody() {
    let mut world = World::new(5, FAIR);
    world.join(4);
    world.join(4);
    world.run(40);
    let names: Vec<String> = world.processes.iter().map(|process| process.replica.member()).collect();
    for _ in 0..30 {
        // Its own permits are gone with the jump; the other one's life is not.
        world.processes[1].offset_ms += 3_600_000;
        world.run(3);
        assert_eq!(world.processes[0].replica.member(), names[0]);
        assert_eq!(world.owned(0), 2);
    }
}

#[test]
fn a_service_belongs_to_the_same_shard_for_every_version() {
    let shard = |key: &str| count(64).shard_of(&key.parse().unwrap()).0;
    assert_eq!((shard("payments/checkout"), shard("search/suggest")), (47, 51));
    let mut used = std::collections::BTreeSet::new();
    for number in 0..1_000 {
        used.insert(shard(&format!("team/service-{number}")));
    }
    assert_eq!(used.len(), 64);
    let one = ShardCount::ONE;
    assert_eq!(one.shard_of(&"payments/checkout".parse().unwrap()), Shard(0));
}

#[test]
fn times_that_do_not_hold_together_are_refused() {
    assert_eq!(LeaseTiming::default().checked(), Ok(TIMING));
    let fast = LeaseTiming {
        ttl: Span::from_secs(2),
        renew: Span::from_millis(400),
        operation: Span::from_millis(600),
        margin: Span::from_millis(200),
    };
    assert_eq!(fast.checked(), Ok(fast));
    assert_eq!(LeaseTiming { renew: Span::ZERO, ..TIMING }.checked(), Err(BadTiming::Zero));
    let slow = LeaseTiming { operation: Span::from_secs(11), ..TIMING }.checked();
    assert_eq!(slow, Err(BadTiming::TooShort { ttl: Span::from_secs(20), needed: Span::from_secs(21) }));
    let thin = LeaseTiming { margin: Span::from_millis(1_999), ..TIMING }.checked();
    assert!(matches!(thin, Err(BadTiming::MarginTooSmall { .. })));
}
