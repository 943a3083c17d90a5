//! Volumes on the real file system: their directories, the local driver's
//! mounts, and the copy of an image's content on first use.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat};
use rustix::mount::{MountPropagationFlags, mount_change};
use tempfile::TempDir;
use umiak_runtime::config::{Config, Mount, MountKind, Volume};
use umiak_runtime::rootfs::open_root;
use umiak_runtime::volumes::{Description, VolumeError, Volumes, copy_up, populate, valid_name};

struct Place {
    dir: TempDir,
    volumes: Volumes,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    let volumes = Volumes::new(dir.path().join("volumes"));
    Place { dir, volumes }
}

impl Place {
    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn volume(&self, name: &str) -> Volume {
        self.volumes.create(&Description { name: name.into(), ..Description::default() }).unwrap();
        Volume { name: name.into(), source: self.volumes.data(name).unwrap(), ..Volume::default() }
    }

    fn copy(&self, volume: &Volume, target: &str, container: &str) -> Result<bool, VolumeError> {
        copy_up(volume, target, container, open_root(&self.root()).unwrap().as_fd())
    }
}

/// What is in a directory, by name; the volume's own bookkeeping is beside it.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Mode, owner, size, links, device number and modification time.
fn facts(path: &Path) -> (u32, u32, u32, u64, u64, u64, i64, i64) {
    let meta = fs::symlink_metadata(path).unwrap();
    let size = if meta.is_dir() { 0 } else { meta.size() };
    let links = if meta.is_dir() { 0 } else { meta.nlink() };
    (meta.mode(), meta.uid(), meta.gid(), size, links, meta.rdev(), meta.mtime(), meta.mtime_nsec())
}

