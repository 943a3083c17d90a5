//! What a layer becomes on the disk, and that it is what tar itself makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

mod harness;

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use harness::{Entry, archive, char_device, dir, file, hardlink, pax_record, raw, run, snapshot, symlink};
use umiak_images::unpack::{Limits, Unpacked, unpack};

fn unpacked(layer: &[u8]) -> (tempfile::TempDir, Unpacked) {
    let root = tempfile::tempdir().unwrap();
    let fd = OwnedFd::from(std::fs::File::open(root.path()).unwrap());
    let done = unpack(layer, fd, &Limits::default()).unwrap();
    (root, done)
}

fn meta(root: &Path, name: &str) -> std::fs::Metadata {
    std::fs::symlink_metadata(root.join(name)).unwrap()
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    Some(value[..length].to_vec())
}

#[test]
fn modes_owners_and_times() {
    let (root, done) = unpacked(&archive([
        dir("d").mode(0o1777).owner(1, 2).mtime(1_000),
        file("d/setuid", "x").mode(0o6755).owner(3, 4).mtime(2_000),
        file("d/root", "yy").mode(0o4755),
        file("d/open", "").mode(0o666),
        symlink("d/link", "nowhere").owner(5, 6).mtime(3_000),
        Entry::new(b'6', "d/pipe").mode(0o622).owner(7, 8).mtime(4_000),
        char_device("d/tty", 5, 0).mode(0o620).owner(0, 5),
        file("d/nanos", "").pax("mtime", "1.25").pax("uid", "2097152").pax("gid", "4294967294"),
        file("d/before", "").pax("mtime", "-1.5"),
    ]));
    let root = root.path();
    assert_eq!(done, Unpacked { entries: 9, bytes: 3 });
    let d = meta(root, "d");
    assert_eq!((d.mode() & 0o7777, d.uid(), d.gid(), d.mtime()), (0o1777, 1, 2, 1_000));
    let setuid = meta(root, "d/setuid");
    assert_eq!((setuid.mode() & 0o7777, setuid.uid(), setuid.gid(), setuid.mtime()), (0o6755, 3, 4, 2_000));
    assert_eq!(meta(root, "d/root").mode() & 0o7777, 0o4755);
    assert_eq!(meta(root, "d/open").mode() & 0o7777, 0o666);
    let link = meta(root, "d/link");
    assert_eq!((link.uid(), link.gid(), link.mtime()), (5, 6, 3_000));
    let pipe = meta(root, "d/pipe");
    assert!(pipe.file_type().is_fifo());
    assert_eq!((pipe.mode() & 0o7777, pipe.uid(), pipe.gid(), pipe.mtime()), (0o622, 7, 8, 4_000));
    let tty = meta(root, "d/tty");
    assert!(tty.file_type().is_char_device());
    assert_eq!((tty.mode() & 0o7777, tty.gid(), tty.rdev()), (0o620, 5, rustix::fs::makedev(5, 0)));
    let nanos = meta(root, "d/nanos");
    assert_eq!((nanos.mtime(), nanos.mtime_nsec()), (1, 250_000_000));
    assert_eq!((nanos.uid(), nanos.gid()), (2_097_152, 4_294_967_294));
    let before = meta(root, "d/before");
    assert_eq!((before.mtime(), before.mtime_nsec()), (-2, 500_000_000));
}

#[test]
fn the_roots_own_entry_counts() {
    let (root, _) = unpacked(&archive([dir("./").mode(0o750).owner(9, 9).mtime(77), file("./a", "")]));
    let top = std::fs::metadata(root.path()).unwrap();
    assert_eq!((top.mode() & 0o7777, top.uid(), top.gid(), top.mtime()), (0o750, 9, 9, 77));
}

