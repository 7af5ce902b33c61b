//! Why a service waits, as sentences with figures.

use super::words::{brief, count, plain, shell};
use super::{View, following, state_name};
use crate::decide::{Next, Wait, WaitingOn, lost};
use crate::model::effect::{Effect, RefusalClass, Resource};
use crate::model::facts::ReleaseKind;
use crate::model::observed::AlarmState;
use crate::records::status;
use crate::records::strategy::Step;
use crate::records::{Group, Percent, Span};

/// An effect and its answer take no longer than this, by the lease's rules.
const ACTING: Span = Span::from_secs(10);

pub(super) fn waiting_on(view: &View<'_>) -> Option<status::WaitingOn> {
    match view.next {
        Next::Wait(wait) => Some(of_wait(view, wait)),
        Next::Act(action) => Some(of_effect(view, &action.effect)),
        Next::Look(_) | Next::Again => between(view),
        Next::Halted(halt) => Some(status::WaitingOn {
            reason: "Halted".to_owned(),
            message: halted(view, &format!("{:?}", halt.reason), &halt.detail),
            until: view.input.now + view.input.limits.poll.signed(),
            deadline: None,
            then: following::after_halt(view),
            otherwise: None,
        }),
        Next::Settled => None,
    }
}

fn of_wait(view: &View<'_>, wait: &Wait) -> status::WaitingOn {
    let now = view.input.now;
    status::WaitingOn {
        reason: wait.on.name().to_owned(),
        message: sentence(view, wait),
        until: now + wait.left.unwrap_or(wait.poll).signed(),
        deadline: wait.deadline.map(|left| now + left.signed()),
        then: following::then(view, &wait.on),
        otherwise: wait.deadline.and_then(|_| following::otherwise(view, &wait.on)),
    }
}

fn of_effect(view: &View<'_>, effect: &Effect) -> status::WaitingOn {
    status::WaitingOn {
        reason: "Acting".to_owned(),
        message: format!("asking AWS to {}", plain(&effect.to_string())),
        until: view.input.now + ACTING.signed(),
        deadline: None,
        then: "look again and verify it".to_owned(),
        otherwise: None,
    }
}

/// Between two looks the last wait still says best what is going on; when that is over, what comes next.
fn between(view: &View<'_>) -> Option<status::WaitingOn> {
    waited_before(view).or_else(|| deciding(view))
}

fn deciding(view: &View<'_>) -> Option<status::WaitingOn> {
    (view.facts.is_busy()).then(|| status::WaitingOn {
        reason: "Deciding".to_owned(),
        message: "the last wait is over; looking again before the next move".to_owned(),
        until: view.input.now + view.input.limits.poll.signed(),
        deadline: None,
        then: following::next_move(view),
        otherwise: None,
    })
}

fn waited_before(view: &View<'_>) -> Option<status::WaitingOn> {
    let before = &view.previous?.status;
    let place = |release: Option<&status::Release>| {
        release.map(|release| (release.id.clone(), release.step.as_ref().map(|step| step.index)))
    };
    let same = before.phase == view.phase()
        && before.observed_generation == view.facts.generation
        && place(before.release.as_ref()) == place(view.release_status().as_ref());
    before.waiting_on.clone().filter(|_| same)
}

pub(super) fn halted(view: &View<'_>, reason: &str, detail: &str) -> String {
    let end = match view.latch() {
        Some(_) => "the daemon goes on as soon as that changes",
        None => "the daemon changes nothing until a person acts",
    };
    format!("halted ({reason}): {}; {end}", plain(detail))
}

fn sentence(view: &View<'_>, wait: &Wait) -> String {
    let left = wait.left.map(brief);
    match &wait.on {
        WaitingOn::Observation { what } => {
            format!("cannot see {}; nothing moves on a guess, so it is read again", plain(what))
        }
        WaitingOn::Record { detail } => format!("waiting for a record: {}", plain(detail)),
        WaitingOn::ServiceScaledToZero => {
            "the ECS service has desiredCount 0, and a release would have no tasks to judge".to_owned()
        }
        WaitingOn::AlarmBeforeStart { alarm } => before_start(view, alarm),
        WaitingOn::RefusalStands { refusal } => {
            format!(
                "it looks as if this cannot work, and is read again before it is refused: {}",
                plain(refusal)
            )
        }
        WaitingOn::GroupBusy { group } => {
            format!(
                "target group {group} must be empty first: it still has targets or a task set that leaves"
            )
        }
        WaitingOn::Effect { resource, class, message } => trouble(resource, *class, message),
        WaitingOn::TaskSetSteady { running, desired, last_stop } => {
            steady(view, *running, *desired, last_stop.as_deref())
        }
        WaitingOn::TargetsHealthy { healthy, wanted, reason } => {
            let why = reason
                .as_deref()
                .map_or_else(String::new, |why| format!("; the first other one: {}", plain(why)));
            format!("{healthy} of {wanted} targets of {} are healthy{why}", view.candidate_name())
        }
        WaitingOn::TestHold => format!(
            "{} is held on test route {}; {} left while {}",
            view.candidate_name(),
            plain(view.test_route().unwrap_or("(none)")),
            left.unwrap_or(Span::ZERO),
            alarms(view)
        ),
        WaitingOn::Propagation { weight } => format!(
            "{weight} % written to every route for {}; {} until the load balancer has it everywhere{}",
            view.candidate_name(),
            left.unwrap_or(Span::ZERO),
            filling_in(view)
        ),
        WaitingOn::Bake { weight } => bake(view, *weight, left),
        WaitingOn::Pause { step } => pause(view, *step, left),
        on => held_up(view, on, left),
    }
}

