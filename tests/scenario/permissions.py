"""What daemons called, as IAM actions, against what the deployment template lets the daemon's task role do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import yaml

from harness import Called

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy" / "pointsman.yaml"

#: The sandbox's name of a service as IAM's prefix. Streams have a service of their own and DynamoDB's prefix.
PREFIXES = {
    "ecs": "ecs",
    "elb": "elasticloadbalancing",
    "cloudwatch": "cloudwatch",
    "dynamodb": "dynamodb",
    "dynamodbstreams": "dynamodb",
}

#: Where an operation is not checked by exactly the action of its own name. Service authorization reference:
#: "Actions, resources, and condition keys for Amazon Elastic Container Service": CreateTaskSet takes a task definition,
#: whose roles are passed (iam:PassRole); "ecs:CreateAction" of TagResource: tags in a creating call are checked as
#: ecs:TagResource.
ACTIONS = {
    ("ecs", "CreateTaskSet"): {"ecs:CreateTaskSet", "ecs:TagResource", "iam:PassRole"},
}

#: DynamoDB Developer Guide, "Transactions", IAM: a transaction is checked by the actions of its parts; there is no
#: action TransactWriteItems.
TRANSACTION = "TransactWriteItems"
PARTS = {
    "ConditionCheck": "dynamodb:ConditionCheckItem",
    "Delete": "dynamodb:DeleteItem",
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
}

#: Allowed, and called by no story, and why that is right.
UNTOLD = {
    "elasticloadbalancing:ModifyListener": "no story releases behind a listener's default action",
    "cognito-idp:DescribeUserPoolClient": "ELB checks it, and only for routes that authenticate with Cognito",
}


def allowed(template: Path = TEMPLATE) -> set[str]:
    """Every action that the task role is allowed, those under a condition of the stack included."""
    role = yaml.safe_load(template.read_text())["Resources"]["TaskRole"]["Properties"]
    return {
        action
        for policy in role["Policies"]
        for statement in _statements(policy["PolicyDocument"]["Statement"])
        if statement["Effect"] == "Allow"
        for action in _listed(statement["Action"])
    }


def _statements(written: list) -> Iterator[dict]:
    for statement in written:
        choices = statement["Fn::If"][1:] if "Fn::If" in statement else [statement]
        yield from (choice for choice in choices if "Effect" in choice)


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def needed(called: set[Called]) -> set[str]:
    """The IAM actions that AWS would have checked for these calls."""
    actions: set[str] = set()
    for call in called:
        if call.operation == TRANSACTION:
            actions |= {PARTS[part] for part in call.parts}
        else:
            own = f"{PREFIXES.get(call.service, call.service)}:{call.operation}"
            actions |= ACTIONS.get((call.service, call.operation), {own})
    return actions


def complaints(called: set[Called], whole: bool) -> list[str]:
    """What differs; that something is never called is said only after all stories."""
    may, must = allowed(), needed(called)
    found = [f"{action} is needed and not allowed" for action in sorted(must - may)]
    found += [f"{action} is listed as untold and not allowed at all" for action in sorted(UNTOLD.keys() - may)]
    stale = sorted(UNTOLD.keys() & must)
    found += [f"{action} is listed as untold ({UNTOLD[action]}), but was called" for action in stale]
    if whole:
        found += [f"{action} is allowed and never called" for action in sorted(may - must - UNTOLD.keys())]
    return found
