//! Documents that nobody would write: valid ones, changed at random. Reading them never panics, a refusal names its
//! field in words of bounded length, and what is accepted keeps the bounds.

use std::cell::Cell;

use pointsman_core::model::plan::Plan;
use pointsman_core::records::check::{
    LONGEST_TEXT, MAX_ALARMS, MAX_ROUTES, MAX_STEPS, Refusal, files, read_command, read_desired, read_service,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use super::support::{command, key, release, service};

/// Documents in the ordinary run; `POINTSMAN_DOCUMENTS` raises it.
const DOCUMENTS: u32 = 1_500;
/// A refusal is read by a person; its longest part is a value of 160 characters, repeated at most.
const LONGEST_REFUSAL: usize = 4 * LONGEST_TEXT;

fn runner(divisor: u32) -> TestRunner {
    let cases = std::env::var("POINTSMAN_DOCUMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(DOCUMENTS);
    let config = Config { cases: cases / divisor, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// One change of a document, at a place that a number chooses.
#[derive(Clone, Debug)]
enum Change {
    Replace(usize, Value),
    Remove(usize),
    Unknown(usize, String, Value),
    Nest(usize, usize),
    Repeat(usize, usize),
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "\\PC{0,20}",
        1 => any::<String>(),
        1 => Just("\0".to_owned()),
        1 => Just("\u{1b}[2J\u{202e}<script>".to_owned()),
        1 => (1..5_000_usize).prop_map(|long| "ä".repeat(long)),
        1 => Just("arn:aws:ecs:eu-central-1:111122223333:service/prod/checkout/../../x".to_owned()),
        1 => Just("99999999999999999999h".to_owned()),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        texts().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(texts(), inner, 0..4)
                .prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = 0..10_000_usize;
    let change = prop_oneof![
        4 => (place.clone(), values()).prop_map(|(at, value)| Change::Replace(at, value)),
        2 => place.clone().prop_map(Change::Remove),
        2 => (place.clone(), texts(), values()).prop_map(|(at, name, value)| Change::Unknown(at, name, value)),
        1 => (place.clone(), 1..120_usize).prop_map(|(at, deep)| Change::Nest(at, deep)),
        1 => (place, 2..200_usize).prop_map(|(at, times)| Change::Repeat(at, times)),
    ];
    proptest::collection::vec(change, 1..4)
}

/// Every place of a document, as JSON pointers.
pub(super) fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(field, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn apply(document: &mut Value, change: &Change) {
    let mut found = Vec::new();
    places(document, "", &mut found);
    let place = |at: &usize| found[at % found.len()].clone();
    match change {
        Change::Replace(at, value) => {
            if let Some(there) = document.pointer_mut(&place(at)) {
                *there = value.clone();
            }
        }
        Change::Remove(at) => {
            let path = place(at);
            let Some((parent, name)) = path.rsplit_once('/') else { return };
            if let Some(Value::Object(fields)) = document.pointer_mut(parent) {
                fields.remove(name);
            }
        }
        Change::Unknown(at, name, value) => {
            if let Some(Value::Object(fields)) = document.pointer_mut(&place(at)) {
                fields.insert(name.clone(), value.clone());
            }
        }
        Change::Nest(at, deep) => {
            if let Some(there) = document.pointer_mut(&place(at)) {
                for level in 0..*deep {
                    let inner = there.take();
                    *there = if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) };
                }
            }
        }
        Change::Repeat(at, times) => {
            if let Some(Value::Array(items)) = document.pointer_mut(&place(at))
                && let Some(first) = items.first().cloned()
            {
                items.extend(std::iter::repeat_n(first, *times));
            }
        }
    }
}

fn is_said_well(refusal: &Refusal) -> Result<(), TestCaseError> {
    prop_assert!(!refusal.field.is_empty(), "no field: {refusal}");
    prop_assert!(!refusal.allowed.is_empty() && !refusal.fix.is_empty(), "no way out: {refusal}");
    let raw = refusal.field.chars().chain(refusal.value.chars()).any(char::is_control);
    prop_assert!(!raw, "control characters are repeated: {refusal:?}");
    let long = refusal.to_string().chars().count();
    prop_assert!(long <= LONGEST_REFUSAL, "{long} characters: {refusal}");
    Ok(())
}

#[test]
fn a_changed_document_is_read_or_refused_by_field_and_never_panics() {
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let result = runner(1).run(&changes(), |changes| {
        let (mut of_service, mut of_release, mut of_command) = (service(), release(), command());
        for change in &changes {
            apply(&mut of_service, change);
            apply(&mut of_release, change);
            apply(&mut of_command, change);
        }
        let service = read_service(&key(), &of_service);
        let release = read_desired(&key(), &of_release);
        if let Ok((spec, _)) = &service {
            prop_assert!(spec.routes.production.len() <= MAX_ROUTES && spec.alarms.len() <= MAX_ALARMS);
        }
        if let (Ok((service, _)), Ok((release, _))) = (&service, &release) {
            match Plan::resolve(service, release) {
                Ok((plan, _)) => prop_assert!(plan.steps.len() <= 1000 && !plan.steps.is_empty()),
                Err(refusal) => is_said_well(&refusal)?,
            }
        }
        let all = [
            service.map(drop).map_err(|(refusal, _)| refusal),
            release.map(drop).map_err(|(refusal, _)| refusal),
            read_command(&of_command).map(drop),
        ];
        for read in all {
            match read {
                Ok(()) => accepted.set(accepted.get() + 1),
                Err(refusal) => {
                    refused.set(refused.get() + 1);
                    is_said_well(&refusal)?;
                }
            }
        }
        Ok(())
    });
    println!("{} documents accepted, {} refused", accepted.get(), refused.get());
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(accepted.get() > 0 && refused.get() > 0 && MAX_STEPS > 0);
}

/// Text that is no document any more: cut, spliced, keys twice, characters that no editor shows.
#[test]
fn a_spoilt_file_is_judged_without_a_panic() {
    let path = std::env::temp_dir().join(format!("pointsman-fuzz-{}.yaml", std::process::id()));
    let yaml = include_str!("../../../docs/examples/managed-service.yaml");
    let json = serde_json::to_string_pretty(&release()).unwrap();
    let splice = (any::<bool>(), 0..4_000_usize, 0..400_usize, texts());
    let result = runner(5).run(&splice, |(of_yaml, at, length, text)| {
        let whole: Vec<char> = if of_yaml { yaml.chars().collect() } else { json.chars().collect() };
        let at = at % whole.len();
        let end = (at + length).min(whole.len());
        let spoilt: String =
            whole[..at].iter().chain(text.chars().collect::<Vec<_>>().iter()).chain(&whole[end..]).collect();
        std::fs::write(&path, &spoilt).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let report = files(std::slice::from_ref(&path));
        prop_assert!(report.is_good() == report.findings.is_empty());
        for finding in &report.findings {
            if let Some(refusal) = &finding.refusal {
                is_said_well(refusal)?;
            }
        }
        Ok(())
    });
    let _gone = std::fs::remove_file(&path);
    if let Err(error) = result {
        panic!("{error}");
    }
}
