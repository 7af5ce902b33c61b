//! One service in the pure region, seen and changed as the AWS adapters would. The fault harness
//! (`tests/proof`) runs on it too.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pointsman_core::model::effect::Shares;
use pointsman_core::model::observed::{
    Alarm, AlarmState, Extra, LoadBalancer, Observed, Preflight, Service, Targets, Weights,
};
use pointsman_core::model::{Acknowledgement, Answer, Effect, Need, Plan, RefusalClass, Revision, Seen};
use pointsman_core::records::managed_service::{ManagedServiceSpec, Route};
use pointsman_core::records::{Group, Percent, Span};
use pointsman_core::world::{ApiError, Region, Runtime, Tuning, ecs, elb};
use serde_json::json;

pub use super::seen::GROUPS;
use super::seen::{self, answered, group_arn, shares_of, sticky_of};

const CLUSTER: &str = "prod";
const SERVICE: &str = "checkout";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SimAlarm {
    state: AlarmState,
    changed_at: Timestamp,
    entered: Vec<(Timestamp, AlarmState)>,
}

/// A region with one load balancer, one service, two groups, a production and a test route.
#[derive(Clone)]
pub struct SmallRegion {
    region: std::cell::RefCell<Region>,
    alarms: BTreeMap<String, SimAlarm>,
    groups: BTreeMap<Group, String>,
    public: String,
    preview: String,
    /// A second production route, when there is one.
    internal: Option<String>,
    listener: String,
    load_balancer: String,
    service_arn: String,
    before: BTreeMap<String, Shares>,
}

fn seconds(n: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(n)
}

impl SmallRegion {
    pub fn new() -> Self {
        let tuning = Tuning {
            runtime: Runtime::Simulated,
            task_start: seconds(3),
            stop_timeout: seconds(2),
            steady_lag: seconds(1),
            target_registration: seconds(1),
            draining_speed: 60,
            ..Tuning::default()
        };
        Self::tuned(tuning, 6, |revision| if revision == 5 { "unhealthy" } else { "sound" })
    }

