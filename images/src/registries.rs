//! The registries file: mirrors, plain http and CA files, per registry.
//!
//! ```toml
//! [registry."docker.io"]
//! mirrors = ["http://127.0.0.1:5000"]   # tried in order, before the registry itself
//! mirror_only = true                    # the registry itself is never asked
//!
//! [registry."registry.example:5000"]
//! insecure_http = true                  # no TLS
//!
//! [registry."private.example"]
//! ca_file = "/etc/umiak/private-ca.pem" # trusted beside the system's roots
//! ```
//!
//! A mirror's own `ca_file` stands under the mirror's host. What this module
//! answers is plain data, the [`Endpoint`]s to ask for a registry's images.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

use crate::reference::{DEFAULT_REGISTRY, is_registry};

/// Where Docker Hub's API is; `docker.io` itself only redirects browsers.
const HUB_API: &str = "registry-1.docker.io";

/// Why the registries file is refused.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// The file is there but cannot be read.
    #[error("read the registries file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{path}:{line}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the TOML parser says.
        message: String,
    },
    /// A table is not named after a registry.
    #[error("{path}:{line}: {name:?} is not a registry, expected host or host:port")]
    Name {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The name in the file.
        name: String,
    },
    /// A mirror is not an http or https URL.
    #[error("{path}:{line}: mirror {mirror:?} is not a URL like http://127.0.0.1:5000 or https://mirror.example")]
    Mirror {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The mirror in the file.
        mirror: String,
    },
    /// `mirror_only` without a mirror.
    #[error("{path}:{line}: registry {name:?} has mirror_only but no mirrors")]
    NoMirror {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The registry.
        name: String,
    },
    /// A CA file is not an absolute path.
    #[error("{path}:{line}: ca_file {ca_file} of registry {name:?} must be an absolute path")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The registry.
        name: String,
        /// The path in the file.
        ca_file: PathBuf,
    },
}

/// How to speak to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TLS.
    Https,
    /// No TLS, because the file says so.
    Http,
    /// TLS if the host speaks it, otherwise plain http: for loopback hosts, as Docker does.
    Loopback,
}

/// One host to ask for a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host` or `host:port` of the API.
    pub authority: String,
    /// The path before `/v2/`, empty or beginning with `/`.
    pub prefix: String,
    /// How to speak to it.
    pub protocol: Protocol,
    /// A CA to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The name whose credentials are sent to it: the registry's, or the mirror's own.
    pub credentials_of: String,
    /// Whether this is a mirror rather than the registry itself.
    pub mirror: bool,
}

impl Endpoint {
    /// The name shown to people: the registry's name, or the mirror's host.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.credentials_of
    }
}

/// The registries file. The default is an empty one: every registry by TLS,
/// loopback ones by plain http too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    table: BTreeMap<String, Settings>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Settings {
    mirrors: Vec<Mirror>,
    mirror_only: bool,
    insecure_http: bool,
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    authority: String,
    prefix: String,
    protocol: Protocol,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registry: BTreeMap<Spanned<String>, Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    mirrors: Vec<Spanned<String>>,
    #[serde(default)]
    mirror_only: bool,
    #[serde(default)]
    insecure_http: bool,
    ca_file: Option<Spanned<PathBuf>>,
}

impl Registries {
    /// Reads the registries file; one that does not exist is an empty one.
    ///
    /// # Errors
    ///
    /// [`RegistriesError`] names the file, and the line where there is one.
    pub fn load(path: &Path) -> Result<Self, RegistriesError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(RegistriesError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads the text of a registries file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`RegistriesError`] names the file and the line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, RegistriesError> {
        let file: File = toml::from_str(text).map_err(|error| RegistriesError::Parse {
            path: path.to_owned(),
            line: line_of(text, error.span()),
            message: error.message().trim_end().replace('\n', ", "),
        })?;
        let mut table = BTreeMap::new();
        for (name, entry) in file.registry {
            let line = line_of(text, Some(name.span()));
            let key = canonical(name.get_ref());
            if !is_registry(&key) {
                return Err(RegistriesError::Name { path: path.to_owned(), line, name: name.into_inner() });
            }
            table.insert(key, Settings::check(entry, name.get_ref(), line, &Source { path, text })?);
        }
        Ok(Self { table })
    }

