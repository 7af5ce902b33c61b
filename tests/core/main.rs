//! Tests of the pure core through its public face.

mod decide_stories;
mod deploy;
mod records;
mod sim;
