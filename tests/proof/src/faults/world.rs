//! Everything outside the loop, in one place: the region, both tables, the people, and the faults.
//!
//! Real: `pointsman_core::world::Region` and whatever it does by itself. Faked: the adapters to it (reads and
//! effects, as `tests/core/sim/region.rs` has them), the state table (the conditions of `src/store/dynamo/write.rs`
//! in memory), alarms (set by the script).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use pointsman_core::clock::TokioClock;
use pointsman_core::model::observed::Weights;
use pointsman_core::model::{Action, Answer, Effect, Facts, Plan, Seen};
use pointsman_core::ports::{Clock as _, Remembered, StateWrite, StoreError};
use pointsman_core::records::{Command, ServiceKey, Span};
use serde_json::Value;
use tokio::sync::mpsc;

use super::fault::{Fault, Op};
use super::log::{Entry, Landed, What, Wrote};
use super::region::SmallRegion;
use super::script::{Scenario, Step};
use super::weather::Weather;

/// Older states of the region that a stale read may show.
const SNAPSHOTS: usize = 6;

/// The service of every scenario.
pub fn key() -> ServiceKey {
    #[expect(clippy::expect_used, reason = "a constant")]
    "payments/checkout".parse().expect("a key")
}

/// A fault and the call that it befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Planned {
    /// Which call.
    pub call: u32,
    /// What happens to it.
    pub fault: Fault,
}

/// What a port asks the runner to do.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// This process dies now.
    Die(u32),
    /// Another process takes over from this one; `unseen`: it goes on as if nothing had happened.
    TakeOver { from: u32, unseen: bool },
    /// The processes of now cannot reach the table any more.
    CutOff,
    /// They can.
    Reconnect,
    /// Somebody wrote: whoever follows the stream may hear of it, so much later.
    Hint { after: Span },
}

/// What lasts from one run to the next: a service as the daemon left it.
#[derive(Clone)]
pub struct Base {
    /// The region with everything in it.
    pub region: SmallRegion,
    /// What people wrote.
    pub people: People,
    /// The state item, and the epoch that it was written under.
    pub state: Option<(Remembered, u64)>,
    /// Owners of claimed ARNs.
    pub claims: BTreeMap<String, String>,
    /// The newest epoch.
    pub epoch: u64,
    /// Wall time.
    pub at: Timestamp,
}

/// What people wrote.
#[derive(Clone, Default)]
pub struct People {
    /// The `ManagedService` item.
    pub service: Option<Value>,
    /// The `DesiredRelease` item.
    pub desired: Option<Value>,
    /// Commands.
    pub commands: Vec<(String, Command)>,
}

/// The outside of one run.
pub struct World {
    inner: Mutex<Inner>,
    /// Virtual time.
    pub clock: TokioClock,
    signals: mpsc::UnboundedSender<Signal>,
}

/// See [`World`]. One lock, held between awaits only.
pub struct Inner {
    /// The service and what surrounds it.
    pub base: Base,
    /// Everything that happened.
    pub log: Vec<Entry>,
    /// Entries that are more than a look, or a write that came to nothing.
    pub moves: usize,
    /// What each call was, in order.
    pub ops: Vec<Op>,
    /// Passes begun: observations.
    pub ticks: u32,
    /// Effects and writes that are still on their way.
    pub on_their_way: u32,
    /// Processes started so far; the number of the newest.
    pub started: u32,
    /// Processes up to this number cannot reach the table.
    pub cut_off: Option<u32>,
    /// What the state item alone refuses, to everybody.
    pub item_refuses: &'static [Op],
    /// Steps of the script that are left.
    pub script: VecDeque<Step>,
    /// How many calls there had been at each step that was taken.
    pub steps_at: Vec<usize>,
    /// When the last step was taken.
    pub stepped_ms: u64,
    /// When the production route was first seen at this share of the candidate, in tenths of a percent.
    pub weight_since: BTreeMap<u16, u64>,
    faults: BTreeMap<u32, Fault>,
    storms: BTreeMap<Op, u64>,
    /// Until when every other call of a kind is refused, and whether the next one is.
    half_served: BTreeMap<Op, (u64, bool)>,
    weather: Option<Weather>,
    snapshots: VecDeque<(Timestamp, SmallRegion)>,
    /// Up to this call older states may be asked for.
    last_stale: u32,
}

