//! Health checks: what is run, how it ends, what is shown, and who is told.

use crate::harness::{Host, eventually, names_in, signal};

const CHECKED: &str = "until";

fn run(host: &Host, name: &str, flags: &[&str], command: &[&str]) {
    let mut args = vec!["container", "run", "-d", "--name", name];
    args.extend(flags);
    args.push("busybox");
    args.extend(command);
    host.ok(&args);
}

#[test]
fn a_check_makes_healthy_and_unhealthy_and_shows_what_it_printed() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let check = "echo out; echo err >&2; id -u; echo $NAME; pwd; test -e /ok";
    run(
        &host,
        CHECKED,
        &[
            "--health-cmd",
            check,
            "--health-interval",
            "300ms",
            "--health-retries",
            "2",
            "--user",
            "7:7",
            "-e",
            "NAME=value",
            "--workdir",
            "/tmp",
            "--tmpfs",
            "/tmp:mode=1777",
        ],
        &["sleep", "1000"],
    );
    let shown = host.until(CHECKED, "it is unhealthy", |state| state["Health"]["Status"] == "unhealthy");
    let health = &shown["State"]["Health"];
    assert!(health["FailingStreak"].as_u64().unwrap() >= 2, "{health}");
    let last = health["Log"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&1.into(), &"out\nerr\n7\nvalue\n/tmp\n".into()));
    assert_eq!(shown["Config"]["Healthcheck"]["Test"][0], "CMD-SHELL");
    assert_eq!(shown["Config"]["Healthcheck"]["Interval"], 300_000_000);
    let listed = |host: &Host| {
        let all = host.lines(&["container", "ls", "--format", "json"]);
        all.iter().find(|one| one["Names"] == CHECKED).map(|one| one["Status"].as_str().unwrap().to_owned()).unwrap()
    };
    assert!(listed(&host).ends_with(" (unhealthy)"), "{}", listed(&host));
    host.ok(&["container", "exec", "--user", "0", CHECKED, "touch", "/ok"]);
    let shown = host.until(CHECKED, "it is healthy", |state| state["Health"]["Status"] == "healthy");
    assert_eq!(shown["State"]["Health"]["FailingStreak"], 0);
    assert!(shown["State"]["Health"]["Log"].as_array().unwrap().len() <= 5);
    assert!(listed(&host).ends_with(" (healthy)"), "{}", listed(&host));
    let events = std::fs::read_to_string(host.run_root().join("events")).unwrap();
    assert!(events.contains("health_status: unhealthy") && events.contains("health_status: healthy"), "{events}");
    // Ended, it is not healthy; started again, nothing is known.
    host.ok(&["container", "kill", CHECKED]);
    assert_eq!(host.inspect(CHECKED)["State"]["Health"]["Status"], "unhealthy");
    host.ok(&["container", "rm", CHECKED]);
}

#[test]
fn a_service_is_seen_to_be_healthy_long_before_the_first_interval() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let script = "sleep 0.3; touch /ready; sleep 1000";
    run(&host, "soon", &["--health-cmd", "test -e /ready", "--health-interval", "1h"], &["sh", "-c", script]);
    let shown = host.until("soon", "it is healthy", |state| state["Health"]["Status"] == "healthy");
    // Failures before do not count, and nothing is checked before the interval any more.
    assert_eq!(shown["State"]["Health"]["FailingStreak"], 0);
    host.ok(&["container", "rm", "-f", "soon"]);
}

