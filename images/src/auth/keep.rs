//! Keeping and forgetting credentials: with the helper that config.json names,
//! else in the file itself, of which everything else stays as it is.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::FlockOperation;
use serde::Serialize as _;
use serde_json::{Map, Value, json};
use umiak_base::id::random_hex;

use super::{AuthError, Credential, Credentials, HUB_KEY, Places, helper, host_of};
use crate::reference::DEFAULT_REGISTRY;
use crate::registries::canonical;

/// Where credentials went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// To a helper, which has them in its own way.
    Helper {
        /// Its name, as in `docker-credential-NAME`.
        name: String,
    },
    /// Into the file, where everybody who can read it can read them.
    File {
        /// The file.
        path: PathBuf,
        /// Whether it had them not already.
        changed: bool,
    },
}

/// The key of a registry in config.json, and for helpers.
#[must_use]
pub fn key_of(registry: &str) -> String {
    let registry = canonical(registry);
    if registry == DEFAULT_REGISTRY { HUB_KEY.to_owned() } else { registry }
}

impl Credentials {
    /// Keeps the credentials of `username` for a registry, in the file that [`Credentials::load`] reads, made if there
    /// is none.
    ///
    /// # Errors
    /// [`AuthError`] when the file or the helper fails; the file is then as it was.
    pub fn keep(places: &Places, registry: &str, username: &str, credential: &Credential) -> Result<Kept, AuthError> {
        let (path, known) = Self::file_of(places)?;
        let key = key_of(registry);
        if let Some(name) = known.helper_of(registry) {
            let (user, secret) = match credential {
                Credential::Password { username, password } => (username.as_str(), password),
                Credential::IdentityToken(token) | Credential::RegistryToken(token) => ("<token>", token),
            };
            known.helper(name).store(&key, user, secret)?;
            change(&path, |auths| auths.insert(key.clone(), json!({})) != Some(json!({})))?;
            return Ok(Kept::Helper { name: name.to_owned() });
        }
        let entry = match credential {
            Credential::Password { username, password } => {
                json!({ "auth": STANDARD.encode(format!("{username}:{password}")) })
            }
            Credential::IdentityToken(token) => {
                json!({ "auth": STANDARD.encode(format!("{username}:")), "identitytoken": token })
            }
            Credential::RegistryToken(token) => json!({ "registrytoken": token }),
        };
        let changed = change(&path, |auths| auths.insert(key.clone(), entry.clone()).as_ref() != Some(&entry))?;
        Ok(Kept::File { path, changed })
    }

    /// Forgets the credentials for a registry.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub fn forget(places: &Places, registry: &str) -> Result<(), AuthError> {
        let (path, known) = Self::file_of(places)?;
        let key = key_of(registry);
        if let Some(name) = known.helper_of(registry) {
            known.helper(name).erase(&key)?;
        }
        if !path.exists() {
            return Ok(());
        }
        let registry = canonical(registry);
        change(&path, |auths| {
            let before = auths.len();
            auths.retain(|key, _| host_of(key) != registry);
            auths.len() != before
        })?;
        Ok(())
    }

    /// The user that a registry knows us by, where that is known.
    #[must_use]
    pub fn username(&self, registry: &str) -> Option<String> {
        let registry = canonical(registry);
        if let Some(name) = self.helper_of(&registry) {
            let found = self.helper(name).get(&key_of(&registry)).ok().flatten();
            return found.map(|(username, _)| username).filter(|username| username != "<token>");
        }
        let (_, entry) = self.file.auths.iter().find(|(key, _)| host_of(key) == registry)?;
        let pair = || super::decode(entry.auth.as_deref()?).map(|(username, _)| username);
        entry.username.clone().or_else(pair).filter(|username| !username.is_empty())
    }

    /// The file that counts, and what it says.
    fn file_of(places: &Places) -> Result<(PathBuf, Self), AuthError> {
        let files = places.files();
        for path in &files {
            if let Some(found) = Self::from_file(path)? {
                return Ok((path.clone(), found));
            }
        }
        let first = files.into_iter().next().ok_or(AuthError::NoHome)?;
        let owner = nearest_owner(&first).and_then(|(uid, gid)| helper::Owner::other_than_us(uid, gid));
        Ok((first.clone(), Self { path: first, owner, ..Self::default() }))
    }
}

/// Changes the `auths` of a file, if `change` says that it did.
fn change(path: &Path, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool, AuthError> {
    let failed = |source: io::Error| AuthError::Write { path: path.to_owned(), source };
    let real = followed(path);
    let directory = real.parent().unwrap_or(Path::new("."));
    let owner = nearest_owner(&real);
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        give(directory, owner).map_err(failed)?;
    }
    // Two logins at once: one after the other.
    let lock = File::open(directory).map_err(failed)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let mut document: Map<String, Value> = match std::fs::read(&real) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| AuthError::Parse { path: path.to_owned(), source })?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(source) => return Err(AuthError::Read { path: path.to_owned(), source }),
    };
    let auths = document.entry("auths").or_insert_with(|| json!({}));
    if auths.is_null() {
        *auths = json!({});
    }
    let Some(auths) = auths.as_object_mut() else {
        return Err(AuthError::Auths { path: path.to_owned() });
    };
    if !change(auths) {
        return Ok(false);
    }
    write(&real, &Value::Object(document), owner).map_err(failed)?;
    Ok(true)
}

