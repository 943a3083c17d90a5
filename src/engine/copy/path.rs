//! How `cp` takes its two paths: pure decisions, as Docker documents them for
//! `docker cp`. Paths are bytes, for files may have any name.

/// `path.Clean` of an absolute or relative path: no `.`, no doubled or final slash, `..` taken back by its text.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (absolute, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// Whether a path ends in `.`: the content of a directory is meant, not the directory.
fn ends_in_dot(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.")
}

/// Whether a path says that it is a directory.
pub fn says_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || ends_in_dot(path)
}

/// The parent and the last component; of a path that ends in `.` that is `.`.
pub fn split(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut cleaned = clean(path);
    if ends_in_dot(path) && cleaned != b"." {
        cleaned.extend_from_slice(if cleaned.ends_with(b"/") { b"." } else { b"/." });
    }
    match cleaned.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/".to_vec(), if cleaned.len() > 1 { cleaned[1..].to_vec() } else { b"/".to_vec() }),
        Some(slash) => (cleaned[..slash].to_vec(), cleaned[slash + 1..].to_vec()),
        None => (b".".to_vec(), cleaned),
    }
}

/// The last component as Go's `filepath.Base` gives it: final slashes do not count, a final `.` does.
pub fn base(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    match (path.is_empty(), end) {
        (true, _) => b".".to_vec(),
        (false, 0) => b"/".to_vec(),
        _ => {
            let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            path[start..end].to_vec()
        }
    }
}

/// A path made absolute below `dir`, a final `/` or `/.` kept.
pub fn absolute(dir: &[u8], path: &[u8]) -> Vec<u8> {
    let mut full = if path.starts_with(b"/") { clean(path) } else { clean(&[dir, b"/", path].concat()) };
    if ends_in_dot(path) && full != b"/" {
        full.extend_from_slice(b"/.");
    } else if ends_in_dot(path) {
        full.push(b'.');
    } else if path.ends_with(b"/") && !full.ends_with(b"/") {
        full.push(b'/');
    }
    full
}

/// What there is at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Where the copy goes: the directory it is put into, and its name there (`None`: the source's own).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arranged {
    /// The directory.
    pub directory: Vec<u8>,
    /// The name.
    pub name: Option<Vec<u8>>,
}

/// The rules of `docker cp`: what a copy to `destination` makes.
///
/// # Errors
/// With Docker's words: a directory does not go over a file, nor a file to a place that must be a directory.
pub fn arrange(source_is_directory: bool, destination: &[u8], there: There) -> Result<Arranged, &'static str> {
    let renamed = || {
        let (directory, name) = split(destination);
        Ok(Arranged { directory, name: Some(name) })
    };
    match (there, source_is_directory) {
        (There::Directory, _) => Ok(Arranged { directory: destination.to_vec(), name: None }),
        (There::File, true) => Err("cannot copy directory"),
        (There::File, false) | (There::Nothing, true) => renamed(),
        (There::Nothing, false) if says_directory(destination) => Err("no such directory"),
        (There::Nothing, false) => renamed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn paths_are_cleaned_split_and_made_absolute_as_go_does() {
        for (path, cleaned) in
            [("/a//b/./c/", "/a/b/c"), ("/../a", "/a"), ("a/../..", ".."), ("", "."), ("/", "/"), ("./x", "x")]
        {
            assert_eq!(text(clean(path.as_bytes())), cleaned, "{path}");
        }
        for (path, parent, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("/a", "/", "a"),
            ("/", "/", "/"),
            ("/.", "/", "."),
            ("a", ".", "a"),
            (".", ".", "."),
        ] {
            let (dir, base) = split(path.as_bytes());
            assert_eq!((text(dir), text(base)), (parent.to_owned(), name.to_owned()), "{path}");
        }
        for (path, name) in [("/a/b/", "b"), ("/a/.", "."), ("/", "/"), ("", "."), ("x", "x")] {
            assert_eq!(text(base(path.as_bytes())), name, "{path}");
        }
        for (path, full) in
            [("x", "/d/x"), ("x/", "/d/x/"), ("x/.", "/d/x/."), (".", "/d/."), ("/y/", "/y/"), ("/.", "/.")]
        {
            assert_eq!(text(absolute(b"/d", path.as_bytes())), full, "{path}");
        }
    }

    #[test]
    fn a_copy_goes_where_docker_s_goes() {
        let to = |directory: bool, destination: &str, there| {
            arrange(directory, destination.as_bytes(), there)
                .map(|found| (text(found.directory), found.name.map(text)))
                .map_err(str::to_owned)
        };
        let named = |directory: &str, name: &str| Ok((directory.to_owned(), Some(name.to_owned())));
        assert_eq!(to(false, "/d", There::Directory), Ok(("/d".into(), None)));
        assert_eq!(to(true, "/d/", There::Directory), Ok(("/d/".into(), None)));
        assert_eq!(to(false, "/d/f", There::File), named("/d", "f"));
        assert_eq!(to(true, "/d/f", There::File), Err("cannot copy directory".into()));
        assert_eq!(to(true, "/d/new", There::Nothing), named("/d", "new"));
        assert_eq!(to(true, "/d/new/", There::Nothing), named("/d", "new"));
        assert_eq!(to(false, "/d/new", There::Nothing), named("/d", "new"));
        assert_eq!(to(false, "/d/new/", There::Nothing), Err("no such directory".into()));
    }
}
