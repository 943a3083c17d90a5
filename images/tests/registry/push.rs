//! Pushing images to the distribution project's registry.

use umiak_images::digest::Digest;
use umiak_images::platform::Platform;
use umiak_images::progress::Silent;
use umiak_images::pull::pull;
use umiak_images::push::{PushError, Pushed, Pusher, tags};
use umiak_images::reference::Reference;
use umiak_images::registry::Client;
use umiak_images::store::Store;

use crate::support::proxy::Proxy;
use crate::support::pull::{bounded, client, client_as, credentials, patient_client, reference, shown};
use crate::support::server::{Access, Server, installed};
use crate::support::store::{Ends, OwnStore, amd64, image};

fn push(store: &Store, client: &Client, name: &Reference, watch: &Ends) -> Result<Pushed, PushError> {
    Pusher::new(store, client, watch).push(name, None)
}

fn server(access: Access) -> Option<Server> {
    installed(&["docker-registry", "htpasswd", "skopeo"]).then(|| Server::start(access))
}

#[test]
fn a_pushed_image_is_pulled_back_the_same() {
    let Some(server) = server(Access::Open) else { return };
    let (own, other, image) = (OwnStore::new(), OwnStore::new(), image(&[10, 200_000, 3_000_000, 0]));
    let proxy = Proxy::start(&server.host(), []);
    let name = reference(&proxy.host(), "team/app:1");
    own.add(&image, &name.to_string());
    let ends = Ends::default();
    let pushed = push(&own.store, &client(""), &name, &ends).unwrap();
    assert_eq!(pushed, Pushed { digest: image.digest(), size: image.manifest.len() as u64, left_out: None });
    assert_eq!((ends.all(), ends.count()), (vec!["pushed".to_owned()], 4));
    assert!(!proxy.requests("PATCH").is_empty(), "the largest goes in parts");

    let repo_digest = format!("{}@{}", name.name(), image.digest());
    assert_eq!(own.store.resolve(&name.to_string()).unwrap().repo_digests, std::slice::from_ref(&repo_digest));
    assert_eq!(own.store.resolve(&repo_digest).unwrap().id, image.id());
    let pulled = pull(&other.store, &client(""), &name, &amd64(), &Silent).unwrap();
    assert_eq!((pulled.image.id, pulled.digest), (image.id(), image.digest()));

    // Again: nothing is sent but the manifest, and nothing changes.
    let (before, ends) = (proxy.sent(), Ends::default());
    push(&own.store, &client(""), &name, &ends).unwrap();
    assert_eq!(ends.all(), ["exists"]);
    assert!(proxy.sent() - before < 10_000, "{} bytes", proxy.sent() - before);
    assert_eq!(own.store.resolve(&name.to_string()).unwrap().repo_digests, [repo_digest]);
}

#[test]
fn layers_are_mounted_from_other_repositories() {
    let Some(server) = server(Access::Open) else { return };
    let (own, image) = (OwnStore::new(), image(&[500_000, 2_000_000]));
    let proxy = Proxy::start(&server.host(), []);
    let (first, second) = (reference(&proxy.host(), "team/app:1"), reference(&proxy.host(), "other/app:7"));
    own.add(&image, &first.to_string());
    push(&own.store, &client(""), &first, &Ends::default()).unwrap();
    own.store.tag(&first.to_string(), &second.to_string()).unwrap();
    let (before, ends) = (proxy.sent(), Ends::default());
    push(&own.store, &client(""), &second, &ends).unwrap();
    assert_eq!((ends.all(), ends.count()), (vec!["mounted from team/app".to_owned()], 2));
    assert!(proxy.sent() - before < 10_000, "{} bytes", proxy.sent() - before);
    let pulled = pull(&OwnStore::new().store, &client(""), &second, &amd64(), &Silent).unwrap();
    assert_eq!(pulled.image.id, image.id());
}

