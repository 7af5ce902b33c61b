"""The comparison of calls with the template must find what is missing and what is too much."""

from __future__ import annotations

import unittest

from harness import Called
from permissions import UNTOLD, allowed, complaints, needed


def called(service: str, operation: str, *parts: str) -> Called:
    return Called("AKIDDAEMON1", service, operation, frozenset(parts))


class Permissions(unittest.TestCase):
    def test_a_task_set_needs_its_tags_and_roles_too(self) -> None:
        actions = {"ecs:CreateTaskSet", "ecs:TagResource", "iam:PassRole"}
        self.assertEqual(needed({called("ecs", "CreateTaskSet")}), actions)

    def test_a_transaction_needs_what_its_parts_need(self) -> None:
        told = called("dynamodb", "TransactWriteItems", "Update", "ConditionCheck")
        self.assertEqual(needed({told}), {"dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"})

    def test_the_stream_is_read_with_actions_of_the_tables_service(self) -> None:
        self.assertEqual(needed({called("dynamodbstreams", "GetRecords")}), {"dynamodb:GetRecords"})

    def test_a_call_that_is_not_allowed_is_found(self) -> None:
        found = complaints({called("ecs", "UpdateService"), called("sts", "GetCallerIdentity")}, whole=False)
        expected = [f"{action} is needed and not allowed" for action in ("ecs:UpdateService", "sts:GetCallerIdentity")]
        self.assertEqual(found, expected)

    def test_what_is_denied_is_not_taken_for_allowed(self) -> None:
        self.assertNotIn("dynamodb:Scan", allowed())

    def test_an_action_that_nobody_uses_is_found_after_all_stories(self) -> None:
        found = complaints(set(), whole=True)
        unused = sorted(allowed() - UNTOLD.keys())
        self.assertEqual(found, [f"{action} is allowed and never called" for action in unused])
        self.assertEqual(complaints(set(), whole=False), [])

    def test_an_excuse_that_is_out_of_date_is_found(self) -> None:
        [found] = complaints({called("elb", "ModifyListener")}, whole=False)
        self.assertIn("but was called", found)


if __name__ == "__main__":
    unittest.main()
