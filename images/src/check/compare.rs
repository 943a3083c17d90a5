//! An unpacked layer beside what its archive says of it. Times are left out:
//! nothing depends on those of a lower directory but what the image's own
//! programs make of them, and a build may set its archives' times apart.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::Difference;
use super::expected::{Expected, Id, Made, Meta, Node, ROOT};
use crate::digest::{Digest, Hasher};
use crate::unpack::{Segment, is_allowed_xattr, shown};

/// Differences of one layer that are told one by one.
const TOLD: usize = 1000;
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// Marks of overlayfs that change what a layer shows; it writes others for itself.
const MEANT: [&[u8]; 3] = [b"trusted.overlay.opaque", b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// The first of them.
    pub(super) differences: Vec<Difference>,
    /// All of them.
    pub(super) count: u64,
    /// Files that were looked at.
    pub(super) files: u64,
}

/// Compares the tree below `root` with what is expected. `owner` is whom directories belong to that no entry names.
pub(super) fn compare(expected: &Expected, root: &OwnedFd, owner: (u32, u32)) -> Compared {
    let mut work =
        Work { expected, root, owner, first: HashMap::new(), buffer: vec![0; CHUNK], found: Compared::default() };
    work.run();
    work.found
}

struct Work<'a> {
    expected: &'a Expected,
    root: &'a OwnedFd,
    owner: (u32, u32),
    /// Device and inode that a node was first met with: its other names must lead there too.
    first: HashMap<Id, (u64, u64)>,
    buffer: Vec<u8>,
    found: Compared,
}

