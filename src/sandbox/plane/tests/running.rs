//! Tasks and health checks.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::super::health::ProbeResult;
use super::*;
use crate::world::{ProbeCheck, ProbeOrder};

#[tokio::test]
async fn a_task_that_crashes_on_boot_is_reported_once_with_its_exit_code_and_not_started_again() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    bench.order("crash", "web:1", &[("CRASH_ON_BOOT", "3")]);
    let (exit_code, reason) = bench.stopped().await;
    assert_eq!(exit_code, Some(3), "{reason}");
    // The model may not have heard of it yet and repeats its order: the next event is another task's.
    bench.run_task("next", "web:1", &[]).await;
    bench.end().await;
}

#[tokio::test]
async fn a_fault_that_cannot_be_understood_stops_the_task_with_the_variables_name() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    bench.order("typo", "web:1", &[("ERROR_RATE", "lots")]);
    let (exit_code, reason) = bench.stopped().await;
    assert_eq!(exit_code, None);
    assert!(reason.contains("ERROR_RATE") && reason.contains("lots"), "{reason}");
    bench.end().await;
}

#[tokio::test]
async fn a_task_crashes_later_and_a_task_stopped_before_its_start_is_reported_too() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    bench.run_task("later", "web:1", &[("CRASH_AFTER", "20ms")]).await;
    assert_eq!(bench.stopped().await.0, Some(1));
    bench.order("waiting", "web:1", &[("START_DELAY", "1h"), ("ERROR_RATE", "1")]);
    assert_eq!(bench.stopped().await.0, None, "an hour is written as 60m");
    bench.order("slow", "web:1", &[("START_DELAY", "60m")]);
    bench.stop_task("slow");
    bench.stopped().await;
    bench.end().await;
}

#[tokio::test]
async fn the_demo_app_names_its_revision_and_fails_as_often_as_it_is_told() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let address = bench.run_task("t1", "web:7", &[("ERROR_RATE", "100")]).await;
    let mut browser = Browser::connect(address.port).await;
    let failed = browser.get("/").await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!((failed.header("x-revision"), failed.header("x-task")), ("web:7", "t1"));
    let body: serde_json::Value = serde_json::from_slice(&failed.body).unwrap();
    assert_eq!(body["revision"], "web:7");
    assert_eq!(browser.get("/healthz").await.status, StatusCode::OK, "health is its own fault");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_is_finished_when_its_task_is_stopped() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let address = bench.run_task("t1", "web:1", &[("LATENCY", "300ms")]).await;
    let mut browser = Browser::connect(address.port).await;
    let request = tokio::spawn(async move { browser.get("/").await });
    // Only a request that is already being served can be in flight: give it its way there.
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.stop_task("t1");
    assert_eq!(request.await.unwrap().status, StatusCode::OK);
    assert_eq!(bench.stopped().await.0, Some(0));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, address.port)).await.is_err(), "it listens no more");
    bench.end().await;
}

fn shell(script: &str) -> TaskOrder {
    TaskOrder {
        task: "task/local".to_owned(),
        revision: "web:1".to_owned(),
        container: "web".to_owned(),
        image: "local:shell".to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: BTreeMap::from([("GREETING".to_owned(), "hi".to_owned())]),
        container_port: 80,
        run: true,
    }
}

#[tokio::test]
async fn a_local_command_is_run_with_its_environment_and_its_exit_code_reported() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    bench.put("local", shell("test \"$GREETING\" = hi && test \"$PORT\" -gt 0 && exit 7; exit 1"));
    let (exit_code, reason) = bench.stopped().await;
    assert_eq!(exit_code, Some(7), "{reason}");
    let mut nothing = shell("");
    nothing.task = "task/nothing".to_owned();
    nothing.command.clear();
    bench.put("nothing", nothing);
    assert!(bench.stopped().await.1.contains("command"));
    bench.end().await;
}

/// Not a test of its own: the local command of the next test, which is this test program again.
#[test]
#[ignore = "runs as a child process of another test"]
fn serve_until_terminated() {
    let Ok(port) = std::env::var("PORT") else { return };
    let socket = std::net::TcpListener::bind(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
    for stream in socket.incoming() {
        let mut stream = stream.unwrap();
        // The readiness check connects and sends nothing.
        if stream.read(&mut [0; 1024]).unwrap_or(0) > 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-revision: local\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    }
}

#[tokio::test]
async fn a_local_command_takes_requests_on_its_port_until_sigterm() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let mut order = shell("");
    let this_program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let child = "sandbox::plane::tests::running::serve_until_terminated";
    order.command = vec![this_program, "--ignored".to_owned(), "--exact".to_owned(), child.to_owned()];
    bench.put("local", order);
    let address = match bench.task_event().await {
        TaskEvent::Started { address, .. } => address,
        stopped @ TaskEvent::Stopped { .. } => panic!("the command should be serving: {stopped:?}"),
    };
    assert_eq!(Browser::connect(address.port).await.get("/").await.header("x-revision"), "local");
    bench.stop_task("local");
    // 128 + SIGTERM
    assert_eq!(bench.stopped().await.0, Some(143));
    bench.end().await;
}

