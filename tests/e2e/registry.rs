//! Images go to a registry and come back, through the binary and a registry of the test's own.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};

use crate::docker::docker;
use crate::harness::{Done, Host, eventually, finish, free_port, tool};
use crate::one_off::Terminal;

/// Debian's docker-registry; ends when dropped.
pub struct Registry {
    child: Child,
    pub host: String,
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
        let port = free_port();
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
pub fn own_store() -> Option<Host> {
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

fn config(host: &Host) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(host.path().join("config/config.json")).unwrap()).unwrap()
}

/// `docker login`, with a standard input.
fn log_in(host: &Host, args: &[&str], input: &str) -> Done {
    let config = host.path().join("config");
    let mut all = vec!["login"];
    all.extend(args);
    let mut command = host.command(&all);
    command.env("DOCKER_CONFIG", config);
    finish(command, input.as_bytes(), "login")
}

#[test]
fn a_login_is_checked_and_kept_and_opens_the_registry() {
    let (Some(host), Some(registry)) = (own_store(), Registry::start(true)) else { return };
    let (server, name) = (registry.host.clone(), registry.name("team/app:1"));
    host.ok(&["image", "tag", "busybox", &name]);
    let wrong = log_in(&host, &["-u", "who", "--password-stdin", &server], "guess\n");
    let refusal = format!("login attempt to http://{server}/v2/ failed with status: 401 Unauthorized");
    assert!(wrong.code == 1 && wrong.err.contains(&refusal), "{}", wrong.err);
    assert!(!host.path().join("config").exists(), "nothing is kept of what is not good");

    std::fs::create_dir(host.path().join("config")).unwrap();
    std::fs::write(host.path().join("config/config.json"), r#"{"detachKeys": "ctrl-x"}"#).unwrap();
    let done = log_in(&host, &["-u", "who", "--password-stdin", &format!("http://{server}/v2/")], "secret\n");
    assert_eq!((done.code, done.out.as_str()), (0, "Login Succeeded\n"), "{}", done.err);
    assert!(done.err.contains("WARNING! Your credentials are stored unencrypted in '"), "{}", done.err);
    let mut kept = serde_json::json!({"detachKeys": "ctrl-x", "auths": {}});
    kept["auths"][&server] = serde_json::json!({"auth": "d2hvOnNlY3JldA=="});
    assert_eq!(config(&host), kept);
    assert_eq!(std::fs::metadata(host.path().join("config/config.json")).unwrap().mode() & 0o777, 0o600);

    // They open the registry, and are tried before anybody is asked.
    ok(docker_with(&host, &["push", &name]));
    let again = docker_with(&host, &["login", &server]);
    assert_eq!((again.code, again.out.as_str()), (0, "Login Succeeded\n"), "{}", again.err);
    assert!(again.err.contains("Authenticating with existing credentials... [Username: who]"), "{}", again.err);

    let insecure = docker_with(&host, &["login", "-u", "who", "-p", "secret", &server]);
    assert_eq!((insecure.code, insecure.out.as_str()), (0, "Login Succeeded\n"));
    assert_eq!(insecure.err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");

    let out = ok(docker_with(&host, &["logout", &server]));
    assert_eq!(out, format!("Removing login credentials for {server}\n"));
    kept["auths"] = serde_json::json!({});
    assert_eq!(config(&host), kept);
    assert_eq!(docker_with(&host, &["push", &name]).code, 1);
    assert_eq!(ok(docker_with(&host, &["logout"])), "Removing login credentials for https://index.docker.io/v1/\n");
}

#[test]
fn wrong_logins_are_said_in_dockers_words() {
    let Some(host) = Host::bare() else { return };
    for (args, error) in [
        (
            vec!["login", "-u", "a", "-p", "b", "--password-stdin", "127.0.0.1:1"],
            "conflicting options: cannot specify both --password and --password-stdin",
        ),
        (vec!["login", "--password-stdin", "127.0.0.1:1"], "the --password-stdin option requires --username to be set"),
        (vec!["login", "-u", "", "-p", "x", "127.0.0.1:1"], "username is empty"),
        (vec!["login", "-u", "a", "127.0.0.1:1"], "Error: Cannot perform an interactive login from a non TTY device"),
        (vec!["login", "127.0.0.1:1"], "Error: Cannot perform an interactive login from a non TTY device"),
    ] {
        let done = docker_with(&host, &args);
        assert_eq!((done.code, done.err.trim()), (1, error), "{args:?}");
    }
    let done = docker_with(&host, &["login", "-u", "a", "-p", "b", "127.0.0.1:1"]);
    assert!(done.code == 1 && done.err.contains("connection to 127.0.0.1:1 refused"), "{}", done.err);
}

#[test]
fn a_helper_keeps_what_a_login_gives_it() {
    let (Some(host), Some(registry)) = (Host::bare(), Registry::start(true)) else { return };
    let bin = host.path().join("helpers");
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nfile={}/kept\ncase \"$1\" in\nget) test -e $file || {{ echo 'credentials not found in native keychain'; exit 1; }}; cat $file;;\n\
         store) cat > $file;;\nerase) rm $file;;\nesac\n",
        bin.display()
    );
    // Another process writes the program: a descriptor of ours that a parallel test's child inherits for a moment
    // would make it "text file busy".
    std::fs::write(bin.join("script"), script).unwrap();
    let at = |name: &str| bin.join(name).display().to_string();
    tool("install", &["-m", "755", &at("script"), &at("docker-credential-test")]);
    let directory = host.path().join("config");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("config.json"), r#"{"credsStore": "test"}"#).unwrap();
    let run = |args: &[&str], input: &str| {
        let mut command = host.command(args);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
        command.env("DOCKER_CONFIG", &directory).env("PATH", path);
        finish(command, input.as_bytes(), "login")
    };
    let server = registry.host.as_str();
    let done = run(&["login", "-u", "who", "--password-stdin", server], "secret");
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "Login Succeeded\n", ""));
    let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(bin.join("kept")).unwrap()).unwrap();
    assert_eq!(kept, serde_json::json!({"ServerURL": server, "Username": "who", "Secret": "secret"}));
    let mut expected = serde_json::json!({"credsStore": "test", "auths": {}});
    expected["auths"][server] = serde_json::json!({});
    assert_eq!(config(&host), expected);
    let again = run(&["login", server], "");
    assert!(again.code == 0 && again.err.contains("[Username: who]"), "{}", again.err);
    assert_eq!(run(&["logout", server], "").code, 0);
    assert!(!bin.join("kept").exists());
    assert_eq!(config(&host), serde_json::json!({"credsStore": "test", "auths": {}}));
}

