//! What properties and people's acts need of facts, worked out once for each.

use pointsman_core::model::facts::{Facts, LatchCause, Version};
use pointsman_core::records::Group;
use pointsman_core::records::command::Verb;
use pointsman_core::records::status::Outcome;

use super::world::serial_of;

/// See the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub struct Digest {
    /// Set of the version that serves.
    pub stable: Option<u8>,
    /// Whether it is in group b.
    pub stable_in_b: bool,
    /// Its revision.
    pub stable_revision: Option<u8>,
    /// Set of the recorded way back.
    pub way_back: Option<u8>,
    /// Set that is kept warm.
    pub retained: Option<u8>,
    /// The candidate's set, once known.
    pub candidate: Option<u8>,
    /// Tombstones, one bit each.
    pub tombs: u64,
    /// The release in flight.
    pub release: Option<(u8, u8)>,
    /// It goes back.
    pub latched: Option<LatchCause>,
    /// It passed its gate.
    pub gated: bool,
    /// It may have production weight.
    pub exposed: bool,
    /// An abort was obeyed.
    pub aborting: bool,
    /// A request that has not started.
    pub pending: bool,
    /// Generation and attempt of the newest request.
    pub newest: (u8, u8),
    /// The release that ended last.
    pub last: Option<(u8, u8)>,
    /// The epoch of the last write.
    pub epoch: u8,
    /// Something is under way.
    pub busy: bool,
    /// Something waits for a person.
    pub halted: bool,
    /// The request was answered, and not with success; or what it brought was lost since.
    pub refused: bool,
    /// A record is known.
    pub asked: Option<u8>,
    /// At which scale, in tenths of a percent, what serves, the way back and what is kept warm are to stay.
    pub scales: [Option<u16>; 3],
}

fn small(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

impl Digest {
    /// Of these facts.
    pub fn of(facts: &Facts) -> Self {
        let set = |version: &Version| serial_of(&version.task_set);
        let release = facts.release.as_ref();
        let id = |generation: u64, attempt: u32| (small(generation), small(u64::from(attempt)));
        let tombs =
            facts.tombstones.iter().map(|arn| 1_u64 << (serial_of(arn) & 63)).fold(0, |all, bit| all | bit);
        let asked = facts.asked.as_ref();
        let refused = facts.last.as_ref().is_some_and(|last| {
            last.outcome != Outcome::Succeeded
                && asked.is_some_and(|asked| asked.spec_hash == last.identity.spec_hash)
        });
        let lost = facts
            .quarantined
            .iter()
            .any(|entry| asked.is_some_and(|asked| asked.task_definition == entry.revision.to_string()));
        let kept = facts.retained.as_ref().map(|kept| &kept.version);
        let way_back = release.and_then(|release| release.stable.as_ref());
        let scales = [facts.stable.as_ref(), way_back, kept].map(|it| it.map(|it| it.scale.tenths()));
        Self {
            stable: facts.stable.as_ref().map(set),
            stable_in_b: facts.stable.as_ref().is_some_and(|stable| stable.group == Group::B),
            stable_revision: facts.stable.as_ref().map(|stable| small(u64::from(stable.revision.number))),
            way_back: release.and_then(|release| release.stable.as_ref()).map(set),
            retained: facts.retained.as_ref().map(|kept| set(&kept.version)),
            candidate: release.and_then(|release| release.candidate.task_set.as_deref()).map(serial_of),
            tombs,
            release: release.map(|release| id(release.id.generation, release.id.attempt)),
            latched: release.and_then(|release| release.latch.as_ref()).map(|latch| latch.cause),
            gated: release.is_some_and(|release| release.progress.gate_passed),
            exposed: release.is_some_and(|release| release.progress.exposed),
            aborting: facts.answers.iter().any(|it| it.verb == Verb::Abort && it.reason == "going back"),
            pending: facts.pending.is_some(),
            newest: id(facts.generation, facts.attempt),
            last: facts.last.as_ref().map(|last| id(last.release.generation, last.release.attempt)),
            epoch: small(facts.epoch),
            busy: facts.is_busy() || facts.retained.is_some(),
            halted: facts.halted.is_some(),
            refused: refused || lost,
            asked: asked.and_then(|asked| asked.task_definition.rsplit(':').next()?.parse().ok()),
            scales,
        }
    }

    /// Whether a set must stay: it serves, or is the way back, or is kept warm.
    pub fn needs(&self, serial: u8) -> bool {
        [self.stable, self.way_back, self.retained, self.candidate].contains(&Some(serial))
    }
}
