//! The lease's items in a real `DynamoDB` engine, and three keepers that share them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pointsman::clock::SystemClock;
use pointsman::lease::{Claim, Layout, LeaseTiming, Member, Owner, Shard, ShardCount, Written};
use pointsman::ports::{Clock, Permits};
use pointsman::records::Span;
use pointsman::store::lease::{DynamoLease, Keeping, LeaseTable, keep};
use pointsman::store::{Tables, tables};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::dynamodb;

const OPERATION: Duration = Duration::from_secs(20);

/// A client of a new pair of tables.
async fn new_table() -> (aws_sdk_dynamodb::Client, String) {
    let client = dynamodb::client(&dynamodb::endpoint().await);
    let unique = format!("{:032x}", rand::random::<u128>());
    let tables = Tables { records: format!("records-{unique}"), state: format!("state-{unique}") };
    tables::create_tables(&client, &tables).await.unwrap();
    (client, tables.state)
}

fn shards(count: u16) -> ShardCount {
    ShardCount::new(count).unwrap()
}

#[tokio::test]
async fn the_layout_is_written_once_and_changed_by_who_saw_it_last() {
    let (client, table) = new_table().await;
    let lease = DynamoLease::new(client, table, OPERATION);
    assert_eq!(lease.look().await.unwrap().layout, Layout { shards: None, epoch: 0 });
    assert_eq!(lease.found(shards(8), Some(4)).await.unwrap(), Written::Refused);
    assert_eq!(lease.found(shards(8), None).await.unwrap(), Written::Done);
    assert_eq!(lease.found(shards(4), None).await.unwrap(), Written::Refused);
    assert_eq!(lease.look().await.unwrap().layout.shards, Some(8));
    assert_eq!(lease.found(shards(4), Some(8)).await.unwrap(), Written::Done);
    assert_eq!(lease.look().await.unwrap().layout.shards, Some(4));
}

#[tokio::test]
async fn a_member_beats_until_it_is_removed_by_who_saw_its_last_beat() {
    let (client, table) = new_table().await;
    let lease = DynamoLease::new(client, table, OPERATION);
    assert_eq!(lease.beat("a/0", 1).await.unwrap(), Written::Refused, "it has not joined");
    assert_eq!(lease.join("a/0", shards(8)).await.unwrap(), Written::Done);
    assert_eq!(lease.join("a/0", shards(8)).await.unwrap(), Written::Refused, "it is there");
    assert_eq!(lease.beat("a/0", 1).await.unwrap(), Written::Done);
    assert_eq!(lease.beat("a/0", 3).await.unwrap(), Written::Refused, "that is not the item it knew");
    assert_eq!(lease.look().await.unwrap().members["a/0"], Member { beat: 2, shards: 8 });
    assert_eq!(lease.remove("a/0", Some(1)).await.unwrap(), Written::Refused, "it has beaten since");
    assert_eq!(lease.remove("a/0", Some(2)).await.unwrap(), Written::Done);
    assert_eq!(lease.beat("a/0", 2).await.unwrap(), Written::Refused, "removed is removed");
    assert!(lease.look().await.unwrap().members.is_empty());
    lease.join("b/0", shards(8)).await.unwrap();
    lease.remove("b/0", None).await.unwrap();
    assert!(lease.look().await.unwrap().members.is_empty());
}

