//! Certificates: trusted, not trusted, of another host, out of date.

use std::{fs, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use reveille_http::Http;
use serde_json::json;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use crate::{
    server::{Server, answer},
    stage::Stage,
};

/// An authority of a test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// What a server for a host needs.
    fn certify(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("parameters");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        TlsAcceptor::from(Arc::new(config))
    }

    fn write_to(&self, dir: &TempDir) -> String {
        let path = dir.path().join("ca.pem");
        fs::write(&path, self.0.pem()).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_an_error() {
    let authority = Authority::new();
    let server = Server::with_tls(authority.certify("127.0.0.1", |_| {}), answer(200, &[], "")).await;
    let message = Stage::new().error(&Http::get(server.url("/"))).await;
    assert!(message.contains("gave no answer") && message.contains("UnknownIssuer"), "{message}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_connection_trusts_the_authority_in_its_file() {
    let (authority, dir) = (Authority::new(), TempDir::new().expect("a directory"));
    let file = authority.write_to(&dir);
    let server = Server::with_tls(authority.certify("127.0.0.1", |_| {}), answer(200, &[], "")).await;
    let mut stage = Stage::with_connection("api", json!({"url": server.url(""), "ca_file": file}));
    for _ in 0..3 {
        stage.fired(&Http::get("/").connection("api")).await;
    }
    // One client, and so one connection, for all looks by one file.
    assert!(server.asked().iter().all(|asked| asked.connection == 0));

    // An authority that takes the other's place is trusted from the next look on.
    let other = Authority::new();
    other.write_to(&dir);
    let message = stage.error(&Http::get("/").connection("api")).await;
    assert!(message.contains("certificate"), "{message}");
}

#[tokio::test]
async fn a_certificate_of_another_host_or_out_of_date_is_an_error() {
    let (authority, dir) = (Authority::new(), TempDir::new().expect("a directory"));
    let file = authority.write_to(&dir);
    let of_another = authority.certify("elsewhere.example", |_| {});
    let expired = authority.certify("127.0.0.1", |params| params.not_after = date_time_ymd(2020, 1, 1));
    for (tls, part) in [(of_another, "not valid for"), (expired, "expired")] {
        let server = Server::with_tls(tls, answer(200, &[], "")).await;
        let mut stage = Stage::with_connection("api", json!({"url": server.url(""), "ca_file": file}));
        let message = stage.error(&Http::get("/").connection("api")).await;
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let http = Http::get(format!("https://{}/", listener.local_addr().expect("an address")));
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nspeak plainly").await
    });
    let message = Stage::new().error(&http).await;
    assert!(message.contains("gave no answer") && message.contains("InvalidContentType"), "{message}");
    answering.await.expect("a server").expect("an answer");
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_not_followed() {
    let (authority, dir) = (Authority::new(), TempDir::new().expect("a directory"));
    let plain = Server::saying(answer(200, &[], "")).await;
    let moved = answer(302, &[("location", &plain.url("/"))], "");
    let server = Server::with_tls(authority.certify("127.0.0.1", |_| {}), moved).await;
    let table = json!({"url": server.url(""), "ca_file": authority.write_to(&dir)});
    let message = Stage::with_connection("api", table).error(&Http::get("/").connection("api")).await;
    assert!(message.contains("from https to http") && plain.asked().is_empty(), "{message}");
}

#[tokio::test]
async fn an_authority_is_trusted_for_its_connection_alone() {
    let (authority, dir) = (Authority::new(), TempDir::new().expect("a directory"));
    let other = Server::with_tls(authority.certify("127.0.0.1", |_| {}), answer(200, &[], "")).await;
    let moved = answer(302, &[("location", &other.url("/"))], "");
    let home = Server::with_tls(authority.certify("127.0.0.1", |_| {}), moved).await;
    let table = json!({"url": home.url(""), "ca_file": authority.write_to(&dir)});
    let message = Stage::with_connection("api", table).error(&Http::get("/").connection("api")).await;
    assert!(message.contains("UnknownIssuer") && home.asked().len() == 1 && other.asked().is_empty(), "{message}");
}

#[tokio::test]
async fn a_file_of_no_certificates_is_an_error() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("ca.pem");
    for content in ["", "secret", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(&file, content).expect("a file");
        let table = json!({"url": "https://127.0.0.1:1", "ca_file": file});
        let message = Stage::with_connection("api", table).error(&Http::get("/").connection("api")).await;
        assert!(message.contains("ca.pem holds") && !message.contains("secret"), "{message}");
    }
}
