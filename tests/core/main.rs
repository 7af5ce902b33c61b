//! Tests of the pure core through its public face.

mod decide_properties;
mod decide_stories;
mod records;
mod sim;
