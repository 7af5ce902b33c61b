//! The sandbox's one look at the real clock.

use jiff::Timestamp;

/// Now, in wall time. The sandbox is the real world for its clients: its tasks are processes and its
/// sockets are sockets, so its time is the machine's.
#[expect(clippy::disallowed_methods, reason = "the one place where the sandbox reads the clock")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
