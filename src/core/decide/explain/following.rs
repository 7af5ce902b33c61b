//! What comes next when a wait is over, and what happens at its deadline instead.

use super::View;
use super::sentences::{command, is_first};
use crate::decide::WaitingOn;
use crate::model::facts::{Ended, ReleaseKind, Stage};
use crate::records::status::Outcome;
use crate::records::strategy::{OnTimeout, Step};

/// What comes next.
pub(super) fn then(view: &View<'_>, on: &WaitingOn) -> String {
    match on {
        WaitingOn::Observation { .. } | WaitingOn::ForeignWeights { .. } | WaitingOn::Effect { .. } => {
            "go on where it was".to_owned()
        }
        WaitingOn::Record { .. } | WaitingOn::RefusalStands { .. } => "judge the request".to_owned(),
        WaitingOn::ServiceScaledToZero | WaitingOn::AlarmBeforeStart { .. } | WaitingOn::GroupBusy { .. } => {
            format!("start {}", view.current_id())
        }
        WaitingOn::TaskSetSteady { .. } => after_steady(view),
        WaitingOn::TargetsHealthy { .. } => after_targets(view),
        WaitingOn::TestHold => first_step(view),
        WaitingOn::Capacity { .. } | WaitingOn::StableSteady | WaitingOn::DesiredCountFell { .. } => {
            view.step().map_or_else(|| "go on".to_owned(), |step| do_step(view, step))
        }
        WaitingOn::Evidence { .. } => "go on where it was, once the alarm has an answer".to_owned(),
        WaitingOn::Propagation { .. } => match view.step() {
            Some(Step::Shift { bake, .. }) => format!("bake for {bake}"),
            Some(Step::Pause(_)) | None => "bake".to_owned(),
        },
        WaitingOn::Bake { .. } | WaitingOn::Pause { .. } => next_step(view),
        WaitingOn::Suspended => "go on when spec.suspend is false".to_owned(),
        WaitingOn::RollbackVerify => "tell the outcome, then remove the task set that went back".to_owned(),
        WaitingOn::StableBeforeCleanUp => "remove the old task set".to_owned(),
        WaitingOn::Quiet { .. } => {
            "check every rule of the load balancer twice, then delete the task set".to_owned()
        }
        WaitingOn::GroupAtZero { .. } => "delete the task set once nothing sends traffic there".to_owned(),
        WaitingOn::Gone { .. } => after_clean_up(view),
        WaitingOn::Retention => after_retention(view),
        WaitingOn::LateCalls => "give up the claims, so that another ManagedService may name them".to_owned(),
    }
}

/// What comes next when nothing is waited for.
pub(super) fn next_move(view: &View<'_>) -> String {
    let Some(release) = view.release() else {
        return match (&view.facts.pending, view.facts.cleanups.is_empty()) {
            (Some(_), true) => format!("start {}", newest_id(view)),
            (Some(_) | None, false) => "remove the old task set".to_owned(),
            (None, true) => "nothing; everything is as it should be".to_owned(),
        };
    };
    let progress = &release.progress;
    match view.step() {
        _ if release.latch.is_some() => format!("all traffic goes back to {}", view.stable_name()),
        _ if !progress.gate_passed => format!("bring {} up and judge it", view.candidate_name()),
        Some(Step::Shift { bake, .. }) if progress.shifted => format!("bake for {bake}"),
        Some(step) => do_step(view, step),
        None => format!("make {} PRIMARY; then the release has succeeded", view.candidate_name()),
    }
}

