//! The one connection to a database that listens for all tasks.
//!
//! The rule: who waits is entered before it is told that listening has begun, and a connection that is lost, or may have
//! been, ends all waits on it. So each look comes after the beginning of its listening, and nothing is heard by nobody.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reveille_trigger::{Config, Error};
use sqlx::{
    Executor,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::Instrument;

use crate::{
    fault::fault,
    pool::{ACQUIRE, postgres_options},
};

const PATIENCE: Patience = Patience { quiet: Duration::from_secs(30), answer: Duration::from_secs(10) };

/// How many may wait to be entered. More wait for a place.
const ENTRIES: usize = 64;

/// The hubs of this process, by the names of their connections, each with the URL that it is connected to. A hub lives
/// for as long as somebody holds its sender, which are those who listen.
static HUBS: Mutex<BTreeMap<String, (String, mpsc::WeakSender<Entry>)>> = Mutex::new(BTreeMap::new());

/// How long a connection is trusted that says nothing: a network can fail without a word.
#[derive(Clone, Copy)]
struct Patience {
    /// After how much quiet the database is asked for a sign of life.
    quiet: Duration,
    /// How long it has for any answer.
    answer: Duration,
}

/// What is said on a channel, or why nothing can be heard any more.
type Said = Result<String, String>;

/// One who wants to listen.
struct Entry {
    channel: String,
    /// Told once listening has begun.
    begun: oneshot::Sender<()>,
    tell: oneshot::Sender<Said>,
}

/// A place among those who listen. Dropped, it is given up.
pub(crate) struct Listening {
    connection: String,
    told: oneshot::Receiver<Said>,
    /// What keeps the hub alive.
    _hub: mpsc::Sender<Entry>,
}

/// Listens on a channel: what is notified from now on is heard.
pub(crate) async fn listen(config: &Config, connection: &str, channel: &str) -> Result<Listening, Error> {
    let (url, options) = postgres_options(config, connection)?;
    let hub = hub(connection, url, options);
    let (begun, has_begun) = oneshot::channel();
    let (tell, told) = oneshot::channel();
    let entry = Entry { channel: channel.to_owned(), begun, tell };
    let listening = Listening { connection: connection.to_owned(), told, _hub: hub.clone() };
    // The hub answers each entry within its own limits; these are both of them, and some for those before.
    let entered =
        timeout((ACQUIRE + PATIENCE.answer) * 2, async { hub.send(entry).await.is_ok() && has_begun.await.is_ok() });
    match entered.await {
        Ok(true) => Ok(listening),
        // It has ended, and may have told why.
        Ok(false) => Err(listening.heard().await.err().unwrap_or_else(|| lost(connection))),
        Err(_) => Err(Error::again(format!("cannot listen on {connection:?}: no answer in time"))),
    }
}

impl Listening {
    /// Waits for the next notification, for as long as it takes.
    pub(crate) async fn heard(self) -> Result<String, Error> {
        match self.told.await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(why)) => Err(Error::again(why)),
            Err(_) => Err(lost(&self.connection)),
        }
    }
}

fn lost(connection: &str) -> Error {
    Error::again(format!("the connection to {connection:?} that listens was lost"))
}

/// The hub of a connection, which is begun if there is none.
fn hub(connection: &str, url: String, options: PgConnectOptions) -> mpsc::Sender<Entry> {
    let mut hubs = HUBS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = hubs.get(connection).filter(|(known, _)| *known == url).and_then(|(_, hub)| hub.upgrade());
    if let Some(hub) = known.filter(|hub| !hub.is_closed()) {
        return hub;
    }
    let (sender, entries) = mpsc::channel(ENTRIES);
    hubs.insert(connection.to_owned(), (url, sender.downgrade()));
    let span = tracing::info_span!("listening", connection);
    // It ends by itself, when all who hold its sender are gone.
    tokio::spawn(run(connection.to_owned(), options, entries).instrument(span));
    sender
}

/// Serves those who listen until there are none, or until the connection is lost.
async fn run(connection: String, options: PgConnectOptions, mut entries: mpsc::Receiver<Entry>) {
    let mut waiting = Waiting::default();
    let Err(error) = serve(options, &mut entries, &mut waiting, PATIENCE).await else { return };
    let why = fault(&connection, &error).to_string();
    entries.close();
    while let Some(entry) = entries.recv().await {
        waiting.enter(entry.channel, entry.tell);
    }
    waiting.end(&why);
}

