"""The monitor is tested on logs whose faults are known: `python -m unittest test_monitor`."""

import unittest
from dataclasses import replace

from harness import Call
from leases import FAILOVER, failovers, outages, takes
from monitor import violations
from schedule import LEASE_RENEW, LEASE_TTL
from seen import OPERATION, Bound, Life, Tie, Trace, Trouble

A, B = "tg/a", "tg/b"
WEB = Bound("web", "service/web", {"a": A, "b": B}, "rule/production", "rule/test")
OURS, FIRST, SECOND = "AKIDOURS", "AKIDONE", "AKIDTWO"


def call(at, operation, resource, parameters, key=FIRST, service="ecs"):
    return Call(0, at, at + 0.01, key, service, operation, resource, parameters, "OK", (), "")


def weigh(at, a, b, key=FIRST, rule=WEB.production, operation="ModifyRule"):
    pair = [{"TargetGroupArn": A, "Weight": a}, {"TargetGroupArn": B, "Weight": b}]
    actions = [{"Type": "forward", "ForwardConfig": {"TargetGroups": pair}}]
    return call(at, operation, rule, {"Actions": actions}, key, "elb")


def create(at, name, group, external, key=FIRST):
    parameters = {"service": WEB.service, "loadBalancers": [{"targetGroupArn": group}], "externalId": external}
    return call(at, "CreateTaskSet", name, parameters, key)


def about(at, operation, name, key=FIRST, **more):
    member = "primaryTaskSet" if "Primary" in operation else "taskSet"
    return call(at, operation, name, {"service": WEB.service, member: name, **more}, key)


def take(at, key, epoch, lease="lease#all"):
    values = {":me": {"S": key}, ":epoch": {"N": str(epoch)}}
    parameters = {
        "Key": {"pk": {"S": lease}, "sk": {"S": "lease"}},
        "UpdateExpression": "SET #holder = :me, #epoch = :epoch",
        "ExpressionAttributeValues": values,
    }
    return call(at, "UpdateItem", "state", parameters, key, "dynamodb")


def release():
    """A first release into b and a canary from b to a, with the first owner's clean-up."""
    return [
        weigh(0.0, 1, 0, OURS, operation="CreateRule"),
        take(1.0, FIRST, 1),
        create(2.0, "set/1", B, "web-1.1"),
        weigh(4.0, 0, 100),
        about(5.0, "UpdateServicePrimaryTaskSet", "set/1"),
        create(10.0, "set/2", A, "web-2.1"),
        weigh(12.0, 0, 100, rule=WEB.test),
        weigh(13.0, 100, 900),
        weigh(15.0, 100, 0),
        about(17.0, "UpdateServicePrimaryTaskSet", "set/2"),
        about(20.0, "DeleteTaskSet", "set/1"),
    ]


def trace(calls, **more):
    numbered = [replace(one, seq=index) for index, one in enumerate(calls, 1)]
    return Trace(numbered, [WEB], OURS, steady={"set/1": 3.0, "set/2": 11.0}, **more)


def found(calls, **more):
    """The properties that do not hold."""
    return {name for name, complaints in violations(trace(calls, **more)).items() if complaints}


