//! The table of `controller/response.rs`, held to the loop cell by cell: call × class × phase, each once and lasting.

use super::support::{Bench, POLL, TableTrouble, act, key, script, shift, unavailable, wait};
use super::*;
use crate::decide::response::Phase as Standing;
use crate::model::facts::{Cleanup, Latch, Retained, Stage};

/// More failures in a row than any pause needs to grow to its longest: 2 s, doubled five times.
const LASTING: u32 = 7;

fn error(class: Class) -> fn() -> StoreError {
    match class {
        Class::Conflict => || StoreError::Conflict { key: key("web") },
        Class::ClaimTaken => {
            || StoreError::ClaimTaken { arn: "arn:x".to_owned(), owner: "team/y".to_owned() }
        }
        Class::NoLease => || StoreError::NoLease,
        Class::TooNew => || StoreError::TooNew { key: key("web"), min_reader: 9, mine: 1 },
        Class::Damaged => {
            || StoreError::Damaged { pk: "state#team/web".to_owned(), detail: "rev".to_owned() }
        }
        Class::Passing => unavailable,
        Class::Lasting => || StoreError::Unavailable {
            action: "write",
            retry: false,
            source: "answered AccessDeniedException".into(),
        },
    }
}

/// Facts of a service that stands there.
fn standing(at: Standing) -> Facts {
    let mut facts = Scene::burning().facts;
    let mut release = facts.release.take().unwrap();
    let version = release.stable.clone().unwrap();
    let stage = match at {
        Standing::Preparing => Stage::Preparing,
        Standing::Scaling => Stage::Scaling,
        Standing::Shifting => Stage::Shifting,
        Standing::Pausing => Stage::Pausing,
        Standing::Baking => Stage::Baking,
        Standing::Completing => Stage::Completing,
        Standing::GoingBack => {
            let (cause, at) = (LatchCause::Alarm, Timestamp::UNIX_EPOCH);
            let (detail, tried, elapsed) = (String::new(), BTreeMap::new(), Span::ZERO);
            release.latch = Some(Latch { cause, detail, at, tried, elapsed });
            Stage::GoingBack
        }
        Standing::Starting => return Facts { pending: Some(pending()), ..facts },
        Standing::Leaving => return Facts { cleanups: vec![cleanup()], ..facts },
        Standing::Retaining => {
            let retained = Retained { version, kept: Span::ZERO, uncertain: false, release: None };
            return Facts { retained: Some(retained), ..facts };
        }
        Standing::Idle => return facts,
    };
    release.progress.stage = stage;
    Facts { release: Some(release), ..facts }
}

fn cleanup() -> Cleanup {
    Cleanup {
        task_set: Some("set".to_owned()),
        external_id: "id".to_owned(),
        group: Group::B,
        uncertain: false,
        quiet: Span::ZERO,
        zero_reads: 0,
        deleted: false,
        elapsed: Span::ZERO,
    }
}

fn pending() -> Pending {
    let (waited, break_glass) = (Span::ZERO, BTreeSet::new());
    Pending { waited, return_to_retained: false, identity: None, break_glass, doubt: None }
}

/// Lets the clock of this phase run.
fn tick(facts: &mut Facts) {
    let second = Span::from_secs(1);
    if let Some(release) = &mut facts.release {
        release.progress.baked = release.progress.baked.plus(second);
    } else if let Some(cleanup) = facts.cleanups.first_mut() {
        cleanup.quiet = cleanup.quiet.plus(second);
    } else if let Some(pending) = &mut facts.pending {
        pending.waited = pending.waited.plus(second);
    } else if let Some(retained) = &mut facts.retained {
        retained.kept = retained.kept.plus(second);
    }
}

/// What the scripted decisions want next.
#[derive(Clone, Copy, PartialEq)]
enum Want {
    Rest,
    Act,
    Change,
    Clock,
}

/// A service that stands in a phase, and what its decisions were told.
struct Standpoint {
    bench: Bench,
    want: Arc<Mutex<Want>>,
    /// The time that each of them was told of.
    decided: Arc<Mutex<Vec<Span>>>,
    told: Arc<Mutex<Vec<(String, String)>>>,
}

impl Standpoint {
    /// None: nothing was looked at yet since this process owns the service.
    async fn reach(at: Option<Standing>) -> Self {
        let bench = Bench::new();
        let facts = standing(at.unwrap_or(Standing::GoingBack));
        assert!(at.is_none_or(|at| Standing::of(&facts) == at));
        let remembered = Remembered { rev: 3, facts, status: None };
        bench.fake.inner().state.insert(bench.key.clone(), remembered);
        let (want, decided, told) = (Arc::new(Mutex::new(Want::Rest)), Arc::default(), Arc::default());
        let mut here = Self { bench, want, decided, told };
        here.script();
        if at.is_some() {
            assert_eq!(here.bench.run().await.outcome, "waiting");
        }
        here
    }

