//! Credential helpers: `docker-credential-NAME get`, the registry on stdin, a
//! JSON answer on stdout; `store` and `erase` in the same way.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde_json::json;

use super::AuthError;

/// A helper may ask its user for a passphrase, so it gets a while.
const TIME: Duration = Duration::from_secs(60);
/// What a helper says of a registry that it does not know.
const UNKNOWN: &str = "credentials not found";
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The user and group a config file belongs to.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
    home: Option<PathBuf>,
}

impl Owner {
    /// The owner, if we are root and it is someone else: a program named by a
    /// user's file must not run as root.
    pub(super) fn other_than_us(uid: u32, gid: u32) -> Option<Self> {
        if uid == 0 || !rustix::process::geteuid().is_root() {
            return None;
        }
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
        let gid = user.as_ref().map_or(gid, |user| user.gid.as_raw());
        Some(Self { uid, gid, home: user.map(|user| user.dir) })
    }
}

/// One helper of a config file.
pub(super) struct Helper<'a> {
    pub(super) config: &'a Path,
    pub(super) name: &'a str,
    pub(super) owner: Option<&'a Owner>,
    pub(super) search: Option<&'a OsStr>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// Kills and reaps a helper that is left alone.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a child that is gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Helper<'_> {
    /// User and secret for `key`; `None` when the helper knows none.
    pub(super) fn get(&self, key: &str) -> Result<Option<(String, String)>, AuthError> {
        let answer = match self.run("get", key, key.as_bytes()) {
            Err(AuthError::HelperFailed { message, .. }) if message.contains(UNKNOWN) => return Ok(None),
            other => other?,
        };
        let answer: Answer = serde_json::from_slice(&answer).map_err(|source| AuthError::HelperAnswer {
            program: self.program(),
            registry: key.to_owned(),
            source,
        })?;
        Ok((!answer.secret.is_empty()).then_some((answer.username, answer.secret)))
    }

    /// Gives user and secret for `key` to the helper.
    pub(super) fn store(&self, key: &str, username: &str, secret: &str) -> Result<(), AuthError> {
        let input = json!({ "ServerURL": key, "Username": username, "Secret": secret }).to_string();
        self.run("store", key, input.as_bytes()).map(drop)
    }

    /// Has the helper forget `key`.
    pub(super) fn erase(&self, key: &str) -> Result<(), AuthError> {
        match self.run("erase", key, key.as_bytes()) {
            Err(AuthError::HelperFailed { message, .. }) if message.contains(UNKNOWN) => Ok(()),
            other => other.map(drop),
        }
    }

    fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    fn run(&self, action: &str, key: &str, input: &[u8]) -> Result<Vec<u8>, AuthError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !self.name.bytes().all(good) {
            return Err(AuthError::HelperName { path: self.config.to_owned(), name: self.name.to_owned() });
        }
        let program = self.program();
        let start = |source| AuthError::HelperStart { program: program.clone(), source };
        let mut child = Running(self.command(&program, action).spawn().map_err(start)?);
        if let Some(mut stdin) = child.0.stdin.take() {
            // A helper that ends without reading is judged by its answer.
            drop(stdin.write_all(input));
        }
        let answer = read_until(&mut child.0, Instant::now() + TIME).map_err(start)?.ok_or_else(|| {
            AuthError::HelperTimeout { program: program.clone(), registry: key.to_owned(), seconds: TIME.as_secs() }
        })?;
        let status = child.0.wait().map_err(start)?;
        if status.success() {
            return Ok(answer);
        }
        let message = printable(&String::from_utf8_lossy(&answer));
        let message = if message.is_empty() { status.to_string() } else { message };
        Err(AuthError::HelperFailed { program, registry: key.to_owned(), message })
    }

    fn command(&self, program: &str, action: &str) -> Command {
        let path = self.search.map(OsStr::to_owned).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
        let found = std::env::split_paths(&path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(program))
            .find(|file| file.is_file());
        let mut command = Command::new(found.unwrap_or_else(|| PathBuf::from(program)));
        command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
            if let Some(home) = &owner.home {
                command.env("HOME", home);
            }
        }
        command
    }
}

/// All that the child writes before it closes stdout; `None` when the time is up.
fn read_until(child: &mut Child, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut answer = Vec::new();
    let Some(stdout) = child.stdout.as_mut() else { return Ok(Some(answer)) };
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        let ready = match poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if ready == 0 {
            return Ok(None);
        }
        let read = stdout.read(&mut buffer)?;
        answer.extend(buffer.iter().take(read));
        if read == 0 || answer.len() > MAX_ANSWER {
            return Ok(Some(answer));
        }
    }
}

