//! Where certificates lie: the usual places of Kubernetes, etcd, k3s and certbot, and those of the configuration.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// How many files are read in a look.
pub(super) const MOST_FILES: usize = 1_000;
/// How many entries of folders are looked at in a look.
const MOST_ENTRIES: usize = 20_000;
/// How deep is searched below a place.
const DEPTH: usize = 8;

/// Certificates that are trusted rather than owned (`/etc/ssl/certs`) are not among them.
const PLACES: [Place; 7] = [
    Place { dir: "/etc/kubernetes/pki", depth: DEPTH, wanted: is_certificate, ..Place::FOLDER },
    // admin.conf, scheduler.conf, ...: many name a file instead of holding a certificate, which is no fault.
    Place { dir: "/etc/kubernetes", wanted: is_conf, may_be_empty: true, ..Place::FOLDER },
    Place { dir: "/var/lib/kubelet", wanted: is_kubeconfig, may_be_empty: true, ..Place::FOLDER },
    Place { dir: "/var/lib/kubelet/pki", wanted: is_of_kubelet, ..Place::FOLDER },
    Place { dir: "/var/lib/rancher/k3s/server/tls", depth: DEPTH, wanted: is_crt, ..Place::FOLDER },
    // The intermediates of a chain come anew with every renewal of the leaf.
    Place {
        dir: "/etc/letsencrypt/live",
        depth: 1,
        wanted: is_lineage,
        only_first: true,
        ..Place::FOLDER
    },
    Place { dir: "/etc/etcd", depth: DEPTH, wanted: is_crt, ..Place::FOLDER },
];

#[derive(Debug, Clone, Copy)]
struct Place {
    dir: &'static str,
    /// Folders below that are searched.
    depth: usize,
    wanted: fn(&Path) -> bool,
    only_first: bool,
    may_be_empty: bool,
}

impl Place {
    const FOLDER: Self =
        Self { dir: "", depth: 0, wanted: is_certificate, only_first: false, may_be_empty: false };
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| wanted.contains(&e))
}

fn is_certificate(path: &Path) -> bool {
    has_extension(path, &["crt", "pem", "cer"])
}

fn is_crt(path: &Path) -> bool {
    has_extension(path, &["crt"])
}

fn is_conf(path: &Path) -> bool {
    has_extension(path, &["conf"])
}

fn is_kubeconfig(path: &Path) -> bool {
    path.ends_with("kubeconfig")
}

/// The kubelet leaves every dated file that it rotated away, and uses what `…-current.pem` points to, else the `.crt`
/// (client-go, util/certificate/certificate_store.go).
fn is_of_kubelet(path: &Path) -> bool {
    is_crt(path) || path.to_str().is_some_and(|p| p.ends_with("-current.pem"))
}

/// `cert.pem` is the leaf of a lineage of certbot, `fullchain.pem` the same with its chain: one of them is enough.
fn is_lineage(path: &Path) -> bool {
    path.ends_with("cert.pem")
        || (path.ends_with("fullchain.pem") && !path.with_file_name("cert.pem").exists())
}

/// A file that may hold certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it was found; the file itself may lie elsewhere.
    pub path: PathBuf,
    is_link: bool,
    /// Only its first certificate counts.
    pub only_first: bool,
    /// That no certificate is in it is no fault.
    pub may_be_empty: bool,
    /// The configuration names this very file.
    pub is_named: bool,
}

/// A search through all places.
#[derive(Debug)]
pub(super) struct Search {
    root: PathBuf,
    entries_left: usize,
    /// By canonical path: several links to one file are one file.
    found: BTreeMap<PathBuf, Found>,
    /// What was not searched or read, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Search {
    /// The files in the usual places below `root` and in `paths` (files or folders, also below `root`), by path; and what
    /// was skipped.
    pub(super) fn run(root: &Path, paths: &[PathBuf]) -> (Vec<Found>, Vec<(PathBuf, String)>) {
        let mut search = Self {
            root: root.to_owned(),
            entries_left: MOST_ENTRIES,
            found: BTreeMap::new(),
            skipped: Vec::new(),
        };
        for place in &PLACES {
            let dir = search.below_root(Path::new(place.dir));
            match fs::metadata(&dir) {
                Ok(m) if m.is_dir() => search.folder(&dir, place, place.depth),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => search.skip(&dir, e),
            }
        }
        for path in paths {
            search.named(&search.below_root(path));
        }
        let mut found: Vec<Found> = search.found.into_values().collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        (found, search.skipped)
    }

    fn below_root(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn skip(&mut self, path: &Path, why: impl std::fmt::Display) {
        self.skipped.push((path.to_owned(), why.to_string()));
    }

    fn named(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(m) if m.is_dir() => {
                self.folder(path, &Place { depth: DEPTH, ..Place::FOLDER }, DEPTH);
            }
            Ok(_) => self.file(path, &Place::FOLDER, path.is_symlink(), true),
            Err(e) => self.skip(path, e),
        }
    }

    fn folder(&mut self, dir: &Path, place: &Place, depth: usize) {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) => return self.skip(dir, e),
        };
        let mut inside: Vec<_> = entries.flatten().take(self.entries_left + 1).collect();
        if inside.len() > self.entries_left {
            inside.truncate(self.entries_left);
            self.skip(dir, format!("more than {MOST_ENTRIES} entries in all folders"));
        }
        self.entries_left -= inside.len();
        inside.sort_by_key(fs::DirEntry::file_name);
        for entry in inside {
            let path = entry.path();
            match entry.file_type() {
                Ok(t) if t.is_dir() && depth > 0 => self.folder(&path, place, depth - 1),
                // Deeper than the place goes: said only where the depth is a bound and not the form of the place.
                Ok(t) if t.is_dir() && place.depth == DEPTH => {
                    self.skip(&path, format!("deeper than {DEPTH} folders"));
                }
                // A link to a folder is not followed: its files are certificates at their own place.
                Ok(t) if t.is_symlink() && path.is_dir() => {}
                Ok(t) if !t.is_dir() && (place.wanted)(&path) => {
                    self.file(&path, place, t.is_symlink(), false);
                }
                _ => {}
            }
        }
    }

    fn file(&mut self, path: &Path, place: &Place, is_link: bool, is_named: bool) {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(e) => return self.skip(path, e),
        };
        let found = Found {
            path: path.to_owned(),
            is_link,
            only_first: place.only_first,
            may_be_empty: place.may_be_empty,
            is_named,
        };
        let full = self.found.len() >= MOST_FILES;
        match self.found.get_mut(&real) {
            // The name of a link stays when what it points to is renewed.
            Some(known) if is_link && !known.is_link => *known = found,
            Some(known) => known.is_named |= is_named,
            None if full => self.skip(path, format!("more than {MOST_FILES} files")),
            None => drop(self.found.insert(real, found)),
        }
    }
}