class TheMonitor(unittest.TestCase):
    def test_finds_nothing_in_a_good_release(self):
        self.assertEqual(found(release()), set())

    def test_flags_weight_before_the_task_set_was_steady(self):
        calls = release()
        calls[7] = weigh(10.5, 100, 900)
        self.assertEqual(found(calls), {"no weight before steady"})

    def test_flags_weight_on_a_task_set_that_was_never_steady(self):
        early = trace(release())
        del early.steady["set/2"]
        self.assertTrue(violations(early)["no weight before steady"])

    def test_flags_weight_on_a_group_whose_task_set_is_gone(self):
        self.assertEqual(found([*release(), weigh(21.0, 900, 100)]), {"no weight on an empty group"})

    def test_flags_a_deletion_under_weight(self):
        calls = release()
        calls[8:9] = []
        self.assertIn("no delete under weight", found(calls))

    def test_flags_a_deletion_whose_weight_came_back_by_a_late_write(self):
        late = replace(weigh(14.0, 100, 900), ended=19.0, faults=("hold",))
        self.assertIn("no delete under weight", found([*release(), late]))

    def test_flags_a_scale_in_under_weight_and_allows_one_without(self):
        calls = [*release()[:-1], about(16.0, "UpdateTaskSet", "set/2", scale={"value": 50})]
        self.assertEqual(found(calls), {"no scale-in under weight"})
        calls[-1] = about(16.0, "UpdateTaskSet", "set/1", scale={"value": 50})
        self.assertEqual(found(calls), set())

    def test_flags_a_primary_that_has_not_all_weight(self):
        calls = release()
        calls[9] = about(14.0, "UpdateServicePrimaryTaskSet", "set/2")
        self.assertEqual(found(calls), {"primary has all weight"})

    def test_knows_a_primary_that_landed_behind_the_way_back_from_one_that_was_sent_there(self):
        calls = release()
        held = replace(about(15.5, "UpdateServicePrimaryTaskSet", "set/2"), ended=18.0, faults=("hold",))
        back = [weigh(17.0, 0, 100), about(19.0, "UpdateServicePrimaryTaskSet", "set/1")]
        self.assertEqual(found([*calls[:9], held, *back]), set())
        sent_there = about(18.0, "UpdateServicePrimaryTaskSet", "set/2")
        self.assertEqual(found([*calls[:9], sent_there, *back]), {"primary has all weight"})

    def test_flags_a_second_task_set_in_a_group(self):
        self.assertIn("one task set a group", found([*release(), create(18.0, "set/3", B, "web-3.1")]))

    def test_flags_two_task_sets_of_one_release(self):
        self.assertIn("one task set a release", found([*release(), create(22.0, "set/3", B, "web-2.1")]))

    def test_flags_operations_beyond_the_seven(self):
        calls = [*release(), call(30.0, "UpdateService", WEB.service, {"service": WEB.service})]
        self.assertEqual(found(calls), {"only what is allowed and bound"})

    def test_flags_a_rule_that_no_record_binds(self):
        self.assertEqual(found([*release(), weigh(30.0, 1, 1, rule="rule/foreign")]), {"only what is allowed and bound"})

    def test_flags_weights_on_a_foreign_group(self):
        strange = weigh(30.0, 100, 0)
        strange.parameters["Actions"][0]["ForwardConfig"]["TargetGroups"][1]["TargetGroupArn"] = "tg/foreign"
        self.assertEqual(found([*release(), strange]), {"only what is allowed and bound"})

    def test_flags_the_deletion_of_a_task_set_that_no_daemon_made(self):
        calls = [*release(), about(30.0, "DeleteTaskSet", "set/foreign")]
        self.assertEqual(found(calls), {"only what is allowed and bound"})

    def test_flags_more_calls_than_the_budget_gives(self):
        burst = [about(30.0 + 0.02 * n, "UpdateTaskSet", "set/2", scale={"value": 100}) for n in range(26)]
        self.assertEqual(found([*release(), *burst]), {"rates stay within the budget"})
        self.assertEqual(found([*release(), *burst[:22]]), set())

    def test_allows_any_number_of_calls_at_the_pace_of_the_budget(self):
        paced = [about(30.0 + 0.2 * n, "UpdateTaskSet", "set/2", scale={"value": 100}) for n in range(200)]
        self.assertEqual(found([*release(), *paced]), set())

    def test_counts_the_budget_of_each_daemon_by_itself_and_of_all_together(self):
        keys = [FIRST, SECOND]
        burst = [about(30.0 + 0.02 * n, "UpdateTaskSet", "set/2", keys[n % 2], scale={"value": 100}) for n in range(40)]
        self.assertIn("rates stay within the budget", found([*release(), *burst]), "20 + 2 of both, and 2 late")
        self.assertNotIn("rates stay within the budget", found([*release(), *burst[:24]]))

    def test_counts_the_steps_of_all_daemons_together(self):
        keys = [FIRST, SECOND]
        steps = [weigh(14.0 + 0.02 * n, 500, 500, keys[n % 2]) for n in range(12)]
        self.assertIn("rates stay within the budget", found(release()[:8] + steps + release()[8:]))

    def test_grants_a_turn_beside_the_burst_to_each_daemon_that_runs(self):
        steps = [weigh(14.0 + 0.02 * n, 500, 500, FIRST if n < 5 else SECOND) for n in range(9)]
        calls = release()[:7] + steps + release()[8:]
        beside = [Life(FIRST, 0.0, None), Life(SECOND, 1.0, None)]
        after = [Life(FIRST, 0.0, 14.09), Life(SECOND, 14.1, None)]
        self.assertNotIn("rates stay within the budget", found(calls, lives=beside))
        self.assertIn("rates stay within the budget", found(calls, lives=after))

    def test_flags_steps_forward_that_take_the_reserve_of_the_way_back(self):
        steps = [weigh(14.0 + 0.02 * n, 500, 500) for n in range(9)]
        self.assertIn("rates stay within the budget", found(release()[:8] + steps + release()[8:]))
        back = [weigh(14.0 + 0.02 * n, 0, 100) for n in range(9)]
        self.assertNotIn("rates stay within the budget", found(release()[:8] + back + release()[8:]))

    def test_flags_two_calls_at_a_time(self):
        calls = release()
        calls[7] = replace(calls[7], began=11.0, ended=12.5)
        self.assertEqual(found(calls), {"one call at a time"})

    def test_allows_a_second_call_after_the_first_ones_caller_has_died_or_given_up(self):
        calls = release()
        calls[6] = replace(calls[6], ended=13.5)
        self.assertEqual(found(calls), {"one call at a time"})
        self.assertEqual(found(calls, lives=[Life(FIRST, 0.0, 12.5)]), set())
        calls[6] = replace(calls[6], began=10.9)
        self.assertEqual(found(calls), set())

    def test_flags_a_write_after_another_owner_has_come(self):
        calls = release()
        calls.insert(8, take(14.0, SECOND, 2))
        self.assertEqual(found(calls), {"a late owner does not write"})

    def test_allows_the_write_of_the_new_owner_and_none_of_nobody(self):
        calls = [weigh(15.0, 100, 0, SECOND) if one.began == 15.0 else one for one in release()[:9]]
        calls.insert(8, take(14.0, SECOND, 2))
        self.assertEqual(found(calls), set())
        self.assertEqual(found(release()[:1] + release()[2:]), {"a late owner does not write"})

    def test_allows_a_late_write_that_a_stopped_process_had_begun_to_send_and_no_later_one(self):
        calls = release()[:9]
        calls.insert(8, take(14.0, SECOND, 2))
        stopped = [Tie(FIRST, 13.5, 14.9)]
        self.assertEqual(found(calls, ties=stopped), set())
        self.assertEqual(found(calls, ties=[Tie(FIRST, 13.5, 14.2)]), {"a late owner does not write"})
        # Stopped only after the other had come: it had no business to send anything.
        self.assertEqual(found(calls, ties=[Tie(FIRST, 14.5, 14.9)]), {"a late owner does not write"})


    def test_wants_one_lease_of_several_whose_owner_made_all_calls_of_a_service(self):
        others = [take(3.5, SECOND, 1, "lease#other"), take(14.0, SECOND, 2, "lease#third")]
        self.assertEqual(found(sorted([*release(), *others], key=lambda one: one.began)), set())
        moved = [take(14.0, SECOND, 2), take(14.1, FIRST, 2, "lease#other")]
        calls = sorted([*release(), *others, *moved], key=lambda one: one.began)
        self.assertEqual(found(calls), {"a late owner does not write"})


