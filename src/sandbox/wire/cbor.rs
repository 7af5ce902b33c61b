//! The rpc-v2-cbor protocol's bodies: CBOR to JSON values and back.

use ciborium::Value as Cbor;
use data_encoding::BASE64;
use serde_json::{Map, Number, Value};

use super::names::{self, Kind};

/// CBOR tag of "seconds since the epoch".
const EPOCH_TAG: u64 = 1;

/// Why a body is no rpc-v2-cbor request.
#[derive(Debug, thiserror::Error)]
pub(super) enum CborError {
    #[error("the body is not CBOR")]
    Unreadable(#[source] ciborium::de::Error<std::io::Error>),
    #[error("the body is CBOR but not what the protocol allows: {0}")]
    Unexpected(&'static str),
}

/// Reads a body; an empty one is an empty structure.
pub(super) fn read(body: &[u8]) -> Result<Value, CborError> {
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let value: Cbor = ciborium::from_reader(body).map_err(CborError::Unreadable)?;
    json(value)
}

fn json(value: Cbor) -> Result<Value, CborError> {
    Ok(match value {
        Cbor::Integer(number) => match i64::try_from(number) {
            Ok(number) => number.into(),
            Err(_) => u64::try_from(number)
                .map_err(|_| CborError::Unexpected("an integer of more than 64 bits"))?
                .into(),
        },
        // Not-a-number and the infinities have no place in JSON; AWS refuses them as values too.
        Cbor::Float(number) => Number::from_f64(number)
            .map(Value::Number)
            .ok_or(CborError::Unexpected("a number that is not finite"))?,
        Cbor::Bytes(bytes) => Value::String(BASE64.encode(&bytes)),
        Cbor::Text(text) => Value::String(text),
        Cbor::Bool(truth) => Value::Bool(truth),
        Cbor::Null => Value::Null,
        Cbor::Tag(EPOCH_TAG, seconds) => json(*seconds)?,
        Cbor::Tag(_, _) => return Err(CborError::Unexpected("an unknown tag")),
        Cbor::Array(items) => items.into_iter().map(json).collect::<Result<_, _>>()?,
        Cbor::Map(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, value)| match key {
                    Cbor::Text(key) => Ok((key, json(value)?)),
                    _ => Err(CborError::Unexpected("a key that is not text")),
                })
                .collect::<Result<_, _>>()?,
        ),
        _ => return Err(CborError::Unexpected("an unknown kind of value")),
    })
}

/// Writes an answer.
pub(super) fn write(answer: &Value) -> Vec<u8> {
    let mut body = Vec::with_capacity(256);
    ciborium::into_writer(&cbor("", answer), &mut body).expect("a Vec accepts every byte");
    body
}

fn cbor(member: &str, value: &Value) -> Cbor {
    match value {
        Value::Null => Cbor::Null,
        Value::Bool(truth) => Cbor::Bool(*truth),
        Value::Number(number) => scalar(names::kind("", member), number),
        Value::String(text) => Cbor::Text(text.clone()),
        Value::Array(items) => Cbor::Array(items.iter().map(|item| cbor(member, item)).collect()),
        Value::Object(object) => Cbor::Map(
            object
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (Cbor::Text(key.clone()), cbor(key, value)))
                .collect(),
        ),
    }
}

/// The Rust SDK reads a float only where a float is written, and an integer only where an integer is.
fn scalar(kind: Kind, number: &Number) -> Cbor {
    match (kind, number.as_i64()) {
        (Kind::Instant, _) => {
            Cbor::Tag(EPOCH_TAG, Box::new(Cbor::Float(number.as_f64().unwrap_or_default())))
        }
        (Kind::Whole, Some(whole)) => Cbor::Integer(whole.into()),
        #[expect(clippy::cast_possible_truncation, reason = "members that hold integers are far below 2^53")]
        (Kind::Whole, None) => Cbor::Integer((number.as_f64().unwrap_or_default() as i64).into()),
        _ => Cbor::Float(number.as_f64().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn integers_floats_and_instants_are_written_by_the_name_of_their_member() {
        let answer =
            json!({"Period": 60.0, "Threshold": 5, "Timestamps": [10], "Values": [1], "Skipped": null});
        let read: Cbor = ciborium::from_reader(write(&answer).as_slice()).unwrap();
        let text = |text: &str| Cbor::Text(text.to_owned());
        let expected = Cbor::Map(vec![
            (text("Period"), Cbor::Integer(60.into())),
            (text("Threshold"), Cbor::Float(5.0)),
            (text("Timestamps"), Cbor::Array(vec![Cbor::Tag(1, Box::new(Cbor::Float(10.0)))])),
            (text("Values"), Cbor::Array(vec![Cbor::Float(1.0)])),
        ]);
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_written_reads_back_with_plain_numbers_for_instants() {
        let answer =
            json!({"MetricAlarms": [{"AlarmName": "a", "StateUpdatedTimestamp": 1.5, "Period": 60}]});
        assert_eq!(read(&write(&answer)).unwrap(), answer);
    }

    #[test]
    fn a_body_that_is_no_cbor_is_refused_and_an_empty_one_is_an_empty_structure() {
        assert!(matches!(read(&[0xff]), Err(CborError::Unreadable(_))));
        assert_eq!(read(&[]).unwrap(), json!({}));
    }
}