#[test]
fn a_check_that_takes_too_long_is_killed_with_its_children() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let check = "echo begun; (setsid sleep 777 &); sleep 777";
    run(
        &host,
        "late",
        &["--health-cmd", check, "--health-interval", "100ms", "--health-timeout", "500ms", "--health-retries", "1"],
        &["sleep", "1000"],
    );
    // On a machine that is busy it may not come to say a word in that time, once or twice.
    let told = |one: &serde_json::Value| one["Output"] == "Health check exceeded timeout (500ms): begun\n";
    let shown = host.until("late", "it is unhealthy", |state| {
        let log = state["Health"]["Log"].as_array();
        state["Health"]["Status"] == "unhealthy" && log.is_some_and(|log| log.iter().any(told))
    });
    for one in shown["State"]["Health"]["Log"].as_array().unwrap() {
        assert_eq!(one["ExitCode"], -1, "{one}");
    }
    // Between two checks there is nothing but the container's own process.
    eventually("nothing of a check is left", || {
        let all = host.ok(&["container", "exec", "late", "ps", "-o", "pid,stat,args"]);
        if all.contains("777") { Err(all) } else { Ok(()) }
    });
    host.ok(&["container", "rm", "-f", "late"]);
}

#[test]
fn checks_leave_no_zombies_and_an_unbounded_output_is_cut() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // Each leaves an orphan that ends at once, one that goes on, and one in a session of its own. PID 1 never waits.
    let check = "(true &); (sleep 600 &); (setsid sleep 600 &); yes | head -c 100000; exit 0";
    run(&host, "messy", &["--health-cmd", check, "--health-interval", "50ms"], &["sh", "-c", "exec sleep 1000"]);
    let id = host.inspect("messy")["Id"].as_str().unwrap().to_owned();
    let mut seen = std::collections::BTreeSet::new();
    eventually("many checks have run", || {
        let log = host.inspect("messy")["State"]["Health"]["Log"].clone();
        for one in log.as_array().into_iter().flatten() {
            assert_eq!((&one["ExitCode"], one["Output"].as_str().unwrap().len()), (&0.into(), 4099), "{one}");
            seen.insert(one["Start"].to_string());
        }
        if seen.len() >= 15 { Ok(()) } else { Err(format!("{} checks", seen.len())) }
    });
    let all = host.ok(&["container", "exec", "messy", "ps", "-o", "pid,stat,args"]);
    let zombies = all.lines().filter(|line| line.contains(" Z ") || line.contains("[sleep]")).count();
    let sleeps = all.lines().filter(|line| line.ends_with(" sleep 600")).count();
    assert!(zombies <= 5 && sleeps <= 2, "{all}");
    // Nor do descriptions of processes pile up beside the container.
    let left = names_in(&host.root().join("containers").join(id).join("bundle"));
    assert!(left.iter().filter(|name| name.starts_with("process-")).count() <= 1, "{left:?}");
    host.ok(&["container", "rm", "-f", "messy"]);
}

#[test]
fn a_check_that_cannot_be_run_says_why_and_none_is_none() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  missing:
    image: busybox
    command: sleep 1000
    healthcheck: {test: [CMD, nosuchprogram], interval: 100ms, retries: 1}
  none:
    image: busybox
    command: sleep 1000
    healthcheck: {disable: true}
"#,
    );
    host.ok(&["up", "-d"]);
    let shown = host.until("demo-missing-1", "it is unhealthy", |state| state["Health"]["Status"] == "unhealthy");
    let last = &shown["State"]["Health"]["Log"][0];
    assert_eq!(last["ExitCode"], -1);
    assert!(
        last["Output"].as_str().unwrap().contains("\"nosuchprogram\": executable file not found in $PATH"),
        "{last}"
    );
    let none = host.inspect("demo-none-1");
    assert_eq!(
        (&none["State"]["Health"], &none["Config"]["Healthcheck"]["Test"][0]),
        (&serde_json::Value::Null, &"NONE".into())
    );
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn a_name_leads_to_replicas_that_are_not_unhealthy() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  web:
    image: busybox
    command: sleep 1000
    scale: 3
    healthcheck: {test: "test ! -e /broken", interval: 100ms, retries: 1}
  client: {image: busybox, command: sleep 1000}
