//! AWS's published token buckets (`aws-facts.md` §4.1–4.3), per account and Region.
//!
//! Off unless asked for: most tests want to see their own mistakes, not the clock's. The task-set
//! operations are in no published bucket and are never throttled here; a fault rule can do it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::wire::Service;

/// One published bucket.
struct Bucket {
    name: &'static str,
    burst: u32,
    /// Tokens per 1,000 seconds, so that 0.2 a second is a whole number.
    refill_per_1000_secs: u32,
}

const fn bucket(name: &'static str, burst: u32, refill_per_1000_secs: u32) -> Bucket {
    Bucket { name, burst, refill_per_1000_secs }
}

const ECS_SERVICE_READ: Bucket = bucket("ecs service read", 100, 20_000);
const ECS_SERVICE_MODIFY: Bucket = bucket("ecs service modify", 50, 5_000);
const ECS_CLUSTER_READ: Bucket = bucket("ecs cluster read", 50, 20_000);
const ECS_RESOURCE_READ: Bucket = bucket("ecs cluster resource read", 100, 20_000);
const ECS_TASK_DEFINITION_READ: Bucket = bucket("ecs task definition read", 50, 20_000);
const ECS_TASK_DEFINITION_MODIFY: Bucket = bucket("ecs task definition modify", 20, 1_000);
const ECS_TAG_MODIFY: Bucket = bucket("ecs tag modify", 20, 10_000);
const ELB_ACCOUNT: Bucket = bucket("elb account", 40, 10_000);
const ELB_READ: Bucket = bucket("elb non-mutating", 40, 10_000);
const ELB_MODIFY: Bucket = bucket("elb mutating", 20, 3_000);
// "Resource-intensive: CreateLoadBalancer, SetSubnets": 10 tokens, 0.2 a second, "throttled separately from
// other mutating actions" (elb-api-throttling).
const ELB_INTENSIVE: Bucket = bucket("elb resource-intensive", 10, 200);
const ELB_REGISTER: Bucket = bucket("elb registration", 20, 4_000);
// CloudWatch publishes rates without bursts: a bucket of one second's worth.
const CW_DESCRIBE_ALARMS: Bucket = bucket("cloudwatch DescribeAlarms", 9, 9_000);
const CW_DESCRIBE_HISTORY: Bucket = bucket("cloudwatch DescribeAlarmHistory", 20, 20_000);
const CW_PUT_ALARM: Bucket = bucket("cloudwatch PutMetricAlarm", 3, 3_000);
const CW_SET_STATE: Bucket = bucket("cloudwatch SetAlarmState", 3, 3_000);
const CW_METRIC_DATA: Bucket = bucket("cloudwatch GetMetricData", 500, 500_000);
const STREAM_DESCRIBE: Bucket = bucket("dynamodb DescribeStream", 10, 10_000);
const STREAM_LIST: Bucket = bucket("dynamodb ListStreams", 5, 5_000);

/// The buckets that one call takes a token from.
fn buckets(service: Service, operation: &str) -> &'static [&'static Bucket] {
    match (service, operation) {
        (Service::Ecs, "DescribeServices" | "ListServices") => &[&ECS_SERVICE_READ],
        (Service::Ecs, "CreateService" | "UpdateService" | "DeleteService") => &[&ECS_SERVICE_MODIFY],
        (Service::Ecs, "DescribeClusters" | "ListClusters") => &[&ECS_CLUSTER_READ],
        (Service::Ecs, "DescribeTasks" | "ListTasks") => &[&ECS_RESOURCE_READ],
        (Service::Ecs, "DescribeTaskDefinition" | "ListTaskDefinitions") => &[&ECS_TASK_DEFINITION_READ],
        (Service::Ecs, "RegisterTaskDefinition" | "DeregisterTaskDefinition") => {
            &[&ECS_TASK_DEFINITION_MODIFY]
        }
        (Service::Ecs, "TagResource" | "UntagResource") => &[&ECS_TAG_MODIFY],
        (Service::Elb, "RegisterTargets" | "DeregisterTargets") => &[&ELB_ACCOUNT, &ELB_REGISTER],
        (Service::Elb, "CreateLoadBalancer" | "SetSubnets") => &[&ELB_ACCOUNT, &ELB_INTENSIVE],
        (Service::Elb, operation) if operation.starts_with("Describe") => &[&ELB_ACCOUNT, &ELB_READ],
        (Service::Elb, _) => &[&ELB_ACCOUNT, &ELB_MODIFY],
        (Service::CloudWatch, "DescribeAlarms") => &[&CW_DESCRIBE_ALARMS],
        (Service::CloudWatch, "DescribeAlarmHistory") => &[&CW_DESCRIBE_HISTORY],
        (Service::CloudWatch, "PutMetricAlarm") => &[&CW_PUT_ALARM],
        (Service::CloudWatch, "SetAlarmState") => &[&CW_SET_STATE],
        (Service::CloudWatch, "GetMetricData") => &[&CW_METRIC_DATA],
        (Service::DynamoDbStreams, "DescribeStream") => &[&STREAM_DESCRIBE],
        (Service::DynamoDbStreams, "ListStreams") => &[&STREAM_LIST],
        _ => &[],
    }
}

