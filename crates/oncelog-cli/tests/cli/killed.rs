//! `produce --name`, killed with SIGKILL at any moment and started again with the same command.

use std::io::Write;
use std::process::Child;
use std::thread;
use std::time::Duration;

use crate::harness::{Place, ended};

const LINES: usize = 30_000;
const KILLS: u32 = 7;

/// A header line, and lines of a few keys in their order.
fn input() -> String {
    let mut text = "number,key,what\n".to_owned();
    for number in 0..LINES {
        text.push_str(&format!("{number},key-{},an event\n", number * number % 11));
    }
    text
}

fn args(file: &str) -> Vec<&str> {
    let args = "produce t --name f --partitions 3 --header-line --key-column key --lost-ack 0.2 \
                --batch-records 20 --max-in-flight 2 --json --quiet --file";
    args.split_whitespace().chain([file]).collect()
}

/// Records in the log, as somebody beside the writer sees them.
fn stored(place: &Place) -> u64 {
    let ran = place.run(&["topic", "describe", "t", "--json", "--quiet"]);
    match ran.code {
        Some(0) => ran.json()["records"].as_u64().unwrap(),
        _ => 0,
    }
}

/// Kills the command: in every other round when the log has grown, else at any moment. Whether it
/// was still at work.
fn kill(place: &Place, mut child: Child, round: u32) -> bool {
    if round.is_multiple_of(2) {
        thread::sleep(Duration::from_millis(7 + u64::from(round) * 19));
    } else {
        let before = stored(place);
        while child.try_wait().unwrap().is_none() && stored(place) == before {}
    }
    let was_at_work = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    ended(child);
    was_at_work
}

/// The log holds every line once, each key's in their order.
fn judge(place: &Place, text: &str, sent: u64, skipped: u64) {
    assert_eq!(sent + skipped, u64::try_from(LINES).unwrap());
    assert!(skipped > 0, "nothing was stored before it was killed");
    place.run(&["verify", "--quiet"]).code(0);
    let read = place.run(&["consume", "t", "--quiet"]).code(0);
    let of_key = |text: &str, key: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains(key));
        lines.map(str::to_owned).collect()
    };
    for key in (0..11).map(|key| format!(",key-{key},")) {
        assert_eq!(of_key(read.text(), &key), of_key(text, &key), "{key}");
    }
    assert_eq!(read.text().lines().count(), LINES);
}

#[test]
fn a_file_is_stored_once_however_often_the_command_is_killed() {
    let (place, text) = (Place::new(), input());
    place.write("in.csv", &text);
    let args = args("in.csv");
    let mut at_work = 0;
    for round in 0..KILLS {
        let child = place.command(&args).spawn().unwrap();
        at_work += u32::from(kill(&place, child, round));
    }
    assert!(at_work >= 2, "it ended before it could be killed");
    let last = place.run(&args).code(0).json();
    let count = |field: &str| last[field].as_u64().unwrap();
    judge(&place, &text, count("records"), count("skipped"));
}

#[test]
fn so_is_standard_input() {
    let (place, text) = (Place::new(), input());
    let args = args("-");
    let mut at_work = 0;
    for round in 0..KILLS {
        let mut child = place.start(&args);
        let mut stdin = child.stdin.take().unwrap();
        let bytes = text.clone();
        // The pipe breaks when the command is killed.
        let writer = thread::spawn(move || drop(stdin.write_all(bytes.as_bytes())));
        at_work += u32::from(kill(&place, child, round));
        writer.join().unwrap();
    }
    assert!(at_work >= 2, "it ended before it could be killed");
    let last = place.run_with_input(&args, &text).code(0).json();
    let count = |field: &str| last[field].as_u64().unwrap();
    judge(&place, &text, count("records"), count("skipped"));
}
