//! What a failed call means: for reads a sentence, for mutations an [`Answer`] from the [`table`].

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::lease_gate::{LeaseGate, Transmission};
use crate::model::effect::RefusalClass;
use crate::model::{Acknowledgement, Answer, Mutation};
use crate::telemetry::speakable;

pub mod table;

pub use table::Verdict;

/// Longest message that is kept of an error; the rest helps nobody in a status.
const LONGEST_MESSAGE: usize = 400;

/// Codes that speak of who asks (credentials, signature, clock), whatever is asked for.
const OF_THE_CALLER: [&str; 15] = [
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "RequestInTheFuture",
];

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {cause}")]
pub struct CallError {
    /// The API operation.
    pub operation: &'static str,
    /// What happened to it.
    pub cause: Cause,
}

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// AWS answered with an error.
    #[error("{} (HTTP {status}): {message}", code.as_deref().unwrap_or("no error code"))]
    Answered {
        /// The error code as the service spells it; none when the answer was not in the service's format.
        code: Option<String>,
        /// HTTP status.
        status: u16,
        /// AWS's words.
        message: String,
    },
    /// It certainly never reached AWS: no connection, no credentials, a request that could not be built.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The lease stopped it before it was sent.
    #[error("not sent: the lease no longer allows a write")]
    NoLease,
    /// Our own request budget stopped it before it was sent.
    #[error("not sent: our own request budget for it ran out")]
    Budget,
    /// Sent, but no answer that can be understood: timed out, reset, cut off, malformed.
    #[error("no answer: {0}")]
    Lost(String),
}

impl CallError {
    /// A call our own budget held back.
    pub const fn budget(operation: &'static str) -> Self {
        Self { operation, cause: Cause::Budget }
    }

    /// An answer that AWS calls a success but that lacks what it must hold.
    pub fn incomplete(operation: &'static str, what: &str) -> Self {
        Self { operation, cause: Cause::Lost(format!("the answer lacks {what}")) }
    }

    /// Reads what the SDK says of a failed read. Reads change nothing, so how far they came is of no matter.
    pub fn of_read<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        Self::of(operation, error, Transmission::Started)
    }

    /// Reads what the SDK says of a failed mutation, and how far `gate` saw it come.
    pub fn of_mutation<E>(
        operation: &'static str,
        error: &SdkError<E, HttpResponse>,
        gate: &LeaseGate,
    ) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        Self::of(operation, error, gate.transmission())
    }

    fn of<E>(operation: &'static str, error: &SdkError<E, HttpResponse>, reached: Transmission) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let text = || clip(&DisplayErrorContext(error).to_string());
        let cause = match (error, reached) {
            (_, Transmission::Stopped) => Cause::NoLease,
            (SdkError::ServiceError(answer), _) => Cause::Answered {
                code: answer.err().code().map(str::to_owned),
                status: answer.raw().status().as_u16(),
                message: answer.err().message().map_or_else(text, clip),
            },
            (SdkError::ConstructionFailure(_), _) | (_, Transmission::NotReached) => Cause::NotSent(text()),
            (SdkError::DispatchFailure(failure), _) if never_connected(failure.as_connector_error()) => {
                Cause::NotSent(text())
            }
            // `SdkError` may grow; whatever is new was sent, and what became of it is not known.
            _ => Cause::Lost(text()),
        };
        Self { operation, cause }
    }

    /// AWS's error code, when it gave one.
    pub fn code(&self) -> Option<&str> {
        match &self.cause {
            Cause::Answered { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// Whether AWS refused this very request, as opposed to being busy, broken or unreachable, or to refusing whoever
    /// asks: of a batch, one item may be to blame.
    pub fn blames_the_request(&self) -> bool {
        matches!(self.cause, Cause::Answered { .. })
            && !self.code().is_some_and(|code| OF_THE_CALLER.contains(&code))
            && matches!(table::judge_read(&self.cause), Verdict::Refused(class) if class != RefusalClass::Throttled)
    }

    /// Whether a permission or the right credentials were missing.
    pub fn is_denied(&self) -> bool {
        table::judge_read(&self.cause) == Verdict::Refused(RefusalClass::Denied)
    }

    /// What it means that a *read before* a mutation failed: the mutation was certainly not sent.
    pub fn before(&self) -> Answer {
        let class = match table::judge_read(&self.cause) {
            Verdict::Refused(class) => class,
            // Nothing is known of the resource: read again.
            Verdict::Done | Verdict::Unknown => RefusalClass::Conflict,
        };
        Answer::Refused { class, message: self.to_string() }
    }

    /// What it means for `mutation`.
    pub fn answer(&self, mutation: Mutation) -> Answer {
        let message = self.to_string();
        match table::judge(mutation, &self.cause) {
            Verdict::Done => Answer::Acknowledged(Acknowledgement::Done),
            Verdict::Refused(class) => Answer::Refused { class, message },
            Verdict::Unknown => Answer::Unknown { message },
        }
    }
}

/// Whether the connector failed before it had a connection to write to: refused, no route, no such name, TLS
/// refused. Anything later may have been read by AWS.
fn never_connected(failure: Option<&aws_smithy_runtime_api::client::result::ConnectorError>) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = failure.map(|failure| failure as _);
    while let Some(error) = cause {
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        cause = error.source();
    }
    false
}

/// At most [`LONGEST_MESSAGE`] bytes, cut at a character; nothing of a signed request.
fn clip(text: &str) -> String {
    let text = speakable(text);
    if text.len() <= LONGEST_MESSAGE {
        return text.to_owned();
    }
    let mut end = LONGEST_MESSAGE;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}
