//! `dump`: every batch of a segment or partition folder.

pub(crate) fn run(
    _: &crate::args::Dump,
    _: &crate::args::Common,
    _: &crate::interrupt::Interrupt,
) -> anyhow::Result<()> {
    Ok(())
}
