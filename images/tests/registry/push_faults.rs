//! Uploads to registries that fail, and their tokens.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use umiak_images::registry::{Client, RegistryError, UploadWatch, Uploaded};

use crate::support::fake::{End, Fake, Reply, Request};
use crate::support::pull::{bounded, client, client_as, credentials, layer, reference, shown};

struct Unwatched;
impl UploadWatch for Unwatched {}

/// Text, for the fake notes bodies as such.
fn text(size: usize) -> Vec<u8> {
    (0..size).map(|index| b'a' + u8::try_from(index % 23).unwrap()).collect()
}

fn upload(client: &Client, host: &str, content: &[u8], mounts: &[&str]) -> Result<Uploaded, RegistryError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let mounts: Vec<String> = mounts.iter().map(|&from| from.to_owned()).collect();
    let image = reference(host, "team/app:1");
    client.upload(&image, &layer(content), file, &mounts, &mut Unwatched)
}

/// The state of one upload at a registry that does as it should; `odd` may answer in its place.
fn registry(odd: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    let kept = AtomicUsize::new(0);
    let calls = AtomicUsize::new(0);
    Fake::start(move |request| {
        if let Some(reply) = odd(request, calls.fetch_add(1, Ordering::SeqCst)) {
            return reply;
        }
        let session = Reply::new(202).header("Location", "/v2/team/app/blobs/uploads/session?state=1");
        let range = |bytes: usize| format!("0-{}", bytes.saturating_sub(1));
        match request.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => {
                kept.store(0, Ordering::SeqCst);
                session
            }
            "PATCH" => {
                let bytes = kept.fetch_add(request.body.len(), Ordering::SeqCst) + request.body.len();
                session.header("Range", &range(bytes))
            }
            "GET" => Reply::new(204).header("Range", &range(kept.load(Ordering::SeqCst))),
            _ => Reply::new(201),
        }
    })
}

fn methods(fake: &Fake) -> String {
    fake.log().iter().map(|request| request.method.clone()).collect::<Vec<_>>().join(" ")
}

const UNKNOWN: &str = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#;
const INVALID: &str = r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}"#;

#[test]
fn small_blobs_go_in_one_request_and_large_ones_in_parts() {
    let fake = registry(|_, _| None);
    assert_eq!(upload(&client(""), &fake.host(), &text(1000), &[]).unwrap(), Uploaded::Sent);
    assert_eq!(methods(&fake), "HEAD POST PUT");
    assert_eq!(fake.log()[2].body.len(), 1000);
    assert!(fake.log()[2].path.starts_with("/v2/team/app/blobs/uploads/session?state=1&digest=sha256%3A"));

    let fake = registry(|_, _| None);
    upload(&client(""), &fake.host(), &text(2_500_000), &[]).unwrap();
    assert_eq!(methods(&fake), "HEAD POST PATCH PATCH PATCH PUT");
    let ranges: Vec<_> =
        fake.requests("uploads/session").iter().filter_map(|r| Some(r.header("content-range")?.to_owned())).collect();
    assert_eq!(ranges, ["0-1048575", "1048576-2097151", "2097152-2499999"]);
    let sent: String = fake.requests("uploads/session").iter().map(|request| request.body.clone()).collect();
    assert!(sent.as_bytes() == text(2_500_000));
}

#[test]
fn an_empty_blob_and_one_of_a_part_exactly() {
    for (size, expected) in
        [(0, "HEAD POST PUT"), (1 << 20, "HEAD POST PUT"), ((1 << 20) + 1, "HEAD POST PATCH PATCH PUT")]
    {
        let fake = registry(|_, _| None);
        upload(&client(""), &fake.host(), &text(size), &[]).unwrap();
        assert_eq!(methods(&fake), expected, "{size}");
    }
}

#[test]
fn what_arrived_of_a_cut_part_is_not_sent_again() {
    // The registry kept half of the second part, as it says when it is asked.
    let fake = registry(|request, call| match (request.method.as_str(), call) {
        ("PATCH", 3) => Some(Reply::raw("")),
        ("GET", _) => Some(Reply::new(204).header("Range", "0-1499999")),
        _ => None,
    });
    upload(&client(""), &fake.host(), &text(2_500_000), &[]).unwrap();
    let seen: Vec<_> = fake
        .requests("uploads/session")
        .iter()
        .map(|request| format!("{} {}", request.method, request.header("content-range").unwrap_or("-")))
        .collect();
    assert!(seen.contains(&"PATCH 1500000-2499999".to_owned()), "{seen:?}");
}

