//! Layers that try to reach what is outside of their root, and what must come
//! of each. Those of the first three lists bear the names of the cases of
//! containerd's archive tests, the scopings those of umoci's; the archives, and
//! what is expected, are our own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::harness::{Entry, dir, file, hardlink, symlink};

/// What a breakout must come to.
pub enum Expect {
    /// The same inode.
    Same(&'static str, &'static str),
    Differ(&'static str, &'static str),
    Content(&'static str, &'static str),
    Symlink(&'static str),
    Gone(&'static str),
    /// Refused, with these words.
    Refused(&'static str),
}

use Expect::{Content, Differ, Gone, Refused, Same};

pub struct Breakout {
    pub name: &'static str,
    /// The layer below, where what is attacked is there before.
    pub below: Vec<Entry>,
    pub layer: Vec<Entry>,
    pub expect: Vec<Expect>,
}

fn case(name: &'static str, below: Vec<Entry>, layer: Vec<Entry>, expect: Vec<Expect>) -> Breakout {
    Breakout { name, below, layer, expect }
}

fn passwd() -> Vec<Entry> {
    vec![dir("etc").mode(0o770), file("/etc/passwd", "inside")]
}

fn with(mut first: Vec<Entry>, more: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    first.extend(more);
    first
}

pub fn symlinks() -> Vec<Breakout> {
    let into = |links: Vec<Entry>, through: &str| {
        with(with(vec![dir("etc"), dir("dummy")], links), [file(format!("{through}/unbroken"), "unbroken")])
    };
    let unbroken = || vec![Content("etc/unbroken", "unbroken")];
    let none = Vec::new;
    vec![
        case("SymlinkAbsolute", none(), into(vec![symlink("localetc", "/etc")], "/localetc"), unbroken()),
        case("SymlinkUpAndOut", none(), into(vec![symlink("localetc", "/dummy/../etc")], "/localetc"), unbroken()),
        case(
            "SymlinkMultipleAbsolute",
            none(),
            into(vec![symlink("/dummy/etc", "/etc"), symlink("localetc", "/dummy/etc")], "/dummy/etc"),
            unbroken(),
        ),
        case(
            "SymlinkMultipleRelative",
            none(),
            into(vec![symlink("/dummy/etc", "/etc"), symlink("localetc", "./dummy/etc")], "localetc"),
            unbroken(),
        ),
        case(
            "SymlinkEmptyFile",
            none(),
            vec![dir("etc"), file("etc/emptied", "full"), symlink("localetc", "/etc"), file("/localetc/emptied", "")],
            vec![Content("etc/emptied", "")],
        ),
        case("SymlinkParentDirectory", none(), with(passwd(), [symlink("..", "/etc/")]), vec![Refused("root")]),
        case("SymlinkEmptyFilename", none(), with(passwd(), [symlink("", "/etc/")]), vec![Refused("root")]),
        case(
            "SymlinkParentRelative",
            none(),
            with(passwd(), [symlink("localetc/sub/..", "/etc/"), hardlink("/localetc/localpasswd", "/etc/passwd")]),
            vec![Same("localetc/localpasswd", "etc/passwd")],
        ),
        case(
            "SymlinkSlashEnded",
            none(),
            with(passwd(), [dir("localetc/"), hardlink("/localetc/localpasswd", "/etc/passwd")]),
            vec![Same("localetc/localpasswd", "etc/passwd")],
        ),
        // A layer says what it links to: what other layers have is not known when it is unpacked.
        case(
            "SymlinkOverrideDirectory",
            with(passwd(), [dir("localetc")]),
            vec![symlink("localetc", "/etc"), hardlink("/localetc/localpasswd", "/etc/passwd")],
            vec![Refused("hard link")],
        ),
        case(
            "SymlinkOverrideDirectoryRelative",
            with(passwd(), [dir("localetc")]),
            with(passwd(), [symlink("localetc", "../../etc"), hardlink("/localetc/localpasswd", "/etc/passwd")]),
            vec![Same("localetc/localpasswd", "etc/passwd")],
        ),
        case(
            "SymlinkOverridePath",
            none(),
            vec![
                dir("foo"),
                dir("foo/tmp"),
                file("foo/tmp/breakout", "first"),
                symlink("foo", "/"),
                file("foo/tmp/breakout", "second"),
                dir("foo"),
                dir("foo/tmp"),
                file("foo/tmp/breakout", "third"),
            ],
            vec![Content("foo/tmp/breakout", "third"), Content("tmp/breakout", "second")],
        ),
    ]
}

pub fn hardlinks(canary: &Path) -> Vec<Breakout> {
    let none = Vec::new;
    let through = |link: Vec<Entry>, target: &str, name: &str| {
        with(with(passwd(), [dir("breakouts"), dir("downandout")]), with(link, [hardlink(name, target)]))
    };
    let local = |link: Vec<Entry>, target: &str| through(link, target, "localpasswd");
    let same = || vec![Same("localpasswd", "etc/passwd")];
    let mine = || vec![Same("breakouts/mypasswd", "etc/passwd")];
    let (perm, other) = (canary.join("perm400").display().to_string(), canary.join("other").display().to_string());
    vec![
        case(
            "HardlinkRelative",
            none(),
            through(vec![symlink("breakouts/d1", "../../etc")], "/breakouts/d1/passwd", "breakouts/mypasswd"),
            mine(),
        ),
        case(
            "HardlinkDownAndOut",
            none(),
            through(
                vec![symlink("breakouts/d1", "../downandout/../../etc")],
                "/breakouts/d1/passwd",
                "breakouts/mypasswd",
            ),
            mine(),
        ),
        case("HardlinkAbsolute", none(), local(vec![symlink("localetc", "/etc")], "/localetc/passwd"), same()),
        case(
            "HardlinkRelativeLong",
            none(),
            local(vec![symlink("localetc", "../../../../../../../etc")], "/localetc/passwd"),
            same(),
        ),
        // The way leads through a directory that is not there.
        case(
            "HardlinkRelativeUpAndOut",
            none(),
            local(vec![symlink("localetc", "upandout/../../../etc")], "/localetc/passwd"),
            vec![Refused("hard link")],
        ),
        case("HardlinkDirectRelative", none(), local(none(), "../../../../../etc/passwd"), same()),
        case("HardlinkDirectAbsolute", none(), local(none(), "/etc/passwd"), same()),
        case(
            "HardlinkSymlinkBeforeCreateTarget",
            none(),
            vec![
                dir("etc"),
                symlink("localpasswd", "/etc/passwd"),
                hardlink("localpasswd-dup", "localpasswd"),
                file("/etc/passwd", "after"),
            ],
            vec![Same("localpasswd-dup", "localpasswd"), Expect::Symlink("localpasswd-dup")],
        ),
        case(
            "HardlinkSymlinkRelative",
            none(),
            with(passwd(), [symlink("link", "../../../../../etc/passwd"), hardlink("local", "/link")]),
            vec![Same("local", "link"), Expect::Symlink("local")],
        ),
        case(
            "HardlinkSymlinkAbsolute",
            none(),
            with(passwd(), [symlink("link", "/etc/passwd"), hardlink("local", "/link")]),
            vec![Same("local", "link"), Expect::Symlink("local")],
        ),
        case(
            "HardlinkSymlinkChmod",
            none(),
            vec![symlink(&other, &perm), hardlink("sketchy", &other).mode(0o777)],
            vec![Expect::Symlink("sketchy")],
        ),
    ]
}

pub fn overrides_and_whiteouts() -> Vec<Breakout> {
    let users = |more: Vec<Entry>| with(vec![dir("etc"), file("etc/passwd", "all users")], more);
    let all = || Content("etc/passwd", "all users");
    vec![
        case(
            "DirectoryOverrideSymlink",
            with(passwd(), [symlink("localetc", "/etc")]),
            vec![dir("/localetc/"), file("/localetc/localpasswd", "own")],
            vec![Content("localetc/localpasswd", "own"), Gone("etc/localpasswd"), Content("etc/passwd", "inside")],
        ),
        case(
            "DirectoryOverrideSymlinkAndHardlink",
            with(passwd(), [symlink("localetc", "etc"), hardlink("/localetc/localpasswd", "/etc/passwd")]),
            vec![dir("/localetc/"), file("/localetc/localpasswd", "different")],
            vec![Differ("localetc/localpasswd", "etc/passwd"), Content("etc/passwd", "inside")],
        ),
        case("WhiteoutRootParent", passwd(), vec![file(".wh...", "")], vec![Refused("whiteout")]),
        case("WhiteoutParent", passwd(), vec![file("etc/.wh...", "")], vec![Refused("whiteout")]),
        case("WhiteoutRoot", passwd(), vec![file(".wh..", "")], vec![Refused("whiteout")]),
        case("WhiteoutCurrentDirectory", passwd(), vec![file("etc/.wh..", "")], vec![Refused("whiteout")]),
        case(
            "WhiteoutSymlink",
            users(vec![symlink("localetc", "/etc")]),
            vec![file(".wh.localetc", "")],
            vec![all(), Gone("localetc")],
        ),
        // The symlink is of a lower layer, of which this one knows nothing: it gets a directory in its place.
        case(
            "WhiteoutSymlinkPath",
            users(vec![file("etc/whitedout", "ahhhh"), symlink("localetc", "/etc")]),
            vec![file("localetc/.wh.whitedout", "")],
            vec![all(), Content("etc/whitedout", "ahhhh")],
        ),
        case(
            "WhiteoutDirectoryName",
            users(vec![]),
            vec![file(".wh.etc/somefile", "non-empty")],
            vec![all(), Content(".wh.etc/somefile", "non-empty")],
        ),
        case(
            "WhiteoutDeadSymlinkParent",
            users(vec![symlink("localetc", "/dne")]),
            vec![file("localetc/.wh.etc", "")],
            vec![all()],
        ),
        case(
            "WhiteoutRelativePath",
            users(vec![symlink("localetc", "/dne")]),
            vec![file("dne/../.wh.etc", "")],
            vec![Gone("etc/passwd")],
        ),
    ]
}

/// umoci's scopings: prefixes that lead up, as names and as targets of symlinks that names go through.
pub fn scopings() -> Vec<Breakout> {
    let none = Vec::new;
    let found = || vec![Content("file", "x")];
    let mut cases = vec![
        case("Sanitise GarbagePrefix", none(), vec![file("/../file", "x")], found()),
        case("Sanitise DotDotPrefix", none(), vec![file("../file", "x")], found()),
        case("NonDirParent", none(), vec![file("nondir", ""), file("nondir/a/b", "")], vec![Refused("directory")]),
        case("ParentDir", none(), vec![file("a/b/c/file", "x")], vec![Content("a/b/c/file", "x")]),
        case("EmptyWhiteoutName-Root", none(), vec![file(".wh.", "")], vec![Refused("whiteout")]),
        case("EmptyWhiteoutName", none(), vec![file("some/path/.wh.", "")], vec![Refused("whiteout")]),
        case("SymlinkSlashDot", none(), vec![symlink("/.", "/"), file("file", "x")], vec![Refused("root")]),
    ];
    for (name, target) in [
        ("Symlink RootPrefix", "/"),
        ("Symlink GarbagePrefix1", "/../"),
        ("Symlink GarbagePrefix2", "/../../../../../../../../../../../../../../../"),
        ("Symlink GarbagePrefix3", "/./.././.././.././.././.././.././.././.././.././../"),
        ("Symlink DotDotPrefix", ".."),
    ] {
        cases.push(case(name, none(), vec![symlink("link", target), file("link/file", "x")], found()));
    }
    let shadow = "../../../../../../../../../../../../etc/shadow";
    cases.push(case(
        "OpaqueWhiteout MultiLevel",
        vec![
            dir("dir"),
            file("dir/below", ""),
            symlink("dir/link", ".."),
            symlink("dir/badlink", "./nothing"),
            symlink("dir/verybadlink", shadow),
            dir("dir/sub"),
            file("dir/sub/below", ""),
            file("kept", "x"),
        ],
        vec![
            symlink("dir/verybadlink", format!("/{shadow}")),
            file("dir/.wh..wh..opq", ""),
            file("dir/sub/above", "x"),
        ],
        vec![
            Gone("dir/below"),
            Gone("dir/link"),
            Gone("dir/badlink"),
            Gone("dir/sub/below"),
            Content("dir/sub/above", "x"),
            Expect::Symlink("dir/verybadlink"),
            Content("kept", "x"),
        ],
    ));
    cases
}

pub fn meets(root: &Path, expect: &Expect, name: &str) {
    let inode = |path: &str| {
        let meta = fs::symlink_metadata(root.join(path)).unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
        (meta.dev(), meta.ino())
    };
    match expect {
        Same(a, b) => assert_eq!(inode(a), inode(b), "{name}"),
        Differ(a, b) => assert_ne!(inode(a), inode(b), "{name}"),
        Content(path, content) => {
            let found = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
            assert_eq!(found, *content, "{name}: {path}");
        }
        Expect::Symlink(path) => assert!(fs::symlink_metadata(root.join(path)).unwrap().is_symlink(), "{name}"),
        Gone(path) => assert!(fs::symlink_metadata(root.join(path)).is_err(), "{name}: {path} is there"),
        Refused(_) => unreachable!(),
    }
}
