//! Whether credentials are accepted, before they are kept.

use umiak_images::auth::Credential;

use crate::support::fake::{Fake, Reply, Request};
use crate::support::pull::{client, shown};
use crate::support::server::{Access, Server, installed};

fn password(username: &str, password: &str) -> Credential {
    Credential::Password { username: username.into(), password: password.into() }
}

#[test]
fn a_registry_with_passwords_says_which_are_good() {
    if !installed(&["docker-registry", "htpasswd"]) {
        return;
    }
    let (closed, open) = (Server::start(Access::Password), Server::start(Access::Open));
    assert_eq!(client("").login(&closed.host(), &password("who", "secret")).unwrap(), None);
    let text = shown(&client("").login(&closed.host(), &password("who", "guess")).unwrap_err());
    let host = closed.host();
    assert_eq!(
        text,
        format!("log in to {host}: login attempt to http://{host}/v2/ failed with status: 401 Unauthorized")
    );
    assert_eq!(client("").login(&open.host(), &password("any", "body")).unwrap(), None);
    let text = shown(&client("").login("127.0.0.1:1", &password("any", "body")).unwrap_err());
    assert!(text.contains("connection to 127.0.0.1:1 refused"), "{text}");
}

/// A token server knows `u` with `p` and the refresh token `again`.
fn with_tokens() -> Fake {
    Fake::start(|request: &Request| {
        if request.path.starts_with("/token") {
            let known = request.header("authorization") == Some("Basic dTpw")
                || request.body.contains("refresh_token=again") && request.method == "POST";
            return match known {
                true => Reply::ok(r#"{"token":"good","refresh_token":"again"}"#),
                false => Reply::new(401).body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong"}]}"#),
            };
        }
        Reply::new(404)
    })
}

#[test]
fn a_token_server_gives_a_token_for_the_password() {
    let tokens = with_tokens();
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"test\"", tokens.host());
    let registry = Fake::closed(move |request| match request.header("authorization") {
        Some("Bearer good") => Reply::ok("{}"),
        _ => Reply::new(401).header("WWW-Authenticate", &realm),
    });
    let login = |credential: Credential| client("").login(&registry.host(), &credential);
    assert_eq!(login(password("u", "p")).unwrap().as_deref(), Some("again"));
    assert_eq!(login(Credential::IdentityToken("again".into())).unwrap().as_deref(), Some("again"));
    let asked = &tokens.requests("/token")[0];
    assert_eq!(asked.path, "/token?account=u&service=test&offline_token=true&client_id=umiak");
    for credential in [password("u", "wrong"), Credential::IdentityToken("old".into())] {
        let text = shown(&login(credential).unwrap_err());
        assert!(text.contains("/token failed with status: 401 Unauthorized"), "{text}");
    }
}
