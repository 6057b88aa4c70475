//! One object file in the kernel: its programs, each loaded by itself, and its counters of what was lost.

use std::{
    error::Error,
    fs::File,
    os::fd::{AsFd, AsRawFd},
};

use aya::{
    Btf, Ebpf, EbpfLoader, Pod,
    maps::{Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Iter, ProgramError,
    },
};

use crate::raw::decode;

/// A program that is not in the kernel, and what the user loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLoaded {
    /// `object/program`.
    pub program: String,
    /// What was tried and why it failed.
    pub error: String,
    /// What the user does without.
    pub costs: &'static str,
}

/// Something that happened in the kernel and could not be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Short name, the same for every version of a loader: what is counted.
    pub reason: String,
    /// What was lost and why.
    pub what: String,
    /// How many since the programs were loaded.
    pub count: u64,
}

/// A kernel program's table cannot be read.
#[derive(Debug)]
pub struct ReadError {
    what: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl ReadError {
    pub(crate) fn new(what: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what, source: source.into() }
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = explain(self.source.as_ref());
        write!(f, "cannot read {} from the kernel: {why}; load the programs again", self.what)
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Where a program is attached.
pub(crate) enum Hook {
    /// A BTF-typed tracepoint.
    Tracepoint(&'static str),
    /// Nowhere; it is run by [`Object::run_iterator`].
    TaskIterator,
    /// Packets of all sockets below a unified cgroup.
    Packets(CgroupSkbAttachType),
}

/// A program in an object file.
pub(crate) struct Program {
    pub name: &'static str,
    pub hook: Hook,
    pub costs: &'static str,
}

/// An object file.
pub(crate) struct Source {
    pub name: &'static str,
    pub bytes: &'static [u8],
    pub programs: &'static [Program],
    /// Reasons of loss in the order of the program's `enum lost_reason`: short name and sentence.
    pub losses: &'static [(&'static str, &'static str)],
}

/// What all objects are loaded with.
pub(crate) struct Loading<'a> {
    pub btf: &'a Btf,
    /// The unified cgroup whose sockets are watched, or why there is none.
    pub unified: Result<&'a File, &'a str>,
}

/// An object whose programs are attached for as long as it lives. Links are file descriptors, nothing is pinned: when the
/// process ends in whatever way, the kernel takes everything away.
pub(crate) struct Object {
    ebpf: Ebpf,
    lost: PerCpuArray<MapData, u64>,
    losses: &'static [(&'static str, &'static str)],
    loaded: Vec<&'static str>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}

impl Object {
    /// Loads and attaches each program by itself; `None` if nothing of the object could be loaded. `entries` sets the size
    /// of maps.
    pub(crate) fn load(
        source: &Source,
        loading: &Loading<'_>,
        entries: &[(&'static str, u32)],
        missing: &mut Vec<NotLoaded>,
    ) -> Option<Self> {
        let not_loaded = |program: &Program, error: String| NotLoaded {
            program: format!("{}/{}", source.name, program.name),
            error,
            costs: program.costs,
        };
        let mut loader = EbpfLoader::new();
        // Storage on tasks is used by the programs alone; aya cannot read it, and need not.
        loader.btf(Some(loading.btf)).allow_unsupported_maps();
        for (map, size) in entries {
            loader.map_max_entries(map, *size);
        }
        let opened = loader.load(source.bytes).map_err(|e| explain(&e)).and_then(|mut ebpf| {
            let map = ebpf.take_map("LOST").ok_or("the object has no map LOST")?;
            let lost = PerCpuArray::try_from(map).map_err(|e| explain(&e))?;
            Ok((ebpf, lost))
        });
        let (mut ebpf, lost) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                missing.extend(source.programs.iter().map(|p| not_loaded(p, e.clone())));
                return None;
            }
        };
        let mut loaded = Vec::new();
        for program in source.programs {
            match attach(&mut ebpf, program, loading) {
                Ok(()) => loaded.push(program.name),
                Err(e) => missing.push(not_loaded(program, e)),
            }
        }
        (!loaded.is_empty()).then_some(Self { ebpf, lost, losses: source.losses, loaded })
    }

    /// Whether a program is in the kernel.
    pub(crate) fn has(&self, program: &str) -> bool {
        self.loaded.contains(&program)
    }

    /// Takes a map out, as the type of aya that fits it.
    pub(crate) fn map<T>(&mut self, name: &'static str) -> Result<T, String>
    where
        T: TryFrom<Map, Error = MapError>,
    {
        let map =
            self.ebpf.take_map(name).ok_or_else(|| format!("the object has no map {name}"))?;
        T::try_from(map).map_err(|e| format!("map {name}: {}", explain(&e)))
    }

    /// Opens a run of an iterator; reading the file runs the program.
    pub(crate) fn run_iterator(&mut self, program: &'static str) -> Result<File, ReadError> {
        let error = |e: Box<dyn Error + Send + Sync>| ReadError { what: program, source: e };
        let found =
            self.ebpf.program_mut(program).ok_or_else(|| error("not in the object".into()))?;
        let iterator: &mut Iter = found.try_into().map_err(|e: ProgramError| error(e.into()))?;
        let link = iterator.attach().map_err(|e| error(e.into()))?;
        let link = iterator.take_link(link).map_err(|e| error(e.into()))?;
        link.into_file().map_err(|e| error(e.into()))
    }

    /// What was lost since loading, one entry per reason and program, also those that are zero.
    ///
    /// The kernel does not run a tracing program on a CPU where the same one is already running (it was interrupted or
    /// preempted) and counts that (`recursion_misses` of bpf_prog_info, Linux 5.12).
    pub(crate) fn losses(&self) -> Result<Vec<Loss>, ReadError> {
        let mut losses = Vec::new();
        for (index, (reason, what)) in (0..).zip(self.losses) {
            let per_cpu = self.lost.get(&index, 0);
            let per_cpu = per_cpu.map_err(|e| ReadError::new("the counters of losses", e))?;
            let count = per_cpu.iter().sum();
            losses.push(Loss { reason: (*reason).into(), what: (*what).into(), count });
        }
        for name in &self.loaded {
            let what = format!("runs of {name} that the kernel left out");
            let count = self.misses(name).unwrap_or(0);
            losses.push(Loss { reason: format!("{name}_runs_left_out"), what, count });
        }
        Ok(losses)
    }

    fn misses(&self, program: &str) -> Option<u64> {
        let fd = self.ebpf.program(program)?.fd().ok()?.as_fd().as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        info.lines().find_map(|l| l.strip_prefix("recursion_misses:"))?.trim().parse().ok()
    }
}

fn attach(ebpf: &mut Ebpf, program: &Program, loading: &Loading<'_>) -> Result<(), String> {
    let found = ebpf.program_mut(program.name).ok_or("the object has no such program")?;
    let explain = |e: ProgramError| explain_program(&e);
    match &program.hook {
        Hook::Tracepoint(tracepoint) => {
            let p: &mut BtfTracePoint = found.try_into().map_err(explain)?;
            p.load(tracepoint, loading.btf).map_err(explain)?;
            p.attach().map_err(explain)?;
        }
        Hook::TaskIterator => {
            let p: &mut Iter = found.try_into().map_err(explain)?;
            p.load("task", loading.btf).map_err(explain)?;
        }
        Hook::Packets(direction) => {
            let cgroup = loading.unified.map_err(str::to_owned)?;
            let p: &mut CgroupSkb = found.try_into().map_err(explain)?;
            p.load().map_err(explain)?;
            p.attach(cgroup, *direction, CgroupAttachMode::Single).map_err(explain)?;
        }
    }
    Ok(())
}

/// A ring buffer. Its programs never wake anybody (`BPF_RB_NO_WAKEUP`, 12 µs a time): it is polled.
pub(crate) struct Ring(RingBuf<MapData>);

impl Ring {
    /// Takes all records out.
    pub(crate) fn drain<T: Pod>(&mut self, mut each: impl FnMut(T)) {
        while let Some(record) = self.0.next() {
            // Shorter records would mean that object and loader do not belong together; the tests hold that.
            if let Some(record) = decode(&record) {
                each(record);
            }
        }
    }
}

impl TryFrom<Map> for Ring {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        RingBuf::try_from(map).map(Self)
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// An error with its causes, and what to do if it is about rights.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut denied = false;
    let mut next = Some(error);
    while let Some(e) = next {
        let this = e.to_string();
        if !text.contains(&this) {
            text.push_str(": ");
            text.push_str(&this);
        }
        denied |= e
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
        next = e.source();
    }
    if denied {
        text.push_str("; run as root or with CAP_BPF, CAP_PERFMON and, for packets, CAP_NET_ADMIN");
    }
    text
}

/// As [`explain`]; of the verifier's log, which can have thousands of lines, only the end.
fn explain_program(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return explain(error);
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|l| !l.trim().is_empty()).collect();
    let end = lines[lines.len().saturating_sub(3)..].join(" | ");
    // The verifier refuses with the same error as the lack of rights, but says why.
    if end.is_empty() { explain(io_error) } else { format!("{io_error}; the verifier says: {end}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let denied = std::io::Error::from_raw_os_error(1);
        assert!(explain(&denied).contains("CAP_BPF"), "{}", explain(&denied));
        let other = std::io::Error::from_raw_os_error(22);
        assert!(!explain(&other).contains("CAP_BPF"));
        let nested = ReadError::new("things", denied);
        assert!(nested.to_string().contains("cannot read things"), "{nested}");
        assert!(nested.to_string().contains("CAP_PERFMON"), "{nested}");
    }
}
