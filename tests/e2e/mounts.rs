//! Volumes, bind mounts and tmpfs.

use crate::harness::Host;

#[test]
fn a_named_volume_persists_and_an_anonymous_one_goes_with_its_container() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["container", "run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/file"]);
    assert_eq!(host.ok(&["container", "run", "--rm", "-v", "data:/other", "busybox", "cat", "/other/file"]), "kept");
    let done = host.run(&["container", "run", "--rm", "-v", "data:/d:ro", "busybox", "touch", "/d/new"]);
    assert!(done.code == 1 && done.err.contains("Read-only file system"), "{}", done.err);
    host.ok(&["container", "run", "--name", "holder", "-v", "data:/d", "-v", "/anonymous", "busybox", "true"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]).lines().count(), 2);
    let said = host.fails(1, &["volume", "rm", "data"]);
    assert!(said.contains("volume is in use") && said.contains("holder"), "{said}");
    host.ok(&["container", "rm", "-v", "holder"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "data");
    assert_eq!(host.ok(&["volume", "rm", "data"]), "data");
    let said = host.fails(1, &["volume", "rm", "data"]);
    assert!(said.contains("data") && said.contains("no such volume"), "{said}");
}

#[test]
fn volumes_are_made_listed_inspected_and_pruned() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    assert_eq!(host.ok(&["volume", "create", "--label", "k=v", "mine"]), "mine");
    assert_eq!(host.ok(&["volume", "create", "mine"]), "mine");
    let anonymous = host.ok(&["volume", "create"]);
    assert_eq!(anonymous.len(), 64);
    let shown = host.json(&["volume", "inspect", "mine"]);
    assert_eq!(
        (&shown[0]["Name"], &shown[0]["Labels"]["k"], &shown[0]["Driver"]),
        (&"mine".into(), &"v".into(), &"local".into())
    );
    let data = std::path::Path::new(shown[0]["Mountpoint"].as_str().unwrap()).to_owned();
    host.ok(&["container", "run", "--rm", "-v", "mine:/m", "busybox", "touch", "/m/seen"]);
    assert!(data.join("seen").exists());
    assert!(host.ok(&["volume", "prune", "-f"]).contains(&anonymous));
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "mine");
    assert!(host.ok(&["volume", "prune", "-a", "-f"]).contains("mine"));
    let said = host.fails(1, &["volume", "inspect", "mine"]);
    assert!(said.contains("mine"), "{said}");
    let said = host.fails(1, &["volume", "create", "../escape"]);
    assert!(said.contains("../escape"), "{said}");
}

#[test]
fn a_volume_begins_with_the_images_content() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let listed = host.ok(&["container", "run", "--rm", "-v", "etc:/etc", "busybox", "ls", "/etc"]);
    assert!(listed.contains("passwd"), "{listed}");
    host.ok(&["container", "run", "--rm", "-v", "etc:/etc", "busybox", "rm", "/etc/passwd"]);
    let listed = host.ok(&["container", "run", "--rm", "-v", "etc:/etc", "busybox", "ls", "/etc"]);
    assert!(!listed.contains("passwd"), "only an empty volume is filled: {listed}");
    host.ok(&["volume", "rm", "etc"]);
}

#[test]
fn binds_show_the_hosts_files_and_missing_sources_are_docker_s_matter() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let file = host.write("in.txt", "from the host\n");
    let bind = format!("{}:/in.txt:ro", file.display());
    assert_eq!(host.ok(&["container", "run", "--rm", "-v", &bind, "busybox", "cat", "/in.txt"]), "from the host");
    let done = host.run(&["container", "run", "--rm", "-v", &bind, "busybox", "sh", "-c", "echo x > /in.txt"]);
    assert!(done.code != 0 && done.err.contains("Read-only file system"), "{}", done.err);
    let dir = host.project().join("made");
    host.ok(&["container", "run", "--rm", "-v", &format!("{}:/d", dir.display()), "busybox", "touch", "/d/out"]);
    assert!(dir.join("out").exists(), "the short form makes the directory");
    let missing = host.project().join("missing");
    let mount = format!("type=bind,source={},target=/d", missing.display());
    let said = host.fails(125, &["container", "run", "--rm", "--mount", &mount, "busybox", "true"]);
    assert!(said.contains("bind source path does not exist") && said.contains(missing.to_str().unwrap()), "{said}");
    assert!(!missing.exists() && host.ids().is_empty());
}

#[test]
fn a_tmpfs_has_its_size_and_mode_and_is_empty_each_time() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let script =
        "stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'; ls /t; dd if=/dev/zero of=/t/f bs=1k count=2000";
    let done = host.run(&[
        "container",
        "run",
        "--name",
        "scratch",
        "--tmpfs",
        "/t:size=1m,mode=1770",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!((done.code, done.out.as_str()), (1, "1770\n1024\n"), "{}", done.err);
    assert!(done.err.contains("No space left on device"), "{}", done.err);
    host.ok(&["container", "start", "scratch"]);
    host.ok(&["container", "wait", "scratch"]);
    assert_eq!(host.ok(&["container", "logs", "scratch"]).matches("1770").count(), 2);
}
