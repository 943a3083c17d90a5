//! A registry that misbehaves: everything is the real one's, but for what a test changes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use crate::harness::Host;

/// Turns the real answer to a path into what is sent; what is sent ends the connection.
pub type Change = dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync;

/// Starts the registry, and makes it the one that a host pulls from.
pub fn serve(host: &Host, change: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    point_to(host, port);
    let change: Arc<Change> = Arc::new(change);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let change = change.clone();
            std::thread::spawn(move || answer(stream, &*change));
        }
    });
}

/// Makes a port of this host the registry that a host pulls from.
pub fn point_to(host: &Host, port: u16) {
    let text = format!("[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:{port}\"]\nmirror_only = true\n");
    std::fs::write(host.path().join("registries.toml"), text).unwrap();
}

fn answer(mut client: TcpStream, change: &Change) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let mut registry = TcpStream::connect("127.0.0.1:5000").ok()?;
    let kept: Vec<&str> =
        head.trim_end().split("\r\n").filter(|line| !line.to_lowercase().starts_with("connection:")).collect();
    write!(registry, "{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).ok()?;
    let mut reply = Vec::new();
    registry.read_to_end(&mut reply).ok()?;
    client.write_all(&change(&path, reply)).ok()
}

/// Where the body of an answer begins.
pub fn body(reply: &[u8]) -> usize {
    reply.windows(4).position(|window| window == b"\r\n\r\n").map_or(reply.len(), |position| position + 4)
}
