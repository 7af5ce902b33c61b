//! Reads the input of an operation, leniently in form and strictly in content: the query protocol
//! sends numbers, booleans and timestamps as text, JSON and CBOR send them as such.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::world::ApiError;

/// The parameters of one call, or one structure inside them.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    fields: &'a Map<String, Value>,
}

/// `InvalidParameterValue`.
pub fn invalid_value(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterValue", message)
}

/// `InvalidParameterCombination`.
pub fn invalid_combination(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterCombination", message)
}

/// `ValidationError`.
pub fn validation(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationError", message)
}

impl<'a> Input<'a> {
    /// The input must be an object.
    pub fn new(value: &'a Value) -> Result<Self, ApiError> {
        let fields =
            value.as_object().ok_or_else(|| validation(format!("expected a structure, found {value}")))?;
        Ok(Self { fields })
    }

    /// A field that is there and not null.
    fn get(self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// Whether a field is given.
    pub fn has(self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// A text.
    pub fn text(self, field: &str) -> Result<Option<&'a str>, ApiError> {
        let as_text = |value: &'a Value| {
            value.as_str().ok_or_else(|| validation(format!("{field} must be a string, found {value}")))
        };
        self.get(field).map(as_text).transpose()
    }

    /// A text that must be there, with 1 to `max` characters.
    pub fn needed_text(self, field: &str, max: usize) -> Result<&'a str, ApiError> {
        let text = self.text(field)?.ok_or_else(|| missing(field))?;
        let length = text.chars().count();
        if length == 0 || length > max {
            return Err(validation(format!("{field} must have 1 to {max} characters, found {length}")));
        }
        Ok(text)
    }

    /// A text out of a list of words.
    pub fn word<T>(
        self,
        field: &str,
        parse: impl Fn(&str) -> Option<T>,
        known: &[&str],
    ) -> Result<Option<T>, ApiError> {
        let parse = |word: &str| {
            parse(word).ok_or_else(|| {
                validation(format!("{field} must be one of [{}], found {word:?}", known.join(", ")))
            })
        };
        self.text(field)?.map(parse).transpose()
    }

    /// A whole number from `min` on.
    pub fn whole(self, field: &str, min: u32) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number >= min);
        let refuse =
            || invalid_value(format!("{field} must be a whole number of at least {min}, found {value}"));
        number.map(Some).ok_or_else(refuse)
    }

    /// A finite number together with its text.
    pub fn number(self, field: &str) -> Result<Option<(f64, String)>, ApiError> {
        self.get(field).map(|value| finite(field, value)).transpose()
    }

    /// A yes or no.
    pub fn flag(self, field: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value {
            Value::Bool(flag) => Ok(Some(*flag)),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            other => Err(validation(format!("{field} must be true or false, found {other}"))),
        }
    }

    /// A list; absent means empty.
    pub fn list(self, field: &str, max: usize) -> Result<&'a [Value], ApiError> {
        let Some(value) = self.get(field) else { return Ok(&[]) };
        let list =
            value.as_array().ok_or_else(|| validation(format!("{field} must be a list, found {value}")))?;
        if list.len() > max {
            return Err(validation(format!("{field} may hold at most {max} members, found {}", list.len())));
        }
        Ok(list)
    }

    /// A list of texts.
    pub fn texts(self, field: &str, max: usize) -> Result<Vec<String>, ApiError> {
        let as_text = |value: &Value| {
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| validation(format!("{field} must hold strings, found {value}")))
        };
        self.list(field, max)?.iter().map(as_text).collect()
    }

    /// A list of finite numbers.
    pub fn numbers(self, field: &str, max: usize) -> Result<Vec<f64>, ApiError> {
        self.list(field, max)?.iter().map(|value| Ok(finite(field, value)?.0)).collect()
    }

    /// A list of structures.
    pub fn structures(self, field: &str, max: usize) -> Result<Vec<Self>, ApiError> {
        self.list(field, max)?.iter().map(Self::new).collect()
    }

    /// A structure.
    pub fn structure(self, field: &str) -> Result<Option<Self>, ApiError> {
        self.get(field).map(Self::new).transpose()
    }

    /// A list of `Name`/`Value` or `Key`/`Value` pairs as a map.
    pub fn pairs(self, field: &str, key: &str, max: usize) -> Result<BTreeMap<String, String>, ApiError> {
        let mut pairs = BTreeMap::new();
        for pair in self.structures(field, max)? {
            let name = pair.needed_text(key, 255)?;
            let value = pair.text("Value")?.ok_or_else(|| missing("Value"))?;
            if [name, value].iter().any(|text| text.chars().any(char::is_control)) {
                return Err(invalid_value(format!("{field} must not hold control characters")));
            }
            if pairs.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(invalid_value(format!("{field} names {name} twice")));
            }
        }
        Ok(pairs)
    }

    /// A point in time: epoch seconds as a number or as text, or an ISO 8601 text.
    pub fn time(self, field: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let epoch = |seconds: f64| {
            let duration = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
            Timestamp::from_duration(duration).ok()
        };
        let time = match value {
            Value::String(text) => text.parse().ok().or_else(|| epoch(text.parse().ok()?)),
            other => other.as_f64().and_then(epoch),
        };
        time.map(Some).ok_or_else(|| invalid_value(format!("{field} must be a timestamp, found {value}")))
    }
}

