//! Credentials for registries, where Docker keeps them: `config.json` with its
//! `auths`, `credHelpers` and `credsStore`.
//!
//! Nothing is read from a helper until a registry asks for credentials, so
//! that a broken helper does not stand in the way of public images.

mod helper;
mod keep;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

pub use keep::{Kept, key_of};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::registries::canonical;

/// The key under which Docker keeps the credentials of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Largest config.json that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file is there but cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file is not Docker's config.json.
    #[error("{path} is not a valid Docker config file")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it fails to parse.
        #[source]
        source: serde_json::Error,
    },
    /// The file cannot be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// `auths` is not what it should be.
    #[error("{path}: auths is not an object")]
    Auths {
        /// The file.
        path: PathBuf,
    },
    /// There is no place for the file.
    #[error("neither DOCKER_CONFIG nor HOME says where credentials are kept")]
    NoHome,
    /// An `auth` member is not base64 of `user:password`.
    #[error("{path}: the credentials of {registry} are not base64 of user:password")]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The key in the file.
        registry: String,
    },
    /// A helper's name would not stay one word of a program's name.
    #[error("{path}: {name:?} is not the name of a credential helper")]
    HelperName {
        /// The file.
        path: PathBuf,
        /// The name in the file.
        name: String,
    },
    /// A helper does not start.
    #[error("run the credential helper {program}")]
    HelperStart {
        /// The program.
        program: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A helper says that it failed.
    #[error("credential helper {program} failed for {registry}: {message}")]
    HelperFailed {
        /// The program.
        program: String,
        /// What it was asked for.
        registry: String,
        /// What it said.
        message: String,
    },
    /// A helper does not answer.
    #[error("credential helper {program} gave no answer for {registry} within {seconds} s")]
    HelperTimeout {
        /// The program.
        program: String,
        /// What it was asked for.
        registry: String,
        /// How long it had, in seconds.
        seconds: u64,
    },
    /// A helper's answer does not parse.
    #[error("credential helper {program} gave an unexpected answer for {registry}")]
    HelperAnswer {
        /// The program.
        program: String,
        /// What it was asked for.
        registry: String,
        /// Where it fails to parse.
        #[source]
        source: serde_json::Error,
    },
}

/// What a registry is told.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password or access token.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token (`docker login` of some registries).
    IdentityToken(String),
    /// A bearer token, sent as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::IdentityToken(_) => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
        })
    }
}

impl Credential {
    /// The user `<token>` marks a password that is a refresh token.
    fn from_pair(username: String, password: String) -> Self {
        if username == "<token>" { Self::IdentityToken(password) } else { Self::Password { username, password } }
    }
}

/// The credentials of one user.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    path: PathBuf,
    file: File,
    /// Runs helpers as the user whose file this is, when that is not who we are.
    owner: Option<helper::Owner>,
    /// Replaces PATH in the search for helpers.
    search: Option<OsString>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

/// Where config.json is looked for. [`Places::of_process`] fills it from the environment.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `$DOCKER_CONFIG`, the directory; if set, nothing else is looked at.
    pub docker_config: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// The home of the user who called sudo: second choice.
    pub sudo_home: Option<PathBuf>,
}

impl Places {
    /// From the environment. The caller of sudo counts only when we are root.
    #[must_use]
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let sudo_user = variable("SUDO_USER").and_then(|name| name.into_string().ok());
        let sudo_home = sudo_user
            .filter(|name| name != "root" && rustix::process::geteuid().is_root())
            .and_then(|name| nix::unistd::User::from_name(&name).ok().flatten())
            .map(|user| user.dir);
        Self {
            docker_config: variable("DOCKER_CONFIG").map(PathBuf::from),
            home: variable("HOME").map(PathBuf::from),
            sudo_home,
        }
    }

    /// The files, the first that exists counts.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.docker_config {
            Some(directory) => vec![directory.join("config.json")],
            None => [&self.home, &self.sudo_home]
                .into_iter()
                .flatten()
                .map(|home| home.join(".docker/config.json"))
                .collect(),
        }
    }
}

impl Credentials {
    /// No credentials at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The first file of `places` that exists; none is no credentials.
    ///
    /// # Errors
    ///
    /// [`AuthError`] names the file that cannot be read or does not parse.
    pub fn load(places: &Places) -> Result<Self, AuthError> {
        for path in places.files() {
            if let Some(found) = Self::from_file(&path)? {
                return Ok(found);
            }
        }
        Ok(Self::none())
    }

