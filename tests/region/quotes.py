"""Holds the quotations of the cases to the API models that botocore ships.

A source that names a service and a shape, operation or member of its model, such as `ecs TaskSet.status`, must
contain the quotation word for word. Pages that are not shipped with botocore cannot be checked here.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from typing import Iterable, Optional

import botocore.session

from suite import Case

MODELS = ("ecs", "elbv2", "cloudwatch", "dynamodb", "dynamodbstreams", "lambda", "sns", "sqs", "events", "sts")


def _words(text: str) -> str:
    """Text without markup, without the spaces that markup leaves behind."""
    bare = html.unescape(re.sub(r"<[^>]+>", " ", text))
    bare = bare.replace("’", "'").replace("\u00a0", " ")
    return re.sub(r"\s+([.,;:)])", r"\1", re.sub(r"\s+", " ", bare)).strip()


@lru_cache(maxsize=None)
def _model(service: str) -> dict:
    return botocore.session.get_session().get_component("data_loader").load_service_model(service, "service-2")


def _documentation(service: str, path: str) -> Optional[str]:
    model = _model(service)
    first, _, member = path.partition(".")
    if member:
        found = model["shapes"].get(first, {}).get("members", {}).get(member)
    else:
        found = model["operations"].get(first) or model["shapes"].get(first)
    return None if found is None else _words(found.get("documentation", ""))


def complaints(cases: Iterable[Case]) -> tuple[int, list[str]]:
    """How many quotations were looked up, and what is wrong with any."""
    checked, found = 0, []
    for case in cases:
        service, _, path = case.source.partition(" ")
        if service not in MODELS or not re.fullmatch(r"\w+(\.\w+)?", path):
            continue
        checked += 1
        text = _documentation(service, path)
        if text is None:
            found.append(f"{case.title}: there is no {case.source}")
        elif not all(_words(part) in text for part in case.quote.split(" … ")):
            found.append(f"{case.title}: {case.source} does not say {case.quote!r}")
    return checked, found
