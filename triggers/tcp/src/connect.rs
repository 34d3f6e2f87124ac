//! From addresses to the first that accepts.

use std::{io, net::SocketAddr};

use tokio::{net::TcpStream, task::JoinSet};

/// Connects to all at once, so that one that swallows packets delays no other. The first that accepts, if one does.
/// Dropped, it gives up all that have not answered.
///
/// # Errors
/// None accepts, and one look could not tell, for a reason that lies on this host.
pub(crate) async fn first_to_accept(addresses: Vec<SocketAddr>) -> io::Result<Option<SocketAddr>> {
    let mut looks: JoinSet<_> = addresses.into_iter().map(look).collect();
    let mut unclear = None;
    while let Some(look) = looks.join_next().await {
        match look.map_err(io::Error::other)? {
            Ok(Some(address)) => return Ok(Some(address)),
            Ok(None) => {}
            Err(error) => unclear = Some(error),
        }
    }
    unclear.map_or(Ok(None), Err)
}

/// Whether the port accepts: the connection is closed at once.
async fn look(address: SocketAddr) -> io::Result<Option<SocketAddr>> {
    match TcpStream::connect(address).await {
        Ok(_) => Ok(Some(address)),
        Err(error) if is_an_answer(error.kind()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a failure says that nobody accepts there, now. What else there is lies on this host: no descriptor left, a
/// firewall of its own.
fn is_an_answer(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// An address that refuses for as long as its socket is held: it is taken, and nobody listens.
    fn refusing() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let address = socket.local_addr().expect("its address");
        (socket, address)
    }

    #[tokio::test]
    async fn one_address_of_many_is_enough() {
        let (_socket, refuses) = refusing();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let accepts = listener.local_addr().expect("its address");
        let all = vec![refuses, accepts, refuses];
        assert_eq!(first_to_accept(all).await.expect("an answer"), Some(accepts));
        assert_eq!(first_to_accept(vec![refuses]).await.expect("an answer"), None);
        assert_eq!(first_to_accept(vec![]).await.expect("an answer"), None);
    }

    #[tokio::test]
    async fn what_lies_on_this_host_is_an_error_unless_another_address_accepts() {
        // A connection to the broadcast address is refused by the kernel, for want of permission.
        let broadcast: SocketAddr = "255.255.255.255:9".parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let accepts = listener.local_addr().expect("its address");
        assert_eq!(first_to_accept(vec![broadcast, accepts]).await.expect("an answer"), Some(accepts));
        assert!(!is_an_answer(io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn no_way_there_is_an_answer() {
        for kind in [io::ErrorKind::HostUnreachable, io::ErrorKind::NetworkUnreachable, io::ErrorKind::TimedOut] {
            assert!(is_an_answer(kind), "{kind}");
        }
    }
}
