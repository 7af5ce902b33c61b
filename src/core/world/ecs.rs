//! Amazon ECS: clusters, task definitions, services, EXTERNAL task sets and their tasks
//! (`aws-facts.md` §1).
//!
//! Every function checks before it changes anything: a refused call leaves the region as it was.

mod dispatch;
mod fleet;
mod scheduler;
mod service;
mod shapes;
mod task;
mod task_definition;
mod task_set;
mod tasks;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use shapes::{
    Cluster, CreateService, CreateTaskSet, Deployment, DeploymentController, Failure, Launch, LoadBalancer,
    RegisterTaskDefinition, Scale, Service, ServiceEvent, ServiceStatus, StabilityStatus, StopCode, Tag,
    Task, TaskDefinition, TaskSet, TaskSetStatus, Tenths, UpdateService,
};

pub use tasks::TaskFilter;

pub(super) use dispatch::{Members, Text};

use fleet::Fleet;
use scheduler::StoredService;

use super::ApiError;
use super::elb::Elb;
use super::ids::Ids;
use super::tuning::Tuning;

/// Tags of one resource (ECS quota).
const TAGS_PER_RESOURCE: usize = 50;

/// All of ECS in one region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ecs {
    account: String,
    region: String,
    /// Cluster name to ARN.
    clusters: BTreeMap<String, String>,
    families: BTreeMap<String, Vec<TaskDefinition>>,
    services: Fleet,
    tags: BTreeMap<String, BTreeMap<String, String>>,
}

/// What the functions of this module need besides their own state.
pub(super) struct Around<'a> {
    pub(super) now: Timestamp,
    pub(super) elb: &'a mut Elb,
    pub(super) ids: &'a mut Ids,
    pub(super) tuning: &'a Tuning,
}

