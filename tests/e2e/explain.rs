//! `explain`: why containers are as they are.

use std::net::TcpListener;

use crate::harness::{Host, eventually, free_port, signal};

/// Facts that the kernel, the monitor and the user have made, and what is said of them.
#[test]
fn each_container_of_a_project_is_explained() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  fine: {image: busybox, command: sleep 1000, stop_grace_period: 0s}
  done: {image: busybox, command: 'true'}
  hog:
    image: busybox
    command: sh -c 'echo filling up; exec tail /dev/zero'
    mem_limit: 16m
    memswap_limit: 16m
  loop:
    image: busybox
    command: sh -c 'echo cannot reach the database; exit 3'
    deploy: {restart_policy: {condition: any, delay: 1h}}
  spent: {image: busybox, command: sh -c 'exit 5', restart: 'on-failure:1'}
  ill:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    healthcheck: {test: 'echo no answer; exit 7', interval: 100ms, retries: 2}
  held: {image: busybox, command: sleep 1000, stop_grace_period: 0s}
  shot: {image: busybox, command: sleep 1000}
  script: {image: busybox, command: sh -c 'nosuchprogram; exit $$?'}
"#,
    );
    host.ok(&["up", "-d"]);
    host.ok(&["stop", "held"]);
    let pid = host.inspect("demo-shot-1")["State"]["Pid"].as_u64().unwrap();
    signal(u32::try_from(pid).unwrap(), "KILL");
    for name in ["hog", "spent", "shot", "script", "done"] {
        host.until(&format!("demo-{name}-1"), "it has ended", |state| state["Status"] == "exited");
    }
    host.until("demo-loop-1", "it is between two runs", |state| state["Status"] == "restarting");
    host.until("demo-ill-1", "it is unhealthy", |state| state["Health"]["Status"] == "unhealthy");
    let text = host.ok(&["explain"]);
    for line in [
        "demo-fine-1: running for ",
        "demo-done-1: ended with exit code 0, ",
        "demo-hog-1: was killed by the kernel at its memory limit of 16MiB",
        "    | filling up",
        "such as 32m",
        "demo-loop-1: ended with exit code 3 and is being restarted (once so far): next try in ",
        "    | cannot reach the database",
        "demo-spent-1: ended with exit code 5, ",
        "given up after 1 restart",
        "demo-ill-1: running for ",
        "health checks have failed; the last one ended with 7: no answer",
        "`umiak exec ill sh -c 'echo no answer; exit 7'` makes the check by hand",
        "demo-held-1: was stopped by hand, and killed (exit code 137), ",
        "demo-shot-1: was killed with SIGKILL (exit code 137), ",
        "demo-script-1: ended with exit code 127, ",
        "    | sh: nosuchprogram: not found",
        "`umiak run --rm --entrypoint sh script` looks into the image",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // What is fine has one line, unless it is asked for.
    assert_eq!(text.lines().filter(|line| line.starts_with("demo-")).count(), 9, "{text}");
    let after = text.split("demo-fine-1: ").nth(1).unwrap().lines().nth(1).unwrap();
    assert!(after.starts_with("demo-"), "{text}");
    assert!(host.ok(&["explain", "held"]).contains("`umiak start held` starts it again"));
    let entries = host.lines(&["explain", "--format", "json", "hog", "fine"]);
    let hog = entries.iter().find(|entry| entry["Service"] == "hog").unwrap();
    assert_eq!((&hog["Cause"], &hog["Fine"]), (&"out-of-memory".into(), &false.into()));
    assert_eq!((&hog["State"]["OOMKilled"], &hog["State"]["Signal"]), (&true.into(), &"SIGKILL".into()));
    assert!(entries.iter().any(|entry| entry["Cause"] == "running" && entry["Fine"] == true));
    assert!(host.fails(1, &["explain", "nobody"]).contains("no such service: nobody"));
    host.ok(&["down", "-t", "0"]);
    let text = host.ok(&["explain"]);
    assert!(text.contains("fine: has no container") && text.contains("`umiak up -d fine`"), "{text}");
}

#[test]
fn what_did_not_start_is_explained() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  typo: {image: busybox, command: nosuchprogram}
  db:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    healthcheck: {test: 'exit 1', interval: 100ms, retries: 1}
  web: {image: busybox, command: sleep 1000, depends_on: {db: {condition: service_healthy}}}
