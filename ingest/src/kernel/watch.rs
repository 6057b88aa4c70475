//! The loaded programs and the thread that empties their ring buffers between ticks.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use tapio_ebpf::{
    BlockRequests, CpuWaits, DnsAnswers, DnsFailure, FailedConnect, Flow, HttpTransactions,
    LifeEvent, Loss, OomVictim, ProcessMemory, Programs, ReadError,
};

use super::{report::COMPONENT, rights::drop_loading_capabilities};
use crate::{Health, Severity};

/// Ring buffers wake nobody; the smallest holds two thousand records.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Records of a kind that are kept between two ticks, should ticks fall out; those beyond are counted as lost.
const KEEP: usize = 32_768;

/// What was read for a tick, or is kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub life: Vec<LifeEvent>,
    pub victims: Vec<OomVictim>,
    pub connects: Vec<FailedConnect>,
    pub http: Vec<HttpTransactions>,
    pub flows: Vec<Flow>,
    pub dns: Vec<DnsAnswers>,
    pub dns_failed: Vec<DnsFailure>,
    pub waits: Vec<CpuWaits>,
    pub block: Vec<BlockRequests>,
    pub processes: Vec<ProcessMemory>,
}

#[derive(Debug)]
struct Shared {
    programs: Programs,
    life: Vec<LifeEvent>,
    victims: Vec<OomVictim>,
    connects: Vec<FailedConnect>,
    overflow: i64,
}

/// The programs are in the kernel for as long as this lives.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Mutex<Shared>>,
    poller: Option<(Sender<()>, JoinHandle<()>)>,
    has_oom: bool,
}

impl Watch {
    pub(super) fn start(programs: Programs, health: &Health) -> Self {
        let has_oom = programs.oom.is_some();
        let rings = has_oom || programs.memory.is_some() || programs.net.is_some();
        let shared = Shared {
            programs,
            life: Vec::new(),
            victims: Vec::new(),
            connects: Vec::new(),
            overflow: 0,
        };
        let shared = Arc::new(Mutex::new(shared));
        let poller = rings.then(|| spawn(shared.clone())).and_then(|started| match started {
            Ok(poller) => Some(poller),
            Err(e) => {
                let detail = format!(
                    "no thread could be started ({e}): what does not fit into ring buffers between ticks is lost and counted"
                );
                health.set(COMPONENT, "not_polled", 1, Severity::Warning, detail);
                None
            }
        });
        Self { shared, poller, has_oom }
    }

    pub(super) fn has_oom(&self) -> bool {
        self.has_oom
    }

    /// Takes what was polled and should not wait for the tick; appends to what `out` holds.
    pub(super) fn take_urgent(&self, out: &mut Records) {
        let mut shared = lock(&self.shared);
        out.victims.append(&mut shared.victims);
        out.connects.append(&mut shared.connects);
    }

    /// Reads the tables and takes what was polled. `out` keeps the urgent records that it holds, which are older. What cannot be read is counted, the rest is told.
    pub(super) fn take(&self, out: &mut Records, health: &Health) {
        let mut shared = lock(&self.shared);
        shared.poll();
        let overflow = std::mem::take(&mut shared.overflow);
        let lost = "single events from the kernel that came faster than ticks took them";
        health.count(COMPONENT, "events_lost", overflow, Severity::Warning, lost);
        out.life.clear();
        std::mem::swap(&mut shared.life, &mut out.life);
        out.victims.append(&mut shared.victims);
        out.connects.append(&mut shared.connects);
        out.processes.clear();
        let p = &mut shared.programs;
        let tried = |read: Option<Result<(), ReadError>>| {
            if let Some(Err(e)) = read {
                tracing::error!("{e}");
                health.count(COMPONENT, "read_failures", 1, Severity::Error, e.to_string());
            }
        };
        tried(p.http.as_mut().map(|p| p.drain(&mut out.http)));
        tried(p.net.as_mut().map(|p| p.drain(&mut out.flows)));
        tried(p.dns.as_mut().map(|p| p.drain(&mut out.dns)));
        tried(p.dns.as_mut().map(|p| p.poll_failed(&mut out.dns_failed)));
        tried(p.cpu.as_mut().map(|p| p.drain(&mut out.waits)));
        tried(p.block.as_mut().map(|p| p.drain(&mut out.block)));
        tried(p.memory.as_mut().map(|p| p.read(&mut out.processes)));
    }

    /// What was lost since loading, by object.
    pub(super) fn losses(&self) -> Result<Vec<(&'static str, Vec<Loss>)>, ReadError> {
        lock(&self.shared).programs.losses()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.poller.take() {
            drop(stop);
            // It panics only if reading does, which the next tick would have met too.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn poll(&mut self) {
        let p = &mut self.programs;
        if let Some(memory) = &mut p.memory {
            memory.poll_life(&mut self.life);
        }
        if let Some(oom) = &mut p.oom {
            oom.poll(&mut self.victims);
        }
        if let Some(net) = &mut p.net {
            net.poll_failed(&mut self.connects);
        }
        self.overflow +=
            bound(&mut self.life) + bound(&mut self.victims) + bound(&mut self.connects);
    }
}

/// Cuts to what is kept; answers how many were dropped.
fn bound<T>(records: &mut Vec<T>) -> i64 {
    let over = records.len().saturating_sub(KEEP);
    records.truncate(KEEP);
    over as i64
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Records are appended whole: a panic in between leaves nothing half done.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(shared: Arc<Mutex<Shared>>) -> std::io::Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel::<()>();
    let thread = std::thread::Builder::new().name("tapio-kernel".into()).spawn(move || {
        // Reading needs no rights; if they cannot be given up, reading is right all the same.
        let _ = drop_loading_capabilities();
        while stopped.recv_timeout(POLL_EVERY) == Err(RecvTimeoutError::Timeout) {
            lock(&shared).poll();
        }
    })?;
    Ok((stop, thread))
}
