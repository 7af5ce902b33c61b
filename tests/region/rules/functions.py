"""Lambda: functions that are hooks."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile

from aws import Aws
from suite import Service, need, refused, same, until

FUNCTIONS = Service("lambda")
CASES = FUNCTIONS.cases
case = FUNCTIONS.case

CODE = ("code",)
ROLE = "arn:aws:iam::000000000000:role/hook"
HOOK = """\
import os, time

def handler(event, context):
    if event.get("boom"):
        raise ValueError("boom")
    if event.get("sleep"):
        time.sleep(event["sleep"])
    return {"hookStatus": "SUCCEEDED", "echo": event, "name": context.function_name, "stage": os.environ.get("STAGE")}
"""


def _zip(code: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("hook.py", code)
    return archive.getvalue()


def _make(aws: Aws, code: str = HOOK, timeout: int = 5) -> str:
    name = aws.name("f")
    aws.functions.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role=ROLE,
        Handler="hook.handler",
        Code={"ZipFile": _zip(code)},
        Timeout=timeout,
        Environment={"Variables": {"STAGE": "bake"}},
    )
    aws.after(aws.functions.delete_function, FunctionName=name)
    state = lambda: aws.functions.get_function(FunctionName=name)["Configuration"]["State"]
    until("it is Active", lambda: state() == "Active")
    return name


def _invoke(aws: Aws, name: str, event: dict, **given) -> tuple[dict, object]:
    answer = aws.functions.invoke(FunctionName=name, Payload=json.dumps(event).encode(), **given)
    body = answer["Payload"].read()
    return answer, json.loads(body) if body else None


@case(
    "a function is described as it was made",
    "The SHA256 hash of the function's deployment package.",
    "lambda FunctionConfiguration.CodeSha256",
)
def _(aws: Aws) -> None:
    name = _make(aws)
    made = aws.functions.get_function(FunctionName=name)["Configuration"]
    same((made["FunctionName"], made["Handler"], made["Timeout"]), (name, "hook.handler", 5))
    need(made["FunctionArn"].endswith(f":function:{name}"), made["FunctionArn"])
    wanted = base64.b64encode(hashlib.sha256(_zip(HOOK)).digest()).decode()
    need(len(made["CodeSha256"]) == len(wanted), made["CodeSha256"])


@case(
    "a synchronous invocation waits for what the function returns, and answers 200",
    "For the RequestResponse invocation type, this status code is 200.",
    "lambda InvocationResponse.StatusCode",
    needs=CODE,
)
def _(aws: Aws) -> None:
    name = _make(aws)
    answer, told = _invoke(aws, name, {"executionId": "e"})
    same((answer["StatusCode"], answer.get("FunctionError")), (200, None))
    same((told["hookStatus"], told["echo"]), ("SUCCEEDED", {"executionId": "e"}))
    same((told["name"], told["stage"]), (name, "bake"))


@case(
    "an exception is FunctionError with the error's object, and still HTTP 200",
    "If present, indicates that an error occurred during function execution. Details about the error are included in the "
    "response payload.",
    "lambda InvocationResponse.FunctionError",
    needs=CODE,
)
def _(aws: Aws) -> None:
    answer, told = _invoke(aws, _make(aws), {"boom": True})
    same((answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
    same((told["errorMessage"], told["errorType"]), ("boom", "ValueError"))


@case(
    "a function that takes longer than its timeout is ended, and says so",
    "Task timed out after 1.00 seconds",
    "Lambda developer guide, troubleshooting-invocation",
    needs=CODE,
)
def _(aws: Aws) -> None:
    answer, told = _invoke(aws, _make(aws, timeout=1), {"sleep": 10})
    need(answer["FunctionError"], answer)
    need("Task timed out after 1.00 seconds" in told["errorMessage"], told)


@case(
    "an asynchronous invocation answers 202 and nothing else, a dry run 204",
    "For the Event invocation type, this status code is 202. For the DryRun invocation type, the status code is 204.",
    "lambda InvocationResponse.StatusCode",
)
def _(aws: Aws) -> None:
    name = _make(aws)
    answer, told = _invoke(aws, name, {}, InvocationType="Event")
    same((answer["StatusCode"], told), (202, None))
    same(_invoke(aws, name, {}, InvocationType="DryRun")[0]["StatusCode"], 204)


@case(
    "the end of the log comes with the answer when it is asked for",
    "The last 4 KB of the execution log, which is base64-encoded.",
    "lambda InvocationResponse.LogResult",
    needs=CODE,
)
def _(aws: Aws) -> None:
    name = _make(aws, "def handler(event, context):\n    print('I was here')\n")
    answer, _ = _invoke(aws, name, {}, LogType="Tail")
    need("I was here" in base64.b64decode(answer["LogResult"]).decode(), answer["LogResult"])


@case(
    "an unknown function is ResourceNotFoundException, HTTP 404",
    "The resource specified in the request does not exist.",
    "lambda ResourceNotFoundException",
)
def _(aws: Aws) -> None:
    name = aws.name("none")
    refused(lambda: aws.functions.invoke(FunctionName=name), "ResourceNotFoundException", status=404)
    refused(lambda: aws.functions.get_function(FunctionName=name), "ResourceNotFoundException", status=404)


@case(
    "a second function of the same name is ResourceConflictException, HTTP 409",
    "The resource already exists, or another operation is in progress.",
    "lambda ResourceConflictException",
)
def _(aws: Aws) -> None:
    name = _make(aws)
    again = {"FunctionName": name, "Runtime": "python3.12", "Role": ROLE, "Handler": "hook.handler"}
    refused(
        lambda: aws.functions.create_function(**again, Code={"ZipFile": _zip(HOOK)}),
        "ResourceConflictException",
        status=409,
    )


@case(
    "a body that is no JSON is InvalidRequestContentException",
    "The request body could not be parsed as JSON, or a request header is invalid.",
    "lambda InvalidRequestContentException",
)
def _(aws: Aws) -> None:
    name = _make(aws)
    refused(lambda: aws.functions.invoke(FunctionName=name, Payload=b"{no"), "InvalidRequestContentException")
