//! The kernel's text formats. Each function answers `None` for what it cannot read; nothing becomes 0 that is not 0.

/// A whole file that is one number.
pub(crate) fn number(text: &[u8]) -> Option<i64> {
    digits(text.trim_ascii())
}

/// A limit: `Some(None)` = unlimited ("max", "-1" or v1's page-aligned maximum), `None` = unreadable.
pub(crate) fn limit(text: &[u8]) -> Option<Option<i64>> {
    let text = text.trim_ascii();
    if text == b"max" || text == b"-1" {
        return Some(None);
    }
    // v1 prints the largest multiple of the page size, 9223372036854771712 with 4 KiB pages; nobody has 4 EiB.
    let n = number(text)?;
    Some((n < 1 << 62).then_some(n))
}

fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let mut n: i64 = 0;
    for b in text {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        n = n.checked_mul(10)?.checked_add(i64::from(d))?;
    }
    Some(n)
}

/// Values of `keys` in lines of `key value` (also `key: value kB`, without conversion).
pub(crate) fn keyed<const N: usize>(text: &[u8], keys: [&str; N]) -> [Option<i64>; N] {
    let mut found = [None; N];
    let mut left = N;
    for line in text.split(|b| *b == b'\n') {
        if left == 0 {
            break;
        }
        for (i, key) in keys.iter().enumerate() {
            if found[i].is_none()
                && line.len() > key.len()
                && line.starts_with(key.as_bytes())
                && matches!(line[key.len()], b' ' | b':')
            {
                let mut words = line[key.len() + 1..].split(u8::is_ascii_whitespace);
                found[i] = words.find(|w| !w.is_empty()).and_then(digits);
                left -= usize::from(found[i].is_some());
                break;
            }
        }
    }
    found
}

/// Sums of what was read and written: v1 `8:0 Read 123`, or v2 `8:0 rbytes=1 wbytes=2 …`.
pub(crate) fn io_bytes(text: &[u8]) -> Option<(i64, i64)> {
    let (mut read, mut write) = (0i64, 0i64);
    for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let mut words = line.split(u8::is_ascii_whitespace);
        let device = words.next()?;
        if device == b"Total" {
            continue;
        }
        if !device.contains(&b':') {
            return None;
        }
        while let Some(word) = words.next() {
            match word {
                b"Read" => read = read.checked_add(words.next().and_then(digits)?)?,
                b"Write" => write = write.checked_add(words.next().and_then(digits)?)?,
                _ => {
                    if let Some(n) = word.strip_prefix(b"rbytes=") {
                        read = read.checked_add(digits(n)?)?;
                    } else if let Some(n) = word.strip_prefix(b"wbytes=") {
                        write = write.checked_add(digits(n)?)?;
                    }
                }
            }
        }
    }
    Some((read, write))
}

/// `total=` of the `some` and the `full` line of a pressure file, µs.
pub(crate) fn pressure(text: &[u8]) -> (Option<i64>, Option<i64>) {
    let total = |name: &[u8]| {
        let line = text.split(|b| *b == b'\n').find(|l| l.starts_with(name))?;
        let word = line.split(u8::is_ascii_whitespace).find_map(|w| w.strip_prefix(b"total="))?;
        digits(word)
    };
    (total(b"some "), total(b"full "))
}

/// From `/proc/PID/stat`: command name, utime + stime in clock ticks, start time in ticks after boot.
pub(crate) fn process_stat(text: &[u8]) -> Option<(String, i64, i64)> {
    // The name may hold spaces and parentheses; it ends at the last one.
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let mut fields = text.get(close + 2..)?.split(|b| *b == b' ');
    let utime = fields.nth(11).and_then(digits)?;
    let stime = fields.next().and_then(digits)?;
    let start = fields.nth(6).and_then(digits)?;
    Some((comm, utime + stime, start))
}

/// Soft limit of open files from `/proc/PID/limits`: `Some(None)` = unlimited, `None` = unreadable.
pub(crate) fn open_files_limit(text: &[u8]) -> Option<Option<i64>> {
    let line = text.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"Max open files"))?;
    let soft = line.split(u8::is_ascii_whitespace).find(|w| !w.is_empty())?;
    if soft == b"unlimited" { Some(None) } else { Some(Some(digits(soft)?)) }
}

/// Busy clock ticks of all CPUs from `/proc/stat`: user, nice, system, irq, softirq, steal (guests are within user).
pub(crate) fn cpu_ticks(text: &[u8]) -> Option<i64> {
    let line = text.split(|b| *b == b'\n').next()?.strip_prefix(b"cpu ")?;
    let v: Vec<i64> =
        line.split(|b| *b == b' ').filter(|w| !w.is_empty()).map_while(digits).collect();
    let busy = |i: usize| v.get(i).copied();
    Some(busy(0)? + busy(1)? + busy(2)? + busy(5)? + busy(6)? + busy(7)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_formats() {
        assert_eq!(number(b"123\n"), Some(123));
        assert_eq!(number(b""), None);
        assert_eq!(number(b"12x"), None);
        assert_eq!(number(b"99999999999999999999"), None);
        assert_eq!(limit(b"9223372036854771712\n"), Some(None));
        assert_eq!(limit(b"max\n"), Some(None));
        assert_eq!(limit(b"1048576\n"), Some(Some(1_048_576)));
        assert_eq!(limit(b"garbage"), None);
        let stat = b"cache 1\nrss 2\ntotal_cache 10\ntotal_rss 20\ntotal_rss_huge 5\n";
        assert_eq!(keyed(stat, ["total_rss", "total_cache", "nope"]), [Some(20), Some(10), None]);
        let meminfo = b"MemTotal:       24684084 kB\nMemFree: 1 kB\n";
        assert_eq!(keyed(meminfo, ["MemTotal", "MemFree"]), [Some(24_684_084), Some(1)]);
        assert_eq!(keyed(b"anon x\n", ["anon"]), [None]);
        let v1 = b"8:0 Read 5\n8:0 Write 6\n8:0 Sync 11\n8:0 Total 11\n8:16 Read 1\nTotal 12\n";
        assert_eq!(io_bytes(v1), Some((6, 6)));
        assert_eq!(io_bytes(b"8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=1\n"), Some((6, 6)));
        assert_eq!(io_bytes(b""), Some((0, 0)));
        assert_eq!(io_bytes(b"nonsense\n"), None);
        let psi = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=17\nfull avg10=0.00 total=3\n";
        assert_eq!(pressure(psi), (Some(17), Some(3)));
        assert_eq!(pressure(b"some avg10"), (None, None));
        let stat = b"7 (a) b (c) S 1 7 7 0 -1 4 1 2 3 4 100 20 0 0 20 0 1 0 777 9 9";
        assert_eq!(process_stat(stat), Some(("a) b (c".into(), 120, 777)));
        let limits = b"Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files     \n";
        assert_eq!(open_files_limit(limits), Some(Some(1024)));
        assert_eq!(open_files_limit(b"Max open files unlimited unlimited files"), Some(None));
        assert_eq!(open_files_limit(b"Max open files"), None);
        assert_eq!(cpu_ticks(b"cpu  1 2 3 400 5 6 7 8 9 10\ncpu0 1"), Some(27));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(b in proptest::collection::vec(any::<u8>(), 0..300)) {
            number(&b);
            limit(&b);
            keyed(&b, ["anon", "total_rss"]);
            io_bytes(&b);
            pressure(&b);
            process_stat(&b);
            open_files_limit(&b);
            cpu_ticks(&b);
        }
    }
}
