//! Compose projects in registries: what Docker Compose published is read, and nothing that leaves its directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::PathBuf;

use base64::Engine as _;
use serde_json::{Value, json};
use umiak_images::auth::Credentials;
use umiak_images::digest::Digest;
use umiak_images::manifest::{Descriptor, OCI_INDEX, OCI_MANIFEST};
use umiak_images::reference::Reference;
use umiak_images::registries::Registries;
use umiak_images::registry::{Client, UploadWatch};

use crate::harness::{Done, Host, finish, names_in};
use crate::registry::Registry;

/// What Docker Compose 2.40 has put into a registry: two files, one that is extended, and two environment files.
const RECORDED: &str = include_str!("../published/compose-2.40.json");
/// The same without the second file and its environment file, by `--oci-version 1.0`.
const RECORDED_1_0: &str = include_str!("../published/compose-2.40-oci-1.0.json");

struct Unwatched;

impl UploadWatch for Unwatched {}

/// Puts manifests into a registry as they are.
struct Raw {
    client: Client,
}

impl Raw {
    fn new(host: &Host) -> Self {
        let registries = Registries::load(&host.path().join("none.toml")).unwrap();
        Self { client: Client::new(registries, Credentials::none(), "test").unwrap() }
    }

    /// The manifest, and before it what its blobs carry as `data`.
    fn put(&self, name: &str, media_type: &str, manifest: &str) -> Digest {
        let reference: Reference = name.parse().unwrap();
        let parsed: Value = serde_json::from_str(manifest).unwrap();
        let layers = parsed["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(parsed.get("config")) {
            let data = base64::prelude::BASE64_STANDARD.decode(blob["data"].as_str().unwrap()).unwrap();
            self.blob(&reference, &data);
        }
        self.client.put_manifest(&reference, media_type, manifest.as_bytes().to_vec()).unwrap();
        Digest::of(manifest.as_bytes())
    }

    fn blob(&self, reference: &Reference, data: &[u8]) {
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(data).unwrap();
        file.rewind().unwrap();
        let blob = Descriptor::new("application/octet-stream", Digest::of(data), data.len() as u64);
        self.client.upload(reference, &blob, file, &[], &mut Unwatched).unwrap();
    }
}

fn cache(host: &Host) -> PathBuf {
    host.path().join("cache/umiak/compose")
}

fn feed(host: &Host, variables: &[(&str, &str)], args: &[&str], input: &[u8]) -> Done {
    let mut command = host.command(args);
    command.env("XDG_CACHE_HOME", host.path().join("cache")).envs(variables.iter().copied());
    finish(command, input, &format!("umiak {}", args.join(" ")))
}

fn run(host: &Host, args: &[&str]) -> Done {
    feed(host, &[], args, b"")
}

