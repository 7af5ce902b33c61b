//! Text to documents that remember where each value stood.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A value with its position.
#[derive(Clone, Debug)]
pub(super) struct Node {
    at: Option<(u64, u64)>,
    inner: Inner,
}

#[derive(Clone, Debug)]
enum Inner {
    Leaf(Value),
    List(Vec<Node>),
    Fields(Vec<(String, Node)>),
}

/// One document.
pub(super) struct Document {
    /// As plain JSON.
    pub(super) value: Value,
    /// The same with positions.
    pub(super) node: Node,
    /// It was a table item: it may carry `pk` and `sk`.
    pub(super) item: bool,
}

/// Why a text is no list of documents.
pub(super) struct Unparsable {
    pub(super) at: Option<(u64, u64)>,
    pub(super) message: String,
}

/// The documents of a YAML or JSON text; empty ones are left out.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, Unparsable> {
    // As YAML 1.2 and JSON mean it: `yes` is a text, and so is `0755`.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        with_snippet: false,
    };
    let nodes: Vec<Spanned<Inner>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Unparsable {
            at: error.location().map(|at| (at.line(), at.column())),
            message: error.without_snippet().to_string(),
        })?;
    nodes.into_iter().map(|spanned| document_of(Node::from(spanned))).collect()
}

fn document_of(node: Node) -> Result<Document, Unparsable> {
    let at = node.at;
    let is_item = node.field("pk").is_some_and(|pk| matches!(pk.inner, Inner::Fields(_)));
    let node = if is_item {
        let Inner::Fields(fields) = node.inner else {
            return Err(Unparsable { at, message: "not an item".to_owned() });
        };
        let fields: Result<Vec<_>, Unparsable> =
            fields.into_iter().map(|(name, value)| Ok((name, attribute(value)?))).collect();
        Node { at, inner: Inner::Fields(fields?) }
    } else {
        node
    };
    if !matches!(node.inner, Inner::Fields(_)) {
        let message = "not a document: a map with apiVersion, kind, metadata and spec is expected";
        return Err(Unparsable { at, message: message.to_owned() });
    }
    Ok(Document { value: node.value(), node, item: is_item })
}

/// `{"S": "text"}` and the like, as plain JSON.
fn attribute(node: Node) -> Result<Node, Unparsable> {
    let at = node.at;
    let wrong = |message: &str| Unparsable { at, message: message.to_owned() };
    let expected = "not an attribute of DynamoDB's JSON: {\"S\": …}, N, BOOL, NULL, M or L is expected";
    let Inner::Fields(mut fields) = node.inner else { return Err(wrong(expected)) };
    let (Some((kind, value)), true) = (fields.pop(), fields.is_empty()) else { return Err(wrong(expected)) };
    let inner = match (kind.as_str(), value.inner) {
        ("S", Inner::Leaf(text @ Value::String(_))) => Inner::Leaf(text),
        ("BOOL", Inner::Leaf(bool @ Value::Bool(_))) => Inner::Leaf(bool),
        ("NULL", Inner::Leaf(Value::Bool(true))) => Inner::Leaf(Value::Null),
        ("N", Inner::Leaf(Value::String(text))) => {
            let number = text.parse::<Number>();
            Inner::Leaf(Value::Number(number.map_err(|_| wrong("N holds no number"))?))
        }
        ("M", Inner::Fields(fields)) => {
            let fields = fields.into_iter().map(|(name, value)| Ok((name, attribute(value)?)));
            Inner::Fields(fields.collect::<Result<_, Unparsable>>()?)
        }
        ("L", Inner::List(items)) => {
            Inner::List(items.into_iter().map(attribute).collect::<Result<_, Unparsable>>()?)
        }
        _ => return Err(wrong(expected)),
    };
    Ok(Node { at, inner })
}

impl Node {
    fn field(&self, name: &str) -> Option<&Self> {
        let Inner::Fields(fields) = &self.inner else { return None };
        fields.iter().find(|(field, _)| field == name).map(|(_, node)| node)
    }

    fn value(&self) -> Value {
        match &self.inner {
            Inner::Leaf(value) => value.clone(),
            Inner::List(items) => items.iter().map(Self::value).collect(),
            Inner::Fields(fields) => Value::Object(
                fields.iter().map(|(name, node)| (name.clone(), node.value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// Where the document begins.
    pub(super) fn first_line(&self) -> u64 {
        self.at.map_or(1, |(line, _)| line)
    }

    /// Line and column of a field path such as `spec.routes.production[0].rule`, or of the last part of it
    /// that is there.
    pub(super) fn locate(&self, path: &str) -> Option<(u64, u64)> {
        let below = match &self.inner {
            Inner::Leaf(_) => None,
            Inner::List(items) => path.strip_prefix('[').and_then(|rest| {
                let (index, rest) = rest.split_once(']')?;
                Some((items.get(index.parse::<usize>().ok()?)?, rest))
            }),
            // Keys may hold dots themselves: the longest key that fits is meant.
            Inner::Fields(fields) => fields
                .iter()
                .filter_map(|(name, node)| {
                    let rest = path.trim_start_matches('.').strip_prefix(name.as_str())?;
                    let ends = rest.is_empty() || rest.starts_with(['.', '[']);
                    ends.then_some((name.len(), node, rest))
                })
                .max_by_key(|(length, ..)| *length)
                .map(|(_, node, rest)| (node, rest)),
        };
        below.and_then(|(node, rest)| node.locate(rest)).or(self.at)
    }
}

impl From<Spanned<Inner>> for Node {
    fn from(spanned: Spanned<Inner>) -> Self {
        let at = spanned.referenced;
        let known = at.line() > 0;
        Self { at: known.then(|| (at.line(), at.column())), inner: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Inner;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of JSON")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Inner, E> {
                Ok(Inner::Leaf(Value::Null))
            }
            fn visit_none<E: de::Error>(self) -> Result<Inner, E> {
                Ok(Inner::Leaf(Value::Null))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Inner, D::Error> {
                Inner::deserialize(deserializer)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Inner, E> {
                Ok(Inner::Leaf(value.into()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Inner, E> {
                Ok(Inner::Leaf(value.into()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Inner, E> {
                Ok(Inner::Leaf(value.into()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Inner, E> {
                let number = Number::from_f64(value);
                number.map(|n| Inner::Leaf(Value::Number(n))).ok_or_else(|| E::custom("not a finite number"))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Inner, E> {
                Ok(Inner::Leaf(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Inner, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element::<Spanned<Inner>>()? {
                    items.push(item.into());
                }
                Ok(Inner::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Inner, A::Error> {
                let mut fields: Vec<(String, Node)> = Vec::new();
                while let Some((name, value)) = access.next_entry::<String, Spanned<Inner>>()? {
                    fields.push((name, value.into()));
                }
                Ok(Inner::Fields(fields))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
