//! Damaged files never make the loader panic or hang: every case of the corpus, changed at random from a fixed seed.

use crate::load;

use super::corpus::cases;

/// A small generator (xorshift), so that every run sees the same files.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

const PIECES: [&str; 34] = [
    "",
    ":",
    "- ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: ",
    "!reset ",
    "!override ",
    "${",
    "${X:-",
    "$",
    "}",
    "\"",
    "'",
    "|\n",
    "null",
    "-1",
    "1e999",
    "0x",
    "99999999999999999999",
    "\t",
    "\u{feff}",
    "é",
    "---\n",
    "? ",
    "# ",
    "services:",
    "1.5.5",
];

fn damage(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(chars.len() + 1);
        let end = (at + random.below(6)).min(chars.len());
        let piece: Vec<char> = match random.below(3) {
            0 => {
                let from = random.below(chars.len() + 1);
                chars[from..(from + random.below(40)).min(chars.len())].to_vec()
            }
            _ => PIECES[random.below(PIECES.len())].chars().collect(),
        };
        chars.splice(at..end, piece);
    }
    chars.into_iter().collect()
}

#[test]
fn damaged_files_are_survived() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("compose.yaml");
    let mut random = Random(0x5eed_c0de);
    for case in cases() {
        let Some(original) = case.options.files.first().filter(|path| path.is_absolute()) else { continue };
        let text = std::fs::read_to_string(original).unwrap();
        if text.len() > 10_000 {
            continue;
        }
        for _ in 0..5 {
            std::fs::write(&file, damage(&text, &mut random)).unwrap();
            let mut options = case.options.clone();
            (options.files, options.current_dir) = (vec![file.clone()], directory.path().to_path_buf());
            // either way is fine, as long as every message can be shown
            match load(&options) {
                Ok(project) => drop(serde_json::to_value(&project).unwrap()),
                Err(error) => {
                    assert!(!error.0.is_empty());
                    error.0.iter().for_each(|diagnostic| drop(diagnostic.render().to_string()));
                }
            }
        }
    }
}
