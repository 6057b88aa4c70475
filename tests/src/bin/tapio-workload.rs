//! A process with a known appetite for memory, for packs and tests: it really allocates and touches pages.
//!
//! `tapio-workload SHAPE [KEY=VALUE ...]`; shapes and keys are in [`USAGE`]. Prints nothing; ends when it is killed or
//! after `seconds`.

use std::{
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
    for a in rest {
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
