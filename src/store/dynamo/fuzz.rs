//! Items that nobody would write: attributes of every type, nested, huge, missing. Reading them never panics, what
//! cannot be read is refused by the name of its field, and what was written is read back.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use proptest::prelude::*;

use super::write::tests::{Longest, full, item_of};
use super::{Item, READER, command, listed, remembered};
use crate::model::Facts;
use crate::ports::StoreError;
use crate::records::ServiceKey;
use crate::records::check::{read_desired, read_service};
use crate::store::convert::{n, s, to_document};
use crate::store::tables::RecordKind;

/// Items nest at most 32 levels (`DynamoDB` quotas); no table hands out more.
const DEEPEST: usize = 32;

fn service() -> ServiceKey {
    "payments/checkout".parse().unwrap()
}

fn numbers() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        // 38 digits and exponents from -130 to 125: what a number may be; and what none may.
        Just("99999999999999999999999999999999999999".to_owned()),
        Just("-9.9999999999999999999999999999999999999E+125".to_owned()),
        Just("1E-130".to_owned()),
        Just("1e999".to_owned()),
        Just("NaN".to_owned()),
        Just(String::new()),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,20}",
        any::<String>(),
        Just("\0\u{202e}".to_owned()),
        (1..3_000_usize).prop_map(|long| "ä".repeat(long)),
    ]
}

fn attributes() -> impl Strategy<Value = AttributeValue> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..8).prop_map(Blob::new);
    let leaf = prop_oneof![
        texts().prop_map(AttributeValue::S),
        numbers().prop_map(AttributeValue::N),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<bool>().prop_map(AttributeValue::Null),
        bytes().prop_map(AttributeValue::B),
        proptest::collection::vec(bytes(), 0..3).prop_map(AttributeValue::Bs),
        proptest::collection::vec(texts(), 0..3).prop_map(AttributeValue::Ss),
        proptest::collection::vec(numbers(), 0..3).prop_map(AttributeValue::Ns),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(AttributeValue::L),
            proptest::collection::hash_map("[a-zA-Z]{0,8}", inner.clone(), 0..4).prop_map(AttributeValue::M),
            (inner, 1..DEEPEST).prop_map(|(value, deep)| nested(value, deep)),
        ]
    })
}

fn nested(value: AttributeValue, deep: usize) -> AttributeValue {
    (0..deep).fold(value, |inner, level| {
        if level % 2 == 0 {
            AttributeValue::L(vec![inner])
        } else {
            AttributeValue::M([("in".to_owned(), inner)].into())
        }
    })
}

/// Every place in an attribute, as the names on the way to it.
fn places(value: &AttributeValue, way: &[String], found: &mut Vec<Vec<String>>) {
    let mut step = |name: String, inner: &AttributeValue| {
        let mut way = way.to_vec();
        way.push(name);
        places(inner, &way, found);
        found.push(way);
    };
    match value {
        AttributeValue::M(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort_unstable();
            for name in names {
                step(name.clone(), &map[name]);
            }
        }
        AttributeValue::L(items) => {
            items.iter().enumerate().for_each(|(index, item)| step(index.to_string(), item));
        }
        _ => {}
    }
}

fn place<'a>(value: &'a mut AttributeValue, way: &[String]) -> &'a mut AttributeValue {
    let Some((name, rest)) = way.split_first() else { return value };
    match value {
        AttributeValue::M(map) => place(map.get_mut(name).unwrap(), rest),
        AttributeValue::L(items) => place(&mut items[name.parse::<usize>().unwrap()], rest),
        other => panic!("nothing in {other:?}"),
    }
}

fn facts() -> Facts {
    full(&Longest { alarms: 2, alarm_name: 20 })
}

fn refused(item: &Item) -> Option<String> {
    match remembered(&service(), item) {
        Ok(_) => None,
        Err(StoreError::Damaged { pk, detail }) => {
            assert_eq!(pk, "state#payments/checkout");
            Some(detail)
        }
        Err(StoreError::TooNew { min_reader, .. }) => {
            assert!(min_reader > READER);
            Some("minReader is newer".to_owned())
        }
        Err(other) => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_item_at_all_is_read_or_refused_by_a_field_that_a_state_has(
        item in proptest::collection::hash_map("minReader|rev|facts|status|pk|sk|[a-z]{1,6}", attributes(), 0..8),
        reader in prop_oneof![Just(None), (0..3_u64).prop_map(Some)],
    ) {
        let mut item = item;
        if let Some(reader) = reader {
            item.insert("minReader".to_owned(), n(reader));
        }
        if let Some(detail) = refused(&item) {
            let named = ["minReader", "rev", "facts"].into_iter().any(|field| detail.starts_with(field));
            prop_assert!(named, "{}", detail);
        }
        let _ = command(&item);
        for kind in RecordKind::ALL {
            let _ = listed(&item, kind.as_str());
        }
        let document = to_document(&item);
        let _ = (read_service(&service(), &document), read_desired(&service(), &document));
    }

    #[test]
    fn a_state_item_with_one_wrong_attribute_is_refused_by_the_name_of_its_fact(
        chosen in any::<prop::sample::Index>(),
        value in attributes(),
        gone in any::<bool>(),
    ) {
        let mut item = item_of(&service(), &facts(), 3);
        let mut ways = Vec::new();
        places(&item["facts"], &[], &mut ways);
        let way = &ways[chosen.index(ways.len())];
        let (last, before) = way.split_last().unwrap();
        match place(item.get_mut("facts").unwrap(), before) {
            AttributeValue::M(map) if gone => drop(map.remove(last)),
            parent => *place(parent, std::slice::from_ref(last)) = value,
        }
        if let Some(detail) = refused(&item) {
            prop_assert!(detail.starts_with(&format!("facts: {}", way[0])), "{:?}: {}", way, detail);
            prop_assert!(detail.len() < 20_000, "{} bytes", detail.len());
        }
    }

    #[test]
    fn a_state_item_of_any_facts_is_read_back(
        kept in proptest::collection::vec(any::<bool>(), 40),
        rev in 0..u64::MAX,
        generation in any::<u64>(),
    ) {
        // Each fact as full as can be, or as it begins.
        let (full, empty) = (serde_json::to_value(facts()).unwrap(), serde_json::to_value(Facts::default()).unwrap());
        let mut some = empty;
        for ((name, value), kept) in full.as_object().unwrap().iter().zip(kept) {
            if kept {
                some[name] = value.clone();
            }
        }
        some["generation"] = generation.into();
        let facts: Facts = serde_json::from_value(some).unwrap();
        let read = remembered(&service(), &item_of(&service(), &facts, rev)).unwrap();
        prop_assert_eq!(read.facts, facts);
        prop_assert_eq!(read.rev, rev + 1);
    }
}

#[test]
fn an_item_as_deep_as_a_table_can_hold_is_read_or_refused_like_any_other() {
    let with = |facts| {
        Item::from([("minReader".to_owned(), n(1)), ("rev".to_owned(), n(1)), ("facts".to_owned(), facts)])
    };
    // The outermost is a map with a fact that nobody knows, then a list.
    assert_eq!(refused(&with(nested(s("x"), DEEPEST))), None);
    assert!(refused(&with(nested(s("x"), DEEPEST - 1))).unwrap().starts_with("facts"));
}
