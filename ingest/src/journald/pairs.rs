//! `key=value` pairs as klog and logfmt write them: bare, quoted as Go quotes, or a Go value in brackets.

use std::{borrow::Cow, iter::Peekable, str::CharIndices};

/// Takes a Go-quoted string off the front; `None` if it does not start with a quote or does not end.
pub(crate) fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let body = text.strip_prefix('"')?;
    let mut unescaped: Option<String> = None;
    let mut chars = body.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => {
                let value = unescaped.map_or(Cow::Borrowed(&body[..i]), Cow::Owned);
                return Some((value, &body[i + 1..]));
            }
            '\\' => {
                let out = unescaped.get_or_insert_with(|| body[..i].to_owned());
                match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    // Bytes and code points by number are rare here and stay as they are written.
                    c @ ('x' | 'u' | 'U') => out.extend(['\\', c]),
                    c => out.push(c),
                }
            }
            c => {
                if let Some(out) = &mut unescaped {
                    out.push(c);
                }
            }
        }
    }
    None
}

/// The pairs of a text in their order; what is not a pair is passed over.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start();
            let end = rest.find([' ', '='])?;
            let key = &rest[..end];
            let after = &rest[end + 1..];
            if rest.as_bytes().get(end) != Some(&b'=') || key.is_empty() || key.contains('"') {
                rest = after;
                continue;
            }
            if let Some((value, after)) = quoted(after) {
                rest = after;
                return Some((key, value));
            }
            let end = bare(after);
            rest = &after[end..];
            return Some((key, Cow::Borrowed(&after[..end])));
        }
    })
}

/// Where a bare value ends: at a space outside of brackets and quotes.
fn bare(text: &str) -> usize {
    let mut depth = 0i32;
    let mut chars: Peekable<CharIndices> = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '"' => {
                while let Some((_, c)) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            ' ' if depth <= 0 => return i,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<(String, String)> {
        pairs(text).map(|(k, v)| (k.to_owned(), v.into_owned())).collect()
    }

    #[test]
    fn bare_quoted_and_bracketed() {
        let got = all(
            r#" err="a \"b\"\nc \u00e9" pod=ns/name junk event={"ID":"1 2","T":"x\" }"} n= last="open"#,
        );
        let want = [
            ("err", "a \"b\"\nc \\u00e9"),
            ("pod", "ns/name"),
            ("event", r#"{"ID":"1 2","T":"x\" }"}"#),
            ("n", ""),
            ("last", "\"open"),
        ];
        assert_eq!(got, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(all("no pairs here"), []);
        assert_eq!(all("="), []);
    }

    proptest! {
        /// What was quoted comes back, and any text has an end.
        #[test]
        fn what_was_quoted_comes_back(value in "[ -~é\n]{0,40}", tail in any::<String>()) {
            let text = format!("{}{tail}", quote(&value));
            let (got, rest) = quoted(&text).unwrap();
            prop_assert_eq!(got.as_ref(), value.as_str());
            prop_assert_eq!(rest, tail.as_str());
            prop_assert!(pairs(&tail).count() <= tail.len());
        }
    }

    fn quote(text: &str) -> String {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{escaped}\"")
    }
}
