//! A proxy before PostgreSQL that can be slow, fall silent, cut connections, and cut one between a commit and its reply.
//!
//! It reads the protocol as far as it must: which statements a transaction has run, and when the server has confirmed
//! one. (*PostgreSQL documentation*, chapter "Frontend/Backend Protocol".)

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reveille::{Url, clock::Clock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::AbortHandle,
};

use super::until;

pub(crate) struct Proxy {
    url: Url,
    shared: Arc<Shared>,
    listening: AbortHandle,
}

struct Shared {
    server: String,
    mode: watch::Sender<Mode>,
    /// How long each answer takes on its way.
    delay: watch::Sender<Duration>,
    cuts: Mutex<Vec<Arc<Cut>>>,
    holds: Mutex<Vec<Arc<Hold>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Nothing passes, and nobody is told.
    Silent,
    /// Every connection is closed, and every new one at once.
    Closed,
}

/// Connections to be cut before the reply to a commit arrives.
pub(crate) struct Cut {
    statement: &'static str,
    left: AtomicUsize,
}

/// A commit that does not reach the server until it is let go.
pub(crate) struct Hold {
    statement: &'static str,
    reached: watch::Sender<bool>,
    let_go: watch::Sender<bool>,
}

impl Proxy {
    pub(super) async fn before(url: &Url) -> Self {
        let Url::Postgres(text) = url else { panic!("only PostgreSQL is reached over a network") };
        let (user, rest) = text.split_once('@').expect("the URL names a user");
        let (server, database) = rest.split_once('/').expect("the URL names a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            mode: watch::Sender::new(Mode::Open),
            delay: watch::Sender::default(),
            cuts: Mutex::default(),
            holds: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared))).abort_handle();
        Self { url: Url::Postgres(format!("{user}@127.0.0.1:{port}/{database}?sslmode=disable")), shared, listening }
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    /// From now on nothing passes, and nobody is told.
    pub(crate) fn fall_silent(&self) {
        self.shared.mode.send_replace(Mode::Silent);
    }

    /// From now on the answer to each statement takes so long to come.
    pub(crate) fn slow_down(&self, delay: Duration) {
        self.shared.delay.send_replace(delay);
    }

    /// Closes every connection, and refuses new ones.
    pub(crate) fn close(&self) {
        self.shared.mode.send_replace(Mode::Closed);
    }

    /// Passes everything on again, also what had come meanwhile.
    pub(crate) fn open(&self) {
        self.shared.mode.send_replace(Mode::Open);
    }

    /// Cuts the connection of the next transaction in which this statement did something, after its commit and before the
    /// reply.
    pub(crate) fn cut_after_commit_of(&self, statement: &'static str) -> Arc<Cut> {
        let cut = Arc::new(Cut { statement, left: AtomicUsize::new(1) });
        self.shared.cuts.lock().unwrap().push(Arc::clone(&cut));
        cut
    }

    /// Holds the commit of the next transaction in which this statement did something, on its way to the server.
    pub(crate) fn hold_commit_of(&self, statement: &'static str) -> Arc<Hold> {
        let hold = Arc::new(Hold { statement, reached: watch::Sender::new(false), let_go: watch::Sender::new(false) });
        self.shared.holds.lock().unwrap().push(Arc::clone(&hold));
        hold
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.close();
    }
}

impl Cut {
    fn take(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// Waits until it has happened.
    pub(crate) async fn happened(&self) {
        until(&format!("a commit of {:?} to cut off", self.statement), async || self.left.load(Ordering::SeqCst) == 0)
            .await;
    }
}

impl Hold {
    /// Waits until a commit is held.
    pub(crate) async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        reached.wait_for(|reached| *reached).await.unwrap();
    }

    /// Lets it go on to the server.
    pub(crate) fn let_go(&self) {
        self.let_go.send_replace(true);
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A connection that ends, ends; whoever used it finds out.
            drop(serve(client, &shared).await);
        });
    }
}

async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut mode = shared.mode.subscribe();
    if *mode.borrow() == Mode::Closed {
        return Ok(());
    }
    mode.wait_for(|mode| *mode != Mode::Silent).await.map_err(io::Error::other)?;
    let server = TcpStream::connect(&shared.server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let talk = Talk { shared, heard: Mutex::default() };
    tokio::select! {
        asked = talk.ask(from_client, to_server) => asked,
        answered = talk.answer(from_server, to_client) => answered,
        closed = mode.wait_for(|mode| *mode == Mode::Closed) => closed.map(drop).map_err(io::Error::other),
    }
}

