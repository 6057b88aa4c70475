//! Who listens where on this machine: the way from an address to a cgroup that no kernel program tells.
//!
//! All of it is read from /proc (proc(5)): listening sockets and addresses of each network namespace, and whose file
//! descriptors the sockets are. That takes milliseconds, so it is done when an answer is missing, less and less often while
//! that does not help.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::collect::process::Paths;

/// Ticks between two scans, while the last one helped; the time doubles when it did not.
const SOONEST: u64 = 2;
const LATEST: u64 = 300;
/// Ticks after which a scan is not believed any more.
const BELIEVE: u64 = 60;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listener {
    namespace: u64,
    address: IpAddr,
    /// Of the memory cgroup.
    path: String,
}

/// What the last scan found.
#[derive(Debug)]
pub(super) struct Listeners {
    proc_root: PathBuf,
    by_port: HashMap<u16, Vec<Listener>>,
    /// Network namespace of an address; 0: of more than one.
    namespaces: HashMap<IpAddr, u64>,
    scanned: Option<u64>,
    pause: u64,
}

impl Listeners {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self {
            proc_root: proc_root.to_owned(),
            by_port: HashMap::new(),
            namespaces: HashMap::new(),
            scanned: None,
            pause: SOONEST,
        }
    }

    /// The memory cgroup that listens on a port; `None` if there is none or more than one.
    pub(super) fn of_port(&mut self, port: u16, tick: u64) -> Option<&str> {
        self.scan_unless(tick, |s| s.only(port, |_| true).is_some());
        self.only(port, |_| true)
    }

    /// The memory cgroup that answers at an address, as the process `tgid` reaches it.
    pub(super) fn at(&mut self, tgid: u32, address: SocketAddr, tick: u64) -> Option<&str> {
        let ip = address.ip().to_canonical();
        // Loopback addresses are those of the caller's own namespace, if it can still be asked.
        let own = ip.is_loopback().then(|| namespace(&self.proc_root.join(tgid.to_string())));
        let abroad = |s: &Self| own.is_none() && !s.namespaces.contains_key(&ip);
        let fits = |s: &Self, l: &Listener| {
            let there = match own {
                Some(Some(namespace)) => l.namespace == namespace,
                Some(None) => true,
                None => s.namespaces.get(&ip) == Some(&l.namespace),
            };
            there && (l.address == ip || l.address.is_unspecified())
        };
        let port = address.port();
        self.scan_unless(tick, |s| abroad(s) || s.only(port, |l| fits(s, l)).is_some());
        self.only(port, |l| fits(self, l))
    }

    fn only(&self, port: u16, fits: impl Fn(&Listener) -> bool) -> Option<&str> {
        let mut paths = self.by_port.get(&port)?.iter().filter(|l| fits(l)).map(|l| &*l.path);
        let first = paths.next()?;
        paths.all(|p| p == first).then_some(first)
    }

    fn scan_unless(&mut self, tick: u64, known: impl Fn(&Self) -> bool) {
        let age = self.scanned.map(|s| tick - s);
        let due = match age {
            None => true,
            Some(age) if known(self) => age >= BELIEVE,
            Some(age) => age >= self.pause,
        };
        if due {
            self.scan();
            self.scanned = Some(tick);
            self.pause = if known(self) { SOONEST } else { (self.pause * 2).min(LATEST) };
        }
    }

    fn scan(&mut self) {
        self.by_port.clear();
        self.namespaces.clear();
        let Ok(entries) = fs::read_dir(&self.proc_root) else { return };
        let pids = entries
            .flatten()
            .filter(|e| e.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
        let dirs: Vec<PathBuf> = pids.map(|e| e.path()).collect();
        let mut seen = HashSet::new();
        let mut sockets: HashMap<u64, (u64, SocketAddr)> = HashMap::new();
        for dir in &dirs {
            let Some(namespace) = namespace(dir) else { continue };
            if !seen.insert(namespace) {
                continue;
            }
            let read =
                |name: &str| fs::read_to_string(dir.join("net").join(name)).unwrap_or_default();
            for text in [read("tcp"), read("tcp6")] {
                sockets.extend(listening(&text).map(|(a, inode)| (inode, (namespace, a))));
            }
            let (v4, v6) = (read("fib_trie"), read("if_inet6"));
            for ip in addresses_v4(&v4).chain(addresses_v6(&v6)).filter(|ip| !ip.is_loopback()) {
                let entry = self.namespaces.entry(ip).or_insert(namespace);
                if *entry != namespace {
                    *entry = 0;
                }
            }
        }
        let mut owners: HashMap<u64, String> = HashMap::new();
        for dir in &dirs {
            let Ok(fds) = fs::read_dir(dir.join("fd")) else { continue };
            let links = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
            let held: Vec<u64> = links
                .filter_map(|link| socket(link.to_str()?))
                .filter(|inode| sockets.contains_key(inode))
                .collect();
            // A service manager in the root may hold a socket that it made for a service.
            if held.iter().all(|inode| owners.get(inode).is_some_and(|o| o != "/")) {
                continue;
            }
            let Ok(cgroups) = fs::read_to_string(dir.join("cgroup")) else { continue };
            let path = Paths::parse(&cgroups).memory;
            for inode in held {
                let owner = owners.entry(inode).or_insert_with(|| path.clone());
                if owner == "/" {
                    owner.clone_from(&path);
                }
            }
        }
        for (inode, (namespace, address)) in sockets {
            let Some(path) = owners.remove(&inode) else { continue };
            let ip = address.ip().to_canonical();
            let listener = Listener { namespace, address: ip, path };
            self.by_port.entry(address.port()).or_default().push(listener);
        }
    }
}

