//! What kubelet and containerd write about pods and containers, as typed kinds.
//!
//! Both write to standard error, so the journal has one priority for all of it; their own level counts. Kubelet's lines
//! begin with klog's header, followed by prose (until 1.19) or a quoted message and `key=value` pairs; containerd's are
//! logfmt. The wording is that of kubelet's and containerd's sources; a wording that is not known stays a `log`.

use super::{
    pairs::{pairs, quoted},
    row::Finding,
};

/// Reads a line of that syslog identifier; `None` if it is neither kubelet's nor containerd's, or has no level.
/// A line with a level and no known wording is a `log` with its priority.
pub(crate) fn read(identifier: &str, message: &str) -> Option<Finding> {
    match identifier {
        "kubelet" | "k3s" | "rke2" | "microk8s.daemon-kubelite" => {
            kubelet(message).or_else(|| containerd(message))
        }
        "containerd" => containerd(message),
        _ => None,
    }
}

/// Syslog priority and text of a klog line: `Lmmdd hh:mm:ss.uuuuuu threadid file:line] text`.
fn klog(message: &str) -> Option<(i64, &str)> {
    let priority = match message.as_bytes().first()? {
        b'I' => 6,
        b'W' => 4,
        b'E' => 3,
        b'F' => 2,
        _ => return None,
    };
    let (header, text) = message[1..].split_once("] ")?;
    let mut words = header.split_ascii_whitespace();
    let (date, time) = (words.next()?, words.next()?);
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let place = words.nth(1)?.split_once(':')?;
    (date.len() == 4 && digits(date) && time.contains(':') && digits(place.1))
        .then_some((priority, text))
}

fn kubelet(message: &str) -> Option<Finding> {
    let (priority, text) = klog(message)?;
    let (said, rest) = quoted(text).unwrap_or_else(|| (text.into(), text));
    let mut f = Finding::new("log");
    let mut error = String::new();
    let mut event = String::new();
    for (key, value) in pairs(rest) {
        match key {
            "err" => error = value.into_owned(),
            "event" => event = value.into_owned(),
            "pod" => f.subject(&value),
            "podUID" => f.tell("pod_uid", value),
            "containerName" => f.container = value.into_owned(),
            "containerID" => f.tell("container_id", bare_id(&value)),
            "probeType" => f.tell("probe", value),
            "resourceName" => f.tell("resource", value),
            _ => {}
        }
    }
    if error.is_empty() {
        error = said.clone().into_owned();
    }
    f.kind = kubelet_kind(&said, &error, &event, &mut f);
    f.priority = Some(if f.kind == "log" { priority } else { priority.min(floor(f.kind)) });
    if f.kind == "log" {
        // Not understood, so not about its subject either: it stays kubelet's line.
        f = Finding { priority: f.priority, ..Finding::new("log") };
    }
    Some(f)
}

