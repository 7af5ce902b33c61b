//! Under construction.

pub mod plane;
