//! Overlays on the real kernel, each in a mount namespace of its own thread, so
//! that nothing appears on the host and nothing is left.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount, mount_change};
use tempfile::TempDir;
use umiak_runtime::config::Rootfs;
use umiak_runtime::rootfs::{MAX_LAYERS, OverlayApi, RootfsError, mount_overlay, mount_overlay_with, mount_readonly};

/// Runs `work` in a thread with its own private mount namespace.
fn private<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        work()
    };
    match std::thread::scope(|scope| scope.spawn(run).join()) {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

struct Case {
    dir: TempDir,
    rootfs: Rootfs,
}

/// `count` layers, each with a file of its own and its number in `top`.
fn case(count: usize) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut layers = Vec::new();
    for number in 0..count {
        let layer = path(&format!("layers/{number}"));
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(format!("file{number}")), number.to_string()).unwrap();
        fs::write(layer.join("top"), number.to_string()).unwrap();
        layers.push(layer);
    }
    let rootfs = Rootfs { layers, upper: path("upper"), work: path("work"), merged: path("merged"), read_only: false };
    Case { dir, rootfs }
}

fn check(case: &Case, api: OverlayApi) {
    let Rootfs { layers, upper, merged, .. } = &case.rootfs;
    private(|| {
        mount_overlay_with(&case.rootfs, api)
            .unwrap_or_else(|error| panic!("{} layers, {api:?}: {error}", layers.len()));
        for number in 0..layers.len() {
            assert_eq!(fs::read_to_string(merged.join(format!("file{number}"))).unwrap(), number.to_string());
        }
        if !layers.is_empty() {
            assert_eq!(fs::read_to_string(merged.join("top")).unwrap(), "0", "the first layer is the topmost");
        }
        fs::write(merged.join("written"), "w").unwrap();
        assert_eq!(fs::read_to_string(upper.join("written")).unwrap(), "w");
        assert!(mounts().contains(merged.to_str().unwrap()));
    });
    assert!(!mounts().contains(merged.to_str().unwrap()), "the host does not see it");
    assert!(!merged.join("written").exists());
}

#[test]
fn both_ways_join_any_number_of_layers() {
    for count in [0, 1, 2, 3, 127] {
        for api in [OverlayApi::Auto, OverlayApi::New, OverlayApi::Classic] {
            check(&case(count), api);
        }
    }
}

#[test]
fn the_kernels_maximum_fits_even_into_one_page() {
    for api in [OverlayApi::New, OverlayApi::Classic] {
        check(&case(MAX_LAYERS), api);
    }
    let error = mount_overlay(&case(MAX_LAYERS + 1).rootfs).unwrap_err();
    assert_eq!(error.to_string(), "the image has 501 layers, overlayfs stacks at most 500");
}

#[test]
fn paths_may_be_long_and_hold_the_option_separators() {
    let mut case = case(2);
    let odd = case.dir.path().join("a,b:c\\d e").join("x".repeat(200)).join("y".repeat(200));
    fs::create_dir_all(odd.join("layer")).unwrap();
    fs::write(odd.join("layer/odd"), "").unwrap();
    case.rootfs.layers.push(odd.join("layer"));
    case.rootfs.upper = odd.join("upper");
    case.rootfs.work = odd.join("work");
    for api in [OverlayApi::New, OverlayApi::Classic] {
        private(|| {
            mount_overlay_with(&case.rootfs, api).unwrap();
            assert!(case.rootfs.merged.join("odd").exists());
            fs::write(case.rootfs.merged.join("new"), "").unwrap();
        });
        assert!(odd.join("upper/new").exists());
    }
}

#[test]
fn a_second_start_finds_what_the_first_wrote() {
    let case = case(2);
    private(|| {
        mount_overlay(&case.rootfs).unwrap();
        fs::write(case.rootfs.merged.join("kept"), "1").unwrap();
        fs::remove_file(case.rootfs.merged.join("file1")).unwrap();
    });
    private(|| {
        mount_overlay(&case.rootfs).unwrap();
        assert!(case.rootfs.merged.join("kept").exists());
        assert!(!case.rootfs.merged.join("file1").exists(), "a removed file stays removed");
    });
    assert!(case.rootfs.layers[1].join("file1").exists(), "and the layer untouched");
}

