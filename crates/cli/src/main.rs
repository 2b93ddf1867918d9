//! The rehome binary.
fn main() {}
