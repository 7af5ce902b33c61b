//! AWS Lambda: functions that are Python handlers or local commands, run as child processes.
//!
//! A function's time is real time, whatever the sandbox's speed: its timeout bounds real work. What
//! the speed divides is the wait between the attempts of an asynchronous invocation.

mod functions;
mod package;
mod run;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::functions::Function;
pub use self::functions::LocalFunction;
use self::run::{Outcome, RESPONSE_BYTES_MAX, Run};
use super::front::request_id as uuid;
use super::messages::Invocation;
use super::wire::{Backend, Refusal, Request};
use crate::world::ApiError;

/// Functions of one sandbox.
const FUNCTIONS_MAX: usize = 100;
/// Invocations that run at once; AWS's default is 1,000 an account. More are refused as there.
const RUNS_MAX: usize = 16;
/// Events being worked on, those that wait for their next attempt included; more wait in the channel.
const PENDING_MAX: usize = 1_000;
/// "For synchronous invocations, the maximum payload size is 6 MB. For asynchronous invocations, the
/// maximum payload size is 1 MB" (`API_Invoke`).
const PAYLOAD_BYTES_MAX: usize = RESPONSE_BYTES_MAX;
const PAYLOAD_ASYNC_BYTES_MAX: usize = 1024 * 1024;
/// "If the function returns an error, Lambda attempts to run it two more times, with a one-minute wait
/// between the first two attempts, and two minutes between the second and third" (developer guide,
/// "How Lambda handles errors and retries with asynchronous invocation").
const RETRY_AFTER: [Duration; 2] = [Duration::from_mins(1), Duration::from_mins(2)];

/// The functions and their runs.
pub(super) struct Lambda {
    region: String,
    account: String,
    endpoint: String,
    speed: AtomicU32,
    functions: Mutex<BTreeMap<String, Function>>,
    places: Semaphore,
    later: mpsc::Sender<Invocation>,
    stop: CancellationToken,
}

