//! A process with a known appetite, for packs and tests: it really allocates and touches pages, writes files, opens
//! descriptors, starts threads.
//!
//! `tapio-workload SHAPE [KEY=VALUE ...]`; shapes and keys are in [`USAGE`]. Prints nothing; ends when it is killed or
//! after `seconds`.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

const USAGE: &str = "usage: tapio-workload SHAPE [KEY=VALUE ...]
  linear       base_mib rate_mib_s            grows by rate_mib_s, in uneven steps, until it is killed
  accelerating base_mib scale_mib tau_s       base + scale * (exp(t / tau) - 1)
  warmup       base_mib plateau_mib tau_s     base + plateau * (1 - exp(-t / tau)), then flat
  burst        base_mib burst_mib at_s up_s hold_s   one burst, then everything is released
  quiet        base_mib wobble_mib            stays where it is, give or take wobble_mib
  disk         path rate_mib_s                writes a file in the folder path until nothing is left
  inodes       path rate_per_s                makes empty files there until no inode is left
  fds          rate_per_s                     opens files until it may open no more
  threads      rate_per_s                     starts threads until it may start no more
what stays at its limit waits there until seconds are over.
every shape: seconds (default 3600), seed (default 1)";

const MIB: usize = 1 << 20;
const CHUNK: usize = 64 << 10;

/// Memory in chunks that are touched when they are taken, and given back when they are dropped.
struct Memory(Vec<Box<[u8]>>);

impl Memory {
    fn set(&mut self, bytes: usize) {
        let chunks = bytes / CHUNK;
        if chunks < self.0.len() {
            self.0.truncate(chunks);
            // Without this the allocator keeps what was freed, and the level would not fall.
            // SAFETY: malloc_trim has no preconditions.
            #[cfg(target_env = "gnu")]
            unsafe {
                libc::malloc_trim(0);
            }
        }
        while self.0.len() < chunks {
            self.0.push(vec![0x5a; CHUNK].into_boxed_slice());
        }
    }
}

/// Everything else that can run out.
struct Things {
    path: PathBuf,
    written: Option<File>,
    made: usize,
    open: Vec<File>,
    /// The kernel said no; nothing more is asked of it.
    refused: bool,
}

impl Things {
    /// Takes until there are so many (`disk`: MiB).
    fn set(&mut self, shape: &str, amount: f64) {
        let amount = if shape == "disk" { amount * 16.0 } else { amount } as usize;
        while self.made < amount && !self.refused {
            let taken = match shape {
                "disk" => self.write(),
                "inodes" => File::create(self.path.join(format!("file-{}", self.made))).map(drop),
                "fds" => File::open("/dev/null").map(|f| self.open.push(f)),
                _ => {
                    let idle = || loop {
                        sleep(Duration::from_secs(3600));
                    };
                    std::thread::Builder::new().stack_size(64 << 10).spawn(idle).map(drop)
                }
            };
            self.refused = taken.is_err();
            self.made += 1;
        }
    }

    /// 64 KiB more.
    fn write(&mut self) -> std::io::Result<()> {
        if self.written.is_none() {
            self.written = Some(File::create(self.path.join("filling"))?);
        }
        let file = self.written.as_mut().ok_or(std::io::ErrorKind::NotFound)?;
        file.write_all(&[0x5a; CHUNK])?;
        // Some filesystems decide about space when the bytes are written back.
        file.sync_data()
    }
}

/// A small multiplicative generator (Steele & Vigna 2021, constant 0xf1357aea2e62a9c5): uneven, but the same each time.
struct Uneven(u64);

impl Uneven {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(0xf135_7aea_2e62_a9c5);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((shape, rest)) = args.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut pairs = Vec::new();
    let mut path = PathBuf::from(".");
    for a in rest {
        if let Some(p) = a.strip_prefix("path=") {
            path = p.into();
            continue;
        }
        match a.split_once('=').map(|(k, v)| (k, v.parse::<f64>())) {
            Some((k, Ok(v))) if v.is_finite() && v >= 0.0 => pairs.push((k.to_owned(), v)),
            _ => {
                eprintln!("tapio-workload: {a:?} is not KEY=NUMBER\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let get =
        |key: &str, default: f64| pairs.iter().find(|(k, _)| k == key).map_or(default, |(_, v)| *v);
    let base = get("base_mib", 20.0);
    let mut uneven = Uneven(get("seed", 1.0) as u64 * 2 + 1);
    let mut memory = Memory(Vec::new());
    let mut things = Things { path, written: None, made: 0, open: Vec::new(), refused: false };
    let start = Instant::now();
    let (mut grown, mut last) = (0.0, 0.0);
    loop {
        let t = start.elapsed().as_secs_f64();
        if t > get("seconds", 3600.0) {
            return ExitCode::SUCCESS;
        }
        let mib = match shape.as_str() {
            "linear" => {
                // Between nothing and twice the rate: requests do not come evenly.
                grown += get("rate_mib_s", 1.0) * (t - last) * 2.0 * uneven.unit();
                base + grown
            }
            "accelerating" => base + get("scale_mib", 4.4) * ((t / get("tau_s", 60.0)).exp() - 1.0),
            "warmup" => base + get("plateau_mib", 180.0) * (1.0 - (-t / get("tau_s", 50.0)).exp()),
            "burst" => {
                let (at, up, hold) = (get("at_s", 90.0), get("up_s", 10.0), get("hold_s", 40.0));
                let inside = t >= at && t < at + up + hold;
                base + if inside { get("burst_mib", 100.0) * ((t - at) / up).min(1.0) } else { 0.0 }
            }
            "disk" | "inodes" | "fds" | "threads" => {
                let rate = get(if shape == "disk" { "rate_mib_s" } else { "rate_per_s" }, 1.0);
                grown += rate * (t - last) * 2.0 * uneven.unit();
                things.set(shape, grown);
                base
            }
            "quiet" => base + get("wobble_mib", 2.0) * uneven.unit(),
            other => {
                eprintln!("tapio-workload: unknown shape {other:?}\n{USAGE}");
                return ExitCode::from(2);
            }
        };
        last = t;
        memory.set((mib * MIB as f64) as usize);
        sleep(Duration::from_millis(100));
    }
}
