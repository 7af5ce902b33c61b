//! The documented rules, one test each.

mod ecs;
mod elb;
mod elb_attributes;
mod elb_network;
mod elb_rules;
mod kept;
mod runtime;
mod scale;
mod walk;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::ecs::{CreateTaskSet, Launch, LoadBalancer, Scale, TaskSet};
use super::elb::{Action, Attribute, ModifyRule};
use super::{Api, ApiError, Region, Runtime, Tuning};

/// A region with an application load balancer whose rule forwards 100/0 to the groups a and b, and an
/// EXTERNAL service that wants two tasks.
struct Scene {
    region: Region,
    now: Timestamp,
    load_balancer: String,
    listener: String,
    rule: String,
    a: String,
    b: String,
}

impl Scene {
    fn new() -> Self {
        Self::with(Tuning::default())
    }

    fn with(tuning: Tuning) -> Self {
        let mut scene = Self {
            region: Region::new("123456789012", "eu-west-1", tuning),
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            load_balancer: String::new(),
            listener: String::new(),
            rule: String::new(),
            a: String::new(),
            b: String::new(),
        };
        let made =
            scene.elb("CreateLoadBalancer", json!({ "Name": "web", "Subnets": ["subnet-1", "subnet-2"] }));
        scene.load_balancer = text(&made["LoadBalancers"][0]["LoadBalancerArn"]);
        scene.a = scene.group("a");
        scene.b = scene.group("b");
        let made = scene.elb(
            "CreateListener",
            json!({ "LoadBalancerArn": scene.load_balancer, "Protocol": "HTTP", "Port": "8081",
                "DefaultActions": [{ "Type": "fixed-response", "FixedResponseConfig": { "StatusCode": "404" } }] }),
        );
        scene.listener = text(&made["Listeners"][0]["ListenerArn"]);
        let made = scene.elb(
            "CreateRule",
            json!({ "ListenerArn": scene.listener, "Priority": "10",
                "Conditions": [{ "Field": "path-pattern", "Values": ["/*"] }],
                "Actions": [forward(&[(&scene.a, 100), (&scene.b, 0)])] }),
        );
        scene.rule = text(&made["Rules"][0]["RuleArn"]);
        scene.ecs("CreateCluster", json!({ "clusterName": "main" }));
        scene.revision(&[]);
        scene.ecs(
            "CreateService",
            json!({ "cluster": "main", "serviceName": "web", "desiredCount": 2,
                "deploymentController": { "type": "EXTERNAL" } }),
        );
        scene
    }

    fn try_ecs(&mut self, operation: &str, input: Value) -> Result<Value, ApiError> {
        self.region.call(self.now, Api::Ecs, operation, input)
    }

    fn ecs(&mut self, operation: &str, input: Value) -> Value {
        self.try_ecs(operation, input).unwrap()
    }

    fn try_elb(&mut self, operation: &str, input: Value) -> Result<Value, ApiError> {
        self.region.call(self.now, Api::Elb, operation, input)
    }

    fn elb(&mut self, operation: &str, input: Value) -> Value {
        self.try_elb(operation, input).unwrap()
    }

    fn group(&mut self, name: &str) -> String {
        let made = self.elb(
            "CreateTargetGroup",
            json!({ "Name": name, "Protocol": "HTTP", "Port": 80, "VpcId": "vpc-1", "TargetType": "ip" }),
        );
        text(&made["TargetGroups"][0]["TargetGroupArn"])
    }

    /// Registers the next revision of the family `web`; `revision(&[("POINTSMAN_SIM", "crash")])` is a bad one.
    fn revision(&mut self, environment: &[(&str, &str)]) -> String {
        let pairs: Vec<Value> =
            environment.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let made = self.ecs(
            "RegisterTaskDefinition",
            json!({ "family": "web", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
                "containerDefinitions": [{ "name": "app", "image": "web:1", "essential": true,
                    "portMappings": [{ "containerPort": 80 }], "environment": pairs }] }),
        );
        text(&made["taskDefinition"]["taskDefinitionArn"])
    }

    fn request(definition: &str, group: &str, percent: u32) -> CreateTaskSet {
        CreateTaskSet {
            cluster: Some("main".to_owned()),
            service: "web".to_owned(),
            task_definition: definition.to_owned(),
            launch: Launch {
                network_configuration: Some(json!({ "awsvpcConfiguration": { "subnets": ["subnet-1"] } })),
                launch_type: Some("FARGATE".to_owned()),
                load_balancers: vec![LoadBalancer {
                    target_group_arn: Some(group.to_owned()),
                    container_name: Some("app".to_owned()),
                    container_port: Some(80),
                    ..LoadBalancer::default()
                }],
                ..Launch::default()
            },
            scale: Some(Scale::percent(percent)),
            ..CreateTaskSet::default()
        }
    }

    fn task_set(&mut self, definition: &str, group: &str, percent: u32) -> TaskSet {
        let request = Self::request(definition, group, percent);
        self.region.create_task_set(self.now, request).unwrap()
    }

    fn set(&mut self, id: &str) -> Option<TaskSet> {
        let (sets, _) = self.region.describe_task_sets(self.now, "main", "web", &[id.to_owned()]).unwrap();
        sets.into_iter().next()
    }

    fn states(&mut self, group: &str) -> Vec<String> {
        let targets = self.region.describe_target_health(self.now, group).unwrap();
        targets.into_iter().map(|target| target.target_health.state).collect()
    }

    fn weigh(&mut self, a: u32, b: u32) {
        let actions = vec![Action::forward(&[(&self.a, a), (&self.b, b)])];
        let change =
            ModifyRule { rule_arn: self.rule.clone(), actions: Some(actions), ..ModifyRule::default() };
        self.region.modify_rule(self.now, change).unwrap();
    }

    fn delay(&mut self, group: &str, secs: u32) {
        let key = "deregistration_delay.timeout_seconds".to_owned();
        let change = Attribute { key, value: secs.to_string() };
        self.region.modify_target_group_attributes(self.now, group, &[change]).unwrap();
    }

    fn pass(&mut self, secs: i64) {
        self.now += SignedDuration::from_secs(secs);
    }

    /// Lets time pass until nothing happens by itself before `secs` from now have gone by.
    fn settle(&mut self, secs: i64) {
        self.pass(secs);
        self.region.advance(self.now);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn forward(groups: &[(&str, u32)]) -> Value {
    serde_json::to_value(Action::forward(groups)).unwrap()
}

fn external() -> Tuning {
    Tuning { runtime: Runtime::External, ..Tuning::default() }
}
