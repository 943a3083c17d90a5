//! Goes through a directory tree by file descriptor and writes what is there.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, SeekFrom, Timespec};
use rustix::io::Errno;

use super::writer::TarWriter;
use super::{named, whole_seconds};
use crate::unpack::{Entry, Kind, Segment, is_allowed_xattr};

pub use rustix::fs::Stat;

/// Bytes read at a time.
const CHUNK: usize = 128 << 10;
/// Files with at least this many bytes in holes are written without them.
const HOLES: u64 = 1 << 20;

/// Whether a name is left out.
pub type Skip<'a> = dyn Fn(&[u8], &Stat) -> bool + 'a;

/// How a tree is written.
#[derive(Default)]
pub struct Options<'a> {
    /// The tree is a writable layer of overlayfs: its whiteouts and opaque directories become those of OCI layers.
    pub overlay: bool,
    /// Names (below the tree, without a leading slash) that are left out with all that is in them.
    pub skip: Option<&'a Skip<'a>>,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("overlay", &self.overlay).finish_non_exhaustive()
    }
}

/// Writes `name` in the directory `parent` as `shown`: a file, a symlink itself, or a directory with all its content
/// (`shown` may be `.` or `/` for a directory's content under no name of its own).
///
/// # Errors
/// When something cannot be read, or the output fails.
pub fn pack<W: Write>(
    tar: &mut TarWriter<W>,
    parent: BorrowedFd<'_>,
    name: &[u8],
    shown: &[u8],
    options: &Options<'_>,
) -> io::Result<()> {
    let mut walk = Walk { tar, options, prepare: None, links: HashMap::new(), buffer: vec![0; CHUNK] };
    let mut frames = Vec::new();
    let time = Timespec { tv_sec: 0, tv_nsec: 0 };
    frames.extend(walk.entry((parent, time), name, b"", shown)?);
    walk.run(frames)
}

/// Writes all that is in the directory, without itself.
///
/// # Errors
/// When something cannot be read, or the output fails.
pub fn pack_content<W: Write>(
    tar: &mut TarWriter<W>,
    directory: BorrowedFd<'_>,
    options: &Options<'_>,
) -> io::Result<()> {
    Walk { tar, options, prepare: None, links: HashMap::new(), buffer: vec![0; CHUNK] }.content(directory)
}

/// As [`pack_content`], of a writable layer of overlayfs that nobody else has: `prepare` may change each entry before
/// it is written, and says whether it is.
pub(super) fn pack_prepared<W: Write>(
    tar: &mut TarWriter<W>,
    directory: BorrowedFd<'_>,
    prepare: &mut Prepare<'_>,
) -> io::Result<()> {
    let options = Options { overlay: true, skip: None };
    let links = HashMap::new();
    Walk { tar, options: &options, prepare: Some(prepare), links, buffer: vec![0; CHUNK] }.content(directory)
}

/// An entry that is about to be written.
pub(super) struct Place<'p> {
    pub(super) parent: BorrowedFd<'p>,
    /// When the parent was changed last.
    pub(super) parent_time: Timespec,
    pub(super) name: &'p [u8],
    /// The entry, opened as a mere place.
    pub(super) fd: &'p OwnedFd,
    /// Its name in the archive.
    pub(super) shown: &'p [u8],
}

type Prepare<'a> = dyn FnMut(Place<'_>, &mut Stat) -> io::Result<bool> + 'a;

/// A directory under way.
struct Frame {
    fd: OwnedFd,
    /// When it was changed last.
    time: Timespec,
    /// Names that are left, last first.
    names: Vec<Vec<u8>>,
    /// Where it is below the tree's root: empty, or with a final slash.
    path: Vec<u8>,
    /// What precedes the names of its content in the archive.
    prefix: Vec<u8>,
}

struct Walk<'w, 'o, W> {
    tar: &'w mut TarWriter<W>,
    options: &'o Options<'o>,
    prepare: Option<&'w mut Prepare<'o>>,
    /// Files with several names that were written: device and inode, and their first name.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Walk<'_, '_, W> {
    fn content(&mut self, directory: BorrowedFd<'_>) -> io::Result<()> {
        let fd = open_directory(directory, b".").map_err(|error| named("open", b"/", error))?;
        if self.options.overlay && is_opaque(&fd) {
            let stat = rustix::fs::fstat(&fd).map_err(|error| named("look at", b"/", error))?;
            self.opaque(b"", &stat)?;
        }
        let frame = self.frame(fd, b"", b"")?;
        self.run(vec![frame])
    }

