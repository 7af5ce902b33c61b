//! Operators' commands. Each names the release it means; a late or repeated one is answered and harmless.

use super::pass::{Pass, remember};
use super::request::same_request;
use super::{Input, Wish, plan_to_observe};
use crate::model::facts::{COMMANDS_KEPT, CommandAnswer, Facts, Identity, LatchCause, Pending};
use crate::model::observed::{Alarm, AlarmState};
use crate::model::{Revision, Seen};
use crate::records::command::{CommandSpec, PromoteStep, Verb};
use crate::records::status::Outcome;
use crate::records::{Span, strategy::Step};

/// Older commands are ignored: whoever wrote them has looked elsewhere since.
const OLDEST: Span = Span::from_mins(60);

/// Takes every command that was not taken before and need not wait. Changes facts only; never an effect.
pub(super) fn take(pass: &mut Pass<'_>) -> bool {
    let mut taken = false;
    for wish in pass.input.commands {
        if was_taken(&pass.facts, &wish.id) || waits_for(pass.input, &pass.facts, wish).is_some() {
            continue;
        }
        taken = true;
        let (verb, by, verdict) = match &wish.command {
            Ok(command) => (command.spec.verb, command.spec.by.clone(), judge(pass, wish, &command.spec)),
            // The verb of an unreadable command is not known; the least harmful stands in for it.
            Err(why) => (Verb::Promote, None, Err(format!("it cannot be read: {why}"))),
        };
        let (done, reason) = match verdict {
            Ok(reason) => (true, reason),
            Err(reason) => (false, reason),
        };
        let answer = CommandAnswer { id: wish.id.clone(), verb, by, done, reason, at: pass.input.now };
        remember(&mut pass.facts.answers, answer);
        keep(&mut pass.facts, wish.id.clone());
    }
    taken
}

/// Why a young command is not taken yet, as a sentence. Only `breakGlass` ever waits: it means the alarms that burn
/// now, and while none is seen to burn and one cannot be read, nobody knows which these are. To refuse it would say what
/// is not known, and spend it.
pub(super) fn waits_for(input: &Input<'_>, facts: &Facts, wish: &Wish) -> Option<String> {
    let command = wish.command.as_ref().ok()?;
    let young = wish.age <= OLDEST && !was_taken(facts, &wish.id);
    if !young || command.spec.verb != Verb::BreakGlass || !breaks_glass_of(input, facts, &command.spec) {
        return None;
    }
    let unread = unread_alarms(input, facts);
    if unread.is_empty() || !burning_alarms(input).is_empty() {
        return None;
    }
    let list = unread.join(", ");
    Some(format!("cannot be read: {list}; it is carried out once it shows what burns, for at most {OLDEST}"))
}

/// The release is there, and may still go forward.
fn breaks_glass_of(input: &Input<'_>, facts: &Facts, command: &CommandSpec) -> bool {
    let name = |generation, attempt| format!("{}-{generation}.{attempt}", input.key.name());
    match &facts.release {
        Some(release) if name(release.id.generation, release.id.attempt) == command.release => {
            release.latch.is_none()
        }
        _ => facts.pending.is_some() && name(facts.generation, facts.attempt) == command.release,
    }
}

fn burning_alarms(input: &Input<'_>) -> Vec<String> {
    let burns = |seen: &Seen<Alarm>| seen.known().is_some_and(|alarm| alarm.state == AlarmState::Alarm);
    input.observed.alarms.iter().filter(|(_, seen)| burns(seen)).map(|(name, _)| name.clone()).collect()
}

/// By name; the record that names them all stands for them when it cannot be read either.
fn unread_alarms(input: &Input<'_>, facts: &Facts) -> Vec<String> {
    let Some(plan) = plan_to_observe(facts, input.service) else {
        return vec!["the ManagedService".to_owned()];
    };
    let unread = |name: &&String| input.observed.alarms.get(*name).and_then(Seen::known).is_none();
    plan.spec.alarms.iter().map(|alarm| &alarm.name).filter(unread).cloned().collect()
}

fn was_taken(facts: &Facts, id: &str) -> bool {
    id <= facts.commands_through.as_str() || facts.commands_done.iter().any(|done| done == id)
}

