//! `EventBridge` event patterns, and the filter policies of SNS, which are the same language.
//!
//! Own code because there is no library for it: AWS's matcher is Java, and what carries its name on the
//! crate registry is an empty place-holder.
//!
//! A pattern names fields; every one of them must match, and a field matches when one of its
//! alternatives does: "for an event pattern to match an event, the event must contain all the field names
//! listed in the event pattern" (`EventBridge` user guide, "Creating event patterns").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Deepest nesting of fields; keeps the recursion's stack small.
const DEPTH_MAX: usize = 32;

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Event pattern is not valid. Reason: {reason}")]
pub(super) struct PatternError {
    reason: String,
}

fn wrong<T>(reason: impl Into<String>) -> Result<T, PatternError> {
    Err(PatternError { reason: reason.into() })
}

/// A pattern, read and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Pattern {
    text: String,
    fields: Fields,
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

/// Fields that must all match; alternatives of `$or`, of which one must.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fields {
    all: Vec<(String, Field)>,
    any: Vec<Fields>,
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Nested(Fields),
    Values(Vec<Test>),
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equals(Value),
    Prefix(String),
    Suffix(String),
    IgnoringCase(String),
    Wildcard(Vec<char>),
    Exists(bool),
    /// Comparisons that all hold.
    Numeric(Vec<(Compare, f64)>),
    Not(Vec<Test>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Pattern {
    /// Reads a pattern from its JSON text.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) if fields.is_empty() => wrong("Empty patterns are not allowed"),
            Ok(Value::Object(fields)) => Ok(Self { text: text.to_owned(), fields: read_fields(&fields, 0)? }),
            Ok(_) => wrong("Filter is not an object"),
            Err(error) => wrong(error.to_string()),
        }
    }

    /// Its JSON text, as it was sent.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether an event is meant.
    pub(super) fn matches(&self, event: &Value) -> bool {
        fields_match(&self.fields, event)
    }
}

fn read_fields(object: &Map<String, Value>, depth: usize) -> Result<Fields, PatternError> {
    if depth > DEPTH_MAX {
        return wrong(format!("nested deeper than {DEPTH_MAX} levels"));
    }
    let mut fields = Fields::default();
    for (name, value) in object {
        match value {
            Value::Array(alternatives) if name == "$or" => {
                for alternative in alternatives {
                    let Value::Object(inner) = alternative else { return wrong("\"$or\" must hold objects") };
                    fields.any.push(read_fields(inner, depth + 1)?);
                }
                if fields.any.len() < 2 {
                    return wrong("\"$or\" must hold at least two objects");
                }
            }
            Value::Object(inner) if inner.is_empty() => {
                return wrong(format!("Empty objects are not allowed: \"{name}\""));
            }
            Value::Object(inner) => {
                fields.all.push((name.clone(), Field::Nested(read_fields(inner, depth + 1)?)));
            }
            Value::Array(values) if values.is_empty() => {
                return wrong(format!("Empty arrays are not allowed: \"{name}\""));
            }
            Value::Array(values) => {
                let tests = values.iter().map(read_test).collect::<Result<_, _>>()?;
                fields.all.push((name.clone(), Field::Values(tests)));
            }
            _ => return wrong(format!("\"{name}\" must be an object or an array")),
        }
    }
    Ok(fields)
}