#[test]
fn what_docker_compose_published_is_loaded_and_runs() {
    let (Some(host), Some(registry)) = (Host::new(&["busybox"]), Registry::start(false)) else { return };
    let raw = Raw::new(&host);
    let name = registry.name("team/stack:1");
    let digest = raw.put(&name, OCI_MANIFEST, RECORDED);
    let url = format!("oci://{name}");
    let kept = cache(&host).join(digest.hex());

    let done = run(&host, &["-p", "demo", "-f", &url, "config", "--format", "json"]);
    assert_eq!(done.code, 0, "{}", done.err);
    let config: Value = serde_json::from_str(&done.out).unwrap();
    let web = &config["services"]["web"];
    assert_eq!(web["environment"], json!({"A": "1", "B": "2", "GREETING": "hello"}));
    assert_eq!(web["labels"], json!({"over": "yes"}), "the second file");
    assert_eq!(config["services"]["app"]["command"], json!(["sleep", "1000"]), "the file that is extended");

    // Whoever runs it is asked about variables, as by Docker Compose; without an answer nothing happens.
    let done = feed(&host, &[("GREETING", "salut")], &["-p", "demo", "-f", &url, "up", "-d"], b"");
    assert!(done.code == 1 && done.err.contains("operation cancelled by user"), "{}", done.err);
    let lines: Vec<Vec<&str>> = done.err.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines.contains(&vec!["GREETING", "salut", "environment", "no", "hello"]), "{}", done.err);
    assert_eq!(host.ok(&["-p", "demo", "ps", "-aq"]), "");
    let done = feed(&host, &[], &["-p", "demo", "-f", &url, "up", "-d"], b"y\n");
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains(&format!("Your compose stack {url:?} is stored in {kept:?}")), "{}", done.err);
    assert_eq!(host.ok(&["-p", "demo", "exec", "-T", "web", "sh", "-c", "echo $GREETING$A$B"]), "hello12");
    let labels = host.inspect("demo-web-1")["Config"]["Labels"].clone();
    assert_eq!(labels["com.docker.compose.project.working_dir"], kept.to_str().unwrap());
    let done = run(&host, &["-p", "demo", "-f", &url, "up", "-d", "--yes"]);
    assert!(done.code == 0 && !done.err.contains("VARIABLE"), "{}", done.err);
    host.ok(&["-p", "demo", "down"]);

    // Other forms: OCI 1.0, an index, a digest, and by `include` and `extends`.
    raw.put(&registry.name("team/stack:old"), OCI_MANIFEST, RECORDED_1_0);
    let entry = json!({
        "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.docker.compose.project",
        "digest": digest, "size": RECORDED.len(),
    });
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
    raw.put(&registry.name("team/stack:index"), OCI_INDEX, &index);
    let by_digest = format!("oci://{}@{digest}", registry.name("team/stack"));
    for url in
        [format!("{}old", url.trim_end_matches('1')), format!("{}index", url.trim_end_matches('1')), by_digest.clone()]
    {
        let done = run(&host, &["-f", &url, "config", "--services"]);
        assert_eq!((done.code, done.out.as_str()), (0, "app\nweb\n"), "{url}: {}", done.err);
    }
    host.write(
        "compose.yaml",
        &format!("include: ['{url}']\nservices: {{ own: {{ extends: {{ file: '{by_digest}', service: web }} }} }}\n"),
    );
    let done = run(&host, &["config", "--format", "json"]);
    let config: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{}", done.err));
    assert_eq!(config["services"]["own"]["environment"]["B"], "2");
    assert_eq!(config["services"]["app"]["image"], "busybox");

    // What a digest names is there without its registry; a tag is asked for each time.
    drop(registry);
    let done = run(&host, &["-f", &by_digest, "config", "--services"]);
    assert_eq!((done.code, done.out.as_str()), (0, "app\nweb\n"), "{}", done.err);
    let done = run(&host, &["-f", &url, "config", "--services"]);
    assert!(done.code == 1 && done.err.contains(&url), "{}", done.err);
}

