//! Certificates in files of this machine: until when each is valid.
//!
//! A look reads every file anew, once an hour: a date does not change, but a certificate is renewed, and is another one
//! then. Nothing but certificates is taken from the files, and what they hold besides (private keys) is overwritten in
//! memory as soon as a file has been read.

mod decode;
mod places;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tapio_sql::{BatchError, TableBatch};

use super::{ids::Ids, sample::Series};
use crate::{
    Severity,
    rows::{Columns, bools, ints, labels, maybe_times, texts},
};
use decode::{Contents, Decoded, decode, shown};
use places::{Found, Search};

/// Larger files are skipped.
const MOST_BYTES: u64 = 1 << 20;
/// How many certificates a look keeps.
const MOST_CERTIFICATES: usize = 2_000;
/// How many of the skipped places a line in `health` names.
const NAMED_SKIPPED: usize = 10;

const COMPONENT: &str = "collector.certificate";

/// Where to look for certificates, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateOptions {
    /// Below this folder all places are looked for; paths are told as if it were `/`.
    pub root: PathBuf,
    /// Files and folders beside the usual places. They should be local: reading them waits for their filesystem.
    pub paths: Vec<PathBuf>,
    /// Time between two looks: whole ticks, at least one.
    pub interval: Duration,
}

impl Default for CertificateOptions {
    fn default() -> Self {
        Self { root: "/".into(), paths: Vec::new(), interval: Duration::from_secs(3600) }
    }
}

/// The certificates that are followed.
#[derive(Debug)]
pub(crate) struct Certificates {
    options: CertificateOptions,
    followed: BTreeSet<i64>,
    buffer: Vec<u8>,
}

/// A row of `certificates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateSample {
    series_id: i64,
    path: String,
    position: i64,
    file_format: &'static str,
    certificate: Decoded,
}

impl Certificates {
    pub(crate) fn new(options: CertificateOptions) -> Self {
        Self { options, followed: BTreeSet::new(), buffer: Vec::new() }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.options.interval
    }

    /// Looks at all places once. A file that cannot be read or has no certificate where one was to be expected is told in
    /// `health` with its path and the reason, as long as it is so.
    pub(crate) fn read(&mut self, ids: &mut Ids, node_id: Option<i64>) -> Vec<CertificateSample> {
        let (files, mut skipped) = Search::run(&self.options.root, &self.options.paths);
        let mut samples = Vec::new();
        let mut left_out = 0;
        for file in files {
            match self.file(&file) {
                Ok(contents) => {
                    let damaged = contents.damaged.iter().map(|d| (file.path.clone(), d.clone()));
                    skipped.extend(damaged);
                    let format = if contents.is_kubeconfig { "kubeconfig" } else { "pem" };
                    let path = self.told(&file.path);
                    for (position, certificate) in contents.certificates {
                        if samples.len() >= MOST_CERTIFICATES {
                            left_out += 1;
                            continue;
                        }
                        let sample = (path.as_str(), position, format);
                        samples.extend(follow(sample, certificate, ids, node_id));
                    }
                }
                Err(why) => skipped.push((file.path, why)),
            }
        }
        let seen: BTreeSet<i64> = samples.iter().map(|s| s.series_id).collect();
        self.followed.difference(&seen).for_each(|gone| ids.retire(*gone));
        self.followed = seen;
        self.tell(ids, &skipped, left_out);
        samples
    }

    /// What a file holds, or why that is not known.
    fn file(&mut self, file: &Found) -> Result<Contents, String> {
        let read = read_bounded(&file.path, &mut self.buffer);
        let contents = read.map(|()| decode(&self.buffer, file.only_first));
        // Private keys do not stay in memory.
        self.buffer.fill(0);
        std::hint::black_box(&mut self.buffer).clear();
        let contents = contents?;
        let nothing = contents.certificates.is_empty() && contents.damaged.is_empty();
        let beside = contents.has_other_blocks && !file.is_named;
        if nothing && !file.may_be_empty && !beside {
            return Err("no certificate is in it (PEM, or client-certificate-data)".into());
        }
        Ok(contents)
    }

