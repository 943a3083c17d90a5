use super::*;
use crate::build::options::{File, Network, SecretSource, Source};

fn project(text: &str) -> Project {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("compose.yaml"), text).unwrap();
    let environment = [("FROM_ENV", "env"), ("SECRET", "word"), ("BOTH", "env")];
    let options = umiak_compose::LoadOptions {
        project_name: Some("p".into()),
        current_dir: dir.path().to_owned(),
        environment: environment.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..umiak_compose::LoadOptions::default()
    };
    umiak_compose::load(&options).unwrap()
}

fn of(project: &Project, service: &str, flags: &Flags) -> Result<Options> {
    options(project, &project.services[service], flags, &|name| Some(format!("id of {name}")))
}

const FULL: &str = "
services:
  web:
    image: registry.example/web:2
    build:
      context: /ctx
      dockerfile: docker/Prod
      args: { A: '1', BOTH: file, FROM_ENV: , UNSET: }
      target: two
      labels: { mine: '1' }
      tags: ['other:1']
      secrets: [ file, { source: variable, target: renamed }, unset ]
      ssh: [ default, deploy=/key ]
      additional_contexts: { base: 'service:base', dir: /dir, img: 'docker-image://alpine', oci: 'oci-layout:///l:v1' }
      network: none
      extra_hosts: [ 'a=1.2.3.4', 'a=1.2.3.5' ]
      shm_size: 64m
      ulimits: { nofile: { soft: 10, hard: 20 } }
      no_cache_filter: one
      pull: true
      privileged: true
      entitlements: [ network.host ]
  base:
    build: /base
secrets:
  file: { file: /secret }
  variable: { environment: SECRET }
  unset: { environment: NOWHERE }
";

#[test]
fn every_key_of_a_build_comes_to_an_option() {
    let project = project(FULL);
    let flags = Flags {
        args: vec!["BOTH=flag".into(), "SECRET".into(), "NOT_SET".into()],
        ssh: vec!["deploy=/other".into()],
        memory: Some(1 << 30),
        ..Flags::default()
    };
    let options = of(&project, "web", &flags).unwrap();
    assert_eq!(options.context, Source::Directory("/ctx".into()));
    assert_eq!(options.dockerfile, File::InContext(Some("docker/Prod".into())));
    let args: Vec<String> = options.args.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(args, ["A=1", "BOTH=flag", "FROM_ENV=env", "SECRET=word"]);
    assert_eq!(options.target.as_deref(), Some("two"));
    assert_eq!(options.names, ["other:1", "registry.example/web:2"]);
    let label = |key: &str| options.labels.get(key).map(String::as_str);
    assert_eq!((label("mine"), label(labels::PROJECT), label(labels::SERVICE)), (Some("1"), Some("p"), Some("web")));
    let secrets: Vec<(&str, &SecretSource)> = options.secrets.iter().map(|s| (s.id.as_str(), &s.from)).collect();
    let (file, word) = (SecretSource::File("/secret".into()), SecretSource::Bytes(b"word".to_vec()));
    assert_eq!(secrets, [("file", &file), ("renamed", &word)]);
    let ssh: Vec<(&str, usize)> = options.ssh.iter().map(|ssh| (ssh.id.as_str(), ssh.paths.len())).collect();
    assert_eq!(ssh, [("default", 0), ("deploy", 1)]);
    assert_eq!(options.ssh[1].paths, [PathBuf::from("/other")], "the command line's");
    let contexts = [
        ("base", Source::Image("id of base".into())),
        ("dir", Source::Directory("/dir".into())),
        ("img", Source::Image("alpine".into())),
        ("oci", Source::Layout("/l".into(), "v1".into())),
    ];
    for (name, source) in contexts {
        assert_eq!(options.contexts[name], source);
    }
    assert_eq!(options.network, Network::None);
    assert_eq!(options.extra_hosts, [("a".into(), "1.2.3.4".into()), ("a".into(), "1.2.3.5".into())]);
    assert_eq!((options.shm_size, options.limits.memory), (64 << 20, Some(1 << 30)));
    assert_eq!((options.ulimits[0].soft, options.ulimits[0].hard), (10, 20));
    assert!(options.pull && !options.no_cache && options.allow.insecure && options.allow.host_network);
    assert_eq!(options.no_cache_filter, ["one"]);
}

#[test]
fn contexts_are_known_by_their_form() {
    for (text, source) in [
        ("/dir", Source::Directory("/dir".into())),
        ("https://host/x.git#main:sub", Source::Git("https://host/x.git#main:sub".into())),
        ("git@host:x.git", Source::Git("git@host:x.git".into())),
        ("https://host/x.tar.gz", Source::Url("https://host/x.tar.gz".into())),
        ("oci-layout:///a:b/c@sha256:00", Source::Layout("/a:b/c".into(), "sha256:00".into())),
        ("oci-layout:///a:b/c", Source::Layout("/a:b/c".into(), String::new())),
    ] {
        assert_eq!(super::source(text), source, "{text}");
    }
}

