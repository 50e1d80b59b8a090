"""Reads every sealed segment below a directory with kafka-python, which shares no code with us.

Checks each batch's CRC, and that offsets of a log, and sequences of each of its producers, have
no gap. Prints one line with counts; exits with 1 and says where when something is wrong.
"""

import pathlib
import sys

from kafka.record import MemoryRecords


def read_log(directory, counts):
    next_offset = None
    next_sequence = {}
    for segment in sorted(directory.glob("*.log")):
        records = MemoryRecords(segment.read_bytes())
        parsed = 0
        while records.has_next():
            batch = records.next_batch()
            where = f"{segment} at offset {batch.base_offset}"
            if not batch.validate_crc():
                sys.exit(f"{where}: wrong CRC")
            if next_offset is not None and batch.base_offset != next_offset:
                sys.exit(f"{where}: expected offset {next_offset}")
            producer, sequence = batch.producer_id, batch.base_sequence
            if producer >= 0:
                expected = next_sequence.get(producer, 0)
                if sequence != expected:
                    sys.exit(f"{where}: producer {producer} at {sequence}, expected {expected}")
            offset = batch.base_offset
            for record in batch:
                if record.offset != offset:
                    sys.exit(f"{where}: record {record.offset}, expected {offset}")
                offset += 1
            count = offset - batch.base_offset
            if count == 0:
                sys.exit(f"{where}: no records")
            next_offset = offset
            if producer >= 0:
                next_sequence[producer] = (sequence + count) % 2**31
            parsed += batch.size_in_bytes if hasattr(batch, "size_in_bytes") else 0
            counts["batches"] += 1
            counts["records"] += count
        if records.valid_bytes() != segment.stat().st_size:
            sys.exit(f"{segment}: {records.valid_bytes()} of {segment.stat().st_size} bytes read")
        counts["segments"] += 1
    counts["logs"] += 1
    counts["producers"] += len(next_sequence)


def main():
    counts = dict(logs=0, segments=0, batches=0, records=0, producers=0)
    root = pathlib.Path(sys.argv[1])
    logs = sorted({path.parent for path in root.rglob("*.log")})
    if not logs:
        sys.exit(f"no segments below {root}")
    for log in logs:
        read_log(log, counts)
    print(" ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
