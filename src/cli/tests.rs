use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Mutex;

use async_trait::async_trait;
use clap::CommandFactory as _;
use serde_json::{Value, json};

use super::*;
use crate::clock::TokioClock;
use crate::ports::{HistoryItem, Wishes};
use crate::records::ReleaseStatus;
use crate::records::status::Outcome;
use crate::store::HistoryPage;

const STATUS: &str = include_str!("../api/tests/status.json");
const SERVICE: &str = include_str!("../../docs/examples/managed-service.yaml");

/// Two tables in memory. Each look at the status moves on to the next prepared one.
#[derive(Default)]
struct Memory {
    records: BTreeMap<String, Value>,
    statuses: Vec<Value>,
    history: Vec<HistoryItem>,
    commands: Vec<Value>,
    /// What somebody writes in place of the `DesiredRelease` once the last status is shown.
    replacement: Option<Value>,
    /// Puts that still succeed; none: all.
    puts_left: Option<u32>,
}

#[derive(Default)]
struct Fake(Mutex<Memory>);

impl Fake {
    fn with(statuses: Vec<Value>) -> Self {
        Self(Mutex::new(Memory { statuses, ..Memory::default() }))
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap()
    }
}

fn down() -> StoreError {
    StoreError::Unavailable { action: "store the record", retry: true, source: "throttled".into() }
}

