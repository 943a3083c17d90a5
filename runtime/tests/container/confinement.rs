//! What a container must not be able to do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use umiak_runtime::config::{Bind, Device, Mount, MountKind, Namespace, Seccomp};

use crate::support::{Container, probe};

const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | cut -f2";

fn status(change: impl FnOnce(&mut umiak_runtime::Config)) -> Vec<String> {
    Container::script(STATUS).with(change).run().ok().lines().map(str::to_owned).collect()
}

const NONE: &str = "0000000000000000";
const DOCKER: &str = "00000000a80425fb";

#[test]
fn capability_sets_are_docker_s() {
    // Inheritable, permitted, effective, bounding, ambient, no_new_privs, seccomp.
    assert_eq!(status(|_| {}), [NONE, DOCKER, DOCKER, DOCKER, NONE, "0", "2"]);
    assert_eq!(status(|c| c.user = "1000".into()), [NONE, NONE, NONE, DOCKER, NONE, "0", "2"]);
    let added = "00000000a80435fb";
    let add = |c: &mut umiak_runtime::Config| (c.user, c.cap_add) = ("1000".into(), vec!["NET_ADMIN".into()]);
    assert_eq!(status(add), [NONE, NONE, NONE, added, NONE, "0", "2"]);
    assert_eq!(status(|c| c.cap_drop = vec!["ALL".into()]), [NONE, NONE, NONE, NONE, NONE, "0", "2"]);
    assert_eq!(status(|c| c.no_new_privileges = true), [NONE, DOCKER, DOCKER, DOCKER, NONE, "1", "2"]);
    assert_eq!(status(|c| c.seccomp = Seccomp::Unconfined)[6], "0");
    let privileged = status(|c| c.privileged = true);
    assert_eq!((privileged[0].as_str(), privileged[4].as_str(), privileged[6].as_str()), (NONE, NONE, "0"));
    assert_eq!(privileged[1], privileged[3]);
    let reason = Container::new(&["true"]).with(|c| c.cap_add = vec!["NOSUCH".into()]).run().reason();
    assert_eq!(reason, "invalid cap_add: unknown capability: \"NOSUCH\"");
}

#[test]
fn init_holds_no_more_than_its_program() {
    let script = STATUS.replace("self", "1");
    let output = Container::script(&script).with(|c| (c.init, c.user) = (true, "1000".into())).run().ok();
    assert_eq!(output.lines().collect::<Vec<_>>(), [NONE, NONE, NONE, DOCKER, NONE, "0", "2"]);
}

#[test]
fn system_paths_are_masked_or_read_only() {
    let script = "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware /proc/acpi 2>/dev/null | grep -v -e : -e '^$'; \
        for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/fs/cgroup/x /sys/kernel/x; do echo x 2>/dev/null >$f && echo wrote $f; done; \
        umount /proc/kcore 2>/dev/null && echo unmounted; mount -t tmpfs x /tmp 2>/dev/null && echo mounted; true";
    assert_eq!(Container::script(script).run().ok(), "0\n");
    let covered = "grep -c -E ' /(proc|sys/firmware)/' /proc/self/mountinfo; true";
    assert_eq!(Container::script(covered).with(|c| c.unmask_system_paths = true).run().ok(), "0\n");
}

#[test]
fn devices_are_the_default_ones_and_no_others_work() {
    let script = "ls /dev | grep -v -E '^(fd|std|core)'; head -c1 /dev/zero /dev/urandom /dev/full | wc -c; \
        mknod /tmp/mem c 1 1 && head -c1 /tmp/mem; mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg; true";
    let ended = Container::script(script).run();
    let names: Vec<_> = ended.output.lines().take_while(|line| line.parse::<u32>().is_err()).collect();
    assert_eq!(names, ["full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"]);
    assert_eq!(ended.output.matches("Operation not permitted").count(), 2, "{}", ended.output);
}

#[test]
fn a_given_device_works_as_far_as_it_was_given() {
    let host = ["/dev/fuse", "/dev/loop-control", "/dev/net/tun"].into_iter().find(|path| Path::new(path).exists());
    let device = |permissions: &str| Device {
        host: host.expect("the host has one of these").into(),
        container: "/dev/given/it".into(),
        permissions: permissions.into(),
    };
    let script = "true </dev/given/it && echo read; (true >/dev/given/it) && echo written; true";
    let run = |permissions| Container::script(script).with(|c| c.devices = vec![device(permissions)]).run().output;
    let read_only = run("r");
    assert!(read_only.starts_with("read\n") && read_only.contains("not permitted"), "{read_only}");
    assert_eq!(run("rw"), "read\nwritten\n");
}

#[test]
fn the_filter_refuses_what_it_must_in_run_and_exec() {
    let bind = |path: &str| Mount {
        target: path.into(),
        kind: MountKind::Bind(Bind { source: path.into(), ..Bind::default() }),
        read_only: true,
    };
    // The probe is linked dynamically: with the host's libraries.
    let probe = probe();
    let directory = probe.parent().unwrap().to_str().unwrap();
    let paths = ["/lib", "/lib64", "/usr", directory];
    let mounts: Vec<Mount> = paths.iter().filter(|path| Path::new(path).is_dir()).map(|path| bind(path)).collect();
    let container = Container::new(&["sleep", "60"]).with(|c| c.mounts.clone_from(&mounts));
    let running = container.start();
    let program = probe.to_str().unwrap().to_owned();
    let request = umiak_runtime::exec::Exec { args: vec![program.clone()], ..Default::default() };
    let by_exec = container.exec(&running, &request).wait().ok();
    container.cgroup().kill_all().unwrap();
    running.wait();
    let by_run = Container::new(&[&program]).with(|c| c.mounts = mounts).run().ok();
    let expected = "AF_ALG 1\nAF_VSOCK 1\nAF_UNIX 0\nio_uring_setup 1\nkeyctl 1\nuserfaultfd 1\nbpf 1\nclone3 38\n\
        mount_setattr 1\nof the future 38\nunshare 1\npersonality 1\n";
    assert_eq!((by_run.as_str(), by_exec.as_str()), (expected, expected));
}