"#,
    );
    host.ok(&["up", "-d"]);
    let found = |name: &str| {
        let said = host.run(&["exec", "-T", "client", "nslookup", name]).out;
        said.lines().skip_while(|line| !line.starts_with("Name:")).filter(|line| line.starts_with("Address")).count()
    };
    let leads_to = |name: &str, count: usize| {
        eventually(&format!("{name} leads to {count}"), || match found(name) {
            found if found == count => Ok(()),
            found => Err(found.to_string()),
        });
    };
    leads_to("web", 3);
    host.ok(&["exec", "-T", "--index", "2", "web", "touch", "/broken"]);
    leads_to("web", 2);
    leads_to("all.web", 3);
    leads_to("demo-web-2", 1);
    for index in ["1", "3"] {
        host.ok(&["exec", "-T", "--index", index, "web", "touch", "/broken"]);
    }
    leads_to("web", 3);
    host.ok(&["exec", "-T", "--index", "1", "web", "rm", "/broken"]);
    leads_to("web", 1);
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn health_begins_anew_when_a_container_is_started_again() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    run(
        &host,
        "again",
        &["--restart", "always", "--health-cmd", "test -e /dev/shm/ready", "--health-interval", "1h"],
        &["sh", "-c", "mkdir /first && touch /dev/shm/ready; sleep 1000"],
    );
    let shown = host.until("again", "it is healthy", |state| state["Health"]["Status"] == "healthy");
    let pid = u32::try_from(shown["State"]["Pid"].as_u64().unwrap()).unwrap();
    signal(pid, "KILL");
    let back = |state: &serde_json::Value| state["Status"] == "running" && state["Pid"] != pid;
    let shown = host.until("again", "it runs again", back);
    assert_eq!(shown["RestartCount"], 1);
    assert_eq!(shown["State"]["Health"]["Status"], "starting");
    // What the checks before said is still shown, as by Docker.
    assert_eq!(shown["State"]["Health"]["Log"][0]["ExitCode"], 0);
    host.ok(&["container", "rm", "-f", "again"]);
}

#[test]
fn an_unhealthy_service_is_started_again_where_that_is_asked_for() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 200ms\n    x-umiak-on-unhealthy: restart\n    healthcheck: {test: '! test -e /dev/shm/broken', interval: 100ms, retries: 2}\n",
    );
    host.ok(&["up", "-d"]);
    let first = host.until("demo-web-1", "it is healthy", |state| state["Health"]["Status"] == "healthy");
    host.ok(&["exec", "-T", "web", "touch", "/dev/shm/broken"]);
    let shown = host.until("demo-web-1", "it is healthy again", |state| {
        state["Health"]["Status"] == "healthy" && state["Pid"] != first["State"]["Pid"]
    });
    assert_eq!(shown["RestartCount"], 1);
    host.ok(&["stop"]);
    assert_eq!(host.inspect("demo-web-1")["State"]["Status"], "exited");
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn real_servers_are_seen_to_be_healthy_as_soon_as_they_are() {
    let Some(host) = Host::new(&["postgres:16-alpine", "redis:7-alpine", "nginx:alpine"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  web:
    image: nginx:alpine
    restart: unless-stopped
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_healthy}
    healthcheck: {test: [CMD, wget, -qO-, "http://127.0.0.1/"], interval: 30s}
  db:
    image: postgres:16-alpine
    restart: always
    environment: {POSTGRES_PASSWORD: secret}
    healthcheck: {test: ["CMD-SHELL", "pg_isready -U postgres"], interval: 10s, start_period: 60s}
  cache:
    image: redis:7-alpine
    healthcheck: {test: [CMD, redis-cli, ping], interval: 30s}
"#,
    );
    host.ok(&["up", "-d"]);
    host.ok(&["start", "--wait", "--wait-timeout", "60"]);
    for name in ["demo-web-1", "demo-db-1", "demo-cache-1"] {
        assert_eq!(host.inspect(name)["State"]["Health"]["Status"], "healthy", "{name}");
    }
    let listed = host.lines(&["ps", "--format", "json"]);
    assert!(listed.iter().all(|one| one["Health"] == "healthy"), "{listed:?}");
    host.ok(&["down", "-v", "-t", "2"]);
}

