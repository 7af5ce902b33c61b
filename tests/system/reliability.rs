//! What `docs/reliability.md` says is shown must be there to show it.

use std::fs;
use std::path::{Path, PathBuf};

fn tree() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Everything under a folder that is Rust or Python, as one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "py") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// Names of checks: words in backticks that are joined by at least two underscores.
fn names(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.matches('_').count() >= 2 && !name.contains([' ', '/', '.'])).collect()
}

#[test]
fn every_check_that_the_reliability_page_names_exists() {
    let page = fs::read_to_string(tree().join("docs/reliability.md")).unwrap();
    let mut text = String::new();
    for folder in ["src", "tests"] {
        sources(&tree().join(folder), &mut text);
    }
    let named = names(&page);
    assert!(named.len() > 40, "the page names hardly any check: {named:?}");
    let missing: Vec<_> = named
        .into_iter()
        .filter(|name| !text.contains(&format!("fn {name}(")) && !text.contains(&format!("def {name}(")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn every_property_of_the_plan_has_its_row() {
    let page = fs::read_to_string(tree().join("docs/reliability.md")).unwrap();
    for property in (1..=30).map(|n| format!("S{n}")).chain((1..=10).map(|n| format!("L{n}"))) {
        assert_eq!(page.matches(&format!("\n| {property} |")).count(), 1, "{property}");
    }
}
