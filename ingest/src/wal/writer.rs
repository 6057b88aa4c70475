//! The thread that writes the log: all waiting frames with one write and one fdatasync.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use tapio_sql::TableBatch;
use tapio_store::SinkError;
use tokio::sync::oneshot;

use super::{
    WalDir,
    frame::{FRAME_HEADER, SEGMENT_HEADER, finish_payload, put_frame, segment_header},
    recover::Segment,
};
use crate::{
    IngestError,
    health::{Health, Severity},
};

/// A group is closed when it holds this much, so that a burst does not wait for one huge write.
const GROUP_BYTES: usize = 8 << 20;

/// Who learns of durable rows, before their callers do.
pub(crate) trait Sink: Send + 'static {
    /// The rows of this frame are durable.
    fn durable(&self, seq: i64, batches: Vec<TableBatch>, through_us: Option<i64>);
    /// A sequence was used that carries no rows.
    fn skipped(&self, seq: i64);
    /// Called after all callers of a group have their answer.
    fn idle(&self);
}

struct Append {
    payload: Vec<u8>,
    batches: Vec<TableBatch>,
    cursors: Vec<(String, String)>,
    through_us: Option<i64>,
    ack: oneshot::Sender<Result<i64, SinkError>>,
}

enum Command {
    Append(Append),
    Release { up_to: i64, done: oneshot::Sender<Result<(), String>> },
    Stop,
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct WalHandle {
    commands: Sender<Command>,
    bytes: Arc<AtomicU64>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl WalHandle {
    /// Starts the thread. Nothing is written before the first append.
    pub(crate) fn start(
        dir: Arc<WalDir>,
        segments: Vec<Segment>,
        next_seq: i64,
        cursors: BTreeMap<String, String>,
        segment_bytes: u64,
        health: Arc<Health>,
        sink: impl Sink,
    ) -> Result<Self, IngestError> {
        let (commands, rx) = channel();
        let bytes = Arc::new(AtomicU64::new(segments.iter().map(|s| s.bytes).sum()));
        let path = dir.path.clone();
        let mut writer = Writer {
            dir,
            active: None,
            sealed: segments,
            next_seq,
            cursors,
            voids: Vec::new(),
            segment_bytes,
            bytes: bytes.clone(),
            health,
        };
        let thread = std::thread::Builder::new()
            .name("tapio-wal".into())
            .spawn(move || writer.run(&rx, &sink))
            .map_err(|e| IngestError::wal("start the writer of", &path, e))?;
        Ok(Self { commands, bytes, thread: std::sync::Mutex::new(Some(thread)) })
    }

    /// Answers when the frame is durable.
    pub(crate) async fn append(
        &self,
        payload: Vec<u8>,
        batches: Vec<TableBatch>,
        cursors: Vec<(String, String)>,
        through_us: Option<i64>,
    ) -> Result<i64, SinkError> {
        let (ack, answer) = oneshot::channel();
        let append = Append { payload, batches, cursors, through_us, ack };
        self.commands.send(Command::Append(append)).map_err(|_| SinkError::Closed)?;
        answer.await.map_err(|_| SinkError::Closed)?
    }

    /// All frames up to `up_to` are in files: forget their segments, keep the cursors.
    pub(crate) async fn release(&self, up_to: i64) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        let gone = || "the writer is shut down".to_owned();
        self.commands.send(Command::Release { up_to, done }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Ends the thread after what is queued.
    pub(crate) fn stop(&self) -> Result<(), IngestError> {
        let _ = self.commands.send(Command::Stop);
        let thread = self.thread.lock().ok().and_then(|mut t| t.take());
        thread.map_or(Ok(()), |t| t.join().map_err(|_| IngestError::Thread("the log's writer")))
    }
}

struct Active {
    file: File,
    segment: Segment,
}

struct Writer {
    dir: Arc<WalDir>,
    active: Option<Active>,
    sealed: Vec<Segment>,
    next_seq: i64,
    cursors: BTreeMap<String, String>,
    /// Frames that may be on disk although their callers were told that they are not.
    voids: Vec<(i64, i64)>,
    segment_bytes: u64,
    bytes: Arc<AtomicU64>,
    health: Arc<Health>,
}

impl Writer {
    fn run(&mut self, rx: &Receiver<Command>, sink: &dyn Sink) {
        let mut waiting: Option<Command> = None;
        while let Some(command) = waiting.take().or_else(|| rx.recv().ok()) {
            match command {
                Command::Append(first) => {
                    let mut bytes = first.payload.len();
                    let mut group = vec![first];
                    while bytes < GROUP_BYTES {
                        match rx.try_recv() {
                            Ok(Command::Append(a)) => {
                                bytes += a.payload.len();
                                group.push(a);
                            }
                            Ok(other) => {
                                waiting = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group, sink);
                    sink.idle();
                }
                Command::Release { up_to, done } => {
                    let _ = done.send(self.release(up_to, sink));
                }
                Command::Stop => return,
            }
        }
    }

    fn commit(&mut self, group: Vec<Append>, sink: &dyn Sink) {
        let payloads: Vec<&[u8]> = group.iter().map(|a| a.payload.as_slice()).collect();
        match self.write(&payloads) {
            Ok(first) => {
                for (i, a) in group.into_iter().enumerate() {
                    let seq = first + i as i64;
                    self.cursors.extend(a.cursors);
                    sink.durable(seq, a.batches, a.through_us);
                    let _ = a.ack.send(Ok(seq));
                }
            }
            Err(e) => {
                let detail = format!("{e}; the rows are not acknowledged");
                self.health.count("wal", "write_failures", 1, Severity::Error, &detail);
                for a in group {
                    let _ = a.ack.send(Err(SinkError::Wal(e.to_string())));
                }
            }
        }
    }

    /// Writes and syncs one frame per payload; answers the sequence of the first. After an error none of them counts.
    fn write(&mut self, payloads: &[&[u8]]) -> Result<i64, IngestError> {
        if self.active.as_ref().is_some_and(|a| a.segment.bytes >= self.segment_bytes) {
            self.seal();
        }
        if self.active.is_none() {
            self.active = Some(self.create()?);
        }
        let first = self.next_seq;
        let mut bytes = Vec::with_capacity(
            payloads.iter().map(|p| p.len() + FRAME_HEADER + 4).sum::<usize>() + 64,
        );
        let mut payload = Vec::new();
        for (i, p) in payloads.iter().enumerate() {
            payload.clear();
            payload.extend_from_slice(p);
            finish_payload(&mut payload, if i == 0 { &self.voids } else { &[] });
            put_frame(&mut bytes, self.dir.writer, first + i as i64, &payload);
        }
        let Some(active) = self.active.as_mut() else { return Err(IngestError::Closed) };
        let at = active.segment.bytes;
        let written = active.file.write_all_at(&bytes, at).and_then(|()| active.file.sync_data());
        if let Err(e) = written {
            let error = IngestError::wal("write", &active.segment.path, e);
            // A failed sync may have dropped pages for good, so this file gets no further frames. What is on disk of
            // these frames must not come back: their callers keep the rows.
            let cut = active.file.set_len(at).and_then(|()| active.file.sync_all());
            if cut.is_err() {
                let last = first + payloads.len() as i64 - 1;
                self.voids.push((first, last));
                self.next_seq = last + 1;
            }
            self.seal();
            return Err(error);
        }
        self.next_seq = first + payloads.len() as i64;
        self.voids.clear();
        active.segment.bytes += bytes.len() as u64;
        active.segment.last = self.next_seq - 1;
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(first)
    }

    fn seal(&mut self) {
        if let Some(a) = self.active.take() {
            self.sealed.push(a.segment);
        }
    }

    fn create(&mut self) -> Result<Active, IngestError> {
        let path = self.dir.segment(self.next_seq);
        // A segment of that name holds no whole frame (else the sequence would be further): it is written anew.
        if let Some(i) = self.sealed.iter().position(|s| s.path == path) {
            let old = self.sealed.remove(i);
            self.bytes.fetch_sub(old.bytes, Relaxed);
        }
        let header = segment_header(self.dir.writer);
        let create = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).open(&path)?;
            file.write_all(&header)?;
            file.sync_all()?;
            self.dir.sync()?;
            Ok(file)
        };
        let file = create().map_err(|e| IngestError::wal("create", &path, e))?;
        let bytes = SEGMENT_HEADER as u64;
        self.bytes.fetch_add(bytes, Relaxed);
        Ok(Active { file, segment: Segment { path, last: self.next_seq - 1, bytes } })
    }

    /// Deletes the segments that hold nothing above `up_to`, after their cursors stand in a newer one.
    fn release(&mut self, up_to: i64, sink: &dyn Sink) -> Result<(), String> {
        if self.active.as_ref().is_some_and(|a| a.segment.last <= up_to) {
            self.seal();
        }
        if !self.sealed.iter().any(|s| s.last <= up_to) {
            return Ok(());
        }
        let cursors: Vec<_> = self.cursors.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let payload = super::encode_payload(&[], &cursors)?;
        let seq = self.write(&[&payload]).map_err(|e| e.to_string())?;
        sink.skipped(seq);
        let mut failed = None;
        let bytes = &self.bytes;
        self.sealed.retain(|s| {
            if s.last > up_to {
                return true;
            }
            match std::fs::remove_file(&s.path) {
                Ok(()) => {
                    bytes.fetch_sub(s.bytes, Relaxed);
                    false
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
                Err(e) => {
                    failed = Some(format!("cannot delete {}: {e}", s.path.display()));
                    true
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }
}
