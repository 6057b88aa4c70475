//! `tapio doctor`: checks that are really made, and what is lost where one is not ok.

use std::{path::Path, process::ExitCode, time::Duration};

use serde_json::json;
use tapio_query::flight::{FlightClient, Probe, probe};
use tapio_store::Store;

use super::{no_binary_form, print_bytes, print_value};
use crate::{
    args::{GlobalArgs, OutputForm},
    cell::rows,
    config::Config,
    error::{CliError, EXIT_UNHEALTHY},
    render::Style,
    time::{now_us, rfc3339},
    units::duration_words,
};

/// How many bytes of data files are decoded to find damage.
const DECODED_BYTES: u64 = 512 << 20;

/// One check.
struct Check {
    name: String,
    status: &'static str,
    detail: String,
    /// What it costs that it is not ok.
    cost: Option<String>,
}

#[derive(Default)]
struct Report(Vec<Check>);

impl Report {
    fn ok(&mut self, name: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Check { name: name.into(), status: "ok", detail: detail.into(), cost: None });
    }

    fn degraded(&mut self, name: impl Into<String>, detail: impl Into<String>, cost: &str) {
        let (name, detail) = (name.into(), detail.into());
        self.0.push(Check { name, status: "degraded", detail, cost: Some(cost.into()) });
    }

    fn fail(&mut self, name: impl Into<String>, detail: impl Into<String>, cost: &str) {
        let (name, detail) = (name.into(), detail.into());
        self.0.push(Check { name, status: "fail", detail, cost: Some(cost.into()) });
    }
}

/// Runs the checks; exit code 1 if one failed.
pub async fn run(global: &GlobalArgs) -> Result<ExitCode, CliError> {
    no_binary_form(global.output, "doctor")?;
    let mut report = Report::default();
    let mut config = match Config::load(global.config.as_deref()) {
        Ok(c) => {
            let from =
                c.file.as_ref().map_or("no file, defaults".into(), |f| f.display().to_string());
            report.ok("configuration", from);
            c
        }
        Err(e) => {
            report.fail(
                "configuration",
                e.message,
                "no command runs with it; below are the defaults",
            );
            Config::default()
        }
    };
    if let Some(store) = &global.store {
        config.storage_url.clone_from(store);
    }
    let server = global.server.as_ref().unwrap_or(&config.correlation_server);
    server_check(&mut report, server).await;
    store_checks(&mut report, &config).await;
    wal_check(&mut report, &config);
    cgroup_checks(&mut report, &read("/proc/self/mountinfo"), &read("/proc/cgroups"));
    loaded_check(&mut report, server, &config).await;
    kernel_checks(&mut report);
    print(&report, global)
}

fn print(report: &Report, global: &GlobalArgs) -> Result<ExitCode, CliError> {
    let worst = ["fail", "degraded"]
        .into_iter()
        .find(|s| report.0.iter().any(|c| c.status == *s))
        .unwrap_or("ok");
    let checks = report.0.iter();
    match global.output {
        OutputForm::Human => {
            let style = Style::detect(global.color);
            let mut out = String::new();
            for c in checks {
                let status = style.by_level(c.status, &format!("{:<8}", c.status));
                out.push_str(&format!("{status}  {}: {}\n", c.name, c.detail));
                if let Some(cost) = &c.cost {
                    out.push_str(&style.dim(&format!("          costs: {cost}")));
                    out.push('\n');
                }
            }
            print_bytes(out.as_bytes())?;
        }
        OutputForm::Csv => {
            let field = |t: &str| format!("\"{}\"", t.replace('"', "\"\""));
            let mut out = String::from("name,status,detail,cost\r\n");
            for c in checks {
                let cost = c.cost.as_deref().unwrap_or_default();
                out.push_str(&format!(
                    "{},{},{},{}\r\n",
                    field(&c.name),
                    c.status,
                    field(&c.detail),
                    field(cost)
                ));
            }
            print_bytes(out.as_bytes())?;
        }
        form => {
            let checks: Vec<_> = checks
                .map(|c| json!({"name": c.name, "status": c.status, "detail": c.detail, "cost": c.cost}))
                .collect();
            print_value(&json!({"status": worst, "checks": checks}), form)?;
        }
    }
    Ok(if worst == "fail" { ExitCode::from(EXIT_UNHEALTHY) } else { ExitCode::SUCCESS })
}

