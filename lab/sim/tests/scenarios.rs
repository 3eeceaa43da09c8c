//! Runs every file of `scenarios/`. `TORR_SCENARIO=name` runs one, and shows what the node says and hears.

use std::path::Path;

#[test]
fn all_scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let only = std::env::var("TORR_SCENARIO").ok();
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 20, "the scenarios are gone");
    let mut failed = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let watch = only.is_some();
        let run = std::panic::catch_unwind(|| torr_sim::scenario::run(&text, watch));
        match run {
            Ok(Ok(())) => {}
            Ok(Err(why)) => failed.push(format!("{name}: {why}")),
            Err(_) => failed.push(format!("{name}: a check failed, see above")),
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}
