//! Authentication: Basic, and bearer tokens from a token server (distribution
//! spec's token authentication, with OAuth2 for refresh tokens).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::Core;
use super::answer::Asked;
use super::body::Body;
use super::challenge::{self, Challenge};
use super::failure::Failure;
use super::login::refused;
use super::transport::{Answer, Call, authority};
use crate::auth::{AuthError, Credential, Credentials};
use crate::registries::{Endpoint, is_loopback};

/// Largest answer of a token server, in bytes.
const MAX_TOKEN: u64 = 1 << 20;
/// What the spec says a token lives when its answer does not.
const DEFAULT_LIFE: u64 = 60;
/// A token is not used in its last seconds.
const LEEWAY: u64 = 10;

/// A value for the `Authorization` header.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) header: HeaderValue,
    /// Whether credentials were behind it, rather than an anonymous token.
    pub(super) identified: bool,
    expires: Option<Instant>,
}

impl Grant {
    fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Grant>>>;

/// What a request wants to be allowed; a token is good for one of these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) repository: &'a str,
    /// Whether something is to be written there.
    pub(super) write: bool,
    /// Another repository of the same registry, which a blob is mounted from.
    pub(super) from: Option<&'a str>,
    /// Nothing but to be known.
    pub(super) login: bool,
}

impl<'a> Access<'a> {
    pub(super) const fn read(endpoint: &'a Endpoint, repository: &'a str) -> Self {
        Self { endpoint, repository, write: false, from: None, login: false }
    }

    pub(super) const fn write(endpoint: &'a Endpoint, repository: &'a str) -> Self {
        Self { endpoint, repository, write: true, from: None, login: false }
    }

    /// To log in.
    pub(super) const fn login(endpoint: &'a Endpoint) -> Self {
        Self { endpoint, repository: "", write: false, from: None, login: true }
    }

    /// The word for it in messages.
    pub(super) const fn verb(&self) -> &'static str {
        if self.write { "push" } else { "pull" }
    }

    /// The scopes of a token for it. What a registry asks for suits the request that it refused; a push also sends
    /// others.
    fn scopes(&self, asked: Option<String>) -> Vec<String> {
        if self.login {
            return Vec::new();
        }
        match (self.write, asked) {
            (false, Some(asked)) => vec![asked],
            (false, None) => vec![format!("repository:{}:pull", self.repository)],
            (true, _) => {
                let own = format!("repository:{}:pull,push", self.repository);
                std::iter::once(own).chain(self.from.map(|from| format!("repository:{from}:pull"))).collect()
            }
        }
    }
}

