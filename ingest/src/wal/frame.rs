//! Bytes of a segment.
//!
//! Header (36 bytes): magic `TAPIOWAL`, format version u32, writer id (16 bytes), crc32 of these, 4 zero bytes.
//! Frame: marker u32, payload length u32, sequence i64, crc32 of the payload, crc32 of the four before; then the payload.
//! Both checksums start from the writer id, so that a frame of another log inside a payload is never taken for one of
//! this log. Payload: tables (name, Arrow IPC stream with its schema), cursors (source, text), voids (first, last
//! sequence of frames that were written but not acknowledged). All integers little-endian.

use std::io::Cursor;

use arrow::{
    array::RecordBatch,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use crc32fast::Hasher;
use tapio_sql::TableBatch;
use uuid::Uuid;

pub(crate) const MAGIC: &[u8; 8] = b"TAPIOWAL";
pub(crate) const VERSION: u32 = 1;
pub(crate) const SEGMENT_HEADER: usize = 36;
pub(crate) const FRAME_HEADER: usize = 24;
const MARKER: [u8; 4] = *b"\xf7TPf";

pub(crate) fn segment_header(writer: Uuid) -> Vec<u8> {
    let mut h = Vec::with_capacity(SEGMENT_HEADER);
    h.extend_from_slice(MAGIC);
    h.extend_from_slice(&VERSION.to_le_bytes());
    h.extend_from_slice(writer.as_bytes());
    h.extend_from_slice(&crc32fast::hash(&h).to_le_bytes());
    h.extend_from_slice(&[0; 4]);
    h
}

/// The writer of a segment, if its header is whole.
pub(crate) fn segment_writer(bytes: &[u8]) -> Option<Uuid> {
    let h = bytes.get(..SEGMENT_HEADER)?;
    let crc = u32::from_le_bytes(h[28..32].try_into().ok()?);
    let known = h.starts_with(MAGIC) && h[8..12] == VERSION.to_le_bytes();
    (known && crc32fast::hash(&h[..28]) == crc).then(|| Uuid::from_slice(&h[12..28]).ok())?
}

fn crc(writer: Uuid, parts: &[&[u8]]) -> u32 {
    let mut h = Hasher::new();
    h.update(writer.as_bytes());
    parts.iter().for_each(|p| h.update(p));
    h.finalize()
}

/// Appends a frame to `out`.
pub(crate) fn put_frame(out: &mut Vec<u8>, writer: Uuid, seq: i64, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&crc(writer, &[payload]).to_le_bytes());
    let check = crc(writer, &[&out[start..]]);
    out.extend_from_slice(&check.to_le_bytes());
    out.extend_from_slice(payload);
}

/// What stands at the start of `bytes`.
pub(crate) enum Parsed<'a> {
    /// A whole frame: its sequence, its payload, its length.
    Frame(i64, &'a [u8], usize),
    /// A frame whose header is whole and whose payload is not; its length.
    Damaged(usize),
    /// No frame begins here, or it is cut off.
    Nothing,
}

pub(crate) fn parse_frame(bytes: &[u8], writer: Uuid) -> Parsed<'_> {
    let Some(h) = bytes.get(..FRAME_HEADER) else { return Parsed::Nothing };
    if h[..4] != MARKER || crc(writer, &[&h[..20]]).to_le_bytes() != h[20..24] {
        return Parsed::Nothing;
    }
    let length = u32::from_le_bytes([h[4], h[5], h[6], h[7]]) as usize;
    let mut seq = [0; 8];
    seq.copy_from_slice(&h[8..16]);
    let Some(payload) = bytes.get(FRAME_HEADER..FRAME_HEADER + length) else {
        return Parsed::Nothing;
    };
    if crc(writer, &[payload]).to_le_bytes() == h[16..20] {
        Parsed::Frame(i64::from_le_bytes(seq), payload, FRAME_HEADER + length)
    } else {
        Parsed::Damaged(FRAME_HEADER + length)
    }
}

