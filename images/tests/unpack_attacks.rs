//! Hostile layers. Each is unpacked beside a canary tree that must stay as it
//! is, byte for byte, whatever the layer tries and whether it is refused or not.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

mod harness;

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use harness::{Entry, archive, char_device, dir, file, hardlink, pax_record, raw, snapshot, symlink};
use umiak_images::unpack::{Limits, TarError, UnpackError, Unpacked, unpack};

/// A layer's root with the canary beside it.
struct Sandbox {
    _dir: tempfile::TempDir,
    root: PathBuf,
    canary: PathBuf,
}

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, canary) = (dir.path().join("root"), dir.path().join("canary"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir_all(canary.join("sub")).unwrap();
        std::fs::write(canary.join("secret"), "untouched").unwrap();
        std::fs::write(canary.join("sub/file"), "untouched").unwrap();
        std::fs::set_permissions(canary.join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
        Self { _dir: dir, root, canary }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap()
    }

    fn unpack(&self, layer: &[u8]) -> Result<Unpacked, UnpackError> {
        self.unpack_within(layer, &Limits::default())
    }

    /// Unpacks and checks the canary.
    fn unpack_within(&self, layer: &[u8], limits: &Limits) -> Result<Unpacked, UnpackError> {
        let before = snapshot(&self.canary);
        let root = OwnedFd::from(std::fs::File::open(&self.root).unwrap());
        let result = unpack(layer, root, limits);
        assert_eq!(snapshot(&self.canary), before, "the canary has changed");
        let parent: Vec<_> = std::fs::read_dir(self.root.parent().unwrap()).unwrap().collect();
        assert_eq!(parent.len(), 2, "something was made beside the root: {parent:?}");
        result
    }
}

/// Unpacks what must work.
fn works(entries: impl IntoIterator<Item = Entry>) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.unpack(&archive(entries)).unwrap();
    sandbox
}

/// Unpacks what must be refused.
fn refused(entries: impl IntoIterator<Item = Entry>) -> UnpackError {
    Sandbox::new().unpack(&archive(entries)).unwrap_err()
}

fn lossy(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes().to_vec()
}

#[test]
fn dot_dot_names_stay_inside() {
    for name in ["../canary/secret", "/../canary/secret", "/../../../../canary/secret", "a/../../canary/secret"] {
        let sandbox = works([file(name, "evil")]);
        assert_eq!(sandbox.read("canary/secret"), "evil", "{name}");
    }
}

#[test]
fn absolute_names_stay_inside() {
    let sandbox = Sandbox::new();
    let name = lossy(&sandbox.canary.join("secret"));
    sandbox.unpack(&archive([file(&name, "evil")])).unwrap();
    let inside = sandbox.root.join(sandbox.canary.strip_prefix("/").unwrap()).join("secret");
    assert_eq!(std::fs::read_to_string(inside).unwrap(), "evil");
}

#[test]
fn symlink_up_and_out() {
    let sandbox = works([dir("sub"), symlink("sub/up", "../../../.."), file("sub/up/canary/secret", "evil")]);
    assert_eq!(sandbox.read("canary/secret"), "evil");
}

#[test]
fn symlink_up_then_whiteout() {
    works([symlink("up", "../canary"), dir("canary"), file("up/.wh.secret", "")]);
}

#[test]
fn symlink_absolute() {
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary);
    sandbox.unpack(&archive([symlink("out", &target), file("out/secret", "evil")])).unwrap();
    assert_eq!(std::fs::read_link(sandbox.at("out")).unwrap(), sandbox.canary);
    let inside = sandbox.root.join(sandbox.canary.strip_prefix("/").unwrap()).join("secret");
    assert_eq!(std::fs::read_to_string(inside).unwrap(), "evil");
}

#[test]
fn symlink_chain_to_the_outside() {
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary);
    let chain = [symlink("a", "b/../c"), dir("b"), symlink("c", &target), file("a/secret", "evil"), dir("a/sub/new")];
    sandbox.unpack(&archive(chain)).unwrap();
}

