//! Promises of SPECIFICATION.md that cut across commands: defaults of logs, who may read state, whose programs run with
//! whose rights, and what a failed `up` says last.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::harness::{Done, Host, eventually, finish, finish_child, names_in, tool};

#[test]
fn logs_are_three_files_of_ten_mebibytes_unless_something_else_is_asked_for() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // 48 MB of output, which is more in the file.
    let line = "x".repeat(4000);
    let script = format!("yes {line} | head -n 12000; echo last");
    let id = host.ok(&["container", "run", "-d", "--name", "loud", "busybox", "sh", "-c", &script]);
    assert_eq!(host.ok(&["container", "wait", "loud"]), "0");
    let dir = host.root().join("containers").join(&id).join("log");
    let sizes = || -> Vec<(String, u64)> {
        let logs = names_in(&dir).into_iter().filter(|name| name.contains("-json.log"));
        logs.map(|name| (name.clone(), fs::metadata(dir.join(&name)).map_or(0, |meta| meta.len()))).collect()
    };
    assert_eq!(sizes().len(), 3, "{:?}", sizes());
    assert!(sizes().iter().all(|(_, size)| *size <= 10 << 20), "{:?}", sizes());
    assert!(sizes().iter().map(|(_, size)| size).sum::<u64>() > 20 << 20, "{:?}", sizes());
    assert_eq!(host.ok(&["container", "logs", "-n", "1", "loud"]), "last");
    host.ok(&["container", "rm", "loud"]);
}

#[test]
fn state_is_for_root_alone() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // Also where the directories were made before, open to all.
    for dir in [host.root(), host.run_root()] {
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let id =
        host.ok(&["container", "run", "-d", "--name", "one", "-e", "SECRET=1", "-v", "data:/data", "busybox", "top"]);
    host.ok(&["container", "exec", "one", "sh", "-c", "cp /bin/busybox /data/su && chmod 4755 /data/su"]);
    for dir in [host.root(), host.run_root()] {
        let meta = fs::metadata(&dir).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o700, 0), "{}", dir.display());
    }
    let control = host.run_root().join("containers").join(&id).join("ctl.sock");
    assert_eq!(fs::metadata(&control).unwrap().mode() & 0o777, 0o600);
    let config = host.root().join("containers").join(&id).join("config.json");
    assert_eq!(fs::metadata(&config).unwrap().mode() & 0o077, 0);
    // The test's own directory is closed to others as well: not what is to be seen here.
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let setuid = host.root().join("volumes/data/_data/su");
    assert!(setuid.exists());
    for path in [host.root(), host.run_root(), config, control, setuid.clone()] {
        let done = as_nobody(&host, &["cat", path.to_str().unwrap()]);
        assert!(done.code != 0 && done.err.contains("Permission denied"), "{}: {done:?}", path.display());
    }
    // A setuid file of a volume cannot be run by a user of the host (CVE-2021-41091).
    let done = as_nobody(&host, &[setuid.to_str().unwrap(), "id"]);
    assert!(done.code != 0 && done.out.is_empty(), "{done:?}");
    host.ok(&["container", "rm", "-f", "one"]);
    host.ok(&["volume", "rm", "data"]);
}

fn as_nobody(host: &Host, args: &[&str]) -> Done {
    let args: Vec<&str> =
        ["--reuid=65534", "--regid=65534", "--clear-groups"].into_iter().chain(args.iter().copied()).collect();
    finish(host.other("setpriv", &args), b"", &args.join(" "))
}

