"""The plan is tested without processes: `python -m unittest test_schedule`."""

import unittest
from collections import Counter

from schedule import CALM, LATE_MAX, LEASE_RENEW, LEASE_TTL, QUIET_AFTER_UNKNOWN, STOP_MAX, STORM, WEIGHTS, plan

KINDS = tuple(WEIGHTS)


class ThePlan(unittest.TestCase):
    def test_is_the_same_for_the_same_seed_and_another_for_another(self):
        self.assertEqual(plan(1, 60, 3, 2.0, KINDS), plan(1, 60, 3, 2.0, KINDS))
        self.assertNotEqual(plan(1, 60, 3, 2.0, KINDS), plan(2, 60, 3, 2.0, KINDS))

    def test_holds_every_kind_as_often_as_its_weight_says(self):
        counts = Counter(one.kind for one in plan(7, 20_000, 3, 2.0, KINDS))
        whole = sum(counts.values())
        for kind, weight in WEIGHTS.items():
            expected = whole * weight / sum(WEIGHTS.values())
            # Six standard deviations, at least.
            self.assertLess(abs(counts[kind] - expected), 6 * expected**0.5, kind)

    def test_lets_nothing_come_later_than_the_quiet_time_covers(self):
        for one in plan(3, 20_000, 3, 2.0, KINDS):
            if "top" in one.kind:
                self.assertTrue(LEASE_TTL < one.lasts <= STOP_MAX, one)
            if one.kind in ("hold", "silent"):
                self.assertLessEqual(one.lasts, LATE_MAX, one)
        self.assertLess(STOP_MAX, LEASE_TTL - LEASE_RENEW + QUIET_AFTER_UNKNOWN)
        self.assertLess(LATE_MAX, QUIET_AFTER_UNKNOWN)

    def test_lets_an_owner_live_through_its_quiet_time_between_two_storms(self):
        begun = [one.at % (STORM + CALM) for one in plan(4, 2_000, 3, 2.0, KINDS)]
        self.assertLess(max(begun), STORM + 0.01)
        longest = max(one.lasts for one in plan(4, 2_000, 3, 2.0, KINDS))
        self.assertLess(longest + LEASE_TTL + QUIET_AFTER_UNKNOWN, CALM)

    def test_means_every_replica_and_the_owner(self):
        meant = Counter(one.replica for one in plan(5, 2_000, 3, 2.0, KINDS))
        self.assertEqual(set(meant), {None, 0, 1, 2})


if __name__ == "__main__":
    unittest.main()
