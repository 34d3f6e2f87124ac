//! A server of the run's own, at which tasks ask until it says yes. It notes which replica asks, and when.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::record::Look;

/// The name of the connection that leads here, in the configuration of each triggerer.
pub(crate) const DOOR: &str = "door";

pub(crate) struct Door {
    port: u16,
    state: Arc<State>,
    listening: AbortHandle,
}

#[derive(Default)]
struct State {
    open: Mutex<HashSet<String>>,
    looks: Mutex<Vec<Look>>,
}

impl Door {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        let listening = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&serving);
                // Whoever hangs up has its answer, or asks again.
                tokio::spawn(async move { drop(state.answer(client).await) });
            }
        })
        .abort_handle();
        Self { port, state, listening }
    }

    /// The configuration of a replica, by which its looks are told from those of others.
    pub(crate) fn config(&self, label: &str) -> String {
        format!("[connections.{DOOR}]\nurl = \"http://127.0.0.1:{}/{label}\"\n", self.port)
    }

    /// Says yes there from now on.
    pub(crate) fn open(&self, path: String) {
        self.state.open.lock().unwrap().insert(path);
    }

    pub(crate) fn into_looks(self) -> Vec<Look> {
        self.listening.abort();
        std::mem::take(&mut *self.state.looks.lock().unwrap())
    }
}

impl State {
    async fn answer(&self, client: TcpStream) -> std::io::Result<()> {
        let mut client = BufReader::new(client);
        let (mut asked, mut rest) = (String::new(), String::new());
        client.read_line(&mut asked).await?;
        let at = now_ms();
        while client.read_line(&mut rest).await? > 2 {}
        let mut parts = asked.split(['/', ' ']).skip(2);
        let (Some(label), Some(path)) = (parts.next(), parts.next()) else { return Ok(()) };
        self.looks.lock().unwrap().push(Look { label: label.to_owned(), at });
        let status = if self.open.lock().unwrap().contains(path) { "200 OK" } else { "202 Accepted" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        client.write_all(answer.as_bytes()).await
    }
}

/// The time in milliseconds, by the clock that the database has where it does not jump.
#[expect(clippy::disallowed_methods, reason = "the clock of the project is what is made to jump here")]
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}
