//! Draws builds on a terminal: each frame over the one before.

use std::fmt::Write as _;
use std::sync::PoisonError;
use std::time::Duration;

use super::frame::{Line, Look, Size, frame};
use super::{Inner, Shown, text};

/// Between two frames.
const PAUSE: Duration = Duration::from_millis(100);

/// What was drawn last.
#[derive(Debug, Default)]
pub struct Drawn {
    /// The widths of its lines.
    widths: Vec<usize>,
    /// It is somebody else's.
    left: bool,
}

/// Draws until the builds are over.
pub fn draw_until_over(inner: &Inner) {
    let mut shown = inner.lock();
    while !shown.over {
        (shown, _) = inner.over.wait_timeout(shown, PAUSE).unwrap_or_else(PoisonError::into_inner);
        if shown.over || shown.held.is_some() || shown.steps.is_empty() {
            continue;
        }
        let (lines, size) = lines(inner, &shown, false);
        // A terminal that is slow, or stopped, holds up nobody but this thread.
        drop(shown);
        draw(inner, &lines, size, false);
        shown = inner.lock();
    }
}

/// Draws once more; what comes then stands below. `last`: everything, for good.
pub fn leave(inner: &Inner, shown: &Shown, last: bool) {
    if !shown.steps.is_empty() {
        let (lines, size) = lines(inner, shown, last);
        draw(inner, &lines, size, true);
    }
}

/// The terminal is the builds' again.
pub fn come_back(inner: &Inner) {
    inner.drawn.lock().unwrap_or_else(PoisonError::into_inner).left = false;
}

fn lines(inner: &Inner, shown: &Shown, last: bool) -> (Vec<Line>, Size) {
    let size = size();
    (frame(shown, inner.began.elapsed().as_secs_f64(), size, last), size)
}

/// The terminal's size now.
fn size() -> Size {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok();
    let of = |number: Option<u16>, usual| number.filter(|number| *number > 0).map_or(usual, usize::from);
    Size { rows: of(size.map(|size| size.ws_row), 24), columns: of(size.map(|size| size.ws_col), 80) }
}

fn draw(inner: &Inner, lines: &[Line], size: Size, leave: bool) {
    let mut drawn = inner.drawn.lock().unwrap_or_else(PoisonError::into_inner);
    if drawn.left && !leave {
        return;
    }
    let mut bytes = String::from("\u{1b}[?25l");
    // A terminal that has become narrower has wrapped the lines that are there.
    let rows: usize = drawn.widths.iter().map(|width| width.div_ceil(size.columns.max(1)).max(1)).sum();
    if rows > 0 {
        let _ = write!(bytes, "\u{1b}[{rows}A\r");
    }
    for (look, line) in lines {
        let colour = match look {
            Look::Usual => "",
            _ if !inner.colour => "",
            Look::Ended => "\u{1b}[34m",
            Look::Failed => "\u{1b}[31m",
            Look::Output => "\u{1b}[2m",
            Look::Warning => "\u{1b}[33m",
        };
        let reset = if colour.is_empty() { "" } else { "\u{1b}[0m" };
        let _ = writeln!(bytes, "{colour}{line}{reset}\u{1b}[K");
    }
    // What is left of a longer frame goes; the cursor is there between two frames, whoever ends the program.
    bytes += "\u{1b}[J\u{1b}[?25h";
    super::print(&bytes);
    drawn.left = leave;
    drawn.widths = if leave { Vec::new() } else { lines.iter().map(|(_, line)| text::width(line)).collect() };
}
