//! What tests of the registry client share: clients, sinks, content.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use umiak_images::auth::Credentials;
use umiak_images::digest::{Digest, Hasher};
use umiak_images::manifest::{Descriptor, OCI_LAYER};
use umiak_images::reference::Reference;
use umiak_images::registries::Registries;
use umiak_images::registry::{BlobSink, Client, Policy, RegistryError, Retry};

/// Impatient, so that faults end soon.
pub fn policy() -> Policy {
    Policy {
        retries: 3,
        first_delay: Duration::from_millis(2),
        max_delay: Duration::from_millis(20),
        max_retry_after: Duration::from_secs(2),
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(500),
        commit: Duration::from_secs(2),
        chunk: 1 << 20,
        pace: 64,
        progress: 4096,
    }
}

/// A client without credentials; `registries` is the text of a registries file.
pub fn client(registries: &str) -> Client {
    client_as(registries, Credentials::none())
}

pub fn client_as(registries: &str, credentials: Credentials) -> Client {
    let registries = Registries::parse(registries, Path::new("registries.toml")).unwrap();
    Client::with_policy(registries, credentials, "umiak-test", policy()).unwrap()
}

/// A client that gives a registry time to start.
pub fn patient_client() -> Client {
    let policy =
        Policy { retries: 20, first_delay: Duration::from_millis(50), max_delay: Duration::from_secs(1), ..policy() };
    Client::with_policy(Registries::default(), Credentials::none(), "umiak-test", policy).unwrap()
}

/// Credentials from the text of a config.json.
pub fn credentials(json: &str) -> Credentials {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, json).unwrap();
    Credentials::from_file(&path).unwrap().unwrap()
}

/// Bytes that do not repeat soon.
pub fn content(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub fn layer(content: &[u8]) -> Descriptor {
    Descriptor::new(OCI_LAYER, Digest::of(content), content.len() as u64)
}

pub fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

/// Keeps all it gets.
#[derive(Debug, Default)]
pub struct Keep {
    pub bytes: Vec<u8>,
    pub retries: Vec<Retry>,
}

impl BlobSink for Keep {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn retrying(&mut self, retry: &Retry) {
        self.retries.push(retry.clone());
    }
}

/// Fetches a blob from byte `from` on and checks it whole.
pub fn fetch(client: &Client, image: &Reference, content: &[u8], from: usize) -> Result<Keep, RegistryError> {
    let mut keep = Keep { bytes: content[..from].to_vec(), retries: Vec::new() };
    let received = client.blob(image, &layer(content), from as u64, &mut keep)?;
    assert_eq!(received.fetched(), (content.len() - from) as u64);
    let mut hasher = Hasher::new();
    hasher.update(&keep.bytes);
    drop(received.verify(hasher).unwrap());
    Ok(keep)
}

/// An error with all its causes, as a person sees it.
pub fn shown(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Runs `test` with a deadline: a client that waits for ever must fail a test, not hang it.
pub fn bounded<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(sender.send(test())));
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end within 60 s"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("ended without a value"),
        },
    }
}
