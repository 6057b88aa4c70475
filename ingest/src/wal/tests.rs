use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use tapio_sql::TableBatch;

use super::{frame::*, writer::Sink, *};
use crate::{Health, IngestError, Severity};

fn row(n: i64) -> TableBatch {
    let h = Health::default();
    h.count("test", "n", n, Severity::Info, format!("row {n}"));
    h.drain("node", n * 1_000).unwrap()
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<i64>>>);

impl Sink for Seen {
    fn durable(&self, seq: i64, _: Vec<TableBatch>, _: Option<i64>) {
        self.0.lock().unwrap().push(seq);
    }
    fn skipped(&self, _: i64) {}
    fn idle(&self) {}
}

fn start(dir: &Arc<WalDir>, r: &Recovered, segment_bytes: u64) -> (WalHandle, Seen, Arc<Health>) {
    let (seen, health) = (Seen::default(), Arc::new(Health::default()));
    let wal = WalHandle::start(
        dir.clone(),
        r.segments.clone(),
        r.next_seq,
        BTreeMap::new(),
        segment_bytes,
        health.clone(),
        seen.clone(),
    );
    (wal.unwrap(), seen, health)
}

async fn append(wal: &WalHandle, n: i64) -> Result<i64, tapio_store::SinkError> {
    let rows = vec![row(n)];
    let cursors = vec![("journal".to_owned(), format!("at {n}"))];
    wal.append(encode_payload(&rows, &cursors).unwrap(), rows, cursors, None).await
}

/// A log of `frames` frames in segments of about `segment_bytes`.
fn log(dir: &std::path::Path, frames: i64, segment_bytes: u64) -> Arc<WalDir> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = Arc::new(WalDir::open(dir).unwrap());
    let (wal, seen, _) = start(&dir, &recover(&dir).unwrap(), segment_bytes);
    runtime.block_on(async {
        for n in 1..=frames {
            assert_eq!(append(&wal, n).await.unwrap(), n);
        }
    });
    wal.stop().unwrap();
    assert_eq!(*seen.0.lock().unwrap(), (1..=frames).collect::<Vec<_>>());
    dir
}

fn seqs(r: &Recovered) -> Vec<i64> {
    r.frames.iter().map(|(s, _)| *s).collect()
}

#[test]
fn whole_frames_come_back_as_they_were() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = log(tmp.path(), 20, 6_000);
    assert!(dir.segments().unwrap().len() > 3);
    let r = recover(&dir).unwrap();
    assert_eq!(seqs(&r), (1..=20).collect::<Vec<_>>());
    assert_eq!((r.tail_bytes, r.damaged_bytes, r.damaged_frames, r.next_seq), (0, 0, 0, 21));
    let (_, p) = &r.frames[6];
    assert_eq!(p.tables[0].0, "health");
    assert_eq!(&p.tables[0].1[0], row(7).batch());
    assert_eq!(p.cursors, [("journal".to_owned(), "at 7".to_owned())]);
}

#[test]
fn a_cut_tail_is_counted_and_the_log_goes_on() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = log(tmp.path(), 10, 1 << 20);
    let (_, path) = dir.segments().unwrap().pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let r = recover(&dir).unwrap();
    assert_eq!(seqs(&r), (1..=9).collect::<Vec<_>>());
    assert!(r.tail_bytes > 500 && r.damaged_bytes == 0, "{r:?}");
    let (wal, ..) = start(&dir, &r, 1 << 20);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(append(&wal, 10)).unwrap(), 10);
    wal.stop().unwrap();
    let r = recover(&dir).unwrap();
    assert_eq!(seqs(&r), (1..=10).collect::<Vec<_>>());
    assert_eq!((r.tail_bytes, r.damaged_bytes, r.damaged_frames), (0, 0, 0));
}

#[test]
fn zeros_after_a_power_loss_are_a_tail() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = log(tmp.path(), 5, 1 << 20);
    let (_, path) = dir.segments().unwrap().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 5_000]);
    fs::write(&path, &bytes).unwrap();
    let r = recover(&dir).unwrap();
    assert_eq!((r.frames.len(), r.tail_bytes), (5, 5_000));
}

