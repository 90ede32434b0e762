//! A certificate for this machine's loopback names, and the authority that signed it, made anew each time.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A server's certificate and key, and its authority's certificate as a file.
pub struct Identity {
    acceptor: TlsAcceptor,
    ca: tempfile::NamedTempFile,
}

impl Identity {
    pub fn new() -> Self {
        let ca_key = KeyPair::generate().expect("a key can be generated");
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        ca.distinguished_name.push(DnType::CommonName, "the tests' own authority");
        let ca_certificate = ca.self_signed(&ca_key).expect("the authority signs itself");
        let ca_file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(&ca_file, ca_certificate.pem()).expect("a temporary file can be written");

        let key = KeyPair::generate().expect("a key can be generated");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("these are names");
        let issuer = Issuer::from_params(&ca, &ca_key);
        let certificate = params.signed_by(&key, &issuer).expect("the authority signs");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key is the certificate's");
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), ca: ca_file }
    }

    pub fn ca_file(&self) -> &Path {
        self.ca.path()
    }

    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}