/// Dot files are often links into a repository of theirs: what they lead to is replaced, not the link. A link of a user
/// to what is not his leads root nowhere.
#[allow(clippy::disallowed_methods, reason = "a file of whoever runs this, named by his environment")]
fn followed(path: &Path) -> PathBuf {
    let owner = |meta: io::Result<std::fs::Metadata>| meta.map(|meta| meta.uid()).ok();
    let link = owner(std::fs::symlink_metadata(path));
    let trusted = link == Some(0) || link == owner(std::fs::metadata(path)) || !rustix::process::geteuid().is_root();
    let real = std::fs::canonicalize(path).ok().filter(|_| trusted);
    real.unwrap_or_else(|| path.to_owned())
}

fn write(path: &Path, document: &Value, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, tabs))?;
    let temporary = path.with_file_name(format!(".config.json.{}.tmp", random_hex(6)?));
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        if let Some((uid, gid)) = owner.filter(|_| rustix::process::geteuid().is_root()) {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        umiak_base::state::sync_dir(path.parent().unwrap_or(Path::new(".")))
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// The owner of a file, or of what is nearest above it: root's `umiak login` leaves a user's file a user's.
fn nearest_owner(path: &Path) -> Option<(u32, u32)> {
    let meta = path.ancestors().find_map(|path| std::fs::metadata(path).ok())?;
    Some((meta.uid(), meta.gid()))
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner.filter(|_| rustix::process::geteuid().is_root()) {
        Some((uid, gid)) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn places(directory: &Path) -> Places {
        Places { docker_config: Some(directory.to_owned()), ..Places::default() }
    }

    fn password(username: &str, password: &str) -> Credential {
        Credential::Password { username: username.into(), password: password.into() }
    }

    #[test]
    fn credentials_are_kept_and_forgotten_and_the_rest_stays() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("new");
        let path = directory.join("config.json");
        let places = places(&directory);
        let keep = |registry: &str, secret: &str| Credentials::keep(&places, registry, "u", &password("u", secret));
        assert_eq!(keep("a.example:5000", "p").unwrap(), Kept::File { path: path.clone(), changed: true });
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\n\t\"auths\": {\n\t\t\"a.example:5000\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t}\n}"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(keep("a.example:5000", "p").unwrap(), Kept::File { path: path.clone(), changed: false });

        std::fs::write(&path, r#"{"detachKeys": "ctrl-x", "auths": {"a.example": {}}, "x": [1, {"y": 2.5}]}"#).unwrap();
        assert!(matches!(keep("docker.io", "p").unwrap(), Kept::File { changed: true, .. }));
        let token = Credential::IdentityToken("refresh".into());
        Credentials::keep(&places, "b.example", "me", &token).unwrap();
        let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            kept,
            json!({"detachKeys": "ctrl-x", "x": [1, {"y": 2.5}], "auths": {"a.example": {},
                "https://index.docker.io/v1/": {"auth": "dTpw"}, "b.example": {"auth": "bWU6", "identitytoken": "refresh"}}})
        );
        let found = Credentials::load(&places).unwrap();
        assert_eq!(found.get("docker.io").unwrap(), Some(password("u", "p")));
        assert_eq!(found.get("b.example").unwrap(), Some(token));
        assert_eq!((found.username("b.example").as_deref(), found.username("c.example")), (Some("me"), None));

        Credentials::forget(&places, "index.docker.io").unwrap();
        Credentials::forget(&places, "nobody.example").unwrap();
        let left = Credentials::load(&places).unwrap();
        assert!(left.get("docker.io").unwrap().is_none() && left.get("b.example").unwrap().is_some());
        let names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["config.json"]);
    }

    #[test]
    fn a_link_and_an_owner_stay() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let (dots, directory) = (root.path().join("dots.json"), root.path().join("docker"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&dots, "{}").unwrap();
        std::os::unix::fs::chown(&dots, Some(1234), Some(2345)).unwrap();
        std::os::unix::fs::symlink(&dots, directory.join("config.json")).unwrap();
        Credentials::keep(&places(&directory), "a.example", "u", &password("u", "p")).unwrap();
        assert!(std::fs::symlink_metadata(directory.join("config.json")).unwrap().is_symlink());
        let meta = std::fs::metadata(&dots).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 2345));
        assert!(std::fs::read_to_string(&dots).unwrap().contains("a.example"));
    }

    #[test]
    fn damaged_files_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("config.json");
        for text in ["{", "[]", r#"{"auths": 7}"#] {
            std::fs::write(&path, text).unwrap();
            let error = Credentials::keep(&places(root.path()), "a.example", "u", &password("u", "p")).unwrap_err();
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let nowhere = Places::default();
        assert!(matches!(Credentials::forget(&nowhere, "a.example"), Err(AuthError::NoHome)));
    }

    #[test]
    fn logins_at_once_are_all_kept() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let places = &places;
                let name = format!("r{number}.example");
                scope.spawn(move || Credentials::keep(places, &name, "u", &password("u", "p")).unwrap());
            }
        });
        let found = Credentials::load(&places).unwrap();
        assert!((0..8).all(|number| found.get(&format!("r{number}.example")).unwrap().is_some()));
    }
}
