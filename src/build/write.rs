//! Writes what a COPY or ADD brings into the root file system of its stage.
//!
//! Everything goes through the stage's own view of its files (an overlay mount
//! in a mount namespace of this thread), and every name is resolved within that
//! root: symlinks of the image lead where they would for its programs.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::tree::{Found, beneath, clean, in_root, is, join, reopen, shown};

/// Symlinks on the way to a target at most, as in the kernel.
const LINKS: usize = 40;

/// What becomes of modes (`--chmod`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// These bits, for all that is copied.
    Bits(u32),
    /// `u=rwX,go=rX`
    Symbolic(super::chmod::Symbolic),
}

impl Chmod {
    fn of(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Bits(bits) => *bits,
            Self::Symbolic(symbolic) => symbolic.apply(mode, directory),
        }
    }
}

/// A root file system that is written to.
pub struct Writer<'w> {
    /// Its root.
    pub root: BorrowedFd<'w>,
    /// Everything that is written belongs to this user and group.
    pub chown: Option<(u32, u32)>,
    /// Modes.
    pub chmod: Option<Chmod>,
    /// Files keep their owners; else they are root's.
    pub owners: bool,
    /// The time of what is made on the way, in seconds; now if none.
    pub epoch: Option<i64>,
    /// Files with several names that were written: device and inode, and a descriptor of the first.
    pub links: HashMap<(u64, u64), OwnedFd>,
}

/// What a new file has besides its content.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds of its last change; now if none.
    pub mtime: Option<(i64, i64)>,
}

