//! Texts nobody means well with: no panic, and no time or memory without end.

use std::path::Path;

use super::*;
use crate::fuzzing;

#[test]
fn depth_and_growth_end() {
    let deep = format!("{}x{}", "${A:-".repeat(100_000), "}".repeat(100_000));
    assert!(expand(&deep, '\\', &|_| None).is_err());
    let big = "x".repeat(1 << 19);
    assert!(expand("$A$A$A$A", '\\', &|_| Some(big.clone())).is_err());
    assert!(expand("${A//x/yyyy}", '\\', &|_| Some(big.clone())).is_err());
    assert!(expand("${A##*y*y*y*y*y*y*y}", '\\', &|_| Some(big.clone())).is_ok());
    let words = format!("FROM a\nEXPOSE {}\nENV {}", "1 ".repeat(100_000), "a=b \\\n".repeat(100_000));
    assert_eq!(read(&words).stages[0].instructions.len(), 2);
    assert!(parse(&format!("FROM a\n{} RUN b", "ONBUILD ".repeat(100_000))).is_err());
    assert!(parse(&format!("FROM a\nCMD {}", "[".repeat(100_000))).is_ok());
    let names: String = (0..100_000).map(|number| format!("${{V{number}}}")).collect();
    let named = expand(&names, '\\', &|_| None).unwrap();
    assert_eq!(named.unset.len(), 100_000);
    fuzzing::dockerfile(&format!("FROM a\nENV {names}=x"));
    let flags = format!("FROM a\nCOPY {} b c", "--exclude=x ".repeat(20_000));
    assert!(matches!(&read(&flags).stages[0].instructions[0].kind, Kind::Copy(copy) if copy.exclude.len() == 20_000));
}

type Target = fn(&str);

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

const TOKENS: [&str; 40] = [
    "\n", "\\\n", "`\n", "\r\n", " ", "\t", "\"", "'", "\\", "`", "$", "${", "}", ":-", ":?", "#", "%", "/", "//", "=",
    ",", "<<", "<<-", "EOF", "--", "--mount=", "--from=", "[", "]", "[\"", "\"]", "*", "**", "?", "!", "\0", "ü",
    "\u{feff}", "ONBUILD ", "FROM ",
];

/// The text with one thing changed.
fn mutated(text: &str, numbers: &mut Numbers) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let at = numbers.below(characters.len() + 1);
    let end = (at + numbers.below(9)).min(characters.len());
    match numbers.below(4) {
        0 => drop(characters.drain(at..end)),
        1 => drop(characters.splice(at..at, TOKENS[numbers.below(TOKENS.len())].chars())),
        2 => drop(characters.splice(at..end, TOKENS[numbers.below(TOKENS.len())].chars())),
        _ => {
            let part: Vec<char> = characters[at..end].to_vec();
            let to = numbers.below(characters.len() + 1);
            drop(characters.splice(to..to, part));
        }
    }
    characters.into_iter().collect()
}

fn survive(cases: &str, target: Target, rounds: usize) {
    let mut numbers = Numbers(0x5eed_1234_5678_9abd);
    for case in cases.split("==\n") {
        let text = case.split("--\n").next().unwrap_or_default();
        let mut text = text.to_owned();
        for round in 0..rounds {
            if round % 8 == 0 {
                text = case.split("--\n").next().unwrap_or_default().to_owned();
            }
            text = mutated(&text, &mut numbers);
            target(&text);
        }
    }
}

#[test]
fn changed_files_are_survived() {
    survive(include_str!("../../tests/recorded/checks.txt"), fuzzing::dockerfile, 16);
    survive(include_str!("../../tests/recorded/ignore.txt"), fuzzing::dockerignore, 16);
}

#[test]
fn known_inputs_are_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let targets: [(&str, Target); 2] = [("dockerfile", fuzzing::dockerfile), ("dockerignore", fuzzing::dockerignore)];
    for (name, target) in targets {
        let mut count = 0;
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            // What is no text is no input.
            if let Ok(text) = String::from_utf8(std::fs::read(entry.unwrap().path()).unwrap()) {
                target(&text);
            }
            count += 1;
        }
        assert!((1..=200).contains(&count), "{count} files for {name}");
    }
}
