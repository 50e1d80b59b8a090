//! oncelog