/// Waits until a service is healthy or not, for this reason: before its server listens, there may be another.
fn is_told(host: &Host, service: &str, status: &str, said: &str) {
    host.until(&format!("demo-{service}-1"), &format!("{status}: {said}"), |state| {
        let log = state["Health"]["Log"].as_array().into_iter().flatten();
        state["Health"]["Status"] == status
            && log.into_iter().any(|one| one["Output"].as_str().unwrap_or_default().contains(said))
    });
}

#[test]
fn a_port_and_a_page_are_checked_without_any_program_of_the_image() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
x-web: &web
  image: busybox
  command: sh -c 'mkdir /www; echo fine > /www/page; exec httpd -f -p 8080 -h /www'
services:
  page:
    <<: *web
    x-umiak-healthcheck: {http: ":8080/page"}
    healthcheck: {interval: 200ms, retries: 1}
  port:
    <<: *web
    labels: {x-umiak-healthcheck.tcp: ":8080"}
  missing:
    <<: *web
    x-umiak-healthcheck: {http: ":8080/nothing"}
    healthcheck: {interval: 200ms, retries: 1}
"#,
    );
    host.ok(&["up", "-d"]);
    for (name, status, said) in
        [("page", "healthy", " 200 OK"), ("port", "healthy", ":8080 accepts"), ("missing", "unhealthy", "404")]
    {
        is_told(&host, name, status, said);
    }
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn what_is_paused_is_not_checked_and_nothing_is_held_against_it() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let check = "touch /dev/shm/begun; sleep 0.5; rm /dev/shm/begun";
    let times = ["--health-interval", "100ms", "--health-timeout", "5s", "--health-retries", "1"];
    run(&host, "slow", &[&["--health-cmd", check], &times[..]].concat(), &["sleep", "1000"]);
    run(&host, "clock", &["--health-cmd", "sleep 1", "--health-interval", "100ms"], &["sleep", "1000"]);
    host.until("slow", "it is healthy", |state| state["Health"]["Status"] == "healthy");
    // In the middle of a check.
    eventually("a check is going on", || {
        let begun = host.run(&["container", "exec", "slow", "test", "-e", "/dev/shm/begun"]);
        if begun.code == 0 { Ok(()) } else { Err("none".to_owned()) }
    });
    host.ok(&["container", "pause", "slow"]);
    let shown = host.inspect("slow")["State"]["Health"].take();
    // As in Docker: what stands still is not healthy.
    assert_eq!((&shown["Status"], &shown["FailingStreak"]), (&"unhealthy".into(), &0.into()));
    // For longer than that check might take.
    let last_start = || {
        let log = host.inspect("clock")["State"]["Health"]["Log"].clone();
        log.as_array().and_then(|log| log.last()).map(|last| last["Start"].to_string()).unwrap_or_default()
    };
    let mut starts = std::collections::BTreeSet::from([last_start()]);
    eventually("time goes by", || {
        starts.insert(last_start());
        if starts.len() > 8 { Ok(()) } else { Err(format!("{} checks of another", starts.len())) }
    });
    assert_eq!(host.inspect("slow")["State"]["Health"]["Log"], shown["Log"]);
    host.ok(&["container", "unpause", "slow"]);
    let starts = |shown: &serde_json::Value| shown["Log"].as_array().map_or(0, Vec::len);
    let shown = host.until("slow", "it is checked again", |state| {
        state["Health"]["Status"] == "healthy" && state["Health"]["Log"] != shown["Log"] && starts(&state["Health"]) > 0
    });
    for one in shown["State"]["Health"]["Log"].as_array().unwrap() {
        assert_eq!(one["ExitCode"], 0, "{one}");
    }
    host.ok(&["container", "rm", "-f", "slow", "clock"]);
}

