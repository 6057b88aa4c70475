//! A runtime's own cap on its heap: below the limit of the container it is the threshold that matters.
//!
//! Read once per process from its command line and environment; of the environment only the variables named here are looked
//! at, and nothing but the option that counts is kept. Sources: the `java` manual (`-Xmx`, `-XX:MaxHeapSize`,
//! `-XX:MaxRAMPercentage`, `JDK_JAVA_OPTIONS`, `JAVA_TOOL_OPTIONS`), the Go `runtime` package (`GOMEMLIMIT`),
//! `node --help` (`--max-old-space-size`, MiB; `NODE_OPTIONS`). A JVM without any of these takes a share of the memory that
//! depends on its version; that is not guessed.

use std::path::Path;

use super::files::read_path;

/// A cap that a process was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeCap {
    /// Who keeps it: `jvm` and `nodejs`, whose heap cannot grow beyond it while other memory comes on top, or `go`, for whose
    /// whole memory it is a soft limit: beyond it the collector runs ever more often.
    pub runtime: &'static str,
    /// Bytes.
    pub bytes: i64,
    /// The option as it was written.
    pub option: String,
}

/// The cap of the process whose directory in /proc this is. What may not be read (the environment of another user's process
/// without the right to trace it) says nothing.
pub(crate) fn of_process(
    dir: &Path,
    memory_bytes: Option<i64>,
    buffer: &mut Vec<u8>,
) -> Option<RuntimeCap> {
    let mut words = |name: &str| {
        let text = read_path(&dir.join(name), buffer).bytes().map(String::from_utf8_lossy);
        text.unwrap_or_default().into_owned()
    };
    let (args, env) = (words("cmdline"), words("environ"));
    let args: Vec<&str> = args.trim_end_matches('\0').split('\0').collect();
    let env: Vec<(&str, &str)> = env.split('\0').filter_map(|e| e.split_once('=')).collect();
    runtime_cap(&args, &env, memory_bytes)
}

/// The cap in the command line `args` (with or without the program's name) and the environment `env`.
///
/// `memory_bytes` is the container's limit, which `-XX:MaxRAMPercentage` is a share of; without it that option says
/// nothing. Of options that repeat each other the last one counts, and the command line before the environment, as the
/// runtimes do. What cannot be read (no number, zero, more than 2⁶³ bytes) is no cap: `None`.
fn runtime_cap(
    args: &[&str],
    env: &[(&str, &str)],
    memory_bytes: Option<i64>,
) -> Option<RuntimeCap> {
    let variable = |name: &str| env.iter().rev().find(|e| e.0 == name).map(|e| e.1);
    let words =
        |name: &str| -> Vec<&str> { variable(name).unwrap_or("").split_whitespace().collect() };
    let program = args.first().copied().unwrap_or("").rsplit('/').next().unwrap_or("");
    let options = own_options(args);
    jvm(&words("JDK_JAVA_OPTIONS"), memory_bytes)
        .into_iter()
        .chain(jvm(options, memory_bytes))
        .next_back()
        .or_else(|| jvm(&words("JAVA_TOOL_OPTIONS"), memory_bytes))
        .filter(|_| !program.starts_with("node"))
        .or_else(|| node(options).or_else(|| node(&words("NODE_OPTIONS"))))
        .or_else(|| go(variable("GOMEMLIMIT")?))
}

/// Options of the runtime, not those of the program it runs: up to `-jar FILE`, or the first word that is no option.
fn own_options<'a>(args: &'a [&'a str]) -> &'a [&'a str] {
    let from = usize::from(args.first().is_some_and(|a| !a.starts_with('-')));
    let options = &args[from..];
    // These take their value as the next word.
    let takes = ["-cp", "-classpath", "--class-path", "-p", "--module-path", "-r", "--require"];
    let mut i = 0;
    while let Some(word) = options.get(i) {
        if !word.starts_with('-') || *word == "-jar" || *word == "--" {
            break;
        }
        let value_follows = takes.contains(word) || is_old_space(word);
        i += if value_follows { 2 } else { 1 };
    }
    &options[..i.min(options.len())]
}

fn jvm(options: &[&str], memory_bytes: Option<i64>) -> Option<RuntimeCap> {
    let mut cap = None;
    let mut share = None;
    for option in options {
        let size = option.strip_prefix("-Xmx").or_else(|| option.strip_prefix("-XX:MaxHeapSize="));
        let found = |bytes| RuntimeCap { runtime: "jvm", bytes, option: (*option).into() };
        if let Some(bytes) = size.and_then(java_size) {
            cap = Some(found(bytes));
        } else if let Some(p) = option.strip_prefix("-XX:MaxRAMPercentage=")
            && let Ok(p) = p.parse::<f64>()
            && p > 0.0
            && p <= 100.0
            && let Some(memory) = memory_bytes
        {
            share = Some(found((memory as f64 * p / 100.0) as i64));
        }
    }
    // A size given outright wins over a share.
    cap.or(share)
}

fn is_old_space(word: &str) -> bool {
    matches!(word, "--max-old-space-size" | "--max_old_space_size")
}

fn node(options: &[&str]) -> Option<RuntimeCap> {
    let mut cap = None;
    for (i, option) in options.iter().enumerate() {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (*option, options.get(i + 1).copied()),
        };
        if is_old_space(name)
            && let Some(bytes) = value.and_then(|v| scaled(v, 1 << 20))
        {
            cap = Some(RuntimeCap { runtime: "nodejs", bytes, option: (*option).into() });
        }
    }
    cap
}

