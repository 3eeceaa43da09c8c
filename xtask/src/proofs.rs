//! The tables of the lab's README name the test that shows each guarantee. A test that is renamed or
//! deleted must not leave a row behind that promises it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const README: &str = "lab/README.md";
const SCENARIOS: &str = "lab/sim/scenarios";
/// Names of tests are sentences; what has fewer words may be anything.
const WORDS_MIN: usize = 3;

/// What the tables name and nobody has, of functions in `sources` and scenarios.
pub(crate) fn faults(root: &Path, sources: &[String]) -> Result<Vec<String>> {
    let path = root.join(README);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let folder = root.join(SCENARIOS);
    let mut tests: Vec<String> = sources.iter().flat_map(|text| functions(text)).collect();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder:?}"))? {
        let name = entry?.file_name();
        tests.extend(
            Path::new(&name)
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        );
    }
    Ok(missing(&text, &tests))
}

/// A command may name the tests by what their names have in common, as `cargo test` takes it.
fn missing(readme: &str, tests: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for (number, row) in readme
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with('|'))
    {
        for name in names(row) {
            if !tests.iter().any(|test| test.contains(name)) {
                out.push(format!("{README}:{} no test is called {name}", number + 1));
            }
        }
    }
    out
}

/// Whatever stands in a row's code and could be the name of a test.
fn names(row: &str) -> impl Iterator<Item = &str> {
    let code = row.split('`').skip(1).step_by(2);
    code.flat_map(str::split_whitespace)
        .filter_map(|word| word.rsplit("::").next())
        .map(|word| word.trim_end_matches('…').trim_end_matches('_'))
        .filter(|word| word.split('_').count() >= WORDS_MIN)
        .filter(|word| {
            word.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
}

fn functions(source: &str) -> impl Iterator<Item = String> {
    let named = source.lines().filter_map(|line| line.split_once("fn "));
    named.map(|(_, rest)| rest.split(['(', '<']).next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_whose_test_is_gone_is_told() {
        let tests: Vec<String> = functions(
            "#[test]\nfn no_piece_is_lost() {}\n    async fn forty_lies_of_trackers() {}\n",
        )
        .collect();
        let none: Vec<String> = Vec::new();
        let there = "| G1 | torr-a::`no_piece_is_lost`, `cargo test -p torr-a -- tests::lies_of_trackers` |\n";
        assert_eq!(missing(there, &tests), none);
        let fewer = "text with `no_such_test`\n| `two_words`, `a part_of_it…`, `--not_an_option`, `Not_A_Name` |\n";
        let told = vec![format!("{README}:2 no test is called part_of_it")];
        assert_eq!(missing(fewer, &tests), told);
    }
}
