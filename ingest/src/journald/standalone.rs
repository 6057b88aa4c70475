//! A real journald of one's own, in a mount namespace of its own: for tests and for the example that measures.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// `$0` = the directory, `$1` = journald.conf lines, `$2` = boot id or nothing. All mounts end with the process.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
printf '[Journal]\nStorage=volatile\nAudit=no\nForwardToSyslog=no\nForwardToConsole=no\nRateLimitIntervalSec=0\n%b' "$1" > /run/journald.conf
mount --bind /run/journald.conf /etc/systemd/journald.conf
mount --bind "$0/log" /run/log/journal
mount --bind "$0/sockets" /run/systemd/journal
if [ -n "$2" ]; then
    echo "$2" > /run/boot_id
    mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
fi
exec /lib/systemd/systemd-journald
"#;

/// What is needed and is not there; `None`: it can be started.
pub fn missing() -> Option<&'static str> {
    let needed = ["/lib/systemd/systemd-journald", "/usr/bin/journalctl", "/usr/bin/unshare"];
    if !rustix::process::geteuid().is_root() {
        return Some("root");
    }
    needed.into_iter().find(|p| !Path::new(p).exists())
}

/// A running journald; ends with this value.
#[derive(Debug)]
pub struct Journald {
    dir: PathBuf,
    child: Child,
    socket: UnixDatagram,
}

impl Journald {
    /// Starts one that writes to `dir/log`, with lines for its configuration (`\n` as in printf), as if the machine had
    /// that boot id (default: its own).
    ///
    /// # Errors
    /// If it cannot be started or does not listen within the deadline.
    pub fn start(dir: &Path, configuration: &str, boot_id: &str) -> io::Result<Self> {
        for name in ["log", "sockets"] {
            std::fs::create_dir_all(dir.join(name))?;
        }
        let path = dir.join("sockets/socket");
        let _ = std::fs::remove_file(&path);
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", SCRIPT])
            .arg(dir)
            .args([configuration, boot_id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let socket = UnixDatagram::unbound()?;
        let mut journald = Self { dir: dir.to_owned(), child, socket };
        let begin = Instant::now();
        while journald.socket.connect(&path).is_err() {
            if let Some(status) = journald.child.try_wait()? {
                return Err(io::Error::other(format!("journald ended: {status}")));
            }
            if begin.elapsed() > DEADLINE {
                return Err(io::Error::other("journald does not listen"));
            }
            std::thread::yield_now();
        }
        // Its log is there once it has written its own first line.
        while journald.files("journal")?.is_empty() {
            if begin.elapsed() > DEADLINE {
                return Err(io::Error::other("journald writes no file"));
            }
            std::thread::yield_now();
        }
        Ok(journald)
    }

    /// Where the journal is, for `journalctl --directory`.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Sends an entry in journald's native protocol.
    ///
    /// # Errors
    /// If the socket does not take it.
    pub fn send(&self, fields: &[(&str, &[u8])]) -> io::Result<()> {
        let mut datagram = Vec::new();
        for (name, value) in fields {
            datagram.extend_from_slice(name.as_bytes());
            datagram.push(b'\n');
            datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
            datagram.extend_from_slice(value);
            datagram.push(b'\n');
        }
        self.socket.send(&datagram).map(|_| ())
    }

    /// Sends a line of `identifier` with priority info.
    ///
    /// # Errors
    /// As [`Journald::send`].
    pub fn line(&self, identifier: &str, message: &str) -> io::Result<()> {
        self.send(&[
            ("MESSAGE", message.as_bytes()),
            ("PRIORITY", b"6"),
            ("SYSLOG_IDENTIFIER", identifier.as_bytes()),
        ])
    }

    /// Journal files whose name ends so: archived ones have an `@`.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn files(&self, part: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for machine in std::fs::read_dir(self.log())? {
            for file in std::fs::read_dir(machine?.path())? {
                let path = file?.path();
                if path.to_string_lossy().contains(part) {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Starts a new file; answers when it is there.
    ///
    /// # Errors
    /// If it is not there within the deadline.
    pub fn rotate(&self) -> io::Result<()> {
        let before = self.files("system@")?.len();
        self.signal(rustix::process::Signal::USR2)?;
        let begin = Instant::now();
        while self.files("system@")?.len() == before {
            if begin.elapsed() > DEADLINE {
                return Err(io::Error::other("journald does not rotate"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) -> io::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.signal(rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