fn kubelet_kind(said: &str, error: &str, event: &str, f: &mut Finding) -> &'static str {
    if said.starts_with("Error syncing pod") {
        // `failed to "StartContainer" for "NAME" with REASON: "…"`, of several the first.
        let Some(step) = after(error, "failed to \"").and_then(|r| r.split_once('"')) else {
            return "log";
        };
        let name = after(step.1, "for \"").and_then(|r| r.split_once('"')).map_or("", |n| n.0);
        let reason = after(step.1, " with ").and_then(|r| r.split_once(':')).map_or("", |r| r.0);
        f.tell("reason", reason);
        if f.pod.is_empty()
            && let Some(pod) = after(error, " pod=").or_else(|| after(said, "(\""))
        {
            f.subject(pod);
        }
        return match (step.0, reason) {
            ("StartContainer", reason) => {
                f.container = name.to_owned();
                match reason {
                    "CrashLoopBackOff" => {
                        let pause = after(error, "back-off ").or_else(|| after(error, "Back-off "));
                        f.value = pause.and_then(seconds).map(|s| (s, "s"));
                        "container.back_off"
                    }
                    "ImagePullBackOff"
                    | "ErrImagePull"
                    | "ErrImageNeverPull"
                    | "InvalidImageName"
                    | "ImageInspectError"
                    | "RegistryUnavailable" => "container.image_pull_failed",
                    _ => "container.start_failed",
                }
            }
            ("CreatePodSandbox", _) => "pod.sandbox_failed",
            ("KillContainer" | "KillPodSandbox", _) => "pod.kill_failed",
            _ => "log",
        };
    }
    if said == "Probe failed" {
        return "container.probe_failed";
    }
    // `Liveness probe for "POD_NS(UID):CONTAINER" failed (failure): …`
    if let Some((probe, rest)) = said.split_once(" probe for \"")
        && let Some((subject, rest)) = rest.split_once('"')
        && rest.starts_with(" failed (")
    {
        f.tell("probe", probe);
        f.subject(subject);
        f.container = subject.rsplit_once("):").map(|s| s.1.to_owned()).unwrap_or_default();
        return "container.probe_failed";
    }
    if said.starts_with("SyncLoop (PLEG): event for pod") {
        let id = ["\"Data\":\"", "Data:"].iter().find_map(|k| after(event, k));
        let id = id.map(|i| i.split(['"', '}', ' ']).next().unwrap_or_default());
        f.tell("container_id", id.unwrap_or_default());
        return match event {
            e if e.contains("ContainerDied") => "container.died",
            e if e.contains("ContainerStarted") => "container.started",
            _ => "log",
        };
    }
    const HEADS: [(&str, &str); 10] = [
        ("Message for Container of pod", "container.restarted"),
        ("Killing container with a grace period", "container.killing"),
        ("Eviction manager: attempting to reclaim", "node.pressure"),
        ("eviction manager: attempting to reclaim", "node.pressure"),
        ("Eviction manager: pod is evicted successfully", "pod.evicted"),
        ("Node became not ready", "node.not_ready"),
        ("Skipping pod synchronization", "node.runtime_unhealthy"),
        ("skipping pod synchronization", "node.runtime_unhealthy"),
        ("Unable to attach or mount volumes", "pod.volume_failed"),
        ("MountVolume.SetUp failed", "pod.volume_failed"),
    ];
    if let Some((_, kind)) = HEADS.iter().find(|(head, _)| said.starts_with(head)) {
        return kind;
    }
    // `eviction manager: pod POD_NS(UID) is evicted successfully`
    if let Some(rest) = said.strip_prefix("eviction manager: pod ")
        && let Some((pod, "is evicted successfully")) = rest.split_once(' ')
    {
        f.subject(pod);
        return "pod.evicted";
    }
    "log"
}

