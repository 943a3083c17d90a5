//! The client against the distribution project's registry.

use std::io;

use umiak_images::digest::Hasher;
use umiak_images::platform::Platform;
use umiak_images::registry::{BlobSink, Client};

use crate::support::pull::{bounded, client, client_as, content, credentials, fetch, patient_client, reference, shown};
use crate::support::server::{Access, Server, installed};

/// Resolves and fetches `team/app:1`, which holds `content`.
fn pull(client: &Client, host: &str, content: &[u8]) {
    let image = reference(host, "team/app:1");
    let resolved = client.resolve(&image, &Platform::new("linux", "amd64", None)).unwrap();
    assert_eq!(resolved.platform, Some(Platform::new("linux", "amd64", None)));
    assert!(resolved.index.is_some());
    let [layer] = resolved.manifest.layers.as_slice() else { panic!("one layer") };
    assert_eq!(layer.size, content.len() as u64);
    let keep = fetch(client, &image, content, 0).unwrap();
    assert!(keep.bytes == content);
}

#[test]
fn images_are_pulled() {
    if !installed(&["docker-registry", "skopeo"]) {
        return;
    }
    let server = Server::start(Access::Open);
    let content = content(3 << 20);
    server.push("team/app:1", &content);
    server.push("team/app:2", &content);
    let (client, host) = (client(""), server.host());
    pull(&client, &host, &content);

    let image = reference(&host, "team/app:1");
    let by_tag = client.manifest(&image).unwrap();
    assert_eq!(client.manifest(&image.with_digest(by_tag.digest.clone())).unwrap(), by_tag);
    let mut tags = client.list_tags(&image).unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2"]);
    assert_eq!(fetch(&client, &image, &content, 1_234_567).unwrap().bytes.len(), content.len());

    let text = shown(&client.manifest(&image.with_tag("3").unwrap()).unwrap_err());
    assert!(text.ends_with("manifest unknown: team/app has no 3"), "{text}");
    let text = shown(&client.manifest(&reference(&host, "team/none:1")).unwrap_err());
    assert!(text.contains("team/none"), "{text}");
    let text = shown(&fetch(&client, &image, b"never pushed", 0).unwrap_err());
    assert!(text.ends_with("does not have this blob"), "{text}");
}

#[test]
fn a_mirror_serves_the_hub() {
    if !installed(&["docker-registry", "skopeo"]) {
        return;
    }
    let server = Server::start(Access::Open);
    let content = content(1000);
    server.push("library/redis:7", &content);
    let file = format!("[registry.\"docker.io\"]\nmirrors = [\"http://{}\"]\nmirror_only = true", server.host());
    let client = client(&file);
    let image = "redis:7".parse().unwrap();
    client.resolve(&image, &Platform::new("linux", "arm64", None)).unwrap();
    fetch(&client, &image, &content, 0).unwrap();
    let text = shown(&client.manifest(&"redis:8".parse().unwrap()).unwrap_err());
    assert_eq!(
        text,
        format!("fetch the manifest of redis:8 from {}: manifest unknown: library/redis has no 8", server.host())
    );
}

