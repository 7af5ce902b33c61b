"""The plan is tested without processes: `python -m unittest test_schedule`."""

import unittest
from collections import Counter

from schedule import (
    AIMS,
    CALM,
    LATE_MAX,
    LEASE_RENEW,
    LEASE_TTL,
    OUTAGE,
    QUIET_AFTER_UNKNOWN,
    STOP_MAX,
    STORM,
    WEIGHTS,
    never,
    plan,
    with_outage,
)

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

    def test_holds_each_kind_once_before_any_comes_twice(self):
        for seed in range(20):
            first = plan(seed, 45, 3, 1.6, KINDS)[: len(KINDS)]
            self.assertEqual(sorted(one.kind for one in first), sorted(KINDS), seed)
            self.assertEqual({one.operation for one in first}, {AIMS[0]})
            narrowed = plan(seed, 45, 3, 1.6, ("kill", "cut"))
            self.assertEqual({one.kind for one in narrowed}, {"kill", "cut"})

    def test_tells_what_was_planned_and_never_happened(self):
        planned = plan(1, 45, 3, 1.6, ("kill", "cut"))
        self.assertEqual(never(planned, {"kill": 1, "cut": 2}), [])
        [told] = never(planned, {"kill": 1, "missed its aim": 3})
        self.assertEqual(told, next(one for one in planned if one.kind == "cut"))
        self.assertEqual(never([], {}), [])

    def test_keeps_the_tables_away_for_minutes_while_nothing_else_happens(self):
        before = plan(4, 2_000, 3, 2.0, KINDS)
        found = with_outage(before)
        [outage] = [one for one in found if one.lasts == OUTAGE]
        self.assertEqual(outage.kind, "tablesDown")
        for one in found:
            if one.at < outage.at:
                self.assertLess(one.at + one.lasts, outage.at)
            elif one is not outage:
                self.assertGreaterEqual(one.at, outage.at + OUTAGE + CALM)
        self.assertEqual([one.kind for one in found if one is not outage], [one.kind for one in before])
        self.assertEqual(found, sorted(found, key=lambda one: one.at))

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
        self.assertEqual({one.replica for one in plan(5, 2_000, 2, 2.0, KINDS)}, {None, 0, 1})


if __name__ == "__main__":
    unittest.main()