/// What holds a release or a clean-up up.
fn held_up(view: &View<'_>, on: &WaitingOn, left: Option<Span>) -> String {
    let left = left.map_or_else(String::new, |left| format!("; {left} left"));
    match on {
        WaitingOn::Capacity { weight, running, wanted } => format!(
            "{running} of the {wanted} tasks run that {} needs to take {weight} %",
            view.candidate_name()
        ),
        WaitingOn::StableSteady => {
            format!("{} is starting or replacing tasks and needs its full strength first", view.stable_name())
        }
        WaitingOn::DesiredCountFell { now, at_start } => format!(
            "desiredCount fell from {at_start} to {now} during the release, below 80 % of its start, so no \
             step goes forward; raise it again, and suspend scale-in during releases"
        ),
        WaitingOn::Evidence { alarm, state } => format!(
            "alarm {} is {state}: no step of {} goes forward without evidence",
            plain(alarm),
            view.candidate_name()
        ),
        WaitingOn::ForeignWeights { route } => foreign(view, route),
        WaitingOn::Suspended => "suspended by the ManagedService (spec.suspend); nothing goes forward or is \
             deleted, the way back stays armed"
            .to_owned(),
        WaitingOn::RollbackVerify => rollback_verify(view),
        WaitingOn::StableBeforeCleanUp => {
            format!("{} must be steady before another task set is removed{left}", view.stable_name())
        }
        WaitingOn::Quiet { group } => format!(
            "target group {group} stays at weight 0 until nothing can still be on its way to it{left}"
        ),
        WaitingOn::GroupAtZero { owner } => format!(
            "a task set cannot be removed: its target group is still in use by {}; take its weight away there",
            plain(owner)
        ),
        WaitingOn::Gone { group } => {
            format!("the task set of target group {group} is being deleted: tasks stop and targets drain")
        }
        WaitingOn::Retention => retention(view, &left),
        WaitingOn::LateCalls => format!(
            "its ManagedService is deleted; its resources stay claimed while an earlier change of them can still \
             take effect, because its answer was lost{left}"
        ),
        other => other.name().to_owned(),
    }
}

fn before_start(view: &View<'_>, alarm: &str) -> String {
    format!(
        "alarm {} is in ALARM, so {} does not start; mend it, or set it aside with `{}`",
        plain(alarm),
        view.current_id(),
        command(view, "break-glass", &format!("--release {}", view.current_id()))
    )
}

/// A command line that can be pasted.
pub(super) fn command(view: &View<'_>, verb: &str, rest: &str) -> String {
    format!("pointsman {verb} {} {rest}", view.input.key).trim_end().to_owned()
}

fn steady(view: &View<'_>, running: u32, desired: u32, last_stop: Option<&str>) -> String {
    let name = view.candidate_name();
    let why = last_stop.map_or_else(String::new, |why| format!("; the last one stopped: {}", plain(why)));
    match (running, desired) {
        (0, 0) => format!("the task set of {name} is made; waiting for its first tasks{why}"),
        (running, desired) if running >= desired => {
            format!("all {desired} tasks of {name} run; waiting until ECS calls them steady{why}")
        }
        (running, desired) => format!("{running} of {desired} tasks of {name} run{why}"),
    }
}

fn bake(view: &View<'_>, weight: Percent, left: Option<Span>) -> String {
    let total = match view.step() {
        Some(Step::Shift { bake, .. }) => format!(" of {bake}"),
        Some(Step::Pause(_)) | None => String::new(),
    };
    let left = left.unwrap_or(Span::ZERO);
    format!(
        "baking {weight} % on {}; {left}{total} left while {}{}",
        view.candidate_name(),
        alarms(view),
        filling_in(view)
    )
}

/// Why the candidate has more than its share by the steps, and for how long.
fn filling_in(view: &View<'_>) -> String {
    if !lost::fills_in(view.facts) {
        return String::new();
    }
    let stable = view.stable_name();
    let times = view.facts.drift.repairs;
    let until = if times > lost::GIVE_BACKS {
        format!("keeps it for now, because traffic had to be moved {times} times within the hour")
    } else {
        "gives it back when that one is steady again".to_owned()
    };
    format!("; it has all traffic, because {stable} had no running task, and {until}")
}

