//! The control API under `/_sandbox`: for tests, demos and people, not part of AWS.
//!
//! | call | does |
//! |---|---|
//! | `GET /_sandbox/state` | what the sandbox holds right now |
//! | `GET /_sandbox/calls?after=N&limit=M&waitMillis=W` | the call log after record N; waits up to W for one |
//! | `GET`, `POST`, `DELETE /_sandbox/faults`, `DELETE /_sandbox/faults/{id}` | list, arm and take away fault rules |
//! | `GET`, `PATCH /_sandbox/weather` | the conditions; changes those that are named |
//! | `GET`, `PATCH /_sandbox/clock` | the speed: `{"speed": 60}` |
//! | `POST /_sandbox/tasks/{id}/kill`, `/pause`, `/resume` | a task's container dies, freezes, goes on |
//! | `PUT /_sandbox/functions/{name}` | a Lambda function that is a local command: `{"command": […], "timeoutSeconds": 3}` |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call_log::{CallLog, CallRecord};
use super::faults::{ArmedFault, FaultRule, Faults};
use super::heart::Heart;
use super::lambda::{Lambda, LocalFunction};
use super::metrics::SPEED_MAX;
use super::plane::Plane;
use super::weather::{Conditions, ConditionsChange, Weather};

/// Records given in one answer at most.
const CALLS_MAX: usize = 2_000;
/// The longest a reader of the call log waits for the next record.
const WAIT_MILLIS_MAX: u64 = 20_000;

/// What the control API works on.
#[derive(Clone)]
pub(super) struct Control {
    pub(super) faults: Arc<Faults>,
    pub(super) log: Arc<CallLog>,
    pub(super) heart: Arc<Heart>,
    pub(super) plane: Arc<Plane>,
    pub(super) weather: Arc<Weather>,
    pub(super) lambda: Arc<Lambda>,
    pub(super) about: Arc<Value>,
}

pub(super) fn router(control: Control) -> Router {
    Router::new()
        .route("/_sandbox/state", get(state))
        .route("/_sandbox/calls", get(calls))
        .route("/_sandbox/faults", get(faults).post(arm).delete(disarm_all))
        .route("/_sandbox/faults/{id}", delete(disarm))
        .route("/_sandbox/weather", get(weather).patch(change_weather))
        .route("/_sandbox/clock", get(clock).patch(change_clock))
        .route("/_sandbox/tasks/{id}/kill", post(kill))
        .route("/_sandbox/tasks/{id}/pause", post(pause))
        .route("/_sandbox/tasks/{id}/resume", post(resume))
        .route("/_sandbox/functions/{name}", put(add_function))
        .with_state(control)
}

fn refuse(status: StatusCode, message: impl std::fmt::Display) -> Response {
    (status, Json(json!({"message": message.to_string()}))).into_response()
}

async fn state(State(control): State<Control>) -> Json<Value> {
    let mut sandbox = (*control.about).clone();
    sandbox["speed"] = control.heart.speed().into();
    let about = json!({
        "sandbox": sandbox, "weather": control.weather.now(), "faults": control.faults.list(),
    });
    let mut state = control.heart.state();
    if let (Value::Object(state), Value::Object(about)) = (&mut state, about) {
        state.extend(about);
    }
    Json(state)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CallsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default = "calls_max")]
    limit: usize,
    #[serde(default)]
    wait_millis: u64,
}

fn calls_max() -> usize {
    CALLS_MAX
}

async fn calls(State(control): State<Control>, Query(query): Query<CallsQuery>) -> Json<Vec<CallRecord>> {
    let mut last = control.log.watch();
    let wait = Duration::from_millis(query.wait_millis.min(WAIT_MILLIS_MAX));
    // Whether the time ran out or a record came: the answer is what there is.
    let _ = tokio::time::timeout(wait, last.wait_for(|last| *last > query.after)).await;
    Json(control.log.after(query.after, query.limit.min(CALLS_MAX)))
}

async fn faults(State(control): State<Control>) -> Json<Vec<ArmedFault>> {
    Json(control.faults.list())
}

async fn arm(State(control): State<Control>, Json(rule): Json<FaultRule>) -> Response {
    match control.faults.arm(rule) {
        Ok(id) => (StatusCode::CREATED, Json(json!({"id": id}))).into_response(),
        Err(full) => refuse(StatusCode::TOO_MANY_REQUESTS, full),
    }
}

async fn disarm_all(State(control): State<Control>) -> Json<Value> {
    Json(json!({"removed": control.faults.disarm(None)}))
}

async fn disarm(State(control): State<Control>, Path(id): Path<u64>) -> Response {
    match control.faults.disarm(Some(id)) {
        0 => refuse(StatusCode::NOT_FOUND, format_args!("no fault rule has the id {id}")),
        removed => Json(json!({"removed": removed})).into_response(),
    }
}

async fn kill(State(control): State<Control>, Path(id): Path<String>) -> Response {
    if control.heart.kill_task(&id) {
        Json(json!({"killed": id})).into_response()
    } else {
        refuse(StatusCode::NOT_FOUND, format_args!("no task to kill has the id {id}"))
    }
}

async fn weather(State(control): State<Control>) -> Json<Conditions> {
    Json(control.weather.now())
}

async fn change_weather(State(control): State<Control>, Json(change): Json<ConditionsChange>) -> Response {
    match control.weather.change(change) {
        Ok(now) => {
            super::apply_weather(&control.plane, &now);
            Json(now).into_response()
        }
        Err(bad) => refuse(StatusCode::UNPROCESSABLE_ENTITY, bad),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    speed: u32,
}

async fn clock(State(control): State<Control>) -> Json<Value> {
    Json(json!({"speed": control.heart.speed()}))
}

async fn change_clock(State(control): State<Control>, Json(Clock { speed }): Json<Clock>) -> Response {
    if !(1..=SPEED_MAX).contains(&speed) {
        let message = format!("speed must be between 1 and {SPEED_MAX}");
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, message);
    }
    control.heart.set_speed(speed);
    control.plane.set_speed(speed);
    control.lambda.set_speed(speed);
    Json(json!({"speed": speed})).into_response()
}

async fn pause(State(control): State<Control>, Path(id): Path<String>) -> Response {
    freeze(&control, &id, true)
}

async fn resume(State(control): State<Control>, Path(id): Path<String>) -> Response {
    freeze(&control, &id, false)
}

fn freeze(control: &Control, id: &str, frozen: bool) -> Response {
    let known = control.heart.task_named(id).is_some_and(|task| control.plane.freeze_task(&task, frozen));
    if known {
        Json(json!({"task": id, "paused": frozen})).into_response()
    } else {
        refuse(StatusCode::NOT_FOUND, format_args!("no running task has the id {id}"))
    }
}

async fn add_function(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(function): Json<LocalFunction>,
) -> Response {
    let function = LocalFunction { name, ..function };
    match control.lambda.add_local(&function) {
        Ok(()) => (StatusCode::CREATED, Json(json!({"function": function.name}))).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}
