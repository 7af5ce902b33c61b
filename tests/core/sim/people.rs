//! What people do to a service: they write records and commands, and act in AWS themselves.

use pointsman_core::decide::{Asked, Wish};
use pointsman_core::model::Effect;
use pointsman_core::records::command::{Command, CommandKind, CommandSpec, PromoteStep, Verb};
use pointsman_core::records::desired_release::{ApiVersion, DesiredReleaseSpec};
use pointsman_core::records::{Percent, Span};

use super::Sim;

impl Sim {
    pub fn ask(&mut self, revision: u32) {
        self.ask_as(revision, None);
    }

    pub fn ask_as(&mut self, revision: u32, request_id: Option<&str>) {
        let spec = DesiredReleaseSpec {
            task_definition: format!("checkout:{revision}"),
            strategy: None,
            request_id: request_id.map(str::to_owned),
        };
        let hash = format!("sha256:{revision}-{}", request_id.unwrap_or_default());
        self.last_next = None;
        self.desired = Asked::Valid { spec, hash };
    }

    pub fn command(&mut self, verb: Verb, release: &str, step: Option<PromoteStep>) {
        let id = format!("01COMMAND{:017}", self.wishes.len());
        let spec = CommandSpec { verb, release: release.to_owned(), step, by: Some("mara".to_owned()) };
        let command =
            Command { api_version: ApiVersion::V1, kind: CommandKind::Command, spec, expire_at: None };
        self.wishes.push(Wish { id, age: Span::ZERO, command: Ok(command) });
    }

    pub fn suspend(&mut self, suspend: bool) {
        if let Asked::Valid { spec, .. } = &mut self.service {
            spec.suspend = suspend;
        }
    }

    /// The platform team deletes the record; `restore_service` writes it again.
    pub fn withdraw_service_for_a_while(&mut self) {
        if let Asked::Valid { spec, .. } = &self.service {
            self.withdrawn = Some(spec.clone());
            self.service = Asked::Absent;
        }
    }

    pub fn restore_service(&mut self) {
        if let Some(spec) = self.withdrawn.take() {
            self.service = Asked::Valid { spec, hash: "sha256:service".to_owned() };
        }
    }

    /// Somebody makes a task set PRIMARY.
    pub fn make_primary_by_hand(&mut self, task_set: &str) {
        let plan = self.durable.plan.clone().expect("pinned");
        let effect = Effect::SetPrimary { task_set: task_set.to_owned() };
        self.region.carry_out(self.now, &plan, &effect);
    }

    /// Somebody scales a task set.
    pub fn scale_by_hand(&mut self, task_set: &str, scale: Percent) {
        let plan = self.durable.plan.clone().expect("pinned");
        let effect = Effect::ScaleTaskSet { task_set: task_set.to_owned(), scale };
        self.region.carry_out(self.now, &plan, &effect);
    }

    /// Somebody deletes a task set; what that breaks is not our violation.
    pub fn delete_by_hand(&mut self, task_set: &str) {
        self.foreign_hand = true;
        self.region.delete_set_by_hand(self.now, task_set);
    }

    pub fn delete_some_set_by_hand(&mut self) {
        self.foreign_hand = true;
        if let Some(set) = self.region.task_sets().last() {
            let arn = set.task_set_arn.clone();
            self.region.delete_set_by_hand(self.now, &arn);
        }
    }

    /// Somebody else writes weights; what they break is not our violation.
    pub fn move_by_hand(&mut self, a: u32, b: u32) {
        self.move_route_by_hand("public", a, b);
    }

    /// As above, those of this route.
    pub fn move_route_by_hand(&mut self, route: &str, a: u32, b: u32) {
        self.foreign_hand = true;
        self.last_next = None;
        self.region.write_weights(self.now, route, a, b);
    }

    /// Somebody deletes the production rule.
    pub fn delete_rule_by_hand(&mut self) {
        self.foreign_hand = true;
        self.last_next = None;
        self.region.delete_production_rule(self.now);
    }

    /// Somebody makes it anew and writes its ARN into the record.
    pub fn remake_rule_by_hand(&mut self, a: u32, b: u32) {
        let rule = self.region.make_production_rule(self.now, a, b);
        if let Asked::Valid { spec, .. } = &mut self.service {
            spec.routes.production[0].rule = Some(serde_json::from_value(rule.into()).expect("an ARN"));
        }
    }
}
