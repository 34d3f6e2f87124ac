//! From a name to all its addresses.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// The most names that are resolved at one time. A resolver that hangs holds its threads for as long as it likes, and
/// must leave most of the 512 that tokio has to others.
static LOOKUPS: Semaphore = Semaphore::const_new(32);

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// The addresses of a host, as the system's resolver gives them. Dropped, it leaves its thread to the resolver.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    spawn_blocking(move || {
        let _permit = permit;
        Ok((host.as_str(), port).to_socket_addrs()?.take(MAX_ADDRESSES).collect())
    })
    .await
    .map_err(io::Error::other)?
}
