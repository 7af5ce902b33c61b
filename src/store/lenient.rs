//! Reads what a newer daemon may have written: fields it has added are passed over, at every depth.
//!
//! Pinned plans are made of types that refuse unknown fields, which is right for what people write and
//! wrong for what a newer daemon remembers (`semantics` 1.9). A value it has invented (a new enum variant)
//! can't be passed over; a daemon that writes one raises `minReader`.

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// Where a document cannot be read, and why.
pub(super) type Unreadable = serde_path_to_error::Error<Error>;

/// Reads `T`, passing over unknown fields even where `T` is declared to refuse them.
pub(super) fn from_json<T: DeserializeOwned>(value: Value) -> Result<T, Unreadable> {
    serde_path_to_error::deserialize(Lenient(value))
}

struct Lenient(Value);

type Fields<'de> = MapDeserializer<'de, std::vec::IntoIter<(String, Lenient)>, Error>;

fn fields<'de>(map: Map<String, Value>) -> Fields<'de> {
    let entries: Vec<_> = map.into_iter().map(|(name, value)| (name, Lenient(value))).collect();
    MapDeserializer::new(entries.into_iter())
}

impl IntoDeserializer<'_, Error> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Lenient))),
            Value::Object(map) => visitor.visit_map(fields(map)),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(mut map) => {
                map.retain(|name, _| known.contains(&name.as_str()));
                visitor.visit_map(fields(map))
            }
            other => Self(other).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_enum(MapAccessDeserializer::new(fields(map))),
            plain => plain.deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::records::strategy::{Pause, Step};
    use crate::records::{Percent, Span};

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        steps: Vec<Step>,
        inner: Option<Box<Strict>>,
    }

    #[test]
    fn fields_of_a_newer_daemon_are_passed_over_at_every_depth() {
        let newer = json!({
            "steps": [
                {"shift": {"weight": 0.5, "scale": 100, "bake": "5m", "ramp": "1m"}},
                {"pause": {"timeout": "1h", "onTimeout": "continue", "askWhom": ["a"]}}
            ],
            "inner": {"steps": [], "inner": null, "colour": {"deep": [1, 2]}},
            "colour": "blue"
        });
        assert!(serde_json::from_value::<Strict>(newer.clone()).is_err(), "the type itself is strict");
        let read: Strict = from_json(newer).unwrap();
        let Step::Shift { weight, bake, .. } = read.steps[0] else { panic!("{read:?}") };
        assert_eq!((weight, bake), (Percent::from_tenths(5).unwrap(), Span::from_mins(5)));
        assert!(
            matches!(read.steps[1], Step::Pause(Pause { timeout, .. }) if timeout == Span::from_mins(60))
        );
        assert!(read.inner.is_some());
    }

    #[test]
    fn a_value_of_the_wrong_type_is_still_an_error() {
        assert!(from_json::<Strict>(json!({"steps": [{"leap": {}}], "inner": null})).is_err());
        assert!(from_json::<Strict>(json!({"steps": 7, "inner": null})).is_err());
    }
}
