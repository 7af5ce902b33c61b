//! Percentages and time spans as people write them, held exactly.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A percentage with at most one decimal, held in tenths: `10` is 100 tenths, `0.1` is one.
///
/// ELB weights go up to 999, so a tenth of a percent is the finest share a pair can express.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Percent(u16);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const FULL: Self = Self(1000);
    /// A tenth.
    pub(super) const TEN: Self = Self(100);
    /// The smallest step of a linear strategy.
    pub(super) const LEAST_LINEAR: Self = Self(30);

    /// From tenths of a percent; `None` above 1000.
    pub const fn from_tenths(tenths: u16) -> Option<Self> {
        if tenths <= 1000 { Some(Self(tenths)) } else { None }
    }

    /// Tenths of a percent, 0 to 1000.
    pub const fn tenths(self) -> u16 {
        self.0
    }

    /// `ceil(count × self)`: how many whole things this share of `count` needs.
    #[expect(clippy::cast_possible_truncation, reason = "a share of at most 1000/1000 is at most `count`")]
    pub const fn of(self, count: u32) -> u32 {
        // u64: 2^32 × 1000 does not fit into 32 bits.
        ((count as u64 * self.0 as u64).div_ceil(1000)) as u32
    }

    /// What is missing to [`Percent::FULL`].
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(1000 - self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(10) {
            write!(f, "{}", self.0 / 10)
        } else {
            write!(f, "{}.{}", self.0 / 10, self.0 % 10)
        }
    }
}

/// Why a text is not a [`Percent`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a percentage from 0 to 100 with at most one decimal, such as 10 or 0.5")]
pub struct BadPercent(String);

impl FromStr for Percent {
    type Err = BadPercent;

    fn from_str(text: &str) -> Result<Self, BadPercent> {
        let bad = || BadPercent(text.to_owned());
        let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.len() <= 3 && s.bytes().all(|b| b.is_ascii_digit());
        let tenth = tenth.trim_end_matches('0');
        let tenth = if tenth.is_empty() { "0" } else { tenth };
        if !digits(whole) || tenth.len() != 1 || !digits(tenth) {
            return Err(bad());
        }
        let whole: u16 = whole.parse().map_err(|_| bad())?;
        let tenth: u16 = tenth.parse().map_err(|_| bad())?;
        Self::from_tenths(whole * 10 + tenth).ok_or_else(bad)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(10) {
            serializer.serialize_u16(self.0 / 10)
        } else {
            // The nearest double prints as the same one-decimal text, which is what reading goes by.
            serializer.serialize_f64(f64::from(self.0) / 10.0)
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 100 with at most one decimal")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Percent, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Percent, E> {
                value.to_string().parse().map_err(E::custom)
            }
            // The shortest decimal text of a double is what the person wrote; it is judged as text.
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Percent, E> {
                let text = value.to_string();
                // JSON has a zero below zero.
                let text = if text == "-0" { "0" } else { &text };
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // `multipleOf: 0.1` refuses 0.3 in validators that divide doubles; a list of values is exact in all.
        let tenths: Vec<f64> =
            (1..1000_u16).filter(|n| !n.is_multiple_of(10)).map(|n| f64::from(n) / 10.0).collect();
        json_schema!({
            "description": "A percentage from 0 to 100 with at most one decimal.",
            "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 100 }, { "enum": tenths }]
        })
    }
}

/// A span of time in whole milliseconds, written as `90s`, `15m`, `1h30m` or `500ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span(u64);

/// Unit letters, their length in milliseconds, and how many digits their number may have; largest first.
/// The schema's pattern says the same. Each is some centuries at most, so sums stay far from overflow.
const UNITS: [(&str, u64, usize); 5] =
    [("d", 24 * 3_600_000, 5), ("h", 3_600_000, 6), ("m", 60_000, 8), ("s", 1_000, 10), ("ms", 1, 13)];

/// The longest span that is written: what has been written can always be read back.
const LONGEST_MS: u64 = 999_999 * 3_600_000;

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }
    /// From seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000)
    }
    /// From minutes.
    pub const fn from_mins(mins: u64) -> Self {
        Self(mins * 60_000)
    }
    /// Whole milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }
    /// For [`tokio`] and the SDK.
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
    /// For arithmetic with timestamps.
    pub fn signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_millis(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
    /// `self + other`, never overflowing.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
    /// `self - other`, never below zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
    /// `self × times`, never overflowing.
    #[must_use]
    pub const fn times(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
    /// The span from `earlier` to `later`; zero when the clock went backwards.
    pub fn between(earlier: jiff::Timestamp, later: jiff::Timestamp) -> Self {
        Self(u64::try_from(later.duration_since(earlier).as_millis()).unwrap_or(0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.min(LONGEST_MS);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, length, _) in UNITS {
            if unit != "d" && rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

/// Why a text is not a [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a duration such as 90s, 15m, 1h30m or 500ms")]
pub struct BadSpan(String);

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let bad = || BadSpan(text.to_owned());
        let mut rest = text;
        let mut total: u64 = 0;
        let mut finest = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit = UNITS.iter().find(|(unit, ..)| *unit == &rest[..letters]);
            let (_, length, most_digits) = *unit.ok_or_else(bad)?;
            // Each unit once, largest first: `30m1h` and `1m1m` are slips of the pen.
            if length >= finest || digits > most_digits {
                return Err(bad());
            }
            finest = length;
            total = total.checked_add(number.checked_mul(length).ok_or_else(bad)?).ok_or_else(bad)?;
            rest = &rest[letters..];
        }
        if text.is_empty() {
            return Err(bad());
        }
        Ok(Self(total))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 90s, 15m or 1h30m")
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Span, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration: units d, h, m, s, ms, each at most once, largest first.",
            "type": "string",
            "minLength": 2, "maxLength": 64,
            "pattern": "^([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,8}m)?([0-9]{1,10}s)?([0-9]{1,13}ms)?$"
        })
    }
}