/// What the armed alarms say, honestly: a bake without alarms proves nothing.
fn alarms(view: &View<'_>) -> String {
    let listed = view.alarms();
    let armed: Vec<_> = listed.iter().filter(|alarm| alarm.armed).collect();
    let ok = armed.iter().filter(|alarm| alarm.state == state_name(AlarmState::Ok)).count();
    let all = view.plan.as_ref().map_or(0, |plan| plan.spec.alarms.len());
    match (armed.len(), ok) {
        (0, _) => "no alarm is armed".to_owned(),
        (n, ok) if n == ok && all <= super::LISTED => match n {
            1 => "its one armed alarm is OK".to_owned(),
            _ => format!("its {n} armed alarms are OK"),
        },
        (n, ok) if n == ok => "no armed alarm is in ALARM".to_owned(),
        (n, ok) => format!(
            "{ok} of {} OK and none in ALARM",
            count(n, "armed alarm") + if n == 1 { " is" } else { " are" }
        ),
    }
}

fn pause(view: &View<'_>, step: u16, left: Option<Span>) -> String {
    let promote = command(view, "promote", &format!("--release {} --step {step}", view.current_id()));
    let patience = left.map_or_else(String::new, |left| format!(", within {left}"));
    format!(
        "paused before going on with {}; to go on{patience}: `{promote}`{}",
        view.candidate_name(),
        filling_in(view)
    )
}

fn foreign(view: &View<'_>, route: &str) -> String {
    let name = plain(route);
    let written = view.facts.acknowledged.get(route).map(|write| super::pair(write.shares));
    match (view.live(route), written) {
        (Some(live), Some(written)) => format!(
            "route {name} shows {}, but {written} was written last; looking again before believing it",
            super::pair(live)
        ),
        (Some(_), None) | (None, _) => {
            format!("route {name} does not show what was written last; looking again before believing it")
        }
    }
}

fn rollback_verify(view: &View<'_>) -> String {
    let group = view.stable().map_or(Group::A, |stable| stable.group);
    let open = view.routes_not_on(group);
    let routes = if open.is_empty() { "every route".to_owned() } else { open.join(", ") };
    format!("100 % was written back to {}; verifying {routes} on a fresh read", view.stable_name())
}

fn retention(view: &View<'_>, left: &str) -> String {
    let kept = view.facts.retained.as_ref();
    let name = kept.map_or_else(String::new, |kept| plain(&kept.version.revision.to_string()));
    let made = kept.and_then(|kept| kept.release);
    let last = made.or_else(|| Some(view.facts.last.as_ref()?.release));
    let last = last.map_or_else(|| view.current_id(), |last| view.release_id(last));
    let back = command(view, "rollback", &format!("--release {last}"));
    format!("{name} is kept running{left}; to return to it: `{back}`")
}

/// What an attempt met that was not acknowledged.
fn trouble(resource: &Resource, class: Option<RefusalClass>, message: &str) -> String {
    let what = match resource {
        Resource::Route(route) => format!("the weights of route {}", plain(route)),
        Resource::TaskSet(arn) => format!("task set {}", super::task_set_id(arn)),
        Resource::NewTaskSet(_) => "the new task set".to_owned(),
        Resource::Primary => "the PRIMARY task set".to_owned(),
    };
    let (met, next) = trouble_words(class);
    format!("the last change of {what} {met}: {}; {next}", plain(message))
}

/// What was met, and what is done about it.
pub(super) const fn trouble_words(class: Option<RefusalClass>) -> (&'static str, &'static str) {
    match class {
        None => ("got no answer and may or may not be done", "the same absolute change is sent again"),
        Some(RefusalClass::Throttled) => ("was throttled", "it is sent again"),
        Some(RefusalClass::Conflict) => {
            ("met another change or was overtaken", "it is read and decided again")
        }
        Some(RefusalClass::Denied) => {
            ("was denied", "give the daemon's role that permission (deploy/ has the policy); it keeps trying")
        }
        Some(RefusalClass::Permanent) => ("was refused by AWS", "a person should read that message"),
        Some(RefusalClass::NoLease) => {
            ("was not sent because the lease was about to end", "whoever holds the lease goes on")
        }
    }
}

/// The first release has nothing to go back to; every sentence about ways back must know.
pub(super) fn is_first(view: &View<'_>) -> bool {
    view.release().is_some_and(|release| release.kind == ReleaseKind::First)
}

/// The command that makes missing data count as fine, for an alarm that goes silent when all is well.
pub(super) fn mend_missing_data(alarm: &str) -> String {
    let name = shell(alarm);
    format!(
        "aws cloudwatch describe-alarms --alarm-names {name} --query 'MetricAlarms[0]' | \
         jq 'del(.AlarmArn,.AlarmConfigurationUpdatedTimestamp,.StateValue,.StateReason,.StateReasonData,\
         .StateUpdatedTimestamp,.StateTransitionedTimestamp,.EvaluationState) | .TreatMissingData=\"notBreaching\"' \
         > alarm.json && aws cloudwatch put-metric-alarm --cli-input-json file://alarm.json"
    )
}
