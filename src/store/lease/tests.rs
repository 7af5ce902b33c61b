use std::sync::Mutex;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::*;
use crate::lease::{Layout, Look, Member, Owner};
use crate::records::Span;

const TIMING: LeaseTiming = LeaseTiming {
    ttl: Span::from_secs(20),
    renew: Span::from_secs(4),
    operation: Span::from_secs(6),
    margin: Span::from_secs(2),
};
const SHARDS: u16 = 12;

/// Tokio's paused time, and what a test adds to it.
struct TestClock {
    start: Instant,
    jumped_ms: AtomicU64,
}

impl Clock for TestClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }
    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap() + self.jumped_ms.load(Ordering::SeqCst)
    }
}

type Shared = Arc<Mutex<Look>>;

/// One process's way to the shared items.
struct Way {
    items: Shared,
    /// Calls fail without effect.
    cut: AtomicBool,
    /// Calls have their effect and fail.
    deaf: AtomicBool,
    /// Calls are not answered at all.
    hangs: AtomicBool,
    /// Reads are answered, writes fail without effect: throttled for good, or denied.
    read_only: AtomicBool,
}

impl Way {
    async fn answer<T>(&self, act: impl FnOnce(&mut Look) -> T + Send) -> Result<T, StoreError> {
        let broken = || crate::store::error::passing("reach the lease", "the test cut it off");
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.cut.load(Ordering::SeqCst) {
            return Err(broken());
        }
        let done = act(&mut self.items.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if self.deaf.load(Ordering::SeqCst) { Err(broken()) } else { Ok(done) }
    }

    async fn write(&self, act: impl FnOnce(&mut Look) -> bool + Send) -> Result<Written, StoreError> {
        if self.read_only.load(Ordering::SeqCst) {
            return Err(crate::store::error::permanent("write the lease", "the test denies it"));
        }
        self.answer(|items| if act(items) { Written::Done } else { Written::Refused }).await
    }
}

#[async_trait]
impl LeaseTable for Way {
    async fn look(&self) -> Result<Look, StoreError> {
        self.answer(|items| items.clone()).await
    }
    async fn found(&self, shards: ShardCount, seen: Option<u16>) -> Result<Written, StoreError> {
        self.write(|items| {
            let fits = items.layout.shards == seen;
            if fits {
                items.layout = Layout { shards: Some(shards.get()), ..items.layout };
            }
            fits
        })
        .await
    }
    async fn join(&self, member: &str, shards: ShardCount) -> Result<Written, StoreError> {
        let item = Member { beat: 1, shards: shards.get() };
        self.write(|items| items.members.insert(member.to_owned(), item).is_none()).await
    }
    async fn beat(&self, member: &str, floor: u64) -> Result<Written, StoreError> {
        self.write(|items| {
            let item = items.members.get_mut(member).filter(|item| item.beat >= floor);
            item.map(|item| item.beat += 1).is_some()
        })
        .await
    }
    async fn remove(&self, member: &str, beat: Option<u64>) -> Result<Written, StoreError> {
        self.write(|items| {
            let fits =
                items.members.get(member).is_some_and(|item| beat.is_none_or(|beat| item.beat == beat));
            fits && items.members.remove(member).is_some()
        })
        .await
    }
    async fn take(&self, member: &str, claim: Claim) -> Result<Written, StoreError> {
        self.write(|items| {
            let fits = items.shards.get(&claim.shard.0).map(|item| item.epoch) == claim.seen;
            if fits {
                let owner = Owner { epoch: claim.epoch, holder: Some(member.to_owned()) };
                items.shards.insert(claim.shard.0, owner);
            }
            fits
        })
        .await
    }
    async fn free(&self, member: &str, shard: Shard, epoch: u64) -> Result<Written, StoreError> {
        self.write(|items| {
            let item = items.shards.get_mut(&shard.0);
            let ours = |item: &&mut Owner| item.epoch == epoch && item.holder.as_deref() == Some(member);
            item.filter(ours).map(|item| item.holder = None).is_some()
        })
        .await
    }
}

/// A process that competes for shards.
struct Process {
    way: Arc<Way>,
    clock: Arc<TestClock>,
    permits: channel::Receiver<Permits>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Process {
    fn start(name: &str, items: &Shared) -> Self {
        Self::with(name, items, true)
    }

    fn with(name: &str, items: &Shared, emergency: bool) -> Self {
        let way = Way {
            items: Arc::clone(items),
            cut: AtomicBool::default(),
            deaf: AtomicBool::default(),
            hangs: AtomicBool::default(),
            read_only: AtomicBool::default(),
        };
        let way = Arc::new(way);
        let clock = Arc::new(TestClock { start: Instant::now(), jumped_ms: AtomicU64::new(0) });
        let (sender, permits) = channel::channel(Permits::default());
        let shutdown = CancellationToken::new();
        let seed = name.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte));
        let shards = ShardCount::new(SHARDS).unwrap();
        let keeping = Keeping { holder: name.to_owned(), seed, shards, timing: TIMING, emergency };
        let lease =
            keep(Arc::<Way>::clone(&way), Arc::<TestClock>::clone(&clock), keeping, sender, shutdown.clone());
        Self { way, clock, permits, shutdown, task: tokio::spawn(lease) }
    }

