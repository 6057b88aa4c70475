//! What a journal cursor says: `s=…;i=…;b=…;m=…;t=…;x=…` (sd_journal_get_cursor(3); the fields are those that
//! `sd_journal_seek_cursor` reads).

/// A cursor in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor<'a> {
    /// Id of the counter that numbers the entries: one per file, or shared by the files that one journald wrote.
    pub counter: &'a str,
    /// The entry's number; consecutive where nothing is missing.
    pub number: u64,
    /// Boot id, without dashes.
    pub boot: &'a str,
    /// µs since that boot, wall clock and hash of the fields: what makes the entry what it is, in whichever file.
    content: [&'a str; 3],
}

impl<'a> Cursor<'a> {
    /// `None` if a part is missing or the number is not hexadecimal.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let part = |name: &str| text.split(';').find_map(|p| p.strip_prefix(name));
        Some(Self {
            counter: part("s=")?,
            number: u64::from_str_radix(part("i=")?, 16).ok()?,
            boot: part("b=")?,
            content: [part("m=")?, part("t=")?, part("x=")?],
        })
    }

    /// Whether both name the same entry: the same number, or a copy under another counter, as when the volatile
    /// journal is flushed to disk.
    pub(crate) fn same_entry(&self, other: &Self) -> bool {
        let number = self.counter != other.counter || self.number == other.number;
        number && self.boot == other.boot && self.content == other.content
    }

    /// When the entry was written, µs since the epoch.
    pub(crate) fn realtime_us(&self) -> Option<i64> {
        i64::from_str_radix(self.content[1], 16).ok()
    }
}

/// How many counters are kept in mind: journald has one or a few.
const COUNTERS: usize = 16;

/// Notices numbers that were left out.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: Vec<(String, u64)>,
}

impl Sequence {
    /// Takes the next entry; answers how many entries between it and what came before did not come.
    ///
    /// Files of one journald may share the numbering under different ids, so a number that was seen under another
    /// counter is not missing. The answer is a lower bound, never too high for one journald; 0 for a new counter.
    pub(crate) fn next(&mut self, at: &Cursor) -> u64 {
        let before = self.last.iter().map(|(_, n)| *n).filter(|n| *n < at.number).max();
        match self.last.iter_mut().find(|(c, _)| c == at.counter) {
            Some((_, last)) => {
                let from = before.unwrap_or(0).max(*last);
                *last = at.number;
                at.number.saturating_sub(from).saturating_sub(1)
            }
            None => {
                if self.last.len() == COUNTERS {
                    self.last.remove(0);
                }
                self.last.push((at.counter.to_owned(), at.number));
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(counter: &str, number: u64) -> Cursor<'_> {
        Cursor { counter, number, boot: "b", content: ["1", "2", "3"] }
    }

    #[test]
    fn a_real_cursor() {
        let text = "s=cbbb19ee768b49a39751cefd16ba459b;i=a39;b=27935a8c58004fa59f784dc8005e8b4f;m=56f3c4333;t=660f438b736f0;x=3a1ed2b7691eea53";
        let c = Cursor::parse(text).unwrap();
        assert_eq!((c.number, c.realtime_us()), (0xa39, Some(1_795_451_900_081_904)));
        assert_eq!(c.boot, "27935a8c58004fa59f784dc8005e8b4f");
        for bad in ["", "s=a", "s=a;i=xyz;b=b;m=1;t=2;x=3", "s=a;i=1;b=b;m=1;t=2"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_copy_under_another_counter_is_the_same_entry() {
        assert!(at("a", 7).same_entry(&at("a", 7)));
        assert!(at("a", 7).same_entry(&at("b", 9)));
        assert!(!at("a", 7).same_entry(&at("a", 8)));
        assert!(!at("a", 7).same_entry(&Cursor { boot: "c", ..at("b", 7) }));
        assert!(!at("a", 7).same_entry(&Cursor { content: ["1", "2", "4"], ..at("b", 7) }));
    }

    #[test]
    fn holes_are_counted_and_shared_numbering_is_none() {
        let mut s = Sequence::default();
        let mut missing = |c: &str, n| s.next(&at(c, n));
        assert_eq!(missing("system", 5), 0);
        assert_eq!(missing("system", 6), 0);
        assert_eq!(missing("system", 10), 3);
        // A user's journal takes 11 and 12.
        assert_eq!((missing("user", 11), missing("user", 12)), (0, 0));
        assert_eq!(missing("system", 13), 0);
        assert_eq!(missing("user", 16), 2);
        // Numbering that began again, or an older file: nothing is known to be missing.
        assert_eq!((missing("system", 2), missing("system", 3)), (0, 0));
        for i in 0..40 {
            missing(&format!("c{i}"), i);
        }
        assert!(s.last.len() <= COUNTERS);
    }
}