    fn run(&mut self, mut frames: Vec<Frame>) -> io::Result<()> {
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.names.pop() else {
                frames.pop();
                continue;
            };
            let path = [frame.path.as_slice(), &name].concat();
            let shown = [frame.prefix.as_slice(), &name].concat();
            let below = self.entry((frame.fd.as_fd(), frame.time), &name, &path, &shown)?;
            frames.extend(below);
        }
        Ok(())
    }

    fn frame(&mut self, fd: OwnedFd, path: &[u8], shown: &[u8]) -> io::Result<Frame> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(|error| named("list", path, error))? {
            let entry = entry.map_err(|error| named("list", path, error))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        let slashed = |text: &[u8]| match text {
            b"" => Vec::new(),
            text if text.ends_with(b"/") => text.to_vec(),
            text => [text, b"/"].concat(),
        };
        let time = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(Frame { fd, time, names, path: slashed(path), prefix: slashed(shown) })
    }

    /// Writes one entry; a directory is to be gone through next.
    fn entry(
        &mut self,
        (parent, parent_time): (BorrowedFd<'_>, Timespec),
        name: &[u8],
        path: &[u8],
        shown: &[u8],
    ) -> io::Result<Option<Frame>> {
        // Opened as a mere place first: what it is cannot change any more, and nothing happens to devices and pipes.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(place) => place,
            // It went while its directory was read.
            Err(Errno::NOENT) if !path.is_empty() => return Ok(None),
            Err(error) => return Err(named("open", shown, error)),
        };
        let mut stat = rustix::fs::fstat(&place).map_err(|error| named("look at", shown, error))?;
        if self.options.skip.is_some_and(|skip| skip(path, &stat)) {
            return Ok(None);
        }
        if let Some(prepare) = &mut self.prepare
            && !prepare(Place { parent, parent_time, name, fd: &place, shown }, &mut stat)?
        {
            return Ok(None);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.options.overlay && kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            self.whiteout(shown, &stat)?;
            return Ok(None);
        }
        match kind {
            FileType::Directory => return self.directory(&place, path, shown, &stat).map(Some),
            FileType::RegularFile => self.file(&place, shown, &stat)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&place, "", Vec::new());
                let target = target.map_err(|error| named("read the link", shown, error))?;
                self.plain(shown, &stat, Kind::Symlink(target.into_bytes()))?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let kind = match kind {
                    FileType::BlockDevice => Kind::Block { major, minor },
                    _ => Kind::Char { major, minor },
                };
                self.plain(shown, &stat, kind)?;
            }
            FileType::Fifo => self.plain(shown, &stat, Kind::Fifo)?,
            // A socket means nothing without the process behind it; no archive can hold one.
            _ => {}
        }
        Ok(None)
    }

    fn plain(&mut self, shown: &[u8], stat: &Stat, kind: Kind) -> io::Result<()> {
        self.tar.begin(&describe(shown, stat, kind))
    }

    fn whiteout(&mut self, shown: &[u8], stat: &Stat) -> io::Result<()> {
        let (parent, name) = match shown.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => shown.split_at(slash + 1),
            None => (&b""[..], shown),
        };
        let mut entry = describe(&[parent, b".wh.", name].concat(), stat, Kind::File { sparse: None });
        (entry.size, entry.mode) = (0, 0o600);
        self.tar.begin(&entry)
    }

    fn directory(&mut self, place: &OwnedFd, path: &[u8], shown: &[u8], stat: &Stat) -> io::Result<Frame> {
        let fd = open_directory(place.as_fd(), b".").map_err(|error| named("open", shown, error))?;
        let mut named_so = shown.to_vec();
        if !named_so.ends_with(b"/") {
            named_so.push(b'/');
        }
        let mut entry = describe(&named_so, stat, Kind::Directory);
        entry.xattrs = xattrs(place, shown)?;
        self.tar.begin(&entry)?;
        if self.options.overlay && is_opaque(&fd) {
            self.opaque(&named_so, stat)?;
        }
        let mut frame = self.frame(fd, path, shown)?;
        frame.time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) };
        Ok(frame)
    }

    /// Hides what lower layers have in a directory, whose name has a final slash.
    fn opaque(&mut self, directory: &[u8], stat: &Stat) -> io::Result<()> {
        let mut entry = describe(&[directory, b".wh..wh..opq"].concat(), stat, Kind::File { sparse: None });
        (entry.size, entry.mode) = (0, 0o600);
        self.tar.begin(&entry)
    }

    fn file(&mut self, place: &OwnedFd, shown: &[u8], stat: &Stat) -> io::Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let kind = Kind::Hardlink(first.clone());
                return self.tar.begin(&describe(shown, stat, kind));
            }
            self.links.insert((stat.st_dev, stat.st_ino), shown.to_vec());
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let fd =
            rustix::fs::open(proc_name(place), flags, Mode::empty()).map_err(|error| named("open", shown, error))?;
        let mut entry = describe(shown, stat, Kind::File { sparse: None });
        entry.xattrs = xattrs(place, shown)?;
        let segments = if holes(stat) >= HOLES { segments(&fd, entry.size) } else { None };
        match segments {
            Some(segments) => {
                entry.kind = Kind::File { sparse: Some(segments.clone()) };
                self.tar.begin(&entry)?;
                for segment in segments {
                    rustix::fs::seek(&fd, SeekFrom::Start(segment.offset))
                        .map_err(|error| named("read", shown, error))?;
                    self.copy(&fd, segment.length, shown)?;
                }
                Ok(())
            }
            None => {
                self.tar.begin(&entry)?;
                self.copy(&fd, entry.size, shown)
            }
        }
    }

    /// Copies `length` bytes of the file, zeros for what it has lost meanwhile.
    fn copy(&mut self, fd: &OwnedFd, mut length: u64, shown: &[u8]) -> io::Result<()> {
        while length > 0 {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match rustix::io::read(fd, &mut self.buffer[..most]) {
                Ok(0) => {
                    self.buffer[..most].fill(0);
                    most
                }
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(named("read", shown, error)),
            };
            self.tar.data(&self.buffer[..count])?;
            length -= count as u64;
        }
        Ok(())
    }
}

