//! Mount plans carried out in a namespace of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use tempfile::TempDir;
use umiak_runtime::config::{Bind, Config, Mount, MountKind, Propagation, Tmpfs, Volume};
use umiak_runtime::mounts::{MountsError, Plan, attach, enter_namespace, plan, prepare_sources};
use umiak_runtime::rootfs::open_root;

/// Runs `work` in a thread with its own mount namespace that plays the host.
fn host<T: Send>(work: impl FnOnce() -> T + Send) -> T {
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

struct Dirs {
    _dir: TempDir,
    root: PathBuf,
    source: PathBuf,
    staging: PathBuf,
}

fn dirs() -> Dirs {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    Dirs { root: make("root"), source: make("source"), staging: make("staging"), _dir: dir }
}

fn bind(source: &Path, target: &str, propagation: Propagation) -> Mount {
    let kind = MountKind::Bind(Bind { source: source.into(), propagation, ..Bind::default() });
    Mount { target: target.into(), kind, read_only: false }
}

fn planned(mounts: Vec<Mount>) -> Plan {
    plan(&Config { mounts, ..Config::default() }, Vec::new()).unwrap()
}

fn source_of(plan: &Plan, target: &str) -> PathBuf {
    let found = plan.mounts.iter().find(|mount| mount.destination() == Path::new(target)).unwrap();
    found.source().clone().unwrap()
}

fn tmpfs(path: &Path) {
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
}

/// Whether a mount that the host makes below a bind's source afterwards is seen through the bind, and the reverse.
fn propagates(propagation: Propagation) -> (bool, bool) {
    let dirs = dirs();
    host(|| {
        tmpfs(&dirs.source);
        mount_change(&dirs.source, MountPropagationFlags::SHARED).unwrap();
        for name in ["down", "up"] {
            fs::create_dir(dirs.source.join(name)).unwrap();
        }
        let mut plan = planned(vec![bind(&dirs.source, "/a", propagation)]);
        let host = fs::File::open("/proc/thread-self/ns/mnt").unwrap();
        enter_namespace(&mut plan, &dirs.staging).unwrap();
        let inside = source_of(&plan, "/a");
        tmpfs(&inside.join("up"));
        let own = fs::File::open("/proc/thread-self/ns/mnt").unwrap();
        nix::sched::setns(&host, CloneFlags::CLONE_NEWNS).unwrap();
        fs::write(dirs.source.join("up/probe"), "").unwrap();
        tmpfs(&dirs.source.join("down"));
        fs::write(dirs.source.join("down/probe"), "").unwrap();
        assert!(!dirs.staging.join("0").exists(), "the staging is the child's own");
        nix::sched::setns(&own, CloneFlags::CLONE_NEWNS).unwrap();
        // What the host wrote to `up` is seen in the tmpfs mounted there only if that reached the host.
        (inside.join("down/probe").exists(), inside.join("up/probe").exists())
    })
}

#[test]
fn propagation_is_what_was_asked_for() {
    assert_eq!(propagates(Propagation::Rprivate), (false, false));
    assert_eq!(propagates(Propagation::Rslave), (true, false));
    assert_eq!(propagates(Propagation::Rshared), (true, true));
}

#[test]
fn a_private_host_mount_cannot_be_shared() {
    let dirs = dirs();
    for (propagation, word) in
        [(Propagation::Rshared, "a shared mount"), (Propagation::Rslave, "a shared or slave mount")]
    {
        let error = host(|| {
            let mut plan = planned(vec![bind(&dirs.source, "/a", propagation)]);
            enter_namespace(&mut plan, &dirs.staging).unwrap_err()
        });
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn missing_sources_are_made_or_named() {
    let dirs = dirs();
    let missing = dirs.source.join("a/b");
    let error = prepare_sources(&[bind(&missing, "/a", Propagation::Rprivate)]).unwrap_err();
    assert_eq!(error.to_string(), format!("bind source path does not exist: {}", missing.display()));
    let kind = MountKind::Bind(Bind { source: missing.clone(), create_missing: true, ..Bind::default() });
    let mounts = [Mount { target: "/a".into(), kind, read_only: false }];
    prepare_sources(&mounts).unwrap();
    prepare_sources(&mounts).unwrap();
    assert!(missing.is_dir());
    fs::write(dirs.source.join("file"), "").unwrap();
    let below_a_file = bind(&dirs.source.join("file/x"), "/a", Propagation::Rprivate);
    assert!(prepare_sources(&[below_a_file]).unwrap_err().to_string().starts_with("open the bind source"));
}

fn volume(source: &Path, subpath: &str) -> Mount {
    let volume = Volume { name: "v".into(), source: source.into(), subpath: subpath.into(), ..Volume::default() };
    Mount { target: "/a".into(), kind: MountKind::Volume(volume), read_only: false }
}

#[test]
fn a_subpath_stays_inside_its_volume() {
    let dirs = dirs();
    fs::create_dir_all(dirs.source.join("sub/dir")).unwrap();
    fs::write(dirs.source.join("sub/dir/file"), "inside").unwrap();
    fs::create_dir_all(dirs.root.join("etc")).unwrap();
    fs::write(dirs.root.join("etc/secret"), "outside").unwrap();
    symlink(dirs.root.join("etc"), dirs.source.join("absolute")).unwrap();
    symlink("../root/etc", dirs.source.join("relative")).unwrap();
    symlink("/sub/dir", dirs.source.join("within")).unwrap();
    let attached = |subpath: &str| {
        host(|| {
            let mut plan = planned(vec![volume(&dirs.source, subpath)]);
            enter_namespace(&mut plan, &dirs.staging).unwrap();
            attach(&mut plan, open_root(&dirs.root).unwrap().as_fd())?;
            let source = source_of(&plan, "/a");
            Ok::<_, MountsError>(
                fs::read_to_string(source.join("file")).or_else(|_| fs::read_to_string(source)).unwrap(),
            )
        })
    };
    for subpath in ["sub/dir", "within", "sub/dir/file", "../../sub/dir"] {
        assert_eq!(attached(subpath).unwrap(), "inside", "{subpath}");
    }
    for subpath in ["absolute", "relative", "absolute/secret", "nope"] {
        assert!(matches!(attached(subpath), Err(MountsError::Subpath { .. })), "{subpath}");
    }
}

#[test]
fn a_file_does_not_cover_a_directory_and_a_tmpfs_keeps_the_images_mode() {
    let dirs = dirs();
    fs::write(dirs.source.join("file"), "").unwrap();
    fs::create_dir(dirs.root.join("a")).unwrap();
    fs::set_permissions(dirs.root.join("a"), fs::Permissions::from_mode(0o2750)).unwrap();
    symlink("/a", dirs.root.join("link")).unwrap();
    let root = open_root(&dirs.root).unwrap();
    let mut plan = planned(vec![bind(&dirs.source.join("file"), "/link", Propagation::Rprivate)]);
    let error = attach(&mut plan, root.as_fd()).unwrap_err();
    assert!(error.to_string().ends_with("at /link, which is a directory in the image"), "{error}");
    let tmpfs =
        |target: &str| Mount { target: target.into(), kind: MountKind::Tmpfs(Tmpfs::default()), read_only: false };
    let mut plan = planned(vec![tmpfs("/link"), tmpfs("/new")]);
    attach(&mut plan, root.as_fd()).unwrap();
    let options = |target: &str| {
        let found = plan.mounts.iter().find(|mount| mount.destination() == Path::new(target)).unwrap();
        found.options().clone().unwrap().join(",")
    };
    assert_eq!(options("/link"), "noexec,nosuid,nodev,mode=2750");
    assert_eq!(options("/new"), "noexec,nosuid,nodev");
}

#[test]
fn shm_is_taken_from_the_other_container() {
    let dirs = dirs();
    host(|| {
        // A stand-in for a container: its own mount namespace with a /dev/shm that nobody else sees.
        let script = "mount -t tmpfs shm /dev/shm && echo 42 >/dev/shm/probe && echo ready && exec sleep 60";
        let mut other = std::process::Command::new("unshare")
            .args(["--mount", "--ipc", "--propagation", "private", "sh", "-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let ipc = umiak_runtime::config::Namespace::Path(format!("/proc/{}/ns/ipc", other.id()).into());
        let mut plan = plan(&Config { ipc_ns: ipc, ..Config::default() }, Vec::new()).unwrap();
        let entered = enter_namespace(&mut plan, &dirs.staging);
        let probe = entered.map(|()| fs::read_to_string(source_of(&plan, "/dev/shm").join("probe")));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(probe.unwrap().unwrap(), "42\n");
        assert!(!Path::new("/dev/shm/probe").exists());
    });
}
