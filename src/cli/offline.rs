//! `check` and `schema`: what needs neither a table nor AWS.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::output::{Format, Output};
use super::{CliError, OutputArgs};
use crate::records::check;
use crate::records::schema;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// File, directory (its .yaml, .yml and .json files) or - for standard input; may be repeated
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which one, such as desired-release; without a name, their list
    name: Option<String>,
    /// Write all of them into this directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "name")]
    write: Option<PathBuf>,
}

/// Judges files; 0 when all is well, 1 otherwise.
pub fn check(args: &CheckArgs, output: &mut Output) -> Result<u8, CliError> {
    let report = check::files(&args.files);
    match output.format {
        Format::Text => output.line(report.to_string().trim_end())?,
        Format::Json | Format::Yaml => output.document(&report)?,
    }
    Ok(u8::from(!report.is_good()))
}

/// File name and text of every schema, of records and of API answers.
pub fn all_schemas() -> Vec<(&'static str, String)> {
    let mut all = schema::texts();
    all.extend(crate::api::answers::schema_texts());
    all.sort_by_key(|(name, _)| *name);
    all
}

/// Prints or writes schemas.
pub fn schema(args: &SchemaArgs, output: &mut Output) -> Result<u8, CliError> {
    let all = all_schemas();
    if let Some(directory) = &args.write {
        fs::create_dir_all(directory)?;
        for (name, text) in &all {
            fs::write(directory.join(name), text)?;
        }
        output.line(format!("{} schemas written to {}", all.len(), directory.display()))?;
        return Ok(0);
    }
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let Some(wanted) = &args.name else {
        for (name, _) in &all {
            output.line(short(name))?;
        }
        return Ok(0);
    };
    let Some((_, text)) = all.iter().find(|(name, _)| name == wanted || short(name) == *wanted) else {
        let names: Vec<String> = all.iter().map(|(name, _)| short(name)).collect();
        return Err(CliError::Usage(format!(
            "there is no schema {wanted:?}; there are: {}",
            names.join(", ")
        )));
    };
    output.line(text.trim_end())?;
    Ok(0)
}