async fn server_check(report: &mut Report, address: &str) {
    let without = "answers come from the local store or from live observation";
    match probe(address, Duration::from_millis(200)).await {
        Probe::Tapio { version, auth_required: false } => {
            report.ok("server", format!("{address} answers, version {version}"));
        }
        Probe::Tapio { .. } => {
            report.degraded("server", format!("{address} wants credentials"), without);
        }
        Probe::Absent(why) => {
            report.degraded("server", format!("nobody answers at {address} ({why})"), without);
        }
        Probe::NotFlight { hint } => {
            report.degraded("server", format!("{address} is no Tapio server: {hint}"), without);
        }
    }
}

/// What the running server has in the kernel, in its own words.
async fn loaded_check(report: &mut Report, server: &str, config: &Config) {
    let name = "kernel programs";
    if !config.ebpf_enabled {
        let why = "switched off by collectors.ebpf.enabled";
        return report.degraded(
            name,
            why,
            "no HTTP, connections, DNS, OOM victims, waits for CPU and disks",
        );
    }
    let sql = "SELECT metric, last_value(value ORDER BY ts) AS value, last_value(severity ORDER BY ts) AS severity, \
               last_value(detail ORDER BY ts) AS detail \
               FROM health WHERE component = 'collector.ebpf' GROUP BY metric ORDER BY metric";
    let answer = async {
        let client = FlightClient::connect(server, Duration::from_millis(200)).await.ok()?;
        client.query(sql).await.ok()
    };
    let Some((_, batches)) = answer.await else {
        return report.ok(name, "tapio-server loads them when it starts; none answers here");
    };
    let mut loaded = Vec::new();
    for row in rows(&batches) {
        let text = |column: &str| row.text(column).unwrap_or_default();
        let (metric, detail) = (text("metric"), text("detail"));
        match row.int("value").unwrap_or_default() {
            0 if detail.starts_with("all programs") => loaded.push(metric),
            n if n > 0 && text("severity") != "info" => {
                report.degraded(format!("{name}: {metric}"), n.to_string(), &detail);
            }
            _ => {}
        }
    }
    if loaded.is_empty() {
        report.degraded(
            name,
            format!("the server at {server} has told of none yet"),
            "see its log",
        );
    } else {
        report.ok(name, format!("in the kernel: {}", loaded.join(", ")));
    }
}

async fn store_checks(report: &mut Report, config: &Config) {
    let url = &config.storage_url;
    let store = match Store::open(url, false) {
        Ok(s) => s,
        Err(e) => {
            let cost = "no history: only live observation, until tapio-server has created it";
            return report.degraded("store", e.to_string(), cost);
        }
    };
    match store.check_writable().await {
        Ok(()) => report.ok("store", format!("{url} is writable")),
        Err(e) => {
            report.degraded("store", e.to_string(), "tapio-server cannot run here; reading works")
        }
    }
    let mut budget = DECODED_BYTES;
    for def in tapio_sql::catalog().iter() {
        let name = format!("table {}", def.name);
        let log = store.table(def);
        let snapshot = match log.snapshot().await {
            Ok(s) => s,
            Err(e) => {
                report.fail(name, e.to_string(), "this table cannot be read");
                continue;
            }
        };
        if snapshot.version.is_none() {
            report.ok(name, "empty");
            continue;
        }
        let through = snapshot
            .files
            .values()
            .filter_map(|f| f.ranges.get("observed_at"))
            .map(|r| r.max)
            .max();
        let through = through.map_or("no rows".into(), |t| {
            let age = (now_us() - t) as f64 / 1e6;
            format!("data through {} ({} ago)", rfc3339(t), duration_words(age.max(0.0)))
        });
        report.ok(
            &name,
            format!("{} files, {} rows, {through}", snapshot.files.len(), snapshot.rows()),
        );
        // Listed files are really decoded: a damaged one is skipped by queries, so someone must say which.
        let mut damaged = Vec::new();
        let mut left_out = 0;
        for (path, file) in &snapshot.files {
            if file.size > budget {
                left_out += 1;
                continue;
            }
            budget -= file.size;
            let readable = match log.read_file(path).await {
                Ok(bytes) => tapio_store::read_parquet(def, path, bytes).map(|_| ()),
                Err(e) => Err(e),
            };
            if let Err(e) = readable {
                damaged.push(e.to_string());
            }
        }
        if !damaged.is_empty() {
            let detail = format!("{} damaged: {}", damaged.len(), damaged.join("; "));
            report.degraded(&name, detail, "their rows are missing in every answer");
        }
        if left_out > 0 {
            let detail = format!("{left_out} files were not decoded, to keep this short");
            report.degraded(
                &name,
                detail,
                "damage in them shows in tapio_degraded() when a query reads them",
            );
        }
        match log.unlisted_files().await {
            Ok(files) if !files.is_empty() => {
                let shown: Vec<_> = files.iter().take(3).map(String::as_str).collect();
                let detail =
                    format!("{} files that no version names: {} …", files.len(), shown.join(", "));
                report.degraded(&name, detail, "only space: they are never read");
            }
            Ok(_) => {}
            Err(e) => report.degraded(&name, e.to_string(), "its folder cannot be listed"),
        }
    }
}

