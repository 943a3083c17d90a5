//! Manifests, indexes and tags from a scripted registry.

use serde_json::{Value, json};
use umiak_images::digest::Digest;
use umiak_images::manifest::{DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST};
use umiak_images::platform::Platform;
use umiak_images::registry::RegistryError;

use crate::support::fake::{End, Fake, Reply, Request};
use crate::support::pull::{bounded, client, reference, shown};

fn manifest(layer: &str) -> String {
    let descriptor = |media_type: &str, content: &str| json!({"mediaType": media_type, "digest": Digest::of(content.as_bytes()), "size": content.len()});
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, "{}"),
           "layers": [descriptor(OCI_LAYER_GZIP, layer)]})
    .to_string()
}

fn entry(document: &str, media_type: &str, platform: Value) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(document.as_bytes()), "size": document.len(), "platform": platform})
}

fn index(entries: &[Value]) -> String {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string()
}

/// Serves documents by their digests, and the first as every tag.
fn registry(documents: Vec<(&'static str, String)>) -> Fake {
    Fake::start(move |request| {
        let by_digest = documents.iter().find(|(_, text)| request.path.ends_with(Digest::of(text.as_bytes()).as_str()));
        match by_digest.or(documents.first().filter(|_| !request.path.contains("sha256:"))) {
            Some((media_type, text)) => Reply::ok(text.as_str())
                .header("Content-Type", media_type)
                .header("Docker-Content-Digest", Digest::of(text.as_bytes()).as_str()),
            None => Reply::new(404),
        }
    })
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn refused(script: impl Fn(&Request) -> Reply + Send + Sync + 'static, rest: &'static str) -> (String, usize) {
    let fake = Fake::start(script);
    let host = fake.host();
    let text = bounded(move || shown(&client("").manifest(&reference(&host, rest)).unwrap_err()));
    (text.replace(&fake.host(), "HOST"), fake.log().len())
}

#[test]
fn an_index_leads_to_the_platforms_image() {
    let (amd64, arm) = (manifest("amd64"), manifest("arm"));
    let list = index(&[
        entry(&arm, OCI_MANIFEST, json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
        entry(&amd64, OCI_MANIFEST, json!({"os": "linux", "architecture": "amd64"})),
        entry("", OCI_MANIFEST, json!({"os": "unknown", "architecture": "unknown"})),
    ]);
    let fake = registry(vec![(OCI_INDEX, list.clone()), (OCI_MANIFEST, amd64.clone()), (OCI_MANIFEST, arm)]);
    let image = reference(&fake.host(), "app:1");
    let resolved = client("").resolve(&image, &platform("linux/amd64")).unwrap();
    assert_eq!(resolved.fetched.digest, Digest::of(amd64.as_bytes()));
    assert_eq!(resolved.digest(), &Digest::of(list.as_bytes()));
    assert_eq!(resolved.index.unwrap().bytes, list.as_bytes());
    assert_eq!(resolved.platform, Some(platform("linux/amd64")));
    assert_eq!(resolved.manifest.layers.len(), 1);
    let accept = fake.log()[0].header("accept").unwrap().to_owned();
    assert!(accept.contains(OCI_INDEX) && accept.contains(DOCKER_MANIFEST), "{accept}");
    assert!(fake.log().iter().all(|request| request.method == "GET"));

    let error = client("").resolve(&image, &platform("linux/s390x")).unwrap_err();
    let text = shown(&error);
    assert!(matches!(error, RegistryError::Platform { .. }));
    assert!(text.ends_with("image has no variant for linux/s390x, only for linux/arm/v7, linux/amd64"), "{text}");
}

#[test]
fn a_single_manifest_needs_no_index() {
    let text = manifest("x");
    let fake = registry(vec![(OCI_MANIFEST, text.clone())]);
    let digest = Digest::of(text.as_bytes());
    let image = reference(&fake.host(), &format!("app:1@{digest}"));
    let resolved = client("").resolve(&image, &Platform::host()).unwrap();
    assert_eq!((resolved.index.is_none(), resolved.digest()), (true, &digest));
    assert!(fake.log()[0].path.ends_with(digest.as_str()), "the digest decides, not the tag");
}

#[test]
fn indexes_without_end_are_refused() {
    let leaf = manifest("x");
    let mut documents = vec![(OCI_MANIFEST, leaf)];
    for _ in 0..8 {
        let (media_type, inner) = documents.last().unwrap().clone();
        documents.push((OCI_INDEX, index(&[entry(&inner, media_type, Value::Null)])));
    }
    documents.reverse();
    let two = registry(documents[6..].to_vec());
    assert!(client("").resolve(&reference(&two.host(), "app"), &Platform::host()).is_ok());
    let all = registry(documents);
    let error = client("").resolve(&reference(&all.host(), "app"), &Platform::host()).unwrap_err();
    assert!(matches!(error, RegistryError::Nested { .. }), "{error}");
}

#[test]
fn an_unknown_tag_is_named() {
    let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let (text, requests) = refused(move |_| Reply::new(404).body(unknown), "team/app:7");
    assert_eq!(text, "fetch the manifest of HOST/team/app:7 from HOST: manifest unknown: team/app has no 7");
    assert_eq!(requests, 1);
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"x"}]}"#;
    let (text, _) = refused(move |_| Reply::new(404).body(unknown), "team/app:7");
    assert!(text.ends_with("repository team/app does not exist"), "{text}");
}

