//! What a refusal says: which kind, and what to do.

use partition_log::{OutOfOrderKind, Rejection};

use crate::harness::{KAFKA, Log, MAX, STRICT, p7};

/// On a circle the far side is as near from behind as from ahead: it counts as behind.
#[test]
fn half_of_all_sequences_back_is_behind_and_one_more_is_ahead() {
    let half = 1 << 30;
    for (first, expected_kind) in [
        (0, OutOfOrderKind::OlderThanWindow),
        (MAX, OutOfOrderKind::Gap),
    ] {
        let mut log = Log::new(KAFKA);
        log.send(p7(half - 2, half - 1));
        match log.refusal(p7(first, first)) {
            Rejection::OutOfOrder { expected, kind, .. } => {
                assert_eq!((expected, kind), (half, expected_kind), "{first}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_refusal_says_what_is_wrong_and_what_to_do() {
    let texts = [
        (OutOfOrderKind::Gap, "send those first"),
        (
            OutOfOrderKind::Overlap,
            "the first and last sequence it had",
        ),
        (OutOfOrderKind::OlderThanWindow, "widen the window"),
        (OutOfOrderKind::EpochBump, "number the batches again"),
        (OutOfOrderKind::EmptyWindow, "the first one begins at 0"),
    ];
    for (kind, text) in texts {
        assert!(kind.to_string().contains(text), "{kind}");
    }
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    let said = log.refusal(p7(5, 5)).to_string();
    assert!(
        said.starts_with("producer 7, epoch 0: expected sequence 1, got 5: the batches before"),
        "{said}"
    );
}