/// Millionths of a token and when they were counted.
#[derive(Clone, Copy, Debug)]
struct Level {
    micro_tokens: i64,
    at: Timestamp,
}

const MICRO: i64 = 1_000_000;

/// The levels of all buckets of one account and Region.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    levels: Mutex<BTreeMap<&'static str, Level>>,
}

impl Throttle {
    /// Takes one token from each bucket of the operation, or none and names the empty one.
    pub(super) fn take(&self, service: Service, operation: &str, now: Timestamp) -> Result<(), &'static str> {
        let buckets = buckets(service, operation);
        // Levels are whole between statements, so a panic elsewhere doesn't spoil them.
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        for bucket in buckets {
            let level = levels
                .entry(bucket.name)
                .or_insert(Level { micro_tokens: i64::from(bucket.burst) * MICRO, at: now });
            // Tokens per 1,000 s are millionths of a token per millisecond... per 1: the units cancel.
            let millis = now.duration_since(level.at).as_millis().clamp(0, 1_000_000_000);
            let millis = i64::try_from(millis).unwrap_or(i64::MAX);
            level.micro_tokens = (level.micro_tokens + millis * i64::from(bucket.refill_per_1000_secs))
                .min(i64::from(bucket.burst) * MICRO);
            level.at = level.at.max(now);
        }
        if let Some(empty) = buckets.iter().find(|bucket| levels[bucket.name].micro_tokens < MICRO) {
            return Err(empty.name);
        }
        for bucket in buckets {
            if let Some(level) = levels.get_mut(bucket.name) {
                level.micro_tokens -= MICRO;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn burst(throttle: &Throttle, operation: &str, now: Timestamp) -> usize {
        (0..1_000).take_while(|_| throttle.take(Service::Elb, operation, now).is_ok()).count()
    }

    #[test]
    fn twenty_rule_writes_pass_at_once_and_three_a_second_after_that() {
        let throttle = Throttle::default();
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(burst(&throttle, "ModifyRule", start), 20);
        assert_eq!(burst(&throttle, "ModifyRule", start + SignedDuration::from_secs(1)), 3);
        assert_eq!(burst(&throttle, "ModifyRule", start + SignedDuration::from_hours(1)), 20);
    }

    #[test]
    fn reads_take_from_the_account_wide_bucket_that_writes_need_too() {
        let throttle = Throttle::default();
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(burst(&throttle, "DescribeTargetHealth", start), 40);
        assert_eq!(throttle.take(Service::Elb, "ModifyRule", start), Err("elb account"));
        // A refused write costs nothing: its own bucket is still full when the shared one has filled up.
        assert_eq!(burst(&throttle, "ModifyRule", start + SignedDuration::from_secs(10)), 20);
    }

    #[test]
    fn ten_load_balancers_can_be_made_at_once_and_one_in_five_seconds_after_that() {
        let throttle = Throttle::default();
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(burst(&throttle, "CreateLoadBalancer", start), 10);
        assert_eq!(burst(&throttle, "CreateLoadBalancer", start + SignedDuration::from_secs(4)), 0);
        assert_eq!(burst(&throttle, "CreateLoadBalancer", start + SignedDuration::from_secs(5)), 1);
        assert_eq!(burst(&throttle, "ModifyRule", start + SignedDuration::from_secs(5)), 20);
    }

    #[test]
    fn operations_without_a_published_bucket_are_never_throttled() {
        let throttle = Throttle::default();
        let taken =
            (0..10_000).all(|_| throttle.take(Service::Ecs, "CreateTaskSet", Timestamp::UNIX_EPOCH).is_ok());
        assert!(taken);
    }
}