/// One connection, and what was said on it.
struct Talk<'a> {
    shared: &'a Shared,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    prepared: HashMap<Vec<u8>, String>,
    /// Those that the transaction under way has run, and what each was confirmed with.
    statements: Vec<(String, Vec<u8>)>,
    in_transaction: bool,
}

impl Talk<'_> {
    async fn ask(&self, mut client: OwnedReadHalf, mut server: OwnedWriteHalf) -> io::Result<()> {
        let length = client.read_u32().await?;
        let mut startup = vec![0; length as usize - 4];
        client.read_exact(&mut startup).await?;
        server.write_all(&[&length.to_be_bytes()[..], &startup].concat()).await?;
        loop {
            let (kind, body) = message(&mut client).await?;
            if let Some(hold) = self.hears(kind, &body) {
                // All of it at once, so that it is whole even if the client has left meanwhile.
                let mut rest = framed(kind, &body);
                while rest.last_chunk::<5>() != Some(&[b'S', 0, 0, 0, 4]) {
                    let (kind, body) = message(&mut client).await?;
                    rest.extend(framed(kind, &body));
                }
                hold.reached.send_replace(true);
                hold.let_go.subscribe().wait_for(|let_go| *let_go).await.map_err(io::Error::other)?;
                server.write_all(&rest).await?;
                continue;
            }
            self.pass().await?;
            server.write_all(&framed(kind, &body)).await?;
        }
    }

    async fn answer(&self, mut server: OwnedReadHalf, mut client: OwnedWriteHalf) -> io::Result<()> {
        loop {
            let (kind, body) = message(&mut server).await?;
            let cut = match kind {
                b'C' => self.confirms(&body),
                b'Z' => self.is_ready(&body),
                _ => false,
            };
            if cut {
                return Ok(());
            }
            if kind == b'Z' {
                let delay = *self.shared.delay.borrow();
                Clock::system().sleep(delay).await;
            }
            self.pass().await?;
            client.write_all(&framed(kind, &body)).await?;
        }
    }

    async fn pass(&self) -> io::Result<()> {
        let mut mode = self.shared.mode.subscribe();
        mode.wait_for(|mode| *mode != Mode::Silent).await.map(drop).map_err(io::Error::other)
    }

    /// Notes what the client asks for; answers whether it is a commit to be held.
    fn hears(&self, kind: u8, body: &[u8]) -> Option<Arc<Hold>> {
        let mut heard = self.heard.lock().unwrap();
        let mut words = body.split(|byte| *byte == 0);
        match kind {
            b'P' => {
                let name = words.next().unwrap_or_default().to_vec();
                let text = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
                heard.prepared.insert(name, text);
                None
            }
            b'B' => {
                let statement = heard.prepared.get(words.nth(1).unwrap_or_default()).cloned().unwrap_or_default();
                heard.statements.push((statement, Vec::new()));
                heard.held(&self.shared.holds)
            }
            b'Q' => {
                let statement = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
                heard.statements.push((statement, Vec::new()));
                heard.held(&self.shared.holds)
            }
            _ => None,
        }
    }

    /// Takes the server's word that a statement is done; answers whether that was a commit to be cut off.
    fn confirms(&self, tag: &[u8]) -> bool {
        let mut heard = self.heard.lock().unwrap();
        if let Some((_, confirmed)) = heard.statements.last_mut() {
            *confirmed = tag.to_vec();
        }
        let committed = tag == b"COMMIT\0" || (!heard.in_transaction && tag != b"BEGIN\0");
        let cuts = self.shared.cuts.lock().unwrap();
        committed && cuts.iter().any(|cut| heard.has_run(cut.statement) && cut.take())
    }

    fn is_ready(&self, status: &[u8]) -> bool {
        let mut heard = self.heard.lock().unwrap();
        heard.in_transaction = status != b"I";
        if !heard.in_transaction {
            heard.statements.clear();
        }
        false
    }
}

impl Heard {
    /// Whether it has, to some effect.
    fn has_run(&self, statement: &str) -> bool {
        self.statements.iter().any(|(run, confirmed)| run.contains(statement) && !confirmed.ends_with(b" 0\0"))
    }

    fn held(&self, holds: &Mutex<Vec<Arc<Hold>>>) -> Option<Arc<Hold>> {
        let mut holds = holds.lock().unwrap();
        let commits = self.statements.last().is_some_and(|(last, _)| last == "commit");
        let at = holds.iter().position(|hold| commits && self.has_run(hold.statement))?;
        Some(holds.remove(at))
    }
}

async fn message(from: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32 + 4;
    [&[kind][..], &length.to_be_bytes(), body].concat()
}
