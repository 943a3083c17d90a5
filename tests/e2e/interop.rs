//! Our layout and archives under skopeo and umoci, and what they write under umiak. Docker and Podman:
//! `scripts/interop`.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use serde_json::Value;

use crate::harness::{Host, finish, tool};

/// Deleted and replaced files, links, owners, modes, a pipe, a program with a capability.
const DOCKERFILE: &str = "FROM busybox
ADD x.tar /x/
RUN mkdir -p /x/gone /x/replaced && echo a >/x/gone/a && echo b >/x/replaced/old && echo c >/x/c && ln /x/c /x/hard
RUN rm -r /x/gone /x/replaced /var/www && mkdir -m 1775 /x/replaced && echo new >/x/replaced/new && ln -s c /x/soft
RUN chown 1000:2000 /x/replaced/new && chmod 4711 /x/replaced/new && mkfifo /x/pipe && mkdir -p /x/empty/deep
ENV GREETING=\"hello there\"
LABEL who=umiak
CMD [\"sh\", \"-c\", \"echo $GREETING; ls /x\"]
";
const LISTED: &str = "c\nempty\nhard\npipe\nreplaced\nsoft\ntool";
/// `cap_net_bind_service=ep`, as the kernel keeps it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The name that the image has in the layout.
const NAME: &str = "docker.io/library/interop:1";

/// Whether the programs are here; in CI they have to be.
fn has(programs: &[&str]) -> bool {
    let dirs = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin"];
    let missing = programs.iter().find(|name| !dirs.iter().any(|dir| Path::new(dir).join(name).exists()));
    let Some(missing) = missing else { return true };
    assert!(std::env::var("UMIAK_MUST_RUN").is_err(), "this test must run, but {missing} is not installed");
    eprintln!("skipped: {missing} is not installed");
    false
}

/// An archive with a program that has a capability.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("SCHILY.xattr.security.capability", CAPABILITY.as_slice())]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(10);
    tar.append_data(&mut header, "tool", b"#!/bin/sh\n".as_slice()).unwrap();
    tar.into_inner().unwrap()
}

fn build(host: &Host) -> String {
    host.write("Dockerfile", DOCKERFILE);
    fs::write(host.project().join("x.tar"), archive()).unwrap();
    host.ok(&["image", "build", "-q", "-t", "interop:1", "."]);
    format!("oci:{}:{NAME}", host.root().join("images").display())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn skopeo_reads_our_layout_and_archives() {
    if !has(&["skopeo"]) {
        return;
    }
    let Some(host) = Host::bare() else { return };
    let layout = build(&host);
    let ours = &host.json(&["image", "inspect", "interop:1"])[0];
    let layers = ours["RootFS"]["Layers"].as_array().unwrap().len();
    let archive = host.path().join("saved.tar");
    let archive = archive.to_str().unwrap();
    host.ok(&["image", "save", "-o", archive, "interop:1"]);
    let docker = format!("docker-archive:{archive}");
    for place in [&layout, &format!("oci-archive:{archive}"), &docker] {
        let shown = json(&tool("skopeo", &["inspect", place]));
        assert_eq!(shown["Layers"].as_array().unwrap().len(), layers, "{place}");
        assert_eq!(shown["Labels"]["who"], "umiak", "{place}");
        let config = json(&tool("skopeo", &["inspect", "--config", place]));
        assert_eq!(config["config"]["Cmd"], ours["Config"]["Cmd"], "{place}");
        assert_eq!(config["config"]["Env"], ours["Config"]["Env"], "{place}");
        assert_eq!(config["rootfs"]["diff_ids"], ours["RootFS"]["Layers"], "{place}");
    }
    // It checks the digest of everything that it copies.
    let copied = host.path().join("copied");
    tool("skopeo", &["copy", "-q", &layout, &format!("dir:{}", copied.display())]);
    assert_eq!(
        json(&fs::read_to_string(copied.join("manifest.json")).unwrap())["layers"].as_array().unwrap().len(),
        layers
    );
}

#[test]
fn umoci_unpacks_our_layout() {
    if !has(&["umoci"]) {
        return;
    }
    let Some(host) = Host::bare() else { return };
    let layout = build(&host);
    let image = layout.strip_prefix("oci:").unwrap();
    let steps = tool("umoci", &["stat", "--image", image]);
    assert!(steps.contains("mkfifo /x/pipe"), "{steps}");
    let bundle = host.path().join("bundle");
    tool("umoci", &["unpack", "--image", image, bundle.to_str().unwrap()]);
    let root = bundle.join("rootfs");
    let stat = |name: &str| fs::symlink_metadata(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for gone in ["x/gone", "x/replaced/old", "var/www"] {
        assert!(!root.join(gone).exists(), "{gone} was deleted");
    }
    assert_eq!(stat("x/c").ino(), stat("x/hard").ino());
    assert_eq!(fs::read_link(root.join("x/soft")).unwrap(), Path::new("c"));
    assert_eq!(stat("x/replaced").mode() & 0o7777, 0o1775);
    let new = stat("x/replaced/new");
    assert_eq!((new.mode() & 0o7777, new.uid(), new.gid()), (0o4711, 1000, 2000));
    assert!(stat("x/pipe").file_type().is_fifo());
    assert!(stat("x/empty/deep").is_dir());
    let mut value = [0_u8; 64];
    let length = rustix::fs::getxattr(root.join("x/tool"), "security.capability", &mut value).unwrap();
    assert_eq!(value[..length], CAPABILITY);
}

#[test]
fn what_skopeo_and_umoci_write_is_loaded_and_run() {
    if !has(&["skopeo", "umoci"]) {
        return;
    }
    let Some(host) = Host::bare() else { return };
    let layout = build(&host);
    let at = |name: &str| host.path().join(name).to_str().unwrap().to_owned();
    // One more layer, and another config, made by umoci.
    tool("skopeo", &["copy", "-q", &layout, &format!("oci:{}:base", at("theirs"))]);
    let base = format!("{}:base", at("theirs"));
    tool("umoci", &["unpack", "--image", &base, &at("bundle")]);
    let root = host.path().join("bundle/rootfs");
    fs::write(root.join("x/umoci"), "made by umoci\n").unwrap();
    fs::remove_file(root.join("x/pipe")).unwrap();
    fs::remove_dir_all(root.join("x/replaced")).unwrap();
    let changed = format!("{}:changed", at("theirs"));
    tool("umoci", &["repack", "--image", &changed, &at("bundle")]);
    tool("umoci", &["config", "--image", &changed, "--config.env", "GREETING=hello from umoci"]);

    for (kind, file) in [("oci-archive", "theirs-oci.tar"), ("docker-archive", "theirs-docker.tar")] {
        let name = format!("localhost/{kind}:1");
        let archive = format!("{kind}:{}:{name}", at(file));
        tool("skopeo", &["copy", "-q", &format!("oci:{changed}"), &archive]);
        let loaded = host.ok(&["image", "load", "-i", &at(file)]);
        assert!(loaded.contains(&name), "{loaded}");
        let mut command = host.command(&["container", "run", "--rm", "--network", "none", &name]);
        command.env("TERM", "dumb");
        let done = finish(command, b"", &name);
        assert_eq!(
            (done.code, done.out.trim_end()),
            (0, "hello from umoci\nc\nempty\nhard\nsoft\ntool\numoci"),
            "{}",
            done.err
        );
    }
    assert_eq!(
        host.ok(&["container", "run", "--rm", "--network", "none", "interop:1"]),
        format!("hello there\n{LISTED}")
    );
}
