//! The grammar of metric math.

use std::collections::BTreeSet;

use super::MathError;

/// Deepest nesting; keeps the recursive parser's stack small.
const NESTING_MAX: usize = 64;
/// Longest expression, from the API model (`MetricExpression`: max 2048).
const EXPRESSION_CHARS_MAX: usize = 2_048;

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `||` or `OR`
    Or,
    /// `&&` or `AND`
    And,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<=`
    LessOrEqual,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `^`
    Power,
}

/// Operators by rank, the loosest first; within a rank the longer spelling comes first.
const RANKS: [&[(&str, Operator)]; 6] = [
    &[("||", Operator::Or), ("OR", Operator::Or)],
    &[("&&", Operator::And), ("AND", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide)],
    &[],
];

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A literal.
    Number(f64),
    /// Quoted text, as in METRICS("errors").
    Text(String),
    /// Another query; identifiers start with a small letter.
    Id(String),
    /// REPEAT or LINEAR: a bare word in capitals.
    Keyword(String),
    /// Unary minus.
    Negate(Box<Expression>),
    /// An operator between two.
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// A function by its name in capitals.
    Call(String, Vec<Expression>),
    /// `[a, b]`
    Array(Vec<Expression>),
}

impl Expression {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, MathError> {
        let mut parser = Parser { chars: text.chars().collect(), at: 0, depth: 0 };
        if parser.chars.len() > EXPRESSION_CHARS_MAX {
            return parser.fail("at most 2048 characters");
        }
        let expression = parser.rank(0)?;
        parser.skip_blanks();
        if parser.at < parser.chars.len() {
            return parser.fail("an operator or the end");
        }
        Ok(expression)
    }

    /// Identifiers that it refers to, and whether it calls METRICS.
    pub fn refers_to(&self, ids: &mut BTreeSet<String>) -> bool {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Keyword(_) => false,
            Self::Id(id) => {
                ids.insert(id.clone());
                false
            }
            Self::Negate(inner) => inner.refers_to(ids),
            Self::Binary(_, left, right) => left.refers_to(ids) | right.refers_to(ids),
            Self::Call(name, parts) => {
                parts.iter().fold(name == "METRICS", |found, part| part.refers_to(ids) | found)
            }
            Self::Array(parts) => parts.iter().fold(false, |found, part| part.refers_to(ids) | found),
        }
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn rank(&mut self, rank: usize) -> Result<Expression, MathError> {
        let Some(operators) = RANKS.get(rank).filter(|operators| !operators.is_empty()) else {
            return self.unary();
        };
        let mut left = self.rank(rank + 1)?;
        while let Some(operator) = self.take_operator(operators) {
            let right = self.rank(rank + 1)?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// Unary minus binds looser than `^`: -2 ^ 2 is -4.
    fn unary(&mut self) -> Result<Expression, MathError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return self.fail("at most 64 levels of nesting");
        }
        let expression = if self.take("-") {
            Expression::Negate(Box::new(self.unary()?))
        } else {
            let base = self.operand()?;
            if self.take("^") {
                Expression::Binary(Operator::Power, Box::new(base), Box::new(self.unary()?))
            } else {
                base
            }
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn operand(&mut self) -> Result<Expression, MathError> {
        if self.take("(") {
            let inner = self.rank(0)?;
            return if self.take(")") { Ok(inner) } else { self.fail("a closing parenthesis") };
        }
        if self.take("[") {
            return Ok(Expression::Array(self.list("]")?));
        }
        match self.peek() {
            Some('"' | '\'') => self.text(),
            Some(first) if first.is_ascii_digit() || first == '.' => self.number(),
            Some(first) if first.is_ascii_alphabetic() => self.word(),
            _ => self.fail("a number, an Id or a function"),
        }
    }

    fn list(&mut self, end: &'static str) -> Result<Vec<Expression>, MathError> {
        let mut parts = Vec::new();
        if self.take(end) {
            return Ok(parts);
        }
        loop {
            parts.push(self.rank(0)?);
            if self.take(end) {
                return Ok(parts);
            }
            if !self.take(",") {
                return self.fail(if end == ")" { "a closing parenthesis" } else { "a closing bracket" });
            }
        }
    }

    fn text(&mut self) -> Result<Expression, MathError> {
        let quote = self.peek();
        self.at += 1;
        let text: String = self.chars.iter().skip(self.at).take_while(|next| Some(**next) != quote).collect();
        self.at += text.chars().count();
        if self.peek().is_none() {
            return self.fail("a closing quote");
        }
        self.at += 1;
        Ok(Expression::Text(text))
    }

    fn number(&mut self) -> Result<Expression, MathError> {
        let digits = self.while_next(|next| next.is_ascii_digit() || next == '.');
        digits.parse().map(Expression::Number).or_else(|_| self.fail("a number before this"))
    }

    fn word(&mut self) -> Result<Expression, MathError> {
        let word = self.while_next(|next| next.is_ascii_alphanumeric() || next == '_');
        if self.take("(") {
            Ok(Expression::Call(word.to_ascii_uppercase(), self.list(")")?))
        } else if word.starts_with(|first: char| first.is_ascii_lowercase()) {
            Ok(Expression::Id(word))
        } else {
            Ok(Expression::Keyword(word))
        }
    }

    fn while_next(&mut self, fits: impl Fn(char) -> bool) -> String {
        let found: String = self.chars.iter().skip(self.at).take_while(|next| fits(**next)).collect();
        self.at += found.chars().count();
        found
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: &str) -> bool {
        self.skip_blanks();
        let end = self.at + wanted.len();
        let fits = self.chars.get(self.at..end).is_some_and(|found| found.iter().copied().eq(wanted.chars()));
        let word = wanted.starts_with(|first: char| first.is_ascii_alphabetic());
        let whole =
            !word || self.chars.get(end).is_none_or(|next| !next.is_ascii_alphanumeric() && *next != '_');
        if fits && whole {
            self.at = end;
        }
        fits && whole
    }

    fn take_operator(&mut self, operators: &[(&str, Operator)]) -> Option<Operator> {
        operators.iter().find(|(spelling, _)| self.take(spelling)).map(|(_, operator)| *operator)
    }

    fn fail<T>(&mut self, expected: &'static str) -> Result<T, MathError> {
        self.skip_blanks();
        Err(MathError::Syntax { expected, at: self.at })
    }
}
