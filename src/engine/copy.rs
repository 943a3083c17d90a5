//! Copying files into and out of containers, whether they run or not. One side
//! writes a tar stream, the other extracts it, as Docker's two ends do; the
//! container's files are reached by descriptors below its root alone, so what
//! it does to its symlinks meanwhile leads nowhere (CVE-2018-15664), and no
//! program or library of it is ever run or loaded (CVE-2019-14271).

mod host;
mod path;

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags};
use umiak_images::pack::{Options as PackOptions, TarWriter, pack};
use umiak_images::unpack::{Extracted, Into, Limits, UnpackError, extract};
use umiak_runtime::rootfs::open_in_root;
use umiak_runtime::{users, view};

use self::path::{There, arrange, base, split};
use super::Engine;
use super::container::Container;
use super::roots::make_dir;

/// Bytes on their way from one side to the other.
const CHUNK: usize = 256 << 10;
/// As the kernel's own limit.
const SYMLINKS: usize = 40;

/// How files are copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Into a container: files belong to the container's user. Out of one it means nothing, as in Docker.
    pub archive: bool,
    /// Copy what a symlink leads to when the source is one.
    pub follow_link: bool,
}

/// What is to be copied: a file or directory, by its parent and name.
struct Source {
    parent: OwnedFd,
    name: Vec<u8>,
    is_directory: bool,
    /// Its name in the copy, unless the destination has one.
    shown: Vec<u8>,
}

impl Source {
    fn write(&self, name: Option<&[u8]>, out: impl Write) -> io::Result<()> {
        let mut tar = TarWriter::new(BufWriter::with_capacity(CHUNK, out));
        let shown = name.unwrap_or(&self.shown);
        pack(&mut tar, self.parent.as_fd(), &self.name, shown, &PackOptions::default())?;
        tar.finish()?.flush()
    }
}

impl Engine {
    /// Copies a file or directory of the host to `target` in a container, by the rules of `docker cp`.
    pub fn copy_in(&self, container: &Container, source: &Path, target: &str, options: CopyOptions) -> Result<()> {
        let found = host::source(source, options.follow_link)?;
        self.with_root(container, |root| {
            let place = Place::find(root, target, container)?;
            let arranged = arrange(found.is_directory, &place.path, place.there).map_err(|text| anyhow!(text))?;
            let directory = place.directory(root, &arranged.directory, container)?;
            let owner = owner(root, container, options)?;
            let into = Into { root: &directory, base: b"", follow: false, keep_owner: true, owner, devices: true };
            let name = arranged.name.as_deref();
            pass(|out| found.write(name, out), |stream| extract(stream, &into, &Limits::default())).map(drop)
        })
    }

    /// Extracts a tar stream in the directory `target` of a container.
    pub fn copy_stream_in(
        &self,
        container: &Container,
        stream: impl Read + Send,
        target: &str,
        options: CopyOptions,
    ) -> Result<()> {
        self.with_root(container, |root| {
            let place = Place::find(root, target, container)?;
            if place.there != There::Directory {
                bail!("destination \"{}:{target}\" must be a directory", container.config.name);
            }
            drop(place.directory(root, &place.path, container)?);
            let whole = root.try_clone_to_owned()?;
            let owner = owner(root, container, options)?;
            // Where the symlinks of the archive and of the container lead is as in the container.
            let into = Into { root: &whole, base: &place.path, follow: true, keep_owner: true, owner, devices: true };
            extract(BufReader::with_capacity(CHUNK, stream), &into, &Limits::default()).map(drop).map_err(told)
        })
    }

    /// Copies `source` of a container to a path of the host, by the rules of `docker cp`. Files there belong to the
    /// caller; setuid and setgid are lost, and devices are left out.
    pub fn copy_out(&self, container: &Container, source: &str, target: &Path, options: CopyOptions) -> Result<()> {
        let target = host::target(target)?;
        let done = self.with_root(container, |root| {
            let found = inside(root, source, container, options.follow_link)?;
            let arranged = arrange(found.is_directory, &target.path, target.there).map_err(|text| anyhow!(text))?;
            let directory = host::directory(&arranged.directory)?;
            let into =
                Into { root: &directory, base: b"", follow: false, keep_owner: false, owner: None, devices: false };
            let name = arranged.name.as_deref();
            pass(|out| found.write(name, out), |stream| extract(stream, &into, &Limits::default()))
        })?;
        for device in done.left_out {
            crate::note!("warning: the device {device} is not copied out of a container");
        }
        Ok(())
    }

