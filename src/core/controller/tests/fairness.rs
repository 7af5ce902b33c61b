//! Every service gets its turn, and what was started may end.

use super::support::{Bench, Fake, IDLE, POLL, act, decision, key, script, secs, start, wait};
use super::*;

#[tokio::test(start_paused = true)]
async fn looking_ends_after_four_looks_and_sees_together_what_was_wanted_in_turn() {
    let mut bench = Bench::new();
    let mut group = Group::B;
    script(move |input| {
        group = group.other();
        decision(input.facts.clone(), Next::Look(BTreeSet::from([Need::Targets(group)])))
    });
    assert_eq!(bench.run().await.outcome, "looking");
    let needs = bench.fake.inner().needs.clone();
    assert_eq!(needs.len(), 4);
    assert_eq!(needs[0], BTreeSet::new());
    assert_eq!(needs[2], BTreeSet::from([Need::Targets(Group::A), Need::Targets(Group::B)]));
}

#[tokio::test(start_paused = true)]
async fn what_a_wait_wants_to_see_is_read_by_the_next_run() {
    let mut bench = Bench::new();
    script(|input| {
        let mut decision = wait(input.facts.clone());
        if let Next::Wait(wait) = &mut decision.next {
            wait.needs.insert(Need::LoadBalancer);
        }
        decision
    });
    bench.run().await;
    bench.run().await;
    assert_eq!(bench.fake.inner().needs[1], BTreeSet::from([Need::LoadBalancer]));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_never_rests_gives_the_others_a_turn() {
    let mut bench = Bench::new();
    script(|input| act(input.facts));
    let verdict = bench.run().await;
    assert_eq!((verdict.again, verdict.why), (Some(Span::ZERO), Trigger::Turn));
    assert_eq!(bench.fake.log().iter().filter(|line| *line == "call").count(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_hints_never_makes_two_runs_of_one_service() {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    fake.inner().observe_takes = Span::from_secs(3);
    script(|input| decision(input.facts.clone(), Next::Settled));
    let running = start(fake);
    running.grant(1);
    for _ in 0..50 {
        running.hints.send(key.clone()).await.unwrap();
        sleep(Span::from_millis(200).std()).await;
    }
    secs(10).await;
    assert_eq!(running.fake.inner().most_observing, 1);
    let reads = running.fake.inner().reads;
    assert!(
        (4..=6).contains(&reads),
        "{reads}: each hint is answered by a run that began after it, not by its own"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_the_call_under_way_be_settled_and_starts_no_other() {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    fake.inner().carry_out_takes = Span::from_secs(5);
    script(|input| act(input.facts));
    let running = start(fake);
    running.grant(1);
    secs(2).await;
    running.shutdown.cancel();
    running.ended.await.unwrap().unwrap();
    assert_eq!(
        running.fake.log(),
        ["recall", "write 1 outstanding 1", "call", "answer", "write 1 outstanding 0"]
    );
    assert!(running.fake.inner().state[&key].facts.outstanding.is_empty());
}

#[tokio::test(start_paused = true)]
async fn runs_that_hang_stop_the_heartbeat_until_they_are_dropped() {
    let fake = Arc::<Fake>::default();
    for name in ["one", "two", "three", "four", "five"] {
        fake.ask(name);
    }
    fake.inner().observe_takes = Span::from_mins(60);
    script(|_| unreachable!("nothing is ever seen"));
    let running = start(fake);
    running.grant(1);
    secs(200).await;
    assert!(running.heartbeat.age(&*running.clock) >= Span::from_secs(150));
    secs(101).await;
    assert!(running.heartbeat.age(&*running.clock) < Span::from_secs(10));
    assert_eq!(running.heartbeat.attempted(), 5, "the dropped runs made room for the fifth");
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_later_is_found_without_a_hint() {
    let fake = Arc::<Fake>::default();
    script(|input| decision(input.facts.clone(), Next::Settled));
    let running = start(Arc::clone(&fake));
    running.grant(1);
    secs(5).await;
    let key = fake.ask("late");
    secs(400).await;
    assert!(running.views.borrow().services.contains_key(&key));
    let text = Metrics::default().encode().unwrap();
    assert!(text.ends_with("# EOF\n"));
}

/// How often a service was decided for, when last, and the longest time between two of these, in milliseconds.
type Visits = BTreeMap<ServiceKey, (u32, i64, i64)>;

/// As many as a debug build looks at three times in a few seconds; nothing in the loop grows faster than they do.
const SERVICES: u32 = 4_000;
/// Of one look.
const LOOK: Span = Span::from_millis(10);
/// Four at a time.
const ROUND: Span = Span::from_millis(LOOK.millis() * SERVICES as u64 / 4);

/// Counts the entries of the snapshots that are published.
fn copied(mut views: watch::Receiver<Arc<Snapshot>>) -> Arc<AtomicU64> {
    let copied = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&copied);
    tokio::spawn(async move {
        while views.changed().await.is_ok() {
            let services = views.borrow_and_update().services.len();
            counted.fetch_add(u64::try_from(services).unwrap(), Ordering::SeqCst);
        }
    });
    copied
}

#[tokio::test(start_paused = true)]
async fn one_bad_record_among_thousands_holds_up_no_other_service() {
    let fake = Arc::<Fake>::default();
    for number in 0..SERVICES {
        fake.ask(&format!("s{number}"));
    }
    fake.inner().observe_takes = LOOK;
    let visits = std::rc::Rc::<RefCell<Visits>>::default();
    let seen = std::rc::Rc::clone(&visits);
    script(move |input| {
        let now_ms = input.now.as_millisecond();
        let mut seen = seen.borrow_mut();
        let (times, last_ms, longest_ms) = seen.entry(input.key.clone()).or_insert((0, now_ms, 0));
        *longest_ms = (*longest_ms).max(now_ms - *last_ms);
        (*times, *last_ms) = (*times + 1, now_ms);
        drop(seen);
        match input.key.name() {
            "s7" => panic!("nothing can be decided for it"),
            "s8" => wait(Facts { release: Scene::burning().facts.release, ..input.facts.clone() }),
            _ => decision(input.facts.clone(), Next::Settled),
        }
    });
    let running = start(fake);
    let copied = copied(running.views.clone());
    running.grant(1);
    secs(180).await;
    assert!(copied.load(Ordering::SeqCst) <= 180 * 10_000, "{copied:?} entries: people are shown too much");
    let visits = visits.borrow();
    assert_eq!(visits.len(), SERVICES as usize);
    let millis = |span: Span| i64::try_from(span.millis()).unwrap();
    // A tenth more or less, and a round.
    let longest = millis(IDLE) * 11 / 10 + millis(ROUND);
    for (key, (times, _, longest_ms)) in visits.iter().filter(|(key, _)| key.name() != "s7") {
        assert!(*times >= 2 && *longest_ms <= longest, "{key}: {times} times, {longest_ms} ms apart");
    }
    let (times, _, longest_ms) = visits[&key("s8")];
    // A poll, the look itself, and the one in whose place it comes.
    let most = millis(POLL.plus(LOOK.times(2)));
    assert!(times > 60 && longest_ms <= most, "what is under way: {times} times, {longest_ms} ms apart");
    // Nothing is known of it, so it may be one that goes back: every 5 s at most.
    let (times, ..) = visits[&key("s7")];
    assert!((30..=40).contains(&times), "the bad one is tried {times} times");
}