async fn serve(
    options: PgConnectOptions,
    entries: &mut mpsc::Receiver<Entry>,
    waiting: &mut Waiting,
    Patience { quiet, answer }: Patience,
) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE).max_lifetime(None).idle_timeout(None);
    let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options)).await?;
    // A connection of its own would listen again without a look at what was missed.
    listener.eager_reconnect(false);
    loop {
        tokio::select! {
            entry = entries.recv() => {
                let Some(Entry { channel, begun, tell }) = entry else { return Ok(()) };
                if !waiting.listens_on(&channel) {
                    in_time(answer, listener.listen(&channel)).await?;
                }
                waiting.enter(channel, tell);
                if begun.send(()).is_err() {
                    tracing::debug!("one who wanted to listen has gone before it began");
                }
            }
            // Dropped between messages at most: it takes a whole one from its buffer, or nothing.
            heard = timeout(quiet, listener.try_recv()) => if let Ok(heard) = heard {
                let said = heard?.ok_or_else(is_lost)?;
                if !waiting.tell(said.channel(), said.payload()) {
                    in_time(answer, listener.unlisten(said.channel())).await?;
                }
            } else {
                for channel in waiting.forget_the_gone() {
                    in_time(answer, listener.unlisten(&channel)).await?;
                }
                in_time(answer, listener.execute("select 1")).await?;
            },
        }
    }
}

async fn in_time<T>(limit: Duration, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(limit, answer).await.unwrap_or_else(|_| Err(is_lost()))
}

fn is_lost() -> sqlx::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection that listens was lost").into()
}

/// Who waits for the next notification, by its channel. What is in it is listened on.
#[derive(Default)]
struct Waiting(HashMap<String, Vec<oneshot::Sender<Said>>>);

impl Waiting {
    fn listens_on(&self, channel: &str) -> bool {
        self.0.contains_key(channel)
    }

    fn enter(&mut self, channel: String, tell: oneshot::Sender<Said>) {
        self.0.entry(channel).or_default().push(tell);
    }

    /// Tells all who wait on a channel. If nobody did, it is no longer listened on.
    fn tell(&mut self, channel: &str, payload: &str) -> bool {
        let told = self.0.get_mut(channel).map(std::mem::take).unwrap_or_default();
        let reached = told.into_iter().filter_map(|tell| tell.send(Ok(payload.to_owned())).ok()).count();
        if reached == 0 {
            self.0.remove(channel);
        }
        reached > 0
    }

    /// Forgets those who gave up, and gives the channels that nobody is left on.
    fn forget_the_gone(&mut self) -> Vec<String> {
        let mut forgotten = Vec::new();
        self.0.retain(|channel, waiting| {
            waiting.retain(|tell| !tell.is_closed());
            if waiting.is_empty() {
                forgotten.push(channel.clone());
            }
            !waiting.is_empty()
        });
        forgotten
    }

    /// Ends all waits for a reason.
    fn end(self, why: &str) {
        let reached = self.0.into_values().flatten().filter_map(|tell| tell.send(Err(why.to_owned())).ok()).count();
        tracing::debug!("the connection that listens was lost, and {reached} waits on it begin anew: {why}");
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::copy_bidirectional,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_network_that_fails_without_a_word_is_noticed() {
        let url = std::env::var("TEST_POSTGRES_URL").expect("TEST_POSTGRES_URL, as tests/run sets it");
        let options: PgConnectOptions = url.parse().expect("a URL");
        let server = format!("{}:{}", options.get_host(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (fail, fails) = oneshot::channel::<()>();
        let network = tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.expect("a connection");
            let mut far = TcpStream::connect(server).await.expect("the server");
            tokio::select! {
                copied = copy_bidirectional(&mut near, &mut far) => panic!("it ended: {copied:?}"),
                failed = fails => failed.expect("a failure"),
            }
            // Both ends stay open, and nothing comes through.
            (near, far)
        });

        let (sender, mut entries) = mpsc::channel(1);
        let mut waiting = Waiting::default();
        let patience = Patience { quiet: Duration::from_millis(100), answer: Duration::from_secs(2) };
        let options = options.host("127.0.0.1").port(port);
        let serving = timeout(LONG, serve(options, &mut entries, &mut waiting, patience));
        let (begun, has_begun) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let failing = async {
            assert!(sender.send(Entry { channel: "orders".to_owned(), begun, tell }).await.is_ok());
            has_begun.await.expect("it listens");
            fail.send(()).expect("a network");
            network.await.expect("a network that has failed")
        };
        let (served, _network) = tokio::join!(serving, failing);
        assert!(served.expect("an end in time").is_err());
        waiting.end("it is gone");
        assert_eq!(told.await.expect("a reason"), Err("it is gone".to_owned()));
    }

    #[test]
    fn a_channel_that_nobody_is_left_on_is_forgotten() {
        let mut waiting = Waiting::default();
        let ((tell, told), (gone, _)) = (oneshot::channel(), oneshot::channel());
        waiting.enter("orders".to_owned(), tell);
        waiting.enter("returns".to_owned(), gone);
        assert_eq!(waiting.forget_the_gone(), ["returns"]);
        assert!(waiting.listens_on("orders") && !waiting.listens_on("returns"));
        drop(told);
        assert!(!waiting.tell("orders", "42"));
        assert!(!waiting.listens_on("orders"));
    }
}