#[test]
fn parents_that_no_entry_names() {
    let (root, _) = unpacked(&archive([file("a/b/c", "x"), hardlink("x/y", "a/b/c"), dir("a/b").mode(0o700)]));
    assert_eq!(meta(root.path(), "a").mode() & 0o7777, 0o755);
    assert_eq!(meta(root.path(), "a/b").mode() & 0o7777, 0o700);
    assert_eq!(meta(root.path(), "x/y").nlink(), 2);
}

#[test]
fn whiteouts_are_overlayfs_ones() {
    let (root, _) = unpacked(&archive([
        file("etc/.wh.gone", ""),
        file("opt/.wh..wh..opq", ""),
        file("opt/new", "1"),
        file(".wh..wh.plnk", "AUFS's own"),
        file("var/.wh..wh.aufs", ""),
    ]));
    let root = root.path();
    let gone = meta(root, "etc/gone");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(attribute(&root.join("opt"), "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(std::fs::read_to_string(root.join("opt/new")).unwrap(), "1");
    let names: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".wh.")), "{names:?}");
}

#[test]
fn a_whiteout_speaks_of_lower_layers_only() {
    // Whatever the order, what the layer itself has stays, and hides what is below.
    let (root, _) = unpacked(&archive([
        dir("first"),
        file("first/kept", "1"),
        file(".wh.first", ""),
        file(".wh.second", ""),
        dir("second"),
        file("second/kept", "2"),
        file("third", "3"),
        file(".wh.third", ""),
    ]));
    let root = root.path();
    for (name, content) in [("first/kept", "1"), ("second/kept", "2"), ("third", "3")] {
        assert_eq!(std::fs::read_to_string(root.join(name)).unwrap(), content);
    }
    for name in ["first", "second"] {
        assert_eq!(attribute(&root.join(name), "trusted.overlay.opaque").unwrap(), b"y");
    }
}

#[test]
fn attributes_and_capabilities() {
    // cap_net_raw+ep, revision 2; it must survive the change of owner.
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let (root, _) = unpacked(&archive([
        file("ping", "x").mode(0o755).owner(1, 1).pax("SCHILY.xattr.security.capability", capability),
        dir("d").pax("SCHILY.xattr.user.note", b"with\nnewline\0"),
    ]));
    assert_eq!(attribute(&root.path().join("ping"), "security.capability").unwrap(), capability);
    assert_eq!(attribute(&root.path().join("d"), "user.note").unwrap(), b"with\nnewline\0");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let (root, _) = unpacked(&archive([
        file("a", "1"),
        file("a", "22").mode(0o600),
        dir("b").mode(0o700),
        file("b/c", ""),
        dir("b").mode(0o711),
        dir("e"),
        file("e/f", ""),
        file("e", "flat"),
        symlink("s", "a"),
        symlink("s", "b"),
        hardlink("h", "a"),
        file("h", "own"),
    ]));
    let root = root.path();
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "22");
    assert_eq!(meta(root, "a").nlink(), 1);
    assert_eq!(meta(root, "b").mode() & 0o777, 0o711);
    assert!(root.join("b/c").exists());
    assert_eq!(std::fs::read_to_string(root.join("e")).unwrap(), "flat");
    assert_eq!(std::fs::read_link(root.join("s")).unwrap(), Path::new("b"));
}

#[test]
fn long_names_of_both_kinds() {
    let (first, second) = (format!("{}/x", "a".repeat(200)), format!("{}/y", "b".repeat(200)));
    let mut pax = file("short", "2");
    pax.pax.push(("path".into(), second.clone().into_bytes()));
    let target = "t".repeat(300);
    let (root, _) = unpacked(&archive([file(&first, "1"), pax, symlink("link", &target)]));
    assert_eq!(std::fs::read_to_string(root.path().join(first)).unwrap(), "1");
    assert_eq!(std::fs::read_to_string(root.path().join(second)).unwrap(), "2");
    assert_eq!(std::fs::read_link(root.path().join("link")).unwrap(), Path::new(&target));
}

