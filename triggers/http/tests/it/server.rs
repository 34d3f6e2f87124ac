//! A server that says what a test has it say, byte by byte.

use std::{
    collections::BTreeMap,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    /// By name, in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// The how manieth connection it came by.
    pub(crate) connection: usize,
}

/// What the server does about it.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Says this, and waits for the next request.
    Say(Vec<u8>),
    /// Says this, and closes.
    Close(Vec<u8>),
    /// Says this, and then nothing.
    Hang(Vec<u8>),
    /// Says this, and then a byte again and again.
    Drip(Vec<u8>),
    /// Says this, and then as many bytes as the client takes.
    Endless(Vec<u8>),
}

/// An answer as it should be.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    let length = body.len().to_string();
    let lines: Vec<String> = headers
        .iter()
        .chain(&[("content-length", length.as_str())])
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let headers = lines.concat();
    Reply::Say(format!("HTTP/1.1 {status} Status\r\n{headers}\r\n{body}").into())
}

pub(crate) fn json(body: &serde_json::Value) -> Reply {
    answer(200, &[("content-type", "application/json")], &body.to_string())
}

type Answering = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    asked: watch::Receiver<Vec<Asked>>,
    open: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// One that says the same to all.
    pub(crate) async fn saying(reply: Reply) -> Self {
        Self::answering(move |_| reply.clone()).await
    }

    /// One that says these, one after the other, and goes on with the last.
    pub(crate) async fn saying_one_by_one<const N: usize>(replies: [Reply; N]) -> Self {
        let next = Mutex::new(0);
        Self::answering(move |_| {
            let mut next = next.lock().expect("a lock");
            let reply = replies[*next].clone();
            *next = (*next + 1).min(N - 1);
            reply
        })
        .await
    }

    pub(crate) async fn answering(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(answer), None).await
    }

    pub(crate) async fn with_tls(tls: TlsAcceptor, reply: Reply) -> Self {
        Self::start(Arc::new(move |_| reply.clone()), Some(tls)).await
    }

    async fn start(answering: Answering, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (seen, asked) = watch::channel(Vec::new());
        let (opened, open) = watch::channel(0);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let accepting = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (answering, seen, tls, opened) =
                    (Arc::clone(&answering), seen.clone(), tls.clone(), opened.clone());
                opened.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    match tls {
                        // A handshake that fails is a test's business, and the client is the one that tells of it.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, number, &answering, &seen).await;
                            }
                        }
                        None => serve(stream, number, &answering, &seen).await,
                    }
                    opened.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, scheme, asked, open, accepting }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    pub(crate) fn last(&self) -> Asked {
        self.asked().pop().expect("a request")
    }

    /// Waits until a request has come.
    pub(crate) async fn is_asked(&self) {
        self.asked.clone().wait_for(|all| !all.is_empty()).await.expect("a server");
    }

    /// Waits until the client has let go of every connection.
    pub(crate) async fn all_closed(&mut self) {
        self.open.wait_for(|open| *open == 0).await.expect("a server");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves one connection, until the client closes it or the script does.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    answering: &Answering,
    seen: &watch::Sender<Vec<Asked>>,
) {
    while let Some(asked) = read(&mut stream, connection).await {
        let reply = answering(&asked);
        seen.send_modify(|all| all.push(asked));
        let (Reply::Say(bytes) | Reply::Close(bytes) | Reply::Hang(bytes) | Reply::Drip(bytes) | Reply::Endless(bytes)) =
            &reply;
        if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        match reply {
            Reply::Say(_) => {}
            Reply::Close(_) => {
                // A client that has gone already is none that the end could be hidden from.
                stream.shutdown().await.ok();
                return;
            }
            Reply::Hang(_) => return until_closed(&mut stream).await,
            Reply::Drip(_) => {
                while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                    tokio::time::timeout(Duration::from_millis(20), pending::<()>()).await.ok();
                }
                return;
            }
            Reply::Endless(_) => {
                let zeros = vec![b'0'; 64 * 1024];
                while stream.write_all(&zeros).await.is_ok() {}
                return;
            }
        }
    }
}

async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 64];
    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

async fn read(stream: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head in UTF-8");
    let mut lines = head.lines();
    let mut first = lines.next().expect("a request line").split(' ');
    let (method, target) = (first.next().expect("a method").to_owned(), first.next().expect("a target").to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { method, target, headers, body: String::from_utf8(body).expect("a body in UTF-8"), connection })
}