#[test]
fn a_published_project_that_lies_is_refused_and_leaves_nothing() {
    let (Some(host), Some(registry)) = (Host::bare(), Registry::start(false)) else { return };
    let raw = Raw::new(&host);
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut manifest = recorded.clone();
        change(&mut manifest);
        manifest.to_string()
    };
    let named = |layer: usize, key: &'static str, name: &'static str| {
        changed(&move |manifest| {
            manifest["layers"][layer]["annotations"][format!("com.docker.compose.{key}")] = name.into()
        })
    };
    let cases = BTreeMap::from([
        ("extended", (named(2, "file", "../../x"), "\"../../x\" cannot be the name of a file in it")),
        ("envfile", (named(3, "envfile", "../../../x.env"), "\"../../../x.env\" cannot be the name of a file")),
        ("absolute", (named(3, "envfile", "/etc/x"), "\"/etc/x\" cannot be the name of a file")),
        ("itself", (named(2, "file", "compose.yaml"), "\"compose.yaml\" cannot be the name of a file")),
        (
            "twice",
            (
                changed(&|manifest| {
                    manifest["layers"][4]["annotations"] = manifest["layers"][3]["annotations"].clone();
                }),
                "two files are named",
            ),
        ),
        (
            "other",
            (
                changed(&|manifest| manifest["artifactType"] = "application/vnd.example".into()),
                "is not of the type application/vnd.docker.compose.project, but \"application/vnd.example\"",
            ),
        ),
        ("nothing", (changed(&|manifest| manifest["layers"] = json!([])), "there is no Compose file in it")),
        (
            "large",
            (changed(&|manifest| manifest["layers"][0]["size"] = (5 << 20).into()), "more than the 4194304 allowed"),
        ),
        ("short", (changed(&|manifest| manifest["layers"][0]["size"] = 7.into()), "fetch sha256:")),
    ]);
    for (tag, (manifest, said)) in &cases {
        let name = registry.name(&format!("team/{tag}:1"));
        raw.put(&name, OCI_MANIFEST, manifest);
        let done = run(&host, &["-f", &format!("oci://{name}"), "config", "-q"]);
        assert!(done.code == 1 && done.err.contains(said) && done.err.contains(&name), "{tag}: {}", done.err);
    }
    let image = registry.name("team/index:1");
    raw.put(&image, OCI_INDEX, &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string());
    let url = format!("oci://{image}");
    for (variables, said) in [
        (&[][..], "leads to nothing of the type application/vnd.docker.compose.project"),
        (&[("COMPOSE_EXPERIMENTAL_OCI_REMOTE", "false")], "disabled by \"COMPOSE_EXPERIMENTAL_OCI_REMOTE\""),
    ] {
        let done = feed(&host, variables, &["-f", &url, "config", "-q"], b"");
        assert!(done.code == 1 && done.err.contains(said), "{}", done.err);
    }
    let kept = host.path().join("cache");
    assert!(!kept.exists(), "nothing is written before all of it is known to be right: {:?}", names_in(&kept));
}

/// The manifest that a registry has under a name, if there is one.
fn manifest(raw: &Raw, name: &str) -> Option<Value> {
    let fetched = raw.client.manifest(&name.parse().unwrap()).ok()?;
    Some(serde_json::from_slice(&fetched.bytes).unwrap())
}

