//! One key, and XAES-256-GCM under it.
//!
//! The construction is that of C2SP, <https://c2sp.org/XAES-256-GCM>: CMAC-AES-256 derives from the key and the first
//! 12 bytes of a 24-byte nonce a key for this one message, and AES-256-GCM seals the message under it, with the last
//! 12 bytes as its nonce. Nonces can so be drawn at random: 2^80 messages under one key leave a chance of 2^-32 that
//! two of them share one, where plain AES-GCM allows 2^32 messages.
//!
//! The rule that keeps it right: a nonce is drawn afresh for each message, and nothing but this file sees the key.

use std::fmt;

use aes_gcm::aead::{AeadInOut, Error as AeadError};
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use aes_gcm::aes::{Aes256, Block};
use aes_gcm::{Aes256Gcm, KeyInit};
use cmac::Cmac;
use cmac::digest::Mac;
use cmac::digest::common::InnerInit;
use dbl::Dbl;
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

/// Length of a key in bytes.
pub(super) const KEY_LEN: usize = 32;
/// Length of a nonce in bytes.
pub(super) const NONCE_LEN: usize = 24;
/// Length of an authentication tag in bytes.
pub(super) const TAG_LEN: usize = 16;
/// Length of a key id in bytes.
pub(super) const KEY_ID_LEN: usize = 4;

/// What a key's id is the CMAC of. No message of the derivation can meet it: those are 16 bytes long, and CMAC treats
/// a shorter one apart.
const ID_LABEL: &[u8] = b"reveille key id";

/// The public name of a key: the first four bytes of the CMAC-AES-256 of `reveille key id` under it, shown as hex.
///
/// It is computed from the key, so that a key file has no names to keep right, and gives nothing of the key away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub(super) [u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that is ready to seal and open. The bytes that it was made from are not kept.
pub(super) struct Key {
    id: KeyId,
    /// Boxed, so that a key that is moved leaves no copy behind: the cipher wipes itself only where it is dropped.
    cipher: Box<Aes256>,
    /// `K1` of the specification, the same for all messages.
    k1: Box<Zeroizing<Block>>,
}

impl Key {
    pub(super) fn new(bytes: &[u8; KEY_LEN]) -> Self {
        let cipher = Box::new(Aes256::new(bytes.into()));
        let mut mac = Cmac::inner_init(&*cipher);
        mac.update(ID_LABEL);
        let [a, b, c, d, ..]: [u8; 16] = mac.finalize().into_bytes().into();
        let mut k1 = Box::new(Zeroizing::<Block>::default());
        cipher.encrypt_block(&mut k1);
        **k1 = k1.dbl();
        Self { id: KeyId([a, b, c, d]), cipher, k1 }
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// Encrypts `buffer` in place and gives the tag that also vouches for `bound`.
    pub(super) fn encrypt(&self, nonce: &[u8; NONCE_LEN], bound: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
        let (cipher, nonce) = self.derive(nonce);
        cipher
            .encrypt_inout_detached(&nonce.into(), bound, buffer.into())
            .expect("only a value beyond 64 GiB is refused, and values are held in memory and stored in rows")
            .into()
    }

    /// Decrypts `buffer` in place, or fails and leaves it as it was.
    pub(super) fn decrypt(
        &self,
        nonce: &[u8; NONCE_LEN],
        bound: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        let (cipher, nonce) = self.derive(nonce);
        cipher.decrypt_inout_detached(&nonce.into(), bound, buffer.into(), tag.into())
    }

    /// The cipher and the nonce for one message: steps 3 to 6 of the specification, that is CMAC for two messages of one block.
    fn derive(&self, nonce: &[u8; NONCE_LEN]) -> (Aes256Gcm, [u8; 12]) {
        let (context, rest) = nonce.split_at(12);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let (halves, _) = Block::slice_as_chunks_mut(&mut *key);
        for (counter, half) in (1..).zip(halves.iter_mut()) {
            half[..4].copy_from_slice(&[0, counter, b'X', 0]);
            half[4..].copy_from_slice(context);
            half.iter_mut().zip(self.k1.iter()).for_each(|(byte, k1)| *byte ^= k1);
        }
        self.cipher.encrypt_blocks(halves);
        (Aes256Gcm::new((&*key).into()), rest.try_into().expect("24 bytes less 12 are 12"))
    }
}

/// Bytes from the operating system, never from a generator of our own: it knows of forks and of snapshots of virtual
/// machines, after which a generator in memory would give the same nonce twice.
pub(super) fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    SysRng.try_fill_bytes(&mut *bytes).expect("the operating system gives random bytes once it has started");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &[u8; NONCE_LEN] = b"ABCDEFGHIJKLMNOPQRSTUVWX";

    fn seals_to(key: u8, bound: &[u8], expected: u128, expected_tag: u128) {
        let key = Key::new(&[key; KEY_LEN]);
        let mut buffer = *b"XAES-256-GCM";
        let tag = key.encrypt(NONCE, bound, &mut buffer);
        assert_eq!(buffer[..], expected.to_be_bytes()[4..]);
        assert_eq!(tag, expected_tag.to_be_bytes());

        key.decrypt(NONCE, bound, &mut buffer, &tag).expect("what was just sealed opens");
        assert_eq!(&buffer, b"XAES-256-GCM");
    }

    #[test]
    fn the_first_vector_of_the_specification_holds() {
        seals_to(0x01, b"", 0xce54_6ef6_3c9c_c607_6592_3609, 0xb33a_9a19_74e9_6e52_daf2_fcf7_075e_2271);
    }

    #[test]
    fn the_second_vector_of_the_specification_holds() {
        seals_to(
            0x03,
            b"c2sp.org/XAES-256-GCM",
            0x986e_c183_2593_df54_43a1_7943,
            0x7fd0_83bf_3fdb_41ab_d740_a21f_71eb_769d,
        );
    }

    /// Sealed values name their key by this id, so it must never change.
    #[test]
    fn a_key_keeps_its_id() {
        assert_eq!(Key::new(&[0x01; KEY_LEN]).id().to_string(), "b0a53bc9");
    }

    #[test]
    fn what_does_not_open_is_left_encrypted() {
        let key = Key::new(&[0x01; KEY_LEN]);
        let mut buffer = *b"XAES-256-GCM";
        let tag = key.encrypt(NONCE, b"step", &mut buffer);
        let sealed = buffer;

        key.decrypt(NONCE, b"event", &mut buffer, &tag).expect_err("other bound bytes are refused");

        assert_eq!(buffer, sealed);
    }
}
