//! The host's side of a copy: its paths are the caller's own, and mean what
//! they mean in a shell.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, Mode, OFlags};

use super::path::{self, There, base, says_directory, split};
use super::{SYMLINKS, Source};

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn absolute(path: &Path) -> Result<Vec<u8>> {
    let here = std::env::current_dir().context("the current directory")?;
    Ok(path::absolute(here.as_os_str().as_bytes(), path.as_os_str().as_bytes()))
}

/// A source on the host. Symlinks on the way to it are followed; itself, if it is one, when it ends in a slash or
/// `follow` says so.
pub(super) fn source(given: &Path, follow: bool) -> Result<Source> {
    let path = absolute(given)?;
    let is_link = std::fs::symlink_metadata(path_of(&path));
    let meta = is_link.with_context(|| format!("lstat {}", path_of(&path).display()))?;
    // A copy that follows keeps the name that was given.
    let shown = base(&path);
    if meta.is_dir() {
        let parent = directory(&path)?;
        return Ok(Source { parent, name: b".".to_vec(), is_directory: true, shown });
    }
    let real = match meta.is_symlink() && follow {
        true => followed(&path).with_context(|| format!("lstat {}", path_of(&path).display()))?,
        false => path,
    };
    if follow && std::fs::metadata(path_of(&real)).is_ok_and(|meta| meta.is_dir()) {
        return Ok(Source { parent: directory(&real)?, name: b".".to_vec(), is_directory: true, shown });
    }
    let (parent, name) = split(&real);
    Ok(Source { parent: directory(&parent)?, name, is_directory: false, shown })
}

/// Where a symlink leads at last.
#[allow(clippy::disallowed_methods, reason = "the caller's own path, which the caller asked to follow")]
fn followed(path: &[u8]) -> io::Result<Vec<u8>> {
    Ok(std::fs::canonicalize(path_of(path))?.into_os_string().into_vec())
}

/// A destination on the host.
pub(super) struct Target {
    pub(super) path: Vec<u8>,
    pub(super) there: There,
}

pub(super) fn target(given: &Path) -> Result<Target> {
    let mut path = absolute(given)?;
    let parent = path_of(&path::clean(&path)).parent().map(Path::to_owned).unwrap_or_default();
    if !parent.as_os_str().is_empty() && !parent.exists() {
        bail!("invalid output path: directory \"{}\" does not exist", parent.display());
    }
    for _ in 0..SYMLINKS {
        match std::fs::symlink_metadata(path_of(&path)) {
            Ok(meta) if meta.is_symlink() => {
                let link = std::fs::read_link(path_of(&path))?;
                path = path::absolute(&split(&path).0, link.as_os_str().as_bytes());
            }
            Ok(meta) if meta.is_dir() => return Ok(Target { path, there: There::Directory }),
            Ok(meta) if meta.is_file() => return Ok(Target { path, there: There::File }),
            Ok(_) => bail!("invalid output path: \"{}\" must be a directory or a regular file", given.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Target { path, there: There::Nothing });
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory && says_directory(&path) => {
                bail!("not a directory: {}", given.display());
            }
            Err(error) => return Err(error).with_context(|| format!("lstat {}", given.display())),
        }
    }
    bail!("too many symbolic links on the way to {}", given.display())
}

/// Opens a directory of the host.
pub(super) fn directory(path: &[u8]) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path_of(path), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", path_of(path).display()))
}
