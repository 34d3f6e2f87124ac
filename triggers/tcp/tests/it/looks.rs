//! What a look finds.

use std::{net::SocketAddr, time::Duration};

use reveille_tcp::{Accepted, Tcp};
use reveille_trigger::{Answer, Context, Error, Memory, Outcome, Timestamp, Trigger, checks::may_be_dropped};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

fn context() -> Context {
    Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default())
}

/// One look: who accepted.
async fn look(tcp: &Tcp) -> Result<Option<SocketAddr>, Error> {
    let cx = context();
    let answer = timeout(LONG, tcp.check(&cx)).await.expect("an answer in time")?;
    Ok(match answer {
        Answer::NotYet => None,
        Answer::Fire(event) => match event.outcome {
            Outcome::Resume(payload) => {
                let accepted: Accepted = serde_json::from_value(payload).expect("who accepted");
                Some(accepted.address)
            }
            other => panic!("a port resumes a task, and does not end it: {other:?}"),
        },
    })
}

#[tokio::test]
async fn a_port_that_accepts_fires_with_its_address() {
    let (listener, address) = listener().await;
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(look(&Tcp::new(host, address.port())).await.expect("an answer"), Some(address), "{host}");
        let (mut accepted, _) = listener.accept().await.expect("a connection");
        // It is closed at once, and nothing was sent.
        let read = timeout(LONG, accepted.read(&mut [0; 1])).await.expect("its end in time");
        assert_eq!(read.expect("its end"), 0);
    }
}

#[tokio::test]
async fn a_port_that_refuses_is_not_yet() {
    // Taken, so that nobody else can listen there, and not listening.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let tcp = Tcp::new("127.0.0.1", socket.local_addr().expect("its address").port());
    assert_eq!(look(&tcp).await.expect("an answer"), None);

    let address = socket.local_addr().expect("its address");
    let _listener = socket.listen(1).expect("a listener");
    assert_eq!(look(&tcp).await.expect("an answer"), Some(address));
}

/// The kernel drops what comes to a listener whose queue is full, as a firewall does.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_port_that_does_not_answer_is_not_yet_after_its_time_out() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(0).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut waiting = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(connected.expect("a place in the queue"));
    }
    let tcp = Tcp::new("127.0.0.1", address.port()).within(Duration::from_millis(300));
    assert_eq!(look(&tcp).await.expect("an answer"), None);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_may_be_tried_again() {
    // `.invalid` is kept for this (RFC 2606).
    let error = look(&Tcp::new("db.invalid", 5432).within(LONG / 2)).await.expect_err("an error");
    assert!(!error.is_fatal());
    assert!(error.to_string().starts_with("cannot resolve \"db.invalid\""), "{error}");
}

#[tokio::test]
async fn an_ipv6_address_is_looked_at_where_there_is_one() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let address = listener.local_addr().expect("its address");
    assert_eq!(look(&Tcp::new("::1", address.port())).await.expect("an answer"), Some(address));
}

#[tokio::test]
async fn a_look_may_be_dropped_wherever_it_waits() {
    let (_listener, address) = listener().await;
    assert!(may_be_dropped(&Tcp::new("localhost", address.port()), context).await > 0);
}
