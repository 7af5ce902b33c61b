//! The targets in target groups: registration, health, slow start, draining.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::group::StoredGroup;
use super::target::{Health, Prober, Target};
use super::{Elb, Surroundings, TargetDescription, TargetHealth, TargetHealthDescription, validation};
use crate::world::tuning::{Runtime, Tuning};
use crate::world::{Address, ApiError, ProbeOrder};

/// Targets of one group (`ELBv2` quota).
const TARGETS_PER_GROUP: usize = 1_000;

impl StoredGroup {
    /// Puts the targets that have just become healthy in slow start mode. "Newly registered targets enter slow
    /// start mode only when there is at least one healthy target that is not in slow start mode"
    /// (guide, edit-target-group-attributes#slow-start-mode), so those that become healthy together in a
    /// group without such a target do not.
    fn start_slowly(&mut self, changed: &BTreeSet<Address>, now: Timestamp) {
        let Some(secs) = self.attributes.slow_start() else { return };
        let length = SignedDuration::from_secs(secs.into());
        let others = self.targets.iter().filter(|(address, _)| !changed.contains(*address));
        let warm = others.map(|(_, target)| target).any(|target| target.has_full_share(length, now));
        for address in changed {
            if let Some(target) = self.targets.get_mut(address) {
                target.start_slowly(warm, now);
            }
        }
    }

    /// Targets that a real runtime should probe.
    fn probed(&self) -> impl Iterator<Item = (&Address, &Target)> {
        let enabled = self.shape.health_check_enabled;
        self.targets.iter().filter(move |(_, target)| enabled && target.is_for_probers())
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.targets.values().filter_map(Target::due).min()
    }

    /// What is due up to `now`; whether it could alter where a request goes.
    fn advance(&mut self, now: Timestamp, tuning: &Tuning) -> bool {
        let pace = self.pace(tuning);
        let before = self.targets.len();
        self.targets.retain(|_, target| !matches!(target.health, Health::Draining(until) if until <= now));
        let gone = self.targets.len() != before;
        let mut changed = BTreeSet::new();
        for (address, target) in &mut self.targets {
            if target.advance(now, pace) {
                changed.insert(address.clone());
            }
        }
        self.start_slowly(&changed, now);
        gone || !changed.is_empty()
    }
}

impl Elb {
    /// Registers one target. A target that drains comes back as a new one.
    pub(in crate::world) fn register(
        &mut self,
        group: &str,
        address: Address,
        prober: Prober,
        now: Timestamp,
        tuning: &Tuning,
    ) -> Result<(), ApiError> {
        let stored = self.group_mut(group)?;
        if stored.targets.len() >= TARGETS_PER_GROUP {
            return Err(too_many(group));
        }
        let present = stored.targets.get(&address).is_some_and(|target| !target.is_draining());
        if !present {
            let target = Target::registered(now, stored.in_use, prober, tuning);
            stored.targets.insert(address, target);
            self.version += 1;
        }
        Ok(())
    }

    /// Deregisters one target: it drains, then it is gone. Whether it was there.
    pub(in crate::world) fn deregister(
        &mut self,
        group: &str,
        address: &Address,
        now: Timestamp,
        tuning: &Tuning,
    ) -> bool {
        let Some(stored) = self.groups.get_mut(group) else { return false };
        let delay = SignedDuration::from_secs(stored.attributes.deregistration_delay().into());
        let until = now + delay / tuning.draining_speed.max(1);
        let Some(target) = stored.targets.get_mut(address) else { return false };
        target.drain(until);
        self.version += 1;
        true
    }

    fn addressed(&self, group: &str, target: &TargetDescription) -> Result<Address, ApiError> {
        let stored = self.group(group)?;
        if target.id.is_empty() {
            return Err(ApiError::client("InvalidTarget", "A target must have an identifier"));
        }
        let valid = stored.shape.target_type != "ip" || target.id.parse::<std::net::IpAddr>().is_ok();
        if !valid {
            return Err(validation(format!("The IP address '{}' is not a valid IPv4 address", target.id)));
        }
        Ok(Address { ip: target.id.clone(), port: target.port.unwrap_or(stored.shape.port) })
    }

