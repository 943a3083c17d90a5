//! TLS in front of a syslog receiver: whom to trust, who we are, and a session
//! that never blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use umiak_base::tls::{self, Trust};

use super::LogError;

/// The driver's options about TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// `syslog-tls-ca-cert`: trusted besides the system's roots.
    pub ca: Option<PathBuf>,
    /// `syslog-tls-cert`: our own certificate.
    pub cert: Option<PathBuf>,
    /// `syslog-tls-key`: its key.
    pub key: Option<PathBuf>,
    /// `syslog-tls-skip-verify`: any receiver is trusted.
    pub skip_verify: bool,
}

/// How sessions with one receiver begin.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the files.
    pub fn new(options: &TlsOptions, host: &str, receiver: &str) -> Result<Self, LogError> {
        let refused = |source| LogError::TlsSetup { receiver: receiver.to_owned(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = options.ca.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let trust = if options.skip_verify {
            Trust::in_anyone(Arc::clone(&provider))
        } else {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots.add_parsable_certificates(own.iter().cloned());
            Trust::new(roots, own, Arc::clone(&provider))
                .map_err(|error| refused(rustls::Error::General(error.to_string())))?
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let config = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => {
                builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(refused)?
            }
            _ => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| refused(rustls::Error::General(error.to_string())))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// A session that is to begin.
    pub fn session(&self) -> io::Result<Session> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(invalid)?;
        Ok(Session(Box::new(connection)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LogError> {
    tls::certificates(path).map_err(|source| LogError::Certificate { path: path.to_owned(), source })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LogError> {
    let failed = |source| LogError::Certificate { path: path.to_owned(), source };
    let pem = std::fs::read(path).map_err(failed)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| failed(invalid(error)))
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// A session over a socket that does not block.
#[derive(Debug)]
pub(super) struct Session(Box<ClientConnection>);

impl Session {
    /// What to wait for before it can go on; `waiting`: there is something to send.
    pub fn events(&self, waiting: bool) -> PollFlags {
        match (self.0.wants_write(), self.0.is_handshaking()) {
            (true, _) => PollFlags::OUT,
            (false, true) => PollFlags::IN,
            (false, false) if waiting => PollFlags::OUT,
            (false, false) => PollFlags::empty(),
        }
    }

    /// Reads what has come and writes what is at hand; whether messages can be sent by now.
    pub fn exchange(&mut self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let mut socket = Socket(fd);
        loop {
            while self.0.wants_write() {
                match self.0.write_tls(&mut socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    result => result?,
                };
            }
            match self.0.read_tls(&mut socket) {
                Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(!self.0.is_handshaking()),
                Err(error) => return Err(error),
            }
            if let Err(error) = self.0.process_new_packets() {
                // The other side is told why.
                let _ = self.0.write_tls(&mut socket);
                return Err(invalid(error));
            }
            // A receiver has nothing to say.
            let mut sink = [0; 512];
            while self.0.reader().read(&mut sink).is_ok_and(|count| count > 0) {}
        }
    }

    /// Sends some of a message.
    pub fn send(&mut self, fd: BorrowedFd<'_>, message: &[u8]) -> Result<usize, Errno> {
        let lost = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::CONNRESET);
        if !self.exchange(fd).map_err(lost)? {
            return Err(Errno::AGAIN);
        }
        let count = self.0.writer().write(message).unwrap_or(0);
        self.exchange(fd).map_err(lost)?;
        if count == 0 { Err(Errno::AGAIN) } else { Ok(count) }
    }

    /// Says that nothing more comes.
    pub fn close(&mut self, fd: BorrowedFd<'_>) {
        self.0.send_close_notify();
        let _ = self.exchange(fd);
    }
}

struct Socket<'a>(BorrowedFd<'a>);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::read(self.0, &mut *buffer))?)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::io::retry_on_intr(|| rustix::net::send(self.0, bytes, flags))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
