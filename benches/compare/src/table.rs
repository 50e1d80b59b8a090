//! What a million producers take in memory, with the five newest batches of each remembered.

use anyhow::bail;
use partition_log::{Admission, ProducerConfig, ProducerTable};
use record_batch::{Batch, BatchBuilder, BatchHeader, ProducerIdentity};

/// Producers in the table.
const PRODUCERS: i64 = 1_000_000;
/// Batches remembered of each.
const WINDOW: i32 = 5;
/// What each may take, in bytes.
const LIMIT: usize = 200;

/// Fills a table and prints its bytes for each producer; more than the limit is an error.
pub(crate) fn measure() -> anyhow::Result<()> {
    let before = resident_bytes();
    let mut table = ProducerTable::new(ProducerConfig::default());
    let mut offset = 0;
    let mut header = header()?;
    for sequence in 0..WINDOW {
        header.base_sequence = sequence;
        for producer_id in 0..PRODUCERS {
            header.producer_id = producer_id;
            let Admission::Fresh(fresh) = table.admit(&header, header.crc)? else {
                bail!("producer {producer_id} sequence {sequence} is not new");
            };
            table.apply(fresh, &header, header.crc, offset, offset);
            offset += 1;
        }
    }
    let producers = table.len();
    let full = table
        .iter()
        .filter(|producer| producer.window.len() == 5)
        .count();
    let bytes = table.memory_bytes() / producers;
    println!("table: {producers} producers, {full} of them with {WINDOW} batches");
    println!("  {bytes} bytes for each (at most {LIMIT})");
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        let each = after.saturating_sub(before) / producers;
        println!("  {each} bytes for each as the system sees it");
    }
    println!();
    if full != producers || bytes > LIMIT {
        bail!("a producer takes {bytes} bytes, at most {LIMIT} are allowed");
    }
    Ok(())
}

fn header() -> anyhow::Result<BatchHeader> {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&[b'x'; 100]), &[])?;
    let identity = ProducerIdentity {
        producer_id: 0,
        producer_epoch: 0,
        base_sequence: 0,
    };
    Ok(*Batch::parse(builder.build(Some(identity))?)?.header())
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1_024)
}
