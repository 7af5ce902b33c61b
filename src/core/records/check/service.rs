//! Judges a `ManagedService`.

use std::collections::BTreeMap;

use super::bounds::{self, at_most, is_ecs_name, is_plain_name, repeated};
use super::release::STRATEGY_NAME;
use super::{Findings, MAX_ALARMS, MAX_PINNED_BYTES, MAX_ROUTES, MAX_STRATEGIES, RefusalCode, arns, said};
use crate::records::managed_service::{ManagedService, ManagedServiceSpec, StickinessPolicy};
use crate::records::strategy;
use crate::records::units::Span;

const HOUR: Span = Span::from_mins(60);

pub(super) fn judge(record: &ManagedService, findings: &mut Findings) {
    bounds::judge_free_texts("metadata.labels", &record.metadata.labels, findings);
    let spec = &record.spec;
    judge_adoption(spec, findings);
    judge_names(spec, findings);
    arns::judge(spec, findings);
    judge_routes(spec, findings);
    super::template::judge(&spec.task_set, findings);
    judge_alarms(spec, findings);
    judge_strategies(spec, findings);
    judge_times(spec, findings);
    judge_size(spec, findings);
}

fn judge_adoption(spec: &ManagedServiceSpec, findings: &mut Findings) {
    if let Some(adopt) = &spec.adopt {
        findings.add(
            RefusalCode::ForeignTaskSet,
            "spec.adopt",
            said::text(&adopt.task_set),
            "null, or the field left out",
            "remove it: taking over task sets of somebody else comes with migration, in a later version; \
             until then start with a service without task sets",
        );
    }
}

fn judge_names(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let letters = "letters, digits, - and _";
    let family = &spec.task_definition_family;
    bounds::text("spec.taskDefinitionFamily", family, 255, letters, is_ecs_name, findings);
    bounds::text("spec.container.name", &spec.container.name, 255, letters, is_ecs_name, findings);
}

fn judge_routes(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let production = &spec.routes.production;
    at_most("spec.routes.production", production.len(), MAX_ROUTES, "routes", findings);
    if production.is_empty() {
        findings.add(
            RefusalCode::OutOfBounds,
            "spec.routes.production",
            "0 routes",
            format!("1 to {MAX_ROUTES} routes"),
            "list the rule or listener that the traffic comes through",
        );
    }
    for (field, route) in arns::routes(spec) {
        bounds::text(&format!("{field}.name"), &route.name, 64, STRATEGY_NAME, is_plain_name, findings);
    }
    if let Some((index, name)) = repeated(arns::routes(spec).map(|(_, route)| route.name.as_str())) {
        let field = arns::routes(spec).nth(index).map_or_else(String::new, |(field, _)| field);
        findings.add(
            RefusalCode::Inconsistent,
            format!("{field}.name"),
            said::text(name),
            "a name that no other route has",
            "give each route its own name",
        );
    }
    let all: Vec<_> =
        arns::routes(spec).filter_map(|(field, route)| Some((field, arns::route_arn(route)?))).collect();
    if let Some((index, arn)) = repeated(all.iter().map(|(_, arn)| arn.as_str())) {
        let (field, _) = &all[index];
        let (allowed, fix) = if field == "spec.routes.test" {
            ("none of the production routes", "give the test route a rule or listener of its own")
        } else {
            ("each rule and listener once", "remove the repetition")
        };
        findings.add(RefusalCode::Inconsistent, field, arn, allowed, fix);
    }
    judge_stickiness(spec, findings);
}

fn judge_stickiness(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let field = "spec.routes.stickiness.maxDuration";
    match (spec.routes.stickiness.policy, spec.routes.stickiness.max_duration) {
        (StickinessPolicy::Accept, None) => findings.add(
            RefusalCode::Inconsistent,
            field,
            "missing",
            "a duration with policy accept",
            "state the longest cookie duration; clean-up waits for as long",
        ),
        (StickinessPolicy::Refuse, Some(given)) => findings.add(
            RefusalCode::Inconsistent,
            field,
            given,
            "a duration with policy accept only",
            "remove it, or set policy: accept",
        ),
        // ELB keeps a client for 1 second to 7 days.
        (StickinessPolicy::Accept, Some(given)) => {
            within(field, given, Span::from_secs(1), HOUR.times(24 * 7), findings);
        }
        (StickinessPolicy::Refuse, None) => {}
    }
}

fn judge_alarms(spec: &ManagedServiceSpec, findings: &mut Findings) {
    at_most("spec.alarms", spec.alarms.len(), MAX_ALARMS, "alarms", findings);
    for (index, alarm) in spec.alarms.iter().enumerate() {
        let field = format!("spec.alarms[{index}].name");
        bounds::text(&field, &alarm.name, 255, "the exact name of an alarm", |_| true, findings);
    }
    if let Some((index, name)) = repeated(spec.alarms.iter().map(|alarm| alarm.name.as_str())) {
        findings.add(
            RefusalCode::Inconsistent,
            format!("spec.alarms[{index}].name"),
            said::text(name),
            "each alarm once",
            "remove the repetition; an alarm that watches both groups has watches: service",
        );
    }
    let evidence = spec.alarm_policy.evidence_deadline;
    within("spec.alarmPolicy.evidenceDeadline", evidence, MOMENT, HOUR.times(24), findings);
}

