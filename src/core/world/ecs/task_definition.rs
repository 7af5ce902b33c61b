//! Task definitions: revisions of families, kept as given.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Ecs, LoadBalancer, RegisterTaskDefinition, TaskDefinition, client, invalid};
use crate::world::ApiError;
use crate::world::tuning::{Runtime, Tuning};

/// What a running task takes from its task definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Template {
    pub(super) task_definition_arn: String,
    /// `family:revision`.
    pub(super) revision: String,
    /// The container that takes the traffic.
    pub(super) container: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) container_port: u16,
    /// `None`: real processes run its tasks, if the region has a runtime for them.
    pub(super) behaviour: Option<Behaviour>,
    pub(super) launch_type: String,
}

/// How the tasks that the model runs behave: `POINTSMAN_SIM` in the environment of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Behaviour {
    /// `ghost`, or any other value: starts and passes its health checks.
    Sound,
    /// `crash`: exits with code 1 soon after its start.
    Crash,
    /// `unhealthy`: runs, but fails its health checks.
    Unhealthy,
    /// `never`: stays PENDING.
    Never,
    /// `pull-error`: stops before it runs, because its image is not there.
    PullError,
}

impl Behaviour {
    fn of(environment: &BTreeMap<String, String>) -> Option<Self> {
        Some(match environment.get("POINTSMAN_SIM")?.as_str() {
            "crash" => Self::Crash,
            "unhealthy" => Self::Unhealthy,
            "never" => Self::Never,
            "pull-error" => Self::PullError,
            _ => Self::Sound,
        })
    }
}

impl Template {
    /// How the model runs its tasks; `None` when real processes do.
    pub(super) fn modelled(&self, tuning: &Tuning) -> Option<Behaviour> {
        match tuning.runtime {
            Runtime::Simulated => Some(self.behaviour.unwrap_or(Behaviour::Sound)),
            Runtime::External => self.behaviour,
        }
    }
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned))
}

