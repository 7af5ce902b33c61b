//! Judges the task-set template by the bounds of `CreateTaskSet` (`aws-facts.md` §1.8).

use super::bounds::{self, at_most, is_plain_name, repeated};
use super::{Findings, RefusalCode, said};
use crate::records::managed_service::{LaunchType, Network, TaskSetTemplate};

pub(in crate::records) const MAX_PROVIDERS: usize = 20;
pub(in crate::records) const MAX_BASE: u32 = 100_000;
pub(in crate::records) const MAX_WEIGHT: u32 = 1_000;
pub(in crate::records) const MAX_SUBNETS: usize = 16;
pub(in crate::records) const MAX_SECURITY_GROUPS: usize = 5;
/// Of the 50 that ECS allows; the rest are the daemon's own.
pub(in crate::records) const MAX_TAGS: usize = 40;

pub(super) fn judge(template: &TaskSetTemplate, findings: &mut Findings) {
    judge_capacity(template, findings);
    if let Some(version) = &template.platform_version {
        let allowed = "LATEST or a version such as 1.4.0";
        bounds::text("spec.taskSet.platformVersion", version, 32, allowed, is_platform_version, findings);
        if template.launch_type == Some(LaunchType::Ec2) {
            findings.add(
                RefusalCode::Inconsistent,
                "spec.taskSet.platformVersion",
                said::text(version),
                "a platform version with Fargate only",
                "remove it, or use launchType: FARGATE",
            );
        }
    }
    if let Some(network) = &template.network {
        judge_network(network, findings);
    }
    judge_tags(template, findings);
}

/// `LATEST`, or up to three numbers with dots.
fn is_platform_version(text: &str) -> bool {
    let numbers = text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    text == "LATEST" || (numbers && text.split('.').count() <= 3)
}

fn judge_capacity(template: &TaskSetTemplate, findings: &mut Findings) {
    let field = "spec.taskSet.capacityProviderStrategy";
    let providers = &template.capacity_provider_strategy;
    if let Some(launch_type) = template.launch_type
        && !providers.is_empty()
    {
        findings.add(
            RefusalCode::Inconsistent,
            "spec.taskSet.launchType",
            launch_type.as_str(),
            "launchType or capacityProviderStrategy, not both",
            "remove one of them",
        );
    }
    at_most(field, providers.len(), MAX_PROVIDERS, "capacity providers", findings);
    for (index, provider) in providers.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let name = &provider.capacity_provider;
        let allowed = "the name of a capacity provider";
        bounds::text(&format!("{at}.capacityProvider"), name, 255, allowed, is_plain_name, findings);
        let numbers = [("base", provider.base, MAX_BASE), ("weight", provider.weight, MAX_WEIGHT)];
        for (part, given, most) in numbers {
            if given > most {
                findings.add(
                    RefusalCode::OutOfBounds,
                    format!("{at}.{part}"),
                    given,
                    format!("a whole number from 0 to {most}"),
                    "choose a smaller number",
                );
            }
        }
    }
    let names = providers.iter().map(|provider| provider.capacity_provider.as_str());
    if let Some((index, name)) = repeated(names) {
        findings.add(
            RefusalCode::Inconsistent,
            format!("{field}[{index}].capacityProvider"),
            said::text(name),
            "each capacity provider once",
            "remove the repetition",
        );
    }
    let mut based = providers.iter().enumerate().filter(|(_, provider)| provider.base > 0);
    if let Some((index, provider)) = based.nth(1) {
        findings.add(
            RefusalCode::Inconsistent,
            format!("{field}[{index}].base"),
            provider.base,
            "a base on one capacity provider only",
            "set the other bases to 0",
        );
    }
    if providers.len() > 1 && providers.iter().all(|provider| provider.weight == 0) {
        findings.add(
            RefusalCode::Inconsistent,
            field,
            "no weight above 0",
            "at least one capacity provider with a weight of 1 or more",
            "give a weight to the provider that takes the tasks beyond base",
        );
    }
}

fn judge_network(network: &Network, findings: &mut Findings) {
    let subnets = "spec.taskSet.network.subnets";
    if network.subnets.is_empty() {
        findings.add(
            RefusalCode::OutOfBounds,
            subnets,
            "0 subnets",
            format!("1 to {MAX_SUBNETS} subnets"),
            "list the subnets of the tasks, or remove network for task definitions without awsvpc",
        );
    }
    at_most(subnets, network.subnets.len(), MAX_SUBNETS, "subnets", findings);
    judge_ids(subnets, &network.subnets, "subnet-", findings);
    let groups = "spec.taskSet.network.securityGroups";
    at_most(groups, network.security_groups.len(), MAX_SECURITY_GROUPS, "security groups", findings);
    judge_ids(groups, &network.security_groups, "sg-", findings);
}

fn judge_ids(field: &str, ids: &[String], prefix: &str, findings: &mut Findings) {
    for (index, id) in ids.iter().enumerate() {
        let fits = |id: &str| {
            id.strip_prefix(prefix).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
        };
        bounds::text(&format!("{field}[{index}]"), id, 64, &format!("an id {prefix}…"), fits, findings);
    }
    if let Some((index, id)) = repeated(ids.iter().map(String::as_str)) {
        findings.add(
            RefusalCode::Inconsistent,
            format!("{field}[{index}]"),
            said::text(id),
            "each id once",
            "remove the repetition",
        );
    }
}

fn judge_tags(template: &TaskSetTemplate, findings: &mut Findings) {
    let field = "spec.taskSet.tags";
    at_most(field, template.tags.len(), MAX_TAGS, "tags", findings);
    for (key, value) in &template.tags {
        // Keys that begin with `aws:` in any case are AWS's own.
        let own = |key: &str| {
            let key = key.to_ascii_lowercase();
            !key.starts_with("aws:") && !key.starts_with("pointsman:")
        };
        let allowed = "a key that begins with neither aws: nor pointsman:";
        bounds::text(field, key, 128, allowed, own, findings);
        if value.chars().count() > 256 {
            findings.add(
                RefusalCode::OutOfBounds,
                format!("{field}.{key}"),
                format_args!("{} characters long", value.chars().count()),
                "at most 256 characters",
                "shorten it",
            );
        }
    }
}