    /// The hosts to ask for images of `registry`, in order: mirrors, then the registry itself.
    #[must_use]
    pub fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let registry = canonical(registry);
        let settings = self.table.get(&registry);
        let mut endpoints: Vec<Endpoint> = settings
            .iter()
            .flat_map(|settings| &settings.mirrors)
            .map(|mirror| Endpoint {
                authority: mirror.authority.clone(),
                prefix: mirror.prefix.clone(),
                protocol: mirror.protocol,
                ca_file: self.table.get(&mirror.authority).and_then(|settings| settings.ca_file.clone()),
                credentials_of: mirror.authority.clone(),
                mirror: true,
            })
            .collect();
        if settings.is_some_and(|settings| settings.mirror_only) {
            return endpoints;
        }
        let authority = if registry == DEFAULT_REGISTRY { HUB_API } else { &registry }.to_owned();
        let protocol = match settings {
            Some(settings) if settings.insecure_http => Protocol::Http,
            _ if is_loopback(&authority) => Protocol::Loopback,
            _ => Protocol::Https,
        };
        endpoints.push(Endpoint {
            authority,
            prefix: String::new(),
            protocol,
            ca_file: settings.and_then(|settings| settings.ca_file.clone()),
            credentials_of: registry,
            mirror: false,
        });
        endpoints
    }
}

/// The text under inspection, for messages.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Settings {
    fn check(table: Table, name: &str, line: usize, file: &Source<'_>) -> Result<Self, RegistriesError> {
        let path = || file.path.to_owned();
        let mut mirrors = Vec::new();
        for mirror in table.mirrors {
            let line = line_of(file.text, Some(mirror.span()));
            match Mirror::parse(mirror.get_ref()) {
                Some(mirror) => mirrors.push(mirror),
                None => return Err(RegistriesError::Mirror { path: path(), line, mirror: mirror.into_inner() }),
            }
        }
        if table.mirror_only && mirrors.is_empty() {
            return Err(RegistriesError::NoMirror { path: path(), line, name: name.to_owned() });
        }
        if let Some(ca_file) = table.ca_file.as_ref().filter(|ca_file| !ca_file.get_ref().is_absolute()) {
            let line = line_of(file.text, Some(ca_file.span()));
            let ca_file = ca_file.get_ref().clone();
            return Err(RegistriesError::CaFile { path: path(), line, name: name.to_owned(), ca_file });
        }
        Ok(Self {
            mirrors,
            mirror_only: table.mirror_only,
            insecure_http: table.insecure_http,
            ca_file: table.ca_file.map(Spanned::into_inner),
        })
    }
}

impl Mirror {
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let protocol = match url.scheme() {
            "https" => Protocol::Https,
            "http" => Protocol::Http,
            _ => return None,
        };
        let bare =
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|host| bare && !host.is_empty())?;
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        // People write mirrors with and without the API's own path.
        let prefix = url.path().trim_end_matches('/');
        let prefix = prefix.strip_suffix("/v2").unwrap_or(prefix).to_owned();
        Some(Self { authority, prefix, protocol })
    }
}

/// All names of Docker Hub are one registry.
#[must_use]
pub fn canonical(registry: &str) -> String {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other.to_ascii_lowercase(),
    }
}

