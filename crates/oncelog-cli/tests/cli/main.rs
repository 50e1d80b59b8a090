//! The command as users meet it: the built binary, its exit codes, and what it prints where.

mod bad_input;
mod demo;
mod harness;
mod help;
mod inspect;
mod produce;
mod signals;
