//! What the fuzz targets in `fuzz/` call, and the tests with what they found.

use super::ignore::{Patterns, Verdict};
use super::{
    CheckContext, Kind, check, expand, expand_for_display, expand_heredoc, expand_words, expose, parse, parse_onbuild,
};

fn variable(name: &str) -> Option<String> {
    match name {
        "A" => Some("a".to_owned()),
        "B" => Some("/usr/lib*/b?c.tar.gz".to_owned()),
        "TWO" => Some("one  two".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// Reads a Dockerfile; whatever it is, what is said about it can be shown, and its words can be expanded.
pub fn dockerfile(input: &str) {
    let file = match parse(input) {
        Ok(file) => file,
        Err(error) => {
            assert!(!error.render("Dockerfile", input).is_empty());
            let _ = expand(input, '\\', &variable);
            let _ = expand_words(input, '`', &variable);
            return;
        }
    };
    let patterns = Patterns::of_file("*.md\nsecret").ok();
    let context = CheckContext {
        build_arg: &variable,
        predefined: &[("TARGETPLATFORM".to_owned(), "linux/amd64".to_owned())],
        environment: &|_| Some(Vec::new()),
        ignore: patterns.as_ref(),
    };
    for warning in check(&file, &context) {
        assert!(!warning.render("Dockerfile", input).is_empty());
    }
    let lines = input.split('\n').count();
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let place = instruction.place;
        assert!((1..=lines).contains(&place.line) && place.end_line >= place.line, "{place:?}");
        let _ = instruction.title();
        let _ = expand_for_display(&instruction.line, file.directives.escape, &variable);
        match &instruction.kind {
            Kind::Run(run) => {
                let _ = run.form();
                for mount in &run.mounts {
                    let _ = mount.resolve(&mut |text| Ok(expand(&text.raw, '\\', &variable)?.text));
                }
                run.heredocs.iter().for_each(|heredoc| drop(expand_heredoc(&heredoc.content, &variable)));
            }
            // Read again as a base image's, its escape is another: then it may fail, and nothing more.
            Kind::OnBuild(text) => drop(parse_onbuild(text, '\\')),
            Kind::Expose(words) => words.iter().for_each(|word| drop(expose::ports(&word.raw))),
            _ => {}
        }
    }
}

/// Begins the part with the paths.
const PATHS: &str = "#### paths\n";

/// Reads patterns, and below a line of `#### paths` what they are asked about: a walk and a single question answer
/// alike, and nothing is taken where the walk would not go.
pub fn dockerignore(input: &str) {
    let (text, paths) = input.split_once(PATHS).unwrap_or((input, "a\na/b\na/b/c.md\nd.log\nü/x"));
    let Ok(patterns) = Patterns::of_file(text) else { return };
    for path in paths.lines().filter(|path| !path.is_empty() && !path.split('/').any(str::is_empty)) {
        let mut verdict = Verdict::default();
        let mut closed = false;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            let Some(part) = path.get(..end) else { continue };
            verdict = patterns.look(part, &verdict);
            assert!(!closed || verdict.ignored, "{part} is taken below a directory that nobody enters");
            closed |= verdict.ignored && !patterns.reach_below(part);
        }
        assert_eq!(verdict.ignored, patterns.matches(path), "{path}");
    }
}
