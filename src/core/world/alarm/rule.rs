//! The rule language of composite alarms: `AND`, `OR`, `NOT`, `ALARM(x)`, `OK(x)`,
//! `INSUFFICIENT_DATA(x)`, `TRUE`, `FALSE` and parentheses. A name may be quoted and may be an ARN.
//!
//! `AT_LEAST` is refused by name rather than misread.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

use super::AlarmState;

/// Longest rule text, from the API model (`AlarmRule`: max 10240).
const RULE_CHARS_MAX: usize = 10_240;
/// Deepest nesting of `(` and `NOT`; keeps the recursive parser's stack small.
const NESTING_MAX: usize = 64;
/// Most distinct alarms in one rule (`PutCompositeAlarm` API page: "as many as 100 underlying alarms").
pub const CHILDREN_MAX: usize = 100;

/// A parsed rule together with the text it came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    text: String,
    root: Node,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    Constant(bool),
    InState(AlarmState, String),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// Why a rule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RuleError {
    /// Longer than the API allows.
    #[error("the alarm rule is {found} characters long; at most {RULE_CHARS_MAX} are allowed")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Names more alarms than the API allows.
    #[error("the alarm rule names {found} alarms; at most {CHILDREN_MAX} are allowed")]
    TooManyChildren {
        /// Number of distinct names.
        found: usize,
    },
    /// Nested too deeply for any sensible rule.
    #[error("the alarm rule nests deeper than {NESTING_MAX} levels")]
    TooDeep,
    /// Something else was needed here.
    #[error("the alarm rule needs {expected} at character {at}, found {found}")]
    Unexpected {
        /// What would have fitted.
        expected: &'static str,
        /// What stands there.
        found: String,
        /// Characters before it.
        at: usize,
    },
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        Self::parse(&text)
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.text
    }
}

