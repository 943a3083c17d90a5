//! Digests: the names of blobs.
//!
//! A [`Digest`] can only be made from a well-formed text or by hashing bytes,
//! so that it may be used as a file name and in a URL (CVE-2024-3727: digests
//! used unvalidated led to path traversal). The proof that content has its
//! digest is a [`Verified`], which only [`Hasher::verify`] makes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The hash function of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, the only one that content is verified with.
    Sha256,
    /// SHA-512: a name that the image spec registers; such content is refused.
    Sha512,
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// Why a text is not a digest, or a digest not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:hex`.
    #[error("digest {text:?} is not of the form sha256:<64 hex digits>")]
    Form {
        /// The text, shortened.
        text: String,
    },
    /// The algorithm is not one that the image spec registers.
    #[error("digest {text:?} has an unknown algorithm, sha256 is expected")]
    UnknownAlgorithm {
        /// The text, shortened.
        text: String,
    },
    /// The hex part has the wrong length.
    #[error("digest {text:?} has {found} hex digits instead of {expected}")]
    Length {
        /// The text, shortened.
        text: String,
        /// Digits found.
        found: usize,
        /// Digits that the algorithm has.
        expected: usize,
    },
    /// A character is not one of `0-9a-f`.
    #[error("digest {text:?} contains {character:?}, only 0-9 and a-f are allowed")]
    Character {
        /// The text, shortened.
        text: String,
        /// The first wrong character.
        character: char,
    },
    /// A digest that is well formed, but whose algorithm is not verified here.
    #[error("digest {digest} cannot be verified, only sha256 is supported")]
    Unsupported {
        /// The digest.
        digest: Digest,
    },
}

/// The digest of a blob: `sha256:` and 64 lower-case hex digits (or `sha512:` and 128).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    text: Box<str>,
    algorithm: Algorithm,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest with these 32 bytes.
    #[must_use]
    pub(crate) fn from_sha256(bytes: &[u8; 32]) -> Self {
        let text = format!("{}:{}", Algorithm::Sha256.name(), umiak_base::id::hex(bytes));
        Self { text: text.into_boxed_str(), algorithm: Algorithm::Sha256 }
    }

    /// The hash function.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex part alone, lower case.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The first twelve hex digits, as `docker images` and progress lines show them.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }

    /// The whole text, `sha256:…`.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.text
    }

    /// Refuses a digest that content cannot be verified with.
    ///
    /// # Errors
    ///
    /// [`DigestError::Unsupported`] for everything but SHA-256.
    pub fn require_verifiable(&self) -> Result<(), DigestError> {
        match self.algorithm {
            Algorithm::Sha256 => Ok(()),
            Algorithm::Sha512 => Err(DigestError::Unsupported { digest: self.clone() }),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || text.chars().take(140).collect::<String>();
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::Form { text: shown() });
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::UnknownAlgorithm { text: shown() }),
        };
        if let Some(character) = hex.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
            return Err(DigestError::Character { text: shown(), character });
        }
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length { text: shown(), found: hex.len(), expected: algorithm.hex_len() });
        }
        Ok(Self { text: text.into(), algorithm })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A running SHA-256, which also counts the bytes.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Sha256,
    bytes: u64,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    /// How many bytes were added.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of all bytes added.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut text = String::with_capacity(7 + 64);
        text.push_str(Algorithm::Sha256.name());
        text.push(':');
        for byte in self.state.finalize() {
            for nibble in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Digest { text: text.into_boxed_str(), algorithm: Algorithm::Sha256 }
    }

    /// Ends the hash and compares size and digest with what was promised.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] when either differs, or when `digest` is not SHA-256.
    pub fn verify(self, digest: &Digest, size: u64) -> Result<Verified, VerifyError> {
        digest.require_verifiable()?;
        if self.bytes != size {
            return Err(VerifyError::Size { digest: digest.clone(), found: self.bytes, expected: size });
        }
        let found = self.finish();
        if found != *digest {
            return Err(VerifyError::Digest { expected: digest.clone(), found });
        }
        Ok(Verified { digest: found, size })
    }
}

/// Why content is not what its descriptor promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The size differs.
    #[error("blob {digest} has {found} bytes, its descriptor says {expected}")]
    Size {
        /// The promised digest.
        digest: Digest,
        /// Bytes seen.
        found: u64,
        /// Bytes promised.
        expected: u64,
    },
    /// The content differs.
    #[error("blob {expected} is damaged or forged: its content has the digest {found}")]
    Digest {
        /// The promised digest.
        expected: Digest,
        /// The digest of the content.
        found: Digest,
    },
    /// The digest cannot be verified.
    #[error(transparent)]
    Algorithm(#[from] DigestError),
}

/// The proof that content of `size` bytes with this digest was seen whole.
///
/// Nothing but [`Hasher::verify`] makes one: a function that makes a blob
/// visible takes a `Verified`, so that unverified content cannot reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Verified {
    digest: Digest,
    size: u64,
}

impl Verified {
    /// The digest that the content was proved to have.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_the_known_one() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest.hex(), &EMPTY[7..]);
        assert_eq!(digest.short(), "e3b0c44298fc");
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn sha512_parses_but_is_not_usable() {
        let digest: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert_eq!(digest.algorithm(), Algorithm::Sha512);
        assert!(matches!(digest.require_verifiable(), Err(DigestError::Unsupported { .. })));
        assert!(Hasher::new().verify(&digest, 0).is_err());
    }

    #[test]
    fn nothing_else_parses() {
        let hex = "a".repeat(64);
        for text in [
            String::new(),
            "sha256".into(),
            "sha256:".into(),
            "sha256:../../etc/passwd".into(),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}a"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("SHA256:{hex}"),
            format!("md5:{}", "a".repeat(32)),
            format!("sha512:{hex}"),
            format!("sha256:{hex}\n"),
            format!(" sha256:{hex}"),
            format!("sha256:sha256:{hex}"),
            format!("sha256:{}/", &hex[1..]),
            format!("sha256:{}\0", &hex[1..]),
            format!("sha256:{}", "é".repeat(32)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} must not parse");
            let json = serde_json::to_string(&text).unwrap();
            assert!(serde_json::from_str::<Digest>(&json).is_err(), "{text:?} must not deserialize");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let error = format!("sha256:{}", "A".repeat(64)).parse::<Digest>().unwrap_err();
        assert!(error.to_string().contains("'A'"), "{error}");
        let error = "sha256:abc".parse::<Digest>().unwrap_err();
        assert!(error.to_string().contains("3 hex digits instead of 64"), "{error}");
    }

    #[test]
    fn verify_checks_size_and_content() {
        let digest = Digest::of(b"hello");
        let hash = |bytes: &[u8]| {
            let mut hasher = Hasher::new();
            bytes.chunks(2).for_each(|chunk| hasher.update(chunk));
            hasher
        };
        let verified = hash(b"hello").verify(&digest, 5).unwrap();
        assert_eq!((verified.digest(), verified.size()), (&digest, 5));
        assert!(matches!(hash(b"hello").verify(&digest, 6), Err(VerifyError::Size { found: 5, .. })));
        assert!(matches!(hash(b"hullo").verify(&digest, 5), Err(VerifyError::Digest { .. })));
    }
}
