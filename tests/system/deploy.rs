//! The templates in `deploy/` say the same as the program: what it calls, which tables it reads and writes, which
//! records it takes.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args as _, CommandFactory as _};
use pointsman::aws::permissions::OPERATIONS;
use pointsman::cli::Cli;
use pointsman::config::ConfigArgs;
use pointsman::records::check::read_service;
use pointsman::store::Tables;
use pointsman::store::tables::{TableDefinition, definitions};
use serde_json::{Value, json};

const DAEMON: &str = include_str!("../../deploy/pointsman.yaml");
const TENANT: &str = include_str!("../../deploy/tenant.yaml");
const SERVICE: &str = include_str!("../../deploy/managed-service.yaml");

fn template(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// The one item of a list, or the thing itself.
fn listed(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |items| items.iter().collect())
}

/// The statements of a role's or a policy's documents, those of conditions included.
fn statements(resource: &Value) -> Vec<&Value> {
    let properties = &resource["Properties"];
    let inline = properties["Policies"].as_array().into_iter().flatten().map(|it| &it["PolicyDocument"]);
    let managed = properties.get("PolicyDocument");
    let all = inline.chain(managed).flat_map(|document| document["Statement"].as_array().unwrap());
    all.map(|statement| statement.get("Fn::If").map_or(statement, |choice| &choice[1])).collect()
}

fn actions(statement: &Value) -> impl Iterator<Item = &str> {
    listed(&statement["Action"]).into_iter().map(|action| action.as_str().unwrap())
}

fn task_role(daemon: &Value) -> Vec<&Value> {
    statements(&daemon["Resources"]["TaskRole"])
}

fn with_effect<'a>(statements: &[&'a Value], effect: &str) -> Vec<&'a Value> {
    statements.iter().filter(|it| it["Effect"] == effect).copied().collect()
}

#[test]
fn the_daemons_role_allows_what_the_daemon_calls_and_nothing_more() {
    let daemon = template(DAEMON);
    let role = task_role(&daemon);
    let allowed: BTreeSet<&str> = with_effect(&role, "Allow").into_iter().flat_map(actions).collect();
    let sometimes = OPERATIONS.iter().flat_map(|it| it.sometimes.iter().map(|(action, _)| *action));
    let needed: BTreeSet<&str> =
        OPERATIONS.iter().flat_map(|it| it.actions.iter().copied()).chain(sometimes).collect();
    assert_eq!(allowed, needed);
}

/// Reads that know neither resources nor, some of them, conditions: anything else must say on what.
const WITHOUT_RESOURCE: [&str; 8] = [
    "cloudwatch:DescribeAlarmHistory",
    "cloudwatch:DescribeAlarms",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTasks",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
];

#[test]
fn every_change_names_its_resources_and_every_change_of_ecs_or_elb_a_condition() {
    let daemon = template(DAEMON);
    for statement in with_effect(&task_role(&daemon), "Allow") {
        for action in actions(statement) {
            if statement["Resource"] == "*" {
                assert!(WITHOUT_RESOURCE.contains(&action), "{action} on everything");
            }
            let changes = OPERATIONS.iter().any(|it| it.mutation.is_some() && it.actions.contains(&action));
            assert!(!changes || statement["Condition"].is_object(), "{action} without a condition");
        }
    }
}