#[test]
fn a_password_is_asked_for_without_being_shown() {
    let (Some(host), Some(registry)) = (Host::bare(), Registry::start(true)) else { return };
    let directory = host.path().join("config");
    let variables = [("DOCKER_CONFIG", directory.to_str().unwrap())];
    let mut terminal = Terminal::with(&host, &format!("login {}", registry.host), &variables);
    terminal.expect("Username: ");
    terminal.type_in("who\n");
    terminal.expect("Password: ");
    terminal.type_in("wrong\x15secreX\x7ft\n");
    terminal.expect("Login Succeeded");
    assert!(!terminal.seen().contains("wrong") && !terminal.seen().contains("secr"), "{}", terminal.seen());
    let done = terminal.end();
    assert_eq!(done.code, 0);
    assert_eq!(config(&host)["auths"][&registry.host]["auth"], "d2hvOnNlY3JldA==");
    // Ctrl-C at the password leaves.
    let mut terminal = Terminal::with(&host, &format!("login -u who {}", registry.host), &variables);
    terminal.expect("Password: ");
    terminal.type_in("sec\x03");
    assert_eq!(terminal.end().code, 130);
}

#[test]
fn a_device_takes_an_archive_and_stays_one() {
    use std::os::unix::fs::FileTypeExt as _;
    let Some(host) = own_store() else { return };
    // A device of our own, for should this fail, the machine must not be without its own.
    let null = host.path().join("null");
    tool("mknod", &[null.to_str().unwrap(), "c", "1", "3"]);
    host.ok(&["image", "save", "-o", null.to_str().unwrap(), "busybox"]);
    assert!(std::fs::metadata(&null).unwrap().file_type().is_char_device());
}

/// Puts another image under a name of the registry; its digest there.
fn publish(host: &Host, image: &str, name: &str) -> String {
    host.ok(&["image", "pull", "-q", image]);
    host.ok(&["image", "tag", image, name]);
    let said = host.ok(&["image", "push", name]);
    said.lines().last().unwrap().split(' ').nth(2).unwrap().to_owned()
}

