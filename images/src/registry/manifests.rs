//! Manifests, indexes and tags: small documents, fetched whole.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK};
use serde::Deserialize;

use super::answer::Asked;
use super::body::Body;
use super::failure::{Attempt, Attempts as Failed, Failure};
use super::retry::Attempts;
use super::transport::Answer;
use super::{Core, Fetched, RegistryError, Resolved};
use crate::digest::{Algorithm, Digest};
use crate::manifest::{self, Descriptor, Document, MAX_MANIFEST_BYTES};
use crate::platform::{Platform, select};
use crate::reference::Reference;
use crate::registries::Endpoint;

/// How many indexes may lead to one another.
const MAX_NESTED: usize = 4;
/// Limits of a list of tags: pages, and bytes per page.
const MAX_PAGES: usize = 1000;
const MAX_TAGS_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
struct TagPage {
    tags: Option<Vec<String>>,
}

impl Core {
    pub(super) async fn manifest(&self, reference: &Reference) -> Result<Fetched, RegistryError> {
        self.fetch(reference, None).await.map(|(fetched, _)| fetched)
    }

    async fn fetch(
        &self,
        reference: &Reference,
        entry: Option<&Descriptor>,
    ) -> Result<(Fetched, Document), RegistryError> {
        let failed =
            |registry: String, source| RegistryError::Manifest { reference: reference.familiar(), registry, source };
        let one = async |endpoint: &Endpoint| self.fetch_manifest(endpoint, reference, entry).await;
        self.everywhere(reference, &format!("the manifest of {}", reference.familiar()), failed, one).await
    }

    pub(super) async fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, RegistryError> {
        let familiar = || reference.familiar();
        let (mut fetched, mut document) = self.fetch(reference, None).await?;
        let (mut outermost, mut stated) = (None, None);
        for _ in 0..=MAX_NESTED {
            let index = match document {
                Document::Manifest(manifest) => {
                    manifest
                        .require_image()
                        .map_err(|source| RegistryError::Image { reference: familiar(), source })?;
                    return Ok(Resolved { index: outermost, fetched, manifest, platform: stated });
                }
                Document::Index(index) => index,
            };
            let entry =
                select(&index, platform).map_err(|source| RegistryError::Platform { reference: familiar(), source })?;
            entry.digest.require_verifiable()?;
            stated = entry.platform.clone().or(stated);
            outermost = outermost.or(Some(fetched));
            (fetched, document) = self.fetch(&reference.with_digest(entry.digest.clone()), Some(entry)).await?;
        }
        Err(RegistryError::Nested { reference: familiar(), limit: MAX_NESTED })
    }

