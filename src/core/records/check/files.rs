//! `pointsman check`: judges files offline, together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::Serialize;
use serde_json::Value;

use super::{Findings, Refusal, RefusalCode, bounds, document, hash, release, said, service};
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::names::{Label, ServiceKey};
use crate::records::strategy;
use crate::records::{Command, DesiredRelease, DesiredReleaseSpec, ManagedService, ReleaseStatus};

mod source;

use source::{Document, Node};

/// Files of one run, and how deep directories are followed.
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 16;
/// Bytes of one file. A table item holds 400 KB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Every document that was found, in the order of the files.
    pub checked: Vec<Checked>,
    /// Everything that is wrong, in the same order.
    pub findings: Vec<Finding>,
}

/// A document that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line of the document's first field, from 1.
    pub line: u64,
    /// Kind and name, such as `ManagedService payments/checkout`.
    pub what: String,
    /// The hash that status repeats as `specHash`.
    pub spec_hash: String,
    /// What could not be checked, and why.
    pub note: Option<String>,
    /// The document itself, without a table's attributes.
    #[serde(skip)]
    pub document: Value,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line from 1, where it is known.
    pub line: Option<u64>,
    /// Column from 1, where it is known.
    pub column: Option<u64>,
    /// Kind and name of the document, once it could be told.
    pub what: Option<String>,
    /// The refusal; none when the file could not be read or parsed at all.
    pub refusal: Option<Refusal>,
    /// The same for people.
    pub message: String,
}

impl Report {
    /// Nothing is wrong, and there was something to check.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty() && !self.checked.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for checked in &self.checked {
            let file = checked.file.display();
            let wrong = |finding: &&Finding| {
                finding.file == checked.file && finding.what.as_deref() == Some(checked.what.as_str())
            };
            if self.findings.iter().find(wrong).is_some() {
                continue;
            }
            writeln!(f, "{file}:{}: {} is valid ({})", checked.line, checked.what, checked.spec_hash)?;
            if let Some(note) = &checked.note {
                writeln!(f, "    {note}")?;
            }
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.checked.is_empty() && self.findings.is_empty() {
            writeln!(f, "nothing to check: no .yaml, .yml or .json file with a document in it")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(column) = self.column {
            write!(f, "{column}:")?;
        }
        if let Some(what) = &self.what {
            write!(f, " {what}:")?;
        }
        if let Some(refusal) = &self.refusal {
            write!(f, " {:?}:", refusal.code)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Judges every document of `paths`, each by itself and all together: a `DesiredRelease` by the
/// `ManagedService` of the same name, services by what they share. Nothing is asked of AWS.
///
/// A path is a file, a directory (its `.yaml`, `.yml` and `.json` files, at any depth) or `-` for standard
/// input. A file holds YAML documents, a JSON document, or an item in DynamoDB's JSON.
pub fn files(paths: &[PathBuf]) -> Report {
    let mut run = Run::default();
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            found.push(path.clone());
        } else if let Err(error) = collect(path, MAX_DEPTH, &mut found) {
            run.unreadable(path, None, error.to_string());
        }
    }
    for path in &found {
        match read(path) {
            Ok(text) => run.text(path, &text),
            Err(error) => run.unreadable(path, None, error.to_string()),
        }
    }
    run.together();
    run.report
}

fn collect(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        let ending = entry.extension().and_then(|ending| ending.to_str());
        let wanted = matches!(ending, Some("yaml" | "yml" | "json"));
        if found.len() >= MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} files")));
        }
        // Linked directories are not followed: they can lead in circles.
        if fs::symlink_metadata(&entry)?.is_dir() {
            let depth = depth
                .checked_sub(1)
                .ok_or_else(|| io::Error::other(format!("more than {MAX_DEPTH} directories deep")))?;
            collect(&entry, depth, found)?;
        } else if wanted {
            found.push(entry);
        }
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let input: Box<dyn io::Read> =
        if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(fs::File::open(path)?) };
    let mut text = String::new();
    let read = input.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// Where a document stands.
#[derive(Clone)]
struct Place {
    file: PathBuf,
    what: String,
    node: Node,
}

/// A run under way.
#[derive(Default)]
struct Run {
    report: Report,
    services: BTreeMap<ServiceKey, (Place, ManagedServiceSpec)>,
    releases: Vec<(ServiceKey, Place, DesiredReleaseSpec, usize)>,
    seen: BTreeMap<String, PathBuf>,
}

impl Run {
    fn unreadable(&mut self, file: &Path, at: Option<(u64, u64)>, message: String) {
        self.report.findings.push(Finding {
            file: file.to_owned(),
            line: at.map(|(line, _)| line),
            column: at.map(|(_, column)| column),
            what: None,
            refusal: None,
            message,
        });
    }

    fn refuse(&mut self, place: &Place, refusal: Refusal) {
        let at = place.node.locate(&refusal.field);
        self.report.findings.push(Finding {
            file: place.file.clone(),
            line: at.map(|(line, _)| line),
            column: at.map(|(_, column)| column),
            what: Some(place.what.clone()),
            message: refusal.to_string(),
            refusal: Some(refusal),
        });
    }

    fn text(&mut self, file: &Path, text: &str) {
        match source::documents(text) {
            Ok(documents) => documents.into_iter().for_each(|document| self.document(file, document)),
            Err(error) => self.unreadable(file, error.at, error.message),
        }
    }

