//! Conditions of rules: both forms in which a caller may write them, and what the data plane matches.

use serde::Deserialize;
use serde_json::json;

use super::{RuleCondition, validation};
use crate::world::{ApiError, Condition, RegexSubject};

/// Match values in one rule, all conditions together (`ELBv2` quota).
const VALUES_PER_RULE: usize = 5;
/// "You can specify up to three match evaluations per condition" (guide, rule-condition-types). Of source
/// addresses, five: "The total number of values must be less than, or equal to five" (API page
/// `SourceIpConditionConfig`).
const VALUES_PER_CONDITION: usize = 3;
/// "There is a limit of five wildcard characters per rule" (guide, rule-condition-types).
const WILDCARDS_PER_RULE: usize = 5;
/// Characters of one value, and of a regular expression.
const VALUE_MAX: usize = 128;
/// Characters of a header's or a method's name.
const NAME_MAX: usize = 40;
/// Memory of one compiled regular expression: 1 MiB.
const REGEX_BYTES_MAX: usize = 1 << 20;

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
    let (mut total, mut wildcards) = (0, 0);
    let mut result: Vec<RuleCondition> = Vec::with_capacity(conditions.len());
    for mut condition in conditions {
        let member = member_of(&condition.field).ok_or_else(|| {
            validation(format!("Condition field '{}' must be one of '[path-pattern, host-header, http-header, http-request-method, query-string, source-ip]'", condition.field))
        })?;
        if !condition.other.contains_key(member) {
            let values = condition.values.take().unwrap_or_default();
            let regex = condition.other.remove("RegexValues").unwrap_or_else(|| json!([]));
            let config = if regex == json!([]) {
                json!({ "Values": values })
            } else {
                json!({ "Values": values, "RegexValues": regex })
            };
            condition.other.insert(member.to_owned(), config);
        }
        let (values, regex) = match route(&condition)? {
            Condition::Path(values)
            | Condition::Host(values)
            | Condition::Header(_, values)
            | Condition::Method(values)
            | Condition::SourceIp(values) => (values, false),
            Condition::Query(pairs) => (pairs.into_iter().map(|(_, value)| value).collect(), false),
            Condition::Regex(_, values) => (values, true),
        };
        check_values(&condition.field, &values, regex)?;
        total += values.len();
        wildcards += if regex { 0 } else { wildcards_of(&condition) };
        let echoed = !regex && matches!(condition.field.as_str(), "path-pattern" | "host-header");
        condition.values = echoed.then_some(values);
        result.push(condition);
    }
    if wildcards > WILDCARDS_PER_RULE {
        return Err(validation(format!(
            "Rules can have at most {WILDCARDS_PER_RULE} wildcards, but has {wildcards}"
        )));
    }
    if total > VALUES_PER_RULE {
        return Err(validation(format!(
            "Rules can have at most {VALUES_PER_RULE} condition values, but has {total}"
        )));
    }
    Ok(result)
}

fn check_values(field: &str, values: &[String], regex: bool) -> Result<(), ApiError> {
    if values.is_empty() || values.iter().any(String::is_empty) {
        return Err(validation(format!("A condition value must be specified for '{field}'")));
    }
    let most = if field == "source-ip" { VALUES_PER_RULE } else { VALUES_PER_CONDITION };
    if values.len() > most {
        return Err(validation(format!(
            "A '{field}' condition can have at most {most} values, but has {}",
            values.len()
        )));
    }
    let longest = if field == "http-request-method" { NAME_MAX } else { VALUE_MAX };
    let right = |value: &String| {
        value.chars().count() <= longest
            && match field {
                _ if regex => regex_bytes(value).is_ok(),
                "http-request-method" => {
                    value.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
                }
                "source-ip" => is_block(value),
                // "You must include at least one "." character."
                "host-header" => value.contains('.'),
                _ => true,
            }
    };
    match values.iter().find(|value| !right(value)) {
        Some(wrong) => Err(validation(format!("Condition value '{wrong}' is not valid for '{field}'"))),
        None => Ok(()),
    }
}

/// Compiles a regular expression of a condition. What the guide (rule-condition-types) excludes, such as
/// look-around, back-references and Unicode classes, does not compile.
///
/// # Errors
/// When the expression is malformed or too large.
pub fn regex_bytes(pattern: &str) -> Result<regex::bytes::Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(pattern).unicode(false).size_limit(REGEX_BYTES_MAX).build()
}

/// `*` and `?` that are not escaped, where they stand for other characters.
fn wildcards_of(condition: &RuleCondition) -> usize {
    let count = |text: &str| {
        let mut escaped = false;
        text.bytes().fold(0, |sum, byte| {
            let wild = matches!(byte, b'*' | b'?') && !escaped;
            escaped = byte == b'\\' && !escaped;
            sum + usize::from(wild)
        })
    };
    match route(condition) {
        Ok(Condition::Path(values) | Condition::Host(values) | Condition::Header(_, values)) => {
            values.iter().map(|value| count(value)).sum()
        }
        Ok(Condition::Query(pairs)) => {
            pairs.iter().map(|(key, value)| key.as_deref().map_or(0, count) + count(value)).sum()
        }
        _ => 0,
    }
}

/// `192.0.2.0/24` and the like: "The source IP addresses, in CIDR format."
fn is_block(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    bits.parse::<u8>().is_ok_and(|bits| bits <= if address.is_ipv4() { 32 } else { 128 })
}

fn config<T: for<'de> Deserialize<'de>>(condition: &RuleCondition) -> Result<Config<T>, ApiError> {
    let member = member_of(&condition.field).unwrap_or_default();
    let value = condition.other.get(member).cloned().unwrap_or_else(|| json!({}));
    let config: Config<T> = serde_json::from_value(value)
        .map_err(|problem| validation(format!("{member} of a '{}' condition: {problem}", condition.field)))?;
    // "you can use either value matching or regular expression (regex) matching" (guide, rule-condition-types).
    if !config.regex_values.is_empty() && !config.values.is_empty() {
        return Err(validation(format!("{member} can have Values or RegexValues, not both")));
    }
    let takes_regex = matches!(condition.field.as_str(), "path-pattern" | "host-header" | "http-header");
    if !config.regex_values.is_empty() && !takes_regex {
        return Err(validation(format!("{member} cannot have RegexValues")));
    }
    Ok(config)
}

/// Values, or regular expressions, of a condition on one subject.
fn texts(
    config: Config<String>,
    plain: impl FnOnce(Vec<String>) -> Condition,
    subject: RegexSubject,
) -> Condition {
    if config.regex_values.is_empty() {
        plain(config.values)
    } else {
        Condition::Regex(subject, config.regex_values)
    }
}

/// What the data plane matches.
pub(super) fn route(condition: &RuleCondition) -> Result<Condition, ApiError> {
    Ok(match condition.field.as_str() {
        "path-pattern" => texts(config(condition)?, Condition::Path, RegexSubject::Path),
        "host-header" => texts(config(condition)?, Condition::Host, RegexSubject::Host),
        "http-header" => {
            let config: Config<String> = config(condition)?;
            if config.http_header_name.is_empty() {
                return Err(validation("An http-header condition must have HttpHeaderName"));
            }
            let name = config.http_header_name.clone();
            if name.len() > NAME_MAX || name.eq_ignore_ascii_case("host") {
                // "You can't use an HTTP header condition to specify the host header."
                return Err(validation(format!("HttpHeaderName '{name}' is not valid")));
            }
            let subject = RegexSubject::Header(name.clone());
            texts(config, |values| Condition::Header(name, values), subject)
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
