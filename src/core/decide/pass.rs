//! The working copy of one decision: the input beside the facts as they become, and the questions that
//! every rule asks of them.

use std::collections::BTreeSet;

use super::{Decision, Input, Next, Wait, WaitingOn};
use crate::model::effect::Shares;
use crate::model::facts::{
    Cleanup, Ended, Identity, LatchCause, Outstanding, Pending, Release, ReleaseId, Version,
};
use crate::model::observed::{Service, TaskSet, TaskSetStatus, Weights};
use crate::model::{Action, Effect, Facts, Need, Plan, Resource, Seen};
use crate::records::status::Outcome;
use crate::records::strategy::Step;
use crate::records::{Group, Percent, Span};

/// One decision in the making. Rules change `facts` and answer the next move, or nothing when it is not
/// their turn.
pub(super) struct Pass<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) facts: Facts,
    claim: BTreeSet<String>,
    unclaim: BTreeSet<String>,
    ended: Vec<Ended>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(input: &'a Input<'a>) -> Self {
        Self {
            input,
            facts: input.facts.clone(),
            claim: BTreeSet::new(),
            unclaim: BTreeSet::new(),
            ended: Vec::new(),
        }
    }

    pub(super) fn decision(mut self, next: Next) -> Decision {
        self.facts.epoch = self.input.epoch;
        Decision { facts: self.facts, next, claim: self.claim, unclaim: self.unclaim, ended: self.ended }
    }

    // --- what is pinned

    pub(super) fn release(&self) -> Option<&Release> {
        self.facts.release.as_ref()
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        match (&self.facts.plan, self.release()) {
            (Some(plan), Some(release)) => super::forward::steps_of(plan, release.kind),
            _ => Vec::new(),
        }
    }

    pub(super) fn plan(&self) -> Option<&Plan> {
        self.facts.plan.as_ref()
    }

    pub(super) fn production(&self) -> Vec<String> {
        self.plan().map_or_else(Vec::new, |plan| {
            plan.spec.routes.production.iter().map(|route| route.name.clone()).collect()
        })
    }

    pub(super) fn test_route(&self) -> Option<String> {
        self.plan()?.spec.routes.test.as_ref().map(|route| route.name.clone())
    }

    // --- what is there

    pub(super) fn service(&self) -> Option<&'a Service> {
        self.input.observed.service.known()
    }

    pub(super) fn task_set(&self, arn: &str) -> Option<&'a TaskSet> {
        self.service()?.task_sets.iter().find(|set| set.arn == arn)
    }

    /// The live weights of a route, when they were read and are our pair.
    pub(super) fn live(&self, route: &str) -> Option<Shares> {
        self.input.observed.live(route)
    }

    /// What a route shows instead of our pair.
    pub(super) fn not_our_pair(&self, route: &str) -> Option<&'a str> {
        match self.input.observed.routes.get(route)?.known()? {
            Weights::Pair(_) => None,
            Weights::NotOurPair(what) => Some(what),
            Weights::Gone => Some("nothing: it does not exist"),
        }
    }

    /// What a route should show: our last acknowledged write, or what was there when the release started.
    pub(super) fn expected(&self, route: &str) -> Option<Shares> {
        let written = self.facts.acknowledged.get(route).map(|write| write.shares);
        written.or_else(|| self.release()?.before.get(route).copied())
    }

    /// A group whose tasks can answer: a set that is not leaving and has a running task.
    pub(super) fn has_running_set(&self, group: Group) -> bool {
        self.service().is_some_and(|service| {
            service.task_sets.iter().any(|set| {
                set.group == Some(group) && set.status != TaskSetStatus::Draining && set.running > 0
            })
        })
    }

    /// The recorded set is *known* to be unable to answer. Unknown counts as running.
    pub(super) fn known_gone(&self, version: &Version) -> bool {
        self.service().is_some()
            && self
                .task_set(&version.task_set)
                .is_none_or(|set| set.status == TaskSetStatus::Draining || set.running == 0)
    }

    /// The recorded set is seen in another group than recorded: somebody edited the groups since. Weights of such a
    /// group say nothing about it.
    pub(super) fn misplaced(&self, version: &Version) -> bool {
        self.task_set(&version.task_set).is_some_and(|set| set.group != Some(version.group))
    }

    /// These weights would take traffic of the route from tasks that answer and give it to none. Unknown tasks count as
    /// running, and unknown weights as all on the other group.
    pub(super) fn would_starve(&self, route: &str, shares: Shares) -> bool {
        let live = self.live(route);
        self.service().is_some()
            && [Group::A, Group::B].into_iter().any(|group| {
                let more = live.map_or(shares.of(group) > 0, |live| shares.gives_more_to(group, live));
                more && !self.has_running_set(group) && self.has_running_set(group.other())
            })
    }

    /// Enough observations agree that the way back of the release in flight has no running task.
    pub(super) fn stable_is_gone(&self) -> bool {
        self.release()
            .is_some_and(|release| release.progress.stable_gone_reads >= super::latch::MISSING_READS)
    }

    pub(super) fn outstanding(&self, resource: &Resource) -> Option<&Outstanding> {
        self.facts.outstanding.get(resource)
    }

    pub(super) fn route_outstanding(&self, route: &str) -> bool {
        self.facts.outstanding.contains_key(&Resource::Route(route.to_owned()))
    }

    // --- the next move

    /// Announces an effect and asks for it. The announcement is durable before the effect is sent.
    pub(super) fn act(&mut self, effect: Effect, rollback: bool) -> Next {
        let resource = effect.resource();
        // An earlier unknown outcome on the resource stays unknown until this one is acknowledged.
        let before = self.facts.outstanding.remove(&resource);
        let unknown = before.as_ref().is_some_and(|before| before.unknown);
        if let Some(before) = before {
            super::foreign::may_still_land(self, before.effect);
        }
        self.facts.outstanding.insert(resource, Outstanding { effect: effect.clone(), unknown, looked: 0 });
        Next::Act(Action { effect, rollback })
    }

    pub(super) fn set_weights(
        &mut self,
        route: &str,
        shares: Shares,
        expect: Option<Shares>,
        rollback: bool,
    ) -> Next {
        self.act(Effect::SetWeights { route: route.to_owned(), shares, expect }, rollback)
    }

    pub(super) fn wait(&self, on: WaitingOn) -> Next {
        self.wait_with(on, None, None)
    }

    pub(super) fn wait_with(&self, on: WaitingOn, left: Option<Span>, deadline: Option<Span>) -> Next {
        Next::Wait(Wait { on, poll: self.input.limits.poll, left, deadline, needs: BTreeSet::new() })
    }

    /// Waits in the stage whose deadline is running.
    pub(super) fn wait_in_stage(&self, on: WaitingOn, left: Option<Span>) -> Next {
        self.wait_with(on, left, self.stage_left())
    }

    pub(super) fn wait_reading(&self, on: WaitingOn, deadline: Option<Span>, need: Need) -> Next {
        Next::Wait(Wait {
            on,
            poll: self.input.limits.poll,
            left: None,
            deadline,
            needs: BTreeSet::from([need]),
        })
    }

    /// How much longer the present stage may take.
    pub(super) fn stage_left(&self) -> Option<Span> {
        let release = self.release()?;
        let limit = super::latch::stage_deadline(self.plan()?, release, &self.steps())?;
        Some(limit.minus(release.progress.in_stage))
    }

    pub(super) fn look(need: Need) -> Next {
        Next::Look(BTreeSet::from([need]))
    }

    pub(super) fn claim(&mut self, arns: BTreeSet<String>) {
        self.facts.claims.extend(arns.iter().cloned());
        self.claim.extend(arns);
    }

    pub(super) fn unclaim_all(&mut self) {
        self.unclaim.extend(std::mem::take(&mut self.facts.claims));
    }

    // --- how things end

    pub(super) fn end(&mut self, ended: Ended) {
        self.facts.last = Some(ended.clone());
        self.ended.push(ended);
    }

    /// Takes the newest request away from what it waits for: what has no outcome yet and needs one now.
    pub(super) fn take_open_request(&mut self) -> Option<Identity> {
        let pending = self.facts.pending.take();
        let follows = std::mem::take(&mut self.facts.follows);
        let open = pending.is_some() || follows;
        open.then(|| self.identity_of(pending.as_ref())).flatten()
    }

    /// Whose outcome the end of what waits is.
    pub(super) fn identity_of(&self, pending: Option<&Pending>) -> Option<Identity> {
        pending.and_then(|pending| pending.identity.clone()).or_else(|| self.facts.asked.clone())
    }

    /// Ends a request that never became a release.
    pub(super) fn end_request(
        &mut self,
        identity: Identity,
        outcome: Outcome,
        reason: &str,
        message: String,
    ) {
        let release = ReleaseId { generation: self.facts.generation, attempt: self.facts.attempt };
        let strategy = identity.strategy.clone().unwrap_or_default();
        self.end(Ended {
            release,
            identity,
            outcome,
            reason: reason.to_owned(),
            message,
            strategy,
            started_at: self.input.now,
            at: self.input.now,
        });
    }

    /// Ends the release in flight and hands it out.
    pub(super) fn end_release(&mut self, outcome: Outcome, reason: &str, message: String) -> Option<Release> {
        let release = self.facts.release.take()?;
        let strategy = self.plan().map_or_else(String::new, |plan| plan.strategy.clone());
        let ended = Ended {
            release: release.id,
            identity: release.identity.clone(),
            outcome,
            reason: reason.to_owned(),
            message,
            strategy,
            started_at: release.started_at,
            at: self.input.now,
        };
        self.end(ended.clone());
        super::request::end_follower(self, &release, &ended);
        Some(release)
    }

    /// Marks a task set as never to get weight again, and puts it up for removal.
    pub(super) fn clean_up(&mut self, version: &Version, uncertain: bool) {
        if self.facts.cleanups.iter().any(|job| job.external_id == version.external_id) {
            return;
        }
        remember(&mut self.facts.tombstones, version.task_set.clone());
        self.facts.cleanups.push(Cleanup {
            task_set: Some(version.task_set.clone()),
            external_id: version.external_id.clone(),
            group: version.group,
            uncertain,
            quiet: Span::ZERO,
            zero_reads: 0,
            deleted: false,
            elapsed: Span::ZERO,
        });
    }

    /// Latches: from here on the release only goes back.
    pub(super) fn latch(&mut self, cause: LatchCause, detail: impl Into<String>) {
        let now = self.input.now;
        if let Some(release) = &mut self.facts.release
            && release.latch.is_none()
        {
            release.latch = Some(crate::model::facts::Latch {
                cause,
                detail: cut(&detail.into()),
                at: now,
                tried: std::collections::BTreeMap::new(),
                elapsed: Span::ZERO,
            });
        }
    }

    /// `pm1/<installation>/<uid>/`: how our task sets are known.
    pub(super) fn external_prefix(&self) -> String {
        format!("pm1/{}/{}/", self.input.limits.installation, self.facts.uid)
    }

    /// Everything to the group of the version that serves.
    pub(super) fn all_to(group: Group) -> Shares {
        Shares::giving(group, Percent::FULL)
    }
}

/// Keeps the last [`crate::model::facts::KEPT`] of a list.
pub(super) fn remember<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
    let surplus = list.len().saturating_sub(crate::model::facts::KEPT);
    list.drain(..surplus);
}

/// Cuts a foreign text to what a status holds.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

/// What could not be read, as a wait.
pub(super) fn unread<T>(what: &str, seen: Option<&Seen<T>>) -> WaitingOn {
    let why = match seen {
        Some(Seen::Unknown(why)) => cut(why),
        Some(Seen::Known(_)) | None => "not read yet".to_owned(),
    };
    WaitingOn::Observation { what: format!("{what}: {why}") }
}