    /// Reads one config.json; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`AuthError`] names the file that cannot be read or does not parse.
    pub fn from_file(path: &Path) -> Result<Option<Self>, AuthError> {
        let read = |source| AuthError::Read { path: path.to_owned(), source };
        // O_NONBLOCK: a fifo in someone's home must not stop us.
        let flags = i32::try_from((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits()).unwrap_or(0);
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(read(source)),
        };
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(read(io::ErrorKind::InvalidInput.into()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(read)?;
        let file =
            serde_json::from_slice(&bytes).map_err(|source| AuthError::Parse { path: path.to_owned(), source })?;
        let owner = helper::Owner::other_than_us(metadata.uid(), metadata.gid());
        Ok(Some(Self { path: path.to_owned(), file, owner, search: None }))
    }

    /// Looks for helpers in `path` (as in `PATH`) instead of the process's own `PATH`.
    #[must_use]
    pub fn with_helper_path(mut self, path: impl Into<OsString>) -> Self {
        self.search = Some(path.into());
        self
    }

    /// The credentials for a registry (`docker.io`, `host:port`), if there are any.
    ///
    /// Asks the registry's own helper, else the default store, else the file's `auths`.
    ///
    /// # Errors
    ///
    /// [`AuthError`] for a helper that fails and entries that cannot be read.
    pub fn get(&self, registry: &str) -> Result<Option<Credential>, AuthError> {
        let registry = canonical(registry);
        if let Some(name) = self.helper_of(&registry)
            && let Some((username, secret)) = self.helper(name).get(&key_of(&registry))?
        {
            return Ok(Some(Credential::from_pair(username, secret)));
        }
        match self.file.auths.iter().find(|(key, _)| host_of(key) == registry) {
            Some((key, entry)) => self.entry(key, entry),
            None => Ok(None),
        }
    }

    /// The helper that is asked about a registry: its own, else the default one.
    fn helper_of(&self, registry: &str) -> Option<&str> {
        let registry = canonical(registry);
        let own = self.file.helpers.iter().find(|(key, _)| host_of(key) == registry);
        let name = own.map(|(_, name)| name).or(self.file.store.as_ref());
        name.map(String::as_str).filter(|name| !name.is_empty())
    }

    fn helper<'a>(&'a self, name: &'a str) -> helper::Helper<'a> {
        helper::Helper { config: &self.path, name, owner: self.owner.as_ref(), search: self.search.as_deref() }
    }

    fn entry(&self, key: &str, entry: &Entry) -> Result<Option<Credential>, AuthError> {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        if let Some(token) = given(&entry.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        if let Some(token) = given(&entry.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(auth) = given(&entry.auth) {
            let pair = decode(&auth)
                .ok_or_else(|| AuthError::Encoding { path: self.path.clone(), registry: key.to_owned() })?;
            return Ok(Some(Credential::from_pair(pair.0, pair.1)));
        }
        match (given(&entry.username), given(&entry.password)) {
            (Some(username), Some(password)) => Ok(Some(Credential::from_pair(username, password))),
            _ => Ok(None),
        }
    }
}

/// `user:password` from base64. Docker has written trailing NULs.
fn decode(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// The registry that a key of config.json means: keys are hosts or URLs.
fn host_of(key: &str) -> String {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    canonical(rest.split('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(json: &str) -> Credentials {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        Credentials::from_file(&path).unwrap().unwrap()
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { username: username.into(), password: password.into() })
    }

    #[test]
    fn auths_are_found_by_host() {
        let found = credentials(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOmh1YnBhc3M="},
                "localhost:5000": {"auth": "dTpwOnc="},
                "https://ghcr.io": {"username": "gh", "password": "pw"},
                "token.example": {"identitytoken": "refresh", "auth": "dTpw"},
                "marker.example": {"auth": "PHRva2VuPjpyZWZyZXNo"},
                "bearer.example": {"registrytoken": "bearer"},
                "empty.example": {}
            }, "HttpHeaders": {"x": "y"}}"#,
        );
        for (registry, expected) in [
            ("docker.io", password("hub", "hubpass")),
            ("index.docker.io", password("hub", "hubpass")),
            ("localhost:5000", password("u", "p:w")),
            ("localhost", None),
            ("ghcr.io", password("gh", "pw")),
            ("token.example", Some(Credential::IdentityToken("refresh".into()))),
            ("marker.example", Some(Credential::IdentityToken("refresh".into()))),
            ("bearer.example", Some(Credential::RegistryToken("bearer".into()))),
            ("empty.example", None),
            ("other.example", None),
        ] {
            assert_eq!(found.get(registry).unwrap(), expected, "{registry}");
        }
    }

    #[test]
    fn damaged_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, "{").unwrap();
        let error = Credentials::from_file(&path).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        let found = credentials(r#"{"auths": {"a.example": {"auth": "!!"}, "b.example": {"auth": "bm9jb2xvbg=="}}}"#);
        for registry in ["a.example", "b.example"] {
            let error = found.get(registry).unwrap_err();
            assert!(error.to_string().contains(registry), "{error}");
        }
    }

    #[test]
    fn debug_output_has_no_secret() {
        let found = credentials(r#"{"auths": {"a.example": {"username": "u", "password": "geheim"}}}"#);
        let text = format!("{found:?} {:?}", found.get("a.example").unwrap());
        assert!(!text.contains("geheim"), "{text}");
    }

    #[test]
    fn places_are_searched_in_order() {
        let root = tempfile::tempdir().unwrap();
        let write = |directory: &str, host: &str| {
            let directory = root.path().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            let json = format!(r#"{{"auths": {{"{host}": {{"username": "u", "password": "p"}}}}}}"#);
            std::fs::write(directory.join("config.json"), json).unwrap();
        };
        write("set", "set.example");
        write("user/.docker", "user.example");
        let mut places = Places {
            docker_config: None,
            home: Some(root.path().join("root")),
            sudo_home: Some(root.path().join("user")),
        };
        assert!(Credentials::load(&places).unwrap().get("user.example").unwrap().is_some());
        write("root/.docker", "root.example");
        assert!(Credentials::load(&places).unwrap().get("root.example").unwrap().is_some());
        places.docker_config = Some(root.path().join("set"));
        assert!(Credentials::load(&places).unwrap().get("set.example").unwrap().is_some());
        places.docker_config = Some(root.path().join("nowhere"));
        assert!(Credentials::load(&places).unwrap().get("root.example").unwrap().is_none());
    }

    #[test]
    fn a_fifo_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(Credentials::from_file(&path), Err(AuthError::Read { .. })));
    }
}
