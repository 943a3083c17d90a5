//! Image names as people write them: `redis`, `ghcr.io/owner/app:1.2`, `app@sha256:…`.
//!
//! The grammar is that of the distribution project's reference package, which
//! Docker and Compose use; defaults are Docker's (`docker.io`, `library/`, `latest`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};

/// The registry of names without one.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Longest registry and repository together, in bytes.
const MAX_NAME: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;

/// What is wrong with an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("image name is empty")]
    Empty,
    /// Nothing before the tag or digest.
    #[error("image name {text:?} has a tag or digest but no name before it")]
    NoName {
        /// The text.
        text: String,
    },
    /// A URL was given.
    #[error("image name {text:?} must not begin with a URL scheme")]
    Scheme {
        /// The text.
        text: String,
    },
    /// The registry part is not a host.
    #[error("image name {text:?} has an invalid registry {registry:?}, expected host or host:port")]
    Registry {
        /// The text.
        text: String,
        /// The registry part.
        registry: String,
    },
    /// The repository has upper-case letters.
    #[error("image name {text:?} must be lower case")]
    UpperCase {
        /// The text.
        text: String,
    },
    /// The repository has an empty or otherwise wrong component.
    #[error(
        "image name {text:?} has an invalid part {component:?}: a-z and 0-9 are allowed, and between them one of '.', '_', '__' or any number of '-'"
    )]
    Component {
        /// The text.
        text: String,
        /// The wrong component.
        component: String,
    },
    /// Longer than registries allow.
    #[error("image name {text:?} is longer than {MAX_NAME} characters")]
    TooLong {
        /// The text, shortened.
        text: String,
    },
    /// The name looks like an image id.
    #[error("image name {text:?} cannot be 64 hex digits, that is an image id")]
    LooksLikeId {
        /// The text.
        text: String,
    },
    /// The tag is not a tag.
    #[error(
        "image name {text:?} has an invalid tag {tag:?}: letters, digits and '_', '.', '-' are allowed, at most {MAX_TAG}, not beginning with '.' or '-'"
    )]
    Tag {
        /// The text.
        text: String,
        /// The tag.
        tag: String,
    },
    /// The digest is not a digest.
    #[error("image name {text:?} has an invalid digest")]
    Digest {
        /// The text.
        text: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
}

/// A complete image name: registry, repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host, with its port if one was given: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry: `library/redis`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. `latest` where the text had neither tag nor digest; none where it had only a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where the text had one. It then decides, and the tag is decoration.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository, by digest; keeps the tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same repository, by tag alone.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::Tag`] when `tag` is not one.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag, tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// What a registry is asked for: the digest if there is one, otherwise the tag.
    #[must_use]
    pub fn selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => DEFAULT_TAG,
        }
    }

    /// Registry and repository without tag and digest: `docker.io/library/redis`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The repository as people write it: `redis`, `owner/app`, `ghcr.io/owner/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix(DEFAULT_NAMESPACE) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The whole as people write it: `redis:7`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || text.chars().take(300).collect::<String>();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains("://") {
            return Err(ReferenceError::Scheme { text: shown() });
        }
        let (rest, digest) = split_digest(text)?;
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag {
            check_tag(text, tag)?;
        }
        if name.is_empty() {
            return Err(ReferenceError::NoName { text: shown() });
        }
        if digest.is_none() && tag.is_none() && is_image_id(name) {
            return Err(ReferenceError::LooksLikeId { text: shown() });
        }
        let (registry, repository) = split_registry(name);
        check_registry(text, &registry)?;
        check_repository(text, &repository)?;
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::TooLong { text: shown() });
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    match text.split_once('@') {
        None => Ok((text, None)),
        Some((rest, digest)) => match digest.parse() {
            Ok(digest) => Ok((rest, Some(digest))),
            Err(source) => Err(ReferenceError::Digest { text: text.chars().take(300).collect(), source }),
        },
    }
}

/// A colon after the last slash begins a tag; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    match text.get(last..).and_then(|part| part.rfind(':')) {
        Some(colon) => {
            let (name, tag) = text.split_at(last + colon);
            (name, tag.get(1..))
        }
        None => (text, None),
    }
}

/// The first part is a registry when it cannot be a part of a repository on
/// Docker Hub: it has a dot, a colon or an upper-case letter, or is `localhost`.
fn split_registry(name: &str) -> (String, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        (registry.to_owned(), format!("{DEFAULT_NAMESPACE}{repository}"))
    } else {
        (registry.to_owned(), repository.to_owned())
    }
}

fn is_image_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_tag(text: &str, tag: &str) -> Result<(), ReferenceError> {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.bytes().next().is_some_and(first)
        && tag.len() <= MAX_TAG
        && tag.bytes().all(|b| first(b) || matches!(b, b'.' | b'-'));
    if good {
        return Ok(());
    }
    Err(ReferenceError::Tag { text: text.chars().take(300).collect(), tag: tag.chars().take(140).collect() })
}