impl Rule {
    /// Reads a rule; blank means refused, as by AWS.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let length = text.chars().count();
        if length > RULE_CHARS_MAX {
            return Err(RuleError::TooLong { found: length });
        }
        let mut parser = Parser { chars: text.chars().collect(), at: 0, depth: 0 };
        let root = parser.any()?;
        parser.skip_blanks();
        if parser.at < parser.chars.len() {
            return Err(parser.unexpected("AND, OR or the end"));
        }
        let rule = Self { text: text.to_owned(), root };
        let children = rule.children().len();
        if children > CHILDREN_MAX {
            return Err(RuleError::TooManyChildren { found: children });
        }
        Ok(rule)
    }

    /// The text as it was sent.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names of all alarms that the rule looks at.
    pub fn children(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.root.collect(&mut names);
        names
    }

    /// Whether the rule holds. A name without an alarm is in no state: each function of it is false.
    pub fn holds(&self, state_of: &dyn Fn(&str) -> Option<AlarmState>) -> bool {
        self.root.holds(state_of)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Node {
    fn collect<'a>(&'a self, names: &mut BTreeSet<&'a str>) {
        match self {
            Self::Constant(_) => {}
            Self::InState(_, name) => {
                names.insert(name);
            }
            Self::Not(inner) => inner.collect(names),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect(names)),
        }
    }

    fn holds(&self, state_of: &dyn Fn(&str) -> Option<AlarmState>) -> bool {
        match self {
            Self::Constant(value) => *value,
            Self::InState(state, name) => state_of(name) == Some(*state),
            Self::Not(inner) => !inner.holds(state_of),
            Self::All(parts) => parts.iter().all(|part| part.holds(state_of)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(state_of)),
        }
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn any(&mut self) -> Result<Node, RuleError> {
        let mut parts = vec![self.all()?];
        while self.take_word("OR") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::Any(parts) })
    }

    fn all(&mut self) -> Result<Node, RuleError> {
        let mut parts = vec![self.one()?];
        while self.take_word("AND") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::All(parts) })
    }

    fn one(&mut self) -> Result<Node, RuleError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(RuleError::TooDeep);
        }
        let node = self.operand()?;
        self.depth -= 1;
        Ok(node)
    }

    fn operand(&mut self) -> Result<Node, RuleError> {
        if self.take_word("NOT") {
            return Ok(Node::Not(Box::new(self.one()?)));
        }
        if self.take_char('(') {
            let inner = self.any()?;
            self.need_char(')', "a closing parenthesis")?;
            return Ok(inner);
        }
        for (word, value) in [("TRUE", true), ("FALSE", false)] {
            if self.take_word(word) {
                return Ok(Node::Constant(value));
            }
        }
        for state in [AlarmState::InsufficientData, AlarmState::Alarm, AlarmState::Ok] {
            if self.take_word(state.as_str()) {
                self.need_char('(', "an opening parenthesis")?;
                let name = self.name()?;
                self.need_char(')', "a closing parenthesis")?;
                return Ok(Node::InState(state, name));
            }
        }
        Err(self.unexpected("ALARM(), OK(), INSUFFICIENT_DATA(), NOT, TRUE, FALSE or a parenthesis"))
    }

    /// A quoted name may hold anything but a bare quote; an unquoted one ends at a blank or `)`.
    fn name(&mut self) -> Result<String, RuleError> {
        self.skip_blanks();
        let mut name = String::new();
        if self.peek() == Some('"') {
            self.at += 1;
            loop {
                match self.peek() {
                    Some('"') => break,
                    Some('\\') if matches!(self.chars.get(self.at + 1), Some('"' | '\\')) => self.at += 1,
                    Some(_) => {}
                    None => return Err(self.unexpected("a closing quote")),
                }
                name.extend(self.peek());
                self.at += 1;
            }
            self.at += 1;
        } else {
            while let Some(next) = self.peek().filter(|next| !next.is_whitespace() && *next != ')') {
                name.push(next);
                self.at += 1;
            }
        }
        if name.is_empty() {
            return Err(self.unexpected("an alarm name"));
        }
        Ok(name_of_arn(&name).to_owned())
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn take_char(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn need_char(&mut self, wanted: char, expected: &'static str) -> Result<(), RuleError> {
        if self.take_char(wanted) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// Keywords are whole words; AWS writes them in capitals, the console accepts small ones too.
    fn take_word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let end = self.at + word.len();
        let fits = self.chars.get(self.at..end).is_some_and(|found| {
            found.iter().zip(word.chars()).all(|(found, wanted)| found.eq_ignore_ascii_case(&wanted))
        });
        let whole = self.chars.get(end).is_none_or(|next| !next.is_alphanumeric() && *next != '_');
        if fits && whole {
            self.at = end;
        }
        fits && whole
    }

    fn unexpected(&mut self, expected: &'static str) -> RuleError {
        self.skip_blanks();
        let rest: String = self.chars.iter().skip(self.at).take(20).collect();
        let found = if rest.is_empty() { "the end".to_owned() } else { format!("{rest:?}") };
        RuleError::Unexpected { expected, found, at: self.at }
    }
}

/// The alarm's name, given its name or its ARN.
pub fn name_of_arn(name_or_arn: &str) -> &str {
    if name_or_arn.starts_with("arn:") {
        name_or_arn.split_once(":alarm:").map_or(name_or_arn, |(_, name)| name)
    } else {
        name_or_arn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> bool {
        Rule::parse(text).unwrap().holds(&|name| match name {
            "red" | "two words" => Some(AlarmState::Alarm),
            "green" => Some(AlarmState::Ok),
            "grey" => Some(AlarmState::InsufficientData),
            _ => None,
        })
    }

    #[test]
    fn each_function_is_true_in_exactly_its_state() {
        for (text, expected) in [
            ("ALARM(red)", true),
            ("ALARM(\"two words\")", true),
            ("OK(red)", false),
            ("OK(green)", true),
            ("INSUFFICIENT_DATA(grey)", true),
            ("ALARM(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:red)", true),
            ("ALARM(absent) OR OK(absent) OR INSUFFICIENT_DATA(absent)", false),
            ("TRUE", true),
            ("FALSE", false),
        ] {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn not_binds_tighter_than_and_and_and_tighter_than_or() {
        assert!(holds("TRUE OR TRUE AND FALSE"));
        assert!(!holds("(TRUE OR TRUE) AND FALSE"));
        assert!(!holds("NOT FALSE AND FALSE"));
        assert!(holds("NOT (FALSE AND FALSE)"));
        assert!(holds("ALARM(red) AND NOT ALARM(green)"));
    }

    #[test]
    fn a_rule_that_cannot_be_read_says_where_and_what() {
        let message = |text: &str| Rule::parse(text).unwrap_err().to_string();
        assert_eq!(
            message("ALARM(red) ALARM(green)"),
            "the alarm rule needs AND, OR or the end at character 11, found \"ALARM(green)\""
        );
        assert_eq!(
            message("ALARM(red"),
            "the alarm rule needs a closing parenthesis at character 9, found the end"
        );
        assert!(message("AT_LEAST(1, ALARM, (red))").contains("AT_LEAST"));
        assert!(message("").contains("found the end"));
        assert!(message(&"(".repeat(100_000)).contains("at most 10240"));
        assert!(message(&"(".repeat(10_000)).contains("nests deeper"));
    }

    #[test]
    fn a_rule_names_at_most_a_hundred_alarms() {
        let rule = |count: usize| {
            let parts: Vec<_> = (0..count).map(|number| format!("ALARM(a{number})")).collect();
            Rule::parse(&parts.join(" OR "))
        };
        assert_eq!(rule(100).unwrap().children().len(), 100);
        assert_eq!(rule(101).unwrap_err(), RuleError::TooManyChildren { found: 101 });
    }
}
