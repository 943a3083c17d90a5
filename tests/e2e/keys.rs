//! Keys of services whose effect is seen from inside their containers: mounts, devices, links.

use crate::harness::Host;

fn up(host: &Host, file: &str) {
    host.write("compose.yaml", file);
    host.ok(&["up", "-d", "-t", "0"]);
}

fn down(host: &Host) {
    host.ok(&["down", "-v", "-t", "0"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
}

#[test]
fn secrets_and_configs_have_their_owner_and_mode_in_memory() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("token.txt", "from a file\n");
    host.write(".env", "FROM_ENV=from the environment\n");
    up(
        &host,
        r#"
services:
  web:
    image: busybox
    command: sleep 1000
    read_only: true
    user: "1234:5678"
    secrets:
      - {source: file, uid: "1234", gid: "5678", mode: 0400}
      - {source: variable, target: /run/elsewhere/token, uid: "1234", mode: 0440}
      - {source: file, target: plain}
    configs:
      - {source: inline, target: /etc/app/app.conf, gid: "5678", mode: 0640}
      - {source: inline}
secrets:
  file: {file: ./token.txt}
  variable: {environment: FROM_ENV}
configs:
  inline: {content: "key = ${FROM_ENV}"}
"#,
    );
    let inside = |script: &str| host.ok(&["exec", "-T", "web", "sh", "-c", script]);
    let seen = |path: &str| {
        inside(&format!(
            "stat -c '%u %g %a' {path}; cat {path}; grep -c ' {path} .* tmpfs ' /proc/self/mountinfo || true"
        ))
    };
    assert_eq!(seen("/run/secrets/file"), "1234 5678 400\nfrom a file\n1");
    assert_eq!(seen("/run/elsewhere/token"), "1234 0 440\nfrom the environment1");
    assert_eq!(seen("/etc/app/app.conf"), "0 5678 640\nkey = from the environment1");
    assert_eq!(seen("/inline"), "0 0 444\nkey = from the environment1");
    assert_eq!(inside("cat /run/secrets/plain"), "from a file");
    for path in ["/run/secrets/file", "/etc/app/app.conf", "/run/secrets/plain"] {
        let said = host.fails(1, &["exec", "-T", "-u", "0", "web", "sh", "-c", &format!("echo x > {path}")]);
        assert!(said.contains("Read-only file system"), "{said}");
    }
    // The file is read anew at a start.
    host.write("token.txt", "changed\n");
    host.ok(&["restart", "-t", "0"]);
    assert_eq!(inside("cat /run/secrets/file; stat -c '%u %a' /run/secrets/file"), "changed\n1234 400");
    down(&host);
}

#[test]
fn volumes_in_the_long_form_do_all_that_they_say() {
    let Some(host) = Host::new(&["busybox", "alpine"]) else { return };
    host.write("there/file", "bound\n");
    up(
        &host,
        r#"
services:
  web:
    image: busybox
    command: sleep 1000
    volumes:
      - {type: volume, source: data, target: /data}
      - {type: volume, target: /labelled, volume: {labels: {role: scratch}}}
      - {type: volume, source: empty, target: /etc, volume: {nocopy: true}}
      - {type: image, source: alpine, target: /alpine}
      - {type: image, source: alpine, target: /release, image: {subpath: etc}}
      - {type: bind, source: ./there, target: /there, read_only: true, bind: {propagation: rprivate, recursive: readonly, selinux: z}}
      - {type: bind, source: ./made, target: /made, bind: {create_host_path: true}}
      - {type: bind, source: ./made2, target: /made2}
      - {type: bind, source: ./made3, target: /made3, bind: {propagation: rprivate}}
      - {type: tmpfs, target: /tmpfs, tmpfs: {size: 1m, mode: 01770}}
      - "./there:/short:ro,Z"
volumes:
  data:
  empty:
"#,
    );
    let inside = |script: &str| host.ok(&["exec", "-T", "web", "sh", "-c", script]);
    assert_eq!(inside("ls /etc | grep -vE 'hosts|hostname|resolv.conf' | wc -l"), "0");
    assert_eq!(inside("cat /there/file /short/file; ls -d /made; stat -c %a /tmpfs"), "bound\nbound\n/made\n1770");
    for made in ["made", "made2", "made3"] {
        assert!(host.project().join(made).is_dir(), "{made}");
    }
    assert!(inside("cat /alpine/etc/os-release; ls /release").contains("Alpine"));
    assert!(inside("cat /release/os-release").contains("Alpine"));
    assert_eq!(inside("/alpine/bin/busybox echo its programs run"), "its programs run");
    let said = host.fails(1, &["exec", "-T", "web", "touch", "/alpine/new"]);
    assert!(said.contains("Read-only file system"), "{said}");
    let said = host.fails(1, &["image", "rm", "alpine"]);
    assert!(said.contains("demo-web-1"), "{said}");
    let labelled = host.ok(&["volume", "ls", "-q"]);
    let labelled = labelled.lines().find(|name| name.len() == 64).expect("an anonymous volume");
    assert_eq!(host.json(&["volume", "inspect", labelled])[0]["Labels"]["role"], "scratch");
    down(&host);
    host.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    volumes:\n      - {type: bind, source: ./none, target: /n, bind: {create_host_path: false}}\n",
    );
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("bind source path does not exist"), "{said}");
    host.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    command: 'true'\n    volumes:\n      - {type: image, source: alpine, target: /n, image: {subpath: ../../nowhere}}\n",
    );
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("nowhere") && said.contains("alpine"), "{said}");
    assert!(host.ids().is_empty());
}

