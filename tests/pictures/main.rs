//! The pictures in `docs/pictures/`: each is drawn from a run of the engine, over a link that loses
//! answers. Producer ids, sequences, offsets and decisions in them are what the log answered.
//!
//! `UPDATE_DOCS=1 cargo test -p oncelog-tests --test pictures` draws them anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking; helpers included"
)]

mod canvas;
mod exchange;
mod lost_ack;
mod restart;
mod stored;
mod watched;

use harness::sources::root;

fn check(name: &str, drawn: &str) {
    let path = root().join("docs/pictures").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, drawn).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == drawn,
        "{} is not what a run gives; draw it anew: UPDATE_DOCS=1 cargo test -p oncelog-tests --test pictures",
        path.display()
    );
}

#[test]
fn the_lost_acknowledgement_is_as_drawn() {
    check("lost-ack.svg", &lost_ack::draw());
}

#[test]
fn the_restart_is_as_drawn() {
    check("restart.svg", &restart::draw());
}
