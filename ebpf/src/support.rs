//! What the running kernel offers to kernel programs.

use aya::{Btf, maps::MapType, programs::ProgramType, sys};

/// One thing that Tapio's kernel programs need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Short name.
    pub name: &'static str,
    /// `None` = available, else why not.
    pub missing: Option<String>,
    /// What a user loses without it.
    pub costs: &'static str,
}

/// The answers of the kernel to a few harmless questions: nothing is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSupport {
    /// One entry per feature, always the same ones in the same order. [`Programs::load`](crate::Programs::load) knows
    /// better: it tries. Programs at BTF tracepoints are not asked about, because a kernel that takes them may refuse the
    /// question (6.18 does).
    pub features: Vec<Feature>,
}

impl KernelSupport {
    /// Asks the kernel.
    pub fn probe() -> Self {
        let program = |ty| match sys::is_program_supported(ty) {
            Ok(true) => None,
            Ok(false) => Some("not compiled into this kernel".to_owned()),
            Err(e) => Some(format!("{e}; asking needs CAP_BPF or root")),
        };
        let map = |ty| match sys::is_map_supported(ty) {
            Ok(true) => None,
            Ok(false) => Some("not compiled into this kernel".to_owned()),
            Err(e) => Some(format!("{e}; asking needs CAP_BPF or root")),
        };
        let features = vec![
            Feature {
                name: "btf",
                missing: Btf::from_sys_fs().err().map(|e| e.to_string()),
                costs: "kernel programs cannot be relocated, none can be loaded",
            },
            Feature {
                name: "cgroup_skb programs",
                missing: program(ProgramType::CgroupSkb),
                costs: "no HTTP routes, no DNS failures",
            },
            Feature {
                name: "ring buffer",
                missing: map(MapType::RingBuf),
                costs: "no single events from the kernel",
            },
            Feature {
                name: "hash",
                missing: map(MapType::Hash),
                costs: "no counters from the kernel",
            },
            Feature {
                name: "storage on sockets",
                missing: map(MapType::SkStorage),
                costs: "no HTTP routes, no TCP connections",
            },
            Feature {
                name: "storage on tasks",
                missing: map(MapType::TaskStorage),
                costs: "no waits for a CPU",
            },
        ];
        Self { features }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_an_answer() {
        let support = KernelSupport::probe();
        let names: std::collections::HashSet<_> = support.features.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), support.features.len(), "names are unique");
        for f in support.features {
            assert!(!f.costs.is_empty());
            assert!(f.missing.is_none_or(|m| !m.is_empty()), "{}", f.name);
        }
    }
}
