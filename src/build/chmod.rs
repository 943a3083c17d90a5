//! `--chmod`: octal bits, or clauses as in chmod(1). Pure.

use super::write::Chmod;

/// Clauses, applied in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbolic(Vec<Clause>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    /// Whose: a mask of 0o4700, 0o2070, 0o1007.
    who: u32,
    action: char,
    /// For all three, of which `who` picks.
    bits: u32,
    /// `X`: execution where there is some already, and for directories.
    some_execute: bool,
}

/// Reads the value of `--chmod`.
pub fn parse(text: &str) -> Result<Chmod, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match u32::from_str_radix(text, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(Chmod::Bits(bits)),
            _ => Err(format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")),
        };
    }
    let wrong = || format!("invalid chmod parameter: '{text}'");
    let mut clauses = Vec::new();
    for part in text.split(',') {
        let at = part.find(['+', '-', '=']).ok_or_else(wrong)?;
        let (who, rest) = part.split_at(at);
        let mut mask = 0;
        for letter in who.chars() {
            mask |= match letter {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return Err(wrong()),
            };
        }
        if who.is_empty() {
            mask = 0o7777;
        }
        let mut letters = rest.chars();
        let action = letters.next().ok_or_else(wrong)?;
        let mut clause = Clause { who: mask, action, bits: 0, some_execute: false };
        for letter in letters {
            clause.bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'X' => {
                    clause.some_execute = true;
                    0
                }
                _ => return Err(wrong()),
            };
        }
        clauses.push(clause);
    }
    Ok(Chmod::Symbolic(Symbolic(clauses)))
}

impl Symbolic {
    /// The mode that a file gets.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        self.0.iter().fold(mode, |mode, clause| {
            let execute = if clause.some_execute && (directory || mode & 0o111 != 0) { 0o111 } else { 0 };
            let bits = (clause.bits | execute) & clause.who;
            match clause.action {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => (mode & !(clause.who & 0o777)) | bits,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_change_what_they_name() {
        let apply = |text: &str, mode, directory| match parse(text).unwrap() {
            Chmod::Bits(bits) => bits,
            Chmod::Symbolic(symbolic) => symbolic.apply(mode, directory),
        };
        assert_eq!(apply("755", 0, false), 0o755);
        assert_eq!(apply("u=rwX,go=rX", 0o600, false), 0o644);
        assert_eq!(apply("u=rwX,go=rX", 0o600, true), 0o755);
        assert_eq!(apply("a+x", 0o644, false), 0o755);
        assert_eq!(apply("go-rwx", 0o755, false), 0o700);
        assert_eq!(apply("+x", 0o644, false), 0o755);
        assert_eq!(apply("u+s", 0o755, false), 0o4755);
        for wrong in ["", "9", "77777", "z+x", "u", "u+q", "rwx"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
