//! Lines of progress for a pipe: `#5 [2/4] RUN …`, `#5 0.123 output`, `#5 DONE 0.2s`.

use std::fmt::Write as _;

use super::{End, Shown};

/// Adds lines of a step; a line of another step before them is set off.
fn put(shown: &mut Shown, index: usize, lines: impl IntoIterator<Item = String>) {
    let number = index + 1;
    let mut text = String::new();
    if shown.last != number && shown.last != 0 {
        text.push('\n');
    }
    shown.last = number;
    for line in lines {
        let _ = writeln!(text, "#{number} {line}");
    }
    match &mut shown.held {
        Some(held) => held.push_str(&text),
        None => super::print(&text),
    }
}

/// A step has begun.
pub fn begun(shown: &mut Shown, index: usize) {
    let title = shown.steps.get(index).map(|entry| entry.title.clone());
    put(shown, index, title);
}

/// A part of a step has begun, gone on or ended.
pub fn part(shown: &mut Shown, index: usize, part: usize) {
    let Some(part) = shown.steps.get(index).and_then(|entry| entry.parts.get(part)) else { return };
    let mut line = part.label();
    let seconds = part.seconds();
    if seconds >= 0.05 && !part.warning {
        let _ = write!(line, " {seconds:.1}s");
    }
    if part.ended.is_some() && !part.warning {
        line += " done";
    }
    put(shown, index, [line]);
}

/// A step says something.
pub fn lines(shown: &mut Shown, index: usize, lines: &[(f64, String)]) {
    put(shown, index, lines.iter().map(|(time, line)| format!("{time:.3} {line}")));
}

/// A step has ended.
pub fn ended(shown: &mut Shown, index: usize) {
    let Some(entry) = shown.steps.get(index) else { return };
    let line = match entry.ended.as_ref().map(|(_, end)| end) {
        Some(End::Done) => format!("DONE {:.1}s", entry.seconds()),
        Some(End::Cached) => "CACHED".to_owned(),
        Some(End::Failed(error)) => format!("ERROR: {error}"),
        Some(End::Cancelled) | None => "CANCELED".to_owned(),
    };
    put(shown, index, [line]);
}
