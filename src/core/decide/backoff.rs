//! What was just refused or lost is not written again in the same breath: the pass after it waits for one poll.

use super::pass::Pass;
use super::{Next, WaitingOn};
use crate::model::Resource;
use crate::model::facts::Trouble;

/// Whatever it was; the stage's deadline runs.
pub(super) fn after_trouble(pass: &mut Pass<'_>) -> Option<Next> {
    let trouble = taken(pass, |_| true)?;
    Some(pass.wait_in_stage(on(trouble), None))
}

/// If it was this route's: what is put right there does not wait for anything else.
pub(super) fn after_trouble_with(pass: &mut Pass<'_>, route: &str) -> Option<Next> {
    let its_own = Resource::Route(route.to_owned());
    let trouble = taken(pass, |trouble| trouble.resource == its_own)?;
    Some(pass.wait_in_stage(on(trouble), None))
}

/// If it was a route's, before `next` is written back: no deadline runs there, and a route that refuses does not keep
/// another one, which was not tried yet, from its turn.
pub(super) fn on_the_way_back(pass: &mut Pass<'_>, next: &str, tried: u32) -> Option<Next> {
    let trouble = taken(pass, |_| true)?;
    let Resource::Route(refused) = &trouble.resource else { return None };
    let its_turn = tried == 0 && refused != next;
    (!its_turn).then(|| pass.wait(on(trouble)))
}

/// The trouble, if no pass has waited for it yet.
fn taken(pass: &mut Pass<'_>, is: impl Fn(&Trouble) -> bool) -> Option<Trouble> {
    let trouble = pass.facts.trouble.as_mut().filter(|trouble| trouble.fresh && is(trouble))?;
    trouble.fresh = false;
    Some(trouble.clone())
}

fn on(Trouble { resource, class, message, .. }: Trouble) -> WaitingOn {
    WaitingOn::Effect { resource, class, message }
}
