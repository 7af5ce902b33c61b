//! What a decision is given besides the world: the pure functions themselves, the records as read, and the plan
//! that says what to look at.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::trouble::{ReconcileError, guarded};
use crate::decide::safety::Violation;
use crate::decide::{Asked, Decision, Input, Wish};
use crate::model::observed::Extra;
use crate::model::{Answer, Effect, Facts, Observed, Plan, Seen};
use crate::ports::Wishes;
use crate::records::check::Refusal;
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::{Command, DesiredReleaseSpec, ReleaseStatus, ServiceKey, Span};

/// A record read as a spec with its hash, or refused with the hash of whatever is there.
pub type Read<T> = Result<(T, String), (Refusal, String)>;

/// The pure functions that a run calls. Tests bring their own.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    /// Chooses the next move.
    pub decide: fn(&Input<'_>) -> Decision,
    /// Takes an effect's answer into the facts.
    pub settle: fn(&Facts, &Effect, &Answer, u64) -> Facts,
    /// Says for people what was decided; the last argument is what was said before.
    pub explain: fn(&Input<'_>, &Decision, Option<&ReleaseStatus>) -> ReleaseStatus,
    /// Reads and checks a `ManagedService`.
    pub read_service: fn(&ServiceKey, &serde_json::Value) -> Read<ManagedServiceSpec>,
    /// Reads and checks a `DesiredRelease`.
    pub read_desired: fn(&ServiceKey, &serde_json::Value) -> Read<DesiredReleaseSpec>,
    /// The plan that a pass looks by; none when nothing says where to look.
    pub plan_to_observe: fn(&Facts, &Asked<ManagedServiceSpec>) -> Option<Plan>,
    /// A second opinion on each decision; an effect that breaks a property is not carried out.
    pub violations: fn(&Input<'_>, &Decision) -> Vec<Violation>,
}

/// The records as one turn read them.
pub(super) struct Records {
    pub(super) service: Asked<ManagedServiceSpec>,
    pub(super) desired: Asked<DesiredReleaseSpec>,
    pub(super) commands: Vec<Wish>,
}

impl Records {
    /// Reads and checks what people wrote.
    pub(super) fn read(
        core: &Core,
        key: &ServiceKey,
        wishes: Wishes,
        now: Timestamp,
    ) -> Result<Self, ReconcileError> {
        let commands = wishes.commands.into_iter().map(|(id, command)| wish(id, command, now)).collect();
        guarded("reading the records", || Self {
            service: asked(key, wishes.service.as_ref(), core.read_service),
            desired: asked(key, wishes.desired.as_ref(), core.read_desired),
            commands,
        })
    }

    /// Neither record is there.
    pub(super) const fn ask_nothing(&self) -> bool {
        matches!((&self.service, &self.desired), (Asked::Absent, Asked::Absent))
    }
}

/// The world, when nothing says where to look.
pub(super) fn nothing_to_observe() -> Observed {
    Observed {
        service: Seen::Unknown("there is no valid record to look by".to_owned()),
        routes: BTreeMap::new(),
        alarms: BTreeMap::new(),
        extra: Extra::default(),
    }
}

fn asked<T>(
    key: &ServiceKey,
    item: Option<&serde_json::Value>,
    read: fn(&ServiceKey, &serde_json::Value) -> Read<T>,
) -> Asked<T> {
    let Some(item) = item else {
        return Asked::Absent;
    };
    match read(key, item) {
        Ok((spec, hash)) => Asked::Valid { spec, hash },
        Err((refusal, hash)) => Asked::Invalid { refusal, hash, suspend: suspends(item) },
    }
}

/// What a record that can't be read says of standing still; anything but a plain `false` is taken for a yes.
fn suspends(item: &serde_json::Value) -> bool {
    item.pointer("/spec/suspend").is_some_and(|said| *said != serde_json::Value::Bool(false))
}

fn wish(id: String, command: Result<Command, String>, now: Timestamp) -> Wish {
    let made = ulid::Ulid::from_string(&id).ok().and_then(|ulid| {
        let since_1970 = i64::try_from(ulid.timestamp_ms()).ok()?;
        Timestamp::from_millisecond(since_1970).ok()
    });
    match made {
        Some(made) => Wish { id, age: Span::between(made, now), command },
        None => Wish { id, age: Span::ZERO, command: Err("its sort key is not a ULID".to_owned()) },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_service_record_that_cannot_be_read_suspends_unless_it_says_false() {
        let cases = [
            (json!({"spec": {"suspend": true, "bakke": 1}}), true),
            (json!({"spec": {"suspend": "yes"}}), true),
            (json!({"spec": {"suspend": false, "bakke": 1}}), false),
            (json!({"spec": {"bakke": 1}}), false),
            (json!({"spec": "suspend"}), false),
        ];
        for (item, suspends) in cases {
            assert_eq!(super::suspends(&item), suspends, "{item}");
        }
    }
}
