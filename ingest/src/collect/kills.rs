//! OOM kills, each told once: by the kernel program where it saw the victim, else by the counter that rose.
//!
//! Counter and program tell the same kill within microseconds, but are read one after the other, and a cgroup that ends with
//! its victim is never read again. So where the program watches, what a counter says is held for one tick and the victims
//! that were seen in that cgroup are subtracted; what remains is told as it is without the program.

use std::collections::HashMap;

use super::sample::{Event, Subject, oom_kill};

/// A victim whose cgroup's counter did not rise within so many ticks was none: the kernel also marks processes that are
/// ending anyway and only need the memory for it.
const FORGET: u32 = 3;

/// A cgroup's counter rose.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    pub inode: u64,
    pub series_id: i64,
    pub cgroup: String,
    pub before: i64,
    pub after: i64,
    /// When that was read.
    pub ts: i64,
}

/// What is known of kills at a tick.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    pub boot_id: &'a str,
    pub counted: Vec<Counted>,
    /// Memory cgroups of the victims that were told since the tick before; `None`: the kernel program does not watch.
    pub victims: Option<&'a [u64]>,
    /// The node's counter and series; `None` where only a part of it is collected.
    pub node: Option<(i64, i64)>,
}

/// What is not settled yet.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    held: Vec<Counted>,
    /// Ages in ticks of victims that no counter has counted yet, by memory cgroup.
    victims: HashMap<u64, Vec<u32>>,
    node: Option<i64>,
    /// Kills that the node counted and nothing else told.
    elsewhere: i64,
    overdrawn: u32,
}

impl Kills {
    /// Tells what is settled. `alive`: whether the counter of a cgroup will be read again.
    pub(crate) fn tell(&mut self, known: Known<'_>, alive: impl Fn(u64) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        let in_cgroups: i64 = known.counted.iter().map(|c| c.after - c.before).sum();
        let settled = match known.victims {
            None => {
                self.victims.clear();
                let held = std::mem::take(&mut self.held);
                held.into_iter().chain(known.counted).collect()
            }
            Some(victims) => {
                for cgroup in victims {
                    self.victims.entry(*cgroup).or_default().push(0);
                }
                let mut settled = std::mem::take(&mut self.held);
                self.held = known.counted;
                settled
                    .iter_mut()
                    .chain(&mut self.held)
                    .for_each(|c| subtract(&mut self.victims, c));
                self.held.retain(|c| c.after > c.before);
                settled
            }
        };
        for c in settled.iter().filter(|c| c.after > c.before) {
            let n = c.after - c.before;
            let message =
                format!("the kernel killed {n} process(es) in {} for lack of memory", c.cgroup);
            let subject = Subject {
                boot_id: known.boot_id,
                inode: c.inode,
                series_id: c.series_id,
                cgroup: &c.cgroup,
            };
            events.push(Event { ts: Some(c.ts), ..oom_kill(&subject, c.before, c.after, message) });
        }
        let told = self.uncounted(alive);
        if let Some((counter, series_id)) = known.node {
            events.extend(self.unattributed(counter, in_cgroups + told, series_id, known.boot_id));
        }
        events
    }

    /// How many victims were told whose cgroup's counter is not read any more. The others grow older.
    fn uncounted(&mut self, alive: impl Fn(u64) -> bool) -> i64 {
        let mut told = 0;
        self.victims.retain(|cgroup, ages| {
            if !alive(*cgroup) {
                told += ages.len() as i64;
                return false;
            }
            ages.iter_mut().for_each(|a| *a += 1);
            ages.retain(|a| *a <= FORGET);
            !ages.is_empty()
        });
        told
    }

    /// Kills that the node counted and nothing else told: in the root cgroup, or in a cgroup that was gone at once. Told
    /// when two ticks in a row agree, because node and cgroups are not read at one moment.
    fn unattributed(
        &mut self,
        after: i64,
        told: i64,
        series_id: i64,
        boot_id: &str,
    ) -> Option<Event> {
        let before = self.node.replace(after)?;
        let was = self.elsewhere;
        self.elsewhere += after - before - told;
        // More told than counted is a matter of moments; if it stays, it must not hide the next kill.
        self.overdrawn = if self.elsewhere < 0 { self.overdrawn + 1 } else { 0 };
        if self.overdrawn > FORGET {
            self.elsewhere = 0;
        }
        let n = was.min(self.elsewhere);
        if n <= 0 {
            return None;
        }
        self.elsewhere -= n;
        let subject = Subject { boot_id, inode: 0, series_id, cgroup: "" };
        let message = format!(
            "the kernel killed {n} process(es) for lack of memory outside of any cgroup that still exists"
        );
        Some(oom_kill(&subject, after - n, after, message))
    }
}

