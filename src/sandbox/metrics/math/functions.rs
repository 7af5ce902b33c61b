//! The functions of metric math over one time series or an array of them ("Functions supported for
//! metric math", `CloudWatch` user guide).

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::{
    Expression, FILLED_POINTS_MAX, MathError, Scope, Series, Tempo, Value, evaluate, length, reduce,
};

/// What the sandbox refuses by name: it has no model of metrics to learn, no Performance Insights, no
/// rules of Contributor Insights, no quotas, and its search would be another language.
const REFUSED: [&str; 6] = [
    "ANOMALY_DETECTION_BAND",
    "DB_PERF_INSIGHTS",
    "INSIGHT_RULE_METRIC",
    "LAMBDA",
    "SEARCH",
    "SERVICE_QUOTA",
];

/// Calls a function that works on values alone.
pub(super) fn call(name: &str, arguments: &[Expression], scope: &Scope<'_>) -> Result<Value, MathError> {
    if REFUSED.contains(&name) {
        return Err(MathError::UnknownFunction { name: name.to_owned() });
    }
    match (name, arguments) {
        ("PERIOD", [Expression::Id(id)]) => match scope.values.get(id) {
            Some(Value::Series(series)) => Ok(Value::Scalar(as_number(series.period))),
            _ => Err(MathError::Arguments { function: "PERIOD", needs: "the Id of a metric" }),
        },
        ("MINUTE" | "HOUR" | "DAY" | "DATE" | "MONTH" | "YEAR" | "EPOCH", [argument]) => {
            calendar(name, evaluate(argument, scope)?, scope.tempo)
        }
        ("TIME_SERIES", [argument]) => time_series(&evaluate(argument, scope)?, scope),
        ("SORT", [all, Expression::Keyword(by), Expression::Keyword(order), limit @ ..])
            if limit.len() <= 1 =>
        {
            sort(evaluate(all, scope)?, by, order, number_of(limit.first(), scope, "SORT")?)
        }
        ("SLICE", [all, start, end @ ..]) if end.len() <= 1 => {
            let start = number_of(Some(start), scope, "SLICE")?.unwrap_or(0);
            slice(evaluate(all, scope)?, start, number_of(end.first(), scope, "SLICE")?)
        }
        (_, [argument]) => one(name, evaluate(argument, scope)?),
        ("PERIOD" | "TIME_SERIES" | "SORT" | "SLICE", _) => {
            Err(MathError::Arguments { function: "this function", needs: "other arguments" })
        }
        _ if is_known(name) => Err(MathError::Arguments { function: "this function", needs: "one argument" }),
        _ => Err(MathError::UnknownFunction { name: name.to_owned() }),
    }
}

fn is_known(name: &str) -> bool {
    matches!(
        name,
        "DATAPOINT_COUNT"
            | "DATE"
            | "DAY"
            | "DIFF"
            | "DIFF_TIME"
            | "EPOCH"
            | "FIRST"
            | "HOUR"
            | "LAST"
            | "LOG"
            | "LOG10"
            | "METRIC_COUNT"
            | "MINUTE"
            | "MONTH"
            | "RATE"
            | "REMOVE_EMPTY"
            | "RUNNING_SUM"
            | "STDDEV"
            | "YEAR"
    )
}

