//! Whom to trust: the system's roots, and a registry's own CA file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::failure::Failure;

/// rustls with ring. The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are
/// honoured) are read only when TLS is `used`.
pub(super) fn config(used: bool, ca_file: Option<&Path>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    if used {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "some of the system's certificates cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let setup = |source| Failure::TlsSetup { source };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let Some(path) = ca_file else {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    };
    let refused = |source| Failure::CaFile { path: path.to_owned(), source };
    let own = read(path).map_err(refused)?;
    for certificate in &own {
        roots.add(certificate.clone()).map_err(|error| refused(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| refused(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let verifier = Arc::new(OwnCertificates { own, verifier, provider });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn read(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let pem = std::fs::read(path)?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| invalid(error.to_string()))?;
    if certificates.is_empty() {
        return Err(invalid("no certificate in PEM form in it".to_owned()));
    }
    Ok(certificates)
}

/// Trusts a server whose certificate itself stands in the CA file, as Docker does.
///
/// Docker's manual makes a registry's certificate with `openssl req -x509`,
/// which is a CA and a server at once; webpki refuses those as servers.
#[derive(Debug)]
struct OwnCertificates {
    own: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OwnCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(_) if self.own.iter().any(|own| own.as_ref() == end_entity.as_ref()) => {
                // The file vouches for exactly this certificate; that it is
                // meant for this host is still to be seen.
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
