//! Carries out one effect: at most one mutating call, sent only while the lease is held.

use std::sync::Arc;

use aws_sdk_elasticloadbalancingv2::types;

use super::Inner;
use super::budget::{Family, Urgency};
use super::ecs::NewTaskSet;
use super::elb::{self, Owner, forward};
use super::error::CallError;
use super::lease_gate::LeaseGate;
use crate::model::effect::{RefusalClass, WayBack};
use crate::model::observed::Weights;
use crate::model::{Acknowledgement, Action, Answer, Effect, Mutation, Plan, Seen, Shares};
use crate::ports::{EmergencyPermit, Permit};

fn refused(class: RefusalClass, message: impl Into<String>) -> Answer {
    Answer::Refused { class, message: message.into() }
}

fn no_lease() -> Answer {
    refused(RefusalClass::NoLease, "not sent: the lease no longer allows a write")
}

fn done(mutation: Mutation, answer: Result<(), CallError>) -> Answer {
    match answer {
        Ok(()) => Answer::Acknowledged(Acknowledgement::Done),
        Err(error) => error.answer(mutation),
    }
}

/// The request budget that a mutation draws on, and its name there.
const fn draws_on(mutation: Mutation) -> (Family, &'static str) {
    match mutation {
        Mutation::CreateTaskSet => (Family::TaskSets, "CreateTaskSet"),
        Mutation::UpdateTaskSet => (Family::TaskSets, "UpdateTaskSet"),
        Mutation::DeleteTaskSet => (Family::TaskSets, "DeleteTaskSet"),
        Mutation::UpdateServicePrimaryTaskSet => (Family::TaskSets, "UpdateServicePrimaryTaskSet"),
        Mutation::ModifyRule => (Family::ElbWrite, "ModifyRule"),
        Mutation::ModifyListener => (Family::ElbWrite, "ModifyListener"),
        Mutation::TagResource => (Family::TaskSets, "TagResource"),
    }
}

impl Inner {
    pub(super) async fn carry_out(&self, plan: &Plan, action: &Action, permit: &Permit) -> Answer {
        let gate = LeaseGate::new(permit.clone(), self.operation);
        if !gate.is_open() {
            return no_lease();
        }
        let (mutation, owner) = match &action.effect {
            Effect::CreateTaskSet { .. } => (Mutation::CreateTaskSet, None),
            Effect::ScaleTaskSet { .. } => (Mutation::UpdateTaskSet, None),
            Effect::DeleteTaskSet { .. } => (Mutation::DeleteTaskSet, None),
            Effect::SetPrimary { .. } => (Mutation::UpdateServicePrimaryTaskSet, None),
            Effect::SetWeights { route, .. } => {
                let Some(owner) = plan.routes().find(|it| it.name == *route).and_then(Owner::of) else {
                    let message = format!("the plan has no route {route} with a rule or a listener");
                    return refused(RefusalClass::Permanent, message);
                };
                (owner.mutation(), Some(owner))
            }
        };
        let urgency = if action.rollback { Urgency::Rollback } else { Urgency::Forward };
        let (family, operation) = draws_on(mutation);
        // Before anything is read: a write that has no turn costs no read either.
        if let Err(error) = self.limiter.turn(operation, family, urgency).await {
            return error.before();
        }
        self.send(plan, &action.effect, owner, urgency, &gate).await
    }

    /// The one write that is made without a lease.
    pub(super) async fn take_back(&self, plan: &Plan, back: &WayBack, permit: &EmergencyPermit) -> Answer {
        let gate = LeaseGate::without_lease(permit.clone(), self.operation);
        let production = &plan.spec.routes.production;
        let Some(owner) = production.iter().find(|it| it.name == back.route()).and_then(Owner::of) else {
            let message = format!("the plan has no production route {}", back.route());
            return refused(RefusalClass::Permanent, message);
        };
        let (family, operation) = draws_on(owner.mutation());
        if let Err(error) = self.limiter.turn(operation, family, Urgency::Rollback).await {
            return error.before();
        }
        self.set_weights(plan, owner, back.shares(), Some(back.expect()), Urgency::Rollback, &gate).await
    }

