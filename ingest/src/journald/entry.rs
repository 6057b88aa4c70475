//! One line of `journalctl -o json` (systemd's "Journal JSON Format") as an entry: a pure function of bytes.
//!
//! A value is a string; an array of numbers if it is not printable text; an array of such values if the field stands in
//! the entry more than once; null if journalctl left it out for its size. All of them are read, and cut to a bound.

use std::fmt;

use serde::{
    Deserializer as _,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::cursor::Cursor;

/// The fields that are read, besides those that every entry begins with (`__CURSOR`, the two times, `_BOOT_ID`):
/// systemd.journal-fields(7), the fields of systemd's own messages (systemd.messages(7)), and those by which Docker's
/// and Podman's journald drivers name a container.
pub(crate) const FIELDS: [&str; 29] = [
    "MESSAGE",
    "PRIORITY",
    "SYSLOG_IDENTIFIER",
    "MESSAGE_ID",
    "_PID",
    "_COMM",
    "_SYSTEMD_CGROUP",
    "_SYSTEMD_UNIT",
    "_TRANSPORT",
    "_SOURCE_REALTIME_TIMESTAMP",
    "_SOURCE_MONOTONIC_TIMESTAMP",
    "UNIT",
    "USER_UNIT",
    "UNIT_RESULT",
    "EXIT_CODE",
    "EXIT_STATUS",
    "N_RESTARTS",
    "JOB_TYPE",
    "JOB_RESULT",
    "EXECUTABLE",
    "N_DROPPED",
    "COREDUMP_PID",
    "COREDUMP_COMM",
    "COREDUMP_UNIT",
    "COREDUMP_CGROUP",
    "COREDUMP_SIGNAL_NAME",
    "CONTAINER_ID_FULL",
    "CONTAINER_NAME",
    "OBJECT_PID",
];

/// Fields that journalctl prints whatever was asked for.
const ADDRESS: [&str; 4] =
    ["__CURSOR", "__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "_BOOT_ID"];

/// A value other than the message is cut here, in bytes.
pub(crate) const VALUE_BYTES: usize = 512;

/// The end of year 9999, in µs: later times are not times.
const LAST_TIME_US: i64 = 253_402_300_800_000_000;
/// A sender's clock is believed if it is this close to the journal's.
const SOURCE_TOLERANCE_US: u64 = 86_400_000_000;

/// The value of one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Value {
    /// The text, cut to its bound; what is not UTF-8 is replaced by U+FFFD, values of a repeated field are joined by
    /// line feeds.
    pub text: String,
    /// Bytes of the whole value.
    pub bytes: usize,
    /// journalctl left the value, or one of them, out.
    pub left_out: bool,
}

impl Value {
    /// Whether `text` is not all of it.
    pub(crate) fn is_cut(&self) -> bool {
        self.left_out || self.bytes > self.text.len()
    }

    fn push(&mut self, bytes: &[u8], limit: usize) {
        if self.bytes > 0 {
            self.text.push('\n');
            self.bytes += 1;
        }
        self.bytes += bytes.len();
        let room = limit.saturating_sub(self.text.len());
        // One byte can become the three of U+FFFD, so cut before as well as after.
        let head = &bytes[..bytes.len().min(room)];
        let text = String::from_utf8_lossy(head);
        let mut end = text.len().min(room);
        if head.len() < bytes.len() {
            // A character that the cut went through is left out, not replaced.
            let whole = std::str::from_utf8(head).err().filter(|e| e.error_len().is_none());
            end = end.min(whole.map_or(end, |e| e.valid_up_to()));
        }
        self.text.push_str(cut(&text, end));
    }
}

/// One entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `__CURSOR`, never empty.
    pub cursor: String,
    /// `__REALTIME_TIMESTAMP`: when the journal got it, µs since the epoch.
    pub realtime_us: i64,
    /// `_BOOT_ID`, may be empty.
    pub boot_id: String,
    monotonic_us: Option<i64>,
    fields: Vec<(&'static str, Value)>,
}

/// Why a line is not an entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// Not one JSON object, or with values that the format does not have.
    #[error("not an entry in journal JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The field that says which entry it is, or when it came, is missing or makes no sense.
    #[error("an entry without a usable {0}")]
    Address(&'static str),
}

impl Entry {
    /// Reads one line; the message is cut to `message_bytes`, other values to [`VALUE_BYTES`].
    ///
    /// # Errors
    /// [`EntryError`]: the line is no entry; nothing of it is used.
    pub(crate) fn parse(line: &[u8], message_bytes: usize) -> Result<Self, EntryError> {
        let mut json = serde_json::Deserializer::from_slice(line);
        let fields = json.deserialize_map(Fields { message_bytes })?;
        json.end()?;
        let mut entry = Self { fields, ..Self::default() };
        entry.cursor = entry.take("__CURSOR");
        entry.boot_id = entry.take("_BOOT_ID");
        entry.monotonic_us = entry.take("__MONOTONIC_TIMESTAMP").parse().ok();
        let realtime = entry.take("__REALTIME_TIMESTAMP");
        if entry.cursor.is_empty() || entry.cursor.len() >= VALUE_BYTES {
            return Err(EntryError::Address("__CURSOR"));
        }
        entry.realtime_us = realtime
            .parse()
            .ok()
            .filter(|t| (0..LAST_TIME_US).contains(t))
            .ok_or(EntryError::Address("__REALTIME_TIMESTAMP"))?;
        Ok(entry)
    }

    fn take(&mut self, name: &str) -> String {
        let at = self.fields.iter().position(|(n, _)| *n == name);
        at.map(|i| self.fields.swap_remove(i).1.text).unwrap_or_default()
    }

    /// The field as it was read.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The text of a field, empty if the entry has none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.value(name).map_or("", |v| v.text.as_str())
    }

    /// The number of a field; of a repeated one the first.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.text(name).lines().next()?.trim().parse().ok()
    }

    /// What the cursor is made of, if it has the form that journald writes.
    pub(crate) fn position(&self) -> Option<Cursor<'_>> {
        Cursor::parse(&self.cursor)
    }

    /// When it happened, µs since the epoch: by the sender's clock if the sender said so and is at most a day off the
    /// journal's; for the kernel by its stamp since boot, if the line is old; else when the journal got it.
    pub(crate) fn ts_us(&self) -> i64 {
        let believed = |t: &i64| t.abs_diff(self.realtime_us) <= SOURCE_TOLERANCE_US;
        if self.text("_TRANSPORT") == "kernel" {
            return self.kernel_ts_us().unwrap_or(self.realtime_us);
        }
        let sent = self.number("_SOURCE_REALTIME_TIMESTAMP").filter(believed);
        sent.unwrap_or(self.realtime_us)
    }

    /// The ring buffer may be read long after a line was written, as when journald starts. Both stamps stand still in
    /// suspend, but the kernel's log runs by a clock that nobody corrects: what may be drift is not taken for age
    /// (adjtimex(2) corrects by 500 ppm at most).
    fn kernel_ts_us(&self) -> Option<i64> {
        let stamp = self.number("_SOURCE_MONOTONIC_TIMESTAMP").filter(|s| *s >= 0)?;
        let age = self.monotonic_us?.checked_sub(stamp)?;
        let drift = 1_000_000 + stamp / 2_000;
        self.realtime_us.checked_sub(age).filter(|t| age > drift && *t >= 0)
    }
}