impl Lambda {
    pub(super) fn new(
        (region, account, endpoint): (&str, &str, &str),
        speed: u32,
        later: mpsc::Sender<Invocation>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            region: region.to_owned(),
            account: account.to_owned(),
            endpoint: endpoint.to_owned(),
            speed: AtomicU32::new(speed.max(1)),
            functions: Mutex::default(),
            places: Semaphore::new(RUNS_MAX),
            later,
            stop,
        }
    }

    /// From now on, waits between attempts are divided by this.
    pub(super) fn set_speed(&self, speed: u32) {
        self.speed.store(speed.max(1), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Function>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arn(&self, name: &str) -> String {
        format!("arn:aws:lambda:{}:{}:function:{name}", self.region, self.account)
    }

    /// Adds or replaces a function that is a command of this machine.
    pub(super) fn add_local(&self, local: &LocalFunction) -> Result<(), ApiError> {
        let function = Function::local(local)?;
        let mut functions = self.lock();
        if functions.len() >= FUNCTIONS_MAX && !functions.contains_key(&local.name) {
            return Err(full());
        }
        functions.insert(local.name.clone(), function);
        Ok(())
    }

    /// A function by name, ARN or the end of one, with `$LATEST` at most as its version.
    fn find(&self, given: &str) -> Result<(String, Function), ApiError> {
        let name = given.rsplit_once("function:").map_or(given, |(_, name)| name);
        let name = name.strip_suffix(":$LATEST").unwrap_or(name);
        match self.lock().get(name) {
            Some(function) => Ok((name.to_owned(), function.clone())),
            None => Err(ApiError {
                code: "ResourceNotFoundException".to_owned(),
                message: format!("Function not found: {}", self.arn(name)),
                status: 404,
            }),
        }
    }

    async fn invoke(&self, input: &Value) -> Result<Value, ApiError> {
        let text = |member: &str| input.get(member).and_then(Value::as_str);
        let qualified = text("Qualifier").filter(|qualifier| *qualifier != "$LATEST");
        let name = text("FunctionName").unwrap_or_default();
        let name = qualified.map_or_else(|| name.to_owned(), |qualifier| format!("{name}:{qualifier}"));
        let (name, function) = self.find(&name)?;
        let payload = text("Payload").unwrap_or_default();
        let kind = text("InvocationType").unwrap_or("RequestResponse");
        let most = if kind == "Event" { PAYLOAD_ASYNC_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
        if payload.len() > most {
            return Err(ApiError {
                code: "RequestTooLargeException".to_owned(),
                message: format!(
                    "Request must be smaller than {most} bytes for the InvokeFunction operation"
                ),
                status: 413,
            });
        }
        let event: Value = if payload.is_empty() {
            json!({})
        } else {
            serde_json::from_str(payload).map_err(|error| {
                let message = format!("Could not parse request body into json: {error}");
                ApiError::client("InvalidRequestContentException", message)
            })?
        };
        match kind {
            "DryRun" => Ok(json!({"StatusCode": 204})),
            "Event" => {
                let invocation = Invocation { function: self.arn(&name), event };
                self.later.try_send(invocation).map_err(|_| too_many("the queue of events is full"))?;
                Ok(json!({"StatusCode": 202}))
            }
            "RequestResponse" => {
                let place = self.places.try_acquire();
                let _place = place.map_err(|_| too_many("Rate Exceeded."))?;
                let run = self.run(&name, &function, &event);
                let outcome = run.go(&self.stop).await;
                Ok(answer(&run.request_id, &outcome, text("LogType") == Some("Tail")))
            }
            other => Err(ApiError::client(
                "InvalidParameterValueException",
                format!("InvocationType {other} is none of RequestResponse, Event, DryRun"),
            )),
        }
    }

    fn run(&self, name: &str, function: &Function, event: &Value) -> Run {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut environment = vec![
            own("AWS_ENDPOINT_URL", &self.endpoint),
            own("AWS_REGION", &self.region),
            own("AWS_DEFAULT_REGION", &self.region),
            own("AWS_ACCESS_KEY_ID", "AKIDFUNCTION"),
            own("AWS_SECRET_ACCESS_KEY", "sandbox"),
            own("AWS_LAMBDA_FUNCTION_NAME", name),
            own("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            own("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &function.memory.to_string()),
        ];
        environment.extend(function.environment.clone());
        Run {
            code: function.code.clone(),
            arn: self.arn(name),
            request_id: uuid(),
            timeout: Duration::from_secs(u64::from(function.timeout)),
            environment,
            event: event.to_string(),
        }
    }

    /// Takes events and runs their functions until the sandbox stops.
    pub(super) async fn work(self: Arc<Self>, mut events: mpsc::Receiver<Invocation>) {
        let (pending, attempts) = (Arc::new(Semaphore::new(PENDING_MAX)), TaskTracker::new());
        loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => break,
                event = events.recv() => event,
            };
            let Some(event) = event else { break };
            let Ok(place) = Arc::clone(&pending).acquire_owned().await else { break };
            let lambda = Arc::clone(&self);
            attempts.spawn(async move {
                lambda.attempt(event).await;
                drop(place);
            });
        }
        attempts.close();
        attempts.wait().await;
    }

    /// Up to three attempts; then the event is dropped, as without a dead-letter queue at AWS.
    async fn attempt(&self, Invocation { function, event }: Invocation) {
        for wait in RETRY_AFTER.into_iter().map(Some).chain([None]) {
            let (name, found) = match self.find(&function) {
                Ok(found) => found,
                Err(error) => return tracing::warn!(%error, "an event for a function is dropped"),
            };
            let Ok(place) = self.places.acquire().await else { return };
            let outcome = self.run(&name, &found, &event).go(&self.stop).await;
            drop(place);
            if !outcome.failed || self.stop.is_cancelled() {
                return;
            }
            tracing::warn!(name, error = outcome.payload, "an asynchronous invocation failed");
            let Some(wait) = wait else { break };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait / self.speed.load(Ordering::Relaxed)) => {}
            }
        }
        tracing::warn!(function, "an event is dropped after three attempts");
    }
}

fn full() -> ApiError {
    ApiError::client(
        "CodeStorageExceededException",
        format!("the sandbox has at most {FUNCTIONS_MAX} functions"),
    )
}

fn too_many(message: &str) -> ApiError {
    ApiError { code: "TooManyRequestsException".to_owned(), message: message.to_owned(), status: 429 }
}

fn answer(request_id: &str, outcome: &Outcome, with_log: bool) -> Value {
    let mut answer = json!({"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": outcome.payload});
    if outcome.failed {
        answer["FunctionError"] = "Unhandled".into();
    }
    if with_log {
        let log = format!(
            "START RequestId: {request_id} Version: $LATEST\n{}END RequestId: {request_id}\n",
            outcome.log
        );
        answer["LogResult"] = data_encoding::BASE64.encode(log.as_bytes()).into();
    }
    answer
}

#[async_trait]
impl Backend for Lambda {
    async fn call(&self, request: Request) -> Result<Value, Refusal> {
        let answer = match request.operation.as_str() {
            "Invoke" => self.invoke(&request.input).await,
            operation => self.manage(operation, &request.input),
        };
        answer.map_err(|error| {
            let throttled = error.code == "TooManyRequestsException";
            let mut refusal = Refusal::from(error);
            if throttled {
                refusal.members.insert("Reason".to_owned(), "ConcurrentInvocationLimitExceeded".into());
            }
            refusal
        })
    }
}

#[cfg(test)]
mod tests;
