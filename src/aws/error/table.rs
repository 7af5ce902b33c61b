//! Operation × error code → what it means. The table *is* the rule; a test goes through it row by row, and
//! another one demands a row for every error that the SDK models for a mutation.
//!
//! Codes are as the services send them: ECS `…Exception`, ELB without the suffix.
//!
//! Two questions decide. *Was it done?* If that is not certain, the verdict is [`Verdict::Unknown`] and the
//! effect stays outstanding. If it was certainly not done: *what would help?*
//! - time: [`RefusalClass::Throttled`];
//! - another look, because the world is not what the request assumed, or AWS could not be reached at all:
//!   [`RefusalClass::Conflict`] (also for every refusal that no row names: asking again with fresh eyes is
//!   harmless, and deadlines end it);
//! - a person: [`RefusalClass::Denied`];
//! - nothing: [`RefusalClass::Permanent`].

use super::Cause;
use crate::model::Mutation;
use crate::model::effect::RefusalClass;

/// What an error means for the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Certainly not done.
    Refused(RefusalClass),
    /// It is as it should be: somebody, perhaps we, did it before.
    Done,
    /// It may have been done.
    Unknown,
}

/// One row. The first match wins.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// For these operations; empty: for every one.
    pub operations: &'static [Mutation],
    /// The error code.
    pub code: &'static str,
    /// Only when the message contains this (lower case); empty: whatever it says.
    pub says: &'static str,
    /// What it means.
    pub verdict: Verdict,
}

const THROTTLED: Verdict = Verdict::Refused(RefusalClass::Throttled);
const CONFLICT: Verdict = Verdict::Refused(RefusalClass::Conflict);
const DENIED: Verdict = Verdict::Refused(RefusalClass::Denied);
const PERMANENT: Verdict = Verdict::Refused(RefusalClass::Permanent);

const CREATE: &[Mutation] = &[Mutation::CreateTaskSet];
const DELETE: &[Mutation] = &[Mutation::DeleteTaskSet];
const EVERY: &[Mutation] = &[];

const fn row(operations: &'static [Mutation], code: &'static str, verdict: Verdict) -> Row {
    Row { operations, code, says: "", verdict }
}

const fn saying(
    operations: &'static [Mutation],
    code: &'static str,
    says: &'static str,
    verdict: Verdict,
) -> Row {
    Row { operations, code, says, verdict }
}

