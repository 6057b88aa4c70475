//! Embeds every file of `tables/`, `patterns/` and `relations/`, so that dropping a file in is enough.

use std::{env, fmt::Write as _, fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let mut code = String::new();
    for (folder, extension, constant) in [
        ("tables", "toml", "TABLES"),
        ("patterns", "sql", "PATTERNS"),
        ("relations", "sql", "RELATIONS"),
    ] {
        let dir = Path::new(&root).join(folder);
        println!("cargo::rerun-if-changed={}", dir.display());
        let mut files: Vec<_> = fs::read_dir(&dir)?
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == extension))
            .collect();
        files.sort();
        let _ = writeln!(code, "pub(crate) const {constant}: &[(&str, &str)] = &[");
        for f in files {
            let name = f.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let _ = writeln!(code, "    ({name:?}, include_str!({:?})),", f.display().to_string());
        }
        let _ = writeln!(code, "];");
    }
    fs::write(Path::new(&out).join("embedded.rs"), code)
}
