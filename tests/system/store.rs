use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use pointsman::model::Facts;
use pointsman::model::facts::COMMANDS_KEPT;
use pointsman::ports::{Clock, HistoryItem, Permit, StateWrite, Store, StoreError};
use pointsman::records::status::Outcome;
use pointsman::records::{Command, ReleaseStatus, ServiceKey};
use pointsman::store::{DynamoStore, RecordKind, Tables, stream, tables};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::dynamodb::{self, Trouble};

const OPERATION: Duration = Duration::from_secs(20);

/// Stands still, far enough ahead that no engine's time to live removes what the tests write.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        "2100-01-01T00:00:00Z".parse().unwrap()
    }
    fn monotonic_ms(&self) -> u64 {
        1_000
    }
}

struct Bench {
    endpoint: String,
    client: Client,
    tables: Tables,
    store: DynamoStore,
}

impl Bench {
    async fn new() -> Self {
        let endpoint = dynamodb::endpoint().await;
        let client = dynamodb::client(&endpoint);
        let unique = format!("{:032x}", rand::random::<u128>());
        let tables = Tables { records: format!("records-{unique}"), state: format!("state-{unique}") };
        tables::create_tables(&client, &tables).await.unwrap();
        let store = DynamoStore::new(client.clone(), tables.clone(), Arc::new(Still), OPERATION);
        Self { endpoint, client, tables, store }
    }

    /// A store whose SDK meets trouble when the test says so.
    fn troubled(&self, attempts: u32) -> (DynamoStore, Arc<Trouble>) {
        let trouble = Arc::new(Trouble::default());
        let client = dynamodb::troubled_client(&self.endpoint, Arc::clone(&trouble), attempts);
        (DynamoStore::new(client, self.tables.clone(), Arc::new(Still), OPERATION), trouble)
    }

    async fn put(&self, table: &str, item: &Value) {
        let item = serde_dynamo::to_item(item).unwrap();
        self.client.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    }

    async fn state_item(&self, service: &ServiceKey) -> Value {
        let answer = self
            .client
            .get_item()
            .table_name(&self.tables.state)
            .key("pk", AttributeValue::S(format!("state#{service}")))
            .key("sk", AttributeValue::S("current".to_owned()))
            .send()
            .await
            .unwrap();
        serde_dynamo::from_item(answer.item.unwrap()).unwrap()
    }

    /// Sets one attribute, given by its path.
    async fn change_state(&self, service: &ServiceKey, path: &str, value: AttributeValue) {
        let mut call = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .key("pk", AttributeValue::S(format!("state#{service}")))
            .key("sk", AttributeValue::S("current".to_owned()))
            .expression_attribute_values(":value", value);
        for name in path.split('.') {
            call = call.expression_attribute_names(format!("#{name}"), name);
        }
        let path = format!("#{}", path.replace('.', ".#"));
        call.update_expression(format!("SET {path} = :value")).send().await.unwrap();
    }
}

fn checkout() -> ServiceKey {
    "payments/checkout".parse().unwrap()
}

fn permit(epoch: u64) -> Permit {
    Permit::new(epoch, Arc::new(AtomicU64::new(u64::MAX)), Arc::new(Still))
}

fn status(phase: &str) -> ReleaseStatus {
    serde_json::from_value(json!({
        "apiVersion": "pointsman/v1", "kind": "ReleaseStatus",
        "metadata": {"namespace": "payments", "name": "checkout", "uid": "01JD6Z6H1W"},
        "status": {"observedGeneration": 1, "observed": {}, "phase": phase, "release": null, "traffic": [],
            "taskSets": [], "alarms": [], "waitingOn": null, "conditions": [], "lastOutcome": null,
            "quarantined": [], "retained": null, "commands": []}
    }))
    .unwrap()
}