fn set_time(path: &Path) {
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_first_use_of_a_volume_copies_everything_about_the_image_s_files() {
    let place = place();
    let data = place.root().join("data");
    fs::create_dir_all(data.join("dir/deep")).unwrap();
    fs::write(data.join("file"), "content").unwrap();
    fs::hard_link(data.join("file"), data.join("dir/same")).unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    symlink("nowhere", data.join("dangling")).unwrap();
    fs::write(data.join("setuid"), "x").unwrap();
    let sparse = fs::File::create(data.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 32 << 20).unwrap();
    for (name, kind, mode, device) in [
        ("null", FileType::CharacterDevice, 0o622, makedev(1, 3)),
        ("disk", FileType::BlockDevice, 0o640, makedev(7, 0)),
        ("fifo", FileType::Fifo, 0o666, 0),
    ] {
        mknodat(CWD, data.join(name), kind, Mode::empty(), device).unwrap();
        set_mode(&data.join(name), mode);
    }
    for (name, uid) in [("file", 5), ("link", 6), ("setuid", 7), ("dir/deep", 8), ("null", 9)] {
        std::os::unix::fs::lchown(data.join(name), Some(uid), Some(uid + 100)).unwrap();
    }
    set_mode(&data.join("setuid"), 0o6755);
    set_mode(&data.join("dir/deep"), 0o1700);
    rustix::fs::setxattr(data.join("file"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    // cap_net_raw+ep, in the kernel's second format (include/uapi/linux/capability.h).
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(data.join("setuid"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    chown(&data, Some(70), Some(71)).unwrap();
    set_mode(&data, 0o2750);
    let all =
        ["file", "dir/same", "link", "dangling", "setuid", "sparse", "null", "disk", "fifo", "dir/deep", "dir", ""];
    for name in all {
        set_time(&data.join(name));
    }

    let volume = place.volume("v");
    assert!(place.copy(&volume, "/data", "c1").unwrap());
    for name in all {
        let (from, to) = (data.join(name), volume.source.join(name));
        assert_eq!(facts(&to), facts(&from), "{name:?}");
    }
    assert_eq!(fs::read(volume.source.join("dir/same")).unwrap(), b"content");
    let inode = |name: &str| fs::metadata(volume.source.join(name)).unwrap().ino();
    assert_eq!(inode("file"), inode("dir/same"));
    assert_eq!(fs::read_link(volume.source.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(fs::metadata(volume.source.join("sparse")).unwrap().blocks() * 512 < 1 << 20, "holes stay holes");
    assert_eq!(fs::read(data.join("sparse")).unwrap(), fs::read(volume.source.join("sparse")).unwrap());
    let mut value = [0; 20];
    assert_eq!(rustix::fs::getxattr(volume.source.join("file"), "user.note", &mut value).unwrap(), 4);
    assert_eq!(rustix::fs::getxattr(volume.source.join("setuid"), "security.capability", &mut value).unwrap(), 20);
    assert_eq!(value, capability);
    assert_eq!(names(volume.source.parent().unwrap()), ["_data", "lock", "populated", "volume.json"]);
}

#[test]
fn only_an_empty_volume_is_filled_and_once_for_each_container() {
    let place = place();
    let data = place.root().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "image").unwrap();
    let volume = place.volume("v");
    fs::write(volume.source.join("own"), "").unwrap();
    assert!(!place.copy(&volume, "/data", "c1").unwrap());
    assert_eq!(names(&volume.source), ["own"]);
    fs::remove_file(volume.source.join("own")).unwrap();
    assert!(place.copy(&volume, "/data", "c1").unwrap());
    fs::remove_file(volume.source.join("file")).unwrap();
    set_mode(&volume.source, 0o700);
    assert!(!place.copy(&volume, "/data", "c1").unwrap(), "a restart");
    assert_eq!(fs::metadata(&volume.source).unwrap().mode() & 0o7777, 0o700);
    assert!(place.copy(&volume, "/data", "c2").unwrap(), "a new container");
    assert_eq!(names(&volume.source), ["file"]);
}

#[test]
fn an_empty_directory_gives_its_owner_and_a_missing_one_nothing() {
    let place = place();
    let data = place.root().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(999), Some(998)).unwrap();
    set_mode(&data, 0o700);
    let volume = place.volume("v");
    assert!(!place.copy(&volume, "/data", "c").unwrap());
    let meta = fs::metadata(&volume.source).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (999, 998, 0o700));
    let other = place.volume("w");
    fs::write(place.root().join("file"), "").unwrap();
    for target in ["/nope", "/file", "/file/x"] {
        assert!(!place.copy(&other, target, "c").unwrap());
    }
    assert_eq!(fs::metadata(&other.source).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn nothing_outside_the_root_is_copied_whatever_the_image_says() {
    let place = place();
    let outside = place.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "secret").unwrap();
    fs::create_dir_all(place.root().join("in/side")).unwrap();
    fs::write(place.root().join("in/side/file"), "inside").unwrap();
    symlink(&outside, place.root().join("absolute")).unwrap();
    symlink("../outside", place.root().join("relative")).unwrap();
    symlink("../../../../../../../..", place.root().join("up")).unwrap();
    symlink("/in", place.root().join("within")).unwrap();
    symlink("loop", place.root().join("loop")).unwrap();
    symlink(&outside, place.root().join("in/side/link")).unwrap();
    let up = format!("/../../..{}", outside.display());
    let through = format!("/up{}", outside.display());
    for (number, target) in
        ["/absolute", "/relative", "/../outside", up.as_str(), through.as_str()].into_iter().enumerate()
    {
        let volume = place.volume(&format!("v{number}"));
        assert!(!place.copy(&volume, target, "c").unwrap(), "{target}");
        assert!(names(&volume.source).is_empty());
    }
    let volume = place.volume("within");
    assert!(place.copy(&volume, "/within/side", "c").unwrap());
    assert_eq!(names(&volume.source), ["file", "link"]);
    assert_eq!(fs::read_link(volume.source.join("link")).unwrap(), outside, "a link is copied, not what it names");
    let volume = place.volume("loop");
    assert!(matches!(place.copy(&volume, "/loop", "c"), Err(VolumeError::Copy { .. })));
    assert_eq!(names(&outside), ["canary"]);
}

#[test]
fn a_crash_midway_is_made_good() {
    let place = place();
    let data = place.root().join("data");
    fs::create_dir_all(data.join("dir")).unwrap();
    fs::write(data.join("dir/a"), "a").unwrap();
    fs::write(data.join("b"), "b").unwrap();
    // While copying: what is aside is worth nothing.
    let volume = place.volume("v");
    let beside = |name: &str| volume.source.with_file_name(name);
    fs::create_dir_all(beside("_copying/half")).unwrap();
    assert!(place.copy(&volume, "/data", "c").unwrap());
    assert_eq!(names(&volume.source), ["b", "dir"]);
    // While moving: the rest is moved, even though the volume is not empty any more.
    fs::create_dir(beside("_copied")).unwrap();
    set_mode(&beside("_copied"), 0o711);
    fs::rename(volume.source.join("dir"), beside("_copied/dir")).unwrap();
    assert!(!place.copy(&volume, "/data", "c").unwrap());
    assert_eq!(names(&volume.source), ["b", "dir"]);
    assert_eq!(fs::read(volume.source.join("dir/a")).unwrap(), b"a");
    assert_eq!(fs::metadata(&volume.source).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(names(volume.source.parent().unwrap()), ["_data", "lock", "populated", "volume.json"]);
}

#[test]
fn a_bottomless_directory_is_an_error_and_leaves_the_volume_empty() {
    let place = place();
    let mut deep = place.root().join("data");
    fs::create_dir(&deep).unwrap();
    for _ in 0..450 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    let volume = place.volume("v");
    assert!(matches!(place.copy(&volume, "/data", "c"), Err(VolumeError::Copy { .. })));
    assert_eq!(names(volume.source.parent().unwrap()), ["_data", "lock", "volume.json"]);
    assert!(names(&volume.source).is_empty());
}

#[test]
fn volumes_are_made_listed_and_removed() {
    let place = place();
    assert!(place.volumes.list().unwrap().is_empty());
    let description = |name: &str| Description { name: name.into(), ..Description::default() };
    let labelled =
        Description { labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]), ..description("web_data.1") };
    assert!(place.volumes.create(&labelled).unwrap());
    assert!(!place.volumes.create(&description("web_data.1")).unwrap(), "it is there already");
    assert!(place.volumes.create(&description("db")).unwrap());
    let list: Vec<Description> = place.volumes.list().unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(list, [description("db"), labelled.clone()]);
    assert_eq!(place.volumes.get("web_data.1").unwrap(), Some(labelled));
    fs::write(place.volumes.data("db").unwrap().join("x"), "").unwrap();
    place.volumes.remove("db").unwrap();
    assert_eq!(place.volumes.get("db").unwrap(), None);
    assert_eq!(place.volumes.remove("db").unwrap_err().to_string(), "no such volume: db");
    assert_eq!(names(&place.dir.path().join("volumes")), ["web_data.1"]);
    let driver_opts = BTreeMap::from([("device".to_owned(), "/x".to_owned()), ("o".to_owned(), "bind".to_owned())]);
    let other = Description { driver_opts, ..description("web_data.1") };
    assert!(matches!(place.volumes.create(&other), Err(VolumeError::Conflict { .. })));
    fs::write(place.dir.path().join("volumes/web_data.1/volume.json"), "{").unwrap();
    assert!(place.volumes.list().unwrap()[0].as_ref().unwrap_err().to_string().contains("web_data.1"));
    place.volumes.remove("web_data.1").unwrap();
    assert!(names(&place.dir.path().join("volumes")).is_empty());
}

#[test]
fn names_are_docker_s() {
    for name in ["a", "0", "web_data", "a.b-c_d", "A1", &"x".repeat(255)] {
        assert!(valid_name(name), "{name}");
    }
    let place = place();
    for name in ["", ".", "..", ".a", "-a", "_a", "a/b", "../x", "a b", "a\0", "é", "a\n", &"x".repeat(256)] {
        assert!(!valid_name(name), "{name}");
        let description = Description { name: name.into(), ..Description::default() };
        assert!(matches!(place.volumes.create(&description), Err(VolumeError::Name { .. })));
        assert!(matches!(place.volumes.remove(name), Err(VolumeError::Name { .. })));
        assert!(matches!(place.volumes.data(name), Err(VolumeError::Name { .. })));
    }
}

#[test]
fn many_commands_may_make_the_same_volume_at_once() {
    let place = place();
    let description = Description { name: "v".into(), ..Description::default() };
    let made: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| usize::from(place.volumes.create(&description).unwrap()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(made, 1);
    assert_eq!(names(&place.dir.path().join("volumes")), ["v"]);
}

/// Runs `work` in a thread with its own mount namespace.
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

#[test]
fn driver_options_are_mounted_for_the_container_only() {
    let place = place();
    let elsewhere = place.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(place.root().join("data")).unwrap();
    fs::write(place.root().join("data/file"), "image").unwrap();
    let device = elsewhere.to_str().unwrap();
    type Options<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, Options<'_>, bool)] = &[
        ("bound", &[("type", "none"), ("o", "bind"), ("device", device)], true),
        ("readonly", &[("o", "bind,ro"), ("device", device)], false),
        ("memory", &[("type", "tmpfs"), ("o", "size=1m,mode=750"), ("device", "tmpfs")], true),
    ];
    for (name, options, filled) in cases {
        let driver_opts = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        place.volumes.create(&Description { name: (*name).into(), driver_opts, ..Description::default() }).unwrap();
        let volume = place.volume(name);
        let source = volume.source.clone();
        let mounts = vec![Mount { target: "/data".into(), kind: MountKind::Volume(volume), read_only: false }];
        let config = Config { id: format!("c-{name}"), mounts, ..Config::default() };
        private(|| {
            populate(&config, open_root(&place.root()).unwrap().as_fd()).unwrap();
            assert_eq!(names(&source), if *filled { vec!["file"] } else { vec![] }, "{name}");
        });
        assert!(names(&source).is_empty(), "the host sees no mount");
        let _ = fs::remove_file(elsewhere.join("file"));
    }
    let driver_opts = BTreeMap::from([("o".into(), "bind".into()), ("device".into(), "/nonexistent".into())]);
    place.volumes.create(&Description { name: "broken".into(), driver_opts, ..Description::default() }).unwrap();
    let kind = MountKind::Volume(place.volume("broken"));
    let config = Config { mounts: vec![Mount { target: "/data".into(), kind, read_only: false }], ..Config::default() };
    let error = private(|| populate(&config, open_root(&place.root()).unwrap().as_fd())).unwrap_err();
    assert_eq!(error.to_string(), "mount volume broken from /nonexistent");
}
