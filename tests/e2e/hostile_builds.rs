//! Dockerfiles and contexts that attack whoever builds them, one for each hole
//! that builders have had; and images whose programs lie in wait for the host.
//! A directory of the host beside it all stays as it is.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::harness::{Done, Host, eventually, names_in};
use crate::registry::own_store;

/// A directory of the host that nobody is to touch.
struct Canary(PathBuf);

impl Canary {
    fn new(host: &Host) -> Self {
        let dir = host.path().join("canary");
        fs::create_dir_all(dir.join("b/c")).unwrap();
        fs::write(dir.join("secret"), "of the host").unwrap();
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn seen(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![self.0.clone()];
        while let Some(path) = left.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            found.push(format!("{} {:o} {} {times:?}", path.display(), meta.mode(), meta.size()));
            if meta.is_dir() {
                left.extend(names_in(&path).into_iter().map(|name| path.join(name)));
            }
        }
        found.sort();
        found
    }
}

/// Builds a Dockerfile with a context that holds what `fill` puts there.
fn build(host: &Host, dockerfile: &str, args: &[&str], fill: impl FnOnce(&Path)) -> Done {
    let context = host.project().join("ctx");
    let _ = fs::remove_dir_all(&context);
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    fill(&context);
    let all =
        [&["image", "build", "--progress", "plain", "-t", "evil:1"][..], args, &[context.to_str().unwrap()]].concat();
    host.run(&all)
}

fn ready() -> Option<(Host, Canary)> {
    // The image has the same name in all of them.
    let host = own_store()?;
    let canary = Canary::new(&host);
    Some((host, canary))
}

/// buildah's CVE-2024-1753: a stage's symlink as the source of a bind mount.
#[test]
fn the_source_of_a_bind_mount_stays_in_its_stage() {
    let Some((host, canary)) = ready() else { return };
    let before = canary.seen();
    let dockerfile = format!(
        "FROM busybox AS a\nRUN ln -s / /rootdir && ln -s {0} /canary && ln -s ../../../../../../../..{0} /up\n\
         FROM busybox\nRUN --mount=type=bind,from=a,source=/rootdir,target=/m,rw touch /m/touched /m{0}/touched || true\n\
         RUN --mount=type=bind,from=a,source=/canary,target=/m,rw touch /m/touched; true\n\
         RUN --mount=type=bind,from=a,source=/up,target=/m,rw cat /m/secret > /stolen; true\n",
        canary.path()
    );
    let done = build(&host, &dockerfile, &[], |_| ());
    // Whether such a source is refused, or is one of the stage's own.
    assert_eq!(canary.seen(), before, "{}", done.err);
    assert!(!Path::new("/touched").exists());
    if done.code == 0 {
        let stolen = host.run(&["container", "run", "--rm", "evil:1", "cat", "/stolen"]).out;
        assert!(!stolen.contains("of the host"), "{stolen}");
    }
}

/// buildah's CVE-2024-9407 and the like: words that mount options may not have.
#[test]
fn unknown_words_of_mounts_are_refused_by_line() {
    let Some((host, _canary)) = ready() else { return };
    for option in [
        "type=bind,from=busybox,target=/m,bind-propagation=rshared",
        "type=bind,from=busybox,target=/m,bind-propagation=../../x",
        "type=cache,target=/m,sharing=everything",
        "type=devices,target=/m",
        "type=tmpfs,target=/m,size=-1",
        "type=secret,id=x,target=/m,mode=9999",
    ] {
        let done = build(&host, &format!("FROM busybox\n\nRUN --mount={option} true\n"), &[], |_| ());
        assert_ne!(done.code, 0, "{option}");
        assert!(done.err.contains(":3") || done.err.contains("line 3"), "{option}: {}", done.err);
        assert!(!done.err.contains("panicked"), "{}", done.err);
    }
}

/// buildah's CVE-2024-9675: an id of a cache is no path.
#[test]
fn the_id_of_a_cache_is_no_path() {
    let Some((host, canary)) = ready() else { return };
    let before = canary.seen();
    let long = "x".repeat(65_000);
    for id in [
        format!("../../../../../../../../..{}", canary.path()),
        canary.path().to_owned(),
        "..".into(),
        "/".into(),
        long,
    ] {
        let dockerfile =
            format!("FROM busybox\nRUN --mount=type=cache,id={id},target=/m touch /m/touched; cat /m/secret; true\n");
        let done = build(&host, &dockerfile, &["--no-cache"], |_| ());
        assert_eq!(canary.seen(), before, "{id:.40}: {}", done.err);
        assert!(!done.err.contains("of the host") && !done.out.contains("of the host"));
    }
}

