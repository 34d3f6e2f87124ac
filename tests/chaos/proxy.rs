//! What stands between one replica and the database: it passes bytes on, late, not at all, or to nobody.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

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
    /// What would declare a replica gone does not pass.
    Undeclared,
    /// Every third connection that is to commit is closed, in turn before that is passed on, and after.
    Losing,
    /// Every connection is closed, and every new one at once.
    Closed,
}

/// A part of the statement that declares a replica gone, as it is prepared.
const DECLARATION: &[u8] = b"gone_why = 'lost' where";

/// The statement that commits, as it is prepared: after its name, which is all that is sent of it from then on.
const COMMIT: &[u8] = b"\0commit\0";

/// No message that prepares it or asks for it is longer.
const LONGEST_COMMIT: usize = 128;

/// How many commits were sent while some are to be lost.
static COMMITS: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Proxy {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    /// How many declarations were held back.
    held: Arc<watch::Sender<usize>>,
    listening: AbortHandle,
}

impl Proxy {
    pub(crate) async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        let held = Arc::new(watch::Sender::new(0));
        let (serving, holding) = (Arc::clone(&mode), Arc::clone(&held));
        let listening = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (mode, held, socket) = (serving.subscribe(), Arc::clone(&holding), socket.clone());
                // A connection that ends, ends; whoever used it finds out.
                tokio::spawn(async move { drop(serve(client, &socket, mode, &held).await) });
            }
        })
        .abort_handle();
        Self { port, mode, held, listening }
    }

    pub(crate) fn url(&self) -> Url {
        Url::Postgres(format!("postgres://reveille@127.0.0.1:{}/postgres?sslmode=disable", self.port))
    }

    /// Completes when a declaration is held back, counted from this call.
    pub(crate) async fn holds_a_declaration(&self) {
        let mut held = self.held.subscribe();
        // It is sent from for as long as the proxy is there.
        held.changed().await.unwrap();
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

async fn serve(
    client: TcpStream,
    socket: &PathBuf,
    mut mode: watch::Receiver<Mode>,
    held: &watch::Sender<usize>,
) -> io::Result<()> {
    if *mode.borrow() == Mode::Closed {
        return Ok(());
    }
    let server = UnixStream::connect(socket).await?;
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        asked = pass(from_client, to_server, mode.clone(), held) => asked,
        answered = pass(from_server, to_client, mode.clone(), held) => answered,
        closed = mode.wait_for(|mode| *mode == Mode::Closed) => closed.map(drop).map_err(io::Error::other),
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    held: &watch::Sender<usize>,
) -> io::Result<()> {
    let clock = Clock::system();
    let mut bytes = vec![0; 64 << 10];
    let mut commit: Option<Vec<u8>> = None;
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let begun = *mode.borrow();
        if read <= LONGEST_COMMIT {
            commit = commit.or_else(|| name_of_commit(&bytes[..read]));
        }
        let commits = commit.as_ref().is_some_and(|name| read <= LONGEST_COMMIT && contains(&bytes[..read], name));
        if begun == Mode::Losing && commits {
            match COMMITS.fetch_add(1, Ordering::Relaxed) % 6 {
                0 => return Ok(()),
                3 => return to.write_all(&bytes[..read]).await,
                _ => {}
            }
        }
        let declares = begun == Mode::Undeclared && contains(&bytes[..read], DECLARATION);
        if declares {
            held.send_modify(|held| *held += 1);
        }
        let passes = |mode: &Mode| *mode != Mode::Silent && !(declares && *mode == Mode::Undeclared);
        let now = *mode.wait_for(passes).await.map_err(io::Error::other)?;
        if let Mode::Slow(by) = now {
            clock.sleep(by).await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}

fn contains(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|part| part == words)
}

/// What a request to run the statement that commits has in it, if this prepares that.
fn name_of_commit(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.windows(COMMIT.len()).position(|part| part == COMMIT)?;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let begin = bytes[..end].iter().rposition(|byte| !is_name(byte)).map_or(0, |at| at + 1);
    Some([b"\0", &bytes[begin..end], b"\0"].concat())
}
