//! HTTP requests to one endpoint: TLS, proxies, redirects.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, redirect};
use tokio::time::timeout;

use super::failure::{Failure, classify};
use super::payload::Payload;
use super::retry::Policy;
use super::tls;
use crate::registries::{Endpoint, Protocol, is_loopback};

/// How many redirects are followed, as in Go's and Docker's client.
const MAX_REDIRECTS: usize = 10;

/// An HTTP response, any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// Who gave it, for messages: `host:port`.
    pub(super) host: String,
    /// Whether it came from another origin than the one asked.
    pub(super) elsewhere: bool,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header as text.
    pub(super) fn header(&self, name: reqwest::header::HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

/// What is asked, but for where and by whom.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) headers: &'a HeaderMap,
    /// What is sent with it.
    pub(super) payload: Option<&'a Payload>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    tls: bool,
    direct: bool,
    ca_file: Option<PathBuf>,
}

/// HTTP clients, made when first needed: certificates are not read for plain http.
#[derive(Debug)]
pub(super) struct Transport {
    user_agent: String,
    connect: Duration,
    stall: Duration,
    commit: Duration,
    clients: Mutex<HashMap<Kind, reqwest::Client>>,
    /// What loopback hosts were found to speak.
    loopback: Mutex<HashMap<String, Protocol>>,
}

impl Transport {
    pub(super) fn new(user_agent: &str, policy: &Policy) -> Self {
        // A header takes no control characters; a user agent is not worth an error.
        let user_agent = user_agent.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        Self {
            user_agent,
            connect: policy.connect,
            stall: policy.stall,
            commit: policy.commit,
            clients: Mutex::default(),
            loopback: Mutex::default(),
        }
    }

    /// The URL of `path` (which begins with `/v2/`) at `endpoint`.
    pub(super) async fn url(&self, endpoint: &Endpoint, path: &str) -> Result<Url, Failure> {
        let scheme = match self.protocol(endpoint).await? {
            Protocol::Https => "https",
            Protocol::Http | Protocol::Loopback => "http",
        };
        parse(&format!("{scheme}://{}{}{path}", endpoint.authority, endpoint.prefix), &endpoint.authority)
    }

    /// Loopback registries speak http more often than https. They are asked
    /// once, without any secret: a TLS server answers plain http with status
    /// 400 or with something that is not HTTP.
    async fn protocol(&self, endpoint: &Endpoint) -> Result<Protocol, Failure> {
        if endpoint.protocol != Protocol::Loopback {
            return Ok(endpoint.protocol);
        }
        let known = |map: &Mutex<HashMap<String, Protocol>>| {
            map.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint.authority).copied()
        };
        if let Some(protocol) = known(&self.loopback) {
            return Ok(protocol);
        }
        let url = parse(&format!("http://{}/v2/", endpoint.authority), &endpoint.authority)?;
        let request = self.client(endpoint, &url)?.get(url.clone());
        let protocol = match self.send(request, &url).await {
            Ok(response) if response.status() == StatusCode::BAD_REQUEST => Protocol::Https,
            Ok(_) => Protocol::Http,
            // Not remembered: it may as well be a registry that is just starting.
            Err(Failure::Broken { .. }) => return Ok(Protocol::Https),
            Err(failure) => return Err(failure),
        };
        self.loopback.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.authority.clone(), protocol);
        Ok(protocol)
    }

    /// GET, following redirects. `authorization` goes to the origin of `url`
    /// only, and never again once a redirect has left it.
    pub(super) async fn get(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let call = Call { method: Method::GET, headers, payload: None };
        self.call(endpoint, url, &call, authorization, false).await
    }

    /// Any request, following redirects: those that keep the method, and of GET and HEAD all. `elsewhere` says that
    /// `url` is not the registry's own.
    pub(super) async fn call(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
        mut elsewhere: bool,
    ) -> Result<Answer, Failure> {
        let mut here = url.clone();
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client(endpoint, &here)?;
            let mut request = client.request(call.method.clone(), here.clone()).headers(call.headers.clone());
            if let Some(authorization) = authorization.filter(|_| !elsewhere) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = match call.payload {
                None => self.send(request, &here).await?,
                Some(payload) => self.send_payload(request, &here, payload).await?,
            };
            let host = authority(&here);
            let status = response.status().as_u16();
            let redirected = matches!(status, 307 | 308) || (reads && matches!(status, 301..=303));
            if !redirected {
                return Ok(Answer { response, host, elsewhere });
            }
            let location = response.headers().get(LOCATION).map(HeaderValue::as_bytes).unwrap_or_default();
            here = target(&here, &String::from_utf8_lossy(location))?;
            elsewhere |= here.origin() != url.origin();
        }
        Err(Failure::Redirects { host: authority(url), limit: MAX_REDIRECTS })
    }

    /// POST of a form, to a token server. Redirects are not followed.
    pub(super) async fn post(&self, endpoint: &Endpoint, url: &Url, form: &[(&str, &str)]) -> Result<Answer, Failure> {
        let request = self.client(endpoint, url)?.post(url.clone()).form(form);
        let response = self.send(request, url).await?;
        Ok(Answer { response, host: authority(url), elsewhere: false })
    }

    async fn send(&self, request: RequestBuilder, url: &Url) -> Result<Response, Failure> {
        match timeout(self.stall.max(self.connect), request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(error, authority(url), self.connect)),
            Err(_) => Err(Failure::Stalled { host: authority(url), seconds: self.stall.max(self.connect).as_secs() }),
        }
    }

    /// As [`Self::send`]: while bytes are taken the registry may take its time, and when it has all of them, too.
    async fn send_payload(&self, request: RequestBuilder, url: &Url, payload: &Payload) -> Result<Response, Failure> {
        let mut pending = std::pin::pin!(payload.attach(request).send());
        let mut taken = payload.taken();
        loop {
            let whole = taken == payload.len();
            let limit = if whole { self.commit } else { self.stall.max(self.connect) };
            match timeout(limit, &mut pending).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(classify(error, authority(url), self.connect)),
                Err(_) if payload.taken() == taken => {
                    return Err(Failure::Stalled { host: authority(url), seconds: limit.as_secs() });
                }
                Err(_) => taken = payload.taken(),
            }
        }
    }

    fn client(&self, endpoint: &Endpoint, url: &Url) -> Result<reqwest::Client, Failure> {
        let kind = Kind {
            tls: url.scheme() == "https",
            direct: is_loopback(&authority(url)),
            ca_file: endpoint.ca_file.clone().filter(|_| url.scheme() == "https"),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&kind) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(self.user_agent.as_str())
            .redirect(redirect::Policy::none())
            .connect_timeout(self.connect)
            .tcp_nodelay(true)
            .tls_backend_preconfigured(tls::config(kind.tls, kind.ca_file.as_deref())?);
        if kind.direct {
            // A proxy elsewhere cannot reach our loopback.
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|source| Failure::HttpSetup { source })?;
        clients.insert(kind, client.clone());
        Ok(client)
    }
}

