//! Functions that really run, as their callers see them.

use super::package::tests::zipped;
use super::*;
use crate::sandbox::wire::{Caller, Service};

const HOOK: &str = "\
import os, sys, time
def handler(event, context):
    print('weight', event.get('weight'))
    if event.get('boom'): raise ValueError('boom')
    if event.get('exit'): os._exit(7)
    if event.get('sleep'): time.sleep(60)
    if event.get('large'): return 'x' * (7 * 1024 * 1024)
    return {'hookStatus': 'SUCCEEDED', 'echo': event, 'name': context.function_name,
            'endpoint': os.environ['AWS_ENDPOINT_URL']}
";

struct Fixture {
    lambda: Arc<Lambda>,
    events: Option<mpsc::Receiver<Invocation>>,
    stop: CancellationToken,
}

fn fixture(speed: u32) -> Fixture {
    let (later, events) = mpsc::channel(4);
    let stop = CancellationToken::new();
    let place = ("eu-central-1", "111122223333", "http://127.0.0.1:1");
    let lambda = Arc::new(Lambda::new(place, speed, later, stop.clone()));
    Fixture { lambda, events: Some(events), stop }
}

async fn call(lambda: &Lambda, operation: &str, input: Value) -> Result<Value, Refusal> {
    let (operation, caller) = (operation.to_owned(), Caller::default());
    lambda.call(Request { service: Service::Lambda, operation, input, stale_versions: 0, caller }).await
}

async fn create(lambda: &Lambda, timeout: u32) -> Value {
    let code = data_encoding::BASE64.encode(&zipped(&[("h.py", HOOK)]));
    let input = json!({"FunctionName": "hook", "Runtime": "python3.12", "Handler": "h.handler",
        "Role": "arn:aws:iam::111122223333:role/x", "Timeout": timeout, "Code": {"ZipFile": code}});
    call(lambda, "CreateFunction", input).await.expect("it is made")
}

async fn invoke(lambda: &Lambda, event: Value) -> Value {
    let input = json!({"FunctionName": "hook", "Payload": event.to_string(), "LogType": "Tail"});
    let mut answer = call(lambda, "Invoke", input).await.expect("it is invoked");
    answer["Payload"] = serde_json::from_str(answer["Payload"].as_str().unwrap()).unwrap();
    answer
}

#[tokio::test]
async fn a_zipped_handler_runs_with_its_event_and_its_log_comes_along() {
    let Fixture { lambda, .. } = fixture(1);
    let made = create(&lambda, 20).await;
    assert_eq!(made["State"], "Active");
    let answer = invoke(&lambda, json!({"weight": 10})).await;
    assert_eq!(
        answer["Payload"],
        json!({"hookStatus": "SUCCEEDED", "echo": {"weight": 10}, "name": "hook",
        "endpoint": "http://127.0.0.1:1"})
    );
    assert_eq!(answer.get("FunctionError"), None);
    let log = data_encoding::BASE64.decode(answer["LogResult"].as_str().unwrap().as_bytes()).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("weight 10"));
}

#[tokio::test]
async fn what_a_handler_raises_is_an_unhandled_error_with_its_type_and_trace() {
    // "FunctionError: If present, indicates that an error occurred during function execution. Details
    // about the error are included in the response payload."
    let Fixture { lambda, .. } = fixture(1);
    create(&lambda, 20).await;
    let answer = invoke(&lambda, json!({"boom": true})).await;
    assert_eq!((&answer["StatusCode"], &answer["FunctionError"]), (&json!(200), &json!("Unhandled")));
    let error = &answer["Payload"];
    assert_eq!((&error["errorType"], &error["errorMessage"]), (&json!("ValueError"), &json!("boom")));
    assert!(error["stackTrace"][0].as_str().unwrap().contains("h.py"), "{error}");
}

#[tokio::test]
async fn a_crash_an_endless_function_and_a_large_result_fail_by_their_names() {
    let Fixture { lambda, .. } = fixture(1);
    create(&lambda, 1).await;
    let timed_out = invoke(&lambda, json!({"sleep": true})).await;
    assert_eq!(timed_out["Payload"]["errorType"], "Sandbox.Timedout");
    assert_eq!(timed_out["Payload"]["errorMessage"], "Task timed out after 1.00 seconds");
    call(&lambda, "UpdateFunctionConfiguration", json!({"FunctionName": "hook", "Timeout": 60}))
        .await
        .unwrap();
    let crashed = invoke(&lambda, json!({"exit": true})).await;
    assert_eq!(
        (&crashed["FunctionError"], &crashed["Payload"]["errorType"]),
        (&json!("Unhandled"), &json!("Runtime.ExitError"))
    );
    let large = invoke(&lambda, json!({"large": true})).await;
    assert_eq!(large["Payload"]["errorType"], "Function.ResponseSizeTooLarge");
}

#[tokio::test]
async fn a_local_command_gets_the_event_on_standard_input() {
    let Fixture { lambda, .. } = fixture(1);
    let local: LocalFunction = "hook=cat".parse().unwrap();
    lambda.add_local(&local).unwrap();
    assert_eq!(invoke(&lambda, json!({"a": [1]})).await["Payload"], json!({"a": [1]}));
    let command = ["sh", "-c", "echo nonsense; exit 3"].map(str::to_owned).to_vec();
    lambda.add_local(&LocalFunction { command, ..local }).unwrap();
    let failed = invoke(&lambda, json!({})).await;
    assert_eq!(failed["Payload"]["errorType"], "Runtime.ExitError");
}

