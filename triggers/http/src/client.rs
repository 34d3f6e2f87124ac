//! The pooled clients: one for the process, and one for each file of certificates that a connection names.

use std::{
    collections::HashMap,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use reqwest::{Client, redirect};
use reveille_trigger::Error;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{sync::OnceCell, task::spawn_blocking};

/// How long it may take to reach a server, so that one whose packets are dropped is not waited for as long as an answer.
const CONNECT_TIME_OUT: Duration = Duration::from_secs(10);
/// How many idle connections to one server are kept: as many as there are checks of one destination at a time.
const IDLE_CONNECTIONS: usize = 16;

/// For everything whose connection names no certificates.
static COMMON: OnceCell<Client> = OnceCell::const_new();
/// By the path of a file of certificates. As many as the configuration has.
static BY_CA_FILE: LazyLock<Mutex<HashMap<Utf8PathBuf, Arc<Own>>>> = LazyLock::new(Mutex::default);

/// The client of one file of certificates, as the file was.
struct Own {
    version: (u64, u64, i64, i64),
    client: OnceCell<Client>,
}

/// The client that trusts the certificates in a file and no others; without one, those that the host trusts.
pub(crate) async fn client(ca_file: Option<&Utf8Path>) -> Result<Client, Error> {
    let Some(path) = ca_file else {
        return COMMON.get_or_try_init(|| on_a_thread(|| build(host_roots()))).await.cloned();
    };
    let metadata = tokio::fs::metadata(path).await.map_err(|error| unreadable(path, &error))?;
    let own = own(path, version(&metadata));
    let path = path.to_owned();
    own.client.get_or_try_init(|| on_a_thread(move || build(roots_in(&path)?))).await.cloned()
}

/// The place of a client, emptied if its file has changed since: certificates are renewed while a process lives.
fn own(path: &Utf8Path, version: (u64, u64, i64, i64)) -> Arc<Own> {
    let mut all = BY_CA_FILE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(own) = all.get(path).filter(|own| own.version == version) {
        return Arc::clone(own);
    }
    let own = Arc::new(Own { version, client: OnceCell::new() });
    all.insert(path.to_owned(), Arc::clone(&own));
    own
}

fn version(metadata: &Metadata) -> (u64, u64, i64, i64) {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await?
}

fn build(roots: RootCertStore) -> Result<Client, Error> {
    // Named here, and not taken from the process: another crate may have chosen another one for its own use.
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("reveille/", env!("CARGO_PKG_VERSION")))
        // Followed by us: the client would send secret headers of any name wherever it is led to.
        .redirect(redirect::Policy::none())
        // Repeating is the runtime's work.
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIME_OUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build()?;
    Ok(client)
}

/// What the host trusts; where it has no certificates at all, as in a bare container, what Mozilla does.
fn host_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn roots_in(path: &Utf8Path) -> Result<RootCertStore, Error> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let added = certificate.ok().map(|it| roots.add(it));
        if !matches!(added, Some(Ok(()))) {
            return Err(Error::again(format!("`ca_file` {path} holds something other than certificates in PEM")));
        }
    }
    if roots.is_empty() {
        return Err(Error::again(format!("`ca_file` {path} holds no certificate in PEM")));
    }
    Ok(roots)
}

fn unreadable(path: &Utf8Path, error: &io::Error) -> Error {
    Error::again(format!("cannot read the `ca_file` {path}: {error}"))
}
