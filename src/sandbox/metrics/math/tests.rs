use super::*;

fn series(points: &[(i64, f64)]) -> Value {
    Value::Series(Series { period: 60, span: 0..300, points: points.iter().copied().collect() })
}

fn result(text: &str) -> Result<Value, MathError> {
    let values = [
        ("errors", series(&[(0, 1.0), (60, 2.0), (180, 4.0)])),
        ("requests", series(&[(0, 10.0), (60, 0.0), (120, 30.0), (180, 40.0)])),
        ("other", series(&[(0, 100.0)])),
    ]
    .map(|(id, value)| (id.to_owned(), value))
    .into();
    let metrics = ["errors", "requests", "other"].map(str::to_owned);
    evaluate(&Expression::parse(text)?, &Scope { values: &values, metrics: &metrics, tempo: &Tempo::new(1) })
}

fn points(text: &str) -> Vec<(i64, f64)> {
    result(text).unwrap().into_series().unwrap().points.into_iter().collect()
}

#[test]
fn operators_bind_as_in_arithmetic() {
    for (text, expected) in [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("-2 ^ 2", -4.0),
        ("10 - 4 - 3", 3.0),
        ("1 + 1 == 2 && 3 < 2", 0.0),
    ] {
        assert_eq!(result(text), Ok(Value::Scalar(expected)), "{text}");
    }
}

#[test]
fn a_missing_point_counts_as_0_and_a_division_by_zero_is_dropped() {
    assert_eq!(points("100 * errors / requests"), [(0, 10.0), (120, 0.0), (180, 10.0)]);
    assert_eq!(points("requests - errors"), [(0, 9.0), (60, -2.0), (120, 30.0), (180, 36.0)]);
}

/// The page's examples: values of consecutive minutes, `None` for `-`.
fn minutes(values: &[Option<f64>]) -> Value {
    let points = values.iter().zip((0..).step_by(60)).filter_map(|(value, at)| Some((at, (*value)?)));
    series(&points.collect::<Vec<_>>())
}

fn documented(text: &str, metrics: &[&[Option<f64>]]) -> Vec<Option<f64>> {
    let values: BTreeMap<String, Value> =
        (1..).zip(metrics).map(|(n, values)| (format!("metric{n}"), minutes(values))).collect();
    let scope = Scope { values: &values, metrics: &[], tempo: &Tempo::new(1) };
    let found = evaluate(&Expression::parse(text).unwrap(), &scope).unwrap().into_series().unwrap();
    (0..).step_by(60).take(metrics[0].len()).map(|at| found.points.get(&at).copied()).collect()
}

#[test]
fn comparisons_follow_the_documented_table() {
    // "metric1 has values of [30, 20, 0, 0] and metric2 has values of [20, -, 20, -]".
    let metrics: [&[Option<f64>]; 2] =
        [&[Some(30.0), Some(20.0), Some(0.0), Some(0.0)], &[Some(20.0), None, Some(20.0), None]];
    for (text, expected) in [
        ("metric1 < metric2", [0.0, 0.0, 1.0, 0.0]),
        ("metric1 >= 30", [1.0, 0.0, 0.0, 0.0]),
        ("metric1 > 15 AND metric2 > 15", [1.0, 0.0, 0.0, 0.0]),
    ] {
        assert_eq!(documented(text, &metrics), expected.map(Some), "{text}");
    }
}

#[test]
fn if_follows_the_documented_tables() {
    let metrics: [&[Option<f64>]; 3] = [
        &[Some(1.0), Some(1.0), Some(0.0), Some(0.0), None],
        &[Some(30.0), None, Some(0.0), Some(0.0), Some(30.0)],
        &[Some(0.0), Some(0.0), Some(20.0), None, Some(20.0)],
    ];
    let some = |values: [f64; 4]| values.map(Some).to_vec();
    for (text, mut expected) in [
        ("IF(metric1, metric2, metric3)", some([30.0, 0.0, 20.0, 0.0])),
        ("IF(metric1, 5, metric3)", vec![Some(5.0), Some(5.0), Some(20.0), None]),
        ("IF(metric1, metric2, 5)", some([30.0, 0.0, 5.0, 5.0])),
    ] {
        expected.push(None);
        assert_eq!(documented(text, &metrics), expected, "{text}");
    }
}

#[test]
fn functions_over_time_work_on_the_points_that_are_there() {
    assert_eq!(points("DIFF(errors)"), [(60, 1.0), (180, 2.0)]);
    assert_eq!(points("DIFF_TIME(errors)"), [(60, 60.0), (180, 120.0)]);
    assert_eq!(points("RATE(errors)"), [(60, 1.0 / 60.0), (180, 2.0 / 120.0)]);
    assert_eq!(points("RUNNING_SUM(errors)"), [(0, 1.0), (60, 3.0), (180, 7.0)]);
    assert_eq!(points("LOG10(requests)"), [(0, 1.0), (120, 30_f64.log10()), (180, 40_f64.log10())]);
    assert_eq!(points("other / PERIOD(other)"), [(0, 100.0 / 60.0)]);
    assert_eq!(points("errors - SUM(errors) / DATAPOINT_COUNT(errors)")[0], (0, 1.0 - 7.0 / 3.0));
    assert_eq!(points("TIME_SERIES(MAX(errors))").len(), 5);
    assert_eq!(result("STDDEV(other)"), Ok(Value::Scalar(0.0)));
    assert_eq!(points("FILL(errors, requests)"), [(0, 1.0), (60, 2.0), (120, 30.0), (180, 4.0)]);
}

