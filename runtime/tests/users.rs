//! Users and groups from passwd and group files, honest and hostile. The
//! expected values are what Docker 28.5 answers for the same two files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tempfile::TempDir;
use umiak_runtime::rootfs::open_root;
use umiak_runtime::users::{User, UserError, resolve};

const PASSWD: &str = "\
# a comment
root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
bob:x:1001:100::/home/bob:/bin/sh
1234:x:2000:2000::/home/num:/bin/sh
nohome:x:1500:1500:::
short:x:1600
bad:x:abc:def::/:
huge:x:4294967296:0::/:
";

const GROUP: &str = "\
root:x:0:
wheel:x:10:root,alice
users:x:100:bob,alice
alice:x:1000:
extra:x:3000:alice,1234,bob
77:x:3077:
";

fn image() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
    fs::write(dir.path().join("etc/group"), GROUP).unwrap();
    dir
}

fn ask(root: &Path, spec: &str, group_add: &[&str]) -> Result<User, UserError> {
    let root = open_root(root).unwrap();
    let group_add: Vec<String> = group_add.iter().map(ToString::to_string).collect();
    resolve(root.as_fd(), spec, &group_add)
}

#[test]
fn specs_resolve_as_docker_resolves_them() {
    let image = image();
    let table: &[(&str, u32, u32, &[u32], &str)] = &[
        ("", 0, 0, &[0, 10], "/root"),
        (":", 0, 0, &[0, 10], "/root"),
        ("0", 0, 0, &[0, 10], "/root"),
        ("00", 0, 0, &[0, 10], "/root"),
        ("root", 0, 0, &[0, 10], "/root"),
        ("1", 1, 0, &[0], "/"),
        ("1:", 1, 0, &[0], "/"),
        ("01", 1, 0, &[0], "/"),
        ("+1", 1, 0, &[0], "/"),
        (":1", 0, 1, &[1], "/root"),
        (":extra", 0, 3000, &[3000], "/root"),
        ("0:77", 0, 77, &[77], "/root"),
        ("5:77", 5, 77, &[77], "/"),
        ("alice", 1000, 1000, &[1000, 10, 100, 3000], "/home/alice"),
        ("alice:", 1000, 1000, &[1000, 10, 100, 3000], "/home/alice"),
        ("1000", 1000, 1000, &[1000, 10, 100, 3000], "/home/alice"),
        ("+1000", 1000, 1000, &[1000, 10, 100, 3000], "/home/alice"),
        ("1000:1000", 1000, 1000, &[1000], "/home/alice"),
        ("1000:3000", 1000, 3000, &[3000], "/home/alice"),
        ("1000:extra", 1000, 3000, &[3000], "/home/alice"),
        ("alice:users", 1000, 100, &[100], "/home/alice"),
        ("bob", 1001, 100, &[100, 3000], "/home/bob"),
        ("1234", 1234, 0, &[0], "/"),
        ("2000", 2000, 2000, &[2000, 3000], "/home/num"),
        ("nohome", 1500, 1500, &[1500], "/"),
        ("1600", 1600, 0, &[0], "/"),
        ("2147483647", 2_147_483_647, 0, &[0], "/"),
    ];
    for (spec, uid, gid, groups, home) in table {
        let user = ask(image.path(), spec, &[]).unwrap_or_else(|error| panic!("{spec:?}: {error}"));
        assert_eq!(
            (user.uid, user.gid, user.groups.as_slice(), user.home.as_str()),
            (*uid, *gid, *groups, *home),
            "{spec:?}"
        );
    }
}

#[test]
fn what_cannot_be_resolved_is_refused_and_never_becomes_root() {
    let image = image();
    for spec in ["0x1", "1 ", " 1", "nope", "ROOT", " alice", "al ice", "99999999999999999999", "/etc/passwd"] {
        let error = ask(image.path(), spec, &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("unable to find user {spec}: no matching entries in passwd file"));
    }
    for (spec, group) in [("alice:nope", "nope"), ("1:1:1", "1:1"), ("0:0x1", "0x1")] {
        let error = ask(image.path(), spec, &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("unable to find group {group}: no matching entries in group file"));
    }
    for spec in ["-1", "4294967295", "4294967296", "2147483648", "1:-1", "1:4294967296", "1:2147483648", "huge"] {
        let error = ask(image.path(), spec, &[]).unwrap_err();
        assert!(matches!(error, UserError::Range { .. }), "{spec}: {error}");
    }
    // Docker reads an unreadable uid as 0.
    assert!(matches!(ask(image.path(), "bad", &[]), Err(UserError::NoUser { .. })));
}

