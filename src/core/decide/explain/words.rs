//! Small pieces of text that every sentence is made of.

use crate::records::Span;

/// The longest foreign text in a status, in characters.
const LONGEST: usize = 512;

/// A foreign text that can do no harm on a terminal or a page: control characters and marks that turn the
/// direction of writing are shown as escapes, and its length is bounded.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(LONGEST) {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// A time that is left, in whole seconds, rounded up: what takes 1m39s980ms takes 1m40s to a person.
pub fn brief(span: Span) -> Span {
    if span.millis() < 1_000 { span } else { Span::from_secs(span.millis().div_ceil(1_000)) }
}

/// `ecs-svc/…` of a task-set ARN.
pub fn task_set_id(arn: &str) -> String {
    let mut parts = arn.rsplit('/');
    let (last, before) = (parts.next().unwrap_or(arn), parts.next());
    plain(&match before {
        Some("ecs-svc") => format!("ecs-svc/{last}"),
        Some(_) | None => last.to_owned(),
    })
}

/// `one alarm`, `3 alarms`.
pub(super) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("one {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// A text as one word of a shell command.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", plain(text).replace('\'', r"'\''"))
}
