//! One run of one scenario: processes that really run `controller::run`, in virtual time, on one thread.
//!
//! Real: the whole loop with its queue, lanes, deadlines and panics, and the shipped `decide`, `settle`, `explain` and
//! readers of records. Faked: the lease (a process is granted the next epoch when it starts; without the table it runs
//! out, as `store::lease` has it) and the stream.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::LocalKey;

use pointsman_core::controller::inputs::{Core, Read};
use pointsman_core::controller::reconcile::Reconciler;
use pointsman_core::controller::{self, Controller, Heartbeat, Snapshot, Timing};
use pointsman_core::decide::safety::{Violation, violations};
use pointsman_core::decide::{self, Decision, Input, Limits};
use pointsman_core::lease::{Shard, ShardCount};
use pointsman_core::ports::{Clock, EmergencyPermit, Permit, Permits};
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::{self, DesiredReleaseSpec, ServiceKey, Span};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::OPERATION;
use super::fault::Op;
use super::log::{Entry, What};
use super::ports::Ports;
use super::script::{self, Scenario};
use super::world::{Base, Planned, Signal, World, key};

/// From a process's death until another one has its lease: the time to live, and a little.
const FAILOVER: Span = Span::from_secs(21);
/// What is left of a lease when its table can no longer be reached: the time to live of 15 s without the margin, from a
/// beat that was answered just before.
pub const LEFT: Span = Span::from_secs(13);
/// How long everything must have been still before a run counts as ended: four looks of an idle service.
const STILL: Span = Span::from_secs(270);
/// How often the runner looks up.
const LOOK: Span = Span::from_secs(1);
/// And while everything is still: what happens then begins in a call, and `moves` counts it.
const LOOK_WHILE_STILL: Span = Span::from_secs(10);
/// No run may take longer. The longest hang (5 min), failover, long quiet waits and all deadlines fit.
const LONGEST: Span = Span::from_mins(30);
const POLL: Span = Span::from_secs(2);

/// What became of one run.
pub struct Outcome {
    /// Everything that happened.
    pub log: Vec<Entry>,
    /// What each call was.
    pub ops: Vec<Op>,
    /// How many calls there had been at each step of the script.
    pub steps_at: Vec<usize>,
    /// Passes.
    pub ticks: u32,
    /// Virtual time until nothing was left to do; none when it never came to that.
    pub settled_ms: Option<u64>,
    /// How releases ended.
    pub ended: Vec<(records::status::Outcome, String)>,
    /// What it left.
    pub base: Base,
    /// Panics and decisions that the second opinion refused.
    pub complaints: Vec<String>,
}

thread_local! {
    static COMPLAINTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes down what went wrong inside the shipped code.
pub fn complain(what: String) {
    COMPLAINTS.with_borrow_mut(|complaints| complaints.push(what));
}

fn second_opinion(input: &Input<'_>, decision: &Decision) -> Vec<Violation> {
    let found = violations(input, decision);
    for violation in &found {
        complain(format!("the second opinion refuses: {violation}"));
    }
    found
}

/// The last item that a thread read as a record, and what it was read as.
type Last<T> = RefCell<Option<(serde_json::Value, Read<T>)>>;

thread_local! {
    static SERVICE: Last<ManagedServiceSpec> = const { RefCell::new(None) };
    static DESIRED: Last<DesiredReleaseSpec> = const { RefCell::new(None) };
}

/// The shipped reader, not asked again for the very same item: a fifth of the time of a run otherwise.
#[expect(clippy::result_large_err, reason = "the shape of the reader that it stands before")]
fn read_service(key: &ServiceKey, item: &serde_json::Value) -> Read<ManagedServiceSpec> {
    again(&SERVICE, item, || records::check::read_service(key, item))
}

/// As above.
#[expect(clippy::result_large_err, reason = "the shape of the reader that it stands before")]
pub fn read_desired(key: &ServiceKey, item: &serde_json::Value) -> Read<DesiredReleaseSpec> {
    again(&DESIRED, item, || records::check::read_desired(key, item))
}

#[expect(clippy::result_large_err, reason = "the shape of the reader that it stands before")]
fn again<T: Clone>(
    last: &'static LocalKey<Last<T>>,
    item: &serde_json::Value,
    read: impl FnOnce() -> Read<T>,
) -> Read<T> {
    last.with_borrow_mut(|last| match last {
        Some((known, answer)) if known == item => answer.clone(),
        _ => {
            let answer = read();
            *last = Some((item.clone(), answer.clone()));
            answer
        }
    })
}

const CORE: Core = Core {
    decide: decide::decide,
    settle: decide::settle,
    explain: decide::explain::status,
    read_service,
    read_desired,
    plan_to_observe: decide::plan_to_observe,
    violations: second_opinion,
};

/// Runs `scenario` from `base` with `faults`.
pub fn run(base: &Base, scenario: &Scenario, faults: &[Planned]) -> anyhow::Result<Outcome> {
    COMPLAINTS.take();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(async {
        let (signals, heard) = mpsc::unbounded_channel();
        let world = World::new(base, scenario, faults, signals);
        let settled_ms = Runner::new(Arc::clone(&world), heard).run().await;
        let mut inner = world.inner();
        let ended = script::ended(&inner).into_iter().map(|(_, outcome, reason)| (outcome, reason)).collect();
        let mut left = inner.base.clone();
        left.at = world.clock.now();
        Outcome {
            log: std::mem::take(&mut inner.log),
            ops: std::mem::take(&mut inner.ops),
            steps_at: std::mem::take(&mut inner.steps_at),
            ticks: inner.ticks,
            settled_ms,
            ended,
            base: left,
            complaints: COMPLAINTS.take(),
        }
    }))
}

