//! A way back with the lease held, while a service's own state item refuses.

use super::support::{
    Fake, Inner, Running, TableTrouble, UNRECORDED, act, key, script, secs, start, unavailable, wait,
};
use super::*;

/// A burning release that is known to the loop, and which each run wants to write something of.
async fn known() -> (Running, ServiceKey) {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    let scene = Scene::burning();
    {
        let mut inner = fake.inner();
        inner.state.insert(key.clone(), Remembered { rev: 3, facts: scene.facts, status: None });
        inner.observed = Some(scene.observed);
    }
    let asked = Arc::clone(&fake);
    script(move |input| {
        let refuses = asked.inner().trouble.is_some();
        if refuses { act(input.facts) } else { wait(input.facts.clone()) }
    });
    let running = start(fake);
    running.grant(4);
    secs(10).await;
    (running, key)
}

impl Running {
    fn refuse(&self, call: Call, error: fn() -> StoreError) {
        let trouble = TableTrouble { call, spared: 0, landed: false, error, met: 0 };
        self.fake.inner().trouble = Some(trouble);
    }

    fn routes_taken_back(&self) -> usize {
        self.fake.log().iter().filter(|line| line.starts_with("take back")).count()
    }
}

const WRITE: Call = Call::Write(Reason::Intent);

#[tokio::test(start_paused = true)]
async fn what_burns_goes_back_while_its_item_alone_refuses_and_is_recorded_before_anything_else() {
    // An item that can be read and not written, and one that can't be read either.
    for then in [WRITE, Call::ReadState] {
        let (running, key) = known().await;
        running.refuse(WRITE, unavailable);
        secs(UNRECORDED.millis() / 1_000 - 3).await;
        assert_eq!(running.routes_taken_back(), 0, "no hastier than a lease that runs out");
        running.refuse(then, unavailable);
        secs(60).await;
        assert_eq!(running.routes_taken_back(), 2, "{then:?}");
        assert!(!running.fake.log().contains(&"call".to_owned()), "and nothing else is sent");

        running.fake.inner().trouble = None;
        secs(10).await;
        let facts = running.fake.inner().state[&key].facts.clone();
        let latch = facts.release.unwrap().latch.expect("it is recorded");
        assert!(latch.detail.starts_with("EmergencyRollback: b-5xx"), "{}", latch.detail);
        assert_eq!(facts.acknowledged["public"].epoch, 4);
        assert_eq!(running.routes_taken_back(), 2, "and nothing is taken back again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_others_wrote_or_that_refuses_now_and_then_takes_nothing_back() {
    let others: [(Call, fn() -> StoreError); 5] = [
        (WRITE, || StoreError::Conflict { key: key("web") }),
        (WRITE, || StoreError::NoLease),
        (WRITE, || StoreError::TooNew { key: key("web"), min_reader: 9, mine: 1 }),
        (WRITE, || StoreError::Damaged { pk: "state#team/web".to_owned(), detail: "rev".to_owned() }),
        (Call::ReadRecords, unavailable),
    ];
    for (call, error) in others {
        let (running, _) = known().await;
        running.refuse(call, error);
        secs(90).await;
        assert_eq!(running.routes_taken_back(), 0, "{call:?}: {}", error());
    }
    let (running, _) = known().await;
    for _ in 0..6 {
        running.refuse(WRITE, unavailable);
        secs(12).await;
        running.fake.inner().trouble = None;
        secs(6).await;
    }
    assert_eq!(running.routes_taken_back(), 0);
}

/// Looks for a way back; no other look wants to see the targets here.
fn looks(inner: &Inner) -> usize {
    inner.needs.iter().filter(|needs| needs.contains(&Need::Targets(Group::A))).count()
}

#[tokio::test(start_paused = true)]
async fn an_alarm_in_one_look_of_each_of_two_troubles_takes_nothing_back() {
    let (running, _) = known().await;
    for trouble in 1..=2 {
        running.refuse(WRITE, unavailable);
        running.until("one look for a way back", |inner| looks(inner) == trouble).await;
        assert_eq!(running.routes_taken_back(), 0);
        running.fake.inner().trouble = None;
        secs(10).await;
        assert_eq!(looks(&running.fake.inner()), trouble, "the trouble is over");
    }
    assert_eq!(running.routes_taken_back(), 0);
}