#[test]
fn the_image_cannot_lead_the_runtime_outside() {
    for name in ["proc", "sys", "dev"] {
        for target in ["../../outside", "/outside", "/nosuch"] {
            // A layer above busybox's turns the directory into a link.
            let container = Container::new(&["true"]).layer(|layer| symlink(target, layer.join(name)).unwrap());
            fs::create_dir(container.path("outside")).unwrap();
            let ended = container.start().wait();
            assert_eq!(
                ended.reason(),
                format!("/{name} in the image is not a directory: nothing can be mounted there safely")
            );
            assert_eq!(fs::read_dir(container.path("outside")).unwrap().count(), 0);
        }
    }
    let canary = tempfile::tempdir().unwrap();
    for (name, cwd) in [("etc", "/etc/x/y"), ("var", "/var/x")] {
        let container = Container::new(&["pwd"])
            .layer(|layer| symlink(canary.path(), layer.join(name)).unwrap())
            .with(|c| c.cwd = cwd.into());
        let _ = container.start().wait();
        assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn nothing_of_the_host_is_seen() {
    let output =
        Container::script("mount | cut -d' ' -f3 | sort | head -n1; ps | wc -l; ls /; cat /proc/self/mountinfo")
            .run()
            .ok();
    assert!(!output.contains("/home/") && !output.contains("shared:"), "{output}");
    let merged = Container::new(&["true"]);
    assert_eq!(merged.start().wait().code, 0);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(merged.path("merged").to_str().unwrap()), "the overlay shows on the host");
}

#[test]
fn sysctls_that_are_the_container_s_own() {
    let with = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let script =
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ping_group_range";
    let output = Container::script(script).with(|c| c.sysctls = with("kernel.msgmax", "5000")).run().ok();
    assert_eq!(output.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "5000", "0", "2147483647"]);
    for (name, part) in [("kernel.core_pattern", "is not allowed"), ("net.nosuch", "set the sysctls net.nosuch")] {
        let ended = Container::new(&["true"]).with(|c| c.sysctls = with(name, "1")).run();
        assert!(ended.reason().contains(part), "{ended:?}");
    }
}

#[test]
fn namespaces_are_own_or_shared_as_asked() {
    let link = |kind: &str| fs::read_link(Path::new("/proc/self/ns").join(kind)).unwrap().display().to_string();
    let script = "for n in pid ipc uts net mnt; do readlink /proc/self/ns/$n; done";
    let own = Container::script(script).run().ok();
    for kind in ["pid", "ipc", "uts", "net", "mnt"] {
        assert!(!own.contains(&link(kind)), "{kind}");
    }
    let shared = Container::script(script).with(|c| {
        c.netns = umiak_runtime::config::NetNs::Host;
        (c.pid_ns, c.ipc_ns, c.uts_ns) = (Namespace::Host, Namespace::Host, Namespace::Host);
    });
    let shared = shared.run().ok();
    for kind in ["pid", "ipc", "uts", "net"] {
        assert!(shared.contains(&link(kind)), "{kind}: {shared}");
    }
    let first = Container::new(&["sleep", "60"]).with(|c| c.ipc_ns = Namespace::Shareable);
    let running = first.start();
    let of = |kind: &str| Namespace::Path(format!("/proc/{}/ns/{kind}", running.pid()).into());
    let second = Container::script("cat /proc/1/comm; echo x >/dev/shm/from-second");
    let second = second.with(|c| (c.pid_ns, c.ipc_ns) = (of("pid"), of("ipc"))).run();
    assert_eq!(second.output, "sleep\n");
    let request =
        umiak_runtime::exec::Exec { args: vec!["cat".into(), "/dev/shm/from-second".into()], ..Default::default() };
    assert_eq!(first.exec(&running, &request).wait().ok(), "x\n");
    first.cgroup().kill_all().unwrap();
    running.wait();
    let missing = Container::new(&["true"]).with(|c| c.netns = umiak_runtime::config::NetNs::Path("/nosuch/ns".into()));
    assert!(missing.run().reason().contains("join the network namespace /nosuch/ns"));
}

#[test]
fn a_read_only_root() {
    let script = "touch /x 2>/dev/null || echo closed; touch /dev/shm/x && echo open";
    assert_eq!(Container::script(script).with(|c| c.rootfs.read_only = true).run().ok(), "closed\nopen\n");
}

#[test]
fn a_profile_of_the_user_s() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#;
    let container = Container::script("mkdir /x 2>&1; touch /y && echo made");
    fs::write(container.path("profile.json"), profile).unwrap();
    let path = container.path("profile.json");
    let output = container.with(|c| c.seccomp = Seccomp::Profile(path)).run().ok();
    assert!(output.contains("Permission denied") && output.ends_with("made\n"), "{output}");
    let ended = Container::new(&["true"]).with(|c| c.seccomp = Seccomp::Profile("/nosuch.json".into())).run();
    assert!(ended.reason().contains("read the seccomp profile /nosuch.json"), "{ended:?}");
}
