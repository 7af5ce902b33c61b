//! The rule language of composite alarms: `AND`, `OR`, `NOT`, `ALARM(x)`, `OK(x)`,
//! `INSUFFICIENT_DATA(x)`, `AT_LEAST(m, state, (x, …))`, `TRUE`, `FALSE` and parentheses. A name may be quoted
//! and may be an ARN. (User guide, "Composite alarms": rule expressions.)

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
    /// So many of these alarms are in this state, or, when `is` does not hold, in another one.
    AtLeast {
        needed: usize,
        state: AlarmState,
        is: bool,
        names: Vec<String>,
    },
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
    /// `AT_LEAST` needs more alarms than it names, or none.
    #[error("AT_LEAST needs between 1 and all {of} of its alarms, or between 1% and 100%, not {found}")]
    Threshold {
        /// What it asks for.
        found: String,
        /// Alarms that it names.
        of: usize,
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
            Self::AtLeast { names: of, .. } => names.extend(of.iter().map(String::as_str)),
            Self::Not(inner) => inner.collect(names),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect(names)),
        }
    }

    fn holds(&self, state_of: &dyn Fn(&str) -> Option<AlarmState>) -> bool {
        match self {
            Self::Constant(value) => *value,
            Self::InState(state, name) => state_of(name) == Some(*state),
            Self::AtLeast { needed, state, is, names } => {
                let fits = |name: &&String| (state_of(name) == Some(*state)) == *is;
                names.iter().filter(fits).count() >= *needed
            }
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
        if self.take_word("AT_LEAST") {
            return self.at_least();
        }
        if let Some(state) = self.take_state() {
            self.need_char('(', "an opening parenthesis")?;
            let name = self.name()?;
            self.need_char(')', "a closing parenthesis")?;
            return Ok(Node::InState(state, name));
        }
        Err(self
            .unexpected("ALARM(), OK(), INSUFFICIENT_DATA(), AT_LEAST(), NOT, TRUE, FALSE or a parenthesis"))
    }

    fn take_state(&mut self) -> Option<AlarmState> {
        let states = [AlarmState::InsufficientData, AlarmState::Alarm, AlarmState::Ok];
        states.into_iter().find(|state| self.take_word(state.as_str()))
    }

    /// "Format: `AT_LEAST(M, STATE_CONDITION, (alarm1, alarm2, ...alarmN))` where M can be an absolute number or
    /// percentage (for example, 50%), and `STATE_CONDITION` can be ALARM, OK, `INSUFFICIENT_DATA`, NOT ALARM, NOT
    /// OK, or NOT `INSUFFICIENT_DATA`."
    fn at_least(&mut self) -> Result<Node, RuleError> {
        self.need_char('(', "an opening parenthesis")?;
        let number = self.number()?;
        let percent = self.take_char('%');
        self.need_char(',', "a comma")?;
        let is = !self.take_word("NOT");
        let Some(state) = self.take_state() else {
            return Err(self.unexpected("ALARM, OK or INSUFFICIENT_DATA"));
        };
        self.need_char(',', "a comma")?;
        self.need_char('(', "an opening parenthesis")?;
        let mut names = vec![self.name()?];
        while self.take_char(',') {
            names.push(self.name()?);
        }
        self.need_char(')', "a comma or a closing parenthesis")?;
        self.need_char(')', "a closing parenthesis")?;
        let most = if percent { 100 } else { names.len() };
        if !(1..=most).contains(&number) {
            let found = format!("{number}{}", if percent { "%" } else { "" });
            return Err(RuleError::Threshold { found, of: names.len() });
        }
        let needed = if percent { (names.len() * number).div_ceil(100) } else { number };
        Ok(Node::AtLeast { needed, state, is, names })
    }

    fn number(&mut self) -> Result<usize, RuleError> {
        self.skip_blanks();
        let digits: String =
            self.chars.iter().skip(self.at).copied().take_while(char::is_ascii_digit).collect();
        // A number of so many digits that it fits no integer is above all that can be asked for.
        let number = if digits.is_empty() { None } else { Some(digits.parse().unwrap_or(usize::MAX)) };
        let Some(number) = number else { return Err(self.unexpected("a number or a percentage")) };
        self.at += digits.len();
        Ok(number)
    }

    /// A quoted name may hold anything but a bare quote. "If specified without quotes, alarm names or ARNs must not
    /// contain spaces, round brackets, or commas."
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
            while let Some(next) =
                self.peek().filter(|next| !next.is_whitespace() && !matches!(next, '(' | ')' | ','))
            {
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
    fn at_least_counts_the_alarms_in_a_state_or_not_in_it_and_rounds_a_share_up() {
        for (text, expected) in [
            ("AT_LEAST(1, ALARM, (red, green, grey))", true),
            ("AT_LEAST(2, ALARM, (red, green, grey))", false),
            ("AT_LEAST(2, ALARM, (red, \"two words\", grey))", true),
            ("AT_LEAST(2, NOT ALARM, (red, green, grey))", true),
            ("AT_LEAST(3, NOT ALARM, (red, green, grey))", false),
            ("AT_LEAST(50%, OK, (red, green))", true),
            ("AT_LEAST(51%, OK, (red, green))", false),
            ("AT_LEAST(33%, OK, (red, green, grey))", true),
            ("AT_LEAST(34%, OK, (red, green, grey))", false),
            ("AT_LEAST(100 %, NOT OK, (red,grey))", true),
            ("AT_LEAST(1, INSUFFICIENT_DATA, (arn:aws:cloudwatch:eu-west-1:1:alarm:grey, red))", true),
            ("AT_LEAST(1, ALARM, (red)) AND NOT ALARM(green)", true),
        ] {
            assert_eq!(holds(text), expected, "{text}");
        }
        let rule = Rule::parse("AT_LEAST(1, OK, (a, b)) OR ALARM(c)").unwrap();
        assert_eq!(rule.children(), ["a", "b", "c"].into());
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
        assert_eq!(
            message("AT_LEAST(3, ALARM, (red, green))"),
            "AT_LEAST needs between 1 and all 2 of its alarms, or between 1% and 100%, not 3"
        );
        assert!(message("AT_LEAST(0%, ALARM, (red, green))").ends_with("not 0%"));
        assert!(message("AT_LEAST(101%, ALARM, (red, green))").ends_with("not 101%"));
        assert!(message("AT_LEAST(99999999999999999999999, OK, (red))").contains("AT_LEAST needs"));
        assert!(message("AT_LEAST(half, OK, (red))").contains("a number or a percentage"));
        assert!(message("AT_LEAST(1, TRUE, (red))").contains("ALARM, OK or INSUFFICIENT_DATA"));
        assert!(message("AT_LEAST(1, OK, ())").contains("an alarm name"));
        assert!(message("AT_LEAST(1, OK, (red, green)").contains("a closing parenthesis"));
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
