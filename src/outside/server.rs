//! A web server that is busy at first, and then says how something is coming along.
//!
//! The process ends when its standard input does, and so never outlives whoever started it. A line on the standard input
//! asks how many requests it has answered, and the answer is a line on the standard output.

use std::{
    io,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::{JoinSet, spawn_blocking},
};

use crate::error::{Error, Result};

/// What it says.
#[derive(Clone, Debug)]
pub(crate) struct Speaking {
    /// How many requests it answers with 503 before it says anything else.
    pub(crate) busy: u64,
    /// How many requests after those it answers with 200, and a JSON body whose `state` is `running`.
    pub(crate) pending: u64,
    /// The `state` that it says after that.
    pub(crate) state: String,
}

/// A server in a process of its own, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: String,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Server {
    /// Starts `program` as a server, and goes on once it listens.
    ///
    /// # Errors
    /// If it cannot be run, or says nothing.
    pub(crate) async fn start(program: &Path, speaking: &Speaking) -> Result<Self> {
        let mut process = Command::new(program)
            .args(["outside", "serve", "--busy", &speaking.busy.to_string()])
            .args(["--pending", &speaking.pending.to_string(), "--state", &speaking.state])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Error::Unusable(format!("cannot run {}: {error}", program.display())))?;
        let questions = process.stdin.take().expect("it was asked for");
        let mut answers = BufReader::new(process.stdout.take().expect("it was asked for")).lines();
        let address = said(&mut answers).await?;
        Ok(Self { address, questions, answers, _process: process })
    }

    /// A URL of it.
    pub(crate) fn url(&self, path: impl std::fmt::Display) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// How many requests it has answered.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) async fn answered(&mut self) -> Result<u64> {
        self.questions.write_all(b"\n").await.map_err(|error| ended(&error))?;
        let answer = said(&mut self.answers).await?;
        answer.parse().map_err(|error| ended(&io::Error::other(format!("it said {answer:?}: {error}"))))
    }
}

async fn said(answers: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    let line = answers.next_line().await.map_err(|error| ended(&error))?;
    line.ok_or_else(|| ended(&io::ErrorKind::UnexpectedEof.into()))
}

fn ended(error: &io::Error) -> Error {
    Error::Unusable(format!("the web server of ours has ended: {error}"))
}

/// Serves until the standard input ends.
///
/// # Errors
/// If it cannot listen.
pub(crate) async fn serve(speaking: Speaking) -> Result<()> {
    let failed = |error: io::Error| Error::Unusable(format!("cannot serve: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let answered = Arc::new(AtomicU64::new(0));
    println!("{}", listener.local_addr().map_err(failed)?);
    let asked = spawn_blocking({
        let answered = Arc::clone(&answered);
        move || {
            let questions = io::stdin().lines().map_while(std::result::Result::ok);
            questions.for_each(|_| println!("{}", answered.load(Ordering::Relaxed)));
        }
    });
    let speaking = Arc::new(speaking);
    let accepting = async {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.map_err(failed)?;
                    connections.spawn(answer(stream, Arc::clone(&speaking), Arc::clone(&answered)));
                }
                Some(ended) = connections.join_next() => if let Ok(Err(error)) = ended {
                    tracing::debug!("a connection was lost: {error}");
                },
            }
        }
    };
    tokio::select! {
        ended = accepting => ended,
        ended = asked => ended.map_err(|error| failed(error.into())),
    }
}

/// Answers the requests of one connection, one after the other. They have no bodies: an empty line is the end of one.
async fn answer(stream: TcpStream, speaking: Arc<Speaking>, answered: Arc<AtomicU64>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        if line.is_empty() {
            let asked = answered.fetch_add(1, Ordering::Relaxed) + 1;
            write.write_all(spoken(&speaking, asked).as_bytes()).await?;
        }
    }
    Ok(())
}

fn spoken(speaking: &Speaking, asked: u64) -> String {
    let (status, body) = if asked <= speaking.busy {
        ("503 Service Unavailable", serde_json::json!({ "error": "busy" }))
    } else {
        let is_pending = asked - speaking.busy <= speaking.pending;
        let state = if is_pending { "running" } else { &speaking.state };
        ("200 OK", serde_json::json!({ "state": state, "asked": asked }))
    };
    let body = body.to_string();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