    async fn send(
        &self,
        plan: &Plan,
        effect: &Effect,
        owner: Option<Owner<'_>>,
        urgency: Urgency,
        gate: &LeaseGate,
    ) -> Answer {
        match (effect, owner) {
            (Effect::CreateTaskSet { group, revision, scale, external_id, token }, _) => {
                let new = NewTaskSet { group: *group, revision, scale: *scale, external_id, token };
                match self.ecs.create(&plan.spec, &new, gate).await {
                    Ok(task_set) => Answer::Acknowledged(Acknowledgement::Created { task_set }),
                    Err(error) => error.answer(Mutation::CreateTaskSet),
                }
            }
            (Effect::ScaleTaskSet { task_set, scale }, _) => {
                done(Mutation::UpdateTaskSet, self.ecs.scale(plan, task_set, *scale, gate).await)
            }
            (Effect::DeleteTaskSet { task_set, external_id }, _) => {
                self.delete(plan, task_set, external_id, gate).await
            }
            (Effect::SetPrimary { task_set }, _) => {
                let answer = self.ecs.set_primary(plan, task_set, gate).await;
                done(Mutation::UpdateServicePrimaryTaskSet, answer)
            }
            (Effect::SetWeights { shares, expect, .. }, Some(owner)) => {
                self.set_weights(plan, owner, *shares, *expect, urgency, gate).await
            }
            (Effect::SetWeights { route, .. }, None) => {
                refused(RefusalClass::Permanent, format!("route {route} has no owner"))
            }
        }
    }

    /// Deletes a set that is ours by its external id, read now. A set that the read does not show is deleted
    /// all the same: the read may be stale, and the ARN was ours when it was recorded.
    async fn delete(&self, plan: &Plan, task_set: &str, external_id: &str, gate: &LeaseGate) -> Answer {
        let ecs = &plan.spec.ecs;
        let service = match self.services.ask_one((ecs.cluster.to_string(), ecs.service.to_string())).await {
            Seen::Known(service) => service,
            Seen::Unknown(why) => return refused(RefusalClass::Conflict, why),
        };
        let sets = service.as_ref().map(|service| service.task_sets()).unwrap_or_default();
        let found = sets.iter().find(|set| set.task_set_arn() == Some(task_set));
        if let Some(other) = found.map(|set| set.external_id()).filter(|id| *id != Some(external_id)) {
            let message =
                format!("the task set carries {}, not {external_id}", other.unwrap_or("no external id"));
            return refused(RefusalClass::Permanent, message);
        }
        if !gate.is_open() {
            return no_lease();
        }
        done(Mutation::DeleteTaskSet, self.ecs.delete(plan, task_set, gate).await)
    }

    /// Reads the action list, splices two integers, writes it back, and hands on what AWS says it now has.
    async fn set_weights(
        &self,
        plan: &Plan,
        owner: Owner<'_>,
        shares: Shares,
        expect: Option<Shares>,
        urgency: Urgency,
        gate: &LeaseGate,
    ) -> Answer {
        let groups = &plan.spec.target_groups;
        // Whoever expects certain weights must see the live ones; whoever goes back can do without.
        let kept = (urgency == Urgency::Rollback && expect.is_none()).then(|| self.kept(owner)).flatten();
        let actions = match kept {
            Some(kept) => self.read_or(kept, owner).await,
            None => self.elb.actions(owner, urgency).await,
        };
        let actions = match actions {
            Ok(actions) => actions,
            Err(error) => return error.before(),
        };
        let actions = match forward::splice(actions, groups, shares, expect) {
            Ok(actions) => actions,
            Err((class, message)) => return refused(class, message),
        };
        if !gate.is_open() {
            return no_lease();
        }
        match self.elb.modify(owner, actions, gate).await {
            Ok(echo) => match forward::weights(&echo, groups) {
                Weights::Pair(shares) => Answer::Acknowledged(Acknowledgement::Echo(shares)),
                Weights::NotOurPair(what) => {
                    Answer::Unknown { message: format!("the answer to the weight write {what}") }
                }
                Weights::Gone => Answer::Unknown { message: "the answer names no rule".to_owned() },
            },
            Err(error) => error.answer(owner.mutation()),
        }
    }

    fn kept(&self, owner: Owner<'_>) -> Option<Arc<Vec<types::Action>>> {
        self.kept.recall(owner.arn(), self.clock.monotonic_ms())
    }

    /// The action list as it is now or, when it can't be read, as observation read it last. AWS's word that there is no
    /// such rule or listener is a read that worked.
    async fn read_or(
        &self,
        kept: Arc<Vec<types::Action>>,
        owner: Owner<'_>,
    ) -> Result<Vec<types::Action>, CallError> {
        match self.elb.actions_at_once(owner).await {
            Err(error) if !elb::is_unknown_owner(&error) => {
                tracing::warn!(%error, of = owner.arn(), "going back by the action list that was read last");
                Ok(Arc::unwrap_or_clone(kept))
            }
            read => read,
        }
    }
}
