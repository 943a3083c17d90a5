//! Whether a registry accepts credentials, before they are kept.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::answer::Asked;
use super::failure::Failure;
use super::token::Access;
use super::transport::{Answer, Call};
use super::{Client, Core, RegistryError};
use crate::auth::Credential;
use crate::registries::Endpoint;

impl Client {
    /// Asks a registry (`docker.io`, `host:port`) whether it accepts `credential`; a registry that is open to all does.
    ///
    /// Gives a refresh token where the registry offers one in place of the password.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Login`] when it does not, or cannot be asked.
    pub fn login(&self, registry: &str, credential: &Credential) -> Result<Option<String>, RegistryError> {
        let (core, registry, credential) = (Arc::clone(&self.core), registry.to_owned(), credential.clone());
        self.worker.call(async move || core.login(&registry, credential).await)?
    }
}

impl Core {
    async fn login(&self, registry: &str, credential: Credential) -> Result<Option<String>, RegistryError> {
        let mut endpoints = self.registries.endpoints(registry).into_iter();
        let Some(endpoint) = endpoints.find(|endpoint| !endpoint.mirror) else {
            return Err(RegistryError::MirrorOnly { registry: registry.to_owned() });
        };
        let asked = self.patiently(&endpoint, async || self.accepts(&endpoint, credential.clone()).await).await;
        asked.map_err(|source| RegistryError::Login { registry: registry.to_owned(), source: Box::new(source) })
    }

    async fn accepts(&self, endpoint: &Endpoint, credential: Credential) -> Result<Option<String>, Failure> {
        let url = self.transport.url(endpoint, "/v2/").await?;
        let headers = HeaderMap::new();
        let call = Call { method: Method::GET, headers: &headers, payload: None };
        let answer = self.transport.call(endpoint, &url, &call, None, false).await?;
        if answer.status().as_u16() != 401 {
            return self.judge_login(endpoint, answer, url.as_str()).await.map(|()| None);
        }
        let access = Access::login(endpoint);
        let Some((grant, refresh)) = self.grant_for(&access, &answer, Some(credential)).await? else {
            return Err(refused(&answer, url.as_str()));
        };
        let answer = self.transport.call(endpoint, &url, &call, Some(&grant.header), false).await?;
        self.judge_login(endpoint, answer, url.as_str()).await.map(|()| refresh)
    }

    async fn judge_login(&self, endpoint: &Endpoint, answer: Answer, url: &str) -> Result<(), Failure> {
        match answer.status().as_u16() {
            200 => Ok(()),
            429 | 500 | 502..=599 => self.judge(answer, Asked::Token, &Access::login(endpoint), None).await.map(drop),
            _ => Err(refused(&answer, url)),
        }
    }
}

/// In Docker's words.
pub(super) fn refused(answer: &Answer, url: &str) -> Failure {
    Failure::Login { url: url.to_owned(), status: answer.status().to_string() }
}