impl World {
    /// A world as `base` left it, in which `faults` befall the loop.
    pub fn new(
        base: &Base,
        scenario: &Scenario,
        faults: &[Planned],
        signals: mpsc::UnboundedSender<Signal>,
    ) -> Arc<Self> {
        let stale = faults.iter().filter(|planned| matches!(planned.fault, Fault::Stale(_)));
        let last_stale = stale.map(|planned| planned.call).max().unwrap_or(0);
        let inner = Inner {
            base: base.clone(),
            log: Vec::new(),
            moves: 0,
            ops: Vec::new(),
            ticks: 0,
            on_their_way: 0,
            started: 0,
            cut_off: None,
            item_refuses: &[],
            script: scenario.script.clone().into(),
            steps_at: Vec::new(),
            stepped_ms: 0,
            weight_since: BTreeMap::new(),
            faults: faults.iter().map(|planned| (planned.call, planned.fault)).collect(),
            storms: BTreeMap::new(),
            half_served: BTreeMap::new(),
            weather: None,
            snapshots: VecDeque::new(),
            last_stale,
        };
        Arc::new(Self { inner: Mutex::new(inner), clock: TokioClock::starting_at(base.at), signals })
    }

    /// The whole of it.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        // A poisoned lock means that a monitor's material is incomplete; the panic that did it is told.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Asks the runner.
    pub fn signal(&self, signal: Signal) {
        // The runner may have ended the run already.
        let _ended = self.signals.send(signal);
    }

    /// Writes down what happened.
    pub fn note(&self, call: u32, by: u32, epoch: u64, what: What) {
        let at_ms = self.clock.monotonic_ms();
        let mut inner = self.inner();
        if !matches!(what, What::Read(_) | What::Unwritten { .. } | What::Settled) {
            inner.moves += 1;
        }
        inner.log.push(Entry { at_ms, call, by, epoch, what });
    }

    /// Gives the next call its number and the fault that befalls it.
    pub fn number(&self, op: Op) -> (u32, Option<Fault>) {
        let now_ms = self.clock.monotonic_ms();
        let mut inner = self.inner();
        inner.ops.push(op);
        let call = u32::try_from(inner.ops.len()).unwrap_or(u32::MAX);
        let planned = inner.faults.get(&call).copied();
        if let Some(Fault::Weather(seed)) = planned {
            inner.weather = Some(Weather::new(seed, now_ms));
        }
        let fault = match planned {
            None | Some(Fault::Weather(_)) if inner.weather.is_some() => {
                inner.weather.as_mut().and_then(|weather| weather.befalls(op, now_ms))
            }
            Some(Fault::UnreadFor(secs) | Fault::ThrottledFor(secs)) => {
                inner.storms.insert(op, now_ms + secs * 1_000);
                planned
            }
            Some(Fault::EveryOtherFor(secs)) => {
                inner.half_served.insert(op, (now_ms + secs * 1_000, false));
                planned
            }
            Some(_) => planned,
            None if inner.storms.get(&op).is_some_and(|until| *until > now_ms) => {
                Some(if op.is_mutation() && op != Op::Write { Fault::Throttled } else { Fault::Unread })
            }
            None => match inner.half_served.get_mut(&op) {
                Some((until_ms, next)) if *until_ms > now_ms => {
                    *next = !*next;
                    (!*next).then_some(Fault::Throttled)
                }
                _ => None,
            },
        };
        if let Some(fault) = fault {
            inner.log.push(Entry { at_ms: now_ms, call, by: 0, epoch: 0, what: What::Befell(op, fault) });
        }
        (call, fault)
    }

    /// Whether this process cannot reach the table.
    pub fn is_cut_off(&self, process: u32) -> bool {
        self.inner().cut_off.is_some_and(|last| process <= last)
    }

