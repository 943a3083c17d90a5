//! The container's root file system: image layers and a writable layer joined
//! by overlayfs, and the one safe way to open what lies inside.
//!
//! [`mount_overlay`] works in the caller's mount namespace. The `create` child
//! has unshared its own before (see `crate::mounts::enter_namespace`), so the
//! host's mount table never shows a container's root.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_remount, move_mount,
};

use crate::config::Rootfs;

/// `OVL_MAX_STACK`: the kernel's own limit on lower layers.
pub const MAX_LAYERS: usize = 500;

/// `fsconfig(2)` copies strings of less than this many bytes.
const FSCONFIG_STRING_MAX: usize = 256;

/// What `mount(2)` copies of its data argument, terminating NUL included.
const MOUNT_DATA_MAX: usize = 4096;

/// Same answers on every kernel whatever its build's defaults are, and the
/// only ones under which a layer stays a plain tree that can be diffed: no
/// file handles in the index, no copy-up of metadata alone. `nofollow` also
/// keeps a layer's own `trusted.overlay.redirect` from pointing anywhere.
const OVERLAY_OPTIONS: [(&str, &str); 4] =
    [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow"), ("xino", "off")];

/// Why a root file system could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// More layers than overlayfs stacks.
    #[error("the image has {count} layers, overlayfs stacks at most {MAX_LAYERS}")]
    TooManyLayers {
        /// How many.
        count: usize,
    },
    /// A layer is missing or unreadable.
    #[error("open the image layer {path}")]
    Layer {
        /// The layer's directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A directory the overlay needs could not be made.
    #[error("create the directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// overlayfs cannot keep its writable layer on this file system.
    #[error(
        "the writable layer {path} lies on {file_system}, which overlayfs cannot write to: move the data root \
         (--root or UMIAK_ROOT) to ext4, xfs, btrfs or another local disk file system"
    )]
    UpperFileSystem {
        /// The upper directory.
        path: PathBuf,
        /// What it lies on.
        file_system: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel has no overlayfs and could not load it.
    #[error("this kernel has no overlayfs: load it with `modprobe overlay`")]
    NoOverlay {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// An overlay option or the mount itself was refused.
    #[error("mount the overlay at {path}{}", detail(.kernel))]
    Overlay {
        /// Where it was to be mounted.
        path: PathBuf,
        /// What the kernel said beside the number, where it said something.
        kernel: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A bind mount or a read-only view failed.
    #[error("mount {what} at {path}")]
    Mount {
        /// What was to be mounted.
        what: PathBuf,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

fn detail(kernel: &str) -> String {
    if kernel.is_empty() { String::new() } else { format!(" ({kernel})") }
}

/// Which system calls mount the overlay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OverlayApi {
    /// The new mount API where the kernel knows `lowerdir+` (6.8), else `mount(2)`.
    #[default]
    Auto,
    /// `fsopen`, `fsconfig`, `fsmount`, `move_mount` only.
    New,
    /// `mount(2)` only, as on older kernels.
    Classic,
}

/// Mounts the overlay of `rootfs` at its `merged` directory, in the caller's
/// mount namespace. `upper`, `work` and `merged` are made where missing; a new
/// `upper` takes mode and owner of the topmost layer's root, because it is what
/// the container sees as `/`.
///
/// The mount is writable even for a `read_only` container: mount points are
/// made inside it first, the runtime spec's `root.readonly` closes it after.
/// With no layers at all, `upper` alone is bound to `merged`.
///
/// # Errors
/// Too many layers, a missing layer, a file system that cannot hold the
/// writable layer, or whatever else the kernel refuses.
pub fn mount_overlay(rootfs: &Rootfs) -> Result<(), RootfsError> {
    mount_overlay_with(rootfs, OverlayApi::Auto)
}

/// As [`mount_overlay`], by the system calls asked for.
///
/// # Errors
/// As [`mount_overlay`]; with [`OverlayApi::New`] also on kernels before 6.8.
pub fn mount_overlay_with(rootfs: &Rootfs, api: OverlayApi) -> Result<(), RootfsError> {
    check_count(rootfs.layers.len())?;
    make_directories(rootfs)?;
    if rootfs.layers.is_empty() {
        return mount_bind(&rootfs.upper, &rootfs.merged).map_err(|error| RootfsError::Mount {
            what: rootfs.upper.clone(),
            path: rootfs.merged.clone(),
            source: error.into(),
        });
    }
    let stack = Stack {
        layers: &rootfs.layers,
        writable: Some((&rootfs.upper, &rootfs.work)),
        target: &rootfs.merged,
        attributes: MountAttrFlags::empty(),
    };
    stack.mount(api)
}

/// Mounts `layers` (topmost first) read-only at `target`, to look into an image
/// or a stopped container (whose `upper` is then the first layer). Nothing
/// below runs, opens as a device or gains privilege.
///
/// # Errors
/// As [`mount_overlay`].
pub fn mount_readonly(layers: &[PathBuf], target: &Path) -> Result<(), RootfsError> {
    mount_layers(layers, target, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)
}

/// Mounts `layers` (topmost first) read-only at `target`, for a container to use: its programs run, but nothing opens
/// as a device or gains privilege.
///
/// # Errors
/// As [`mount_overlay`].
pub fn mount_image(layers: &[PathBuf], target: &Path) -> Result<(), RootfsError> {
    mount_layers(layers, target, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV)
}

fn mount_layers(layers: &[PathBuf], target: &Path, flags: MountFlags) -> Result<(), RootfsError> {
    check_count(layers.len())?;
    let attributes = [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ];
    let attributes =
        attributes.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, attribute)| *attribute).collect();
    let failed = |what: &Path, error: Errno| RootfsError::Mount {
        what: what.to_owned(),
        path: target.to_owned(),
        source: error.into(),
    };
    match layers {
        [] => mount("tmpfs", target, "tmpfs", flags, c"mode=755,size=0").map_err(|e| failed(Path::new("tmpfs"), e)),
        // overlayfs wants two layers or a writable one.
        [layer] => {
            open_layer(layer)?;
            mount_bind(layer, target).map_err(|e| failed(layer, e))?;
            mount_remount(target, flags | MountFlags::BIND, "").map_err(|e| failed(layer, e))
        }
        layers => Stack { layers, writable: None, target, attributes }.mount(OverlayApi::Auto),
    }
}

fn check_count(count: usize) -> Result<(), RootfsError> {
    if count > MAX_LAYERS { Err(RootfsError::TooManyLayers { count }) } else { Ok(()) }
}

fn make_directories(rootfs: &Rootfs) -> Result<(), RootfsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RootfsError::Directory { path, source }
    };
    let make = |path: &Path, mode: u32| match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(source),
    };
    if make(&rootfs.upper, 0o755).map_err(failed(&rootfs.upper))? {
        let owner = rootfs
            .layers
            .first()
            .map(|top| std::fs::metadata(top).map_err(|source| RootfsError::Layer { path: top.clone(), source }));
        if let Some(owner) = owner {
            like(&rootfs.upper, &owner?).map_err(failed(&rootfs.upper))?;
        }
    }
    if !rootfs.layers.is_empty() {
        make(&rootfs.work, 0o700).map_err(failed(&rootfs.work))?;
    }
    make(&rootfs.merged, 0o755).map_err(failed(&rootfs.merged))?;
    Ok(())
}

