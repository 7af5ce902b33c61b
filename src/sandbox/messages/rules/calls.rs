//! The operations of the `EventBridge` API.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::input::{list, missing, text, texts, whole};
use super::super::pattern::Pattern;
use super::{Matched, PATTERN_CHARS_MAX, RULES_MAX, Rule, Rules, TARGETS_MAX, Target};
use crate::world::ApiError;

/// "You can include up to 10 entries" (`API_PutEvents`).
const ENTRIES_MAX: usize = 10;
/// "The total entry size must be less than 1MB" (`API_PutEvents`); taken as 1 MiB.
const ENTRIES_BYTES_MAX: usize = 1024 * 1024;
/// Rules and targets of one answer (`API_ListRules`: "Limit … Maximum value of 100").
const PAGE_MAX: u32 = 100;

type Answer = Result<Value, ApiError>;

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationException", message)
}

fn needed<'a>(input: &'a Value, member: &str) -> Result<&'a str, ApiError> {
    let absent = || {
        validation(format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
        ))
    };
    text(input, member)?.filter(|text| !text.is_empty()).ok_or_else(absent)
}

fn no_rule(name: &str) -> ApiError {
    let message = format!("Rule {name} does not exist on EventBus default.");
    ApiError::client("ResourceNotFoundException", message)
}

fn pattern(text: &str) -> Result<Pattern, ApiError> {
    if text.chars().count() > PATTERN_CHARS_MAX {
        let message =
            format!("Event pattern is not valid. Reason: longer than {PATTERN_CHARS_MAX} characters");
        return Err(ApiError::client("InvalidEventPatternException", message));
    }
    Pattern::parse(text).map_err(|error| ApiError::client("InvalidEventPatternException", error.to_string()))
}

/// Only the default bus is there.
fn check_bus(input: &Value) -> Result<(), ApiError> {
    match text(input, "EventBusName")? {
        None => Ok(()),
        Some(bus) if bus == "default" || bus.ends_with(":event-bus/default") => Ok(()),
        Some(bus) => {
            Err(ApiError::client("ResourceNotFoundException", format!("Event bus {bus} does not exist.")))
        }
    }
}

impl Rules {
    /// Carries out one operation; what the targets get comes beside the answer.
    pub(in crate::sandbox::messages) fn call(
        &mut self,
        now: Timestamp,
        operation: &str,
        input: &Value,
    ) -> Result<(Value, Vec<Matched>), ApiError> {
        check_bus(input)?;
        let answer = match operation {
            "PutEvents" => return self.put_events(now, input),
            "PutRule" => self.put_rule(input),
            "DeleteRule" => self.delete_rule(input),
            "DescribeRule" => {
                let name = needed(input, "Name")?;
                Ok(self.show(name, self.rule(name)?))
            }
            "ListRules" => self.list_rules(input),
            "EnableRule" => self.enable(input, true),
            "DisableRule" => self.enable(input, false),
            "PutTargets" => self.put_targets(input),
            "RemoveTargets" => self.remove_targets(input),
            "ListTargetsByRule" => self.list_targets(input),
            "ListRuleNamesByTarget" => self.names_by_target(input),
            "TestEventPattern" => test_pattern(input),
            other => Err(ApiError::client(
                "UnknownOperationException",
                format!("the sandbox does not know the operation '{other}'"),
            )),
        };
        Ok((answer?, Vec::new()))
    }

    fn rule(&self, name: &str) -> Result<&Rule, ApiError> {
        self.rules.get(name).ok_or_else(|| no_rule(name))
    }

    fn rule_mut(&mut self, name: &str) -> Result<&mut Rule, ApiError> {
        self.rules.get_mut(name).ok_or_else(|| no_rule(name))
    }

    /// "If you are updating an existing rule, the rule is replaced with what you specify in this `PutRule`
    /// command"; its targets stay (`API_PutRule`).
    fn put_rule(&mut self, input: &Value) -> Answer {
        let name = needed(input, "Name")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.len() > 64 || !name.chars().all(fits) {
            return Err(validation(format!("Name {name:?} must have 1 to 64 of [.-_A-Za-z0-9]")));
        }
        if text(input, "ScheduleExpression")?.is_some_and(|schedule| !schedule.is_empty()) {
            return Err(validation("the sandbox has no scheduled rules"));
        }
        let Some(given) = text(input, "EventPattern")? else {
            return Err(validation("Parameter(s) EventPattern or ScheduleExpression must be specified."));
        };
        let pattern = pattern(given)?;
        let enabled = match text(input, "State")?.unwrap_or("ENABLED") {
            "ENABLED" | "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS" => true,
            "DISABLED" => false,
            other => return Err(validation(format!("State {other} is none of ENABLED, DISABLED"))),
        };
        if !self.rules.contains_key(name) && self.rules.len() >= RULES_MAX {
            let message =
                format!("The requested resource exceeds the maximum number allowed: {RULES_MAX} rules.");
            return Err(ApiError::client("LimitExceededException", message));
        }
        let description = text(input, "Description")?.map(str::to_owned);
        let targets = self.rules.remove(name).map(|rule| rule.targets).unwrap_or_default();
        let rule = Rule { pattern, enabled, description, targets };
        self.rules.insert(name.to_owned(), rule);
        Ok(json!({"RuleArn": self.arn(name)}))
    }