    /// Writes `source` of a container as a tar stream.
    pub fn copy_stream_out(
        &self,
        container: &Container,
        source: &str,
        out: impl Write + Send,
        options: CopyOptions,
    ) -> Result<()> {
        self.with_root(container, |root| {
            let found = inside(root, source, container, options.follow_link)?;
            found.write(None, out).with_context(|| format!("copy {source} of {}", container.config.name))
        })
    }

    /// Hands `look` the root directory of a container: of one that runs as it sees it, of another with its volumes.
    /// Everything below it is to be reached with `open_in_root`.
    pub fn with_root<T: Send>(
        &self,
        container: &Container,
        look: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let (id, name) = (&container.config.id, &container.config.name);
        let reload = || Container::load(&self.roots, id)?.with_context(|| format!("No such container: {name}"));
        let running = |now: &Container| match now.state.init.filter(|_| now.state.status.is_up()) {
            Some(init) => view::running(init).map(Some),
            None => Ok(None),
        };
        if let Ok(Some(root)) = running(&reload()?) {
            return look(root.as_fd());
        }
        // It cannot be started while this is held.
        let _lock = self.lock(id)?;
        let now = reload()?;
        if let Some(root) = running(&now)? {
            return look(root.as_fd());
        }
        let config = &now.config.runtime;
        make_dir(&config.rootfs.merged)?;
        let staging = self.roots.container(id).join("bundle/mounts");
        make_dir(&staging)?;
        view::stopped(config, &staging, look).with_context(|| format!("look into container {name}"))?
    }
}

/// The owner that all files get, where that is asked for: the container's user.
fn owner(root: BorrowedFd<'_>, container: &Container, options: CopyOptions) -> Result<Option<(u32, u32)>> {
    let user = &container.config.runtime.user;
    if !options.archive || user.is_empty() {
        return Ok(None);
    }
    let user = users::resolve(root, user, &[]).context("look up the container's user")?;
    Ok(Some((user.uid, user.gid)))
}

/// A path in a container, as it was given, made absolute.
fn rooted(path: &[u8]) -> Vec<u8> {
    path::absolute(b"/", path)
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    open_in_root(root, Path::new(std::ffi::OsStr::from_bytes(path)), OFlags::PATH | flags, Mode::empty())
}

/// What is at a path, not followed if it is a symlink (a final slash follows one); `None` where there is nothing.
fn stat(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<(rustix::fs::Stat, OwnedFd)>> {
    match open(root, path, OFlags::NOFOLLOW) {
        Ok(fd) => Ok(Some((rustix::fs::fstat(&fd)?, fd))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("look at {}", show(path))),
    }
}

fn kind(stat: &rustix::fs::Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A path without symlinks, as far as what is there says; what is missing is taken as it is.
fn follow(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).rev().map(<[u8]>::to_vec).collect()
    };
    let (mut left, mut way, mut links) = (parts(path), Vec::<Vec<u8>>::new(), 0);
    while let Some(part) = left.pop() {
        if part == b".." {
            way.pop();
            continue;
        }
        way.push(part);
        let here = [b"/", way.join(&b'/').as_slice()].concat();
        let Ok(fd) = open(root, &here, OFlags::NOFOLLOW) else { continue };
        let Ok(target) = rustix::fs::readlinkat(&fd, "", Vec::new()) else { continue };
        links += 1;
        if links > SYMLINKS {
            bail!("too many symbolic links on the way to {}", show(path));
        }
        way.pop();
        if target.as_bytes().starts_with(b"/") {
            way.clear();
        }
        left.extend(parts(target.as_bytes()));
    }
    Ok([b"/", way.join(&b'/').as_slice()].concat())
}

/// A destination in a container.
struct Place {
    path: Vec<u8>,
    there: There,
}

