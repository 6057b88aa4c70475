//! Name and password, and the bearer token that stands for them.

use std::io::Read;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tonic::metadata::MetadataMap;

/// Go's Flight SQL driver leaves the padding out, others write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user of the service, and the token that the handshake hands out for the life of this value.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: String,
    token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Credentials with a token of 256 random bits: sessions end when the server does.
    ///
    /// # Errors
    /// If the system's source of random numbers cannot be read.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> std::io::Result<Self> {
        let mut bytes = [0u8; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let token = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { user: user.into(), password: password.into(), token })
    }

    /// Credentials with a token of the operator's choice, for clients that are given it (16 characters at least).
    ///
    /// # Errors
    /// If the token is too short or cannot stand in a header.
    pub fn with_token(
        user: impl Into<String>,
        password: impl Into<String>,
        token: impl Into<String>,
    ) -> std::io::Result<Self> {
        let token = token.into();
        if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "a token needs 16 or more visible ASCII characters and no blanks",
            ));
        }
        Ok(Self { user: user.into(), password: password.into(), token })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Whether the headers carry the token, or name and password.
    pub(super) fn admit(&self, headers: &MetadataMap) -> bool {
        let Some(value) = headers.get("authorization").and_then(|v| v.to_str().ok()) else {
            return false;
        };
        match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                same(token.trim().as_bytes(), self.token.as_bytes())
            }
            Some((scheme, basic)) if scheme.eq_ignore_ascii_case("basic") => {
                BASE64.decode(basic.trim()).is_ok_and(|given| {
                    same(&given, format!("{}:{}", self.user, self.password).as_bytes())
                })
            }
            _ => false,
        }
    }

    /// The value of the `authorization` header for name and password.
    pub(super) fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
    }
}

/// Compares in a time that does not tell how much of it is right.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    given.len() == wanted.len()
        && given.iter().zip(wanted).fold(0u8, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> MetadataMap {
        let mut map = MetadataMap::new();
        map.insert("authorization", value.parse().unwrap());
        map
    }

    #[test]
    fn basic_is_accepted_with_and_without_padding() {
        let credentials = Credentials::new("alice", "secret").unwrap();
        for value in ["Basic YWxpY2U6c2VjcmV0", "basic  YWxpY2U6c2VjcmV0"] {
            assert!(credentials.admit(&headers(value)), "{value}");
        }
        let credentials = Credentials::new("bob", "pw").unwrap();
        assert!(credentials.admit(&headers("Basic Ym9iOnB3")));
        let credentials = Credentials::new("bob", "pwd1").unwrap();
        assert!(credentials.admit(&headers("Basic Ym9iOnB3ZDE=")));
        assert!(credentials.admit(&headers("Basic Ym9iOnB3ZDE")));
    }

    #[test]
    fn all_else_is_refused() {
        let credentials = Credentials::with_token("bob", "pw", "0123456789abcdef").unwrap();
        assert!(credentials.admit(&headers("Bearer 0123456789abcdef")));
        for value in ["Bearer 0123456789abcdee", "Bearer", "Basic ???", "Basic Ym9iOnA=", "x y"] {
            assert!(!credentials.admit(&headers(value)), "{value}");
        }
        assert!(!credentials.admit(&MetadataMap::new()));
        assert!(Credentials::with_token("a", "b", "short").is_err());
    }

    #[test]
    fn tokens_differ_and_are_not_printed() {
        let one = Credentials::new("a", "b").unwrap();
        assert_ne!(one.token(), Credentials::new("a", "b").unwrap().token());
        assert!(!format!("{one:?}").contains(one.token()));
    }
}
