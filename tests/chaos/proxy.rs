//! What stands between one replica and the database: it passes bytes on, late, not at all, or to nobody.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use reveille::{Url, clock::Clock};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::AbortHandle,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    /// What is sent arrives so much later.
    Slow(Duration),
    /// Nothing passes, and nobody is told. It passes once the mode changes.
    Silent,
    /// Every connection is closed, and every new one at once.
    Closed,
}

pub(crate) struct Proxy {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    listening: AbortHandle,
}

impl Proxy {
    pub(crate) async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        let serving = Arc::clone(&mode);
        let listening = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (mode, socket) = (serving.subscribe(), socket.clone());
                // A connection that ends, ends; whoever used it finds out.
                tokio::spawn(async move { drop(serve(client, &socket, mode).await) });
            }
        })
        .abort_handle();
        Self { port, mode, listening }
    }

    pub(crate) fn url(&self) -> Url {
        Url::Postgres(format!("postgres://reveille@127.0.0.1:{}/postgres?sslmode=disable", self.port))
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.set(Mode::Closed);
    }
}

async fn serve(client: TcpStream, socket: &PathBuf, mut mode: watch::Receiver<Mode>) -> io::Result<()> {
    if *mode.borrow() == Mode::Closed {
        return Ok(());
    }
    let server = UnixStream::connect(socket).await?;
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        asked = pass(from_client, to_server, mode.clone()) => asked,
        answered = pass(from_server, to_client, mode.clone()) => answered,
        closed = mode.wait_for(|mode| *mode == Mode::Closed) => closed.map(drop).map_err(io::Error::other),
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let clock = Clock::system();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let now = *mode.wait_for(|mode| *mode != Mode::Silent).await.map_err(io::Error::other)?;
        if let Mode::Slow(by) = now {
            clock.sleep(by).await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}