/// `config` as data.
fn config(host: &Host, args: &[&str]) -> Value {
    let done = run(host, &[&["-p", "demo"], args, &["config", "--format", "json"]].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn a_project_is_published_and_comes_back_as_it_was() {
    let (Some(host), Some(registry)) = (Host::bare(), Registry::start(false)) else { return };
    let raw = Raw::new(&host);
    host.write(
        "compose.yaml",
        "services:\n  web: # the front\n    image: busybox\n    env_file: web.env\n    environment: { GREETING: '${GREETING:-hello}' }\n  \
         app:\n    extends: { file: parts/base.yaml, service: base }\n  extra:\n    image: busybox\n    profiles: [more]\n    \
         env_file: [{ path: none.env, required: false }]\n",
    );
    host.write("over.yaml", "services: { web: { labels: { over: 'yes' } } }\n");
    host.write("web.env", "A=1\n");
    host.write(
        "parts/base.yaml",
        "services: { base: { image: busybox, env_file: base.env, extends: { file: deep/deep.yaml, service: deep } } }\n",
    );
    host.write("parts/base.env", "B=2\n");
    host.write("parts/deep/deep.yaml", "services: { deep: { labels: { deep: 'yes' } } }\n");
    let files = ["-f", "compose.yaml", "-f", "over.yaml"];
    let name = registry.name("team/own:1");
    let publish = |more: &[&str], input: &[u8]| {
        feed(&host, &[], &[&files, &["publish"][..], more, &[name.as_str()]].concat(), input)
    };

    let done = publish(&[], b"");
    assert_eq!(done.code, 1);
    for said in [
        "service \"web\" has env_file declared.",
        "service \"web\" has environment variable(s) declared.",
        "To avoid leaking sensitive data, you must either explicitly allow",
    ] {
        assert!(done.err.contains(said), "{said}: {}", done.err);
    }
    let done = publish(&["--with-env"], b"");
    assert!(done.code == 1 && done.err.contains("use --yes"), "{}", done.err);
    let done = publish(&["--with-env"], b"n\n");
    assert!(done.code == 0 && done.err.contains("Are you ok to publish these environment variables?"), "{}", done.err);
    assert!(done.err.contains("Service/Config  web\n") && done.err.contains("GREETING=hello\n"), "{}", done.err);
    let done = publish(&["--yes", "--with-env", "--dry-run"], b"");
    assert!(done.code == 0 && done.err.contains("published"), "{}", done.err);
    assert!(manifest(&raw, &name).is_none(), "nothing has been published so far");

    let done = publish(&["--with-env"], b"y\n");
    assert!(done.code == 0 && done.err.contains(&format!("{name}  published")), "{}", done.err);
    let published = manifest(&raw, &name).unwrap();
    assert_eq!(published["artifactType"], "application/vnd.docker.compose.project");
    assert_eq!(published["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
    let layers = published["layers"].as_array().unwrap();
    let named: Vec<&str> = layers.iter().filter_map(|l| l["annotations"]["com.docker.compose.file"].as_str()).collect();
    assert_eq!(
        (layers.len(), &named[..2]),
        (6, &["compose.yaml", "over.yaml"][..]),
        "and 2 extended, 2 environment files"
    );

    let url = format!("oci://{name}");
    let own = config(&host, &[&files[..], &["--profile", "more"]].concat());
    assert_eq!(config(&host, &["-f", &url, "--profile", "more"]), own);
    assert_eq!(
        (&own["services"]["app"]["environment"]["B"], &own["services"]["web"]["environment"]["A"]),
        (&json!("2"), &json!("1"))
    );
    let done = feed(&host, &[("GREETING", "salut")], &["-f", &url, "config"], b"");
    assert!(done.out.contains("GREETING: salut"), "variables stay: {}{}", done.out, done.err);

    // What it includes from elsewhere is asked about, before its variables.
    host.write("include.yaml", &format!("include: ['{url}']\nservices: {{ own: {{ image: busybox }} }}\n"));
    let including = registry.name("team/including:1");
    let done = run(&host, &["-f", "include.yaml", "publish", "-y", &including]);
    assert_eq!(done.code, 0, "{}", done.err);
    let done = feed(&host, &[], &["-f", &format!("oci://{including}"), "up"], b"y\nn\n");
    let asked = format!("remote sources:\n  - oci://{including}\n  - {url}\n");
    for said in [&asked, "Do you want to continue? [y/N]", "Do you want to proceed with these variables?", "cancelled"]
    {
        assert!(done.code == 1 && done.err.contains(said), "{said}: {}", done.err);
    }

    // Without the environment files it can be published, but not run.
    let bare = registry.name("team/own:bare");
    let done = run(&host, &[&files[..], &["publish", "-y", &bare]].concat());
    assert!(done.code == 0 && done.err.contains("web.env is not published: without --with-env"), "{}", done.err);
    let done = run(&host, &["-f", &format!("oci://{bare}"), "config", "-q"]);
    assert!(done.code == 1 && done.err.contains(".env"), "{}", done.err);

    // The older form, and pinned images.
    let old = registry.name("team/own:old");
    let done = run(&host, &[&files[..], &["publish", "-y", "--with-env", "--oci-version", "1.0", &old]].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    let published = manifest(&raw, &old).unwrap();
    assert_eq!(published["config"]["mediaType"], "application/vnd.docker.compose.config.empty.v1+json");
    assert!(published.get("artifactType").is_none());
    assert_eq!(config(&host, &["-f", &format!("oci://{old}"), "--profile", "more"]), own);
    let pinned = registry.name("team/own:pinned");
    let done = run(&host, &[&files[..], &["publish", "-y", "--with-env", "--resolve-image-digests", &pinned]].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    let image = config(&host, &["-f", &format!("oci://{pinned}")])["services"]["web"]["image"].clone();
    assert!(image.as_str().unwrap().contains("busybox") && image.as_str().unwrap().contains("@sha256:"), "{image}");
}

#[test]
fn what_should_not_be_published_is_refused_or_asked_about() {
    let (Some(host), Some(registry)) = (crate::registry::own_store(), Registry::start(false)) else { return };
    let raw = Raw::new(&host);
    let name = registry.name("team/own:1");
    host.write("part.yaml", "services: { part: { image: busybox } }\n");
    let by_digest = format!("{}@{}", registry.name("team/own"), Digest::of(b""));
    for (text, args, said) in [
        (
            "include: [part.yaml]\nservices: { a: { image: busybox } }\n",
            &["-y", &name][..],
            "cannot publish compose file with local includes",
        ),
        (
            "services: { a: { build: . }, b: { image: busybox } }\n",
            &["-y", &name],
            "it only contains a build section for service(s):\n- \"a\"",
        ),
        ("services: { a: { image: busybox } }\n", &["--oci-version", "2", &name], "unsupported OCI version: 2"),
        ("services: { a: { image: busybox } }\n", &["--app", &name], "`--app` of Docker Compose is not supported yet"),
        ("services: { a: { image: busybox } }\n", &[&by_digest], "cannot publish to a digest"),
        ("services: { a: { image: busybox } }\n", &["127.0.0.1:1/x"], "connection to 127.0.0.1:1 refused"),
    ] {
        host.write("compose.yaml", text);
        let done = run(&host, &[&["publish"], args].concat());
        assert!(done.code == 1 && done.err.contains(said), "{args:?}: {}", done.err);
    }
    let done = feed(&host, &[], &["-f", "-", "publish", &name], b"services: { a: { image: busybox } }\n");
    assert!(done.code == 1 && done.err.contains("from standard input cannot be published"), "{}", done.err);

    host.write("token.txt", "token=abcdefgh\n");
    host.write(
        "compose.yaml",
        &format!(
            "services:\n  a: {{ build: {{ dockerfile_inline: FROM busybox }}, image: '{}', volumes: ['./data:/data'] }}\n  \
             b: {{ image: busybox, command: [--password, x], secrets: [s] }}\nsecrets: {{ s: {{ file: token.txt }} }}\n",
            registry.name("team/app:1")
        ),
    );
    let done = feed(&host, &[], &["publish", &name], b"n\n");
    let mount = format!("a: {}:/data\n", host.project().join("data").display());
    assert!(done.code == 0 && done.err.contains(&mount) && !done.err.contains("sensitive data within"), "{}", done.err);
    let done = feed(&host, &[], &["publish", &name], b"y\nno\n");
    let secret = format!("Secret Keyword\n{}:1: abcd…\n", host.project().join("token.txt").display());
    assert!(done.code == 0 && done.err.contains(&secret), "{}", done.err);
    assert!(manifest(&raw, &name).is_none());

    // The image that is not there is said; the one that is goes with it.
    let done = feed(&host, &[], &["publish", &name], b"y\ny\n");
    assert!(done.code == 0 && done.err.contains("Pushing a: ") && manifest(&raw, &name).is_some(), "{}", done.err);
    assert!(manifest(&raw, &registry.name("team/app:1")).is_none());
    host.ok(&["build", "--quiet"]);
    let done = run(&host, &["publish", "-y", &name]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(manifest(&raw, &registry.name("team/app:1")).is_some());
}
