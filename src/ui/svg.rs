//! What all drawings share: escaped text, and colours for light and dark.

use std::fmt::Write as _;

/// A text inside an element or an attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML has no place for them, not even escaped.
            char if char.is_control() => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped
}

/// A drawing that needs nothing else: `style` is added to the colours that all have, and `dark` replaces them.
pub fn document(width: u32, height: u32, title: &str, style: &str, dark: &str, body: &str) -> String {
    let mut svg = String::new();
    let title = escape(title);
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">"
    );
    let _ = writeln!(svg, "<title>{title}</title>");
    let _ = writeln!(
        svg,
        "<style>\ntext{{font:13px system-ui,sans-serif;fill:#1c2024}}.dim{{fill:#60646c;font-size:12px}}.head{{font-size:16px;font-weight:600}}.paper{{fill:#ffffff}}.rule{{stroke:#d9d9e0;stroke-width:1}}\n{style}\n@media (prefers-color-scheme:dark){{text{{fill:#edeef0}}.dim{{fill:#b0b4ba}}.paper{{fill:#18191b}}.rule{{stroke:#363a3f}}{dark}}}\n</style>"
    );
    let _ = writeln!(svg, "<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>");
    svg.push_str(body);
    svg.push_str("</svg>\n");
    svg
}

/// About how wide a text is, in pixels, at a font size of 13.
pub fn width(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX).saturating_mul(15) / 2
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_could_be_markup_is_text() {
        assert_eq!(super::escape("a<b>&\"c'\u{1}"), "a&lt;b&gt;&amp;&quot;c&#39; ");
    }
}
