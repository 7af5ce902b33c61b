//! The adapters against mocked SDK answers and, where the transport matters, a loopback HTTP server.

mod acting;
mod batching;
mod going_back;
mod observing;
mod refusing;
mod sharing;
mod support;
mod transport;
mod unclear;
