//! Which member names of the query and CBOR protocols are numbers, truths, instants or lists.
//!
//! JSON says what a value is; a form body doesn't, and CBOR wants integers and floats apart. AWS's
//! models are consistent enough that the name decides, with the few exceptions spelled out below
//! (checked by name against botocore's models of Elastic Load Balancing v2, `CloudWatch` and STS).

/// What a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, or a structure.
    Plain,
    /// A whole number.
    Whole,
    /// A floating-point number.
    Real,
    /// `true` or `false`.
    Truth,
    /// Seconds since the epoch inside, ISO 8601 or CBOR tag 1 on the wire.
    Instant,
    /// A list (needed only to read an empty one).
    List,
}

const WHOLE: &[&str] = &[
    "ActionsSuppressorExtensionPeriod",
    "ActionsSuppressorWaitPeriod",
    "ApproximateUniqueCount",
    "CapacityUnits",
    "DatapointsToAlarm",
    "DecreaseRequestsRemaining",
    "DurationSeconds",
    "EvaluationInterval",
    "EvaluationPeriods",
    "HealthCheckIntervalSeconds",
    "HealthCheckTimeoutSeconds",
    "HealthyThresholdCount",
    "MaxContributorCount",
    "MaxDatapoints",
    "MaxRecords",
    "MaxResults",
    "Order",
    "PackedPolicySize",
    "PageSize",
    "PendingPeriod",
    "Period",
    "Port",
    "Priority",
    "RecoveryPeriod",
    "SessionTimeout",
    "Size",
    "StorageResolution",
    "TargetControlPort",
    "UnhealthyThresholdCount",
    "Weight",
];

const REAL: &[&str] =
    &["Average", "Counts", "Maximum", "Minimum", "SampleCount", "Sum", "Threshold", "Value", "Values"];

const TRUTH: &[&str] = &[
    "ActionsEnabled",
    "Enabled",
    "HealthCheckEnabled",
    "IgnoreClientCertificateExpiry",
    "IncludeLinkedAccounts",
    "IsDefault",
    "PeriodicSpikes",
    "ResetTransforms",
    "ReturnData",
    "StrictEntityValidation",
    "UseExistingClientSecret",
];

const INSTANT: &[&str] = &[
    "AlarmConfigurationUpdatedTimestamp",
    "CreatedTime",
    "CreationDate",
    "EndDate",
    "EndTime",
    "Expiration",
    "ExpireDate",
    "LastModified",
    "LastModifiedTime",
    "LastUpdateDate",
    "LastUpdatedTimestamp",
    "StartDate",
    "StartTime",
    "StateTransitionedTimestamp",
    "StateUpdatedTimestamp",
    "Timestamp",
    "Timestamps",
];

const LIST: &[&str] = &[
    "Actions",
    "AlarmActions",
    "AlarmNames",
    "AlarmTypes",
    "AlpnPolicy",
    "Attributes",
    "Certificates",
    "Conditions",
    "DefaultActions",
    "Dimensions",
    "Include",
    "InsufficientDataActions",
    "ListenerArns",
    "LoadBalancerArns",
    "MetricData",
    "MetricDataQueries",
    "Metrics",
    "Names",
    "OKActions",
    "RegexValues",
    "ResourceArns",
    "RuleArns",
    "RulePriorities",
    "SecurityGroups",
    "Statistics",
    "SubnetMappings",
    "Subnets",
    "TagKeys",
    "Tags",
    "TargetGroupArns",
    "TargetGroups",
    "Targets",
    "Transforms",
];

/// Maps: the query protocol writes them as `entry` with `key` and `value`.
const MAP: &[&str] = &["Attributes", "AuthenticationRequestExtraParams", "ExtendedStatistics"];

/// Structures whose `Value` or `Values` is text, by the member that holds them.
const TEXT_HOLDERS: &[&str] = &["Dimensions", "Tags", "Attributes", "ContributorAttributes", "Values"];

/// What `member` holds inside the nearest named member `holder` (lists and their indices don't count).
pub(super) fn kind(holder: &str, member: &str) -> Kind {
    let value = matches!(member, "Value" | "Values");
    if value && (TEXT_HOLDERS.contains(&holder) || holder.ends_with("Config") || holder == "Conditions") {
        return Kind::Plain;
    }
    // A redirect may name its port by a place-holder, `#{port}`.
    if holder == "RedirectConfig" && member == "Port" {
        return Kind::Plain;
    }
    let tables = [
        (WHOLE, Kind::Whole),
        (REAL, Kind::Real),
        (TRUTH, Kind::Truth),
        (INSTANT, Kind::Instant),
        (LIST, Kind::List),
    ];
    tables.iter().find(|(names, _)| names.contains(&member)).map_or(Kind::Plain, |(_, kind)| *kind)
}

/// Whether `member` is a map rather than a structure.
pub(super) fn is_map(member: &str) -> bool {
    MAP.contains(&member)
}
