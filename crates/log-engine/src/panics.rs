//! A panic in a turn: it costs the log whose turn it was, and nobody else (R25). What it left half
//! done is behind that log's latch, and the thread goes on with the others' turns, so that nobody
//! waits for an answer that never comes (I32).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `work`; a panic in it is an error that says what the panic said.
///
/// # Errors
/// See above.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("a panic without a text");
        io::Error::other(format!("panicked: {text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        assert_eq!(caught(|| 7).unwrap(), 7);
        let text = |work: fn()| caught(work).unwrap_err().to_string();
        assert_eq!(text(|| panic!("at {}", 3)), "panicked: at 3");
        assert_eq!(text(|| panic!("at three")), "panicked: at three");
        let other = || std::panic::panic_any(7_u8);
        assert_eq!(text(other), "panicked: a panic without a text");
    }
}
