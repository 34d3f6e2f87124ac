//! What can go wrong with sealed values and key files. No message holds a byte of a key or of a value.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::key::{KEY_LEN, KeyId};
use super::key_file::MAX_LEN;
use super::sealed::{Purpose, Sealed, VERSION};

/// Why a value could not be opened, or a key file not be used.
#[derive(Debug, Error)]
pub enum VaultError {
    /// The envelope is of a version that this release does not know.
    #[error(
        "value is sealed in version {version}, and this release reads version {VERSION}: run the release that wrote it"
    )]
    UnknownVersion {
        /// The version that the envelope names.
        version: u8,
    },
    /// There are fewer bytes than any sealed value has.
    #[error(
        "value has {length} bytes, and a sealed one has at least {}: it was cut, or never sealed",
        Sealed::OVERHEAD
    )]
    Cut {
        /// The number of bytes.
        length: usize,
    },
    /// The key that sealed the value is not at hand.
    #[error(
        "value is sealed with key {wanted}, which is not in the key file (it has {}): \
         point --key-file at the file that this database was first used with", listed(.have)
    )]
    UnknownKey {
        /// The key that sealed the value.
        wanted: KeyId,
        /// The keys at hand.
        have: Vec<KeyId>,
    },
    /// The key is at hand, but the tag does not vouch for what is there.
    #[error("{purpose} sealed with key {key} does not open: it was altered, or sealed for another purpose")]
    Refused {
        /// What the value was to be opened as.
        purpose: Purpose,
        /// The key that the envelope names.
        key: KeyId,
    },
    /// The key file could not be read.
    #[error("cannot read key file {}", .path.display())]
    ReadKeyFile {
        /// The key file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There was no key file, and none could be made.
    #[error("cannot create key file {}", .path.display())]
    CreateKeyFile {
        /// The key file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key file is a directory, a pipe or the like.
    #[error("key file {} is not a regular file: point --key-file at one", .path.display())]
    NotAFile {
        /// The key file.
        path: PathBuf,
    },
    /// The key file's mode gives rights to its group or to others.
    #[error("key file {0} can be read by others (mode {mode:04o}): run chmod 600 {0}", .path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is too long to be a key file.
    #[error("key file {} is longer than {MAX_LEN} bytes: point --key-file at a key file", .path.display())]
    TooLong {
        /// The key file.
        path: PathBuf,
    },
    /// The key file is empty, or has comments only.
    #[error(
        "key file {} has no key: restore it from a copy, or remove it if nothing was ever sealed with it",
        .path.display()
    )]
    NoKey {
        /// The key file.
        path: PathBuf,
    },
    /// A line of the key file is wrong.
    #[error("key file {}, line {line}: {fault}", .path.display())]
    Line {
        /// The key file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// What is wrong with a line of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LineFault {
    /// The line is no comment and not of the form `key = …`.
    #[error("expected `key = ` and {} hex digits, or a comment that begins with #", 2 * KEY_LEN)]
    NotAKey,
    /// The key is too long or too short.
    #[error("the key has {length} characters: write {} hex digits", 2 * KEY_LEN)]
    Length {
        /// The number of characters.
        length: usize,
    },
    /// The key has a character that is not a hex digit.
    #[error("the key has a character that is not a hex digit: use 0-9 and a-f alone")]
    NotHex,
    /// The key was named before. (Or one with the same id, of which the chance is 2^-32.)
    #[error("the key has the same id as the one in line {first}: remove one of them")]
    Repeated {
        /// The line that named it first.
        first: usize,
    },
}

fn listed(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}
