//! A registry that does what a test's script says: for faults that a real one
//! does not have on request.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as the fake saw it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// How many requests for the same path (without the query) came before.
    pub number: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte of a `Range: bytes=N-`.
    pub fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// The connection closes after so many bytes.
    Cut(usize),
    /// Nothing more comes after so many bytes.
    Stall(usize),
    /// One byte at a time with pauses.
    Drip,
    /// The body again and again, for as long as the client reads.
    Endless,
}

/// What the fake answers.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
    end: End,
    raw: Option<Vec<u8>>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), chunked: false, end: End::Whole, raw: None }
    }

    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200).body(body)
    }

    /// A part of `whole` if the request asks for one, else all of it.
    pub fn blob(request: &Request, whole: &[u8]) -> Self {
        match request.range() {
            Some(from) => Self::new(206)
                .header("Content-Range", &format!("bytes {from}-{}/{}", whole.len() - 1, whole.len()))
                .body(&whole[from..]),
            None => Self::ok(whole),
        }
    }

    /// Bytes that need not be HTTP.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: Some(bytes.into()), ..Self::new(0) }
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without Content-Length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    log: Mutex<Vec<Request>>,
    sent: AtomicU64,
    stop: AtomicBool,
    /// `/v2/` goes to the script, too.
    closed: bool,
}

/// The running fake; ends when dropped.
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Serves `script` on an ephemeral loopback port. `/v2/` answers 200 by itself.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(script, false)
    }

    /// The same, but for `/v2/`, which the script answers.
    pub fn closed(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(script, true)
    }

    fn with(script: impl Fn(&Request) -> Reply + Send + Sync + 'static, closed: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            log: Mutex::default(),
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            closed,
        });
        let acceptor = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if acceptor.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, Ok(stream)) = (Arc::clone(&acceptor), stream) else { continue };
                // Ends when the client closes, at the latest with the fake's stop.
                std::thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// All requests but those for `/v2/`.
    pub fn log(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The requests whose path contains `part`.
    pub fn requests(&self, part: &str) -> Vec<Request> {
        self.log().into_iter().filter(|request| request.path.contains(part)).collect()
    }

    /// Body bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(mut request) = read_request(&mut reader)? {
        let path = request.path.split('?').next().unwrap_or_default().to_owned();
        if path == "/v2/" && !shared.closed {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        {
            let mut log = shared.log.lock().unwrap();
            request.number = log.iter().filter(|other| other.path.split('?').next() == Some(&path)).count();
            log.push(request.clone());
        }
        let reply = (shared.script)(&request);
        if !answer(shared, &mut writer, &reply)? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let values = headers.entry(name.to_ascii_lowercase()).or_default();
        if !values.is_empty() {
            values.push_str(", ");
        }
        values.push_str(value.trim());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Request { method, path, headers, body, number: 0 }))
}

/// Whether the connection may serve another request.
fn answer(shared: &Shared, writer: &mut TcpStream, reply: &Reply) -> io::Result<bool> {
    if let Some(raw) = &reply.raw {
        writer.write_all(raw)?;
        return Ok(false);
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let own_length = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if reply.chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    } else if !own_length {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes())?;
    let send = |writer: &mut TcpStream, part: &[u8]| -> io::Result<()> {
        if reply.chunked {
            write!(writer, "{:x}\r\n", part.len())?;
        }
        // Counted first: whoever has read the bytes must find them counted.
        shared.sent.fetch_add(part.len() as u64, Ordering::SeqCst);
        writer.write_all(part)?;
        if reply.chunked { writer.write_all(b"\r\n") } else { Ok(()) }
    };
    match reply.end {
        End::Whole => {
            if !reply.body.is_empty() {
                send(writer, &reply.body)?;
            }
            if reply.chunked {
                writer.write_all(b"0\r\n\r\n")?;
            }
            return Ok(!own_length);
        }
        End::Cut(after) => send(writer, &reply.body[..after])?,
        End::Stall(after) => {
            send(writer, &reply.body[..after])?;
            wait_for_close(shared, writer)?;
        }
        End::Drip => {
            for byte in reply.body.chunks(1) {
                send(writer, byte)?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        End::Endless => loop {
            send(writer, &reply.body)?;
        },
    }
    Ok(false)
}

/// Until the client hangs up or the fake is dropped.
fn wait_for_close(shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    while !shared.stop.load(Ordering::SeqCst) {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
