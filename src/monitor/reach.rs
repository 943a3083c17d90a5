//! Health checks that need nothing of the image: a connection, or one HTTP
//! request, made by the `probe` child from inside the container's network
//! namespace. No program of the container is run for them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use umiak_runtime::config::NetNs;

use crate::engine::health::Reach;

/// The longest status line that is looked at.
const HEAD: u64 = 1024;

/// Makes the check; the exit code and what is to be said.
pub fn check(reach: &Reach, netns: &NetNs, timeout: Duration) -> (i32, String) {
    match enter(netns).and_then(|()| ask(reach, timeout)) {
        Ok(said) => (0, said),
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

fn ask(reach: &Reach, timeout: Duration) -> Result<String> {
    let deadline = Instant::now() + timeout;
    match reach {
        Reach::Tcp(address) => connect(address, deadline).map(|_| format!("{address} accepts connections")),
        Reach::Http(url) => {
            let plain = url.strip_prefix("http://").unwrap_or(url);
            let (address, path) = plain.split_once('/').unwrap_or((plain, ""));
            let mut stream = connect(address, deadline)?;
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            stream.set_read_timeout(Some(left)).context("set a deadline")?;
            stream.set_write_timeout(Some(left)).context("set a deadline")?;
            let request = format!("GET /{path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: umiak\r\n\r\n");
            stream.write_all(request.as_bytes()).context("send the request")?;
            let mut head = Vec::new();
            // One that goes on after its status line is not waited for.
            let mut limited = stream.take(HEAD);
            let mut byte = [0_u8; 1];
            while limited.read(&mut byte).context("read the answer")? == 1
                && byte != *b"\n"
                && Instant::now() < deadline
            {
                head.extend(byte);
            }
            let line = String::from_utf8_lossy(&head).trim().to_owned();
            match line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()) {
                Some(200..=399) => Ok(line),
                _ => bail!("GET /{path}: {line}"),
            }
        }
    }
}

/// `:PORT` is on the container's own loopback, IPv4 or IPv6.
fn connect(address: &str, deadline: Instant) -> Result<TcpStream> {
    let all: Vec<SocketAddr> = match address.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().with_context(|| format!("{address}: a port is expected"))?;
            vec![([127, 0, 0, 1], port).into(), ([0, 0, 0, 0, 0, 0, 0, 1_u16], port).into()]
        }
        None => address.to_socket_addrs().with_context(|| format!("{address}: HOST:PORT is expected"))?.collect(),
    };
    let mut last = None;
    for target in all {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&target, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => drop(last.get_or_insert(error)),
        }
    }
    match last {
        Some(error) => Err(error).with_context(|| format!("connect to {address}")),
        None => bail!("{address}: no address"),
    }
}
