//! What a COPY takes: names and patterns resolved in a context or in the root
//! of a stage, as files with what identifies them.
//!
//! The tree may be hostile (a context is anybody's repository, a stage ran
//! anybody's programs): every name is resolved within its root, by descriptor,
//! and what was found is held open until it has been copied.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use umiak_dockerfile::ignore::Glob;
use umiak_images::digest::{Digest, Hasher};

use super::ignored::Ignored;

/// Above so many files a build refuses to go on: nobody means that.
const MOST: usize = 2_000_000;

/// Directories in one another at most: each takes a part of the stack.
const DEEPEST: usize = 500;

/// Remembers the digests of files.
pub trait Contents: Sync {
    /// The digest of a file that looks as it did when it was read; `path` is its name below the root of its tree.
    fn known(&self, path: &[u8], stat: &Stat) -> Option<Digest>;

    /// A file was read.
    fn learnt(&self, path: &[u8], stat: &Stat, digest: &Digest);
}

/// Remembers nothing.
#[derive(Debug)]
pub struct Read;

impl Contents for Read {
    fn known(&self, _: &[u8], _: &Stat) -> Option<Digest> {
        None
    }

    fn learnt(&self, _: &[u8], _: &Stat, _: &Digest) {}
}

/// The digest of a file's content and extended attributes.
fn digest(place: &OwnedFd) -> Result<Digest> {
    let attributes = umiak_images::pack::attributes(place)?;
    let fd = reopen(place)?;
    let content = hash(fd.as_fd())?;
    if attributes.is_empty() {
        return Ok(content);
    }
    let mut hasher = Hasher::new();
    hasher.update(content.hex().as_bytes());
    for (name, value) in attributes {
        hasher.update(format!(" {} {} ", name.len(), value.len()).as_bytes());
        hasher.update(&name);
        hasher.update(&value);
    }
    Ok(hasher.finish())
}

/// The digest of an open file's content.
pub fn hash(fd: BorrowedFd<'_>) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0_u8; 128 << 10];
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A tree to copy from.
pub struct Tree<'t> {
    /// Its root.
    pub root: BorrowedFd<'t>,
    /// What of it does not count.
    pub ignored: Option<&'t Ignored>,
    /// How contents are identified.
    pub contents: &'t dyn Contents,
    /// Files keep their owners; those of a context belong to root.
    pub owners: bool,
}

/// One thing that a source names.
#[derive(Debug)]
pub struct Found {
    /// The name that led to it, below the root, without a leading slash; empty for the root itself.
    pub name: Vec<u8>,
    /// Itself; a symlink was followed.
    pub fd: OwnedFd,
    /// What it is.
    pub stat: Stat,
    /// For a directory all that is in it, parents before their content.
    pub below: Vec<Item>,
    /// The directories that its name leads through, where they are to be kept.
    pub above: Vec<Stat>,
    /// Its name once symlinks are resolved.
    real: Vec<u8>,
}

/// One file in a directory that is copied.
#[derive(Debug)]
pub struct Item {
    /// Its name below that directory.
    pub path: Vec<u8>,
    /// What it is; a symlink itself.
    pub stat: Stat,
    /// Where a symlink leads.
    pub target: Vec<u8>,
}

impl Found {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        is(&self.stat, FileType::Directory)
    }
}

/// Whether `stat` is of this type.
pub fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// A name for a message.
pub fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