#[test]
fn damage_in_the_middle_takes_only_the_frames_it_hit() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = log(tmp.path(), 12, 1 << 20);
    let (_, path) = dir.segments().unwrap().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let frame = (bytes.len() - SEGMENT_HEADER) / 12;
    // Within the payload of the fourth frame, and over the header of the seventh.
    bytes[SEGMENT_HEADER + 3 * frame + frame / 2] ^= 0xff;
    bytes[SEGMENT_HEADER + 6 * frame - 20..][..60].fill(0xaa);
    fs::write(&path, &bytes).unwrap();
    let r = recover(&dir).unwrap();
    assert_eq!(seqs(&r).len() as u64 + r.damaged_frames, 12, "{:?}", seqs(&r));
    assert!(r.damaged_frames >= 2 && r.damaged_frames <= 4, "{:?}", seqs(&r));
    assert!(r.damaged_bytes as usize >= 2 * frame && r.tail_bytes == 0);
    assert_eq!(seqs(&r)[..3], [1, 2, 3]);
    assert!(seqs(&r).ends_with(&[9, 10, 11, 12]));
}

#[test]
fn a_lost_segment_and_a_broken_header_are_counted() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = log(tmp.path(), 20, 6_000);
    let segments = dir.segments().unwrap();
    let lost = (segments[2].0 - segments[1].0) as u64;
    fs::remove_file(&segments[1].1).unwrap();
    let mut bytes = fs::read(&segments[0].1).unwrap();
    bytes[..SEGMENT_HEADER].fill(7);
    fs::write(&segments[0].1, bytes).unwrap();
    let r = recover(&dir).unwrap();
    assert_eq!(r.damaged_frames, lost);
    assert_eq!(r.frames.len() as u64, 20 - lost);
}

#[test]
fn voided_frames_stay_away() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = WalDir::open(tmp.path()).unwrap();
    let mut bytes = segment_header(dir.writer);
    for (seq, voids) in [(1, vec![]), (2, vec![]), (4, vec![(2, 3)])] {
        let mut payload = encode_payload(&[row(seq)], &[]).unwrap();
        finish_payload(&mut payload, &voids);
        put_frame(&mut bytes, dir.writer, seq, &payload);
    }
    fs::write(dir.segment(1), bytes).unwrap();
    let r = recover(&dir).unwrap();
    assert_eq!(seqs(&r), [1, 4]);
    assert_eq!(r.damaged_frames, 0);
}

#[test]
fn a_second_process_is_refused_with_the_pid() {
    let tmp = tempfile::tempdir().unwrap();
    let first = WalDir::open(tmp.path()).unwrap();
    let e = WalDir::open(tmp.path()).unwrap_err();
    assert!(
        matches!(&e, IngestError::Locked { pid, .. } if *pid == std::process::id().to_string())
    );
    assert!(e.to_string().contains("storage.wal_dir"), "{e}");
    let writer = first.writer;
    drop(first);
    assert_eq!(WalDir::open(tmp.path()).unwrap().writer, writer);
}

#[test]
fn a_foreign_segment_and_an_unusable_directory_are_named() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = WalDir::open(tmp.path()).unwrap();
    let other = uuid::Uuid::now_v7();
    fs::write(dir.segment(1), segment_header(other)).unwrap();
    let e = recover(&dir).unwrap_err().to_string();
    assert!(e.contains(&other.to_string()) && e.contains("wal-00000000000000000001.log"), "{e}");

    let file = tmp.path().join("file");
    fs::write(&file, "x").unwrap();
    let e = WalDir::open(&file.join("wal")).unwrap_err().to_string();
    assert!(e.contains("cannot create") && e.contains("storage.wal_dir"), "{e}");
    fs::write(tmp.path().join("writer-id"), "nonsense").unwrap();
    drop(dir);
    let e = WalDir::open(tmp.path()).unwrap_err().to_string();
    assert!(e.contains("writer-id") && e.contains("no UUID"), "{e}");
}

