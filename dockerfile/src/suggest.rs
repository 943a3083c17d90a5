//! The nearest word, for misspelt instructions, flags and keys.

/// The candidate that fewer than three edits lead to, in the case of what was written.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // What is much longer than every candidate is none of them.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let (distance, found) = candidates
        .into_iter()
        .map(|candidate| (edits(&lower, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    // The word itself: it is not the spelling that was wrong.
    if distance == 0 || distance > 2 {
        return None;
    }
    Some(match word {
        _ if *word == lower => found.to_lowercase(),
        _ if *word == word.to_uppercase() => found.to_uppercase(),
        _ => found.to_owned(),
    })
}

/// The same for names whose case matters.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if word.len() > 64 {
        return None;
    }
    let near = candidates.into_iter().filter(|candidate| candidate.len() <= word.len() + 8);
    let (distance, found) = near.map(|candidate| (edits(word, candidate), candidate)).min_by_key(|found| found.0)?;
    (1..=2).contains(&distance).then(|| found.to_owned())
}

/// Characters to insert, remove or replace to get from one word to the other.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant() {
        for (word, expected) in [
            ("FORM", Some("FROM")),
            ("form", Some("from")),
            ("FRO", Some("FROM")),
            ("RNU", Some("RUN")),
            ("from", None),
            ("zzzzzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, ["from", "run", "expose"]).as_deref(), expected, "{word}");
        }
    }
}
