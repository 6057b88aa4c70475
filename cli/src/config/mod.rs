//! Configuration: YAML with the keys of DESIGN §7, defaults without a file, complaints with file and line.

mod tree;
mod value;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use tapio_ingest::CertificateOptions;

use crate::error::CliError;
use tree::{Node, Value};
use value::{boolean, duration, paths, size, text};

/// What the configuration says, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that was read; `None` = defaults only.
    pub file: Option<PathBuf>,
    /// `correlation.enabled`: whether the CLI asks a server at all.
    pub correlation_enabled: bool,
    /// `correlation.server`: where the CLI looks for a server, `host:port` or a URL.
    pub correlation_server: String,
    /// `collectors.ebpf.enabled`.
    pub ebpf_enabled: bool,
    /// `collectors.ebpf.memory_tracking`.
    pub ebpf_memory_tracking: bool,
    /// `collectors.kubernetes.enabled`.
    pub kubernetes_enabled: bool,
    /// `collectors.systemd.enabled`.
    pub systemd_enabled: bool,
    /// `collectors.certificates.enabled`.
    pub certificates_enabled: bool,
    /// `collectors.certificates.paths`: files and folders beside the usual places.
    pub certificate_paths: Vec<PathBuf>,
    /// `storage.url`: folder or URL of the store.
    pub storage_url: String,
    /// `storage.wal_dir`; by default beside the store.
    pub wal_dir: Option<PathBuf>,
    /// `server.listen`; by default the address in `correlation.server`.
    pub listen: Option<String>,
    /// `retention.<table>`, where it differs from the table's definition.
    pub retention: BTreeMap<String, Duration>,
    /// `limits.memory`: bytes a query may hold; `None` = the engine's default.
    pub memory_limit: Option<u64>,
    /// `limits.query_seconds`: after that a query is cancelled.
    pub query_limit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            correlation_enabled: true,
            correlation_server: "localhost:9090".into(),
            ebpf_enabled: true,
            ebpf_memory_tracking: true,
            kubernetes_enabled: false,
            systemd_enabled: true,
            certificates_enabled: true,
            certificate_paths: Vec::new(),
            storage_url: default_store(),
            wal_dir: None,
            listen: None,
            retention: BTreeMap::new(),
            memory_limit: None,
            query_limit: Duration::from_secs(30),
        }
    }
}

/// A key of the file: what it expects and what it means.
struct KeyDef {
    path: String,
    expects: &'static str,
    meaning: String,
}

const FIXED_KEYS: [(&str, &str, &str); 14] = [
    ("correlation.enabled", BOOL, "ask a tapio-server before the local store"),
    ("correlation.server", TEXT, "where the CLI looks for a server"),
    (
        "collectors.ebpf.enabled",
        BOOL,
        "see HTTP, connections, DNS, OOM victims, waits and disk latency from the kernel (needs root)",
    ),
    (
        "collectors.ebpf.memory_tracking",
        BOOL,
        "also the peak memory, begin and end of every process (needs eBPF)",
    ),
    ("collectors.kubernetes.enabled", BOOL, "watch the Kubernetes API (not in this version)"),
    (
        "collectors.systemd.enabled",
        BOOL,
        "follow the journal; units are named from cgroup paths anyway",
    ),
    (
        "collectors.certificates.enabled",
        BOOL,
        "read until when the certificates of Kubernetes, etcd, k3s and certbot are valid",
    ),
    (
        "collectors.certificates.paths",
        PATHS,
        "local files and folders whose certificates are read, too",
    ),
    ("storage.url", TEXT, "folder or URL (file://, s3://, gs://, az://) of the store"),
    ("storage.wal_dir", TEXT, "folder of the write-ahead log; default: beside the store"),
    ("server.listen", TEXT, "address of tapio-server; default: the one in correlation.server"),
    ("limits.memory", SIZE, "memory that queries may hold"),
    ("limits.query_seconds", DURATION, "a query that runs longer is cancelled"),
    ("retention.", DURATION, ""),
];

const BOOL: &str = "true or false";
const TEXT: &str = "a text";
const PATHS: &str = "a list of absolute paths such as [/etc/nginx/tls]";
const SIZE: &str = "a size such as 512MiB";
const DURATION: &str = "a duration such as 30d or 15m (a bare number is seconds)";

