//! A small SVG writer, which refuses texts that overlap or are cut.

use std::fmt::Write;

/// Where a text is held.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that grows downwards.
pub(crate) struct Canvas {
    width: i32,
    body: String,
    /// Room that texts take: left, top, right, bottom.
    texts: Vec<([i32; 4], String)>,
}

/// Classes of texts: font size, and the widest that a character gets, in tenths of a pixel.
const SIZES: [(&str, i32, i32); 5] = [
    ("title", 18, 112),
    ("head", 15, 98),
    ("note", 13, 78),
    ("small", 12, 72),
    ("code", 12, 73),
];

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:13px;fill:#1f2328}
.title{font-size:18px;font-weight:600}
.head{font-size:15px;font-weight:600}
.small{font-size:12px}
.code{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12px}
text.muted{fill:#59636e}
text.good{fill:#1a7f37}
text.bad{fill:#cf222e}
path,rect{fill:none;stroke:#59636e;stroke-width:1.5}
.page{fill:#ffffff;stroke:none}
.life{stroke:#afb8c1}
.answer{stroke-dasharray:6 4}
path.bad{stroke:#cf222e}
path.good{stroke:#1a7f37}
.other{fill:#f6f8fa}
.first{fill:#ddf4ff;stroke:#0969da}
.once{fill:#dafbe1;stroke:#1a7f37}
.twice{fill:#ffebe9;stroke:#cf222e}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}
text.muted{fill:#9198a1}
text.good{fill:#3fb950}
text.bad{fill:#f85149}
path,rect{stroke:#9198a1}
.page{fill:#0d1117;stroke:none}
.life{stroke:#3d444d}
path.bad{stroke:#f85149}
path.good{stroke:#3fb950}
.other{fill:#151b23}
.first{fill:#121d2f;stroke:#4493f8}
.once{fill:#12261e;stroke:#3fb950}
.twice{fill:#3c1618;stroke:#f85149}
}";

impl Canvas {
    pub(crate) fn new(width: i32) -> Canvas {
        Canvas {
            width,
            body: String::new(),
            texts: Vec::new(),
        }
    }

    /// Writes a text with its baseline at `y`. The first word of `class` is one of [`SIZES`].
    ///
    /// # Panics
    /// When it is cut, or overlaps another one.
    pub(crate) fn text(&mut self, (x, y): (i32, i32), anchor: Anchor, class: &str, text: &str) {
        let size = class.split(' ').next().unwrap_or_default();
        let known = SIZES.iter().find(|known| known.0 == size);
        let (_, height, tenths) = known.unwrap_or_else(|| panic!("no size {size}"));
        let width = i32::try_from(text.chars().count()).unwrap() * tenths / 10;
        let (left, word) = match anchor {
            Anchor::Start => (x, "start"),
            Anchor::Middle => (x - width / 2, "middle"),
            Anchor::End => (x - width, "end"),
        };
        let room = [left, y - height, left + width, y + height / 4];
        assert!(
            room[0] >= 4 && room[2] <= self.width - 4,
            "{text:?} is cut at the side: {room:?}"
        );
        let overlaps = |other: &[i32; 4]| {
            room[0] < other[2] && other[0] < room[2] && room[1] < other[3] && other[1] < room[3]
        };
        if let Some((_, other)) = self.texts.iter().find(|(other, _)| overlaps(other)) {
            panic!("{text:?} overlaps {other:?}");
        }
        self.texts.push((room, text.to_owned()));
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{word}">{text}</text>"#
        );
    }

    pub(crate) fn line(&mut self, (x, y): (i32, i32), (to_x, to_y): (i32, i32), class: &str) {
        let _ = writeln!(
            self.body,
            r#"<path class="{class}" d="M{x} {y}L{to_x} {to_y}"/>"#
        );
    }

    /// A level line with a head at its end.
    pub(crate) fn arrow(&mut self, y: i32, from: i32, to: i32, class: &str) {
        self.line((from, y), (to, y), class);
        let back = to - 8 * (to - from).signum();
        let head = format!("M{back} {}L{to} {y}L{back} {}", y - 5, y + 5);
        let _ = writeln!(self.body, r#"<path d="{head}"/>"#);
    }

    /// Where something ends that did not arrive.
    pub(crate) fn cross(&mut self, (x, y): (i32, i32)) {
        self.line((x - 7, y - 7), (x + 7, y + 7), "bad");
        self.line((x - 7, y + 7), (x + 7, y - 7), "bad");
    }

    pub(crate) fn rect(&mut self, (x, y): (i32, i32), (width, height): (i32, i32), class: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>"#
        );
    }

    /// The picture, with what it says to those who cannot see it.
    pub(crate) fn finish(self, title: &str, description: &str) -> String {
        let lowest = self.texts.iter().map(|(room, _)| room[3]).max();
        let (width, height) = (self.width, lowest.unwrap_or(0) + 16);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
             <title>{title}</title>\n<desc>{description}</desc>\n<style>\n{STYLE}\n</style>\n\
             <rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n{}</svg>\n",
            self.body
        )
    }
}