impl Ecs {
    pub(super) fn new(account: &str, region: &str) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            clusters: BTreeMap::new(),
            families: BTreeMap::new(),
            services: Fleet::default(),
            tags: BTreeMap::new(),
        }
    }

    fn arn(&self, resource: &str) -> String {
        format!("arn:aws:ecs:{}:{}:{resource}", self.region, self.account)
    }

    /// The name of an existing cluster, from its name or ARN; `default` when omitted.
    fn cluster_name(&self, given: Option<&str>) -> Result<String, ApiError> {
        let given = given.unwrap_or("default");
        let prefix = self.arn("cluster/");
        let name = given.strip_prefix(&prefix).unwrap_or(given);
        if self.clusters.contains_key(name) {
            return Ok(name.to_owned());
        }
        Err(ApiError::client("ClusterNotFoundException", "Cluster not found."))
    }

    /// The key of a service, INACTIVE ones included, from its name or ARN.
    fn service_key(&self, cluster: Option<&str>, given: &str) -> Result<(String, String), ApiError> {
        let cluster = self.cluster_name(cluster)?;
        let key = self.any_service_key(&cluster, given);
        key.ok_or_else(|| ApiError::client("ServiceNotFoundException", "Service not found."))
    }

    fn any_service_key(&self, cluster: &str, given: &str) -> Option<(String, String)> {
        let name = match given.strip_prefix(&self.arn("service/")) {
            Some(rest) => match rest.split_once('/') {
                Some((of, name)) if of == cluster => name,
                Some(_) => return None,
                None => rest,
            },
            None => given,
        };
        let key = (cluster.to_owned(), name.to_owned());
        self.services.contains_key(&key).then_some(key)
    }

    /// The service whose ARN this is, or whose task set's.
    fn owner_of(&self, arn: &str) -> Option<&StoredService> {
        let (_, resource) = arn.rsplit_once(':')?;
        let mut parts = resource.split('/').skip(1);
        self.services.get(&(parts.next()?.to_owned(), parts.next()?.to_owned()))
    }

    fn set_tags(&mut self, arn: &str, tags: &[Tag]) {
        if tags.is_empty() {
            return;
        }
        let held = self.tags.entry(arn.to_owned()).or_default();
        held.extend(tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())));
    }

    fn tags_of(&self, arn: &str) -> Vec<Tag> {
        let held = self.tags.get(arn).into_iter().flatten();
        held.map(|(key, value)| Tag { key: key.clone(), value: value.clone() }).collect()
    }

    fn check_taggable(&self, arn: &str) -> Result<(), ApiError> {
        let is_there = self.clusters.values().any(|cluster| cluster == arn)
            || self.task_definition(arn).is_ok()
            || self.services.task(arn).is_some()
            || self.owner_of(arn).is_some_and(|service| service.owns(arn));
        if is_there {
            return Ok(());
        }
        Err(invalid("The specified resource ARN was not found."))
    }

    /// `TagResource`.
    pub(super) fn tag_resource(&mut self, arn: &str, tags: &[Tag]) -> Result<(), ApiError> {
        self.check_taggable(arn)?;
        let mut all = self.tags.get(arn).cloned().unwrap_or_default();
        all.extend(tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())));
        check_tag_count(all.len())?;
        self.tags.insert(arn.to_owned(), all);
        Ok(())
    }

    /// `UntagResource`.
    pub(super) fn untag_resource(&mut self, arn: &str, keys: &[String]) -> Result<(), ApiError> {
        self.check_taggable(arn)?;
        if let Some(held) = self.tags.get_mut(arn) {
            held.retain(|key, _| !keys.contains(key));
        }
        Ok(())
    }

    /// `ListTagsForResource`.
    pub(super) fn list_tags(&self, arn: &str) -> Result<Vec<Tag>, ApiError> {
        self.check_taggable(arn)?;
        Ok(self.tags_of(arn))
    }

    /// `CreateCluster`: an existing one is answered as it is.
    pub(super) fn create_cluster(&mut self, name: Option<&str>, tags: &[Tag]) -> Result<Cluster, ApiError> {
        let name = name.unwrap_or("default");
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 255 || !name.chars().all(valid) {
            return Err(invalid("Cluster name contains invalid characters."));
        }
        check_tag_count(tags.len())?;
        let arn = self.arn(&format!("cluster/{name}"));
        self.clusters.insert(name.to_owned(), arn.clone());
        self.set_tags(&arn, tags);
        Ok(self.cluster(name, true))
    }

    fn cluster(&self, name: &str, with_tags: bool) -> Cluster {
        let arn = self.clusters.get(name).cloned().unwrap_or_default();
        let services =
            || self.services.iter().filter(|((cluster, _), _)| cluster == name).map(|(_, service)| service);
        Cluster {
            cluster_name: name.to_owned(),
            status: "ACTIVE".to_owned(),
            running_tasks_count: services().map(StoredService::running_count).sum(),
            pending_tasks_count: services().map(StoredService::pending_count).sum(),
            active_services_count: count(services().filter(|service| service.is_active()).count()),
            registered_container_instances_count: 0,
            tags: if with_tags { self.tags_of(&arn) } else { Vec::new() },
            cluster_arn: arn,
        }
    }

    /// `DescribeClusters`.
    pub(super) fn describe_clusters(
        &self,
        names: &[String],
        with_tags: bool,
    ) -> (Vec<Cluster>, Vec<Failure>) {
        let default = ["default".to_owned()];
        let names = if names.is_empty() { &default } else { names };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for given in names {
            match self.cluster_name(Some(given)) {
                Ok(name) => found.push(self.cluster(&name, with_tags)),
                Err(_) => missing.push(self.missing("cluster/", given)),
            }
        }
        (found, missing)
    }

    fn missing(&self, kind: &str, given: &str) -> Failure {
        let arn =
            if given.starts_with("arn:") { given.to_owned() } else { self.arn(&format!("{kind}{given}")) };
        Failure { arn, reason: "MISSING".to_owned() }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.services.next_due()
    }

    /// What the tasks do by themselves up to `now`.
    pub(super) fn advance(&mut self, around: &mut Around<'_>) {
        self.services.advance(around);
    }

    /// See [`Fleet::scanned`].
    #[cfg(test)]
    pub(super) fn scan(&mut self, around: &mut Around<'_>) {
        self.services = self.services.scanned(around);
    }

    /// Lets the scheduler bring every service to what is asked for.
    pub(super) fn settle(&mut self, around: &mut Around<'_>) {
        for gone in self.services.settle(around) {
            self.tags.remove(&gone);
        }
    }
}

fn check_tag_count(held: usize) -> Result<(), ApiError> {
    if held > TAGS_PER_RESOURCE {
        return Err(invalid(format!("A resource can have at most {TAGS_PER_RESOURCE} tags.")));
    }
    Ok(())
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

fn client(message: impl Into<String>) -> ApiError {
    ApiError::client("ClientException", message)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterException", message)
}