impl Tree<'_> {
    /// What `source` (a name or a pattern, `..` cannot leave the root) leads to, in the order of names. A pattern may
    /// lead to nothing; a name must not. `parents` lets `**` stand for any number of directories.
    pub fn find(&self, source: &str, exclude: &Ignored) -> Result<Vec<Found>> {
        let parts = clean(source);
        let pattern = parts.iter().position(|part| is_pattern(part));
        let names = match pattern {
            None => vec![parts.join("/").into_bytes()],
            Some(at) => {
                let mut names = Vec::new();
                self.expand(parts[..at].join("/").into_bytes(), &parts[at..], &mut names)?;
                names.sort();
                names.dedup();
                names
            }
        };
        let mut all = Vec::new();
        for name in names {
            match self.open(&name) {
                Ok(Some(found)) => all.push(found),
                // A dangling symlink, or left out of the context.
                _ if pattern.is_some() => {}
                Ok(None) => bail!("{}: not found (excluded by .dockerignore)", shown(&name)),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => bail!("{}: not found", shown(&name)),
                Err(error) => return Err(error).with_context(|| format!("open {}", shown(&name))),
            }
        }
        for found in &mut all {
            if found.is_directory() {
                let mut below = Vec::new();
                self.walk(&found.fd, &found.real, &mut Vec::new(), exclude, &mut below)?;
                found.below = below;
            }
        }
        let base = |name: &[u8]| name.rsplit(|byte| *byte == b'/').next().unwrap_or(name).to_vec();
        all.retain(|found| found.is_directory() || !exclude.matches(&base(&found.name)));
        Ok(all)
    }

    /// What a name leads to that is no pattern, whatever is in it.
    pub fn find_literally(&self, name: &str, exclude: &Ignored) -> Result<Vec<Found>> {
        let name = clean(name).join("/").into_bytes();
        let mut found = match self.open(&name) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("open {}", shown(&name))),
        };
        if found.is_directory() {
            self.walk(&found.fd, &found.real, &mut Vec::new(), exclude, &mut found.below)?;
        }
        Ok(vec![found])
    }

    /// The directories that a name leads through.
    pub fn above(&self, name: &[u8]) -> Result<Vec<Stat>> {
        let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.map(|end| {
            let wrong = || format!("open {}", shown(&name[..end]));
            let fd = in_root(self.root, &name[..end], OFlags::PATH | OFlags::DIRECTORY).with_context(wrong)?;
            rustix::fs::fstat(&fd).with_context(wrong)
        })
        .collect()
    }

    /// `None` when it is ignored with all that is in it.
    fn open(&self, name: &[u8]) -> rustix::io::Result<Option<Found>> {
        let fd = in_root(self.root, name, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&fd)?;
        let real = self.real_name(&fd, name);
        if let Some(ignored) = self.ignored
            && ignored.matches(&real)
            && (!is(&stat, FileType::Directory) || !ignored.reaches_below(&real))
        {
            return Ok(None);
        }
        Ok(Some(Found { name: name.to_vec(), fd, stat, below: Vec::new(), above: Vec::new(), real }))
    }

    /// The name below the root that a descriptor really has; only where it matters.
    fn real_name(&self, fd: &OwnedFd, name: &[u8]) -> Vec<u8> {
        if self.ignored.is_none() {
            return name.to_vec();
        }
        let read = |fd: BorrowedFd<'_>| {
            use std::os::fd::AsRawFd as _;
            rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()
        };
        let (Some(root), Some(path)) = (read(self.root), read(fd.as_fd())) else { return name.to_vec() };
        let (root, path) = (root.as_bytes(), path.as_bytes());
        let root = root.strip_suffix(b"/").unwrap_or(root);
        match path.strip_prefix(root) {
            Some(rest) => rest.strip_prefix(b"/").unwrap_or(rest).to_vec(),
            None => name.to_vec(),
        }
    }

    /// Names below `base` that the rest of a pattern matches.
    fn expand(&self, base: Vec<u8>, parts: &[String], names: &mut Vec<Vec<u8>>) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else {
            names.push(base);
            return Ok(());
        };
        if names.len() > MOST {
            bail!("the pattern matches more than {MOST} files");
        }
        let Ok(fd) = in_root(self.root, &base, OFlags::RDONLY | OFlags::DIRECTORY) else { return Ok(()) };
        let list = list(&fd).with_context(|| format!("list {}", shown(&base)))?;
        if part == "**" {
            if base.iter().filter(|byte| **byte == b'/').count() > DEEPEST {
                bail!("directories nest deeper than {DEEPEST}");
            }
            self.expand(base.clone(), rest, names)?;
            for name in list {
                // Never through symlinks: there would be no end.
                let directory = rustix::fs::statat(&fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| is(&stat, FileType::Directory));
                if directory {
                    self.expand(join(&base, &name), parts, names)?;
                }
            }
            return Ok(());
        }
        let glob = Glob::new(part)?;
        for name in list {
            let matches = match is_pattern(part) {
                true => glob.matches(&String::from_utf8_lossy(&name)),
                false => name == part.as_bytes(),
            };
            if matches {
                self.expand(join(&base, &name), rest, names)?;
            }
        }
        Ok(())
    }

    /// All that is in a directory and counts.
    fn walk(
        &self,
        directory: &OwnedFd,
        real: &[u8],
        path: &mut Vec<u8>,
        exclude: &Ignored,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let wrong = || format!("list {}", shown(real));
        if path.iter().filter(|byte| **byte == b'/').count() > DEEPEST {
            bail!("directories nest deeper than {DEEPEST}: {}", shown(&real[..real.len().min(200)]));
        }
        let fd = rustix::fs::openat(directory, ".", flags, Mode::empty()).with_context(wrong)?;
        for name in list(&fd).with_context(wrong)? {
            let stat = match rustix::fs::statat(&fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(error).with_context(|| format!("look at {}", shown(&join(real, &name)))),
            };
            let whole = join(real, &name);
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let ignored = self.ignored.filter(|ignored| ignored.matches(&whole));
            let excluded = exclude.matches(path);
            let left_out = ignored.is_some() || excluded;
            if is(&stat, FileType::Directory) {
                let hidden = ignored.is_some_and(|ignored| !ignored.reaches_below(&whole))
                    || (excluded && !exclude.reaches_below(path));
                if !hidden {
                    let at = items.len();
                    items.push(Item { path: path.clone(), stat, target: Vec::new() });
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let place = rustix::fs::openat(&fd, name.as_slice(), flags, Mode::empty()).with_context(wrong)?;
                    self.walk(&place, &whole, path, exclude, items)?;
                    // Nothing in it counts.
                    if left_out && items.len() == at + 1 {
                        items.pop();
                    }
                }
            } else if !left_out && !is(&stat, FileType::Socket) {
                let target = match is(&stat, FileType::Symlink) {
                    true => rustix::fs::readlinkat(&fd, name.as_slice(), Vec::new()).with_context(wrong)?.into_bytes(),
                    false => Vec::new(),
                };
                items.push(Item { path: path.clone(), stat, target });
            }
            if items.len() > MOST {
                bail!("more than {MOST} files are to be copied: is the context the right one?");
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// What identifies all that was found: names, kinds, modes, owners, contents. Times say nothing, as in Docker.
    pub fn identity(&self, all: &[Found]) -> Result<Digest> {
        let mut hasher = Hasher::new();
        for found in all {
            let name = found.name.rsplit(|byte| *byte == b'/').next().unwrap_or(&found.name);
            self.identify(&mut hasher, name, &found.real, &found.stat, b"", || Ok(found.fd.try_clone()?))?;
            for item in &found.below {
                let open = || Ok(beneath(&found.fd, &item.path, OFlags::PATH | OFlags::NOFOLLOW)?);
                self.identify(&mut hasher, &item.path, &join(&found.real, &item.path), &item.stat, &item.target, open)?;
            }
            for above in &found.above {
                hasher.update(format!("{:o} {} {} ", above.st_mode, above.st_uid, above.st_gid).as_bytes());
            }
            hasher.update(b"\n");
        }
        Ok(hasher.finish())
    }

    fn identify(
        &self,
        hasher: &mut Hasher,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        target: &[u8],
        open: impl FnOnce() -> Result<OwnedFd>,
    ) -> Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let (uid, gid) = if self.owners { (stat.st_uid, stat.st_gid) } else { (0, 0) };
        hasher.update(name);
        // The mode of a directory that is not made by the copy does not count, but it costs nothing to be strict.
        hasher.update(format!("\0{:o} {uid} {gid} {} ", stat.st_mode, stat.st_rdev).as_bytes());
        match kind {
            FileType::RegularFile => {
                let digest = match self.contents.known(path, stat) {
                    Some(known) => known,
                    None => {
                        let read = open().and_then(|place| digest(&place));
                        let digest = read.with_context(|| format!("read {}", shown(path)))?;
                        self.contents.learnt(path, stat, &digest);
                        digest
                    }
                };
                hasher.update(digest.hex().as_bytes());
            }
            FileType::Symlink => hasher.update(target),
            _ => {}
        }
        hasher.update(b"\0");
        Ok(())
    }
}

/// The parts of a source's name; `..` stays within the root.
pub fn clean(source: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part.to_owned()),
        }
    }
    parts
}

/// Whether a part of a name is a pattern.
pub fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '[', '\\'])
}

/// One name behind another.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// Opens a name within `root`, where symlinks lead as they would for a program inside.
pub fn in_root(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A name on the way was moved meanwhile (openat2(2)).
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Opens a name below a directory, through no symlink.
pub fn beneath(directory: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// A regular file that was opened as a mere place, now to be read.
pub fn reopen(place: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::open(format!("/proc/self/fd/{}", place.as_raw_fd()), flags, Mode::empty())
}

/// The names in a directory, in order.
pub fn list(fd: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