#[test]
fn a_connection_cut_anywhere_costs_no_more_than_a_retry() {
    let Some(server) = server(Access::Open) else { return };
    let (own, image) = (OwnStore::new(), image(&[3_000_000]));
    for (number, cut) in [600_u64, 1_500, 300_000, 1_300_000, 2_400_000, 3_000_900].into_iter().enumerate() {
        let proxy = Proxy::start(&server.host(), [cut, cut + 700_000]);
        let name = reference(&proxy.host(), &format!("cut/app-{number}:1"));
        own.add(&image, &name.to_string());
        let ends = Ends::default();
        push(&own.store, &client(""), &name, &ends).unwrap();
        let again = pull(&OwnStore::new().store, &client(""), &name, &amd64(), &Silent).unwrap();
        assert_eq!(again.image.id, image.id(), "cut at {cut}");
    }
}

#[test]
fn a_registry_that_restarts_takes_the_rest() {
    let Some(server) = server(Access::Open) else { return };
    let (own, image) = (OwnStore::new(), image(&[24 << 20]));
    let name = reference(&server.host(), "team/app:1");
    own.add(&image, &name.to_string());
    bounded(move || {
        struct Restart(std::sync::Mutex<Option<Server>>, Ends);
        impl umiak_images::push::Watch for Restart {
            fn event(&self, layer: &Digest, event: umiak_images::push::Event<'_>) {
                if let umiak_images::push::Event::Pushing { bytes, total } = event
                    && bytes > total / 2
                    && bytes < total
                    && self.1.retries().is_empty()
                    && let Some(server) = self.0.lock().unwrap().as_mut()
                {
                    self.1.event(layer, umiak_images::push::Event::Retrying { reason: "restarted" });
                    server.stop();
                    server.resume();
                }
                self.1.event(layer, event);
            }
        }
        let restart = Restart(std::sync::Mutex::new(Some(server)), Ends::default());
        Pusher::new(&own.store, &patient_client(), &restart).push(&name, None).unwrap();
        assert!(restart.1.retries().len() > 1, "{:?}", restart.1.retries());
        let again = pull(&OwnStore::new().store, &patient_client(), &name, &amd64(), &Silent).unwrap();
        assert_eq!(again.image.id, image.id());
    });
}

#[test]
fn a_damaged_layer_is_named_and_not_pushed() {
    let Some(server) = server(Access::Open) else { return };
    for size in [1000, 3_000_000] {
        let (own, image) = (OwnStore::new(), image(&[size]));
        let name = reference(&server.host(), &format!("damaged/app-{size}:1"));
        own.add(&image, &name.to_string());
        let digest = Digest::of(&image.layers[0].bytes);
        let path = own.store.blob_path(&digest);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let text = shown(&push(&own.store, &client(""), &name, &Ends::default()).unwrap_err());
        assert!(text.contains(&format!("the blob {digest} is not pushed")) && text.contains("damaged"), "{text}");
        assert!(!client("").has_manifest(&name).unwrap());
        bytes.pop();
        std::fs::write(&path, &bytes).unwrap();
        let text = shown(&push(&own.store, &client(""), &name, &Ends::default()).unwrap_err());
        assert!(text.contains(digest.as_ref()), "{text}");
        std::fs::remove_file(&path).unwrap();
        let text = shown(&push(&own.store, &client(""), &name, &Ends::default()).unwrap_err());
        assert!(text.contains(digest.as_ref()), "{text}");
    }
}