    /// Whether the state item refuses this call.
    pub fn item_refuses(&self, op: Op) -> bool {
        self.inner().item_refuses.contains(&op)
    }

    /// What `read` finds in the region now, or as it was some passes ago.
    pub fn look<T>(&self, ago: usize, read: impl FnOnce(&mut SmallRegion, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let mut inner = self.inner();
        if ago > 0 {
            let index = inner.snapshots.len().saturating_sub(ago + 1);
            if let Some((then, region)) = inner.snapshots.get_mut(index) {
                return read(region, *then);
            }
        }
        read(&mut inner.base.region, now)
    }

    /// A pass begins.
    pub fn begin_pass(&self) {
        let now = self.clock.now();
        let mut inner = self.inner();
        inner.ticks += 1;
        if inner.ops.len() < usize::try_from(inner.last_stale).unwrap_or(usize::MAX) {
            let region = inner.base.region.clone();
            inner.snapshots.push_back((now, region));
            if inner.snapshots.len() > SNAPSHOTS {
                inner.snapshots.pop_front();
            }
        }
    }

    /// Weights that must still be there are compared, and the owner of a set to be deleted, as the adapters do.
    pub fn objection(&self, plan: &Plan, effect: &Effect) -> Option<Answer> {
        self.look(0, |region, now| region.objection(now, plan, effect))
    }

    /// A mutating call reaches the region.
    pub fn land(&self, call: u32, by: u32, epoch: u64, plan: &Plan, action: &Action) -> Answer {
        let now = self.clock.now();
        let answer = self.inner().base.region.carry_out(now, plan, &action.effect);
        let (service, routes) = self.look(0, |region, now| (region.service(now), region.routes(plan)));
        let routes = shares(&routes);
        let accepted = matches!(answer, Answer::Acknowledged(_));
        let landed = Landed { effect: action.effect.clone(), accepted, routes, service };
        self.note(call, by, epoch, What::Landed(landed));
        answer
    }

    /// A state write reaches the table: the conditions of `src/store/dynamo/write.rs`.
    pub fn land_write(&self, call: u32, by: u32, epoch: u64, write: &StateWrite) -> Result<u64, StoreError> {
        let at_ms = self.clock.monotonic_ms();
        let mut inner = self.inner();
        let (rev, newest) = inner.base.state.as_ref().map_or((0, 0), |(item, epoch)| (item.rev, *epoch));
        if write.rev != rev || newest > epoch {
            return Err(StoreError::Conflict { key: key() });
        }
        let me = key().to_string();
        for arn in &write.claim {
            inner.base.claims.insert(arn.clone(), me.clone());
        }
        for arn in &write.unclaim {
            inner.base.claims.remove(arn);
        }
        let item =
            Remembered { rev: rev + 1, facts: write.facts.clone(), status: Some(write.status.clone()) };
        inner.base.state = Some((item, epoch));
        let landed = Wrote {
            rev: rev + 1,
            facts: Arc::new(write.facts.clone()),
            ended: write.ended.clone(),
            claims: inner.base.claims.keys().cloned().collect(),
        };
        inner.moves += 1;
        inner.log.push(Entry { at_ms, call, by, epoch, what: What::Wrote(landed) });
        Ok(rev + 1)
    }
}

/// The weights of the routes that show our pair.
pub fn shares(routes: &BTreeMap<String, Seen<Weights>>) -> BTreeMap<String, pointsman_core::model::Shares> {
    let known = routes.iter().filter_map(|(name, seen)| match seen {
        Seen::Known(Weights::Pair(live)) => Some((name.clone(), *live)),
        Seen::Known(Weights::NotOurPair(_) | Weights::Gone) | Seen::Unknown(_) => None,
    });
    known.collect()
}

impl Inner {
    /// Whether a kind of call is failing for a while.
    pub fn storms(&self, now_ms: u64) -> bool {
        self.storms.values().any(|until| *until > now_ms)
    }

    /// Durable memory; empty before the first write.
    pub fn facts(&self) -> Facts {
        self.base.state.as_ref().map(|(item, _)| item.facts.clone()).unwrap_or_default()
    }
}