/// Gives `path` the owner and mode in `meta`; the mode last, since chown clears setgid.
fn like(path: &Path, meta: &Metadata) -> io::Result<()> {
    std::os::unix::fs::chown(path, Some(meta.uid()), Some(meta.gid()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(meta.mode() & 0o7777))
}

fn open_layer(path: &Path) -> Result<OwnedFd, RootfsError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| RootfsError::Layer { path: path.to_owned(), source: error.into() })
}

/// One overlay to mount.
struct Stack<'a> {
    layers: &'a [PathBuf],
    writable: Option<(&'a Path, &'a Path)>,
    target: &'a Path,
    attributes: MountAttrFlags,
}

/// The kernel is older than what [`Stack::mount_new`] needs.
struct TooOld;

impl Stack<'_> {
    fn mount(&self, api: OverlayApi) -> Result<(), RootfsError> {
        if api != OverlayApi::Classic {
            match self.mount_new()? {
                Ok(()) => return Ok(()),
                Err(TooOld) if api == OverlayApi::New => return Err(self.refused(Errno::NOSYS, String::new())),
                Err(TooOld) => {}
            }
        }
        self.mount_classic()
    }

    fn mount_new(&self) -> Result<Result<(), TooOld>, RootfsError> {
        let context = match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => context,
            Err(Errno::NODEV) => return Err(RootfsError::NoOverlay { source: Errno::NODEV.into() }),
            // A seccomp filter of a surrounding container may answer either.
            Err(Errno::NOSYS | Errno::PERM) => return Ok(Err(TooOld)),
            Err(error) => return Err(self.refused(error, String::new())),
        };
        let refused = |error| self.refused(error, kernel_log(&context));
        let mut held = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let name = short_name(layer, &mut held)?;
            match fsconfig_set_string(&context, "lowerdir+", &name) {
                Ok(()) => {}
                Err(Errno::INVAL) if index == 0 && is_unknown(&kernel_log(&context)) => return Ok(Err(TooOld)),
                Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP)) => {
                    return Err(RootfsError::Layer { path: layer.clone(), source: error.into() });
                }
                Err(error) => return Err(refused(error)),
            }
        }
        if let Some((upper, work)) = self.writable {
            for (key, path) in [("upperdir", upper), ("workdir", work)] {
                let name = short_name(path, &mut held)?;
                fsconfig_set_string(&context, key, &name).map_err(refused)?;
            }
        } else {
            fsconfig_set_flag(&context, "ro").map_err(refused)?;
        }
        for (key, value) in OVERLAY_OPTIONS {
            fsconfig_set_string(&context, key, value).map_err(refused)?;
        }
        fsconfig_set_string(&context, "source", "overlay").map_err(refused)?;
        if let Err(error) = fsconfig_create(&context) {
            let log = kernel_log(&context);
            // KERNEL(6.5): before it overlayfs took any option, and refused `lowerdir+` only here, without a word in the log.
            let too_old = error == Errno::INVAL && log.is_empty();
            return if too_old { Ok(Err(TooOld)) } else { Err(self.refused(error, log)) };
        }
        let tree = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes).map_err(refused)?;
        move_mount(tree.as_fd(), "", CWD, self.target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(refused)?;
        Ok(Ok(()))
    }

    /// `mount(2)` takes one page of options, so every directory is named by a descriptor: that also
    /// makes colons, commas and backslashes in paths harmless.
    fn mount_classic(&self) -> Result<(), RootfsError> {
        let mut held = self.layers.iter().map(|layer| open_layer(layer)).collect::<Result<Vec<_>, _>>()?;
        if let Some((upper, work)) = self.writable {
            held.push(open_layer(upper)?);
            held.push(open_layer(work)?);
        }
        let absolute = self.options(&held, "/proc/self/fd/");
        let flags = if self.writable.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
        let flags = flags | classic_flags(self.attributes);
        let result = if absolute.len() < MOUNT_DATA_MAX {
            self.mount_with_data(&absolute, self.target, flags)
        } else {
            self.mount_from_descriptors(&self.options(&held, ""), flags)
        };
        result.map_err(|error| match error {
            Errno::NODEV => RootfsError::NoOverlay { source: error.into() },
            error => self.refused(error, String::new()),
        })
    }

    /// More layers than fit with absolute names: with /proc/self/fd as the working directory, a name is a number.
    fn mount_from_descriptors(&self, options: &str, flags: MountFlags) -> rustix::io::Result<()> {
        let target = rustix::fs::open(self.target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let before = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::process::chdir("/proc/self/fd")?;
        let result = self.mount_with_data(options, Path::new(&target.as_raw_fd().to_string()), flags);
        rustix::process::fchdir(before)?;
        result
    }

    fn mount_with_data(&self, options: &str, target: &Path, flags: MountFlags) -> rustix::io::Result<()> {
        let data = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        mount("overlay", target, "overlay", flags, data.as_c_str())
    }

    fn options(&self, held: &[OwnedFd], prefix: &str) -> String {
        let name = |fd: &OwnedFd| format!("{prefix}{}", fd.as_raw_fd());
        let (lower, writable) = held.split_at(self.layers.len());
        let mut options = format!("lowerdir={}", lower.iter().map(name).collect::<Vec<_>>().join(":"));
        if let [upper, work] = writable {
            options += &format!(",upperdir={},workdir={}", name(upper), name(work));
        }
        for (key, value) in OVERLAY_OPTIONS {
            options += &format!(",{key}={value}");
        }
        options
    }

    fn refused(&self, error: Errno, kernel: String) -> RootfsError {
        let on_upper = matches!(error, Errno::INVAL | Errno::NOTSUP | Errno::ROFS);
        if let Some((upper, _)) = self.writable.filter(|_| on_upper)
            && let Some(file_system) = unfit(upper)
        {
            return RootfsError::UpperFileSystem { path: upper.to_owned(), file_system, source: error.into() };
        }
        RootfsError::Overlay { path: self.target.to_owned(), kernel, source: error.into() }
    }
}

