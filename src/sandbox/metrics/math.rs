//! Metric math: the expressions of `GetMetricData` and of alarms.
//!
//! Known: `+ - * / ^`, comparisons, `&&`/`AND`, `||`/`OR`, parentheses, arrays, and the documented
//! functions but those listed as refused in `functions`. Anything else is refused by name.
//!
//! "Missing values in a time series are treated as 0. If the value of a data point causes a function to
//! attempt to divide by zero, the data point is dropped" (`CloudWatch` user guide, "Using metric math"):
//! operators give a value wherever one of two series has one.

mod functions;
mod parse;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

pub use parse::{Expression, Operator};

use super::Tempo;

/// Most points that FILL may produce: the most datapoints of one `GetMetricData` call.
const FILLED_POINTS_MAX: i64 = 100_800;

/// Why an expression cannot be read or has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MathError {
    /// Not the grammar.
    #[error("the expression needs {expected} at character {at}")]
    Syntax {
        /// What would have fitted.
        expected: &'static str,
        /// Characters before it.
        at: usize,
    },
    /// A function that is not known here.
    #[error("the function {name} is not supported")]
    UnknownFunction {
        /// Its name.
        name: String,
    },
    /// An identifier that no query has.
    #[error("the expression refers to {id}, which is no query's Id")]
    UnknownId {
        /// The identifier.
        id: String,
    },
    /// A function that was given the wrong things.
    #[error("{function} needs {needs}")]
    Arguments {
        /// Its name.
        function: &'static str,
        /// What it takes.
        needs: &'static str,
    },
    /// An array where a number or a time series is needed.
    #[error("the expression must give one time series, not {found}")]
    NotASeries {
        /// What it gives.
        found: &'static str,
    },
}

/// A time series: API second of each period's start to its value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// API seconds between two points.
    pub period: i64,
    /// The first period starts here; needed to fill gaps.
    pub span: Range<i64>,
    /// Points that exist.
    pub points: BTreeMap<i64, f64>,
}

impl Series {
    fn with(&self, points: BTreeMap<i64, f64>) -> Self {
        Self { period: self.period, span: self.span.clone(), points }
    }
}

/// What an expression gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number for all times.
    Scalar(f64),
    /// A time series.
    Series(Series),
    /// Several time series.
    Array(Vec<Series>),
}

impl Value {
    /// The time series that a query must give.
    pub fn into_series(self) -> Result<Series, MathError> {
        match self {
            Self::Series(series) => Ok(series),
            Self::Scalar(_) => Err(MathError::NotASeries { found: "a number" }),
            Self::Array(_) => Err(MathError::NotASeries { found: "an array" }),
        }
    }
}

/// What an expression may refer to.
pub struct Scope<'a> {
    /// Values of the other queries by their Id.
    pub values: &'a BTreeMap<String, Value>,
    /// Ids of the queries that are stored metrics: what `METRICS()` means.
    pub metrics: &'a [String],
    /// The clock by which the points' times are told.
    pub tempo: &'a Tempo,
}

/// The value of an expression.
pub fn evaluate(expression: &Expression, scope: &Scope<'_>) -> Result<Value, MathError> {
    match expression {
        Expression::Number(number) => Ok(Value::Scalar(*number)),
        Expression::Text(_) | Expression::Keyword(_) => {
            Err(MathError::Arguments { function: "an operator", needs: "numbers or time series" })
        }
        Expression::Id(id) => {
            scope.values.get(id).cloned().ok_or_else(|| MathError::UnknownId { id: id.clone() })
        }
        Expression::Negate(inner) => Ok(map(evaluate(inner, scope)?, |number| -number)),
        Expression::Binary(operator, left, right) => {
            combine(*operator, evaluate(left, scope)?, evaluate(right, scope)?)
        }
        Expression::Array(parts) => {
            // "You can also use SUM([METRICS("4xx"), METRICS("5xx")])".
            let mut all = Vec::new();
            for part in parts {
                match evaluate(part, scope)? {
                    Value::Array(inner) => all.extend(inner),
                    other => all.push(other.into_series()?),
                }
            }
            Ok(Value::Array(all))
        }
        Expression::Call(name, arguments) => call(name, arguments, scope),
    }
}