fn keys() -> Vec<KeyDef> {
    let mut keys: Vec<KeyDef> = FIXED_KEYS
        .iter()
        .filter(|k| !k.0.ends_with('.'))
        .map(|(path, expects, meaning)| KeyDef {
            path: (*path).into(),
            expects,
            meaning: (*meaning).into(),
        })
        .collect();
    for table in tapio_sql::catalog().iter() {
        keys.push(KeyDef {
            path: format!("retention.{}", table.name),
            expects: DURATION,
            meaning: format!("default {} days", table.retention_days),
        });
    }
    keys
}

impl Config {
    /// Reads the file named by `explicit`, else by `$TAPIO_CONFIG`, else the first of the search path that exists,
    /// else takes the defaults.
    ///
    /// # Errors
    /// A named file that is missing or cannot be read, or a file with an unknown key or a wrong type: exit code 2.
    pub fn load(explicit: Option<&Path>) -> Result<Self, CliError> {
        let named = explicit
            .map(Path::to_path_buf)
            .or_else(|| std::env::var_os("TAPIO_CONFIG").filter(|v| !v.is_empty()).map(Into::into));
        if let Some(path) = named {
            return Self::read(&path);
        }
        // A file that exists but cannot be read must be heard of, not skipped.
        match search_path().into_iter().find(|p| p.symlink_metadata().is_ok()) {
            Some(path) => Self::read(&path),
            None => Ok(Self::default()),
        }
    }