"#,
    );
    assert_ne!(host.run(&["up", "-d", "--keep", "typo"]).code, 0);
    let text = host.ok(&["explain", "typo"]);
    for said in ["demo-typo-1: could not be started: ", "\"nosuchprogram\" was not found in the image"] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    assert!(host.fails(1, &["up", "-d", "--keep", "web"]).contains("container demo-db-1 is unhealthy"));
    let text = host.ok(&["explain", "web"]);
    let said = "demo-web-1: created, not started: it waits for what it depends on: container demo-db-1 is unhealthy";
    assert!(text.contains(said) && text.contains("`umiak explain db` tells why"), "{text}");
    host.ok(&["down", "-t", "0"]);
}

/// What the host or the engine refuses, before there is a monitor that could write it down.
#[test]
fn a_start_that_was_refused_is_explained_and_shown() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.write("data/file", "");
    host.write(
        "compose.yaml",
        &format!(
            r#"
services:
  web: {{image: busybox, command: "true", ports: ["127.0.0.1:{port}:80"]}}
  bound: {{image: busybox, command: "true", volumes: [{{type: bind, source: ./data, target: /data, bind: {{create_host_path: false}}}}]}}
"#
        ),
    );
    host.ok(&["create"]);
    let holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert!(host.fails(1, &["start", "web"]).contains("port is already allocated"));
    let state = host.inspect("demo-web-1")["State"].take();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"created".into(), &128.into()));
    assert!(state["Error"].as_str().unwrap().contains("port is already allocated"), "{state}");
    let text = host.ok(&["explain", "web"]);
    for said in ["demo-web-1: could not be started: ", "port is already allocated", "`ss -ltnp`"] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    // Once it has run, the next failure tells of itself, and not of what the last run wrote.
    drop(holder);
    host.ok(&["start"]);
    for name in ["demo-web-1", "demo-bound-1"] {
        let state = host.until(name, "it has ended", |state| state["Status"] == "exited")["State"].take();
        assert_eq!((&state["ExitCode"], &state["Error"]), (&0.into(), &"".into()), "{name}");
    }
    std::fs::remove_dir_all(host.project().join("data")).unwrap();
    host.fails(1, &["start", "bound"]);
    let state = host.inspect("demo-bound-1")["State"].take();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &128.into()));
    assert!(host.ok(&["explain", "bound"]).contains("check the paths of `volumes`"), "{state}");
    host.ok(&["down", "-t", "0"]);
}

/// The kernel's kill is told also when the next run has begun.
#[test]
fn a_restart_for_lack_of_memory_is_told_as_that() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  hog:
    image: busybox
    command: sh -c 'test -e /once && exec sleep 1000; touch /once; exec tail /dev/zero'
    mem_limit: 16m
    memswap_limit: 16m
    restart: always
    stop_grace_period: 0s
"#,
    );
    host.ok(&["up", "-d"]);
    let shown = eventually("it runs again", || {
        let shown = host.inspect("demo-hog-1");
        let again = shown["State"]["Status"] == "running" && shown["RestartCount"] == 1;
        if again { Ok(shown) } else { Err(shown["State"].to_string()) }
    });
    assert_eq!(shown["State"]["OOMKilled"], false, "of the run that is");
    let text = host.ok(&["explain", "hog"]);
    assert!(text.contains("restarted once, the last time because it was killed by the kernel at its memory"), "{text}");
    host.ok(&["down", "-t", "0"]);
}

/// What is found when a monitor and its container were both killed.
#[test]
fn an_end_that_nobody_saw_is_explained() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", "services: {web: {image: busybox, command: sleep 1000}}");
    host.ok(&["up", "-d"]);
    let state = host.root().join("containers").join(host.inspect("demo-web-1")["Id"].as_str().unwrap());
    let file = state.join("state.json");
    // As a power cut leaves it: a state that speaks of another boot.
    let text = std::fs::read_to_string(&file).unwrap();
    let mut of_other_boot: serde_json::Value = serde_json::from_str(&text).unwrap();
    of_other_boot["boot_id"] = "another".into();
    host.ok(&["stop", "-t", "0"]);
    std::fs::write(&file, of_other_boot.to_string()).unwrap();
    let text = host.ok(&["explain"]);
    assert!(text.contains("demo-web-1: was running when the host was restarted"), "{text}");
    assert!(text.contains("`umiak up -d` starts the project again"), "{text}");
    host.ok(&["down", "-t", "0"]);
}
