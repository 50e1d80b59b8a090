//! Placeholder.

#[test]
fn placeholder() {}
