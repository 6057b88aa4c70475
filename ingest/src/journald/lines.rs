//! Lines out of a stream of bytes, in bounded memory.

/// Cuts a stream into lines. A line longer than the bound is passed over and counted.
#[derive(Debug)]
pub(crate) struct Lines {
    limit: usize,
    part: Vec<u8>,
    skipping: bool,
    /// Lines that were passed over.
    pub too_long: u64,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, part: Vec::new(), skipping: false, too_long: 0 }
    }

    /// Takes the next bytes and hands every line that ends in them to `line`, without its line feed. Empty lines are
    /// left out. A line that never ends is counted as soon as it is too long.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (head, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.part.len() + head.len() > self.limit {
                self.too_long += 1;
            } else if !self.part.is_empty() {
                self.part.extend_from_slice(head);
                line(&self.part);
            } else if !head.is_empty() {
                line(head);
            }
            self.reset();
        }
        if self.skipping || bytes.is_empty() {
            return;
        }
        if self.part.len() + bytes.len() > self.limit {
            self.too_long += 1;
            self.skipping = true;
            self.reset();
        } else {
            self.part.extend_from_slice(bytes);
        }
    }

    /// One long line does not hold its memory for ever.
    fn reset(&mut self) {
        self.part.clear();
        self.part.shrink_to(64 << 10);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_ten_megabytes_and_one_without_end() {
        let mut lines = Lines::new(1000);
        let mut got = Vec::new();
        let mut longest = 0;
        let mut push = |bytes: &[u8], got: &mut Vec<Vec<u8>>| {
            lines.push(bytes, |l| got.push(l.to_vec()));
            longest = longest.max(lines.part.capacity());
            lines.too_long
        };
        push(b"first\n", &mut got);
        for _ in 0..10_000 {
            push(&[b'x'; 1000], &mut got);
        }
        assert_eq!(push(b"tail\n\nsecond\nhalf", &mut got), 1);
        assert_eq!(push(b" and half\n", &mut got), 1);
        for _ in 0..100 {
            assert!(push(&[b'y'; 1001], &mut got) == 2);
        }
        assert_eq!(got, [b"first".to_vec(), b"second".to_vec(), b"half and half".to_vec()]);
        assert!(longest <= 64 << 10, "{longest}");
    }

    proptest! {
        /// However the stream is cut, the same lines come out.
        #[test]
        fn cuts_do_not_matter(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..20),
            cuts in proptest::collection::vec(1usize..17, 1..50),
        ) {
            let lines: Vec<Vec<u8>> =
                lines.into_iter().map(|l| l.into_iter().filter(|b| *b != b'\n').collect()).collect();
            let stream: Vec<u8> = lines.iter().flat_map(|l| l.iter().chain(b"\n")).copied().collect();
            let mut cutter = Lines::new(20);
            let mut got = Vec::new();
            let (mut at, mut i) = (0, 0);
            while at < stream.len() {
                let end = (at + cuts[i % cuts.len()]).min(stream.len());
                cutter.push(&stream[at..end], |l| got.push(l.to_vec()));
                (at, i) = (end, i + 1);
            }
            let want: Vec<_> = lines.iter().filter(|l| (1..=20).contains(&l.len())).cloned().collect();
            prop_assert_eq!(got, want);
            prop_assert_eq!(cutter.too_long, lines.iter().filter(|l| l.len() > 20).count() as u64);
        }
    }
}
