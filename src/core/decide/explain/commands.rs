//! What became of commands.

use super::{LISTED, View, plain};
use crate::decide::{Wish, commands};
use crate::model::facts;
use crate::records::status::{CommandAnswer, WAITING};

/// The last answers, and behind them the commands that wait for one.
pub(super) fn told(view: &View<'_>) -> Vec<CommandAnswer> {
    let waiting = view.input.commands.iter().filter_map(|wish| waiting(view, wish));
    let all: Vec<CommandAnswer> = view.facts.answers.iter().map(answer).chain(waiting).collect();
    let surplus = all.len().saturating_sub(LISTED);
    all.into_iter().skip(surplus).collect()
}

fn answer(answer: &facts::CommandAnswer) -> CommandAnswer {
    CommandAnswer {
        id: plain(&answer.id),
        verb: answer.verb,
        by: answer.by.as_deref().map(plain),
        verdict: if answer.done { "Done" } else { "Ignored" }.to_owned(),
        reason: plain(&answer.reason),
        at: answer.at,
    }
}

fn waiting(view: &View<'_>, wish: &Wish) -> Option<CommandAnswer> {
    let reason = commands::waits_for(view.input, view.facts, wish)?;
    let spec = &wish.command.as_ref().ok()?.spec;
    let id = plain(&wish.id);
    let known = view.previous.iter().flat_map(|previous| &previous.status.commands);
    // It has waited since then; another time in each pass would be written in each.
    let since = known.filter(|known| known.id == id).map(|known| known.at).next();
    Some(CommandAnswer {
        id,
        verb: spec.verb,
        by: spec.by.as_deref().map(plain),
        verdict: WAITING.to_owned(),
        reason: plain(&reason),
        at: since.unwrap_or(view.input.now),
    })
}
