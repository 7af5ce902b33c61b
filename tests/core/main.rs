//! Tests of the pure core through its public face.

mod decide_stories;
mod records;
mod sim;