fn describe(path: &[u8], stat: &Stat, kind: Kind) -> Entry {
    Entry {
        path: path.to_vec(),
        size: match kind {
            Kind::File { .. } => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        },
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: whole_seconds(stat.st_mtime),
        xattrs: Vec::new(),
    }
}

fn holes(stat: &Stat) -> u64 {
    let (size, blocks) = (u64::try_from(stat.st_size).unwrap_or(0), u64::try_from(stat.st_blocks).unwrap_or(0));
    size.saturating_sub(blocks * 512)
}

/// The stretches of data; `None` where the file system cannot tell, or there are too many for a map.
fn segments(fd: &OwnedFd, size: u64) -> Option<Vec<Segment>> {
    const MOST: usize = 1 << 16;
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
            Ok(offset) if offset < size => offset,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => return rewind(fd),
        };
        let Ok(end) = rustix::fs::seek(fd, SeekFrom::Hole(offset)) else { return rewind(fd) };
        at = end.min(size);
        found.push(Segment { offset, length: at - offset });
        if found.len() > MOST {
            return rewind(fd);
        }
    }
    Some(found)
}

fn rewind(fd: &OwnedFd) -> Option<Vec<Segment>> {
    // A file that cannot be sought to its beginning is read from where it is, and filled up with zeros.
    let _ = rustix::fs::seek(fd, SeekFrom::Start(0));
    None
}

fn open_directory(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn is_opaque(fd: &OwnedFd) -> bool {
    let mut value = [0_u8; 8];
    rustix::fs::fgetxattr(fd, "trusted.overlay.opaque", &mut value).is_ok_and(|length| value[..length] == *b"y")
}

/// The very file that was opened; a symlink itself is not followed further.
fn proc_name(place: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", place.as_raw_fd())
}

/// The extended attributes of an open file, or of one opened as a mere place, that an image may have.
///
/// # Errors
/// When they cannot be read.
pub fn attributes(place: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    xattrs(place, b"")
}

fn xattrs(place: &OwnedFd, shown: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = proc_name(place);
    let mut names = vec![0_u8; 4096];
    let length = loop {
        match rustix::fs::listxattr(&*path, &mut names) {
            Ok(length) => break length,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODATA) => return Ok(Vec::new()),
            Err(Errno::RANGE) if names.len() < 1 << 16 => names.resize(1 << 16, 0),
            Err(error) => return Err(named("list the attributes of", shown, error)),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_allowed_xattr(name)) {
        let mut value = vec![0_u8; 1 << 16];
        match rustix::fs::getxattr(&*path, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            // Taken away meanwhile, or not for us.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(named("read an attribute of", shown, error)),
        }
    }
    found.sort();
    Ok(found)
}