#[test]
fn volumes_come_from_other_containers() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("bound/file", "bound\n");
    host.ok(&[
        "container",
        "run",
        "--name",
        "outside",
        "-v",
        "/from-outside",
        "busybox",
        "sh",
        "-c",
        "echo out > /from-outside/f",
    ]);
    up(
        &host,
        r#"
services:
  data:
    image: busybox
    command: sh -c 'echo kept > /data/file; sleep 1000'
    volumes: ["named:/data", "./bound:/bound:ro", "/anonymous"]
  reader:
    image: busybox
    command: sleep 1000
    volumes: ["own:/anonymous"]
    volumes_from: ["data:ro", "container:outside"]
volumes: {named: , own: }
"#,
    );
    let inside = |script: &str| host.ok(&["exec", "-T", "reader", "sh", "-c", script]);
    assert_eq!(
        inside("until [ -s /data/file ]; do sleep 0.1; done; cat /data/file /bound/file /from-outside/f"),
        "kept\nbound\nout"
    );
    inside("touch /from-outside/new /anonymous/new");
    let said = host.fails(1, &["exec", "-T", "reader", "touch", "/data/new"]);
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(host.ok(&["exec", "-T", "data", "ls", "/anonymous"]), "", "an own mount goes before");
    // What another container still has is not removed with the one it was made for.
    host.ok(&["container", "rm", "-v", "outside"]);
    assert_eq!(inside("cat /from-outside/f"), "out");
    down(&host);
    host.ok(&["volume", "prune", "-a", "-f"]);
}

#[test]
fn devices_may_be_anywhere_and_containers_outside_have_names() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["network", "create", "shared"]);
    host.ok(&["container", "run", "-d", "--name", "outside", "--network", "shared", "busybox", "sleep", "1000"]);
    up(
        &host,
        r#"
services:
  web:
    image: busybox
    command: sleep 1000
    devices: ["/dev/full:/opt/dev/full:rw", "/dev/zero:/dev/deep/zero:r"]
    external_links: ["outside:database", outside]
    networks: [shared]
networks:
  shared: {external: true}
"#,
    );
    let inside = |script: &str| host.ok(&["exec", "-T", "web", "sh", "-c", script]);
    assert_eq!(inside("stat -c '%t %T' /opt/dev/full /dev/deep/zero"), "1 7\n1 5");
    let said = host.fails(1, &["exec", "-T", "web", "sh", "-c", "echo x > /opt/dev/full"]);
    assert!(said.contains("No space left on device"), "{said}");
    let address = host.address("outside", "shared");
    assert!(inside("nslookup database").contains(&address));
    assert!(inside("nslookup outside").contains(&address));
    host.ok(&["down", "-t", "0"]);
    host.ok(&["container", "rm", "-f", "outside"]);
    host.ok(&["network", "rm", "shared"]);
}