/// An id that leaves the list raises the mark, so that what is still in the table is not new again: a `breakGlass`
/// that was refused would be obeyed at the next alarm. The price: a command that reaches the table after
/// [`COMMANDS_KEPT`] later ones were taken is passed over.
fn keep(facts: &mut Facts, id: String) {
    let ids = &mut facts.commands_done;
    ids.push(id);
    ids.sort_unstable();
    let surplus = ids.len().saturating_sub(COMMANDS_KEPT);
    if let Some(left) = ids.drain(..surplus).next_back() {
        facts.commands_through = left.max(std::mem::take(&mut facts.commands_through));
    }
}

fn judge(pass: &mut Pass<'_>, wish: &Wish, command: &CommandSpec) -> Result<String, String> {
    if wish.age > OLDEST {
        return Err(format!("it is older than {OLDEST}"));
    }
    match command.verb {
        Verb::Promote => promote(pass, command),
        Verb::Abort => abort(pass, command),
        Verb::Rollback => rollback(pass, command),
        Verb::Retry => retry(pass, command),
        Verb::BreakGlass => break_glass(pass, command),
    }
}

fn names(pass: &Pass<'_>, command: &CommandSpec, generation: u64, attempt: u32) -> bool {
    command.release == format!("{}-{generation}.{attempt}", pass.input.key.name())
}

fn in_flight(pass: &Pass<'_>, command: &CommandSpec) -> bool {
    pass.release().is_some_and(|r| names(pass, command, r.id.generation, r.id.attempt))
}

fn is_pending(pass: &Pass<'_>, command: &CommandSpec) -> bool {
    pass.facts.pending.is_some() && names(pass, command, pass.facts.generation, pass.facts.attempt)
}

fn is_last(pass: &Pass<'_>, command: &CommandSpec) -> bool {
    let last = pass.facts.last.as_ref();
    last.is_some_and(|last| names(pass, command, last.release.generation, last.release.attempt))
}

/// The release that serves may be named as well when another request has ended since.
fn is_of_what_serves(pass: &Pass<'_>, command: &CommandSpec) -> bool {
    let made = pass.facts.retained.as_ref().and_then(|kept| kept.release);
    made.is_some_and(|made| names(pass, command, made.generation, made.attempt))
}

fn not_in_flight(command: &CommandSpec) -> String {
    format!("{} is not in flight", command.release)
}

fn promote(pass: &mut Pass<'_>, command: &CommandSpec) -> Result<String, String> {
    if !in_flight(pass, command) {
        return Err(not_in_flight(command));
    }
    let Some(step) = command.step else {
        return Err("spec.step is missing: a step number or \"all\"".to_owned());
    };
    let steps = pass.steps();
    if let PromoteStep::Step(number) = step {
        let index = usize::from(number).checked_sub(1);
        if !matches!(index.and_then(|index| steps.get(index)), Some(Step::Pause(_))) {
            return Err(format!("step {number} is not a pause of {}", command.release));
        }
    }
    if let Some(release) = &mut pass.facts.release {
        release.promoted.insert(step);
    }
    Ok("promoted".to_owned())
}

fn abort(pass: &mut Pass<'_>, command: &CommandSpec) -> Result<String, String> {
    if in_flight(pass, command) {
        let by = command.by.clone().unwrap_or_else(|| "an operator".to_owned());
        pass.latch(LatchCause::Aborted, format!("aborted by {by}"));
        return Ok("going back".to_owned());
    }
    if is_pending(pass, command)
        && let Some(open) = pass.take_open_request()
    {
        pass.end_request(open, Outcome::Failed, "Aborted", "aborted before it started".to_owned());
        return Ok("dropped before it started".to_owned());
    }
    // Nothing is in flight: an abort is a no-op.
    Err(not_in_flight(command))
}