fn classic_flags(attributes: MountAttrFlags) -> MountFlags {
    let pairs = [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    ];
    pairs.iter().filter(|(attribute, _)| attributes.contains(*attribute)).map(|(_, flag)| *flag).collect()
}

/// The path itself, or a descriptor's name in /proc where it is too long for `fsconfig(2)`.
fn short_name(path: &Path, held: &mut Vec<OwnedFd>) -> Result<OsString, RootfsError> {
    if path.as_os_str().len() < FSCONFIG_STRING_MAX {
        return Ok(path.as_os_str().to_owned());
    }
    let fd = open_layer(path)?;
    let name = proc_name(&fd);
    held.push(fd);
    Ok(name.into_os_string())
}

/// Messages that the kernel queued on a file system context (`fsopen(2)`), newest last.
fn kernel_log(context: &OwnedFd) -> String {
    let mut log = Vec::new();
    let mut buffer = [0; 512];
    // One message a read; ENODATA ends it.
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        let message = buffer.get(..length).unwrap_or_default();
        let text = String::from_utf8_lossy(message.get(2..).unwrap_or_default());
        log.push(text.trim().trim_start_matches("overlay: ").to_owned());
    }
    log.join("; ")
}

fn is_unknown(log: &str) -> bool {
    // An empty log is a kernel too old to say it.
    log.is_empty() || log.to_ascii_lowercase().contains("unknown parameter")
}

