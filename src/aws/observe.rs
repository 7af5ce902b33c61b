//! Puts one observation together: the batched reads that every pass needs, and what a decision asked for
//! besides.

use std::collections::{BTreeMap, BTreeSet};

use tokio::join;

use super::Inner;
use super::elb::{self, ActionList, Owner, forward};
use super::error::CallError;
use super::{cloudwatch, ecs};
use crate::model::observed::{Extra, Preflight, Targets, Weights};
use crate::model::{Need, Observed, Plan, Revision, Seen};
use crate::records::Group;
use crate::records::names::Arn;

fn seen<T>(answer: Result<T, CallError>) -> Seen<T> {
    answer.map_or_else(|error| Seen::Unknown(error.to_string()), Seen::Known)
}

impl Inner {
    /// Everything a pass needs; every call begins after this one does.
    pub(super) async fn observe(&self, plan: &Plan, needs: &BTreeSet<Need>) -> Observed {
        let spec = &plan.spec;
        let service = (spec.ecs.cluster.to_string(), spec.ecs.service.to_string());
        let alarms = spec.alarms.iter().map(|alarm| alarm.name.clone()).collect();
        let (service, routes, alarms, extra) = join!(
            self.services.ask_one(service),
            self.routes(plan),
            self.alarms.ask(alarms),
            self.extra(plan, needs),
        );
        let service = match service {
            Seen::Known(answer) => ecs::service(&answer, &spec.target_groups),
            Seen::Unknown(why) => Seen::Unknown(why),
        };
        Observed { service, routes, alarms, extra }
    }

    async fn routes(&self, plan: &Plan) -> BTreeMap<String, Seen<Weights>> {
        let owners: Vec<_> = plan.routes().map(|route| (route.name.clone(), Owner::of(route))).collect();
        let rules = owners.iter().filter_map(|(_, owner)| match owner {
            Some(Owner::Rule(arn)) => Some(arn.to_string()),
            _ => None,
        });
        let listeners = owners.iter().filter_map(|(_, owner)| match owner {
            Some(Owner::Listener(arn)) => Some(arn.to_string()),
            _ => None,
        });
        let (mut lists, of_listeners) =
            join!(self.rules.ask(rules.collect()), self.listeners.ask(listeners.collect()));
        lists.extend(of_listeners);
        self.keep(&lists);
        let weights = |owner: Option<Owner<'_>>| match owner.map(|owner| lists.get(owner.arn())) {
            Some(Some(Seen::Known(Some(actions)))) => {
                Seen::Known(forward::weights(actions, &plan.spec.target_groups))
            }
            Some(Some(Seen::Known(None))) => Seen::Known(Weights::Gone),
            Some(Some(Seen::Unknown(why))) => Seen::Unknown(why.clone()),
            Some(None) => Seen::Unknown("it was not read".to_owned()),
            None => Seen::Known(Weights::NotOurPair("the route names neither rule nor listener".to_owned())),
        };
        owners.iter().map(|(name, owner)| (name.clone(), weights(*owner))).collect()
    }

    /// For a way back whose own read fails.
    fn keep(&self, lists: &BTreeMap<String, Seen<ActionList>>) {
        let now_ms = self.clock.monotonic_ms();
        for (arn, list) in lists {
            match list {
                Seen::Known(Some(actions)) => self.kept.remember(arn, actions, now_ms),
                Seen::Known(None) => self.kept.forget(arn),
                Seen::Unknown(_) => {}
            }
        }
    }

    /// One after the other: they are rare, scarce, and never in the way of a rollback.
    async fn extra(&self, plan: &Plan, needs: &BTreeSet<Need>) -> Extra {
        let mut extra = Extra::default();
        for need in needs {
            match need {
                Need::Preflight(revision) => {
                    extra.preflight = Some(seen(Box::pin(self.preflight(plan, revision)).await));
                }
                Need::Targets(group) => {
                    let targets = self.elb.targets(plan.spec.target_groups.of(*group)).await;
                    extra.targets.insert(*group, seen(targets));
                }
                Need::LoadBalancer => {
                    extra.load_balancer = Some(seen(self.elb.load_balancer(plan).await));
                }
                Need::AlarmHistory(name, since) => {
                    let history =
                        cloudwatch::history(&self.clients.cloudwatch, &self.limiter, name, *since).await;
                    extra.alarm_history.insert(name.clone(), seen(history));
                }
                Need::LastStop(task_set, group) => {
                    let why = self.last_stop(plan, task_set, plan.spec.target_groups.of(*group)).await;
                    extra.last_stop.insert(task_set.clone(), seen(why));
                }
            }
        }
        extra
    }

    async fn preflight(&self, plan: &Plan, revision: &Revision) -> Result<Preflight, CallError> {
        let (task_definition, load_balancer, a, b) = join!(
            self.ecs.task_definition(revision),
            self.elb.load_balancer(plan),
            self.targets_if_any(&plan.spec.target_groups.a),
            self.targets_if_any(&plan.spec.target_groups.b),
        );
        let mut targets = BTreeMap::new();
        targets.extend(a?.map(|targets| (Group::A, targets)));
        targets.extend(b?.map(|targets| (Group::B, targets)));
        Ok(Preflight { task_definition: task_definition?, load_balancer: load_balancer?, targets })
    }

    /// None when AWS does not know the group.
    async fn targets_if_any(&self, group: &Arn) -> Result<Option<Targets>, CallError> {
        match self.elb.targets(group).await {
            Ok(targets) => Ok(Some(targets)),
            Err(error) if elb::is_unknown_group(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Why the set does not come up, as far as AWS tells: its last stopped task, its first unfit target.
    async fn last_stop(&self, plan: &Plan, task_set: &str, group: &Arn) -> Result<String, CallError> {
        let (stop, targets) = join!(self.ecs.last_stop(plan, task_set), self.elb.targets(group));
        let target = match targets {
            Ok(targets) => targets.reason.map(|reason| format!("target: {reason}")),
            // The reason of the stopped task is worth telling without it.
            Err(error) => Some(format!("targets unreadable: {error}")),
        };
        let told = stop?.into_iter().chain(target).collect::<Vec<_>>();
        Ok(if told.is_empty() { "no task has stopped".to_owned() } else { told.join("; ") })
    }
}
