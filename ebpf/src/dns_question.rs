//! The question of a DNS message, from foreign bytes.

/// Name and type of a question (RFC 1035, 4.1.2), of which the end may be missing: the name in lower case without the last
/// dot (`.` is the root), what is not printable ASCII as `?`.
///
/// `None` for what cannot be read: the name of no bytes or of a compressed one, the type that is cut off.
pub fn dns_question(bytes: &[u8]) -> (Option<String>, Option<u16>) {
    let mut name = String::new();
    let mut at = 0;
    loop {
        let Some(length) = bytes.get(at).map(|l| usize::from(*l)) else {
            return ((!name.is_empty()).then_some(name), None);
        };
        at += 1;
        if length == 0 {
            break;
        }
        // Compression (two high bits) cannot be in the first question.
        if length > 63 {
            return (None, None);
        }
        if !name.is_empty() {
            name.push('.');
        }
        let label = bytes.get(at..).unwrap_or_default();
        name.extend(label.iter().take(length).map(|b| match b {
            b'!'..=b'~' => char::from(b.to_ascii_lowercase()),
            _ => '?',
        }));
        at += length;
    }
    if name.is_empty() {
        name.push('.');
    }
    let query_type = bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    (Some(name), query_type)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(name: &str, query_type: u16) -> Vec<u8> {
        let labels = name.split('.').filter(|l| !l.is_empty());
        let mut bytes: Vec<u8> =
            labels.flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
        bytes.push(0);
        bytes.extend(query_type.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    #[test]
    fn questions_are_read() {
        let read = dns_question(&wire("Api.Shop.svc.cluster.local", 28));
        assert_eq!(read, (Some("api.shop.svc.cluster.local".into()), Some(28)));
        assert_eq!(dns_question(&wire("", 2)), (Some(".".into()), Some(2)));
        assert_eq!(dns_question(&[]), (None, None));
        assert_eq!(dns_question(&[0xc0, 12, 0, 1]), (None, None));
        let long = wire(&format!("{}.test", "a".repeat(63)), 1);
        assert_eq!(dns_question(&long[..40]), (Some("a".repeat(39)), None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let (name, _) = dns_question(&bytes);
            prop_assert!(name.is_none_or(|n| n.len() <= 80 && n.bytes().all(|b| b.is_ascii_graphic())));
        }

        #[test]
        fn names_are_read_back(
            labels in prop::collection::vec("[a-z0-9_-]{1,20}", 1..4),
            query_type in any::<u16>(),
        ) {
            let name = labels.join(".");
            prop_assert_eq!(dns_question(&wire(&name, query_type)), (Some(name), Some(query_type)));
        }
    }
}