fn write(rev: u64, generation: u64) -> StateWrite {
    let facts = Facts { uid: "01JD6Z6H1W".to_owned(), generation, ..Facts::default() };
    StateWrite {
        rev,
        facts,
        status: status("Settled"),
        claim: BTreeSet::new(),
        unclaim: BTreeSet::new(),
        ended: vec![],
    }
}

fn claiming(mut write: StateWrite, arns: &[&str]) -> StateWrite {
    write.claim = arns.iter().map(|arn| (*arn).to_owned()).collect();
    write.facts.claims.clone_from(&write.claim);
    write
}

fn desired(name: &str) -> Value {
    json!({"apiVersion": "pointsman/v1", "kind": "DesiredRelease",
        "metadata": {"namespace": "payments", "name": name}, "spec": {"taskDefinition": "checkout:43"}})
}

fn command(verb: &str) -> Command {
    serde_json::from_value(json!({"apiVersion": "pointsman/v1", "kind": "Command",
        "spec": {"verb": verb, "release": "checkout-42.1"}}))
    .unwrap()
}

#[tokio::test]
async fn tables_that_exist_are_left_as_they_are() {
    let bench = Bench::new().await;
    bench.store.put_record(&desired("checkout")).await.unwrap();
    tables::create_tables(&bench.client, &bench.tables).await.unwrap();
    assert!(bench.store.wishes(&checkout()).await.unwrap().desired.is_some());
}

#[tokio::test]
async fn records_are_listed_by_their_index_and_read_as_they_were_written() {
    let bench = Bench::new().await;
    let service = json!({"apiVersion": "pointsman/v1", "kind": "ManagedService",
        "metadata": {"namespace": "payments", "name": "checkout"},
        "spec": {"weight": 0.5, "list": ["x"], "nothing": {}, "suspend": false}});
    bench.store.put_record(&service).await.unwrap();
    bench.store.put_record(&desired("checkout")).await.unwrap();
    bench.store.put_record(&desired("cart")).await.unwrap();
    let records = &bench.tables.records;
    // Neither a foreign sort key nor a foreign partition key is a service.
    bench.put(records, &json!({"pk": "service#payments/odd", "sk": "spek", "kind": "ManagedService"})).await;
    bench.put(records, &json!({"pk": "service#payments", "sk": "spec", "kind": "ManagedService"})).await;

    let listed: Vec<String> = bench.store.list().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(listed, ["payments/cart", "payments/checkout"]);
    let wishes = bench.store.wishes(&checkout()).await.unwrap();
    assert_eq!(wishes.service, Some(service));
    assert_eq!(wishes.desired, Some(desired("checkout")));

    assert!(bench.store.delete_record(&checkout(), RecordKind::DesiredRelease).await.unwrap());
    assert!(!bench.store.delete_record(&checkout(), RecordKind::DesiredRelease).await.unwrap());
    assert_eq!(bench.store.wishes(&checkout()).await.unwrap().desired, None);
}

#[tokio::test]
async fn young_commands_are_read_oldest_first_and_unreadable_ones_say_why() {
    let bench = Bench::new().await;
    let records = &bench.tables.records;
    let stored = bench.store.put_command(&checkout(), &command("abort")).await.unwrap();
    let at = |hours_ago: u64| {
        let ms = u64::try_from(Still.now().as_millisecond()).unwrap() - hours_ago * 3_600_000;
        ulid::Ulid::from_parts(ms, 1).to_string()
    };
    for (id, verb) in [(at(1), "promote"), (at(3), "rollback"), (at(48), "retry")] {
        let mut item = serde_json::to_value(command(verb)).unwrap();
        item["pk"] = json!("command#payments/checkout");
        item["sk"] = json!(id);
        bench.put(records, &item).await;
    }
    // One sorts after every present ULID, the other among them.
    let odd = format!("{}-odd", &stored[..25]);
    for sk in ["soon", odd.as_str()] {
        bench.put(records, &json!({"pk": "command#payments/checkout", "sk": sk, "kind": "Command"})).await;
    }

    let commands = bench.store.wishes(&checkout()).await.unwrap().commands;
    let ids: Vec<&str> = commands.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, [&at(1), &odd, &stored]);
    assert_eq!(commands[1].1, Err("its sort key is not a ULID".to_owned()));
    assert_eq!(serde_json::to_value(&commands[2].1.as_ref().unwrap().spec).unwrap()["verb"], json!("abort"));
    assert!(commands[2].1.as_ref().unwrap().expire_at.is_some(), "they expire");
}

