//! The effects behind a [`Plan`]: the `create` child's private mount namespace,
//! and the sources that must be prepared in it. Everything here disappears with
//! the last process of the namespace.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, move_mount, open_tree,
};

use super::{Action, MountsError, Plan};
use crate::config::{FileCopy, ImageMount, Mount, MountKind, Propagation, Rootfs};
use crate::rootfs::{self, open_in_root};

fn failed(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> MountsError {
    let path = path.into();
    move |source| MountsError::Namespace { step, path, source }
}

/// Makes missing bind sources where that was asked for, as directories owned by root, and refuses other missing ones.
///
/// # Errors
/// A missing source, or one that cannot be made.
pub fn prepare_sources(mounts: &[Mount]) -> Result<(), MountsError> {
    for mount in mounts {
        let (wanted, create_missing) = match &mount.kind {
            MountKind::Bind(bind) => (&bind.source, bind.create_missing),
            MountKind::File(file) => (&file.source, false),
            _ => continue,
        };
        let path = || wanted.clone();
        match fs::metadata(wanted) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && create_missing => DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(wanted)
                .map_err(|source| MountsError::CreateSource { path: path(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MountsError::NoSource { path: path() });
            }
            Err(source) => return Err(failed("open the bind source", path())(source)),
        }
    }
    Ok(())
}

/// Gives the calling, single-threaded process a mount namespace of its own, in
/// which nothing propagates to or from the host but the binds that ask for it.
/// Those are prepared below `staging`, an existing directory.
///
/// # Errors
/// A source that is not shared, or any step that the kernel refuses.
pub fn enter_namespace(plan: &mut Plan, staging: &Path) -> Result<(), MountsError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| failed("unshare the mount namespace of", "/")(errno.into()))?;
    // Before the ties to the host are cut: these copies keep them.
    let mut trees = Vec::new();
    for step in &plan.steps {
        let source = plan.mounts.get(step.index).and_then(|mount| mount.source().clone()).unwrap_or_default();
        match &step.action {
            Action::Propagate { propagation, recursive } => {
                check_propagation(&source, *propagation)?;
                trees.push((step.index, clone_path(&source, *recursive)?, Some(*propagation)));
            }
            Action::ShmOf { ipc } => trees.push((step.index, shm_of(ipc)?, None)),
            Action::Subpath { .. } | Action::Copy(_) | Action::Image(_) | Action::ImageMode | Action::CheckType => {}
        }
    }
    let all_private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", all_private).map_err(|errno| failed("make private", "/")(errno.into()))?;
    if plan.steps.iter().any(|step| !matches!(step.action, Action::ImageMode | Action::CheckType)) {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", staging, "tmpfs", flags, c"mode=700")
            .map_err(|errno| failed("mount a tmpfs at", staging)(errno.into()))?;
        plan.staging = Some(staging.to_owned());
    }
    for (index, tree, propagation) in trees {
        stage(plan, index, &tree, propagation)?;
    }
    Ok(())
}

/// Finishes the plan once the root file system is mounted and volumes are
/// filled: resolves volume subpaths, takes tmpfs modes from the image, and
/// refuses to cover a file with a directory or the reverse.
///
/// # Errors
/// A missing subpath, a mismatch, or what the kernel refuses.
pub fn attach(plan: &mut Plan, root: BorrowedFd<'_>) -> Result<(), MountsError> {
    for step in plan.steps.clone() {
        match step.action {
            Action::Subpath { volume, subpath } => attach_subpath(plan, step.index, &volume, &subpath)?,
            Action::Copy(file) => copy_file(plan, step.index, &file)?,
            Action::Image(image) => attach_image(plan, step.index, &image)?,
            Action::ImageMode => image_mode(plan, step.index, root),
            Action::CheckType => check_type(plan, step.index, root)?,
            Action::Propagate { .. } | Action::ShmOf { .. } => {}
        }
    }
    Ok(())
}