#[test]
fn a_check_is_told_of_as_docker_tells_of_it() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    run(&host, "told", &["--label", "a=b", "--health-cmd", "echo hi", "--health-interval", "1h"], &["sleep", "1000"]);
    host.until("told", "it is healthy", |state| state["Health"]["Status"] == "healthy");
    let said = |text: &str| {
        eventually(text, || {
            let journal = std::fs::read_to_string(host.run_root().join("events")).unwrap();
            let found = journal.lines().find(|line| line.contains(&format!("\"Action\":\"{text}\"")));
            let event = found.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            event.ok_or_else(|| journal.clone())
        })
    };
    let (created, started) = (said("exec_create: /bin/sh -c echo hi"), said("exec_start: /bin/sh -c echo hi"));
    let (died, healthy) = (said("exec_die"), said("health_status: healthy"));
    let id = &created["Actor"]["Attributes"]["execID"];
    assert_eq!(id.as_str().unwrap().len(), 64);
    for event in [&started, &died] {
        assert_eq!(&event["Actor"]["Attributes"]["execID"], id);
    }
    assert_eq!(died["Actor"]["Attributes"]["exitCode"], "0");
    for event in [&created, &started, &died, &healthy] {
        let attributes = &event["Actor"]["Attributes"];
        assert_eq!((&attributes["name"], &attributes["a"]), (&"told".into(), &"b".into()), "{event}");
    }
    host.ok(&["container", "rm", "-f", "told"]);
}

#[test]
fn pages_are_found_wherever_the_server_listens() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let serve = |listen: &str| {
        format!(
            "sh -c 'mkdir -p /www/dir /www/cgi-bin; echo fine > /www/page; echo \"#!/bin/sh\" > /www/cgi-bin/slow; echo sleep 1000 >> /www/cgi-bin/slow; chmod +x /www/cgi-bin/slow; exec httpd -f -p {listen} -h /www'"
        )
    };
    let mut file = "services:\n".to_owned();
    let mut service = |name: &str, listen: &str, check: &str, more: &str| {
        file.push_str(&format!(
            "  {name}:\n    image: busybox\n    command: {}\n    stop_grace_period: 0s\n    x-umiak-healthcheck: {{{check}}}\n    healthcheck: {{interval: 300ms, timeout: 3s, retries: 2}}\n{more}",
            serve(listen)
        ));
    };
    service("six", "[::1]:8080", "http: ':8080/page?a=1:2/3'", "");
    service("whole", "8080", "http: 'http://localhost:8080/page'", "");
    service("named", "8080", "http: 'box:8080/page'", "    hostname: box\n");
    service("moved", "8080", "http: ':8080/dir'", "");
    service("alone", "8080", "tcp: '127.0.0.1:8080'", "    network_mode: none\n");
    service("partner", "8081", "http: ':8080/page'", "    network_mode: service:whole\n");
    service("silent", "8080", "http: ':8080/cgi-bin/slow'", "");
    service("nobody", "8080", "http: 'elsewhere:8080/'", "");
    host.write("compose.yaml", &file);
    host.ok(&["up", "-d"]);
    for (name, status, said) in [
        ("six", "healthy", " 200 OK"),
        ("whole", "healthy", " 200 OK"),
        ("named", "healthy", " 200 OK"),
        ("moved", "healthy", " 302 "),
        ("alone", "healthy", "127.0.0.1:8080 accepts connections"),
        ("partner", "healthy", " 200 OK"),
        ("silent", "unhealthy", "Health check exceeded timeout (3s): GET /cgi-bin/slow: no answer"),
        ("nobody", "unhealthy", "no such name in the container's /etc/hosts"),
    ] {
        is_told(&host, name, status, said);
    }
    host.ok(&["down"]);
    for (check, said) in [
        ("http: 'https://localhost/'", "https is not checked"),
        ("http: '8080/page'", "a port is expected"),
        ("tcp: web", "a port is expected"),
        ("udp: ':53'", "only http and tcp can be checked"),
    ] {
        host.write(
            "compose.yaml",
            &format!("services:\n  web: {{image: busybox, x-umiak-healthcheck: {{{check}}}}}\n"),
        );
        let error = host.fails(1, &["up", "-d"]);
        assert!(error.contains("web") && error.contains("x-umiak-healthcheck: ") && error.contains(said), "{error}");
    }
}