/// An image in which every program that somebody could think of running on its behalf tells who it was run as: into
/// `canary` of the host's directory, where it runs with the host's mounts, and into `/told` of the container otherwise.
fn canaries(host: &Host) -> PathBuf {
    let rootfs = host.path().join("canaries");
    let dir = host.path().to_str().unwrap();
    host.ok(&["container", "create", "--name", "source", "busybox"]);
    host.ok(&["container", "cp", "source:/bin/busybox", &format!("{dir}/busybox")]);
    host.ok(&["container", "rm", "source"]);
    // The interpreter has the same name inside and outside: outside, the program would run, too.
    fs::create_dir_all(rootfs.join(&dir[1..])).unwrap();
    fs::copy(host.path().join("busybox"), rootfs.join(&dir[1..]).join("busybox")).unwrap();
    let script = format!(
        "#!{dir}/busybox sh\nB={dir}/busybox\nme=$($B basename $0)\nif [ -e {dir}/outside ]; then echo \"$0 $*\" >>{dir}/canary; fi\n\
         $B echo \"$me $($B grep CapEff /proc/self/status) $($B readlink /proc/self/ns/pid) $($B readlink /proc/self/ns/mnt)\" >>/told\n\
         [ $me != true ] || exit 0\nexec $B $me \"$@\"\n"
    );
    fs::write(host.path().join("outside"), "").unwrap();
    let programs = [
        "sh",
        "bash",
        "true",
        "ls",
        "cat",
        "tar",
        "gzip",
        "gunzip",
        "unpigz",
        "xz",
        "zstd",
        "cp",
        "ps",
        "top",
        "sleep",
        "id",
        "mount",
        "umount",
        "ip",
        "iptables",
        "nft",
        "nsenter",
        "unshare",
        "modprobe",
        "ldconfig",
        "newuidmap",
        "newgidmap",
        "getent",
        "su",
        "login",
        "systemd",
        "init",
        "docker-init",
        "git",
        "ssh",
        "apparmor_parser",
        "logger",
        "kill",
        "env",
        "test",
        "find",
        "rm",
        "chown",
        "chmod",
        "mkfs",
        "dmsetup",
        "runc",
        "crun",
        "umiak",
        "docker",
        "curl",
        "wget",
    ];
    for place in ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin"] {
        fs::create_dir_all(rootfs.join(place)).unwrap();
        for program in programs {
            let path = rootfs.join(place).join(program);
            fs::write(&path, &script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    for name in ["etc", "tmp", "proc", "sys", "dev", "lib", "lib64"] {
        fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    // Also for those who are not root in there.
    fs::write(rootfs.join("told"), "").unwrap();
    fs::set_permissions(rootfs.join("told"), fs::Permissions::from_mode(0o666)).unwrap();
    // What a C library would load on behalf of a program in this root.
    fs::write(rootfs.join("etc/nsswitch.conf"), "passwd: files evil\ngroup: files evil\nhosts: evil\n").unwrap();
    fs::write(rootfs.join("etc/ld.so.preload"), "/lib/libnss_evil.so.2\n").unwrap();
    fs::write(rootfs.join("lib/libnss_evil.so.2"), "no library").unwrap();
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n").unwrap();
    fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
    rootfs
}

#[test]
fn no_program_of_an_image_runs_with_rights_on_the_host() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let rootfs = canaries(&host);
    let context = host.path().join("context");
    fs::create_dir_all(&context).unwrap();
    fs::rename(&rootfs, context.join("root")).unwrap();
    fs::write(
        context.join("Dockerfile"),
        "FROM scratch\nCOPY root/ /\nSHELL [\"/bin/sh\", \"-c\"]\nRUN ls / && tar c /etc/passwd >/archive.tar\nADD --chown=user:user root/etc /added\n\
         RUN chown user /archive.tar\nUSER user\nHEALTHCHECK --interval=1s CMD test -e /etc/passwd\nUSER root\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"sleep 1000\"]\n",
    )
    .unwrap();
    let context = context.to_str().unwrap();
    host.ok(&["image", "build", "-q", "-t", "canaries", context]);
    let ok = |args: &[&str]| host.ok(args);
    ok(&["container", "run", "-d", "--name", "bird", "--init", "--user", "user", "-v", "data:/etc/data", "canaries"]);
    ok(&["container", "run", "--rm", "--entrypoint", "true", "canaries"]);
    host.until("bird", "is healthy", |state| state["Health"]["Status"] == "healthy");
    ok(&["container", "exec", "bird", "id"]);
    ok(&["container", "exec", "-u", "user", "-w", "/tmp", "bird", "ls"]);
    fs::write(host.path().join("file"), "text").unwrap();
    let file = host.path().join("file");
    ok(&["container", "cp", file.to_str().unwrap(), "bird:/etc/file"]);
    ok(&["container", "cp", "bird:/etc", host.path().join("etc").to_str().unwrap()]);
    ok(&["container", "commit", "bird", "caught"]);
    ok(&["container", "export", "-o", host.path().join("export.tar").to_str().unwrap(), "bird"]);
    for verb in ["top", "logs", "diff", "port", "inspect"] {
        ok(&["container", verb, "bird"]);
    }
    ok(&["container", "stats", "--no-stream", "bird"]);
    ok(&["container", "update", "--memory", "64m", "--memory-swap", "64m", "bird"]);
    ok(&["container", "pause", "bird"]);
    ok(&["container", "unpause", "bird"]);
    ok(&["container", "rename", "bird", "fowl"]);
    ok(&["container", "restart", "-t", "0", "fowl"]);
    ok(&["network", "create", "cage"]);
    ok(&["network", "connect", "cage", "fowl"]);
    ok(&["network", "disconnect", "cage", "fowl"]);
    ok(&["image", "history", "canaries"]);
    ok(&["image", "save", "-o", host.path().join("save.tar").to_str().unwrap(), "caught"]);
    ok(&["image", "load", "-i", host.path().join("save.tar").to_str().unwrap()]);
    ok(&["container", "run", "--rm", "--entrypoint", "cat", "caught", "/etc/file"]);
    ok(&["container", "stop", "-t", "0", "fowl"]);
    ok(&["container", "cp", "fowl:/etc/passwd", host.path().join("passwd").to_str().unwrap()]);
    ok(&["container", "start", "fowl"]);
    host.write(
        "compose.yaml",
        "services:\n  bird:\n    image: canaries\n    stop_grace_period: 0s\n    volumes: [\"more:/etc\"]\n    healthcheck: {test: [CMD, \"true\"], interval: 1s}\nvolumes:\n  more:\n",
    );
    ok(&["up", "-d", "--wait"]);
    ok(&["run", "--rm", "bird", "ls"]);
    ok(&["explain"]);
    ok(&["down", "-v", "-t", "0"]);
    let told = host.path().join("told");
    ok(&["container", "cp", "fowl:/told", told.to_str().unwrap()]);
    ok(&["container", "rm", "-f", "-v", "fowl"]);
    ok(&["volume", "rm", "data"]);
    ok(&["network", "rm", "cage"]);
    let canary = host.path().join("canary");
    assert!(!canary.exists(), "run with the host's files: {}", fs::read_to_string(&canary).unwrap_or_default());
    assert_rights(&fs::read_to_string(&told).unwrap());
}

/// Whatever ran inside had a container's rights and namespaces.
fn assert_rights(told: &str) {
    let [pid, mnt] = ["pid", "mnt"].map(|kind| fs::read_link(Path::new("/proc/self/ns").join(kind)).unwrap());
    let rights = ["00000000a80425fb", "0000000000000000"];
    assert!(told.lines().count() > 5, "the canaries sing: {told}");
    for line in told.lines() {
        assert!(rights.iter().any(|rights| line.contains(rights)), "other rights than a container's: {line}");
        assert!(
            ![&pid, &mnt].iter().any(|host| line.contains(host.to_str().unwrap())),
            "in the host's namespaces: {line}"
        );
    }
}

#[test]
fn a_failed_up_tells_the_last_lines_of_the_service() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    depends_on:\n      setup: {condition: service_completed_successfully}\n  \
         setup:\n    image: busybox\n    command: sh -c 'echo begins; echo no such table called birds >&2; exit 3'\n",
    );
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("setup") && said.contains('3'), "{said}");
    assert!(said.contains("begins") && said.contains("no such table called birds"), "{said}");
    assert!(host.ids().is_empty(), "{said}");
}