    fn script(&self) {
        let (want, decided) = (Arc::clone(&self.want), Arc::clone(&self.decided));
        let told = Arc::clone(&self.told);
        script(move |input| {
            decided.lock().unwrap().push(input.watched);
            let mut want = want.lock().unwrap();
            let mut facts = input.facts.clone();
            if let Some(denied) = input.claim_denied {
                told.lock().unwrap().push(denied.clone());
                *want = Want::Rest;
            }
            match std::mem::replace(&mut *want, Want::Rest) {
                Want::Rest => {}
                Want::Act => return act(&facts),
                Want::Change => facts.generation += 1,
                Want::Clock => tick(&mut facts),
            }
            wait(facts)
        });
    }

    /// Has the next run come to the call, with this much of it let through before.
    async fn lead_to(&mut self, call: Call) -> usize {
        *self.want.lock().unwrap() = match call {
            Call::Write(Reason::Intent | Reason::Answer) => Want::Act,
            Call::Write(Reason::Change) => Want::Change,
            Call::Write(Reason::Checkpoint) => Want::Clock,
            _ => Want::Rest,
        };
        match call {
            Call::ReadState => self.bench.slot.doubt(),
            Call::Write(Reason::Checkpoint) => {
                // What was read is remembered first, and then the clocks run.
                let trouble = self.bench.fake.inner().trouble.take();
                *self.want.lock().unwrap() = Want::Rest;
                self.bench.run().await;
                *self.want.lock().unwrap() = Want::Clock;
                self.bench.fake.inner().trouble = trouble;
                let every = persist::checkpoint(&self.bench.remembered(), POLL).unwrap();
                advance(every.std()).await;
            }
            Call::Write(Reason::Halt) => self.bench.slot.panics = reconcile::PANICS,
            Call::Write(Reason::Emergency) => {
                self.bench.slot.forget();
                let emergency = &mut self.bench.slot.emergency;
                emergency.release = standing(Standing::Baking).release.map(|release| release.id);
                emergency.tried.insert("public".to_owned(), 1);
            }
            _ => {}
        }
        usize::from(call == Call::Write(Reason::Answer))
    }

    fn calls(&self) -> usize {
        self.bench.fake.log().iter().filter(|line| *line == "call").count()
    }

    fn recalls(&self) -> usize {
        self.bench.fake.log().iter().filter(|line| *line == "recall").count()
    }
}

/// Whether a run of a service that stands there makes this call at all.
fn is_made(call: Call, at: Option<Standing>) -> bool {
    match (call, at) {
        // A first look has no clocks to write and nothing done before.
        (Call::Write(Reason::Checkpoint | Reason::Emergency), None) => false,
        (Call::Write(Reason::Checkpoint), Some(at)) => at != Standing::Idle,
        (Call::Write(Reason::Emergency), Some(at)) => standing(at).release.is_some(),
        _ => true,
    }
}

struct Cell {
    at: Option<Standing>,
    call: Call,
    class: Class,
    landed: bool,
    times: u32,
}

impl Cell {
    async fn judge(&self) {
        let mut here = Standpoint::reach(self.at).await;
        let response = response::to_failed(self.call, self.class);
        let known = here.bench.slot.known.is_some();
        let trouble = TableTrouble {
            call: self.call,
            spared: 0,
            landed: self.landed,
            error: error(self.class),
            met: 0,
        };
        here.bench.fake.inner().trouble = Some(trouble);
        for failure in 1..=self.times {
            let spared = here.lead_to(self.call).await;
            here.bench.fake.inner().trouble.as_mut().unwrap().spared = spared;
            if response == Response::Reject {
                return self.is_told(here).await;
            }
            let before = (here.decided.lock().unwrap().len(), here.calls());
            let verdict = here.bench.run().await;
            let reaches_decide = matches!(
                self.call,
                Call::Write(Reason::Intent | Reason::Change | Reason::Checkpoint | Reason::Answer)
            );
            assert_eq!(here.bench.fake.inner().trouble.as_ref().unwrap().met, failure as usize, "met");
            assert_eq!(verdict.why, Trigger::Retry);
            assert!(verdict.trouble.unwrap().starts_with(&format!("failed to {}", self.call.doing())));
            // A checkpoint is led to by a run that succeeds, and an answer by an intent that was written.
            let led_to = matches!(self.call, Call::Write(Reason::Checkpoint | Reason::Answer));
            let in_a_row = if led_to { 1 } else { failure };
            // What was decided counts, also when it could not be written.
            let lane = here.bench.slot.lane;
            assert_eq!(lane.is_none(), self.at.is_none() && !reaches_decide);
            let pause = POLL.times(1 << (in_a_row - 1)).min(response::longest_pause(lane));
            assert_eq!(verdict.again, Some(pause), "the pause after {failure}");
            let (decided, called) = (here.decided.lock().unwrap().len() - before.0, here.calls() - before.1);
            let effects = usize::from(self.call == Call::Write(Reason::Answer));
            assert_eq!(called, effects, "only what was announced is sent");
            assert_eq!(decided, usize::from(reaches_decide), "decisions in a failed run");
            let held = here.bench.slot.waiting == Some("Halted");
            assert_eq!(held, response == Response::Hold, "shown as halted");
            let forgets = matches!(response, Response::ReadAgain | Response::Hold);
            let knew = known || here.bench.slot.known.is_some();
            assert_eq!(here.bench.slot.known.is_some(), knew && !forgets, "what a way back goes by");
        }
        self.is_over(here).await;
    }