/// Functions of one argument.
fn one(name: &str, value: Value) -> Result<Value, MathError> {
    match name {
        // A logarithm of nothing or less has no value: the datapoint is dropped.
        "LOG" => each(value, |series| finite(series, f64::ln)),
        "LOG10" => each(value, |series| finite(series, f64::log10)),
        "DIFF" => each(value, |series| steps(series, |(_, before), (_, now)| now - before)),
        "DIFF_TIME" => each(value, |series| steps(series, |(from, _), (to, _)| as_number(to - from))),
        "RATE" => each(value, |series| {
            steps(series, |(from, before), (to, now)| (now - before) / as_number(to - from))
        }),
        "RUNNING_SUM" => each(value, running_sum),
        "STDDEV" => Ok(reduce(value, deviation)),
        "DATAPOINT_COUNT" => Ok(reduce(value, length)),
        "METRIC_COUNT" => {
            array(value, "METRIC_COUNT").map(|all| Value::Scalar(all.iter().map(|_| 1.0).sum()))
        }
        "REMOVE_EMPTY" => {
            let all = array(value, "REMOVE_EMPTY")?;
            Ok(Value::Array(all.into_iter().filter(|series| !series.points.is_empty()).collect()))
        }
        "FIRST" => Ok(Value::Series(array(value, "FIRST")?.into_iter().next().unwrap_or_default())),
        "LAST" => Ok(Value::Series(array(value, "LAST")?.into_iter().next_back().unwrap_or_default())),
        _ => Err(MathError::UnknownFunction { name: name.to_owned() }),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of API time stay far below 2^52")]
fn as_number(secs: i64) -> f64 {
    secs as f64
}

fn array(value: Value, function: &'static str) -> Result<Vec<Series>, MathError> {
    match value {
        Value::Array(all) => Ok(all),
        _ => Err(MathError::Arguments { function, needs: "an array of time series" }),
    }
}

fn each(value: Value, function: impl Fn(&Series) -> BTreeMap<i64, f64>) -> Result<Value, MathError> {
    let over = |series: &Series| series.with(function(series));
    match value {
        Value::Series(series) => Ok(Value::Series(over(&series))),
        Value::Array(all) => Ok(Value::Array(all.iter().map(over).collect())),
        Value::Scalar(_) => Err(MathError::Arguments {
            function: "this function",
            needs: "a time series or an array of them",
        }),
    }
}

fn finite(series: &Series, function: impl Fn(f64) -> f64) -> BTreeMap<i64, f64> {
    let points = series.points.iter().map(|(at, value)| (*at, function(*value)));
    points.filter(|(_, value)| value.is_finite()).collect()
}

/// "The difference between each value in the time series and the preceding value": none for the first.
fn steps(series: &Series, step: impl Fn((i64, f64), (i64, f64)) -> f64) -> BTreeMap<i64, f64> {
    let points: Vec<(i64, f64)> = series.points.iter().map(|(at, value)| (*at, *value)).collect();
    points.windows(2).map(|pair| (pair[1].0, step(pair[0], pair[1]))).collect()
}

fn running_sum(series: &Series) -> BTreeMap<i64, f64> {
    let mut sum = 0.0;
    let mut add = |value: f64| {
        sum += value;
        sum
    };
    series.points.iter().map(|(at, value)| (*at, add(*value))).collect()
}

/// The standard deviation of a population.
fn deviation(numbers: &[f64]) -> f64 {
    let mean = numbers.iter().sum::<f64>() / length(numbers);
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    (squares / length(numbers)).sqrt()
}

/// "A non-sparse time series where every value is set to a scalar argument", over the periods of the
/// metrics in the request.
fn time_series(value: &Value, scope: &Scope<'_>) -> Result<Value, MathError> {
    let needs =
        MathError::Arguments { function: "TIME_SERIES", needs: "a number, and a metric in the request" };
    let Value::Scalar(number) = value else { return Err(needs) };
    let model = scope.metrics.iter().find_map(|id| match scope.values.get(id) {
        Some(Value::Series(series)) => Some(series),
        _ => None,
    });
    let model = model.ok_or(needs)?;
    let starts = std::iter::successors(Some(model.span.start), |at| Some(at + model.period.max(1)));
    let points = starts.take_while(|at| *at < model.span.end).map(|at| (at, *number));
    Ok(Value::Series(model.with(points.collect())))
}

/// "These functions take the period and range of the time series and return a new non-sparse time series where each
/// value is based on its timestamp": the UTC one that is shown with the value, whatever the clock's speed.
fn calendar(name: &str, value: Value, tempo: &Tempo) -> Result<Value, MathError> {
    let Value::Series(series) = value else {
        return Err(MathError::Arguments { function: "a function of the calendar", needs: "a time series" });
    };
    let period = series.period.max(1);
    if (series.span.end - series.span.start) / period > FILLED_POINTS_MAX {
        let needs = "a range of at most 100800 periods";
        return Err(MathError::Arguments { function: "a function of the calendar", needs });
    }
    let told = |at: i64| {
        let at = tempo.real(at);
        let date = TimeZone::UTC.to_datetime(at);
        match name {
            "MINUTE" => f64::from(date.minute()),
            "HOUR" => f64::from(date.hour()),
            // "Days of the week are numbered 1 to 7 (Monday to Sunday)" (AWS's blog on these functions).
            "DAY" => f64::from(date.weekday().to_monday_one_offset()),
            "DATE" => f64::from(date.day()),
            "MONTH" => f64::from(date.month()),
            "YEAR" => f64::from(date.year()),
            _ => as_number(at.as_second()),
        }
    };
    let starts = std::iter::successors(Some(series.span.start), |at| Some(at + period));
    let points = starts.take_while(|at| *at < series.span.end).map(|at| (at, told(at)));
    Ok(Value::Series(series.with(points.collect())))
}

fn number_of(
    argument: Option<&Expression>,
    scope: &Scope<'_>,
    function: &'static str,
) -> Result<Option<usize>, MathError> {
    let Some(argument) = argument else { return Ok(None) };
    let needs = MathError::Arguments { function, needs: "a whole number" };
    match evaluate(argument, scope)? {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be small and whole"
        )]
        Value::Scalar(number)
            if (0.0..=10_000.0).contains(&number) && number.fract().abs() < f64::EPSILON =>
        {
            Ok(Some(number as usize))
        }
        _ => Err(needs),
    }
}

fn sort(value: Value, by: &str, order: &str, limit: Option<usize>) -> Result<Value, MathError> {
    let needs = MathError::Arguments {
        function: "SORT",
        needs: "an array, one of AVG, MIN, MAX and SUM, ASC or DESC, and at most a limit",
    };
    let rank: fn(&[f64]) -> f64 = match by {
        "SUM" => |numbers| numbers.iter().sum(),
        "AVG" => |numbers| numbers.iter().sum::<f64>() / length(numbers),
        "MIN" => |numbers| numbers.iter().copied().fold(f64::INFINITY, f64::min),
        "MAX" => |numbers| numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        _ => return Err(needs),
    };
    let descending = match order {
        "ASC" => false,
        "DESC" => true,
        _ => return Err(needs),
    };
    let mut ranked: Vec<(f64, Series)> = array(value, "SORT")?
        .into_iter()
        .map(|series| (rank(&series.points.values().copied().collect::<Vec<_>>()), series))
        .collect();
    ranked
        .sort_by(|(one, _), (other, _)| if descending { other.total_cmp(one) } else { one.total_cmp(other) });
    ranked.truncate(limit.unwrap_or(usize::MAX));
    Ok(Value::Array(ranked.into_iter().map(|(_, series)| series).collect()))
}

/// "The two scalars define the start (inclusive) and end (exclusive) of the array to return."
fn slice(value: Value, start: usize, end: Option<usize>) -> Result<Value, MathError> {
    let all = array(value, "SLICE")?.into_iter();
    Ok(Value::Array(all.take(end.unwrap_or(usize::MAX)).skip(start).collect()))
}
