//! All services of a region, and what finds the few of them that a change concerns: the service of a task,
//! the services with tasks in a target group, and when each service has something due.
//!
//! Reading goes through to the map of services; a service taken for writing is touched, and the next
//! [`Fleet::settle`] lets the scheduler look at it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Around;
use super::scheduler::StoredService;
use super::task::StoredTask;
use crate::world::TaskOrder;
use crate::world::watched::Watched;

/// Cluster name and service name.
pub(super) type Key = (String, String);

/// Rounds in which one call's consequences settle. Two are the rule: one that acts, one that finds nothing
/// left to do; services that share a target group may need one more each. What is left after these is
/// looked at with the next change.
const ROUNDS_MAX: usize = 16;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Fleet {
    services: Watched<Key, StoredService>,
    /// Task ARN to the task's service and its place there.
    homes: BTreeMap<String, (Key, u64)>,
    /// Target group to the services with tasks for it.
    members: BTreeMap<String, BTreeSet<Key>>,
    /// Services with tasks for a real runtime.
    real: BTreeSet<Key>,
}

impl Deref for Fleet {
    type Target = BTreeMap<Key, StoredService>;

    fn deref(&self) -> &Self::Target {
        &self.services
    }
}

impl Fleet {
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut StoredService> {
        self.services.get_mut(key)
    }

    pub(super) fn insert(&mut self, key: Key, service: StoredService) {
        self.services.insert(key, service);
    }

    /// Takes a service out, to put another with the same tasks into its place.
    pub(super) fn take(&mut self, key: &Key) -> Option<StoredService> {
        self.services.remove(key)
    }

    /// A task by its ARN, and its service.
    pub(super) fn task(&self, arn: &str) -> Option<(&StoredService, &StoredTask)> {
        let (key, place) = self.homes.get(arn)?;
        let service = self.services.get(key)?;
        Some((service, service.tasks.get(place)?))
    }

    /// As [`Fleet::task`], for writing: the service, and the task's place in it.
    pub(super) fn home_mut(&mut self, task: &str) -> Option<(&mut StoredService, u64)> {
        let (key, place) = self.homes.get(task)?;
        Some((self.services.get_mut(key)?, *place))
    }

    /// Tasks that a real runtime should start or stop.
    pub(super) fn task_orders(&self) -> Vec<TaskOrder> {
        let services = self.real.iter().filter_map(|key| self.services.get(key));
        services.flat_map(|service| service.tasks.values()).filter_map(StoredTask::order).collect()
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.services.next_due()
    }

    /// What the tasks do by themselves up to `now`.
    pub(super) fn advance(&mut self, around: &mut Around<'_>) {
        for key in self.services.due_by(around.now) {
            let Some(service) = self.services.get_mut(&key) else { continue };
            let forgotten = service.advance(around);
            self.forget(&key, &forgotten);
        }
    }

    /// Lets the scheduler bring the touched services, and those whose targets changed, to what is asked for.
    /// The ARNs of task sets that are gone.
    pub(super) fn settle(&mut self, around: &mut Around<'_>) -> Vec<String> {
        let mut gone = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.touch_members(around);
            let mut last = None;
            while let Some(key) = self.services.take_touched_after(last.as_ref()) {
                gone.extend(self.visit(&key, around));
                self.touch_members(around);
                last = Some(key);
            }
            if !self.services.has_touched() {
                break;
            }
        }
        gone
    }

    /// Touches the services whose targets changed.
    fn touch_members(&mut self, around: &mut Around<'_>) {
        for group in around.elb.take_touched() {
            for key in self.members.get(&group).into_iter().flatten() {
                self.services.touch(key);
            }
        }
    }

    /// One look of the scheduler at one service. A service that it changed is looked at again, until there
    /// is nothing left to do.
    fn visit(&mut self, key: &Key, around: &mut Around<'_>) -> Vec<String> {
        let Some(service) = self.services.get_untouched(key) else { return Vec::new() };
        let before = (service.status, service.sets.clone(), service.tasks.clone());
        let gone = service.settle(around);
        let due = service.next_due(around.elb, around.tuning);
        let (status, sets, tasks) = before;
        let changed = status != service.status || sets != service.sets || tasks != service.tasks;
        let forgotten: Vec<StoredTask> = tasks
            .into_iter()
            .filter(|(place, _)| !service.tasks.contains_key(place))
            .map(|(_, task)| task)
            .collect();
        let has_orders = service.tasks.values().any(StoredTask::has_order);
        for (place, task) in &service.tasks {
            if !self.homes.contains_key(&task.arn) {
                self.homes.insert(task.arn.clone(), (key.clone(), *place));
                if let Some(group) = &task.target_group {
                    self.members.entry(group.clone()).or_default().insert(key.clone());
                }
            }
        }
        self.forget(key, &forgotten);
        self.services.plan(key, due);
        if changed {
            self.services.touch(key);
        }
        if has_orders {
            self.real.insert(key.clone());
        } else {
            self.real.remove(key);
        }
        gone
    }

    /// The same services, every one of them looked at, whatever was touched or is due: what the indexes
    /// and plans spare, done in full.
    #[cfg(test)]
    pub(super) fn scanned(&self, around: &mut Around<'_>) -> Self {
        let mut fleet = Self::default();
        for (key, service) in self.iter() {
            let mut service = service.clone();
            service.advance(around);
            fleet.insert(key.clone(), service);
        }
        fleet.settle(around);
        fleet
    }

    /// Takes forgotten tasks out of the indexes.
    fn forget(&mut self, key: &Key, tasks: &[StoredTask]) {
        for task in tasks {
            self.homes.remove(&task.arn);
            let Some(group) = &task.target_group else { continue };
            let stays = self.services.get(key).is_some_and(|service| {
                service.tasks.values().any(|other| other.target_group.as_ref() == Some(group))
            });
            if let Some(members) = self.members.get_mut(group).filter(|_| !stays) {
                members.remove(key);
                if members.is_empty() {
                    self.members.remove(group);
                }
            }
        }
    }
}