#[tokio::test]
async fn a_shard_changes_only_for_its_holder_and_for_who_saw_its_epoch() {
    let (client, table) = new_table().await;
    let lease = DynamoLease::new(client, table, OPERATION);
    let claim = |seen, epoch| Claim { shard: Shard(7), seen, epoch };
    assert_eq!(lease.take("a", claim(None, 5)).await.unwrap(), Written::Done);
    assert_eq!(lease.take("b", claim(None, 5)).await.unwrap(), Written::Refused);
    assert_eq!(lease.take("b", claim(Some(4), 6)).await.unwrap(), Written::Refused);
    let holder = |name: &str| Some(name.to_owned());
    assert_eq!(lease.look().await.unwrap().shards[&7], Owner { epoch: 5, holder: holder("a") });
    let (one, other) = tokio::join!(lease.take("c", claim(Some(5), 6)), lease.take("d", claim(Some(5), 6)));
    let done = [one.unwrap(), other.unwrap()].into_iter().filter(|it| *it == Written::Done).count();
    assert_eq!(done, 1, "of two that saw the same, one wins");
    assert_eq!(lease.free("a", Shard(7), 5).await.unwrap(), Written::Refused);
    let winner = lease.look().await.unwrap().shards[&7].holder.clone().unwrap();
    assert_eq!(lease.free(&winner, Shard(7), 5).await.unwrap(), Written::Refused);
    assert_eq!(lease.free(&winner, Shard(7), 6).await.unwrap(), Written::Done);
    assert_eq!(lease.look().await.unwrap().shards[&7], Owner { epoch: 6, holder: None });
}

/// A keeper in this process, on the machine's own clock.
struct Replica {
    permits: watch::Receiver<Permits>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

const TIMING: LeaseTiming = LeaseTiming {
    ttl: Span::from_secs(5),
    renew: Span::from_millis(500),
    operation: Span::from_secs(2),
    margin: Span::from_secs(1),
};

impl Replica {
    fn start(client: &aws_sdk_dynamodb::Client, table: &str, name: &str, count: u16) -> Self {
        let lease = DynamoLease::new(client.clone(), table.to_owned(), TIMING.operation.std());
        let (sender, permits) = watch::channel(Permits::default());
        let shutdown = CancellationToken::new();
        let keeping = Keeping {
            holder: name.to_owned(),
            seed: rand::random(),
            shards: shards(count),
            timing: TIMING.checked().unwrap(),
            emergency: true,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let task = tokio::spawn(keep(Arc::new(lease), clock, keeping, sender, shutdown.clone()));
        Self { permits, shutdown, task }
    }

    fn has(&self) -> BTreeSet<Shard> {
        let permits = self.permits.borrow();
        permits.held.iter().filter(|(_, permit)| permit.allows(0)).map(|(shard, _)| *shard).collect()
    }
}

/// Waits until the replicas own all shards, none of them more than its share; they never own one together.
async fn shared(replicas: &[&Replica], all: usize) {
    let share = all.div_ceil(replicas.len());
    for _ in 0..3_000 {
        let owned: Vec<BTreeSet<Shard>> = replicas.iter().map(|replica| replica.has()).collect();
        let together: BTreeSet<Shard> = owned.iter().flatten().copied().collect();
        let sum: usize = owned.iter().map(BTreeSet::len).sum();
        if sum == all && together.len() == all && owned.iter().all(|owned| owned.len() <= share) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} are not shared", replicas.iter().map(|replica| replica.has().len()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_keepers_share_and_two_go_on_when_one_is_killed_or_leaves() {
    let (client, table) = new_table().await;
    let a = Replica::start(&client, &table, "a", 12);
    let b = Replica::start(&client, &table, "b", 12);
    let c = Replica::start(&client, &table, "c", 12);
    shared(&[&a, &b, &c], 12).await;

    let lease = DynamoLease::new(client.clone(), table.clone(), OPERATION);
    let before = lease.look().await.unwrap().shards;
    c.task.abort();
    shared(&[&a, &b], 12).await;
    let after = lease.look().await.unwrap();
    assert_eq!(after.members.len(), 2, "the killed one was removed");
    let taken = after.shards.iter().filter(|(shard, owner)| owner.epoch > before[*shard].epoch).count();
    assert!(taken >= 4, "{taken} shards have a later epoch");

    b.shutdown.cancel();
    b.task.await.unwrap();
    assert_eq!(lease.look().await.unwrap().members.len(), 1, "who leaves says so");
    shared(&[&a], 12).await;

    // Another number of shards is refused while this one lives, and accepted after it.
    let misfit = Replica::start(&client, &table, "misfit", 5);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(misfit.has().is_empty());
    assert_eq!(a.has().len(), 12);
    a.shutdown.cancel();
    shared(&[&misfit], 5).await;
}
