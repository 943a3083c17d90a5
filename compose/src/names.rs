//! The project's name and the names it gives.

use std::path::Path;

/// What of a text can stand in a project name: lower case, `[a-z0-9_-]`, not beginning with `_` or `-`.
pub fn normalise_project_name(text: &str) -> String {
    let kept =
        text.to_lowercase().chars().filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')).collect::<String>();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// The error for a name that cannot be a project's.
pub(crate) fn check_project_name(name: &str) -> Result<(), String> {
    match normalise_project_name(name) == name {
        true => Ok(()),
        false => Err(format!(
            "invalid project name \"{name}\": must consist only of lowercase alphanumeric characters, hyphens, and \
             underscores as well as start with a letter or number"
        )),
    }
}

/// The name of a project that was given none: its directory's.
pub(crate) fn directory_name(directory: &Path) -> String {
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    normalise_project_name(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (text, name) in
            [("My App", "myapp"), ("_a-b_c", "a-b_c"), ("1.2", "12"), ("Ünï", "n"), ("__", ""), ("ok", "ok")]
        {
            assert_eq!(normalise_project_name(text), name);
        }
        assert!(check_project_name("My").is_err());
        assert!(check_project_name("my-app_1").is_ok());
    }
}
