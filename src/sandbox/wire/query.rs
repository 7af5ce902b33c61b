//! The awsQuery protocol: a flattened form in, XML out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::names::{self, Kind};

/// Deeper nesting than any AWS operation has.
const DEPTH_MAX: usize = 24;

/// Why a form is no query-protocol request.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum FormError {
    #[error("member '{0}' is nested too deeply")]
    TooDeep(String),
    #[error("member '{0}' is both a value and a structure")]
    Ambiguous(String),
    #[error("value '{value}' of member '{member}' is not {wanted}")]
    WrongType { member: String, value: String, wanted: &'static str },
}

/// One node of the tree that the dotted names of a form span.
#[derive(Debug)]
enum Node {
    Leaf(String),
    Branch(BTreeMap<String, Node>),
}

/// Reads a form into a JSON object of API member names; `Action` and `Version` stay out.
pub(super) fn read_form(form: &[(String, String)]) -> Result<Value, FormError> {
    let mut root = BTreeMap::new();
    for (name, text) in form.iter().filter(|(name, _)| name != "Action" && name != "Version") {
        let path: Vec<&str> = name.split('.').collect();
        if path.len() > DEPTH_MAX {
            return Err(FormError::TooDeep(name.clone()));
        }
        plant(&mut root, &path, text).map_err(|()| FormError::Ambiguous(name.clone()))?;
    }
    structure("", root)
}

fn plant(branch: &mut BTreeMap<String, Node>, path: &[&str], text: &str) -> Result<(), ()> {
    let [first, rest @ ..] = path else { return Err(()) };
    if rest.is_empty() {
        return match branch.insert((*first).to_owned(), Node::Leaf(text.to_owned())) {
            Some(Node::Branch(_)) => Err(()),
            _ => Ok(()),
        };
    }
    match branch.entry((*first).to_owned()).or_insert_with(|| Node::Branch(BTreeMap::new())) {
        Node::Branch(inner) => plant(inner, rest, text),
        Node::Leaf(_) => Err(()),
    }
}

fn structure(holder: &str, branch: BTreeMap<String, Node>) -> Result<Value, FormError> {
    let mut object = Map::new();
    for (member, node) in branch {
        let value = match node {
            Node::Leaf(text) => leaf(holder, &member, text)?,
            Node::Branch(inner) => inner_value(holder, &member, inner)?,
        };
        object.insert(member, value);
    }
    Ok(Value::Object(object))
}

/// A branch is a list (`member.N`), a map (`entry.N.key`/`.value`) or a structure.
fn inner_value(holder: &str, member: &str, mut branch: BTreeMap<String, Node>) -> Result<Value, FormError> {
    if branch.len() == 1 {
        if let Some(Node::Branch(items)) = branch.remove("member") {
            return in_order(items).map(|(_, node)| item(holder, member, node)).collect::<Result<_, _>>();
        }
        if let Some(Node::Branch(entries)) = branch.remove("entry") {
            return map_entries(member, entries);
        }
    }
    structure(member, branch)
}

fn item(holder: &str, member: &str, node: Node) -> Result<Value, FormError> {
    match node {
        Node::Leaf(text) => match names::kind(holder, member) {
            Kind::List => Ok(Value::String(text)),
            kind => scalar(kind, member, text),
        },
        Node::Branch(inner) => structure(member, inner),
    }
}

fn map_entries(member: &str, entries: BTreeMap<String, Node>) -> Result<Value, FormError> {
    let mut object = Map::new();
    for (_, entry) in in_order(entries) {
        let Node::Branch(mut entry) = entry else {
            return Err(FormError::Ambiguous(member.to_owned()));
        };
        // SNS writes the message attributes with capitals.
        let key = entry.remove("key").or_else(|| entry.remove("Name"));
        let value = entry.remove("value").or_else(|| entry.remove("Value"));
        let (Some(Node::Leaf(key)), Some(value)) = (key, value) else {
            return Err(FormError::Ambiguous(member.to_owned()));
        };
        let value = match value {
            Node::Leaf(text) => Value::String(text),
            Node::Branch(inner) => structure(member, inner)?,
        };
        object.insert(key, value);
    }
    Ok(Value::Object(object))
}

/// Items by their number: `member.10` comes after `member.9`.
fn in_order(items: BTreeMap<String, Node>) -> impl Iterator<Item = (String, Node)> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort_by_key(|(index, _)| index.parse::<u32>().unwrap_or(u32::MAX));
    items.into_iter()
}