/// Grants by endpoint and what they allow, and what they are made from.
#[derive(Debug)]
pub(super) struct Tokens {
    credentials: Arc<Credentials>,
    slots: Mutex<HashMap<(String, Vec<String>), Slot>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials: Arc::new(credentials), slots: Mutex::default() }
    }

    /// The credentials for a registry. A helper may take its time, so this runs aside.
    pub(super) async fn credential(&self, registry: &str) -> Result<Option<Credential>, AuthError> {
        let (credentials, registry) = (Arc::clone(&self.credentials), registry.to_owned());
        // Fails only when the runtime is being shut down.
        tokio::task::spawn_blocking(move || credentials.get(&registry)).await.unwrap_or(Ok(None))
    }

    fn slot(&self, access: &Access<'_>) -> Slot {
        let key = (format!("{}{}", access.endpoint.authority, access.endpoint.prefix), access.scopes(None));
        Arc::clone(self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
}

impl Core {
    /// GET at an endpoint with whatever authentication it asks for.
    pub(super) async fn get(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        path: &str,
        headers: &HeaderMap,
        asked: Asked<'_>,
    ) -> Result<Answer, Failure> {
        let url = self.transport.url(endpoint, path).await?;
        let call = Call { method: Method::GET, headers, payload: None };
        self.call(&Access::read(endpoint, repository), &url, &call, asked).await
    }

    /// Any request with whatever authentication the registry asks for. A `url` of another origin, where a registry
    /// may want its blobs sent to, gets no secrets.
    pub(super) async fn call(
        &self,
        access: &Access<'_>,
        url: &Url,
        call: &Call<'_>,
        asked: Asked<'_>,
    ) -> Result<Answer, Failure> {
        let endpoint = access.endpoint;
        if self.transport.url(endpoint, "/v2/").await?.origin() != url.origin() {
            let answer = self.transport.call(endpoint, url, call, None, true).await?;
            return self.judge(answer, asked, access, None).await;
        }
        let slot = self.tokens.slot(access);
        let mut grant = slot.lock().await.clone().filter(Grant::is_fresh);
        let authorization = grant.as_ref().map(|grant| &grant.header);
        let mut answer = self.transport.call(endpoint, url, call, authorization, false).await?;
        if answer.status().as_u16() == 401
            && !answer.elsewhere
            && let Some(renewed) = self.renew(&slot, access, &answer, grant.as_ref()).await?
        {
            answer = self.transport.call(endpoint, url, call, Some(&renewed.header), false).await?;
            grant = Some(renewed);
        }
        self.judge(answer, asked, access, grant.as_ref()).await
    }

    /// A grant in place of `stale`, which the registry has just refused. Only
    /// the first of several fetches asks for it. `None` when there is nothing
    /// to offer.
    async fn renew(
        &self,
        slot: &Slot,
        access: &Access<'_>,
        refusal: &Answer,
        stale: Option<&Grant>,
    ) -> Result<Option<Grant>, Failure> {
        let mut current = slot.lock().await;
        let newer =
            current.as_ref().filter(|grant| grant.is_fresh() && stale.is_none_or(|stale| stale.header != grant.header));
        if let Some(newer) = newer {
            return Ok(Some(newer.clone()));
        }
        *current = self.grant(access, refusal).await?;
        Ok(current.clone())
    }

    async fn grant(&self, access: &Access<'_>, refusal: &Answer) -> Result<Option<Grant>, Failure> {
        // A helper that fails leaves an anonymous pull; if that is denied, the reason goes with the error.
        let credential = self.tokens.credential(&access.endpoint.credentials_of).await.unwrap_or_default();
        Ok(self.grant_for(access, refusal, credential).await?.map(|(grant, _)| grant))
    }

    /// What a credential gets from what a registry offers, and a refresh token if one came with it.
    pub(super) async fn grant_for(
        &self,
        access: &Access<'_>,
        refusal: &Answer,
        credential: Option<Credential>,
    ) -> Result<Option<(Grant, Option<String>)>, Failure> {
        let offered: Vec<&str> = refusal
            .response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let ready = |header: Option<HeaderValue>| {
            Ok(header.map(|header| (Grant { header, identified: true, expires: None }, None)))
        };
        if let Some(Credential::RegistryToken(token)) = &credential {
            return ready(header("Bearer", token));
        }
        match (challenge::choose(offered.iter().copied()), credential) {
            (Some(Challenge::Basic), Some(Credential::Password { username, password })) => {
                ready(basic(&username, &password))
            }
            (Some(Challenge::Basic), _) => Ok(None),
            (Some(Challenge::Bearer { realm, service, scope }), credential) => {
                let realm = token_server(&realm, &refusal.host, refusal.response.url())?;
                let request = TokenRequest { access, realm, service, scopes: access.scopes(scope) };
                self.token(request, credential).await.map(Some)
            }
            (None, _) if offered.is_empty() => Ok(None),
            (None, _) => {
                let offered = offered.join(", ").chars().take(200).collect();
                Err(Failure::Challenge { host: refusal.host.clone(), offered })
            }
        }
    }

    async fn token(
        &self,
        request: TokenRequest<'_>,
        credential: Option<Credential>,
    ) -> Result<(Grant, Option<String>), Failure> {
        let host = authority(&request.realm);
        let attempt = credential.as_ref().map(|_| Grant {
            header: HeaderValue::from_static(""),
            identified: true,
            expires: None,
        });
        let answer = match credential {
            Some(Credential::IdentityToken(token)) => self.refresh(&request, &token).await?,
            Some(Credential::Password { username, password }) => {
                let header = basic(&username, &password);
                let url = request.url(Some(&username));
                self.transport.get(request.access.endpoint, &url, &HeaderMap::new(), header.as_ref()).await?
            }
            Some(Credential::RegistryToken(_)) | None => {
                self.transport.get(request.access.endpoint, &request.url(None), &HeaderMap::new(), None).await?
            }
        };
        if request.access.login && matches!(answer.status().as_u16(), 401 | 403) {
            return Err(refused(&answer, request.realm.as_str()));
        }
        let answer = self.judge(answer, Asked::Token, request.access, attempt.as_ref()).await?;
        let body = Body::new(answer, &self.policy).whole(MAX_TOKEN).await?;
        let parsed: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|source| Failure::Token { host: host.clone(), source: Some(source) })?;
        let token = parsed.token.or(parsed.access_token).filter(|token| !token.is_empty());
        let header = token.and_then(|token| header("Bearer", &token)).ok_or(Failure::Token { host, source: None })?;
        let life = parsed.expires_in.filter(|life| *life > 0).unwrap_or(DEFAULT_LIFE);
        let life = Duration::from_secs(life - LEEWAY.min(life / 2));
        let grant = Grant { header, identified: attempt.is_some(), expires: Instant::now().checked_add(life) };
        Ok((grant, parsed.refresh_token.filter(|token| !token.is_empty())))
    }

    /// OAuth2 with a refresh token.
    async fn refresh(&self, request: &TokenRequest<'_>, token: &str) -> Result<Answer, Failure> {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", request.service.as_deref().unwrap_or_default()),
            ("client_id", "umiak"),
            ("scope", &request.scopes.join(" ")),
            ("refresh_token", token),
        ];
        self.transport.post(request.access.endpoint, &request.realm, &form).await
    }
}