fn call(name: &str, arguments: &[Expression], scope: &Scope<'_>) -> Result<Value, MathError> {
    match (name, arguments) {
        ("METRICS", []) => metrics(scope, ""),
        ("METRICS", [Expression::Text(part)]) => metrics(scope, part),
        ("METRICS", _) => Err(MathError::Arguments { function: "METRICS", needs: "nothing or one text" }),
        ("IF", [condition, then]) => choose(&evaluate(condition, scope)?, &evaluate(then, scope)?, None),
        ("IF", [condition, then, other]) => {
            choose(&evaluate(condition, scope)?, &evaluate(then, scope)?, Some(&evaluate(other, scope)?))
        }
        ("IF", _) => Err(MathError::Arguments { function: "IF", needs: "two or three arguments" }),
        ("FILL", [values, filling]) => fill(evaluate(values, scope)?, filling, scope),
        ("FILL", _) => Err(MathError::Arguments { function: "FILL", needs: "two arguments" }),
        ("ABS" | "CEIL" | "FLOOR", [argument]) => {
            let function = match name {
                "ABS" => f64::abs,
                "CEIL" => f64::ceil,
                _ => f64::floor,
            };
            Ok(map(evaluate(argument, scope)?, function))
        }
        ("SUM" | "AVG" | "MAX" | "MIN", [argument]) => {
            let value = evaluate(argument, scope)?;
            Ok(match name {
                "SUM" => reduce(value, |numbers| numbers.iter().sum()),
                // "The AVG of an array of time series returns a single time series. Missing values are
                // treated as 0."
                "AVG" => {
                    let of = if let Value::Array(all) = &value { Some(all.len()) } else { None };
                    reduce(value, |numbers| numbers.iter().sum::<f64>() / of.map_or(length(numbers), count))
                }
                "MAX" => reduce(value, |numbers| numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
                _ => reduce(value, |numbers| numbers.iter().copied().fold(f64::INFINITY, f64::min)),
            })
        }
        ("ABS" | "CEIL" | "FLOOR" | "SUM" | "AVG" | "MAX" | "MIN", _) => {
            Err(MathError::Arguments { function: "this function", needs: "one argument" })
        }
        _ => functions::call(name, arguments, scope),
    }
}

fn metrics(scope: &Scope<'_>, part: &str) -> Result<Value, MathError> {
    let wanted = scope.metrics.iter().filter(|id| id.contains(part));
    let series = wanted.filter_map(|id| scope.values.get(id)).map(|value| value.clone().into_series());
    Ok(Value::Array(series.collect::<Result<_, _>>()?))
}

/// Counts stay far below 2^52, where a double is exact.
#[expect(clippy::cast_precision_loss, reason = "at most 100,800 points")]
fn count(number: usize) -> f64 {
    number as f64
}

fn length(numbers: &[f64]) -> f64 {
    count(numbers.len())
}

fn map(value: Value, function: impl Fn(f64) -> f64 + Copy) -> Value {
    let over = |series: &Series| {
        series.with(series.points.iter().map(|(at, number)| (*at, function(*number))).collect())
    };
    match value {
        Value::Scalar(number) => Value::Scalar(function(number)),
        Value::Series(series) => Value::Series(over(&series)),
        Value::Array(all) => Value::Array(all.iter().map(over).collect()),
    }
}

/// `None` where there is no number: division by zero.
fn operate(operator: Operator, left: f64, right: f64) -> Option<f64> {
    let truth = |holds: bool| Some(f64::from(u8::from(holds)));
    let equal = (left - right).abs() <= f64::EPSILON * left.abs().max(right.abs());
    match operator {
        Operator::Add => Some(left + right),
        Operator::Subtract => Some(left - right),
        Operator::Multiply => Some(left * right),
        Operator::Divide => Some(left / right),
        Operator::Power => Some(left.powf(right)),
        Operator::Less => truth(left < right),
        Operator::LessOrEqual => truth(left <= right),
        Operator::Greater => truth(left > right),
        Operator::GreaterOrEqual => truth(left >= right),
        Operator::Equal => truth(equal),
        Operator::NotEqual => truth(!equal),
        Operator::And => truth(is_true(left) && is_true(right)),
        Operator::Or => truth(is_true(left) || is_true(right)),
    }
    .filter(|result| result.is_finite())
}

fn is_true(number: f64) -> bool {
    number.abs() > 0.0
}

fn combine(operator: Operator, left: Value, right: Value) -> Result<Value, MathError> {
    let with_number = |series: &Series, number: f64, left_is_number: bool| {
        let points = series.points.iter().filter_map(|(at, value)| {
            let (left, right) = if left_is_number { (number, *value) } else { (*value, number) };
            Some((*at, operate(operator, left, right)?))
        });
        series.with(points.collect())
    };
    let both = |left: &Series, right: &Series| {
        let at_or_0 = |series: &Series, at: i64| series.points.get(&at).copied().unwrap_or(0.0);
        let times: BTreeSet<i64> = left.points.keys().chain(right.points.keys()).copied().collect();
        let points = times
            .into_iter()
            .filter_map(|at| Some((at, operate(operator, at_or_0(left, at), at_or_0(right, at))?)));
        left.with(points.collect())
    };
    Ok(match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => {
            // A number has no missing points; 1/0 stays what it is, and is no valid result anyhow.
            Value::Scalar(operate(operator, left, right).unwrap_or(f64::NAN))
        }
        (Value::Series(series), Value::Scalar(number)) => Value::Series(with_number(&series, number, false)),
        (Value::Scalar(number), Value::Series(series)) => Value::Series(with_number(&series, number, true)),
        (Value::Series(left), Value::Series(right)) => Value::Series(both(&left, &right)),
        (Value::Array(all), Value::Scalar(number)) => {
            Value::Array(all.iter().map(|series| with_number(series, number, false)).collect())
        }
        (Value::Scalar(number), Value::Array(all)) => {
            Value::Array(all.iter().map(|series| with_number(series, number, true)).collect())
        }
        (Value::Array(all), Value::Series(right)) => {
            Value::Array(all.iter().map(|left| both(left, &right)).collect())
        }
        (Value::Series(left), Value::Array(all)) => {
            Value::Array(all.iter().map(|right| both(&left, right)).collect())
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            Value::Array(left.iter().zip(&right).map(|(left, right)| both(left, right)).collect())
        }
        (Value::Array(_), Value::Array(_)) => {
            return Err(MathError::Arguments { function: "an operator", needs: "arrays of one length" });
        }
    })
}