/// What happens at the deadline.
pub(super) fn otherwise(view: &View<'_>, on: &WaitingOn) -> Option<String> {
    match on {
        WaitingOn::Retention | WaitingOn::LateCalls => None,
        WaitingOn::Quiet { .. }
        | WaitingOn::GroupAtZero { .. }
        | WaitingOn::Gone { .. }
        | WaitingOn::StableBeforeCleanUp => Some("condition CleanupStuck; it is tried on and on".to_owned()),
        _ if view.release().is_none() => view
            .facts
            .pending
            .as_ref()
            .map(|_| format!("{} is refused; nothing was touched", view.current_id()))
            .or_else(|| Some("condition CleanupStuck; it is tried on and on".to_owned())),
        WaitingOn::Pause { .. } => match view.step() {
            Some(Step::Pause(pause)) if pause.on_timeout == OnTimeout::Continue => Some(next_step(view)),
            Some(_) | None => Some(give_up(view)),
        },
        // A missing answer of an alarm has a deadline of its own, whatever the stage.
        WaitingOn::Evidence { .. } => Some(give_up(view)),
        _ if view.release().is_some_and(|release| release.progress.stage == Stage::Completing) => {
            Some("the release has succeeded, with condition PrimaryCurrent=False".to_owned())
        }
        _ => Some(give_up(view)),
    }
}

/// What giving up a release means at this point.
fn give_up(view: &View<'_>) -> String {
    let exposed = view.release().is_some_and(|release| release.progress.exposed);
    match (exposed, is_first(view)) {
        (false, _) => "the release fails; production traffic was never touched".to_owned(),
        (true, false) => format!("all traffic goes back to {}", view.stable_name()),
        (true, true) => "the release fails and stays in place: there is no earlier version".to_owned(),
    }
}

pub(super) fn after_halt(view: &View<'_>) -> String {
    if view.latch().is_some() {
        return format!("write 100 % back to {} as soon as it has a running task", view.stable_name());
    }
    let failed = |last: &&Ended| last.outcome != Outcome::Succeeded && last.identity.takes_back.is_none();
    let last = view.facts.last.as_ref().filter(failed);
    let retry = last.map(|last| {
        let id = view.release_id(last.release);
        format!(", or `{}`", command(view, "retry", &format!("--release {id}")))
    });
    format!("a person writes a new DesiredRelease{}", retry.unwrap_or_default())
}

fn newest_id(view: &View<'_>) -> String {
    format!("{}-{}.{}", view.input.key.name(), view.facts.generation, view.facts.attempt)
}

fn after_steady(view: &View<'_>) -> String {
    let gated = view.release().is_some_and(|release| release.progress.gate_passed);
    if gated {
        return view.step().map_or_else(|| "go on".to_owned(), |step| do_step(view, step));
    }
    let checked = view.release().is_some_and(|release| release.progress.targets_healthy);
    if checked { after_targets(view) } else { "check that every target is healthy".to_owned() }
}

fn after_targets(view: &View<'_>) -> String {
    let skips = view.release().is_some_and(|release| release.kind == ReleaseKind::Return);
    match view.test_route() {
        Some(route) if !skips => format!("put test route {} on it", super::plain(route)),
        Some(_) | None => first_step(view),
    }
}

fn first_step(view: &View<'_>) -> String {
    view.steps.first().map_or_else(|| "go on".to_owned(), |step| do_step(view, step))
}

fn next_step(view: &View<'_>) -> String {
    let index = view.release().map_or(0, |release| usize::from(release.progress.step));
    match view.steps.get(index + 1) {
        Some(step) => do_step(view, step),
        None => format!("make {} PRIMARY; then the release has succeeded", view.candidate_name()),
    }
}

fn do_step(view: &View<'_>, step: &Step) -> String {
    match step {
        Step::Shift { weight, scale, .. } => {
            let now = view.release().map(|release| release.candidate.scale);
            if now.is_some_and(|now| now < *scale) {
                format!("scale to {scale} %, then shift to {weight} %")
            } else {
                format!("shift to {weight} %")
            }
        }
        Step::Pause(_) => "pause for a promotion".to_owned(),
    }
}

fn after_clean_up(view: &View<'_>) -> String {
    if view.facts.cleanups.len() > 1 {
        "remove the next task set".to_owned()
    } else if view.facts.pending.is_some() {
        format!("start {}", newest_id(view))
    } else {
        "nothing; everything is as it should be".to_owned()
    }
}

fn after_retention(view: &View<'_>) -> String {
    let kept = view.facts.retained.as_ref();
    let name = kept.map_or_else(String::new, |kept| super::plain(&kept.version.revision.to_string()));
    format!("remove {name}; from then on a return needs a release of its own")
}
