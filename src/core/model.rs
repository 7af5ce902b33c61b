//! What the decision core works on: the pinned [`Plan`], the durable [`Facts`], one [`Observed`]
//! snapshot, and the [`Effect`]s it may ask for.
//!
//! Plain data with public fields: `Clone + Eq + Hash`, `BTreeMap`s, no floats, so that property tests and a
//! model checker can hold whole states of it.
//!
//! **Architecture Invariant:** this module imports only `records`.

pub mod effect;
pub mod facts;
pub mod observed;
pub mod plan;

mod pairs;

pub use effect::{Acknowledgement, Action, Answer, Effect, Mutation, RefusalClass, Resource, Shares};
pub use facts::Facts;
pub use observed::{Need, Observed, Seen};
pub use plan::{Plan, Revision};
