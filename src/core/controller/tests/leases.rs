//! Nothing without the right to it.

use super::support::{
    Bench, Fake, OPERATION, Running, act_once, decision, permit, script, secs, start, wait,
};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_does_not_start_when_the_lease_may_end_before_it() {
    let mut bench = Bench::new();
    script(act_once);
    // The write of the intent uses up what the lease had to spare.
    bench.fake.inner().write_takes = Span::from_secs(2);
    bench.permit = permit(&bench.reconciler, 1, OPERATION.millis() + 1_000);
    assert_eq!(bench.run().await.outcome, "no_lease");
    assert_eq!(bench.fake.log(), ["recall", "write 1 outstanding 1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_without_a_lease_and_nothing_remembered_across_two() {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.hints.send(key.clone()).await.unwrap();
    secs(600).await;
    assert_eq!(running.fake.inner().reads, 0);
    assert!(
        running.heartbeat.age(&*running.clock) <= TICK,
        "waiting for the lease is no reason to be killed"
    );
    running.grant(1);
    secs(60).await;
    let reads = running.fake.inner().reads;
    assert!((20..=40).contains(&reads), "{reads} passes in a minute at a poll of 2 s");
    assert!(running.views.borrow().services.contains_key(&key));
    running.grant_shards(ShardCount::ONE, &[]);
    secs(60).await;
    assert!(running.fake.inner().reads <= reads + 1);
    assert!(running.views.borrow().shards_held == 0 && running.views.borrow().services.is_empty());
    running.grant(2);
    secs(10).await;
    assert_eq!(running.recalls(), 2, "once for each lease");
}

#[tokio::test(start_paused = true)]
async fn a_lost_shard_takes_its_services_along_and_no_others() {
    let two = ShardCount::new(2).unwrap();
    let fake = Arc::<Fake>::default();
    let keys: Vec<ServiceKey> = ["one", "two", "three", "four", "five"].map(|name| fake.ask(name)).to_vec();
    let (zero, one): (Vec<ServiceKey>, Vec<ServiceKey>) =
        keys.into_iter().partition(|key| two.shard_of(key) == Shard(0));
    assert!(!zero.is_empty() && !one.is_empty());
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.grant_shards(two, &[(0, 1), (1, 1)]);
    secs(10).await;
    assert_eq!(running.views.borrow().services.len(), 5);
    assert_eq!((running.views.borrow().shards_held, running.views.borrow().shards), (2, 2));

    let recalls = running.recalls();
    running.grant_shards(two, &[(1, 1)]);
    secs(10).await;
    let shown = |running: &Running| running.views.borrow().services.keys().cloned().collect::<Vec<_>>();
    assert_eq!(shown(&running).len(), one.len());
    assert!(one.iter().all(|key| shown(&running).contains(key)));
    assert_eq!(running.recalls(), recalls, "the others are remembered");
    running.hints.send(zero[0].clone()).await.unwrap();
    secs(10).await;
    assert!(!shown(&running).contains(&zero[0]), "a hint about another's service wakes nobody");

    running.grant_shards(two, &[(0, 3), (1, 1)]);
    secs(10).await;
    assert_eq!(shown(&running).len(), 5);
    assert_eq!(running.recalls(), recalls + zero.len(), "what came back is read anew, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn an_effect_is_sent_under_the_epoch_of_its_services_shard() {
    let two = ShardCount::new(2).unwrap();
    let fake = Arc::<Fake>::default();
    let keys: Vec<ServiceKey> = ["one", "two", "three", "four", "five"].map(|name| fake.ask(name)).to_vec();
    let epochs = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = Arc::clone(&epochs);
    script(move |input| {
        seen.lock().unwrap().insert(input.key.clone(), input.epoch);
        wait(input.facts.clone())
    });
    let running = start(fake);
    running.grant_shards(two, &[(0, 7), (1, 4)]);
    secs(10).await;
    for key in keys {
        let epoch = if two.shard_of(&key) == Shard(0) { 7 } else { 4 };
        assert_eq!(epochs.lock().unwrap().get(&key), Some(&epoch), "{key}");
    }
}

/// A clock that stands an hour later after some more readings: what a process meets between two lines that is stopped there.
struct Stalls {
    clock: Arc<dyn Clock>,
    readings_left: AtomicU64,
}

impl Clock for Stalls {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    fn monotonic_ms(&self) -> u64 {
        let left =
            self.readings_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let later = if left.is_ok() { Span::ZERO } else { Span::from_mins(60) };
        self.clock.monotonic_ms() + later.millis()
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_ends_between_two_questions_loses_no_service() {
    for readings in 0..8 {
        let fake = Arc::<Fake>::default();
        fake.ask("web");
        script(|input| wait(input.facts.clone()));
        let running = start(fake);
        let clock =
            Arc::new(Stalls { clock: Arc::clone(&running.clock), readings_left: AtomicU64::new(u64::MAX) });
        let until = Arc::new(AtomicU64::new(Span::from_mins(30).millis()));
        let permit = Permit::new(1, until, Arc::<Stalls>::clone(&clock));
        let held = BTreeMap::from([(Shard(0), permit)]);
        running.lease.send_replace(Permits { shards: ShardCount::ONE, held, ..Permits::default() });
        secs(10).await;
        clock.readings_left.store(readings, Ordering::SeqCst);
        secs(5).await;
        // A beat is answered, which nobody is told of.
        clock.readings_left.store(u64::MAX, Ordering::SeqCst);
        let reads = running.fake.inner().reads;
        secs(20).await;
        let since = running.fake.inner().reads - reads;
        assert!(since >= 8, "{since} looks in 20 s at a poll of 2 s, after {readings} readings");
    }
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_when_nobody_keeps_the_lease_any_more() {
    let running = start(Arc::default());
    drop(running.lease);
    assert!(running.ended.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_lists_each_second_until_it_knows_the_services() {
    let fake = Arc::<Fake>::default();
    fake.inner().lists_fail = 10;
    let key = fake.ask("found");
    script(|input| decision(input.facts.clone(), Next::Settled));
    let running = start(Arc::clone(&fake));
    running.grant(1);
    // Ten failures a second apart, each spread by a tenth; doubled ones would take more than five minutes.
    secs(15).await;
    assert!(running.views.borrow().services.contains_key(&key));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_comes_back_while_a_run_of_before_hangs_is_looked_after_as_soon_as_that_one_ends() {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    let remembered = Remembered { rev: 3, facts: Scene::burning().facts, status: None };
    fake.inner().state.insert(key, remembered);
    fake.inner().observe_takes = Span::from_secs(8);
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.grant(4);
    secs(2).await;
    assert_eq!(running.recalls(), 1, "the first run hangs");
    running.grant(6);
    secs(12).await;
    assert!(running.recalls() > 1, "{:?}", running.fake.log());
}