#[test]
fn a_huge_manifest_is_not_read() {
    let (text, _) = refused(|_| Reply::ok("{").header("Content-Length", "5000000000"), "app");
    assert!(text.ends_with("HOST sends more than 4194304 bytes"), "{text}");
    let (text, requests) = refused(|_| Reply::ok(vec![b' '; 65536]).chunked().end(End::Endless), "app");
    assert!(text.ends_with("HOST sends more than 4194304 bytes"), "{text}");
    assert_eq!(requests, 1);
    let (text, _) = refused(|_| Reply::new(500).body(vec![b' '; 65536]).chunked().end(End::Endless), "app");
    assert!(text.ends_with("HOST answers 500"), "{text}");
}

#[test]
fn a_wrong_digest_is_refused() {
    let text = manifest("x");
    let served = text.clone();
    let other = Digest::of(b"other");
    let promised = other.clone();
    let (error, requests) = refused(
        move |_| {
            Reply::ok(served.as_str())
                .header("Content-Type", OCI_MANIFEST)
                .header("Docker-Content-Digest", promised.as_str())
        },
        "app:1",
    );
    let found = Digest::of(text.as_bytes());
    assert!(error.ends_with(&format!("manifest with the digest {found} instead of {other}")), "{error}");
    assert_eq!(requests, 1);
    // By digest the header does not count, only the content.
    let fake = Fake::start(move |request| {
        let asked = request.path.rsplit('/').next().unwrap_or_default().to_owned();
        Reply::ok(text.as_str()).header("Content-Type", OCI_MANIFEST).header("Docker-Content-Digest", &asked)
    });
    let image = reference(&fake.host(), &format!("app@{other}"));
    let error = shown(&client("").manifest(&image).unwrap_err());
    assert!(error.contains(&format!("instead of {other}")), "{error}");
}

#[test]
fn confused_documents_are_refused() {
    let text = manifest("x");
    let served = text.clone();
    let (error, _) = refused(move |_| Reply::ok(served.as_str()).header("Content-Type", OCI_INDEX), "app");
    assert!(error.contains("served as") && error.contains("calls itself"), "{error}");
    let both = text.replacen('{', "{\"manifests\":[],", 1);
    let (error, _) = refused(move |_| Reply::ok(both.as_str()).header("Content-Type", OCI_MANIFEST), "app");
    assert!(error.contains("ambiguous"), "{error}");
    let (error, _) = refused(|_| Reply::ok("<html>").header("Content-Type", "text/html"), "app");
    assert!(error.contains("does not parse"), "{error}");
    // An entry that calls an index a manifest.
    let inner = index(&[]);
    let fake = registry(vec![(OCI_INDEX, index(&[entry(&inner, OCI_MANIFEST, Value::Null)])), (OCI_INDEX, inner)]);
    let error = shown(&client("").resolve(&reference(&fake.host(), "app"), &Platform::host()).unwrap_err());
    assert!(error.contains("served as"), "{error}");
}

#[test]
fn plain_file_servers_are_understood() {
    let text = manifest("x");
    let fake = Fake::start(move |_| Reply::ok(text.as_str()).header("Content-Type", "text/plain; charset=utf-8"));
    let fetched = client("").manifest(&reference(&fake.host(), "app")).unwrap();
    assert_eq!(fetched.media_type, OCI_MANIFEST);
}

#[test]
fn mirrors_are_asked_in_order() {
    let text = manifest("x");
    let registry_has = registry(vec![(OCI_MANIFEST, text.clone())]);
    let empty = Fake::start(|_| Reply::new(404));
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let table = |only: bool| {
        format!(
            "[registry.\"{}\"]\nmirrors = [\"http://{closed}\", \"http://{}\"]\nmirror_only = {only}",
            registry_has.host(),
            empty.host()
        )
    };
    let image = reference(&registry_has.host(), "app");
    let fetched = client(&table(false)).manifest(&image).unwrap();
    assert_eq!(fetched.digest, Digest::of(text.as_bytes()));
    assert_eq!((empty.log().len(), registry_has.log().len()), (1, 1));
    let error = client(&table(true)).manifest(&image).unwrap_err();
    let expected = format!(
        "fetch the manifest of {}/app:latest: no registry could serve it; \
         {closed}: connection to {closed} refused: no registry listens there; \
         {}: manifest unknown: app has no latest",
        registry_has.host(),
        empty.host()
    );
    assert_eq!(shown(&error), expected);
    assert_eq!(registry_has.log().len(), 1);
}

#[test]
fn tags_come_in_pages() {
    let fake = Fake::start(|request| match request.path.split_once('?').map(|(_, query)| query) {
        None => Reply::ok(r#"{"name":"team/app","tags":["1","2"]}"#)
            .header("Link", r#"<https://elsewhere.example/v2/team/app/tags/list?last=2>; rel="next""#),
        Some("last=2") => Reply::ok(r#"{"name":"team/app","tags":["3"]}"#),
        Some(_) => Reply::new(500),
    });
    let image = reference(&fake.host(), "team/app");
    assert_eq!(client("").list_tags(&image).unwrap(), ["1", "2", "3"]);
    let fake = Fake::start(|_| Reply::ok(r#"{"name":"team/app","tags":null}"#));
    assert!(client("").list_tags(&reference(&fake.host(), "team/app")).unwrap().is_empty());
    let fake = Fake::start(|_| Reply::new(404));
    let error = shown(&client("").list_tags(&reference(&fake.host(), "team/app")).unwrap_err());
    assert!(error.ends_with("repository team/app does not exist"), "{error}");
}
