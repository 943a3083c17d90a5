//! Whom to trust: the system's roots, and a registry's own CA file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use umiak_base::tls::{Trust, certificates};

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
    let own = certificates(path).map_err(refused)?;
    for certificate in &own {
        roots.add(certificate.clone()).map_err(|error| refused(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    }
    let trust = Trust::new(roots, own, provider);
    let trust = trust.map_err(|error| refused(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(trust)).with_no_client_auth())
}