struct Fields {
    message_bytes: usize,
}

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(&'static str, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with the fields of a journal entry")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Self::Value = Vec::with_capacity(FIELDS.len());
        while let Some(key) = map.next_key_seed(Key)? {
            let Some(name) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let limit = if name == "MESSAGE" { self.message_bytes } else { VALUE_BYTES };
            let at = match fields.iter().position(|(n, _)| *n == name) {
                Some(at) => at,
                None => {
                    fields.push((name, Value::default()));
                    fields.len() - 1
                }
            };
            map.next_value_seed(Into { value: &mut fields[at].1, limit, nested: false })?;
        }
        Ok(fields)
    }
}

/// The name of a field that is read, without copying it.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(FIELDS.iter().chain(&ADDRESS).find(|f| **f == name).copied())
    }
}

/// Reads a value into `value`.
struct Into<'a> {
    value: &'a mut Value,
    limit: usize,
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a string, bytes, null, or a list of these")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.value.push(text.as_bytes(), self.limit);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.value.left_out = true;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut bytes = Vec::new();
        let mut binary = false;
        while let Some(element) = seq.next_element_seed(Element {
            value: self.value,
            limit: self.limit,
            nested: self.nested,
        })? {
            if let Some(byte) = element {
                binary = true;
                bytes.push(byte);
            }
        }
        if binary {
            self.value.push(&bytes, self.limit);
        }
        Ok(())
    }
}