    /// Asks the endpoints of a registry one after the other, each with retries.
    async fn everywhere<T>(
        &self,
        reference: &Reference,
        what: &str,
        failed: impl Fn(String, Box<Failure>) -> RegistryError,
        one: impl AsyncFn(&Endpoint) -> Result<T, Failure>,
    ) -> Result<T, RegistryError> {
        let endpoints = self.registries.endpoints(reference.registry());
        let mut failures = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let last = index + 1 == endpoints.len();
            let mut attempts = Attempts::default();
            let failure = loop {
                let failure = match one(endpoint).await {
                    Ok(found) => return Ok(found),
                    Err(failure) => failure,
                };
                match attempts.after(&failure, &self.policy, false, last) {
                    Some(wait) => {
                        tracing::info!(registry = endpoint.name(), %failure, ?wait, "trying {what} again");
                        tokio::time::sleep(wait).await;
                    }
                    None => break failure,
                }
            };
            failures.push(Attempt { registry: endpoint.name().to_owned(), failure });
        }
        Err(give_up(failures, what, failed))
    }

    async fn fetch_manifest(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        entry: Option<&Descriptor>,
    ) -> Result<(Fetched, Document), Failure> {
        let selector = reference.selector();
        let path = format!("/v2/{}/manifests/{selector}", reference.repository());
        let mut headers = HeaderMap::new();
        for media_type in manifest::ACCEPTED {
            headers.append(ACCEPT, HeaderValue::from_static(media_type));
        }
        let answer = self.get(endpoint, reference.repository(), &path, &headers, Asked::Manifest(selector)).await?;
        let host = answer.host.clone();
        let served = answer.header(CONTENT_TYPE).map(|text| manifest::essence(text).to_owned());
        let promised = promised_digest(&answer);
        let bytes = Body::new(answer, &self.policy).whole(MAX_MANIFEST_BYTES).await?;
        let digest = Digest::of(&bytes);
        // What was asked for decides; without that, what the registry says it sends.
        let expected = reference.digest().or(promised.as_ref()).filter(|expected| **expected != digest);
        if let Some(expected) = expected {
            return Err(Failure::Digest { host, expected: expected.to_string(), found: digest });
        }
        let refused = |source| Failure::Manifest { host: host.clone(), source };
        let media_type = match (entry, served) {
            (Some(entry), _) => entry.media_type.clone(),
            (None, Some(served)) if manifest::is_accepted(&served) => served,
            // Plain file servers give every document the same type.
            (None, _) => manifest::own_media_type(&bytes).map_err(refused)?,
        };
        let document = manifest::parse(&bytes, &media_type).map_err(refused)?;
        Ok((Fetched { bytes, media_type, digest }, document))
    }

    pub(super) async fn list_tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        let failed = |registry: String, source| RegistryError::Tags {
            repository: reference.repository().to_owned(),
            registry,
            source,
        };
        let one = async |endpoint: &Endpoint| self.fetch_tags(endpoint, reference).await;
        self.everywhere(reference, &format!("the tags of {}", reference.familiar_name()), failed, one).await
    }

    async fn fetch_tags(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Vec<String>, Failure> {
        let first = format!("/v2/{}/tags/list", reference.repository());
        let mut path = first.clone();
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.get(endpoint, reference.repository(), &path, &HeaderMap::new(), Asked::Tags).await?;
            let next = answer.header(LINK).and_then(next_query).map(|query| format!("{first}?{query}"));
            let host = answer.host.clone();
            let body = Body::new(answer, &self.policy).whole(MAX_TAGS_BYTES).await?;
            let page: TagPage = serde_json::from_slice(&body).map_err(|source| Failure::TagList { host, source })?;
            tags.extend(page.tags.unwrap_or_default());
            match next.filter(|next| *next != path) {
                Some(next) => path = next,
                None => break,
            }
        }
        Ok(tags)
    }
}

/// One registry's failure is told plainly, those of several together.
pub(super) fn give_up(
    mut failures: Vec<Attempt>,
    what: &str,
    failed: impl Fn(String, Box<Failure>) -> RegistryError,
) -> RegistryError {
    match (failures.pop(), failures.is_empty()) {
        (Some(only), true) => failed(only.registry, Box::new(only.failure)),
        (last, _) => {
            failures.extend(last);
            RegistryError::Everywhere { what: what.to_owned(), attempts: Failed(failures) }
        }
    }
}

fn promised_digest(answer: &Answer) -> Option<Digest> {
    let header = answer.header(HeaderName::from_static("docker-content-digest"))?;
    header.parse().ok().filter(|digest: &Digest| digest.algorithm() == Algorithm::Sha256)
}

/// The query of `Link: </v2/…/tags/list?last=x&n=y>; rel="next"`. Path and host
/// stay ours.
fn next_query(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let (_, query) = target.split_once('?')?;
    (parameters.contains("next") && !query.is_empty()).then_some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_stays_with_us() {
        for (link, expected) in [
            (r#"</v2/a/tags/list?last=x&n=1>; rel="next""#, Some("last=x&n=1")),
            (r#"<https://evil.example/v2/a/tags/list?last=x>; rel="next""#, Some("last=x")),
            (r#"</v2/a/tags/list?last=x>; rel="prev""#, None),
            ("</v2/a/tags/list>; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_query(link), expected, "{link}");
        }
    }
}
