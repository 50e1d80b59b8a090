//! `verify`: every file and invariant of a data directory.

pub(crate) fn run(_: &crate::args::Common) -> anyhow::Result<()> {
    Ok(())
}