/// The table.
pub const TABLE: &[Row] = &[
    // --- Cases with a meaning of their own.
    // Gone is what a delete is for (`aws-facts.md` §1.9).
    row(DELETE, "TaskSetNotFoundException", Verdict::Done),
    row(DELETE, "ServiceNotFoundException", Verdict::Done),
    // Another set became PRIMARY meanwhile, or not yet (`aws-facts.md` §1.5).
    saying(DELETE, "InvalidParameterException", "primary taskset", CONFLICT),
    // Five task sets at most, draining ones probably included: they go away (`aws-facts.md` §1.4).
    saying(CREATE, "InvalidParameterException", "maximum limit", CONFLICT),
    // The rule that attaches the group is younger than what ECS has seen (`aws-facts.md` §1.8).
    saying(CREATE, "InvalidParameterException", "does not have an associated load balancer", CONFLICT),
    // Some of ECS says a rate limit this way.
    saying(EVERY, "ClientException", "rate exceeded", THROTTLED),
    saying(EVERY, "ClientException", "too many concurrent", THROTTLED),
    // --- Rate limits: the SDK's own list and the older spellings.
    row(EVERY, "Throttling", THROTTLED),
    row(EVERY, "ThrottlingException", THROTTLED),
    row(EVERY, "ThrottledException", THROTTLED),
    row(EVERY, "RequestThrottled", THROTTLED),
    row(EVERY, "RequestThrottledException", THROTTLED),
    row(EVERY, "RequestLimitExceeded", THROTTLED),
    row(EVERY, "TooManyRequests", THROTTLED),
    row(EVERY, "TooManyRequestsException", THROTTLED),
    row(EVERY, "PriorRequestNotComplete", THROTTLED),
    row(EVERY, "BandwidthLimitExceeded", THROTTLED),
    row(EVERY, "EC2ThrottledException", THROTTLED),
    row(EVERY, "SlowDown", THROTTLED),
    // --- Permissions and credentials: a person, or the next rotation of credentials.
    row(EVERY, "AccessDenied", DENIED),
    row(EVERY, "AccessDeniedException", DENIED),
    row(EVERY, "UnauthorizedOperation", DENIED),
    row(EVERY, "NotAuthorized", DENIED),
    row(EVERY, "AuthFailure", DENIED),
    row(EVERY, "OptInRequired", DENIED),
    row(EVERY, "ExpiredToken", DENIED),
    row(EVERY, "ExpiredTokenException", DENIED),
    row(EVERY, "InvalidClientTokenId", DENIED),
    row(EVERY, "UnrecognizedClientException", DENIED),
    row(EVERY, "InvalidAccessKeyId", DENIED),
    row(EVERY, "MissingAuthenticationToken", DENIED),
    row(EVERY, "MissingAuthenticationTokenException", DENIED),
    row(EVERY, "IncompleteSignature", DENIED),
    row(EVERY, "IncompleteSignatureException", DENIED),
    row(EVERY, "InvalidSignatureException", DENIED),
    row(EVERY, "SignatureDoesNotMatch", DENIED),
    // The resource is managed by another AWS feature: only a person can change that.
    row(EVERY, "OperationNotPermitted", DENIED),
    // --- Clocks: the SDK learns the difference from this very answer, the next call is signed right.
    row(EVERY, "RequestExpired", CONFLICT),
    row(EVERY, "RequestTimeTooSkewed", CONFLICT),
    row(EVERY, "RequestInTheFuture", CONFLICT),
    // --- AWS's own trouble: it may have been done.
    row(EVERY, "ServerException", Verdict::Unknown),
    row(EVERY, "InternalFailure", Verdict::Unknown),
    row(EVERY, "InternalError", Verdict::Unknown),
    row(EVERY, "InternalServerError", Verdict::Unknown),
    row(EVERY, "ServiceUnavailable", Verdict::Unknown),
    row(EVERY, "ServiceUnavailableException", Verdict::Unknown),
    row(EVERY, "RequestTimeout", Verdict::Unknown),
    row(EVERY, "RequestTimeoutException", Verdict::Unknown),
    // --- Somebody else is at work, or the precondition no longer holds: the next observation tells.
    row(EVERY, "ConflictException", CONFLICT),
    row(EVERY, "ResourceInUse", CONFLICT),
    row(EVERY, "ResourceInUseException", CONFLICT),
    row(EVERY, "UpdateInProgressException", CONFLICT),
    row(EVERY, "ServiceNotActiveException", CONFLICT),
    row(EVERY, "TrustStoreNotReady", CONFLICT),
    // --- Never.
    row(EVERY, "ClientException", PERMANENT),
    row(EVERY, "InvalidParameterException", PERMANENT),
    row(EVERY, "ValidationError", PERMANENT),
    row(EVERY, "ValidationException", PERMANENT),
    row(EVERY, "InvalidParameterValue", PERMANENT),
    row(EVERY, "InvalidParameterCombination", PERMANENT),
    row(EVERY, "MissingParameter", PERMANENT),
    row(EVERY, "MalformedQueryString", PERMANENT),
    row(EVERY, "SerializationException", PERMANENT),
    row(EVERY, "InvalidAction", PERMANENT),
    row(EVERY, "UnknownOperationException", PERMANENT),
    row(EVERY, "UnsupportedFeatureException", PERMANENT),
    row(EVERY, "LimitExceededException", PERMANENT),
    row(EVERY, "PlatformUnknownException", PERMANENT),
    row(EVERY, "PlatformTaskDefinitionIncompatibilityException", PERMANENT),
    row(EVERY, "NamespaceNotFoundException", PERMANENT),
    row(EVERY, "ClusterNotFoundException", PERMANENT),
    row(EVERY, "ServiceNotFoundException", PERMANENT),
    row(EVERY, "TaskSetNotFoundException", PERMANENT),
    row(EVERY, "ResourceNotFoundException", PERMANENT),
    row(EVERY, "LoadBalancerNotFound", PERMANENT),
    row(EVERY, "ListenerNotFound", PERMANENT),
    row(EVERY, "RuleNotFound", PERMANENT),
    row(EVERY, "TargetGroupNotFound", PERMANENT),
    row(EVERY, "TargetGroupAssociationLimit", PERMANENT),
    row(EVERY, "TooManyActions", PERMANENT),
    row(EVERY, "TooManyCertificates", PERMANENT),
    row(EVERY, "TooManyListeners", PERMANENT),
    row(EVERY, "TooManyRegistrationsForTargetId", PERMANENT),
    row(EVERY, "TooManyTargets", PERMANENT),
    row(EVERY, "TooManyUniqueTargetGroupsPerLoadBalancer", PERMANENT),
    row(EVERY, "UnsupportedProtocol", PERMANENT),
    row(EVERY, "IncompatibleProtocols", PERMANENT),
    row(EVERY, "InvalidLoadBalancerAction", PERMANENT),
    row(EVERY, "InvalidConfigurationRequest", PERMANENT),
    row(EVERY, "DuplicateListener", PERMANENT),
    row(EVERY, "CertificateNotFound", PERMANENT),
    row(EVERY, "SSLPolicyNotFound", PERMANENT),
    row(EVERY, "TrustStoreNotFound", PERMANENT),
    row(EVERY, "ALPNPolicyNotFound", PERMANENT),
];