/// buildkit's CVE-2024-23652: what was made for a mount is removed as what it was, not by its name.
#[test]
fn a_mounts_stub_that_became_a_symlink_leads_no_removal_out() {
    let Some((host, canary)) = ready() else { return };
    let before = canary.seen();
    for kind in ["type=tmpfs", "type=cache,id=stub", "type=bind,source=."] {
        let dockerfile = format!(
            "FROM busybox\nRUN --mount={kind},target=/a/b/c mv /a /moved && ln -s {} /a && ls -la / >/seen; true\n",
            canary.path()
        );
        let done = build(&host, &dockerfile, &["--no-cache"], |_| ());
        assert_eq!(canary.seen(), before, "{kind}: {}", done.err);
    }
}

/// buildkit's CVE-2024-23653: what needs an entitlement is refused without it.
#[test]
fn a_privileged_step_needs_to_be_allowed() {
    let Some((host, _canary)) = ready() else { return };
    for head in ["", "# syntax=docker/dockerfile:1-labs\n", "# syntax=127.0.0.1:1/evil/frontend\n"] {
        let done = build(&host, &format!("{head}FROM busybox\nRUN --security=insecure true\n"), &[], |_| ());
        assert_ne!(done.code, 0, "{head}");
        assert!(done.err.contains("security.insecure"), "{}", done.err);
        let done = build(&host, &format!("{head}FROM busybox\nRUN --network=host true\n"), &[], |_| ());
        assert_ne!(done.code, 0, "{head}");
        assert!(done.err.contains("network.host"), "{}", done.err);
    }
}

/// moby's CVE-2024-24557: what a step is found by holds all of it, and nothing that an image says of itself.
#[test]
fn the_cache_is_not_poisoned_by_metadata_or_by_history() {
    let Some((host, _canary)) = ready() else { return };
    let check = |test: &str| format!("FROM scratch\nHEALTHCHECK CMD {test}\nONBUILD RUN {test}\nCOPY Dockerfile /d\n");
    for test in ["first", "second"] {
        assert_eq!(build(&host, &check(test), &[], |_| ()).code, 0);
        let shown = host.json(&["image", "inspect", "evil:1"]);
        assert!(shown[0]["Config"]["Healthcheck"]["Test"][1].as_str() == Some(test), "{shown:#}");
        assert!(shown[0]["Config"]["OnBuild"][0].as_str().unwrap().contains(test));
    }
    // An image that claims to be what a step makes: its history says so, its content does not.
    let victim = "FROM busybox\nRUN echo right > /made\n";
    let done = build(&host, "FROM busybox\nRUN echo wrong > /made\n", &[], |_| ());
    assert_eq!(done.code, 0, "{}", done.err);
    let archive = host.path().join("evil.tar");
    host.ok(&["image", "save", "-o", archive.to_str().unwrap(), "evil:1"]);
    let bytes = fs::read(&archive).unwrap();
    assert!(!bytes.is_empty());
    host.ok(&["image", "load", "-q", "-i", archive.to_str().unwrap()]);
    let done = build(&host, victim, &[], |_| ());
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(host.ok(&["container", "run", "--rm", "evil:1", "cat", "/made"]), "right");
}

/// buildah's CVE-2026-44517: a context's symlinks lead nowhere but into the context.
#[test]
fn the_context_is_all_that_can_be_copied() {
    let Some((host, canary)) = ready() else { return };
    let before = canary.seen();
    let fill = |context: &Path| {
        symlink("/", context.join("proj")).unwrap();
        symlink(&canary.0, context.join("canary")).unwrap();
        symlink(canary.0.join("secret"), context.join("secret")).unwrap();
        symlink("../../canary/secret", context.join("up")).unwrap();
        fs::create_dir(context.join("dir")).unwrap();
        symlink(&canary.0, context.join("dir/inner")).unwrap();
    };
    for instruction in [
        format!("COPY proj{}/secret /got", canary.path()),
        "COPY canary/secret /got".into(),
        "COPY canary/ /got".into(),
        "COPY secret /got".into(),
        "ADD up /got".into(),
        "COPY ../../canary/secret /got".into(),
        "COPY ../../../../../../../../etc/passwd /got".into(),
        "COPY dir/inner/secret /got".into(),
        "COPY dir/inner/* /got/".into(),
        "COPY --parents dir/inner/secret /got/".into(),
        "RUN --mount=type=bind,source=canary,target=/m cp -r /m /got".into(),
        "RUN --mount=type=bind,source=../../canary,target=/m cp -r /m /got".into(),
    ] {
        let done = build(&host, &format!("FROM busybox\n{instruction}\n"), &["--no-cache"], fill);
        assert_eq!(canary.seen(), before, "{instruction}");
        if done.code == 0 {
            let got = host.run(&["container", "run", "--rm", "evil:1", "sh", "-c", "grep -r . /got"]);
            assert!(!got.out.contains("of the host"), "{instruction}: {}", got.out);
        }
        assert!(!done.err.contains("panicked"), "{}", done.err);
    }
    // Where the symlink is in the image, files go where it leads there.
    let dockerfile = format!(
        "FROM busybox\nRUN ln -s {} /out && ln -s / /top\nCOPY own /out/own\nCOPY own /top/own\n",
        canary.path()
    );
    let done = build(&host, &dockerfile, &["--no-cache"], |context| fs::write(context.join("own"), "x").unwrap());
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(canary.seen(), before);
    assert_eq!(host.ok(&["container", "run", "--rm", "evil:1", "cat", "/own"]), "x");
}