#[test]
fn a_dockerfile_outside_of_its_context_is_found() {
    let project = project(
        "
services:
  up: { build: { context: /a/b, dockerfile: ../Dockerfile } }
  same: { build: { context: /a/b, dockerfile: /a/b/./x/../D } }
  text: { build: { dockerfile_inline: FROM scratch } }
  plain: { build: /a/b }
",
    );
    let of = |service| of(&project, service, &Flags::default()).unwrap().dockerfile;
    assert_eq!(of("up"), File::At("/a/Dockerfile".into()));
    assert_eq!(of("same"), File::InContext(Some("D".into())));
    assert_eq!(of("text"), File::Text("FROM scratch".into()));
    assert_eq!(of("plain"), File::InContext(Some("Dockerfile".into())));
}

#[test]
fn platforms_follow_the_rules_of_docker_compose() {
    let text = "
services:
  none: { build: . }
  own: { build: ., platform: linux/arm64 }
  one: { build: { platforms: [linux/arm64] } }
  two: { build: { platforms: [linux/arm64, linux/amd64] } }
  said: { build: { platforms: [linux/arm64, linux/amd64] }, platform: linux/arm64 }
";
    let mut project = project(text);
    let all =
        |project: &Project, service: &str, single| platforms(project, &project.services[service], single).unwrap();
    for (service, build, up) in [
        ("none", vec![], vec![]),
        ("own", vec!["linux/arm64"], vec!["linux/arm64"]),
        ("one", vec!["linux/arm64"], vec!["linux/arm64"]),
        ("two", vec!["linux/arm64", "linux/amd64"], vec![]),
        ("said", vec!["linux/arm64", "linux/amd64"], vec!["linux/arm64"]),
    ] {
        assert_eq!(all(&project, service, false), build, "{service}");
        assert_eq!(all(&project, service, true), up, "{service}");
    }
    project.environment.insert("DOCKER_DEFAULT_PLATFORM".into(), "linux/amd64".into());
    assert_eq!(all(&project, "none", false), ["linux/amd64"]);
    assert_eq!(all(&project, "two", true), ["linux/amd64"]);
    let error = platforms(&project, &project.services["one"], false).unwrap_err().to_string();
    assert!(error.contains("does not support value set by DOCKER_DEFAULT_PLATFORM: linux/amd64"), "{error}");
}

#[test]
fn what_a_build_stands_on_is_built_too() {
    let project = project(
        "
services:
  app: { build: { additional_contexts: { x: 'service:lib' } } }
  lib: { build: { additional_contexts: { x: 'service:base' } } }
  base: { build: . }
  other: { build: . }
  plain: { image: x }
",
    );
    let names = |service: &str| -> Vec<String> {
        let found = targets(&project, &[&project.services[service]]).unwrap();
        found.into_iter().map(|service| service.name.clone()).collect()
    };
    assert_eq!(names("app"), ["app", "lib", "base"]);
    assert_eq!(names("other"), ["other"]);
    assert!(names("plain").is_empty());
}

#[test]
fn the_file_for_bake_has_what_docker_compose_writes() {
    let project = project(FULL);
    let services: Vec<&Service> = project.services.values().collect();
    let text = bake::print(&project, &services, &Flags::default(), false).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["group"]["default"]["targets"], serde_json::json!(["web", "base"]));
    let mut web = file["target"]["web"].clone();
    web.as_object_mut().unwrap().remove("labels");
    let expected = serde_json::json!({
        "context": "/ctx",
        "contexts": { "base": "target:base", "dir": "/dir", "img": "docker-image://alpine", "oci": "oci-layout:///l:v1" },
        "dockerfile": "/ctx/docker/Prod",
        "args": { "A": "1", "BOTH": "file", "FROM_ENV": "env" },
        "tags": ["other:1", "registry.example/web:2"],
        "target": "two",
        "secret": ["id=file,type=file,src=/secret", "id=renamed,type=env,env=SECRET", "id=unset,type=env,env=NOWHERE"],
        "ssh": ["default=", "deploy=/key"],
        "pull": true,
        "no-cache-filter": ["one"],
        "network": "none",
        "shm-size": "67108864",
        "ulimits": ["nofile=10:20"],
        "entitlements": ["network.host", "security.insecure"],
        "extra-hosts": { "a": "1.2.3.4,1.2.3.5" },
        "output": ["type=docker"],
    });
    assert_eq!(web, expected);
}