fn judge_strategies(spec: &ManagedServiceSpec, findings: &mut Findings) {
    at_most("spec.strategies", spec.strategies.len(), MAX_STRATEGIES, "strategies", findings);
    for (name, written) in &spec.strategies {
        let field = format!("spec.strategies.{name}");
        bounds::text(&field, name, 64, STRATEGY_NAME, is_plain_name, findings);
        if name.starts_with(strategy::PREDEFINED_PREFIX) {
            findings.add(
                RefusalCode::Inconsistent,
                &field,
                said::text(name),
                format!("a name that does not begin with {}", strategy::PREDEFINED_PREFIX),
                "rename it: those names mean what CodeDeploy means by them",
            );
        }
        if let Err(refusal) = strategy::resolve(written, &field, spec.bake) {
            findings.push(refusal);
        }
    }
    let exists = |name: &str| spec.strategies.contains_key(name) || strategy::is_predefined(name);
    let default = ("spec.defaultStrategy".to_owned(), &spec.default_strategy);
    let chosen = spec.release_may_choose.iter().enumerate();
    let chosen = chosen.map(|(index, name)| (format!("spec.releaseMayChoose[{index}]"), name));
    for (field, name) in std::iter::once(default).chain(chosen) {
        if !exists(name) {
            findings.add(
                RefusalCode::Inconsistent,
                field,
                said::text(name),
                strategy::known_names(spec),
                "name a strategy of this record or a predefined one",
            );
        }
    }
    let choices = &spec.release_may_choose;
    at_most("spec.releaseMayChoose", choices.len(), MAX_STRATEGIES, "names", findings);
    if let Some((index, name)) = repeated(choices.iter().map(String::as_str)) {
        findings.add(
            RefusalCode::Inconsistent,
            format!("spec.releaseMayChoose[{index}]"),
            said::text(name),
            "each name once",
            "remove the repetition",
        );
    }
}

fn judge_size(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let pinned = ManagedServiceSpec { strategies: BTreeMap::new(), ..spec.clone() };
    let bytes = match serde_json::to_string(&pinned) {
        Ok(text) => text.len(),
        // What has been read can be written; if not, it is no record to go by.
        Err(_) => usize::MAX,
    };
    if bytes > MAX_PINNED_BYTES {
        findings.add(
            RefusalCode::OutOfBounds,
            "spec",
            format_args!("{bytes} bytes as JSON, without strategies"),
            format!("at most {MAX_PINNED_BYTES} bytes"),
            "shorten the names of alarms and the tags, or watch a composite alarm instead of many",
        );
    }
}

/// The shortest time that is one.
const MOMENT: Span = Span::from_millis(1);

fn judge_times(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let day = HOUR.times(24);
    let two_days = HOUR.times(48);
    within("spec.testHold", spec.test_hold, Span::ZERO, day, findings);
    within("spec.bake", spec.bake, Span::ZERO, two_days, findings);
    within("spec.retention", spec.retention, Span::ZERO, two_days, findings);
    let deadlines = &spec.deadlines;
    for (name, deadline) in [
        ("start", deadlines.start),
        ("prepare", deadlines.prepare),
        ("capacity", deadlines.capacity),
        ("weightWrite", deadlines.weight_write),
        ("primary", deadlines.primary),
        ("cleanup", deadlines.cleanup),
    ] {
        within(&format!("spec.deadlines.{name}"), deadline, MOMENT, day.times(7), findings);
    }
    let waits = &spec.waits;
    for (name, wait) in [
        ("propagation", waits.propagation),
        ("quiet", waits.quiet),
        ("quietAfterUnknown", waits.quiet_after_unknown),
    ] {
        within(&format!("spec.waits.{name}"), wait, MOMENT, day, findings);
    }
    // The gate counts the hold as preparation; a hold that eats the whole deadline can never pass it.
    if spec.test_hold >= deadlines.prepare {
        findings.add(
            RefusalCode::Inconsistent,
            "spec.testHold",
            spec.test_hold,
            format!("less than deadlines.prepare, which is {}", deadlines.prepare),
            "shorten the hold or give deadlines.prepare more time",
        );
    }
}

fn within(field: &str, given: Span, least: Span, most: Span, findings: &mut Findings) {
    if given < least || given > most {
        let allowed = if least == MOMENT {
            format!("more than 0s, at most {most}")
        } else {
            format!("{least} to {most}")
        };
        findings.add(RefusalCode::OutOfBounds, field, given, allowed, "choose a time within these bounds");
    }
}
