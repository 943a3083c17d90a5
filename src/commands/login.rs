//! `login` and `logout`: credentials for registries, kept where Docker keeps them.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use umiak_images::auth::{Credential, Credentials, Kept, key_of};
use umiak_images::registries::{Registries, canonical};
use umiak_images::registry::{Client, RegistryError};

use crate::engine::attach::RawTerminal;
use crate::engine::docker_config;
use crate::failure::{Exit, Plain};
use crate::personality::Personality;
use crate::{note, out};

/// Authenticate to a registry.
#[derive(Debug, Args)]
pub struct Login {
    /// Username
    #[arg(short, long)]
    username: Option<String>,
    /// Password or Personal Access Token (PAT): others can see it, --password-stdin is better
    #[arg(short, long)]
    password: Option<String>,
    /// Take the password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// The registry; Docker Hub if none
    server: Option<String>,
}

/// Log out from a registry.
#[derive(Debug, Args)]
pub struct Logout {
    /// The registry; Docker Hub if none
    server: Option<String>,
}

/// The registry that people mean by a host or a URL.
fn registry(server: Option<&str>) -> String {
    let server = server.unwrap_or("docker.io");
    let host = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    canonical(host.split('/').next().unwrap_or_default())
}

fn wrong(text: &str) -> anyhow::Error {
    Plain(text.to_owned()).into()
}

/// These begin with `Error:` under Docker, and here with ours.
fn failed(text: &str) -> anyhow::Error {
    match Personality::current() {
        Personality::Docker => Plain(format!("Error: {text}")).into(),
        _ => anyhow::anyhow!("{text}"),
    }
}

impl Login {
    /// Runs the command.
    pub fn run(self, registries: &Path) -> Result<ExitCode> {
        let registry = registry(self.server.as_deref());
        let places = docker_config::places();
        let known = Credentials::load(&places)?;
        let client = Client::new(
            Registries::load(registries)?,
            Credentials::none(),
            concat!("umiak/", env!("CARGO_PKG_VERSION")),
        )?;
        let password = self.secret()?;
        if self.username.is_none() && password.is_none() && existing(&client, &known, &registry)? {
            out!("Login Succeeded");
            return Ok(ExitCode::SUCCESS);
        }
        let (username, password) = ask(&registry, &known, self.username.as_deref(), password)?;
        let credential = Credential::Password { username: username.clone(), password };
        let refresh = client.login(&registry, &credential).map_err(reason)?;
        let credential = refresh.map_or(credential, Credential::IdentityToken);
        if let Kept::File { path, changed: true } = Credentials::keep(&places, &registry, &username, &credential)? {
            note!(
                "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
                 Configure a credential helper to remove this warning. See\n\
                 https://docs.docker.com/go/credential-store/\n",
                path.display()
            );
        }
        out!("Login Succeeded");
        Ok(ExitCode::SUCCESS)
    }

    /// The password that the command line gives, or leads to.
    fn secret(&self) -> Result<Option<String>> {
        if self.password_stdin {
            if self.password.is_some() {
                return Err(wrong("conflicting options: cannot specify both --password and --password-stdin"));
            }
            if self.username.as_deref().unwrap_or_default().is_empty() {
                return Err(wrong("the --password-stdin option requires --username to be set"));
            }
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("read the password")?;
            return Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()).filter(|text| !text.is_empty()));
        }
        if self.username.as_deref() == Some("") {
            return Err(wrong("username is empty"));
        }
        match &self.password {
            Some(password) if password.is_empty() => Err(wrong("password is empty")),
            Some(password) => {
                note!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
                Ok(Some(password.clone()))
            }
            None => Ok(None),
        }
    }
}

/// Why a registry did not accept a login, without saying twice that it was one.
fn reason(error: RegistryError) -> anyhow::Error {
    match error {
        RegistryError::Login { source, .. } => anyhow::Error::new(*source),
        other => other.into(),
    }
}

/// Tries the credentials that are kept already; whether there were any, and they are good.
fn existing(client: &Client, known: &Credentials, registry: &str) -> Result<bool> {
    let Some(credential) = known.get(registry)? else { return Ok(false) };
    let user = known.username(registry).map(|user| format!(" [Username: {user}]")).unwrap_or_default();
    note!("Authenticating with existing credentials...{user}");
    let program = if Personality::current() == Personality::Docker { "docker" } else { "umiak" };
    note!("\n Info -> To login with a different account, run '{program} logout' followed by '{program} login'\n\n");
    match client.login(registry, &credential) {
        Ok(_) => Ok(true),
        Err(error) => {
            note!("Login did not succeed, error: {}", crate::failure::one_line(&reason(error)));
            Ok(false)
        }
    }
}

/// Asks for what is missing; without a terminal nobody can answer.
fn ask(
    registry: &str,
    known: &Credentials,
    username: Option<&str>,
    password: Option<String>,
) -> Result<(String, String)> {
    if let (Some(username), Some(password)) = (username, &password) {
        return Ok((username.to_owned(), password.clone()));
    }
    if !std::io::stdin().is_terminal() {
        return Err(failed("Cannot perform an interactive login from a non TTY device"));
    }
    let username = match username {
        Some(username) => username.to_owned(),
        None => ask_username(known.username(registry))?,
    };
    let password = match password {
        Some(password) => password,
        None => ask_password()?,
    };
    Ok((username, password))
}

fn ask_username(default: Option<String>) -> Result<String> {
    match &default {
        Some(default) => prompt(&format!("Username ({default}): ")),
        None => prompt("Username: "),
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("read the username")?;
    let given = Some(line.trim().to_owned()).filter(|line| !line.is_empty());
    given.or(default).ok_or_else(|| failed("Non-null Username Required"))
}

fn ask_password() -> Result<String> {
    let password = read_secret("Password: ");
    // The end of the line was not shown, either.
    out!("");
    let password = password?.ok_or(Exit(130))?;
    if password.is_empty() { Err(failed("Password Required")) } else { Ok(password) }
}

fn prompt(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// One line that is not shown; `None` at Ctrl-C, which must not end the program before the terminal is as it was.
fn read_secret(question: &str) -> Result<Option<String>> {
    // Silent before anybody can answer.
    let _silent = RawTerminal::enter_secret()?;
    prompt(question);
    let mut line = Vec::new();
    loop {
        let mut byte = [0_u8];
        let count = loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.context("read the password")?,
            }
        };
        match byte[0] {
            _ if count == 0 => break,
            b'\n' | b'\r' | 4 => break,
            3 => return Ok(None),
            8 | 127 => drop(line.pop()),
            21 => line.clear(),
            other => line.push(other),
        }
    }
    Ok(Some(String::from_utf8(line).context("the password is not UTF-8")?))
}

impl Logout {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        let registry = registry(self.server.as_deref());
        out!("Removing login credentials for {}", key_of(&registry));
        Credentials::forget(&docker_config::places(), &registry).context("could not erase credentials")?;
        Ok(ExitCode::SUCCESS)
    }
}