fn leaf(holder: &str, member: &str, text: String) -> Result<Value, FormError> {
    scalar(names::kind(holder, member), member, text)
}

fn scalar(kind: Kind, member: &str, text: String) -> Result<Value, FormError> {
    let wrong =
        |text: String, wanted| FormError::WrongType { member: member.to_owned(), value: text, wanted };
    match kind {
        Kind::List if text.is_empty() => Ok(Value::Array(Vec::new())),
        Kind::Plain | Kind::List => Ok(Value::String(text)),
        Kind::Whole => match text.parse::<i64>() {
            Ok(number) => Ok(number.into()),
            Err(_) => Err(wrong(text, "an integer")),
        },
        Kind::Real => match text.parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Ok(Value::Number(number)),
            None => Err(wrong(text, "a number")),
        },
        Kind::Truth => match text.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(wrong(text, "true or false")),
        },
        Kind::Instant => match text.parse::<Timestamp>() {
            Ok(at) => Ok(seconds_of(at)),
            Err(_) => Err(wrong(text, "a timestamp")),
        },
    }
}

/// Seconds since the epoch, with a fraction only where there is one.
fn seconds_of(at: Timestamp) -> Value {
    if at.subsec_nanosecond() == 0 {
        return at.as_second().into();
    }
    Number::from_f64(at.as_duration().as_secs_f64()).map_or(Value::Null, Value::Number)
}

/// The answer of an operation as the query protocol writes it.
pub(super) fn write_answer(operation: &str, namespace: &str, answer: &Value, request_id: &str) -> String {
    let mut xml = String::with_capacity(512);
    xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing into a `String` cannot fail, here and below.
    let _ = write!(xml, "<{operation}Response xmlns=\"{namespace}\"><{operation}Result>");
    members(&mut xml, answer);
    let _ = write!(
        xml,
        "</{operation}Result><ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>\
         </{operation}Response>"
    );
    xml
}

/// An error as the query protocol writes it.
pub(super) fn write_error(
    namespace: &str,
    code: &str,
    message: &str,
    senders_fault: bool,
    request_id: &str,
) -> String {
    let side = if senders_fault { "Sender" } else { "Receiver" };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{side}</Type>\
         <Code>{}</Code><Message>{}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
        escaped(code),
        escaped(message),
    )
}

fn members(xml: &mut String, value: &Value) {
    let Value::Object(object) = value else { return };
    for (member, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let _ = write!(xml, "<{member}>");
        element(xml, member, value);
        let _ = write!(xml, "</{member}>");
    }
}

fn element(xml: &mut String, member: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(truth) => {
            let _ = write!(xml, "{truth}");
        }
        Value::Number(number) => match instant(member, number) {
            Some(at) => {
                let _ = write!(xml, "{at}");
            }
            None => {
                let _ = write!(xml, "{number}");
            }
        },
        Value::String(text) => xml.push_str(&escaped(text)),
        Value::Array(items) => {
            for item in items {
                xml.push_str("<member>");
                // What is a map by its name is one as a whole, not in each member of a list.
                if item.is_object() {
                    members(xml, item);
                } else {
                    element(xml, member, item);
                }
                xml.push_str("</member>");
            }
        }
        Value::Object(entries) if names::is_map(member) => {
            for (key, value) in entries {
                let _ = write!(xml, "<entry><key>{}</key><value>", escaped(key));
                element(xml, "", value);
                xml.push_str("</value></entry>");
            }
        }
        Value::Object(_) => members(xml, value),
    }
}

fn instant(member: &str, number: &Number) -> Option<Timestamp> {
    if names::kind("", member) != Kind::Instant {
        return None;
    }
    // Milliseconds are what AWS shows.
    #[expect(clippy::cast_possible_truncation, reason = "saturates far outside the years that jiff accepts")]
    let millis = (number.as_f64()? * 1000.0).round() as i64;
    Timestamp::from_millisecond(millis).ok()
}