    fn all_addressed(&self, group: &str, targets: &[TargetDescription]) -> Result<Vec<Address>, ApiError> {
        targets.iter().map(|target| self.addressed(group, target)).collect()
    }

    /// `RegisterTargets`.
    pub(in crate::world) fn register_targets(
        &mut self,
        group: &str,
        targets: &[TargetDescription],
        around: &mut Surroundings<'_>,
    ) -> Result<(), ApiError> {
        let addresses = self.all_addressed(group, targets)?;
        if self.group(group)?.targets.len() + addresses.len() > TARGETS_PER_GROUP {
            return Err(too_many(group));
        }
        let prober = match around.tuning.runtime {
            Runtime::Simulated => Prober::Model { sick: false },
            Runtime::External => Prober::Runtime,
        };
        // "When you enable slow start for an empty target group and then register targets using a single
        // registration operation, these targets do not enter slow start mode."
        let empty = self.group(group)?.targets.values().all(Target::is_draining);
        for address in &addresses {
            self.register(group, address.clone(), prober, around.now, around.tuning)?;
        }
        for address in addresses.iter().filter(|_| empty) {
            if let Some(target) = self.group_mut(group)?.targets.get_mut(address) {
                target.spare_slow_start();
            }
        }
        Ok(())
    }

    /// `DeregisterTargets`. Targets that are not there are passed over.
    pub(in crate::world) fn deregister_targets(
        &mut self,
        group: &str,
        targets: &[TargetDescription],
        now: Timestamp,
        tuning: &Tuning,
    ) -> Result<(), ApiError> {
        self.group(group)?;
        for address in self.all_addressed(group, targets)? {
            self.deregister(group, &address, now, tuning);
        }
        Ok(())
    }

    /// `DescribeTargetHealth` of all targets, or of the named ones.
    pub(in crate::world) fn describe_target_health(
        &self,
        group: &str,
        targets: &[TargetDescription],
    ) -> Result<Vec<TargetHealthDescription>, ApiError> {
        let stored = self.group(group)?;
        let addresses = if targets.is_empty() {
            stored.targets.keys().cloned().collect()
        } else {
            self.all_addressed(group, targets)?
        };
        let described = addresses.into_iter().map(|address| {
            let target_health =
                stored.targets.get(&address).map_or_else(not_registered, |t| t.health.shape());
            let checked = &stored.shape.health_check_port;
            let health_check_port =
                if checked == "traffic-port" { address.port.to_string() } else { checked.clone() };
            let target =
                TargetDescription { id: address.ip, port: Some(address.port), availability_zone: None };
            TargetHealthDescription { target, health_check_port, target_health }
        });
        Ok(described.collect())
    }

    /// What the load balancer thinks of a target; `None` when it is not registered.
    pub(in crate::world) fn health(&self, group: &str, address: &Address) -> Option<&Health> {
        Some(&self.groups.get(group)?.targets.get(address)?.health)
    }

    /// Whether a target is on its way out.
    pub(in crate::world) fn is_draining(&self, group: &str, address: &Address) -> bool {
        matches!(self.health(group, address), Some(Health::Draining(_)))
    }

    /// Takes the result of a probe by a real runtime; whether the target's state changed.
    ///
    /// Targets are always probed at their traffic port, whatever `HealthCheckPort` says: a real runtime
    /// maps container ports, so another port of the container has no address here.
    pub(in crate::world) fn probed(
        &mut self,
        group: &str,
        address: &Address,
        healthy: bool,
        detail: &str,
        now: Timestamp,
        tuning: &Tuning,
    ) -> bool {
        let Some(stored) = self.groups.get_untouched(group) else { return false };
        let pace = stored.pace(tuning);
        let Some(target) = stored.targets.get_mut(address) else { return false };
        let changed = target.probed(healthy, detail, pace);
        if changed {
            stored.start_slowly(&BTreeSet::from([address.clone()]), now);
            self.groups.touch(&group.to_owned());
            self.version += 1;
        }
        changed
    }

