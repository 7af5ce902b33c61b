//! Two ECS services, each with a pair of groups and two rules, behind one load balancer of the pure region; seen and
//! changed by the ARNs of whatever plan is used, which are noted call by call.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use pointsman_core::model::observed::{
    Alarm, AlarmState, Extra, LoadBalancer, Observed, Preflight, Service, Weights,
};
use pointsman_core::model::{Acknowledgement, Answer, Effect, Need, Plan, Revision, Seen, Shares};
use pointsman_core::records::managed_service::{ManagedServiceSpec, Route};
use pointsman_core::records::{Group, Span};
use pointsman_core::world::{ApiError, Region, Runtime, Tuning, ecs, elb};
use serde_json::json;

use crate::sim::seen::{self, Arns, GROUPS, answered, shares_of, tuples};

const CLUSTER: &str = "prod";

/// What one service could bind.
#[derive(Clone, Debug)]
pub struct Resources {
    pub service: String,
    pub groups: BTreeMap<Group, String>,
    pub public: String,
    pub preview: String,
    pub alarm: String,
}

/// The region, and every ARN that a mutating call has named.
pub struct World {
    region: Region,
    pub resources: Vec<Resources>,
    pub burning: BTreeSet<String>,
    pub named: BTreeSet<String>,
    listener: String,
    load_balancer: String,
}

fn typed<T: serde::de::DeserializeOwned>(input: serde_json::Value) -> T {
    serde_json::from_value(input).expect("an input")
}

fn name_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