fn containerd(message: &str) -> Option<Finding> {
    let mut f = Finding::new("log");
    let mut said = String::new();
    let mut level = "";
    let mut error = String::new();
    // logfmt, and nothing else, begins with the time.
    if !message.starts_with("time=") {
        return None;
    }
    for (key, value) in pairs(message) {
        match key {
            "level" => {
                level = match value.as_ref() {
                    "trace" | "debug" => "7",
                    "info" => "6",
                    "warning" => "4",
                    "error" => "3",
                    "fatal" | "panic" => "2",
                    _ => "",
                }
            }
            "msg" => said = value.into_owned(),
            "error" => error = value.into_owned(),
            _ => {}
        }
    }
    let priority: i64 = level.parse().ok()?;
    let id = ["container_id:\"", "ContainerID:", "container_id:\\\""];
    let id = id.iter().find_map(|k| after(&said, k));
    let id = id
        .map(|i| i.split(['"', ',', ' ', '\\', '}']).next().unwrap_or_default())
        .unwrap_or_default();
    let exits = ["received exit event", "TaskExit event container_id", "TaskExit event &TaskExit"];
    if said.starts_with("TaskOOM event") {
        f.kind = "container.oom";
        f.tell("container_id", id);
    } else if exits.iter().any(|e| said.starts_with(e)) {
        f.kind = "container.exit";
        f.tell("container_id", id);
        let status = after(&said, "exit_status:").or_else(|| after(&said, "ExitStatus:"));
        let status = status.and_then(|s| s.split([' ', ',', '}']).next()?.parse::<f64>().ok());
        // protobuf leaves a zero out.
        f.value = Some((status.unwrap_or(0.0), "{status}"));
    } else if priority <= 3
        && said.contains(" for ")
        && (said.ends_with(" failed") || said.contains(" failed, error"))
    {
        f.kind = "runtime.request_failed";
        f.tell("request", said.split(' ').next().unwrap_or_default());
        f.tell("error", error);
        if let Some(meta) = after(&said, "Metadata{") {
            let part = |k: &str| after(meta, k).and_then(|v| v.split(',').next());
            f.pod = part("Name:")
                .filter(|_| said.starts_with("RunPodSandbox"))
                .unwrap_or_default()
                .to_owned();
            f.namespace = part("Namespace:").unwrap_or_default().to_owned();
            f.tell("pod_uid", part("Uid:").unwrap_or_default());
        }
    }
    f.priority = Some(if f.kind == "log" { priority } else { priority.min(floor(f.kind)) });
    Some(f)
}

