//! How a build fails: where in the Dockerfile, and what the failing command
//! said last.

use std::fmt;

use umiak_dockerfile::Place;

/// The place in the Dockerfile that an error belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Located(pub Place);

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.0.line)
    }
}

/// Adds a place to an error.
pub trait At<T> {
    /// The instruction at `place` failed.
    ///
    /// # Errors
    /// The same error, with its place.
    fn at(self, place: Place) -> anyhow::Result<T>;
}

impl<T> At<T> for anyhow::Result<T> {
    fn at(self, place: Place) -> anyhow::Result<T> {
        self.map_err(|error| match error.downcast_ref::<Located>() {
            // The innermost knows best.
            Some(_) => error,
            None => error.context(Located(place)),
        })
    }
}

/// Another step has failed, and this one was given up for that.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("canceled")]
pub struct Cancelled;

/// Lines around a place, the place itself marked, as BuildKit shows them.
pub fn excerpt(name: &str, source: &str, place: Place) -> String {
    const AROUND: usize = 2;
    const RULE: &str = "--------------------";
    if place.line == 0 {
        return String::new();
    }
    let lines: Vec<&str> = source.split('\n').collect();
    let first = place.line.saturating_sub(AROUND).max(1);
    let last = (place.end_line.max(place.line) + AROUND).min(lines.len());
    let mut text = format!("{name}:{}\n{RULE}\n", place.line);
    for (index, line) in lines.iter().enumerate().take(last).skip(first - 1) {
        let number = index + 1;
        let mark = if (place.line..=place.end_line.max(place.line)).contains(&number) { ">>>" } else { "   " };
        let line: String = line
            .trim_end_matches('\r')
            .chars()
            .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        text += &format!("{number:4} | {mark} {line}\n");
    }
    text + RULE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_marked_among_its_neighbours() {
        let place = Place { line: 2, end_line: 2, column: 1 };
        let text = excerpt("Dockerfile", "FROM a\nRUN false\n\nRUN b\nRUN c\nRUN d\n", place);
        assert_eq!(
            text,
            "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN false\n   3 |     \n   4 |     RUN b\n--------------------"
        );
    }

    #[test]
    fn the_innermost_place_stays() {
        let place = |line| Place { line, end_line: line, column: 1 };
        let error = Err::<(), _>(anyhow::anyhow!("x")).at(place(3)).at(place(1)).unwrap_err();
        assert_eq!(error.downcast_ref::<Located>().unwrap().0.line, 3);
    }
}
