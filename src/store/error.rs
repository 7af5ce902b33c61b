//! What `DynamoDB`'s failures mean to the store.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::ports::StoreError;
use crate::telemetry::speakable;

/// A call that did not succeed.
#[derive(Debug)]
pub(super) enum CallFailed<E> {
    /// It took longer than a call may take; what became of it is not known.
    TimedOut,
    /// What the SDK says.
    Sdk(Box<SdkError<E, HttpResponse>>),
}

/// Runs a call with a limit on all its attempts together: no attempt starts after it, so a call that began
/// under the lease ends under it.
pub(super) async fn timed<T, E>(
    limit: Duration,
    call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, CallFailed<E>> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| CallFailed::Sdk(Box::new(error))),
        Err(_) => Err(CallFailed::TimedOut),
    }
}

/// Answers that pass by themselves. `TransactionConflict` is a cancellation reason, the others are error codes.
const PASSING: &[&str] = &[
    "ExpiredIteratorException",
    "ExpiredTokenException",
    "InternalFailure",
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ReplicatedWriteConflictException",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
];

pub(super) fn passes(code: &str) -> bool {
    PASSING.contains(&code)
}

impl<E: ProvideErrorMetadata + StdError + Send + Sync + 'static> CallFailed<E> {
    /// The service's own error, when it answered with one.
    pub(super) fn service(&self) -> Option<&E> {
        match self {
            Self::Sdk(error) => error.as_service_error(),
            Self::TimedOut => None,
        }
    }

    /// The service's code, when it answered with one.
    pub(super) fn code(&self) -> Option<&str> {
        self.service().and_then(ProvideErrorMetadata::code)
    }

    /// Whether the same may work later. No answer, and an answer that nobody wrote (5xx), count as such.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Sdk(error) => match error.as_ref() {
                SdkError::ConstructionFailure(_) => false,
                SdkError::ServiceError(context) => {
                    context.raw().status().is_server_error() || self.code().is_some_and(passes)
                }
                _ => true,
            },
        }
    }

    /// As the port's error, naming the table and what to do.
    pub(super) fn into_store_error(self, action: &'static str, table: &str) -> StoreError {
        let retry = self.may_pass();
        let advice = self.code().and_then(advice).unwrap_or_default();
        let (what, source): (String, Option<Box<dyn StdError + Send + Sync>>) = match self {
            Self::TimedOut => ("gave no answer in time".to_owned(), None),
            Self::Sdk(error) => match *error {
                SdkError::ServiceError(context) => {
                    let meta = context.err().meta();
                    let code = meta.code().unwrap_or("an error without a code");
                    let message = meta.message().map_or("no message", speakable);
                    (format!("answered {code}: {message}"), None)
                }
                other => ("could not be reached".to_owned(), Some(Box::new(other))),
            },
        };
        let source = TableError { table: table.to_owned(), what, advice, source };
        StoreError::Unavailable { action, retry, source: Box::new(source) }
    }
}

fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "ResourceNotFoundException" => {
            "; create the table with the template in deploy/, or name another with --records-table and --state-table"
        }
        "AccessDeniedException" => "; give the caller the statements of deploy/ for this table",
        "UnrecognizedClientException" | "ExpiredTokenException" | "InvalidSignatureException" => {
            "; look at the credentials"
        }
        _ => return None,
    })
}

/// What a table met.
#[derive(Debug, thiserror::Error)]
#[error("table {table} {what}{advice}")]
struct TableError {
    table: String,
    what: String,
    advice: &'static str,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A mistake of this program or of a table's content, in one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Because(pub(super) String);

/// An error that trying again does not help.
pub(super) fn permanent(action: &'static str, because: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { action, retry: false, source: Box::new(Because(because.to_string())) }
}

/// An error that passes by itself.
pub(super) fn passing(action: &'static str, because: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { action, retry: true, source: Box::new(Because(because.to_string())) }
}

/// Why a document of a person was not stored.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The document does not say what it is or what it belongs to.
    #[error("the document has no usable {field}: {detail}")]
    Unusable {
        /// The field, as a path.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The table did not take it.
    #[error("the document was not stored")]
    Store(#[source] StoreError),
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn answered(status: u16, code: &str, message: &str) -> CallFailed<UpdateItemError> {
        let meta = ErrorMetadata::builder().code(code).message(message).build();
        let raw = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::empty());
        CallFailed::Sdk(Box::new(SdkError::service_error(UpdateItemError::generic(meta), raw)))
    }

    /// What `DynamoDB` answers (API reference, "Common Errors" and the errors of each operation), and whether the
    /// same may work later.
    const ANSWERS: &[(u16, &str, bool)] = &[
        (400, "ProvisionedThroughputExceededException", true),
        (400, "RequestLimitExceeded", true),
        (400, "ThrottlingException", true),
        (400, "LimitExceededException", true),
        (400, "TransactionConflictException", true),
        (400, "TransactionInProgressException", true),
        (400, "ReplicatedWriteConflictException", true),
        (400, "ExpiredTokenException", true),
        (500, "InternalServerError", true),
        (503, "ServiceUnavailable", true),
        (502, "NobodyWroteThis", true),
        (400, "AccessDeniedException", false),
        (400, "ResourceNotFoundException", false),
        (400, "ItemCollectionSizeLimitExceededException", false),
        (400, "ValidationException", false),
        (400, "IdempotentParameterMismatchException", false),
        (400, "UnrecognizedClientException", false),
        (400, "InvalidSignatureException", false),
        (400, "MissingAuthenticationTokenException", false),
        (413, "RequestEntityTooLarge", false),
    ];

    #[test]
    fn each_answer_of_a_table_passes_or_lasts() {
        for (status, code, passes) in ANSWERS {
            let error = answered(*status, code, "because").into_store_error("write state", "state");
            let StoreError::Unavailable { retry, .. } = &error else { panic!("{code}: {error}") };
            assert_eq!(retry, passes, "{code}");
            let said = crate::telemetry::chain(&error);
            assert!(
                said.contains("table state") && said.contains(code) && said.contains("because"),
                "{said}"
            );
        }
        let lost: CallFailed<UpdateItemError> = CallFailed::TimedOut;
        let error = lost.into_store_error("write state", "state");
        assert!(matches!(error, StoreError::Unavailable { retry: true, .. }));
    }

    #[test]
    fn a_quoted_request_is_not_repeated_and_the_code_is_still_said() {
        let words = "The Canonical String for this request should have been 'POST x-amz-security-token:FwoG'";
        let error = answered(400, "InvalidSignatureException", words).into_store_error("read state", "state");
        let said = crate::telemetry::chain(&error);
        assert!(!said.contains("FwoG") && said.contains("InvalidSignatureException"), "{said}");
        assert!(said.contains("look at the credentials"), "{said}");
    }
}
