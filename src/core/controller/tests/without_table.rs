//! A way back while the state table cannot be reached.

use super::support::{Fake, Inner, Running, script, secs, start, wait};
use super::*;

/// A release of `team/web` at 10 % and 50 % whose alarm burns, known to a running loop; then the table is gone.
async fn cut_off() -> (Running, ServiceKey, Arc<AtomicBool>) {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    let scene = Scene::burning();
    {
        let mut inner = fake.inner();
        let remembered = Remembered { rev: 3, facts: scene.facts, status: None };
        inner.state.insert(key.clone(), remembered);
        inner.observed = Some(scene.observed);
    }
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.grant(4);
    secs(10).await;
    running.fake.inner().down = true;
    secs(18).await;
    let stands = Arc::new(AtomicBool::new(true));
    (running, key, stands)
}

impl Running {
    fn lapse(&self, epoch: u64, stands: &Arc<AtomicBool>) {
        let permit = EmergencyPermit::new(epoch, Arc::clone(stands));
        let lapsed = BTreeMap::from([(Shard(0), permit)]);
        let shards = ShardCount::ONE;
        self.lease.send_replace(Permits { shards, lapsed, ..Permits::default() });
    }

    fn taken_back(&self) -> Vec<String> {
        let log = self.fake.log();
        log.into_iter().filter(|line| line.starts_with("take back") || line == "call").collect()
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_table_a_burning_release_goes_back_once_a_route_and_is_recorded_afterwards() {
    let (running, key, stands) = cut_off().await;
    assert!(running.taken_back().is_empty(), "nothing happens while the lease may still be renewed");
    running.lapse(4, &stands);
    secs(60).await;
    assert_eq!(running.taken_back(), ["take back internal", "take back public"]);

    // The table is back, and nobody else had the shard.
    running.fake.inner().down = false;
    stands.store(false, Ordering::SeqCst);
    running.grant(4);
    secs(10).await;
    let facts = running.fake.inner().state[&key].facts.clone();
    let latch = facts.release.unwrap().latch.unwrap();
    assert_eq!(latch.cause, LatchCause::Alarm);
    assert!(latch.detail.starts_with("EmergencyRollback: b-5xx"), "{}", latch.detail);
    assert_eq!(facts.acknowledged["public"].epoch, 4);
    assert_eq!(running.taken_back().len(), 2, "and nothing is taken back again");
}

#[tokio::test(start_paused = true)]
async fn when_the_lease_is_back_every_service_is_looked_at_at_once() {
    let fake = Arc::<Fake>::default();
    // No way back is known of it.
    fake.ask("web");
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.grant(4);
    secs(10).await;
    let stands = Arc::new(AtomicBool::new(true));
    // Also when the look of the time without it is under way then.
    for takes in [Span::ZERO, Span::from_secs(8)] {
        running.lapse(4, &stands);
        secs(5).await;
        running.fake.inner().observe_takes = takes;
        let reads = running.fake.inner().reads;
        running.grant(4);
        secs(2).await;
        assert!(running.fake.inner().reads > reads, "{takes}");
        running.fake.inner().observe_takes = Span::ZERO;
        secs(20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_takes_too_long_does_not_end_the_way_back() {
    let (running, _, stands) = cut_off().await;
    running.fake.inner().observe_takes = Span::from_mins(10);
    running.lapse(4, &stands);
    running.until("a look hangs", |inner| inner.observing > 0).await;
    running.fake.inner().observe_takes = Span::ZERO;
    // It is given up after five minutes.
    secs(400).await;
    assert_eq!(running.taken_back(), ["take back internal", "take back public"]);
}

#[tokio::test(start_paused = true)]
async fn without_the_table_nothing_happens_unless_every_guard_agrees() {
    let changes: [fn(&mut Observed); 3] = [
        |observed| observed.alarms.clear(),
        |observed| observed.service = Seen::Unknown("5xx".to_owned()),
        |observed| drop(observed.routes.remove("public")),
    ];
    for change in changes {
        let (running, _, stands) = cut_off().await;
        change(running.fake.inner().observed.as_mut().unwrap());
        running.lapse(4, &stands);
        secs(60).await;
        assert!(running.taken_back().is_empty());
    }
    // A permit that does not stand, or that is of another epoch than what was known.
    for (epoch, standing) in [(4, false), (5, true)] {
        let (running, _, stands) = cut_off().await;
        stands.store(standing, Ordering::SeqCst);
        running.lapse(epoch, &stands);
        secs(60).await;
        assert!(running.taken_back().is_empty(), "epoch {epoch}, stands {standing}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_back_is_only_told_when_another_owner_has_the_shard() {
    let (running, key, stands) = cut_off().await;
    running.lapse(4, &stands);
    secs(60).await;
    running.fake.inner().down = false;
    running.grant(6);
    secs(10).await;
    let facts = running.fake.inner().state[&key].facts.clone();
    assert!(facts.release.unwrap().latch.is_none(), "the new owner's facts are its own");
}

impl Running {
    /// Until this is so; a minute at most.
    pub(super) async fn until(&self, what: &str, is: impl Fn(&Inner) -> bool) {
        for _ in 0..600 {
            if is(&self.fake.inner()) {
                return;
            }
            sleep(Span::from_millis(100).std()).await;
        }
        panic!("it never came to that: {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_back_is_recorded_also_when_runs_were_under_way_as_the_lease_went_and_came() {
    let (running, key, stands) = cut_off().await;
    running.fake.inner().down_after = Span::from_secs(3);
    running.until("a run of before the lapse hangs in the table", |inner| inner.in_vain > 0).await;
    running.lapse(4, &stands);
    running
        .until("both routes are back", |inner| {
            inner.log.iter().filter(|line| line.starts_with("take back")).count() == 2
        })
        .await;
    running.fake.inner().observe_takes = Span::from_secs(8);
    running.until("a look without a lease hangs", |inner| inner.observing > 0).await;

    running.fake.inner().down = false;
    stands.store(false, Ordering::SeqCst);
    running.grant(4);
    secs(30).await;
    let facts = running.fake.inner().state[&key].facts.clone();
    let latch = facts.release.unwrap().latch.expect("it is recorded");
    assert!(latch.detail.starts_with("EmergencyRollback: b-5xx"), "{}", latch.detail);
}
