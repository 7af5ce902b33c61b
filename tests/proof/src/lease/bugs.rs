//! Seeded bugs of the lease: what the checker must catch, to be believed when it finds nothing.
//!
//! The shipped `Replica` stays as it is. A bug is what the driver tells it (`mind`), what the table does (`table`), or
//! what the process around it does (`steps`).

/// How it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    BuriesEarly,
    BuriesBlindly,
    NeverBuries,
    MembersFirst,
    CountsFromAnswer,
    CountsFromLook,
    BelievesLostTakes,
    BelievesNames,
    FreesAtOnce,
    LeavesAtOnce,
    BeatRevives,
    NobodyJoins,
    JoinIsRepeated,
    SameEpoch,
    TakesBlindly,
    NoMargin,
    ClocksApart,
    SeesOneCount,
}

/// A seeded bug.
#[derive(Debug)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// The thought behind it.
    pub thought: &'static str,
    /// The configuration in which it shows.
    pub config: &'static str,
    /// What it does.
    pub flaw: Flaw,
}

const fn bug(name: &'static str, config: &'static str, flaw: Flaw, thought: &'static str) -> Bug {
    Bug { name, thought, config, flaw }
}

/// All of them.
pub const BUGS: &[Bug] = &[
    bug("bury-early", "pairs", Flaw::BuriesEarly, "who misses a beat is dead"),
    bug("bury-blindly", "pairs", Flaw::BuriesBlindly, "a member that was found dead stays dead"),
    bug("never-bury", "one", Flaw::NeverBuries, "whoever dies takes the member item along"),
    bug("members-first", "one", Flaw::MembersFirst, "the parts of a look may be read in any order"),
    bug(
        "count-from-answer",
        "slow",
        Flaw::CountsFromAnswer,
        "a beat gives a whole time to live from its answer",
    ),
    bug("count-from-look", "slow", Flaw::CountsFromLook, "a beat stands still from when the look was sent"),
    bug(
        "lost-take-is-ours",
        "one",
        Flaw::BelievesLostTakes,
        "a take whose answer was lost has surely landed",
    ),
    bug("names-us-is-ours", "two", Flaw::BelievesNames, "a shard that names us is ours"),
    bug("free-at-once", "two", Flaw::FreesAtOnce, "a shard may be given up while something runs under it"),
    bug("leave-at-once", "one", Flaw::LeavesAtOnce, "who stops may go before what runs has ended"),
    bug("beat-revives", "one", Flaw::BeatRevives, "a beat without an item makes one"),
    bug("nobody-joins", "plain", Flaw::NobodyJoins, "who holds a shard needs no member item"),
    bug("join-is-repeated", "late", Flaw::JoinIsRepeated, "the client may repeat any write by itself"),
    bug("same-epoch", "one", Flaw::SameEpoch, "a shard that changes hands keeps its epoch"),
    bug("take-blindly", "one", Flaw::TakesBlindly, "what was free a moment ago is free"),
    bug("no-margin", "pairs", Flaw::NoMargin, "all clocks run alike"),
    bug("clocks-apart", "one", Flaw::ClocksApart, "a clock may be as slow as it likes"),
    bug("sees-one-count", "counts", Flaw::SeesOneCount, "the others surely go by our count"),
];