#[test]
fn symlink_override_path() {
    // The last component is replaced, never followed.
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary.join("secret"));
    sandbox.unpack(&archive([symlink("name", &target), file("name", "own")])).unwrap();
    assert_eq!(sandbox.read("name"), "own");
    assert!(std::fs::symlink_metadata(sandbox.at("name")).unwrap().is_file());
}

#[test]
fn directory_entry_over_a_symlink() {
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary);
    let layer = [symlink("d", &target), dir("d").mode(0o777).owner(5, 5).mtime(1), file("d/secret", "evil")];
    sandbox.unpack(&archive(layer)).unwrap();
    assert!(std::fs::symlink_metadata(sandbox.at("d")).unwrap().is_dir());
    assert_eq!(sandbox.read("d/secret"), "evil");
}

#[test]
fn symlink_over_a_directory_that_has_attributes_to_come() {
    // The directory's mode and time are set last: by then its name is a symlink to the outside.
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary);
    let layer = [dir("d").mode(0o777).owner(5, 5), dir("d/e").mode(0o777), symlink("d", &target)];
    sandbox.unpack(&archive(layer)).unwrap();
    assert!(std::fs::symlink_metadata(sandbox.at("d")).unwrap().is_symlink());
}

#[test]
fn open_directories_are_forgotten_when_replaced() {
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary);
    let layer =
        [dir("d"), file("d/a", "1"), symlink("d", &target), file("d/secret", "evil"), dir("d"), file("d/b", "2")];
    sandbox.unpack(&archive(layer)).unwrap();
    assert_eq!(sandbox.read("d/b"), "2");
    assert!(!sandbox.at("d/a").exists());
}

#[test]
fn umoci_slash_dot_symlink() {
    // CVE-2021-29136: a symlink that takes the root's own place.
    for name in ["/.", ".", "./", "/", "", "/..", "a/.."] {
        let sandbox = Sandbox::new();
        let target = lossy(&sandbox.canary);
        let result = sandbox.unpack(&archive([symlink(name, &target), file("secret", "evil")]));
        assert!(matches!(result, Err(UnpackError::Root { .. })), "{name:?}: {result:?}");
    }
}

#[test]
fn the_root_is_only_ever_a_directory() {
    for entry in [file("./", "x"), hardlink(".", "a"), char_device("/", 1, 3), Entry::new(b'6', "..")] {
        assert!(matches!(refused([file("a", ""), entry]), UnpackError::Root { .. }));
    }
}

#[test]
fn symlink_loops_end() {
    assert!(matches!(refused([symlink("a", "b"), symlink("b", "a"), file("a/x", "")]), UnpackError::Loop { .. }));
    assert!(matches!(refused([symlink("s", "s/s"), file("s/x", "")]), UnpackError::Loop { .. }));
}

#[test]
fn hardlink_absolute() {
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary.join("secret"));
    let error = sandbox.unpack(&archive([hardlink("link", &target), file("link", "evil")])).unwrap_err();
    assert!(matches!(error, UnpackError::Hardlink { .. }), "{error}");
}

#[test]
fn hardlink_up_and_out() {
    assert!(matches!(refused([hardlink("link", "../canary/secret")]), UnpackError::Hardlink { .. }));
    assert!(matches!(
        refused([symlink("out", "../canary"), hardlink("link", "out/secret")]),
        UnpackError::Hardlink { .. }
    ));
}

#[test]
fn hardlink_symlink_before_create() {
    // A hard link to a symlink is the symlink, and writing to it replaces it.
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary.join("secret"));
    let layer = [symlink("s", &target), hardlink("h", "s"), file("h", "own")];
    sandbox.unpack(&archive(layer)).unwrap();
    assert_eq!(sandbox.read("h"), "own");
}