#[tokio::test]
async fn of_many_commands_the_newest_are_read_as_many_as_are_remembered() {
    let bench = Bench::new().await;
    for index in 0..104_u128 {
        let ms = u64::try_from(Still.now().as_millisecond()).unwrap();
        let mut item = serde_json::to_value(command("abort")).unwrap();
        item["pk"] = json!("command#payments/checkout");
        item["sk"] = json!(ulid::Ulid::from_parts(ms, index).to_string());
        bench.put(&bench.tables.records, &item).await;
    }
    let commands = bench.store.wishes(&checkout()).await.unwrap().commands;
    assert_eq!(commands.len(), COMMANDS_KEPT);
    assert!(commands.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(commands[COMMANDS_KEPT - 1].0.ends_with("37"), "103 in base 32: {:?}", commands.last());
}

#[tokio::test]
async fn a_state_is_written_on_the_revision_that_was_read_and_on_no_other() {
    let bench = Bench::new().await;
    assert_eq!(bench.store.remembered(&checkout()).await.unwrap(), None);
    assert_eq!(bench.store.write(&checkout(), write(0, 1), &permit(7)).await.unwrap(), 1);
    assert_eq!(bench.store.write(&checkout(), write(1, 2), &permit(7)).await.unwrap(), 2);
    let read = bench.store.remembered(&checkout()).await.unwrap().unwrap();
    assert_eq!((read.rev, read.facts, read.status), (2, write(0, 2).facts, Some(status("Settled"))));

    for stale in [0, 1, 3] {
        let answer = bench.store.write(&checkout(), write(stale, 9), &permit(7)).await;
        assert!(matches!(answer, Err(StoreError::Conflict { .. })), "{stale}: {answer:?}");
    }
    assert_eq!(bench.store.remembered(&checkout()).await.unwrap().unwrap().facts.generation, 2);
    assert_eq!(bench.store.get_status(&checkout()).await.unwrap(), Some(status("Settled")));
    let item = bench.state_item(&checkout()).await;
    assert_eq!((&item["format"], &item["minReader"], &item["epoch"]), (&json!(1), &json!(1), &json!(7)));
    assert_eq!(item["writtenBy"], json!(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_writer_of_an_older_epoch_cannot_write_over_a_newer_one() {
    let bench = Bench::new().await;
    bench.store.write(&checkout(), write(0, 1), &permit(8)).await.unwrap();
    let late = bench.store.write(&checkout(), write(1, 2), &permit(7)).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    let with_claims = claiming(write(1, 2), &["arn:one"]);
    let late = bench.store.write(&checkout(), with_claims, &permit(7)).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert_eq!(bench.store.write(&checkout(), write(1, 2), &permit(9)).await.unwrap(), 2);
}

#[tokio::test]
async fn nothing_is_sent_without_the_lease_or_when_too_little_of_it_is_left() {
    let bench = Bench::new().await;
    for until in [0, 1_000, 1_000 + u64::try_from(OPERATION.as_millis()).unwrap() - 1] {
        let short = Permit::new(7, Arc::new(AtomicU64::new(until)), Arc::new(Still));
        let answer = bench.store.write(&checkout(), write(0, 1), &short).await;
        assert!(matches!(answer, Err(StoreError::NoLease)), "{answer:?}");
    }
    assert_eq!(bench.store.remembered(&checkout()).await.unwrap(), None);
}

#[tokio::test]
async fn of_writers_on_the_same_revision_exactly_one_succeeds() {
    let bench = Bench::new().await;
    for round in 0..5 {
        let writers = (0..8).map(|writer| {
            let store = bench.store.clone();
            tokio::spawn(async move {
                let mut one = write(round, writer);
                if writer % 2 == 0 {
                    one = claiming(one, &["arn:one"]);
                }
                store.write(&checkout(), one, &permit(7)).await
            })
        });
        let mut landed = 0;
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.unwrap() {
                Ok(rev) => {
                    assert_eq!(rev, round + 1);
                    landed += 1;
                }
                // The second: two transactions met, and the answer is to come back.
                Err(StoreError::Conflict { .. } | StoreError::Unavailable { retry: true, .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(landed, 1);
    }
}

#[tokio::test]
async fn what_a_newer_daemon_remembers_is_kept_by_an_older_one_that_may_write() {
    let bench = Bench::new().await;
    bench.store.write(&checkout(), write(0, 1), &permit(7)).await.unwrap();
    bench.change_state(&checkout(), "facts.novelty", AttributeValue::S("x".into())).await;
    bench.change_state(&checkout(), "format", AttributeValue::N("2".into())).await;
    assert_eq!(bench.store.remembered(&checkout()).await.unwrap().unwrap().facts, write(0, 1).facts);
    bench.store.write(&checkout(), write(1, 2), &permit(7)).await.unwrap();
    let item = bench.state_item(&checkout()).await;
    assert_eq!(item["facts"]["novelty"], json!("x"));
    assert_eq!(item["facts"]["generation"], json!(2));
    assert_eq!(item["format"], json!(2), "an older daemon lowers nothing");
}

#[tokio::test]
async fn a_state_that_asks_for_a_newer_reader_or_is_damaged_is_not_guessed_at() {
    let bench = Bench::new().await;
    bench.store.write(&checkout(), write(0, 1), &permit(7)).await.unwrap();
    bench.change_state(&checkout(), "minReader", AttributeValue::N("2".into())).await;
    let answer = bench.store.remembered(&checkout()).await;
    assert!(matches!(answer, Err(StoreError::TooNew { min_reader: 2, mine: 1, .. })), "{answer:?}");
    // People still get the status.
    assert_eq!(bench.store.get_status(&checkout()).await.unwrap(), Some(status("Settled")));

    bench.change_state(&checkout(), "minReader", AttributeValue::N("1".into())).await;
    bench.change_state(&checkout(), "facts.generation", AttributeValue::S("one".into())).await;
    let answer = bench.store.remembered(&checkout()).await;
    assert!(matches!(answer, Err(StoreError::Damaged { ref pk, .. }) if pk == "state#payments/checkout"));
}

#[tokio::test]
async fn a_resource_belongs_to_one_service_until_it_is_given_up() {
    let bench = Bench::new().await;
    let cart: ServiceKey = "payments/cart".parse().unwrap();
    let arns = ["arn:rule", "arn:group-a"];
    bench.store.write(&checkout(), claiming(write(0, 1), &arns), &permit(7)).await.unwrap();

    let taken = bench.store.write(&cart, claiming(write(0, 1), &["arn:other", "arn:rule"]), &permit(7)).await;
    let Err(StoreError::ClaimTaken { arn, owner }) = taken else { panic!("{taken:?}") };
    assert_eq!((arn.as_str(), owner.as_str()), ("arn:rule", "payments/checkout"));
    assert_eq!(bench.store.remembered(&cart).await.unwrap(), None, "all or nothing");
    // Claiming again what is already ours is no conflict.
    bench.store.write(&checkout(), claiming(write(1, 1), &arns), &permit(7)).await.unwrap();

    let mut leaving = write(2, 1);
    leaving.unclaim = ["arn:rule", "arn:group-a", "arn:never-claimed"].map(str::to_owned).into();
    bench.store.write(&checkout(), leaving, &permit(7)).await.unwrap();
    bench.store.write(&cart, claiming(write(0, 1), &["arn:other", "arn:rule"]), &permit(7)).await.unwrap();

    // Giving up what another owns by now leaves it alone, and the state is written all the same.
    let mut late = write(3, 2);
    late.unclaim = ["arn:rule", "arn:group-a"].map(str::to_owned).into();
    assert_eq!(bench.store.write(&checkout(), late, &permit(7)).await.unwrap(), 4);
    let taken = bench.store.write(&checkout(), claiming(write(4, 2), &["arn:rule"]), &permit(7)).await;
    assert!(matches!(taken, Err(StoreError::ClaimTaken { owner, .. }) if owner == "payments/cart"));
}

#[tokio::test]
async fn a_claimed_service_without_any_record_is_still_listed_and_a_tombstone_is_not() {
    let bench = Bench::new().await;
    bench.store.write(&checkout(), claiming(write(0, 1), &["arn:rule"]), &permit(7)).await.unwrap();
    assert_eq!(bench.store.list().await.unwrap(), BTreeSet::from([checkout()]));
    let mut leaving = write(1, 1);
    leaving.unclaim = BTreeSet::from(["arn:rule".to_owned()]);
    bench.store.write(&checkout(), leaving, &permit(7)).await.unwrap();
    assert_eq!(bench.store.list().await.unwrap(), BTreeSet::new());
    assert_eq!(bench.store.remembered(&checkout()).await.unwrap().unwrap().facts.uid, "01JD6Z6H1W");
}

#[tokio::test]
async fn history_is_read_newest_first_page_by_page() {
    let bench = Bench::new().await;
    for generation in 1..=5_u64 {
        let mut ending = write(generation - 1, generation);
        ending.ended = vec![HistoryItem {
            generation,
            attempt: 1,
            release: format!("checkout-{generation}.1"),
            outcome: Outcome::Succeeded,
            reason: "Completed".to_owned(),
            message: String::new(),
            revision: "checkout:43".to_owned(),
            strategy: "fast".to_owned(),
            request_id: None,
            spec_hash: "sha256:41".to_owned(),
            takes_back: None,
            started_at: Still.now(),
            ended_at: Still.now(),
        }];
        bench.store.write(&checkout(), ending, &permit(7)).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    for _ in 0..4 {
        let page = bench.store.history(&checkout(), 2, after.as_deref()).await.unwrap();
        seen.extend(page.items.iter().map(|item| item.generation));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
    let listed = bench.store.list_services().await.unwrap();
    assert_eq!(listed, [], "history alone is no service");
    bench.store.put_record(&desired("checkout")).await.unwrap();
    assert_eq!(bench.store.list_services().await.unwrap(), [(checkout(), Some(status("Settled")))]);
}

/// With and without claims: a plain update and a transaction.
fn both_ways(rev: u64) -> [StateWrite; 2] {
    [write(rev, 5), claiming(write(rev + 1, 6), &["arn:rule"])]
}

#[tokio::test]
async fn a_write_that_landed_but_whose_answer_was_lost_is_recognised() {
    let bench = Bench::new().await;
    // Once with the SDK's retry, which meets its own write; once without, where the item is read back.
    for (round, attempts) in [3, 1].into_iter().enumerate() {
        let (store, trouble) = bench.troubled(attempts);
        for one in both_ways(2 * round as u64) {
            let rev = one.rev;
            trouble.lose_answers.store(1, Ordering::SeqCst);
            assert_eq!(store.write(&checkout(), one, &permit(7)).await.unwrap(), rev + 1);
            assert_eq!(trouble.lose_answers.load(Ordering::SeqCst), 0, "the answer was lost");
            assert_eq!(bench.store.remembered(&checkout()).await.unwrap().unwrap().rev, rev + 1);
        }
    }
}

#[tokio::test]
async fn a_write_that_never_left_or_whose_fate_is_unreadable_may_be_tried_again() {
    let bench = Bench::new().await;
    let (store, trouble) = bench.troubled(1);
    for one in both_ways(0) {
        trouble.lose_requests.store(1, Ordering::SeqCst);
        let answer = store.write(&checkout(), one.clone(), &permit(7)).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { retry: true, .. })), "{answer:?}");
        let rev = bench.store.remembered(&checkout()).await.unwrap().map_or(0, |state| state.rev);
        assert_eq!(rev, one.rev, "nothing was written");

        // The answer and the look at what became of it are lost: nobody knows, so nobody says yes.
        trouble.lose_answers.store(2, Ordering::SeqCst);
        let answer = store.write(&checkout(), one.clone(), &permit(7)).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { retry: true, .. })), "{answer:?}");
        // The caller's next try meets its own earlier write as a conflict, and reads.
        let answer = store.write(&checkout(), one.clone(), &permit(7)).await;
        assert!(matches!(answer, Err(StoreError::Conflict { .. })), "{answer:?}");
        assert_eq!(bench.store.remembered(&checkout()).await.unwrap().unwrap().rev, one.rev + 1);
    }
}

#[tokio::test]
async fn a_missing_table_is_named_with_what_to_do() {
    let bench = Bench::new().await;
    let tables = Tables { records: "nowhere".to_owned(), state: "nowhere-either".to_owned() };
    let store = DynamoStore::new(bench.client.clone(), tables, Arc::new(Still), OPERATION);
    for error in [
        store.list().await.unwrap_err(),
        store.wishes(&checkout()).await.unwrap_err(),
        store.write(&checkout(), write(0, 1), &permit(7)).await.unwrap_err(),
        store.write(&checkout(), claiming(write(0, 1), &["arn:x"]), &permit(7)).await.unwrap_err(),
    ] {
        let StoreError::Unavailable { retry: false, source, .. } = error else { panic!("{error:?}") };
        let words = source.to_string();
        assert!(words.contains("table nowhere") && words.contains("deploy/"), "{words}");
    }
}

#[tokio::test]
async fn a_document_that_names_no_service_is_not_stored() {
    let bench = Bench::new().await;
    for (document, field) in [
        (json!({"kind": "Deployment"}), "kind"),
        (json!({"kind": "Command"}), "kind"),
        (json!({"kind": "DesiredRelease", "metadata": {"name": "checkout"}}), "metadata.namespace"),
        (json!({"kind": "DesiredRelease", "metadata": {"namespace": "a", "name": "B*"}}), "metadata"),
    ] {
        let error = bench.store.put_record(&document).await.unwrap_err().to_string();
        assert!(error.contains(&format!("no usable {field}:")), "{error}");
    }
    assert_eq!(bench.store.list().await.unwrap(), BTreeSet::new());
}

#[tokio::test]
async fn the_stream_wakes_whose_records_changed() {
    let bench = Bench::new().await;
    let (sender, mut changed) = mpsc::channel(16);
    let shutdown = CancellationToken::new();
    let follow = tokio::spawn(stream::follow(
        bench.client.clone(),
        dynamodb::streams(&bench.endpoint),
        bench.tables.records.clone(),
        Duration::from_millis(250),
        sender,
        shutdown.clone(),
    ));
    // It begins at the stream's end, at a time that only it knows: write until it has seen one.
    let mut woken = None;
    for _ in 0..60 {
        bench.store.put_record(&desired("checkout")).await.unwrap();
        bench.put(&bench.tables.records, &json!({"pk": "not-ours", "sk": "x"})).await;
        if let Ok(service) = tokio::time::timeout(Duration::from_millis(500), changed.recv()).await {
            woken = service;
            break;
        }
        bench.store.delete_record(&checkout(), RecordKind::DesiredRelease).await.unwrap();
    }
    assert_eq!(woken, Some(checkout()));
    bench.store.put_command(&"payments/cart".parse().unwrap(), &command("abort")).await.unwrap();
    let cart = async {
        while let Some(service) = changed.recv().await {
            if service.name() == "cart" {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), cart).await.unwrap());
    shutdown.cancel();
    follow.await.unwrap();
}