    /// The same run goes on; whose the resource is stands before its next decision.
    async fn is_told(&self, mut here: Standpoint) {
        let calls = here.calls();
        let fake = Arc::clone(&here.bench.fake);
        let told = Arc::clone(&here.told);
        let decided = Arc::clone(&here.decided);
        let trouble = fake.inner().trouble.take().unwrap();
        fake.inner().refuse_writes = vec![Some((trouble.error)())];
        let before = decided.lock().unwrap().len();
        let verdict = here.bench.run().await;
        assert_eq!(verdict.outcome, "waiting", "no failure of the run");
        assert_eq!(*told.lock().unwrap(), [("arn:x".to_owned(), "team/y".to_owned())]);
        assert_eq!(decided.lock().unwrap().len() - before, 2);
        assert_eq!(here.calls(), calls, "what it was claimed for is not done");
    }

    /// Whether what the process knew outlasts the trouble: nothing was read or written that says otherwise.
    fn keeps(&self) -> bool {
        let knew = match self.call {
            Call::ReadRecords | Call::ReadState | Call::Write(Reason::Halt) => self.at.is_some(),
            Call::Write(Reason::Intent | Reason::Change | Reason::Checkpoint | Reason::Answer) => true,
            Call::Write(Reason::Emergency) => false,
        };
        knew && match response::to_failed(self.call, self.class) {
            Response::Remember => true,
            Response::Doubt | Response::StopActing => !self.landed,
            Response::Retry | Response::ReadAgain | Response::Hold | Response::Reject => false,
        }
    }

    /// Whether the run after the trouble reads the state.
    fn reads(&self) -> bool {
        let response = response::to_failed(self.call, self.class);
        self.at.is_none() || self.call == Call::ReadState || response != Response::Remember
    }

    /// Trouble is over: the next run goes on with what this process knew, or with what is durable.
    async fn is_over(&self, mut here: Standpoint) {
        here.bench.fake.inner().trouble = None;
        let second = Span::from_secs(1);
        advance(second.std()).await;
        let (recalls, calls) = (here.recalls(), here.calls());
        let decided = here.decided.lock().unwrap().len();
        *here.want.lock().unwrap() = match self.call {
            Call::Write(Reason::Intent) => Want::Act,
            _ => Want::Rest,
        };
        assert_eq!(here.bench.run().await.outcome, "waiting");
        assert_eq!(here.recalls(), recalls + usize::from(self.reads()), "looks for what is durable");
        let watched = if self.keeps() { second } else { Span::ZERO };
        assert_eq!(here.decided.lock().unwrap()[decided], watched, "the time that was watched");
        assert_eq!(here.bench.slot.failures, 0);
        let facts = here.bench.remembered();
        let resource = shift().effect.resource();
        match self.call {
            Call::Write(Reason::Intent) => assert_eq!(here.calls(), calls + 1, "it is sent now"),
            Call::Write(Reason::Answer) => {
                let open = facts.outstanding.contains_key(&resource);
                assert_eq!(open, !self.landed && !self.keeps(), "an answer that nobody knows any more");
            }
            Call::Write(Reason::Halt) => {
                assert_eq!(facts.halted.map(|halt| halt.reason), Some(HaltReason::Panicked));
            }
            Call::Write(Reason::Emergency) => {
                assert!(facts.release.unwrap().latch.is_some(), "what was done is recorded");
                assert!(here.bench.slot.emergency.tried.is_empty());
            }
            Call::ReadRecords | Call::ReadState | Call::Write(Reason::Change | Reason::Checkpoint) => {
                assert_eq!(here.calls(), calls);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_cell_of_the_stores_error_table_is_what_happens() {
    let (mut cells, mut met) = (BTreeSet::new(), 0);
    let columns = [None].into_iter().chain(Standing::ALL.map(Some));
    for at in columns {
        for (call, class) in Call::ALL.into_iter().flat_map(|call| Class::ALL.map(|class| (call, class))) {
            if !is_made(call, at) {
                continue;
            }
            let may_land = matches!(call, Call::Write(_)) && class == Class::Passing;
            for landed in [false, true].into_iter().filter(|landed| !landed || may_land) {
                // A halt that landed is found by the next run, and not written again.
                let written_once = landed && call == Call::Write(Reason::Halt);
                for times in [1, LASTING].into_iter().take(if written_once { 1 } else { 2 }) {
                    let cell = Cell { at, call, class, landed, times };
                    println!("{at:?} {call:?} {class:?} landed: {landed}, {times} times");
                    cell.judge().await;
                    met += 1;
                }
            }
            cells.insert((at, call, class));
        }
    }
    let all = (Standing::ALL.len() + 1) * Call::ALL.len() * Class::ALL.len();
    println!("{all} cells, {} of which can be, {met} troubles brought about", cells.len());
    assert_eq!(cells.len(), all - (2 + 1 + 4) * Class::ALL.len());
}