#[test]
fn hardlink_symlink_chmod() {
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary.join("secret"));
    let layer = [symlink("s", &target), hardlink("h", "s").mode(0o6777).owner(9, 9).mtime(1)];
    sandbox.unpack(&archive(layer)).unwrap();
    assert_eq!(std::fs::read_link(sandbox.at("h")).unwrap(), sandbox.canary.join("secret"));
}

#[test]
fn hardlink_through_a_symlinked_parent_stays_inside() {
    let sandbox = works([dir("real"), file("real/a", "1"), symlink("alias", "/real"), hardlink("b", "alias/a")]);
    assert_eq!(std::fs::metadata(sandbox.at("b")).unwrap().nlink(), 2);
}

#[test]
fn hardlink_to_itself_keeps_the_file() {
    let sandbox = works([file("a", "1"), hardlink("a", "./a"), symlink("s", "."), hardlink("s/a", "a")]);
    assert_eq!(sandbox.read("a"), "1");
}

#[test]
fn hardlink_to_nothing_is_named() {
    let error = refused([hardlink("a", "gone/b")]);
    assert_eq!(error.to_string(), r#""a" is a hard link to "gone/b", which the layer does not hold"#);
}

#[test]
fn whiteout_parent() {
    for name in ["sub/.wh...", ".wh...", "sub/.wh..", ".wh.", "sub/.wh."] {
        assert!(matches!(refused([dir("sub"), file(name, "")]), UnpackError::Whiteout { .. }), "{name}");
    }
}

#[test]
fn whiteout_root() {
    let sandbox = works([file("../.wh.canary", "")]);
    let kept = std::fs::symlink_metadata(sandbox.at("canary")).unwrap();
    assert!(kept.file_type().is_char_device() && kept.rdev() == 0);
}

#[test]
fn whiteout_current_directory_and_opaque_root() {
    let sandbox = works([file("./.wh..wh..opq", ""), file("a", "1")]);
    assert_eq!(sandbox.read("a"), "1");
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(&sandbox.root, "trusted.overlay.opaque", &mut value).unwrap(), 1);
}

#[test]
fn whiteout_symlink_path() {
    let sandbox = Sandbox::new();
    let target = lossy(&sandbox.canary);
    let layer = [symlink("out", &target), file("out/.wh.secret", ""), file("out/.wh..wh..opq", "")];
    sandbox.unpack(&archive(layer)).unwrap();
}

#[test]
fn non_directory_parents_are_named() {
    for parent in [file("a", "x"), char_device("a", 1, 3), Entry::new(b'6', "a")] {
        let error = refused([parent, file("a/b", "")]);
        assert!(matches!(error, UnpackError::Parent { .. }), "{error}");
    }
}

#[test]
fn device_nodes_are_made_and_never_opened() {
    let sandbox = works([
        char_device("null", 1, 3).mode(0o666),
        Entry { device: (7, 0), ..Entry::new(b'4', "loop") },
        Entry::new(b'6', "pipe").mode(0o600).owner(3, 4),
        // Writing "through" them replaces them.
        file("null", "own"),
        file("pipe", "own"),
    ]);
    assert_eq!(sandbox.read("null"), "own");
    assert_eq!(sandbox.read("pipe"), "own");
    assert!(std::fs::symlink_metadata(sandbox.at("loop")).unwrap().file_type().is_block_device());
}

#[test]
fn impossible_names_are_refused() {
    let nul = Entry::new(b'0', "x").pax("path", b"a\0b");
    assert!(matches!(refused([nul]), UnpackError::Name { .. }));
    let nul = Entry::new(b'2', "x").pax("linkpath", b"a\0b");
    assert!(matches!(refused([nul]), UnpackError::Name { .. }));
    assert!(matches!(refused([symlink("x", "")]), UnpackError::Name { .. }));
    assert!(matches!(refused([file("a/".repeat(4000), "")]), UnpackError::Name { .. }));
    let long = refused([file("n".repeat(300), "")]);
    assert!(long.to_string().contains("nnnn"), "{long}");
}