    /// Reads one file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            CliError::tool(format!(
                "cannot read the configuration {}: {e}; `tapio config init` writes one",
                path.display()
            ))
        })?;
        let mut config = Self::parse(&path.display().to_string(), &text)?;
        config.file = Some(path.to_path_buf());
        Ok(config)
    }

    /// Reads a configuration; `file` is named in errors.
    ///
    /// # Errors
    /// File, line, key, and what was expected.
    pub fn parse(file: &str, text: &str) -> Result<Self, CliError> {
        let mut config = Self::default();
        let blank = |l: &str| {
            let l = l.trim_start();
            l.is_empty() || l.starts_with('#') || l == "---"
        };
        if text.lines().all(blank) {
            return Ok(config);
        }
        let root: Node = serde_saphyr::from_str(text).map_err(|e| {
            let line = e.location().map_or(0, |l| usize::try_from(l.line()).unwrap_or(0));
            let message = e.without_snippet().to_string();
            CliError::tool(format!("{file}:{line}: not YAML: {message}"))
        })?;
        let Value::Map(_) = root.value else {
            return Err(CliError::tool(format!(
                "{file}:{}: expected keys such as `correlation:`, got {}",
                root.line,
                root.value.describe()
            )));
        };
        config.walk(file, "", &root, &keys())?;
        Ok(config)
    }

    fn walk(
        &mut self,
        file: &str,
        prefix: &str,
        node: &Node,
        keys: &[KeyDef],
    ) -> Result<(), CliError> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => return Ok(()),
            other => {
                return Err(CliError::tool(format!(
                    "{file}:{}: {prefix} must be a block of keys ({}), got {}",
                    node.line,
                    children(prefix, keys).join(", "),
                    other.describe()
                )));
            }
        };
        for (key, value) in entries {
            let path =
                if prefix.is_empty() { key.name.clone() } else { format!("{prefix}.{}", key.name) };
            if let Some(def) = keys.iter().find(|k| k.path == path) {
                self.set(&path, &value.value).map_err(|why| {
                    CliError::tool(format!(
                        "{file}:{}: {path} must be {}, got {}{why}",
                        value.line.max(key.line),
                        def.expects,
                        value.value.describe()
                    ))
                })?;
            } else if keys.iter().any(|k| k.path.starts_with(&format!("{path}."))) {
                self.walk(file, &path, value, keys)?;
            } else {
                return Err(CliError::tool(format!(
                    "{file}:{}: unknown key {path:?}; {}",
                    key.line,
                    nearest(&key.name, prefix, keys)
                )));
            }
        }
        Ok(())
    }

    /// Sets one key; the error is what to add to the message.
    fn set(&mut self, path: &str, value: &Value) -> Result<(), String> {
        match path {
            "correlation.enabled" => self.correlation_enabled = boolean(value)?,
            "correlation.server" => self.correlation_server = text(value)?,
            "collectors.ebpf.enabled" => self.ebpf_enabled = boolean(value)?,
            "collectors.ebpf.memory_tracking" => self.ebpf_memory_tracking = boolean(value)?,
            "collectors.kubernetes.enabled" => self.kubernetes_enabled = boolean(value)?,
            "collectors.systemd.enabled" => self.systemd_enabled = boolean(value)?,
            "collectors.certificates.enabled" => self.certificates_enabled = boolean(value)?,
            "collectors.certificates.paths" => self.certificate_paths = paths(value)?,
            "storage.url" => self.storage_url = expand_home(&text(value)?),
            "storage.wal_dir" => self.wal_dir = Some(expand_home(&text(value)?).into()),
            "server.listen" => self.listen = Some(text(value)?),
            "limits.memory" => self.memory_limit = Some(size(value)?),
            "limits.query_seconds" => self.query_limit = duration(value)?,
            _ => {
                if let Some(table) = path.strip_prefix("retention.") {
                    self.retention.insert(table.to_owned(), duration(value)?);
                }
            }
        }
        Ok(())
    }

    /// Where certificates are looked for; `None`: nowhere.
    pub fn certificates(&self) -> Option<CertificateOptions> {
        let paths = self.certificate_paths.clone();
        self.certificates_enabled
            .then(|| CertificateOptions { paths, ..CertificateOptions::default() })
    }

    /// The address that `tapio-server` listens on.
    pub fn listen_address(&self) -> String {
        let address = self.listen.as_deref().unwrap_or(&self.correlation_server);
        address.rsplit("://").next().unwrap_or(address).trim_end_matches('/').to_owned()
    }

    /// The folder of the write-ahead log: as configured, else `STORE-wal` beside a local store, else beside the
    /// default store.
    pub fn wal_dir(&self) -> PathBuf {
        if let Some(dir) = &self.wal_dir {
            return dir.clone();
        }
        let url = self.storage_url.strip_prefix("file://").unwrap_or(&self.storage_url);
        let base = if url.contains("://") { default_store() } else { url.to_owned() };
        PathBuf::from(format!("{}-wal", base.trim_end_matches('/')))
    }

    /// The configuration as a YAML file with a comment per key; without `all`, defaults are commented out.
    pub fn to_yaml(&self, all: bool) -> String {
        let default = Self::default();
        let mut out = String::from("# Configuration of Tapio. Every key is optional.\n");
        let mut open: Vec<&str> = Vec::new();
        let keys = keys();
        for key in &keys {
            let mut parts: Vec<&str> = key.path.split('.').collect();
            let leaf = parts.pop().unwrap_or_default();
            let shared = open.iter().zip(&parts).take_while(|(a, b)| a == b).count();
            for (depth, part) in parts.iter().enumerate().skip(shared) {
                out.push_str(&format!("{}{part}:\n", "  ".repeat(depth)));
            }
            let (value, standard) = (self.value_of(&key.path), default.value_of(&key.path));
            let hide = value.is_none() || (!all && value == standard);
            out.push_str(&format!(
                "{}{}{leaf}: {}  # {}\n",
                "  ".repeat(parts.len()),
                if hide { "# " } else { "" },
                value.unwrap_or_default(),
                key.meaning
            ));
            open = parts;
        }
        out
    }

    /// A key's value as YAML; `None` = not set, the meaning says what holds then.
    fn value_of(&self, path: &str) -> Option<String> {
        let seconds = |d: Duration| format!("{}s", d.as_secs_f64());
        Some(match path {
            "correlation.enabled" => self.correlation_enabled.to_string(),
            "correlation.server" => quoted(&self.correlation_server),
            "collectors.ebpf.enabled" => self.ebpf_enabled.to_string(),
            "collectors.ebpf.memory_tracking" => self.ebpf_memory_tracking.to_string(),
            "collectors.kubernetes.enabled" => self.kubernetes_enabled.to_string(),
            "collectors.systemd.enabled" => self.systemd_enabled.to_string(),
            "collectors.certificates.enabled" => self.certificates_enabled.to_string(),
            "collectors.certificates.paths" => {
                let paths = self.certificate_paths.iter().map(|p| quoted(&p.display().to_string()));
                format!("[{}]", paths.collect::<Vec<_>>().join(", "))
            }
            "storage.url" => quoted(&self.storage_url),
            "storage.wal_dir" => quoted(&self.wal_dir().display().to_string()),
            "server.listen" => quoted(&self.listen_address()),
            "limits.memory" => return self.memory_limit.map(|b| b.to_string()),
            "limits.query_seconds" => self.query_limit.as_secs_f64().to_string(),
            _ => {
                let table = path.strip_prefix("retention.")?;
                return self.retention.get(table).map(|d| seconds(*d));
            }
        })
    }

    /// Every key with its value as JSON, for `config show -o json`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut map = serde_json::Map::new();
        map.insert(
            "file".into(),
            self.file.as_ref().map_or(serde_json::Value::Null, |f| f.display().to_string().into()),
        );
        for key in keys() {
            let value = self.value_of(&key.path).map_or(serde_json::Value::Null, |v| {
                serde_json::from_str(&v).unwrap_or(serde_json::Value::String(v))
            });
            map.insert(key.path, value);
        }
        serde_json::Value::Object(map)
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn children(prefix: &str, keys: &[KeyDef]) -> Vec<String> {
    let mut names: Vec<String> = keys
        .iter()
        .filter_map(|k| match prefix {
            "" => k.path.split('.').next(),
            p => k.path.strip_prefix(p)?.strip_prefix('.')?.split('.').next(),
        })
        .map(str::to_owned)
        .collect();
    names.dedup();
    names
}

