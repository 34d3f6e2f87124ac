//! Seals values before they are stored, and opens them again.
//!
//! Steps, events, specs and results can hold secrets, so the database gets them sealed with AES-256-GCM, under a key
//! derived afresh for each value as XAES-256-GCM lays down (C2SP, <https://c2sp.org/XAES-256-GCM>). The envelope names
//! the key, so that values under several keys can lie side by side.
//!
//! The rule that keeps it right: a value is bound to its own nonce and to its [`Purpose`], not to its row. SQL can so
//! move it from table to table unopened, but a step never opens as an event. What this does not guard against is
//! somebody with write access to the database who puts one row's value, or an older one, in the place of another.

mod error;
mod key;
mod key_file;
mod sealed;

use std::fmt;
use std::iter;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

pub use error::{LineFault, VaultError};
pub use key::KeyId;
pub use sealed::{Purpose, Sealed};

use key::{Key, random};
use sealed::{VERSION, bound};

/// The key ring, which seals with one key and opens with any of several. Clones share it.
///
/// Keys are wiped from memory when the last clone is dropped.
#[derive(Clone)]
pub struct Vault {
    ring: Arc<Ring>,
}

/// At least one key, so that sealing cannot fail; no two with the same id.
struct Ring {
    sealing: Key,
    opening: Vec<Key>,
}

impl Vault {
    /// Reads the keys from a key file.
    ///
    /// A key file is text. Empty lines and lines that begin with `#` say nothing, and each other line is
    /// `key = ` with the 32 bytes of a key as 64 hex digits. The first key seals, and all of them open.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not a regular file, gives any right to its group or to others, holds no key,
    /// or has a line that is wrong.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, VaultError> {
        key_file::read(path.as_ref()).map(Self::new)
    }

    /// Reads the keys from a key file, and makes one with a fresh key first if there is none.
    ///
    /// Of several processes that do so at once, one makes the file and all read it. Missing directories are made too,
    /// for the owner alone. A file that this makes is on disk before this returns, so that nothing is sealed with a key
    /// that a power failure takes away.
    ///
    /// # Errors
    ///
    /// As for [`Vault::read`], and if the file cannot be made.
    pub fn read_or_create(path: impl AsRef<Path>) -> Result<Self, VaultError> {
        key_file::read_or_create(path.as_ref()).map(Self::new)
    }

    /// A vault with one fresh key that is kept nowhere, for tests and for databases in memory.
    pub fn ephemeral() -> Self {
        Self::new(Ring { sealing: Key::new(&random()), opening: Vec::new() })
    }

    fn new(ring: Ring) -> Self {
        Self { ring: Arc::new(ring) }
    }

    /// Seals a value.
    pub fn seal(&self, purpose: Purpose, plain: &[u8]) -> Sealed {
        let key = &self.ring.sealing;
        let nonce = random();
        let mut bytes = Vec::with_capacity(plain.len() + Sealed::OVERHEAD);
        bytes.push(VERSION);
        bytes.extend_from_slice(&key.id().0);
        bytes.extend_from_slice(&*nonce);
        let start = bytes.len();
        bytes.extend_from_slice(plain);
        let tag = key.encrypt(&nonce, &bound(key.id(), purpose), &mut bytes[start..]);
        bytes.extend_from_slice(&tag);
        Sealed::from_bytes(bytes)
    }

    /// Opens a value that was sealed for this purpose. What is returned is wiped from memory when it is dropped.
    ///
    /// # Errors
    ///
    /// [`VaultError::UnknownKey`] if the ring lacks the key, [`VaultError::UnknownVersion`] if a later release sealed
    /// it, [`VaultError::Cut`] or [`VaultError::Refused`] if it is not as it was sealed, or not for this purpose.
    pub fn open(&self, purpose: Purpose, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let envelope = sealed.envelope()?;
        let key = self.key(envelope.key)?;
        let mut plain = Zeroizing::new(envelope.ciphertext.to_vec());
        key.decrypt(envelope.nonce, &bound(envelope.key, purpose), &mut plain, envelope.tag)
            // The source says nothing but that it failed, and on purpose.
            .map_err(|_| VaultError::Refused { purpose, key: envelope.key })?;
        Ok(plain)
    }

    /// Seals nothing, as a proof of the key: stored when a database is first used and checked at each start, it tells
    /// of a wrong key file before anything is sealed with it.
    pub fn seal_canary(&self) -> Sealed {
        self.seal(Purpose::Canary, b"")
    }

    /// Checks that the key that sealed the canary is in the ring.
    ///
    /// # Errors
    ///
    /// As for [`Vault::open`]; a wrong key file is [`VaultError::UnknownKey`].
    pub fn check_canary(&self, canary: &Sealed) -> Result<(), VaultError> {
        self.open(Purpose::Canary, canary).map(drop)
    }

    fn key(&self, id: KeyId) -> Result<&Key, VaultError> {
        self.ring
            .keys()
            .find(|key| key.id() == id)
            .ok_or_else(|| VaultError::UnknownKey { wanted: id, have: self.ring.keys().map(Key::id).collect() })
    }
}

impl Ring {
    fn keys(&self) -> impl Iterator<Item = &Key> {
        iter::once(&self.sealing).chain(&self.opening)
    }
}