/// A source that another step swaps while it is used (buildah's CVE-2024-11218, buildkit's CVE-2024-23651).
#[test]
fn a_source_that_is_swapped_meanwhile_leads_nowhere_else() {
    let Some((host, canary)) = ready() else { return };
    let before = canary.seen();
    // Two stages at once share a cache: one swaps a directory of it for a symlink, the other mounts through it.
    let dockerfile = format!(
        "FROM busybox AS swap\nRUN --mount=type=cache,id=shared,target=/c mkdir -p /c/d; \
         for i in $(seq 1 300); do mv /c/d /c/e; ln -s {0} /c/d; rm /c/d; mv /c/e /c/d; done; true\n\
         FROM busybox AS use\n{1}FROM busybox\nCOPY --from=swap /etc/passwd /one\nCOPY --from=use /etc/passwd /two\n",
        canary.path(),
        (0..6)
            .map(|n| format!(
                "RUN --mount=type=cache,id=shared,target=/c echo {n}; touch /c/d/touched; cat /c/d/secret; true\n"
            ))
            .collect::<String>()
    );
    let done = build(&host, &dockerfile, &["--no-cache"], |_| ());
    assert_eq!(canary.seen(), before, "{}", done.err);
    assert!(!done.err.contains("of the host"), "{}", done.err);
}

/// Programs of a container that host tools are known to have run: none of them runs but by the container's own doing.
#[test]
fn no_program_of_a_container_is_run_for_the_host() {
    let Some((host, canary)) = ready() else { return };
    let before = canary.seen();
    let programs = "xz gzip unpigz zstd bzip2 tar nsenter ps top cp mount umount iptables nft fusermount modprobe";
    let script = format!(
        "for p in {programs}; do printf '#!/bin/sh\\ntouch /ran /proc/1/root/ran; exit 1\\n' > /usr/bin/$p; chmod 4755 /usr/bin/$p; done; \
         mkdir -p /usr/local/bin /lib; cp /usr/bin/xz /usr/local/bin/; printf evil > /lib/libnss_files.so.2; touch /ready; exec sleep 1000"
    );
    host.ok(&["container", "run", "-d", "--name", "evil", "busybox", "/bin/sh", "-c", &script]);
    eventually("it is ready", || {
        let done = host.run(&["container", "exec", "evil", "/bin/sh", "-c", "[ -e /ready ]"]);
        if done.code == 0 { Ok(()) } else { Err(done.err) }
    });
    let file = host.path().join("in");
    fs::write(&file, "x").unwrap();
    host.ok(&["container", "cp", file.to_str().unwrap(), "evil:/in"]);
    host.ok(&["container", "cp", "evil:/in", host.path().join("out").to_str().unwrap()]);
    let mut packed = Vec::new();
    {
        let mut tar = tar::Builder::new(&mut packed);
        tar.append_path_with_name(&file, "from-archive").unwrap();
        tar.finish().unwrap();
    }
    host.feed(&["container", "cp", "-", "evil:/"], &packed);
    let xz: &[u8] = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F";
    host.feed(&["container", "cp", "-", "evil:/"], xz);
    for args in [
        &["container", "top", "evil"][..],
        &["container", "stats", "--no-stream", "evil"],
        &["container", "logs", "evil"],
        &["container", "diff", "evil"],
        &["container", "inspect", "-s", "evil"],
        &["container", "export", "-o", "/dev/null", "evil"],
        &["container", "commit", "evil", "evil:2"],
        &["container", "pause", "evil"],
        &["container", "unpause", "evil"],
        &["container", "restart", "-t", "0", "evil"],
    ] {
        host.run(args);
    }
    let seen = host.run(&["container", "exec", "evil", "/bin/sh", "-c", "[ -e /ran ] && echo it ran"]).out;
    assert_eq!(seen, "");
    assert!(!Path::new("/ran").exists());
    assert_eq!(canary.seen(), before);
    // A symlink of the container that is absolute leads where it does in the container, both ways.
    host.ok(&[
        "container",
        "exec",
        "evil",
        "/bin/sh",
        "-c",
        "mkdir -p /run/real && echo inside > /run/real/f && ln -s /run/real /link",
    ]);
    host.ok(&["container", "cp", "evil:/link/f", host.path().join("f").to_str().unwrap()]);
    assert_eq!(fs::read_to_string(host.path().join("f")).unwrap(), "inside\n");
    host.ok(&["container", "cp", file.to_str().unwrap(), "evil:/link/g"]);
    assert_eq!(host.ok(&["container", "exec", "evil", "/bin/sh", "-c", "read x < /run/real/g; echo $x"]), "x");
}
