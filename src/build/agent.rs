//! An SSH agent for a RUN: a socket of its own that leads to the user's agent,
//! or to one that holds the keys that were given.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::options::Ssh;
use crate::engine::roots::with_short_path;
use crate::failure::WithHint as _;

/// How long `ssh-agent` has to come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that leads to an agent, for as long as this lives.
pub struct Agent {
    socket: PathBuf,
    over: Arc<AtomicBool>,
    /// One that was started for this.
    own: Option<Child>,
}

impl Agent {
    /// Makes the socket in `dir`.
    pub fn start(ssh: &Ssh, dir: &Path, (uid, gid): (u32, u32), mode: u32) -> Result<Self> {
        let (target, own) = target(ssh, dir)?;
        let socket = dir.join("agent.sock");
        let failed = || format!("make the socket {}", socket.display());
        let listener = with_short_path(&socket, |path| UnixListener::bind(path)).with_context(failed)?;
        std::os::unix::fs::chown(&socket, Some(uid), Some(gid)).with_context(failed)?;
        std::fs::set_permissions(&socket, Permissions::from_mode(mode)).with_context(failed)?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        std::thread::Builder::new()
            .name("ssh agent".into())
            .spawn(move || {
                for client in listener.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let (Ok(client), Ok(agent)) = (client, with_short_path(&target, |path| UnixStream::connect(path)))
                    else {
                        continue;
                    };
                    // What fails here is seen by whoever asked.
                    let _ = join(client, agent);
                }
            })
            .context("start a thread")?;
        Ok(Self { socket, over, own })
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes up who waits for clients.
        let _ = with_short_path(&self.socket, |path| UnixStream::connect(path));
        if let Some(own) = &mut self.own {
            let _ = own.kill();
            let _ = own.wait();
        }
    }
}

/// Passes bytes both ways until both sides have ended.
fn join(client: UnixStream, agent: UnixStream) -> std::io::Result<()> {
    let (client_too, agent_too) = (client.try_clone()?, agent.try_clone()?);
    for (from, to) in [(client, agent), (agent_too, client_too)] {
        std::thread::Builder::new().name("ssh agent".into()).spawn(move || pass(from, to))?;
    }
    Ok(())
}

fn pass(mut from: UnixStream, mut to: UnixStream) {
    let mut buffer = [0_u8; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// The socket of the agent that is meant.
fn target(ssh: &Ssh, dir: &Path) -> Result<(PathBuf, Option<Child>)> {
    match ssh.paths.as_slice() {
        [] => match std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()) {
            Some(path) => Ok((PathBuf::from(path), None)),
            None => Err(anyhow::anyhow!("invalid empty ssh agent socket: SSH_AUTH_SOCK is not set")).hint(|| {
                format!("start an agent (`eval $(ssh-agent); ssh-add`), or name a key: --ssh {}=FILE", ssh.id)
            }),
        },
        [path] if is_socket(path) => Ok((path.clone(), None)),
        keys => of_keys(keys, dir),
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// An agent with these keys alone.
fn of_keys(keys: &[PathBuf], dir: &Path) -> Result<(PathBuf, Option<Child>)> {
    let socket = dir.join("keys.sock");
    let mut child = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start ssh-agent")
        .hint(|| {
            "a private key for a build is held by ssh-agent: install openssh-client, or pass an agent's socket".into()
        })?;
    let began = Instant::now();
    while !is_socket(&socket) {
        if began.elapsed() > PATIENCE || child.try_wait().ok().flatten().is_some() {
            let _ = child.kill();
            let _ = child.wait();
            bail!("ssh-agent did not come up");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let added = Command::new("ssh-add").args(keys).env("SSH_AUTH_SOCK", &socket).stdin(Stdio::null()).output();
    let added = added.context("start ssh-add");
    match added {
        Ok(output) if output.status.success() => Ok((socket, Some(child))),
        result => {
            let _ = child.kill();
            let _ = child.wait();
            let said = String::from_utf8_lossy(&result?.stderr).trim().to_owned();
            bail!("ssh-add: {said}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_reaches_the_users_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let users = UnixListener::bind(&path).unwrap();
        let answers = std::thread::spawn(move || {
            let (mut client, _) = users.accept().unwrap();
            let mut asked = String::new();
            client.read_to_string(&mut asked).unwrap();
            client.write_all(b"pong").unwrap();
            asked
        });
        let own = dir.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let ssh = Ssh { id: "default".into(), paths: vec![path] };
        let meta = std::fs::metadata(dir.path()).unwrap();
        let owner = (std::os::unix::fs::MetadataExt::uid(&meta), std::os::unix::fs::MetadataExt::gid(&meta));
        let agent = Agent::start(&ssh, &own, owner, 0o600).unwrap();
        let mut client = UnixStream::connect(agent.socket()).unwrap();
        client.write_all(b"ping").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((answers.join().unwrap().as_str(), answer.as_str()), ("ping", "pong"));
    }
}