struct TokenRequest<'a> {
    access: &'a Access<'a>,
    realm: Url,
    service: Option<String>,
    scopes: Vec<String>,
}

impl TokenRequest<'_> {
    fn url(&self, account: Option<&str>) -> Url {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(account) = account {
                query.append_pair("account", account);
            }
            if let Some(service) = &self.service {
                query.append_pair("service", service);
            }
            if self.access.login {
                // A registry that can gives a token in place of the password.
                query.append_pair("offline_token", "true").append_pair("client_id", "umiak");
            }
            for scope in &self.scopes {
                query.append_pair("scope", scope);
            }
        }
        url
    }
}

/// The realm as a URL. Secrets go there: a registry that speaks TLS must not
/// have them sent in the clear.
fn token_server(realm: &str, host: &str, registry: &Url) -> Result<Url, Failure> {
    let refused = || Failure::Realm { host: host.to_owned(), realm: realm.chars().take(200).collect() };
    let url = Url::parse(realm).map_err(|_| refused())?;
    let plain_is_fine = registry.scheme() == "http" || is_loopback(&authority(&url));
    match url.scheme() {
        "https" => Ok(url),
        "http" if plain_is_fine => Ok(url),
        _ => Err(refused()),
    }
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    header("Basic", &STANDARD.encode(format!("{username}:{password}")))
}

/// `None` for a secret with characters that no header may have.
fn header(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {secret}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_go_in_the_clear() {
        let (tls, plain) = (Url::parse("https://r.example/v2/").unwrap(), Url::parse("http://r.example/v2/").unwrap());
        for (realm, registry, allowed) in [
            ("https://auth.example/token", &tls, true),
            ("https://auth.example/token", &plain, true),
            ("http://auth.example/token", &plain, true),
            ("http://auth.example/token", &tls, false),
            ("http://127.0.0.1:5001/token", &tls, true),
            ("file:///token", &plain, false),
            ("/token", &tls, false),
            ("", &tls, false),
        ] {
            assert_eq!(token_server(realm, "r.example", registry).is_ok(), allowed, "{realm} for {registry}");
        }
    }
}
