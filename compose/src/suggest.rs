//! The nearest word, for misspelt keys and names.

/// The candidate that differs least from `word`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let length = word.chars().count();
    let limit = (length / 3).clamp(1, 3);
    let word = word.to_lowercase();
    // `conf` for `config`, `alias` for `aliases`: the beginning of a word is as near as a slip
    let begins = |candidate: &str| length >= 3 && candidate.starts_with(&word);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || begins(candidate))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Edits between two words; swapping neighbours counts once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(x != y);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["image", "ports", "command", "environment", "volumes"];
        for (word, expected) in [
            ("imagee", Some("image")),
            ("port", Some("ports")),
            ("enviroment", Some("environment")),
            ("Volumes", Some("volumes")),
            ("comamnd", Some("command")),
            ("env", Some("environment")),
            ("en", None),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys).as_deref(), expected, "{word}");
        }
    }
}
