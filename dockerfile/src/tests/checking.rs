//! Rules that need to know more than the text.

use super::*;
use crate::ignore::Patterns;
use crate::{CheckContext, check};

/// What is said, with arguments `SET=1`, an image with `LANG`, and a context without `*.md`, `secret` and `docs`.
fn said(source: &str) -> Vec<String> {
    let patterns = Patterns::new(["*.md", "secret", "docs/**"]).unwrap();
    let context = CheckContext {
        build_arg: &|name| (name == "SET").then(|| "1".to_owned()),
        predefined: &[("TARGETPLATFORM".to_owned(), "linux/arm64".to_owned())],
        environment: &|stage| (stage == 0).then(|| vec![("LANG".to_owned(), "C".to_owned())]),
        ignore: Some(&patterns),
    };
    let file = read(source);
    check(&file, &context).iter().map(|warning| format!("{} {}", warning.place.line, warning.text)).collect()
}

#[test]
fn what_the_build_knows_counts() {
    for (source, expected) in [
        ("FROM a\nENV B=$LANG C=$PATH D=$SET", vec!["2 Usage of undefined variable '$SET'"]),
        ("FROM a\nARG SET\nENV B=$SET C=$LANK", vec!["3 Usage of undefined variable '$LANK' (did you mean $LANG?)"]),
        ("FROM a\nARG NONE\nLABEL b=$NONE", vec![]),
        // Nobody knows what the second image sets.
        ("FROM a\nFROM b\nENV C=$D", vec![]),
        ("FROM a AS x\nENV B=1\nFROM x\nENV C=$B D=$E", vec!["4 Usage of undefined variable '$E' (did you mean $B?)"]),
        (
            "ARG SET=\nFROM --platform=$TARGETPLATFORM a:$SET",
            vec![
                "2 Default value for ARG a:$SET results in empty or invalid base image name",
                "2 Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            ],
        ),
        ("FROM a\nENV B=1 \\\n  C=$B", vec!["2 Usage of undefined variable '$B'"]),
        ("FROM a\nCOPY <<b c /\n$D\nb\n", vec!["2 Usage of undefined variable '$D'"]),
        ("FROM a\nRUN echo $NONE", vec![]),
    ] {
        assert_eq!(said(source), expected, "{source}");
    }
}

#[test]
fn files_that_the_context_leaves_out_are_told() {
    for (source, expected) in [
        ("COPY a.md /", vec!["2 Attempting to Copy file \"a.md\" that is excluded by .dockerignore"]),
        ("ADD ./secret/key x /", vec!["2 Attempting to Add file \"secret/key\" that is excluded by .dockerignore"]),
        (
            "ARG F=a.md\nCOPY /$F docs/a docs /",
            vec![
                "3 Attempting to Copy file \"a.md\" that is excluded by .dockerignore",
                "3 Attempting to Copy file \"docs/a\" that is excluded by .dockerignore",
            ],
        ),
        ("COPY . b.txt /", vec![]),
        ("COPY --from=b a.md /", vec![]),
        ("ADD https://example.com/a.md /", vec![]),
    ] {
        assert_eq!(said(&format!("FROM a\n{source}")), expected, "{source}");
    }
}