/// An element of a list: a byte of a binary value, or one of several values.
struct Element<'a> {
    value: &'a mut Value,
    limit: usize,
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Option<u8>;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Option<u8>, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Option<u8>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a byte or a value")
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Option<u8>, E> {
        u8::try_from(n).map(Some).map_err(|_| E::custom("a byte above 255"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<u8>, E> {
        let Self { value, limit, nested } = self;
        Into { value, limit, nested }.visit_str(text).map(|()| None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<u8>, E> {
        let Self { value, limit, nested } = self;
        Into { value, limit, nested }.visit_unit().map(|()| None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Option<u8>, A::Error> {
        if self.nested {
            return Err(A::Error::custom("a list of lists of lists"));
        }
        let Self { value, limit, .. } = self;
        Into { value, limit, nested: true }.visit_seq(seq).map(|()| None)
    }
}

/// `text` cut to `bytes` at a character's end.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = r#""__CURSOR":"s=a;i=1f;b=b;m=5;t=7;x=9","__REALTIME_TIMESTAMP":"20000000","__MONOTONIC_TIMESTAMP":"5000000""#;

    fn entry(fields: &str) -> Entry {
        Entry::parse(format!("{{{HEAD},{fields}}}").as_bytes(), 16).unwrap()
    }

    #[test]
    fn all_forms_of_a_value() {
        assert_eq!(entry(r#""MESSAGE":"a\nb\u00e9""#).text("MESSAGE"), "a\nbé");
        let binary = entry(r#""MESSAGE":[98,105,110,32,1,2,255,32,101]"#);
        assert_eq!(binary.text("MESSAGE"), "bin \u{1}\u{2}\u{fffd} e");
        assert_eq!(entry(r#""UNIT":["one","two",[116,104]]"#).text("UNIT"), "one\ntwo\nth");
        let left_out = entry(r#""MESSAGE":null"#);
        assert!(left_out.value("MESSAGE").unwrap().is_cut());
        assert_eq!(left_out.text("MESSAGE"), "");
        let partly = entry(r#""MESSAGE":["a",null]"#);
        assert!(partly.value("MESSAGE").unwrap().is_cut());
        assert_eq!(entry(r#""MESSAGE":[]"#).text("MESSAGE"), "");
        assert_eq!(entry(r#""PRIORITY":["3","4"]"#).number("PRIORITY"), Some(3));
        assert_eq!(entry(r#""PRIORITY":"x""#).number("PRIORITY"), None);
        assert!(entry(r#""NOT_READ":{"a":[1.5,true]}"#).value("NOT_READ").is_none());
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let long = entry(r#""MESSAGE":"aaaaaaaaaaaaaaaéé""#);
        let v = long.value("MESSAGE").unwrap();
        assert_eq!((v.text.as_str(), v.bytes, v.is_cut()), ("aaaaaaaaaaaaaaa", 19, true));
        let binary = entry(&format!(r#""MESSAGE":{:?}"#, vec![255u8; 40]));
        let v = binary.value("MESSAGE").unwrap();
        assert_eq!((v.text.chars().count(), v.bytes, v.is_cut()), (5, 40, true));
        let whole = entry(r#""MESSAGE":"aaaaaaaaaaaaaaaa""#);
        assert!(!whole.value("MESSAGE").unwrap().is_cut());
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        let parse = |s: &str| Entry::parse(s.as_bytes(), 16);
        for bad in ["", "{", "[]", "7", "null", "{}", "-- No entries --"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&format!("{{{HEAD}}}")).is_ok());
        assert!(parse(&format!("{{{HEAD}}} {{}}")).is_err());
        for bad in ["300", "-1", "1.5", "true", "[[[1]]]", "[[[[[]]]]]", "{}"] {
            assert!(parse(&format!("{{{HEAD},\"MESSAGE\":[{bad}]}}")).is_err(), "{bad}");
        }
        assert!(parse(r#"{"__CURSOR":"","__REALTIME_TIMESTAMP":"1"}"#).is_err());
        for time in ["-1", "x", "253402300800000000", "99999999999999999999"] {
            let line = format!(r#"{{"__CURSOR":"c","__REALTIME_TIMESTAMP":"{time}"}}"#);
            assert!(matches!(parse(&line), Err(EntryError::Address("__REALTIME_TIMESTAMP"))));
        }
    }

    #[test]
    fn the_time_is_the_senders_where_it_can_be() {
        let of = |fields: &str| entry(fields).ts_us();
        assert_eq!(of(r#""PRIORITY":"6""#), 20_000_000);
        assert_eq!(of(r#""_SOURCE_REALTIME_TIMESTAMP":"19999990""#), 19_999_990);
        let off = 20_000_001 + SOURCE_TOLERANCE_US.cast_signed();
        assert_eq!(of(&format!(r#""_SOURCE_REALTIME_TIMESTAMP":"{off}""#)), 20_000_000);
        let kernel = |stamp: i64| {
            of(&format!(r#""_TRANSPORT":"kernel","_SOURCE_MONOTONIC_TIMESTAMP":"{stamp}""#))
        };
        // Said 4 s before the journal read it.
        assert_eq!(kernel(1_000_000), 16_000_000);
        // What may be the clocks' drift is not taken for age.
        assert_eq!(kernel(3_999_000), 20_000_000);
        assert_eq!(kernel(5_000_001), 20_000_000);
        assert_eq!(kernel(i64::MIN), 20_000_000);
    }

    proptest! {
        /// Any bytes: an answer, and bounds that hold.
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Entry::parse(&bytes, 16);
        }

        /// What a JSON writer wrote comes back, whatever the text is.
        #[test]
        fn text_comes_back(text in any::<String>(), limit in 0usize..64) {
            let line = serde_json::json!({
                "__CURSOR": "c", "__REALTIME_TIMESTAMP": "5", "MESSAGE": text,
            });
            let e = Entry::parse(line.to_string().as_bytes(), limit).unwrap();
            let got = e.text("MESSAGE");
            prop_assert!(got.len() <= limit && text.starts_with(got));
            prop_assert!(got.len() + 4 > limit.min(text.len()));
            prop_assert_eq!(e.value("MESSAGE").unwrap().is_cut(), got != text);
            let bytes = serde_json::json!({
                "__CURSOR": "c", "__REALTIME_TIMESTAMP": "5", "MESSAGE": text.as_bytes(),
            });
            let b = Entry::parse(bytes.to_string().as_bytes(), limit).unwrap();
            prop_assert_eq!(b.text("MESSAGE"), got);
        }
    }
}
