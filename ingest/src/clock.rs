//! Time is injected: only [`SystemClock`] reads a clock.

/// Where the time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall clock, µs since the epoch, UTC. May step.
    fn now_us(&self) -> i64;

    /// µs since boot, suspend included. Never steps; used to notice that the wall clock did.
    fn boot_us(&self) -> i64;
}

/// The clocks of this machine: CLOCK_REALTIME and CLOCK_BOOTTIME.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&self) -> i64 {
        read(libc::CLOCK_REALTIME)
    }

    fn boot_us(&self) -> i64 {
        read(libc::CLOCK_BOOTTIME)
    }
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for one timespec; both clocks exist since Linux 2.6.39.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec * 1_000_000 + t.tv_nsec / 1_000
}

#[cfg(test)]
pub(crate) mod fake {
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

    /// A clock that stands until it is moved.
    #[derive(Debug)]
    pub(crate) struct FakeClock {
        wall: AtomicI64,
        boot: AtomicI64,
    }

    impl FakeClock {
        pub(crate) fn at(wall_us: i64) -> Self {
            Self { wall: AtomicI64::new(wall_us), boot: AtomicI64::new(1_000_000) }
        }

        /// Both clocks go on.
        pub(crate) fn pass(&self, us: i64) {
            self.wall.fetch_add(us, SeqCst);
            self.boot.fetch_add(us, SeqCst);
        }

        /// Only the wall clock moves.
        pub(crate) fn step(&self, us: i64) {
            self.wall.fetch_add(us, SeqCst);
        }
    }

    impl super::Clock for FakeClock {
        fn now_us(&self) -> i64 {
            self.wall.load(SeqCst)
        }

        fn boot_us(&self) -> i64 {
            self.boot.load(SeqCst)
        }
    }
}