impl Writer<'_> {
    /// Copies what was found to `target`, an absolute path. It is a directory when `into` says so, and then a file
    /// goes into it under its own name; a directory's content always goes into it.
    pub fn copy(&mut self, found: &Found, target: &str, into: bool) -> Result<()> {
        if found.is_directory() {
            let (directory, made) = self.directory(target)?;
            // A context's own root is nobody's directory.
            let own = self.owners || !found.name.is_empty();
            let attributes = self.attributes(&found.stat);
            if made && own {
                self.dress(&directory, &attributes)?;
            }
            self.content(found, &directory)?;
            return if own { set_time(&directory, attributes.mtime) } else { Ok(()) };
        }
        let name = found.name.rsplit(|byte| *byte == b'/').next().unwrap_or(&found.name).to_vec();
        let (directory, name) = self.place(target, into, &name)?;
        self.file(&directory, &name, &found.stat, b"", || Ok(found.fd.try_clone()?))
    }

    /// Where a file goes that is to be at `target`, or in it: the directory, made if need be, and the name there.
    pub fn place(&self, target: &str, into: bool, name: &[u8]) -> Result<(OwnedFd, Vec<u8>)> {
        let mut target = target.to_owned();
        for _ in 0..LINKS {
            let parts = clean(&target);
            let whole = parts.join("/");
            let is_directory =
                in_root(self.root, whole.as_bytes(), OFlags::PATH | OFlags::DIRECTORY).is_ok() || parts.is_empty();
            if into || is_directory {
                return Ok((self.directory(&whole)?.0, name.to_vec()));
            }
            let Some((last, parents)) = parts.split_last() else { break };
            let parents = parents.join("/");
            let directory = self.directory(&parents)?.0;
            // A symlink is followed: what it names is written.
            match rustix::fs::readlinkat(&directory, last.as_str(), Vec::new()) {
                Ok(link) => {
                    let link = String::from_utf8_lossy(link.as_bytes()).into_owned();
                    target = if link.starts_with('/') { link } else { format!("{parents}/{link}") };
                }
                Err(_) => return Ok((directory, last.clone().into_bytes())),
            }
        }
        bail!("too many symbolic links on the way to {target}")
    }

    /// The directory at `path`, made with its parents where it is missing; whether it was.
    pub fn directory(&self, path: &str) -> Result<(OwnedFd, bool)> {
        let (uid, gid) = self.chown.unwrap_or((0, 0));
        let mode = self.chmod.as_ref().map_or(0o755, |chmod| chmod.of(0o755, true));
        self.directory_of(path, Attributes { mode, uid, gid, mtime: self.now() })
    }

    /// The same, with mode and owner of another directory.
    pub fn directory_like(&self, path: &str, stat: &Stat) -> Result<()> {
        self.directory_of(path, Attributes { mtime: self.now(), ..self.attributes(stat) }).map(drop)
    }

    /// The same, where what is made has these attributes.
    pub fn directory_of(&self, path: &str, attributes: Attributes) -> Result<(OwnedFd, bool)> {
        let mut left: Vec<Vec<u8>> = clean(path).into_iter().rev().map(String::into_bytes).collect();
        let mut done: Vec<u8> = Vec::new();
        let (mut made, mut links) = (false, 0);
        while let Some(part) = left.pop() {
            if part == b".." {
                done.truncate(done.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let next = join(&done, &part);
            match in_root(self.root, &next, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => done = next,
                Err(Errno::NOENT) => {
                    let parent = in_root(self.root, &done, OFlags::PATH | OFlags::DIRECTORY)?;
                    // A symlink that leads nowhere: what it names is made.
                    if let Ok(link) = rustix::fs::readlinkat(&parent, part.as_slice(), Vec::new()) {
                        links += 1;
                        if links > LINKS {
                            bail!("too many symbolic links on the way to {}", shown(path.as_bytes()));
                        }
                        let link = link.into_bytes();
                        if link.starts_with(b"/") {
                            done.clear();
                        }
                        let parts = link.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
                        let parts: Vec<Vec<u8>> = parts.map(<[u8]>::to_vec).collect();
                        left.extend(parts.into_iter().rev());
                        continue;
                    }
                    let wrong = || format!("make the directory {}", shown(&next));
                    rustix::fs::mkdirat(&parent, part.as_slice(), Mode::from_raw_mode(0o700)).with_context(wrong)?;
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let fd = rustix::fs::openat(&parent, part.as_slice(), flags, Mode::empty()).with_context(wrong)?;
                    self.dress(&fd, &attributes).with_context(wrong)?;
                    (made, done) = (true, next);
                }
                Err(Errno::NOTDIR) => bail!("cannot copy to non-directory: {}", shown(&next)),
                Err(error) => return Err(error).with_context(|| format!("open {}", shown(&next))),
            }
        }
        let fd = in_root(self.root, &done, OFlags::RDONLY | OFlags::DIRECTORY);
        Ok((fd.with_context(|| format!("open {}", shown(&done)))?, made))
    }

    fn content(&mut self, found: &Found, target: &OwnedFd) -> Result<()> {
        for item in &found.below {
            let (parent, name) = match item.path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => (&item.path[..slash], &item.path[slash + 1..]),
                None => (&b"."[..], item.path.as_slice()),
            };
            let wrong = || format!("write {}", shown(&item.path));
            // Directories that were just made, or were there: never through a symlink.
            let directory = match beneath(target, parent, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(directory) => directory,
                Err(Errno::LOOP | Errno::NOTDIR) => bail!("cannot copy to non-directory: {}", shown(parent)),
                Err(error) => return Err(error).with_context(wrong),
            };
            if is(&item.stat, FileType::Directory) {
                match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error).with_context(wrong),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                    Ok(fd) => fd,
                    Err(Errno::LOOP | Errno::NOTDIR) => bail!("cannot copy to non-directory: {}", shown(&item.path)),
                    Err(error) => return Err(error).with_context(wrong),
                };
                self.dress(&fd, &self.attributes(&item.stat)).with_context(wrong)?;
                let source = beneath(&found.fd, &item.path, OFlags::PATH | OFlags::NOFOLLOW).with_context(wrong)?;
                give_attributes(&source, &fd).with_context(wrong)?;
            } else {
                let open = || Ok(beneath(&found.fd, &item.path, OFlags::PATH | OFlags::NOFOLLOW)?);
                self.file(&directory, name, &item.stat, &item.target, open).with_context(wrong)?;
            }
        }
        // A directory's own time is set once nothing more is put in it.
        for item in found.below.iter().rev().filter(|item| is(&item.stat, FileType::Directory)) {
            let fd = beneath(target, &item.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            set_time(&fd, self.attributes(&item.stat).mtime)?;
        }
        Ok(())
    }

    fn attributes(&self, stat: &Stat) -> Attributes {
        let own = if self.owners { (stat.st_uid, stat.st_gid) } else { (0, 0) };
        let (uid, gid) = self.chown.unwrap_or(own);
        let mode = stat.st_mode & 0o7777;
        let mode = self.chmod.as_ref().map_or(mode, |chmod| chmod.of(mode, is(stat, FileType::Directory)));
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_possible_wrap,
            reason = "its type differs between architectures"
        )]
        let nanos = stat.st_mtime_nsec as i64;
        Attributes { mode, uid, gid, mtime: Some((stat.st_mtime, nanos)) }
    }

    /// Writes one file, symlink or device.
    pub fn file(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        stat: &Stat,
        link: &[u8],
        open: impl FnOnce() -> Result<OwnedFd>,
    ) -> Result<()> {
        make_room(directory, name)?;
        let attributes = self.attributes(stat);
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::RegularFile => {
                let key = (stat.st_dev, stat.st_ino);
                if let Some(first) = self.links.get(&key) {
                    let path = format!("/proc/self/fd/{}", first.as_raw_fd());
                    rustix::fs::linkat(rustix::fs::CWD, path, directory, name, AtFlags::SYMLINK_FOLLOW)?;
                    return Ok(());
                }
                let place = open()?;
                let source = reopen(&place)?;
                let fd = create(directory, name)?;
                copy_content(&source, &fd)?;
                self.dress(&fd, &attributes)?;
                // After the owner: chown takes capabilities away.
                give_attributes(&place, &fd)?;
                if stat.st_nlink > 1 {
                    self.links.insert(key, fd);
                }
            }
            FileType::Symlink => {
                rustix::fs::symlinkat(link, directory, name)?;
                own_name(directory, name, &attributes)?;
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?;
                own_name(directory, name, &attributes)?;
                rustix::fs::chmodat(directory, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes a file with this content, unless something else decides its attributes.
    pub fn content_of(&self, directory: &OwnedFd, name: &[u8], bytes: &[u8], mode: u32) -> Result<()> {
        make_room(directory, name)?;
        let fd = create(directory, name)?;
        let mut left = bytes;
        while !left.is_empty() {
            match rustix::io::write(&fd, left) {
                Ok(count) => left = &left[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).with_context(|| format!("write {}", shown(name))),
            }
        }
        let (uid, gid) = self.chown.unwrap_or((0, 0));
        let mode = self.chmod.as_ref().map_or(mode, |chmod| chmod.of(mode, false));
        self.dress(&fd, &Attributes { mode, uid, gid, mtime: self.now() })
    }

    fn now(&self) -> Option<(i64, i64)> {
        self.epoch.map(|seconds| (seconds, 0))
    }

    fn dress(&self, fd: &OwnedFd, attributes: &Attributes) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        rustix::fs::fchown(fd, Some(uid), Some(gid))?;
        // After the owner: chown takes setuid away.
        rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))?;
        set_time(fd, attributes.mtime)
    }
}