#[test]
fn a_password_is_needed_where_the_registry_says_so() {
    let Some(server) = server(Access::Password) else { return };
    let (own, image, host) = (OwnStore::new(), image(&[1000]), server.host());
    let name = reference(&host, "team/app:1");
    own.add(&image, &name.to_string());
    let login = |password: &str| {
        let entry = format!(r#"{{"username": "who", "password": "{password}"}}"#);
        client_as("", credentials(&format!(r#"{{"auths": {{"{host}": {entry}}}}}"#)))
    };
    let text = shown(&push(&own.store, &client(""), &name, &Ends::default()).unwrap_err());
    assert!(text.contains("push access denied for team/app") && text.contains("docker login"), "{text}");
    let text = shown(&push(&own.store, &login("guess"), &name, &Ends::default()).unwrap_err());
    assert!(text.contains("push access denied") && text.contains("are wrong"), "{text}");
    push(&own.store, &login("secret"), &name, &Ends::default()).unwrap();
}

#[test]
fn tags_are_pushed_with_what_is_there_already() {
    let Some(server) = server(Access::Open) else { return };
    let (own, image, client) = (OwnStore::new(), image(&[1000, 70_000]), client(""));
    let name = |tag: &str| reference(&server.host(), &format!("team/app:{tag}"));
    for tag in ["1", "2"] {
        own.add(&image, &name(tag).to_string());
    }
    own.add(&image, &reference(&server.host(), "team/apple:1").to_string());
    let all = tags(&own.store, &name("latest")).unwrap();
    assert_eq!(all, [name("1"), name("2")]);
    let ends = Ends::default();
    let pusher = Pusher::new(&own.store, &client, &ends);
    for tag in &all {
        pusher.push(tag, None).unwrap();
    }
    let mut there = client.list_tags(&name("1")).unwrap();
    there.sort();
    assert_eq!(there, ["1", "2"]);
    let text = shown(&pusher.push(&name("3"), None).unwrap_err());
    assert_eq!(text, format!("tag does not exist: {}", name("3").familiar()));
    let none = reference(&server.host(), "team/none:1");
    let text = shown(&pusher.push(&none, None).unwrap_err());
    assert_eq!(text, format!("An image does not exist locally with the tag: {}", none.familiar_name()));
    let digest = name("1").with_digest(image.digest());
    assert_eq!(shown(&pusher.push(&digest, None).unwrap_err()), "cannot push a digest reference");
}

#[test]
fn an_index_is_pushed_whole_or_said_to_be_left_out() {
    let (Some(from), Some(to)) = (server(Access::Open), server(Access::Open)) else { return };
    let own = OwnStore::new();
    let client = client("");
    let arm64 = Platform::new("linux", "arm64", None);
    let source = reference(&from.host(), "team/app:1");
    from.push("team/app:1", &crate::harness::archive([crate::harness::file("a", "b")]));
    let index = client.manifest(&source).unwrap();

    let pulled = pull(&own.store, &client, &source, &amd64(), &Silent).unwrap();
    assert_eq!(pulled.digest, index.digest);
    let target = |tag: &str| reference(&to.host(), &format!("team/app:{tag}"));
    own.store.tag(&source.to_string(), &target("one").to_string()).unwrap();
    let pushed = push(&own.store, &client, &target("one"), &Ends::default()).unwrap();
    assert_eq!((pushed.digest, pushed.left_out), (pulled.image.manifest_digest.clone(), Some(index.digest.clone())));

    // Where it came from, the rest is there.
    let pushed = push(&own.store, &client, &source, &Ends::default()).unwrap();
    assert_eq!((pushed.digest, pushed.left_out), (index.digest.clone(), None));
    assert_eq!(client.manifest(&source).unwrap(), index);

    // With the other image pulled, all of it is at hand.
    pull(&own.store, &client, &source, &arm64, &Silent).unwrap();
    own.store.tag(&source.to_string(), &target("all").to_string()).unwrap();
    let pushed = push(&own.store, &client, &target("all"), &Ends::default()).unwrap();
    assert_eq!((&pushed.digest, pushed.size), (&index.digest, index.bytes.len() as u64));
    assert_eq!(client.manifest(&target("all")).unwrap(), index);
    for platform in [amd64(), arm64] {
        let again = pull(&OwnStore::new().store, &client, &target("all"), &platform, &Silent).unwrap();
        assert_eq!(again.image.platform, platform);
    }

    // One of them alone.
    own.store.tag(&source.to_string(), &target("amd64").to_string()).unwrap();
    let ends = Ends::default();
    let pusher = Pusher::new(&own.store, &client, &ends);
    let pushed = pusher.push(&target("amd64"), Some(&amd64())).unwrap();
    assert_eq!(pushed.digest, pulled.image.manifest_digest);
    let text = shown(&pusher.push(&target("amd64"), Some(&Platform::new("linux", "s390x", None))).unwrap_err());
    assert!(text.contains("does not match the specified platform (linux/s390x)"), "{text}");
}

#[test]
fn registries_behind_mirrors_alone_take_nothing() {
    let (own, image) = (OwnStore::new(), image(&[10]));
    let client = client("[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:1\"]\nmirror_only = true");
    own.add(&image, "app:1");
    let text = shown(&push(&own.store, &client, &"app:1".parse().unwrap(), &Ends::default()).unwrap_err());
    assert!(text.contains("docker.io is used through its mirrors alone"), "{text}");
}
