//! `pointsman check`.

use std::path::{Path, PathBuf};
use std::{fs, process};

use pointsman_core::records::check::{Report, files};

/// A directory of this process that goes away with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pointsman-check-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples")
}

fn example(name: &str) -> String {
    fs::read_to_string(examples().join(name)).unwrap()
}

fn lines(report: &Report) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let yaml = ["managed-service.yaml", "desired-release.yaml", "command.yaml"];
    let report = files(&yaml.map(|name| examples().join(name)));
    assert!(report.is_good() && report.checked.len() == 3, "{report}");
    assert!(report.checked.iter().all(|checked| checked.note.is_none()), "{report}");
    let items = files(&[examples().join("items")]);
    assert!(items.is_good() && items.checked.len() == 2, "{items}");
    // The same request has the same hash as YAML and as a table item.
    assert_eq!(report.checked[1].spec_hash, items.checked[1].spec_hash);
}

#[test]
fn a_finding_names_the_line() {
    let directory = Directory::new("line");
    let text = example("managed-service.yaml").replace("watches: b", "watches: green");
    let line = text.lines().position(|line| line.contains("green")).unwrap() + 1;
    let file = directory.file("service.yaml", &text);
    let report = files(std::slice::from_ref(&file));
    let finding = lines(&report).join("\n");
    let place = format!("{}:{line}:", file.display());
    assert!(finding.starts_with(&place), "{finding}");
    assert!(
        finding.contains("ManagedService search/suggest: Malformed: spec.alarms[1].watches"),
        "{finding}"
    );
}

#[test]
fn everything_that_is_wrong_with_a_document_is_said_at_once() {
    let directory = Directory::new("all");
    let text = example("managed-service.yaml")
        .replace("suggest-b/3333cccc4444dddd", "suggest-a/1111aaaa2222bbbb")
        .replace("weight: 0.5", "weight: 0")
        .replace("defaultStrategy: standard", "defaultStrategy: standart");
    let report = files(&[directory.file("service.yaml", &text)]);
    let fields: Vec<_> = report.findings.iter().map(|f| f.refusal.as_ref().unwrap().field.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.targetGroups.b", "spec.strategies.standard.steps[0].weight", "spec.defaultStrategy"]
    );
}

#[test]
fn a_release_is_judged_by_the_service_of_the_same_run() {
    let directory = Directory::new("cross");
    let release = example("desired-release.yaml").replace("suggest:118", "other:118");
    let both = format!("{release}---\n{}", example("managed-service.yaml"));
    let report = files(&[directory.file("both.yaml", &both)]);
    assert!(lines(&report).join("\n").contains("ForeignTaskDefinition: spec.taskDefinition"), "{report}");
    let alone = files(&[directory.file("alone.yaml", &release)]);
    assert!(alone.is_good(), "{alone}");
    assert!(alone.to_string().contains("not checked against ManagedService search/suggest"), "{alone}");
}

#[test]
fn two_services_cannot_have_the_same_target_group() {
    let directory = Directory::new("claims");
    let text = example("managed-service.yaml");
    directory.file("one.yaml", &text);
    directory.file("deep/two.yml", &text.replace("name: suggest\n", "name: suggest2\n"));
    directory.file("notes.txt", "not looked at");
    let report = files(std::slice::from_ref(&directory.0));
    assert_eq!(report.checked.len(), 2);
    assert!(lines(&report).join("\n").contains("AlreadyClaimed: spec.targetGroups.a"), "{report}");
}

#[test]
fn the_same_record_twice_is_refused() {
    let directory = Directory::new("twice");
    let one = directory.file("one.yaml", &example("desired-release.yaml"));
    let two = directory.file("two.yaml", &example("desired-release.yaml"));
    let report = files(&[one, two]);
    assert!(lines(&report).join("\n").contains("each record once"), "{report}");
}

#[test]
fn what_cannot_be_read_is_said_with_its_place_and_does_not_stop_the_rest() {
    let directory = Directory::new("broken");
    let paths = [
        directory.file("a.yaml", "kind: DesiredRelease\n  spec: [\n"),
        directory.file("b.yaml", "kind: DesiredRelease\nkind: DesiredRelease\n"),
        directory.file("c.json", "{\n\t\"apiVersion\": \"pointsman/v1\",\n\t\"kind\": \"Deployment\"\n}\n"),
        directory.file("d.yaml", "- a list\n"),
        directory.0.join("missing.yaml"),
        examples().join("desired-release.yaml"),
    ];
    let report = files(&paths);
    let said = lines(&report);
    assert_eq!(said.len(), 5, "{report}");
    let names = |name: &str| said.iter().find(|line| line.contains(name)).unwrap();
    assert!(names("a.yaml").contains("a.yaml:2:"), "{report}");
    assert!(names("b.yaml").contains("b.yaml:2:"), "{report}");
    assert!(
        names("c.json").contains("c.json:3:") && names("c.json").contains("ManagedService, DesiredRelease"),
        "{report}"
    );
    assert!(names("d.yaml").contains("not a document"), "{report}");
    names("missing.yaml");
    assert!(report.to_string().contains("DesiredRelease search/suggest is valid"), "{report}");
}

#[test]
fn an_item_under_a_wrong_key_is_refused() {
    let directory = Directory::new("item");
    let text = example("items/desired-release.json").replace("desired#search/suggest", "desired#search/cart");
    let report = files(&[directory.file("item.json", &text)]);
    assert!(
        lines(&report).join("\n").contains(":2:9: DesiredRelease search/suggest: KeyMismatch: pk"),
        "{report}"
    );
    let quoted = example("items/command.json").replace(r#"{"N": "2"}"#, r#"{"S": "2"}"#);
    let report = files(&[directory.file("command.json", &quoted)]);
    assert!(lines(&report).join("\n").contains("type N, not S"), "{report}");
}

#[test]
fn nothing_to_check_is_not_good() {
    let directory = Directory::new("empty");
    let report = files(&[directory.file("empty.yaml", "# nothing\n---\n")]);
    assert!(!report.is_good() && report.findings.is_empty(), "{report}");
    assert!(report.to_string().contains("nothing to check"));
}