/// The value of a parameter that must be there.
pub fn needed<T>(field: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| missing(field))
}

fn missing(field: &str) -> ApiError {
    ApiError::client("MissingParameter", format!("The parameter {field} is required."))
}

fn finite(field: &str, value: &Value) -> Result<(f64, String), ApiError> {
    let (number, text) = match value {
        Value::String(text) => (text.trim().parse().ok(), text.trim().to_owned()),
        other => (other.as_f64(), other.to_string()),
    };
    let number = number.filter(|number: &f64| number.is_finite());
    let refuse = || invalid_value(format!("{field} must be a finite number, found {value}"));
    Ok((number.ok_or_else(refuse)?, text))
}

/// Epoch seconds, as the API's timestamps are written in JSON.
#[expect(clippy::cast_precision_loss, reason = "microseconds since the epoch stay below 2^53 until 2255")]
pub fn epoch_secs(at: Timestamp) -> Value {
    Value::from(at.as_microsecond() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_flags_and_times_may_come_as_text() {
        let input = json!({"Period": "60", "Threshold": "5.50", "On": "true", "A": 1_800_000_000.5,
            "B": "2027-01-15T08:00:00Z", "C": "1800000000", "Null": null});
        let input = Input::new(&input).unwrap();
        assert_eq!(input.whole("Period", 1).unwrap(), Some(60));
        assert_eq!(input.number("Threshold").unwrap(), Some((5.5, "5.50".to_owned())));
        assert_eq!(input.flag("On").unwrap(), Some(true));
        assert_eq!(input.time("A").unwrap().unwrap().as_millisecond(), 1_800_000_000_500);
        assert_eq!(input.time("B").unwrap(), input.time("C").unwrap());
        assert!(!input.has("Null"));
    }

    #[test]
    fn what_is_not_a_number_is_refused_with_its_field() {
        let input = json!({"Period": 1.5, "Value": "NaN", "At": "yesterday"});
        let input = Input::new(&input).unwrap();
        assert_eq!(
            input.whole("Period", 1).unwrap_err().message,
            "Period must be a whole number of at least 1, found 1.5"
        );
        assert_eq!(input.number("Value").unwrap_err().code, "InvalidParameterValue");
        assert_eq!(input.time("At").unwrap_err().code, "InvalidParameterValue");
        assert_eq!(input.needed_text("AlarmName", 255).unwrap_err().code, "MissingParameter");
    }
}
