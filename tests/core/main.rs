//! Tests of the pure core through its public face.

mod records;