fn read_test(value: &Value) -> Result<Test, PatternError> {
    let object = match value {
        Value::Object(object) => object,
        Value::Array(_) => return wrong("Match value must be String, number, true, false, or null"),
        plain => return Ok(Test::Equals(plain.clone())),
    };
    let mut members = object.iter();
    let (Some((kind, argument)), None) = (members.next(), members.next()) else {
        return wrong("Only one key allowed in match expression");
    };
    match (kind.as_str(), argument) {
        ("prefix", Value::String(text)) => Ok(Test::Prefix(text.clone())),
        ("suffix", Value::String(text)) => Ok(Test::Suffix(text.clone())),
        ("equals-ignore-case", Value::String(text)) => Ok(Test::IgnoringCase(text.to_lowercase())),
        ("wildcard", Value::String(text)) if !text.contains("**") => {
            Ok(Test::Wildcard(text.chars().collect()))
        }
        ("exists", Value::Bool(wanted)) => Ok(Test::Exists(*wanted)),
        ("numeric", Value::Array(parts)) => read_numeric(parts),
        ("anything-but", Value::Array(values)) if !values.is_empty() => {
            Ok(Test::Not(values.iter().map(plain).collect::<Result<_, _>>()?))
        }
        ("anything-but", Value::Object(inner)) => read_anything_but(inner),
        ("anything-but", value) => Ok(Test::Not(vec![plain(value)?])),
        ("prefix" | "suffix" | "equals-ignore-case" | "wildcard" | "exists" | "numeric", _) => {
            wrong(format!("{kind} match pattern must be of another form, found {argument}"))
        }
        _ => wrong(format!("Unrecognized match type {kind}")),
    }
}

fn plain(value: &Value) -> Result<Test, PatternError> {
    match value {
        Value::String(_) | Value::Number(_) => Ok(Test::Equals(value.clone())),
        _ => wrong("Inside anything-but, only strings and numbers are allowed"),
    }
}

/// `{"anything-but": {"prefix": …}}` and its kin, each with one text or several.
fn read_anything_but(inner: &Map<String, Value>) -> Result<Test, PatternError> {
    let mut members = inner.iter();
    let (Some((kind, argument)), None) = (members.next(), members.next()) else {
        return wrong("Only one key allowed in match expression");
    };
    if !matches!(kind.as_str(), "prefix" | "suffix" | "equals-ignore-case" | "wildcard") {
        return wrong(format!("Unsupported anything-but pattern: {kind}"));
    }
    let texts = match argument {
        Value::Array(texts) if !texts.is_empty() => texts.clone(),
        Value::String(_) => vec![argument.clone()],
        _ => return wrong(format!("anything-but {kind} needs a string or strings")),
    };
    let test = |text: Value| {
        let object: Map<String, Value> = [(kind.clone(), text)].into_iter().collect();
        read_test(&Value::Object(object))
    };
    Ok(Test::Not(texts.into_iter().map(test).collect::<Result<_, _>>()?))
}

/// `["=", 5]`, `[">", 0, "<=", 5]`: one comparison, or a lower and an upper bound.
fn read_numeric(parts: &[Value]) -> Result<Test, PatternError> {
    let mut bounds = Vec::new();
    for pair in parts.chunks(2) {
        let [Value::String(operator), number] = pair else {
            return wrong("numeric needs pairs of an operator and a number");
        };
        let compare = match operator.as_str() {
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            "=" => Compare::Equal,
            ">=" => Compare::GreaterOrEqual,
            ">" => Compare::Greater,
            other => return wrong(format!("Unrecognized numeric range operator: {other}")),
        };
        // "Numeric matching … works with values between -5.0e9 and +5.0e9".
        let Some(number) = number.as_f64().filter(|number| number.abs() <= 5.0e9) else {
            return wrong("Value of a numeric comparison must be a number from -5.0e9 to 5.0e9");
        };
        bounds.push((compare, number));
    }
    match bounds.len() {
        1 | 2 => Ok(Test::Numeric(bounds)),
        _ => wrong("numeric needs one or two comparisons"),
    }
}

fn fields_match(fields: &Fields, event: &Value) -> bool {
    let one = |(name, field): &(String, Field)| {
        let found = event.get(name);
        match field {
            Field::Values(tests) => tests.iter().any(|test| value_matches(test, found)),
            // An array of objects matches by one of its members as a whole.
            Field::Nested(inner) => match found {
                Some(Value::Array(items)) => items.iter().any(|item| fields_match(inner, item)),
                Some(found) => fields_match(inner, found),
                None => fields_match(inner, &Value::Null),
            },
        }
    };
    fields.all.iter().all(one)
        && (fields.any.is_empty() || fields.any.iter().any(|inner| fields_match(inner, event)))
}

