use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::*;
use crate::lease::{BadTiming, LeaseItem, Taken};
use crate::records::Span;

const TIMING: LeaseTiming = LeaseTiming {
    ttl: Span::from_secs(20),
    renew: Span::from_secs(4),
    operation: Span::from_secs(6),
    margin: Span::from_secs(2),
};

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

type Shared = Arc<Mutex<Option<LeaseItem>>>;

/// One process's way to the shared item.
struct Way {
    item: Shared,
    /// Calls fail without effect.
    cut: AtomicBool,
    /// Calls have their effect and fail.
    deaf: AtomicBool,
}

impl Way {
    fn answer<T>(&self, act: impl FnOnce(&mut Option<LeaseItem>) -> T) -> Result<T, StoreError> {
        let broken = || crate::store::error::passing("reach the lease", "the test cut it off");
        if self.cut.load(Ordering::SeqCst) {
            return Err(broken());
        }
        let done = act(&mut self.item.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if self.deaf.load(Ordering::SeqCst) { Err(broken()) } else { Ok(done) }
    }

    fn mine(
        &self,
        holder: &str,
        epoch: u64,
        act: impl FnOnce(&mut LeaseItem),
    ) -> Result<Renewal, StoreError> {
        self.answer(|item| match item {
            Some(item) if item.holder == holder && item.epoch == epoch => {
                act(item);
                Renewal::Done
            }
            _ => Renewal::Lost,
        })
    }
}

#[async_trait]
impl LeaseTable for Way {
    async fn read(&self) -> Result<Option<LeaseItem>, StoreError> {
        self.answer(|item| item.clone())
    }
    async fn take(&self, holder: &str, seen: Option<&LeaseItem>) -> Result<Taken, StoreError> {
        self.answer(|item| {
            if item.as_ref().map(|item| (item.epoch, item.beat)) != seen.map(|seen| (seen.epoch, seen.beat)) {
                return Taken::Lost;
            }
            let (epoch, beat) = item.as_ref().map_or((0, 0), |item| (item.epoch, item.beat));
            *item = Some(LeaseItem {
                epoch: epoch + 1,
                beat: beat + 1,
                holder: holder.to_owned(),
                released: false,
            });
            Taken::Epoch(epoch + 1)
        })
    }
    async fn renew(&self, holder: &str, epoch: u64) -> Result<Renewal, StoreError> {
        self.mine(holder, epoch, |item| item.beat += 1)
    }
    async fn release(&self, holder: &str, epoch: u64) -> Result<Renewal, StoreError> {
        self.mine(holder, epoch, |item| item.released = true)
    }
}

/// A process that competes for the lease.
struct Process {
    way: Arc<Way>,
    clock: Arc<TestClock>,
    permits: channel::Receiver<Option<Permit>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Process {
    fn start(name: &str, item: &Shared) -> Self {
        let way =
            Arc::new(Way { item: Arc::clone(item), cut: AtomicBool::default(), deaf: AtomicBool::default() });
        let clock = Arc::new(TestClock { start: Instant::now(), jumped_ms: AtomicU64::new(0) });
        let (sender, permits) = channel::channel(None);
        let shutdown = CancellationToken::new();
        let lease = keep(
            Arc::<Way>::clone(&way),
            Arc::<TestClock>::clone(&clock),
            name.to_owned(),
            TIMING,
            sender,
            shutdown.clone(),
        );
        Self { way, clock, permits, shutdown, task: tokio::spawn(lease) }
    }

    fn permit(&self) -> Option<Permit> {
        self.permits.borrow().clone()
    }

    fn may_write(&self, longest_ms: u64) -> bool {
        self.permit().is_some_and(|permit| permit.allows(longest_ms))
    }

    async fn until_it_may_write(&self) -> Permit {
        for _ in 0..10_000 {
            if let Some(permit) = self.permit().filter(|permit| permit.allows(0)) {
                return permit;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("no permit in 100 s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_owners_permit_ends_a_margin_before_a_successor_may_write() {
    for cut_after_ms in [0, 1, 1_999, 3_999, 4_000, 4_001, 7_000] {
        let item = Shared::default();
        let old = Process::start("old", &item);
        let first = old.until_it_may_write().await;
        let new = Process::start("new", &item);
        sleep(Duration::from_millis(9_000 + cut_after_ms)).await;
        old.way.cut.store(true, Ordering::SeqCst);
        let beat = item.lock().unwrap().clone().unwrap().beat;
        let cut_at = Instant::now();

        let mut last_of_old = cut_at;
        let start_of_new = loop {
            assert!(!(first.allows(0) && new.may_write(0)), "both may write");
            if first.allows(0) {
                last_of_old = Instant::now();
            }
            if new.may_write(0) {
                break Instant::now();
            }
            assert!(cut_at.elapsed() < Duration::from_mins(1), "nobody took over");
            sleep(Duration::from_millis(10)).await;
        };
        let taken = item.lock().unwrap().clone().unwrap();
        assert_eq!((taken.epoch, taken.beat, taken.holder.as_str()), (2, beat + 1, "new"));
        assert!(start_of_new - last_of_old >= TIMING.margin.std(), "cut {cut_after_ms} ms after a beat");
        assert!(start_of_new - cut_at >= TIMING.ttl.minus(TIMING.renew).std());
        assert!(start_of_new - cut_at <= TIMING.ttl.plus(TIMING.renew.times(3)).std());
        assert!(old.permit().is_none(), "the old owner says that it has no permit");

        // The old owner comes back and finds the lease taken; the first permit never comes alive again.
        old.way.cut.store(false, Ordering::SeqCst);
        sleep(Duration::from_mins(1)).await;
        assert!(new.may_write(0) && !old.may_write(0) && !first.allows(0));
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_contenders_one_wins_and_it_stays_that_one() {
    let item = Shared::default();
    let all: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| Process::start(name, &item)).collect();
    sleep(Duration::from_secs(1)).await;
    let winner = all.iter().position(|process| process.may_write(0)).expect("a free lease is taken at once");
    for _ in 0..3_000 {
        let owners: Vec<_> = (0..all.len()).filter(|index| all[*index].may_write(0)).collect();
        assert_eq!(owners, [winner]);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(item.lock().unwrap().as_ref().unwrap().epoch, 1);
}

#[tokio::test(start_paused = true)]
async fn a_leaving_owner_waits_for_its_passes_and_then_hands_over_without_a_time_to_live() {
    let item = Shared::default();
    let old = Process::start("old", &item);
    let in_use = old.until_it_may_write().await;
    let new = Process::start("new", &item);
    sleep(Duration::from_secs(5)).await;

    old.shutdown.cancel();
    let left_at = Instant::now();
    sleep(Duration::from_secs(3)).await;
    assert!(!in_use.allows(0), "nothing new may begin");
    assert!(!item.lock().unwrap().as_ref().unwrap().released, "a pass still runs");
    drop(in_use);
    let permit = new.until_it_may_write().await;
    assert_eq!(permit.epoch(), 2);
    assert!(left_at.elapsed() <= Duration::from_secs(3) + TIMING.renew.plus(Span::from_secs(1)).std());
    old.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_never_ends_delays_the_hand_over_by_one_operation_at_most() {
    let item = Shared::default();
    let old = Process::start("old", &item);
    let _in_use = old.until_it_may_write().await;
    old.shutdown.cancel();
    let left_at = Instant::now();
    old.task.await.unwrap();
    assert!(item.lock().unwrap().as_ref().unwrap().released);
    assert!(left_at.elapsed() >= TIMING.operation.std());
    assert!(left_at.elapsed() <= TIMING.operation.plus(Span::from_secs(1)).std());
}

#[tokio::test(start_paused = true)]
async fn a_watchers_clock_that_jumps_does_not_take_the_lease_from_a_living_owner() {
    let item = Shared::default();
    let old = Process::start("old", &item);
    old.until_it_may_write().await;
    let new = Process::start("new", &item);
    for _ in 0..200 {
        new.clock.jumped_ms.fetch_add(3_600_000, Ordering::SeqCst);
        sleep(Duration::from_millis(1_700)).await;
        assert!(old.may_write(0) && !new.may_write(0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_suspended_wakes_up_without_the_right_to_write() {
    let item = Shared::default();
    let old = Process::start("old", &item);
    let permit = old.until_it_may_write().await;
    assert!(permit.allows(TIMING.operation.millis()));
    old.clock.jumped_ms.fetch_add(TIMING.ttl.millis(), Ordering::SeqCst);
    assert!(!permit.allows(0));
    // Nobody took over meanwhile: it goes on under the same epoch once a renewal has proved it.
    let again = old.until_it_may_write().await;
    assert_eq!(again.epoch(), permit.epoch());
}

#[test]
fn a_take_whose_answer_was_lost_is_found_and_proved_by_a_renewal() {
    let watch = &mut LeaseWatch::new("me".to_owned(), TIMING);
    watch.read(1_000, None);
    assert_eq!(watch.next(1_000), Step::Take { seen: None });
    watch.answered(1_000, 7_000, None::<Taken>);
    assert_eq!(watch.held(7_000), None);
    let Step::Wait { ms } = watch.next(7_000) else { panic!("it waits before it looks again") };
    assert_eq!(watch.next(7_000 + ms), Step::Read);
    watch.read(10_000, Some(LeaseItem { epoch: 1, beat: 1, holder: "me".to_owned(), released: false }));
    assert_eq!(watch.held(10_000), None, "not before it is proved");
    assert_eq!(watch.next(10_000), Step::Renew { epoch: 1 });
    watch.answered(10_000, 10_500, Some(Renewal::Done));
    assert_eq!(watch.held(10_500), Some((1, 28_000)));
}

#[tokio::test(start_paused = true)]
async fn one_lost_renewal_does_not_stop_operations() {
    let item = Shared::default();
    let process = Process::start("me", &item);
    process.until_it_may_write().await;
    sleep(Duration::from_millis(3_900)).await;
    process.way.cut.store(true, Ordering::SeqCst);
    for _ in 0..19 {
        sleep(Duration::from_millis(100)).await;
        assert!(process.may_write(TIMING.operation.millis()));
    }
    process.way.cut.store(false, Ordering::SeqCst);
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        assert!(process.may_write(TIMING.operation.millis()));
    }
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

#[tokio::test(start_paused = true)]
async fn a_process_that_never_hears_an_answer_never_believes_that_it_owns_the_lease() {
    let item = Shared::default();
    let process = Process::start("me", &item);
    process.way.deaf.store(true, Ordering::SeqCst);
    sleep(Duration::from_mins(2)).await;
    assert!(process.permit().is_none());
    process.way.deaf.store(false, Ordering::SeqCst);
    assert_eq!(process.until_it_may_write().await.epoch(), 1);
}