/// Of an array: a series over all times that any of them has. Of one series: a number.
fn reduce(value: Value, function: impl Fn(&[f64]) -> f64) -> Value {
    match value {
        Value::Scalar(number) => Value::Scalar(number),
        Value::Series(series) => {
            Value::Scalar(function(&series.points.values().copied().collect::<Vec<_>>()))
        }
        Value::Array(all) => {
            let mut by_time: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
            for (at, number) in all.iter().flat_map(|series| &series.points) {
                by_time.entry(*at).or_default().push(*number);
            }
            let points = by_time.iter().map(|(at, numbers)| (*at, function(numbers))).collect();
            Value::Series(all.first().map(|first| first.with(points)).unwrap_or_default())
        }
    }
}

fn choose(condition: &Value, then: &Value, other: Option<&Value>) -> Result<Value, MathError> {
    let needs = MathError::Arguments { function: "IF", needs: "numbers or time series, not arrays" };
    let shapes = [Some(condition), Some(then), other];
    if shapes.iter().flatten().any(|value| matches!(value, Value::Array(_))) {
        return Err(needs);
    }
    let number_at = |value: &Value, at: i64| match value {
        Value::Scalar(number) => Some(*number),
        Value::Series(series) => series.points.get(&at).copied(),
        Value::Array(_) => None,
    };
    let timeline = shapes.iter().flatten().find_map(|value| match value {
        Value::Series(series) => Some(series),
        _ => None,
    });
    let Some(timeline) = timeline else {
        let branch = if number_at(condition, 0).is_some_and(is_true) { Some(then) } else { other };
        return branch.cloned().ok_or(needs);
    };
    // With a condition that is one number, the branch as a whole.
    if let Value::Scalar(holds) = condition {
        let branch = if is_true(*holds) { Some(then) } else { other };
        let points = timeline.span.clone().step_by(usize::try_from(timeline.period.max(1)).unwrap_or(1));
        let points = points.filter_map(|at| Some((at, number_at(branch?, at)?)));
        return Ok(Value::Series(timeline.with(points.collect())));
    }
    // "0, if the corresponding data point of metric1 is TRUE and the corresponding data point does not
    // exist in metric2", and so for FALSE and metric3, but with a number in place of metric2 "dropped".
    let points = timeline.points.keys().filter_map(|at| {
        let holds = is_true(number_at(condition, *at)?);
        let value = number_at(if holds { then } else { other? }, *at);
        let missing = (holds || matches!(then, Value::Series(_))).then_some(0.0);
        Some((*at, value.or(missing)?))
    });
    Ok(Value::Series(timeline.with(points.collect())))
}