class Takes(unittest.TestCase):
    def test_are_the_writes_of_a_new_holder_and_no_beats(self):
        beat = take(2.0, FIRST, 1)
        beat.parameters["UpdateExpression"] = "SET #beat = #beat + :one"
        known = takes([take(1.0, FIRST, 1), beat, replace(take(3.0, SECOND, 2), result="Conditional")])
        self.assertEqual([(one.access_key, one.epoch) for one in known], [(FIRST, 1)])


def beat(at, key):
    parameters = {"Key": {"pk": {"S": "lease#members"}, "sk": {"S": key}}, "UpdateExpression": "SET #beat = #beat + :one"}
    return call(at, "UpdateItem", "state", parameters, key, "dynamodb")


def beats(key, began, ended, every=LEASE_RENEW):
    return [beat(began + every * n, key) for n in range(int((ended - began) / every) + 1)]


LEASE, THIRD = "what a dead owner had is owned again", "AKIDTHREE"


class WhatADeadOwnerHad(unittest.TestCase):
    """The first owner takes a lease at 1.0 and dies at 10.0; the second one lives for the whole time."""

    LIVES = (Life(FIRST, 0.0, 10.0), Life(SECOND, 0.0, None))

    def judge(self, taken, until=60.0, every=LEASE_RENEW, lives=LIVES, troubles=(), others=(), takes=0.01):
        mine = [replace(one, ended=one.began + takes) for one in beats(SECOND, 0.0, until, every)]
        calls = [take(1.0, FIRST, 1), *mine, *others]
        if taken:
            calls.append(take(taken, SECOND, 2))
        judged = trace(sorted(calls, key=lambda one: one.began), lives=lives, troubles=troubles)
        self.assertEqual(bool(violations(judged)[LEASE]), any(one.late for one in failovers(judged)))
        return judged

    def late(self, *arguments, **more):
        return [one.late for one in failovers(self.judge(*arguments, **more))]

    def test_is_owned_again_within_two_times_to_live_and_what_is_on_the_way(self):
        self.assertEqual(self.late(10.0 + FAILOVER), [False])
        self.assertEqual(self.late(10.0 + FAILOVER + 3 * LEASE_RENEW), [True])
        self.assertLess(FAILOVER, 2 * LEASE_TTL + OPERATION + 0.01)

    def test_is_flagged_when_nobody_ever_takes_it_and_was_there_to(self):
        self.assertEqual(self.late(None), [True])
        self.assertEqual(self.late(None, until=15.0), [False])

    def test_is_nobodys_concern_while_its_owner_lives(self):
        self.assertEqual(self.late(None, lives=[Life(FIRST, 0.0, None), self.LIVES[1]]), [])
        self.assertEqual(self.late(9.0), [])

    def test_may_wait_for_as_long_as_the_others_are_kept_from_it(self):
        away = [Trouble(SECOND, 10.0, 30.0, "cut")]
        self.assertEqual(self.late(30.0 + OPERATION + FAILOVER, troubles=away), [False])
        self.assertEqual(self.late(30.0 + OPERATION + FAILOVER + 3 * LEASE_RENEW, troubles=away), [True])
        self.assertEqual(self.late(None, troubles=[Trouble("", 10.0, 60.0, "tablesDown")]), [False])
        self.assertEqual(self.late(None, troubles=[Trouble(THIRD, 10.0, 60.0, "cut")]), [True])

    def test_counts_what_is_between_two_times_of_trouble_but_not_before_a_call_that_hung_was_given_up(self):
        storm = [Trouble(SECOND, at, at + 1.0, "silent") for at in range(10, 100, 10)]
        self.assertEqual(self.late(None, until=100.0, troubles=storm), [True])
        storm = [Trouble(SECOND, at, at + 1.0, "silent") for at in range(10, 100, 3)]
        self.assertEqual(self.late(None, until=100.0, troubles=storm), [False])

    def test_is_judged_by_how_far_a_busy_machine_let_its_taker_come(self):
        self.assertEqual(self.late(30.0, every=5.0), [False])
        self.assertEqual(self.late(None, every=5.0, until=80.0), [True])
        self.assertEqual(self.late(30.0, every=1.0), [True])
        self.assertEqual(self.late(None, takes=LEASE_RENEW / 4), [False], "the table was slow")

    def test_is_judged_by_each_life_of_its_taker_alone(self):
        lives = [*self.LIVES, Life(THIRD, 15.0, None)]
        self.assertEqual(self.late(18.0, lives=lives, until=14.0, others=beats(THIRD, 15.0, 20.0)), [False])

    def test_is_asked_of_each_lease_and_of_each_owner(self):
        mate = take(2.0, FIRST, 1, "lease#other")
        lives = [self.LIVES[0], Life(SECOND, 0.0, 40.0), Life(THIRD, 0.0, None)]
        judged = self.judge(14.0, lives=lives, others=[mate, *beats(THIRD, 0.0, 60.0)])
        told = {(one.lease, one.owner): one.late for one in failovers(judged)}
        lease, other = "lease#all/lease", "lease#other/lease"
        self.assertEqual(told, {(lease, FIRST): False, (other, FIRST): True, (lease, SECOND): True})


