//! Pictures as SVG: rectangles, lines and texts, readable on light and dark pages.

use std::fmt::Write as _;

/// The looks of all pictures, those of docs/pictures.
const STYLE: &str = "<style>
text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:12px;fill:#1f2328}
.title{font-size:18px;font-weight:600}
.head{font-size:14px;font-weight:600}
text.muted{fill:#59636e}
.page{fill:#ffffff}
.ours{fill:#0969da;stroke:#0969da}
.other{fill:#afb8c1;stroke:#59636e}
.dedup{fill:#8c6fd1;stroke:#8250df}
.machine{fill:#d4a72c;stroke:#9a6700}
.bar{stroke:none}
.line{fill:none;stroke-width:2}
.axis{stroke:#d1d9e0;stroke-width:1;fill:none}
.range{stroke:#1f2328;stroke-width:1.2;fill:none}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}
text.muted{fill:#9198a1}
.page{fill:#0d1117}
.ours{fill:#4493f8;stroke:#4493f8}
.other{fill:#545d68;stroke:#9198a1}
.dedup{fill:#8957e5;stroke:#ab7df8}
.machine{fill:#bb8009;stroke:#d29922}
.axis{stroke:#3d444d}
.range{stroke:#e6edf3}
}
</style>
";

/// Where a text is held.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    End,
}

/// A picture that is being drawn. Coordinates are pixels from its top left corner.
pub(crate) struct Svg {
    body: String,
    head: String,
}

impl Svg {
    /// An empty page; `description` says in words what the picture shows.
    pub(crate) fn new((width, height): (f64, f64), title: &str, description: &str) -> Svg {
        let (title, description) = (escaped(title), escaped(description));
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{title}</title>\n\
             <desc>{description}</desc>\n{STYLE}\
             <rect class=\"page\" width=\"{width:.0}\" height=\"{height:.0}\" rx=\"8\"/>\n"
        );
        let mut svg = Svg {
            body: String::new(),
            head,
        };
        svg.text((24.0, 34.0), "title", Anchor::Start, &title);
        svg.text((24.0, 56.0), "muted", Anchor::Start, &description);
        svg
    }

    pub(crate) fn text(&mut self, (x, y): (f64, f64), class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.push(&format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    pub(crate) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        self.push(&format!(
            "<rect class=\"bar {class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"2\"/>"
        ));
    }

    /// A line through all points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let letter = if at == 0 { 'M' } else { 'L' };
            // Writing to a string cannot fail.
            let _ = write!(path, "{letter}{x:.1} {y:.1}");
        }
        self.push(&format!("<path class=\"{class}\" d=\"{path}\"/>"));
    }

    pub(crate) fn dot(&mut self, (x, y): (f64, f64), radius: f64, class: &str) {
        self.push(&format!(
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>"
        ));
    }

    /// The whole file.
    pub(crate) fn finish(self) -> String {
        format!("{}{}</svg>\n", self.head, self.body)
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace("&amp;lt;", "&lt;")
        .replace("&amp;amp;", "&amp;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_once() {
        let svg = Svg::new((100.0, 50.0), "a < b", "c & d").finish();
        assert!(svg.contains("<title>a &lt; b</title>"), "{svg}");
        assert!(svg.contains(">a &lt; b</text>"), "{svg}");
        assert!(svg.contains(">c &amp; d</text>"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