    /// Makes a simulated application fail or pass its probes from now on.
    pub(in crate::world) fn set_sick(
        &mut self,
        group: &str,
        address: &Address,
        sick: bool,
        now: Timestamp,
        tuning: &Tuning,
    ) -> bool {
        let Some(stored) = self.groups.get_mut(group) else { return false };
        let pace = stored.pace(tuning);
        let Some(target) = stored.targets.get_mut(address) else { return false };
        target.set_sick(sick, now, pace);
        true
    }

    /// Targets that a real runtime should probe.
    pub(in crate::world) fn probe_orders(&self) -> Vec<ProbeOrder> {
        let mut orders = Vec::new();
        for (arn, group) in self.probed.iter().filter_map(|arn| self.groups.get_key_value(arn)) {
            let shape = &group.shape;
            orders.extend(group.probed().map(|(address, _)| ProbeOrder {
                group: arn.clone(),
                target: address.clone(),
                interval_ms: u64::from(shape.health_check_interval_seconds) * 1000,
                timeout_ms: u64::from(shape.health_check_timeout_seconds) * 1000,
                check: group.check(),
            }));
        }
        orders
    }

    pub(in crate::world) fn next_due(&self) -> Option<Timestamp> {
        self.groups.next_due()
    }

    /// What is due up to `now`: registrations, modelled probes, ends of draining.
    pub(in crate::world) fn advance(&mut self, now: Timestamp, tuning: &Tuning) {
        for arn in self.groups.due_by(now) {
            let Some(group) = self.groups.get_mut(&arn) else { continue };
            self.version += u64::from(group.advance(now, tuning));
        }
    }

    /// Looks at every group, whatever was touched or is due: what plans and derived sets spare, in full.
    #[cfg(test)]
    pub(in crate::world) fn scan(&mut self, now: Timestamp, tuning: &Tuning) {
        self.users.clear();
        self.probed.clear();
        let groups = std::mem::take(&mut self.groups);
        for (arn, group) in groups.iter() {
            let mut group = group.clone();
            self.version += u64::from(group.advance(now, tuning));
            self.groups.insert(arn.clone(), group);
        }
        let version = self.version;
        self.rewire(now, tuning);
        self.version = version;
        let unused: Vec<String> =
            self.groups.keys().filter(|arn| !self.users.contains_key(*arn)).cloned().collect();
        for arn in unused {
            if let Some(group) = self.groups.get_mut(&arn) {
                group.set_in_use(false, now, tuning);
            }
        }
        self.take_touched();
    }

    /// The groups that were touched since the last look, each planned anew.
    pub(in crate::world) fn take_touched(&mut self) -> Vec<String> {
        let mut touched = Vec::new();
        while let Some(arn) = self.groups.take_touched_after(touched.last()) {
            let group = self.groups.get(&arn);
            let due = group.and_then(StoredGroup::next_due);
            if group.is_some_and(|group| group.probed().next().is_some()) {
                self.probed.insert(arn.clone());
            } else {
                self.probed.remove(&arn);
            }
            self.groups.plan(&arn, due);
            touched.push(arn);
        }
        touched
    }
}

fn too_many(group: &str) -> ApiError {
    let message = format!("Target group '{group}' can't have more than {TARGETS_PER_GROUP} targets");
    ApiError::client("TooManyTargets", message)
}

fn not_registered() -> TargetHealth {
    TargetHealth {
        state: "unused".to_owned(),
        reason: Some("Target.NotRegistered".to_owned()),
        description: Some("Target is not registered to the target group".to_owned()),
    }
}
