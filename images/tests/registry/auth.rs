//! Authentication against a scripted registry and token server.

use std::sync::atomic::{AtomicUsize, Ordering};

use umiak_images::auth::Credentials;
use umiak_images::registry::{Client, RegistryError};

use crate::support::fake::{End, Fake, Reply, Request};
use crate::support::pull::{bounded, client, client_as, content, credentials, fetch, reference, shown};

/// A registry that wants bearer tokens. `/token` is its token server, which
/// answers by `tokens`; `valid` says whether a token is good for a request.
fn bearer(
    content: &[u8],
    tokens: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    valid: impl Fn(&Request, &str) -> bool + Send + Sync + 'static,
    serve: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> Fake {
    let content = content.to_vec();
    Fake::start(move |request| {
        if request.path.starts_with("/token") {
            return tokens(request);
        }
        match request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if valid(request, token) => serve(request, &content),
            _ => {
                let host = request.header("host").unwrap_or_default();
                let offer =
                    format!("Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:team/app:pull\"");
                Reply::new(401)
                    .header("WWW-Authenticate", &offer)
                    .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            }
        }
    })
}

fn token(token: &str) -> Reply {
    Reply::ok(format!(r#"{{"token":"{token}","expires_in":300}}"#))
}

fn login(fake: &Fake, entry: &str) -> Client {
    client_as("", credentials(&format!(r#"{{"auths": {{"{}": {entry}}}}}"#, fake.host())))
}

#[test]
fn an_anonymous_token_is_fetched_once() {
    let content = content(1000);
    let fake = bearer(&content, |_| token("anonymous"), |_, token| token == "anonymous", Reply::blob);
    let image = reference(&fake.host(), "team/app:1");
    let client = client("");
    fetch(&client, &image, &content, 0).unwrap();
    fetch(&client, &image, &content, 0).unwrap();
    let tokens = fake.requests("/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?service=test&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(tokens[0].header("authorization"), None);
    assert_eq!(fake.requests("/blobs/").len(), 3, "one to learn that a token is wanted");
}

#[test]
fn a_password_goes_to_the_token_server_only() {
    let content = content(1000);
    let fake = bearer(&content, |_| token("mine"), |_, token| token == "mine", Reply::blob);
    fetch(&login(&fake, r#"{"auth": "dTpw"}"#), &reference(&fake.host(), "team/app:1"), &content, 0).unwrap();
    let tokens = fake.requests("/token");
    assert_eq!(tokens[0].header("authorization"), Some("Basic dTpw"));
    assert!(tokens[0].path.contains("account=u&"), "{}", tokens[0].path);
    assert!(fake.requests("/blobs/").iter().all(|request| request.header("authorization") != Some("Basic dTpw")));
}

#[test]
fn identity_tokens_are_exchanged() {
    let content = content(1000);
    for entry in [r#"{"identitytoken": "ref=resh"}"#, r#"{"username": "<token>", "password": "ref=resh"}"#] {
        let tokens = |request: &Request| match request.method.as_str() {
            "POST" => Reply::ok(r#"{"access_token":"exchanged"}"#),
            _ => Reply::new(405),
        };
        let fake = bearer(&content, tokens, |_, token| token == "exchanged", Reply::blob);
        fetch(&login(&fake, entry), &reference(&fake.host(), "team/app:1"), &content, 0).unwrap();
        assert_eq!(
            fake.requests("/token")[0].body,
            "grant_type=refresh_token&service=test&client_id=umiak&scope=repository%3Ateam%2Fapp%3Apull&refresh_token=ref%3Dresh"
        );
    }
}

#[test]
fn registry_tokens_are_sent_as_they_are() {
    let content = content(1000);
    let fake = bearer(&content, |_| Reply::new(500), |_, token| token == "ready", Reply::blob);
    fetch(&login(&fake, r#"{"registrytoken": "ready"}"#), &reference(&fake.host(), "team/app:1"), &content, 0).unwrap();
    assert!(fake.requests("/token").is_empty());
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed() {
    let content = content(50_000);
    let made = AtomicUsize::new(0);
    let fake = bearer(
        &content,
        move |_| token(&format!("t{}", made.fetch_add(1, Ordering::SeqCst))),
        // The first token is good for the first byte only.
        |request, token| token == "t1" || (token == "t0" && request.range().is_none()),
        |request, content| match request.range() {
            None => Reply::blob(request, content).end(End::Cut(20_000)),
            Some(_) => Reply::blob(request, content),
        },
    );
    fetch(&client(""), &reference(&fake.host(), "team/app:1"), &content, 0).unwrap();
    let seen: Vec<_> = fake
        .requests("/blobs/")
        .iter()
        .map(|request| (request.range(), request.header("authorization").unwrap_or("none").to_owned()))
        .collect();
    let seen: Vec<_> = seen.iter().map(|(range, token)| (*range, token.as_str())).collect();
    assert_eq!(seen, [(None, "none"), (None, "Bearer t0"), (Some(20_000), "Bearer t0"), (Some(20_000), "Bearer t1")]);
}

#[test]
fn parallel_blobs_share_a_renewal() {
    let content = content(200_000);
    let made = AtomicUsize::new(0);
    let fake = bearer(
        &content,
        move |_| token(&format!("t{}", made.fetch_add(1, Ordering::SeqCst))),
        |_, token| token == "t0",
        Reply::blob,
    );
    let image = reference(&fake.host(), "team/app:1");
    let client = client("");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetch(&client, &image, &content, 0).unwrap());
        }
    });
    assert_eq!(fake.requests("/token").len(), 1);
}

#[test]
fn without_credentials_the_error_says_docker_login() {
    let content = content(10);
    let fake = bearer(&content, |_| token("weak"), |_, _| false, Reply::blob);
    let image = reference(&fake.host(), "team/app:1");
    let text = bounded(move || shown(&client("").manifest(&image).unwrap_err()));
    let expected = format!(
        "pull access denied for team/app: the repository does not exist or may require 'docker login {}': authentication required",
        fake.host()
    );
    assert!(text.ends_with(&expected), "{text}");
    assert_eq!(fake.requests("/manifests/").len(), 2);
}

#[test]
fn wrong_credentials_are_said_to_be_wrong() {
    let content = content(10);
    let fakes = [
        bearer(&content, |_| Reply::new(401), |_, _| false, Reply::blob),
        bearer(&content, |_| token("weak"), |_, _| false, Reply::blob),
        Fake::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")),
    ];
    for fake in fakes {
        let client = login(&fake, r#"{"username": "u", "password": "wrong"}"#);
        let text = shown(&client.manifest(&reference(&fake.host(), "team/app:1")).unwrap_err());
        assert!(text.contains(&format!("the credentials for {} are wrong", fake.host())), "{text}");
        assert!(!text.contains("wrong\""), "no secret in an error: {text}");
    }
}

#[test]
fn a_broken_helper_matters_only_when_access_is_denied() {
    let open = Fake::start(|_| Reply::new(404));
    let closed = Fake::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let client = client_as("", credentials(r#"{"credsStore": "does-not-exist"}"#));
    let text = shown(&client.manifest(&reference(&open.host(), "app")).unwrap_err());
    assert!(text.contains("manifest unknown"), "{text}");
    let text = shown(&client.manifest(&reference(&closed.host(), "app")).unwrap_err());
    assert!(text.contains("docker login"), "{text}");
    assert!(text.contains("run the credential helper docker-credential-does-not-exist"), "{text}");
}

#[test]
fn odd_challenges_and_token_answers_are_errors() {
    let odd = |offer: &'static str| Fake::start(move |_| Reply::new(401).header("WWW-Authenticate", offer));
    for (fake, expected) in [
        (odd("Negotiate"), "wants authentication of an unknown kind: \"Negotiate\""),
        (
            odd("Bearer realm=\"ftp://x/token\""),
            "wants credentials sent to \"ftp://x/token\", which is not an https URL",
        ),
        (odd("Bearer realm=\"/token\""), "wants credentials sent to \"/token\""),
        (bearer(b"", |_| Reply::ok("{}"), |_, _| false, Reply::blob), "gives no usable token"),
        (bearer(b"", |_| Reply::ok("nonsense"), |_, _| false, Reply::blob), "gives no usable token"),
        (bearer(b"", |_| token("line\\nbreak"), |_, _| false, Reply::blob), "gives no usable token"),
        (
            bearer(b"", |_| Reply::ok(vec![b' '; 65536]).chunked().end(End::Endless), |_, _| false, Reply::blob),
            "sends more than",
        ),
    ] {
        let error = client("").manifest(&reference(&fake.host(), "team/app:1")).unwrap_err();
        let text = shown(&error);
        assert!(matches!(error, RegistryError::Manifest { .. }));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_mirror_never_sees_the_registrys_credentials() {
    let content = content(100);
    let mirror = Fake::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let registry = bearer(&content, |_| token("mine"), |_, token| token == "mine", Reply::blob);
    let file = format!("[registry.\"{}\"]\nmirrors = [\"http://{}\"]", registry.host(), mirror.host());
    let json = format!(r#"{{"auths": {{"{}": {{"auth": "dTpw"}}}}}}"#, registry.host());
    let client = client_as(&file, credentials(&json));
    fetch(&client, &reference(&registry.host(), "team/app:1"), &content, 0).unwrap();
    assert_eq!(mirror.log().len(), 1);
    assert!(mirror.log().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn no_credentials_is_the_default() {
    assert!(Credentials::none().get("docker.io").unwrap().is_none());
}