#[test]
fn functions_over_arrays_choose_and_count_their_series() {
    assert_eq!(points("FIRST(SORT(METRICS(), SUM, DESC))"), points("other"));
    assert_eq!(points("LAST(SORT(METRICS(), SUM, DESC))"), points("errors"));
    assert_eq!(points("SUM(SLICE(SORT(METRICS(), MAX, ASC), 0, 1))"), points("errors"));
    assert_eq!(points("SUM(SORT(METRICS(), AVG, DESC, 1))"), points("other"));
    assert_eq!(result("METRIC_COUNT(METRICS())"), Ok(Value::Scalar(3.0)));
    assert_eq!(points("SUM([METRICS(\"err\"), METRICS(\"oth\")])"), [(0, 101.0), (60, 2.0), (180, 4.0)]);
    // Missing values are treated as 0: divided by the number of series.
    assert_eq!(points("AVG([errors, other])"), [(0, 50.5), (60, 1.0), (180, 2.0)]);
}

#[test]
fn functions_of_the_calendar_tell_the_utc_timestamp_of_every_period() {
    // The epoch was a Thursday; every period has a value, whether the metric has one or not.
    let told = |name: &str| {
        let all = points(&format!("{name}(errors)"));
        assert_eq!(all.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 60, 120, 180, 240], "{name}");
        all[2].1
    };
    let names = ["MINUTE", "HOUR", "DAY", "DATE", "MONTH", "YEAR", "EPOCH"];
    assert_eq!(format!("{:?}", names.map(told)), "[2.0, 0.0, 4.0, 1.0, 1.0, 1970.0, 120.0]");
    assert_eq!(points("IF(MINUTE(errors) > 1, errors)"), [(120, 0.0), (180, 4.0), (240, 0.0)]);
    assert_eq!(points("IF(DAY(errors) < 4, errors)"), []);
    assert!(result("HOUR(METRICS())").is_err());
    assert!(result("HOUR(5)").is_err());
    assert!(result("HOUR(errors, errors)").is_err());
}

#[test]
fn functions_that_are_not_simulated_are_refused_by_name() {
    for name in ["ANOMALY_DETECTION_BAND", "SEARCH", "LAMBDA", "SERVICE_QUOTA"] {
        let refused = result(&format!("{name}(errors)")).unwrap_err().to_string();
        assert_eq!(refused, format!("the function {name} is not supported"));
    }
    assert!(result("SORT(METRICS(), MEDIAN, ASC)").is_err());
    assert!(result("RATE(5)").is_err());
    assert!(result("RATE(errors, errors)").is_err());
}

#[test]
fn functions_of_an_array_pass_over_missing_points_and_of_one_series_give_a_number() {
    assert_eq!(points("SUM([errors, other])"), [(0, 101.0), (60, 2.0), (180, 4.0)]);
    assert_eq!(points("MAX(METRICS())"), [(0, 100.0), (60, 2.0), (120, 30.0), (180, 40.0)]);
    assert_eq!(points("SUM(METRICS(\"err\"))"), points("errors"));
    assert_eq!(result("SUM(errors)"), Ok(Value::Scalar(7.0)));
    assert_eq!(result("AVG(other) + MIN(errors)"), Ok(Value::Scalar(101.0)));
}

#[test]
fn fill_puts_a_number_the_last_value_or_a_line_into_the_gaps() {
    assert_eq!(points("FILL(errors, 0)"), [(0, 1.0), (60, 2.0), (120, 0.0), (180, 4.0), (240, 0.0)]);
    assert_eq!(points("FILL(errors, REPEAT)"), [(0, 1.0), (60, 2.0), (120, 2.0), (180, 4.0), (240, 4.0)]);
    assert_eq!(points("FILL(errors, LINEAR)"), [(0, 1.0), (60, 2.0), (120, 3.0), (180, 4.0)]);
}

#[test]
fn if_chooses_point_by_point() {
    assert_eq!(points("IF(requests > 5, errors, 9)"), [(0, 1.0), (60, 9.0), (120, 0.0), (180, 4.0)]);
    assert_eq!(points("IF(requests > 5, errors)"), [(0, 1.0), (120, 0.0), (180, 4.0)]);
}

#[test]
fn what_cannot_be_computed_is_refused_with_its_reason() {
    let message = |text: &str| result(text).unwrap_err().to_string();
    assert_eq!(message("MEDIAN(errors)"), "the function MEDIAN is not supported");
    assert_eq!(message("nothing * 2"), "the expression refers to nothing, which is no query's Id");
    assert_eq!(message("errors +"), "the expression needs a number, an Id or a function at character 8");
    assert_eq!(message("(errors"), "the expression needs a closing parenthesis at character 7");
    assert_eq!(message("METRICS() + [errors]"), "an operator needs arrays of one length");
    assert!(message(&"(".repeat(5_000)).contains("at most"), "a deep expression must not overflow the stack");
    assert!(result("METRICS()").unwrap().into_series().is_err());
}