#[test]
fn global_headers_and_volume_labels_are_passed_over() {
    let mut layer = Vec::new();
    raw(&mut layer, b"pax_global_header", b'g', b"", &pax_record("path", b"evil"), |_| {});
    raw(&mut layer, b"label", b'V', b"", b"", |_| {});
    file("a", "1").write(&mut layer);
    // Without the two blocks at the end: streams that stop there are common.
    let (root, done) = unpacked(&layer);
    assert_eq!(done.entries, 1);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

/// All four ways that GNU tar writes a file with holes.
#[test]
fn sparse_files_of_every_format() {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let file = std::fs::File::create(source.join("holes")).unwrap();
    use std::os::unix::fs::FileExt as _;
    for part in 0..40_u64 {
        file.write_all_at(b"data in the middle of nothing", part * 262_144 + 5000).unwrap();
    }
    file.set_len(40 * 262_144 + 100_000).unwrap();
    std::fs::write(source.join("after"), "the next entry is found").unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let layer = work.path().join("layer.tar");
        run(Command::new("tar")
            .arg("-C")
            .arg(&source)
            .args(format)
            .args(["-S", "-cf"])
            .arg(&layer)
            .args(["holes", "after"]));
        let layer = std::fs::read(&layer).unwrap();
        assert!(layer.len() < 1 << 20, "{format:?} is not sparse");
        let (root, _) = unpacked(&layer);
        let holes = root.path().join("holes");
        assert!(std::fs::read(&holes).unwrap() == std::fs::read(source.join("holes")).unwrap(), "{format:?}");
        assert!(std::fs::metadata(&holes).unwrap().blocks() * 512 < 1 << 20, "{format:?} fills the holes");
        assert!(root.path().join("after").exists());
    }
}

/// A tree of this machine, packed by tar in each of its formats, comes out as tar itself unpacks it.
#[test]
fn real_trees_come_out_as_from_tar() {
    let source = Path::new("/usr/lib/terminfo");
    let source = if source.exists() { source } else { Path::new("/etc") };
    for format in ["gnu", "pax", "ustar"] {
        let work = tempfile::tempdir().unwrap();
        let layer = work.path().join("layer.tar");
        let parent = source.parent().unwrap();
        let name = source.file_name().unwrap();
        run(Command::new("tar")
            .arg("-C")
            .arg(parent)
            .arg(format!("--format={format}"))
            .arg("-cf")
            .arg(&layer)
            .arg(name));
        let theirs = work.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        run(Command::new("tar").arg("-C").arg(&theirs).arg("-xpf").arg(&layer));
        let (ours, _) = unpacked(&std::fs::read(&layer).unwrap());
        let shape = |root: &Path| {
            let mut all = snapshot(root);
            all.remove(&b""[..]);
            // Inode numbers differ: the last number before the content.
            let line = |line: String| {
                line.split(' ').enumerate().filter(|(n, _)| *n != 4).map(|(_, w)| format!("{w} ")).collect()
            };
            all.into_iter().map(|(name, text)| (name, line(text))).collect::<Vec<(Vec<u8>, String)>>()
        };
        assert_eq!(shape(ours.path()), shape(&theirs), "{format}");
    }
}

/// What we make of whiteouts, overlayfs understands.
#[test]
fn overlayfs_stacks_the_result() {
    let (lower, _) = unpacked(&archive([dir("d"), file("d/a", "1"), file("d/b", "2"), dir("o"), file("o/x", "3")]));
    let (upper, _) = unpacked(&archive([file("d/.wh.a", ""), file("o/.wh..wh..opq", ""), file("o/y", "4")]));
    let merged = tempfile::tempdir().unwrap();
    let options = format!("ro,lowerdir={}:{}", upper.path().display(), lower.path().display());
    let script = format!(
        "mount -t overlay -o {options} none {0} && cd {0} && find . -type f -o -type c | sort",
        merged.path().display()
    );
    let list = run(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    assert_eq!(list.split_whitespace().collect::<Vec<_>>(), ["./d/b", "./o/y"]);
}
