//! Copying, exporting and committing a container's files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::harness::{Host, tool};

/// A directory on the host with a bit of everything.
fn tree(host: &Host) -> PathBuf {
    let dir = host.project().join("src");
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("a"), "a\n").unwrap();
    fs::hard_link(dir.join("a"), dir.join("hard")).unwrap();
    symlink("a", dir.join("link")).unwrap();
    symlink("/etc", dir.join("abs")).unwrap();
    std::os::unix::fs::chown(dir.join("a"), Some(1234), Some(2345)).unwrap();
    fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o4755)).unwrap();
    dir
}

/// The names in an archive that a command has written to stdout.
fn names(host: &Host, args: &[&str]) -> Vec<String> {
    let file = host.path().join("archive.tar");
    let script = format!("\"$0\" {} > {}", args.join(" "), file.display());
    let done = host.other("sh", &["-c", &script, crate::harness::binary().to_str().unwrap()]).status().unwrap();
    assert!(done.success(), "{args:?}");
    tool("tar", &["-tf", file.to_str().unwrap()]).lines().map(str::to_owned).collect()
}

#[test]
fn cp_puts_things_where_docker_puts_them() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let src = tree(&host);
    host.ok(&["container", "run", "-d", "--name", "box", "-u", "7:8", "-v", "vol:/vol", "busybox", "sleep", "1000"]);
    let run = |script: &str| host.ok(&["container", "exec", "-u", "0", "box", "sh", "-c", script]);
    let cp = |from: &str, to: &str| host.run(&["container", "cp", from, to]);
    run(
        "mkdir /home/d; echo x >/home/d/f; chown 77:88 /home/d/f /home/d; ln -s /home/d /home/l; ln -s /new /home/broken",
    );
    // A directory to a name that is not there, into one that is, and its content alone.
    assert_eq!(cp("src", "box:/home/new").code, 0);
    assert_eq!(
        run("stat -c '%u:%g %a %h' /home/new/a /home/new/hard; readlink /home/new/abs"),
        "1234:2345 4755 2\n1234:2345 4755 2\n/etc"
    );
    assert_eq!(cp("src", "box:/home/d").code, 0);
    assert_eq!(cp("src/.", "box:/home/d").code, 0);
    assert_eq!(
        run("ls /home/d; stat -c %u /home/d"),
        "a\nabs\nf\nhard\nlink\nsrc\nsub\n77",
        "a directory that is there keeps its owner"
    );
    // A file to a file, through a symlink, and to where a broken one leads.
    assert_eq!(cp("src/a", "box:/home/l/f").code, 0);
    assert_eq!(cp("src/a", "box:/home/broken").code, 0);
    assert_eq!(run("cat /home/d/f /new"), "a\na");
    assert_eq!(host.run(&["container", "cp", "-a", "src/a", "box:/mine"]).code, 0);
    assert_eq!(run("stat -c %u:%g /mine"), "7:8");
    // What cannot be.
    for (from, to, said) in [
        ("src/a", "box:/none/", "no such directory"),
        ("src/a", "box:/none/x", "Could not find the file /none in container box"),
        ("src", "box:/home/d/f", "cannot copy directory"),
        ("src/a", "box:/home/d/sub/../src", ""),
        ("box:/none", "x", "Could not find the file /none in container box"),
        ("none", "box:/", "none: No such file"),
        ("box:/home/d", "src/a", "cannot copy directory"),
        ("box:/home/d/f", "none/", "no such directory"),
        ("box:/home/d/f", "none/x/y", "does not exist"),
        ("box:/a", "box:/b", "copying between containers is not supported"),
        ("/a", "/b", "must specify at least one container source"),
        ("src/a", "box:/etc/hosts", "busy"),
        ("src/link", "box:/home/d/src", ""),
        ("src/sub", "box:/home/d/src/link", "cannot copy directory"),
    ] {
        let done = cp(from, to);
        assert_eq!(done.code, i32::from(!said.is_empty()), "{from} {to}: {}", done.err);
        assert!(done.err.contains(said), "{from} {to}: {}", done.err);
    }
    // Out again: as the caller's own, without setuid.
    assert_eq!(cp("box:/home/new", "out").code, 0);
    let meta = fs::metadata(host.project().join("out/a")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777, meta.nlink()), (rustix::process::geteuid().as_raw(), 0o755, 2));
    assert_eq!(fs::read_link(host.project().join("out/abs")).unwrap(), PathBuf::from("/etc"));
    assert_eq!(cp("box:/home/l", "link").code, 0);
    assert!(host.project().join("link").is_symlink());
    assert_eq!(host.run(&["container", "cp", "-L", "box:/home/l", "followed"]).code, 0);
    assert!(host.project().join("followed/f").is_file());
    // Archives.
    assert_eq!(names(&host, &["container", "cp", "box:/home/d/src", "-"])[..2], ["src/", "src/a"]);
    assert_eq!(names(&host, &["container", "cp", "box:/home/d/src/.", "-"])[..2], ["./", "./a"]);
    assert_eq!(names(&host, &["container", "cp", "box:/home/l", "-"]), ["l"]);
    let archive = fs::read(host.path().join("archive.tar")).unwrap();
    let done = host.feed(&["container", "cp", "-", "box:/vol"], &archive);
    assert_eq!((done.code, run("readlink /vol/l").as_str()), (0, "/home/d"), "{}", done.err);
    let done = host.feed(&["container", "cp", "-", "box:/home/d/f"], &archive);
    assert!(done.code == 1 && done.err.contains("must be a directory"), "{}", done.err);
    assert!(src.join("a").exists());
}

