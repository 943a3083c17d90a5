//! Images go to a registry and come back, through the binary and a registry of the test's own.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::docker::docker;
use crate::harness::{Done, Host, eventually, tool};

/// Debian's docker-registry; ends when dropped.
pub struct Registry {
    child: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Open to everybody, or to `who` with `secret`.
    pub fn start(closed: bool) -> Option<Self> {
        let installed = |program| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
        if !installed("docker-registry") {
            assert!(std::env::var("UMIAK_MUST_RUN").is_err(), "docker-registry has to be installed");
            eprintln!("skipped: docker-registry is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (host, path) = (format!("127.0.0.1:{port}"), dir.path().display());
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {path}/data}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{host}\"}}\n"
        );
        if closed {
            tool("htpasswd", &["-Bbc", &format!("{path}/users"), "who", "secret"]);
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {path}/users}}}}\n"));
        }
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &format!("{path}/config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let registry = Self { child, host, _dir: dir };
        eventually("the registry answers", || TcpStream::connect(&registry.host).map_err(|error| error.to_string()));
        Some(registry)
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `docker ARGS` with a config directory of the test's own.
fn docker_with(host: &Host, args: &[&str]) -> Done {
    let config = host.path().join("config");
    let mut all = vec!["--config", config.to_str().unwrap()];
    all.extend(args);
    docker(host, &all)
}

/// A host with a store of its own, which has `busybox`.
fn own_store() -> Option<Host> {
    let host = Host::bare()?;
    host.ok(&["image", "pull", "-q", "busybox"]);
    Some(host)
}

fn image(host: &Host, name: &str) -> serde_json::Value {
    host.json(&["image", "inspect", name])[0].clone()
}

fn ok(done: Done) -> String {
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    done.out
}

#[test]
fn push_prints_what_docker_prints() {
    let (Some(host), Some(registry)) = (own_store(), Registry::start(false)) else { return };
    let name = |tag: &str| registry.name(&format!("team/app:{tag}"));
    for tag in ["1", "2"] {
        host.ok(&["image", "tag", "busybox", &name(tag)]);
    }
    let layer = image(&host, "busybox")["RootFS"]["Layers"][0].as_str().unwrap()[7..19].to_owned();
    let pushed = ok(docker(&host, &["push", &name("1")]));
    let lines: Vec<&str> = pushed.lines().collect();
    let head = format!("The push refers to repository [{}]", registry.name("team/app"));
    assert_eq!(lines[..3], [head.as_str(), &format!("{layer}: Preparing"), &format!("{layer}: Pushed")]);
    let digest = lines[3].strip_prefix("1: digest: ").unwrap();
    assert!(digest.starts_with("sha256:") && digest.contains(" size: "), "{pushed}");
    let repo_digest = format!("{}@{}", registry.name("team/app"), digest.split(' ').next().unwrap());
    assert!(image(&host, &name("1"))["RepoDigests"].as_array().unwrap().contains(&repo_digest.clone().into()));

    let all = ok(docker(&host, &["push", "-a", &registry.name("team/app")]));
    let there = [format!("{layer}: Preparing"), format!("{layer}: Layer already exists")].join("\n");
    assert_eq!(all, format!("{head}\n{there}\n1: digest: {digest}\n{there}\n2: digest: {digest}\n"));
    assert_eq!(ok(docker(&host, &["image", "push", "--quiet", &name("1")])), format!("{}\n", name("1")));

    let other = registry.name("other/app:1");
    host.ok(&["image", "tag", "busybox", &other]);
    assert!(ok(docker(&host, &["push", &other])).contains(&format!("{layer}: Mounted from team/app")));

    for (args, error) in [
        (vec!["push".to_owned(), registry.name("team/app")], format!("tag does not exist: {}", name("latest"))),
        (vec!["push".to_owned(), "-a".into(), name("1")], "tag can't be used with --all-tags/-a".into()),
        (vec!["push".to_owned(), repo_digest.clone()], "cannot push a digest reference".into()),
        (
            vec!["push".to_owned(), registry.name("none:1")],
            format!("An image does not exist locally with the tag: {}", registry.name("none")),
        ),
    ] {
        let done = docker(&host, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((done.code, done.err.trim()), (1, error.as_str()), "{args:?}");
    }
    // What was pushed is an image.
    host.ok(&["image", "rm", &name("1"), &name("2")]);
    host.ok(&["image", "pull", "-q", &repo_digest]);
    assert_eq!(host.ok(&["container", "run", "--rm", &repo_digest, "echo", "pushed"]).trim(), "pushed");
}

#[test]
fn compose_pushes_what_services_build() {
    let (Some(host), Some(registry)) = (own_store(), Registry::start(false)) else { return };
    let (a, b, extra, c) = (registry.name("a:1"), registry.name("b:1"), registry.name("b:extra"), registry.name("c:1"));
    for name in [&a, &b, &extra, &c] {
        host.ok(&["image", "tag", "busybox", name]);
    }
    let file = format!(
        "services:\n  a: {{image: \"{a}\", build: ., depends_on: [b]}}\n  b: {{image: \"{b}\", build: {{context: ., tags: [\"{extra}\"]}}}}\n  \
         c: {{image: \"{c}\"}}\n  d: {{build: .}}\n"
    );
    host.write("compose.yaml", &file);
    let said = |args: &[&str]| {
        let done = host.run(&[&["push"], args].concat());
        assert_eq!(done.code, 0, "{}", done.err);
        done.err
    };
    let there = |name: &str| host.run(&["image", "pull", "-q", name]).code == 0;
    let dry = host.run(&["--dry-run", "push", "a"]);
    assert!(dry.err.contains("DRY-RUN MODE") && dry.err.contains(&a), "{}", dry.err);
    assert!(said(&["d"]).contains("d  Skipped") && said(&["c"]).contains("c  Skipped"));
    assert_eq!(said(&["-q", "a"]), "");
    assert!(there(&a) && !there(&b) && !there(&c));
    let text = said(&["--include-deps", "a"]);
    assert!(text.contains(&format!("Pushing {extra}: ")) && text.contains("Mounted from a"), "{text}");
    assert!(there(&b) && there(&extra));
    assert!(host.fails(1, &["push", "nobody"]).contains("nobody"));

    host.write("compose.yaml", &format!("{file}  e: {{image: 127.0.0.1:1/e:1, build: .}}\n"));
    host.ok(&["image", "tag", "busybox", "127.0.0.1:1/e:1"]);
    let error = host.fails(1, &["push", "e"]);
    assert!(error.contains("service e") && error.contains("connection to 127.0.0.1:1 refused"), "{error}");
    assert!(said(&["--ignore-push-failures", "a", "e"]).contains("Pushing e: "));
}

#[test]
fn a_denied_push_says_how_to_log_in() {
    let (Some(host), Some(registry)) = (own_store(), Registry::start(true)) else { return };
    let name = registry.name("team/app:1");
    host.ok(&["image", "tag", "busybox", &name]);
    let done = docker_with(&host, &["push", &name]);
    let hint = format!("hint: log in with `umiak login {}`", registry.host);
    assert!(done.code == 1 && done.err.contains("push access denied for team/app"), "{}", done.err);
    assert!(done.err.lines().any(|line| line == hint), "{}", done.err);
}
