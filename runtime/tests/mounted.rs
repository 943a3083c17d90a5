//! Mounts as a container sees them: each option really takes effect.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "container/support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use support::Container;
use umiak_runtime::config::{Bind, Mount, MountKind, Namespace, Propagation, Recursive, Tmpfs, Volume};
use umiak_runtime::volumes::{Description, Volumes};

fn bind(source: &Path, target: &str) -> Mount {
    let kind = MountKind::Bind(Bind { source: source.into(), ..Bind::default() });
    Mount { target: target.into(), kind, read_only: false }
}

fn tmpfs(target: &str, tmpfs: Tmpfs) -> Mount {
    Mount { target: target.into(), kind: MountKind::Tmpfs(tmpfs), read_only: false }
}

fn source(container: &Container) -> PathBuf {
    let source = container.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "host\n").unwrap();
    source
}

fn run(container: Container, mounts: Vec<Mount>) -> String {
    container.with(|config| config.mounts = mounts).run().ok()
}

#[test]
fn files_and_directories_are_bound_where_nothing_was_before() {
    let container =
        Container::script("cat /new/place/file /etc/one; echo in >/new/place/written; readlink -f /run/x/file");
    let container = container.layer(|layer| {
        fs::create_dir(layer.join("real")).unwrap();
        symlink("/real", layer.join("run")).unwrap();
    });
    let source = source(&container);
    let mounts = vec![bind(&source.join("file"), "/etc/one"), bind(&source, "/new/place"), bind(&source, "/run/x")];
    let container = container.with(|config| config.mounts = mounts);
    let running = container.start();
    assert_eq!(running.wait().ok(), "host\nhost\n/real/x/file\n");
    assert_eq!(fs::read_to_string(source.join("written")).unwrap(), "in\n");
    assert!(!container.config.rootfs.merged.join("new").exists(), "nothing is left mounted on the host");
}

#[test]
fn nested_targets_lie_one_in_the_other() {
    let container = Container::script("ls /a /a/b /a/b/c");
    let source = source(&container);
    fs::create_dir_all(source.join("b")).unwrap();
    let inner = container.path("inner");
    fs::create_dir_all(inner.join("c")).unwrap();
    let mounts = vec![tmpfs("/a/b/c", Tmpfs::default()), bind(&inner, "/a/b"), bind(&source, "/a")];
    assert_eq!(run(container, mounts), "/a:\nb\nfile\n\n/a/b:\nc\n\n/a/b/c:\n");
}

#[test]
fn read_only_reaches_as_deep_as_asked_for() {
    for (recursive, top, below) in [
        (Recursive::Enabled, "ro", "ro"),
        (Recursive::Readonly, "ro", "ro"),
        (Recursive::Writable, "ro", "rw"),
        (Recursive::Disabled, "ro", "none"),
    ] {
        let container = Container::script(
            "for d in /a /a/sub; do if touch $d/x 2>/dev/null; then echo rw; elif [ -e $d/marker ]; then echo ro; else echo none; fi; done",
        );
        let source = source(&container);
        let below_it = container.path("below");
        for directory in [source.join("sub"), below_it.clone()] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(source.join("marker"), "").unwrap();
        fs::write(below_it.join("marker"), "").unwrap();
        let _mounted = Mounted::bind(&below_it, &source.join("sub"));
        let kind = MountKind::Bind(Bind { source, recursive, ..Bind::default() });
        let mounts = vec![Mount { target: "/a".into(), kind, read_only: true }];
        // Its directory is removed only after the mount in it.
        let container = container.with(|config| config.mounts = mounts);
        let output = container.start().wait().ok();
        assert_eq!(output, format!("{top}\n{below}\n"), "{recursive:?}");
    }
}

