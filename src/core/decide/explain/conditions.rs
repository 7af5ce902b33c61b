//! Kubernetes-style conditions: six that are always there, and more while they are true.

use super::words::{brief, plain};
use super::{View, pair, sentences};
use crate::decide::Asked;
use crate::model::effect::RefusalClass;
use crate::model::facts::{Cleanup, ReleaseKind};
use crate::model::observed::{ServiceStatus, TaskSetStatus, Weights};
use crate::model::{Plan, Seen, Shares};
use crate::records::managed_service::{ManagedServiceSpec, StickinessPolicy};
use crate::records::status::{Condition, Outcome, Phase};
use crate::records::{Percent, Span};

/// A rollback that is not verified after this is `RollbackStuck` (`semantics` §2).
const STUCK: Span = Span::from_secs(60);

/// What is said of one condition.
struct Said {
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: Option<String>,
}

fn said(kind: &'static str, status: &'static str, reason: impl Into<String>) -> Said {
    Said { kind, status, reason: reason.into(), message: None }
}

impl Said {
    fn because(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

pub(super) fn all(view: &View<'_>) -> Vec<Condition> {
    let always = [accepted, progressing, rollback_armed, in_sync, cleaned_up, primary_current];
    let at_times = [
        halted,
        rollback_stuck,
        suspended,
        glass_broken,
        alarm_needs_missing_data,
        scaled_to_zero,
        plan_pinned,
        template_outdated,
        sticky_clients,
    ];
    let always = always.into_iter().map(|condition| condition(view));
    let at_times = at_times.into_iter().filter_map(|condition| condition(view));
    always.chain(at_times).map(|said| dated(view, said)).collect()
}

/// The instant of a condition is when its status changed, not when it was last looked at.
fn dated(view: &View<'_>, said: Said) -> Condition {
    let before = view.previous.and_then(|previous| {
        let conditions = &previous.status.conditions;
        conditions.iter().find(|before| before.kind == said.kind && before.status == said.status)
    });
    Condition {
        kind: said.kind.to_owned(),
        status: said.status.to_owned(),
        reason: said.reason,
        message: said.message,
        observed_generation: view.facts.generation,
        last_transition_time: before.map_or(view.input.now, |before| before.last_transition_time),
    }
}

fn accepted(view: &View<'_>) -> Said {
    let goes_on = match view.release() {
        Some(_) if view.input.suspended() => "; the release in flight stands still, as spec.suspend says",
        Some(_) => "; the release in flight goes on by its pinned plan",
        None => "",
    };
    if let Asked::Invalid { refusal, .. } = view.input.desired {
        return said("Accepted", "False", format!("{:?}", refusal.code))
            .because(format!("{}{goes_on}", plain(&refusal.to_string())));
    }
    match view.input.service {
        Asked::Invalid { refusal, .. } => {
            return said("Accepted", "False", format!("{:?}", refusal.code))
                .because(format!("the ManagedService is refused: {}{goes_on}", plain(&refusal.to_string())));
        }
        Asked::Absent => {
            return said("Accepted", "False", "NoManagedService")
                .because("there is no ManagedService of this name: write one, or delete the DesiredRelease");
        }
        Asked::Valid { .. } => {}
    }
    if let Some(refused) = view.refused() {
        return said("Accepted", "False", refused.reason.clone()).because(plain(&refused.message));
    }
    match view.input.desired {
        Asked::Absent => said("Accepted", "Unknown", "NoDesiredRelease").because("nothing is asked for yet"),
        Asked::Valid { .. } | Asked::Invalid { .. } => said("Accepted", "True", "Valid"),
    }
}

fn progressing(view: &View<'_>) -> Said {
    const KIND: &str = "Progressing";
    if let Some(halt) = view.halted() {
        return said(KIND, "False", format!("{:?}", halt.reason)).because(plain(&halt.detail));
    }
    let denied = view
        .facts
        .trouble
        .as_ref()
        .filter(|trouble| matches!(trouble.class, Some(RefusalClass::Denied | RefusalClass::Permanent)));
    if let Some(trouble) = denied {
        let (met, next) = sentences::trouble_words(trouble.class);
        let reason = trouble.class.map_or_else(String::new, |class| format!("{class:?}"));
        return said(KIND, "False", reason)
            .because(format!("the last change {met}: {}; {next}", plain(&trouble.message)));
    }
    let phase = view.phase();
    match phase {
        Phase::Preparing | Phase::Gating | Phase::Shifting | Phase::Baking | Phase::Completing => {
            said(KIND, "True", format!("{phase:?}"))
        }
        Phase::RollingBack | Phase::CleaningUp => said(KIND, "True", format!("{phase:?}")),
        Phase::Paused | Phase::Pending | Phase::Suspended | Phase::Refused | Phase::Halted => {
            said(KIND, "False", format!("{phase:?}"))
        }
        Phase::Settled => match &view.facts.last {
            Some(last) => said(KIND, "False", format!("{:?}", last.outcome)),
            None => said(KIND, "False", "NothingToDo"),
        },
    }
}

/// One weight write would return all traffic to another version that runs.
fn rollback_armed(view: &View<'_>) -> Said {
    const KIND: &str = "RollbackArmed";
    let (version, running, gone) = match (view.release(), &view.facts.retained) {
        (Some(release), _) => match &release.stable {
            Some(stable) => (stable, "StableRunning", "StableGone"),
            None => {
                return said(KIND, "False", "FirstRelease")
                    .because("this is the first release: there is no earlier version to go back to");
            }
        },
        (None, Some(kept)) => (&kept.version, "RetainedRunning", "RetainedGone"),
        (None, None) => {
            return said(KIND, "False", "NothingRetained")
                .because("nothing is being released and no earlier version is kept");
        }
    };
    let name = plain(&version.revision.to_string());
    match view.runs(version) {
        Some(true) => said(KIND, "True", running),
        Some(false) => said(KIND, "False", gone)
            .because(format!("{name} has no running task, so no traffic can go back to it")),
        None => said(KIND, "Unknown", "NotReadable").because(unread_service(view)),
    }
}

fn unread_service(view: &View<'_>) -> String {
    match &view.input.observed.service {
        Seen::Unknown(why) => format!("the ECS service cannot be read: {}", plain(why)),
        Seen::Known(_) => "the ECS service was read".to_owned(),
    }
}

/// What a route should show, as far as that is known.
fn should_show(view: &View<'_>, route: &str) -> Option<Shares> {
    let written = view.facts.acknowledged.get(route).map(|write| write.shares);
    match (view.release(), &view.facts.stable) {
        (Some(release), _) => written.or_else(|| release.before.get(route).copied()),
        (None, Some(stable)) if view.production().contains(&route) => {
            Some(Shares::giving(stable.group, Percent::FULL))
        }
        (None, _) => written,
    }
}

fn in_sync(view: &View<'_>) -> Said {
    const KIND: &str = "InSync";
    let mut unread = Vec::new();
    let mut outstanding = Vec::new();
    let mut differ = Vec::new();
    let mut compared = 0_usize;
    for route in view.plan.iter().flat_map(Plan::routes) {
        let name = plain(&route.name);
        match view.input.observed.routes.get(&route.name) {
            Some(Seen::Known(Weights::Pair(live))) => {
                if view.outstanding(&route.name) {
                    outstanding.push(name);
                } else if let Some(wanted) = should_show(view, &route.name) {
                    compared += 1;
                    if !wanted.same_ratio(*live) {
                        differ.push(format!("{name} shows {} instead of {}", pair(*live), pair(wanted)));
                    }
                }
            }
            Some(Seen::Known(Weights::NotOurPair(what))) => differ.push(format!("{name}: {}", plain(what))),
            Some(Seen::Known(Weights::Gone)) => differ.push(format!("{name}: it does not exist")),
            Some(Seen::Unknown(why)) => unread.push(format!("{name} ({})", plain(why))),
            None => unread.push(format!("{name} (not read yet)")),
        }
    }
    if !differ.is_empty() {
        said(KIND, "False", "WeightsDiffer").because(format!("route {}", differ.join("; route ")))
    } else if !outstanding.is_empty() {
        said(KIND, "False", "WriteOutstanding")
            .because(format!("a weight write is not acknowledged yet: {}", outstanding.join(", ")))
    } else if !unread.is_empty() {
        said(KIND, "Unknown", "NotReadable").because(format!("cannot read route {}", unread.join(", ")))
    } else if compared == 0 {
        said(KIND, "Unknown", "NoVersionYet")
    } else {
        said(KIND, "True", "WeightsVerified")
    }
}

fn cleaned_up(view: &View<'_>) -> Said {
    const KIND: &str = "CleanedUp";
    let limit = view.facts.plan.as_ref().map_or(Span::ZERO, |plan| plan.spec.deadlines.cleanup);
    let jobs = &view.facts.cleanups;
    let Some(job) = jobs.iter().find(|job| job.elapsed >= limit).or_else(|| jobs.first()) else {
        return said(KIND, "True", "NothingLeft");
    };
    let name = |job: &Cleanup| {
        job.task_set
            .as_deref()
            .map_or_else(|| "a task set that may yet appear".to_owned(), super::task_set_id)
    };
    if job.elapsed < limit {
        return said(KIND, "False", "Removing").because(format!(
            "{} leaves target group {}",
            name(job),
            job.group
        ));
    }
    let blocks = match view.next {
        crate::decide::Next::Wait(_) => sentences::waiting_on(view).map(|waiting| waiting.message),
        _ => None,
    };
    said(KIND, "False", "CleanupStuck").because(format!(
        "{} should have left target group {} within {limit}; {}",
        name(job),
        job.group,
        blocks.unwrap_or_else(|| "it is tried on and on".to_owned())
    ))
}

fn primary_current(view: &View<'_>) -> Said {
    const KIND: &str = "PrimaryCurrent";
    let Some(stable) = view.stable() else { return said(KIND, "Unknown", "NoVersionYet") };
    let Some(service) = view.service() else {
        return said(KIND, "Unknown", "NotReadable").because(unread_service(view));
    };
    let primary = service.task_sets.iter().find(|set| set.status == TaskSetStatus::Primary);
    let candidate = view.release().and_then(|release| release.candidate.task_set.as_ref());
    match primary {
        Some(set) if set.arn == stable.task_set => said(KIND, "True", "StableIsPrimary"),
        Some(set) if Some(&set.arn) == candidate => said(KIND, "True", "CandidateIsPrimary"),
        Some(set) => said(KIND, "False", "PrimaryElsewhere").because(format!(
            "ECS calls {} ({}) PRIMARY, while {} serves; that is a label only, traffic is not affected",
            super::task_set_id(&set.arn),
            plain(&set.revision.to_string()),
            view.stable_name()
        )),
        None => said(KIND, "False", "NoPrimary").because("no task set is PRIMARY; traffic is not affected"),
    }
}

// --- conditions that are there while they are true

fn halted(view: &View<'_>) -> Option<Said> {
    let halt = view.halted()?;
    let reason = format!("{:?}", halt.reason);
    let message = sentences::halted(view, &reason, &halt.detail);
    Some(said("Halted", "True", reason).because(message))
}

fn rollback_stuck(view: &View<'_>) -> Option<Said> {
    let latch = view.latch()?;
    let stable = view.release()?.stable.as_ref()?;
    if latch.elapsed < STUCK {
        return None;
    }
    let open = view.routes_not_on(stable.group);
    let trouble = view.facts.trouble.as_ref();
    let reason = trouble.map_or("NotVerified".to_owned(), |trouble| {
        trouble.class.map_or("NoAnswer".to_owned(), |class| format!("{class:?}"))
    });
    let met = trouble.map_or_else(String::new, |trouble| {
        let (met, next) = sentences::trouble_words(trouble.class);
        format!("; the last write {met}: {}; {next}", plain(&trouble.message))
    });
    let routes = if open.is_empty() { "not verified yet".to_owned() } else { open.join(", ") };
    Some(said("RollbackStuck", "True", reason).because(format!(
        "traffic has been on its way back to {} for {}; routes: {routes}{met}",
        plain(&stable.revision.to_string()),
        brief(latch.elapsed)
    )))
}

fn suspended(view: &View<'_>) -> Option<Said> {
    view.input.suspended().then(|| {
        said("Suspended", "True", "Suspend").because(
            "spec.suspend is true: no forward step and no deletion; alarms still roll back, outages are still put right",
        )
    })
}

fn glass_broken(view: &View<'_>) -> Option<Said> {
    let names: Vec<String> =
        view.broken_glass()?.iter().take(super::LISTED).map(|name| plain(name)).collect();
    (!names.is_empty()).then(|| {
        said("GlassBroken", "True", "BreakGlass")
            .because(format!("set aside until OK once: {}; all other alarms stay armed", names.join(", ")))
    })
}

fn alarm_needs_missing_data(view: &View<'_>) -> Option<Said> {
    let silent: Vec<&String> = view
        .plan
        .iter()
        .flat_map(|plan| &plan.spec.alarms)
        .map(|alarm| &alarm.name)
        .filter(|name| {
            view.input
                .observed
                .alarms
                .get(*name)
                .and_then(Seen::known)
                .is_some_and(|read| read.needs_missing_data)
        })
        .collect();
    let first = silent.first()?;
    let others = match silent.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Some(said("AlarmNeedsMissingData", "True", "SilentWhenWell").because(format!(
        "alarm {}{others} gets no data while nothing fails and then says INSUFFICIENT_DATA, which holds \
         releases up; make missing data count as fine: {}",
        plain(first),
        sentences::mend_missing_data(first)
    )))
}

fn scaled_to_zero(view: &View<'_>) -> Option<Said> {
    let service = view.service()?;
    (service.status == ServiceStatus::Active && service.desired_count == 0).then(|| {
        said("ServiceScaledToZero", "True", "DesiredCountZero")
            .because("the ECS service has desiredCount 0: nothing runs, and no release starts")
    })
}

fn plan_pinned(view: &View<'_>) -> Option<Said> {
    let release = view.release()?;
    let plan = view.facts.plan.as_ref()?;
    let spec = view.input.service.valid()?;
    let steps_differ = release.kind == ReleaseKind::Ordinary
        && crate::records::strategy::steps_of(&plan.strategy, spec).map_or(true, |steps| steps != plan.steps);
    let edited = comparable(spec) != comparable(&plan.spec) || steps_differ;
    edited.then(|| {
        said("PlanPinned", "True", "EditedInFlight").because(format!(
            "the ManagedService was edited during {}; the edit counts from the next release, only suspend acts at \
             once",
            view.release_id(release.id)
        ))
    })
}

/// A spec without what may change in flight and what a plan does not keep.
fn comparable(spec: &ManagedServiceSpec) -> ManagedServiceSpec {
    ManagedServiceSpec {
        strategies: std::collections::BTreeMap::new(),
        suspend: false,
        release_may_choose: Vec::new(),
        default_strategy: String::new(),
        ..spec.clone()
    }
}

/// The template changed and the revision did not: nothing starts by itself.
fn template_outdated(view: &View<'_>) -> Option<Said> {
    let succeeded = view.facts.last.as_ref().is_some_and(|last| last.outcome == Outcome::Succeeded);
    if view.release().is_some() || view.facts.pending.is_some() || !succeeded {
        return None;
    }
    let (plan, spec) = (view.facts.plan.as_ref()?, view.input.service.valid()?);
    (plan.spec.task_set != spec.task_set).then(|| {
        said("TemplateOutdated", "True", "TemplateEdited").because(format!(
            "spec.taskSet was edited after {} was released; it runs by the old template until the next release \
             (a new requestId on the same revision does not change it: release a new revision)",
            view.stable_name()
        ))
    })
}

fn sticky_clients(view: &View<'_>) -> Option<Said> {
    let stickiness = &view.plan.as_ref()?.spec.routes.stickiness;
    (stickiness.policy == StickinessPolicy::Accept).then(|| {
        said("StickyClients", "True", "StickinessAccepted").because(
            "group stickiness is accepted: shares, and \"traffic is back\", hold for clients without the cookie",
        )
    })
}
