//! What a cgroup path says about its subject: pod, container, systemd unit.

/// What a cgroup path names. Empty strings: not named by the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// `pod`, `container`, `unit` or `cgroup`.
    pub kind: &'static str,
    /// Uid of the enclosing pod, with dashes.
    pub pod_uid: String,
    /// Id of the container that the path is or lies in.
    pub container_id: String,
    /// systemd unit, if the path is one.
    pub unit: String,
    /// What a human would call it: unit, first 12 digits of the container id, `pod<uid>`, or the leaf of the path.
    pub name: String,
}

impl Attribution {
    /// Whether the path is a container or lies in one.
    pub fn in_container(&self) -> bool {
        !self.container_id.is_empty()
    }
}

const RUNTIMES: [&str; 5] = ["cri-containerd-", "docker-", "crio-", "libpod-", "nerdctl-"];
const UNIT_SUFFIXES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
/// Folders whose children with a hexadecimal name are containers (without systemd).
const PARENTS: [&str; 7] =
    ["docker", "libpod_parent", "libpod", "containerd", "k8s.io", "moby", "default"];

/// Reads a cgroup path as both cgroup drivers and the common runtimes lay it out, below any prefix.
///
/// ```
/// let path = "/kubepods.slice/kubepods-burstable.slice/\
///             kubepods-burstable-pod223a155d_d7fe_467d_8c2b_b8f095a51526.slice";
/// let a = tapio_ingest::attribute(path);
/// assert_eq!((a.kind, a.pod_uid.as_str()), ("pod", "223a155d-d7fe-467d-8c2b-b8f095a51526"));
/// ```
pub fn attribute(path: &str) -> Attribution {
    let mut a = Attribution { kind: "cgroup", ..Attribution::default() };
    let mut kubepods = false;
    let mut parent = "";
    for part in path.split('/').filter(|p| !p.is_empty()) {
        a.kind = "cgroup";
        a.unit.clear();
        if a.container_id.is_empty() {
            if kubepods && let Some(uid) = pod_uid(part) {
                a.pod_uid = uid;
                a.kind = "pod";
            } else if let Some(id) = container_id(part, parent, !a.pod_uid.is_empty()) {
                a.container_id = id.to_owned();
                a.kind = "container";
            }
        }
        if a.kind == "cgroup" && UNIT_SUFFIXES.iter().any(|s| part.ends_with(s)) {
            a.kind = "unit";
            a.unit = part.to_owned();
        }
        kubepods |= part.starts_with("kubepods");
        parent = part;
    }
    a.name = match a.kind {
        "container" => a.container_id.chars().take(12).collect(),
        "pod" => format!("pod{}", a.pod_uid),
        _ if parent.is_empty() => "/".to_owned(),
        _ => parent.to_owned(),
    };
    a
}

/// `pod<uid>` (cgroupfs driver) or `kubepods[-qos]-pod<uid with underscores>.slice` (systemd driver).
fn pod_uid(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods")?.rsplit_once("-pod")?.1,
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    // Static pods have the bare hash of their manifest.
    let hex = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|b| *b == b'-').count();
    (hex == 32 && hex + dashes == uid.len() && (dashes == 0 || dashes == 4)).then_some(uid)
}

fn container_id<'a>(part: &'a str, parent: &str, in_pod: bool) -> Option<&'a str> {
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    let prefixed = RUNTIMES.iter().find_map(|r| bare.strip_prefix(r));
    let id = match prefixed {
        Some(id) => id,
        None if in_pod || PARENTS.contains(&parent) => bare,
        None => return None,
    };
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "70b548ac11449612f7db5368a141ba1b3f440a4c339092bdede34b0748cfae1d";
    const UID: &str = "223a155d-d7fe-467d-8c2b-b8f095a51526";
    const SHORT: &str = "70b548ac1144";

    #[test]
    fn paths_of_both_drivers_and_all_runtimes() {
        let under = UID.replace('-', "_");
        let slice =
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice");
        let guaranteed = format!("/kubepods.slice/kubepods-pod{under}.slice");
        let pod = format!("pod{UID}");
        let hash = "0123456789abcdef0123456789abcdef";
        // path, kind, pod uid, container id, unit, name
        let table: Vec<(String, &str, &str, &str, &str, &str)> = vec![
            ("/".into(), "cgroup", "", "", "", "/"),
            ("/jobs/etl".into(), "cgroup", "", "", "", "etl"),
            ("/kubepods".into(), "cgroup", "", "", "", "kubepods"),
            ("/kubepods/burstable".into(), "cgroup", "", "", "", "burstable"),
            (format!("/kubepods/burstable/pod{UID}"), "pod", UID, "", "", &pod),
            (format!("/kubepods/pod{UID}/{ID}"), "container", UID, ID, "", SHORT),
            // As the kernel's log in data/k8s-oom has it.
            (format!("/k8slab/kubepods/burstable/pod{UID}/{ID}"), "container", UID, ID, "", SHORT),
            (format!("/kubepods/besteffort/pod{hash}"), "pod", hash, "", "", "podHASH"),
            ("/kubepods.slice".into(), "unit", "", "", "kubepods.slice", "kubepods.slice"),
            (slice.clone(), "pod", UID, "", "", &pod),
            (guaranteed.clone(), "pod", UID, "", "", &pod),
            (format!("{slice}/cri-containerd-{ID}.scope"), "container", UID, ID, "", SHORT),
            (format!("{slice}/docker-{ID}.scope"), "container", UID, ID, "", SHORT),
            (format!("{guaranteed}/crio-{ID}.scope"), "container", UID, ID, "", SHORT),
            (format!("{guaranteed}/crio-{ID}.scope/init"), "cgroup", UID, ID, "", "init"),
            (format!("{guaranteed}/crio-conmon-{ID}.scope"), "unit", UID, "", "UNIT", "UNIT"),
            (format!("/docker/{ID}"), "container", "", ID, "", SHORT),
            (format!("/system.slice/docker-{ID}.scope"), "container", "", ID, "", SHORT),
            (format!("/machine.slice/libpod-{ID}.scope"), "container", "", ID, "", SHORT),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                "cgroup",
                "",
                ID,
                "",
                "container",
            ),
            (format!("/libpod_parent/libpod-{ID}"), "container", "", ID, "", SHORT),
            (
                "/system.slice/nginx.service".into(),
                "unit",
                "",
                "",
                "nginx.service",
                "nginx.service",
            ),
            ("/system.slice/nginx.service/worker".into(), "cgroup", "", "", "", "worker"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope".into(),
                "unit",
                "",
                "",
                "x.scope",
                "x.scope",
            ),
            // A hexadecimal leaf alone does not make a container, nor a "pod" outside of kubepods a pod.
            (format!("/process_api/{ID}"), "cgroup", "", "", "", ID),
            (format!("/podracer/pod{UID}"), "cgroup", "", "", "", &pod),
            ("/kubepods/podium".into(), "cgroup", "", "", "", "podium"),
        ];
        for (path, kind, uid, id, unit, name) in table {
            let a = attribute(&path);
            let leaf = path.rsplit('/').next().unwrap();
            let fill = |s: &str| match s {
                "UNIT" => leaf.to_owned(),
                "podHASH" => format!("pod{hash}"),
                s => s.to_owned(),
            };
            assert_eq!(a.kind, kind, "{path}");
            assert_eq!(a.pod_uid, uid, "{path}");
            assert_eq!(a.container_id, id, "{path}");
            assert_eq!(a.unit, fill(unit), "{path}");
            assert_eq!(a.name, fill(name), "{path}");
        }
    }
}
