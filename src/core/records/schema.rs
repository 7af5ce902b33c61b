//! JSON schemas of the records, generated from the same types that read them.
//!
//! A schema refuses what a single document can be refused for by its shape, so that an editor says it while
//! it is being written. What needs two fields, a sum or a duration's value is said by `records::check`.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::check::LONGEST_TEXT;
use super::{Command, DesiredRelease, ManagedService, ReleaseStatus};

/// Names of strategies and routes.
pub(super) const PLAIN_NAME: &str = "^[A-Za-z0-9][-_.A-Za-z0-9]{0,63}$";
/// Names of ECS: families and containers.
pub(super) const ECS_NAME: &str = "^[-_A-Za-z0-9]{1,255}$";
/// No control characters.
pub(super) const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// ARNs, by kind; [`super::names::Arn`] says which characters they have.
pub(super) const CLUSTER: &str = "^arn:[^:]+:ecs:[^:]+:[0-9]{12}:cluster/[^/]+$";
pub(super) const SERVICE: &str = "^arn:[^:]+:ecs:[^:]+:[0-9]{12}:service/[^/]+/[^/]+$";
pub(super) const TARGET_GROUP: &str =
    "^arn:[^:]+:elasticloadbalancing:[^:]+:[0-9]{12}:targetgroup/[^/]+/[^/]+$";
pub(super) const RULE: &str = "^arn:[^:]+:elasticloadbalancing:[^:]+:[0-9]{12}:listener-rule/app(/[^/]+){4}$";
pub(super) const LISTENER: &str = "^arn:[^:]+:elasticloadbalancing:[^:]+:[0-9]{12}:listener/app(/[^/]+){3}$";
pub(super) const REGISTRY: &str = "^arn:[^:]+:servicediscovery:[^:]+:[0-9]{12}:service/[^/]+$";
/// `family:revision` or a task-definition ARN.
pub(super) const TASK_DEFINITION: &str = "^(arn:[!-)+-9;-~]+:ecs:[!-)+-9;-~]+:[!-)+-9;-~]+:task-definition/)?[-_A-Za-z0-9]{1,255}:[1-9][0-9]{0,8}$";
/// `<name>-<generation>.<attempt>`.
pub(super) const RELEASE_ID: &str = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?-[1-9][0-9]{0,17}\.[1-9][0-9]{0,8}$";
/// Tag keys that belong to somebody else.
pub(super) const RESERVED_TAG: &str = "^([Aa][Ww][Ss]|[Pp][Oo][Ii][Nn][Tt][Ss][Mm][Aa][Nn]):";

/// `field` is there and not null.
pub(super) fn given(field: &str) -> Value {
    json!({ "required": [field], "properties": { field: { "not": { "type": "null" } } } })
}

/// Exactly one of `fields` is there and not null.
pub(super) fn exactly_one(fields: &[&str]) -> Value {
    fields.iter().map(|field| given(field)).collect()
}

/// File name and schema of every record, as kept in `crds-schemas/`.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("command.v1.schema.json", strict::<Command>()),
        ("desired-release.v1.schema.json", strict::<DesiredRelease>()),
        ("managed-service.v1.schema.json", strict::<ManagedService>()),
        ("release-status.v1.schema.json", generate::<ReleaseStatus>()),
    ]
}

/// File name and text of every schema: what `pointsman schema` prints and writes.
pub fn texts() -> Vec<(&'static str, String)> {
    all().into_iter().map(|(name, schema)| (name, text_of(&schema))).collect()
}

/// The schema of a document that the program writes.
pub fn generate<T: JsonSchema>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(plain_description).transform(&mut schema);
    schema
}

/// The schema of a record that people write: every text has an end.
fn strict<T: JsonSchema>() -> Schema {
    let mut schema = generate::<T>();
    RecursiveTransform(bound_texts).transform(&mut schema);
    schema
}

/// Descriptions come from the source's comments, where names are links.
fn plain_description(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("[`", "`").replace("`]", "`");
    }
}

fn bound_texts(schema: &mut Schema) {
    let is = |schema: &Schema, kind: &str| match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    };
    let bounded = ["maxLength", "enum", "const"].iter().any(|keyword| schema.get(*keyword).is_some());
    if is(schema, "string") && !bounded {
        schema.insert("maxLength".to_owned(), json!(LONGEST_TEXT));
    }
    // A map with free keys.
    let open = matches!(schema.get("additionalProperties"), Some(Value::Object(_)));
    if is(schema, "object") && open && schema.get("propertyNames").is_none() {
        schema.insert("propertyNames".to_owned(), json!({ "maxLength": LONGEST_TEXT }));
    }
}

/// With the fields of every object in alphabetical order, also where `serde_json` keeps the order in which
/// they came: that depends on the features of whatever is built along.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> =
                fields.iter().map(|(name, field)| (name, sorted(field))).collect();
            Value::Object(fields.into_iter().map(|(name, field)| (name.clone(), field)).collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Two spaces deep, with long runs of numbers on one line.
pub fn text_of(schema: &Schema) -> String {
    let pretty = format!("{:#}", sorted(schema.as_value()));
    let mut text = String::with_capacity(pretty.len());
    let mut in_run = false;
    for line in pretty.lines() {
        let number = line.trim().trim_end_matches(',').parse::<f64>().is_ok();
        let goes_on = in_run && number;
        text.push(if goes_on { ' ' } else { '\n' });
        text.push_str(if goes_on { line.trim() } else { line });
        in_run = number;
    }
    text.push('\n');
    text.trim_start().to_owned()
}
