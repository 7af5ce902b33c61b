//! How answers look: text with aligned columns for people, JSON or YAML for machines.

use std::io::{self, Write};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use super::CliError;
use crate::decide::explain::{brief, plain};
use crate::records::Span;
use crate::records::status::{Outcome, Phase};

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Where answers go, and in which form.
pub struct Output {
    /// The answer.
    pub out: Box<dyn Write + Send>,
    /// Progress and remarks; never part of the answer.
    pub err: Box<dyn Write + Send>,
    /// Its form.
    pub format: Format,
    /// Whether to colour.
    pub colours: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("format", &self.format).finish_non_exhaustive()
    }
}

/// What a word means to somebody in a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Look at it.
    Careful,
    /// Act.
    Bad,
    /// Nothing special.
    Neutral,
    /// A heading.
    Strong,
}

impl From<Phase> for Tone {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Settled => Self::Good,
            Phase::Preparing | Phase::Gating | Phase::Shifting | Phase::Baking | Phase::Completing => {
                Self::Neutral
            }
            Phase::CleaningUp => Self::Neutral,
            Phase::Pending | Phase::Paused | Phase::Suspended => Self::Careful,
            Phase::Refused | Phase::RollingBack | Phase::Halted => Self::Bad,
        }
    }
}

impl From<Outcome> for Tone {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Good,
            Outcome::Superseded => Self::Careful,
            Outcome::Refused | Outcome::RolledBack | Outcome::Failed | Outcome::Halted => Self::Bad,
        }
    }
}

/// A piece of text with its tone; foreign text in it can do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// A neutral cell.
pub fn cell(text: impl AsRef<str>) -> Cell {
    toned(text, Tone::Neutral)
}

/// A cell with a tone.
pub fn toned(text: impl AsRef<str>, tone: Tone) -> Cell {
    Cell { text: plain(text.as_ref()), tone }
}

/// A cell of something that may be missing: `-`.
pub fn maybe(text: Option<impl AsRef<str>>) -> Cell {
    text.map_or_else(|| cell("-"), cell)
}

impl Output {
    /// Standard output and error.
    pub fn stdio(format: Format) -> Self {
        let colours = format == Format::Text && super::colours();
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), format, colours }
    }

    /// A line of the answer.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        Ok(writeln!(self.out, "{}", text.as_ref())?)
    }

    /// A line beside the answer.
    pub fn remark(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        writeln!(self.err, "{}", plain(text.as_ref()))?;
        Ok(self.err.flush()?)
    }

    /// The answer as one document.
    pub fn document(&mut self, answer: &impl Serialize) -> Result<(), CliError> {
        let text = match self.format {
            Format::Yaml => serde_saphyr::to_string(answer)
                .map_err(|error| CliError::Encoding("YAML", Box::new(error)))?,
            Format::Json | Format::Text => serde_json::to_string_pretty(answer)
                .map_err(|error| CliError::Encoding("JSON", Box::new(error)))?,
        };
        self.line(text.trim_end())
    }

    /// Rows in columns as wide as their widest cell.
    pub fn table(&mut self, indent: usize, rows: &[Vec<Cell>]) -> Result<(), CliError> {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows {
            let mut line = " ".repeat(indent);
            for (index, cell) in row.iter().enumerate() {
                line.push_str(&self.paint(cell));
                if index + 1 < row.len() {
                    let missing = widths[index].saturating_sub(cell.text.chars().count());
                    line.push_str(&" ".repeat(missing + 2));
                }
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// The text of a cell, coloured where that is wanted.
    pub fn paint(&self, cell: &Cell) -> String {
        let code = match cell.tone {
            Tone::Good => "32",
            Tone::Careful => "33",
            Tone::Bad => "31",
            Tone::Strong => "1",
            Tone::Neutral => return cell.text.clone(),
        };
        if self.colours { format!("\u{1b}[{code}m{}\u{1b}[0m", cell.text) } else { cell.text.clone() }
    }
}

/// A row of headings.
pub fn headings<const N: usize>(names: [&str; N]) -> Vec<Cell> {
    names.into_iter().map(|name| toned(name, Tone::Strong)).collect()
}

/// `in 1m40s`, `6m ago`, `now`: how an instant lies to `now`. Long ones in two units at most.
pub fn relative(now: Timestamp, at: Timestamp) -> String {
    if at > now {
        format!("in {}", coarse(Span::between(now, at)))
    } else if Span::between(at, now) < Span::from_secs(1) {
        "now".to_owned()
    } else {
        format!("{} ago", coarse(Span::between(at, now)))
    }
}

fn coarse(span: Span) -> String {
    const HOUR: u64 = 60 * 60;
    const DAY: u64 = 24 * HOUR;
    let secs = brief(span).millis().div_ceil(1_000);
    match secs {
        DAY.. => format!("{}d{}h", secs / DAY, secs % DAY / HOUR),
        HOUR.. => Span::from_mins(secs / 60).to_string(),
        _ => Span::from_secs(secs).to_string(),
    }
}

/// `2026-11-21T10:08:22Z (in 1m40s)`.
pub fn instant(now: Timestamp, at: Timestamp) -> String {
    format!("{at:.0} ({})", relative(now, at))
}

impl Output {
    /// Several lines beside the answer.
    pub fn remark_lines(&mut self, text: &str) -> Result<(), CliError> {
        text.lines().try_for_each(|line| self.remark(line))
    }
}