/// A process.
struct Process {
    epoch: u64,
    valid_until_ms: Arc<AtomicU64>,
    /// What a way back without the lease rests on; there while the lease has lapsed.
    lapsed: Option<Arc<AtomicBool>>,
    permits: watch::Sender<Permits>,
    hints: mpsc::Sender<ServiceKey>,
    task: JoinHandle<()>,
    _shown: watch::Receiver<Arc<Snapshot>>,
}

impl Process {
    /// The one place that knows how a lease is granted. A permit that ran out never becomes valid again: each has a cell
    /// of its own.
    fn grant(&mut self, clock: &Arc<dyn Clock>) {
        self.valid_until_ms = Arc::new(AtomicU64::new(u64::MAX));
        let permit = Permit::new(self.epoch, Arc::clone(&self.valid_until_ms), Arc::clone(clock));
        self.permits.send_replace(held(BTreeMap::from([(Shard(0), permit)])));
    }

    fn revoke(&mut self) {
        self.reached();
        self.valid_until_ms.store(0, Ordering::SeqCst);
        self.permits.send_replace(held(BTreeMap::new()));
    }

    /// The lease runs out while its table cannot be reached.
    fn lapse(&mut self) {
        self.valid_until_ms.store(0, Ordering::SeqCst);
        let stands = Arc::new(AtomicBool::new(true));
        let permit = EmergencyPermit::new(self.epoch, Arc::clone(&stands));
        self.lapsed = Some(stands);
        let lapsed = BTreeMap::from([(Shard(0), permit)]);
        self.permits.send_replace(Permits { lapsed, ..held(BTreeMap::new()) });
    }

    /// The table has answered; whether the lease had lapsed.
    fn reached(&mut self) -> bool {
        let stood = self.lapsed.take();
        if let Some(stands) = &stood {
            stands.store(false, Ordering::SeqCst);
        }
        stood.is_some()
    }
}

/// One shard, so that a process holds everything or nothing.
const fn held(held: BTreeMap<Shard, Permit>) -> Permits {
    Permits { shards: ShardCount::ONE, held, lapsed: BTreeMap::new() }
}

/// What is to happen at a point in time.
enum Later {
    Start,
    Revoke(u32),
    Lapse(u32),
    Hint,
}

struct Runner {
    world: Arc<World>,
    heard: mpsc::UnboundedReceiver<Signal>,
    processes: BTreeMap<u32, Process>,
    agenda: Vec<(u64, Later)>,
    still_since_ms: Option<u64>,
    seen: usize,
}

impl Runner {
    fn new(world: Arc<World>, heard: mpsc::UnboundedReceiver<Signal>) -> Self {
        Self { world, heard, processes: BTreeMap::new(), agenda: Vec::new(), still_since_ms: None, seen: 0 }
    }

    fn now_ms(&self) -> u64 {
        self.world.clock.monotonic_ms()
    }

    /// When nothing was left to do; none when that never came.
    async fn run(mut self) -> Option<u64> {
        self.start();
        let settled = loop {
            let look = if self.still_since_ms.is_some() { LOOK_WHILE_STILL } else { LOOK };
            tokio::select! {
                biased;
                signal = self.heard.recv() => if let Some(signal) = signal { self.hear(signal).await },
                () = sleep(look.std()) => {
                    self.keep_agenda();
                    script::advance(&self.world);
                    if self.is_still() {
                        break self.still_since_ms;
                    }
                    if self.now_ms() > LONGEST.millis() {
                        break None;
                    }
                }
            }
        };
        for (_, process) in std::mem::take(&mut self.processes) {
            process.task.abort();
            // Aborted, as it should be.
            let _aborted = process.task.await;
        }
        settled
    }

    async fn hear(&mut self, signal: Signal) {
        match signal {
            Signal::Die(number) => {
                let Some(process) = self.processes.remove(&number) else { return };
                self.world.note(0, number, process.epoch, What::Died);
                process.task.abort();
                let _aborted = process.task.await;
                self.after(FAILOVER, Later::Start);
            }
            Signal::TakeOver { from, unseen } => {
                if unseen {
                    self.after(FAILOVER, Later::Revoke(from));
                } else {
                    self.revoke(from);
                }
                self.start();
            }
            Signal::CutOff => {
                let all: Vec<u32> = self.processes.keys().copied().collect();
                for number in all {
                    self.after(LEFT, Later::Lapse(number));
                }
            }
            Signal::Reconnect => self.reconnect(),
            Signal::Hint { after } if after == Span::ZERO => self.hint(),
            Signal::Hint { after } => self.after(after, Later::Hint),
        }
    }