/// Inode of the network namespace of the process that a directory of /proc is about.
fn namespace(dir: &Path) -> Option<u64> {
    fs::metadata(dir.join("ns/net")).ok().map(|m| m.ino())
}

/// `socket:[123]`.
fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Listening sockets of /proc/net/tcp and tcp6: address and inode.
fn listening(text: &str) -> impl Iterator<Item = (SocketAddr, u64)> {
    text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let local = words.nth(1)?;
        if words.nth(1)? != "0A" {
            return None;
        }
        let inode = words.nth(5)?.parse().ok()?;
        let (ip, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((SocketAddr::new(hex_address(ip)?, port), inode))
    })
}

/// Words of 32 bits, each in the byte order of the machine.
fn hex_address(text: &str) -> Option<IpAddr> {
    let word = |i: usize| {
        let digits = text.get(8 * i..8 * i + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for i in 0..4 {
                bytes[4 * i..4 * i + 4].copy_from_slice(&word(i)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// Own addresses in /proc/net/fib_trie: a leaf with `/32 host LOCAL` below it.
fn addresses_v4(text: &str) -> impl Iterator<Item = IpAddr> {
    let mut leaf = None;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        if let Some(ip) = line.strip_prefix("|-- ") {
            leaf = ip.parse().ok();
        }
        line.starts_with("/32 host LOCAL").then_some(leaf).flatten()
    })
}

/// Own addresses in /proc/net/if_inet6.
fn addresses_v6(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let digits = line.split(' ').next().filter(|d| d.len() == 32)?;
        Some(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?).into())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernel_s_tables_are_read() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                   \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n\
                   \x20  1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 100 0 0 10 0\n";
        let found: Vec<_> = listening(tcp).collect();
        assert_eq!(found, [("127.0.0.1:8080".parse().unwrap(), 4242)]);
        let v6 = "00000000000000000000000001000000";
        assert_eq!(hex_address(v6), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
        assert_eq!(addresses_v4(trie).collect::<Vec<_>>(), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        let inet6 = "fd000000000000000000000000000001 02 40 00 80 eth0\nnonsense\n";
        assert_eq!(addresses_v6(inet6).collect::<Vec<_>>(), ["fd00::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_real_listener_is_found_by_its_port_and_address() {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = here.local_addr().unwrap();
        let own = Paths::parse(&fs::read_to_string("/proc/self/cgroup").unwrap()).memory;
        let mut listeners = Listeners::new(Path::new("/proc"));
        let me = std::process::id();
        assert_eq!(listeners.of_port(address.port(), 1), Some(&*own));
        assert_eq!(listeners.at(me, address, 1), Some(&*own));
        let elsewhere = SocketAddr::new("127.0.0.9".parse().unwrap(), address.port());
        assert_eq!(listeners.at(me, elsewhere, 1), None, "it listens on one address only");
        let abroad = SocketAddr::new("192.0.2.1".parse().unwrap(), address.port());
        assert_eq!(listeners.at(me, abroad, 1), None);
        // Asking for what is not there is done less and less often.
        let scans = (2..600).filter(|tick| {
            let before = listeners.scanned;
            listeners.at(me, elsewhere, *tick);
            listeners.scanned != before
        });
        let scans = scans.count();
        assert!((5..=12).contains(&scans), "{scans}");
        drop(here);
        assert_eq!(listeners.of_port(address.port(), 2000), None);
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "(?s).{0,300}") {
            let addresses = listening(&text).count() + addresses_v4(&text).count();
            prop_assert!(addresses + addresses_v6(&text).count() <= 3 * text.lines().count());
            let _ = (hex_address(&text), socket(&text));
        }
    }
}