fn fill(values: Value, filling: &Expression, scope: &Scope<'_>) -> Result<Value, MathError> {
    let needs = MathError::Arguments {
        function: "FILL",
        needs: "a time series and a number, a metric, REPEAT or LINEAR",
    };
    match values {
        Value::Scalar(_) => Err(needs),
        Value::Series(series) => Ok(Value::Series(fill_series(&series, filling, scope, &needs)?)),
        Value::Array(all) => {
            let filled = all.iter().map(|series| fill_series(series, filling, scope, &needs));
            Ok(Value::Array(filled.collect::<Result<_, _>>()?))
        }
    }
}

fn fill_series(
    series: &Series,
    filling: &Expression,
    scope: &Scope<'_>,
    needs: &MathError,
) -> Result<Series, MathError> {
    let period = series.period.max(1);
    if (series.span.end - series.span.start) / period > FILLED_POINTS_MAX {
        return Err(MathError::Arguments { function: "FILL", needs: "a range of at most 100800 periods" });
    }
    let mut at = series.span.start;
    let mut points = BTreeMap::new();
    let constant = match filling {
        Expression::Keyword(word) if word == "REPEAT" || word == "LINEAR" => None,
        _ => match evaluate(filling, scope)? {
            Value::Scalar(number) => Some(number),
            // "You can specify a metric to use as the filler value."
            Value::Series(filler) => {
                let mut points = filler.points;
                points.extend(&series.points);
                return Ok(series.with(points));
            }
            Value::Array(_) => return Err(needs.clone()),
        },
    };
    let linear = matches!(filling, Expression::Keyword(word) if word == "LINEAR");
    while at < series.span.end {
        let before = series.points.range(..=at).next_back();
        let after = series.points.range(at..).next();
        let value = match (constant, before, after) {
            (_, Some((found, value)), _) if *found == at => Some(*value),
            (Some(constant), _, _) => Some(constant),
            (None, Some((from, low)), Some((to, high))) if linear => {
                Some(between(at, (*from, *low), (*to, *high)))
            }
            (None, Some((_, value)), _) if !linear => Some(*value),
            _ => None,
        };
        points.extend(value.map(|value| (at, value)));
        at += period;
    }
    Ok(series.with(points))
}

#[expect(clippy::cast_precision_loss, reason = "both are differences within one query's range")]
fn between(at: i64, (from, low): (i64, f64), (to, high): (i64, f64)) -> f64 {
    low + (high - low) * (at - from) as f64 / (to - from) as f64
}

#[cfg(test)]
mod tests;
