//! Single files put into a running container, or taken away, as `watch` does
//! it: everything is reached by descriptor from the container's root, so that
//! no link of the container leads out of it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use umiak_runtime::rootfs::{open_in_root, open_root};

use super::container::Container;

/// The root of a running container, as its processes see it.
#[derive(Debug)]
pub struct Inside {
    root: OwnedFd,
}

impl Inside {
    /// Enters a container that runs.
    pub fn of(container: &Container) -> Result<Self> {
        let name = &container.config.name;
        let init = container.state.init.filter(|_| container.state.status.is_up());
        let Some(init) = init else { bail!("container {name} is not running") };
        let path = PathBuf::from(format!("/proc/{}/root", init.pid));
        let root = open_root(&path).with_context(|| format!("open the root of container {name}"))?;
        // Its number may have become another process's before it was opened.
        if !init.alive() {
            bail!("container {name} is not running");
        }
        Ok(Self { root })
    }

    /// Makes `target` what `source` is on the host: a file's content and mode, a link, or a directory (without what is
    /// in it). Missing directories above it are made. Sockets and devices are passed over.
    pub fn put(&self, source: &Path, target: &Path) -> Result<()> {
        let meta = std::fs::symlink_metadata(source).with_context(|| format!("read {}", source.display()))?;
        let kind = meta.file_type();
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            return Ok(());
        }
        let wrong = || format!("write {} in the container", target.display());
        if kind.is_dir() {
            let dir = self.directory(target)?;
            return rustix::fs::chmodat(&dir, ".", Mode::from_raw_mode(meta.permissions().mode()), AtFlags::empty())
                .with_context(wrong);
        }
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            bail!("no file name: {}", target.display())
        };
        let dir = self.directory(parent)?;
        // Complete under another name first: a program never reads half a file.
        let partial = format!(".umiak-{}", umiak_base::id::random_hex(6).context("random bytes")?);
        let made = if kind.is_symlink() {
            let link = std::fs::read_link(source).with_context(|| format!("read {}", source.display()))?;
            rustix::fs::symlinkat(link.as_os_str(), &dir, partial.as_str()).with_context(wrong)
        } else {
            copy_file(source, &dir, &partial, meta.permissions().mode())
        };
        let result = made.and_then(|()| {
            match rustix::fs::renameat(&dir, partial.as_str(), &dir, name) {
                // A directory stands where a file is to be.
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                    remove_at(dir.as_fd(), name.as_bytes())?;
                    rustix::fs::renameat(&dir, partial.as_str(), &dir, name).with_context(wrong)
                }
                // Bind-mounted over: its content is replaced where it is.
                Err(Errno::BUSY) if !kind.is_symlink() => self.overwrite(source, target),
                other => other.with_context(wrong),
            }
        });
        let _ = rustix::fs::unlinkat(&dir, partial.as_str(), AtFlags::empty());
        result
    }

    /// Takes a file away, or a directory with all that is in it. Gone already: no error.
    pub fn remove(&self, target: &Path) -> Result<()> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Ok(()) };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match open_in_root(self.root.as_fd(), parent, flags, Mode::empty()) {
            Ok(dir) => remove_at(dir.as_fd(), name.as_bytes())
                .with_context(|| format!("remove {} in the container", target.display())),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("open {} in the container", parent.display())),
        }
    }

    fn overwrite(&self, source: &Path, target: &Path) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK;
        let file = open_in_root(self.root.as_fd(), target, flags, Mode::empty())
            .with_context(|| format!("open {} in the container", target.display()))?;
        let mut input = std::fs::File::open(source).with_context(|| format!("open {}", source.display()))?;
        std::io::copy(&mut input, &mut std::fs::File::from(file))
            .with_context(|| format!("write {} in the container", target.display()))?;
        Ok(())
    }

    /// Opens a directory, made with those above it where they are missing.
    fn directory(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut below = PathBuf::from("/");
        let wrong = |path: &Path| format!("make the directory {} in the container", path.display());
        let mut dir = open_in_root(self.root.as_fd(), &below, flags, Mode::empty()).with_context(|| wrong(path))?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            below.push(name);
            dir = match open_in_root(self.root.as_fd(), &below, flags, Mode::empty()) {
                Ok(next) => next,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error).with_context(|| wrong(&below)),
                    }
                    open_in_root(self.root.as_fd(), &below, flags, Mode::empty()).with_context(|| wrong(&below))?
                }
                Err(error) => return Err(error).with_context(|| wrong(&below)),
            };
        }
        Ok(dir)
    }
}

fn copy_file(source: &Path, dir: &OwnedFd, name: &str, mode: u32) -> Result<()> {
    let mut input = std::fs::File::open(source).with_context(|| format!("open {}", source.display()))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))
        .with_context(|| format!("make a file for {} in the container", source.display()))?;
    let mut file = std::fs::File::from(file);
    std::io::copy(&mut input, &mut file).with_context(|| format!("copy {} into the container", source.display()))?;
    // Never setuid in there because of what a file is out here.
    file.set_permissions(std::fs::Permissions::from_mode(mode & 0o777))
        .with_context(|| format!("copy {} into the container", source.display()))
}

/// Removes one entry of a directory, a directory with all in it; links are not followed.
fn remove_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&below)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            remove_at(below.as_fd(), name)?;
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