class WithoutTables(unittest.TestCase):
    NAME = "without the tables only the way back"
    GONE = Trouble("", 13.5, 30.0, "tablesDown")

    def test_traffic_may_go_back_and_nothing_else_moves(self):
        calls = release()[:8]
        self.assertEqual(found([*calls, weigh(20.0, 0, 100)], troubles=[self.GONE]), set())
        for strange in (
            weigh(20.0, 500, 500),
            weigh(20.0, 0, 100, rule=WEB.test),
            about(20.0, "UpdateTaskSet", "set/2", scale={"value": 100}),
        ):
            self.assertEqual(found([*calls, strange], troubles=[self.GONE]), {self.NAME}, strange)

    def test_a_lease_that_still_lives_is_not_meant_nor_are_other_troubles(self):
        calls = [*release()[:8], weigh(13.5 + LEASE_TTL, 500, 500)]
        self.assertEqual(found(calls, troubles=[self.GONE]), set())
        calls = [*release()[:8], weigh(20.0, 500, 500)]
        self.assertEqual(found(calls, troubles=[self.GONE._replace(kind="weather")]), set())

    def test_what_a_stopped_process_had_begun_to_send_may_land_and_no_later_call(self):
        calls = [*release()[:8], weigh(20.0, 500, 500)]
        self.assertEqual(found(calls, troubles=[self.GONE], ties=[Tie(FIRST, 13.2, 19.9)]), set())
        self.assertEqual(found(calls, troubles=[self.GONE], ties=[Tie(FIRST, 13.2, 19.2)]), {self.NAME})
        self.assertEqual(found(calls, troubles=[self.GONE], ties=[Tie(FIRST, 19.7, 19.9)]), {self.NAME})

    def test_minutes_of_it_must_have_been_and_have_ended(self):
        begun, back = take(1.0, FIRST, 1), take(40.0, SECOND, 2)
        self.assertEqual(outages(trace([begun, back], troubles=[self.GONE]), 16.0), [])
        self.assertTrue(outages(trace([begun, back], troubles=[self.GONE]), 17.0), "it was shorter")
        self.assertTrue(outages(trace([begun, back]), 16.0), "it was never")
        self.assertTrue(outages(trace([begun], troubles=[self.GONE]), 16.0), "it did not end")
        reached = beat(20.0, FIRST)
        self.assertTrue(outages(trace([begun, reached, back], troubles=[self.GONE]), 16.0), "somebody reached them")


if __name__ == "__main__":
    unittest.main()
