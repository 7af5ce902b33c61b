//! What people do in a run, at which points, and when it is over.

use std::ops::Range;
use std::sync::Arc;

use pointsman_core::model::facts::Stage;
use pointsman_core::model::observed::AlarmState;
use pointsman_core::ports::Clock as _;
use pointsman_core::records::command::{Command, CommandKind, CommandSpec, PromoteStep, Verb};
use pointsman_core::records::desired_release::ApiVersion;
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Span};
use serde_json::{Value, json};

use super::fault::{Fault, Op};
use super::log::What;
use super::region::SmallRegion;
use super::run;
use super::world::{Inner, Signal, World, key};

/// The point at which people act.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// At once.
    Now,
    /// A request waits for its start.
    Pending,
    /// The candidate's task set has been made.
    Made,
    /// The test route shows the candidate.
    Tested,
    /// The production route gives the candidate this many tenths of a percent, for so many seconds by now.
    At(u16, u64),
    /// A pause is waited for.
    Paused,
    /// The bakes are over, and PRIMARY is about to move.
    Completing,
    /// So many releases have ended.
    Ended(usize),
    /// So many seconds after the last step.
    After(u64),
}

impl When {
    /// Whether it is a point of a release in flight, which may have ended without coming to it.
    const fn is_in_a_release(self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Made | Self::Tested | Self::At(..) | Self::Paused | Self::Completing
        )
    }
}

/// What people do, or what happens to the applications.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Ask for this revision of the task definition.
    Ask(u32),
    /// Write the same request in other words.
    Reword(u32),
    /// Delete the `DesiredRelease`.
    Withdraw,
    /// A command about the release in flight, or the last one.
    Command(Verb),
    /// An alarm changes.
    Alarm(&'static str, AlarmState),
    /// `suspend`.
    Suspend(bool),
    /// Somebody gives the production route these weights, of a and b.
    Move(u32, u32),
    /// Delete the `ManagedService`.
    Abandon,
    /// The processes of now cannot reach the table any more; one that starts later can.
    CutOff,
    /// They can.
    Reconnect,
    /// The state item alone refuses these calls of everybody, from now on: its partition is throttled.
    RefuseState(&'static [Op]),
    /// Every target in a group fails its health checks from now on.
    Sicken(Group),
    /// Every task in a group dies; ECS starts others.
    Kill(Group),
}

/// One step of a script.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// When.
    pub when: When,
    /// What.
    pub act: Act,
}

/// A story: where it begins, what people do, and how it must end.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// Whether version 1 serves already.
    pub serving: bool,
    /// What the record says otherwise, or is beside it.
    pub edit: fn(&mut SmallRegion, &mut ManagedServiceSpec),
    /// What people do.
    pub script: Vec<Step>,
    /// The step of the script from which on calls are hit, and the one up to which, unless all are: before and after the
    /// scenario is the same as another one, in which they are.
    pub hit: Range<usize>,
    /// The outcomes, oldest first.
    pub outcomes: &'static [Outcome],
    /// Other legal outcomes, when a fault uses up a deadline or hides a point in time.
    pub or: &'static [&'static [Outcome]],
    /// The revision that must serve at the end.
    pub serves: u32,
    /// Others that may, with one of the other outcomes.
    pub or_serves: &'static [u32],
}

/// Takes every step of the script whose time has come.
pub fn advance(world: &Arc<World>) {
    let now_ms = world.clock.monotonic_ms();
    loop {
        let mut inner = world.inner();
        let Some(step) = inner.script.front().copied() else { return };
        note_weights(&mut inner, now_ms);
        if !is_time(&inner, step.when, now_ms) {
            return;
        }
        inner.script.pop_front();
        inner.stepped_ms = now_ms;
        let calls = inner.ops.len();
        inner.steps_at.push(calls);
        act(&mut inner, step.act, world);
        drop(inner);
        world.note(0, 0, 0, What::Happened(format!("{:?}", step.act)));
        match step.act {
            Act::Alarm(..) | Act::Move(..) | Act::Sicken(_) | Act::Kill(_) | Act::RefuseState(_) => continue,
            Act::CutOff | Act::Reconnect => {
                let cut_off = matches!(step.act, Act::CutOff);
                world.signal(if cut_off { Signal::CutOff } else { Signal::Reconnect });
                continue;
            }
            Act::Ask(_)
            | Act::Reword(_)
            | Act::Withdraw
            | Act::Command(_)
            | Act::Suspend(_)
            | Act::Abandon => {}
        }
        let (_, fault) = world.number(Op::Hint);
        match fault {
            Some(Fault::HintMissed) => {}
            Some(Fault::HintLate(secs)) => world.signal(Signal::Hint { after: Span::from_secs(secs) }),
            _ => world.signal(Signal::Hint { after: Span::ZERO }),
        }
    }
}

/// Since when the production route gives the candidate what it gives it.
fn note_weights(inner: &mut Inner, now_ms: u64) {
    let Some(candidate) = candidate(inner) else {
        inner.weight_since.clear();
        return;
    };
    let Some(live) = inner.base.region.weights_of("public") else { return };
    let share = live.share(candidate).tenths();
    inner.weight_since.retain(|known, _| *known == share);
    inner.weight_since.entry(share).or_insert(now_ms);
}

fn candidate(inner: &Inner) -> Option<Group> {
    let (item, _) = inner.base.state.as_ref()?;
    item.facts.release.as_ref().map(|release| release.candidate.group)
}

fn stage(inner: &Inner) -> Option<Stage> {
    let (item, _) = inner.base.state.as_ref()?;
    item.facts.release.as_ref().map(|release| release.progress.stage)
}

