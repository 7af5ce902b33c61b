//! Reads and changes AWS: the adapters behind [`ports::Cloud`](crate::ports::Cloud).
//!
//! - [`clients`]: SDK clients with explicit time-outs; mutations are sent once.
//! - [`lease_gate`]: no mutation is transmitted without the lease.
//! - [`budget`]: our share of AWS's request quotas, with a reserve for rollbacks.
//! - [`batch`]: one call for many services.
//! - [`ecs`], [`elb`], [`cloudwatch`]: the calls, and what their answers mean.
//! - [`error`]: operation × error code → what it means, as data.
//! - [`permissions`]: operation → IAM actions, as data.
//!
//! **Architecture Invariant:** nothing here decides. An answer that is not understood is `Seen::Unknown` or
//! `Answer::Unknown`, never a guess.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::model::effect::WayBack;
use crate::model::{Action, Answer, Need, Observed, Plan};
use crate::ports::{Clock, Cloud, EmergencyPermit, Permit, Permits};
use crate::records::Span;

pub mod batch;
pub mod budget;
mod carry_out;
pub mod clients;
pub mod cloudwatch;
pub mod ecs;
pub mod elb;
pub mod error;
pub mod lease_gate;
mod observe;
pub mod permissions;

use batch::Batcher;
use budget::{Limiter, Rates};
pub use clients::{Clients, load_config};

/// Settings of the adapters.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a round of reads stays open for others to join, at least; it also does while the budget makes it
    /// wait. Default 15 ms: nothing beside a call to AWS, and long enough for every service whose poll is due in
    /// the same tick.
    pub window: Span,
    /// The longest that one call may take, as the clients were built: what the lease gate asks for.
    pub operation: Span,
    /// Request budget.
    pub rates: Rates,
}

impl Default for Settings {
    fn default() -> Self {
        Self { window: Span::from_millis(15), operation: clients::OPERATION, rates: Rates::default() }
    }
}

/// One account and region of AWS. Cheap to clone; all clones share rounds and budget, so there must be one per
/// account and region, not one per service.
#[derive(Clone)]
pub struct AwsCloud {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for AwsCloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsCloud").field("limiter", &self.inner.limiter).finish_non_exhaustive()
    }
}

/// What all clones share.
struct Inner {
    clients: Clients,
    operation: Span,
    limiter: Limiter,
    clock: Arc<dyn Clock>,
    ecs: ecs::Ecs,
    elb: elb::Elb,
    kept: elb::kept::Kept,
    services: Batcher<ecs::Services>,
    rules: Batcher<elb::Rules>,
    listeners: Batcher<elb::Listeners>,
    alarms: Batcher<cloudwatch::Alarms>,
}

impl AwsCloud {
    /// Adapters over these clients. `clock` feeds the request budget. Needs a tokio runtime when used.
    pub fn new(clients: Clients, settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        let limiter = Limiter::new(&settings.rates, Arc::clone(&clock));
        let elb = elb::Elb { client: clients.elb.clone(), limiter: limiter.clone() };
        let services = ecs::Services { client: clients.ecs.clone(), limiter: limiter.clone() };
        let alarms = cloudwatch::Alarms { client: clients.cloudwatch.clone(), limiter: limiter.clone() };
        let inner = Inner {
            ecs: ecs::Ecs { client: clients.ecs.clone(), limiter: limiter.clone() },
            services: Batcher::new(services, settings.window),
            rules: Batcher::new(elb::Rules(elb.clone()), settings.window),
            listeners: Batcher::new(elb::Listeners(elb.clone()), settings.window),
            alarms: Batcher::new(alarms, settings.window),
            elb,
            kept: elb::kept::Kept::default(),
            clock,
            operation: settings.operation,
            clients,
            limiter,
        };
        Self { inner: Arc::new(inner) }
    }

    /// See [`Limiter::follow`]. Not public, so that the compiler notices a daemon that does not share.
    pub(crate) async fn share(self, permits: watch::Receiver<Permits>) {
        self.inner.limiter.follow(permits).await;
    }

    /// How many requests were let through so far, by API operation; the SDK's second attempts not counted.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.inner.limiter.calls()
    }
}

#[async_trait]
impl Cloud for AwsCloud {
    async fn observe(&self, plan: &Plan, needs: &BTreeSet<Need>) -> Observed {
        Box::pin(self.inner.observe(plan, needs)).await
    }

    async fn carry_out(&self, plan: &Plan, action: &Action, permit: &Permit) -> Answer {
        self.inner.carry_out(plan, action, permit).await
    }

    async fn take_back(&self, plan: &Plan, back: &WayBack, permit: &EmergencyPermit) -> Answer {
        self.inner.take_back(plan, back, permit).await
    }
}

#[cfg(test)]
mod tests;