    /// Shards for which a call of this length may start.
    fn may_write(&self, longest_ms: u64) -> Vec<Shard> {
        let permits = self.permits.borrow();
        let held = permits.held.iter().filter(|(_, permit)| permit.allows(longest_ms));
        held.map(|(shard, _)| *shard).collect()
    }

    fn lapsed(&self) -> Vec<EmergencyPermit> {
        self.permits.borrow().lapsed.values().cloned().collect()
    }

    fn permit(&self, shard: Shard) -> Permit {
        self.permits.borrow().held[&shard].clone()
    }

    async fn until_it_has(&self, number: usize) {
        for _ in 0..10_000 {
            if self.may_write(0).len() == number {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("it has {} shards after 100 s, not {number}", self.may_write(0).len());
    }
}

const ALL: usize = SHARDS as usize;

#[tokio::test(start_paused = true)]
async fn a_cut_off_owners_permits_end_a_margin_before_another_may_write() {
    for cut_after_ms in [0, 1, 1_999, 3_999, 4_000, 4_001, 7_000] {
        let items = Shared::default();
        let old = Process::start("old", &items);
        old.until_it_has(ALL).await;
        let new = Process::start("new", &items);
        new.until_it_has(ALL / 2).await;
        sleep(Duration::from_millis(9_000 + cut_after_ms)).await;
        let shard = old.may_write(0)[0];
        let first = old.permit(shard);
        old.way.cut.store(true, Ordering::SeqCst);
        let cut_at = Instant::now();

        let mut last_of_old = cut_at;
        let start_of_new = loop {
            let both = first.allows(0) && new.may_write(0).contains(&shard);
            assert!(!both, "both may write");
            if first.allows(0) {
                last_of_old = Instant::now();
            }
            if new.may_write(0).contains(&shard) {
                break Instant::now();
            }
            assert!(cut_at.elapsed() < Duration::from_mins(1), "nobody took over");
            sleep(Duration::from_millis(10)).await;
        };
        assert!(start_of_new - last_of_old >= TIMING.margin.std(), "cut {cut_after_ms} ms after a beat");
        assert!(start_of_new - cut_at <= TIMING.ttl.times(2).std());
        assert!(old.may_write(0).is_empty(), "the old owner says that it has no permit");
        let epoch = items.lock().unwrap().shards[&shard.0].epoch;
        assert!(epoch > first.epoch());

        // The old owner comes back, gets its share anew, and the first permit never comes alive again.
        old.way.cut.store(false, Ordering::SeqCst);
        sleep(Duration::from_mins(1)).await;
        assert_eq!((old.may_write(0).len(), new.may_write(0).len()), (ALL / 2, ALL / 2));
        assert!(!first.allows(0));
    }
}

#[tokio::test(start_paused = true)]
async fn three_share_and_a_leaving_one_hands_over_before_the_next_look() {
    let items = Shared::default();
    let all: Vec<_> = ["a", "b", "c"].iter().map(|name| Process::start(name, &items)).collect();
    for process in &all {
        process.until_it_has(ALL / 3).await;
    }
    sleep(Duration::from_secs(30)).await;
    all[0].shutdown.cancel();
    let left_at = Instant::now();
    all[1].until_it_has(ALL / 2).await;
    all[2].until_it_has(ALL / 2).await;
    let took = left_at.elapsed();
    assert!(took <= TIMING.renew.times(2).std(), "no time to live is waited for: {took:?}");
    assert_eq!(items.lock().unwrap().members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_waits_for_its_runs_and_no_longer_than_an_operation() {
    for (held_for, takes) in [(3, 3), (60, 6)] {
        let items = Shared::default();
        let old = Process::start("old", &items);
        old.until_it_has(ALL).await;
        let in_use: Vec<Permit> = (0..SHARDS).map(|shard| old.permit(Shard(shard))).collect();
        let new = Process::start("new", &items);
        while in_use.iter().all(|permit| permit.allows(0)) {
            sleep(Duration::from_millis(10)).await;
        }
        let withdrawn = in_use.iter().filter(|permit| !permit.allows(0)).count();
        assert_eq!(withdrawn, ALL / 2, "nothing new may begin under what is given up");
        let at = Instant::now();
        sleep(Duration::from_millis(held_for.min(takes) * 1_000 - 100)).await;
        assert!(new.may_write(0).is_empty(), "a run is still under way");
        if held_for == takes {
            drop(in_use);
        }
        new.until_it_has(ALL / 2).await;
        let most = Duration::from_secs(takes) + TIMING.renew.plus(Span::from_secs(1)).std();
        assert!(at.elapsed() <= most, "{:?}", at.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaving_owner_waits_for_its_runs() {
    let items = Shared::default();
    let old = Process::start("old", &items);
    old.until_it_has(ALL).await;
    let in_use = old.permit(Shard(3));
    old.shutdown.cancel();
    let left_at = Instant::now();
    sleep(Duration::from_secs(3)).await;
    assert!(!in_use.allows(0), "nothing new may begin");
    assert_eq!(items.lock().unwrap().members.len(), 1, "a run is still under way");
    drop(in_use);
    old.task.await.unwrap();
    assert!(items.lock().unwrap().members.is_empty());
    assert!(left_at.elapsed() <= Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_suspended_wakes_up_without_the_right_to_write() {
    let items = Shared::default();
    let process = Process::start("old", &items);
    process.until_it_has(ALL).await;
    let permit = process.permit(Shard(0));
    assert!(permit.allows(TIMING.operation.millis()));
    process.clock.jumped_ms.fetch_add(TIMING.ttl.millis(), Ordering::SeqCst);
    assert!(!permit.allows(0));
    // Nobody buried it meanwhile: it goes on under the same epochs once a beat has proved it.
    drop(permit);
    let epoch = items.lock().unwrap().shards[&0].epoch;
    sleep(Duration::from_secs(10)).await;
    process.until_it_has(ALL).await;
    assert_eq!(process.permit(Shard(0)).epoch(), epoch);
}

#[tokio::test(start_paused = true)]
async fn one_lost_beat_does_not_stop_operations() {
    let items = Shared::default();
    let process = Process::start("me", &items);
    process.until_it_has(ALL).await;
    sleep(Duration::from_millis(3_900)).await;
    process.way.cut.store(true, Ordering::SeqCst);
    for _ in 0..19 {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(process.may_write(TIMING.operation.millis()).len(), ALL);
    }
    process.way.cut.store(false, Ordering::SeqCst);
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(process.may_write(TIMING.operation.millis()).len(), ALL);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_never_hears_an_answer_never_believes_that_it_owns_a_shard() {
    let items = Shared::default();
    let process = Process::start("me", &items);
    process.way.deaf.store(true, Ordering::SeqCst);
    sleep(Duration::from_mins(2)).await;
    assert!(process.permits.borrow().held.is_empty());
    process.way.deaf.store(false, Ordering::SeqCst);
    process.until_it_has(ALL).await;
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_ran_out_leaves_the_way_back_only_while_no_beat_is_answered() {
    // Unreachable, failing, and answering reads alone: the table says nothing about the lease in any of them.
    let switches: [fn(&Way) -> &AtomicBool; 3] = [|way| &way.hangs, |way| &way.cut, |way| &way.read_only];
    for switch in switches {
        let items = Shared::default();
        let process = Process::start("me", &items);
        process.until_it_has(ALL).await;
        let epoch = process.permit(Shard(0)).epoch();
        switch(&process.way).store(true, Ordering::SeqCst);
        while !process.may_write(0).is_empty() {
            assert!(process.lapsed().is_empty(), "the permits hold");
            sleep(Duration::from_millis(100)).await;
        }
        sleep(TIMING.ttl.std()).await;
        let lapsed = process.lapsed();
        assert_eq!(lapsed.len(), ALL);
        assert!(lapsed.iter().all(|permit| permit.stands() && permit.epoch() <= epoch));

        switch(&process.way).store(false, Ordering::SeqCst);
        process.until_it_has(ALL).await;
        assert!(process.lapsed().is_empty());
        assert!(lapsed.iter().all(|permit| !permit.stands()), "a beat was answered");
        assert_eq!(process.permit(Shard(0)).epoch(), epoch, "nobody took over");
    }
}

#[tokio::test(start_paused = true)]
async fn no_way_back_is_left_to_one_that_was_asleep_or_when_it_is_switched_off() {
    let items = Shared::default();
    let asleep = Process::start("asleep", &items);
    asleep.until_it_has(ALL).await;
    asleep.clock.jumped_ms.fetch_add(TIMING.ttl.millis(), Ordering::SeqCst);
    let others = Shared::default();
    let off = Process::with("off", &others, false);
    off.until_it_has(ALL).await;
    off.way.hangs.store(true, Ordering::SeqCst);
    for _ in 0..6_000 {
        sleep(Duration::from_millis(10)).await;
        assert!(asleep.lapsed().is_empty() && off.lapsed().is_empty());
    }
    assert_eq!(asleep.may_write(0).len(), ALL, "its beats are answered");
}

#[tokio::test(start_paused = true)]
async fn the_way_back_ends_with_the_first_sign_of_another_owner() {
    // Nothing is heard: it cannot know, and the guards of the emergency go by what AWS shows.
    let items = Shared::default();
    let old = Process::start("old", &items);
    old.until_it_has(ALL).await;
    let new = Process::start("new", &items);
    new.until_it_has(ALL / 2).await;
    old.way.hangs.store(true, Ordering::SeqCst);
    new.until_it_has(ALL).await;
    let lapsed = old.lapsed();
    assert_eq!(lapsed.len(), ALL / 2);
    old.way.hangs.store(false, Ordering::SeqCst);
    old.until_it_has(ALL / 2).await;
    assert!(lapsed.iter().all(|permit| !permit.stands()) && old.lapsed().is_empty());

    // Reads are answered and show who has the shards, beats still fail: it ends with the look.
    old.way.read_only.store(true, Ordering::SeqCst);
    while old.lapsed().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    let lapsed = old.lapsed();
    let mut stood_after_taking_over = 0;
    for _ in 0..6_000 {
        sleep(Duration::from_millis(10)).await;
        if new.may_write(0).len() == ALL && lapsed.iter().any(EmergencyPermit::stands) {
            stood_after_taking_over += 10;
        }
    }
    assert_eq!(new.may_write(0).len(), ALL, "the others are not held up");
    assert!(stood_after_taking_over <= TIMING.renew.millis(), "{stood_after_taking_over} ms");
    assert!(old.lapsed().is_empty() && lapsed.iter().all(|permit| !permit.stands()));
}