/// The priority that an event of that kind has at least.
fn floor(kind: &str) -> i64 {
    match kind {
        "container.oom" | "pod.evicted" | "node.not_ready" => 3,
        "container.died" | "container.started" | "container.exit" | "container.killing" => 6,
        _ => 4,
    }
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// `containerd://ID` without its runtime.
fn bare_id(id: &str) -> &str {
    id.rsplit_once("://").map_or(id, |(_, id)| id)
}

/// The duration at the start of a text as Go prints it: `2m40s`, `10s`, `1h0m0s`.
fn seconds(text: &str) -> Option<f64> {
    let word = text.split(' ').next()?;
    let mut total = 0.0;
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = &rest[end..];
        let (scale, width) = match unit {
            u if u.starts_with("ms") => (1e-3, 2),
            u if u.starts_with('h') => (3600.0, 1),
            u if u.starts_with('m') => (60.0, 1),
            u if u.starts_with('s') => (1.0, 1),
            _ => return None,
        };
        total += number * scale;
        rest = &unit[width..];
    }
    (!word.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Finding {
        read("kubelet", &format!("E0301 01:06:01.286649    1869 pod_workers.go:1294] {text}"))
            .unwrap()
    }

    fn subject(f: &Finding) -> (&'static str, &str, &str, &str) {
        (f.kind, &f.namespace, &f.pod, &f.container)
    }

    #[test]
    fn crash_loops_in_three_wordings() {
        let f = line(
            r#""Error syncing pod, skipping" err="failed to \"StartContainer\" for \"alpine\" with CrashLoopBackOff: \"back-off 5m0s restarting failed container=alpine pod=p_default(ca0d5836-1435-497e-9a41-547fbcc10484)\"" pod="default/p" podUID=ca0d5836-1435-497e-9a41-547fbcc10484"#,
        );
        assert_eq!(subject(&f), ("container.back_off", "default", "p", "alpine"));
        assert_eq!((f.value, f.priority), (Some((300.0, "s")), Some(3)));
        assert_eq!(f.told("pod_uid"), Some("ca0d5836-1435-497e-9a41-547fbcc10484"));
        assert_eq!(f.told("reason"), Some("CrashLoopBackOff"));
        let f = line(
            r#""Error syncing pod, skipping" err="[failed to \"StartContainer\" for \"a\" with CrashLoopBackOff: \"back-off 40s restarting failed container=a pod=v-0_ns(c076d934-6820-46cd-b886-c6b35111ece2)\", failed to \"StartContainer\" for \"b\" with CrashLoopBackOff: \"x\"]" pod="ns/v-0""#,
        );
        assert_eq!(subject(&f), ("container.back_off", "ns", "v-0", "a"));
        let f = line(
            r#"Error syncing pod 8342124b-1bf2-11e9-a9ee-f8bc124413fc ("sync-k8xb7_apps(8342124b-1bf2-11e9-a9ee-f8bc124413fc)"), skipping: failed to "StartContainer" for "sync" with CrashLoopBackOff: "Back-off 2m40s restarting failed container=sync pod=sync-k8xb7_apps(8342124b-1bf2-11e9-a9ee-f8bc124413fc)""#,
        );
        assert_eq!(subject(&f), ("container.back_off", "apps", "sync-k8xb7", "sync"));
        assert_eq!(f.value, Some((160.0, "s")));
        assert_eq!(f.told("pod_uid"), Some("8342124b-1bf2-11e9-a9ee-f8bc124413fc"));
    }

    #[test]
    fn other_troubles_of_pods() {
        let sync = |what: &str| {
            line(&format!(r#""Error syncing pod, skipping" err="failed to {what}" pod="n/p""#))
        };
        let kinds = [
            (
                r#"\"StartContainer\" for \"c\" with ErrImagePull: \"x\""#,
                "container.image_pull_failed",
            ),
            (
                r#"\"StartContainer\" for \"c\" with CreateContainerConfigError: \"x\""#,
                "container.start_failed",
            ),
            (
                r#"\"CreatePodSandbox\" for \"p_n(u)\" with CreatePodSandboxError: \"x\""#,
                "pod.sandbox_failed",
            ),
            (r#"\"KillPodSandbox\" for \"u\" with KillPodSandboxError: \"x\""#, "pod.kill_failed"),
            (r#"something else"#, "log"),
        ];
        for (what, kind) in kinds {
            let f = sync(what);
            assert_eq!(f.kind, kind, "{what}");
            assert_eq!(f.pod, if kind == "log" { "" } else { "p" });
        }
        let f = line(
            r#""Probe failed" probeType="Liveness" pod="ns/web-1" podUID=u containerName="web" probeResult="failure" output="HTTP probe failed with statuscode: 500""#,
        );
        assert_eq!(subject(&f), ("container.probe_failed", "ns", "web-1", "web"));
        assert_eq!(f.told("probe"), Some("Liveness"));
        let f = line(
            r#"Readiness probe for "web-1_ns(0b7743ac-d1a5-4f54-aeac-cf4fe16c8cfb):web" failed (failure): Get http://10.0.0.1"#,
        );
        assert_eq!(subject(&f), ("container.probe_failed", "ns", "web-1", "web"));
        let f = line(
            r#""SyncLoop (PLEG): event for pod" pod="ns/p" event={"ID":"u","Type":"ContainerDied","Data":"70b5"}"#,
        );
        assert_eq!(
            (subject(&f), f.told("container_id")),
            (("container.died", "ns", "p", ""), Some("70b5"))
        );
        let f = line(
            r#""SyncLoop (PLEG): event for pod" pod="ns/p" event=&{ID:u Type:ContainerStarted Data:70b6}"#,
        );
        assert_eq!((f.kind, f.told("container_id")), ("container.started", Some("70b6")));
        let f = line(r#""Eviction manager: pod is evicted successfully" pod="ns/p""#);
        assert_eq!((subject(&f), f.priority), (("pod.evicted", "ns", "p", ""), Some(3)));
        let f = line(r#"eviction manager: pod p_ns(0b7743ac) is evicted successfully"#);
        assert_eq!(subject(&f), ("pod.evicted", "ns", "p", ""));
        let f = line(r#""Eviction manager: attempting to reclaim" resourceName="memory""#);
        assert_eq!((f.kind, f.told("resource")), ("node.pressure", Some("memory")));
    }

    #[test]
    fn levels_come_from_the_line() {
        let head =
            "1023 18:56:20.145216   31070 scope.go:110] \"RemoveContainer\" containerID=\"4709\"";
        for (letter, priority) in [("I", 6), ("W", 4), ("E", 3), ("F", 2)] {
            let f = read("kubelet", &format!("{letter}{head}")).unwrap();
            assert_eq!((f.kind, f.priority), ("log", Some(priority)));
        }
        for none in ["", "I", "Error: x", "I1023 18:56:20 no place] x", "Ix] y", "É1023"] {
            assert_eq!(read("kubelet", none), None, "{none}");
        }
        assert_eq!(read("nginx", &format!("E{head}")), None);
    }

    #[test]
    fn containerd_lines() {
        let time = r#"time="2024-08-07T19:07:50.950859134+08:00""#;
        let f = read("containerd", &format!(r#"{time} level=error msg="StopContainer for \"f253\" failed" error="rpc error: code = DeadlineExceeded""#)).unwrap();
        assert_eq!(
            (f.kind, f.priority, f.told("request")),
            ("runtime.request_failed", Some(3), Some("StopContainer"))
        );
        assert_eq!(f.told("error"), Some("rpc error: code = DeadlineExceeded"));
        let f = read("containerd", &format!(r#"{time} level=error msg="RunPodSandbox for &PodSandboxMetadata{{Name:p-1,Uid:u-1,Namespace:ns,Attempt:0,}} failed, error" error="no CNI""#)).unwrap();
        assert_eq!(subject(&f), ("runtime.request_failed", "ns", "p-1", ""));
        let f = read(
            "containerd",
            &format!(r#"{time} level=info msg="TaskOOM event container_id:\"98ba\"""#),
        )
        .unwrap();
        assert_eq!(
            (f.kind, f.told("container_id"), f.priority),
            ("container.oom", Some("98ba"), Some(3))
        );
        let f = read("containerd", &format!(r#"{time} level=info msg="TaskOOM event &TaskOOM{{ContainerID:98bb,XXX_unrecognized:[],}}""#)).unwrap();
        assert_eq!(f.told("container_id"), Some("98bb"));
        let f = read("containerd", &format!(r#"{time} level=info msg="received exit event container_id:\"98bc\"  id:\"98bc\"  pid:3171  exit_status:137  exited_at:{{seconds:1}}""#)).unwrap();
        assert_eq!(
            (f.kind, f.told("container_id"), f.value),
            ("container.exit", Some("98bc"), Some((137.0, "{status}")))
        );
        let f = read("containerd", &format!(r#"{time} level=info msg="TaskExit event &TaskExit{{ContainerID:98bd,ID:98bd,Pid:4,ExitStatus:1,ExitedAt:x,}}""#)).unwrap();
        assert_eq!((f.told("container_id"), f.value), (Some("98bd"), Some((1.0, "{status}"))));
        let f = read("containerd", &format!(r#"{time} level=warning msg="cleaning up""#)).unwrap();
        assert_eq!((f.kind, f.priority), ("log", Some(4)));
        assert_eq!(read("containerd", "panic: x"), None);
    }

    #[test]
    fn durations_of_go() {
        assert_eq!(seconds("2m40s restarting"), Some(160.0));
        assert_eq!(seconds("1h0m0.5s"), Some(3600.5));
        assert_eq!(seconds("100ms"), Some(0.1));
        for none in ["", "x", "5", "5q", "m"] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_line_has_an_answer(
            text in "(\"Error syncing pod, skipping\" err=\"|Error syncing pod|time=x level=info msg=\"|)[ -~é]{0,80}",
        ) {
            let _ = read("kubelet", &format!("E0301 01:06:01.28    18 a.go:1] {text}"));
            let _ = read("containerd", &text);
        }
    }
}
