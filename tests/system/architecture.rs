//! Who may import whom, as `docs/architecture.md` says.

use std::fs;
use std::path::{Path, PathBuf};

/// A module and what of the program it must not name. That the core crate knows nothing of `aws`, `store`, `api`,
/// `cli`, `sandbox` and `demo` is the compiler's to see.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("records", &["model", "decide", "ports", "controller", "world"]),
    ("model", &["decide", "ports", "controller", "world"]),
    ("decide", &["ports", "controller", "world", "clock"]),
    ("lease", &["model", "decide", "ports", "controller", "world"]),
    ("ports", &["decide", "controller", "world"]),
    ("controller", &["world"]),
    ("world", &["records", "model", "decide", "ports", "controller"]),
    ("aws", &["decide", "controller", "store", "world", "sandbox", "api", "cli", "demo"]),
    ("store", &["decide", "controller", "aws", "world", "sandbox", "api", "cli", "demo"]),
    ("api", &["aws", "store", "world", "sandbox", "cli", "demo"]),
    ("sandbox", &["model", "decide", "ports", "controller", "aws", "store", "api", "cli", "demo"]),
];

/// What a pure module must not even mention.
const IMPURE: &[&str] =
    &["tokio::", "std::time::Instant", "SystemTime", "rand::", "async fn", "f32", "f64", "HashMap"];

fn files_of(module: &str) -> Vec<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let of_core = sources.join("core");
    let root = if of_core.join(format!("{module}.rs")).exists() { of_core } else { sources };
    let mut found = vec![root.join(format!("{module}.rs"))];
    let mut folders = vec![root.join(module)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder of the sources can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The lines of shipped code: comments and test modules do not count.
fn code(path: &Path) -> Vec<String> {
    if path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|c| c.as_os_str() == "tests")
    {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    shipped.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

fn mentions(module: &str, words: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for path in files_of(module) {
        for line in code(&path) {
            if words(&line) {
                found.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    found
}

/// Whether a line reaches for a module: by its path, or in a group as in `use crate::{decide, records}`.
fn names(line: &str, module: &str) -> bool {
    let by_path = line.contains(&format!("crate::{module}::")) || line.contains(&format!("crate::{module};"));
    let group = line.split_once("crate::{").map_or("", |(_, group)| group);
    let in_group = group.split([',', '{', '}', ' ', ';']).any(|word| word.split("::").next() == Some(module));
    by_path || in_group
}

#[test]
fn an_import_is_seen_by_path_and_in_a_group() {
    assert!(names("use crate::store::Tables;", "store"));
    assert!(names("use crate::{api, decide, records};", "decide"));
    assert!(names("use crate::{api, store::Tables};", "store"));
    assert!(!names("use crate::{api, decide};", "store"));
}

#[test]
fn modules_import_only_what_the_map_allows() {
    for (module, forbidden) in FORBIDDEN {
        let found = mentions(module, |line| forbidden.iter().any(|name| names(line, name)));
        assert_eq!(found, Vec::<String>::new(), "{module} reaches too far");
    }
}

#[test]
fn the_core_and_the_world_are_pure() {
    for module in ["model", "decide", "lease", "world"] {
        let found = mentions(module, |line| IMPURE.iter().any(|word| line.contains(word)));
        let found: Vec<String> = found
            .into_iter()
            .filter(|line| {
                !line.contains("serialize_f64")
                    && !line.contains("f64::deserialize")
                    && !line.contains("as f64")
            })
            .collect();
        assert_eq!(found, Vec::<String>::new(), "{module} is not pure");
    }
}

#[test]
fn the_map_names_every_module_there_is() {
    let map = include_str!("../../docs/architecture.md");
    let core = include_str!("../../src/core/lib.rs");
    let lib = include_str!("../../src/lib.rs");
    for line in core.lines().chain(lib.lines()) {
        let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) else {
            continue;
        };
        let helper = ["clock", "config", "daemon", "logging", "telemetry"].contains(&name);
        let named = map.contains(&format!("`{name}/`"))
            || map.contains(&format!("`{name}.rs`"))
            || map.contains(&format!("src/{name}.rs"));
        assert!(named || helper, "docs/architecture.md does not say what {name} is for");
    }
}
