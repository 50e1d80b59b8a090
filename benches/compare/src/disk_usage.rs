//! How much of the disk a directory takes.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::results::Disk;

const PAGE: usize = 4_096;

/// Of all files below `directory`.
pub(crate) fn of(directory: &Path) -> anyhow::Result<Disk> {
    let mut sum = Disk::default();
    add(directory, &mut sum)?;
    Ok(sum)
}

fn add(directory: &Path, sum: &mut Disk) -> anyhow::Result<()> {
    for entry in directory.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            add(&entry.path(), sum)?;
            continue;
        }
        let metadata = entry.metadata()?;
        sum.apparent += metadata.len();
        sum.allocated += metadata.blocks() * 512;
        if metadata.blocks() > 0 {
            sum.used += used(&mut File::open(entry.path())?)?;
        }
    }
    Ok(())
}

/// Bytes in pages that are not all zeros.
fn used(file: &mut File) -> anyhow::Result<u64> {
    let mut piece = vec![0; 256 * PAGE];
    let mut used = 0;
    loop {
        let mut filled = 0;
        while filled < piece.len() {
            let read = file.read(&mut piece[filled..])?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        let pages = piece[..filled].chunks(PAGE);
        let pages = pages.filter(|page| page.iter().any(|byte| *byte != 0));
        used += pages.map(|page| page.len() as u64).sum::<u64>();
        if filled < piece.len() {
            return Ok(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn reserved_zeros_are_no_used_pages() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("below")).unwrap();
        let file = File::create(directory.path().join("below/file")).unwrap();
        file.write_all_at(&vec![0; 10 * PAGE], 0).unwrap();
        file.write_all_at(b"x", 3 * 4_096 + 5).unwrap();
        std::fs::write(directory.path().join("short"), b"abc").unwrap();
        file.sync_all().unwrap();
        let disk = of(directory.path()).unwrap();
        assert_eq!(disk.apparent, 10 * 4_096 + 3);
        assert_eq!(disk.used, 4_096 + 3);
        assert!(disk.allocated >= 10 * 4_096, "{disk:?}");
    }
}
