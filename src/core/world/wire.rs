//! Helpers for AWS's JSON shapes: timestamps are epoch seconds, and numbers or booleans that came
//! through the query protocol are text.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::ApiError;

/// Serialises an instant as epoch seconds with milliseconds, as the JSON protocols do.
pub(super) mod epoch {
    use super::{Deserialize, Deserializer, Error, Serialize, Serializer, Timestamp};

    #[expect(clippy::cast_precision_loss, reason = "epoch milliseconds are far below 2^53")]
    pub(in super::super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        (at.as_millisecond() as f64 / 1000.0).serialize(to)
    }

    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and the instant is checked")]
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let millis = (f64::deserialize(from)? * 1000.0).round() as i64;
        Timestamp::from_millisecond(millis).map_err(D::Error::custom)
    }
}

/// As [`epoch`], for an instant that may not have come yet.
pub(super) mod epoch_option {
    use super::{Deserializer, Serializer, Timestamp};

    #[expect(clippy::ref_option, reason = "the signature that serde's `with` calls")]
    pub(in super::super) fn serialize<S: Serializer>(
        at: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::epoch::serialize(at, to),
            None => to.serialize_none(),
        }
    }

    /// For a member that is left out when it is `None`.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        super::epoch::deserialize(from).map(Some)
    }
}

/// A map whose keys are no text, as a list of pairs: the keys of a JSON object are text.
pub(super) mod pairs {
    use std::collections::BTreeMap;

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(in super::super) fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}

/// A shared value, written out where it is used; reading makes a copy for each user.
pub(super) mod shared {
    use std::sync::Arc;

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(to)
    }

    pub(in super::super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PlainOrText<T> {
    Plain(T),
    Text(String),
}

/// A number or boolean that may have arrived as text; absent or null is `None`.
pub(super) fn lenient<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + FromStr,
    T::Err: Display,
{
    match Option::<PlainOrText<T>>::deserialize(from)? {
        None => Ok(None),
        Some(PlainOrText::Plain(value)) => Ok(Some(value)),
        Some(PlainOrText::Text(text)) => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(problem) => Err(D::Error::custom(format!("'{text}': {problem}"))),
        },
    }
}

/// Reads one request; `code` is what the service answers to a malformed one.
pub(super) fn request<T: DeserializeOwned>(input: Value, code: &str) -> Result<T, ApiError> {
    let input = if input.is_null() { Value::Object(serde_json::Map::new()) } else { input };
    serde_json::from_value(input).map_err(|problem| ApiError::client(code, problem.to_string()))
}

/// Makes one response.
pub(super) fn response<T: Serialize>(output: &T) -> Result<Value, ApiError> {
    serde_json::to_value(output).map_err(|problem| unwritable(&problem))
}

/// Writes one response.
pub(super) fn text<T: Serialize>(output: &T) -> Result<String, ApiError> {
    serde_json::to_string(output).map_err(|problem| unwritable(&problem))
}

fn unwritable(problem: &serde_json::Error) -> ApiError {
    ApiError { code: "InternalFailure".to_owned(), message: problem.to_string(), status: 500 }
}

/// One page of a list and the token of the next one. The token is the index of the next item: AWS's
/// are opaque too, and both sides of this one are ours.
pub(super) fn page<T>(
    items: Vec<T>,
    token: Option<&str>,
    size: usize,
) -> Result<(Vec<T>, Option<String>), &'static str> {
    let start = match token {
        None | Some("") => 0,
        Some(token) => token.parse::<usize>().map_err(|_| "the pagination token is invalid")?,
    };
    let more = items.len() > start.saturating_add(size);
    let page = items.into_iter().skip(start).take(size).collect();
    Ok((page, more.then(|| (start + size).to_string())))
}