#[tokio::test]
async fn a_python_file_is_named_with_its_function() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hook.py");
    std::fs::write(&path, "def run(event, context):\n    return event['a'] + 1\n").unwrap();
    let Fixture { lambda, .. } = fixture(1);
    let local = LocalFunction {
        name: "hook".to_owned(),
        command: vec![format!("{}:run", path.display())],
        timeout_seconds: Some(20),
    };
    lambda.add_local(&local).unwrap();
    assert_eq!(invoke(&lambda, json!({"a": 1})).await["Payload"], 2);
}

#[tokio::test]
async fn an_unknown_function_bad_json_and_too_large_a_payload_are_refused() {
    let Fixture { lambda, .. } = fixture(1);
    let unknown = call(&lambda, "Invoke", json!({"FunctionName": "nope"})).await.unwrap_err().error;
    assert_eq!((unknown.code.as_str(), unknown.status), ("ResourceNotFoundException", 404));
    lambda.add_local(&"hook=cat".parse().unwrap()).unwrap();
    let refused = async |input: Value| call(&lambda, "Invoke", input).await.unwrap_err().error;
    let bad = refused(json!({"FunctionName": "hook", "Payload": "{"})).await;
    assert_eq!(bad.code, "InvalidRequestContentException");
    let large = format!("\"{}\"", "x".repeat(PAYLOAD_ASYNC_BYTES_MAX));
    let event = json!({"FunctionName": "hook", "Payload": large, "InvocationType": "Event"});
    assert_eq!(refused(event).await.status, 413);
    let dry = json!({"FunctionName": "hook", "Payload": large, "InvocationType": "DryRun"});
    assert_eq!(call(&lambda, "Invoke", dry).await.unwrap()["StatusCode"], 204);
}

#[tokio::test]
async fn more_invocations_than_places_are_refused_and_say_why() {
    // "Lambda returns TooManyRequestsException if running the function would cause you to exceed a
    // concurrency limit at … the account level (ConcurrentInvocationLimitExceeded)."
    let Fixture { lambda, .. } = fixture(1);
    lambda.add_local(&"hook=cat".parse().unwrap()).unwrap();
    let _all = lambda.places.acquire_many(u32::try_from(RUNS_MAX).unwrap()).await.unwrap();
    let refused = call(&lambda, "Invoke", json!({"FunctionName": "hook"})).await.unwrap_err();
    assert_eq!((refused.error.code.as_str(), refused.error.status), ("TooManyRequestsException", 429));
    assert_eq!(refused.members["Reason"], "ConcurrentInvocationLimitExceeded");
}

#[tokio::test]
async fn an_asynchronous_invocation_that_fails_is_attempted_three_times_and_then_dropped() {
    // "Lambda executes the function up to two more times."
    let folder = tempfile::tempdir().unwrap();
    let tries = folder.path().join("tries");
    let Fixture { lambda, events, stop } = fixture(100_000);
    let script = format!("echo x >> {}; exit 1", tries.display());
    let command = ["sh", "-c", &script].map(str::to_owned).to_vec();
    lambda.add_local(&LocalFunction { name: "hook".to_owned(), command, timeout_seconds: None }).unwrap();
    let event = json!({"FunctionName": "hook", "InvocationType": "Event", "Payload": "{}"});
    assert_eq!(call(&lambda, "Invoke", event).await.unwrap()["StatusCode"], 202);
    let mut events = events.unwrap();
    let invocation = events.recv().await.unwrap();
    lambda.attempt(invocation).await;
    assert_eq!(std::fs::read_to_string(&tries).unwrap().lines().count(), 3);
    stop.cancel();
    Arc::clone(&lambda).work(events).await;
}

#[tokio::test]
async fn functions_are_listed_shown_changed_and_deleted() {
    let Fixture { lambda, .. } = fixture(1);
    create(&lambda, 3).await;
    let again = json!({"FunctionName": "hook", "Runtime": "python3.12", "Handler": "h.handler",
        "Role": "arn:aws:iam::1:role/x", "Code": {"ZipFile": data_encoding::BASE64.encode(&zipped(&[]))}});
    assert_eq!(
        call(&lambda, "CreateFunction", again).await.unwrap_err().error.code,
        "ResourceConflictException"
    );
    let arn = "arn:aws:lambda:eu-central-1:111122223333:function:hook";
    let shown = call(&lambda, "GetFunction", json!({"FunctionName": arn})).await.unwrap();
    assert_eq!(shown["Configuration"]["FunctionArn"], arn);
    let listed = call(&lambda, "ListFunctions", json!({})).await.unwrap();
    assert_eq!(listed["Functions"].as_array().unwrap().len(), 1);
    let endless = json!({"FunctionName": "hook", "Timeout": 901});
    let refused = call(&lambda, "UpdateFunctionConfiguration", endless).await.unwrap_err();
    assert_eq!(refused.error.code, "InvalidParameterValueException");
    call(&lambda, "DeleteFunction", json!({"FunctionName": "hook"})).await.unwrap();
    assert!(call(&lambda, "GetFunction", json!({"FunctionName": "hook"})).await.is_err());
}