    /// "Before you can delete the rule, you must remove all targets" (`API_DeleteRule`).
    fn delete_rule(&mut self, input: &Value) -> Answer {
        let name = needed(input, "Name")?;
        if self.rules.get(name).is_some_and(|rule| !rule.targets.is_empty()) {
            return Err(validation("Rule can't be deleted since it has targets."));
        }
        self.rules.remove(name);
        Ok(json!({}))
    }

    fn show(&self, name: &str, rule: &Rule) -> Value {
        let mut shown = json!({
            "Name": name,
            "Arn": self.arn(name),
            "EventPattern": rule.pattern.text(),
            "State": if rule.enabled { "ENABLED" } else { "DISABLED" },
            "EventBusName": "default",
        });
        if let Some(description) = &rule.description {
            shown["Description"] = description.as_str().into();
        }
        shown
    }

    fn list_rules(&self, input: &Value) -> Answer {
        let prefix = text(input, "NamePrefix")?.unwrap_or_default();
        let rules = self.rules.iter().filter(|(name, _)| name.starts_with(prefix));
        let shown = rules.map(|(name, rule)| (name.clone(), self.show(name, rule)));
        page(shown.collect(), input, "Rules")
    }

    fn enable(&mut self, input: &Value, enabled: bool) -> Answer {
        self.rule_mut(needed(input, "Name")?)?.enabled = enabled;
        Ok(json!({}))
    }

    fn put_targets(&mut self, input: &Value) -> Answer {
        let name = needed(input, "Rule")?;
        let mut targets = self.rule(name)?.targets.clone();
        let given = list(input, "Targets")?;
        if given.is_empty() {
            return Err(missing("Targets"));
        }
        for one in given {
            let target = target(one)?;
            targets.retain(|known| known.id != target.id);
            targets.push(target);
        }
        if targets.len() > TARGETS_MAX {
            let message =
                format!("The requested resource exceeds the maximum number allowed: {TARGETS_MAX} targets.");
            return Err(ApiError::client("LimitExceededException", message));
        }
        self.rule_mut(name)?.targets = targets;
        Ok(json!({"FailedEntryCount": 0, "FailedEntries": []}))
    }

    fn remove_targets(&mut self, input: &Value) -> Answer {
        let ids = texts(input, "Ids")?;
        let rule = self.rule_mut(needed(input, "Rule")?)?;
        let unknown: Vec<Value> = ids
            .iter()
            .filter(|id| !rule.targets.iter().any(|target| target.id == **id))
            .map(|id| {
                json!({"TargetId": id, "ErrorCode": "ResourceNotFoundException",
                    "ErrorMessage": "The target does not exist on the rule."})
            })
            .collect();
        rule.targets.retain(|target| !ids.contains(&target.id.as_str()));
        Ok(json!({"FailedEntryCount": unknown.len(), "FailedEntries": unknown}))
    }

    fn list_targets(&self, input: &Value) -> Answer {
        let rule = self.rule(needed(input, "Rule")?)?;
        let show = |target: &Target| {
            let mut shown = json!({"Id": target.id, "Arn": target.arn});
            if let Some(input) = &target.input {
                shown["Input"] = input.as_str().into();
            }
            if let Some(path) = &target.path {
                shown["InputPath"] = format!("$.{}", path.join(".")).into();
            }
            (target.id.clone(), shown)
        };
        page(rule.targets.iter().map(show).collect(), input, "Targets")
    }

    fn names_by_target(&self, input: &Value) -> Answer {
        let arn = needed(input, "TargetArn")?;
        let leads = |rule: &Rule| rule.targets.iter().any(|target| target.arn == arn);
        let names = self.rules.iter().filter(|(_, rule)| leads(rule));
        page(names.map(|(name, _)| (name.clone(), name.as_str().into())).collect(), input, "RuleNames")
    }

