//! The documented rules, one test each.
