//! The two records of the demo, as people write them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{NAME, NAMESPACE, Site};
use crate::demo::DemoError;
use crate::demo::pace::Pace;
use crate::records::desired_release::{ApiVersion, DesiredReleaseKind, ReleaseMetadata};
use crate::records::managed_service::{
    AlarmPolicy, AlarmRef, Container, Deadlines, Drift, EcsService, LaunchType, ManagedService,
    ManagedServiceKind, ManagedServiceSpec, Network, Route, Routes, ServiceMetadata, Stickiness,
    TaskSetTemplate, Waits, Watches,
};
use crate::records::names::Label;
use crate::records::strategy::{Canary, Strategy};
use crate::records::{DesiredRelease, DesiredReleaseSpec};

/// Port of the demo app in its task definition.
pub const CONTAINER_PORT: u16 = 8080;
/// Its container.
pub const CONTAINER: &str = "web";
const STRATEGY: &str = "canary";

/// A DNS label out of a constant.
pub fn label(text: &str) -> Result<Label, DemoError> {
    text.parse().map_err(DemoError::Name)
}

fn document(record: &impl Serialize) -> Result<Value, DemoError> {
    serde_json::to_value(record).map_err(DemoError::Json)
}

/// What the platform team writes.
pub fn managed_service(site: &Site, pace: &Pace) -> Result<Value, DemoError> {
    let metadata =
        ServiceMetadata { namespace: label(NAMESPACE)?, name: label(NAME)?, labels: BTreeMap::new() };
    let spec = spec(site, pace)?;
    let kind = ManagedServiceKind::ManagedService;
    document(&ManagedService { api_version: ApiVersion::V1, kind, metadata, spec })
}

fn spec(site: &Site, pace: &Pace) -> Result<ManagedServiceSpec, DemoError> {
    let port = CONTAINER_PORT.try_into().map_err(|_| DemoError::Missing { what: "a container port" })?;
    let canary = Canary { weight: pace.canary, bake: pace.canary_bake };
    let strategy = Strategy { canary: Some(canary), ..Strategy::default() };
    let alarm = |name: &String, watches| AlarmRef { name: name.clone(), watches, no_data: None };
    Ok(ManagedServiceSpec {
        ecs: EcsService { cluster: site.cluster.clone(), service: site.service.clone() },
        task_definition_family: NAME.to_owned(),
        container: Container { name: CONTAINER.to_owned(), port },
        target_groups: site.groups.clone(),
        routes: routes(site),
        task_set: template(),
        alarms: vec![
            alarm(&site.group_alarms.a, Watches::A),
            alarm(&site.group_alarms.b, Watches::B),
            alarm(&site.service_alarm, Watches::Service),
        ],
        alarm_policy: AlarmPolicy { evidence_deadline: pace.deadline, ..AlarmPolicy::default() },
        strategies: BTreeMap::from([(STRATEGY.to_owned(), strategy)]),
        default_strategy: STRATEGY.to_owned(),
        release_may_choose: Vec::new(),
        test_hold: pace.test_hold,
        bake: pace.bake,
        retention: pace.retention,
        deadlines: Deadlines {
            start: pace.deadline,
            prepare: pace.deadline,
            capacity: pace.deadline,
            weight_write: pace.deadline,
            primary: pace.deadline,
            cleanup: pace.deadline,
        },
        waits: Waits {
            propagation: pace.propagation,
            quiet: pace.quiet,
            quiet_after_unknown: pace.quiet_after_unknown,
        },
        drift: Drift::default(),
        adopt: None,
        suspend: false,
    })
}

fn routes(site: &Site) -> Routes {
    let route = |name: &str, rule| Route { name: name.to_owned(), rule: Some(rule), listener_default: None };
    Routes {
        production: vec![route("public", site.production.clone())],
        test: Some(route("preview", site.test.clone())),
        stickiness: Stickiness::default(),
    }
}

fn template() -> TaskSetTemplate {
    let network = Network {
        subnets: vec![super::region::SUBNETS[0].to_owned()],
        security_groups: Vec::new(),
        assign_public_ip: false,
    };
    TaskSetTemplate {
        launch_type: Some(LaunchType::Fargate),
        network: Some(network),
        ..TaskSetTemplate::default()
    }
}

/// What a developer or a pipeline writes.
pub fn desired_release(revision: &str, request_id: &str) -> Result<Value, DemoError> {
    let metadata =
        ReleaseMetadata { namespace: label(NAMESPACE)?, name: label(NAME)?, annotations: BTreeMap::new() };
    let spec = DesiredReleaseSpec {
        task_definition: revision.to_owned(),
        strategy: None,
        request_id: Some(request_id.to_owned()),
    };
    let kind = DesiredReleaseKind::DesiredRelease;
    document(&DesiredRelease { api_version: ApiVersion::V1, kind, metadata, spec })
}