fn wal_check(report: &mut Report, config: &Config) {
    let dir = config.wal_dir();
    if !dir.exists() {
        return report.ok(
            "write-ahead log",
            format!("{} does not exist yet; tapio-server creates it", dir.display()),
        );
    }
    match lock_holder(&dir) {
        Ok(Some(pid)) => {
            report.ok("write-ahead log", format!("{} is in use by process {pid}", dir.display()))
        }
        Ok(None) => report.ok("write-ahead log", format!("{} is free", dir.display())),
        Err(e) => report.degraded(
            "write-ahead log",
            format!("{}: {e}", dir.display()),
            "it cannot be told whether a server runs on it",
        ),
    }
}

/// The process that has any file of the folder locked, by the kernel's list.
fn lock_holder(dir: &Path) -> std::io::Result<Option<u32>> {
    use std::os::unix::fs::MetadataExt;
    let locks = std::fs::read_to_string("/proc/locks")?;
    for entry in std::fs::read_dir(dir)? {
        let inode = entry?.metadata()?.ino().to_string();
        // "1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF": pid, then device and inode.
        for line in locks.lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            let at = fields
                .iter()
                .position(|f| f.rsplit(':').next() == Some(&inode) && f.matches(':').count() == 2);
            if let Some(pid) =
                at.and_then(|i| fields.get(i.checked_sub(1)?)).and_then(|p| p.parse().ok())
            {
                return Ok(Some(pid));
            }
        }
    }
    Ok(None)
}

fn cgroup_checks(report: &mut Report, mountinfo: &str, proc_cgroups: &str) {
    let mut v1 = Vec::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mount = left.split(' ').nth(4).unwrap_or_default();
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") => v2 = v2.or(Some(mount.to_owned())),
            Some("cgroup") => {
                let options = right.nth(1).unwrap_or_default();
                v1.extend(
                    options.split(',').filter(|o| *o != "rw" && *o != "ro").map(str::to_owned),
                );
            }
            _ => {}
        }
    }
    let v2_controllers =
        v2.as_ref().map(|m| read(&format!("{m}/cgroup.controllers"))).unwrap_or_default();
    let memory_v2 = v2_controllers.split_whitespace().any(|c| c == "memory");
    let versions = match (&v2, v1.is_empty()) {
        (Some(m), true) => format!("v2 at {m} ({})", v2_controllers.trim()),
        (Some(m), false) => {
            format!("v1 ({}) and v2 at {m} ({})", v1.join(", "), v2_controllers.trim())
        }
        (None, false) => format!("v1 ({})", v1.join(", ")),
        (None, true) => {
            return report.fail(
                "cgroups",
                "no hierarchy is mounted",
                "nothing can be collected but /proc",
            );
        }
    };
    let memory_v1 = v1.iter().any(|c| c == "memory");
    if memory_v1 || memory_v2 {
        report.ok("cgroups", versions);
    } else {
        let disabled =
            proc_cgroups.lines().any(|l| l.starts_with("memory\t") && l.ends_with("\t0"));
        let why = if disabled { "; the kernel has it disabled" } else { "" };
        report.fail(
            "cgroups",
            format!("{versions}: no memory controller{why}"),
            "no OOM prediction",
        );
    }
}