/// Takes away what is in the way of a file.
fn make_room(directory: &OwnedFd, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => bail!("cannot replace the directory {} with a file", shown(name)),
        Err(error) => Err(error).with_context(|| format!("replace {}", shown(name))),
    }
}

fn create(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
        .with_context(|| format!("make the file {}", shown(name)))
}

fn own_name(directory: &OwnedFd, name: &[u8], attributes: &Attributes) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if let Some(times) = times(attributes.mtime) {
        rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn times(mtime: Option<(i64, i64)>) -> Option<Timestamps> {
    let (tv_sec, tv_nsec) = mtime?;
    let time = Timespec { tv_sec, tv_nsec };
    Some(Timestamps { last_access: time, last_modification: time })
}

fn set_time(fd: &OwnedFd, mtime: Option<(i64, i64)>) -> Result<()> {
    match times(mtime) {
        Some(times) => Ok(rustix::fs::futimens(fd, &times)?),
        None => Ok(()),
    }
}

/// Extended attributes that an image may have.
fn give_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for (name, value) in umiak_images::pack::attributes(from)? {
        match rustix::fs::fsetxattr(to.as_fd(), name.as_slice(), &value, rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error).context("write an extended attribute"),
        }
    }
    Ok(())
}

/// Copies the whole of a file, in the kernel where it can.
fn copy_content(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    // Shares the blocks on file systems that can, and never passes through this process.
    loop {
        match rustix::fs::copy_file_range(from, None, to, None, 1 << 30) {
            Ok(0) => return rest(from, to),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => return rest(from, to),
            Err(error) => return Err(error).context("copy the content"),
        }
    }
}

fn rest(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut buffer = vec![0_u8; 128 << 10];
    loop {
        let count = match rustix::io::read(from, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).context("copy the content"),
        };
        let mut left = &buffer[..count];
        while !left.is_empty() {
            match rustix::io::write(to, left) {
                Ok(count) => left = &left[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("copy the content"),
            }
        }
    }
}