    /// One whose revisions up to `revisions` behave as `sim` says (`POINTSMAN_SIM`).
    pub fn tuned(tuning: Tuning, revisions: u32, sim: fn(u32) -> &'static str) -> Self {
        let mut region = Region::new("111122223333", "eu-central-1", tuning);
        let now = start();
        region.create_cluster(now, CLUSTER).expect("a cluster");
        for revision in 1..=revisions {
            let sim = json!([{"name": "POINTSMAN_SIM", "value": sim(revision)}]);
            let container = json!({"name": "web", "image": "web", "essential": true, "memory": 128,
                "portMappings": [{"containerPort": 8080}], "environment": sim});
            let input = json!({"family": "checkout", "networkMode": "awsvpc", "containerDefinitions": [container],
                "cpu": "256", "memory": "512", "requiresCompatibilities": ["FARGATE"]});
            let input = serde_json::from_value(input).expect("a task definition");
            region.register_task_definition(now, input).expect("registers");
        }
        let service: ecs::CreateService = serde_json::from_value(json!({"cluster": CLUSTER,
            "serviceName": SERVICE, "desiredCount": 4, "deploymentController": {"type": "EXTERNAL"}}))
        .expect("a service");
        let service_arn = region.create_service(now, service).expect("creates").service_arn;
        let lb = elb::CreateLoadBalancer {
            name: "edge".to_owned(),
            subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
            ..Default::default()
        };
        let load_balancer = region.create_load_balancer(now, lb).expect("creates").load_balancer_arn;
        let mut group = |name: &str| {
            let input = json!({"Name": name, "Protocol": "HTTP", "Port": 8080, "VpcId": "vpc-1",
                "TargetType": "ip", "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2,
                "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 2});
            let input = serde_json::from_value(input).expect("a group");
            region.create_target_group(now, input).expect("creates").target_group_arn
        };
        let groups = BTreeMap::from([(Group::A, group("checkout-a")), (Group::B, group("checkout-b"))]);
        let pair = |a: u32, b: u32| {
            elb::Action::forward(&[(groups[&Group::A].as_str(), a), (groups[&Group::B].as_str(), b)])
        };
        let fixed: elb::Action = serde_json::from_value(json!({"Type": "fixed-response",
            "FixedResponseConfig": {"StatusCode": "404"}}))
        .expect("an action");
        let input = elb::CreateListener {
            load_balancer_arn: load_balancer.clone(),
            protocol: Some("HTTP".to_owned()),
            port: Some(80),
            default_actions: vec![fixed],
            ..Default::default()
        };
        let listener = region.create_listener(now, input).expect("creates").listener_arn;
        let mut rule = |priority: u32, path: &str| {
            let input = elb::CreateRule {
                listener_arn: listener.clone(),
                conditions: vec![elb::RuleCondition::path(path)],
                priority: Some(priority),
                // A first release takes the group at weight 0: version 1 will serve from group a.
                actions: vec![pair(0, 1)],
                ..Default::default()
            };
            region.create_rule(now, input).expect("creates").rule_arn
        };
        let (public, preview) = (rule(10, "/*"), rule(5, "/preview/*"));
        Self {
            region: std::cell::RefCell::new(region),
            alarms: BTreeMap::new(),
            groups,
            public,
            preview,
            internal: None,
            listener,
            load_balancer,
            service_arn,
            before: BTreeMap::new(),
        }
    }

    pub fn epoch() -> Timestamp {
        start()
    }

    /// A record that fits this region: a canary of 10 % and then everything, with short waits.
    pub fn managed_service(&self) -> ManagedServiceSpec {
        serde_json::from_value(json!({
            "ecs": {"cluster": format!("arn:aws:ecs:eu-central-1:111122223333:cluster/{CLUSTER}"), "service": self.service_arn},
            "taskDefinitionFamily": "checkout",
            "container": {"name": "web", "port": 8080},
            "targetGroups": {"a": self.groups[&Group::A], "b": self.groups[&Group::B]},
            "routes": {"production": [{"name": "public", "rule": self.public}],
                       "test": {"name": "preview", "rule": self.preview}},
            "taskSet": {"launchType": "FARGATE", "network": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}},
            "alarms": [{"name": "a-5xx", "watches": "a"}, {"name": "b-5xx", "watches": "b"},
                       {"name": "latency", "watches": "service", "noData": "ok"}],
            "alarmPolicy": {"evidenceDeadline": "60s"},
            "strategies": {"fast": {"canary": {"weight": 10, "bake": "20s"}}},
            "defaultStrategy": "fast",
            "testHold": "4s", "bake": "20s", "retention": "40s",
            "deadlines": {"start": "60s", "prepare": "120s", "capacity": "90s", "weightWrite": "60s",
                          "primary": "60s", "cleanup": "10m"},
            "waits": {"propagation": "4s", "quiet": "4s", "quietAfterUnknown": "60s"}
        }))
        .expect("a managed service")
    }

    /// A second production route, `internal`, as the first one begins.
    pub fn add_production_route(&mut self, spec: &mut ManagedServiceSpec) {
        let groups = [(self.groups[&Group::A].as_str(), 0), (self.groups[&Group::B].as_str(), 1)];
        let input = elb::CreateRule {
            listener_arn: self.listener.clone(),
            conditions: vec![elb::RuleCondition::path("/internal/*")],
            priority: Some(8),
            actions: vec![elb::Action::forward(&groups)],
            ..Default::default()
        };
        let rule = self.region.get_mut().create_rule(start(), input).expect("creates").rule_arn;
        let route = serde_json::from_value(json!({"name": "internal", "rule": rule})).expect("a route");
        spec.routes.production.push(route);
        self.internal = Some(rule);
    }

    /// The names of all routes.
    #[allow(dead_code, reason = "for the checks in `tests/proof`")]
    pub fn route_names(&self) -> Vec<&'static str> {
        let internal = self.internal.as_ref().map(|_| "internal");
        ["public", "preview"].into_iter().chain(internal).collect()
    }