#[test]
fn twenty_ups_at_once_make_one_stack() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  a: &s\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n  b: *s\nvolumes:\n  data:\n",
    );
    let spawn = |args: &[&str]| {
        let mut command = host.command(args);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let ups: Vec<_> = (0..20).map(|_| spawn(&["up", "-d"])).collect();
    // Readers wait for nobody.
    let readers: Vec<_> = (0..5).map(|_| spawn(&["ps", "-a"])).collect();
    for child in readers.into_iter().chain(ups) {
        let done = finish_child(child, b"", "one of many");
        assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    }
    assert_eq!(host.ids().len(), 2);
    assert_eq!(host.network_ids().len(), 1);
    let done = host.run(&["up", "-d"]);
    assert!(!done.err.contains("Started") && !done.err.contains("Created"), "{}", done.err);
    let downs: Vec<_> = (0..5).map(|_| spawn(&["down", "-v"])).collect();
    for child in downs {
        assert_eq!(finish_child(child, b"", "one of many").code, 0);
    }
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
}

#[test]
fn names_are_answered_again_when_the_resolver_was_killed() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["network", "create", "net"]);
    host.ok(&["container", "run", "-d", "--name", "web", "--network", "net", "busybox", "top"]);
    host.ok(&["container", "run", "-d", "--name", "client", "--network", "net", "busybox", "top"]);
    let ask = || host.run(&["container", "exec", "client", "nslookup", "-type=a", "web", "127.0.0.11"]);
    assert_eq!(ask().code, 0, "{:?}", ask());
    for _ in 0..3 {
        let monitor = crate::harness::monitor_pid(&host, "client");
        tool("kill", &["-9", &monitor.to_string()]);
        eventually("answered again", || {
            let done = ask();
            if done.code == 0 { Ok(()) } else { Err(format!("{done:?}")) }
        });
        eventually("another monitor", || match crate::harness::monitor_pid(&host, "client") {
            now if now != monitor => Ok(()),
            now => Err(now.to_string()),
        });
    }
    host.ok(&["container", "rm", "-f", "web", "client"]);
    host.ok(&["network", "rm", "net"]);
}
