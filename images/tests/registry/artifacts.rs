//! Artifacts at a registry that knows only older ones, that refuses, or that lies.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use umiak_images::digest::Digest;
use umiak_images::manifest::{Descriptor, OCI_INDEX, OCI_MANIFEST};
use umiak_images::registry::artifact::{ArtifactError, EMPTY, Form, Kind, Part};

use crate::support::fake::{Fake, Reply};
use crate::support::pull::{bounded, client, reference, shown};

const KIND: Kind = Kind { artifact_type: "application/x.thing", config_type: "application/x.thing.config" };

/// A registry that has every blob, and answers a manifest with `status` when it has an artifact type.
fn older(status: u16) -> Fake {
    Fake::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(200),
        _ if request.body.contains("artifactType") => Reply::new(status),
        _ => Reply::new(201),
    })
}

fn put(fake: &Fake, form: Form) -> Result<Digest, ArtifactError> {
    let image = reference(&fake.host(), "team/thing:1");
    let annotations = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let part = Part { media_type: "text/x".to_owned(), annotations: annotations.clone(), bytes: b"content".to_vec() };
    bounded(move || client("").put_artifact(&image, &KIND, &[part], &annotations, form))
}

fn manifests(fake: &Fake) -> Vec<Value> {
    fake.requests("/manifests/1").iter().map(|request| serde_json::from_str(&request.body).unwrap()).collect()
}

#[test]
fn a_registry_that_refuses_the_newer_form_gets_the_older() {
    let fake = older(400);
    let digest = put(&fake, Form::Any).unwrap();
    let sent = manifests(&fake);
    assert_eq!(sent.len(), 2);
    assert_eq!(
        (&sent[0]["artifactType"], &sent[0]["config"]["mediaType"]),
        (&json!(KIND.artifact_type), &json!(EMPTY))
    );
    assert_eq!((sent[1].get("artifactType"), &sent[1]["config"]["mediaType"]), (None, &json!(KIND.config_type)));
    assert_eq!(sent[0]["layers"], sent[1]["layers"]);
    assert_eq!(sent[1]["layers"][0]["annotations"], json!({"k": "v"}));
    assert_eq!(digest, Digest::of(fake.requests("/manifests/1")[1].body.as_bytes()));

    // One that wants credentials, or that was asked for the newer form alone, gets nothing else.
    for (status, form) in [(401, Form::Any), (403, Form::Any), (400, Form::V1_1)] {
        let fake = older(status);
        assert!(put(&fake, form).is_err(), "{status}");
        assert!(manifests(&fake).iter().all(|sent| sent.get("artifactType").is_some()), "{status}");
    }
    let fake = older(400);
    put(&fake, Form::V1_0).unwrap();
    assert_eq!(manifests(&fake).len(), 1);
}

#[test]
fn what_is_not_what_it_should_be_is_not_given_out() {
    let content = b"right".to_vec();
    let blob = Descriptor::new("text/x", Digest::of(&content), 5);
    let fake = Fake::start(|request| Reply::blob(request, b"wrong"));
    let image = reference(&fake.host(), "team/thing:1");
    let (name, wanted) = (image.clone(), blob.clone());
    let error = bounded(move || client("").part(&name, &wanted, 5).unwrap_err());
    assert!(matches!(error, ArtifactError::Damaged { .. }), "{}", shown(&error));
    let asked = fake.log().len();
    let error = bounded(move || client("").part(&image, &blob, 4).unwrap_err());
    assert!(matches!(error, ArtifactError::TooLarge { size: 5, limit: 4, .. }), "{}", shown(&error));
    assert_eq!(fake.log().len(), asked, "too much is not even asked for");

    // An index whose entry leads to another manifest than it says.
    let manifest = json!({
        "schemaVersion": 2, "artifactType": KIND.artifact_type, "layers": [],
        "config": {"mediaType": EMPTY, "digest": Digest::of(b"{}"), "size": 2},
    })
    .to_string();
    let entry = json!({
        "mediaType": OCI_MANIFEST, "artifactType": KIND.artifact_type, "digest": Digest::of(b"other"), "size": 5,
    });
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
    let fake = Fake::start(move |request| match request.path.ends_with("/1") {
        true => Reply::ok(index.as_str()).header("Content-Type", OCI_INDEX),
        false => Reply::ok(manifest.as_str()).header("Content-Type", OCI_MANIFEST),
    });
    let image = reference(&fake.host(), "team/thing:1");
    let error = bounded(move || client("").artifact(&image, &KIND).unwrap_err());
    assert!(shown(&error).contains(Digest::of(b"other").as_str()), "{}", shown(&error));
}
