//! Git repositories as contexts and as sources of ADD. The host's `git` does
//! the talking, as in BuildKit: credentials, protocols and proxies are then
//! those that the user has set up.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::failure::WithHint as _;

/// A repository, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// What git is given.
    pub url: String,
    /// A branch, a tag or a commit; the default branch if none.
    pub reference: Option<String>,
    /// A directory in it.
    pub directory: Option<String>,
}

/// Reads a git URL as Docker does: `https://….git`, `git://`, `ssh://`, `git@host:path`, `github.com/…`, with
/// `#reference:directory`. `None` for anything else.
pub fn parse(text: &str) -> Option<Repository> {
    let (url, fragment) = text.split_once('#').map_or((text, None), |(url, fragment)| (url, Some(fragment)));
    let is_http = url.starts_with("http://") || url.starts_with("https://");
    let is_git = url.starts_with("git://")
        || url.starts_with("ssh://")
        || url.starts_with("file://")
        || (is_http && url.split('?').next().is_some_and(|path| path.ends_with(".git")))
        || is_scp(url);
    let url = match (is_git, url.starts_with("github.com/")) {
        (true, _) => url.to_owned(),
        (false, true) => format!("https://{url}"),
        (false, false) => return None,
    };
    let (reference, directory) = match fragment {
        None => (None, None),
        Some(fragment) => {
            let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            (some(reference), some(directory.trim_matches('/')))
        }
    };
    Some(Repository { url, reference, directory })
}

/// `git@host:path`
fn is_scp(url: &str) -> bool {
    match (url.split_once('@'), url.split_once(':')) {
        (Some((user, _)), Some((host, _))) => {
            !url.contains("://")
                && !user.is_empty()
                && !user.contains(['/', ':'])
                && host.split_once('@').is_some_and(|(_, host)| user == "git" || host.contains('.'))
                && !host.contains('/')
        }
        _ => false,
    }
}

/// A checkout.
#[derive(Debug)]
pub struct Checkout {
    /// The commit, 40 or 64 hex digits.
    pub commit: String,
    /// The directory that was asked for.
    pub path: PathBuf,
}

/// Who has named a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The user: git may use what it knows of them.
    User,
    /// A Dockerfile, which is anybody's: no credentials, and no repository of this host.
    Dockerfile {
        /// The user has given the build an SSH agent.
        ssh: bool,
    },
}

impl NamedBy {
    fn check(self, url: &str) -> Result<()> {
        let Self::Dockerfile { ssh } = self else { return Ok(()) };
        if url.starts_with("file://") {
            bail!("{url}: a Dockerfile cannot add a repository of this host");
        }
        if !ssh && (url.starts_with("ssh://") || is_scp(url)) {
            return Err(anyhow::anyhow!("{url}: a Dockerfile uses SSH only where the build is given an agent"))
                .hint(|| "give it yours with --ssh default".into());
        }
        Ok(())
    }
}

