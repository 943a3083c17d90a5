//! A connection to a registry that can be cut at a chosen byte of what the
//! client sends, and that notes the requests.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

struct Shared {
    target: String,
    /// Bytes from the client after which its connection is cut, one after the other.
    cuts: Mutex<Vec<u64>>,
    sent: AtomicU64,
    requests: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// The running proxy; ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Leads to `target`, and cuts connections when so many bytes in all have come from the client.
    pub fn start(target: &str, cuts: impl IntoIterator<Item = u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            cuts: Mutex::new(cuts.into_iter().collect()),
            sent: AtomicU64::new(0),
            requests: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let acceptor = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if acceptor.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, Ok(client)) = (Arc::clone(&acceptor), stream) else { continue };
                std::thread::spawn(move || drop(serve(&shared, &client)));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Bytes that have come from clients.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// `METHOD /path` of the requests that begin with `start`.
    pub fn requests(&self, start: &str) -> Vec<String> {
        self.shared.requests.lock().unwrap().iter().filter(|line| line.starts_with(start)).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(shared: &Shared, client: &TcpStream) -> io::Result<()> {
    let server = TcpStream::connect(&shared.target)?;
    let (mut back, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let answers = std::thread::spawn(move || {
        drop(io::copy(&mut back, &mut to_client));
        drop(to_client.shutdown(Shutdown::Both));
    });
    let mut buffer = vec![0; 16 << 10];
    let (mut from, mut to) = (client, &server);
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            break;
        }
        note(shared, &buffer[..count]);
        let before = shared.sent.fetch_add(count as u64, Ordering::SeqCst);
        let cut = {
            let mut cuts = shared.cuts.lock().unwrap();
            let due = cuts.first().is_some_and(|cut| before + count as u64 >= *cut);
            due.then(|| cuts.remove(0))
        };
        if let Some(cut) = cut {
            let part = usize::try_from(cut.saturating_sub(before)).unwrap_or(0).min(count);
            drop(to.write_all(&buffer[..part]));
            drop(client.shutdown(Shutdown::Both));
            break;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(server.shutdown(Shutdown::Write));
    drop(answers.join());
    Ok(())
}

/// A request begins a packet: the client sends nothing before it has its answer.
fn note(shared: &Shared, bytes: &[u8]) {
    let Some(line) = bytes.split(|byte| *byte == b'\r').next() else { return };
    let Ok(line) = std::str::from_utf8(line) else { return };
    if let Some(request) = line.strip_suffix(" HTTP/1.1") {
        shared.requests.lock().unwrap().push(request.to_owned());
    }
}