/// "If the value in the event is an array, then the event pattern matches if the intersection of the
/// event pattern array and the event array is non-empty" (user guide).
fn value_matches(test: &Test, found: Option<&Value>) -> bool {
    if let Test::Exists(wanted) = test {
        // "Exists matching only works on leaf nodes."
        return found.is_some_and(|found| !found.is_object()) == *wanted;
    }
    match found {
        None | Some(Value::Object(_)) => false,
        Some(Value::Array(items)) => items.iter().any(|item| plain_matches(test, item)),
        Some(value) => plain_matches(test, value),
    }
}

fn plain_matches(test: &Test, value: &Value) -> bool {
    let written = value.as_str();
    match test {
        Test::Equals(wanted) => wanted == value,
        Test::Prefix(prefix) => written.is_some_and(|written| written.starts_with(prefix)),
        Test::Suffix(suffix) => written.is_some_and(|written| written.ends_with(suffix)),
        Test::IgnoringCase(wanted) => written.is_some_and(|written| written.to_lowercase() == *wanted),
        Test::Wildcard(pattern) => {
            written.is_some_and(|written| wildcard(pattern, &written.chars().collect::<Vec<_>>()))
        }
        Test::Exists(wanted) => *wanted,
        Test::Numeric(bounds) => value.as_f64().is_some_and(|number| in_bounds(bounds, number)),
        Test::Not(tests) => !tests.iter().any(|test| plain_matches(test, value)),
    }
}

fn in_bounds(bounds: &[(Compare, f64)], number: f64) -> bool {
    bounds.iter().all(|(compare, bound)| match compare {
        Compare::Less => number < *bound,
        Compare::LessOrEqual => number <= *bound,
        Compare::Equal => number.total_cmp(bound).is_eq(),
        Compare::GreaterOrEqual => number >= *bound,
        Compare::Greater => number > *bound,
    })
}

