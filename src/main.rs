//! The `pointsman` program: see [`pointsman`] for the map of the code.
fn main() {}
