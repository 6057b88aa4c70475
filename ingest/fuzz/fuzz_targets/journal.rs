//! Any bytes as journalctl's output, or as the text of an entry: no panic, and every line is a row or counted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tapio_ingest::journald::events_of;

/// Who may have written the text, so that every reader of texts is met.
const WRITERS: [(&str, &str); 5] = [
    ("kernel", "kernel"),
    ("kubelet", "stdout"),
    ("containerd", "stdout"),
    ("systemd", "journal"),
    ("", "syslog"),
];
const IDS: [&str; 3] =
    ["5eb03494b6584870a536b337290809b3", "a596d6fe7bfa4994828e72309e95d61e", ""];

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let wrapped: Vec<u8>;
    let output = match WRITERS.get(usize::from(kind >> 4)) {
        None => rest,
        Some((identifier, transport)) => {
            let text = String::from_utf8_lossy(rest);
            let lines = text.split('\0').enumerate().map(|(i, message)| {
                let entry = json!({
                    "__CURSOR": format!("s=a;i={i:x};b=b;m=1;t=2;x={i:x}"),
                    "__REALTIME_TIMESTAMP": "1795451900081904",
                    "_BOOT_ID": "b",
                    "SYSLOG_IDENTIFIER": identifier,
                    "_TRANSPORT": transport,
                    "MESSAGE_ID": IDS[usize::from(kind & 15) % IDS.len()],
                    "N_RESTARTS": message,
                    "N_DROPPED": message,
                    "_SYSTEMD_CGROUP": message,
                    "MESSAGE": message,
                });
                format!("{entry}\n")
            });
            wrapped = lines.collect::<String>().into_bytes();
            &wrapped
        }
    };
    let lines = output.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count();
    let (batch, rejected) = events_of(output, "n", 1).expect("rows fit their table");
    assert_eq!(batch.num_rows() + rejected, lines);
    if !std::ptr::eq(output, rest) {
        assert_eq!(rejected, 0);
    }
});