impl World {
    pub fn new(now: Timestamp, names: &[&str]) -> Self {
        let seconds = SignedDuration::from_secs;
        let tuning = Tuning {
            runtime: Runtime::Simulated,
            task_start: seconds(3),
            stop_timeout: seconds(2),
            steady_lag: seconds(1),
            target_registration: seconds(1),
            draining_speed: 60,
            ..Tuning::default()
        };
        let mut region = Region::new("111122223333", "eu-central-1", tuning);
        region.create_cluster(now, CLUSTER).expect("a cluster");
        for _ in 0..6 {
            let container = json!({"name": "web", "image": "web", "essential": true, "memory": 128,
                "portMappings": [{"containerPort": 8080}]});
            let input = json!({"family": "web", "networkMode": "awsvpc", "containerDefinitions": [container],
                "cpu": "256", "memory": "512", "requiresCompatibilities": ["FARGATE"]});
            region.register_task_definition(now, typed(input)).expect("registers");
        }
        let lb = json!({"Name": "edge", "Subnets": ["subnet-1", "subnet-2"]});
        let load_balancer = region.create_load_balancer(now, typed(lb)).expect("creates").load_balancer_arn;
        let fixed = json!({"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}});
        let input = elb::CreateListener {
            load_balancer_arn: load_balancer.clone(),
            protocol: Some("HTTP".to_owned()),
            port: Some(80),
            default_actions: vec![typed(fixed)],
            ..Default::default()
        };
        let listener = region.create_listener(now, input).expect("creates").listener_arn;
        let mut world = Self {
            region,
            resources: Vec::new(),
            burning: BTreeSet::new(),
            named: BTreeSet::new(),
            listener,
            load_balancer,
        };
        for (number, name) in names.iter().enumerate() {
            let made = world.make(now, name, u32::try_from(number).expect("few"));
            world.resources.push(made);
        }
        world
    }

    fn make(&mut self, now: Timestamp, name: &str, number: u32) -> Resources {
        let input = json!({"cluster": CLUSTER, "serviceName": name, "desiredCount": 2,
            "deploymentController": {"type": "EXTERNAL"}});
        let service = self.region.create_service(now, typed(input)).expect("creates").service_arn;
        let mut group = |letter: &str| {
            let input = json!({"Name": format!("{name}-{letter}"), "Protocol": "HTTP", "Port": 8080,
                "VpcId": "vpc-1", "TargetType": "ip", "HealthCheckIntervalSeconds": 5,
                "HealthCheckTimeoutSeconds": 2, "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 2});
            self.region.create_target_group(now, typed(input)).expect("creates").target_group_arn
        };
        let groups = BTreeMap::from([(Group::A, group("a")), (Group::B, group("b"))]);
        let mut rule = |priority: u32, path: &str| {
            let pair = [(groups[&Group::A].as_str(), 0), (groups[&Group::B].as_str(), 1)];
            let input = elb::CreateRule {
                listener_arn: self.listener.clone(),
                conditions: vec![elb::RuleCondition::path(path)],
                priority: Some(priority),
                actions: vec![elb::Action::forward(&pair)],
                ..Default::default()
            };
            self.region.create_rule(now, input).expect("creates").rule_arn
        };
        let public = rule(10 + number, &format!("/{name}/*"));
        let preview = rule(5 + number, &format!("/preview/{name}/*"));
        Resources { service, groups, public, preview, alarm: format!("{name}-5xx") }
    }

    pub fn advance(&mut self, now: Timestamp) {
        self.region.advance(now);
    }

    pub fn observe(&mut self, now: Timestamp, plan: &Plan, needs: &BTreeSet<Need>) -> Observed {
        let spec = &plan.spec;
        let routes =
            plan.routes().map(|route| (route.name.clone(), self.weights(now, spec, route))).collect();
        let alarm = |name: &String| {
            let state = if self.burning.contains(name) { AlarmState::Alarm } else { AlarmState::Ok };
            let (transitioned_at, range) = (None, Span::from_secs(30));
            Seen::Known(Alarm { state, transitioned_at, range, needs_missing_data: false })
        };
        let alarms = spec.alarms.iter().map(|it| (it.name.clone(), alarm(&it.name))).collect();
        let mut extra = Extra::default();
        for need in needs {
            self.read(now, spec, need, &mut extra);
        }
        Observed { service: Seen::Known(self.service(now, spec)), routes, alarms, extra }
    }

    fn weights(&mut self, now: Timestamp, spec: &ManagedServiceSpec, route: &Route) -> Seen<Weights> {
        let Some(actions) = self.actions(now, route) else { return Seen::Known(Weights::Gone) };
        let groups = arns(spec);
        let pair = tuples(&actions).len() == 2;
        match shares_of(&actions, &groups).filter(|_| pair) {
            Some(shares) => Seen::Known(Weights::Pair(shares)),
            None => Seen::Known(Weights::NotOurPair("other groups".to_owned())),
        }
    }

    fn actions(&mut self, now: Timestamp, route: &Route) -> Option<Vec<elb::Action>> {
        let arn = route.rule.as_ref()?.as_str().to_owned();
        self.region.describe_rules(now, None, &[arn]).ok()?.pop().map(|rule| rule.actions)
    }

    fn service(&mut self, now: Timestamp, spec: &ManagedServiceSpec) -> Service {
        let name = name_of(spec.ecs.service.as_str());
        seen::service(&mut self.region, now, CLUSTER, name, &arns(spec))
    }

    fn read(&mut self, now: Timestamp, spec: &ManagedServiceSpec, need: &Need, extra: &mut Extra) {
        match need {
            Need::Preflight(revision) => {
                let read = self.preflight(now, spec, revision);
                extra.preflight = Some(Seen::Known(read));
            }
            Need::Targets(group) => {
                let read = seen::targets(&mut self.region, now, spec.target_groups.of(*group).as_str());
                extra.targets.insert(*group, Seen::Known(read));
            }
            Need::LoadBalancer => extra.load_balancer = Some(Seen::Known(self.load_balancer(now))),
            Need::AlarmHistory(name, _) => {
                extra.alarm_history.insert(name.clone(), Seen::Known(Vec::new()));
            }
            Need::LastStop(arn, _) => {
                extra.last_stop.insert(arn.clone(), Seen::Known("no task stopped".to_owned()));
            }
        }
    }

    fn preflight(&mut self, now: Timestamp, spec: &ManagedServiceSpec, revision: &Revision) -> Preflight {
        let load_balancer = self.load_balancer(now);
        seen::preflight(&mut self.region, now, revision, &arns(spec), load_balancer)
    }

    fn load_balancer(&mut self, now: Timestamp) -> LoadBalancer {
        seen::load_balancer(&mut self.region, now, &self.listener, &self.load_balancer)
    }

    /// Sends the one call of an effect; what it names is noted first.
    pub fn carry_out(&mut self, now: Timestamp, plan: &Plan, effect: &Effect) -> Answer {
        let done = |result: Result<(), ApiError>| match result {
            Ok(()) => Answer::Acknowledged(Acknowledgement::Done),
            Err(error) => answered(effect, &error),
        };
        let service = plan.spec.ecs.service.as_str().to_owned();
        let name = name_of(&service).to_owned();
        match effect {
            Effect::SetWeights { route, shares, .. } => self.write(now, plan, route, *shares, effect),
            Effect::CreateTaskSet { group, revision, scale, external_id, token } => {
                let group = plan.spec.target_groups.of(*group).as_str();
                self.named.extend([service, group.to_owned()]);
                let input = json!({"cluster": CLUSTER, "service": name, "externalId": external_id,
                    "taskDefinition": revision.to_string(), "clientToken": token, "launchType": "FARGATE",
                    "loadBalancers": [{"targetGroupArn": group, "containerName": "web", "containerPort": 8080}],
                    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}});
                let mut input: ecs::CreateTaskSet = typed(input);
                input.scale = Some(ecs::Scale::tenths(u32::from(scale.tenths())));
                match self.region.create_task_set(now, input) {
                    Ok(set) => Answer::Acknowledged(Acknowledgement::Created { task_set: set.task_set_arn }),
                    Err(error) => answered(effect, &error),
                }
            }
            Effect::ScaleTaskSet { task_set, scale } => {
                self.named.extend([service, task_set.clone()]);
                let scale = ecs::Scale::tenths(u32::from(scale.tenths()));
                done(self.region.update_task_set(now, CLUSTER, &name, task_set, scale).map(drop))
            }
            Effect::DeleteTaskSet { task_set, .. } => {
                self.named.extend([service, task_set.clone()]);
                done(self.region.delete_task_set(now, CLUSTER, &name, task_set, true).map(drop))
            }
            Effect::SetPrimary { task_set } => {
                self.named.extend([service, task_set.clone()]);
                let moved = self.region.update_service_primary_task_set(now, CLUSTER, &name, task_set);
                done(moved.map(drop))
            }
        }
    }

    fn write(&mut self, now: Timestamp, plan: &Plan, route: &str, shares: Shares, effect: &Effect) -> Answer {
        let route = plan.routes().find(|known| known.name == route).expect("a route of the plan").clone();
        let rule_arn = route.rule.as_ref().expect("a rule").as_str().to_owned();
        let groups = arns(&plan.spec);
        self.named.insert(rule_arn.clone());
        self.named.extend(groups.values().cloned());
        let mut actions = self.actions(now, &route).unwrap_or_default();
        for forward in actions.iter_mut().filter_map(|action| action.forward_config.as_mut()) {
            for tuple in &mut forward.target_groups {
                let of_a = tuple.target_group_arn == groups[&Group::A];
                tuple.weight = Some(if of_a { shares.a } else { shares.b });
            }
        }
        let input = elb::ModifyRule { rule_arn, actions: Some(actions), ..Default::default() };
        match self.region.modify_rule(now, input) {
            Ok(_) => Answer::Acknowledged(Acknowledgement::Echo(shares)),
            Err(error) => answered(effect, &error),
        }
    }
}

fn arns(spec: &ManagedServiceSpec) -> Arns {
    GROUPS.into_iter().map(|group| (group, spec.target_groups.of(group).as_str().to_owned())).collect()
}