#[test]
fn the_conditions_that_keep_the_daemon_to_its_own_are_there() {
    let daemon = template(DAEMON);
    let role = task_role(&daemon);
    let condition = |action: &str| {
        let of: Vec<_> =
            with_effect(&role, "Allow").into_iter().filter(|it| actions(it).any(|it| it == action)).collect();
        assert_eq!(of.len(), 1, "{action} is allowed in one place");
        of[0]["Condition"].clone()
    };
    let clusters = json!({"ecs:cluster": {"Ref": "ManagedClusterArns"}});
    let tagged = json!({"aws:ResourceTag/pointsman-installation": {"Ref": "Installation"}});
    let create = condition("ecs:CreateTaskSet");
    assert_eq!(create["ArnEquals"], clusters);
    assert_eq!(create["ArnLike"], json!({"ecs:task-definition": {"Ref": "ManagedTaskDefinitionArns"}}));
    assert_eq!(create["StringEquals"], json!({"aws:RequestTag/managed-by": "pointsman"}));
    assert_eq!(condition("ecs:TagResource")["StringEquals"], json!({"ecs:CreateAction": "CreateTaskSet"}));
    for action in ["ecs:UpdateTaskSet", "ecs:DeleteTaskSet"] {
        assert_eq!(
            condition(action),
            json!({"ArnEquals": clusters, "StringEquals": {"aws:ResourceTag/managed-by": "pointsman"}})
        );
    }
    assert_eq!(
        condition("ecs:UpdateServicePrimaryTaskSet"),
        json!({"ArnEquals": clusters, "StringEquals": tagged})
    );
    for action in ["elasticloadbalancing:ModifyRule", "elasticloadbalancing:ModifyListener"] {
        assert_eq!(condition(action), json!({"StringEquals": tagged}));
    }
    assert_eq!(
        condition("iam:PassRole"),
        json!({"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}})
    );
}

#[test]
fn what_is_denied_takes_nothing_away_that_the_daemon_needs() {
    let daemon = template(DAEMON);
    let role = task_role(&daemon);
    let needed: BTreeSet<&str> = with_effect(&role, "Allow").into_iter().flat_map(actions).collect();
    for statement in with_effect(&role, "Deny") {
        let own_tables = statement["Resource"] == json!({"Fn::GetAtt": ["RecordsTable", "Arn"]});
        if own_tables || statement.get("Condition").is_some() {
            continue;
        }
        for denied in actions(statement) {
            let hit = match denied.strip_suffix('*') {
                Some(start) => needed.iter().find(|it| it.starts_with(start)),
                None => needed.get(denied),
            };
            assert_eq!(hit, None, "{denied}");
        }
    }
}

/// What a template's table is made of, in the program's words.
fn made_of(table: &Value) -> (Vec<String>, BTreeMap<String, Vec<String>>, bool, Value) {
    let names = |schema: &Value| -> Vec<String> {
        let keys = schema.as_array().unwrap().iter();
        let types: Vec<_> = schema.as_array().unwrap().iter().map(|key| &key["KeyType"]).collect();
        assert_eq!(types, ["HASH", "RANGE"]);
        keys.map(|key| key["AttributeName"].as_str().unwrap().to_owned()).collect()
    };
    let indexes = table["GlobalSecondaryIndexes"].as_array().unwrap().iter();
    let indexes = indexes.map(|index| {
        assert_eq!(index["Projection"], json!({"ProjectionType": "KEYS_ONLY"}));
        (index["IndexName"].as_str().unwrap().to_owned(), names(&index["KeySchema"]))
    });
    let stream = table.get("StreamSpecification");
    assert!(stream.is_none_or(|stream| *stream == json!({"StreamViewType": "KEYS_ONLY"})));
    (
        names(&table["KeySchema"]),
        indexes.collect(),
        stream.is_some(),
        table["TimeToLiveSpecification"].clone(),
    )
}

#[test]
fn both_tables_are_made_as_the_program_expects_them() {
    let daemon = template(DAEMON);
    let name = |what: &str| format!("pointsman-${{Installation}}-{what}");
    let tables = Tables { records: name("records"), state: name("state") };
    for (resource, wanted) in ["RecordsTable", "StateTable"].into_iter().zip(definitions(&tables)) {
        let TableDefinition { name, key, index: (index, index_key), stream_of_keys, expires_by } = wanted;
        let made = &daemon["Resources"][resource];
        let properties = &made["Properties"];
        assert_eq!(properties["TableName"], json!({"Fn::Sub": name}));
        let texts = |keys: [&str; 2]| keys.map(str::to_owned).to_vec();
        assert_eq!(
            made_of(properties),
            (
                texts(key),
                BTreeMap::from([(index.to_owned(), texts(index_key))]),
                stream_of_keys,
                json!({"AttributeName": expires_by, "Enabled": true})
            ),
            "{resource}"
        );
        let attributes = properties["AttributeDefinitions"].as_array().unwrap();
        assert!(attributes.iter().all(|attribute| attribute["AttributeType"] == "S"));
        assert_eq!(properties["DeletionProtectionEnabled"], true);
        assert_eq!(properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true);
        assert_eq!(
            (&made["DeletionPolicy"], &made["UpdateReplacePolicy"]),
            (&json!("Retain"), &json!("Retain"))
        );
    }
}

#[test]
fn the_container_is_told_settings_that_the_program_knows() {
    let daemon = template(DAEMON);
    let container = &daemon["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"][0];
    let told = container["Environment"].as_array().unwrap().iter().map(|it| it["Name"].as_str().unwrap());
    let told: BTreeSet<&str> = told.collect();
    let flags = ConfigArgs::augment_args(clap::Command::new("run"));
    let known: BTreeSet<&str> = flags.get_arguments().filter_map(|it| it.get_env()?.to_str()).collect();
    assert_eq!(told.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new());
    for required in ["POINTSMAN_INSTALLATION", "POINTSMAN_RECORDS_TABLE", "POINTSMAN_STATE_TABLE"] {
        assert!(told.contains(required), "{required}");
    }
    assert_eq!(container["Command"], json!(["run"]));
    assert!(Cli::command().find_subcommand("run").is_some());
}

#[test]
fn people_reach_the_keys_of_their_namespace_and_never_a_statement_without_a_key() {
    let tenant = template(TENANT);
    let keys = |policy: &str| {
        let mut keys = BTreeMap::<String, BTreeSet<String>>::new();
        for statement in statements(&tenant["Resources"][policy]) {
            assert_eq!(statement["Condition"]["Null"], json!({"dynamodb:LeadingKeys": "false"}));
            let leading = &statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
            for key in leading.as_array().unwrap() {
                let of = keys.entry(key["Fn::Sub"].as_str().unwrap().to_owned()).or_default();
                of.extend(actions(statement).map(str::to_owned));
            }
        }
        keys
    };
    let may = |actions: &[&str]| actions.iter().map(|it| format!("dynamodb:{it}")).collect::<BTreeSet<_>>();
    let own = |what: &str| format!("{what}#${{Namespace}}/*");
    let all = |kinds: &[&str], actions: &[&str]| {
        kinds.iter().map(|kind| (own(kind), may(actions))).collect::<BTreeMap<_, _>>()
    };
    let read = ["BatchGetItem", "GetItem", "Query"];
    assert_eq!(keys("ReaderPolicy"), all(&["service", "desired", "command", "state", "history"], &read));
    assert_eq!(keys("DeveloperPolicy"), all(&["desired"], &["DeleteItem", "PutItem"]));
    assert_eq!(keys("OperatorPolicy"), all(&["command"], &["PutItem"]));
    assert_eq!(keys("PlatformPolicy"), all(&["service"], &["DeleteItem", "PutItem"]));
}

/// What `Fn::Sub` would make of the template's record.
fn filled_in(text: &str) -> String {
    let arn = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    let values = [
        ("AWS::Partition", "aws".to_owned()),
        ("AWS::Region", "eu-central-1".to_owned()),
        ("AWS::AccountId", "111122223333".to_owned()),
        ("Namespace", "payments".to_owned()),
        ("Name", "checkout".to_owned()),
        ("ClusterName", "prod".to_owned()),
        ("Service", "arn:aws:ecs:eu-central-1:111122223333:service/prod/checkout".to_owned()),
        ("ContainerName", "web".to_owned()),
        ("ContainerPort", "8080".to_owned()),
        ("TargetGroupA", format!("{arn}:targetgroup/checkout-a/0123456789abcdef")),
        ("TargetGroupB", format!("{arn}:targetgroup/checkout-b/fedcba9876543210")),
        (
            "ProductionRule",
            format!("{arn}:listener-rule/app/edge/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"),
        ),
        (
            "TestRule",
            format!("{arn}:listener-rule/app/edge/50dc6c495c0c9188/f2f7dc8efc522ab2/11aa22bb33cc44dd"),
        ),
        ("TestRoute", r#", "test": {"name": "preview", "rule": "${TestRule}"}"#.to_owned()),
        ("Subnets", r#"subnet-0a1b2c3d", "subnet-4e5f6a7b"#.to_owned()),
        ("TaskSecurityGroup.GroupId", "sg-0123abcd".to_owned()),
        ("FailingA", "checkout-a-5xx".to_owned()),
        ("FailingB", "checkout-b-5xx".to_owned()),
        ("SlowA", "checkout-a-slow".to_owned()),
        ("SlowB", "checkout-b-slow".to_owned()),
    ];
    // Twice, since one value holds another.
    let once = |text: String| {
        values.iter().fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
    };
    once(once(text.to_owned()))
}

#[test]
fn the_record_that_the_service_template_puts_out_is_one_that_the_daemon_takes() {
    let service = template(SERVICE);
    let record = service["Outputs"]["ManagedService"]["Value"]["Fn::Sub"][0].as_str().unwrap();
    let record = filled_in(record);
    assert!(!record.contains("${"), "{record}");
    let record: Value = serde_json::from_str(&record).unwrap();
    let (spec, _) = read_service(&"payments/checkout".parse().unwrap(), &record).unwrap();
    assert_eq!(spec.alarms.len(), 4);
    assert!(spec.routes.test.is_some());
}

#[test]
fn the_service_template_makes_a_service_that_only_a_controller_changes() {
    let service = template(SERVICE);
    let made = &service["Resources"]["Service"]["Properties"];
    assert_eq!(made["DeploymentController"], json!({"Type": "EXTERNAL"}));
    assert_eq!(made["AvailabilityZoneRebalancing"], "DISABLED");
    // ECS refuses an EXTERNAL service that names what belongs to task sets.
    for of_task_sets in
        ["TaskDefinition", "NetworkConfiguration", "LoadBalancers", "LaunchType", "PlatformVersion"]
    {
        assert_eq!(made.get(of_task_sets), None, "{of_task_sets}");
    }
    for rule in ["ProductionRule", "TestRule"] {
        let rule = &service["Resources"][rule]["Properties"];
        let pair = rule["Actions"][0]["ForwardConfig"]["TargetGroups"].as_array().unwrap();
        let weights: Vec<_> = pair.iter().map(|it| (&it["TargetGroupArn"]["Ref"], &it["Weight"])).collect();
        assert_eq!(weights, [(&json!("TargetGroupA"), &json!(1)), (&json!("TargetGroupB"), &json!(0))]);
        assert_eq!(
            rule["Tags"],
            json!([{"Key": "pointsman-installation", "Value": {"Ref": "Installation"}}])
        );
    }
}
