//! From the bytes of a file to the dates of its certificates.
//!
//! Only `CERTIFICATE` blocks (RFC 7468) and `client-certificate-data` of a kubeconfig are decoded; a private key beside
//! them is never looked into. The bytes are foreign: whatever they are, the answer is certificates or reasons.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::oid_registry,
    prelude::FromDer,
    time::ASN1Time,
    x509::{AttributeTypeAndValue, X509Name},
};

/// How many certificates of one file are read.
pub(super) const MOST_IN_FILE: usize = 100;
/// Longer names are cut.
const NAME_CHARS: usize = 200;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";
const ANY_BEGIN: &[u8] = b"-----BEGIN ";
const KUBECONFIG_KEY: &[u8] = b"client-certificate-data";

/// What is kept of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Common name, else the first subject alternative name, else the whole name.
    pub subject: Option<String>,
    /// Common name, else the whole name.
    pub issuer: Option<String>,
    /// Hexadecimal.
    pub serial: String,
    /// µs since the epoch; `None` beyond 1677-09-21 to 2262-04-11.
    pub not_before: Option<i64>,
    /// µs since the epoch; `None` beyond 1677-09-21 to 2262-04-11.
    pub not_after: Option<i64>,
    pub is_ca: bool,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// By position in the file.
    pub certificates: Vec<(i64, Decoded)>,
    /// What looked like a certificate and is none, or was too much.
    pub damaged: Vec<String>,
    pub is_kubeconfig: bool,
    /// Other PEM blocks were there: keys, parameters.
    pub has_other_blocks: bool,
    /// Of a block that was passed over or of one that was read: the position of the next one.
    next: i64,
}

/// Reads what is in a file; with `only_first` no more than its first certificate, the leaf of a chain.
pub(super) fn decode(bytes: &[u8], only_first: bool) -> Contents {
    let most = if only_first { 1 } else { MOST_IN_FILE };
    let mut contents = Contents::default();
    contents.pem(bytes, most);
    if contents.next == 0 && !contents.has_other_blocks {
        contents.kubeconfig(bytes, most);
    }
    if contents.next as usize > MOST_IN_FILE && !only_first {
        let more = contents.next as usize - MOST_IN_FILE;
        contents.damaged.push(format!("has {more} certificates more than the {MOST_IN_FILE} read"));
    }
    contents
}

impl Contents {
    fn pem(&mut self, bytes: &[u8], most: usize) {
        let mut block: Option<Vec<u8>> = None;
        for line in bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii) {
            if line == BEGIN {
                if block.replace(Vec::new()).is_some() {
                    self.broken("a CERTIFICATE block has no end");
                }
            } else if line == END {
                match block.take() {
                    Some(body) => self.add(&body, most),
                    None => self.damaged.push("a CERTIFICATE block has no begin".into()),
                }
            } else if line.starts_with(ANY_BEGIN) {
                self.has_other_blocks = true;
                if block.take().is_some() {
                    self.broken("a CERTIFICATE block has no end");
                }
            } else if let Some(body) = &mut block {
                body.extend(line.iter().filter(|b| !b.is_ascii_whitespace()));
            }
        }
        if block.is_some() {
            self.broken("a CERTIFICATE block has no end");
        }
    }

    /// The one line of base64 after each `client-certificate-data`, as client-go writes it; YAML or JSON.
    fn kubeconfig(&mut self, bytes: &[u8], most: usize) {
        for line in bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii) {
            let mut rest = if line.starts_with(b"#") { &[] } else { line };
            while let Some(at) = position(rest, KUBECONFIG_KEY) {
                self.is_kubeconfig = true;
                rest = rest[at + KUBECONFIG_KEY.len()..].trim_ascii_start();
                let quoted = |b: &u8| matches!(b, b'"' | b'\'' | b' ' | b':');
                let start = rest.iter().position(|b| !quoted(b)).unwrap_or(rest.len());
                let of_base64 =
                    |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
                let length = rest[start..].iter().take_while(|b| of_base64(b)).count();
                let (value, after) = rest[start..].split_at(length);
                rest = after;
                match STANDARD.decode(value) {
                    Ok(pem) if !pem.is_empty() => self.pem(&pem, most),
                    _ => self.broken("client-certificate-data is not base64 in one line"),
                }
            }
        }
    }

    fn broken(&mut self, why: &str) {
        self.damaged.push(format!("{why} (number {})", self.next));
        self.next += 1;
    }

    fn add(&mut self, body: &[u8], most: usize) {
        if self.next as usize >= most {
            self.next += 1;
            return;
        }
        let decoded = match STANDARD.decode(body) {
            Ok(der) => certificate(&der),
            Err(e) => Err(format!("is not base64: {e}")),
        };
        match decoded {
            Ok(certificate) => {
                self.certificates.push((self.next, certificate));
                self.next += 1;
            }
            Err(e) => self.broken(&format!("a CERTIFICATE block {e}")),
        }
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|w| w == wanted)
}

/// Reads a certificate (RFC 5280 §4.1) without judging it: no signature is checked.
fn certificate(der: &[u8]) -> Result<Decoded, String> {
    let (_, c) = X509Certificate::from_der(der).map_err(|e| format!("is no certificate: {e}"))?;
    let validity = c.validity();
    Ok(Decoded {
        subject: common_name(c.subject())
            .or_else(|| alternative(&c))
            .or_else(|| whole(c.subject())),
        issuer: common_name(c.issuer()).or_else(|| whole(c.issuer())),
        serial: c.raw_serial().iter().take(64).map(|b| format!("{b:02x}")).collect(),
        not_before: micros(&validity.not_before),
        not_after: micros(&validity.not_after),
        is_ca: c.is_ca(),
    })
}

/// Where nanoseconds have no number for a date, engines that compare in them (DataFusion with a `TIMESTAMP` literal) fail
/// on the whole column.
fn micros(time: &ASN1Time) -> Option<i64> {
    time.timestamp().checked_mul(1_000_000_000).map(|ns| ns / 1_000)
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().filter_map(attribute).next()
}

/// Text of the types that are UTF-8 or a part of it, and of BMPString (UCS-2).
fn attribute(value: &AttributeTypeAndValue<'_>) -> Option<String> {
    const BMP_STRING: u32 = 30;
    if let Ok(text) = value.as_str() {
        return shown(text);
    }
    if value.attr_value().tag().0 != BMP_STRING {
        return None;
    }
    let pairs = value.as_slice().chunks_exact(2).map(|p| u16::from_be_bytes([p[0], p[1]]));
    shown(&char::decode_utf16(pairs).map(|c| c.unwrap_or('\u{fffd}')).collect::<String>())
}

fn alternative(c: &X509Certificate<'_>) -> Option<String> {
    let names = c.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            shown(text)
        }
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(Ipv4Addr::from(v4).to_string()),
            Err(_) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    })
}

fn whole(name: &X509Name<'_>) -> Option<String> {
    shown(&name.to_string_with_registry(oid_registry()).ok()?)
}

/// A foreign text as it may stand in a line on a terminal; `None` if nothing is left of it.
pub(super) fn shown(text: &str) -> Option<String> {
    let text = text.trim();
    let safe = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let cut: String = text.chars().take(NAME_CHARS).map(safe).collect();
    (!cut.is_empty()).then_some(cut)
}