fn is_time(inner: &Inner, when: When, now_ms: u64) -> bool {
    let since_ms = |from: u64| now_ms.saturating_sub(from);
    match when {
        When::Now => true,
        When::After(secs) => since_ms(inner.stepped_ms) >= secs * 1_000,
        When::Pending => inner.facts().pending.is_some(),
        When::Made => candidate(inner).is_some_and(|group| inner.base.region.has_task_set(group)),
        When::Tested => candidate(inner).is_some_and(|group| {
            inner.base.region.weights_of("preview").is_some_and(|live| live.of(group.other()) == 0)
        }),
        When::At(tenths, secs) => {
            inner.weight_since.get(&tenths).is_some_and(|since| since_ms(*since) >= secs * 1_000)
        }
        When::Paused => stage(inner) == Some(Stage::Pausing),
        When::Completing => stage(inner) == Some(Stage::Completing),
        When::Ended(count) => ended(inner).len() >= count,
    }
}

/// How releases ended, oldest first.
pub fn ended(inner: &Inner) -> Vec<(String, Outcome, String)> {
    let items = inner.log.iter().filter_map(|entry| match &entry.what {
        What::Wrote(wrote) => Some(&wrote.ended),
        _ => None,
    });
    items.flatten().map(|item| (item.release.clone(), item.outcome, item.reason.clone())).collect()
}

fn act(inner: &mut Inner, act: Act, world: &World) {
    let now = world.clock.now();
    match act {
        Act::Ask(revision) => inner.base.people.desired = Some(desired(revision, "")),
        Act::Reword(revision) => {
            inner.base.people.desired = Some(desired(revision, "111122223333 in eu-central-1"));
        }
        Act::Withdraw => inner.base.people.desired = None,
        Act::Command(verb) => {
            let count = u128::try_from(inner.base.people.commands.len()).unwrap_or(0);
            let since_1970 = u64::try_from(now.as_millisecond()).unwrap_or(0);
            let id = ulid::Ulid::from_parts(since_1970, count + 1).to_string();
            let command = command(inner, verb);
            inner.base.people.commands.push((id, command));
        }
        Act::Alarm(name, state) => inner.base.region.set_alarm(now, name, state),
        Act::Suspend(suspend) => {
            if let Some(Value::Object(spec)) =
                inner.base.people.service.as_mut().and_then(|item| item.get_mut("spec"))
            {
                spec.insert("suspend".to_owned(), Value::Bool(suspend));
            }
        }
        Act::Move(a, b) => {
            inner.base.region.write_weights(now, "public", a, b);
        }
        Act::Abandon => inner.base.people.service = None,
        Act::CutOff => inner.cut_off = Some(inner.started),
        Act::Reconnect => inner.cut_off = None,
        Act::RefuseState(refuses) => inner.item_refuses = refuses,
        Act::Sicken(group) => inner.base.region.make_sick(now, group, true),
        Act::Kill(group) => inner.base.region.kill_tasks_in(now, group),
    }
}

fn command(inner: &Inner, verb: Verb) -> Command {
    let facts = inner.facts();
    let last = facts.last.as_ref().map(|last| last.release);
    let release = match (&facts.release, &facts.pending) {
        (Some(release), _) => format!("checkout-{}", release.id),
        (None, Some(_)) => format!("checkout-{}.{}", facts.generation, facts.attempt),
        (None, None) => last.map_or_else(String::new, |id| format!("checkout-{id}")),
    };
    let step = (verb == Verb::Promote).then_some(PromoteStep::Step(1));
    let spec = CommandSpec { verb, release, step, by: Some("mara".to_owned()) };
    Command { api_version: ApiVersion::V1, kind: CommandKind::Command, spec, expire_at: None }
}

/// The item by which a developer asks for a revision; `words`: by its whole ARN.
pub fn desired(revision: u32, words: &str) -> Value {
    let short = format!("checkout:{revision}");
    let whole = format!("arn:aws:ecs:eu-central-1:111122223333:task-definition/{short}");
    let name = if words.is_empty() { short } else { whole };
    json!({
        "pk": "desired#payments/checkout", "sk": "spec", "apiVersion": "pointsman/v1", "kind": "DesiredRelease",
        "metadata": {"namespace": "payments", "name": "checkout"},
        "spec": {"taskDefinition": name}
    })
}

/// The item by which the platform team hands the service over.
pub fn managed(spec: &ManagedServiceSpec) -> Value {
    json!({
        "pk": "service#payments/checkout", "sk": "spec", "apiVersion": "pointsman/v1", "kind": "ManagedService",
        "metadata": {"namespace": "payments", "name": "checkout"},
        "spec": spec
    })
}

/// Nothing is left to do: the script is over, what people wrote was taken up, and nothing is under way.
pub fn is_over(inner: &Inner, now_ms: u64) -> bool {
    let Some((item, _)) = &inner.base.state else { return false };
    let facts = &item.facts;
    // At rest nothing in a release comes any more: what was to happen there is left out.
    let awaited = inner.script.front().is_some_and(|step| !step.when.is_in_a_release());
    // Claims of a deleted service go when no late call can land any more.
    let gives_up = inner.base.people.service.is_none() && !facts.claims.is_empty();
    let done = !awaited
        && !gives_up
        && inner.on_their_way == 0
        && !facts.is_busy()
        && facts.retained.is_none()
        && !inner.storms(now_ms)
        && inner.base.people.commands.iter().all(|(id, _)| facts.commands_done.contains(id));
    let asked = facts.asked.as_ref().map(|asked| &asked.spec_hash);
    done && match &inner.base.people.desired {
        None => asked.is_none(),
        Some(item) => match run::read_desired(&key(), item) {
            Ok((_, hash)) | Err((_, hash)) => asked == Some(&hash),
        },
    }
}