#[test]
fn a_locked_project_uses_exactly_what_was_locked() {
    let (Some(other), Some(host), Some(registry)) = (Host::bare(), Host::bare(), Registry::start(false)) else {
        return;
    };
    let (app, base) = (registry.name("team/app:1"), registry.name("team/base:1"));
    let (first, base_digest) = (publish(&other, "busybox", &app), publish(&other, "busybox", &base));
    host.write(
        "compose.yaml",
        &format!(
            "services:\n  web: {{image: \"{app}\", command: sleep 1000, stop_grace_period: 0s}}\n  \
             built: {{build: {{dockerfile_inline: \"ARG FROM=none\\nFROM $$FROM\\n\", args: {{FROM: \"{base}\"}}}}, profiles: [b]}}\n"
        ),
    );
    let error = host.fails(1, &["up", "-d", "--locked"]);
    assert!(error.contains("there is no ") && error.contains("umiak.lock") && error.contains("umiak lock"), "{error}");
    host.fails(2, &["lock", "--check"]);
    host.ok(&["lock"]);
    let text = std::fs::read_to_string(host.project().join("umiak.lock")).unwrap();
    let entry = |name: &str, digest: &str| {
        format!("[[image]]\nname = \"{name}\"\nplatform = \"linux/amd64\"\ndigest = \"{digest}\"\n")
    };
    assert!(
        text.ends_with(&format!("version = 1\n\n{}\n{}", entry(&app, &first), entry(&base, &base_digest))),
        "{text}"
    );
    assert_eq!(host.ok(&["lock", "--check"]), "");
    host.ok(&["up", "-d", "--locked", "web"]);
    let id = |host: &Host| host.inspect("demo-web-1")["Image"].clone();
    let locked = id(&host);

    // Another image takes the name.
    let second = publish(&other, "alpine:3.20", &app);
    let changed = host.fails(2, &["lock", "--check"]);
    assert!(changed.is_empty(), "{changed}");
    let changed = host.run(&["lock", "--check"]).out;
    assert_eq!(changed, format!("{app} (linux/amd64): {first} is now {second}\n"));
    host.ok(&["pull", "--locked"]);
    host.ok(&["up", "-d", "--locked", "--pull", "always", "web"]);
    assert_eq!(id(&host), locked);
    assert!(host.ok(&["plan", "--locked", "web"]).contains("nothing"), "a locked project that is up has an empty plan");
    host.ok(&["run", "--rm", "--locked", "web", "true"]);
    host.ok(&["down"]);
    host.ok(&["create", "--locked", "web"]);
    assert_eq!(id(&host), locked);

    host.ok(&["lock"]);
    host.ok(&["up", "-d", "--locked", "web"]);
    assert_ne!(id(&host), locked);
    host.write("compose.yaml", &format!("services:\n  web: {{image: \"{app}\", command: sleep 1000, stop_grace_period: 0s}}\n  more: {{image: busybox}}\n"));
    let error = host.fails(1, &["up", "-d", "--locked"]);
    assert!(error.contains("service more: image busybox:latest is not in ") && error.contains("umiak lock"), "{error}");
    host.ok(&["down"]);
}

#[test]
fn a_locked_build_stands_on_the_base_that_was_locked() {
    let (Some(other), Some(host), Some(registry)) = (Host::bare(), Host::bare(), Registry::start(false)) else {
        return;
    };
    let base = registry.name("team/base:1");
    let first = publish(&other, "busybox", &base);
    host.write("Dockerfile", "ARG TAG=none\nFROM ${TAG}\nLABEL from=lock\n");
    host.write(
        "compose.yaml",
        &format!("services:\n  web:\n    build: {{context: ., args: {{TAG: \"{base}\"}}}}\n    command: sleep 1000\n    stop_grace_period: 0s\n"),
    );
    host.ok(&["lock"]);
    let text = std::fs::read_to_string(host.project().join("umiak.lock")).unwrap();
    assert!(text.contains(&base) && text.contains(&first), "{text}");
    let layers = |host: &Host, name: &str| image(host, name)["RootFS"]["Layers"].clone();
    publish(&other, "alpine:3.20", &base);
    host.ok(&["up", "-d", "--locked", "--build"]);
    assert_eq!(layers(&host, "demo-web"), layers(&other, "busybox"));
    host.ok(&["down"]);
    host.ok(&["build", "--locked", "--pull"]);
    assert_eq!(layers(&host, "demo-web"), layers(&other, "busybox"));
    host.ok(&["build", "--pull"]);
    assert_eq!(
        layers(&host, "demo-web"),
        layers(&other, "alpine:3.20"),
        "without the lock it is what the name means now"
    );
    // A base that is not in the lock file is not built upon.
    host.write("Dockerfile", "FROM busybox\n");
    let error = host.fails(1, &["up", "-d", "--locked", "--build"]);
    assert!(error.contains("image busybox:latest is not in ") && error.contains("umiak lock"), "{error}");
}