fn rollback(pass: &mut Pass<'_>, command: &CommandSpec) -> Result<String, String> {
    if in_flight(pass, command) {
        return abort(pass, command);
    }
    let named = is_last(pass, command) || is_of_what_serves(pass, command);
    if !named || pass.release().is_some() {
        return Err(format!("{} is not the last release", command.release));
    }
    // A return is a release, and one without a record goes back at once.
    if pass.facts.asked.is_none() {
        return Err("there is no record: write a release of the earlier revision".to_owned());
    }
    // It would take the place of that request and go by its name, and whoever waits for it be told of this one.
    if let Some(pending) = &pass.facts.pending {
        return Err(if pending.return_to_retained {
            "it is about to return to the retained version already".to_owned()
        } else {
            "a newer request waits to start: abort that one first".to_owned()
        });
    }
    if let Some(serves) = took_over(&pass.facts) {
        return Ok(format!("{serves} serves since the last release lost its tasks"));
    }
    let Some(kept) = &pass.facts.retained else {
        return Err("no earlier version is kept any more: write a release of its revision".to_owned());
    };
    let last = pass.facts.last.as_ref().map(|last| last.release);
    // A name of its own: whoever waits for the request that is taken back is not told of this success.
    let identity = Identity {
        task_definition: kept.version.revision.to_string(),
        strategy: None,
        request_id: None,
        spec_hash: String::new(),
        takes_back: kept.release.or(last),
    };
    pass.facts.attempt += 1;
    pass.facts.pending =
        Some(Pending { return_to_retained: true, identity: Some(identity), ..Pending::default() });
    Ok(if pass.input.suspended() {
        "returning to the retained version as soon as spec.suspend is false".to_owned()
    } else {
        "returning to the retained version".to_owned()
    })
}

/// The version before the last release, when it took over because that one was lost.
fn took_over(facts: &Facts) -> Option<&Revision> {
    let ended = facts.last.as_ref().filter(|last| last.outcome == Outcome::Succeeded)?;
    let brought = ended.identity.task_definition.parse::<Revision>().ok()?;
    let was_lost =
        facts.quarantined.iter().any(|entry| entry.release == ended.release && entry.revision == brought);
    facts.stable.as_ref().map(|stable| &stable.revision).filter(|_| was_lost)
}

fn retry(pass: &mut Pass<'_>, command: &CommandSpec) -> Result<String, String> {
    let Some(asked) = pass.facts.asked.clone() else { return Err("nothing is asked for".to_owned()) };
    let unsuccessful = pass.facts.last.as_ref().is_some_and(|last| last.outcome != Outcome::Succeeded);
    if !is_last(pass, command) || !unsuccessful || pass.release().is_some() || pass.facts.pending.is_some() {
        return Err(format!("{} is not the last release, or did not fail", command.release));
    }
    // Nor is it the request that it took back.
    if pass.facts.last.as_ref().is_some_and(|last| last.identity.takes_back.is_some()) {
        return Err(format!(
            "{} was a return: send rollback, or write a release of its revision",
            command.release
        ));
    }
    let Ok(revision) = asked.task_definition.parse::<Revision>() else {
        return Err("the record names no revision".to_owned());
    };
    // By what it means: it may have been written differently since.
    if pass.facts.last.as_ref().is_some_and(|last| !same_request(&last.identity, &asked, &revision)) {
        return Err("the record asks for something else by now".to_owned());
    }
    pass.facts.quarantined.retain(|entry| entry.revision != revision);
    pass.facts.halted = None;
    pass.facts.attempt += 1;
    pass.facts.pending = Some(Pending::default());
    Ok(format!("attempt {}", pass.facts.attempt))
}

fn break_glass(pass: &mut Pass<'_>, command: &CommandSpec) -> Result<String, String> {
    let burning = burning_alarms(pass.input);
    let unread = unread_alarms(pass.input, &pass.facts);
    let glass = if in_flight(pass, command) {
        // Set aside, they would not count for a way back without a lease either.
        if pass.release().is_some_and(|release| release.latch.is_some()) {
            return Err(format!("{} is going back already", command.release));
        }
        pass.facts.release.as_mut().map(|release| &mut release.break_glass)
    } else if is_pending(pass, command) {
        pass.facts.pending.as_mut().map(|pending| &mut pending.break_glass)
    } else {
        None
    };
    let Some(glass) = glass else { return Err(not_in_flight(command)) };
    if burning.is_empty() {
        return Err("no alarm is in ALARM".to_owned());
    }
    let set_aside = format!("set aside until OK once: {}", burning.join(", "));
    glass.extend(burning);
    if unread.is_empty() {
        return Ok(set_aside);
    }
    Ok(format!("{set_aside}; not read, so they stay armed: {}", unread.join(", ")))
}
