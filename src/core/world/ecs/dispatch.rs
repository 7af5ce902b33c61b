//! From operation names and JSON to the functions of this module.

use jiff::Timestamp;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::tasks::TaskFilter;
use super::{Around, Ecs, Scale, Tag, TaskDefinition, invalid};
use crate::world::ApiError;
use crate::world::wire::{page, request, response, text};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Arguments {
    cluster: Option<String>,
    cluster_name: Option<String>,
    clusters: Vec<String>,
    service: Option<String>,
    services: Vec<String>,
    service_name: Option<String>,
    task_definition: Option<String>,
    task_set: Option<String>,
    task_sets: Vec<String>,
    primary_task_set: Option<String>,
    task: Option<String>,
    tasks: Vec<String>,
    reason: Option<String>,
    scale: Option<Scale>,
    force: Option<bool>,
    include: Vec<String>,
    started_by: Option<String>,
    desired_status: Option<String>,
    family: Option<String>,
    family_prefix: Option<String>,
    resource_arn: Option<String>,
    tags: Vec<Tag>,
    tag_keys: Vec<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn needed<'a>(value: Option<&'a String>, name: &str) -> Result<&'a str, ApiError> {
    value.map(String::as_str).ok_or_else(|| invalid(format!("{name} can not be blank.")))
}

impl Arguments {
    fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    fn service(&self) -> Result<&str, ApiError> {
        needed(self.service.as_ref(), "Service")
    }

    fn with_tags(&self) -> bool {
        self.include.iter().any(|include| include == "TAGS")
    }

    fn force(&self) -> bool {
        self.force == Some(true)
    }

    /// One page of ARNs under their member name.
    fn paged(&self, member: &str, arns: Vec<String>, default_size: usize) -> Result<Value, ApiError> {
        let size = self.max_results.unwrap_or(default_size);
        if !(1..=100).contains(&size) {
            return Err(invalid("maxResults must be between 1 and 100."));
        }
        let (arns, next) = page(arns, self.next_token.as_deref(), size).map_err(invalid)?;
        let mut output = json!({ member: arns });
        if let Some(next) = next {
            output["nextToken"] = Value::String(next);
        }
        Ok(output)
    }
}

fn read<T: for<'de> Deserialize<'de>>(input: Value) -> Result<T, ApiError> {
    request(input, "InvalidParameterException")
}

/// How an answer is given.
pub(in crate::world) trait Form {
    type Made;

    fn make<T: Serialize>(shape: &T) -> Result<Self::Made, ApiError>;
}

/// As members, for whoever works on them.
pub(in crate::world) struct Members;

impl Form for Members {
    type Made = Value;

    fn make<T: Serialize>(shape: &T) -> Result<Value, ApiError> {
        response(shape)
    }
}

/// As the JSON text that a client gets: no tree of members is made only to be written out and taken down.
pub(in crate::world) struct Text;

impl Form for Text {
    type Made = String;

    fn make<T: Serialize>(shape: &T) -> Result<String, ApiError> {
        text(shape)
    }
}

/// An object of one member.
struct One<'a, T>(&'static str, &'a T);

impl<T: Serialize> Serialize for One<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map([(self.0, self.1)])
    }
}

fn one<T: Serialize>(member: &'static str, item: &T) -> Result<Value, ApiError> {
    response(&One(member, item))
}

/// What was found, and what was not.
struct Listed<'a, T, M>(&'static str, &'a (Vec<T>, Vec<M>));

impl<T: Serialize, M: Serialize> Serialize for Listed<'_, T, M> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(member, (found, missing)) = self;
        let mut members = to.serialize_map(Some(2))?;
        members.serialize_entry(member, found)?;
        members.serialize_entry("failures", missing)?;
        members.end()
    }
}

impl Ecs {
    /// One call that may change something.
    pub(in crate::world) fn call(
        &mut self,
        operation: &str,
        input: Value,
        around: &mut Around<'_>,
    ) -> Result<Value, ApiError> {
        match operation {
            "CreateService" => one("service", &self.create_service(read(input)?, around)?),
            "UpdateService" => one("service", &self.update_service(read(input)?, around)?),
            "CreateTaskSet" => one("taskSet", &self.create_task_set(read(input)?, around)?),
            "RegisterTaskDefinition" => {
                let definition = self.register_task_definition(around.now, read(input)?)?;
                self.with_tags(&definition, true)
            }
            _ => self.change(operation, &read(input)?, around),
        }
    }

    fn with_tags(&self, definition: &TaskDefinition, wanted: bool) -> Result<Value, ApiError> {
        let mut output = one("taskDefinition", definition)?;
        if wanted {
            output["tags"] = response(&self.tags_of(&definition.task_definition_arn))?;
        }
        Ok(output)
    }