    /// The names of the production routes.
    pub fn production_routes(&self) -> Vec<&'static str> {
        let internal = self.internal.as_ref().map(|_| "internal");
        std::iter::once("public").chain(internal).collect()
    }

    fn rule_of(&self, route: &str) -> &str {
        match (route, &self.internal) {
            ("public", _) => &self.public,
            ("internal", Some(internal)) => internal,
            _ => &self.preview,
        }
    }

    pub fn add_alarms(&mut self, spec: &ManagedServiceSpec) {
        for alarm in &spec.alarms {
            let fresh = SimAlarm { state: AlarmState::Ok, changed_at: start(), entered: Vec::new() };
            self.alarms.insert(alarm.name.clone(), fresh);
        }
    }

    pub fn set_alarm(&mut self, now: Timestamp, name: &str, state: AlarmState) {
        let alarm = self.alarms.get_mut(name).expect("an alarm of the record");
        if alarm.state != state {
            alarm.state = state;
            alarm.changed_at = now;
            alarm.entered.push((now, state));
        }
    }

    pub fn set_alarm_if_there(&mut self, now: Timestamp, name: &str, state: AlarmState) {
        if self.alarms.contains_key(name) {
            self.set_alarm(now, name, state);
        }
    }

    /// All alarms are there and OK.
    pub fn restore_alarms(&mut self, now: Timestamp) {
        for name in ["a-5xx", "b-5xx", "latency"] {
            // As one that is made anew begins.
            let fresh =
                SimAlarm { state: AlarmState::InsufficientData, changed_at: now, entered: Vec::new() };
            self.alarms.entry(name.to_owned()).or_insert(fresh);
            self.set_alarm(now, name, AlarmState::Ok);
        }
    }

    pub fn remove_alarm(&mut self, name: &str) {
        self.alarms.remove(name);
    }

    pub fn advance(&mut self, now: Timestamp) {
        self.region.get_mut().advance(now);
    }

    pub fn set_desired_count(&mut self, now: Timestamp, count: u32) {
        let input = ecs::UpdateService {
            cluster: Some(CLUSTER.to_owned()),
            service: SERVICE.to_owned(),
            desired_count: Some(count),
            ..Default::default()
        };
        self.region.get_mut().update_service(now, input).expect("updates");
    }

    pub fn desired_count(&mut self, now: Timestamp) -> u32 {
        self.service(now).desired_count
    }

    pub fn delete_set_by_hand(&mut self, now: Timestamp, arn: &str) {
        // A foreign hand; PRIMARY is refused, which is fine.
        let _refused = self.region.get_mut().delete_task_set(now, CLUSTER, SERVICE, arn, true);
    }

    /// Every target of a group fails its health checks from now on, or passes them again.
    pub fn make_sick(&mut self, now: Timestamp, group: Group, sick: bool) {
        let arn = self.groups[&group].clone();
        let targets = self.region.get_mut().describe_target_health(now, &arn).expect("describes");
        for target in targets {
            let address = pointsman_core::world::Address {
                ip: target.target.id.clone(),
                port: target.target.port.unwrap_or_default(),
            };
            self.region.get_mut().set_target_unhealthy(now, &arn, &address, sick);
        }
    }

    /// As the adapter does: the live actions, with two numbers changed.
    pub fn write_weights(&mut self, now: Timestamp, route: &str, a: u32, b: u32) -> bool {
        let rule_arn = self.rule_of(route).to_owned();
        let Some(live) = self.weights_of(route) else { return false };
        self.before.insert(route.to_owned(), live);
        let mut actions = self.rule(&rule_arn).actions;
        let groups = &self.groups;
        for forward in actions.iter_mut().filter_map(|action| action.forward_config.as_mut()) {
            for tuple in &mut forward.target_groups {
                let of_a = tuple.target_group_arn == groups[&Group::A];
                tuple.weight = Some(if of_a { a } else { b });
            }
        }
        let actions = Some(actions);
        self.region
            .get_mut()
            .modify_rule(now, elb::ModifyRule { rule_arn, actions, ..Default::default() })
            .is_ok()
    }

    fn rule(&self, arn: &str) -> elb::Rule {
        let found = self.region.borrow_mut().describe_rules(start(), None, &[arn.to_owned()]);
        found.expect("describes").remove(0)
    }

    /// Somebody gives the production rule another path, and group stickiness.
    pub fn edit_production_rule(&mut self, now: Timestamp, path: &str, sticky: u32) {
        let rule_arn = self.public.clone();
        let mut actions = self.rule(&rule_arn).actions;
        let forward = actions[0].forward_config.as_mut().expect("it forwards");
        forward.target_group_stickiness_config =
            Some(elb::StickinessConfig { enabled: Some(true), duration_seconds: Some(sticky) });
        let conditions = Some(vec![elb::RuleCondition::path(path)]);
        let input = elb::ModifyRule { rule_arn, conditions, actions: Some(actions), ..Default::default() };
        self.region.get_mut().modify_rule(now, input).expect("modifies");
    }

    /// What `edit_production_rule` changes.
    pub fn production_rule(&self) -> (Vec<String>, Option<u32>) {
        let rule = self.rule(&self.public);
        let sticky = sticky_of(&rule.actions);
        (
            rule.conditions
                .iter()
                .flat_map(|condition| condition.values.clone().unwrap_or_default())
                .collect(),
            sticky,
        )
    }

    /// Somebody adds a rule that forwards to our groups, or changes its weights.
    pub fn forward_elsewhere(&mut self, now: Timestamp, rule: Option<&str>, a: u32, b: u32) -> String {
        let groups = [(self.groups[&Group::A].as_str(), a), (self.groups[&Group::B].as_str(), b)];
        let actions = vec![elb::Action::forward(&groups)];
        let region = self.region.get_mut();
        if let Some(arn) = rule {
            let (rule_arn, actions) = (arn.to_owned(), Some(actions));
            region
                .modify_rule(now, elb::ModifyRule { rule_arn, actions, ..Default::default() })
                .expect("modifies");
            return arn.to_owned();
        }
        let input = elb::CreateRule {
            listener_arn: self.listener.clone(),
            conditions: vec![elb::RuleCondition::path("/partner/*")],
            priority: Some(7),
            actions,
            ..Default::default()
        };
        region.create_rule(now, input).expect("creates").rule_arn
    }

    /// Whether the rule that a record names is there.
    fn stands(&self, route: &Route) -> bool {
        let Some(rule) = &route.rule else { return false };
        self.region.borrow_mut().describe_rules(start(), None, &[rule.as_str().to_owned()]).is_ok()
    }

    /// Somebody deletes the production rule.
    pub fn delete_production_rule(&mut self, now: Timestamp) {
        let rule = self.public.clone();
        self.region.get_mut().delete_rule(now, &rule).expect("deletes");
    }

    /// Somebody makes a production rule; AWS gives it an ARN of its own.
    pub fn make_production_rule(&mut self, now: Timestamp, a: u32, b: u32) -> String {
        let groups = [(self.groups[&Group::A].as_str(), a), (self.groups[&Group::B].as_str(), b)];
        let input = elb::CreateRule {
            listener_arn: self.listener.clone(),
            conditions: vec![elb::RuleCondition::path("/*")],
            priority: Some(10),
            actions: vec![elb::Action::forward(&groups)],
            ..Default::default()
        };
        self.public = self.region.get_mut().create_rule(now, input).expect("creates").rule_arn;
        self.public.clone()
    }

    /// Somebody deregisters a task definition.
    pub fn deregister(&mut self, now: Timestamp, revision: u32) {
        let name = format!("checkout:{revision}");
        self.region.get_mut().deregister_task_definition(now, &name).expect("deregisters");
    }

    pub fn weights_of(&self, route: &str) -> Option<Shares> {
        let rule = self.rule_of(route).to_owned();
        let rules = self.region.borrow_mut().describe_rules(start(), None, &[rule]).ok()?;
        shares_of(&rules.first()?.actions, &self.groups)
    }

    /// What each route showed before its last write.
    pub fn weights_before(&self) -> &BTreeMap<String, Shares> {
        &self.before
    }

    pub fn production_weights(&self) -> Vec<(Group, u32)> {
        self.group_weights("public")
    }

    /// What a route gives each group; nothing when it is gone.
    pub fn group_weights(&self, route: &str) -> Vec<(Group, u32)> {
        let Some(shares) = self.weights_of(route) else { return Vec::new() };
        GROUPS.into_iter().map(|group| (group, shares.of(group))).collect()
    }

    pub fn task_sets(&self) -> Vec<ecs::TaskSet> {
        let found = self.region.borrow_mut().describe_task_sets(start(), CLUSTER, SERVICE, &[]);
        found.map(|(sets, _)| sets).unwrap_or_default()
    }

    pub fn has_task_set(&self, group: Group) -> bool {
        let arn = &self.groups[&group];
        self.task_sets()
            .iter()
            .any(|set| set.status != ecs::TaskSetStatus::Draining && group_arn(set).as_ref() == Some(arn))
    }

    // --- as the adapters see it

    pub fn observe(&mut self, now: Timestamp, plan: Option<&Plan>, needs: &BTreeSet<Need>) -> Observed {
        let Some(plan) = plan else {
            return Observed {
                service: Seen::Unknown("no record says where to look".to_owned()),
                routes: BTreeMap::new(),
                alarms: BTreeMap::new(),
                extra: Extra::default(),
            };
        };
        let (routes, alarms) = (self.routes(plan), self.alarms(plan));
        let mut extra = Extra::default();
        for need in needs {
            self.read_need(now, need, &mut extra);
        }
        Observed { service: Seen::Known(self.service(now)), routes, alarms, extra }
    }

    pub fn routes(&self, plan: &Plan) -> BTreeMap<String, Seen<Weights>> {
        plan.routes().map(|route| (route.name.clone(), self.weights(route))).collect()
    }

    pub fn alarms(&self, plan: &Plan) -> BTreeMap<String, Seen<Alarm>> {
        let names = plan.spec.alarms.iter().map(|alarm| alarm.name.clone());
        names.map(|name| (name.clone(), Seen::Known(self.alarm(&name)))).collect()
    }

    fn weights(&self, route: &Route) -> Seen<Weights> {
        if !self.stands(route) {
            return Seen::Known(Weights::Gone);
        }
        match self.weights_of(&route.name) {
            Some(shares) => Seen::Known(Weights::Pair(shares)),
            None => Seen::Known(Weights::NotOurPair("something else".to_owned())),
        }
    }

    fn alarm(&self, name: &str) -> Alarm {
        let range = Span::from_secs(30);
        match self.alarms.get(name) {
            None => {
                Alarm { state: AlarmState::Missing, transitioned_at: None, range, needs_missing_data: false }
            }
            Some(alarm) => Alarm {
                state: alarm.state,
                transitioned_at: Some(alarm.changed_at),
                range,
                needs_missing_data: false,
            },
        }
    }

    pub fn service(&mut self, now: Timestamp) -> Service {
        seen::service(self.region.get_mut(), now, CLUSTER, SERVICE, &self.groups)
    }

    pub fn read_need(&mut self, now: Timestamp, need: &Need, extra: &mut Extra) {
        match need {
            Need::Preflight(revision) => extra.preflight = Some(Seen::Known(self.preflight(now, revision))),
            Need::Targets(group) => {
                extra.targets.insert(*group, Seen::Known(self.targets(now, *group)));
            }
            Need::LoadBalancer => extra.load_balancer = Some(Seen::Known(self.load_balancer(now))),
            Need::AlarmHistory(name, since) => {
                let entered = self.alarms.get(name).map(|alarm| alarm.entered.clone()).unwrap_or_default();
                let states = entered.into_iter().filter(|(at, _)| at > since).collect();
                extra.alarm_history.insert(name.clone(), Seen::Known(states));
            }
            Need::LastStop(arn, _) => {
                extra.last_stop.insert(arn.clone(), Seen::Known("no task stopped".to_owned()));
            }
        }
    }

    fn preflight(&mut self, now: Timestamp, revision: &Revision) -> Preflight {
        let load_balancer = self.load_balancer(now);
        seen::preflight(self.region.get_mut(), now, revision, &self.groups, load_balancer)
    }

    fn targets(&mut self, now: Timestamp, group: Group) -> Targets {
        seen::targets(self.region.get_mut(), now, &self.groups[&group])
    }

    fn load_balancer(&mut self, now: Timestamp) -> LoadBalancer {
        seen::load_balancer(self.region.get_mut(), now, &self.listener, &self.load_balancer)
    }

    /// What the adapters object to before they send: weights that are not those that were expected, and a set to be
    /// deleted that is somebody else's.
    #[allow(dead_code, reason = "for the checks in `tests/proof`")]
    pub fn objection(&mut self, now: Timestamp, plan: &Plan, effect: &Effect) -> Option<Answer> {
        let refused = |class, message: &str| Some(Answer::Refused { class, message: message.to_owned() });
        match effect {
            Effect::SetWeights { route, expect: Some(expect), .. } => match self.routes(plan).remove(route) {
                Some(Seen::Known(Weights::Pair(live))) if live.same_ratio(*expect) => None,
                _ => refused(RefusalClass::Conflict, "the live weights are not those that were expected"),
            },
            Effect::DeleteTaskSet { task_set, external_id } => {
                let service = self.service(now);
                let set = service.task_sets.iter().find(|set| set.arn == *task_set)?;
                let ours = set.external_id.as_ref() == Some(external_id);
                if ours { None } else { refused(RefusalClass::Permanent, "another external id") }
            }
            _ => None,
        }
    }

    /// As [`Self::kill_tasks`], of every set in a group.
    #[allow(dead_code, reason = "for the checks in `tests/proof`")]
    pub fn kill_tasks_in(&mut self, now: Timestamp, group: Group) {
        let arn = self.groups[&group].clone();
        for set in self.task_sets() {
            if group_arn(&set).as_ref() == Some(&arn) {
                self.kill_tasks(now, &set.task_set_arn);
            }
        }
    }

    /// Kills every task of a set, and those that replace them, until ECS waits before it tries again.
    #[allow(dead_code, reason = "for the checks in `tests/proof`")]
    pub fn kill_tasks(&mut self, now: Timestamp, task_set: &str) {
        let id = task_set.split(":task-set/").nth(1).and_then(|path| path.splitn(3, '/').nth(2));
        let filter = ecs::TaskFilter { started_by: id.map(str::to_owned), ..Default::default() };
        let region = self.region.get_mut();
        // The first task that fails is replaced at once, the others not.
        for _ in 0..2 {
            for task in region.list_tasks(now, CLUSTER, &filter).expect("lists") {
                region.kill_task(now, &task, 1);
            }
        }
    }

    pub fn carry_out(&mut self, now: Timestamp, plan: &Plan, effect: &Effect) -> Answer {
        let done = |result: Result<(), ApiError>| match result {
            Ok(()) => Answer::Acknowledged(Acknowledgement::Done),
            Err(error) => answered(effect, &error),
        };
        match effect {
            Effect::SetWeights { route, shares, .. } => {
                let stands = plan.routes().any(|known| known.name == *route && self.stands(known));
                if stands && self.write_weights(now, route, shares.a, shares.b) {
                    Answer::Acknowledged(Acknowledgement::Echo(*shares))
                } else {
                    Answer::Refused { class: RefusalClass::Permanent, message: "no such rule".to_owned() }
                }
            }
            Effect::CreateTaskSet { group, revision, scale, external_id, token } => {
                let input = creation(plan, *group, revision, *scale, external_id, token);
                match self.region.get_mut().create_task_set(now, input) {
                    Ok(set) => Answer::Acknowledged(Acknowledgement::Created { task_set: set.task_set_arn }),
                    Err(error) => answered(effect, &error),
                }
            }
            Effect::ScaleTaskSet { task_set, scale } => {
                let scale = ecs::Scale::tenths(u32::from(scale.tenths()));
                done(self.region.get_mut().update_task_set(now, CLUSTER, SERVICE, task_set, scale).map(drop))
            }
            Effect::DeleteTaskSet { task_set, .. } => {
                done(self.region.get_mut().delete_task_set(now, CLUSTER, SERVICE, task_set, true).map(drop))
            }
            Effect::SetPrimary { task_set } => done(
                self.region
                    .get_mut()
                    .update_service_primary_task_set(now, CLUSTER, SERVICE, task_set)
                    .map(drop),
            ),
        }
    }
}

fn creation(
    plan: &Plan,
    group: Group,
    revision: &Revision,
    scale: Percent,
    external_id: &str,
    token: &str,
) -> ecs::CreateTaskSet {
    let input = json!({"cluster": CLUSTER, "service": SERVICE, "externalId": external_id,
        "taskDefinition": revision.to_string(), "clientToken": token, "launchType": "FARGATE",
        "loadBalancers": [{"targetGroupArn": plan.spec.target_groups.of(group).as_str(),
                           "containerName": "web", "containerPort": 8080}],
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}});
    let mut input: ecs::CreateTaskSet = serde_json::from_value(input).expect("a task set");
    input.scale = Some(ecs::Scale::tenths(u32::from(scale.tenths())));
    input
}

fn start() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().expect("a time")
}