#[tokio::test]
async fn a_local_command_that_never_listens_is_ended_and_shutdown_reaps_the_rest() {
    let settings = PlaneSettings { start_timeout: Duration::from_millis(50), ..PlaneSettings::default() };
    let mut bench = Bench::start(settings).await;
    bench.put("local", shell("exec sleep 600"));
    let (exit_code, reason) = bench.stopped().await;
    assert!(exit_code == Some(143) && reason.contains("PORT"), "{exit_code:?} {reason}");
    bench.end().await;

    let mut bench = Bench::start(PlaneSettings::default()).await;
    let folder = scratch_folder();
    let mut order = shell("echo $$ > \"$MARK\"; exec sleep 600");
    order.environment.insert("MARK".to_owned(), folder.join("pids").to_str().unwrap().to_owned());
    bench.put("local", order);
    let pids = pids_in(&folder.join("pids")).await;
    bench.end().await;
    assert!(!Path::new(&format!("/proc/{}", pids[0])).exists(), "reaped at shutdown");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Waits for a script to write its process ids.
async fn pids_in(mark: &Path) -> Vec<String> {
    let written = async {
        loop {
            match std::fs::read_to_string(mark) {
                Ok(pids) if pids.ends_with('\n') => return pids,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(PATIENCE, written).await.unwrap().split_whitespace().map(str::to_owned).collect()
}

/// Waits for a process to end. Whoever adopted it reaps it; until then it is at most a zombie.
async fn gone(pid: &str) {
    let ended = async {
        loop {
            let child = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if child.is_empty() || child.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the command's own child ends with it");
}

fn scratch_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("plane-{}", ulid::Ulid::generate()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

#[tokio::test]
async fn a_local_command_that_ends_by_itself_leaves_no_process_behind() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let folder = scratch_folder();
    let mut order = shell("sleep 600 & echo $! > \"$MARK\"; exit 7");
    order.environment.insert("MARK".to_owned(), folder.join("pids").to_str().unwrap().to_owned());
    bench.put("local", order);
    assert_eq!(bench.stopped().await.0, Some(7));
    gone(&pids_in(&folder.join("pids")).await[0]).await;
    std::fs::remove_dir_all(&folder).unwrap();
    bench.end().await;
}

#[tokio::test]
async fn a_local_command_that_ignores_sigterm_is_killed_and_reaped_with_its_children() {
    let settings = PlaneSettings { stop_timeout: Duration::from_millis(200), ..PlaneSettings::default() };
    let mut bench = Bench::start(settings).await;
    let folder = scratch_folder();
    let mark = folder.join("pids");
    let script = "trap '' TERM; sleep 600 & echo $$ $! > \"$MARK.new\"; mv \"$MARK.new\" \"$MARK\"; wait; wait; sleep 600";
    let mut order = shell(script);
    order.environment.insert("MARK".to_owned(), mark.to_str().unwrap().to_owned());
    bench.put("local", order);
    let pids = pids_in(&mark).await;
    bench.stop_task("local");
    assert_eq!(bench.stopped().await.0, Some(137));
    assert!(!Path::new(&format!("/proc/{}", pids[0])).exists(), "the command is reaped");
    gone(&pids[1]).await;
    std::fs::remove_dir_all(&folder).unwrap();
    bench.end().await;
}

impl Bench {
    async fn probe_until(&mut self, wanted: impl Fn(&ProbeResult) -> bool) -> ProbeResult {
        let search = async {
            loop {
                if let PlaneEvent::Probe(result) = self.event().await
                    && wanted(&result)
                {
                    return result;
                }
            }
        };
        timeout(PATIENCE, search).await.expect("the awaited health check result")
    }
}

#[tokio::test]
async fn health_checks_see_a_task_turn_unhealthy_and_then_disappear() {
    let mut bench = Bench::start(PlaneSettings { speed: 100.0, ..PlaneSettings::default() }).await;
    let target = bench.run_task("t1", "web:1", &[("UNHEALTHY", "after=300ms")]).await;
    let order = ProbeOrder {
        group: "group".to_owned(),
        target: target.clone(),
        check: ProbeCheck::Http { path: "/healthz?deep=1".to_owned(), matcher: vec![(200, 299)] },
        interval_ms: 5000,
        timeout_ms: 2000,
    };
    bench.plane.sync_probes(vec![order]);
    let well = bench.probe_until(|result| result.healthy).await;
    assert_eq!((well.group.as_str(), &well.target, well.detail.as_str()), ("group", &target, ""));
    let sick = bench.probe_until(|result| !result.healthy).await;
    assert_eq!(sick.detail, "Health checks failed with these codes: [500]");
    bench.stop_task("t1");
    bench.probe_until(|result| result.detail == "Health checks failed").await;
    bench.plane.sync_probes(Vec::new());
    bench.end().await;
}

#[tokio::test]
async fn a_health_check_that_waits_comes_sooner_when_the_clock_is_made_faster() {
    let mut bench = Bench::start(PlaneSettings::default()).await;
    let target = bench.run_task("t1", "web:1", &[]).await;
    let order = ProbeOrder {
        group: "group".to_owned(),
        target,
        check: ProbeCheck::Connect,
        // Half an hour: it would not come within the patience of this test.
        interval_ms: 1_800_000,
        timeout_ms: 2_000,
    };
    bench.plane.sync_probes(vec![order]);
    bench.probe_until(|result| result.healthy).await;
    bench.plane.set_speed(100_000);
    bench.probe_until(|result| result.healthy).await;
    bench.probe_until(|result| result.healthy).await;
    bench.end().await;
}
