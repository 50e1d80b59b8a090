use super::*;

fn key(group: &str, scenario: &str, id: &[u8]) -> DedupKey {
    DedupKey::new(Scope::new(group, scenario), BizId::new(id).unwrap())
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let keys = [
        key("g", "a", b"b:c"),
        key("g", "a:b", b"c"),
        key("ga", "", b"b:c"),
        key("", "ga", b"b:c"),
    ];
    for (n, one) in keys.iter().enumerate() {
        for other in &keys[n + 1..] {
            assert_ne!(one, other);
            assert_ne!(one.digest(), other.digest(), "{one:?} {other:?}");
            assert_ne!(one.step_key("x"), other.step_key("x"));
        }
    }
    assert_ne!(
        Scope::new("a", "bc").digest(),
        Scope::new("ab", "c").digest()
    );
}

#[test]
fn a_business_id_has_1_to_512_bytes() {
    assert_eq!(BizId::new(b""), Err(IdError::Length { bytes: 0 }));
    assert_eq!(BizId::new([1; 513]), Err(IdError::Length { bytes: 513 }));
    assert_eq!(BizId::new([1; 512]).unwrap().as_bytes(), [1; 512]);
}

#[test]
fn a_position_is_never_taken_for_a_business_id() {
    let (topic, partition, offset) = ("orders", 3, 7);
    let id = BizId::of_position(Position {
        topic,
        partition,
        offset,
    });
    assert!(id.is_position());
    assert_eq!(BizId::new(id.as_bytes()), Err(IdError::Reserved));
    let next = BizId::of_position(Position {
        topic,
        partition,
        offset: 8,
    });
    assert_ne!(id, next);
    assert!(!BizId::new("position").unwrap().is_position());
}

#[test]
fn digests_stay_the_same() {
    // Stores keep these: another value here is another file format.
    let key = key("billing", "orders", b"A-1");
    let expected = blake3::hash(
        b"\0\0\0\0\0\0\0\x11oncelog dedup key\0\0\0\0\0\0\0\x07billing\0\0\0\0\0\0\0\x06orders\0\0\0\0\0\0\0\x03A-1",
    );
    assert_eq!(key.digest(), *expected.as_bytes());
    assert_eq!(key.idempotency_key(), expected.to_hex().as_str());
    assert_eq!(key.digest128().to_be_bytes(), expected.as_bytes()[..16]);
}

#[test]
fn no_value_and_an_empty_one_have_other_fingerprints() {
    assert_eq!(Fingerprint::of_value(Some(b"x")), Fingerprint::of(b"x"));
    assert_ne!(
        Fingerprint::of_value(None),
        Fingerprint::of_value(Some(b""))
    );
}
