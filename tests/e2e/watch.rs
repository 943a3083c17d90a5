//! `watch`: changes on the host reach the containers.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use crate::harness::{Host, eventually, signal};
use crate::one_off::Terminal;

const STACK: &str = "services:
  web:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    develop:
      watch:
        - { action: sync, path: ./src, target: /app, ignore: ['*.log'], initial_sync: true }
        - { action: sync+restart, path: ./conf, target: /etc/conf }
        - { action: sync+exec, path: ./run, target: /run/it, exec: { command: sh -c 'cp /run/it/x /executed' } }
        - { action: restart, path: ./trigger }
  plain: { image: busybox, command: sleep 1000, stop_grace_period: 0s }
";

/// A watch that ends with the test.
struct Watch {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watch {
    fn new(host: &Host, args: &[&str]) -> Self {
        let mut child = host.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { child, lines };
        this.expect("Watch enabled");
        this
    }

    fn expect(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "{text:?} did not come");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            signal(self.child.id(), "INT");
        }
        let code = self.child.wait().unwrap().code();
        if !std::thread::panicking() {
            assert_eq!(code, Some(130));
        }
    }
}

#[test]
fn changes_are_synced_and_lead_to_what_the_file_says() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    host.write("src/deep/first", "1");
    host.write("src/ignored.log", "1");
    for dir in ["conf", "run", "trigger"] {
        fs::create_dir_all(host.project().join(dir)).unwrap();
    }
    let watch = &mut Watch::new(&host, &["watch"]);
    let read = |path: &str| {
        let done = host.run(&["exec", "-T", "web", "cat", path]);
        if done.code == 0 { Ok(done.out) } else { Err(done.err) }
    };
    assert_eq!(read("/app/deep/first").unwrap(), "1", "there from the start");
    assert!(read("/app/ignored.log").is_err());
    host.write("src/new/below/second", "2");
    watch.expect("Syncing service \"web\" after");
    // A file is made, and written a moment later: what is synced in between is empty.
    let reads = |path: &str, wanted: &str| {
        eventually(&format!("{path} is {wanted:?}"), || match read(path)? {
            text if text == wanted => Ok(()),
            text => Err(text),
        });
    };
    reads("/app/new/below/second", "2");
    host.write("src/other.log", "x");
    fs::rename(host.project().join("src/deep/first"), host.project().join("src/deep/renamed")).unwrap();
    eventually("the new name", || read("/app/deep/renamed"));
    eventually("the old name is gone", || read("/app/deep/first").map_or(Ok(()), Err));
    assert!(read("/app/other.log").is_err());
    fs::remove_dir_all(host.project().join("src/deep")).unwrap();
    eventually("the directory is gone", || read("/app/deep/renamed").map_or(Ok(()), Err));
    let started = || host.inspect("demo-web-1")["State"]["StartedAt"].to_string();
    let before = started();
    host.write("conf/ini", "set");
    watch.expect("service(s) [\"web\"] restarted");
    reads("/etc/conf/ini", "set");
    assert_ne!(started(), before);
    host.write("run/x", "ran");
    reads("/executed", "ran");
    host.write("trigger/now", "");
    watch.expect("service(s) [\"web\"] restarted");
    let error = host.fails(1, &["watch", "--no-up", "plain"]);
    assert!(error.contains("none of the selected services is configured for watch"), "{error}");
    host.ok(&["down"]);
}

#[test]
fn links_of_a_container_do_not_lead_a_sync_out_of_it() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let outside = host.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    host.write("compose.yaml", STACK);
    host.write("src/x", "1");
    host.ok(&["up", "-d"]);
    let link = format!("ln -s {} /app; mkdir -p {}", outside.display(), outside.display());
    host.ok(&["exec", "-T", "web", "sh", "-c", &link]);
    let _watch = Watch::new(&host, &["watch", "--no-up", "--quiet"]);
    let place = format!("{}/x", outside.display());
    eventually("a file", || {
        let done = host.run(&["exec", "-T", "web", "cat", &place]);
        if done.code == 0 { Ok(()) } else { Err(done.err) }
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing came to the host");
    host.ok(&["down"]);
}

#[test]
fn keys_of_the_menu_watch_and_detach() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    for name in ["src/one", "conf/c", "run/x", "trigger/t"] {
        host.write(name, "first");
    }
    let mut terminal = Terminal::new(&host, "up --menu");
    terminal.expect("Keys: w watches files or ends that, d detaches, Ctrl-C stops");
    terminal.type_in("w");
    terminal.expect("Watch enabled");
    host.write("src/one", "second");
    eventually("the change arrives", || {
        let done = host.run(&["exec", "-T", "web", "cat", "/app/one"]);
        if done.out == "second" { Ok(()) } else { Err(done.out + &done.err) }
    });
    terminal.type_in("w");
    terminal.expect("Watch disabled");
    terminal.type_in("?d");
    assert_eq!(terminal.end().code, 0);
    let states = host.lines(&["ps", "-a", "--format", "json"]);
    assert!(!states.is_empty() && states.iter().all(|one| one["State"] == "running"), "{states:?}");
    host.ok(&["down", "-t", "0"]);
    // Without a terminal there are no keys, and nothing is said of them.
    host.write("compose.yaml", "services: { one: { image: busybox, command: echo over } }\n");
    let done = host.run(&["up", "--menu"]);
    assert!(done.code == 0 && !done.err.contains("Keys:"), "{}", done.err);
    host.ok(&["down"]);
}