#[test]
fn cp_reaches_the_volumes_of_a_stopped_container_and_respects_what_is_read_only() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let bound = host.path().join("bound");
    fs::create_dir(&bound).unwrap();
    host.write("f", "text\n");
    let bind = format!("{}:/b", bound.display());
    let hold = "test -e /v/f && cat /v/f /x; sleep 1000";
    host.ok(&["container", "run", "-d", "--name", "box", "-v", "vol:/v", "-v", &bind, "busybox", "sh", "-c", hold]);
    host.ok(&["container", "stop", "-t", "0", "box"]);
    for target in ["box:/v/", "box:/b/", "box:/x"] {
        host.ok(&["container", "cp", "f", target]);
    }
    assert_eq!(fs::read_to_string(bound.join("f")).unwrap(), "text\n");
    host.ok(&["container", "cp", "box:/v/f", "back"]);
    assert_eq!(fs::read_to_string(host.project().join("back")).unwrap(), "text\n");
    host.ok(&["container", "start", "box"]);
    assert_eq!(host.ok(&["container", "exec", "box", "cat", "/v/f", "/x"]), "text\ntext");
    host.ok(&["container", "rm", "-f", "box"]);
    host.ok(&["container", "run", "-d", "--name", "box", "--read-only", "-v", "vol:/v:ro", "busybox", "sleep", "1000"]);
    for _ in 0..2 {
        assert!(host.fails(1, &["container", "cp", "f", "box:/x"]).contains("container rootfs is marked read-only"));
        assert!(host.fails(1, &["container", "cp", "f", "box:/v/x"]).contains("mounted volume is marked read-only"));
        host.ok(&["container", "stop", "-t", "0", "box"]);
    }
}

#[test]
fn a_container_that_swaps_symlinks_never_leads_a_copy_out_of_itself() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let outside = host.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    host.write("src/f", "planted");
    // The directory is now one, now a symlink to a place of the host that the container does not have.
    let swap = format!(
        "mkdir -p /t; while true; do mkdir /t/d; rmdir /t/d || rm -rf /t/d; ln -s {0} /t/d; rm /t/d; done 2>/dev/null",
        outside.display()
    );
    host.ok(&["container", "run", "-d", "--name", "box", "busybox", "sh", "-c", &swap]);
    for round in 0..40 {
        let _ = host.run(&["container", "cp", "src/f", "box:/t/d/f"]);
        let _ = host.run(&["container", "cp", "src", "box:/t/d"]);
        let to = format!("got{round}");
        let _ = host.run(&["container", "cp", "-L", "box:/t/d", &to]);
        assert!(!host.project().join(&to).join("secret").exists());
    }
    assert_eq!(crate::harness::names_in(&outside), ["secret"]);
}