/// `host`, `host:port`, `[ipv6]`, `[ipv6]:port`.
pub(crate) fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
            Some((address, after)) => {
                let port = after.strip_prefix(':');
                return address.parse::<std::net::Ipv6Addr>().is_ok() && port.is_some_and(is_port);
            }
            None => return false,
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    port.is_none_or(is_port) && host.split('.').all(is_host_label)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn check_registry(text: &str, registry: &str) -> Result<(), ReferenceError> {
    if is_registry(registry) {
        return Ok(());
    }
    Err(ReferenceError::Registry {
        text: text.chars().take(300).collect(),
        registry: registry.chars().take(300).collect(),
    })
}

fn check_repository(text: &str, repository: &str) -> Result<(), ReferenceError> {
    let shown = || text.chars().take(300).collect::<String>();
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase { text: shown() });
    }
    match repository.split('/').find(|component| !is_component(component)) {
        Some(component) => {
            Err(ReferenceError::Component { text: shown(), component: component.chars().take(300).collect() })
        }
        None => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let edges =
        bytes.first().zip(bytes.last()).is_some_and(|(first, last)| alphanumeric(*first) && alphanumeric(*last));
    edges
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn names_are_completed() {
        for (text, full, familiar) in [
            ("redis", "docker.io/library/redis:latest", "redis:latest"),
            ("redis:7", "docker.io/library/redis:7", "redis:7"),
            ("library/redis", "docker.io/library/redis:latest", "redis:latest"),
            ("docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
            ("index.docker.io/library/redis:7", "docker.io/library/redis:7", "redis:7"),
            ("owner/app", "docker.io/owner/app:latest", "owner/app:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("ghcr.io/owner/app:1.2", "ghcr.io/owner/app:1.2", "ghcr.io/owner/app:1.2"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
            ("127.0.0.1:5000/a/b:x_Y.z-1", "127.0.0.1:5000/a/b:x_Y.z-1", "127.0.0.1:5000/a/b:x_Y.z-1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("a--b__c.d/e_f", "docker.io/a--b__c.d/e_f:latest", "a--b__c.d/e_f:latest"),
        ] {
            // A name whose first part has a dot is a registry, as in Docker.
            let expected = if text.starts_with("a--b") { None } else { Some((full, familiar)) };
            match (text.parse::<Reference>(), expected) {
                (Ok(reference), Some((full, familiar))) => {
                    assert_eq!(reference.to_string(), full);
                    assert_eq!(reference.familiar(), familiar);
                    assert_eq!(parse(full), reference, "{text} must survive its own display");
                    assert_eq!(parse(familiar), reference, "{text} must survive its familiar form");
                }
                (Err(ReferenceError::Registry { .. }), None) => {}
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn digest_and_tag() {
        let digest = Digest::of(b"x");
        let reference = parse(&format!("redis@{digest}"));
        assert_eq!((reference.tag(), reference.digest()), (None, Some(&digest)));
        assert_eq!(reference.selector(), digest.as_str());
        let reference = parse(&format!("localhost:5000/redis:7@{digest}"));
        assert_eq!((reference.tag(), reference.digest()), (Some("7"), Some(&digest)));
        assert_eq!(reference.selector(), digest.as_str());
        assert_eq!(reference.to_string(), format!("localhost:5000/redis:7@{digest}"));
        assert_eq!(parse("redis:7").selector(), "7");
        assert_eq!(parse("redis:7").with_digest(digest.clone()).familiar(), format!("redis:7@{digest}"));
        assert_eq!(parse("redis:7").with_tag("8").unwrap().familiar(), "redis:8");
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let long = "a".repeat(300);
        let id = "a".repeat(64);
        for (text, part) in [
            ("", "is empty"),
            (":7", "no name before"),
            ("Redis", "must be lower case"),
            ("owner/App", "must be lower case"),
            ("https://ghcr.io/owner/app", "URL scheme"),
            ("redis:", "invalid tag \"\""),
            ("redis:a b", "invalid tag \"a b\""),
            ("redis:-x", "invalid tag \"-x\""),
            ("redis@sha256:abc", "invalid digest"),
            ("redis@", "invalid digest"),
            ("a//b", "invalid part \"\""),
            ("a/", "invalid part \"\""),
            ("/a", "invalid part \"\""),
            ("a/../b", "invalid part \"..\""),
            ("a/-b", "invalid part \"-b\""),
            ("a___b", "invalid part \"a___b\""),
            ("re dis", "invalid part \"re dis\""),
            ("redis\n", "invalid part \"redis\\n\""),
            ("rédis", "invalid part"),
            ("host.example:x/app", "invalid registry \"host.example:x\""),
            ("host.example:99999/app", "invalid registry"),
            ("a_b.example/app", "invalid registry"),
            (&long, "longer than 255"),
            (&id, "image id"),
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
        }
    }
}
