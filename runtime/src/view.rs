//! A look into a container's files from outside: of one that runs through its
//! first process, of one that does not by mounting its root file system and
//! volumes in a mount namespace that ends with the look.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::Mount as OciMount;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, mount_remount, move_mount,
    open_tree,
};
use umiak_base::ProcessRef;

use crate::config::{Config, MountKind, Namespace, Propagation, Rootfs};
use crate::mounts::{self, MountsError};
use crate::rootfs::{self, RootfsError, open_in_root, proc_name};
use crate::volumes::{self, VolumeError};

/// Why a container could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Its first process has ended.
    #[error("the container's first process has ended")]
    Ended,
    /// The root file system.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// Mounts.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// Volumes.
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// A step that the kernel refused.
    #[error("{step} {path}")]
    System {
        /// What was done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The thread could not be started, or panicked: a mistake in this program.
    #[error("looking into the container failed unexpectedly")]
    Thread,
}

fn failed(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ViewError {
    let path = path.into();
    move |source| ViewError::System { step, path, source }
}

/// The root directory of a running container, with all that is mounted in it. What is below it is reached with
/// [`open_in_root`] alone: the container can change it at any time.
///
/// # Errors
/// When the process has ended.
pub fn running(init: ProcessRef) -> Result<OwnedFd, ViewError> {
    let path = PathBuf::from(format!("/proc/{}/root", init.pid));
    let root = rootfs::open_root(&path);
    // The number may have become another process's before it was opened.
    if !init.alive() {
        return Err(ViewError::Ended);
    }
    root.map_err(failed("open", path))
}

/// Hands `look` the root directory of a container that does not run, with its volumes and binds as they would be, but
/// no tmpfs. The caller holds off those that might start it. `staging` and the config's `merged` are existing
/// directories of the container's own.
///
/// # Errors
/// When something cannot be mounted.
pub fn stopped<T: Send>(
    config: &Config,
    staging: &Path,
    look: impl FnOnce(BorrowedFd<'_>) -> T + Send,
) -> Result<T, ViewError> {
    in_namespace(|| {
        let config = as_seen_from_outside(config);
        let mut plan = mounts::plan(&config, Vec::new())?;
        mounts::enter_namespace(&mut plan, staging)?;
        rootfs::mount_overlay(&config.rootfs)?;
        let merged = &config.rootfs.merged;
        let root = rootfs::open_root(merged).map_err(failed("open", merged))?;
        volumes::populate(&config, root.as_fd())?;
        mounts::attach(&mut plan, root.as_fd())?;
        for mount in &plan.mounts {
            if mount.typ().as_deref() == Some("bind") {
                bind(root.as_fd(), mount)?;
            }
        }
        if config.rootfs.read_only {
            remount_read_only(merged)?;
        }
        Ok(look(root.as_fd()))
    })
}

/// Hands `look` the content of `layers` (topmost first) as one read-only tree, without anything mounted in it.
/// `target` is an existing directory.
///
/// # Errors
/// When it cannot be mounted.
pub fn layers<T: Send>(
    layers: &[PathBuf],
    target: &Path,
    look: impl FnOnce(BorrowedFd<'_>) -> T + Send,
) -> Result<T, ViewError> {
    in_namespace(|| {
        own_namespace()?;
        rootfs::mount_readonly(layers, target)?;
        let root = rootfs::open_root(target).map_err(failed("open", target))?;
        Ok(look(root.as_fd()))
    })
}

/// Hands `act` the writable root of `rootfs` without anything mounted in it, and beside it the content of other stacks
/// of layers, read-only. `rootfs.merged` and the second half of each pair are existing directories.
///
/// # Errors
/// When something cannot be mounted.
pub fn writable<T: Send>(
    rootfs: &Rootfs,
    others: &[(Vec<PathBuf>, PathBuf)],
    act: impl FnOnce(BorrowedFd<'_>, &[OwnedFd]) -> T + Send,
) -> Result<T, ViewError> {
    in_namespace(|| {
        own_namespace()?;
        rootfs::mount_overlay(rootfs)?;
        let root = rootfs::open_root(&rootfs.merged).map_err(failed("open", &rootfs.merged))?;
        let mut roots = Vec::new();
        for (layers, target) in others {
            rootfs::mount_readonly(layers, target)?;
            roots.push(rootfs::open_root(target).map_err(failed("open", target))?);
        }
        Ok(act(root.as_fd(), &roots))
    })
}

/// Gives the calling thread a mount namespace of its own, from which nothing comes back.
fn own_namespace() -> Result<(), ViewError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| failed("unshare the mount namespace of", "/")(errno.into()))?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|errno| failed("make private", "/")(errno.into()))
}

/// Runs `act` on a thread of its own: a mount namespace is a thread's, and goes with it.
fn in_namespace<T: Send>(act: impl FnOnce() -> Result<T, ViewError> + Send) -> Result<T, ViewError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("view".into()).spawn_scoped(scope, act);
        thread.map_err(|_| ViewError::Thread)?.join().map_err(|_| ViewError::Thread)?
    })
}

