//! Nothing: the example is the test.