/// Offset at or after `from` where the marker of a frame stands.
pub(crate) fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(MARKER.len()).position(|w| w == MARKER).map(|i| from + i)
}

/// The content of a frame.
#[derive(Debug, Default, Clone)]
pub(crate) struct Payload {
    pub tables: Vec<(String, Vec<RecordBatch>)>,
    pub cursors: Vec<(String, String)>,
    pub voids: Vec<(i64, i64)>,
}

/// Bytes of a frame's payload without its voids, which the writer appends with [`finish_payload`].
pub(crate) fn encode_payload(
    tables: &[TableBatch],
    cursors: &[(String, String)],
) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    put_len(&mut out, tables.len())?;
    for t in tables {
        put_bytes(&mut out, t.def().name.as_bytes())?;
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut writer = StreamWriter::try_new(&mut out, &t.batch().schema())
            .map_err(|e| format!("table {}: {e}", t.def().name))?;
        writer
            .write(t.batch())
            .and_then(|()| writer.finish())
            .map_err(|e| format!("table {}: {e}", t.def().name))?;
        drop(writer);
        let length = u32::try_from(out.len() - at - 4).map_err(|_| too_large())?;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
    put_len(&mut out, cursors.len())?;
    for (source, cursor) in cursors {
        put_bytes(&mut out, source.as_bytes())?;
        put_bytes(&mut out, cursor.as_bytes())?;
    }
    if out.len() > (u32::MAX / 2) as usize {
        return Err(too_large());
    }
    Ok(out)
}

pub(crate) fn finish_payload(out: &mut Vec<u8>, voids: &[(i64, i64)]) {
    out.extend_from_slice(&(voids.len() as u32).to_le_bytes());
    for (first, last) in voids {
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&last.to_le_bytes());
    }
}

fn too_large() -> String {
    "the batches of one append exceed 2 GiB: append fewer rows at once".into()
}

fn put_len(out: &mut Vec<u8>, n: usize) -> Result<(), String> {
    out.extend_from_slice(&u32::try_from(n).map_err(|_| too_large())?.to_le_bytes());
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, b: &[u8]) -> Result<(), String> {
    put_len(out, b.len())?;
    out.extend_from_slice(b);
    Ok(())
}

/// Reads a payload; `None` if it does not fit its own lengths or is no Arrow.
pub(crate) fn decode_payload(bytes: &[u8]) -> Option<Payload> {
    // The checksum has passed; whatever Arrow's reader does with bytes it does not like must still not end the process.
    std::panic::catch_unwind(|| decode(bytes)).ok().flatten()
}

fn decode(mut bytes: &[u8]) -> Option<Payload> {
    fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
        let (head, rest) = bytes.split_at_checked(n)?;
        *bytes = rest;
        Some(head)
    }
    fn number(bytes: &mut &[u8]) -> Option<usize> {
        Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?) as usize)
    }
    fn long(bytes: &mut &[u8]) -> Option<i64> {
        Some(i64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))
    }
    fn text(bytes: &mut &[u8]) -> Option<String> {
        let n = number(bytes)?;
        Some(std::str::from_utf8(take(bytes, n)?).ok()?.to_owned())
    }
    let mut payload = Payload::default();
    for _ in 0..number(&mut bytes)? {
        let name = text(&mut bytes)?;
        let n = number(&mut bytes)?;
        let reader = StreamReader::try_new(Cursor::new(take(&mut bytes, n)?), None).ok()?;
        let batches = reader.collect::<Result<Vec<_>, _>>().ok()?;
        payload.tables.push((name, batches));
    }
    for _ in 0..number(&mut bytes)? {
        payload.cursors.push((text(&mut bytes)?, text(&mut bytes)?));
    }
    for _ in 0..number(&mut bytes)? {
        payload.voids.push((long(&mut bytes)?, long(&mut bytes)?));
    }
    bytes.is_empty().then_some(payload)
}