#[test]
fn odd_names_are_kept_and_shown_on_one_line() {
    let sandbox =
        works([file(b"new\nline", "1"), file(b"bytes\xff\xfe", "2"), file("-rf *", "3"), file("\u{1b}[31m", "4")]);
    assert_eq!(std::fs::read_dir(&sandbox.root).unwrap().count(), 4);
    let error = refused([file(b"a\n\x1b[31mred", ""), file(b"a\n\x1b[31mred/b", "")]).to_string();
    assert!(!error.contains('\n') && !error.contains('\x1b'), "{error:?}");
}

#[test]
fn overlay_attributes_are_not_smuggled() {
    let names = [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "user.overlay.whiteout",
        "trusted.other",
        "security.selinux",
        "security.ima",
    ];
    let smuggle = |mut entry: Entry| {
        for name in names {
            entry = entry.pax(&format!("SCHILY.xattr.{name}"), b"y");
        }
        entry.pax("SCHILY.xattr.user.kept", b"v")
    };
    let sandbox = works([smuggle(dir("d")), smuggle(file("f", "")), smuggle(symlink("s", "f")), smuggle(dir("."))]);
    for name in ["d", "f", "s", "."] {
        let path = sandbox.at(name);
        for attribute in names {
            let found = rustix::fs::lgetxattr(&path, attribute, &mut [0; 64]);
            assert!(found.is_err(), "{name} has {attribute}");
        }
    }
    assert_eq!(rustix::fs::getxattr(sandbox.at("f"), "user.kept", &mut [0; 8]).unwrap(), 1);
}

#[test]
fn attributes_are_bounded() {
    let many = (0..200).fold(file("f", ""), |entry, n| entry.pax(&format!("SCHILY.xattr.user.n{n}"), b"v"));
    assert!(matches!(refused([many]), UnpackError::Xattrs { count: 200, .. }));
    let five_thousand = (0..5000).fold(file("f", ""), |entry, n| entry.pax(&format!("SCHILY.xattr.user.n{n}"), b"v"));
    assert!(matches!(refused([five_thousand]), UnpackError::Xattrs { .. }));
    let huge = file("f", "").pax("SCHILY.xattr.user.huge", vec![b'v'; 2 << 20]);
    assert!(matches!(refused([huge]), UnpackError::Tar(TarError::HeaderSize { .. })));
}

#[test]
fn entries_are_bounded() {
    let sandbox = Sandbox::new();
    let limits = Limits { entries: 1000, ..Limits::default() };
    let layer = archive((0..1001).map(|n| file(n.to_string(), "")));
    let error = sandbox.unpack_within(&layer, &limits).unwrap_err();
    assert!(matches!(error, UnpackError::Tar(TarError::Entries { limit: 1000 })));
}

#[test]
fn announced_sizes_are_not_believed() {
    // A long name, PAX records and a file that all claim gigabytes.
    for kind in [b'L', b'K', b'x', b'g'] {
        let mut layer = Vec::new();
        raw(&mut layer, b"x", kind, b"", b"", |header| header.set_size(8 << 30));
        let error = Sandbox::new().unpack(&layer).unwrap_err();
        assert!(matches!(error, UnpackError::Tar(TarError::HeaderSize { .. })), "{error}");
    }
    let mut layer = Vec::new();
    raw(&mut layer, b"x", b'0', b"", b"", |header| header.set_size(1 << 20));
    assert!(matches!(Sandbox::new().unpack(&layer).unwrap_err(), UnpackError::Tar(TarError::Truncated { .. })));
    let mut layer = Vec::new();
    raw(&mut layer, b"x", b'0', b"", b"", |header| header.set_size(1 << 60));
    let error = Sandbox::new().unpack(&layer).unwrap_err();
    assert!(error.is_disk_full() && error.to_string().contains("bytes are free"), "{error}");
}

