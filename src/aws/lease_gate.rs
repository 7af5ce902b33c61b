//! Stops a mutation that is about to be transmitted without the lease.
//!
//! The check sits in the SDK's pipeline after signing and inside the retry loop. A process that was paused
//! between deciding and sending wakes up here, not at AWS; and the SDK, which would sign an expired request
//! anew, cannot do so behind the lease's back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use crate::ports::{EmergencyPermit, Permit};
use crate::records::Span;

/// How far a call has come, as its gate saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmission {
    /// Nothing reached the transport: AWS certainly did not see it.
    NotReached,
    /// The lease stopped it at the last moment, and no attempt before it was let through.
    Stopped,
    /// At least one attempt was handed to the transport.
    Started,
}

/// What the stopped call ends with.
#[derive(Debug, thiserror::Error)]
#[error("the lease no longer allows a write")]
pub struct LeaseLost;

/// One gate for one call.
#[derive(Clone, Debug)]
pub struct LeaseGate {
    right: Right,
    operation: Span,
    reached: Arc<AtomicU8>,
}

/// By what a call may be sent.
#[derive(Clone, Debug)]
enum Right {
    Lease(Permit),
    /// Only weights back to stable (`Inner::take_back`).
    WayBack(EmergencyPermit),
}

const NOT_REACHED: u8 = 0;
const STOPPED: u8 = 1;
const STARTED: u8 = 2;

impl LeaseGate {
    /// A gate that asks `permit` before every attempt, for a call that may take `operation`.
    pub fn new(permit: Permit, operation: Span) -> Self {
        Self { right: Right::Lease(permit), operation, reached: Arc::new(AtomicU8::new(NOT_REACHED)) }
    }

    /// A gate for a way back without a lease.
    pub fn without_lease(permit: EmergencyPermit, operation: Span) -> Self {
        Self { right: Right::WayBack(permit), operation, reached: Arc::new(AtomicU8::new(NOT_REACHED)) }
    }

    /// Whether a call may begin: it must end while the lease is held.
    pub fn is_open(&self) -> bool {
        match &self.right {
            Right::Lease(permit) => permit.allows(self.operation.millis()),
            Right::WayBack(permit) => permit.stands(),
        }
    }

    /// How far the call has come.
    pub fn transmission(&self) -> Transmission {
        match self.reached.load(Ordering::SeqCst) {
            STARTED => Transmission::Started,
            STOPPED => Transmission::Stopped,
            _ => Transmission::NotReached,
        }
    }
}

impl Intercept for LeaseGate {
    fn name(&self) -> &'static str {
        "LeaseGate"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if self.is_open() {
            self.reached.store(STARTED, Ordering::SeqCst);
            return Ok(());
        }
        // A first attempt that was let through is not taken back by a second one that was not.
        self.reached.fetch_max(STOPPED, Ordering::SeqCst);
        Err(LeaseLost.into())
    }
}