/// Fetches one commit of a repository, with its submodules, into the empty directory `into`.
pub fn checkout(
    repository: &Repository,
    by: NamedBy,
    into: &Path,
    keep_git: bool,
    note: &dyn Fn(&str),
) -> Result<Checkout> {
    by.check(&repository.url)?;
    let git = |dir: &Path, words: &[&str]| git(by, dir, words);
    let reference = repository.reference.as_deref().unwrap_or("HEAD");
    if repository.url.starts_with('-') || reference.starts_with('-') {
        bail!("{} is no git repository", repository.url);
    }
    git(into, &["init", "--quiet", "."])?;
    note(&format!("git fetch {} {reference}", repository.url));
    let fetch = |depth: &[&str], reference: &str| {
        let mut words = vec!["fetch", "--quiet", "--no-tags", "--force"];
        words.extend(depth);
        words.extend(["--", &repository.url, reference]);
        git(into, &words)
    };
    // A server of plain files knows no depth, and a commit that no branch ends in may be refused.
    let fetched =
        fetch(&["--depth=1"], reference).or_else(|_| fetch(&[], reference)).or_else(|error| {
            match is_commit(reference) {
                true => fetch(&[], "+refs/heads/*:refs/remotes/origin/*"),
                false => Err(error),
            }
        });
    fetched.with_context(|| format!("fetch {reference} of {}", repository.url))?;
    let commit = match is_commit(reference) {
        true => reference.to_owned(),
        false => "FETCH_HEAD".to_owned(),
    };
    git(into, &["-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", &commit])?;
    let commit = git(into, &["rev-parse", "HEAD"])?.trim().to_owned();
    if into.join(".gitmodules").exists() {
        note("git submodule update");
        git(into, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
    }
    if !keep_git {
        std::fs::remove_dir_all(into.join(".git")).context("remove .git")?;
    }
    let path = match &repository.directory {
        None => into.to_owned(),
        Some(directory) => {
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
            inside(into, directory, flags).with_context(|| format!("the repository has no directory {directory}"))?
        }
    };
    Ok(Checkout { commit, path })
}

/// The commit that a branch, a tag or `HEAD` of a repository is now. Nothing is fetched.
pub fn resolve(repository: &Repository, by: NamedBy) -> Result<String> {
    by.check(&repository.url)?;
    let reference = repository.reference.as_deref().unwrap_or("HEAD");
    if is_commit(reference) {
        return Ok(reference.to_owned());
    }
    if repository.url.starts_with('-') || reference.starts_with('-') {
        bail!("{} is no git repository", repository.url);
    }
    // What a tag with a message points at is listed as another name.
    let peeled = format!("{reference}^{{}}");
    let listed = git(by, Path::new("/"), &["ls-remote", "--", &repository.url, reference, &peeled])?;
    match named(&listed, reference).filter(|commit| is_commit(commit)) {
        Some(commit) => Ok(commit.to_owned()),
        None => bail!("{} has no {reference}", repository.url),
    }
}

/// What a name means among references that end in it: as git has it, a tag before a branch (gitrevisions(7)).
fn named<'a>(listed: &'a str, name: &str) -> Option<&'a str> {
    let of = |reference: String| {
        listed.lines().filter_map(|line| line.split_once('\t')).find(|(_, one)| *one == reference).map(|(id, _)| id)
    };
    let prefixes = ["", "refs/", "refs/tags/", "refs/heads/"];
    prefixes.iter().find_map(|prefix| of(format!("{prefix}{name}^{{}}")).or_else(|| of(format!("{prefix}{name}"))))
}

/// A file or directory of a checkout, opened with these flags: a symlink in it must not lead out (CVE-2026-44517).
pub fn inside(root: &Path, directory: &str, flags: rustix::fs::OFlags) -> Result<PathBuf> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let fd = std::fs::File::open(root)?;
    let found = super::tree::in_root(fd.as_fd(), directory.as_bytes(), flags)?;
    let real = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).context("read /proc/self/fd");
    let path = real(found.as_raw_fd())?;
    match path.starts_with(real(fd.as_raw_fd())?) {
        true => Ok(path),
        false => bail!("{directory} leads out of the repository"),
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn git(by: NamedBy, dir: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    if by != NamedBy::User {
        // Neither credential helpers nor ~/.netrc.
        command.args(["-c", "credential.helper="]).env("HOME", "/nonexistent").env("GIT_CONFIG_GLOBAL", "/dev/null");
    }
    let output = command
        .arg("-C")
        .arg(dir)
        // Nothing of a repository is run: no hooks, no file systems watched.
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "init.defaultBranch=main"])
        .args(words)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .stdin(Stdio::null())
        .output()
        .context("run git")
        .hint(|| "git contexts need the program git on this host".into())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("git {}: {said}", words.first().copied().unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_other_urls() {
        let is = |text: &str| parse(text).map(|found| (found.url, found.reference, found.directory));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(is("https://h/x.git#v1:sub/dir"), Some(("https://h/x.git".to_owned(), some("v1"), some("sub/dir"))));
        assert_eq!(is("git@h:a/b.git"), Some(("git@h:a/b.git".to_owned(), None, None)));
        assert_eq!(is("github.com/a/b#:d"), Some(("https://github.com/a/b".to_owned(), None, some("d"))));
        assert_eq!(is("git://h/x#main"), Some(("git://h/x".to_owned(), some("main"), None)));
        for other in ["https://h/x.tar.gz", "./dir", "dir@2:x/y", "/abs", "a:b"] {
            assert_eq!(is(other), None, "{other}");
        }
    }

    #[test]
    fn names_mean_what_git_takes_them_for() {
        let listed = "a\tHEAD\nb\trefs/heads/fix/main\nc\trefs/heads/main\nd\trefs/heads/v1\ne\trefs/tags/v1\nf\trefs/tags/v1^{}\n";
        let of = |name| named(listed, name);
        assert_eq!([of("HEAD"), of("main"), of("fix/main"), of("v1")], [Some("a"), Some("c"), Some("b"), Some("f")]);
        assert_eq!([of("refs/heads/v1"), of("heads/v1"), of("1")], [Some("d"), Some("d"), None]);
    }
}