#[test]
fn hooks_run_after_the_start_and_before_the_stop() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let file = |post: &str, pre: &str| {
        format!(
            r#"
services:
  web:
    image: busybox
    command: sleep 1000
    user: "1000"
    stop_signal: SIGKILL
    volumes: ["./out:/out"]
    post_start:
      - {{command: [sh, -c, 'echo "post $$(id -u) $$(pwd) $$WHO" | tee -a /out/log'], user: root, working_dir: /out, environment: {{WHO: hook}}}}
      - {{command: "{post}", user: root}}
    pre_stop:
      - {{command: "sh -c 'echo pre $$(id -u) >> /out/log'", user: root}}
      - {{command: "{pre}"}}
"#
        )
    };
    let log = || std::fs::read_to_string(host.project().join("out/log")).unwrap_or_default();
    host.write("compose.yaml", &file("true", "true"));
    let done = host.run(&["up", "-d"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("demo-web-1 ->  | post 0 /out hook"), "{}", done.err);
    assert_eq!(log(), "post 0 /out hook\n");
    host.ok(&["up", "-d"]);
    assert_eq!(log().lines().count(), 1, "it did not start again");
    host.ok(&["restart"]);
    assert_eq!(log(), "post 0 /out hook\npre 0\npost 0 /out hook\n");
    host.ok(&["stop"]);
    host.ok(&["start"]);
    host.ok(&["-p", "demo", "down"]);
    assert_eq!(log().matches("pre 0").count(), 3);
    assert!(host.ids().is_empty());

    host.write("compose.yaml", &file("sh -c 'exit 7'", "true"));
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("web hook exited with status 7"), "{said}");
    host.write("compose.yaml", &file("true", "sh -c 'exit 8'"));
    host.ok(&["up", "-d"]);
    let said = host.fails(1, &["stop"]);
    assert!(said.contains("web hook exited with status 8"), "{said}");
    assert_eq!(host.inspect("demo-web-1")["State"]["Status"], "running");
    let pid = host.inspect("demo-web-1")["State"]["Pid"].take();
    let said = host.fails(1, &["restart"]);
    assert!(said.contains("web hook exited with status 8") && !said.contains("Started"), "{said}");
    assert_eq!(host.inspect("demo-web-1")["State"]["Pid"], pid, "what could not be stopped runs on");
    host.ok(&["kill"]);
    host.ok(&["down"]);
}

/// A directory of that name would keep Docker's daemon, should it come, from listening there.
#[test]
fn the_socket_of_a_daemon_that_is_not_here_is_named_and_never_made() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let socket = std::path::Path::new("/var/run/docker.sock");
    if socket.exists() {
        // Here it is mounted as any other file.
        return;
    }
    host.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n    volumes:\n      - /var/run/docker.sock:/var/run/docker.sock\n      - ./data:/data\n",
    );
    let done = host.run(&["up", "-d"]);
    assert_eq!(done.code, 0, "{}", done.err);
    let said =
        "services.web.volumes: /var/run/docker.sock is not mounted: Docker's daemon, whose API it is, does not run";
    assert_eq!(done.err.matches(said).count(), 1, "{}", done.err);
    assert_eq!(host.run(&["exec", "-T", "web", "ls", "-d", "/data", "/var/run/docker.sock"]).out, "/data\n");
    let said = host.fails(125, &["container", "run", "-v", "/var/run/docker.sock:/s", "busybox", "true"]);
    assert!(said.contains("/var/run/docker.sock cannot be mounted"), "{said}");
    assert!(!socket.exists());
    host.ok(&["down"]);
}

#[test]
fn keys_that_a_host_may_not_have_are_named_once() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    runtime: nvidia\n    cpu_rt_runtime: 1000\n    cgroup_parent: umiak-e2e-parent\n    isolation: process\n",
    );
    let done = host.run(&["up", "-d", "-t", "0"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.err.matches("services.web.runtime is ignored").count(), 1, "{}", done.err);
    assert_eq!(done.err.matches("services.web.isolation is ignored").count(), 1, "{}", done.err);
    assert!(done.err.contains("compose.yaml:5"), "{}", done.err);
    let has_rt = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    assert!(has_rt || done.err.contains("services.web.cpu_rt_runtime is ignored"), "{}", done.err);
    if has_rt {
        assert_eq!(host.ok(&["exec", "-T", "web", "cat", "/sys/fs/cgroup/cpu/cpu.rt_runtime_us"]), "1000");
    }
    let cgroup = host.ok(&["exec", "-T", "web", "cat", "/proc/1/cgroup"]);
    assert!(cgroup.contains("/umiak-e2e-parent/"), "{cgroup}");
    host.write("compose.yaml", "services:\n  web: {image: busybox, command: sleep 1000, runtime: runc}\n");
    let done = host.run(&["up", "-d", "-t", "0"]);
    assert!(done.code == 0 && !done.err.contains("runtime is ignored"), "{}", done.err);
    let said = host.fails(127, &["exec", "-T", "-w", "/missing", "web", "true"]);
    assert!(said.contains("/missing"), "{said}");
    down(&host);
    for parent in ["memory", "pids", "cpu", "unified", "devices", ""] {
        let path = std::path::Path::new("/sys/fs/cgroup").join(parent).join("umiak-e2e-parent");
        assert!(!path.exists(), "{} was left", path.display());
    }
}

