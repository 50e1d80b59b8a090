use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum S {
    New,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
}
use S::*;

fn orders() -> MachineBuilder<S, &'static str> {
    Machine::builder()
        .edge(New, "pay", Paid)
        .edge(Paid, "ship", Shipped)
        .edge(Shipped, "deliver", Delivered)
        .edge(New, "cancel", Cancelled)
}

#[test]
fn case_71_late_early_and_never_are_told_apart() {
    let machine = orders().build().unwrap();
    let expected = [
        (New, "pay", Step::Advance(Paid)),
        (Paid, "pay", Step::Already),
        (Shipped, "pay", Step::Stale),
        (Delivered, "pay", Step::Stale),
        (Paid, "deliver", Step::Early),
        (New, "deliver", Step::Early),
        (Paid, "cancel", Step::Illegal),
        (Cancelled, "cancel", Step::Already),
        (Cancelled, "ship", Step::Illegal),
        (Cancelled, "pay", Step::Illegal),
        (New, "refund", Step::Illegal),
    ];
    for (now, event, step) in expected {
        assert_eq!(machine.judge(now, &event), step, "{event} in {now:?}");
    }
}

#[test]
fn a_cycle_is_refused_without_numbers() {
    let cyclic = || orders().edge(Delivered, "return", Paid);
    let refused = cyclic().build().unwrap_err();
    assert!(matches!(refused, MachineError::Cyclic { .. }), "{refused}");
    let own = orders().edge(Paid, "pay again", Paid).build().unwrap_err();
    assert_eq!(
        own,
        MachineError::Cyclic {
            state: "Paid".into()
        }
    );

    let machine = cyclic().build_numbered().unwrap();
    let judge = |applied, event, number| machine.judge((Paid, applied), (&event, number));
    assert_eq!(judge(1, "ship", 2), Step::Advance(Shipped));
    assert_eq!(judge(4, "ship", 2), Step::Stale);
    assert_eq!(judge(4, "return", 4), Step::Already);
    assert_eq!(judge(4, "deliver", 6), Step::Early);
    assert_eq!(judge(4, "pay", 5), Step::Illegal);
}

#[test]
fn an_event_leads_from_a_state_to_one_other() {
    let refused = orders().edge(New, "pay", Cancelled).build().unwrap_err();
    let (from, event) = ("New".into(), "\"pay\"".into());
    assert_eq!(refused, MachineError::Ambiguous { from, event });
}
