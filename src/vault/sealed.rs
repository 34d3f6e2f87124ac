//! Sealed values, what they are for, and their envelope.
//!
//! | bytes | what they are |
//! |---|---|
//! | 1 | version of the envelope, [`VERSION`] |
//! | 4 | id of the key |
//! | 24 | nonce, and so the value's own id |
//! | n | ciphertext, as long as the value |
//! | 16 | tag, which vouches for all of it and for the purpose |

use std::fmt;

use super::error::VaultError;
use super::key::{KEY_ID_LEN, KeyId, NONCE_LEN, TAG_LEN};

/// The one version of the envelope that there is.
pub(super) const VERSION: u8 = 1;

/// What a value is for. A value sealed for one purpose does not open for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    // The numbers are bound into what is stored: they are never changed or used again.
    /// Where a task goes on.
    Step = 1,
    /// The payload of an event.
    Event = 2,
    /// The spec of a trigger, waiting or to be undone.
    Spec = 3,
    /// What a task returned.
    Result = 4,
    /// Nothing but a proof of the key; see [`Vault::seal_canary`](super::Vault::seal_canary).
    Canary = 5,
    /// What a check saw.
    Check = 6,
}

/// A sealed value, as the database holds it. Only [`Vault::open`](super::Vault::open) makes it readable.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// What an envelope consists of.
pub(super) struct Envelope<'a> {
    pub(super) key: KeyId,
    pub(super) nonce: &'a [u8; NONCE_LEN],
    pub(super) ciphertext: &'a [u8],
    pub(super) tag: &'a [u8; TAG_LEN],
}

impl Sealed {
    /// How many bytes longer than the value its sealed form is.
    pub const OVERHEAD: usize = 1 + KEY_ID_LEN + NONCE_LEN + TAG_LEN;

    /// Takes bytes as they came from the database. They are judged when they are opened.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, to store or to bind.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to store or to bind.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Takes the envelope apart, without opening it.
    pub(super) fn envelope(&self) -> Result<Envelope<'_>, VaultError> {
        match self.0.first() {
            // Before the length, because another version may be shorter.
            Some(&version) if version != VERSION => Err(VaultError::UnknownVersion { version }),
            _ => self.parts().ok_or(VaultError::Cut { length: self.0.len() }),
        }
    }

    fn parts(&self) -> Option<Envelope<'_>> {
        let (_version, rest) = self.0.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (ciphertext, tag) = rest.split_last_chunk()?;
        Some(Envelope { key: KeyId(*key), nonce, ciphertext, tag })
    }
}

/// What the tag vouches for beside the value and the nonce: version, key and purpose.
pub(super) fn bound(key: KeyId, purpose: Purpose) -> [u8; 1 + KEY_ID_LEN + 1] {
    let KeyId([a, b, c, d]) = key;
    [VERSION, a, b, c, d, purpose as u8]
}

/// Shows the length alone.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Event => "event",
            Self::Spec => "spec",
            Self::Result => "result",
            Self::Check => "check",
            Self::Canary => "canary",
        })
    }
}