/// Ports that a container declares.
fn ports(container: &Value) -> impl Iterator<Item = u16> {
    let mappings = container["portMappings"].as_array().into_iter().flatten();
    mappings.filter_map(|mapping| mapping["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok()))
}

impl TaskDefinition {
    pub(super) fn network_mode(&self) -> &str {
        self.other.get("networkMode").and_then(Value::as_str).unwrap_or("bridge")
    }

    /// Whether tasks of this definition may run with that launch type.
    pub(super) fn supports(&self, launch_type: &str) -> bool {
        let required = self.other.get("requiresCompatibilities").and_then(Value::as_array);
        match required.filter(|required| !required.is_empty()) {
            Some(required) => required.iter().any(|kind| kind.as_str() == Some(launch_type)),
            None => launch_type != "FARGATE",
        }
    }

    /// Checks that a load balancer's container and port are there, in AWS's words.
    pub(super) fn check_container(&self, name: &str, port: u16) -> Result<(), ApiError> {
        let container = self.container_definitions.iter().find(|c| c["name"] == name);
        let Some(container) = container else {
            return Err(invalid(format!("The container {name} does not exist in the task definition.")));
        };
        if ports(container).any(|declared| declared == port) {
            return Ok(());
        }
        Err(invalid(format!("The container {name} did not have a container port {port} defined.")))
    }

    /// What tasks take from this definition when `load_balancer` names the container with the traffic.
    pub(super) fn template(&self, load_balancer: Option<&LoadBalancer>, launch_type: &str) -> Arc<Template> {
        let named = load_balancer.and_then(|lb| lb.container_name.as_deref());
        let serving = self.container_definitions.iter().find(|container| match named {
            Some(name) => container["name"] == name,
            None => ports(container).next().is_some(),
        });
        let container = serving.or_else(|| self.container_definitions.first()).unwrap_or(&Value::Null);
        let pairs = container["environment"].as_array().into_iter().flatten();
        let environment: BTreeMap<String, String> = pairs
            .filter_map(|pair| Some((pair["name"].as_str()?.to_owned(), pair["value"].as_str()?.to_owned())))
            .collect();
        let port = load_balancer.and_then(|lb| lb.container_port).or_else(|| ports(container).next());
        Arc::new(Template {
            task_definition_arn: self.task_definition_arn.clone(),
            revision: format!("{}:{}", self.family, self.revision),
            container: container["name"].as_str().unwrap_or_default().to_owned(),
            image: container["image"].as_str().unwrap_or_default().to_owned(),
            command: texts(&container["entryPoint"]).chain(texts(&container["command"])).collect(),
            behaviour: Behaviour::of(&environment),
            environment,
            container_port: port.unwrap_or_default(),
            launch_type: launch_type.to_owned(),
        })
    }
}

impl Ecs {
    /// `RegisterTaskDefinition`.
    pub(in crate::world) fn register_task_definition(
        &mut self,
        now: Timestamp,
        input: RegisterTaskDefinition,
    ) -> Result<TaskDefinition, ApiError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if input.family.is_empty() || input.family.len() > 255 || !input.family.chars().all(valid) {
            return Err(client("Family contains invalid characters."));
        }
        if input.container_definitions.is_empty() {
            return Err(client("Container list cannot be empty."));
        }
        for container in &input.container_definitions {
            let has = |member: &str| container[member].as_str().is_some_and(|text| !text.is_empty());
            if !has("name") || !has("image") {
                return Err(client("Container.image should not be null or empty."));
            }
        }
        let revisions = self.families.entry(input.family.clone()).or_default();
        let revision = u32::try_from(revisions.len()).unwrap_or(u32::MAX).saturating_add(1);
        let mut other = input.other;
        let required = other.get("requiresCompatibilities").cloned();
        other.insert("compatibilities".to_owned(), required.unwrap_or_else(|| Value::from(vec!["EC2"])));
        for list in ["volumes", "placementConstraints"] {
            other.entry(list.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
        }
        let definition = TaskDefinition {
            task_definition_arn: format!(
                "arn:aws:ecs:{}:{}:task-definition/{}:{revision}",
                self.region, self.account, input.family
            ),
            family: input.family,
            revision,
            status: "ACTIVE".to_owned(),
            container_definitions: input.container_definitions,
            registered_at: now,
            deregistered_at: None,
            other,
        };
        revisions.push(definition.clone());
        self.set_tags(&definition.task_definition_arn, &input.tags);
        Ok(definition)
    }

    /// A task definition by `family` (its latest ACTIVE revision), `family:revision` or ARN.
    pub(in crate::world) fn task_definition(&self, name: &str) -> Result<&TaskDefinition, ApiError> {
        let unknown = || client("Unable to describe task definition.");
        let short = match name.split_once(":task-definition/") {
            // The account and the region of an ARN count: another region's definition is not here.
            Some((prefix, rest)) if prefix == format!("arn:aws:ecs:{}:{}", self.region, self.account) => rest,
            Some(_) => return Err(unknown()),
            None => name,
        };
        let (family, revision) = match short.split_once(':') {
            Some((family, revision)) => (family, Some(revision.parse::<u32>().map_err(|_| unknown())?)),
            None => (short, None),
        };
        let revisions = self.families.get(family).ok_or_else(unknown)?;
        let found = match revision {
            Some(revision) => revisions.iter().find(|definition| definition.revision == revision),
            None => revisions.iter().rev().find(|definition| definition.status == "ACTIVE"),
        };
        found.ok_or_else(unknown)
    }

    /// `DeregisterTaskDefinition`: no new task may use it; running ones go on.
    pub(in crate::world) fn deregister_task_definition(
        &mut self,
        now: Timestamp,
        name: &str,
    ) -> Result<TaskDefinition, ApiError> {
        if !name.rsplit('/').next().unwrap_or_default().contains(':') {
            return Err(client("Missing revision"));
        }
        let found = self.task_definition(name)?;
        let (family, revision) = (found.family.clone(), found.revision);
        let revisions = self.families.get_mut(&family).into_iter().flatten();
        for definition in revisions.filter(|definition| definition.revision == revision) {
            if definition.status == "ACTIVE" {
                definition.deregistered_at = Some(now);
            }
            "INACTIVE".clone_into(&mut definition.status);
        }
        self.task_definition(&format!("{family}:{revision}")).cloned()
    }
}
