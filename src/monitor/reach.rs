//! Health checks that need nothing of the image: a connection, or one HTTP
//! request, made by the `probe` child from inside the container's network
//! namespace. No program of the container is run for them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use umiak_runtime::config::NetNs;

use super::probe::too_late;
use crate::engine::health::{Reach, Target};

/// The longest status line that is looked at.
const HEAD: usize = 1024;
/// What is read of the rest of an answer, and for how long: a server that has not sent all of it yet complains.
const REST: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_millis(200);
/// What is read of the file of names: the container may write to it.
const HOSTS: u64 = 1 << 20;

/// Makes the check; the exit code and what is to be said. `hosts` is the container's own file of names.
pub fn check(reach: &Reach, netns: &NetNs, hosts: &Path, timeout: Duration) -> (i32, String) {
    let deadline = Instant::now() + timeout;
    match enter(netns).and_then(|()| ask(&reach.target()?, hosts, deadline)) {
        Ok(said) => (0, said),
        Err(error) if Instant::now() >= deadline => (-1, too_late(timeout, &crate::failure::one_line(&error))),
        Err(error) => (1, crate::failure::one_line(&error)),
    }
}

/// The process ends after the check: it needs not come back.
fn enter(netns: &NetNs) -> Result<()> {
    let NetNs::Path(path) = netns else { return Ok(()) };
    let namespace = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).context("enter the network namespace")
}

fn ask(target: &Target<'_>, hosts: &Path, deadline: Instant) -> Result<String> {
    let mut stream = connect(target, hosts, deadline)?;
    let Some(path) = target.path else { return Ok(format!("{} accepts connections", address(target))) };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let host = match (target.host.unwrap_or("localhost"), target.port) {
        (host, 80) => bracketed(host),
        (host, port) => format!("{}:{port}", bracketed(host)),
    };
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: umiak\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(left(deadline))).context("set a deadline")?;
    stream.write_all(request.as_bytes()).context("send the request")?;
    let mut head = Vec::new();
    let mut chunk = [0_u8; HEAD];
    while head.len() < HEAD && !head.contains(&b'\n') {
        stream.set_read_timeout(Some(left(deadline))).context("set a deadline")?;
        let count = match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("GET {path}: no answer")
            }
            Err(error) => return Err(error).with_context(|| format!("GET {path}")),
        };
        head.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if Instant::now() >= deadline {
            break;
        }
    }
    drain(&mut stream, deadline);
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).trim().to_owned();
    let (version, code) = line.split_once(' ').unwrap_or_default();
    match code.get(..3).and_then(|code| code.parse::<u16>().ok()) {
        Some(200..=399) if version.starts_with("HTTP/") => Ok(line),
        _ if line.is_empty() => bail!("GET {path}: the connection was closed without an answer"),
        _ => bail!("GET {path}: {line}"),
    }
}

/// Reads on a little, so that the server can end what it has begun.
fn drain(stream: &mut TcpStream, deadline: Instant) {
    let deadline = deadline.min(Instant::now() + REST_TIME);
    let _ = stream.shutdown(Shutdown::Write);
    let (mut chunk, mut all) = ([0_u8; 4096], 0);
    while all < REST && Instant::now() < deadline && stream.set_read_timeout(Some(left(deadline))).is_ok() {
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => all += count,
            _ => return,
        }
    }
}

/// A timeout of zero would be none.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn address(target: &Target<'_>) -> String {
    format!("{}:{}", target.host.map(bracketed).unwrap_or_default(), target.port)
}

fn connect(target: &Target<'_>, hosts: &Path, deadline: Instant) -> Result<TcpStream> {
    let mut first = None;
    for ip in addresses(target.host, hosts)? {
        match TcpStream::connect_timeout(&SocketAddr::new(ip, target.port), left(deadline)) {
            Ok(stream) => return Ok(stream),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    match first {
        Some(error) => Err(error).with_context(|| format!("connect to {}", address(target))),
        None => bail!("connect to {}: no such name in the container's /etc/hosts", address(target)),
    }
}

/// The loopback is both, IPv4 and IPv6: servers listen on one of them, or on both.
fn addresses(host: Option<&str>, hosts: &Path) -> Result<Vec<IpAddr>> {
    let Some(host) = host.filter(|host| *host != "localhost") else {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    };
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let mut text = Vec::new();
    std::fs::File::open(hosts)
        .and_then(|file| file.take(HOSTS).read_to_end(&mut text))
        .with_context(|| format!("read {}", hosts.display()))?;
    let of_line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|word| word == host).then_some(ip)
    };
    Ok(String::from_utf8_lossy(&text).lines().filter_map(of_line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_container() {
        let file = std::env::temp_dir().join(format!("umiak-hosts-{}", std::process::id()));
        std::fs::write(&file, "127.0.0.1 localhost\n10.1.2.3\tweb w # db\n# 10.9.9.9 web\nfd00::1 web\n").unwrap();
        let of = |host| addresses(host, &file).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(Some("web")), ["10.1.2.3", "fd00::1"]);
        assert_eq!(of(Some("db")), [""; 0]);
        assert_eq!((of(None), of(Some("localhost"))), (vec!["127.0.0.1".into(), "::1".into()], of(None)));
        assert_eq!(of(Some("::1")), ["::1"]);
        std::fs::remove_file(&file).unwrap();
    }
}