#[test]
fn devices_by_name_come_from_a_specification() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let specs = host.project().join("cdi");
    host.write("lib.txt", "a library\n");
    let lib = host.project().join("lib.txt");
    host.write(
        "cdi/nvidia.json",
        &format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "containerEdits": {{"env": ["DRIVER=loaded"]}},
                "devices": [{{"name": "all", "containerEdits": {{"deviceNodes": [{{"path": "/dev/nvidia0", "hostPath": "/dev/full"}}],
                "mounts": [{{"hostPath": "{}", "containerPath": "/usr/lib/gpu.txt", "options": ["ro"]}}]}}}}]}}"#,
            lib.display()
        ),
    );
    let up = |service: &str| {
        host.write("compose.yaml", &format!("services:\n  web: {{image: busybox, command: sleep 1000, {service}}}\n"));
        let mut command = host.command(&["up", "-d", "-t", "0"]);
        command.env("UMIAK_CDI_SPEC_DIRS", &specs);
        crate::harness::finish(command, b"", "up")
    };
    for service in [
        "devices: ['nvidia.com/gpu=all']",
        "gpus: all",
        "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: all, capabilities: [gpu]}]}}}",
    ] {
        let done = up(service);
        assert_eq!(done.code, 0, "{service}: {}", done.err);
        let seen = host.ok(&[
            "exec",
            "-T",
            "web",
            "sh",
            "-c",
            "echo $DRIVER; stat -c '%t %T' /dev/nvidia0; cat /usr/lib/gpu.txt",
        ]);
        assert_eq!(seen, "loaded\n1 7\na library", "{service}");
    }
    down(&host);
    let done = up("devices: ['vendor.com/class=none']");
    assert!(done.code == 1 && done.err.contains("unresolvable CDI devices vendor.com/class=none"), "{}", done.err);
    let done = up("gpus: [{driver: other, capabilities: [gpu]}]");
    assert!(
        done.code == 1 && done.err.contains("could not select device driver \"other\" with capabilities: [[gpu]]"),
        "{}",
        done.err
    );
    assert!(host.ids().is_empty());
}

#[test]
fn keys_that_mean_nothing_here_are_warned_of_and_those_that_cannot_work_refused() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let text = r#"
services:
  alone: { image: busybox, command: sleep 1000, network_mode: "", pull_policy: refresh }
  bare:
    image: busybox
    command: sleep 1000
    ipc: none
    userns_mode: private
    storage_opt: { size: 1G }
    security_opt: [label=disable, "label:type:svirt_t"]
secrets:
  unused: { external: true }
"#;
    host.write("compose.yaml", text);
    let done = host.run(&["up", "-d", "-t", "0"]);
    assert_eq!(done.code, 0, "{}", done.err);
    for (warning, place) in [
        ("services.bare.userns_mode is ignored: containers have the host's user namespace", "compose.yaml:8:5"),
        ("services.bare.storage_opt is ignored", "compose.yaml:9:5"),
    ] {
        assert_eq!(done.err.matches(warning).count(), 1, "{}", done.err);
        assert!(done.err.contains(place), "{}", done.err);
    }
    host.ok(&["exec", "-T", "bare", "sh", "-c", "! test -e /dev/shm && test -d /dev/mqueue"]);
    assert_eq!(host.inspect("demo-bare-1")["HostConfig"]["IpcMode"], "none");
    // As in Docker Compose: an empty mode is the default network where another service has it.
    host.ok(&["exec", "-T", "alone", "ip", "addr", "show", "eth0"]);
    down(&host);
    let refused = [
        ("secrets: [s]", "secrets: { s: { external: true } }", "secrets.s.external: unsupported external secret"),
        ("configs: [c]", "configs: { c: { external: true } }", "configs.c.external: unsupported external config"),
        ("models: [m]", "models: { m: { model: x } }", "'models' support requires Docker Model plugin"),
        ("use_api_socket: true", "x-a: b", "services.a.use_api_socket: there is no daemon"),
    ];
    for (key, top, said) in refused {
        host.write("compose.yaml", &format!("services:\n  a:\n    image: busybox\n    {key}\n{top}\n"));
        let error = host.fails(1, &["up", "-d"]);
        assert!(error.contains(said) && error.contains("compose.yaml:"), "{error}");
        host.ok(&["config", "-q"]);
    }
    assert!(host.ids().is_empty());
}