    fn after(&mut self, span: Span, what: Later) {
        let at_ms = self.now_ms() + span.millis();
        self.agenda.push((at_ms, what));
    }

    fn keep_agenda(&mut self) {
        let now_ms = self.now_ms();
        let (due, rest) =
            std::mem::take(&mut self.agenda).into_iter().partition(|(at_ms, _)| *at_ms <= now_ms);
        self.agenda = rest;
        let due: Vec<(u64, Later)> = due;
        for (_, what) in due {
            match what {
                Later::Start => self.start(),
                Later::Revoke(number) => self.revoke(number),
                Later::Lapse(number) => self.lapse(number),
                Later::Hint => self.hint(),
            }
        }
    }

    /// It learns that somebody else has its shard, or, without the table, only that its lease is over.
    fn revoke(&mut self, number: u32) {
        if self.world.is_cut_off(number) {
            return self.lapse(number);
        }
        if let Some(process) = self.processes.get_mut(&number) {
            process.revoke();
            self.world.note(0, number, process.epoch, What::Unleased);
        }
    }

    fn lapse(&mut self, number: u32) {
        let cut_off = self.world.is_cut_off(number);
        let process = self.processes.get_mut(&number).filter(|process| process.lapsed.is_none());
        if let Some(process) = process.filter(|_| cut_off) {
            process.lapse();
            self.world.note(0, number, process.epoch, What::Lapsed);
        }
    }

    /// The table answers everybody again: a lease that has lapsed is renewed unless another process took over.
    fn reconnect(&mut self) {
        let newest = self.world.inner().started;
        let clock: Arc<dyn Clock> = Arc::new(self.world.clock);
        for (number, process) in &mut self.processes {
            if !process.reached() {
                continue;
            }
            let renewed = *number == newest;
            let what = if renewed { What::Renewed } else { What::Unleased };
            self.world.note(0, *number, process.epoch, what);
            if renewed {
                process.grant(&clock);
            } else {
                process.revoke();
            }
        }
    }

    fn hint(&self) {
        for process in self.processes.values() {
            // A full queue of hints loses some; polling goes on.
            let _full = process.hints.try_send(key());
        }
    }

    fn start(&mut self) {
        let (me, epoch) = {
            let mut inner = self.world.inner();
            inner.started += 1;
            inner.base.epoch += 1;
            (inner.started, inner.base.epoch)
        };
        self.world.note(0, me, epoch, What::Started);
        let mut process = launch(&self.world, me, epoch);
        let clock: Arc<dyn Clock> = Arc::new(self.world.clock);
        process.grant(&clock);
        self.processes.insert(me, process);
    }

    /// Nothing was left to do for a while.
    fn is_still(&mut self) -> bool {
        let now_ms = self.now_ms();
        let idle = self.agenda.is_empty() && !self.processes.is_empty();
        let (over, entries) = {
            let inner = self.world.inner();
            (idle && script::is_over(&inner, now_ms), inner.moves)
        };
        if !over || entries != self.seen {
            self.seen = entries;
            self.still_since_ms = None;
            if !over {
                return false;
            }
        }
        let since_ms = *self.still_since_ms.get_or_insert_with(|| {
            self.world.note(0, 0, 0, What::Settled);
            now_ms
        });
        now_ms >= since_ms + STILL.millis()
    }
}

fn launch(world: &Arc<World>, me: u32, epoch: u64) -> Process {
    let ports = Arc::new(Ports { world: Arc::clone(world), me, epoch });
    let reconciler = Reconciler {
        store: Arc::<Ports>::clone(&ports),
        cloud: ports,
        clock: Arc::new(world.clock),
        core: CORE,
        limits: Limits { installation: "proof".to_owned(), poll: POLL, idle_poll: Span::from_secs(60) },
        operation: OPERATION,
        // As the daemon has it: what a lease lives without beats.
        unrecorded_after: Some(LEFT),
        metrics: Arc::default(),
    };
    let (permits, leases) = watch::channel(held(BTreeMap::new()));
    let (hints, hinted) = mpsc::channel(8);
    let (snapshots, shown) = watch::channel(Arc::default());
    let controller = Controller {
        reconciler: Arc::new(reconciler),
        permits: leases,
        hints: hinted,
        snapshots,
        heartbeat: Arc::<Heartbeat>::default(),
        timing: Timing {
            resync: Span::from_mins(5),
            concurrency: NonZeroUsize::MIN,
            longest_run: Span::from_mins(5),
            drain: Span::from_secs(20),
        },
    };
    let task = tokio::spawn(async move {
        let ended = controller::run(controller, CancellationToken::new()).await;
        complain(format!("the loop ended: {ended:?}"));
    });
    Process { epoch, valid_until_ms: Arc::default(), lapsed: None, permits, hints, task, _shown: shown }
}
