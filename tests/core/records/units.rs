//! Percentages and time spans are held exactly.

use pointsman_core::records::strategy::Scale;
use pointsman_core::records::{Percent, Span};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn every_tenth_of_a_percent_survives_json_and_yaml() {
    for tenths in 0..=1000 {
        let percent = Percent::from_tenths(tenths).unwrap();
        let json = serde_json::to_string(&percent).unwrap();
        assert_eq!(json, percent.to_string(), "written as people write it");
        assert_eq!(serde_json::from_str::<Percent>(&json).unwrap(), percent);
        assert_eq!(serde_json::from_value::<Percent>(json!(percent)).unwrap(), percent);
        assert_eq!(serde_saphyr::from_str::<Percent>(&json).unwrap(), percent);
    }
}

#[test]
fn what_is_no_percentage_is_refused_with_what_is_allowed() {
    for bad in [json!(100.1), json!(-1), json!(0.25), json!(101), json!("10"), json!(1e300), json!(null)] {
        let error = serde_json::from_value::<Percent>(bad.clone()).expect_err(&bad.to_string()).to_string();
        assert!(error.contains("from 0 to 100 with at most one decimal"), "{error}");
    }
}

#[test]
fn a_scale_is_a_percentage_or_follow() {
    for good in [json!(10), json!(0.5), json!("follow")] {
        serde_json::from_value::<Scale>(good).unwrap();
    }
    let error = serde_json::from_value::<Scale>(json!("folow")).unwrap_err().to_string();
    assert!(error.contains("follow, or a number"), "{error}");
}

#[test]
fn a_share_of_a_count_is_rounded_up() {
    let tenth = Percent::from_tenths(1).unwrap();
    assert_eq!(tenth.of(1), 1);
    assert_eq!(tenth.of(1000), 1);
    assert_eq!(tenth.of(1001), 2);
    assert_eq!(Percent::FULL.of(u32::MAX), u32::MAX);
    assert_eq!(Percent::ZERO.of(u32::MAX), 0);
}

#[test]
fn spans_are_written_with_units_largest_first_each_once() {
    for (text, millis) in [
        ("0s", 0),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("1d1ms", 86_400_001),
        ("007s", 7_000),
    ] {
        assert_eq!(text.parse::<Span>().unwrap().millis(), millis, "{text}");
    }
    for bad in ["", "90", "s", "1x", "30m1h", "1m1m", "-1s", "1.5h", " 1s", "1 s", "1000000h", "١s"] {
        assert!(bad.parse::<Span>().is_err(), "{bad} must be refused");
    }
}

#[test]
fn a_span_that_was_written_can_always_be_read_back() {
    let longest = Span::from_millis(u64::MAX);
    let read: Span = longest.to_string().parse().unwrap();
    assert_eq!(read.to_string(), longest.to_string());
}

proptest! {
    #[test]
    fn spans_survive_their_text(millis in 0..4_000_000_000_000_000_u64) {
        let span = Span::from_millis(millis).minus(Span::ZERO);
        let read: Span = span.to_string().parse().unwrap();
        prop_assert_eq!(read.millis(), millis.min(999_999 * 3_600_000));
    }

    #[test]
    fn doubles_that_are_no_tenths_are_refused(value in -10.0..110.0_f64) {
        let read = serde_json::from_value::<Percent>(Value::from(value));
        let tenths = (value * 10.0).round();
        if (0.0..=1000.0).contains(&tenths) && (tenths / 10.0).to_bits() == value.to_bits() {
            prop_assert!(read.is_ok());
        } else {
            prop_assert!(read.is_err());
        }
    }
}