/// As runc: `slave` needs a mount that receives, `shared` one that also sends.
fn check_propagation(source: &Path, propagation: Propagation) -> Result<(), MountsError> {
    let wrong = |wanted| Err(MountsError::NotShared { path: source.to_owned(), wanted });
    let fields = propagation_of(source).map_err(failed("look up the mount of", source))?;
    let shared = fields.contains("shared:");
    match propagation {
        Propagation::Shared | Propagation::Rshared if !shared => wrong("a shared mount"),
        Propagation::Slave | Propagation::Rslave if !shared && !fields.contains("master:") => {
            wrong("a shared or slave mount")
        }
        _ => Ok(()),
    }
}

/// The optional fields of the source's line in mountinfo (proc_pid_mountinfo(5)).
fn propagation_of(source: &Path) -> io::Result<String> {
    let statx = rustix::fs::statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID)?;
    let id = statx.stx_mnt_id.to_string();
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let line = table.lines().find(|line| line.split(' ').next() == Some(&id));
    let fields = line.map(|line| line.split(' ').skip(6).take_while(|field| *field != "-").collect::<Vec<_>>());
    Ok(fields.unwrap_or_default().join(" "))
}

fn clone_path(path: &Path, recursive: bool) -> Result<OwnedFd, MountsError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags).map_err(|errno| failed("copy the mount of", path)(errno.into()))
}

/// `/dev/shm` of the container with that IPC namespace (`/proc/<pid>/ns/ipc`), entered for a moment to copy it.
fn shm_of(ipc: &Path) -> Result<OwnedFd, MountsError> {
    let open = |path: &Path| fs::File::open(path).map_err(failed("open", path));
    let own = open(Path::new("/proc/thread-self/ns/mnt"))?;
    let other = open(&ipc.with_file_name("mnt"))?;
    let enter = |namespace: &fs::File| {
        setns(namespace, CloneFlags::CLONE_NEWNS)
            .map_err(|errno| failed("join the mount namespace beside", ipc)(errno.into()))
    };
    enter(&other)?;
    let tree = clone_path(Path::new("/dev/shm"), false);
    enter(&own)?;
    tree
}

/// Mounts a detached tree below the staging directory and makes it the source of the mount at `index`.
fn stage(plan: &mut Plan, index: usize, tree: &OwnedFd, propagation: Option<Propagation>) -> Result<(), MountsError> {
    let Some(place) = plan.staging.as_ref().map(|staging| staging.join(index.to_string())) else { return Ok(()) };
    let is_directory = is_directory(tree).map_err(failed("examine the source of", &place))?;
    let made = if is_directory { fs::create_dir(&place) } else { fs::File::create(&place).map(drop) };
    made.map_err(failed("create", &place))?;
    move_mount(tree.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| failed("mount at", &place)(errno.into()))?;
    let change = match propagation {
        Some(Propagation::Slave) => Some(MountPropagationFlags::DOWNSTREAM),
        Some(Propagation::Rslave) => Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC),
        _ => None,
    };
    if let Some(change) = change {
        mount_change(&place, change).map_err(|errno| failed("make a slave", &place)(errno.into()))?;
    }
    set_source(plan, index, place);
    Ok(())
}

/// A volume's content is a container's: the path in it is resolved once, to a descriptor that cannot lead out.
fn attach_subpath(plan: &mut Plan, index: usize, volume: &str, subpath: &str) -> Result<(), MountsError> {
    let failed =
        |source: io::Error| MountsError::Subpath { volume: volume.to_owned(), subpath: subpath.to_owned(), source };
    let root = plan.mounts.get(index).and_then(|mount| mount.source().clone()).unwrap_or_default();
    let tree = subtree(&root, subpath).map_err(failed)?;
    stage(plan, index, &tree, None)
}

/// A copy of the mounts at a path below `root` that cannot lead out of it.
fn subtree(root: &Path, subpath: &str) -> io::Result<OwnedFd> {
    let root = rootfs::open_root(root)?;
    let place = open_in_root(root.as_fd(), Path::new(subpath), OFlags::PATH, Mode::empty())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(&place, "", flags)?)
}

