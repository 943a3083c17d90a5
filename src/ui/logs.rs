//! Log lines of several containers: `web-1  | text`, the names padded to the
//! longest, one colour per container.

use std::io::Write as _;

/// Compose's colours in its order, as SGR numbers.
const COLOURS: &[u8] = &[36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// Prefixes lines with the container they come from.
#[derive(Debug, Clone)]
pub struct Prefixes {
    colour: bool,
    show: bool,
    width: usize,
}

impl Prefixes {
    /// Prefixes for containers with these names.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, colour: bool, show: bool) -> Self {
        Self { colour, show, width: names.map(str::len).max().unwrap_or(0) }
    }

    /// A wider prefix, when a longer name has come.
    pub fn widen(&mut self, name: &str) {
        self.width = self.width.max(name.len());
    }

    /// The prefix of the `index`th container.
    pub fn of(&self, name: &str, index: usize) -> String {
        let width = self.width;
        match (self.show, self.colour) {
            (false, _) => String::new(),
            (true, false) => format!("{name:<width$}  | "),
            (true, true) => format!("\u{1b}[{}m{name:<width$}  |\u{1b}[0m ", COLOURS[index % COLOURS.len()]),
        }
    }
}

/// Appends one line to a batch for stdout.
pub fn put_line(batch: &mut Vec<u8>, prefix: &str, time: Option<&str>, text: &[u8]) {
    batch.extend_from_slice(prefix.as_bytes());
    if let Some(time) = time {
        let _ = write!(batch, "{time} ");
    }
    batch.extend_from_slice(text.strip_suffix(b"\n").unwrap_or(text));
    batch.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_to_the_longest() {
        let prefixes = Prefixes::new(["web-1", "redis-1"].into_iter(), false, true);
        assert_eq!(prefixes.of("web-1", 0), "web-1    | ");
        let mut batch = Vec::new();
        put_line(&mut batch, &prefixes.of("redis-1", 1), None, b"hi\n");
        assert_eq!(batch, b"redis-1  | hi\n");
    }
}
