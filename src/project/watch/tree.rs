//! Directory trees under inotify: one descriptor for all, a watch for each
//! directory, new directories as they come.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::failure::WithHint as _;

/// The trees below some paths, without what is ignored.
pub struct Trees<'a> {
    inotify: OwnedFd,
    directories: BTreeMap<i32, PathBuf>,
    roots: Vec<PathBuf>,
    ignored: &'a dyn Fn(&Path) -> bool,
}

impl std::fmt::Debug for Trees<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trees").field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl<'a> Trees<'a> {
    /// Watches `roots`, files or directories; one that is not there is watched for in its parent.
    pub fn new(roots: &[PathBuf], ignored: &'a dyn Fn(&Path) -> bool) -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).context("make an inotify descriptor")?;
        let mut this = Self { inotify, directories: BTreeMap::new(), roots: roots.to_vec(), ignored };
        let mut found = BTreeSet::new();
        for root in roots {
            if let Some(parent) = root.parent() {
                this.watch(parent)?;
            }
            this.add(root, &mut found)?;
        }
        Ok(this)
    }

    /// All that is there now below a path.
    pub fn files(&self, root: &Path) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(path) = waiting.pop() {
            if (self.ignored)(&path) {
                continue;
            }
            if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                waiting.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            }
            found.insert(path);
        }
        found
    }

    /// Takes what has changed since the last call.
    pub fn changes(&mut self, changed: &mut BTreeSet<PathBuf>) -> Result<()> {
        loop {
            let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
            let mut events = Vec::new();
            let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name().map(|name| name.to_bytes().to_vec());
                        events.push((event.wd(), event.events(), name));
                        if reader.is_buffer_empty() {
                            break;
                        }
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error).context("read the inotify descriptor"),
                }
            }
            if events.is_empty() {
                return Ok(());
            }
            for (wd, flags, name) in events {
                self.event(wd, flags, name, changed)?;
            }
        }
    }

    fn event(
        &mut self,
        wd: i32,
        flags: ReadFlags,
        name: Option<Vec<u8>>,
        changed: &mut BTreeSet<PathBuf>,
    ) -> Result<()> {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Too much at once: everything may have changed.
            for root in self.roots.clone() {
                self.add(&root, changed)?;
            }
            return Ok(());
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.directories.remove(&wd);
            return Ok(());
        }
        let (Some(directory), Some(name)) = (self.directories.get(&wd), name) else { return Ok(()) };
        let path = directory.join(OsStr::from_bytes(&name));
        let wanted = self.roots.iter().any(|root| path.starts_with(root));
        if !wanted || (self.ignored)(&path) {
            return Ok(());
        }
        if flags.contains(ReadFlags::ISDIR) && flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            // What was put into it before it was watched counts as well.
            self.add(&path, changed)?;
        }
        changed.insert(path);
        Ok(())
    }

    fn add(&mut self, root: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
        let mut waiting = vec![root.to_owned()];
        while let Some(path) = waiting.pop() {
            if (self.ignored)(&path) {
                continue;
            }
            if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                // Watched first, listed then: nothing comes unseen between the two.
                self.watch(&path)?;
                waiting.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            }
            found.insert(path);
        }
        Ok(())
    }

    fn watch(&mut self, directory: &Path) -> Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, directory, flags) {
            Ok(wd) => {
                self.directories.insert(wd, directory.to_owned());
                Ok(())
            }
            // Gone again already, or not there yet.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(Errno::NOSPC) => Err(Errno::NOSPC)
                .with_context(|| format!("watch {}", directory.display()))
                .hint(|| "raise the limit fs.inotify.max_user_watches, or ignore large directories".to_owned()),
            Err(error) => Err(error).with_context(|| format!("watch {}", directory.display())),
        }
    }
}

impl AsFd for Trees<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