/// Where a redirect leads to, if it may be followed.
pub(super) fn target(from: &Url, location: &str) -> Result<Url, Failure> {
    let refused = || Failure::Redirect { host: authority(from), location: location.chars().take(100).collect() };
    let to = from.join(location).ok().filter(|_| !location.is_empty()).ok_or_else(refused)?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        // A registry behind a proxy that ends TLS may not know its own scheme.
        ("https", "http") if same_place(from, &to) => secured(to, from).ok_or_else(refused),
        ("https", "http") => Err(Failure::Downgrade { host: authority(from), target: authority(&to) }),
        _ => Err(refused()),
    }
}

fn same_place(from: &Url, to: &Url) -> bool {
    to.host_str() == from.host_str() && (to.port().is_none() || to.port() == from.port())
}

/// `to` with the scheme and port of `from`.
fn secured(mut to: Url, from: &Url) -> Option<Url> {
    to.set_scheme("https").ok()?;
    to.set_port(from.port()).ok()?;
    Some(to)
}

fn parse(text: &str, host: &str) -> Result<Url, Failure> {
    Url::parse(text).map_err(|_| Failure::Redirect { host: host.to_owned(), location: text.to_owned() })
}

/// `host`, or `host:port` where the port is not the scheme's own.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_do_not_leave_tls() {
        let follow = |from: &str, location: &str| {
            target(&Url::parse(from).unwrap(), location)
                .map(|url| url.to_string())
                .map_err(|failure| failure.to_string())
        };
        for (from, location, expected) in [
            ("https://a.example/v2/x", "/y?z=1", Ok("https://a.example/y?z=1")),
            ("https://a.example/v2/x", "//b.example/y", Ok("https://b.example/y")),
            ("http://a.example/v2/x", "https://b.example/y", Ok("https://b.example/y")),
            ("http://a.example/v2/x", "http://b.example/y", Ok("http://b.example/y")),
            (
                "https://a.example/v2/x",
                "http://b.example:81/y?signature=s",
                Err("a.example redirects from https to plain http at b.example:81, which is refused"),
            ),
            ("https://a.example/x", "file:///y", Err("a.example redirects to \"file:///y\", which cannot be followed")),
            ("https://a.example/x", "", Err("a.example redirects to \"\", which cannot be followed")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(follow(from, location), expected, "{from} -> {location}");
        }
    }
}