impl Place {
    fn find(root: BorrowedFd<'_>, target: &str, container: &Container) -> Result<Self> {
        let mut path = rooted(target.as_bytes());
        let mut found = stat(root, &path)?;
        if found.as_ref().is_some_and(|(stat, _)| kind(stat) == FileType::Symlink) {
            path = follow(root, &path)?;
            found = stat(root, &path)?;
        }
        let there = match found.as_ref().map(|(stat, _)| kind(stat)) {
            None => There::Nothing,
            Some(FileType::Directory) => There::Directory,
            Some(FileType::RegularFile) => There::File,
            Some(_) => {
                bail!("destination \"{}:{target}\" must be a directory or a regular file", container.config.name)
            }
        };
        Ok(Self { path, there })
    }

    /// The directory that the copy is put into, if it can be written to.
    fn directory(&self, root: BorrowedFd<'_>, path: &[u8], container: &Container) -> Result<OwnedFd> {
        let directory = open(root, path, OFlags::empty());
        let directory = directory.map_err(|error| missing(path, container, error))?;
        if kind(&rustix::fs::fstat(&directory)?) != FileType::Directory {
            bail!("extraction point is not a directory");
        }
        let mount = |fd: BorrowedFd<'_>| {
            rustix::fs::statx(fd, "", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::MNT_ID)
        };
        let read_only = rustix::fs::fstatvfs(&directory).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
        if read_only {
            let same =
                matches!((mount(root), mount(directory.as_fd())), (Ok(a), Ok(b)) if a.stx_mnt_id == b.stx_mnt_id);
            bail!(if same { "container rootfs is marked read-only" } else { "mounted volume is marked read-only" });
        }
        Ok(directory)
    }
}

fn missing(path: &[u8], container: &Container, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            anyhow!("Could not find the file {} in container {}", show(path), container.config.name)
        }
        _ => anyhow::Error::new(error).context(format!("open {}", show(path))),
    }
}

/// A source in a container.
fn inside(root: BorrowedFd<'_>, source: &str, container: &Container, follow_link: bool) -> Result<Source> {
    let mut path = rooted(source.as_bytes());
    let mut found = stat(root, &path)?;
    let mut shown = base(&path);
    if follow_link && found.as_ref().is_some_and(|(stat, _)| kind(stat) == FileType::Symlink) {
        path = follow(root, &path)?;
        found = stat(root, &path)?;
        shown = base(&path);
    }
    let not_there = || missing(&path, container, io::ErrorKind::NotFound.into());
    let (stat, fd) = found.ok_or_else(not_there)?;
    if kind(&stat) == FileType::Directory {
        return Ok(Source { parent: fd, name: b".".to_vec(), is_directory: true, shown });
    }
    // By its parent: a symlink is to be read, not followed.
    let (parent, name) = split(&path);
    let parent = open(root, &parent, OFlags::DIRECTORY).map_err(|error| missing(&path, container, error))?;
    Ok(Source { parent, name, is_directory: false, shown })
}

/// Runs both ends of a copy. When both fail, the one that broke off first says why.
fn pass(
    write: impl FnOnce(io::PipeWriter) -> io::Result<()> + Send,
    read: impl FnOnce(BufReader<io::PipeReader>) -> Result<Extracted, UnpackError>,
) -> Result<Extracted> {
    let (reader, writer) = io::pipe().context("make a pipe")?;
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, CHUNK);
    std::thread::scope(|scope| {
        let writing = std::thread::Builder::new().name("pack".into()).spawn_scoped(scope, || write(writer));
        let writing = writing.context("start a thread")?;
        let extracted = read(BufReader::with_capacity(CHUNK, reader));
        let written = writing.join().map_err(|_| anyhow!("reading the files failed unexpectedly"))?;
        match (written, extracted) {
            (Err(error), extracted) if error.kind() != io::ErrorKind::BrokenPipe || extracted.is_ok() => {
                Err(error.into())
            }
            (_, extracted) => extracted.map_err(told),
        }
    })
}

/// What cannot be replaced because something is mounted there is told as such.
fn told(error: UnpackError) -> anyhow::Error {
    anyhow::Error::new(error)
}
