//! The table behind `docs/consumer-conformance.md`, which the suites are held to: what does not apply says so, and nothing else does.

/// Whether the table has a case of that name for a store; none for the rules, which are no cases.
pub fn applies(column: &str, case: &str) -> Option<bool> {
    let number: u32 = case.strip_prefix("case_")?.parse().unwrap();
    let table = include_str!("../../../../tests/fixtures/consumer-conformance.csv");
    let mut rows = table.lines().skip(1).map(|line| line.split('|'));
    let mut row = rows.find(|row| row.clone().next() == Some(&*number.to_string()))?;
    Some(row.next_back()?.split(' ').any(|store| store == column))
}