/// What `cause` means for `mutation`.
pub fn judge(mutation: Mutation, cause: &Cause) -> Verdict {
    judge_as(Some(mutation), cause)
}

/// What `cause` would mean if the request had been a mutation of no particular kind.
pub fn judge_read(cause: &Cause) -> Verdict {
    judge_as(None, cause)
}

fn judge_as(mutation: Option<Mutation>, cause: &Cause) -> Verdict {
    match cause {
        Cause::NoLease => Verdict::Refused(RefusalClass::NoLease),
        Cause::Budget | Cause::Answered { code: None, status: 429, .. } => THROTTLED,
        // Certainly not sent, and no rate limit either: look again, then try again.
        Cause::NotSent(_) => CONFLICT,
        // An answer without a code is not in AWS's format: a proxy, or torn. What stood behind it may have acted.
        Cause::Lost(_) | Cause::Answered { code: None, .. } => Verdict::Unknown,
        Cause::Answered { code: Some(code), status, message } => {
            judge_answer(mutation, code, *status, message)
        }
    }
}

fn judge_answer(mutation: Option<Mutation>, code: &str, status: u16, message: &str) -> Verdict {
    let message = message.to_ascii_lowercase();
    let found = TABLE.iter().find(|row| {
        row.code == code
            && (row.operations.is_empty() || mutation.is_some_and(|it| row.operations.contains(&it)))
            && message.contains(row.says)
    });
    match (found, status) {
        // A 5xx answer may come after the deed, whatever code it carries, except for a rate limit:
        // that one is applied before.
        (Some(row), 500..) if row.verdict != THROTTLED => Verdict::Unknown,
        (Some(row), _) => row.verdict,
        (None, 400..=499) => CONFLICT,
        (None, _) => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: &str, status: u16, message: &str) -> Cause {
        Cause::Answered { code: Some(code.to_owned()), status, message: message.to_owned() }
    }

    #[test]
    fn every_code_that_speaks_of_the_caller_has_a_row() {
        for code in super::super::OF_THE_CALLER {
            assert!(TABLE.iter().any(|row| row.code == code), "{code}");
        }
    }

    #[test]
    fn every_row_gives_its_own_verdict_and_none_is_shadowed() {
        for row in TABLE {
            let operations = if row.operations.is_empty() { &Mutation::ALL[..] } else { row.operations };
            for operation in operations {
                let own_row = TABLE
                    .iter()
                    .find(|other| {
                        other.code == row.code
                            && row.says.contains(other.says)
                            && (other.operations.is_empty() || other.operations.contains(operation))
                    })
                    .unwrap();
                let cause = answered(row.code, 400, &format!("xx {} yy", row.says.to_uppercase()));
                assert_eq!(judge(*operation, &cause), own_row.verdict, "{operation:?} {row:?}");
                let shadowed = !std::ptr::eq(own_row, row) && own_row.operations.is_empty();
                assert!(!shadowed, "{row:?} never matches");
            }
        }
    }

    #[test]
    fn a_server_error_leaves_the_outcome_open_whatever_code_it_carries_but_for_rate_limits() {
        for row in TABLE {
            for operation in Mutation::ALL {
                let verdict = judge(operation, &answered(row.code, 503, row.says));
                let expected = if row.verdict == THROTTLED { THROTTLED } else { Verdict::Unknown };
                let applies = row.operations.is_empty() || row.operations.contains(&operation);
                if applies {
                    assert_eq!(verdict, expected, "{operation:?} {row:?}");
                }
            }
        }
    }

    #[test]
    fn an_error_that_no_row_names_is_asked_again_when_refused_and_open_otherwise() {
        let asked = |status| judge(Mutation::ModifyRule, &answered("BrandNew", status, ""));
        assert_eq!(asked(400), CONFLICT);
        assert_eq!(asked(404), CONFLICT);
        assert_eq!(asked(500), Verdict::Unknown);
        assert_eq!(asked(301), Verdict::Unknown);
    }

    #[test]
    fn an_answer_without_a_code_is_not_awss_word_that_nothing_was_done() {
        for status in [400, 403, 404, 502, 504] {
            let cause = Cause::Answered { code: None, status, message: String::new() };
            assert_eq!(judge(Mutation::ModifyRule, &cause), Verdict::Unknown, "{status}");
        }
    }

    #[test]
    fn what_never_left_is_refused_and_what_was_lost_is_unknown() {
        for operation in Mutation::ALL {
            assert_eq!(judge(operation, &Cause::NotSent(String::new())), CONFLICT);
            assert_eq!(judge(operation, &Cause::NoLease), Verdict::Refused(RefusalClass::NoLease));
            assert_eq!(judge(operation, &Cause::Budget), THROTTLED);
            assert_eq!(judge(operation, &Cause::Lost(String::new())), Verdict::Unknown);
        }
    }

    /// What each mutation's API page lists (`aws-facts.md` source M), spelt as on the wire.
    const MODELLED: &[(Mutation, &[&str])] = &[
        (
            Mutation::CreateTaskSet,
            &[
                "AccessDeniedException",
                "ClientException",
                "ClusterNotFoundException",
                "InvalidParameterException",
                "LimitExceededException",
                "NamespaceNotFoundException",
                "PlatformTaskDefinitionIncompatibilityException",
                "PlatformUnknownException",
                "ServerException",
                "ServiceNotActiveException",
                "ServiceNotFoundException",
                "UnsupportedFeatureException",
            ],
        ),
        (Mutation::UpdateTaskSet, TASK_SET),
        (Mutation::DeleteTaskSet, TASK_SET),
        (Mutation::UpdateServicePrimaryTaskSet, TASK_SET),
        (
            Mutation::TagResource,
            &[
                "AccessDeniedException",
                "ClientException",
                "ClusterNotFoundException",
                "InvalidParameterException",
                "LimitExceededException",
                "ResourceNotFoundException",
                "ServerException",
            ],
        ),
        (
            Mutation::ModifyRule,
            &[
                "IncompatibleProtocols",
                "InvalidLoadBalancerAction",
                "OperationNotPermitted",
                "RuleNotFound",
                "TargetGroupAssociationLimit",
                "TargetGroupNotFound",
                "TooManyActions",
                "TooManyRegistrationsForTargetId",
                "TooManyTargets",
                "TooManyUniqueTargetGroupsPerLoadBalancer",
                "UnsupportedProtocol",
            ],
        ),
        (
            Mutation::ModifyListener,
            &[
                "ALPNPolicyNotFound",
                "CertificateNotFound",
                "DuplicateListener",
                "IncompatibleProtocols",
                "InvalidConfigurationRequest",
                "InvalidLoadBalancerAction",
                "ListenerNotFound",
                "SSLPolicyNotFound",
                "TargetGroupAssociationLimit",
                "TargetGroupNotFound",
                "TooManyActions",
                "TooManyCertificates",
                "TooManyListeners",
                "TooManyRegistrationsForTargetId",
                "TooManyTargets",
                "TooManyUniqueTargetGroupsPerLoadBalancer",
                "TrustStoreNotFound",
                "TrustStoreNotReady",
                "UnsupportedProtocol",
            ],
        ),
    ];

    const TASK_SET: &[&str] = &[
        "AccessDeniedException",
        "ClientException",
        "ClusterNotFoundException",
        "InvalidParameterException",
        "LimitExceededException",
        "ServerException",
        "ServiceNotActiveException",
        "ServiceNotFoundException",
        "TaskSetNotFoundException",
        "UnsupportedFeatureException",
    ];

    #[test]
    fn every_error_that_the_api_models_for_a_mutation_has_a_row() {
        for mutation in Mutation::ALL {
            let (_, codes) = MODELLED.iter().find(|(it, _)| *it == mutation).unwrap();
            for code in *codes {
                let has_row = TABLE.iter().any(|row| {
                    row.code == *code
                        && row.says.is_empty()
                        && (row.operations.is_empty() || row.operations.contains(&mutation))
                });
                assert!(has_row, "{mutation:?} {code}");
            }
        }
    }

    #[test]
    fn the_cases_with_a_meaning_of_their_own_are_judged_by_operation_and_words() {
        let gone = answered("TaskSetNotFoundException", 400, "The specified task set was not found.");
        assert_eq!(judge(Mutation::DeleteTaskSet, &gone), Verdict::Done);
        assert_eq!(judge(Mutation::UpdateTaskSet, &gone), PERMANENT);
        let five = answered(
            "InvalidParameterException",
            400,
            "5 deployments exist on the service. Unable to create new TaskSet since this exceeds the maximum limit.",
        );
        assert_eq!(judge(Mutation::CreateTaskSet, &five), CONFLICT);
        let primary = answered("InvalidParameterException", 400, "Primary TaskSet cannot be deleted.");
        assert_eq!(judge(Mutation::DeleteTaskSet, &primary), CONFLICT);
        let nonsense = answered("InvalidParameterException", 400, "Invalid subnet.");
        assert_eq!(judge(Mutation::CreateTaskSet, &nonsense), PERMANENT);
        let rate = answered("ClientException", 400, "Rate exceeded");
        assert_eq!(judge(Mutation::UpdateTaskSet, &rate), THROTTLED);
    }
}