#[test]
fn passwords_work() {
    if !installed(&["docker-registry", "skopeo", "htpasswd"]) {
        return;
    }
    let server = Server::start(Access::Password);
    let content = content(1000);
    server.push("team/app:1", &content);
    let host = server.host();
    let login = |password: &str| {
        let entry = format!(r#"{{"username": "who", "password": "{password}"}}"#);
        client_as("", credentials(&format!(r#"{{"auths": {{"{host}": {entry}}}}}"#)))
    };
    pull(&login("secret"), &host, &content);
    let image = reference(&host, "team/app:1");
    let text = shown(&login("guess").manifest(&image).unwrap_err());
    assert!(text.contains("the credentials for") && text.contains("are wrong"), "{text}");
    let text = shown(&client("").manifest(&image).unwrap_err());
    assert!(text.contains(&format!("may require 'docker login {host}'")), "{text}");
}

#[test]
fn tls_needs_the_registrys_ca() {
    if !installed(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let server = Server::start(Access::Tls);
    let content = content(1000);
    server.push("team/app:1", &content);
    let (host, image) = (server.host(), reference(&server.host(), "team/app:1"));
    let text = shown(&client("").manifest(&image).unwrap_err());
    assert!(text.contains(&format!("the certificate of {host} is not accepted")) && text.contains("ca_file"), "{text}");
    let trusting = |path: &str| client(&format!("[registry.\"{host}\"]\nca_file = \"{path}\""));
    pull(&trusting(&server.ca_file().display().to_string()), &host, &content);
    let text = shown(&trusting("/nonexistent/ca.pem").manifest(&image).unwrap_err());
    assert!(text.contains("read the CA file /nonexistent/ca.pem"), "{text}");
    let text = shown(&trusting("/dev/null").manifest(&image).unwrap_err());
    assert!(text.contains("no certificate in PEM form"), "{text}");
}

#[test]
fn a_self_signed_certificate_is_trusted_by_name() {
    if !installed(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let content = content(1000);
    for (name, trusted) in [("127.0.0.1", true), ("127.0.0.2", false)] {
        let server = Server::start(Access::SelfSigned(name));
        server.push("team/app:1", &content);
        let host = server.host();
        let client = client(&format!("[registry.\"{host}\"]\nca_file = \"{}\"", server.ca_file().display()));
        if trusted {
            pull(&client, &host, &content);
            continue;
        }
        let text = shown(&client.manifest(&reference(&host, "team/app:1")).unwrap_err());
        assert!(text.contains(&format!("the certificate of {host} is not accepted")), "{text}");
    }
}

/// Serves `ca_files_of_the_environment_are_trusted`, which runs it anew: the
/// environment of a process with threads cannot be changed.
const ENVIRONMENT: &str = "UMIAK_TEST_TLS_REGISTRY";

#[test]
fn ca_files_of_the_environment_are_trusted() {
    if let Ok(host) = std::env::var(ENVIRONMENT) {
        client("").manifest(&reference(&host, "team/app:1")).unwrap();
        return;
    }
    if !installed(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let server = Server::start(Access::Tls);
    server.push("team/app:1", b"x");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "real::ca_files_of_the_environment_are_trusted", "--nocapture"])
        .env(ENVIRONMENT, server.host())
        .env("SSL_CERT_FILE", server.ca_file())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn plain_http_where_tls_is_expected_is_explained() {
    if !installed(&["docker-registry"]) {
        return;
    }
    let server = Server::start(Access::Open);
    let host = server.host();
    let file = format!("[registry.\"docker.io\"]\nmirrors = [\"https://{host}\"]\nmirror_only = true");
    let text = shown(&client(&file).manifest(&"redis".parse().unwrap()).unwrap_err());
    assert!(text.contains(&format!("{host} does not speak TLS")) && text.contains("insecure_http"), "{text}");
}

#[test]
fn a_registry_that_restarts_loses_nothing() {
    struct Restart {
        server: Server,
        hasher: Hasher,
        restarted: bool,
        retries: usize,
    }
    impl BlobSink for Restart {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.hasher.update(bytes);
            if !self.restarted && self.hasher.bytes() > 1 << 20 {
                self.restarted = true;
                self.server.stop();
                self.server.resume();
            }
            Ok(())
        }
        fn retrying(&mut self, _: &umiak_images::registry::Retry) {
            self.retries += 1;
        }
    }
    if !installed(&["docker-registry", "skopeo"]) {
        return;
    }
    let server = Server::start(Access::Open);
    let content = content(24 << 20);
    server.push("team/app:1", &content);
    let retries = bounded(move || {
        let image = reference(&server.host(), "team/app:1");
        let layer = crate::support::pull::layer(&content);
        let mut sink = Restart { server, hasher: Hasher::new(), restarted: false, retries: 0 };
        let received = patient_client().blob(&image, &layer, 0, &mut sink).unwrap();
        drop(received.verify(sink.hasher).unwrap());
        sink.retries
    });
    assert!(retries > 0, "the registry was killed in the middle");
}
