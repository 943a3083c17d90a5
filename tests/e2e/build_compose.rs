//! Images that the services of a Compose file build.
//!
//! Tests share one image store: each has a project name of its own, for images are named after it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::harness::{Host, signal, tool};
use crate::registry::Registry;

/// A name that no other test, and no earlier run, has.
fn unique(host: &Host) -> String {
    let name = host.path().file_name().unwrap().to_str().unwrap();
    name.bytes().fold("b".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// A project of that name; its images go with it.
struct Stack<'h> {
    host: &'h Host,
    name: String,
}

impl<'h> Stack<'h> {
    fn new(host: &'h Host, text: &str) -> Self {
        let name = unique(host);
        host.write("compose.yaml", &format!("name: {name}\n{text}"));
        Self { host, name }
    }

    fn image(&self, service: &str) -> String {
        format!("{}-{service}", self.name)
    }

    fn id(&self, service: &str) -> String {
        self.host.json(&["image", "inspect", &self.image(service)])[0]["Id"].as_str().unwrap().to_owned()
    }

    fn container(&self, service: &str) -> String {
        self.host.inspect(&format!("{}-{service}-1", self.name))["Id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        let _ = self.host.run(&["--profile", "*", "down", "-t", "0", "--rmi", "local"]);
    }
}

#[test]
fn services_are_built_with_what_the_file_says() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let stack = Stack::new(
        &host,
        "services:
  web:
    build:
      context: ./ctx
      dockerfile: my.Dockerfile
      args: { A: file, B: file }
      target: two
      labels: { mine: yes }
      secrets: [word]
      extra_hosts: ['peer.example=10.1.2.3']
      shm_size: 8m
      ulimits: { nofile: { soft: 100, hard: 200 } }
      additional_contexts: { parent: 'service:base', files: ./more }
  base:
    build: { dockerfile_inline: \"FROM busybox\\nRUN echo base >/base\\n\" }
  plain: { image: busybox }
secrets:
  word: { environment: WORD }
",
    );
    host.write(
        "ctx/my.Dockerfile",
        "FROM parent AS two
ARG A B
COPY --from=files data /data
RUN --mount=type=secret,id=word echo $A $B $(cat /run/secrets/word) >/said
RUN grep -c peer.example /etc/hosts >>/said; ulimit -n >>/said; df -k /dev/shm | awk 'NR==2{print $2}' >>/said
FROM busybox
RUN false
",
    );
    host.write("more/data", "more");
    let mut command = host.command(&["build", "web", "plain", "--build-arg", "B=flag"]);
    command.env("WORD", "hush");
    let done = crate::harness::finish(command, b"", "build");
    assert_eq!(done.code, 0, "{}", done.err);
    // What web stands on came first, and the lines say whose they are.
    let place = |text: &str| done.err.find(text).unwrap_or_else(|| panic!("{text:?}:\n{}", done.err));
    assert!(place("[base] exporting to image") < place("[web two 2/4] COPY"), "{}", done.err);
    for service in ["web", "base"] {
        assert!(done.err.contains(&format!(" {}  Built", stack.image(service))), "{}", done.err);
    }
    assert!(!done.err.contains("plain"), "{}", done.err);
    let shown = host.ok(&["run", "--rm", "-T", "web", "cat", "/said", "/data", "/base"]);
    assert_eq!(shown, "file flag hush\n1\n100\n8192\nmorebase");
    let inspected = host.json(&["image", "inspect", &stack.image("web")]);
    let labels = &inspected[0]["Config"]["Labels"];
    assert_eq!(labels["com.docker.compose.project"], stack.name.as_str());
    assert_eq!(labels["com.docker.compose.service"], "web");
    assert_eq!(labels["mine"], "yes");
    // Nothing to say, and nothing new.
    let before = stack.id("web");
    let mut command = host.command(&["build", "-q", "--build-arg", "B=flag"]);
    command.env("WORD", "hush");
    let done = crate::harness::finish(command, b"", "build -q");
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "", ""));
    assert_eq!(stack.id("web"), before);
    let plain = host.run(&["build", "plain"]);
    assert_eq!((plain.code, plain.err.as_str()), (0, ""));
    let error = host.fails(1, &["build", "nobody"]);
    assert!(error.contains("no such service: nobody"), "{error}");
}