#[async_trait]
impl Desk for Fake {
    async fn wishes(&self, key: &ServiceKey) -> Result<Wishes, StoreError> {
        let memory = self.lock();
        let get = |kind: &str| memory.records.get(&format!("{kind} {key}")).cloned();
        Ok(Wishes { service: get("ManagedService"), desired: get("DesiredRelease"), commands: Vec::new() })
    }
    async fn status(&self, key: &ServiceKey) -> Result<Option<ReleaseStatus>, StoreError> {
        let mut memory = self.lock();
        let next = if memory.statuses.len() > 1 {
            if let Some(replacement) = memory.replacement.take() {
                memory.records.insert(format!("DesiredRelease {key}"), replacement);
            }
            memory.statuses.remove(0)
        } else {
            let Some(last) = memory.statuses.first() else { return Ok(None) };
            last.clone()
        };
        let read = serde_json::from_value(next).map(Some);
        read.map_err(|error| StoreError::Damaged { pk: key.to_string(), detail: error.to_string() })
    }
    async fn services(&self) -> Result<Vec<(ServiceKey, Option<ReleaseStatus>)>, StoreError> {
        let status = self.status(&"payments/checkout".parse().unwrap()).await?;
        Ok(vec![("search/query".parse().unwrap(), None), ("payments/checkout".parse().unwrap(), status)])
    }
    async fn ended(&self, _: &ServiceKey, _: u16, after: Option<&str>) -> Result<HistoryPage, StoreError> {
        // One item a page, so that pages are followed.
        let memory = self.lock();
        let index: usize = after.and_then(|after| after.parse().ok()).unwrap_or(0);
        let items: Vec<HistoryItem> = memory.history.iter().skip(index).take(1).cloned().collect();
        let more = index + 1 < memory.history.len();
        Ok(HistoryPage { items, next: more.then(|| (index + 1).to_string()) })
    }
    async fn put(&self, document: &Value) -> Result<(), RecordError> {
        let mut memory = self.lock();
        match &mut memory.puts_left {
            Some(0) => return Err(RecordError::Store(down())),
            Some(left) => *left -= 1,
            None => {}
        }
        let text = |pointer: &str| document.pointer(pointer).unwrap().as_str().unwrap();
        let key = format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
        memory.records.insert(key, document.clone());
        Ok(())
    }
    async fn delete(&self, key: &ServiceKey, kind: RecordKind) -> Result<bool, StoreError> {
        Ok(self.lock().records.remove(&format!("{} {key}", kind.as_str())).is_some())
    }
    async fn send(&self, _: &ServiceKey, command: &crate::records::Command) -> Result<String, StoreError> {
        self.lock().commands.push(serde_json::to_value(command).unwrap());
        Ok("01JD6Z6H1W0000000000000001".to_owned())
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What a command line came to: its exit code, its answer, and what was said beside it.
struct Came {
    code: u8,
    out: String,
    err: String,
}

async fn pointsman(desk: &Fake, line: &str) -> Came {
    let cli = Cli::try_parse_from(std::iter::once("pointsman").chain(line.split(' '))).unwrap();
    let (out, err) = (Shared::default(), Shared::default());
    let format = common_of(&cli.command).map_or(Format::Text, |common| common.output.output);
    let mut output =
        Output { out: Box::new(out.clone()), err: Box::new(err.clone()), format, colours: false };
    let clock = TokioClock::starting_at("2026-11-21T10:06:42Z".parse().unwrap());
    let code = match carry_out(&cli.command, desk, &clock, &mut output).await {
        Ok(code) => code,
        Err(error) => {
            let code = error.exit_code();
            output.remark(crate::telemetry::chain(&error)).unwrap();
            code
        }
    };
    Came { code, out: out.text(), err: err.text() }
}

fn status(change: impl FnOnce(&mut Value)) -> Value {
    let mut status: Value = serde_json::from_str(STATUS).unwrap();
    change(&mut status["status"]);
    status
}

/// Generation 42 is the newest request, and ended so.
fn ended(outcome: &str) -> Value {
    status(|status| {
        status["phase"] = "Settled".into();
        status["lastOutcome"] = json!({
            "release": "checkout-42.1", "outcome": outcome, "revision": "checkout:43",
            "requestId": "gha-9182736455-1", "reason": "Because", "message": "of this",
            "at": "2026-11-21T10:20:00Z"
        });
        status["observed"]["attempt"] = 1.into();
    })
}

/// A newer request, generation 43, under way.
fn newer() -> Value {
    status(|status| {
        status["observedGeneration"] = 43.into();
        status["observed"] = json!({
            "specHash": "sha256:other", "requestId": "gha-2", "taskDefinition": "checkout:44", "attempt": 1
        });
    })
}

fn item(generation: u64, outcome: Outcome, request_id: &str) -> HistoryItem {
    HistoryItem {
        generation,
        attempt: 1,
        release: format!("checkout-{generation}.1"),
        outcome,
        reason: "Superseded".to_owned(),
        message: "by generation 43".to_owned(),
        revision: "checkout:43".to_owned(),
        strategy: "fast".to_owned(),
        request_id: Some(request_id.to_owned()),
        spec_hash: format!("sha256:{request_id}"),
        takes_back: None,
        started_at: "2026-11-21T10:00:00Z".parse().unwrap(),
        ended_at: "2026-11-21T10:03:20Z".parse().unwrap(),
    }
}

fn file(name: &str, text: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("pointsman-cli-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("records.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

const RELEASE: &str = "apiVersion: pointsman/v1\nkind: DesiredRelease\nmetadata: {namespace: search, name: suggest}\n\
                       spec: {taskDefinition: \"suggest:7\", requestId: r1}\n";

#[test]
fn the_command_line_is_well_formed_and_refuses_nonsense_with_2() {
    Cli::command().debug_assert();
    for line in ["wait checkout", "get a/b -n c", "promote a/b --step 0", "history a/b --limit 0", "frob"] {
        let error = Cli::try_parse_from(std::iter::once("pointsman").chain(line.split(' '))).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
    assert_eq!(CliError::Usage(String::new()).exit_code(), 2);
    assert_eq!(CliError::Store(down()).exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_outcome_has_its_exit_code() {
    for (outcome, code) in [
        ("Succeeded", 0),
        ("RolledBack", 10),
        ("Failed", 11),
        ("Refused", 12),
        ("Superseded", 13),
        ("Halted", 14),
    ] {
        let desk = Fake::with(vec![ended(outcome)]);
        let came = pointsman(&desk, "wait payments/checkout --request-id gha-9182736455-1").await;
        assert_eq!(came.code, code);
        assert_eq!(came.out, format!("{outcome} checkout-42.1 (checkout:43): Because: of this\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_is_waited_for_and_told_about() {
    let under_way = status(|status| status["observed"]["attempt"] = 1.into());
    let desk = Fake::with(vec![under_way.clone(), under_way, ended("RolledBack")]);
    let came = pointsman(&desk, "wait payments/checkout --request-id gha-9182736455-1").await;
    assert_eq!(came.code, 10);
    assert_eq!(came.err.lines().count(), 1, "said once: {}", came.err);
    assert!(came.err.starts_with("Baking step 1 of 2: baking 10 %"), "{}", came.err);
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_an_earlier_attempt_is_not_taken_for_a_retry() {
    let retrying = status(|status| {
        status["observed"]["attempt"] = 2.into();
        status["lastOutcome"] = ended("Failed")["status"]["lastOutcome"].clone();
    });
    let desk = Fake::with(vec![retrying]);
    let came = pointsman(&desk, "wait payments/checkout --request-id gha-9182736455-1 --timeout 1m").await;
    assert_eq!(came.code, 15);
    assert!(came.err.contains("it is under way, Baking"), "{}", came.err);
}

#[tokio::test(start_paused = true)]
async fn a_newer_release_is_never_taken_for_ours() {
    let under_way = status(|status| status["observed"]["attempt"] = 1.into());
    let succeeded_later = {
        let mut later = newer();
        later["status"]["lastOutcome"] = json!({
            "release": "checkout-43.1", "outcome": "Succeeded", "revision": "checkout:44", "requestId": "gha-2",
            "reason": "Baked", "message": "done", "at": "2026-11-21T10:30:00Z"
        });
        later
    };
    let desk = Fake::with(vec![under_way, succeeded_later]);
    desk.lock().history = vec![item(43, Outcome::Succeeded, "gha-2"), item(42, Outcome::Superseded, "x")];
    let came = pointsman(&desk, "wait payments/checkout --request-id gha-9182736455-1").await;
    assert_eq!(came.code, 13, "{}", came.out);
}

#[tokio::test(start_paused = true)]
async fn an_old_request_is_found_in_the_history_and_an_unknown_one_times_out() {
    let desk = Fake::with(vec![newer()]);
    desk.lock().history =
        vec![item(42, Outcome::Superseded, "gha-1"), item(40, Outcome::RolledBack, "gha-0")];
    assert_eq!(pointsman(&desk, "wait payments/checkout --request-id gha-0").await.code, 10);
    let came = pointsman(&desk, "wait payments/checkout --request-id nobody --timeout 10s").await;
    assert_eq!(came.code, 15);
    assert!(came.err.contains("request nobody") && came.err.contains("has not taken it"), "{}", came.err);
}

/// An operator took this release back.
fn a_return(attempt: u32, takes_back: &str, outcome: Outcome) -> HistoryItem {
    HistoryItem {
        attempt,
        release: format!("checkout-42.{attempt}"),
        revision: "checkout:41".to_owned(),
        request_id: None,
        spec_hash: String::new(),
        takes_back: Some(takes_back.to_owned()),
        ..item(42, outcome, "")
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_taken_back_has_not_succeeded_and_one_that_serves_again_has() {
    let build = "gha-9182736455-1";
    let done = item(42, Outcome::Succeeded, build);
    let returned = a_return(2, "checkout-42.1", Outcome::Succeeded);
    let burnt = a_return(2, "checkout-42.1", Outcome::RolledBack);
    let forth = a_return(3, "checkout-42.2", Outcome::Succeeded);
    for (past, code, why) in [
        (
            vec![returned.clone(), done.clone()],
            10,
            "TakenBack: it had succeeded, and checkout-42.2 took it back",
        ),
        (vec![burnt, done.clone()], 0, "Superseded"),
        (vec![forth, returned.clone(), done.clone()], 0, "Superseded"),
        (vec![returned.clone(), item(42, Outcome::Failed, build)], 11, "Superseded"),
        (vec![returned, item(43, Outcome::Refused, "gha-9"), done], 10, "TakenBack"),
    ] {
        let last = past[0].clone();
        // Asked in the same generation, and when a newer request has come.
        for newest in [42, 43] {
            let shown = status(|status| {
                status["phase"] = "Settled".into();
                status["observedGeneration"] = newest.into();
                status["observed"]["attempt"] = if newest == 42 { last.attempt } else { 1 }.into();
                status["observed"]["requestId"] = if newest == 42 { build } else { "gha-2" }.into();
                status["lastOutcome"] = json!({
                    "release": last.release, "outcome": last.outcome, "revision": last.revision,
                    "takesBack": last.takes_back, "reason": last.reason, "message": last.message,
                    "at": "2026-11-21T10:20:00Z"
                });
            });
            let desk = Fake::with(vec![shown]);
            desk.lock().history = past.clone();
            let came = pointsman(&desk, &format!("wait payments/checkout --request-id {build}")).await;
            assert_eq!(came.code, code, "{}", came.out);
            assert!(came.out.contains("checkout-42.1") && came.out.contains(why), "{}", came.out);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_request_id_the_hash_of_the_record_counts() {
    let desk = Fake::default();
    let missing = pointsman(&desk, "wait search/suggest").await;
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("there is no DesiredRelease search/suggest"), "{}", missing.err);

    let path = file("hash", RELEASE);
    pointsman(&desk, &format!("apply -f {}", path.display())).await;
    let record = desk.lock().records["DesiredRelease search/suggest"].clone();
    let hash = crate::records::check::spec_hash(&record["spec"]);
    let mut done = ended("Succeeded");
    done["status"]["observed"]["specHash"] = hash.into();
    done["status"]["lastOutcome"]["release"] = "suggest-42.1".into();
    desk.lock().statuses = vec![newer(), newer(), done];
    assert_eq!(pointsman(&desk, "wait search/suggest --for-current").await.code, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_began_and_ended_unseen_is_found_by_its_hash_and_an_older_one_like_it_is_not() {
    let path = file("unseen", RELEASE);
    let desk = Fake::default();
    pointsman(&desk, &format!("apply -f {}", path.display())).await;
    let record = desk.lock().records["DesiredRelease search/suggest"].clone();
    let hash = crate::records::check::spec_hash(&record["spec"]);
    let mut other = record.clone();
    other["spec"]["taskDefinition"] = "suggest:9".into();
    let of_hash = |generation, outcome| {
        let mut item = item(generation, outcome, "gha-1");
        item.spec_hash.clone_from(&hash);
        item
    };
    let older = of_hash(40, Outcome::Succeeded);
    for (history, code) in [(vec![of_hash(44, Outcome::RolledBack), older.clone()], 10), (vec![older], 13)] {
        {
            let mut memory = desk.lock();
            memory.records.insert("DesiredRelease search/suggest".to_owned(), record.clone());
            memory.replacement = Some(other.clone());
            memory.statuses = vec![newer(), newer()];
            memory.history = history;
        }
        assert_eq!(pointsman(&desk, "wait search/suggest").await.code, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_halt_of_the_request_ends_the_wait() {
    let halted = status(|status| {
        status["phase"] = "Halted".into();
        status["observed"]["attempt"] = 1.into();
    });
    let came =
        pointsman(&Fake::with(vec![halted]), "wait payments/checkout --request-id gha-9182736455-1").await;
    assert_eq!(came.code, 14);
}

#[tokio::test]
async fn apply_says_created_then_unchanged_then_changed_and_writes_services_first() {
    let desk = Fake::default();
    let both = file("both", &format!("{RELEASE}---\n{SERVICE}"));
    let line = format!("apply -o json -f {}", both.display());
    let came = pointsman(&desk, &line).await;
    assert_eq!(came.code, 0, "{}", came.err);
    let answer: Value = serde_json::from_str(&came.out).unwrap();
    assert_eq!(answer[0]["kind"], "ManagedService");
    assert_eq!((&answer[0]["change"], &answer[1]["change"]), (&json!("created"), &json!("created")));
    let again: Value = serde_json::from_str(&pointsman(&desk, &line).await.out).unwrap();
    assert_eq!(again[1]["change"], "unchanged");
    let changed = file("changed", &RELEASE.replace(":7", ":8"));
    let came = pointsman(&desk, &format!("apply -f {}", changed.display())).await;
    assert_eq!(came.out, "DesiredRelease  search/suggest  changed\n");
}

#[tokio::test]
async fn one_bad_document_keeps_all_from_being_written() {
    let desk = Fake::default();
    let path = file("bad", &format!("{RELEASE}---\n{}", RELEASE.replace("spec:", "sepc:")));
    let came = pointsman(&desk, &format!("apply -f {}", path.display())).await;
    assert_eq!(came.code, 1);
    assert!(came.err.contains("nothing was written"), "{}", came.err);
    assert!(desk.lock().records.is_empty());
}

#[tokio::test]
async fn a_release_is_judged_by_the_service_in_the_table() {
    let desk = Fake::default();
    let service = file("service", SERVICE);
    pointsman(&desk, &format!("apply -f {}", service.display())).await;
    let other = file("other", &RELEASE.replace("suggest:7", "billing:7"));
    let came = pointsman(&desk, &format!("apply -f {}", other.display())).await;
    assert_eq!(came.code, 1, "{}", came.out);
    assert!(came.err.contains("ForeignTaskDefinition"), "{}", came.err);
    assert_eq!(desk.lock().records.len(), 1);
}

#[tokio::test]
async fn a_write_that_fails_in_the_middle_says_what_was_written() {
    let desk = Fake::default();
    desk.lock().puts_left = Some(1);
    let both = file("middle", &format!("{SERVICE}---\n{RELEASE}"));
    let came = pointsman(&desk, &format!("apply -f {}", both.display())).await;
    assert_eq!(came.code, 1);
    let expected =
        "failed at DesiredRelease search/suggest; written before it: ManagedService search/suggest";
    assert!(came.err.contains(expected), "{}", came.err);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_is_waited_for_and_said_to_wait_in_the_end() {
    let told = |verdict: &str, reason: &str| {
        let answer = json!([{
            "id": "01JD6Z6H1W0000000000000001", "verb": "breakGlass", "verdict": verdict, "reason": reason,
            "at": "2026-11-21T10:07:00Z"
        }]);
        status(move |status| status["commands"] = answer)
    };
    let waits = || told("Waiting", "cannot be read: p99");
    let desk = Fake::with(vec![status(|_| {}), waits(), told("Done", "set aside until OK once: p99")]);
    let came = pointsman(&desk, "break-glass payments/checkout").await;
    let expected = "break-glass checkout-42.1: done: set aside until OK once: p99\n";
    assert_eq!((came.code, came.out.as_str()), (0, expected));
    let desk = Fake::with(vec![status(|_| {}), waits()]);
    let came = pointsman(&desk, "break-glass payments/checkout").await;
    let expected = "break-glass checkout-42.1: waits: cannot be read: p99\n";
    assert_eq!((came.code, came.out.as_str()), (15, expected));
}

#[tokio::test(start_paused = true)]
async fn a_command_means_the_release_in_flight_and_tells_the_answer() {
    let answered = status(|status| {
        status["commands"] = json!([{
            "id": "01JD6Z6H1W0000000000000001", "verb": "abort", "verdict": "Done", "reason": "going back",
            "at": "2026-11-21T10:07:00Z"
        }]);
    });
    let desk = Fake::with(vec![status(|_| {}), answered]);
    let came = pointsman(&desk, "abort payments/checkout --by eve").await;
    assert_eq!((came.code, came.out.as_str()), (0, "abort checkout-42.1: done: going back\n"));
    assert_eq!(
        desk.lock().commands[0]["spec"],
        json!({"verb": "abort", "release": "checkout-42.1", "by": "eve"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_promotion_names_the_present_pause_or_asks_for_the_step() {
    let paused = status(|status| status["phase"] = "Paused".into());
    let desk = Fake::with(vec![paused]);
    let came = pointsman(&desk, "promote payments/checkout --timeout 0s --by eve").await;
    assert_eq!((came.code, came.out.as_str()), (0, "promote checkout-42.1 step 1: written\n"));
    let baking = Fake::with(vec![status(|_| {})]);
    let came = pointsman(&baking, "promote payments/checkout").await;
    assert_eq!(came.code, 2);
    assert!(baking.lock().commands.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_command_is_a_time_out_and_a_bad_one_is_not_sent() {
    let desk = Fake::with(vec![status(|_| {})]);
    assert_eq!(pointsman(&desk, "retry payments/checkout --by eve").await.code, 15);
    assert_eq!(desk.lock().commands[0]["spec"]["release"], "checkout-41.1", "what ended last is tried again");
    let came = pointsman(&desk, "abort payments/checkout --release billing-1.1").await;
    assert_eq!(came.code, 2, "{}", came.err);
    assert_eq!(desk.lock().commands.len(), 1);
}

#[tokio::test]
async fn get_lists_services_in_the_order_of_their_names() {
    let came = pointsman(&Fake::with(vec![status(|_| {})]), "get").await;
    insta::assert_snapshot!(came.out, @r"
    SERVICE            PHASE                       SERVING      RELEASING    WEIGHT  WAITING  UNTIL     LAST
    payments/checkout  Baking                      checkout:41  checkout:43  10 %    Bake     in 1m40s  Succeeded 17h46m ago
    search/query       not seen by the daemon yet
    ");
}

#[tokio::test]
async fn describe_tells_everything_on_one_page() {
    let desk = Fake::with(vec![status(|status| {
        status["waitingOn"]["otherwise"] = "all traffic goes back to checkout:41".into();
    })]);
    let came = pointsman(&desk, "describe payments/checkout").await;
    insta::assert_snapshot!(came.out, @r"
    payments/checkout  Baking
      why      baking 10 % on checkout:43; 1m40s of 5m left while all alarms are OK
      until    2026-11-21T10:08:22Z (in 1m40s)
      then     shift to 100 %
      else     2026-11-21T10:21:41Z (in 14m59s): all traffic goes back to checkout:41
      serving  checkout:41
      asked    checkout:43, request gha-9182736455-1 (generation 42)

    Release checkout-42.1
      strategy  fast
      started   2026-11-21T10:00:05Z (6m37s ago)
      from      checkout:41  group a  ecs-svc/5556667778889990001  scale 100 %
      to        checkout:43  group b  ecs-svc/5556667778889990002  scale 100 %
      step      1 of 2: 10 %, baked 3m20s of 5m
      tasks     6 desired, 6 at the start

    Traffic
      ROUTE           A     B      VERIFIED  READ
      public          90 %  10 %   yes       1s ago
      internal        90 %  10 %   yes       1s ago
      preview (test)  0 %   100 %  yes       1s ago

    Task sets
      ROLE       ID                           REVISION     GROUP  RUNNING  STEADY  LAST STOP
      stable     ecs-svc/5556667778889990001  checkout:41  a      6/6      yes     -
      candidate  ecs-svc/5556667778889990002  checkout:43  b      6/6      yes     -

    Alarms
      NAME            WATCHES  STATE  ARMED  CHANGED
      checkout-b-5xx  b        OK     yes    54m42s ago
      checkout-a-5xx  a        OK     no     -
      checkout-p99    service  OK     yes    -

    Conditions
      TYPE           STATUS  REASON           SINCE       MESSAGE
      Accepted       True    Valid            6m37s ago
      Progressing    True    Baking           3m21s ago
      RollbackArmed  True    StableRunning    6m36s ago
      InSync         True    WeightsVerified  3m21s ago
      CleanedUp      True    NothingLeft      56m42s ago

    Before
      last  Succeeded checkout-41.1 (checkout:41)  17h46m ago  Baked: 100 %, baked, PRIMARY
    ");
}

#[tokio::test]
async fn history_shows_how_long_each_release_took() {
    let desk = Fake::default();
    desk.lock().history = vec![item(42, Outcome::Superseded, "gha-1"), item(41, Outcome::Succeeded, "gha-0")];
    let came = pointsman(&desk, "history payments/checkout").await;
    insta::assert_snapshot!(came.out, @r"
    RELEASE        OUTCOME     REVISION     STRATEGY  TOOK   ENDED                             WHY
    checkout-42.1  Superseded  checkout:43  fast      3m20s  2026-11-21T10:03:20Z (3m22s ago)  Superseded: by generation 43
    ");
    assert!(came.err.contains("--after 1"), "{}", came.err);
}

#[tokio::test]
async fn machines_get_the_whole_document_in_json_and_yaml() {
    let desk = Fake::with(vec![status(|_| {})]);
    let json: Value =
        serde_json::from_str(&pointsman(&desk, "get payments/checkout -o json").await.out).unwrap();
    let yaml = pointsman(&desk, "describe payments/checkout -o yaml").await.out;
    let yaml: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(json["status"]["phase"], "Baking");
    assert_eq!(json, yaml);
}

#[tokio::test]
async fn a_service_that_is_not_there_says_what_to_do() {
    let came = pointsman(&Fake::default(), "describe payments/checkout").await;
    assert_eq!(came.code, 1);
    assert!(came.err.contains("there is no record of this name"), "{}", came.err);
}

#[tokio::test]
async fn deleting_says_whether_there_was_something() {
    let desk = Fake::default();
    let came = pointsman(&desk, "delete desired-release search/suggest").await;
    assert_eq!((came.code, came.out.as_str()), (0, "DesiredRelease search/suggest was not there\n"));
}

#[test]
fn foreign_text_cannot_touch_a_terminal() {
    let out = Shared::default();
    let mut output = Output {
        out: Box::new(out.clone()),
        err: Box::new(Shared::default()),
        format: Format::Text,
        colours: true,
    };
    output.table(0, &[vec![output::toned("a\u{1b}[2J", output::Tone::Bad), output::cell("b")]]).unwrap();
    assert_eq!(out.text(), "\u{1b}[31ma\\u{1b}[2J\u{1b}[0m  b\n");
}

#[test]
fn schemas_of_records_and_answers_are_printed_by_name() {
    let names: Vec<&str> = offline::all_schemas().iter().map(|(name, _)| *name).collect();
    assert!(
        names.contains(&"desired-release.v1.schema.json") && names.contains(&"api-services.v1.schema.json")
    );
}
