//! One record at a time.

use pointsman::model::plan::Plan;
use pointsman::records::check::{read_command, read_desired, read_service};

use super::support::{command, key, release, service};

#[test]
fn good_records_are_read_and_make_a_plan() {
    let (spec, hash) = read_service(&key(), &service()).unwrap();
    assert!(hash.starts_with("sha256:") && hash.len() == 71);
    let (desired, _) = read_desired(&key(), &release()).unwrap();
    read_command(&command()).unwrap();
    let (plan, revision) = Plan::resolve(&spec, &desired).unwrap();
    assert_eq!(revision.to_string(), "checkout:43");
    assert_eq!(plan.steps.len(), 2);
    assert!(plan.spec.strategies.is_empty());
}