#[test]
fn the_root_keeps_mode_and_owner_of_the_image() {
    let case = case(2);
    let top = &case.rootfs.layers[0];
    std::os::unix::fs::chown(top, Some(7), Some(8)).unwrap();
    fs::set_permissions(top, fs::Permissions::from_mode(0o2751)).unwrap();
    private(|| {
        mount_overlay(&case.rootfs).unwrap();
        let meta = fs::metadata(&case.rootfs.merged).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o2751, 7, 8));
    });
}

#[test]
fn a_missing_layer_is_named() {
    let mut case = case(1);
    case.rootfs.layers.push(PathBuf::from("/nonexistent/layer"));
    for api in [OverlayApi::New, OverlayApi::Classic] {
        let error = private(|| mount_overlay_with(&case.rootfs, api)).unwrap_err();
        assert_eq!(error.to_string(), "open the image layer /nonexistent/layer");
    }
}

#[test]
fn a_file_system_that_cannot_hold_the_upper_is_named_with_what_to_do() {
    for api in [OverlayApi::New, OverlayApi::Classic] {
        let outer = case(2);
        let mut inner = case(2);
        let error = private(|| {
            mount_overlay(&outer.rootfs).unwrap();
            inner.rootfs.upper = outer.rootfs.merged.join("upper");
            inner.rootfs.work = outer.rootfs.merged.join("work");
            mount_overlay_with(&inner.rootfs, api).unwrap_err()
        });
        assert!(matches!(error, RootfsError::UpperFileSystem { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("lies on overlayfs") && text.contains("--root"), "{text}");
    }
}

#[test]
fn a_tmpfs_holds_a_writable_layer() {
    let mut case = case(2);
    let tmpfs = case.dir.path().join("tmpfs");
    fs::create_dir(&tmpfs).unwrap();
    case.rootfs.upper = tmpfs.join("upper");
    case.rootfs.work = tmpfs.join("work");
    private(|| {
        mount("tmpfs", &tmpfs, "tmpfs", rustix::mount::MountFlags::empty(), c"size=1m").unwrap();
        mount_overlay(&case.rootfs).unwrap();
        fs::remove_file(case.rootfs.merged.join("file0")).unwrap();
        assert!(!case.rootfs.merged.join("file0").exists());
    });
}

#[test]
fn a_readonly_view_shows_and_changes_nothing() {
    for count in [0, 1, 2, 5] {
        let case = case(count);
        let view = case.dir.path().join("view");
        fs::create_dir(&view).unwrap();
        private(|| {
            mount_readonly(&case.rootfs.layers, &view).unwrap();
            for number in 0..count {
                assert!(view.join(format!("file{number}")).exists());
            }
            let error = fs::write(view.join("new"), "").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{count} layers");
            let line = mounts().lines().find(|line| line.contains(view.to_str().unwrap())).unwrap().to_owned();
            for flag in ["ro", "nosuid", "nodev", "noexec"] {
                assert!(line.split([' ', ',']).any(|word| word == flag), "{flag}: {line}");
            }
        });
    }
}

#[test]
fn names_resolve_inside_the_root_only() {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsFd as _;
    use umiak_runtime::rootfs::{open_in_root, open_root};
    let case = case(1);
    let root_path = &case.rootfs.layers[0];
    symlink("/top", root_path.join("absolute")).unwrap();
    symlink("../../../../top", root_path.join("up")).unwrap();
    symlink("/proc/self/root", root_path.join("proc")).unwrap();
    let root = open_root(root_path).unwrap();
    let open = |path: &str| open_in_root(root.as_fd(), Path::new(path), OFlags::PATH, Mode::empty());
    let inode = fs::metadata(root_path.join("top")).unwrap().ino();
    for path in ["top", "/top", "absolute", "up", "../../top", "//./top"] {
        assert_eq!(rustix::fs::fstat(open(path).unwrap()).unwrap().st_ino, inode, "{path}");
    }
    assert_eq!(rustix::fs::fstat(open("").unwrap()).unwrap().st_ino, fs::metadata(root_path).unwrap().ino());
    assert!(open("proc/etc/hostname").is_err());
}
