//! Runs one invocation as a child process: the event on its standard input, the result on its standard
//! output, its log on its standard error.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::sandbox::clock;

/// "Invocation payload (request and response): 6 MB each for request and response (synchronous)"
/// (Lambda quotas): 6 MiB, and what is beyond fails the invocation.
pub(super) const RESPONSE_BYTES_MAX: usize = 6 * 1024 * 1024;
/// "The last 4 KB of the execution log" (`API_Invoke`, `X-Amz-Log-Result`).
const LOG_BYTES_MAX: usize = 4 * 1024;

const BOOTSTRAP: &str = include_str!("bootstrap.py");

/// What a function is.
#[derive(Clone, Debug)]
pub(super) enum Code {
    /// A Python handler, `module.function`, found under a folder; a folder of the sandbox's own goes
    /// with the last invocation that uses it.
    Python { root: PathBuf, handler: String, _kept: Option<Arc<TempDir>> },
    /// A program with its arguments.
    Command(Vec<String>),
}

/// One invocation.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) code: Code,
    pub(super) arn: String,
    pub(super) request_id: String,
    pub(super) timeout: Duration,
    pub(super) environment: Vec<(String, String)>,
    pub(super) event: String,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// The result, or the description of the error.
    pub(super) payload: String,
    /// Whether it is an error: `FunctionError: Unhandled`.
    pub(super) failed: bool,
    /// The end of the log.
    pub(super) log: String,
}

impl Run {
    /// Runs it to its end, its timeout, or the sandbox's.
    pub(super) async fn go(&self, stop: &CancellationToken) -> Outcome {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => {
                let message = format!("the sandbox cannot start the function: {error}");
                return self.failed("Runtime.InvalidEntrypoint", &message, String::new());
            }
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let ended = tokio::select! {
            ended = self.exchange(&mut child) => ended,
            () = tokio::time::sleep(self.timeout) => {
                let message = format!("Task timed out after {:.2} seconds", self.timeout.as_secs_f64());
                self.failed("Sandbox.Timedout", &message, String::new())
            }
            () = stop.cancelled() => self.failed("Sandbox.Stopped", "the sandbox stops", String::new()),
        };
        if let Some(group) = group {
            // Gone already, most often; what it left behind goes with it.
            let _ = kill_process_group(group, Signal::KILL);
        }
        // Reaped here, whatever it had to say.
        let _ = child.wait().await;
        ended
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = match &self.code {
            Code::Python { root, handler, .. } => {
                let deadline =
                    clock::now().as_millisecond() + i64::try_from(self.timeout.as_millis()).unwrap_or(0);
                let mut command = Command::new("python3");
                command.args(["-c", BOOTSTRAP, handler, &self.arn, &self.request_id]);
                command.arg(deadline.to_string()).arg(root).current_dir(root);
                command
            }
            Code::Command(words) => {
                let Some((program, arguments)) = words.split_first() else {
                    return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no command"));
                };
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
        };
        command
            // Credentials of the person who runs the sandbox are not the function's.
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Hands over the event, and takes result and log until the child has ended.
    async fn exchange(&self, child: &mut Child) -> Outcome {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let give = async {
            if let Some(mut stdin) = stdin {
                // A function need not read its event.
                let _ = stdin.write_all(self.event.as_bytes()).await;
            }
        };
        let (output, log) = tokio::join!(
            async {
                let (output, ()) = tokio::join!(result(stdout), give);
                output
            },
            tail(stderr)
        );
        if output.len() > RESPONSE_BYTES_MAX + 1 {
            let message = format!(
                "Response payload size exceeded maximum allowed payload size ({RESPONSE_BYTES_MAX} bytes)."
            );
            return self.failed("Function.ResponseSizeTooLarge", &message, log);
        }
        let status = child.wait().await;
        let crashed = match &status {
            Ok(status) if status.success() => None,
            Ok(status) => {
                Some(format!("RequestId: {} Error: Runtime exited with error: {status}", self.request_id))
            }
            Err(error) => Some(format!("RequestId: {} Error: {error}", self.request_id)),
        };
        let said = match (&self.code, output.split_first()) {
            (Code::Python { .. }, Some((kind @ (b'R' | b'E'), rest))) => Some((*kind == b'E', rest)),
            (Code::Python { .. }, _) => None,
            (Code::Command(_), _) => Some((false, output.as_slice())),
        };
        if let Some(crashed) = crashed {
            return self.failed("Runtime.ExitError", &crashed, log);
        }
        let Some((failed, said)) = said else {
            let message =
                format!("RequestId: {} Error: Runtime exited without providing a reason", self.request_id);
            return self.failed("Runtime.ExitError", &message, log);
        };
        match std::str::from_utf8(said).map(str::trim) {
            Ok("") => Outcome { payload: "null".to_owned(), failed, log },
            Ok(text) if serde_json::from_str::<Value>(text).is_ok() => {
                Outcome { payload: text.to_owned(), failed, log }
            }
            _ => self.failed("Runtime.MarshalError", "the function's standard output is not JSON", log),
        }
    }

    fn failed(&self, kind: &str, message: &str, log: String) -> Outcome {
        let error = json!({"errorType": kind, "errorMessage": message, "requestId": self.request_id});
        Outcome { payload: error.to_string(), failed: true, log }
    }
}

/// The result, one byte more than may be at most: the rest is not read.
async fn result(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        let most = u64::try_from(RESPONSE_BYTES_MAX + 2).unwrap_or(u64::MAX);
        // What was said before an error of the pipe is what there is.
        let _ = output.take(most).read_to_end(&mut bytes).await;
    }
    bytes
}

/// The end of what a child logs.
async fn tail(log: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept: VecDeque<u8> = VecDeque::new();
    let Some(mut log) = log else { return String::new() };
    let mut piece = [0; 1_024];
    while let Ok(length @ 1..) = log.read(&mut piece).await {
        kept.extend(&piece[..length]);
        let over = kept.len().saturating_sub(LOG_BYTES_MAX);
        kept.drain(..over);
    }
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}
