//! What a look finds, and what of it the task resumes with.

use std::{
    fs::Metadata,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// What was found: the payload a task resumes with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What was there, ordered by path; never empty.
    pub files: Vec<FoundFile>,
}

/// A file that had settled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FoundFile {
    /// Its absolute path, as it matched: symbolic links are not resolved.
    pub path: Utf8PathBuf,
    /// Its size in bytes; 0 for a directory.
    pub size: u64,
}

/// A file as one look saw it. Two looks that saw the same saw a file that did not grow in between.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seen {
    file: FoundFile,
    /// Tells a file from another that took its place under the same name.
    inode: u64,
    /// By its host's clock, in seconds and nanoseconds: only ever compared with itself.
    modified: (i64, i64),
}

impl Seen {
    pub(crate) fn new(path: Utf8PathBuf, metadata: &Metadata) -> Self {
        // The size of a directory depends on its file system, and says nothing about what is in it.
        let size = if metadata.is_dir() { 0 } else { metadata.len() };
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { file: FoundFile { path, size }, inode: metadata.ino(), modified }
    }
}

/// All that one look saw, ordered by path, each path once.
#[derive(Debug)]
pub(crate) struct Listing(Vec<Seen>);

impl Listing {
    pub(crate) fn new(mut seen: Vec<Seen>) -> Self {
        seen.sort_unstable();
        // A pattern with more than one `**` can lead to a file in several ways.
        seen.dedup_by(|a, b| a.file.path == b.file.path);
        Self(seen)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Stands for the listing between two looks, so that a trigger remembers 8 bytes and not ten thousand paths. The
    /// same on one replica only, which is as far as a memory reaches.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn into_found(self) -> Found {
        Found { files: self.0.into_iter().map(|seen| seen.file).collect() }
    }
}