/// A bind mount on the host, below a test's own directory, for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    /// A tmpfs that takes part in propagation.
    fn shared(target: &Path) -> Self {
        rustix::mount::mount("tmpfs", target, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        rustix::mount::mount_change(target, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        Self(target.to_owned())
    }

    fn bind(source: &Path, target: &Path) -> Self {
        rustix::mount::mount_bind(source, target).unwrap();
        Self(target.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_mount_made_in_the_container_reaches_the_host_only_where_shared() {
    for (propagation, reaches) in
        [(Propagation::Rshared, true), (Propagation::Rslave, false), (Propagation::Rprivate, false)]
    {
        let container = Container::script("mount -t tmpfs x /a/sub && echo in >/a/sub/file && cat /a/sub/file");
        let source = source(&container);
        let _mounted = Mounted::shared(&source);
        fs::create_dir(source.join("sub")).unwrap();
        let kind = MountKind::Bind(Bind { source: source.clone(), propagation, ..Bind::default() });
        let mounts = vec![Mount { target: "/a".into(), kind, read_only: false }];
        let container = container.with(|config| (config.privileged, config.mounts) = (true, mounts));
        assert_eq!(container.start().wait().ok(), "in\n", "{propagation:?}");
        assert_eq!(source.join("sub/file").exists(), reaches, "{propagation:?}");
        if reaches {
            drop(Mounted(source.join("sub")));
        }
    }
}

#[test]
fn a_tmpfs_has_its_size_mode_owner_and_flags() {
    let container = Container::script(
        "stat -c '%a %u %g' /t /image /plain; grep -E ' /(t|image|plain) ' /proc/mounts | cut -d' ' -f2,4; \
         dd if=/dev/zero of=/t/fill bs=1k count=2000 2>/dev/null; stat -c %s /t/fill",
    );
    let container = container.layer(|layer| {
        fs::create_dir(layer.join("image")).unwrap();
        fs::set_permissions(layer.join("image"), fs::Permissions::from_mode(0o2750)).unwrap();
    });
    let full = Tmpfs { size: 1 << 20, mode: Some(0o751), uid: Some(3), gid: Some(4), options: vec!["exec".into()] };
    let output =
        run(container, vec![tmpfs("/t", full), tmpfs("/image", Tmpfs::default()), tmpfs("/plain", Tmpfs::default())]);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["751 3 4", "2750 0 0", "1777 0 0"]);
    let flags = |line: &str, target: &str| {
        line.strip_prefix(target).map(|flags| flags.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    };
    assert!(!flags(lines[3], "/t ").contains(&"noexec".to_owned()) && lines[3].contains("size=1024k"), "{output}");
    assert!(
        ["nosuid", "nodev", "noexec"].iter().all(|flag| flags(lines[4], "/image ").contains(&(*flag).to_owned())),
        "{output}"
    );
    assert_eq!(lines[6], "1048576", "the size holds");
}

#[test]
fn shm_has_its_size_and_is_shared_where_asked_for() {
    let size = |bytes| {
        Container::script("grep ' /dev/shm ' /proc/mounts | grep -o 'size=[0-9]*k'")
            .with(|config| config.shm_size = bytes)
            .run()
            .ok()
    };
    assert_eq!((size(0), size(1 << 20)), ("size=65536k\n".to_owned(), "size=1024k\n".to_owned()));
    let first = Container::script("echo 42 >/dev/shm/probe; sleep 60");
    let running = first.start();
    let ipc = PathBuf::from(format!("/proc/{}/ns/ipc", running.pid()));
    let second = Container::script("while ! [ -s /dev/shm/probe ]; do :; done; cat /dev/shm/probe");
    assert_eq!(second.with(|config| config.ipc_ns = Namespace::Path(ipc)).run().ok(), "42\n");
    first.cgroup().kill_all().unwrap();
    running.wait();
}

#[test]
fn a_volume_is_filled_kept_and_mounted_by_subpath() {
    let make = |script: &str| {
        Container::script(script).layer(|layer| {
            fs::create_dir_all(layer.join("data/sub")).unwrap();
            fs::write(layer.join("data/sub/file"), "image\n").unwrap();
            chown(layer.join("data"), Some(1000), Some(1000)).unwrap();
        })
    };
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path());
    volumes.create(&Description { name: "v".into(), ..Description::default() }).unwrap();
    let volume = |subpath: &str| {
        let volume = Volume {
            name: "v".into(),
            source: volumes.data("v").unwrap(),
            subpath: subpath.into(),
            ..Volume::default()
        };
        vec![Mount { target: "/data".into(), kind: MountKind::Volume(volume), read_only: false }]
    };
    let first =
        make("cat /data/sub/file; stat -c %u /data; touch /data/mine").with(|config| config.user = "1000".into());
    assert_eq!(run(first, volume("")), "image\n1000\n");
    assert_eq!(run(make("ls /data"), volume("")), "mine\nsub\n");
    assert_eq!(run(make("ls /data"), volume("sub")), "file\n");
    let reason = make("true").with(|config| config.mounts = volume("nope")).run().reason();
    assert!(reason.starts_with("open subpath \"nope\" of volume v"), "{reason}");
}

#[test]
fn what_cannot_be_mounted_says_why() {
    let reason = |mounts: Vec<Mount>| Container::script("true").with(|config| config.mounts = mounts).run().reason();
    let missing = Path::new("/nonexistent/source");
    assert_eq!(reason(vec![bind(missing, "/a")]), "bind source path does not exist: /nonexistent/source");
    assert!(reason(vec![bind(Path::new("/etc/hosts"), "/bin")]).contains("at /bin, which is a directory in the image"));
    assert!(reason(vec![bind(Path::new("/etc"), "/proc/self")]).starts_with("invalid mount target /proc/self"));
}