    /// Each entry by itself: "if an entry fails, the response has an error code for it" and the others
    /// go out.
    fn put_events(&self, now: Timestamp, input: &Value) -> Result<(Value, Vec<Matched>), ApiError> {
        let entries = list(input, "Entries")?;
        if entries.is_empty() || entries.len() > ENTRIES_MAX {
            return Err(validation(format!(
                "1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have \
                 length less than or equal to {ENTRIES_MAX} and greater than 0"
            )));
        }
        if input["Entries"].to_string().len() > ENTRIES_BYTES_MAX {
            return Err(validation("Total size of the entries in the request is over the limit."));
        }
        let (mut answers, mut matched, mut failed) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            match self.entry(now, entry) {
                Ok(event) => {
                    matched.extend(self.matched(&event));
                    answers.push(json!({"EventId": event["id"]}));
                }
                Err((code, message)) => {
                    failed += 1;
                    answers.push(json!({"ErrorCode": code, "ErrorMessage": message}));
                }
            }
        }
        Ok((json!({"FailedEntryCount": failed, "Entries": answers}), matched))
    }

    fn entry(&self, now: Timestamp, entry: &Value) -> Result<Value, (&'static str, String)> {
        let needed = |member: &'static str| {
            let absent = || {
                (
                    "InvalidArgument",
                    format!("Parameter {member} is not valid. Reason: {member} is a required argument."),
                )
            };
            entry.get(member).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or_else(absent)
        };
        let (source, kind, detail) = (needed("Source")?, needed("DetailType")?, needed("Detail")?);
        // "The source names of AWS services begin with aws." and are theirs alone.
        if source.starts_with("aws.") {
            let message = format!("Not authorized for the source {source}.");
            return Err(("NotAuthorizedForSourceException", message));
        }
        if check_bus(entry).is_err() {
            return Err((
                "ResourceNotFoundException",
                "the sandbox has the default event bus only".to_owned(),
            ));
        }
        let malformed = || ("MalformedDetail", "Detail is malformed.".to_owned());
        let detail: Value = serde_json::from_str(detail).map_err(|_| malformed())?;
        if !detail.is_object() {
            return Err(malformed());
        }
        let resources = entry.get("Resources").filter(|given| given.is_array()).cloned();
        Ok(self.event(now, source, kind, &resources.unwrap_or_else(|| json!([])), &detail))
    }
}

/// "`TestEventPattern` … the following fields are mandatory: id, account, source, time, region, resources,
/// detail-type" (`API_TestEventPattern`).
fn test_pattern(input: &Value) -> Answer {
    const MANDATORY: [&str; 7] = ["id", "account", "source", "time", "region", "resources", "detail-type"];
    let pattern = pattern(needed(input, "EventPattern")?)?;
    let event: Value = serde_json::from_str(needed(input, "Event")?)
        .map_err(|_| validation("Parameter Event is not valid."))?;
    if let Some(absent) = MANDATORY.iter().find(|member| event.get(**member).is_none()) {
        return Err(validation(format!("Parameter Event is not valid: {absent} is missing.")));
    }
    Ok(json!({"Result": pattern.matches(&event)}))
}

fn target(given: &Value) -> Result<Target, ApiError> {
    const NOT_THERE: [&str; 3] = ["InputTransformer", "DeadLetterConfig", "RetryPolicy"];
    if let Some(member) = NOT_THERE.iter().find(|member| given.get(**member).is_some()) {
        return Err(validation(format!("the sandbox does not know {member} of a target")));
    }
    let (id, arn) = (needed(given, "Id")?, needed(given, "Arn")?);
    if !["sqs", "sns", "lambda"].iter().any(|service| arn.starts_with(&format!("arn:aws:{service}:"))) {
        return Err(validation(format!("the sandbox delivers to sqs, sns and lambda, not to {arn}")));
    }
    let input = text(given, "Input")?.map(str::to_owned);
    if input.as_deref().is_some_and(|input| serde_json::from_str::<Value>(input).is_err()) {
        return Err(validation("JSON syntax error in input for target."));
    }
    let path = match text(given, "InputPath")? {
        None | Some("$") => None,
        Some(path) => match path.strip_prefix("$.") {
            Some(members) if !members.contains(['[', '*']) => {
                Some(members.split('.').map(str::to_owned).collect())
            }
            _ => return Err(validation(format!("the sandbox reads paths like $.detail.state, not {path}"))),
        },
    };
    if input.is_some() && path.is_some() {
        return Err(validation("Only one of Input and InputPath must be provided."));
    }
    Ok(Target { id: id.to_owned(), arn: arn.to_owned(), input, path })
}

/// One page; the token is the key of its last member.
fn page(all: Vec<(String, Value)>, input: &Value, member: &str) -> Answer {
    let most = whole(input, "Limit", 1, PAGE_MAX)?.unwrap_or(PAGE_MAX);
    let after = text(input, "NextToken")?.unwrap_or_default().to_owned();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut rest = all.into_iter().filter(|(key, _)| *key > after).collect::<Vec<_>>();
    rest.sort_by(|(one, _), (other, _)| one.cmp(other));
    let more = rest.len() > most;
    rest.truncate(most);
    let mut answer = json!({});
    if let (true, Some((last, _))) = (more, rest.last()) {
        answer["NextToken"] = last.as_str().into();
    }
    answer[member] = rest.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>().into();
    Ok(answer)
}
