//! A batch as SQLite is given it: one JSON array of its rows, and beside it the bytes that JSON cannot hold.

use serde_json::Value;
use uuid::{Uuid, fmt::Simple};

/// The bytes of a batch, one after the other. A row says where its own begin, counted from 1 as `substr` does, and how
/// many they are.
#[derive(Debug, Default)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    pub(super) fn add(&mut self, bytes: &[u8]) -> (usize, usize) {
        let begins = self.0.len() + 1;
        self.0.extend_from_slice(bytes);
        (begins, bytes.len())
    }

    /// For what may be null: `substr` from null is null.
    pub(super) fn add_some(&mut self, bytes: Option<&[u8]>) -> (Option<usize>, usize) {
        bytes.map_or((None, 0), |bytes| {
            let (begins, length) = self.add(bytes);
            (Some(begins), length)
        })
    }

    pub(super) fn into_inner(self) -> Vec<u8> {
        self.0
    }
}

/// The rows, each of them an array.
pub(super) fn array(rows: impl IntoIterator<Item = Value>) -> String {
    Value::from_iter(rows).to_string()
}

/// As `unhex` reads it.
pub(super) fn hex(id: Uuid) -> Simple {
    id.simple()
}
