//! Network namespaces: pinned as a file, so that they outlive the processes in
//! them, and entered by a thread of their own, so that nobody else moves.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Why a namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The pin's file could not be made.
    #[error("create {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No new namespace.
    #[error("unshare a network namespace")]
    Unshare(#[source] io::Error),
    /// It could not be pinned.
    #[error("pin the network namespace at {path}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The pin could not be opened.
    #[error("open the network namespace {path}")]
    Open {
        /// The pin.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file is there, but no namespace is mounted on it (e.g. since a reboot).
    #[error("{path} is not a network namespace")]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
    /// It could not be entered.
    #[error("enter a network namespace")]
    Enter(#[source] io::Error),
    /// No thread to enter it with.
    #[error("start a thread")]
    Thread(#[source] io::Error),
    /// The thread in the namespace panicked.
    #[error("a thread in a network namespace panicked")]
    Panicked,
    /// The pin could not be removed.
    #[error("remove the network namespace {path}")]
    Remove {
        /// The pin.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Makes a network namespace and pins it at `path` (a new file, mode 0600; missing
/// directories above it are made, mode 0700). A namespace that is pinned there is kept.
///
/// In a mount namespace that is made later the pin is copied with all other mounts;
/// [`remove`] also ends those copies, since unlinking a mount point does
/// (KERNEL(3.19), `detach_mounts`).
///
/// # Errors
/// When the kernel refuses; nothing is left then.
pub fn create(path: &Path) -> Result<File, NamespaceError> {
    match open(path) {
        Ok(namespace) => return Ok(namespace),
        Err(NamespaceError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        // Left by a crash, or by a boot before this one where the run root is kept.
        Err(NamespaceError::NotANamespace { .. }) => remove(path)?,
        Err(error) => return Err(error),
    }
    let file_error = |source| NamespaceError::File { path: path.to_owned(), source };
    if let Some(dir) = path.parent().filter(|dir| !dir.is_dir()) {
        fs::create_dir_all(dir).map_err(file_error)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(file_error)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file_error)?;
    let pinned = in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Unshare(errno.into()))?;
        // Not /proc/self: that is the main thread.
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| NamespaceError::Pin { path: path.to_owned(), source: errno.into() })
    });
    match pinned {
        Ok(()) => open(path),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Opens a pinned namespace.
///
/// # Errors
/// When there is none.
pub fn open(path: &Path) -> Result<File, NamespaceError> {
    /// The filesystem of namespaces (`NSFS_MAGIC`, linux/magic.h).
    const NSFS: i64 = 0x6e73_6673;
    let error = |source| NamespaceError::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    let filesystem = rustix::fs::fstatfs(&file).map_err(|errno| error(errno.into()))?;
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between C libraries")]
    if filesystem.f_type as i64 == NSFS {
        Ok(file)
    } else {
        Err(NamespaceError::NotANamespace { path: path.to_owned() })
    }
}

/// Removes a pin; the namespace goes with the last process in it. Gone already: no error.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(path: &Path) -> Result<(), NamespaceError> {
    let error = |source| NamespaceError::Remove { path: path.to_owned(), source };
    // A pin can be mounted more than once on the same file.
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // EINVAL: no mount point.
            Err(nix::Error::ENOENT | nix::Error::EINVAL) => break,
            Err(errno) => return Err(error(errno.into())),
        }
    }
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(error(source)),
        _ => Ok(()),
    }
}

/// Runs a function in a namespace, on a thread made for it.
///
/// # Errors
/// When the namespace cannot be entered, or the function's.
pub fn with<T, E>(namespace: impl AsFd, function: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: Send + From<NamespaceError>,
{
    let namespace = namespace.as_fd();
    in_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Enter(errno.into()))?;
        function()
    })
}

fn in_thread<T, E>(function: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: Send + From<NamespaceError>,
{
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, function)
            .map_err(NamespaceError::Thread)?;
        thread.join().unwrap_or_else(|_| Err(NamespaceError::Panicked.into()))
    })
}