/// The config with those mounts only that mean something while the container does not run.
fn as_seen_from_outside(config: &Config) -> Config {
    let mut config = config.clone();
    config.ipc_ns = Namespace::Private;
    config.mounts.retain_mut(|mount| match &mut mount.kind {
        MountKind::Tmpfs(_) => false,
        MountKind::Volume(_) | MountKind::Image(_) => true,
        MountKind::File(file) => file.source.exists(),
        MountKind::Bind(bind) => {
            bind.propagation = Propagation::Rprivate;
            bind.source.exists()
        }
    });
    for file in [&mut config.files.hosts, &mut config.files.resolv_conf, &mut config.files.hostname] {
        // Written at the first start.
        if !file.exists() {
            *file = PathBuf::new();
        }
    }
    config
}

fn bind(root: BorrowedFd<'_>, mount: &OciMount) -> Result<(), ViewError> {
    let (source, target) = (mount.source().clone().unwrap_or_default(), mount.destination());
    let options = mount.options().clone().unwrap_or_default();
    let has = |wanted: &str| options.iter().any(|option| option == wanted);
    let meta = fs::metadata(&source).map_err(failed("open the mount source", &source))?;
    let place = mount_point(root, target, meta.is_dir())?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if has("rbind") {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, &source, flags).map_err(|errno| failed("copy the mount of", &source)(errno.into()))?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree.as_fd(), "", place.as_fd(), "", empty).map_err(|errno| failed("mount at", target)(errno.into()))?;
    if has("ro") {
        remount_read_only(&proc_name(&tree))?;
    }
    Ok(())
}

fn remount_read_only(path: &Path) -> Result<(), ViewError> {
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, "")
        .map_err(|errno| failed("make read-only", path)(errno.into()))
}

/// The place of a mount, made where it is missing, as a start would.
fn mount_point(root: BorrowedFd<'_>, target: &Path, directory: bool) -> Result<OwnedFd, ViewError> {
    match open_in_root(root, target, OFlags::PATH, Mode::empty()) {
        Ok(place) => return Ok(place),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("open the mount target", target)(error)),
    }
    let inside = root.try_clone_to_owned().map(pathrs::Root::from_fd).map_err(failed("open the root for", target))?;
    let make = |path: &Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let made = inside.mkdir_all(path, &mode);
        made.map(drop).map_err(|error| failed("make the mount target", path)(io::Error::other(error)))
    };
    match (directory, target.parent(), target.file_name()) {
        (false, Some(parent), Some(name)) => {
            make(parent)?;
            let parent = open_in_root(root, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                .map_err(failed("open", parent))?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))
                .map(File::from)
                .map_err(|errno| failed("make the mount target", target)(errno.into()))?;
        }
        _ => make(target)?,
    }
    open_in_root(root, target, OFlags::PATH, Mode::empty()).map_err(failed("open the mount target", target))
}
