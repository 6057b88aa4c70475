//! Reading the log at start.

use std::{fs::OpenOptions, path::PathBuf};

use uuid::Uuid;

use super::{
    WalDir,
    frame::{
        Parsed, Payload, SEGMENT_HEADER, decode_payload, next_marker, parse_frame, segment_writer,
    },
};
use crate::IngestError;

/// A segment that is not written any more.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub path: PathBuf,
    /// Highest sequence in it; the one before its first if it holds no whole frame.
    pub last: i64,
    pub bytes: u64,
}

/// What the log held.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Whole frames in order.
    pub frames: Vec<(i64, Payload)>,
    pub segments: Vec<Segment>,
    /// The next free sequence.
    pub next_seq: i64,
    /// Bytes cut off the end of the newest segment: a write that was under way, most often.
    pub tail_bytes: u64,
    /// Bytes between whole frames that are no frames.
    pub damaged_bytes: u64,
    /// Frames missing by sequence, or whole but unreadable.
    pub damaged_frames: u64,
}

/// Frames of one segment and the bytes between them.
pub(crate) struct Scan {
    pub frames: Vec<(i64, Payload)>,
    /// Highest sequence of a whole frame, also of one whose payload cannot be read.
    pub max_seq: i64,
    pub middle_bytes: u64,
    /// Where the last whole frame ends.
    pub good_end: usize,
}

/// All whole frames of a segment, whatever the bytes between them.
pub(crate) fn scan(bytes: &[u8], writer: Uuid) -> Scan {
    let header = segment_writer(bytes).is_some();
    let mut at = if header { SEGMENT_HEADER } else { 0 };
    let mut s = Scan { frames: Vec::new(), max_seq: i64::MIN, middle_bytes: 0, good_end: at };
    while at < bytes.len() {
        match parse_frame(&bytes[at..], writer) {
            Parsed::Frame(seq, payload, length) => {
                s.middle_bytes += (at - s.good_end) as u64;
                at += length;
                s.good_end = at;
                // Sequences rise; anything else is an old copy.
                if seq > s.max_seq {
                    s.max_seq = seq;
                    s.frames.extend(decode_payload(payload).map(|p| (seq, p)));
                }
            }
            Parsed::Damaged(length) => at += length,
            Parsed::Nothing => match next_marker(bytes, at + 1) {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    s
}

/// Reads all segments, cuts a damaged tail off the newest. Never panics, whatever the bytes.
pub(crate) fn recover(dir: &WalDir) -> Result<Recovered, IngestError> {
    let mut r = Recovered { next_seq: 1, ..Recovered::default() };
    let segments = dir.segments()?;
    let mut voids: Vec<(i64, i64)> = Vec::new();
    // Sequences are given without gaps, so a gap is what damage took.
    let mut gaps: Vec<(i64, i64)> = Vec::new();
    let mut last: Option<i64> = None;
    for (i, (first, path)) in segments.iter().enumerate() {
        let bytes = std::fs::read(path).map_err(|e| IngestError::wal("read", path, e))?;
        if let Some(found) = segment_writer(&bytes)
            && found != dir.writer
        {
            return Err(IngestError::Foreign {
                path: path.clone(),
                found: found.to_string(),
                own: dir.writer.to_string(),
            });
        }
        let s = scan(&bytes, dir.writer);
        if let Some(last) = last {
            gaps.push((last + 1, first - 1));
        }
        let mut before = last.unwrap_or(first - 1).max(first - 1);
        for (seq, payload) in s.frames {
            if seq <= before {
                continue;
            }
            gaps.push((before + 1, seq - 1));
            before = seq;
            voids.extend_from_slice(&payload.voids);
            r.frames.push((seq, payload));
        }
        if s.max_seq > before {
            gaps.push((before + 1, s.max_seq));
            before = s.max_seq;
        }
        last = Some(before);
        r.damaged_bytes += s.middle_bytes;
        let tail = bytes.len().saturating_sub(s.good_end.max(SEGMENT_HEADER.min(bytes.len())));
        let mut length = bytes.len() as u64;
        if i + 1 < segments.len() {
            r.damaged_bytes += tail as u64;
        } else if tail > 0 {
            r.tail_bytes = tail as u64;
            length -= r.tail_bytes;
            truncate(path, length)?;
        }
        r.segments.push(Segment { path: path.clone(), last: before, bytes: length });
        r.next_seq = r.next_seq.max(before + 1);
    }
    // A voided frame was never acknowledged; its caller kept the rows and sent them again.
    r.frames.retain(|(seq, _)| !voids.iter().any(|(lo, hi)| (lo..=hi).contains(&seq)));
    for (lo, hi) in gaps {
        let voided: i64 = voids.iter().map(|(a, b)| overlap((lo, hi), (*a, *b))).sum();
        r.damaged_frames += (overlap((lo, hi), (lo, hi)) - voided).max(0) as u64;
    }
    Ok(r)
}

fn overlap(a: (i64, i64), b: (i64, i64)) -> i64 {
    (a.1.min(b.1) - a.0.max(b.0) + 1).max(0)
}

fn truncate(path: &PathBuf, length: u64) -> Result<(), IngestError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|f| {
            f.set_len(length)?;
            f.sync_all()
        })
        .map_err(|e| IngestError::wal("truncate", path, e))
}
