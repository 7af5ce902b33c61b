//! Clocks, and counts of looks in a row: what time changes, and nobody decides.

use super::{Facts, Progress};
use crate::records::Span;

impl Facts {
    /// The facts with every clock at zero: two that differ in clocks alone need no write of their own.
    #[must_use]
    pub fn without_clocks(&self) -> Self {
        let mut still = self.clone();
        if let Some(pending) = &mut still.pending {
            pending.waited = Span::ZERO;
        }
        if let Some(release) = &mut still.release {
            let progress = &mut release.progress;
            for clock in [
                &mut progress.held,
                &mut progress.settled,
                &mut progress.baked,
                &mut progress.exposed_for,
                &mut progress.in_stage,
                &mut progress.without_evidence,
                &mut progress.foreign_for,
                &mut progress.astray,
            ] {
                *clock = Span::ZERO;
            }
            for looks in [
                &mut progress.steady_reads,
                &mut progress.foreign_reads,
                &mut progress.missing_reads,
                &mut progress.stable_gone_reads,
                &mut progress.stable_up_reads,
            ] {
                *looks = 0;
            }
            if let Some(latch) = &mut release.latch {
                latch.elapsed = Span::ZERO;
            }
        }
        if let Some(retained) = &mut still.retained {
            retained.kept = Span::ZERO;
        }
        for cleanup in &mut still.cleanups {
            cleanup.quiet = Span::ZERO;
            cleanup.elapsed = Span::ZERO;
        }
        for write in &mut still.late {
            write.age = Span::ZERO;
        }
        still.overtaken = still.overtaken.map(|_| Span::ZERO);
        still.absent.clear();
        still.drift.window = Span::ZERO;
        still.drift.outage_reads = 0;
        still.drift.idle_reads = 0;
        still.lost.reads = 0;
        still.lost.restarting = still.lost.restarting.map(|_| Span::ZERO);
        still
    }

    /// Takes over the time of `decided`, which was decided by these facts and is not carried out: deadlines and evidence
    /// go on as they were judged then, each where it still belongs to the same thing. Nothing else of it is kept.
    pub fn keep_time_of(&mut self, decided: &Self) {
        if let (Some(mine), Some(theirs)) = (&mut self.pending, &decided.pending) {
            mine.waited = theirs.waited;
        }
        if let (Some(mine), Some(theirs)) = (&mut self.release, &decided.release)
            && (mine.id, mine.progress.step) == (theirs.id, theirs.progress.step)
        {
            let Progress { targets_healthy, test_shifted, gate_passed, step, shifted, exposed, .. } =
                mine.progress;
            // The stage goes with its clock: it says which deadline runs.
            let clocks = theirs.progress.clone();
            mine.progress =
                Progress { targets_healthy, test_shifted, gate_passed, step, shifted, exposed, ..clocks };
            if let (Some(mine), Some(theirs)) = (&mut mine.latch, &theirs.latch) {
                mine.elapsed = theirs.elapsed;
            }
        }
        if let (Some(mine), Some(theirs)) = (&mut self.retained, &decided.retained)
            && mine.version == theirs.version
        {
            mine.kept = theirs.kept;
        }
        for mine in &mut self.cleanups {
            let theirs = decided.cleanups.iter().find(|theirs| theirs.external_id == mine.external_id);
            if let Some(theirs) = theirs {
                (mine.quiet, mine.elapsed) = (theirs.quiet, theirs.elapsed);
                mine.zero_reads = theirs.zero_reads;
            }
        }
        for (mine, theirs) in self.late.iter_mut().zip(&decided.late) {
            if (&mine.route, mine.shares) == (&theirs.route, theirs.shares) {
                mine.age = theirs.age;
            }
        }
        // Less than before: it is that of another call, which is not made.
        self.overtaken = self.overtaken.max(decided.overtaken.filter(|_| self.overtaken.is_some()));
        self.absent.clone_from(&decided.absent);
        self.lost = decided.lost;
        if self.drift.repairs == decided.drift.repairs {
            let theirs = &decided.drift;
            self.drift.window = theirs.window;
            (self.drift.outage_reads, self.drift.idle_reads) = (theirs.outage_reads, theirs.idle_reads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::emergency::tests::Scene;
    use crate::model::facts::{Absent, Lost, Stage};
    use crate::model::{Effect, Shares};
    use crate::records::{Group, Percent};

    fn secs(number: u64) -> Span {
        Span::from_secs(number)
    }

    /// What a pass makes of the facts that it cannot be followed in: time, milestones, an announcement.
    fn decided(before: &Facts) -> Facts {
        let mut facts = before.clone();
        let progress = &mut facts.release.as_mut().unwrap().progress;
        (progress.astray, progress.baked, progress.foreign_reads) = (secs(7), secs(3), 2);
        (progress.stage, progress.in_stage) = (Stage::Shifting, secs(5));
        (progress.shifted, progress.targets_healthy) = (true, true);
        let shares = Shares::giving(Group::A, Percent::FULL);
        let effect = Effect::SetWeights { route: "public".to_owned(), shares, expect: None };
        let outstanding =
            crate::model::facts::Outstanding { effect: effect.clone(), unknown: false, looked: 0 };
        facts.outstanding.insert(effect.resource(), outstanding);
        facts.absent.insert("public".to_owned(), Absent { reads: 1, watched: secs(1) });
        facts.lost = Lost { reads: 1, restarting: None };
        facts.drift.outage_reads = 1;
        facts.generation += 1;
        facts
    }

    #[test]
    fn looks_in_a_row_need_no_write_of_their_own() {
        let before = Scene::burning().facts;
        for look in [
            (|progress| progress.steady_reads += 1) as fn(&mut Progress),
            |progress| progress.foreign_reads += 1,
            |progress| progress.missing_reads += 1,
            |progress| progress.stable_gone_reads += 1,
            |progress| progress.stable_up_reads += 1,
        ] {
            let mut after = before.clone();
            look(&mut after.release.as_mut().unwrap().progress);
            assert_ne!(after, before);
            assert_eq!(after.without_clocks(), before.without_clocks());
        }
    }

    #[test]
    fn of_a_decision_that_is_not_carried_out_only_time_is_kept() {
        let before = Scene::burning().facts;
        let decided = decided(&before);
        let mut kept = before.clone();
        kept.keep_time_of(&decided);
        let (progress, theirs) =
            (&kept.release.as_ref().unwrap().progress, &decided.release.as_ref().unwrap().progress);
        assert_eq!((progress.astray, progress.baked, progress.foreign_reads), (secs(7), secs(3), 2));
        assert_eq!(
            (progress.stage, progress.in_stage),
            (theirs.stage, secs(5)),
            "the stage goes with its clock"
        );
        assert!(!progress.shifted && !progress.targets_healthy, "no milestone is passed");
        assert!(kept.outstanding.is_empty() && kept.generation == before.generation);
        assert_eq!((&kept.absent, kept.lost), (&decided.absent, decided.lost));
        assert_eq!(kept.drift.outage_reads, 1);
    }

    #[test]
    fn the_clocks_of_another_step_or_release_are_not_taken() {
        let before = Scene::burning().facts;
        for other in [
            (|facts| facts.release.as_mut().unwrap().progress.step = 1) as fn(&mut Facts),
            |facts| facts.release.as_mut().unwrap().id.attempt = 2,
            |facts| facts.release = None,
        ] {
            let mut decided = decided(&before);
            other(&mut decided);
            let mut kept = before.clone();
            kept.keep_time_of(&decided);
            assert_eq!(kept.release, before.release);
        }
    }
}