#[test]
fn an_upload_that_the_registry_forgot_is_begun_anew() {
    let fake =
        registry(|request, call| (request.method == "PATCH" && call == 3).then(|| Reply::new(404).body(UNKNOWN)));
    upload(&client(""), &fake.host(), &text(1_500_000), &[]).unwrap();
    assert_eq!(methods(&fake), "HEAD POST PATCH PATCH POST PATCH PATCH PUT");
}

#[test]
fn registries_that_want_the_whole_in_one_request_get_it() {
    let fake = registry(|request, _| {
        let later = request.header("content-range").is_some();
        (request.method == "PATCH" && later).then(|| Reply::new(405))
    });
    upload(&client(""), &fake.host(), &text(2_500_000), &[]).unwrap();
    assert_eq!(methods(&fake), "HEAD POST PATCH POST PATCH PUT");
}

#[test]
fn content_that_got_lost_on_the_way_is_sent_once_more_and_then_no_more() {
    let fake = registry(|request, call| (request.method == "PUT" && call < 5).then(|| Reply::new(400).body(INVALID)));
    upload(&client(""), &fake.host(), &text(1000), &[]).unwrap();
    let fake = registry(|request, _| (request.method == "PUT").then(|| Reply::new(400).body(INVALID)));
    let host = fake.host();
    let text = bounded(move || shown(&upload(&client(""), &host, &text(1000), &[]).unwrap_err()));
    assert!(text.ends_with("refuses the upload: provided digest did not match"), "{text}");
    assert_eq!(fake.log().iter().filter(|request| request.method == "PUT").count(), 2);
}

#[test]
fn a_lost_answer_to_the_last_request_is_looked_up() {
    let fake = registry(|request, call| match (request.method.as_str(), call) {
        ("PUT", _) => Some(Reply::new(201).header("Content-Length", "9").end(End::Cut(0))),
        ("HEAD", 1..) => Some(Reply::new(200)),
        _ => None,
    });
    // The head of the answer arrives, so that the upload is done; a connection that breaks before it is another case.
    assert_eq!(upload(&client(""), &fake.host(), &text(1000), &[]).unwrap(), Uploaded::Sent);
    let fake = registry(|request, call| match (request.method.as_str(), call) {
        ("PUT", _) => Some(Reply::raw("")),
        ("HEAD", 1..) => Some(Reply::new(200)),
        _ => None,
    });
    assert_eq!(upload(&client(""), &fake.host(), &text(1000), &[]).unwrap(), Uploaded::Sent);
    assert_eq!(methods(&fake), "HEAD POST PUT HEAD");
}

#[test]
fn rates_and_outages_are_waited_for() {
    for refusal in [Reply::new(429).header("Retry-After", "0"), Reply::new(503), Reply::raw("")] {
        let fake = registry(move |_, call| matches!(call, 0 | 2 | 4).then(|| refusal.clone()));
        upload(&client(""), &fake.host(), &text(1000), &[]).unwrap();
    }
    let fake = registry(|_, _| Some(Reply::new(429).header("Retry-After", "3600")));
    let text = shown(&upload(&client(""), &fake.host(), &text(1000), &[]).unwrap_err());
    assert!(text.contains("limits the rate of requests, try again in 3600 s"), "{text}");
}

#[test]
fn a_registry_that_never_gets_further_is_given_up() {
    let fake = registry(|request, _| (request.method == "PATCH").then(|| Reply::raw("")));
    let host = fake.host();
    let text = bounded(move || shown(&upload(&client(""), &host, &text(2_000_000), &[]).unwrap_err()));
    assert!(text.contains("broke"), "{text}");
    let fake = registry(|request, _| {
        (request.method == "PATCH").then(|| Reply::new(202).header("Location", "/x").header("Range", "0-9999999"))
    });
    let host = fake.host();
    let text = bounded(move || shown(&upload(&client(""), &host, &self::text(2_000_000), &[]).unwrap_err()));
    assert!(text.contains("says it has \"0-9999999\" of the upload"), "{text}");
    let fake = registry(|request, _| (request.method == "POST").then(|| Reply::new(202)));
    let text = shown(&upload(&client(""), &fake.host(), b"x", &[]).unwrap_err());
    assert!(text.contains("says no place to upload to"), "{text}");
}

