//! What is left out of a context or of a copy: the patterns of `.dockerignore`
//! and of `--exclude`, asked with names as the kernel has them.

use umiak_dockerfile::ignore::Patterns;

/// Patterns to leave out.
#[derive(Debug, Clone, Default)]
pub struct Ignored {
    patterns: Patterns,
}

impl Ignored {
    /// These patterns.
    pub fn new(patterns: Patterns) -> Self {
        Self { patterns }
    }

    /// Whether a name below the root, without a leading slash, is left out. The root itself never is.
    pub fn matches(&self, path: &[u8]) -> bool {
        !path.is_empty() && !self.patterns.is_empty() && self.patterns.matches(&String::from_utf8_lossy(path))
    }

    /// Whether something in a directory that is left out may count nevertheless.
    pub fn reaches_below(&self, directory: &[u8]) -> bool {
        !self.patterns.is_empty() && self.patterns.reach_below(&String::from_utf8_lossy(directory))
    }
}
