//! A network that is further away than it is: what the benchmark puts between itself and a server.
//!
//! What is sent arrives so much later, in the order in which it was sent, and whatever is sent meanwhile is under way at the
//! same time: it delays, and does not hold back. Threads that block, and not the runtime's timers, which count whole
//! milliseconds: half of one is what a round trip of one takes each way.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    clock::Clock,
    error::{Error, Result},
    store::{Place, Url},
};

/// How much is read at once, and how many such parts are under way at most, each way: far more than sockets hold.
const PART: usize = 64 << 10;
const UNDER_WAY: usize = 4_096;

/// Stands before a server until it is dropped. Connections that there are then go on until one of their ends closes them.
#[derive(Debug)]
pub(super) struct Detour {
    port: u16,
    over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Detour {
    /// Before the server of this URL; a round trip takes so much longer.
    ///
    /// # Errors
    /// If it names a file, or several servers.
    pub(super) fn before(url: &Url, by: Duration) -> Result<(Self, Url)> {
        let detour = Self::to(url.place()?, by)
            .map_err(|error| Error::Unusable(format!("cannot listen on 127.0.0.1: {error}")))?;
        let url = url.at_local_port(detour.port)?;
        Ok((detour, url))
    }

    fn to(place: Place, by: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let listen = move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                // Whoever is not connected finds out, and says so.
                if let Err(error) = client.and_then(|client| connect(client, &place, by / 2)) {
                    tracing::warn!("a connection by the detour failed: {error}");
                }
            }
        };
        let listening = thread::Builder::new().name("detour".to_owned()).spawn(listen)?;
        Ok(Self { port, over, listening: Some(listening) })
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It listens, and has to be told.
        let told = TcpStream::connect(("127.0.0.1", self.port));
        if let (Ok(_), Some(listening)) = (told, self.listening.take())
            && listening.join().is_err()
        {
            tracing::error!("the detour has panicked");
        }
    }
}

fn connect(client: TcpStream, place: &Place, by: Duration) -> io::Result<()> {
    client.set_nodelay(true)?;
    let client = End::Tcp(client);
    let server = match place {
        Place::Host(host, port) => {
            let server = TcpStream::connect((host.as_str(), *port))?;
            server.set_nodelay(true)?;
            End::Tcp(server)
        }
        Place::Socket(path) => End::Unix(UnixStream::connect(path)?),
    };
    pass(client.again()?, server.again()?, by)?;
    pass(server, client, by)
}

/// Passes on what one end sends to the other, one way.
fn pass(from: End, to: End, by: Duration) -> io::Result<()> {
    let (parts, arriving) = sync_channel(UNDER_WAY);
    let reading = thread::Builder::new().name("detour-in".to_owned());
    let writing = thread::Builder::new().name("detour-out".to_owned());
    let back = from.again()?;
    reading.spawn(move || depart(from, &parts, by))?;
    writing.spawn(move || {
        if arrive(&arriving, &to).is_err() {
            // Nobody reads any more: whoever sends is to know.
            back.close(Shutdown::Read);
        }
        to.close(Shutdown::Write);
    })?;
    Ok(())
}

/// What is under way, and when it arrives.
struct Part {
    due: Duration,
    bytes: Vec<u8>,
}

fn depart(mut from: End, parts: &SyncSender<Part>, by: Duration) {
    let clock = Clock::system();
    let mut bytes = vec![0; PART];
    loop {
        let read = match from.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let part = Part { due: clock.monotonic() + by, bytes: bytes[..read].to_vec() };
        if parts.send(part).is_err() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which is there to sleep")]
fn arrive(parts: &Receiver<Part>, mut to: &End) -> io::Result<()> {
    let clock = Clock::system();
    for Part { due, bytes } in parts {
        thread::sleep(due.saturating_sub(clock.monotonic()));
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// One end of a connection.
#[derive(Debug)]
enum End {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl End {
    fn again(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    fn close(&self, how: Shutdown) {
        let closed = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
        // It is closed already, then.
        closed.ok();
    }
}

impl Read for End {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

impl Write for &End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            End::Tcp(stream) => (&*stream).write(bytes),
            End::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it is sent, and one by a detour to it.
    fn echo(by: Duration) -> (Detour, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.set_nodelay(true).unwrap();
            let mut back = client.try_clone().unwrap();
            io::copy(&mut client, &mut back).ok();
        });
        let detour = Detour::to(Place::Host("127.0.0.1".to_owned(), port), by).unwrap();
        let client = TcpStream::connect(("127.0.0.1", detour.port)).unwrap();
        client.set_nodelay(true).unwrap();
        (detour, client)
    }

    fn timed(body: impl FnOnce()) -> Duration {
        let clock = Clock::system();
        let began = clock.monotonic();
        body();
        clock.monotonic() - began
    }

    #[test]
    fn a_round_trip_takes_as_much_longer() {
        const BY: Duration = Duration::from_millis(20);
        let (_detour, mut client) = echo(BY);
        let mut answer = [0];
        for _ in 0..3 {
            let took = timed(|| {
                client.write_all(b"?").unwrap();
                client.read_exact(&mut answer).unwrap();
            });
            assert!(took >= BY, "{took:?}");
        }
    }

    #[test]
    fn much_can_be_under_way_at_once() {
        const BY: Duration = Duration::from_millis(400);
        let (_detour, client) = echo(BY);
        let (mut sending, mut receiving) = (client.try_clone().unwrap(), client);
        let sent: Vec<u8> = (0..32_u32 << 20).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let mut received = vec![0; sent.len()];
        let took = timed(|| {
            let sending = thread::spawn(move || sending.write_all(&copy).unwrap());
            receiving.read_exact(&mut received).unwrap();
            sending.join().unwrap();
        });
        assert!(received == sent, "it arrives whole, and in order");
        // One part after the other would take 200 ms each, of 500 or more.
        assert!(took >= BY && took < 50 * BY, "{took:?}");
    }

    #[test]
    fn what_one_end_closes_is_closed_for_the_other() {
        let (_detour, client) = echo(Duration::from_millis(1));
        client.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        { client }.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}