#[test]
fn a_build_that_fails_says_where_and_whose_it_is() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let stack = Stack::new(
        &host,
        "services:
  good: { build: { dockerfile_inline: FROM busybox } }
  bad: { build: { dockerfile_inline: \"FROM busybox\\nRUN echo before; exit 3\\n\" } }
  on: { build: { dockerfile_inline: FROM x, additional_contexts: { x: 'service:bad' } } }
",
    );
    let error = host.fails(1, &["build", "bad"]);
    assert!(error.contains("   2 | >>> RUN echo before; exit 3"), "{error}");
    assert!(error.contains("failed to solve: process \"/bin/sh -c echo before; exit 3\""), "{error}");
    assert!(!error.contains("target bad"), "{error}");
    let error = host.fails(1, &["build"]);
    assert!(error.contains("target bad: failed to solve: process"), "{error}");
    assert!(!error.contains("[on "), "what stands on it is not begun: {error}");
    let error = host.fails(1, &["up", "-d", "on"]);
    assert!(error.contains("target bad: failed to solve"), "{error}");
    assert!(host.ids().is_empty(), "nothing was made: {:?}", host.ids());
    drop(stack);
}

#[test]
fn up_builds_what_is_missing_and_replaces_what_was_built_anew() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let text = "services:
  web: { build: ./web, command: sleep 1000, stop_grace_period: 0s }
  every: { build: ./web, command: sleep 1000, stop_grace_period: 0s, pull_policy: build, profiles: [every] }
  named: { build: ./web, command: sleep 1000, stop_grace_period: 0s, image: '127.0.0.1:5000/nowhere/NAME', profiles: [named] }
  never: { build: ./web, command: sleep 1000, stop_grace_period: 0s, pull_policy: never, profiles: [never] }
";
    let stack = Stack::new(&host, text);
    host.write("compose.yaml", &format!("name: {0}\n{1}", stack.name, text.replace("NAME", &stack.name)));
    host.write("web/Dockerfile", "FROM busybox\nCOPY page /page\n");
    host.write("web/page", "one");
    let error = host.fails(1, &["up", "-d", "--no-build"]);
    assert!(error.contains(&format!("No such image: {}", stack.image("web"))), "{error}");
    assert!(error.contains("umiak build web"), "{error}");
    let plan = host.run(&["plan"]);
    assert!(plan.out.contains(&format!("Image {}  build (not there)", stack.image("web"))), "{}", plan.out);
    let dry = host.run(&["--dry-run", "up", "-d"]);
    assert!(dry.err.contains(&format!("DRY-RUN MODE -  Image {}  Built", stack.image("web"))), "{}", dry.err);
    host.fails(1, &["image", "inspect", &stack.image("web")]);
    host.ok(&["up", "-d"]);
    let (first, image) = (stack.container("web"), stack.id("web"));
    assert_eq!(host.ok(&["exec", "-T", "web", "cat", "/page"]), "one");
    // What is there is not built, and what is built without a change changes nothing.
    host.write("web/page", "two");
    host.ok(&["up", "-d"]);
    assert_eq!((stack.container("web"), stack.id("web")), (first.clone(), image.clone()));
    host.write("web/page", "one");
    let done = host.run(&["up", "-d", "--build", "--quiet-build"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.starts_with(&format!(" {}  Built", stack.image("web"))), "{}", done.err);
    assert_eq!((stack.container("web"), stack.id("web")), (first.clone(), image.clone()));
    host.write("web/page", "two");
    let plan = host.run(&["plan", "--build"]);
    assert!(plan.out.contains(&format!("Image {}  build (asked for)", stack.image("web"))), "{}", plan.out);
    let done = host.run(&["up", "-d", "--build"]);
    assert!(done.err.contains("[2/2] COPY page /page"), "{}", done.err);
    assert!(done.err.contains("-web-1  Recreated (image changed)"), "{}", done.err);
    assert_eq!(host.ok(&["exec", "-T", "web", "cat", "/page"]), "two");
    assert_ne!(stack.id("web"), image);
    // Each time, as the service says; nothing new is nothing new.
    host.ok(&["up", "-d", "every"]);
    let first = stack.container("every");
    let done = host.run(&["up", "-d", "every"]);
    assert!(done.err.contains(&format!(" {}  Built", stack.image("every"))), "{}", done.err);
    assert_eq!(stack.container("every"), first);
    // A registry that does not have it, and a policy that asks none.
    let done = host.run(&["up", "-d", "named"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("warning: ") && done.err.contains("manifest unknown"), "{}", done.err);
    assert!(done.err.contains(&format!(" 127.0.0.1:5000/nowhere/{}  Built", stack.name)), "{}", done.err);
    let error = host.fails(1, &["pull", "named"]);
    assert!(error.contains("must be built from source by running"), "{error}");
    let skipped = host.run(&["pull", "--ignore-buildable", "named", "web"]);
    assert_eq!(skipped.code, 0, "{}", skipped.err);
    assert!(skipped.err.contains(" named  Skipped - Image can be built"), "{}", skipped.err);
    assert!(skipped.err.contains(" web  Skipped - No image to be pulled"), "{}", skipped.err);
    host.ok(&["up", "-d", "never"]);
    assert_eq!(host.ok(&["exec", "-T", "never", "cat", "/page"]), "two");
    let listed = host.lines(&["ps", "--format", "json"]);
    assert!(listed.iter().any(|one| one["Image"] == stack.image("web").as_str()), "{listed:?}");
    let images = host.ok(&["images"]);
    assert!(images.contains(&stack.image("web")), "{images}");
    let error = host.fails(1, &["up", "-d", "--build", "--no-build"]);
    assert!(error.contains("--build and --no-build are incompatible"), "{error}");
    host.ok(&["--profile", "*", "down", "--rmi", "local"]);
    host.fails(1, &["image", "inspect", &stack.image("web")]);
    let named = format!("127.0.0.1:5000/nowhere/{}", stack.name);
    host.ok(&["image", "inspect", &named]);
    host.ok(&["--profile", "*", "down", "--rmi", "all"]);
    host.fails(1, &["image", "inspect", &named]);
}

#[test]
fn create_and_run_build_too() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let stack = Stack::new(&host, "services:\n  web: { build: ./web, stop_grace_period: 0s }\n");
    host.write("web/Dockerfile", "FROM busybox\nCOPY page /page\nCMD [\"cat\", \"/page\"]\n");
    host.write("web/page", "one");
    let dry = host.run(&["--dry-run", "run", "web"]);
    assert!(dry.err.contains(&format!("Image {}  Built", stack.image("web"))), "{}", dry.err);
    assert_eq!(host.ok(&["run", "--rm", "-T", "web"]), "one");
    host.write("web/page", "two");
    assert_eq!(host.ok(&["run", "--rm", "-T", "web"]), "one", "it was there");
    let done = host.run(&["run", "--rm", "-T", "--build", "--quiet-build", "web"]);
    assert_eq!((done.code, done.out.as_str()), (0, "two"), "{}", done.err);
    assert!(!done.err.contains("Built"), "{}", done.err);
    host.ok(&["create"]);
    let first = stack.container("web");
    host.write("web/page", "three");
    host.ok(&["create", "--build"]);
    assert_ne!(stack.container("web"), first);
    let error = host.fails(1, &["create", "--build", "--no-build"]);
    assert!(error.contains("--build and --no-build are incompatible"), "{error}");
}

#[test]
fn flags_of_build_mean_what_docker_composes_do() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let stack = Stack::new(
        &host,
        "services:
  web:
    build: { dockerfile_inline: \"FROM busybox\\nRUN cat /proc/sys/kernel/random/uuid >/made\\n\" }
    depends_on: [dep]
  dep: { build: { dockerfile_inline: FROM busybox } }
",
    );
    let bake = host.json(&["build", "--print", "--with-dependencies", "--no-cache", "--ssh", "id=/x", "web"]);
    assert_eq!(bake["group"]["default"]["targets"], serde_json::json!(["web", "dep"]));
    assert_eq!(bake["target"]["web"]["tags"], serde_json::json!([stack.image("web")]));
    assert_eq!(bake["target"]["web"]["no-cache"], true);
    let dry = host.run(&["--dry-run", "build"]);
    assert!(dry.err.contains(&format!(" DRY-RUN MODE -  {}  Built", stack.image("web"))), "{}", dry.err);
    host.fails(1, &["image", "inspect", &stack.image("web")]);
    host.ok(&["build", "web"]);
    host.fails(1, &["image", "inspect", &stack.image("dep")]);
    let first = stack.id("web");
    host.ok(&["build", "--with-dependencies", "web"]);
    host.ok(&["image", "inspect", &stack.image("dep")]);
    assert_eq!(stack.id("web"), first);
    host.ok(&["build", "--no-cache", "-m", "64m", "web"]);
    assert_ne!(stack.id("web"), first);
    let error = host.fails(1, &["build", "--builder", "other"]);
    assert!(error.contains("no builder \"other\" found"), "{error}");
    let error = host.fails(1, &["build", "--sbom=true"]);
    assert!(error.contains("attestations are not supported"), "{error}");
    host.ok(&["build", "--provenance=false", "--sbom=false", "--compress", "--force-rm", "--parallel", "dep"]);
    let clean = host.ok(&["build", "--check", "dep"]);
    assert_eq!(clean, "dep\n\nCheck complete, no warnings found.");
    host.write("old/Dockerfile", "FROM busybox\nMAINTAINER me\n");
    let done = host.run(&["image", "build", "--check", "old"]);
    assert_eq!(done.code, 1, "{}", done.err);
    let shown = "Check complete, 1 warning has been found!

WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/
Maintainer instruction is deprecated in favor of using label
Dockerfile:2
--------------------
   1 |     FROM busybox
   2 | >>> MAINTAINER me
   3 |     
--------------------
";
    let dir = format!("{}/", host.project().join("old").display());
    assert_eq!(done.out.replace(&dir, ""), shown);
    // Where an image comes from is no part of a service's configuration.
    let hash = host.ok(&["config", "--hash", "web"]);
    host.write(
        "compose.yaml",
        &format!("name: {}\nservices:\n  web: {{ build: {{ dockerfile_inline: FROM scratch }}, depends_on: [dep] }}\n  dep: {{ build: . }}\n", stack.name),
    );
    assert_eq!(host.ok(&["config", "--hash", "web"]), hash);
}

#[test]
fn secrets_repositories_and_pushes_reach_a_build() {
    let Some(registry) = Registry::start(false) else { return };
    let Some(host) = Host::new(&["busybox"]) else { return };
    let repository = host.path().join("repository");
    std::fs::create_dir_all(repository.join("sub")).unwrap();
    std::fs::write(repository.join("sub/Dockerfile"), "FROM busybox\nCOPY page /page\n").unwrap();
    std::fs::write(repository.join("sub/page"), "from git\n").unwrap();
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
        let place = repository.to_str().unwrap();
        let all: Vec<&str> = ["-C", place].into_iter().chain(who).chain(args.iter().copied()).collect();
        tool("git", &all);
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    let stack = Stack::new(
        &host,
        &format!(
            "services:
  web:
    image: {0}
    build:
      tags: ['{1}']
      dockerfile_inline: |
        FROM busybox
        RUN --mount=type=secret,id=file,target=/f --mount=type=secret,id=renamed cat /f /run/secrets/renamed >/said
      secrets: [ file, {{ source: other, target: renamed, mode: 0440 }} ]
  far:
    build: 'file://{2}#main:sub'
secrets:
  file: {{ file: ./secret }}
  other: {{ environment: WORD }}
",
            registry.name("web:1"),
            registry.name("web:extra"),
            repository.display()
        ),
    );
    host.write("secret", "from a file\n");
    let mut command = host.command(&["build", "--push", "web"]);
    command.env("WORD", "from the environment");
    let done = crate::harness::finish(command, b"", "build --push");
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("build.secrets[1].mode is ignored"), "{}", done.err);
    let read = ["run", "--rm", "-T", "--pull", "never", "web", "cat", "/said"];
    assert_eq!(host.ok(&read), "from a file\nfrom the environment");
    for tag in ["web:1", "web:extra"] {
        host.ok(&["image", "rm", "-f", &registry.name(tag)]);
        host.ok(&["image", "pull", "-q", &registry.name(tag)]);
    }
    host.ok(&["build", "far"]);
    assert_eq!(host.ok(&["run", "--rm", "-T", "far", "cat", "/page"]), "from git");
    host.ok(&["down", "--rmi", "all"]);
    host.ok(&["image", "rm", "-f", &registry.name("web:extra")]);
    drop(stack);
}

#[test]
fn an_interrupted_up_ends_its_builds() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let stack = Stack::new(
        &host,
        "services:
  one: { build: { dockerfile_inline: \"FROM busybox\\nRUN echo begun; sleep 1000\\n\" } }
  two: { build: { dockerfile_inline: \"FROM busybox\\nRUN echo begun too; sleep 1000\\n\" } }
",
    );
    let mut child = host.command(&["up", "-d"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = 0;
    while seen < 2 {
        let line = lines.next().expect("both builds begin").unwrap();
        seen += usize::from(line.ends_with(" begun") || line.ends_with(" begun too"));
    }
    signal(child.id(), "INT");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(host.ids().is_empty(), "{:?}", host.ids());
    drop(stack);
}
