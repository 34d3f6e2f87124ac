//! A server with jobs.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and target, such as `GET /jobs/7`.
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Null if there was none.
    pub(crate) body: Value,
}

/// Status, headers and JSON.
pub(crate) type Said = (u16, &'static str, Value);

type Answering = Arc<dyn Fn(&Asked) -> Said + Send + Sync>;

pub(crate) struct Service {
    address: SocketAddr,
    asked: watch::Receiver<Vec<Asked>>,
    accepting: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn answering(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (seen, asked) = watch::channel(Vec::new());
        let answering: Answering = Arc::new(answer);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (answering, seen) = (Arc::clone(&answering), seen.clone());
                tokio::spawn(async move { serve(stream, &answering, &seen).await });
            }
        });
        Self { address, asked, accepting }
    }

    /// One that says these, one after the other, and goes on with the last.
    pub(crate) async fn saying<const N: usize>(all: [(u16, Value); N]) -> Self {
        let next = std::sync::Mutex::new(0);
        Self::answering(move |_| {
            let mut next = next.lock().expect("a lock");
            let (status, body) = all[*next].clone();
            *next = (*next + 1).min(N - 1);
            (status, "", body)
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, answering: &Answering, seen: &watch::Sender<Vec<Asked>>) {
    while let Some(asked) = read(&mut stream).await {
        let (status, headers, body) = answering(&asked);
        seen.send_modify(|all| all.push(asked));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n{headers}");
        let said = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head in UTF-8");
    let mut lines = head.lines();
    let line = lines.next().expect("a request line").trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("json") };
    Some(Asked { line, headers, body })
}