fn kernel_checks(report: &mut Report) {
    for feature in tapio_ebpf::KernelSupport::probe().features {
        let name = format!("kernel: {}", feature.name);
        match feature.missing {
            None => report.ok(&name, "available"),
            Some(why) => report.degraded(&name, why, feature.costs),
        }
    }
    let status = read("/proc/self/status");
    let caps =
        status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim).unwrap_or_default();
    let bits = u64::from_str_radix(caps, 16).unwrap_or(0);
    // Numbers from linux/capability.h.
    let wanted = [
        (21, "SYS_ADMIN"),
        (39, "BPF"),
        (38, "PERFMON"),
        (19, "SYS_PTRACE"),
        (2, "DAC_READ_SEARCH"),
    ];
    let missing: Vec<_> =
        wanted.iter().filter(|(b, _)| bits & (1 << b) == 0).map(|(_, n)| *n).collect();
    if missing.is_empty() {
        report.ok("capabilities", "all that collectors use");
    } else {
        report.degraded(
            "capabilities",
            format!("without {}", missing.join(", ")),
            "a server started with these loads no kernel programs, and processes of other users may be unreadable",
        );
    }
    if Path::new("/sys/kernel/tracing/events").exists() {
        report.ok("tracefs", "/sys/kernel/tracing is mounted");
    } else {
        report.degraded(
            "tracefs",
            "/sys/kernel/tracing is not mounted (mount -t tracefs nodev /sys/kernel/tracing)",
            "no plain tracepoints; what this version collects does not need them",
        );
    }
    let journal =
        ["/run/log/journal", "/var/log/journal"].into_iter().find(|p| Path::new(p).exists());
    match journal {
        Some(path) => report.ok("journald", path),
        None => report.degraded(
            "journald",
            "no journal in /run/log/journal or /var/log/journal",
            "no log lines, failures and restarts of units among the events",
        ),
    }
}

/// A file's text; empty if it cannot be read.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(report: &Report) -> Vec<(&str, &str)> {
        report.0.iter().map(|c| (c.name.as_str(), c.status)).collect()
    }

    #[test]
    fn both_cgroup_versions_are_recognised() {
        let v1 = "30 20 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                  31 20 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                  32 20 0:28 / /nonexistent/unified rw - cgroup2 cgroup2 rw\n";
        let mut r = Report::default();
        cgroup_checks(&mut r, v1, "");
        assert_eq!(statuses(&r), [("cgroups", "ok")]);
        assert!(r.0[0].detail.contains("v1 (memory, cpu, cpuacct) and v2 at /nonexistent/unified"));

        let mut r = Report::default();
        cgroup_checks(&mut r, "1 1 0:1 / /x rw - cgroup cgroup rw,cpu\n", "memory\t0\t1\t0\n");
        assert_eq!(statuses(&r), [("cgroups", "fail")]);
        assert!(r.0[0].detail.contains("the kernel has it disabled"));

        let mut r = Report::default();
        cgroup_checks(&mut r, "", "");
        assert_eq!(statuses(&r), [("cgroups", "fail")]);
    }

    #[tokio::test]
    async fn a_damaged_file_and_a_stranger_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_str().unwrap(), true).unwrap();
        std::fs::create_dir_all(dir.path().join("events/date=2026-11-23")).unwrap();
        std::fs::write(dir.path().join("events/date=2026-11-23/x.parquet"), "no").unwrap();
        let def = tapio_sql::catalog().get("events").unwrap();
        let file = tapio_store::DataFile {
            path: "date=2026-11-23/gone.parquet".into(),
            size: 3,
            date: Some("2026-11-23".into()),
            modified_ms: 0,
            rows: Some(1),
            ranges: Default::default(),
        };
        let commit =
            tapio_store::Commit { add: vec![file], data_change: true, ..Default::default() };
        store.table(def).commit(commit).await.unwrap();
        let config = Config { storage_url: dir.path().display().to_string(), ..Config::default() };
        let mut r = Report::default();
        store_checks(&mut r, &config).await;
        let events: Vec<_> = r.0.iter().filter(|c| c.name == "table events").collect();
        assert_eq!(events.len(), 3, "{:?}", statuses(&r));
        assert!(events[1].detail.contains("gone.parquet"), "{}", events[1].detail);
        assert!(events[2].detail.contains("x.parquet"), "{}", events[2].detail);
    }

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("LOCK")).unwrap();
        assert_eq!(lock_holder(dir.path()).unwrap(), None);
        file.lock().unwrap();
        assert_eq!(lock_holder(dir.path()).unwrap(), Some(std::process::id()));
    }
}