/// The name of the file system below `upper` where it is one that overlayfs cannot write to.
fn unfit(upper: &Path) -> Option<&'static str> {
    // include/uapi/linux/magic.h
    let names: [(u32, &'static str); 11] = [
        (0x794c_7630, "overlayfs (inside a container?)"),
        (0x6969, "NFS"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "FUSE"),
        (0x4d44, "FAT"),
        (0x2011_bab0, "exFAT"),
        (0x7371_7368, "squashfs"),
        (0xe0f5_e1e2, "EROFS"),
        (0x8584_58f6, "ramfs (no extended attributes)"),
    ];
    let magic = rustix::fs::statfs(upper).ok()?.f_type;
    names.iter().find(|(number, _)| i64::from(*number) == magic).map(|(_, name)| *name)
}

/// Opens `path` as if `root` were `/`: symlinks, absolute ones too, and `..`
/// never leave it, whatever another process does to the tree meanwhile
/// (`openat2(2)`, `RESOLVE_IN_ROOT`). The empty path and `/` are `root` itself.
///
/// # Errors
/// The kernel's.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: a rename elsewhere raced with a `..` step.
    for _ in 0..128 {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens the directory that is a container's root.
///
/// # Errors
/// The kernel's.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// `/proc/self/fd/N`: to open an `O_PATH` descriptor's file for real, once its type is known.
pub(crate) fn proc_name(fd: &impl AsFd) -> PathBuf {
    let mut name = b"/proc/self/fd/".to_vec();
    name.extend_from_slice(fd.as_fd().as_raw_fd().to_string().as_bytes());
    PathBuf::from(OsString::from_vec(name))
}