#[test]
fn a_service_is_copied_to_in_all_its_replicas_and_from_in_one() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  web: {image: busybox, command: sleep 1000, scale: 2, stop_grace_period: 0s}\n",
    );
    host.write("x", "x");
    host.ok(&["up", "-d"]);
    let done = host.run(&["cp", "x", "web:/x"]);
    assert!(done.code == 0 && done.err.contains("demo-web-2 copy x to demo-web-2:/x  Copied"), "{}", done.err);
    host.ok(&["cp", "--index", "2", "x", "web:/y"]);
    assert!(host.fails(1, &["cp", "web:/y", "y"]).contains("Could not find the file /y in container demo-web-1"));
    host.ok(&["cp", "web:/x", "y"]);
    assert!(host.fails(1, &["cp", "nope:/x", "y"]).contains("no container found for service \"nope\""));
    assert!(host.fails(1, &["cp", "web:/x", "web:/y"]).contains("copying between services is not supported"));
    assert!(host.fails(1, &["cp", "x", "y"]).contains("unknown copy direction"));
    assert!(
        host.fails(1, &["cp", "--index", "7", "x", "web:/"]).contains("service \"web\" is not running container #7")
    );
    host.ok(&["export", "web", "-o", "web.tar"]);
    let listed = tool("tar", &["-tf", host.project().join("web.tar").to_str().unwrap()]);
    assert!(listed.lines().any(|name| name == "x") && !listed.contains("./"), "{listed}");
    let done = host.run(&["commit", "web", "web-committed:1"]);
    assert!(done.code == 0 && done.err.contains("Committed as sha256:"), "{}", done.err);
    host.ok(&["image", "rm", "web-committed:1"]);
    host.ok(&["down"]);
}

#[test]
fn changes_are_shown_and_become_an_image_that_runs_and_is_saved_and_loaded() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let name = format!("committed:{}", std::process::id());
    let script = "echo new >/new; mkdir /etc/d; rm /etc/group; echo changed >>/etc/passwd; rm -rf /var/spool; mkdir /var/spool; echo y >/var/spool/y; ln /new /hard; truncate -s 20M /sparse; ln -s /nope /link";
    host.ok(&["container", "run", "--name", "box", "-v", "/vol", "-e", "A=1", "busybox", "sh", "-c", script]);
    let changes = host.ok(&["container", "diff", "box"]);
    for line in [
        "A /new",
        "A /etc/d",
        "D /etc/group",
        "C /etc/passwd",
        "C /etc",
        "D /var/spool/mail",
        "A /var/spool/y",
        "A /hard",
        "A /link",
    ] {
        assert!(changes.lines().any(|change| change == line), "{line} in\n{changes}");
    }
    assert!(!changes.contains("/etc/hosts") && !changes.contains("/proc"), "{changes}");
    let id = host.ok(&[
        "container",
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        r#"CMD ["cat", "/new"]"#,
        "-c",
        "ENV B=2",
        "box",
        &name,
    ]);
    let check = |name: &str| {
        let image = host.json(&["image", "inspect", name])[0].take();
        assert_eq!(
            (image["Id"].as_str(), image["Author"].as_str(), image["Comment"].as_str()),
            (Some(id.as_str()), Some("me"), Some("why"))
        );
        assert_eq!(image["Config"]["Env"].as_array().unwrap().iter().filter(|e| *e == "A=1" || *e == "B=2").count(), 2);
        assert_eq!(host.ok(&["container", "run", "--rm", name]), "new");
        let seen = "ls /var/spool; test ! -e /etc/group && stat -c '%h %s' /new /sparse; readlink /link";
        assert_eq!(host.ok(&["container", "run", "--rm", name, "sh", "-c", seen]), "y\n2 4\n1 20971520\n/nope");
    };
    check(&name);
    let file = host.path().join("saved.tar");
    host.ok(&["image", "save", "-o", file.to_str().unwrap(), &name]);
    host.ok(&["container", "rm", "-v", "box"]);
    host.ok(&["image", "rm", &name]);
    host.ok(&["image", "load", "-i", file.to_str().unwrap()]);
    check(&name);
    host.ok(&["image", "rm", &name]);
}

#[test]
fn a_renamed_container_is_found_by_its_new_name_alone() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["network", "create", "net"]);
    host.ok(&["container", "run", "-d", "--name", "old", "--network", "net", "busybox", "sleep", "1000"]);
    host.ok(&["container", "run", "-d", "--name", "other", "--network", "net", "busybox", "sleep", "1000"]);
    host.ok(&["container", "rename", "old", "new"]);
    assert!(host.fails(1, &["container", "rename", "new", "other"]).contains("already in use"));
    assert!(host.fails(1, &["container", "inspect", "old"]).contains("old"));
    assert_eq!(host.inspect("new")["Name"], "/new");
    let found = host.run(&["container", "exec", "other", "nslookup", "new"]);
    assert_eq!(found.code, 0, "{}{}", found.out, found.err);
    host.ok(&["container", "run", "-d", "--name", "old", "busybox", "sleep", "1000"]);
}
