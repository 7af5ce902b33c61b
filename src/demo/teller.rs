//! Says one line at a time, with the time since the start and who is speaking.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

use crate::ports::Clock;

/// Lines are wrapped here, so that they fit into a small terminal.
const COLUMNS: usize = 98;
/// Time and name in front of each line.
const MARGIN: usize = 18;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The demo itself, in the place of a platform team or a developer.
    You,
    /// The daemon's calls and its status.
    Daemon,
    /// `CloudWatch` alarms.
    Alarm,
    /// The traffic client.
    Traffic,
    /// What went wrong.
    Trouble,
    /// How a release ended.
    Outcome,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::Daemon => "daemon",
            Self::Alarm => "alarm",
            Self::Traffic => "traffic",
            Self::Trouble => "trouble",
            Self::Outcome => "outcome",
        }
    }

    /// SGR parameter.
    const fn colour(self) -> &'static str {
        match self {
            Self::You => "36",
            Self::Daemon => "34",
            Self::Alarm => "33",
            Self::Traffic => "2",
            Self::Trouble => "31",
            Self::Outcome => "32",
        }
    }
}

/// Where the story is told.
pub struct Teller {
    out: Box<dyn Write + Send>,
    colours: bool,
    clock: Arc<dyn Clock>,
    started_ms: u64,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").field("colours", &self.colours).finish_non_exhaustive()
    }
}

impl Teller {
    /// Tells on standard output, or on standard error when `aside`; time counts from now.
    pub fn new(aside: bool, clock: Arc<dyn Clock>) -> Self {
        let (out, terminal): (Box<dyn Write + Send>, bool) = if aside {
            (Box::new(io::stderr()), io::stderr().is_terminal())
        } else {
            (Box::new(io::stdout()), io::stdout().is_terminal())
        };
        // https://no-color.org: any value that is not empty.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let started_ms = clock.monotonic_ms();
        Self { out, colours: terminal && wanted, clock, started_ms }
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> u64 {
        self.clock.monotonic_ms().saturating_sub(self.started_ms)
    }

    /// One event, wrapped as needed.
    pub fn say(&mut self, who: Who, text: &str) -> io::Result<()> {
        let tenths = self.elapsed_ms() / 100;
        let time = format!("+{}.{}s", tenths / 10, tenths % 10);
        let (on, off) = if self.colours {
            (format!("\u{1b}[{}m", who.colour()), "\u{1b}[0m")
        } else {
            (String::new(), "")
        };
        let mut lines = wrapped(text, COLUMNS - MARGIN).into_iter();
        let first = lines.next().unwrap_or_default();
        writeln!(self.out, "{time:>7}  {on}{:<8}{off} {first}", who.name())?;
        for line in lines {
            writeln!(self.out, "{:MARGIN$}{line}", "")?;
        }
        self.out.flush()
    }

    /// A line as it is.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// A heading after an empty line.
    pub fn heading(&mut self, text: &str) -> io::Result<()> {
        let (on, off) = if self.colours { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        self.line(&format!("\n{on}{text}{off}"))
    }
}

/// Words on lines of at most so many characters; a longer word has a line of its own.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible it is", 6), ["incomprehensible", "it is"]);
        assert_eq!(wrapped("", 6), Vec::<String>::new());
    }
}