/// XML text: mark-up escaped, characters that XML 1.0 cannot carry replaced.
fn escaped(text: &str) -> String {
    let speakable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    if text.chars().all(speakable) {
        return quick_xml::escape::escape(text).into_owned();
    }
    let replaced: String = text.chars().map(|c| if speakable(c) { c } else { '\u{fffd}' }).collect();
    quick_xml::escape::escape(&replaced).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(text: &str) -> Result<Value, FormError> {
        read_form(&form_urlencoded::parse(text.as_bytes()).into_owned().collect::<Vec<_>>())
    }

    #[test]
    fn a_weighted_forward_becomes_the_nested_json_of_its_api_names() {
        let read = form(
            "Action=ModifyRule&Version=2015-12-01&RuleArn=arn%3Arule&Actions.member.1.Type=forward\
             &Actions.member.1.ForwardConfig.TargetGroups.member.2.TargetGroupArn=b\
             &Actions.member.1.ForwardConfig.TargetGroups.member.2.Weight=0\
             &Actions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn=a\
             &Actions.member.1.ForwardConfig.TargetGroups.member.1.Weight=999\
             &Actions.member.1.ForwardConfig.TargetGroupStickinessConfig.Enabled=false",
        );
        let expected = json!({"RuleArn": "arn:rule", "Actions": [{"Type": "forward", "ForwardConfig": {
            "TargetGroups": [{"TargetGroupArn": "a", "Weight": 999}, {"TargetGroupArn": "b", "Weight": 0}],
            "TargetGroupStickinessConfig": {"Enabled": false}}}]});
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn the_tenth_item_of_a_list_comes_after_the_ninth() {
        let text: Vec<String> = (1..=11).map(|n| format!("RuleArns.member.{n}=r{n}")).collect();
        let expected: Vec<String> = (1..=11).map(|n| format!("r{n}")).collect();
        assert_eq!(form(&text.join("&")), Ok(json!({ "RuleArns": expected })));
    }

    #[test]
    fn the_same_name_is_text_or_a_number_by_where_it_stands() {
        let read = form(
            "Attributes.member.1.Key=k&Attributes.member.1.Value=7&MetricData.member.1.Value=7\
             &Actions.member.1.RedirectConfig.Port=443&Port=8080\
             &MetricData.member.1.Dimensions.member.1.Value=1\
             &Conditions.member.1.PathPatternConfig.Values.member.1=5\
             &Conditions.member.2.QueryStringConfig.Values.member.1.Value=v1",
        );
        let expected = json!({"Attributes": [{"Key": "k", "Value": "7"}], "Port": 8080,
            "MetricData": [{"Value": 7.0, "Dimensions": [{"Value": "1"}]}],
            "Actions": [{"RedirectConfig": {"Port": "443"}}],
            "Conditions": [{"PathPatternConfig": {"Values": ["5"]}},
                {"QueryStringConfig": {"Values": [{"Value": "v1"}]}}]});
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_word_where_a_number_belongs_is_refused() {
        let refused = form("Port=http").expect_err("no number");
        assert_eq!(refused.to_string(), "value 'http' of member 'Port' is not an integer");
    }

    #[test]
    fn an_empty_list_is_a_list() {
        assert_eq!(form("RuleArns=&NextToken="), Ok(json!({"RuleArns": [], "NextToken": ""})));
    }

    #[test]
    fn a_timestamp_is_seconds_inside_and_iso_outside() {
        assert_eq!(form("StartTime=2026-11-21T12:00:00Z"), Ok(json!({"StartTime": 1_795_262_400})));
        let xml = write_answer("Op", "ns", &json!({"CreatedTime": 1_795_262_400.25}), "id");
        assert!(xml.contains("<CreatedTime>2026-11-21T12:00:00.25Z</CreatedTime>"), "{xml}");
    }

    #[test]
    fn an_answer_is_xml_with_member_lists_and_escaped_text() {
        let answer =
            json!({"Empty": [], "Port": 80, "Rules": [{"Gone": null, "Priority": "10", "Values": ["<&>"]}]});
        let xml = write_answer("DescribeRules", "urn:x", &answer, "id-1");
        assert!(xml.ends_with(
            "<DescribeRulesResponse xmlns=\"urn:x\"><DescribeRulesResult><Empty></Empty><Port>80</Port><Rules><member>\
             <Priority>10</Priority><Values><member>&lt;&amp;&gt;</member></Values></member></Rules></DescribeRulesResult>\
             <ResponseMetadata><RequestId>id-1</RequestId></ResponseMetadata></DescribeRulesResponse>"
        ), "{xml}");
    }
}