impl Work<'_> {
    fn run(&mut self) {
        match rustix::fs::fstat(self.root) {
            Ok(stat) => self.root_itself(&stat),
            Err(error) => return self.differs(b"", unreadable(error)),
        }
        let mut left: Vec<(Vec<u8>, Id)> = vec![(Vec::new(), ROOT)];
        while let Some((path, id)) = left.pop() {
            match self.open(&path) {
                Ok(dir) => self.directory(&dir, &path, id, &mut left),
                Err(error) => self.differs(&path, unreadable(error)),
            }
        }
    }

    fn differs(&mut self, path: &[u8], what: impl Into<String>) {
        self.found.count += 1;
        if self.found.differences.len() < TOLD {
            self.found.differences.push(Difference { path: format!("/{}", shown(path)), what: what.into() });
        }
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(self.root, path, flags, Mode::empty(), resolve)
    }

    /// The root has what its entry says, if there is one.
    fn root_itself(&mut self, stat: &Stat) {
        let expected = self.expected;
        let Some(node) = expected.node(ROOT) else { return };
        if let Some(meta) = node.meta {
            self.meta(b"", stat, meta, node);
        }
        let path = format!("/proc/self/fd/{}", self.root.as_raw_fd());
        self.xattrs(b"", &path, node);
    }

    fn directory(&mut self, dir: &OwnedFd, path: &[u8], id: Id, left: &mut Vec<(Vec<u8>, Id)>) {
        let expected = self.expected;
        let Some(Node { kind: Made::Directory { children, .. }, .. }) = expected.node(id) else { return };
        let mut there = 0;
        let list = match Dir::read_from(dir) {
            Ok(list) => list,
            Err(error) => return self.differs(path, unreadable(error)),
        };
        for entry in list {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.differs(path, unreadable(error)),
            };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let full = join(path, name);
            match children.get(name) {
                Some(child) => {
                    there += 1;
                    if self.entry(dir, name, &full, *child) {
                        left.push((full, *child));
                    }
                }
                None => self.differs(&full, "is not of this layer"),
            }
        }
        if there < children.len() {
            for name in children.keys() {
                if matches!(
                    rustix::fs::statat(dir, &**name, AtFlags::SYMLINK_NOFOLLOW),
                    Err(Errno::NOENT | Errno::NAMETOOLONG)
                ) {
                    self.differs(&join(path, name), "is missing");
                }
            }
        }
    }

    /// Compares one name; whether it is a directory as it should be, to be entered.
    fn entry(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], id: Id) -> bool {
        self.found.files += 1;
        let expected = self.expected;
        let Some(node) = expected.node(id) else { return false };
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => {
                self.differs(path, unreadable(error));
                return false;
            }
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != node.kind.file_type() {
            self.differs(path, format!("is {}, should be {}", article(kind), article(node.kind.file_type())));
            return false;
        }
        let inode = (stat.st_dev, stat.st_ino);
        match self.first.get(&id) {
            Some(first) if *first == inode => return false,
            Some(_) => self.differs(path, "is no longer the same file as its other names"),
            None => drop(self.first.insert(id, inode)),
        }
        let implied = Meta { mode: 0o755, uid: self.owner.0, gid: self.owner.1 };
        match (node.meta, &node.kind) {
            (Some(meta), _) => self.meta(path, &stat, meta, node),
            (None, Made::Directory { .. }) => self.meta(path, &stat, implied, node),
            (None, _) => {}
        }
        match &node.kind {
            Made::Directory { .. } => {}
            Made::File { size, content, map } => self.file(dir, name, path, &stat, (*size, content, map.as_deref())),
            Made::Symlink(target) => match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(found) if found.as_bytes() == &**target => {}
                Ok(found) => {
                    let what = format!("leads to {}, should lead to {}", shown(found.as_bytes()), shown(target));
                    self.differs(path, what);
                }
                Err(error) => self.differs(path, unreadable(error)),
            },
            Made::Device { major, minor, .. } => {
                let found = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                if found != (*major, *minor) {
                    self.differs(path, format!("is the device {}:{}, should be {major}:{minor}", found.0, found.1));
                }
            }
            Made::Fifo => {}
        }
        // What is set on symlinks is not looked at: the kernel takes next to nothing there.
        if !matches!(node.kind, Made::Symlink(_)) {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(dir, name, flags, Mode::empty()) {
                Ok(fd) => self.xattrs(path, &format!("/proc/self/fd/{}", fd.as_raw_fd()), node),
                Err(error) => self.differs(path, unreadable(error)),
            }
        }
        matches!(node.kind, Made::Directory { .. })
    }

    fn meta(&mut self, path: &[u8], stat: &Stat, meta: Meta, node: &Node) {
        // An access list holds the group's bits, which the mode then shows as its mask.
        let listed = node.xattrs.iter().any(|(name, _)| name == b"system.posix_acl_access");
        let bits = if listed { 0o7000 } else { 0o7777 };
        let symlink = matches!(node.kind, Made::Symlink(_));
        if !symlink && stat.st_mode & bits != meta.mode & bits {
            let what = format!("has the mode {:04o}, should have {:04o}", stat.st_mode & 0o7777, meta.mode);
            self.differs(path, what);
        }
        if (stat.st_uid, stat.st_gid) != (meta.uid, meta.gid) {
            let (found, wanted) = ((stat.st_uid, stat.st_gid), (meta.uid, meta.gid));
            let what = format!("belongs to {}:{}, should belong to {}:{}", found.0, found.1, wanted.0, wanted.1);
            self.differs(path, what);
        }
    }

    fn file(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        (size, content, map): (u64, &Digest, Option<&[Segment]>),
    ) {
        let found = u64::try_from(stat.st_size).unwrap_or(0);
        if found != size {
            return self.differs(path, format!("has {found} bytes, should have {size}"));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(dir, name, flags, Mode::empty()).map(File::from);
        let opened = opened.map_err(io::Error::from);
        let same = opened.and_then(|mut file| match map {
            None => Ok(hash(&mut file, &mut self.buffer)? == *content),
            Some(map) => sparse(&file, size, map, &mut self.buffer).map(|found| found.as_ref() == Some(content)),
        });
        match same {
            Ok(true) => {}
            Ok(false) => self.differs(path, "has other content"),
            Err(error) => self.differs(path, format!("cannot be read: {error}")),
        }
    }

    fn xattrs(&mut self, path: &[u8], fd_path: &str, node: &Node) {
        let directory = matches!(node.kind, Made::Directory { .. });
        let plain = directory || matches!(node.kind, Made::File { .. });
        let opaque = matches!(node.kind, Made::Directory { opaque: true, .. });
        let mut wanted: Vec<(&[u8], &[u8])> = Vec::new();
        for (name, value) in node.xattrs.iter().filter(|(name, _)| is_allowed_xattr(name) && !name.contains(&0)) {
            // The last of several counts; the kernel takes `user.` on files and directories only.
            wanted.retain(|(other, _)| other != name);
            if plain || !name.starts_with(b"user.") {
                wanted.push((name, value));
            }
        }
        if opaque {
            wanted.push((MEANT[0], b"y"));
        }
        let there = match names(fd_path) {
            Ok(there) => there,
            Err(error) => return self.differs(path, unreadable(error)),
        };
        for name in there.iter().filter(|name| is_allowed_xattr(name) || MEANT.contains(&name.as_slice())) {
            if !wanted.iter().any(|(other, _)| other == name) {
                self.differs(path, format!("has the attribute {}, which is not of this layer", shown(name)));
            }
        }
        for (name, value) in wanted {
            let mut found = vec![0_u8; 1 << 16];
            match rustix::fs::getxattr(fd_path, name, &mut found) {
                Ok(length) if same_attribute(name, &found[..length], value) => {}
                Ok(_) => self.differs(path, format!("has another value of the attribute {}", shown(name))),
                // The file system has none of that kind: it was unpacked without.
                Err(Errno::OPNOTSUPP) => {}
                Err(Errno::NODATA) if says_no_more_than_the_mode(name, value) => {}
                Err(Errno::NODATA) => self.differs(path, format!("lacks the attribute {}", shown(name))),
                Err(error) => self.differs(path, unreadable(error)),
            }
        }
    }
}

