//! Every API operation that the daemon calls, and the IAM actions that AWS checks for it. The deployment
//! template is tested against this list, and so are the adapters.

use crate::model::Mutation;

/// One API operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Service prefix as IAM spells it.
    pub service: &'static str,
    /// Operation name.
    pub name: &'static str,
    /// Which of the seven mutations of ECS and ELB it is; none for reads and for the daemon's own tables.
    pub mutation: Option<Mutation>,
    /// IAM actions that are always checked.
    pub actions: &'static [&'static str],
    /// IAM actions that are checked only for some requests, and when.
    pub sometimes: &'static [(&'static str, &'static str)],
}

const fn read(service: &'static str, name: &'static str, actions: &'static [&'static str]) -> Operation {
    Operation { service, name, mutation: None, actions, sometimes: &[] }
}

/// On the daemon's own tables and their stream.
const fn table(name: &'static str, actions: &'static [&'static str]) -> Operation {
    read("dynamodb", name, actions)
}

const fn write(
    service: &'static str,
    name: &'static str,
    mutation: Mutation,
    actions: &'static [&'static str],
    sometimes: &'static [(&'static str, &'static str)],
) -> Operation {
    Operation { service, name, mutation: Some(mutation), actions, sometimes }
}

const COGNITO: &[(&str, &str)] =
    &[("cognito-idp:DescribeUserPoolClient", "the action list authenticates with Cognito")];

/// All of them. `iam:PassRole` is checked for the task and the execution role with
/// `iam:PassedToService: ecs-tasks.amazonaws.com`, `ecs:TagResource` because the set is made with tags
/// (`semantics` 5.10). `GetCallerIdentity` needs no permission and is not called.
pub const OPERATIONS: &[Operation] = &[
    write(
        "ecs",
        "CreateTaskSet",
        Mutation::CreateTaskSet,
        &["ecs:CreateTaskSet", "ecs:TagResource", "iam:PassRole"],
        &[],
    ),
    write("ecs", "UpdateTaskSet", Mutation::UpdateTaskSet, &["ecs:UpdateTaskSet"], &[]),
    write("ecs", "DeleteTaskSet", Mutation::DeleteTaskSet, &["ecs:DeleteTaskSet"], &[]),
    write(
        "ecs",
        "UpdateServicePrimaryTaskSet",
        Mutation::UpdateServicePrimaryTaskSet,
        &["ecs:UpdateServicePrimaryTaskSet"],
        &[],
    ),
    write("ecs", "TagResource", Mutation::TagResource, &["ecs:TagResource"], &[]),
    write(
        "elasticloadbalancing",
        "ModifyRule",
        Mutation::ModifyRule,
        &["elasticloadbalancing:ModifyRule"],
        COGNITO,
    ),
    write(
        "elasticloadbalancing",
        "ModifyListener",
        Mutation::ModifyListener,
        &["elasticloadbalancing:ModifyListener"],
        COGNITO,
    ),
    read("ecs", "DescribeServices", &["ecs:DescribeServices"]),
    read("ecs", "DescribeTaskDefinition", &["ecs:DescribeTaskDefinition"]),
    read("ecs", "ListTasks", &["ecs:ListTasks"]),
    read("ecs", "DescribeTasks", &["ecs:DescribeTasks"]),
    read("elasticloadbalancing", "DescribeRules", &["elasticloadbalancing:DescribeRules"]),
    read("elasticloadbalancing", "DescribeListeners", &["elasticloadbalancing:DescribeListeners"]),
    read("elasticloadbalancing", "DescribeTargetGroups", &["elasticloadbalancing:DescribeTargetGroups"]),
    read("elasticloadbalancing", "DescribeTargetHealth", &["elasticloadbalancing:DescribeTargetHealth"]),
    // For composite alarms only the resource `*` works.
    read("cloudwatch", "DescribeAlarms", &["cloudwatch:DescribeAlarms"]),
    read("cloudwatch", "DescribeAlarmHistory", &["cloudwatch:DescribeAlarmHistory"]),
    table("GetItem", &["dynamodb:GetItem"]),
    table("BatchGetItem", &["dynamodb:BatchGetItem"]),
    table("Query", &["dynamodb:Query"]),
    table("PutItem", &["dynamodb:PutItem"]),
    table("UpdateItem", &["dynamodb:UpdateItem"]),
    table("DeleteItem", &["dynamodb:DeleteItem"]),
    // A transaction is checked action by action; no condition check is among them.
    table("TransactWriteItems", &["dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]),
    table("DescribeTable", &["dynamodb:DescribeTable"]),
    table("DescribeStream", &["dynamodb:DescribeStream"]),
    table("GetShardIterator", &["dynamodb:GetShardIterator"]),
    table("GetRecords", &["dynamodb:GetRecords"]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `DescribeTargetHealth` as the SDK's method: `describe_target_health`.
    fn method(name: &str) -> String {
        let mut method = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !method.is_empty() {
                method.push('_');
            }
            method.extend(letter.to_lowercase());
        }
        method
    }

    #[test]
    fn each_of_the_seven_mutations_is_listed_once_and_nothing_else_changes_ecs_or_elb() {
        for mutation in Mutation::ALL {
            assert_eq!(
                OPERATIONS.iter().filter(|it| it.mutation == Some(mutation)).count(),
                1,
                "{mutation:?}"
            );
        }
        for operation in OPERATIONS {
            let reads = operation.name.starts_with("Describe") || operation.name.starts_with("List");
            let own_tables = operation.service == "dynamodb";
            assert!(operation.mutation.is_some() || reads || own_tables, "{operation:?}");
        }
    }

    #[test]
    fn the_adapters_call_what_is_listed_and_nothing_else() {
        let sources = [
            include_str!("ecs.rs"),
            include_str!("elb.rs"),
            include_str!("cloudwatch.rs"),
            include_str!("carry_out.rs"),
            include_str!("observe.rs"),
        ];
        let verbs =
            ["create_", "update_", "delete_", "modify_", "describe_", "list_", "tag_", "set_alarm_state"];
        let calls = sources.iter().flat_map(|source| source.split(&['.', '\n'][..]));
        let calls = calls.filter_map(|piece| piece.split_once("()").map(|(name, _)| name.trim().to_owned()));
        let called: BTreeSet<String> =
            calls.filter(|name| verbs.iter().any(|verb| name.starts_with(verb))).collect();
        // `TagResource` is reserved for adoption; the tables are the store's.
        let listed = OPERATIONS.iter().filter(|it| it.service != "dynamodb" && it.name != "TagResource");
        let listed: BTreeSet<String> = listed.map(|it| method(it.name)).collect();
        assert_eq!(called, listed);
    }

    #[test]
    fn every_action_is_spelt_as_iam_spells_it() {
        for operation in OPERATIONS {
            let sometimes = operation.sometimes.iter().map(|(action, _)| action);
            for action in operation.actions.iter().chain(sometimes) {
                let (service, name) = action.split_once(':').unwrap();
                assert!(service.bytes().all(|it| it.is_ascii_lowercase() || it == b'-'), "{action}");
                assert!(name.starts_with(|it: char| it.is_ascii_uppercase()), "{action}");
            }
        }
    }
}