#[test]
fn damaged_headers_are_refused() {
    let mut layer = archive([file("a", "1")]);
    layer[10] ^= 1;
    assert!(matches!(Sandbox::new().unpack(&layer).unwrap_err(), UnpackError::Tar(TarError::Header { offset: 0 })));
    let mut layer = Vec::new();
    raw(&mut layer, b"p", b'x', b"", b"999 path=x\n", |_| {});
    file("a", "").write(&mut layer);
    assert!(matches!(Sandbox::new().unpack(&layer).unwrap_err(), UnpackError::Tar(TarError::Pax { .. })));
    for owner in [u64::from(u32::MAX), 1 << 32, 1 << 40] {
        let error = refused([file("a", "").pax("uid", owner.to_string())]);
        assert!(matches!(error, UnpackError::Tar(TarError::Number { field: "owner", .. })), "{error}");
    }
    assert!(matches!(refused([Entry::new(b'Q', "a")]), UnpackError::Tar(TarError::Kind { .. })));
}

#[test]
fn cut_anywhere_it_is_an_error_or_complete() {
    let layer = archive([
        dir("d"),
        file("d/f", vec![7; 3000]),
        file("x".repeat(150), "long"),
        file("p", "").pax("mtime", "1.5"),
    ]);
    let content = layer.len() - 1024;
    for cut in (1..content).step_by(97).filter(|cut| cut % 512 != 0) {
        let error = Sandbox::new().unpack(&layer[..cut]).unwrap_err();
        assert!(matches!(error, UnpackError::Tar(TarError::Truncated { .. })), "{cut}: {error}");
    }
}

#[test]
fn bad_sparse_maps_are_refused() {
    let sparse = |map: &str, size: &str| {
        file("s", b"abcd").pax("GNU.sparse.map", map).pax("GNU.sparse.size", size).pax("GNU.sparse.name", "s")
    };
    for (map, size) in [
        ("0,5", "10"),                    // more than is stored
        ("0,2,1,2", "10"),                // overlap
        ("5,2,0,2", "10"),                // order
        ("8,4", "10"),                    // beyond the end
        ("18446744073709551615,4", "10"), // overflow
        ("0,4", "18446744073709551615"),  // longer than any file
    ] {
        let error = refused([sparse(map, size)]);
        assert!(matches!(error, UnpackError::Tar(TarError::Sparse { .. })), "{map}: {error}");
    }
    let mut layer = Vec::new();
    let records = [
        pax_record("GNU.sparse.major", b"1"),
        pax_record("GNU.sparse.minor", b"0"),
        pax_record("GNU.sparse.name", b"s"),
        pax_record("GNU.sparse.realsize", b"100"),
    ]
    .concat();
    raw(&mut layer, b"p", b'x', b"", &records, |_| {});
    let mut map = b"99999999999\n".to_vec();
    map.resize(512, 0);
    raw(&mut layer, b"s", b'0', b"", &map, |_| {});
    assert!(matches!(Sandbox::new().unpack(&layer).unwrap_err(), UnpackError::Tar(TarError::Sparse { .. })));
}

#[test]
fn deep_trees_are_unpacked_and_replaced() {
    // 1,300 levels, replaced by a file: neither descriptors nor the stack run out.
    let deep = "d/".repeat(1300);
    let sandbox = works([dir(&deep), file(format!("{deep}f"), "x"), file("d", "flat")]);
    assert_eq!(sandbox.read("d"), "flat");
}

#[test]
fn no_panic_on_random_bytes() {
    // Headers that are valid but for random damage; a fixed seed, so that a failure repeats.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let base =
        archive([dir("d"), file("d/f", "data"), symlink("s", "d"), hardlink("h", "d/f"), file("p", "").pax("a", "b")]);
    for _ in 0..300 {
        let mut layer = base.clone();
        for _ in 0..3 {
            let at = usize::try_from(random() % (base.len() as u64)).unwrap();
            layer[at] = random().to_le_bytes()[0];
        }
        // Checksums are made right again, so that damage gets past them.
        for block in layer.chunks_mut(512) {
            if block[257..262] == *b"ustar" {
                let header: &mut [u8] = block;
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = Sandbox::new().unpack(&layer);
    }
}
