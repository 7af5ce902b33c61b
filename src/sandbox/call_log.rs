//! What was called, by whom, and what came of it: the sandbox's `CloudTrail`.

mod parameters;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wire::{Answer, Call, Refusal, Service};

/// Records kept in memory; older ones are dropped (a file keeps all).
const RECORDS_MAX: usize = 20_000;
/// Inputs kept in memory, in bytes of about their JSON text; older records are dropped.
const INPUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Lines that may wait for the disk before callers do.
const LINES_MAX: usize = 1_024;

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// Counts from 1, in the order of the calls' ends.
    pub seq: u64,
    /// When the call arrived.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub millis: i64,
    /// Access key id of the signature.
    pub access_key: Option<String>,
    /// Application id of the caller's user agent.
    pub app: Option<String>,
    /// ARN of the assumed role that called, where the sandbox's STS handed out the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Service.
    pub service: Service,
    /// Operation.
    pub operation: String,
    /// Whether the operation can change anything.
    pub mutating: bool,
    /// For a mutating one: the resource it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The input, with long texts cut.
    pub parameters: Value,
    /// `OK`, or the error code; absent when the operation was not carried out.
    pub result: Option<String>,
    /// Names of the injected faults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<&'static str>,
    /// As in the answer's `x-amzn-requestid`.
    pub request_id: String,
}

/// Whether an operation can change anything, by AWS's naming.
pub(super) fn is_mutating(operation: &str) -> bool {
    const READS: &[&str] =
        &["BatchGet", "Describe", "Get", "List", "Query", "Scan", "SearchVectors", "TransactGet"];
    !READS.iter().any(|read| operation.starts_with(read))
}

/// How a call ended, for its record.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    /// `None` when a fault kept the operation from being carried out.
    pub(super) result: Option<&'a Result<Answer, Refusal>>,
    pub(super) faults: Vec<&'static str>,
    pub(super) request_id: &'a str,
}

/// The records in memory, each with about how many bytes its input takes.
#[derive(Debug, Default)]
struct Records {
    kept: VecDeque<(CallRecord, usize)>,
    input_bytes: usize,
}

impl Records {
    fn push(&mut self, record: CallRecord, bytes: usize) {
        self.kept.push_back((record, bytes));
        self.input_bytes += bytes;
        while self.kept.len() > RECORDS_MAX || self.input_bytes > INPUT_BYTES_MAX {
            let Some((_, gone)) = self.kept.pop_front() else { break };
            self.input_bytes -= gone;
        }
    }
}

/// The log: bounded in memory, whole in a file when there is one.
#[derive(Debug)]
pub(super) struct CallLog {
    records: Mutex<Records>,
    last: watch::Sender<u64>,
    file: Option<mpsc::Sender<String>>,
}

impl CallLog {
    /// An empty log; appends to `file` too when one is given, by one of `parts`, until `stop`.
    pub(super) async fn open(
        file: Option<&Path>,
        parts: &TaskTracker,
        stop: CancellationToken,
    ) -> std::io::Result<Self> {
        let file = match file {
            None => None,
            Some(path) => {
                let file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await?;
                let (sender, lines) = mpsc::channel::<String>(LINES_MAX);
                parts.spawn(async move {
                    if let Err(error) = write_lines(file, lines, stop).await {
                        tracing::error!(%error, "the call log's file cannot be written; logging in memory only");
                    }
                });
                Some(sender)
            }
        };
        Ok(Self { records: Mutex::default(), last: watch::Sender::new(0), file })
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // The queue is whole between statements, so a panic elsewhere doesn't spoil it.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one call.
    pub(super) async fn add(&self, call: &Call, ending: Ending<'_>) {
        let mutating = is_mutating(&call.operation);
        let (parameters, bytes) = parameters::kept(&call.input);
        let mut record = CallRecord {
            seq: 0,
            at: ending.began,
            millis: i64::try_from(ending.ended.duration_since(ending.began).as_millis()).unwrap_or(i64::MAX),
            access_key: call.caller.access_key.clone(),
            app: call.caller.app.clone(),
            principal: call.caller.principal.clone(),
            service: call.service,
            operation: call.operation.clone(),
            mutating,
            resource: mutating.then(|| resource(call, ending.result)).flatten(),
            parameters,
            result: ending.result.map(|result| match result {
                Ok(_) => "OK".to_owned(),
                Err(refusal) => refusal.error.code.rsplit('#').next().unwrap_or_default().to_owned(),
            }),
            faults: ending.faults,
            request_id: ending.request_id.to_owned(),
        };
        let line = {
            let mut records = self.lock();
            record.seq = *self.last.borrow() + 1;
            let line = self.file.as_ref().and_then(|_| serde_json::to_string(&record).ok());
            records.push(record, bytes);
            self.last.send_modify(|last| *last += 1);
            line
        };
        if let (Some(file), Some(line)) = (&self.file, line) {
            // Closed only at the end, or after the writer reported why.
            let _ = file.send(line).await;
        }
    }

    /// Up to `limit` records with a sequence number above `after`, oldest first.
    pub(super) fn after(&self, after: u64, limit: usize) -> Vec<CallRecord> {
        let records = self.lock();
        let newer = records.kept.iter().map(|(record, _)| record).filter(|record| record.seq > after);
        newer.take(limit).cloned().collect()
    }

    /// The last sequence number, as it grows.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

/// Writes every line that was handed in before `stop`.
async fn write_lines(
    mut file: tokio::fs::File,
    mut lines: mpsc::Receiver<String>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = stop.cancelled(), if !lines.is_closed() => {
                lines.close();
                continue;
            }
        };
        let Some(mut line) = line else { return Ok(()) };
        line.push('\n');
        file.write_all(line.as_bytes()).await?;
        file.flush().await?;
    }
}

/// Members that name what a call is about, the most specific first.
const RESOURCE_MEMBERS: &[&str] = &[
    "resourceArn",
    "RuleArn",
    "ListenerArn",
    "TargetGroupArn",
    "LoadBalancerArn",
    "ResourceArn",
    "primaryTaskSet",
    "taskSet",
    "task",
    "service",
    "serviceName",
    "taskDefinition",
    "family",
    "cluster",
    "clusterName",
    "AlarmName",
    "AlarmNames",
    "Namespace",
    "TableName",
    "Name",
];

fn resource(call: &Call, result: Option<&Result<Answer, Refusal>>) -> Option<String> {
    // What a creation made is in its answer.
    if let (true, Some(Ok(answer))) = (call.operation.starts_with("Create"), result)
        && let Some(arn) = answer.members().and_then(made)
    {
        return Some(arn);
    }
    RESOURCE_MEMBERS.iter().find_map(|member| match call.input.get(*member)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    })
}

fn made(answer: &Value) -> Option<String> {
    const MADE: &[&str] = &[
        "RuleArn",
        "ListenerArn",
        "TargetGroupArn",
        "LoadBalancerArn",
        "taskSetArn",
        "serviceArn",
        "clusterArn",
        "TableArn",
    ];
    let (_, first) = answer.as_object()?.iter().next()?;
    let made = if let Value::Array(items) = first { items.first()? } else { first };
    MADE.iter().find_map(|member| made.get(*member)?.as_str()).map(str::to_owned)
}