/// `*` stands for any characters; greedy with one point to fall back to, so that time stays bounded by
/// the product of both lengths.
fn wildcard(pattern: &[char], text: &[char]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(next) if *next == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((star_at, star_from)) => {
                    star = Some((star_at, star_from + 1));
                    at = star_at + 1;
                    from = star_from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alarm() -> Value {
        json!({
            "source": "aws.cloudwatch",
            "detail-type": "CloudWatch Alarm State Change",
            "resources": ["arn:aws:cloudwatch:eu-central-1:111122223333:alarm:shop-5xx"],
            "detail": {
                "alarmName": "shop-5xx",
                "state": {"value": "ALARM", "count": 300, "reasonData": null},
                "configuration": {"metrics": [{"id": "m1", "returnData": true}, {"id": "m2"}]},
            },
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "called with `json!` a hundred times")]
    fn matches(pattern: Value) -> bool {
        Pattern::parse(&pattern.to_string()).expect("a pattern").matches(&alarm())
    }

    #[test]
    fn every_named_field_must_match_by_one_of_its_alternatives() {
        assert!(matches(json!({"source": ["aws.ecs", "aws.cloudwatch"]})));
        assert!(matches(json!({"source": ["aws.cloudwatch"], "detail": {"state": {"value": ["ALARM"]}}})));
        assert!(!matches(json!({"source": ["aws.cloudwatch"], "detail": {"state": {"value": ["OK"]}}})));
        assert!(!matches(json!({"source": ["aws.cloudwatch"], "detail": {"nothing": ["x"]}})));
        assert!(matches(json!({"detail": {"state": {"reasonData": [null], "count": [300]}}})));
    }

    #[test]
    fn a_number_equals_only_as_it_is_written() {
        // "300, 300.0, and 3.0e2 are not considered equal" (user guide, "Considerations when creating event
        // patterns").
        assert!(!matches(json!({"detail": {"state": {"count": [300.0]}}})));
        assert!(matches(json!({"detail": {"state": {"count": [{"numeric": ["=", 300.0]}]}}})));
    }

    #[test]
    fn an_array_in_the_event_matches_by_one_of_its_members() {
        let arn = "arn:aws:cloudwatch:eu-central-1:111122223333:alarm:shop-5xx";
        assert!(matches(json!({"resources": [arn, "other"]})));
        assert!(matches(json!({"resources": [{"suffix": "5xx"}]})));
        assert!(matches(json!({"detail": {"configuration": {"metrics": {"id": ["m2"]}}}})));
        let both = json!({"detail": {"configuration": {"metrics": {"id": ["m2"], "returnData": [true]}}}});
        assert!(!matches(both), "no one member is both");
    }

    #[test]
    fn texts_match_by_prefix_suffix_wildcard_and_whatever_their_case() {
        for (test, expected) in [
            (json!({"prefix": "shop-"}), true),
            (json!({"prefix": "5xx"}), false),
            (json!({"suffix": "-5xx"}), true),
            (json!({"equals-ignore-case": "SHOP-5XX"}), true),
            (json!({"wildcard": "sh*-*x"}), true),
            (json!({"wildcard": "*-4xx"}), false),
            (json!({"wildcard": "shop-5xx*"}), true),
        ] {
            assert_eq!(matches(json!({"detail": {"alarmName": [test]}})), expected, "{test}");
        }
    }

    #[test]
    fn anything_but_matches_a_value_that_is_there_and_another() {
        for (test, expected) in [
            (json!("shop-5xx"), false),
            (json!(["a", "b"]), true),
            (json!(["a", "shop-5xx"]), false),
            (json!({"prefix": "shop-"}), false),
            (json!({"suffix": ["-4xx", "-3xx"]}), true),
        ] {
            let pattern = json!({"detail": {"alarmName": [{"anything-but": test}]}});
            assert_eq!(matches(pattern), expected, "{test}");
        }
        assert!(!matches(json!({"detail": {"missing": [{"anything-but": "x"}]}})));
    }

    #[test]
    fn exists_looks_at_leaves_only() {
        // "Exists matching only works on leaf nodes. It does not work on intermediate nodes."
        assert!(matches(json!({"detail": {"alarmName": [{"exists": true}]}})));
        assert!(matches(json!({"detail": {"muted": [{"exists": false}]}})));
        assert!(matches(json!({"extra": {"muted": [{"exists": false}]}})));
        assert!(!matches(json!({"detail": {"state": [{"exists": true}]}})));
    }

    #[test]
    fn numbers_match_by_bounds() {
        let count = |bounds: Value| matches(json!({"detail": {"state": {"count": [{"numeric": bounds}]}}}));
        assert!(count(json!([">", 0, "<=", 300])));
        assert!(!count(json!([">", 300])));
        assert!(!count(json!([">=", 0, "<", 300])));
    }

    #[test]
    fn one_of_the_alternatives_of_or_must_match_as_a_whole() {
        let pattern = |name: &str| {
            json!({"source": ["aws.cloudwatch"],
            "detail": {"$or": [{"alarmName": [name]}, {"state": {"count": [{"numeric": [">", 1000]}]}}]}})
        };
        assert!(matches(pattern("shop-5xx")));
        assert!(!matches(pattern("other")));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "EOF"),
            ("[]", "Filter is not an object"),
            ("{}", "Empty patterns are not allowed"),
            (r#"{"source": "aws.ecs"}"#, "must be an object or an array"),
            (r#"{"source": []}"#, "Empty arrays are not allowed"),
            (r#"{"source": [["a"]]}"#, "Match value must be"),
            (r#"{"source": [{"cidr": "10.0.0.0/8"}]}"#, "Unrecognized match type cidr"),
            (r#"{"source": [{"prefix": 5}]}"#, "prefix match pattern"),
            (r#"{"source": [{"prefix": "a", "suffix": "b"}]}"#, "Only one key"),
            (r#"{"n": [{"numeric": ["~", 5]}]}"#, "Unrecognized numeric range operator"),
            (r#"{"n": [{"numeric": [">", 5e10]}]}"#, "from -5.0e9"),
        ] {
            let error = Pattern::parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let deep = format!("{}[1]{}", "{\"a\":".repeat(60), "}".repeat(60));
        assert!(Pattern::parse(&deep).is_err(), "a deep pattern must not overflow the stack");
    }
}
