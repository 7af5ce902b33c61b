//! Faults of the demo app, set by the environment of its task definition.
//!
//! A value that cannot be understood stops the task with the variable's name: a release that was meant
//! to misbehave and silently does not would teach the wrong thing.

use std::collections::BTreeMap;
use std::time::Duration;

/// A fault variable with a value that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable} has the value `{value}`, allowed is {allowed}")]
pub struct FaultError {
    /// Name of the variable.
    pub variable: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub allowed: &'static str,
}

/// When the health path answers 500.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unhealthy {
    /// Never.
    #[default]
    Never,
    /// From the start.
    Always,
    /// From this long after the start.
    After(Duration),
}

/// What a demo task does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// `ERROR_RATE`, in thousandths: share of requests answered 500.
    pub errors_per_mille: u32,
    /// `LATENCY`: added to every answer.
    pub latency: Duration,
    /// `START_DELAY`: before the task listens.
    pub start_delay: Duration,
    /// `CRASH_ON_BOOT`: exit code with which the task ends instead of listening.
    pub crash_on_boot: Option<i32>,
    /// `CRASH_AFTER`: how long after its start the task ends with exit code 1.
    pub crash_after: Option<Duration>,
    /// `UNHEALTHY`: when health checks fail.
    pub unhealthy: Unhealthy,
}

const DURATION: &str = "a duration such as 50ms, 2s or 1m, up to 1h";
const LONGEST: Duration = Duration::from_hours(1);

impl Faults {
    /// Reads the faults from a container's environment; variables of other names are not looked at.
    pub fn parse(environment: &BTreeMap<String, String>) -> Result<Self, FaultError> {
        let read = |variable: &'static str| {
            environment.get(variable).map(|value| value.trim()).filter(|value| !value.is_empty())
        };
        let error =
            |variable, value: &str, allowed| FaultError { variable, value: value.to_owned(), allowed };
        let duration = |variable: &'static str| {
            read(variable)
                .map(|value| parse_duration(value).ok_or_else(|| error(variable, value, DURATION)))
                .transpose()
        };
        let crash_on_boot = |value: &str| {
            let code =
                value.parse::<u8>().map_err(|_| error("CRASH_ON_BOOT", value, "an exit code, 0 to 255"));
            code.map(i32::from)
        };
        Ok(Self {
            errors_per_mille: read("ERROR_RATE").map_or(Ok(0), |value| {
                let allowed = "a percentage from 0 to 100 with at most one decimal, such as 2.5";
                parse_per_mille(value).ok_or_else(|| error("ERROR_RATE", value, allowed))
            })?,
            latency: duration("LATENCY")?.unwrap_or_default(),
            start_delay: duration("START_DELAY")?.unwrap_or_default(),
            crash_on_boot: read("CRASH_ON_BOOT").map(crash_on_boot).transpose()?,
            crash_after: duration("CRASH_AFTER")?,
            unhealthy: read("UNHEALTHY").map_or(Ok(Unhealthy::Never), |value| {
                let allowed = "true, false or after=<duration>, such as after=10s";
                parse_unhealthy(value).ok_or_else(|| error("UNHEALTHY", value, allowed))
            })?,
        })
    }
}

fn parse_unhealthy(text: &str) -> Option<Unhealthy> {
    match text {
        "true" => Some(Unhealthy::Always),
        "false" => Some(Unhealthy::Never),
        other => other.strip_prefix("after=").and_then(parse_duration).map(Unhealthy::After),
    }
}

/// `12.5` or `12.5%` to 125.
fn parse_per_mille(text: &str) -> Option<u32> {
    let text = text.strip_suffix('%').unwrap_or(text).trim_end();
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() != 1 {
        return None;
    }
    let per_mille = whole.parse::<u32>().ok()?.checked_mul(10)? + tenth.parse::<u32>().ok()?;
    (per_mille <= 1000).then_some(per_mille)
}

/// A whole number with `ms`, `s` or `m`.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    };
    (duration <= LONGEST).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variable: &str, value: &str) -> Result<Faults, FaultError> {
        Faults::parse(&BTreeMap::from([(variable.to_owned(), value.to_owned())]))
    }

    #[test]
    fn each_fault_is_read_from_its_variable() {
        let none = Faults::default();
        let cases = [
            ("ERROR_RATE", "12.5", Faults { errors_per_mille: 125, ..none }),
            ("ERROR_RATE", "100%", Faults { errors_per_mille: 1000, ..none }),
            ("ERROR_RATE", "0.1", Faults { errors_per_mille: 1, ..none }),
            ("LATENCY", "50ms", Faults { latency: Duration::from_millis(50), ..none }),
            ("START_DELAY", "1m", Faults { start_delay: Duration::from_mins(1), ..none }),
            ("CRASH_ON_BOOT", "137", Faults { crash_on_boot: Some(137), ..none }),
            ("CRASH_AFTER", "2s", Faults { crash_after: Some(Duration::from_secs(2)), ..none }),
            ("UNHEALTHY", "true", Faults { unhealthy: Unhealthy::Always, ..none }),
            (
                "UNHEALTHY",
                "after=10s",
                Faults { unhealthy: Unhealthy::After(Duration::from_secs(10)), ..none },
            ),
            ("UNHEALTHY", "", none),
            ("OTHER", "anything", none),
        ];
        for (variable, value, expected) in cases {
            assert_eq!(parse(variable, value), Ok(expected), "{variable}={value}");
        }
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_by_the_variables_name() {
        for (variable, value) in [
            ("ERROR_RATE", "100.1"),
            ("ERROR_RATE", "2.55"),
            ("ERROR_RATE", "-1"),
            ("ERROR_RATE", "many"),
            ("LATENCY", "50"),
            ("LATENCY", "5h"),
            ("LATENCY", "61m"),
            ("START_DELAY", "s"),
            ("CRASH_ON_BOOT", "256"),
            ("CRASH_AFTER", "soon"),
            ("UNHEALTHY", "after=later"),
            ("UNHEALTHY", "yes"),
        ] {
            let error = parse(variable, value).expect_err(value);
            assert_eq!(error.variable, variable);
            assert!(error.to_string().contains(variable), "{error}");
        }
    }
}
