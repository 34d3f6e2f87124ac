//! What is kept of what a program writes. All of it is read, so that a program never waits for a full pipe.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The most that is kept of the standard output: it is stored with the event.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;

/// The most that is kept of the standard error: the last lines say what went wrong.
const TAIL_BYTES: usize = 2 * 1024;

/// Reads a pipe to its end.
pub(crate) async fn drain(pipe: &mut (impl AsyncRead + Unpin), mut keep: impl FnMut(&[u8])) -> io::Result<()> {
    let mut chunk = vec![0; 8 * 1024];
    loop {
        match pipe.read(&mut chunk).await? {
            0 => return Ok(()),
            read => keep(&chunk[..read]),
        }
    }
}

/// The beginning of what was written, and how much it was.
#[derive(Default)]
pub(crate) struct Head {
    kept: Vec<u8>,
    total: u64,
}

impl Head {
    pub(crate) fn keep(&mut self, chunk: &[u8]) {
        let room = HEAD_BYTES - self.kept.len();
        self.kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.total += chunk.len() as u64;
    }

    /// JSON where it is JSON, text otherwise, null where there is nothing. Text that was cut says so at its end.
    pub(crate) fn into_payload(self) -> Value {
        let text = String::from_utf8_lossy(&self.kept);
        if self.total > HEAD_BYTES as u64 {
            return Value::String(format!("{text}\n[cut: {HEAD_BYTES} bytes of {}]", self.total));
        }
        match text.trim_end() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        }
    }
}

/// The end of what was written.
#[derive(Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    pub(crate) fn keep(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
        let surplus = self.0.len().saturating_sub(TAIL_BYTES);
        self.0.drain(..surplus);
    }

    pub(crate) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.0).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn payload(chunks: &[&[u8]]) -> Value {
        let mut head = Head::default();
        chunks.iter().for_each(|chunk| head.keep(chunk));
        head.into_payload()
    }

    #[test]
    fn output_is_json_where_it_is_json() {
        assert_eq!(payload(&[b"{\"rows\":", b" 7}\n"]), json!({"rows": 7}));
        assert_eq!(payload(&[b"two words\n"]), json!("two words"));
        assert_eq!(payload(&[b"{\"rows\": 7} and more"]), json!("{\"rows\": 7} and more"));
        assert_eq!(payload(&[b"\xff"]), json!("\u{fffd}"));
        assert_eq!(payload(&[b"\n"]), Value::Null);
    }

    #[test]
    fn output_is_cut_past_its_limit_and_says_so() {
        let (full, one) = (vec![b'x'; HEAD_BYTES], b"x");
        assert_eq!(payload(&[&full]), json!("x".repeat(HEAD_BYTES)));
        let cut = payload(&[&full[1..], one, one]);
        let text = cut.as_str().expect("text");
        assert!(text.ends_with("x\n[cut: 65536 bytes of 65537]"), "{}", &text[HEAD_BYTES..]);
        assert_eq!(text.find('\n'), Some(HEAD_BYTES));
    }

    #[test]
    fn a_tail_is_what_was_written_last() {
        let mut tail = Tail::default();
        tail.keep(&[b'x'; 3 * TAIL_BYTES]);
        tail.keep(b"the end\n");
        let text = tail.into_text();
        assert_eq!(text.len(), TAIL_BYTES - 1);
        assert!(text.ends_with("xthe end"));
    }
}
