//! One request and its answer, between the lives of a producer and of the log.

use oncelog::Decision;

use crate::canvas::{Anchor, Canvas};
use crate::watched::Request;

/// Where the two stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lives {
    pub(crate) producer: i32,
    pub(crate) log: i32,
}

/// Height of an exchange.
pub(crate) const HEIGHT: i32 = 94;

/// `3-5`, or `3` of one alone.
pub(crate) fn span(first: i64, count: i32) -> String {
    match first + i64::from(count) - 1 {
        last if last == first => first.to_string(),
        last => format!("{first}\u{2013}{last}"),
    }
}

fn offsets(request: &Request) -> String {
    let first = i64::try_from(request.offset).unwrap();
    span(first, i32::try_from(request.records).unwrap())
}

impl Lives {
    pub(crate) fn middle(self) -> i32 {
        self.producer + (self.log - self.producer) / 2
    }

    /// The boxes on top, and the lines below them.
    pub(crate) fn draw(self, canvas: &mut Canvas, (y, end): (i32, i32), names: [&str; 2]) {
        for (x, name) in [self.producer, self.log].into_iter().zip(names) {
            canvas.rect((x - 46, y), (92, 28), "other");
            canvas.text((x, y + 19), Anchor::Middle, "note", name);
            canvas.line((x, y + 28), (x, end), "life");
        }
    }

    /// A request at `y`, with what is in it, and its answer.
    pub(crate) fn exchange(self, canvas: &mut Canvas, y: i32, what: &str, request: &Request) {
        let middle = self.middle();
        let identity = request.identity;
        let whose = format!(
            "(PID {}, epoch {}, sequence {})",
            identity.producer_id, identity.producer_epoch, identity.base_sequence
        );
        canvas.text((middle, y - 22), Anchor::Middle, "small", what);
        canvas.text((middle, y - 7), Anchor::Middle, "code", &whose);
        canvas.arrow(y, self.producer + 3, self.log - 3, "");
        let (beside, answer) = (self.log + 12, y + 38);
        let decision = request.decision.name();
        let class = match request.decision {
            Decision::Duplicate => "code good",
            _ => "code",
        };
        canvas.text((beside, y + 4), Anchor::Start, class, decision);
        let place = match request.decision {
            Decision::Duplicate => format!("is at {}", offsets(request)),
            _ => format!("at {}", offsets(request)),
        };
        canvas.text((beside, y + 20), Anchor::Start, "code muted", &place);
        let text = match request.decision {
            Decision::Duplicate => format!("offset {}, duplicate", request.offset),
            _ => format!("offset {}", request.offset),
        };
        if request.is_answered {
            let class = match request.decision {
                Decision::Duplicate => "answer good",
                _ => "answer",
            };
            canvas.text((middle, answer - 7), Anchor::Middle, "code", &text);
            canvas.arrow(answer, self.log - 3, self.producer + 3, class);
        } else {
            let right = middle + (self.log - middle) / 2;
            canvas.text((right, answer - 7), Anchor::Middle, "code", &text);
            canvas.line((self.log - 3, answer), (middle, answer), "answer bad");
            canvas.cross((middle, answer));
            let left = middle - 16;
            canvas.text((left, answer + 4), Anchor::End, "small bad", "lost");
        }
    }
}
