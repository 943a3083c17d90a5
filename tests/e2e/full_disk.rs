//! A data root without room: what needs room fails and says where and how much
//! is left, and everything that makes room still works.

use std::fs;
use std::io::Write as _;

use crate::harness::{Done, Host, eventually, names_in};

const PROJECT: &str = r#"
services:
  web: {image: busybox, command: sh -c 'while :; do echo line; sleep 0.1; done', stop_grace_period: 0s}
"#;

/// What is said of a full disk: what could not be written, and how much there is.
fn assert_told(done: &Done, host: &Host, what: &str) {
    assert!([1, 125].contains(&done.code), "{what}: {}: {}{}", done.code, done.out, done.err);
    let root = host.root();
    let root = root.to_str().unwrap();
    let lower = done.err.to_lowercase();
    assert!(lower.contains("no space") && done.err.contains(root), "{what}: {}", done.err);
    assert!(done.err.contains(" free"), "{what}: {}", done.err);
    assert!(!done.err.contains("panicked"), "{what}: {}", done.err);
}

/// Writes until not a byte more goes in; a file of blocks, then what is left of them.
fn fill(host: &Host) {
    let mut file = fs::File::create(host.root().join("fill")).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![b'x'; size];
        while file.write_all(&block).is_ok() {}
    }
    let _ = file.sync_all();
}

/// Makes empty files until there is room for no other.
fn use_up_inodes(host: &Host) {
    let dir = host.root().join("fill");
    fs::create_dir(&dir).unwrap();
    let mut number = 0;
    while fs::File::create(dir.join(number.to_string())).is_ok() {
        number += 1;
    }
}

fn assert_sound(host: &Host, what: &str) {
    let done = host.run(&["system", "check", "-q"]);
    assert_eq!(done.code, 0, "{what}: {}{}", done.out, done.err);
}

/// A pull that does not fit: refused, named, and nothing of it stays.
fn too_large(host: &Host) {
    let done = host.run(&["image", "pull", "-q", "python"]);
    assert_told(&done, host, "pull");
    assert_eq!(host.ok(&["image", "ls", "-q"]), "");
    assert_sound(host, "after a pull that did not fit");
    // Whole layers are kept for the next pull, until they are asked to go.
    host.ok(&["image", "prune", "-f"]);
    let left: Vec<String> = names_in(&host.root().join("layers"));
    assert!(left.is_empty(), "{left:?}");
}

fn survives(host: &Host, exhaust: fn(&Host)) {
    host.write("compose.yaml", PROJECT);
    host.ok(&["up", "-d"]);
    host.ok(&["container", "run", "-d", "--name", "other", "busybox", "sleep", "1000"]);
    host.ok(&["container", "create", "--name", "idle", "busybox"]);
    host.ok(&["volume", "create", "kept"]);
    let archive = host.path().join("busybox.tar");
    host.ok(&["image", "save", "-o", archive.to_str().unwrap(), "busybox"]);
    exhaust(host);
    assert_sound(host, "with a full disk");
    // What needs room says so.
    for args in [
        &["image", "pull", "-q", "redis"][..],
        &["image", "load", "-q", "-i", archive.to_str().unwrap()],
        &["container", "create", "busybox"],
        &["up", "-d", "--force-recreate"],
    ] {
        assert_told(&host.run(args), host, &args.join(" "));
    }
    // What only reads goes on, and so does what runs.
    host.ok(&["container", "exec", "other", "true"]);
    assert!(host.ok(&["container", "ls"]).contains("other"));
    assert!(host.ok(&["logs", "--no-log-prefix", "--tail", "1", "web"]).contains("line"));
    host.ok(&["image", "inspect", "busybox"]);
    // What makes room works.
    host.ok(&["container", "rm", "-f", "other"]);
    host.ok(&["down", "-t", "0"]);
    host.ok(&["container", "rm", "idle"]);
    host.ok(&["volume", "rm", "kept"]);
    host.ok(&["image", "rm", "busybox"]);
    host.ok(&["system", "prune", "-a", "-f"]);
    assert_sound(host, "after all was removed");
    assert_eq!(host.ok(&["image", "ls", "-q"]), "");
    let left = names_in(&host.root().join("layers"));
    assert!(left.is_empty(), "{left:?}");
    let _ = fs::remove_file(host.root().join("fill"));
    let _ = fs::remove_dir_all(host.root().join("fill"));
    host.ok(&["up", "-d"]);
    eventually("it runs again", || {
        let said = host.run(&["logs", "--no-log-prefix", "web"]).out;
        if said.contains("line") { Ok(()) } else { Err(said) }
    });
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn with_no_byte_left_everything_that_makes_room_works() {
    let Some(host) = Host::small("64m") else { return };
    too_large(&host);
    survives(&host, fill);
}

#[test]
fn with_no_inode_left_everything_that_makes_room_works() {
    let Some(host) = Host::small("64m,nr_inodes=1500") else { return };
    survives(&host, use_up_inodes);
}

/// The same on a file system on a disk, which has blocks of its own for directories and journals.
#[test]
fn ext4_without_bytes_and_without_inodes() {
    for (inodes, exhaust) in [("4000", fill as fn(&Host)), ("1500", use_up_inodes)] {
        let Some(host) = Host::on_ext4("64M", inodes) else { return };
        survives(&host, exhaust);
    }
}

/// A build that does not fit.
#[test]
fn a_build_that_does_not_fit_is_named() {
    let Some(host) = Host::small("64m") else { return };
    host.ok(&["image", "pull", "-q", "busybox"]);
    host.write("ctx/Dockerfile", "FROM busybox\nRUN head -c 20000000 /dev/urandom > /a\nCOPY large /b\n");
    host.write("ctx/large", &"x".repeat(70_000_000));
    let context = host.project().join("ctx");
    let done = host.run(&["image", "build", "-t", "big:1", context.to_str().unwrap()]);
    assert_ne!(done.code, 0, "{}", done.err);
    assert!(done.err.to_lowercase().contains("no space"), "{}", done.err);
    assert!(!host.ok(&["image", "ls"]).contains("big"));
    assert_sound(&host, "after a build that did not fit");
    host.ok(&["system", "prune", "-a", "-f"]);
}