/// One line without control characters, for messages.
fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::{AuthError, Credential, Credentials};

    /// A directory with one helper, a shell script.
    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new(script: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let program = directory.path().join("docker-credential-test");
            let text = directory.path().join("script");
            std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
            // Another process writes the program: a descriptor of ours that a parallel test's
            // child inherits for a moment would make it "text file busy".
            let installed = Command::new("install").args(["-m", "755"]).arg(&text).arg(&program).status().unwrap();
            assert!(installed.success());
            Self(directory)
        }

        fn credentials(&self, json: &str) -> Credentials {
            let path = self.0.path().join("config.json");
            std::fs::write(&path, json).unwrap();
            Credentials::from_file(&path).unwrap().unwrap().with_helper_path(self.0.path())
        }
    }

    #[test]
    fn helper_is_asked_for_its_registry() {
        let fixture = Fixture::new(
            r#"test "$1" = get || exit 9; IFS= read -r url
               printf '{"ServerURL":"%s","Username":"who","Secret":"for %s"}' "$url" "$url""#,
        );
        let found = fixture.credentials(
            r#"{"credHelpers": {"a.example": "test", "docker.io": "test"}, "auths": {"b.example": {"auth": "dTpw"}}}"#,
        );
        let expected = |secret: &str| Some(Credential::Password { username: "who".into(), password: secret.into() });
        assert_eq!(found.get("a.example").unwrap(), expected("for a.example"));
        assert_eq!(found.get("docker.io").unwrap(), expected("for https://index.docker.io/v1/"));
        assert!(
            matches!(found.get("b.example").unwrap(), Some(Credential::Password { username, .. }) if username == "u")
        );
        let found = fixture.credentials(r#"{"credsStore": "test"}"#);
        assert_eq!(found.get("any.example").unwrap(), expected("for any.example"));
    }

    #[test]
    fn a_helper_keeps_and_forgets() {
        let fixture = Fixture::new(
            r#"file="$(dirname "$0")/kept"
               case "$1" in
               get) test -e "$file" || { echo 'credentials not found in native keychain'; exit 1; }; cat "$file";;
               store) cat > "$file";;
               erase) rm "$file";;
               esac"#,
        );
        let config = fixture.0.path().join("config.json");
        for (json, registry, key) in [
            (r#"{"credsStore": "test"}"#, "a.example:5000", "a.example:5000"),
            (r#"{"credHelpers": {"docker.io": "test"}}"#, "docker.io", "https://index.docker.io/v1/"),
        ] {
            std::fs::write(&config, json).unwrap();
            let given = Credential::Password { username: "who".into(), password: "geheim\"".into() };
            let found = Credentials::from_file(&config).unwrap().unwrap().with_helper_path(fixture.0.path());
            assert!(found.get(registry).unwrap().is_none());
            found.helper("test").store(key, "who", "geheim\"").unwrap();
            let kept = std::fs::read_to_string(fixture.0.path().join("kept")).unwrap();
            assert!(kept.contains(&format!("\"ServerURL\":\"{key}\"")), "{kept}");
            assert_eq!(found.get(registry).unwrap(), Some(given));
            assert_eq!(found.username(registry).as_deref(), Some("who"));
            found.helper("test").erase(key).unwrap();
            assert!(found.get(registry).unwrap().is_none());
        }
    }

    #[test]
    fn token_user_means_identity_token() {
        let fixture = Fixture::new(r#"echo '{"Username":"<token>","Secret":"refresh"}'"#);
        let found = fixture.credentials(r#"{"credsStore": "test"}"#);
        assert_eq!(found.get("a.example").unwrap(), Some(Credential::IdentityToken("refresh".into())));
    }

    #[test]
    fn unknown_registries_fall_back_to_auths() {
        let fixture = Fixture::new("echo 'credentials not found in native keychain'; exit 1");
        let found = fixture.credentials(r#"{"credsStore": "test", "auths": {"a.example": {"auth": "dTpw"}}}"#);
        assert!(found.get("a.example").unwrap().is_some());
        assert!(found.get("b.example").unwrap().is_none());
    }

    #[test]
    fn failures_are_named() {
        let fixture = Fixture::new("echo 'the vault is locked'; exit 1");
        let found = fixture.credentials(r#"{"credsStore": "test"}"#);
        let error = found.get("a.example").unwrap_err();
        assert_eq!(
            error.to_string(),
            "credential helper docker-credential-test failed for a.example: the vault is locked"
        );
        let fixture = Fixture::new("echo nonsense");
        let found = fixture.credentials(r#"{"credsStore": "test"}"#);
        assert!(matches!(found.get("a.example"), Err(AuthError::HelperAnswer { .. })));
        let found = fixture.credentials(r#"{"credsStore": "missing"}"#);
        assert!(matches!(found.get("a.example"), Err(AuthError::HelperStart { .. })));
        let found = fixture.credentials(r#"{"credsStore": "../../tmp/evil"}"#);
        assert!(matches!(found.get("a.example"), Err(AuthError::HelperName { .. })));
    }
}
