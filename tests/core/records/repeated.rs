//! What a refusal repeats of what it refuses: a slip of the pen, and never what may be a secret.

use pointsman_core::records::check::{Refusal, files, read_command, read_desired, read_service};
use serde_json::{Value, json};

use super::fuzz::places;
use super::support::{command, key, refused_release, refused_service, release, service, with};

/// Texts that are no slip, with what a careless cut of an error's words would let through.
const SECRETS: [&str; 6] = [
    "hunter2!",
    "hunter2 and more words",
    "hunter2wJalrXUtnFEMIsK7MDENGsbPxRfiCYEXAMPLEKEY",
    "x\" is not hunter2, x is not hunter2",
    "x`, expected hunter2, expected `hunter2",
    "arn:hunter2:with:six:parts:and a space",
];

/// Every refusal of the three records in which the value at one place is `spoilt`.
fn refusals(spoilt: &Value) -> Vec<(String, Refusal)> {
    let (of_service, of_release, of_command) = (service(), release(), command());
    let mut found = Vec::new();
    let mut each = |document: &Value, read: &dyn Fn(&Value) -> Option<Refusal>| {
        let mut pointers = Vec::new();
        places(document, "", &mut pointers);
        for pointer in pointers.into_iter().filter(|pointer| !pointer.is_empty()) {
            let refusal = read(&with(document.clone(), &pointer, spoilt.clone()));
            found.extend(refusal.map(|refusal| (pointer, refusal)));
        }
    };
    each(&of_service, &|item| read_service(&key(), item).err().map(|(refusal, _)| refusal));
    each(&of_release, &|item| read_desired(&key(), item).err().map(|(refusal, _)| refusal));
    each(&of_command, &|item| read_command(item).err());
    found
}

#[test]
fn no_field_repeats_a_value_that_may_be_a_secret() {
    for secret in SECRETS {
        let wraps =
            [json!(secret), json!([secret]), json!({"password": secret}), json!([{"value": secret}, 1])];
        for (wrap, least) in wraps.into_iter().zip([80, 110, 110, 110]) {
            let refused = refusals(&wrap);
            assert!(refused.len() > least, "only {} places refuse {wrap}", refused.len());
            for (pointer, refusal) in refused {
                assert!(!refusal.to_string().contains("hunter2"), "{pointer} = {wrap}: {refusal}");
            }
        }
    }
}

#[test]
fn a_file_that_is_checked_is_named_without_what_may_be_a_secret() {
    let path = std::env::temp_dir().join(format!("pointsman-repeated-{}.json", std::process::id()));
    for secret in SECRETS {
        for (document, pointers) in [
            (service(), ["/kind", "/metadata/name", "/metadata/namespace"]),
            (command(), ["/kind", "/spec/verb", "/spec/release"]),
        ] {
            for pointer in pointers {
                let document = with(document.clone(), pointer, json!(secret));
                std::fs::write(&path, document.to_string()).unwrap();
                let report = files(std::slice::from_ref(&path));
                assert!(!report.is_good() && !report.to_string().contains("hunter2"), "{pointer}: {report}");
            }
        }
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_slip_in_a_field_for_words_numbers_and_times_is_repeated() {
    for (pointer, value, said) in [
        ("/spec/drift/idle", json!("revrt"), "\"revrt\""),
        ("/spec/alarms/0/watches", json!("green"), "\"green\""),
        ("/spec/alarms/0/watches", json!(2), "2"),
        ("/spec/container/port", json!("8080"), "\"8080\""),
        ("/spec/container/port", json!(70_000), "70000"),
        ("/spec/container/port", json!(80.5), "80.5"),
        ("/spec/suspend", json!("true"), "\"true\""),
        ("/spec/bake", json!(900), "900"),
        ("/spec/bake", json!("15min"), "\"15min\""),
        ("/spec/bake", json!("15 m"), "a text of 4 characters"),
        ("/spec/strategies/fast/canary/weight", json!("10%"), "\"10%\""),
        ("/spec/strategies/fast/canary/weight", json!(0.55), "0.55"),
        ("/spec/strategies/careful/steps/0/scale", json!("folow"), "\"folow\""),
        ("/spec/defaultStrategy", json!("canry"), "\"canry\""),
        ("/metadata/name", json!("Checkout"), "\"Checkout\""),
    ] {
        let refusal = refused_service(&with(service(), pointer, value));
        assert_eq!(refusal.value, said, "{pointer}: {refusal}");
    }
    for (text, said) in [
        ("checkout:latest", "\"checkout:latest\""),
        ("task-definition/checkout:1", "\"task-definition/checkout:1\""),
        ("", "an empty text"),
    ] {
        assert_eq!(refused_release(&with(release(), "/spec/taskDefinition", json!(text))).value, said);
    }
}

#[test]
fn of_what_has_the_wrong_type_the_type_is_said() {
    for (pointer, value, said) in [
        ("/spec/requestId", json!(4711), "a number"),
        ("/spec/requestId", json!(true), "true"),
        ("/spec/requestId", json!(["a", "b"]), "a list of 2 items"),
        ("/spec/requestId", json!({"a": "b"}), "a map of 1 field"),
        ("/spec/requestId", json!("x".repeat(65)), "a text of 65 characters"),
        ("/metadata/annotations/commit", json!(4711), "a number"),
        ("/metadata", json!("checkout"), "a text of 8 characters"),
        ("/metadata", json!([]), "an empty list"),
        ("/metadata", json!(null), "null"),
        ("/spec", json!({}), "missing"),
    ] {
        let refusal = refused_release(&with(release(), pointer, value));
        assert_eq!(refusal.value, said, "{pointer}: {refusal}");
    }
    let refusal = refused_service(&with(service(), "/spec/ecs/cluster", json!("prod")));
    assert_eq!(refusal.value, "a text of 4 characters", "{refusal}");
}