/// A full disk: what was not acknowledged does not come back, what comes after there is space again does.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "CI must run this as root");
        eprintln!("SKIPPED: a_full_disk_refuses_and_recovers needs root to mount a tmpfs");
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tapio-test"])
        .arg(tmp.path())
        .status();
    assert!(mounted.unwrap().success());
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(tmp.path().to_owned());
    let dir = Arc::new(WalDir::open(tmp.path()).unwrap());
    let (wal, seen, health) = start(&dir, &recover(&dir).unwrap(), 1 << 20);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ballast = tmp.path().join("ballast");
    let mut acked = Vec::new();
    runtime.block_on(async {
        for n in 1..=4 {
            acked.push(append(&wal, n).await.unwrap());
        }
        let mut size = 256 << 10;
        while fs::write(&ballast, vec![1; size]).is_err() {
            size -= 4096;
        }
        let mut failed = 0;
        for n in 5..=12 {
            match append(&wal, n).await {
                Ok(seq) => acked.push(seq),
                Err(e) => {
                    failed += 1;
                    assert!(e.to_string().contains("No space left"), "{e}");
                }
            }
        }
        assert!(failed >= 4, "{failed}");
        fs::remove_file(&ballast).unwrap();
        for n in 13..=15 {
            acked.push(append(&wal, n).await.unwrap());
        }
    });
    wal.stop().unwrap();
    assert!(health.value("wal", "write_failures") >= 4);
    assert_eq!(*seen.0.lock().unwrap(), acked);
    let r = recover(&dir).unwrap();
    assert_eq!(seqs(&r), acked);
    assert_eq!(r.damaged_frames, 0, "{acked:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Whatever happens to the bytes: no panic, every frame before the damage, and none twice.
    #[test]
    fn any_damage_leaves_the_frames_before_it(
        segment in 0usize..3,
        at in 0.0f64..1.0,
        kind in 0u8..4,
        junk in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = log(tmp.path(), 9, 5_000);
        let whole = recover(&dir).unwrap();
        let segments = dir.segments().unwrap();
        let (first, path) = &segments[segment.min(segments.len() - 1)];
        let mut bytes = fs::read(path).unwrap();
        let at = (bytes.len() as f64 * at) as usize;
        match kind {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + junk.len()).min(bytes.len());
                bytes[at..end].iter_mut().zip(&junk).for_each(|(b, j)| *b ^= j);
            }
            2 => { bytes.splice(at..at, junk.iter().copied()); }
            _ => { bytes.drain(at..(at + junk.len()).min(bytes.len())); }
        }
        fs::write(path, &bytes).unwrap();
        let r = recover(&dir).unwrap();
        // Frames that end before the damage, by the lengths in the undamaged part.
        let mut end = SEGMENT_HEADER;
        let mut before = *first;
        let original = scan_lengths(&whole, *first, path);
        for length in original {
            end += length;
            if end <= at {
                before += 1;
            }
        }
        let got = seqs(&r);
        for seq in 1..before {
            prop_assert!(got.contains(&seq), "{seq} of {got:?}");
        }
        prop_assert!(got.is_sorted_by(|a, b| a < b));
        prop_assert!(r.next_seq > *got.last().unwrap_or(&0));
        for (seq, p) in &r.frames {
            let expected = row(*seq);
            prop_assert_eq!(&p.tables[0].1[0], expected.batch());
        }
    }
}

/// Lengths of the frames that the undamaged segment had.
fn scan_lengths(whole: &Recovered, first: i64, path: &PathBuf) -> Vec<usize> {
    let last = whole.segments.iter().find(|s| s.path == *path).unwrap().last;
    let frames = whole.frames.iter().filter(|(s, _)| (first..=last).contains(s));
    frames
        .map(|(s, p)| {
            let mut payload = encode_payload(&[row(*s)], &p.cursors).unwrap();
            finish_payload(&mut payload, &[]);
            FRAME_HEADER + payload.len()
        })
        .collect()
}
