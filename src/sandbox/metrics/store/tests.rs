use super::*;

const START: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn stat(period_secs: u32) -> MetricStat {
    MetricStat {
        namespace: "Shop".to_owned(),
        metric: "Latency".to_owned(),
        dimensions: [("a", "1"), ("b", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        period_secs,
        stat: "Sum".to_owned(),
        unit: None,
    }
}

fn add(store: &mut Store, second: i64, resolution: Resolution, sample: Sample) {
    let metric = MetricRef { namespace: "Shop", metric: "Latency", dimensions: &[("b", "2"), ("a", "1")] };
    store.add(metric, at(second), "Seconds", resolution, sample).unwrap();
}

fn value(value: f64) -> Sample {
    Sample::Value { value, count: 1.0 }
}

fn only_slot(samples: &[Sample]) -> Slot {
    let mut store = Store::default();
    for sample in samples {
        add(&mut store, 0, Resolution::Standard, *sample);
    }
    store.periods(&stat(60), START..START + 60, true).remove(&START).unwrap()
}

#[test]
fn every_statistic_is_taken_of_the_values_of_its_period() {
    let slot = only_slot(&(1..=100).map(|number| value(f64::from(number))).collect::<Vec<_>>());
    for (word, expected) in [
        ("SampleCount", 100.0),
        ("Sum", 5_050.0),
        ("Average", 50.5),
        ("Minimum", 1.0),
        ("Maximum", 100.0),
        ("p0", 1.0),
        ("p50", 50.0),
        ("p99", 99.0),
        ("p99.9", 100.0),
    ] {
        assert_eq!(slot.statistic(Statistic::parse(word).unwrap()), Some(expected), "{word}");
    }
}

#[test]
fn statistics_that_are_not_known_are_not_guessed() {
    for word in ["p101", "p", "p-1", "pinf", "p1e1", "sum", "TM(10%:90%)", "tm99", "IQM", ""] {
        assert_eq!(Statistic::parse(word), None, "{word}");
    }
}

#[test]
fn a_percentile_of_many_values_is_within_half_a_percent() {
    let slot =
        only_slot(&(0..20_000).map(|number| value(0.001 + f64::from(number) / 1_000.0)).collect::<Vec<_>>());
    let p95 = slot.statistic(Statistic::Percentile(95.0)).unwrap();
    assert!((p95 / 19.0 - 1.0).abs() < 0.005, "{p95}");
}

#[test]
fn the_bins_of_a_distribution_are_bounded_whatever_the_values() {
    let powers: Vec<_> = (-300..300)
        .flat_map(|power| (0..8).map(move |step| (1.0 + f64::from(step) / 8.0) * 2_f64.powi(power)))
        .collect();
    let slot = only_slot(&powers.iter().map(|number| value(*number)).collect::<Vec<_>>());
    assert_eq!(slot.bins.len(), BINS_MAX);
    assert_eq!(slot.statistic(Statistic::Percentile(100.0)), powers.last().copied());
}

#[test]
fn negative_values_sort_before_positive_ones_and_have_no_percentiles() {
    assert!(bin_of(-2.0) < bin_of(-1.0) && bin_of(-1.0) < bin_of(0.0) && bin_of(0.0) < bin_of(1.0));
    for number in [-256.0, -1.0, 0.0, 0.5, 3.0, 256.0] {
        assert!((value_of(bin_of(number)) - number).abs() < f64::EPSILON, "{number}");
    }
    assert_eq!(only_slot(&[value(-1.0), value(2.0)]).statistic(Statistic::Percentile(50.0)), None);
}

#[test]
fn a_summary_has_percentiles_only_if_its_values_are_alike() {
    let alike = Sample::Summary { count: 3.0, sum: 6.0, min: 2.0, max: 2.0 };
    assert_eq!(only_slot(&[alike]).statistic(Statistic::Percentile(50.0)), Some(2.0));
    let unlike = only_slot(&[Sample::Summary { count: 3.0, sum: 6.0, min: 1.0, max: 3.0 }]);
    assert_eq!(unlike.statistic(Statistic::Percentile(50.0)), None);
    assert_eq!(unlike.statistic(Statistic::Average), Some(2.0));
}

#[test]
fn periods_below_a_minute_see_only_high_resolution_data() {
    let mut store = Store::default();
    add(&mut store, 5, Resolution::Standard, value(1.0));
    assert!(store.periods(&stat(10), START..START + 60, false).is_empty());
    add(&mut store, 15, Resolution::High, value(2.0));
    let tens = store.periods(&stat(10), START..START + 60, false);
    assert_eq!(tens.keys().copied().collect::<Vec<_>>(), [START + 10]);
    let minutes = store.periods(&stat(60), START..START + 60, false);
    assert_eq!(minutes[&START].statistic(Statistic::Sum), Some(3.0));
}

#[test]
fn retention_and_the_number_of_metrics_are_bounded() {
    let mut store = Store::default();
    for minute in 0..2_000 {
        add(&mut store, minute * 60, Resolution::High, value(1.0));
    }
    let kept = store.periods(&stat(60), START..START + 2_000 * 60, false);
    assert_eq!((kept.len(), *kept.keys().next().unwrap()), (MINUTE_SLOTS_MAX, START + (2_000 - 1_440) * 60));
    let mut refused = None;
    for number in 0..METRICS_MAX {
        let name = format!("m{number}");
        let metric = MetricRef { namespace: "Many", metric: &name, dimensions: &[] };
        refused = store.add(metric, at(0), "None", Resolution::Standard, value(1.0)).err();
    }
    assert_eq!(refused, Some(TooManyMetrics), "one metric was there before");
}