    /// The path as it is told: below the root, and safe to print.
    fn told(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.options.root).unwrap_or(path);
        shown(&Path::new("/").join(below).to_string_lossy()).unwrap_or_default()
    }

    fn tell(&self, ids: &Ids, skipped: &[(PathBuf, String)], left_out: i64) {
        let set = |metric: &'static str, value: i64, detail: String| {
            if value > 0 || ids.health.value(COMPONENT, metric) > 0 {
                ids.health.set(COMPONENT, metric, value, Severity::Warning, detail);
            }
        };
        let mut named: Vec<String> = skipped
            .iter()
            .take(NAMED_SKIPPED)
            .map(|(path, why)| format!("{}: {why}", self.told(path)))
            .collect();
        let more = skipped.len().saturating_sub(NAMED_SKIPPED);
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        let detail = match named.is_empty() {
            true => "nothing is skipped any more".into(),
            false => format!("until when these are valid is not known: {}", named.join("; ")),
        };
        set("files_skipped", skipped.len() as i64, detail);
        let detail = format!("no more than {MOST_CERTIFICATES} certificates are kept");
        set("certificates_left_out", left_out, detail);
    }
}

fn follow(
    (path, position, file_format): (&str, i64, &'static str),
    certificate: Decoded,
    ids: &mut Ids,
    node_id: Option<i64>,
) -> Option<CertificateSample> {
    let mut identity = ids.identity("certificate");
    identity.path = match position {
        0 => path.to_owned(),
        n => format!("{path}#{n}"),
    };
    let until = certificate.not_after.map(|t| t.to_string()).unwrap_or_default();
    identity.incarnation = format!("{}:{until}", certificate.serial);
    let leaf = || path.rsplit('/').next().unwrap_or(path).to_owned();
    let name = certificate.subject.clone().unwrap_or_else(leaf);
    let series = Series { name, identity, parent_id: node_id, ..Series::default() };
    let series_id = ids.register(series)?;
    let path = path.to_owned();
    Some(CertificateSample { series_id, path, position, file_format, certificate })
}

/// Reads a regular file of bounded size; never waits for a pipe or a device.
fn read_bounded(path: &Path, buffer: &mut Vec<u8>) -> Result<(), String> {
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|e| e.to_string())?;
    let about = file.metadata().map_err(|e| e.to_string())?;
    if !about.is_file() {
        return Err("is no regular file".into());
    }
    if about.len() > MOST_BYTES {
        return Err(format!("is larger than {MOST_BYTES} bytes"));
    }
    buffer.clear();
    // At once, so that growing leaves no copy behind.
    buffer.reserve(usize::try_from(about.len()).unwrap_or(0) + 1);
    file.take(MOST_BYTES).read_to_end(buffer).map_err(|e| e.to_string())?;
    Ok(())
}

/// Rows of `certificates`.
pub(crate) fn certificates(
    samples: &[CertificateSample],
    ts: i64,
    observed: i64,
) -> Result<TableBatch, BatchError> {
    let mut c = Columns::at("certificates", samples.len(), ts, observed)?;
    let of = |get: fn(&Decoded) -> Option<&str>| {
        labels(samples.iter().map(|s| get(&s.certificate)).collect::<Vec<_>>())
    };
    c.set("series_id", ints(samples.iter().map(|s| Some(s.series_id))));
    c.set("path", labels(samples.iter().map(|s| Some(s.path.as_str()))));
    c.set("position", ints(samples.iter().map(|s| Some(s.position))));
    c.set("file_format", labels(samples.iter().map(|s| Some(s.file_format))));
    c.set("subject", of(|d| d.subject.as_deref()));
    c.set("issuer", of(|d| d.issuer.as_deref()));
    c.set("serial", texts(samples.iter().map(|s| Some(s.certificate.serial.as_str()))));
    c.set("not_before", maybe_times(samples.iter().map(|s| s.certificate.not_before)));
    c.set("not_after", maybe_times(samples.iter().map(|s| s.certificate.not_after)));
    c.set("is_ca", bools(samples.iter().map(|s| s.certificate.is_ca)));
    c.finish()
}