/// "did you mean ...": a sibling first, else any key; the siblings where nothing is near.
fn nearest(name: &str, prefix: &str, keys: &[KeyDef]) -> String {
    let siblings = children(prefix, keys);
    let near = |wanted: &str, candidate: &str| strsim::jaro_winkler(wanted, candidate);
    let best_sibling = siblings
        .iter()
        .map(|s| {
            (near(name, s), if prefix.is_empty() { s.clone() } else { format!("{prefix}.{s}") })
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let best_key = keys
        .iter()
        .map(|k| {
            let leaf = k.path.rsplit('.').next().unwrap_or(&k.path);
            (near(name, leaf), k.path.clone())
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match (best_sibling, best_key) {
        (Some((score, key)), _) if score >= 0.8 => format!("did you mean {key:?}?"),
        (_, Some((score, key))) if score >= 0.8 => format!("did you mean {key:?}?"),
        _ => format!("known here: {}", siblings.join(", ")),
    }
}

/// Where a configuration is looked for when none is named, in this order.
pub fn search_path() -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("./tapio-config.yaml")];
    if let Some(home) = home() {
        paths.push(home.join(".config/tapio/config.yaml"));
    }
    paths.push("/etc/tapio/tapio-config.yaml".into());
    paths
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|h| !h.is_empty()).map(PathBuf::from)
}

fn expand_home(path: &str) -> String {
    match (path.strip_prefix("~/"), home()) {
        (Some(rest), Some(home)) => home.join(rest).display().to_string(),
        _ => path.to_owned(),
    }
}

/// `/var/lib/tapio` for root, else `~/.local/share/tapio`.
fn default_store() -> String {
    match home() {
        Some(home) if !rustix::process::geteuid().is_root() => {
            home.join(".local/share/tapio").display().to_string()
        }
        _ => "/var/lib/tapio".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse("t.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn every_key_of_the_design_is_read() {
        let c = Config::parse(
            "t.yaml",
            "correlation:\n  enabled: false\n  server: host:1234\ncollectors:\n  ebpf:\n    enabled: true\n    \
             memory_tracking: true\n  kubernetes: {enabled: true}\n  systemd: {enabled: false}\n\
             storage:\n  url: s3://bucket/x\n  wal_dir: /w\nserver: {listen: '127.0.0.1:0'}\n\
             retention:\n  resources: 30d\n  events: 3600\nlimits: {memory: 512MiB, query_seconds: 15m}\n",
        )
        .unwrap();
        assert!(!c.correlation_enabled && c.ebpf_enabled && c.ebpf_memory_tracking);
        assert!(c.kubernetes_enabled && !c.systemd_enabled);
        assert_eq!(c.correlation_server, "host:1234");
        assert_eq!((c.storage_url.as_str(), c.wal_dir()), ("s3://bucket/x", "/w".into()));
        assert_eq!(c.listen_address(), "127.0.0.1:0");
        assert_eq!(c.retention["resources"], Duration::from_secs(2_592_000));
        assert_eq!(c.retention["events"], Duration::from_secs(3600));
        assert_eq!(c.memory_limit, Some(512 << 20));
        assert_eq!(c.query_limit, Duration::from_secs(900));
    }

    #[test]
    fn dotted_keys_and_empty_files_are_fine() {
        let c = Config::parse("t.yaml", "correlation.server: h:1\nstorage:\n").unwrap();
        assert_eq!(c.correlation_server, "h:1");
        assert_eq!(c.listen_address(), "h:1");
        assert_eq!(Config::parse("t.yaml", "# nothing\n\n").unwrap(), Config::default());
        let c = Config::parse("t.yaml", "storage: {url: /data/tapio/}").unwrap();
        assert_eq!(c.wal_dir(), PathBuf::from("/data/tapio-wal"));
        let c = Config::parse("t.yaml", "correlation: {server: 'http://h:7/'}").unwrap();
        assert_eq!(c.listen_address(), "h:7");
    }

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest() {
        let e = error("correlation:\n  enabled: true\n  sever: x\n");
        assert_eq!(
            e,
            "t.yaml:3: unknown key \"correlation.sever\"; did you mean \"correlation.server\"?"
        );
        let e = error("colectors:\n  ebpf: {}\n");
        assert_eq!(e, "t.yaml:1: unknown key \"colectors\"; did you mean \"collectors\"?");
        let e = error("\nwal_dir: /x\n");
        assert_eq!(e, "t.yaml:2: unknown key \"wal_dir\"; did you mean \"storage.wal_dir\"?");
        let e = error("retention:\n  resorces: 3d\n");
        assert!(e.contains("did you mean \"retention.resources\"?"), "{e}");
        let e = error("limits:\n  zzz: 3d\n");
        assert!(e.contains("known here: memory, query_seconds"), "{e}");
    }

    #[test]
    fn paths_are_a_list_of_absolute_paths() {
        let c = Config::parse(
            "t.yaml",
            "collectors:\n  certificates:\n    enabled: false\n    paths:\n      - /a b\n      - /c\n",
        )
        .unwrap();
        assert!(!c.certificates_enabled);
        assert_eq!(c.certificate_paths, [PathBuf::from("/a b"), "/c".into()]);
        let e = error("collectors:\n  certificates: {path: [/a]}\n");
        assert!(e.ends_with("did you mean \"collectors.certificates.paths\"?"), "{e}");
        let e = error("collectors.certificates.paths: /a\n");
        assert_eq!(
            e,
            "t.yaml:1: collectors.certificates.paths must be a list of absolute paths such as [/etc/nginx/tls], got the text \"/a\""
        );
        let e = error("collectors.certificates.paths:\n  - /a\n  - b\n");
        assert!(e.ends_with("got a list with the text \"b\" in line 3"), "{e}");
    }

    #[test]
    fn a_wrong_type_names_line_key_expected_and_got() {
        let e = error("correlation:\n  enabled: maybe\n");
        assert_eq!(
            e,
            "t.yaml:2: correlation.enabled must be true or false, got the text \"maybe\""
        );
        let e = error("retention:\n  events: soon\n");
        assert!(e.starts_with("t.yaml:2: retention.events must be a duration such as 30d"), "{e}");
        let e = error("retention:\n  events: 0\n");
        assert!(e.contains("longer than zero"), "{e}");
        let e = error("limits:\n  memory: [1]\n");
        assert_eq!(e, "t.yaml:2: limits.memory must be a size such as 512MiB, got a list");
        let e = error("storage: /var/x\n");
        assert_eq!(
            e,
            "t.yaml:1: storage must be a block of keys (url, wal_dir), got the text \"/var/x\""
        );
        let e = error("- a\n- b\n");
        assert!(e.contains("expected keys such as `correlation:`, got a list"), "{e}");
        let e = error("a: [\n");
        assert!(e.contains("not YAML"), "{e}");
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let e = Config::read(Path::new("/nonexistent/t.yaml")).unwrap_err().to_string();
        assert!(e.contains("/nonexistent/t.yaml") && e.contains("tapio config init"), "{e}");
        let dir = tempfile::tempdir().unwrap();
        let e = Config::read(dir.path()).unwrap_err().to_string();
        assert!(e.contains("cannot read"), "{e}");
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut c = Config { correlation_server: "h:1".into(), ..Config::default() };
        c.retention.insert("events".into(), Duration::from_secs(60));
        c.memory_limit = Some(1 << 30);
        c.certificate_paths = vec!["/a \"b\"".into(), "/c".into()];
        let yaml = c.to_yaml(true);
        let back = Config::parse("t.yaml", &yaml).unwrap();
        assert_eq!(back.correlation_server, "h:1");
        assert_eq!((&back.retention, back.memory_limit), (&c.retention, c.memory_limit));
        assert_eq!(back.wal_dir(), c.wal_dir());
        assert_eq!(back.certificate_paths, c.certificate_paths);
        let sparse = Config::default().to_yaml(false);
        assert_eq!(Config::parse("t.yaml", &sparse).unwrap(), Config::default());
        assert!(sparse.contains("  # server: \"localhost:9090\""), "{sparse}");
    }
}
