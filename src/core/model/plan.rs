//! The plan of one release: everything resolved when it starts, and pinned until it ends.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::records::check::{self, Refusal};
use crate::records::desired_release::DesiredReleaseSpec;
use crate::records::managed_service::{ManagedServiceSpec, Route};
use crate::records::strategy::{self, Step};
use crate::records::{Percent, Span};

/// A task definition revision, pinned: never `latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Family.
    pub family: String,
    /// Revision number, from 1.
    pub number: u32,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.family, self.number)
    }
}

/// Why a text is not a [`Revision`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not family:revision")]
pub struct BadRevision(pub String);

impl std::str::FromStr for Revision {
    type Err = BadRevision;

    /// Reads `family:revision` or a full task-definition ARN.
    fn from_str(text: &str) -> Result<Self, BadRevision> {
        let bad = || BadRevision(text.to_owned());
        let tail = text.rsplit_once('/').map_or(text, |(_, tail)| tail);
        let (family, number) = tail.rsplit_once(':').ok_or_else(bad)?;
        let number: u32 = number.parse().map_err(|_| bad())?;
        if family.is_empty() || family.contains(':') || number == 0 {
            return Err(bad());
        }
        Ok(Self { family: family.to_owned(), number })
    }
}

/// A whole plan. In flight only this copy counts; edits of the records count from the next release.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The `ManagedService` as it was, its strategies left out.
    pub spec: ManagedServiceSpec,
    /// The strategy's name.
    pub strategy: String,
    /// All steps; the last is always a shift to 100 % that bakes for `spec.bake`.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The plan of `desired` on `service`, and the revision it releases. Both records have been judged by
    /// themselves; here they are judged together, by what is allowed now.
    pub fn resolve(
        service: &ManagedServiceSpec,
        desired: &DesiredReleaseSpec,
    ) -> Result<(Self, Revision), Refusal> {
        let (family, number) = check::task_definition_of(service, desired)?;
        let strategy = check::strategy_of(service, desired)?;
        let steps = strategy::steps_of(strategy, service)?;
        let plan = Self { spec: pinned(service), strategy: strategy.to_owned(), steps };
        Ok((plan, Revision { family, number }))
    }

    /// The plan by which an idle service is observed: its last step alone.
    pub fn observing(service: &ManagedServiceSpec) -> Self {
        let mut plan =
            Self { spec: pinned(service), strategy: service.default_strategy.clone(), steps: Vec::new() };
        plan.steps.push(plan.last_step());
        plan
    }

    /// Every route, production first, in the order they are written.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.spec.routes.production.iter().chain(self.spec.routes.test.iter())
    }

    /// The last step alone, for a first release and for a return to the retained version.
    pub fn last_step(&self) -> Step {
        Step::Shift { weight: Percent::FULL, scale: Percent::FULL, bake: self.spec.bake }
    }

    /// The quiet time before a task set may be deleted: weights in force everywhere, requests drained,
    /// sticky clients expired (`semantics` 4.4).
    pub fn quiet(&self, after_unknown: bool) -> Span {
        let waits = &self.spec.waits;
        let ordinary = waits.propagation.plus(waits.quiet);
        let sticky = self.spec.routes.stickiness.max_duration.unwrap_or(Span::ZERO);
        let unknown = if after_unknown { waits.quiet_after_unknown } else { Span::ZERO };
        ordinary.max(sticky).max(unknown)
    }
}

/// The copy that a plan keeps: the strategies are resolved into steps, and would fill the state item.
fn pinned(service: &ManagedServiceSpec) -> ManagedServiceSpec {
    ManagedServiceSpec { strategies: BTreeMap::new(), ..service.clone() }
}