/// Whether `authority` (`host` or `host:port`) is this machine: `localhost`, `127.0.0.0/8`, `[::1]`.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| match address {
            IpAddr::V4(address) => address.is_loopback(),
            IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
        })
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let offset = span.map_or(0, |span| span.start).min(text.len());
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Registries, RegistriesError> {
        Registries::parse(text, Path::new("/etc/registries.toml"))
    }

    fn shown(registries: &Registries, registry: &str) -> Vec<String> {
        let line = |endpoint: &Endpoint| {
            let protocol = match endpoint.protocol {
                Protocol::Https => "https",
                Protocol::Http => "http",
                Protocol::Loopback => "loopback",
            };
            format!("{protocol} {}{}", endpoint.authority, endpoint.prefix)
        };
        registries.endpoints(registry).iter().map(line).collect()
    }

    #[test]
    fn without_a_file_registries_are_asked_directly() {
        let none = Registries::load(Path::new("/nonexistent/registries.toml")).unwrap();
        for (registry, expected) in [
            ("docker.io", "https registry-1.docker.io"),
            ("ghcr.io", "https ghcr.io"),
            ("host.example:5000", "https host.example:5000"),
            ("localhost:5000", "loopback localhost:5000"),
            ("localhost", "loopback localhost"),
            ("127.1.2.3:5000", "loopback 127.1.2.3:5000"),
            ("[::1]:5000", "loopback [::1]:5000"),
            ("[::2]:5000", "https [::2]:5000"),
            ("localhost.example", "https localhost.example"),
        ] {
            assert_eq!(shown(&none, registry), [expected]);
        }
        assert_eq!(none.endpoints("docker.io")[0].name(), "docker.io");
    }

    #[test]
    fn mirrors_come_first() {
        let registries = parse(concat!(
            "[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000\", \"https://mirror.example/hub/v2/\"]\n",
            "[registry.\"mirror.example\"]\nca_file = \"/ca.pem\"\n",
            "[registry.\"plain.example:80\"]\ninsecure_http = true\n",
            "[registry.\"ghcr.io\"]\nmirrors = [\"http://[::1]:1/\"]\nmirror_only = true\n",
        ))
        .unwrap();
        for name in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            assert_eq!(
                shown(&registries, name),
                ["http 127.0.0.1:5000", "https mirror.example/hub", "https registry-1.docker.io"]
            );
        }
        let endpoints = registries.endpoints("docker.io");
        assert_eq!(endpoints[1].ca_file.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(endpoints[1].credentials_of, "mirror.example", "a mirror never gets the registry's credentials");
        assert_eq!(shown(&registries, "plain.example:80"), ["http plain.example:80"]);
        assert_eq!(shown(&registries, "ghcr.io"), ["http [::1]:1"]);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, expected) in [
            ("[registry.\"docker.io\"]\nmirror = [\"x\"]", "/etc/registries.toml:2: unknown field `mirror`"),
            ("\n[registries.\"docker.io\"]\n", "/etc/registries.toml:2: unknown field `registries`"),
            ("[registry.\"docker.io\"]\nmirrors = \"x\"", "/etc/registries.toml:2: invalid type"),
            ("[registry.\"docker.io\"]\nmirrors = [\n \"http://a\",\n \"ftp://x\"]", "/etc/registries.toml:4: mirror"),
            ("[registry.a]\nmirrors = [\"127.0.0.1:5000\"]", "/etc/registries.toml:2: mirror \"127.0.0.1:5000\""),
            ("[registry.a]\nmirrors = [\"http://u:p@h\"]", "/etc/registries.toml:2: mirror"),
            ("\n\n[registry.\"a b\"]\n", "/etc/registries.toml:3: \"a b\" is not a registry"),
            ("[registry.a]\nmirror_only = true", "/etc/registries.toml:1: registry \"a\" has mirror_only"),
            ("[registry.a]\nca_file = \"ca.pem\"", "/etc/registries.toml:2: ca_file ca.pem"),
            ("[registry.a]\nx", "/etc/registries.toml:2: "),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn unreadable_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = Registries::load(directory.path()).unwrap_err();
        assert!(error.to_string().contains(&directory.path().display().to_string()));
    }
}