#[test]
fn extra_groups_by_name_or_number() {
    let image = image();
    let groups = |add: &[&str]| ask(image.path(), "alice:users", add).map(|user| user.groups);
    assert_eq!(groups(&["wheel", "3000", "77", "+5", "wheel"]).unwrap(), [100, 10, 3000, 77, 5]);
    assert!(matches!(groups(&["nope"]), Err(UserError::NoGroup { .. })));
    assert!(matches!(groups(&["-1"]), Err(UserError::Range { id: -1 })));
    assert!(matches!(groups(&["4294967296"]), Err(UserError::Range { .. })));
}

#[test]
fn an_image_without_the_files_knows_numbers_only() {
    let empty = tempfile::tempdir().unwrap();
    let root = ask(empty.path(), "", &[]).unwrap();
    assert_eq!((root.uid, root.gid, root.groups.as_slice(), root.home.as_str()), (0, 0, [0].as_slice(), "/"));
    assert_eq!(ask(empty.path(), "7:8", &["9"]).unwrap().groups, [8, 9]);
    assert!(matches!(ask(empty.path(), "root", &[]), Err(UserError::NoUser { .. })));
    fs::write(empty.path().join("etc"), "a file").unwrap();
    assert_eq!(ask(empty.path(), "", &[]).unwrap().uid, 0);
}

/// Resolves in a thread and fails when that does not end: a hang must not hang the suite.
fn ask_bounded(root: &Path, spec: &'static str) -> Result<User, UserError> {
    let (sender, receiver) = mpsc::channel();
    let root = root.to_owned();
    std::thread::spawn(move || sender.send(ask(&root, spec, &[])));
    receiver.recv_timeout(Duration::from_secs(20)).expect("the lookup hangs")
}

#[test]
fn hostile_files_neither_hang_nor_lead_out_of_the_root() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "spy:x:4242:4242::/:\n").unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let cases: &[(&str, Make<'_>)] = &[
        ("fifo", &|path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap()),
        ("device", &|path| mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR, makedev(1, 5)).unwrap()),
        ("directory", &|path| fs::create_dir(path).unwrap()),
        ("sparse", &|path| fs::File::create(path).unwrap().set_len(2 << 30).unwrap()),
    ];
    for file in ["etc/passwd", "etc/group"] {
        for (case, make) in cases {
            let image = image();
            fs::remove_file(image.path().join(file)).unwrap();
            make(&image.path().join(file));
            let error = ask_bounded(image.path(), "alice").unwrap_err();
            let expected = matches!(error, UserError::NotRegular { .. } | UserError::TooLarge { .. });
            assert!(expected, "{file} {case}: {error}");
        }
        // A link resolves inside the root: /dev/zero and the outside file are not there.
        for target in [Path::new("/dev/zero"), outside.path(), Path::new("../../../../../../../../../../dev/zero")] {
            let image = image();
            fs::remove_file(image.path().join(file)).unwrap();
            symlink(target, image.path().join(file)).unwrap();
            assert_eq!(ask_bounded(image.path(), "0").unwrap().groups, [0]);
            assert!(matches!(ask_bounded(image.path(), "spy"), Err(UserError::NoUser { .. })));
        }
        let image = image();
        fs::remove_file(image.path().join(file)).unwrap();
        symlink("loop", image.path().join("etc/loop")).unwrap();
        symlink("loop", image.path().join(file)).unwrap();
        assert!(matches!(ask_bounded(image.path(), "alice"), Err(UserError::Read { .. })));
    }
}

#[test]
fn absolute_links_inside_the_root_are_followed() {
    let image = image();
    fs::create_dir_all(image.path().join("usr/lib")).unwrap();
    fs::rename(image.path().join("etc/passwd"), image.path().join("usr/lib/passwd")).unwrap();
    symlink("/usr/lib/passwd", image.path().join("etc/passwd")).unwrap();
    assert_eq!(ask(image.path(), "alice", &[]).unwrap().uid, 1000);
}

#[test]
fn endless_lines_and_binary_rubbish_are_read_over() {
    let image = image();
    let mut passwd = vec![b'x'; 8 << 20];
    passwd.extend_from_slice(b"\n\xff\xfe:x:0:0::/:\n\0\0\0\nalice:x:1000:1000::/home/alice:\n");
    fs::write(image.path().join("etc/passwd"), passwd).unwrap();
    assert_eq!(ask_bounded(image.path(), "alice").unwrap().uid, 1000);
}
