//! Runs a local command as a task: a child process in its own process group that is told its port by
//! `PORT`, stopped with SIGTERM and then SIGKILL, and always reaped.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::tasks::{Ended, Life};

/// Between two looks whether the command accepts connections.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Longest piece of a command's output that becomes one log record, in bytes.
const LOG_PIECE_MAX: usize = 4096;

/// How a child ended, or that it did not.
type Exit = std::io::Result<ExitStatus>;

/// Runs one local command from start to end.
pub(super) async fn run(life: &Life) -> Ended {
    let Some((program, arguments)) = life.order.command.split_first() else {
        return Ended::failed(None, "image `local` needs a command in its container definition".to_owned());
    };
    let port = match free_port().await {
        Ok(port) => port,
        Err(error) => return Ended::failed(None, format!("no port for the task: {error}")),
    };
    let spawned = Command::new(program)
        .args(arguments)
        .envs(&life.order.environment)
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group: a shell's children get its signals too, and the terminal's Ctrl-C does not.
        .process_group(0)
        // Only for a panic on the way; the normal way waits for the child.
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            return Ended::failed(None, format!("CannotStartContainerError: `{program}`: {error}"));
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(log_output(stdout, life.order.task.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(log_output(stderr, life.order.task.clone()));
    }
    let ended = supervise(life, &mut child, group, port).await;
    // Whatever the command left behind in its group goes with it.
    signal(group, Signal::KILL);
    ended
}

async fn supervise(life: &Life, child: &mut Child, group: Option<Pid>, port: u16) -> Ended {
    let ready = tokio::select! {
        exit = child.wait() => return exited(exit),
        () = life.stop.cancelled() => return stop(life, child, group).await,
        ready = timeout(life.start_timeout, accepts(port)) => ready.is_ok(),
    };
    if !ready {
        let mut ended = stop(life, child, group).await;
        ended.reason = format!("the command did not listen on PORT={port} within {:?}", life.start_timeout);
        return ended;
    }
    life.started(port).await;
    tokio::select! {
        exit = child.wait() => exited(exit),
        () = life.stop.cancelled() => stop(life, child, group).await,
        () = freeze(life.frozen.clone(), group) => exited(child.wait().await),
    }
}

/// Stops and continues the processes as ordered, until nobody is left to order it.
async fn freeze(mut frozen: watch::Receiver<bool>, group: Option<Pid>) {
    while frozen.changed().await.is_ok() {
        let now = *frozen.borrow_and_update();
        signal(group, if now { Signal::STOP } else { Signal::CONT });
    }
}

/// SIGTERM, then SIGKILL when the stop timeout has passed; returns when the child is reaped.
async fn stop(life: &Life, child: &mut Child, group: Option<Pid>) -> Ended {
    let deadline = Instant::now() + life.stop_timeout;
    signal(group, Signal::TERM);
    if *life.frozen.borrow() {
        // A frozen process cannot take SIGTERM.
        signal(group, Signal::CONT);
    }
    let exit = if let Ok(exit) = timeout_at(deadline, child.wait()).await {
        exit
    } else {
        signal(group, Signal::KILL);
        child.wait().await
    };
    match exit {
        Ok(status) => Ended::stopped(Some(exit_code(status))),
        Err(error) => Ended::failed(None, format!("the command could not be waited for: {error}")),
    }
}

fn exited(exit: Exit) -> Ended {
    match exit {
        Ok(status) => Ended::failed(Some(exit_code(status)), "Essential container in task exited".to_owned()),
        Err(error) => Ended::failed(None, format!("the command could not be waited for: {error}")),
    }
}

/// As a shell and a container runtime show it: 128 + signal for a process that a signal ended.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

fn signal(group: Option<Pid>, signal: Signal) {
    let Some(group) = group else { return };
    match kill_process_group(group, signal) {
        // No such process: all of the group have ended.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => tracing::warn!(%error, ?group, ?signal, "cannot signal a task's processes"),
    }
}

/// A port that is free now. Another process could take it before the command does; the command then
/// fails to listen and the task ends with that error, as it would on a host.
async fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port())
}

/// Returns once something accepts connections on the port; the caller sets the limit.
async fn accepts(port: u16) {
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        sleep(LOOK_AGAIN).await;
    }
}

/// Passes a command's output on to the log, piece by piece, until it closes.
async fn log_output(mut output: impl AsyncRead + Unpin, task: String) {
    let mut piece = vec![0; LOG_PIECE_MAX];
    loop {
        match output.read(&mut piece).await {
            Ok(0) => return,
            Ok(length) => {
                let text = String::from_utf8_lossy(&piece[..length]);
                tracing::info!(task, output = text.trim_end(), "task output");
            }
            Err(error) => {
                tracing::debug!(task, %error, "task output ended");
                return;
            }
        }
    }
}