/// Takes off what the kernel program has told.
fn subtract(victims: &mut HashMap<u64, Vec<u32>>, counted: &mut Counted) {
    let Some(seen) = victims.get_mut(&counted.inode) else { return };
    while counted.before < counted.after && seen.pop().is_some() {
        counted.before += 1;
    }
    if seen.is_empty() {
        victims.remove(&counted.inode);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: i64 = 7;

    fn counted(inode: u64, before: i64, after: i64) -> Counted {
        Counted { inode, series_id: 1, cgroup: "/a".into(), before, after, ts: 1_000 }
    }

    /// (value, series) of what is told.
    fn tell(
        kills: &mut Kills,
        counted: Vec<Counted>,
        victims: &[u64],
        node: i64,
        alive: &[u64],
    ) -> Vec<(f64, i64)> {
        let node = Some((node, NODE));
        let known = Known { boot_id: "b", counted, victims: Some(victims), node };
        let events = kills.tell(known, |c| alive.contains(&c));
        events.iter().map(|e| (e.value.unwrap(), e.series_id)).collect()
    }

    #[test]
    fn a_kill_that_the_program_saw_is_not_told_again_whichever_is_read_first() {
        // Counter first, victim a tick later; then the other way around; then both at once.
        let mut k = Kills::default();
        assert_eq!(tell(&mut k, vec![], &[], 0, &[5]), []);
        assert_eq!(tell(&mut k, vec![counted(5, 0, 1)], &[], 1, &[5]), []);
        assert_eq!(tell(&mut k, vec![], &[5], 1, &[5]), []);
        assert_eq!(tell(&mut k, vec![], &[5], 2, &[5]), []);
        assert_eq!(tell(&mut k, vec![counted(5, 1, 2)], &[], 2, &[5]), []);
        assert_eq!(tell(&mut k, vec![counted(5, 2, 4)], &[5, 5], 4, &[5]), []);
        for _ in 0..5 {
            assert_eq!(tell(&mut k, vec![], &[], 4, &[5]), []);
        }
    }

    #[test]
    fn what_the_program_did_not_see_is_told_a_tick_later() {
        let mut k = Kills::default();
        tell(&mut k, vec![], &[], 0, &[5]);
        assert_eq!(tell(&mut k, vec![counted(5, 0, 3)], &[5], 3, &[5]), []);
        assert_eq!(tell(&mut k, vec![], &[], 3, &[5]), [(2.0, 1)]);
        assert_eq!(tell(&mut k, vec![], &[], 3, &[5]), []);
        // Without the program at once, with what was held.
        tell(&mut k, vec![counted(5, 3, 4)], &[], 4, &[5]);
        let known =
            Known { boot_id: "b", counted: vec![counted(6, 0, 1)], victims: None, node: None };
        assert_eq!(k.tell(known, |_| true).len(), 2);
    }

    #[test]
    fn a_victim_whose_cgroup_is_gone_is_not_told_by_the_node() {
        let mut k = Kills::default();
        tell(&mut k, vec![], &[], 0, &[]);
        // The cgroup ended before its counter was read; and one where it was there for another tick.
        assert_eq!(tell(&mut k, vec![], &[9], 1, &[]), []);
        assert_eq!(tell(&mut k, vec![], &[8], 2, &[8]), []);
        for _ in 0..6 {
            assert_eq!(tell(&mut k, vec![], &[], 2, &[]), []);
        }
        // A real one that nothing else told is told once.
        assert_eq!(tell(&mut k, vec![], &[], 3, &[]), []);
        assert_eq!(tell(&mut k, vec![], &[], 3, &[]), [(1.0, NODE)]);
        assert_eq!(tell(&mut k, vec![], &[], 3, &[]), []);
    }

    #[test]
    fn a_mark_without_a_kill_hides_no_later_kill() {
        let mut k = Kills::default();
        tell(&mut k, vec![], &[], 0, &[5]);
        tell(&mut k, vec![], &[5, 9], 0, &[5]);
        for _ in 0..6 {
            assert_eq!(tell(&mut k, vec![], &[], 0, &[5]), []);
        }
        assert_eq!(tell(&mut k, vec![counted(5, 0, 1)], &[], 2, &[5]), []);
        assert_eq!(tell(&mut k, vec![], &[], 2, &[5]), [(1.0, 1), (1.0, NODE)]);
    }

    /// A kill: where (0 the root, 5 a cgroup that lives, 9 one that is gone), whether the program saw it, and how many ticks
    /// late the program, the cgroup's counter and the node's are read.
    type Kill = (u64, bool, [usize; 3]);

    fn kill() -> impl Strategy<Value = Kill> {
        let late = || 0..2_usize;
        let place = prop::sample::select(vec![0, 5, 9]);
        (place, any::<bool>(), (late(), late(), late()).prop_map(|(a, b, c)| [a, b, c]))
    }

    proptest! {
        #[test]
        fn every_kill_is_told_once(all in prop::collection::vec(kill(), 0..12)) {
            let mut k = Kills::default();
            tell(&mut k, vec![], &[], 0, &[5]);
            let (mut by_cgroup, mut by_node, mut counter) = (0.0, 0.0, 0);
            for tick in 0..4 * all.len() + 8 {
                // One kill every four ticks.
                let at = |late: usize| move |(i, _): &(usize, &Kill)| 4 * i + late == tick;
                let kills = || all.iter().enumerate();
                let victims: Vec<u64> = kills()
                    .filter(|(i, k)| k.1 && at(k.2[0])(&(*i, k)))
                    .map(|(_, k)| k.0)
                    .collect();
                let rose = kills().filter(|(i, k)| k.0 == 5 && at(k.2[1])(&(*i, k))).count() as i64;
                let node = kills().filter(|(i, k)| 4 * i + k.2[2] <= tick).count() as i64;
                let counted: Vec<Counted> =
                    (rose > 0).then(|| counted(5, counter, counter + rose)).into_iter().collect();
                counter += rose;
                for (value, series) in tell(&mut k, counted, &victims, node, &[5]) {
                    if series == NODE { by_node += value } else { by_cgroup += value }
                }
            }
            let unseen = |living: bool| all.iter().filter(|k| !k.1 && (k.0 == 5) == living).count();
            prop_assert_eq!(by_cgroup, unseen(true) as f64);
            prop_assert_eq!(by_node, unseen(false) as f64);
        }
    }
}