fn go(value: &str) -> Option<RuntimeCap> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("B", 0), ("", 0)];
    let bytes = units
        .iter()
        .find_map(|(suffix, bits)| Some((value.strip_suffix(suffix)?, 1_i64 << bits)))
        .and_then(|(number, unit)| scaled(number, unit))?;
    Some(RuntimeCap { runtime: "go", bytes, option: format!("GOMEMLIMIT={value}") })
}

/// A number with an optional k, m, g or t (of 1024), as Java reads it.
fn java_size(text: &str) -> Option<i64> {
    let bits = match text.bytes().last()?.to_ascii_lowercase() {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        _ => return scaled(text, 1),
    };
    scaled(&text[..text.len() - 1], 1 << bits)
}

fn scaled(number: &str, unit: i64) -> Option<i64> {
    // Signs and spaces are not digits.
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<i64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(args: &[&str], env: &[(&str, &str)]) -> Option<i64> {
        runtime_cap(args, env, Some(1000 << 20)).map(|c| c.bytes)
    }

    #[test]
    fn java() {
        assert_eq!(bytes(&["java", "-Xmx512m", "-jar", "a.jar", "-Xmx1g"], &[]), Some(512 << 20));
        assert_eq!(bytes(&["/usr/bin/java", "-Xmx1g", "-Xmx2G", "Main"], &[]), Some(2 << 30));
        assert_eq!(bytes(&["java", "-cp", "lib", "-XX:MaxHeapSize=1024", "Main"], &[]), Some(1024));
        assert_eq!(bytes(&["java", "-XX:MaxRAMPercentage=75.0", "Main"], &[]), Some(750 << 20));
        assert_eq!(
            bytes(&["java", "-Xmx10m", "-XX:MaxRAMPercentage=75", "Main"], &[]),
            Some(10 << 20)
        );
        let env = [("JAVA_TOOL_OPTIONS", "-Dx=y -Xmx300m")];
        assert_eq!(bytes(&["java", "Main"], &env), Some(300 << 20));
        assert_eq!(bytes(&["java", "-Xmx10m", "Main"], &env), Some(10 << 20));
        for wrong in ["-Xmx", "-Xmxm", "-Xmx-5m", "-Xmx1.5g", "-Xmx0", "-Xmx99999999999t", "-Xmx5µ"]
        {
            assert_eq!(bytes(&["java", wrong, "Main"], &[]), None, "{wrong}");
        }
        assert_eq!(runtime_cap(&["java", "-XX:MaxRAMPercentage=75"], &[], None), None);
    }

    #[test]
    fn node_and_go() {
        assert_eq!(bytes(&["node", "--max-old-space-size=256", "app.js"], &[]), Some(256 << 20));
        assert_eq!(bytes(&["node", "--max_old_space_size", "256", "app.js"], &[]), Some(256 << 20));
        assert_eq!(bytes(&["node", "app.js", "--max-old-space-size=1"], &[]), None);
        let env = [("NODE_OPTIONS", "--trace-gc --max-old-space-size=128")];
        assert_eq!(bytes(&["node", "app.js"], &env), Some(128 << 20));
        assert_eq!(bytes(&["server"], &[("GOMEMLIMIT", "750MiB")]), Some(750 << 20));
        assert_eq!(bytes(&["server"], &[("GOMEMLIMIT", "1000")]), Some(1000));
        assert_eq!(bytes(&["server"], &[("GOMEMLIMIT", "1000B")]), Some(1000));
        assert_eq!(bytes(&["server"], &[("GOMEMLIMIT", "off")]), None);
        assert_eq!(bytes(&["server"], &[("GOMEMLIMIT", "5MB")]), None);
        let cap = runtime_cap(&["s"], &[("GOMEMLIMIT", "1GiB")], None).unwrap();
        assert_eq!((cap.runtime, cap.option.as_str()), ("go", "GOMEMLIMIT=1GiB"));
        assert_eq!(bytes(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn any_words(args in proptest::collection::vec("-?-?[a-zA-Z:=+0-9._µ-]{0,20}", 0..6), value: String) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            for name in ["GOMEMLIMIT", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS"] {
                let _ = runtime_cap(&args, &[(name, &value)], Some(i64::MAX));
            }
        }
    }
}