#[test]
fn a_blob_is_asked_for_from_other_repositories_first() {
    let fake = registry(|request, _| {
        request.path.contains("from=team%2Fbase").then(|| Reply::new(201).header("Location", "/v2/x"))
    });
    let end = upload(&client(""), &fake.host(), &text(10), &["team/app", "team/none", "team/base"]).unwrap();
    assert_eq!(end, Uploaded::Mounted { from: "team/base".into() });
    assert_eq!(methods(&fake), "HEAD POST DELETE POST", "the upload that came instead of a mount is given up");
    let fake = registry(|_, _| None);
    assert_eq!(upload(&client(""), &fake.host(), &text(10), &["team/none"]).unwrap(), Uploaded::Sent);
    assert_eq!(methods(&fake), "HEAD POST PUT", "the same upload is used");
}

/// A registry with a token server: `good` says which token is good for which request.
fn guarded(good: impl Fn(&Request, &str) -> bool + Send + Sync + 'static) -> Fake {
    let made = AtomicUsize::new(0);
    let good = Arc::new(good);
    registry(move |request, _| {
        if request.path.starts_with("/token") {
            let token = made.fetch_add(1, Ordering::SeqCst);
            return Some(Reply::ok(format!(r#"{{"token":"t{token}","expires_in":300}}"#)));
        }
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let host = request.header("host").unwrap_or_default();
        let offer = format!("Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:team/app:pull\"");
        (!good(request, token)).then(|| Reply::new(401).header("WWW-Authenticate", &offer))
    })
}

#[test]
fn tokens_are_asked_for_what_a_push_needs() {
    let fake = guarded(|_, token| !token.is_empty());
    let client = client_as("", credentials(&format!(r#"{{"auths": {{"{}": {{"auth": "dTpw"}}}}}}"#, fake.host())));
    upload(&client, &fake.host(), &text(10), &["team/base"]).unwrap();
    upload(&client, &fake.host(), &text(11), &[]).unwrap();
    let tokens: Vec<_> = fake.requests("/token").iter().map(|request| request.path.clone()).collect();
    assert_eq!(
        tokens,
        [
            "/token?account=u&service=test&scope=repository%3Ateam%2Fapp%3Apull%2Cpush",
            "/token?account=u&service=test&scope=repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Ateam%2Fbase%3Apull",
        ]
    );
}

#[test]
fn a_token_that_expires_in_the_middle_of_an_upload_is_renewed() {
    // The first token is good until the second part is sent, the next for all that follows.
    let fake = guarded(|request, token| match token {
        "t0" => request.header("content-range") != Some("1048576-2097151"),
        token => !token.is_empty(),
    });
    upload(&client(""), &fake.host(), &text(2_500_000), &[]).unwrap();
    assert_eq!(fake.requests("/token").len(), 2);
    let parts: Vec<_> =
        fake.log().iter().filter_map(|request| Some(request.header("content-range")?.to_owned())).collect();
    assert_eq!(parts, ["0-1048575", "1048576-2097151", "1048576-2097151", "2097152-2499999"]);
}

#[test]
fn secrets_do_not_follow_an_upload_to_another_host() {
    let storage = Fake::start(|_| Reply::new(201));
    let place = format!("http://{}/put?signed=1", storage.host());
    let fake = guarded(|_, token| !token.is_empty());
    drop(fake);
    let fake = {
        let place = place.clone();
        registry(move |request, _| match request.method.as_str() {
            "POST" => Some(Reply::new(202).header("Location", &place)),
            _ if request.header("authorization").is_none() => {
                Some(Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""))
            }
            _ => None,
        })
    };
    let client = client_as("", credentials(&format!(r#"{{"auths": {{"{}": {{"auth": "dTpw"}}}}}}"#, fake.host())));
    upload(&client, &fake.host(), &text(10), &[]).unwrap();
    assert!(fake.requests("/blobs/").iter().any(|request| request.header("authorization").is_some()));
    let put = storage.log();
    assert_eq!((put.len(), put[0].header("authorization")), (1, None));
}

#[test]
fn a_denied_push_says_to_log_in() {
    let denied = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let fake = registry(move |_, _| Some(Reply::new(403).body(denied)));
    let text = shown(&client("").put_manifest(&reference(&fake.host(), "team/app:1"), "a/b", vec![]).unwrap_err());
    let expected = format!(
        "push access denied for team/app: the repository does not exist or may require 'docker login {}': requested access to the resource is denied",
        fake.host()
    );
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn manifests_are_put_with_retries() {
    let fake = registry(|_, call| (call == 0).then(|| Reply::new(503)));
    let image = reference(&fake.host(), "team/app:1");
    client("").put_manifest(&image, "application/vnd.oci.image.index.v1+json", b"{}".to_vec()).unwrap();
    let put = fake.log();
    assert_eq!((put.len(), put[1].header("content-type")), (2, Some("application/vnd.oci.image.index.v1+json")));
    assert!(!client("").has_manifest(&image).unwrap());
}