    fn document(&mut self, file: &Path, document: Document) {
        let Document { value, node, item } = document;
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or("document").to_owned();
        let place = Place { file: file.to_owned(), what: what(&kind, &value), node };
        let index = self.report.checked.len();
        self.report.checked.push(Checked {
            file: place.file.clone(),
            line: place.node.first_line(),
            what: place.what.clone(),
            spec_hash: hash::of_item(&value),
            note: None,
            document: document::without_keys(&value),
        });
        let judged = match kind.as_str() {
            "ManagedService" => self.service(&value, item, &place),
            "DesiredRelease" => self.release(&value, item, &place, index),
            "Command" => judge_command(&value, item),
            "ReleaseStatus" => document::parse::<ReleaseStatus>(&value).map(|_| Vec::new()),
            other => Err(unknown_kind(value.get("kind").map(|_| other))),
        };
        for refusal in judged.unwrap_or_else(|refusal| vec![refusal]) {
            self.refuse(&place, refusal);
        }
    }

    fn service(&mut self, value: &Value, item: bool, place: &Place) -> Result<Vec<Refusal>, Refusal> {
        let document = if item { document::without_keys(value) } else { value.clone() };
        let record: ManagedService = document::parse(&document)?;
        let key = own_key(value, "service#", &record.metadata.namespace, &record.metadata.name)?;
        let mut findings = Findings::default();
        service::judge(&record, &mut findings);
        bounds::judge_texts(value, &mut findings);
        self.once(&format!("ManagedService {key}"), place, &mut findings);
        if findings.0.is_empty() {
            self.services.insert(key, (place.clone(), record.spec));
        }
        Ok(findings.0)
    }

    fn release(
        &mut self,
        value: &Value,
        item: bool,
        place: &Place,
        index: usize,
    ) -> Result<Vec<Refusal>, Refusal> {
        let document = if item { document::without_keys(value) } else { value.clone() };
        let record: DesiredRelease = document::parse(&document)?;
        let key = own_key(value, "desired#", &record.metadata.namespace, &record.metadata.name)?;
        let mut findings = Findings::default();
        release::judge(&record, &mut findings);
        bounds::judge_texts(value, &mut findings);
        self.once(&format!("DesiredRelease {key}"), place, &mut findings);
        if findings.0.is_empty() {
            self.releases.push((key, place.clone(), record.spec, index));
        }
        Ok(findings.0)
    }

    /// A record is given once in a run.
    fn once(&mut self, record: &str, place: &Place, findings: &mut Findings) {
        if let Some(other) = self.seen.insert(record.to_owned(), place.file.clone()) {
            findings.add(
                RefusalCode::Inconsistent,
                "metadata.name",
                record,
                "each record once",
                format!("remove it here or in {}", other.display()),
            );
        }
    }

    fn together(&mut self) {
        for (key, place, spec, index) in std::mem::take(&mut self.releases) {
            let Some((_, service)) = self.services.get(&key) else {
                let note = format!("not checked against ManagedService {key}: it is not among the files");
                self.report.checked[index].note = Some(note);
                continue;
            };
            let fits = release::task_definition_of(service, &spec)
                .and_then(|_| release::strategy_of(service, &spec))
                .and_then(|name| strategy::steps_of(name, service));
            if let Err(refusal) = fits {
                self.refuse(&place, refusal);
            }
        }
        let mut owners: BTreeMap<String, ServiceKey> = BTreeMap::new();
        for (key, (place, spec)) in std::mem::take(&mut self.services) {
            for (field, arn) in super::arns::claimed(&spec) {
                if let Some(owner) = owners.get(arn.as_str()) {
                    let refusal = Refusal::new(
                        RefusalCode::AlreadyClaimed,
                        field,
                        arn,
                        "a resource that no other ManagedService names",
                        format!("it belongs to {owner}; give each service its own"),
                    );
                    self.refuse(&place, refusal);
                } else {
                    owners.insert(arn.to_string(), key.clone());
                }
            }
        }
    }
}

/// Kind and name of a document, for people; what is no name is not repeated.
fn what(kind: &str, document: &Value) -> String {
    let is_name = |text: &str| {
        said::is_word(text) || text.parse::<Label>().is_ok() || release::release_name(text).is_some()
    };
    let name = |field: &str| {
        document.pointer(field).and_then(Value::as_str).filter(|text| is_name(text)).unwrap_or("?")
    };
    if kind == "Command" {
        return format!("Command {} {}", name("/spec/verb"), name("/spec/release"));
    }
    let kind = if is_name(kind) { kind } else { "document" };
    format!("{kind} {}/{}", name("/metadata/namespace"), name("/metadata/name"))
}

fn own_key(value: &Value, prefix: &str, namespace: &Label, name: &Label) -> Result<ServiceKey, Refusal> {
    let key = ServiceKey::new(namespace.clone(), name.clone());
    document::keys_fit(value, prefix, &key).map(|()| key)
}

fn judge_command(value: &Value, item: bool) -> Result<Vec<Refusal>, Refusal> {
    let key = document::command_key(value)?;
    let document = if item { document::without_table_keys(value) } else { value.clone() };
    let command: Command = document::parse(&document)?;
    let mut findings = Findings::default();
    release::judge_command(&command, key.as_ref(), &mut findings);
    bounds::judge_texts(value, &mut findings);
    Ok(findings.0)
}

fn unknown_kind(kind: Option<&str>) -> Refusal {
    Refusal::new(
        RefusalCode::Malformed,
        "kind",
        kind.map_or_else(|| "missing".to_owned(), said::text),
        "ManagedService, DesiredRelease, Command or ReleaseStatus",
        "name the kind of the record, or keep other files elsewhere",
    )
}