/// The file in the staging tmpfs: never on a disk, and its owner and mode are not those of the host's file.
fn copy_file(plan: &mut Plan, index: usize, file: &FileCopy) -> Result<(), MountsError> {
    let Some(place) = plan.staging.as_ref().map(|staging| staging.join(index.to_string())) else { return Ok(()) };
    fs::copy(&file.source, &place).map_err(failed("copy to memory", &file.source))?;
    chown(&place, Some(file.uid), Some(file.gid)).map_err(failed("change the owner of", &place))?;
    fs::set_permissions(&place, fs::Permissions::from_mode(file.mode)).map_err(failed("change the mode of", &place))?;
    set_source(plan, index, place);
    Ok(())
}

/// The image below the staging directory, and of it what is wanted as the source of the mount at `index`.
fn attach_image(plan: &mut Plan, index: usize, image: &ImageMount) -> Result<(), MountsError> {
    let Some(place) = plan.staging.as_ref().map(|staging| staging.join(format!("image-{index}"))) else {
        return Ok(());
    };
    fs::create_dir(&place).map_err(failed("create", &place))?;
    let name = || image.image.clone();
    let mounted = match &image.scratch {
        None => rootfs::mount_image(&image.layers, &place),
        Some(scratch) => rootfs::mount_overlay(&Rootfs {
            layers: image.layers.clone(),
            upper: scratch.join("upper"),
            work: scratch.join("work"),
            merged: place.clone(),
            read_only: false,
        }),
    };
    mounted.map_err(|source| MountsError::Image { image: name(), source })?;
    if image.subpath.is_empty() {
        set_source(plan, index, place);
        return Ok(());
    }
    let tree = subtree(&place, &image.subpath).map_err(|source| MountsError::ImageSubpath {
        image: name(),
        subpath: image.subpath.clone(),
        source,
    })?;
    stage(plan, index, &tree, None)
}

fn set_source(plan: &mut Plan, index: usize, place: PathBuf) {
    if let Some(mount) = plan.mounts.get_mut(index) {
        mount.set_source(Some(place));
    }
}

fn image_mode(plan: &mut Plan, index: usize, root: BorrowedFd<'_>) {
    let Some(mount) = plan.mounts.get_mut(index) else { return };
    // A target that is missing gets the kernel's 1777.
    let Ok(place) = open_in_root(root, mount.destination(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) else {
        return;
    };
    if let Ok(stat) = rustix::fs::fstat(&place) {
        let mut options = mount.options().clone().unwrap_or_default();
        options.push(format!("mode={:o}", stat.st_mode & 0o7777));
        mount.set_options(Some(options));
    }
}

fn check_type(plan: &Plan, index: usize, root: BorrowedFd<'_>) -> Result<(), MountsError> {
    let Some(mount) = plan.mounts.get(index) else { return Ok(()) };
    let target = mount.destination();
    let covered = |parent: &Path| parent != target && target.starts_with(parent);
    // Below another mount, the image does not say what will be there.
    if plan.mounts.iter().any(|other| covered(other.destination())) {
        return Ok(());
    }
    let Ok(place) = open_in_root(root, target, OFlags::PATH, Mode::empty()) else { return Ok(()) };
    let source = mount.source().clone().unwrap_or_default();
    let of_source = fs::metadata(&source).map_err(failed("open the mount source", &source))?.is_dir();
    let of_target = is_directory(&place).map_err(failed("examine the mount target", target))?;
    if of_source == of_target {
        return Ok(());
    }
    let kind = |is_directory| if is_directory { "directory" } else { "file" };
    Err(MountsError::TypeMismatch {
        path: source,
        source_kind: kind(of_source),
        target: target.display().to_string(),
        target_kind: kind(of_target),
    })
}

fn is_directory(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}
