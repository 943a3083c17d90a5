//! `system check` and damage of the store, through the binary: what is harmed
//! is named with who uses it, no command panics over it, and it is made good.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Host, names_in};

/// A host with an image store of its own.
fn host() -> Option<Host> {
    let host = Host::bare()?;
    host.ok(&["image", "pull", "-q", "busybox"]);
    Some(host)
}

fn check(host: &Host, repair: bool) -> (i32, Value) {
    let mut args = vec!["system", "check", "-q", "--format", "json"];
    args.extend(repair.then_some("--repair"));
    let done = host.run(&args);
    let findings = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}{}", done.out, done.err));
    (done.code, findings)
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The largest blob is the layer's.
fn blobs(host: &Host) -> Vec<PathBuf> {
    let dir = host.root().join("images/blobs/sha256");
    let mut all: Vec<PathBuf> = names_in(&dir).into_iter().map(|name| dir.join(name)).collect();
    all.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    all.sort_by_key(|path| fs::metadata(path).unwrap().len());
    all
}

fn layer(host: &Host) -> PathBuf {
    let dir = host.root().join("layers");
    let name = names_in(&dir).into_iter().find(|name| name.len() == 64).unwrap();
    dir.join(name)
}

#[test]
fn damage_is_named_with_who_uses_it_and_repaired() {
    let Some(host) = host() else { return };
    host.ok(&["container", "run", "-d", "--name", "web", "busybox", "sleep", "1000"]);
    let (code, findings) = check(&host, false);
    assert_eq!((code, findings["problems"].as_array().unwrap().len()), (0, 0), "{findings:#}");
    fs::set_permissions(layer(&host).join("etc/passwd"), fs::Permissions::from_mode(0o600)).unwrap();
    flip(blobs(&host).last().unwrap());
    let done = host.run(&["system", "check"]);
    assert_eq!(done.code, 1, "{}", done.out);
    for word in ["Damaged: blob sha256:", "has other content", "images: busybox:latest", "containers: web", "--repair"]
    {
        assert!(done.out.contains(word), "{word}: {}", done.out);
    }
    // The blob first; then there is something to compare the layer with.
    let done = host.run(&["system", "check", "--repair"]);
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    assert!(done.out.contains("pulled again from busybox"), "{}", done.out);
    assert!(done.out.contains("unpacked again from its blob"), "{}", done.out);
    // The container that runs goes on with the layer that it began with; a new one has the good one.
    assert!(names_in(&host.root().join("layers")).iter().any(|name| name.starts_with(".replaced-")));
    host.ok(&["container", "exec", "web", "true"]);
    host.ok(&["container", "run", "--rm", "busybox", "sh", "-c", "true"]);
    host.ok(&["container", "rm", "-f", "web"]);
    let (code, findings) = check(&host, true);
    assert_eq!(code, 0, "{findings:#}");
    assert!(!names_in(&host.root().join("layers")).iter().any(|name| name.starts_with('.')));
}

/// Whatever is broken: commands fail with words, none panics, none hangs; a pull makes it good after a check.
#[test]
fn no_command_panics_over_a_damaged_store() {
    let Some(host) = host() else { return };
    host.ok(&["container", "create", "--name", "idle", "busybox"]);
    let files = |host: &Host| -> Vec<PathBuf> {
        let images = host.root().join("images");
        let mut all = blobs(host);
        all.extend([images.join("index.json"), images.join("oci-layout"), layer(host).with_extension("json")]);
        all.push(layer(host).join("bin/busybox"));
        all
    };
    let harms: [fn(&Path); 4] = [
        flip,
        |path| fs::write(path, "").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ];
    let commands: [&[&str]; 11] = [
        &["image", "ls"],
        &["image", "inspect", "busybox"],
        &["image", "history", "busybox"],
        &["image", "save", "-o", "/dev/null", "busybox"],
        &["image", "tag", "busybox", "other:1"],
        &["container", "run", "--rm", "busybox", "true"],
        &["container", "inspect", "idle"],
        &["system", "df"],
        &["system", "prune", "-f"],
        &["container", "ls", "-a"],
        &["system", "check", "-q"],
    ];
    let count = files(&host).len();
    for number in 0..count {
        for harm in harms {
            let path = files(&host).swap_remove(number);
            harm(&path);
            for args in commands {
                let done = host.run(args);
                let said = format!("{} with {} harmed: {}{}", args.join(" "), path.display(), done.out, done.err);
                assert!(done.code < 101 || [125, 126, 127, 255].contains(&done.code), "{} {said}", done.code);
                assert!(!done.err.contains("panicked"), "{said}");
                // What fails says why.
                assert!(done.code == 0 || !done.err.is_empty() || args.contains(&"check"), "{said}");
            }
            host.ok(&["image", "pull", "-q", "busybox"]);
            let (code, findings) = check(&host, false);
            assert_eq!(code, 0, "{}: {findings:#}", path.display());
            host.ok(&["container", "run", "--rm", "busybox", "true"]);
        }
    }
}

/// A container whose layer is gone, and state that does not parse.
#[test]
fn what_containers_stand_on_is_checked_too() {
    let Some(host) = host() else { return };
    host.ok(&["container", "create", "--name", "idle", "busybox"]);
    host.ok(&["volume", "create", "kept"]);
    let id = host.inspect("idle")["Image"].as_str().unwrap().to_owned();
    fs::remove_dir_all(layer(&host)).unwrap();
    let gone = blobs(&host);
    fs::write(host.root().join("images/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    fs::write(host.root().join("volumes/kept/volume.json"), "{").unwrap();
    let (code, findings) = check(&host, false);
    assert_eq!(code, 1);
    let kinds: Vec<&str> =
        findings["problems"].as_array().unwrap().iter().map(|p| p["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["container", "state"], "{findings:#}");
    assert_eq!(findings["problems"][0]["containers"][0], "idle");
    // The config of the image that the container uses is there still.
    assert!(gone.iter().any(|path| id.ends_with(path.file_name().unwrap().to_str().unwrap())));
    let _ = host.run(&["system", "check", "--repair"]);
    assert!(gone.iter().all(|path| path.exists()));
    fs::remove_dir_all(host.root().join("volumes/kept")).unwrap();
    host.ok(&["image", "pull", "-q", "busybox"]);
    assert_eq!(check(&host, false).0, 0);
    host.ok(&["container", "start", "idle"]);
}