    fn change(
        &mut self,
        operation: &str,
        given: &Arguments,
        around: &mut Around<'_>,
    ) -> Result<Value, ApiError> {
        match operation {
            "CreateCluster" => {
                one("cluster", &self.create_cluster(given.cluster_name.as_deref(), &given.tags)?)
            }
            "DeregisterTaskDefinition" => {
                let name = needed(given.task_definition.as_ref(), "TaskDefinition")?;
                one("taskDefinition", &self.deregister_task_definition(around.now, name)?)
            }
            "DeleteService" => {
                let deleted =
                    self.delete_service(given.cluster(), given.service()?, given.force(), around)?;
                one("service", &deleted)
            }
            "UpdateTaskSet" => {
                let scale = given.scale.clone().ok_or_else(|| invalid("Scale can not be blank."))?;
                let set = needed(given.task_set.as_ref(), "TaskSet")?;
                one(
                    "taskSet",
                    &self.update_task_set(given.cluster(), given.service()?, set, scale, around.now)?,
                )
            }
            "DeleteTaskSet" => {
                let set = needed(given.task_set.as_ref(), "TaskSet")?;
                let (cluster, service, force) = (given.cluster(), given.service()?, given.force());
                one("taskSet", &self.delete_task_set(cluster, service, set, force, around.now)?)
            }
            "UpdateServicePrimaryTaskSet" => {
                let set = needed(given.primary_task_set.as_ref(), "PrimaryTaskSet")?;
                let (cluster, service) = (given.cluster(), given.service()?);
                one("taskSet", &self.update_service_primary_task_set(cluster, service, set, around.now)?)
            }
            "StopTask" => {
                let task = needed(given.task.as_ref(), "Task")?;
                one("task", &self.stop_task(given.cluster(), task, given.reason.as_deref(), around)?)
            }
            "TagResource" => {
                self.tag_resource(needed(given.resource_arn.as_ref(), "ResourceArn")?, &given.tags)?;
                Ok(json!({}))
            }
            "UntagResource" => {
                self.untag_resource(needed(given.resource_arn.as_ref(), "ResourceArn")?, &given.tag_keys)?;
                Ok(json!({}))
            }
            other => Err(unknown(other)),
        }
    }

    /// One call that changes nothing.
    pub(in crate::world) fn look<F: Form>(
        &self,
        operation: &str,
        input: Value,
        now: Timestamp,
    ) -> Result<F::Made, ApiError> {
        let given: &Arguments = &read(input)?;
        let (cluster, tags) = (given.cluster(), given.with_tags());
        match operation {
            "DescribeClusters" => {
                F::make(&Listed("clusters", &self.describe_clusters(&given.clusters, tags)))
            }
            "DescribeTaskDefinition" => {
                let name = needed(given.task_definition.as_ref(), "TaskDefinition")?;
                F::make(&self.with_tags(self.task_definition(name)?, tags)?)
            }
            "DescribeServices" => {
                F::make(&Listed("services", &self.describe_services(cluster, &given.services, tags, now)?))
            }
            "DescribeTaskSets" => {
                let service = given.service()?;
                let found = self.describe_task_sets(cluster, service, &given.task_sets, tags, now)?;
                F::make(&Listed("taskSets", &found))
            }
            "DescribeTasks" => F::make(&Listed("tasks", &self.describe_tasks(cluster, &given.tasks)?)),
            "ListClusters" => {
                F::make(&given.paged("clusterArns", self.clusters.values().cloned().collect(), 100)?)
            }
            "ListTaskDefinitions" => {
                let prefix = given.family_prefix.as_deref();
                let families =
                    self.families.iter().filter(|(family, _)| prefix.is_none_or(|prefix| prefix == *family));
                let active = families
                    .flat_map(|(_, revisions)| revisions)
                    .filter(|definition| definition.status == "ACTIVE")
                    .map(|definition| definition.task_definition_arn.clone());
                F::make(&given.paged("taskDefinitionArns", active.collect(), 100)?)
            }
            "ListServices" => F::make(&given.paged("serviceArns", self.list_services(cluster)?, 10)?),
            "ListTasks" => {
                let filter = TaskFilter {
                    service_name: given.service_name.clone(),
                    started_by: given.started_by.clone(),
                    desired_status: given.desired_status.clone(),
                    family: given.family.clone(),
                };
                F::make(&given.paged("taskArns", self.list_tasks(cluster, &filter)?, 100)?)
            }
            "ListTagsForResource" => {
                let arn = needed(given.resource_arn.as_ref(), "ResourceArn")?;
                F::make(&One("tags", &self.list_tags(arn)?))
            }
            other => Err(unknown(other)),
        }
    }
}

fn unknown(operation: &str) -> ApiError {
    ApiError::client("UnknownOperationException", format!("{operation} is not part of this model"))
}