impl Made {
    fn file_type(&self) -> FileType {
        match self {
            Self::Directory { .. } => FileType::Directory,
            Self::File { .. } => FileType::RegularFile,
            Self::Symlink(_) => FileType::Symlink,
            Self::Device { character: true, .. } => FileType::CharacterDevice,
            Self::Device { .. } => FileType::BlockDevice,
            Self::Fifo => FileType::Fifo,
        }
    }
}

fn article(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        FileType::Symlink => "a symbolic link",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::Unknown => "something unknown",
    }
}

fn unreadable(error: Errno) -> String {
    format!("cannot be read: {error}")
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn hash(file: &mut File, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest of the stretches that hold data; `None` where there is data between them.
fn sparse(file: &File, size: u64, map: &[Segment], buffer: &mut [u8]) -> io::Result<Option<Digest>> {
    let mut hasher = Hasher::new();
    let mut at = 0;
    for segment in map.iter().chain([&Segment { offset: size, length: 0 }]) {
        if !is_empty(file, at, segment.offset, buffer)? {
            return Ok(None);
        }
        read_range(file, segment.offset, segment.offset + segment.length, buffer, |bytes| {
            hasher.update(bytes);
            true
        })?;
        at = segment.offset + segment.length;
    }
    Ok(Some(hasher.finish()))
}

/// Whether there is nothing but zeros from `start` to `end`; holes are not read.
fn is_empty(file: &File, start: u64, end: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let mut at = start;
    while at < end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(Errno::NXIO) => return Ok(true),
            Err(_) => at,
        };
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).map_or(end, |hole| hole.min(end));
        if !read_range(file, data, hole, buffer, |bytes| bytes.iter().all(|byte| *byte == 0))? {
            return Ok(false);
        }
        at = hole.max(data + u64::from(hole == data));
    }
    Ok(true)
}

/// Hands on what lies between two offsets, for as long as `take` wants it; whether it wanted all.
fn read_range(
    file: &File,
    mut at: u64,
    end: u64,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        match file.read_at(&mut buffer[..most], at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) if take(&buffer[..count]) => at += count as u64,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn names(path: &str) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = vec![0_u8; 1 << 16];
    let length = match rustix::fs::listxattr(path, &mut names) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODATA) => 0,
        result => result?,
    };
    Ok(names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// A capability whose namespace is the first one is given back in the form without a namespace.
fn same_attribute(name: &[u8], found: &[u8], wanted: &[u8]) -> bool {
    if found == wanted {
        return true;
    }
    // include/uapi/linux/capability.h: vfs_cap_data is 20 bytes, vfs_ns_cap_data 24 with the root id last.
    name == b"security.capability"
        && found.len() == 20
        && wanted.len() == 24
        && wanted[20..] == [0; 4]
        && found[4..] == wanted[4..20]
}

/// An access list of three entries is the mode, and the kernel keeps none.
fn says_no_more_than_the_mode(name: &[u8], value: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_") && value.len() <= 4 + 3 * 8
}
