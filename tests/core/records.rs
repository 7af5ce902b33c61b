//! What people may write, and what they are told when they may not.

mod judging;
mod support;
