//! Runs and the loop over fakes of the ports, with scripted decisions and paused time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::{advance, sleep};

use super::inputs::{Core, Read};
use super::response::{self, Call, Class, Reason, Response};
use super::tell::{bare_status, change, newly_stuck};
use super::*;
use crate::clock::TokioClock;
use crate::decide::emergency::tests::Scene;
use crate::decide::safety::{Property, Violation};
use crate::decide::{Asked, Decision, Input, Limits, Next, Wait, WaitingOn};
use crate::lease::{Shard, ShardCount};
use crate::model::effect::WayBack;
use crate::model::facts::{HaltReason, LatchCause, Outstanding, Pending};
use crate::model::observed::{Extra, Weights};
use crate::model::{
    Acknowledgement, Action, Answer, Effect, Facts, Need, Observed, Plan, RefusalClass, Seen, Shares,
};
use crate::ports::{Clock, Cloud, EmergencyPermit, Permit, Remembered, StateWrite, Store, Wishes};
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::status::{Condition, Phase};
use crate::records::{DesiredReleaseSpec, Group, Percent, ReleaseStatus};
use crate::telemetry::Metrics;

mod durability;
mod fairness;
mod leases;
mod objections;
mod store_trouble;
mod support;
mod unread_records;
mod unrecorded;
mod without_table;
mod words;
