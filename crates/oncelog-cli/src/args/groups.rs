//! What can be typed about consumer groups.

use clap::{Args, Subcommand};

/// Show consumer groups: how far each is, and who reads what
///
/// Beside a writer it shows what is durable, and as member the last one that had the partition.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo hello | oncelog produce words && oncelog groups")]
pub(crate) struct Groups {
    /// Only this group
    pub(crate) group: Option<String>,
}

/// List the records that groups gave up, and send them again
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  echo hello | oncelog produce words && oncelog dead-letters list words"
)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    pub(crate) command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List the dead letters of a topic that were not sent again
    ///
    /// Topic, partition and offset are those of the record's origin.
    #[command(
        after_help = "Example:\n  echo hello | oncelog produce words && oncelog dead-letters list words"
    )]
    List {
        /// The dead-letter topic
        topic: String,
    },
    /// Send the dead letters of a topic again, each to where it came from
    ///
    /// Each has the business id that it had. It is sent once, however often the command runs; one
    /// that a crash cuts off may be sent twice, with that same id.
    #[command(
        after_help = "Example:\n  echo hello | oncelog produce words && oncelog dead-letters redrive words"
    )]
    Redrive {
        /// The dead-letter topic
        topic: String,
    },
}
