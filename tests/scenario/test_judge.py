"""The judge is tested on traces whose faults are known: `python -m unittest test_judge`."""

import random
import unittest

from judge import Placement, Request, Write, judge, phases

PLACED = [Placement("web:1", "a"), Placement("web:2", "b")]
#: Canary of 10 % at t=100, everything at t=200.
CANARY = [
    Write(0.0, 0.1, {"a": 100, "b": 0}),
    Write(100.0, 100.1, {"a": 900, "b": 100}),
    Write(200.0, 200.1, {"a": 0, "b": 100}),
]


def request(start, revision, status=200, took=0.01):
    return Request(start, start + took, status, revision, False)


def fair_traffic(rate=50, seed=7):
    """What an honest balancer answers while CANARY is written."""
    rng = random.Random(seed)
    found = []
    for index in range(300 * rate):
        start = 0.2 + index / rate
        share = 0.0 if start < 100 else 0.1 if start < 200 else 1.0
        found.append(request(start, "web:2" if rng.random() < share else "web:1"))
    return found


class TheJudge(unittest.TestCase):
    def test_finds_nothing_in_honest_traffic(self):
        verdict = judge(fair_traffic(), CANARY, PLACED, 1.0)
        self.assertEqual(verdict.complaints(), [])
        self.assertGreater(verdict.judged_at_zero, 9_000)
        self.assertEqual([share.weight for share in verdict.shares], [0.9, 0.1])

    def test_flags_a_request_answered_by_a_revision_whose_weight_was_taken_away(self):
        verdict = judge([*fair_traffic(), request(250.0, "web:1")], CANARY, PLACED, 1.0)
        self.assertEqual([leak.start for leak in verdict.leaks], [250.0])

    def test_flags_a_request_answered_by_a_revision_that_never_had_weight_yet(self):
        verdict = judge([request(50.0, "web:2")], CANARY, PLACED, 1.0)
        self.assertEqual(len(verdict.leaks), 1)

    def test_allows_the_old_revision_while_a_write_propagates(self):
        verdict = judge([request(201.0, "web:1")], CANARY, PLACED, 1.0)
        self.assertEqual(verdict.leaks, [])
        verdict = judge([request(201.2, "web:1")], CANARY, PLACED, 1.0)
        self.assertEqual(len(verdict.leaks), 1)

    def test_leaves_out_a_request_that_straddles_a_write(self):
        verdict = judge([request(99.995, "web:2", took=0.02)], CANARY, PLACED, 1.0)
        self.assertEqual((verdict.leaks, verdict.judged_at_zero), ([], 0))

    def test_flags_one_leak_in_a_thousand(self):
        rng = random.Random(3)
        leaky = [request(202 + n / 1000, "web:1" if rng.random() < 0.001 else "web:2") for n in range(20_000)]
        verdict = judge(leaky, CANARY, PLACED, 1.0)
        self.assertEqual(verdict.judged_at_zero, 20_000)
        self.assertGreater(len(verdict.leaks), 0)

    def test_flags_a_share_that_is_not_its_weight(self):
        rng = random.Random(5)
        skewed = [
            request(102 + n / 50, "web:2" if rng.random() < 0.16 else "web:1") for n in range(1_000)
        ]
        verdict = judge(skewed, CANARY, PLACED, 1.0)
        self.assertTrue(any("share is off" in text for text in verdict.complaints()))

    def test_flags_a_canary_that_got_nothing(self):
        verdict = judge([request(102 + n / 50, "web:1") for n in range(1_000)], CANARY, PLACED, 1.0)
        self.assertTrue(any("share is off" in text for text in verdict.complaints()))

    def test_does_not_call_a_share_proved_by_too_few_requests(self):
        few = [request(102 + n, "web:2" if n == 0 else "web:1") for n in range(10)]
        self.assertFalse(all(share.fits for share in judge(few, CANARY, PLACED, 1.0).shares))

    def test_flags_server_errors_and_broken_connections(self):
        broken = Request(50.0, 50.1, 0, None, True, "reset")
        verdict = judge([request(50.0, "web:1", status=503), broken], CANARY, PLACED, 1.0)
        self.assertEqual(len(verdict.failed), 2)

    def test_flags_a_revision_that_nobody_released(self):
        self.assertEqual(len(judge([request(50.0, "web:9")], CANARY, PLACED, 1.0).strangers), 1)

    def test_knows_no_weights_after_a_write_that_was_not_acknowledged(self):
        unknown = [CANARY[0], Write(50.0, None, {"a": 0, "b": 100}), *CANARY[1:]]
        self.assertEqual([(phase.begin, phase.end) for phase in phases(unknown, 1.0)][0], (1.1, 50.0))
        self.assertEqual(judge([request(60.0, "web:2")], unknown, PLACED, 1.0).leaks, [])

    def test_knows_no_weights_while_a_write_is_under_way_that_another_has_overtaken(self):
        slow = Write(90.0, 150.0, {"a": 50, "b": 50})
        known = [(phase.begin, phase.end, phase.weights["b"]) for phase in phases([*CANARY, slow], 1.0)]
        self.assertEqual(known, [(1.1, 90.0, 0), (151.0, 200.0, 50), (201.1, float("inf"), 100)])

    def test_allows_a_revision_that_came_back_in_the_other_group(self):
        placed = [*PLACED, Placement("web:1", "b")]
        self.assertEqual(judge([request(250.0, "web:1")], CANARY, placed, 1.0).leaks, [])


if __name__ == "__main__":
    unittest.main()
