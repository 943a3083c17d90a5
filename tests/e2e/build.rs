//! `image build`: what goes beyond a single Dockerfile's result (that is `dockerfiles`): where contexts come from and
//! results go to, the cache, several platforms, and what RUN may do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::harness::{Done, Host, finish, tool};
use crate::registry::Registry;

/// Builds, which must succeed; the image's id.
fn build(host: &Host, args: &[&str]) -> String {
    host.ok(&[&["image", "build", "-q"], args].concat())
}

/// Builds a Dockerfile from stdin with the project's directory as the context.
fn build_text(host: &Host, text: &str, args: &[&str]) -> Done {
    host.feed(&[&["image", "build", "-f", "-"], args, &["."]].concat(), text.as_bytes())
}

fn cat(host: &Host, image: &str, path: &str) -> String {
    host.ok(&["container", "run", "--rm", "--network", "none", image, "cat", path])
}

#[test]
fn two_builds_of_the_same_give_the_same_digest() {
    let Some(host) = Host::bare() else { return };
    host.write("a/x", "1");
    host.write("Dockerfile", "FROM busybox\nWORKDIR /w\nCOPY a /a\nRUN mkdir /d && date >/dev/null && echo 1 >/d/f\n");
    let once = || {
        let mut command = host.command(&["image", "build", "-q", "--no-cache", "."]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        let done = finish(command, b"", "image build");
        assert_eq!(done.code, 0, "{}", done.err);
        done.out
    };
    let first = once();
    // Another second, and other times of the files: the content is the same.
    let path = host.project().join("a/x");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
    fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
    assert_eq!(first, once());
    let image = host.json(&["image", "inspect", first.trim()]);
    assert_eq!(image[0]["Created"], "2023-11-14T22:13:20Z");
}

#[test]
fn what_has_not_changed_is_not_done_again() {
    let Some(host) = Host::bare() else { return };
    host.write("a", "1");
    host.write("b", "1");
    host.write(
        "Dockerfile",
        "FROM busybox\nRUN head -c 16 /dev/urandom | md5sum >/random\nCOPY a /\nRUN md5sum /random >/second\nCOPY b /\n",
    );
    let first = build(&host, &["."]);
    assert_eq!(build(&host, &["."]), first, "nothing has changed");
    // What comes after the change is done again, what comes before is not; the mode counts, the time does not.
    host.write("b", "2");
    let second = build(&host, &["."]);
    assert_ne!(first, second);
    assert_eq!(cat(&host, &first, "/random"), cat(&host, &second, "/random"));
    host.write("b", "1");
    assert_eq!(build(&host, &["."]), first, "as it was before");
    assert_ne!(cat(&host, &build(&host, &["--no-cache", "."]), "/random"), cat(&host, &first, "/random"));
    // Only one of them; a stage without a name is known by its number.
    assert_ne!(cat(&host, &build(&host, &["--no-cache-filter", "0", "."]), "/random"), cat(&host, &first, "/random"));
}

#[test]
fn only_what_is_needed_is_built() {
    let Some(host) = Host::bare() else { return };
    let text =
        "FROM busybox AS one\nRUN echo 1 >/one\nFROM busybox AS broken\nRUN false\nFROM one AS two\nRUN echo 2 >/two\n";
    let done = build_text(&host, text, &["-t", "two"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(cat(&host, "two", "/two"), "2");
    assert_eq!(build_text(&host, text, &["-t", "one", "--target", "ONE"]).code, 0);
    assert_eq!(cat(&host, "one", "/one"), "1");
    let done = build_text(&host, text, &["--target", "broken"]);
    assert_eq!(done.code, 1);
    assert!(
        done.err.contains("process \"/bin/sh -c false\" did not complete successfully: exit code: 1"),
        "{}",
        done.err
    );
    assert!(done.err.contains(">>> RUN false"), "{}", done.err);
    // A stage that fails ends another one that would take for ever.
    let text = "FROM busybox AS slow\nRUN sleep 100000\nFROM busybox\nRUN false\nCOPY --from=slow /x /x\n";
    let done = build_text(&host, text, &[]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("exit code: 1"), "{}", done.err);
}

#[test]
fn contexts_come_from_anywhere() {
    let Some(host) = Host::bare() else { return };
    host.write("repo/sub/Dockerfile", "FROM busybox\nCOPY . /r/\n");
    host.write("repo/sub/file", "of git");
    let repo = host.project().join("repo");
    let git = |args: &[&str]| {
        let status = std::process::Command::new("git").arg("-C").arg(&repo).args(args).status().unwrap();
        assert!(status.success(), "git {args:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-q", "-m", "x"]);
    let url = format!("file://{}", repo.display());
    let image = build(&host, &[&format!("{url}#main:sub")]);
    assert_eq!(cat(&host, &image, "/r/file"), "of git");
    let listed = host.ok(&["container", "run", "--rm", "--network", "none", &image, "ls", "-A", "/r"]);
    assert_eq!(listed, "Dockerfile\nfile");
    // An archive on stdin, and a Dockerfile alone.
    let archive = tool("tar", &["-C", repo.to_str().unwrap(), "-cz", "-f", "-", "--exclude=.git", "sub"]);
    assert!(!archive.is_empty());
    let mut tar = std::process::Command::new("tar");
    let archive = tar.arg("-C").arg(&repo).args(["-czf", "-", "sub"]).output().unwrap().stdout;
    let done = host.feed(&["image", "build", "-q", "-f", "sub/Dockerfile", "-"], &archive);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(cat(&host, done.out.trim(), "/r/sub/file"), "of git");
    let done = host.feed(&["image", "build", "-q", "-"], b"FROM busybox\nRUN echo alone >/f\n");
    assert_eq!(cat(&host, done.out.trim(), "/f"), "alone");
    // By name: a directory, a repository, an image, a layout.
    host.write("other/f", "of a directory");
    build(&host, &["-o", "type=oci,dest=image.tar", "-f", "repo/sub/Dockerfile", "repo/sub"]);
    let layout = host.project().join("layout");
    fs::create_dir(&layout).unwrap();
    tool("tar", &["-C", layout.to_str().unwrap(), "-xf", host.project().join("image.tar").to_str().unwrap()]);
    let text = "FROM lay\nCOPY --from=dir f /dir\nCOPY --from=git sub/file /git\nCOPY --from=img /bin/busybox /img\n\
                RUN --mount=from=dir,target=/m cat /m/f >/mounted\n";
    let (git, lay) = (format!("git={url}"), format!("lay=oci-layout://{}", layout.display()));
    let contexts = ["dir=other", &git, "img=docker-image://busybox", &lay];
    let mut args = vec!["-t", "named"];
    for context in &contexts {
        args.extend(["--build-context", context]);
    }
    let done = build_text(&host, text, &args);
    assert_eq!(done.code, 0, "{}", done.err);
    for (path, expected) in
        [("/dir", "of a directory"), ("/git", "of git"), ("/mounted", "of a directory"), ("/r/file", "of git")]
    {
        assert_eq!(cat(&host, "named", path), expected, "{path}");
    }
    // A repository behind a server, in a context of its own and in ADD.
    let served = host.path().join("served");
    let clone = served.join("r.git");
    tool("git", &["clone", "-q", "--bare", repo.to_str().unwrap(), clone.to_str().unwrap()]);
    tool("git", &["-C", clone.to_str().unwrap(), "update-server-info"]);
    let http = format!("http://127.0.0.1:{}/r.git", crate::dockerfiles::serve::serve(&served));
    let image = build(&host, &[&format!("{http}#main:sub")]);
    assert_eq!(cat(&host, &image, "/r/file"), "of git");
    let text = format!("FROM busybox\nADD {http}#main:sub /a/\nADD --keep-git-dir=true {http}#main /b/\n");
    let done = build_text(&host, &text, &["-t", "added"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(cat(&host, "added", "/a/file"), "of git");
    assert!(cat(&host, "added", "/b/.git/HEAD").len() >= 40);
    // A Dockerfile is anybody's: it reaches no repository of this host, and none by the user's keys.
    for (source, why) in [(url.as_str(), "of this host"), ("git@localhost.localdomain:x.git", "--ssh default")] {
        let done = build_text(&host, &format!("FROM busybox\nADD {source} /x\n"), &[]);
        assert_eq!(done.code, 1);
        assert!(done.err.contains(why), "{}", done.err);
    }
}

#[test]
fn results_go_anywhere() {
    let Some(host) = Host::bare() else { return };
    host.write("f", "content");
    host.write(
        "Dockerfile",
        "FROM busybox AS b\nRUN mkdir /l && ln -s /f /l/l\nFROM scratch\nCOPY --chown=7:8 f /d/\nCOPY --from=b /l /\n",
    );
    host.ok(&["image", "build", "-q", "-o", "out", "."]);
    let out = host.project().join("out");
    assert_eq!(fs::read_to_string(out.join("d/f")).unwrap(), "content");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(out.join("d/f")).unwrap()), 7);
    assert_eq!(fs::read_link(out.join("l")).unwrap(), Path::new("/f"));
    host.ok(&["image", "build", "-q", "-o", "type=tar,dest=out.tar", "."]);
    let listed = tool("tar", &["-tf", host.project().join("out.tar").to_str().unwrap()]);
    assert_eq!(listed.lines().collect::<BTreeSet<_>>(), BTreeSet::from(["d/", "d/f", "l"]));
    assert!(host.ok(&["image", "ls", "-q", "-f", "dangling=true"]).is_empty(), "nothing of it is in the store");
    host.ok(&["image", "build", "-q", "-t", "saved:1", "-o", "type=docker,dest=image.tar", "."]);
    host.fails(1, &["image", "inspect", "saved:1"]);
    host.ok(&["image", "load", "-q", "-i", "image.tar"]);
    host.ok(&["image", "build", "-q", "-o", "type=cacheonly", "."]);
    for wrong in ["type=nowhere", "type=local", "dest=x", "type=local,dest=x,y=z", "type=oci,dest=x,tar=false"] {
        let error = host.fails(1, &["image", "build", "-o", wrong, "."]);
        assert!(error.contains("output"), "{error}");
    }
}

#[test]
fn several_platforms_are_one_index() {
    let Some(host) = Host::bare() else { return };
    let Some(registry) = Registry::start(false) else { return };
    let text = "FROM --platform=$BUILDPLATFORM busybox AS b\nARG TARGETARCH\nRUN echo $TARGETARCH >/arch\n\
                FROM scratch\nCOPY --from=b /arch /arch\n";
    let name = format!("{}/multi:1", registry.host);
    let done = build_text(&host, text, &["--platform", "linux/amd64,linux/arm64", "-t", &name, "--push"]);
    assert_eq!(done.code, 0, "{}", done.err);
    let mut found = BTreeSet::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let other = Host::bare().unwrap();
        other.ok(&["image", "pull", "-q", "--platform", platform, &name]);
        let image = other.json(&["image", "inspect", &name]);
        found.insert(image[0]["Architecture"].as_str().unwrap().to_owned());
    }
    assert_eq!(found, BTreeSet::from(["amd64".to_owned(), "arm64".to_owned()]));
    // All of it is kept, and goes together.
    host.ok(&["image", "prune", "-f"]);
    host.ok(&["image", "push", "-q", &name]);
    host.ok(&["image", "rm", &name]);
    host.ok(&["builder", "prune", "-a", "-f"]);
    host.ok(&["image", "prune", "-a", "-f"]);
    assert_eq!(fs::read_dir(host.root().join("images/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn run_is_in_the_sandbox_and_gets_what_it_is_given() {
    let Some(host) = Host::bare() else { return };
    host.write("secret", "geheim");
    let text = "FROM busybox\n\
        RUN grep -E 'Cap(Inh|Amb)' /proc/self/status | grep -vq 0000000000000000 && exit 1; true\n\
        RUN grep Seccomp: /proc/self/status | grep -q 2\n\
        RUN test ! -e /run/secrets\n\
        RUN --mount=type=secret,id=s cat /run/secrets/s | md5sum >/sum\n\
        RUN --mount=type=secret,id=s,env=TOKEN test \"$TOKEN\" = geheim\n\
        RUN test ! -e /run/secrets && test -z \"$TOKEN\"\n\
        RUN --mount=type=cache,target=/c echo x >>/c/lines; wc -l </c/lines >/count\n\
        RUN --mount=type=cache,target=/c --network=none echo x >>/c/lines; wc -l </c/lines >/count; test ! -e /sys/class/net/eth0\n\
        RUN --mount=type=tmpfs,target=/t touch /t/x && mount | grep -q ' /t type tmpfs'\n\
        RUN test ! -e /t && test ! -e /c\n";
    let done = build_text(&host, text, &["-t", "box", "--secret", "id=s,src=secret"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(cat(&host, "box", "/count"), "2");
    let refusals = [
        ("RUN --security=insecure true", "security.insecure"),
        ("RUN --network=host true", "network.host"),
        ("RUN --mount=type=secret,id=none,required=true true", "none: not found"),
        ("RUN --mount=type=ssh,required=true true", "default: not found"),
        ("RUN no-such-program", "exit code: 127"),
    ];
    for (line, why) in refusals {
        let done = build_text(&host, &format!("FROM busybox\n{line}\n"), &[]);
        assert_eq!(done.code, 1, "{line}");
        assert!(done.err.contains(why) && done.err.contains("Dockerfile:2"), "{line}: {}", done.err);
    }
    let allowed = ["--allow", "network.host,security.insecure"];
    let text =
        "FROM busybox\nRUN --network=host true\nRUN --security=insecure grep -q 'Seccomp:.*0' /proc/self/status\n";
    let done = build_text(&host, text, &allowed);
    assert_eq!(done.code, 0, "{}", done.err);
}

#[test]
fn an_ssh_agent_is_there_for_one_run() {
    let Some(host) = Host::bare() else { return };
    let socket = host.path().join("agent");
    let _listener = UnixListener::bind(&socket).unwrap();
    let text = "FROM busybox\nRUN --mount=type=ssh,mode=0666,uid=5 test -S \"$SSH_AUTH_SOCK\" && stat -c '%a %u' $SSH_AUTH_SOCK\n\
                RUN test -z \"$SSH_AUTH_SOCK\" && test ! -e /run/buildkit\n";
    let done = build_text(&host, text, &["--ssh", &format!("default={}", socket.display())]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("666 5"), "{}", done.err);
}

#[test]
fn a_cache_travels_with_an_image_a_directory_or_a_registry() {
    let Some(registry) = Registry::start(false) else { return };
    let name = format!("{}/cached:1", registry.host);
    let cache = format!("type=registry,ref={}/cache:1,mode=max", registry.host);
    let text = "FROM busybox AS b\nRUN head -c 16 /dev/urandom | md5sum >/inner\n\
                FROM busybox\nRUN head -c 16 /dev/urandom | md5sum >/random\nCOPY --from=b /inner /inner\nRUN md5sum /inner >/sum\n";
    let random = |host: &Host, args: &[&str]| {
        let done = build_text(host, text, &[&["-t", &name], args].concat());
        assert_eq!(done.code, 0, "{}", done.err);
        (cat(host, &name, "/random"), cat(host, &name, "/inner"))
    };
    let shared = tempfile::tempdir().unwrap();
    let dir = shared.path().to_str().unwrap();
    let (to, from) = (format!("type=local,dest={dir},mode=max"), format!("type=local,src={dir}"));
    let first = {
        let Some(host) = Host::bare() else { return };
        random(&host, &["--cache-to", &to, "--cache-to", "type=inline", "--cache-to", &cache, "--push"])
    };
    let image = format!("{}/cache:1", registry.host);
    for (from, all) in [(from.as_str(), true), (image.as_str(), true), (name.as_str(), false)] {
        let host = Host::bare().unwrap();
        let second = random(&host, &["--cache-from", from]);
        assert_eq!(second.0, first.0, "{from}");
        assert_eq!(second.1 == first.1, all, "{from}: steps of the other stage");
    }
    // What is not there does no harm, and is said.
    let host = Host::bare().unwrap();
    let done = build_text(&host, "FROM busybox\nRUN true\n", &["--cache-from", "type=local,src=/nowhere"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("importing cache manifest from local:/nowhere"), "{}", done.err);
    let error = host.fails(1, &["image", "build", "--cache-to", "type=gha", "."]);
    assert!(error.contains("not supported"), "{error}");
}