#[test]
fn up_watches_beside_the_logs_and_both_end_together() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    for name in ["src/one", "conf/c", "run/x", "trigger/t"] {
        host.write(name, "first");
    }
    let watch = Watch::new(&host, &["up", "--watch"]);
    host.write("src/one", "second");
    eventually("the change arrives", || {
        let done = host.run(&["exec", "-T", "web", "cat", "/app/one"]);
        if done.out == "second" { Ok(()) } else { Err(done.out + &done.err) }
    });
    // It is interrupted, and ends with 130.
    drop(watch);
    let states = host.lines(&["ps", "-a", "--format", "json"]);
    assert!(states.iter().all(|one| one["State"] == "exited"), "{states:?}");
    host.ok(&["down"]);
}

/// A project of its own name with a service that is built: images are named after the project, and tests share a store.
fn built(host: &Host) -> String {
    let name = host.path().file_name().unwrap().to_str().unwrap().bytes().map(|byte| format!("{byte:02x}"));
    let name = format!("w{}", name.collect::<String>());
    let text = format!(
        "name: {name}
services:
  web:
    build: ./app
    command: sleep 1000
    stop_grace_period: 0s
    develop: {{ watch: [ {{ action: rebuild, path: ./app }} ] }}
"
    );
    host.write("compose.yaml", &text);
    host.write("app/.dockerignore", "*.md\n");
    host.write("app/Dockerfile", "FROM busybox\nCOPY page /page\n");
    host.write("app/page", "one");
    name
}

fn page(host: &Host, wanted: &str) {
    eventually(wanted, || {
        let done = host.run(&["exec", "-T", "web", "cat", "/page"]);
        if done.out == wanted { Ok(()) } else { Err(done.out + &done.err) }
    });
}

#[test]
fn a_rebuild_makes_the_containers_anew() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let name = built(&host);
    let id = || host.json(&["image", "inspect", &format!("{name}-web")])[0]["Id"].as_str().unwrap().to_owned();
    {
        let watch = &mut Watch::new(&host, &["watch"]);
        page(&host, "one");
        let first = id();
        host.write("app/left.md", "out");
        host.write("app/page", "two");
        watch.expect("Rebuilding service(s) [\"web\"] after changes were detected...");
        watch.expect("service(s) [\"web\"] successfully built");
        page(&host, "two");
        eventually("what has lost its name goes", || {
            let done = host.run(&["image", "inspect", &first]);
            if done.code == 1 { Ok(()) } else { Err(done.out) }
        });
        // A build that fails changes nothing, and the next one may go well.
        host.write("app/Dockerfile", "FROM busybox\nRUN false\n");
        watch.expect("Rebuilding");
        host.write("app/Dockerfile", "FROM busybox\nCOPY . /\n");
        host.write("app/page", "three");
        watch.expect("successfully built");
        page(&host, "three");
        assert_ne!(host.run(&["exec", "-T", "web", "ls", "/left.md"]).code, 0, "it is left out");
    }
    host.ok(&["down", "--rmi", "local"]);
    host.write(
        "compose.yaml",
        "services: { web: { image: busybox, develop: { watch: [{ action: rebuild, path: . }] } } }\n",
    );
    let error = host.fails(1, &["watch", "--no-up"]);
    assert!(error.contains("can't watch service \"web\" with action rebuild without a build context"), "{error}");
}

#[test]
fn up_goes_on_when_its_watch_rebuilds() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    built(&host);
    let watch = Watch::new(&host, &["up", "--watch", "--build"]);
    host.write("app/page", "two");
    page(&host, "two");
    drop(watch);
    let states = host.lines(&["ps", "-a", "--format", "json"]);
    assert!(!states.is_empty() && states.iter().all(|one| one["State"] == "exited"), "{states:?}");
    host.ok(&["down", "--rmi", "local"]);
}

#[test]
fn an_interrupt_while_containers_are_made_anew_ends_the_watch() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    built(&host);
    let slow = "\"sh -c 'trap \\\"touch /tmp/asked\\\" TERM; while :; do sleep 0.1; done'\"";
    let text = fs::read_to_string(host.project().join("compose.yaml")).unwrap();
    host.write(
        "compose.yaml",
        &text.replace("sleep 1000", slow).replace("stop_grace_period: 0s", "stop_grace_period: 5s"),
    );
    let watch = &mut Watch::new(&host, &["watch"]);
    host.write("app/page", "two");
    watch.expect("successfully built");
    // It takes its time to stop the old one, and is interrupted meanwhile: the watch is over, with the usual code.
    eventually("the old one is asked to end", || {
        let done = host.run(&["exec", "-T", "web", "test", "-e", "/tmp/asked"]);
        if done.code == 0 { Ok(()) } else { Err(done.err) }
    });
    signal(watch.child.id(), "INT");
    eventually("the watch has ended", || match watch.child.try_wait().unwrap() {
        Some(status) => {
            assert_eq!(status.code(), Some(130));
            Ok(())
        }
        None => Err("it goes on".to_owned()),
    });
    host.ok(&["down", "-t", "0", "--rmi", "local"]);
}
