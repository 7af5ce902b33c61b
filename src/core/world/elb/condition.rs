//! Conditions of rules: both forms in which a caller may write them, and what the data plane matches.

use serde::Deserialize;
use serde_json::json;

use super::{RuleCondition, validation};
use crate::world::{ApiError, Condition};

/// Match values in one rule, all conditions together (`ELBv2` quota).
const VALUES_PER_RULE: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "T: Deserialize<'de>"))]
struct Config<T> {
    #[serde(default)]
    http_header_name: String,
    #[serde(default = "Vec::new")]
    values: Vec<T>,
    #[serde(default)]
    regex_values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    #[serde(default)]
    key: Option<String>,
    value: String,
}

fn member_of(field: &str) -> Option<&'static str> {
    Some(match field {
        "path-pattern" => "PathPatternConfig",
        "host-header" => "HostHeaderConfig",
        "http-header" => "HttpHeaderConfig",
        "http-request-method" => "HttpRequestMethodConfig",
        "query-string" => "QueryStringConfig",
        "source-ip" => "SourceIpConfig",
        _ => return None,
    })
}

/// Checks a rule's conditions and returns them as AWS echoes them: path and host conditions have
/// both `Values` and their own configuration.
pub(super) fn checked(conditions: Vec<RuleCondition>) -> Result<Vec<RuleCondition>, ApiError> {
    if conditions.is_empty() {
        return Err(validation("A rule must have at least one condition"));
    }
    for once in ["path-pattern", "host-header", "http-request-method", "source-ip"] {
        if conditions.iter().filter(|condition| condition.field == once).count() > 1 {
            return Err(validation(format!("Rules can have at most 1 '{once}' condition")));
        }
    }
    let mut total = 0;
    let mut result: Vec<RuleCondition> = Vec::with_capacity(conditions.len());
    for mut condition in conditions {
        let member = member_of(&condition.field).ok_or_else(|| {
            validation(format!("Condition field '{}' must be one of '[path-pattern, host-header, http-header, http-request-method, query-string, source-ip]'", condition.field))
        })?;
        if !condition.other.contains_key(member) {
            let values = condition.values.take().unwrap_or_default();
            condition.other.insert(member.to_owned(), json!({ "Values": values }));
        }
        let values = match route(&condition)? {
            Condition::Path(values)
            | Condition::Host(values)
            | Condition::Header(_, values)
            | Condition::Method(values)
            | Condition::SourceIp(values) => values,
            Condition::Query(pairs) => pairs.into_iter().map(|(_, value)| value).collect(),
        };
        if values.is_empty() || values.iter().any(String::is_empty) {
            return Err(validation(format!("A condition value must be specified for '{}'", condition.field)));
        }
        total += values.len();
        condition.values =
            matches!(condition.field.as_str(), "path-pattern" | "host-header").then_some(values);
        result.push(condition);
    }
    if total > VALUES_PER_RULE {
        return Err(validation(format!(
            "Rules can have at most {VALUES_PER_RULE} condition values, but has {total}"
        )));
    }
    Ok(result)
}

fn config<T: for<'de> Deserialize<'de>>(condition: &RuleCondition) -> Result<Config<T>, ApiError> {
    let member = member_of(&condition.field).unwrap_or_default();
    let value = condition.other.get(member).cloned().unwrap_or_else(|| json!({}));
    let config: Config<T> = serde_json::from_value(value)
        .map_err(|problem| validation(format!("{member} of a '{}' condition: {problem}", condition.field)))?;
    if !config.regex_values.is_empty() {
        return Err(validation("regular expressions in conditions are not part of this model"));
    }
    Ok(config)
}

/// What the data plane matches.
pub(super) fn route(condition: &RuleCondition) -> Result<Condition, ApiError> {
    Ok(match condition.field.as_str() {
        "path-pattern" => Condition::Path(config(condition)?.values),
        "host-header" => Condition::Host(config(condition)?.values),
        "http-header" => {
            let config: Config<String> = config(condition)?;
            if config.http_header_name.is_empty() {
                return Err(validation("An http-header condition must have HttpHeaderName"));
            }
            Condition::Header(config.http_header_name, config.values)
        }
        "http-request-method" => Condition::Method(config(condition)?.values),
        "query-string" => {
            let pairs: Config<Pair> = config(condition)?;
            Condition::Query(pairs.values.into_iter().map(|pair| (pair.key, pair.value)).collect())
        }
        "source-ip" => Condition::SourceIp(config(condition)?.values),
        other => return Err(validation(format!("Condition field '{other}' is not known"))),
    })
}