/// Shows the ids of the keys alone, the sealing one first.
impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")?;
        f.debug_list().entries(self.ring.keys().map(Key::id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSES: [Purpose; 5] = [Purpose::Step, Purpose::Event, Purpose::Spec, Purpose::Result, Purpose::Canary];

    /// A vault that seals with the first of these keys and opens with all.
    fn vault(sealing: u8, opening: &[u8]) -> Vault {
        let key = |byte: u8| Key::new(&[byte; 32]);
        Vault::new(Ring { sealing: key(sealing), opening: opening.iter().copied().map(key).collect() })
    }

    #[test]
    fn what_is_sealed_opens() {
        let vault = Vault::ephemeral();
        for plain in [&b""[..], b"a", &[7; 5000]] {
            for purpose in PURPOSES {
                let sealed = vault.seal(purpose, plain);
                assert_eq!(sealed.as_bytes().len(), plain.len() + Sealed::OVERHEAD);
                assert_eq!(*vault.open(purpose, &sealed).unwrap(), plain);
            }
        }
    }

    /// Made once, with another implementation: a release that cannot open it could not open its users' databases.
    #[test]
    fn a_value_of_the_first_release_opens() {
        let golden = "01b0a53bc94142434445464748494a4b4c4d4e4f505152535455565758\
                      f07c59d6658e815424b01437b9716ed1c31d8150b14eba05f166c3522a";
        let bytes: Vec<u8> =
            (0..golden.len()).step_by(2).map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap()).collect();
        let plain = vault(1, &[]).open(Purpose::Spec, &Sealed::from_bytes(bytes)).unwrap();
        assert_eq!(*plain, b"first release");
    }

    #[test]
    fn a_value_sealed_twice_is_not_the_same() {
        let vault = Vault::ephemeral();
        assert_ne!(vault.seal(Purpose::Step, b"same"), vault.seal(Purpose::Step, b"same"));
    }

    #[test]
    fn a_value_does_not_open_for_another_purpose() {
        let vault = Vault::ephemeral();
        for sealed_for in PURPOSES {
            let sealed = vault.seal(sealed_for, b"secret");
            for purpose in PURPOSES.into_iter().filter(|purpose| *purpose != sealed_for) {
                assert!(matches!(vault.open(purpose, &sealed), Err(VaultError::Refused { .. })));
            }
        }
    }

    #[test]
    fn a_change_of_any_bit_is_refused() {
        let vault = Vault::ephemeral();
        let sealed = vault.seal(Purpose::Event, b"secret").into_bytes();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                let error = vault.open(Purpose::Event, &Sealed::from_bytes(changed)).unwrap_err();
                assert!(match at {
                    0 => matches!(error, VaultError::UnknownVersion { .. }),
                    1..5 => matches!(error, VaultError::UnknownKey { .. }),
                    _ => matches!(error, VaultError::Refused { .. }),
                });
            }
        }
    }

    #[test]
    fn a_cut_value_is_refused() {
        let vault = Vault::ephemeral();
        let sealed = vault.seal(Purpose::Event, b"secret").into_bytes();
        for length in 0..sealed.len() {
            let error = vault.open(Purpose::Event, &Sealed::from_bytes(&sealed[..length])).unwrap_err();
            assert!(match length {
                0..Sealed::OVERHEAD => matches!(error, VaultError::Cut { .. }),
                _ => matches!(error, VaultError::Refused { .. }),
            });
        }
    }

    #[test]
    fn an_unknown_key_is_named_and_so_are_those_at_hand() {
        let sealed = vault(1, &[]).seal(Purpose::Step, b"secret");
        let error = vault(2, &[3]).open(Purpose::Step, &sealed).unwrap_err();
        assert_eq!(
            error.to_string(),
            "value is sealed with key b0a53bc9, which is not in the key file (it has ad26ec32, 0a9e64ef): \
             point --key-file at the file that this database was first used with"
        );
    }

    #[test]
    fn values_under_several_keys_lie_side_by_side() {
        let (old, new) = (vault(1, &[]), vault(2, &[1]));
        let values = [old.seal(Purpose::Step, b"old"), new.seal(Purpose::Step, b"new")];

        assert_eq!(*new.open(Purpose::Step, &values[0]).unwrap(), b"old");
        assert_eq!(*new.open(Purpose::Step, &values[1]).unwrap(), b"new");
        assert!(matches!(old.open(Purpose::Step, &values[1]), Err(VaultError::UnknownKey { .. })));
    }

    #[test]
    fn the_canary_tells_of_a_wrong_key() {
        let canary = vault(1, &[]).seal_canary();
        vault(1, &[]).check_canary(&canary).unwrap();
        vault(2, &[1]).check_canary(&canary).unwrap();
        assert!(matches!(vault(2, &[]).check_canary(&canary), Err(VaultError::UnknownKey { .. })));
        let step = vault(1, &[]).seal(Purpose::Step, b"");
        assert!(matches!(vault(1, &[]).check_canary(&step), Err(VaultError::Refused { .. })));
    }

    #[test]
    fn debug_shows_no_key_and_no_value() {
        let vault = vault(1, &[2]);
        assert_eq!(format!("{vault:?}"), "Vault[b0a53bc9, ad26ec32]");
        assert_eq!(format!("{:?}", vault.seal(Purpose::Step, b"secret")), "Sealed(51 bytes)");
    }
}
