//! What is recorded of instructions, and how far from it a figure may be.

use anyhow::{Context, Result, ensure};

/// What is further than this from the record is a fault, whichever way it went.
const TOLERANCE: f64 = 0.05;

const HEAD: &str = "\
# Instructions for each block of 16 KiB. `torr-bench instructions` fails where one is more than 5 % away, and
# `torr-bench instructions --record` writes them anew. How to read them: BENCHMARKS.md.
";
const RENEW: &str = "where that is meant, renew the record (cargo run --release -p torr-bench -- \
     instructions --record) and say why in the commit; a record that is too high guards nothing";

/// Figures, and the build that they are of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// Compiler, profile, what is set from outside, architecture.
    build: String,
    figures: Vec<(String, f64)>,
}

impl Record {
    pub(super) fn of_this_build(figures: Vec<(String, f64)>) -> Self {
        let (build, machine) = (env!("TORR_BENCH_BUILD"), std::env::consts::ARCH);
        let build = format!("{build}, {machine}");
        Self { build, figures }
    }

    pub(super) fn to_text(&self) -> String {
        let mut out = format!("{HEAD}build {}\n", self.build);
        for (name, figure) in &self.figures {
            out += &format!("{name} {figure:.1}\n");
        }
        out
    }

    /// # Errors
    /// A line that is neither a comment nor a name and its figure, or no build.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut build = None;
        let mut figures = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line
                .split_once(' ')
                .with_context(|| format!("no name and figure: {line:?}"))?;
            if name == "build" {
                build = Some(value.to_owned());
                continue;
            }
            let figure: f64 = value.parse().with_context(|| format!("in {line:?}"))?;
            ensure!(figure.is_normal() && figure > 0.0, "no figure: {line:?}");
            figures.push((name.to_owned(), figure));
        }
        let build = build.context("it does not say which build it is of")?;
        Ok(Self { build, figures })
    }

    /// What is wrong with these figures, one line each; nothing where they are as recorded.
    pub(super) fn faults(&self, recorded: &Self) -> Vec<String> {
        let mut out = Vec::new();
        for (name, figure) in &self.figures {
            let Some(due) = recorded.figure(name) else {
                out.push(format!("{name} is not recorded"));
                continue;
            };
            let off = figure / due - 1.0;
            if off.abs() > TOLERANCE {
                out.push(format!(
                    "{name}: {figure:.1} instructions a block, {:.1} % {} than the {due:.1} recorded",
                    off.abs() * 100.0,
                    if off > 0.0 { "more" } else { "fewer" },
                ));
            }
        }
        let gone = |(name, _): &&(String, f64)| self.figure(name).is_none();
        for (name, _) in recorded.figures.iter().filter(gone) {
            out.push(format!("{name} is recorded, but not counted any more"));
        }
        if !out.is_empty() {
            if self.build != recorded.build {
                out.push(format!(
                    "the build may be the reason: recorded with {}; this is {}",
                    recorded.build, self.build
                ));
            }
            out.push(RENEW.to_owned());
        }
        out
    }

    fn figure(&self, name: &str) -> Option<f64> {
        let found = self.figures.iter().find(|(known, _)| known == name);
        found.map(|(_, figure)| *figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(build: &str, figures: &[(&str, f64)]) -> Record {
        let owned = figures.iter().map(|(name, n)| ((*name).to_owned(), *n));
        Record {
            build: build.into(),
            figures: owned.collect(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let record = record("rustc 1.95.0, release", &[("a", 1000.1), ("b", 3.0)]);
        let text = record.to_text();
        assert_eq!(Record::parse(&text).expect("it is a record"), record);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            "a 3\n",
            "build x\na\n",
            "build x\na b\n",
            "build x\na NaN\n",
            "build x\na 0\n",
        ] {
            assert!(Record::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn five_percent_either_way() {
        let recorded = record("x", &[("a", 1000.0)]);
        let faults = |figure| record("x", &[("a", figure)]).faults(&recorded);
        for figure in [951.0, 1000.0, 1049.0] {
            assert_eq!(faults(figure), Vec::<String>::new(), "{figure}");
        }
        let [more, fewer] = [faults(1060.0), faults(940.0)];
        assert!(more[0].contains("6.0 % more"), "{more:?}");
        assert!(fewer[0].contains("6.0 % fewer"), "{fewer:?}");
        for lines in [more, fewer] {
            assert_eq!(lines.len(), 2, "the build is the same: {lines:?}");
            assert!(lines[1].contains("renew the record"), "{lines:?}");
        }
    }

    #[test]
    fn another_build_is_told_only_with_a_fault() {
        let recorded = record("rustc 1.95.0", &[("a", 1000.0)]);
        let now = |figure| record("rustc 1.96.0", &[("a", figure)]).faults(&recorded);
        assert_eq!(now(1000.0), Vec::<String>::new());
        let lines = now(2000.0).join("\n");
        assert!(
            lines.contains("recorded with rustc 1.95.0; this is rustc 1.96.0"),
            "{lines}"
        );
    }

    #[test]
    fn both_have_the_same_names() {
        let [old, new] = [record("x", &[("a", 1.0)]), record("x", &[("b", 1.0)])];
        let faults = new.faults(&old);
        assert_eq!(
            faults[..2],
            [
                "b is not recorded",
                "a is recorded, but not counted any more"
            ]
        );
    }
}
