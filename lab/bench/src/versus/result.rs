//! What the runs of a case gave, and whether the goals are met.

use serde_json::{Value, json};

use super::case::{Against, Case, Figure, Goal};
use super::client::{Contender, Kind};
use super::runner::{Figures, Stalled};

/// After so many failed runs a contender sits out the rest of a case.
const FAILURES_MAX: usize = 2;
/// A rival with so many runs that take more than [`FAR`] times what the best rival takes is no best one any more.
const DECIDED_AFTER: usize = 2;
const FAR: f64 = 1.25;

/// One run.
#[derive(Debug)]
pub(crate) enum Outcome {
    Good(Figures),
    Bad(anyhow::Error),
    /// Not a task for this contender.
    Cannot,
}

/// All runs of one contender in one case.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) kind: Kind,
    pub(crate) good: Vec<Figures>,
    /// The last reason why a run failed, or why there was none.
    pub(crate) bad: Option<String>,
    failures: usize,
    cannot: bool,
}

#[derive(Debug)]
pub(crate) struct CaseResult {
    pub(crate) case: &'static Case,
    pub(crate) bytes: u64,
    pub(crate) rows: Vec<Row>,
}

/// A goal after the runs.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    /// Torr's figure and what it may be; None if there is nothing to compare.
    pub(crate) values: Option<(f64, f64)>,
}

impl Outcome {
    /// For the terminal, while it runs.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Good(figures) => format!(
                "{:.3} user {:.3} sys CPU s, {:.2} s, {:.0} MiB",
                figures.cpu.user,
                figures.cpu.sys,
                figures.wall,
                mib(figures.peak_bytes)
            ),
            Self::Bad(why) => format!("{why:#}"),
            Self::Cannot => "not its task".into(),
        }
    }
}

impl Row {
    pub(crate) fn new(contender: &Contender) -> Self {
        let missing = contender.version.as_ref().err();
        Self {
            name: contender.name,
            version: contender.version.clone().unwrap_or_default(),
            kind: contender.kind,
            good: Vec::new(),
            bad: missing.map(|why| format!("not there: {why}")),
            failures: if missing.is_some() { usize::MAX } else { 0 },
            cannot: false,
        }
    }

    pub(crate) fn sits_out(&self) -> bool {
        self.cannot || self.failures >= FAILURES_MAX
    }

    pub(crate) fn push(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Good(figures) => self.good.push(figures),
            Outcome::Bad(why) => {
                // Whoever stalls does so again, and each time costs minutes.
                let stalled = why.downcast_ref::<Stalled>().is_some();
                self.failures += if stalled { FAILURES_MAX } else { 1 };
                self.bad = Some(format!("{why:#}"));
            }
            Outcome::Cannot => self.cannot = true,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.good.is_empty() && self.bad.is_none()
    }

    fn is_rival(&self) -> bool {
        !matches!(self.kind, Kind::Torr | Kind::Floor)
    }

    fn sorted(&self, figure: Figure) -> Vec<f64> {
        let mut values: Vec<f64> = self.good.iter().map(|run| figure.of(run)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    pub(crate) fn min(&self, figure: Figure) -> Option<f64> {
        self.sorted(figure).first().copied()
    }

    pub(crate) fn median(&self, figure: Figure) -> Option<f64> {
        let values = self.sorted(figure);
        values.get(values.len() / 2).copied()
    }

    fn json(&self) -> Value {
        let runs: Vec<Value> = self.good.iter().map(run_json).collect();
        json!({
            "client": self.name, "version": self.version, "rival": self.is_rival(), "problem": self.bad,
            "runs": runs,
            "total_min": self.min(Figure::Total), "total_median": self.median(Figure::Total),
            "user_min": self.min(Figure::User), "user_median": self.median(Figure::User),
            "sys_min": self.min(Figure::Sys), "sys_median": self.median(Figure::Sys),
            "wall_min": self.min(Figure::Wall), "wall_median": self.median(Figure::Wall),
        })
    }
}

fn run_json(run: &Figures) -> Value {
    json!({
        "user_secs": run.cpu.user, "sys_secs": run.cpu.sys, "wall_secs": run.wall, "exit_secs": run.exit,
        "peak_bytes": run.peak_bytes, "bytes": run.bytes, "harness_secs": run.harness.user + run.harness.sys,
    })
}

/// Whether more runs of that rival can change no goal: it is far behind the best one in all that is compared.
pub(crate) fn is_decided(case: &Case, rows: &[Row], at: usize) -> bool {
    let row = &rows[at];
    if !row.is_rival() || row.good.len() < DECIDED_AFTER {
        return false;
    }
    let compared = case.goals.iter().map(|goal| goal.figure);
    compared.into_iter().all(|figure| {
        let best = best_rival(rows, figure).map_or(0.0, |(best, _)| best);
        row.min(figure).is_some_and(|own| own > FAR * best)
    })
}

fn best_rival(rows: &[Row], figure: Figure) -> Option<(f64, &'static str)> {
    let rivals = rows.iter().filter(|row| row.is_rival());
    rivals
        .filter_map(|row| Some((row.min(figure)?, row.name)))
        .min_by(|a, b| a.0.total_cmp(&b.0))
}

impl CaseResult {
    pub(crate) fn new(case: &'static Case, bytes: u64, rows: Vec<Row>) -> Self {
        Self { case, bytes, rows }
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    pub(crate) fn verdicts(&self, all: &[Self], avx512: bool) -> Vec<Verdict> {
        let goals = self.case.goals.iter();
        goals.map(|goal| self.verdict(goal, all, avx512)).collect()
    }

    fn verdict(&self, goal: &Goal, all: &[Self], avx512: bool) -> Verdict {
        let other = |name: &str| all.iter().find(|result| result.case.name == name);
        let figure = goal.figure;
        let reference = match goal.against {
            Against::BestRival => best_rival(&self.rows, figure),
            Against::BestRivalIn(name) => {
                other(name).and_then(|case| best_rival(&case.rows, figure))
            }
            Against::Floor => self
                .row("floor")
                .and_then(|row| Some((row.min(figure)?, row.name))),
            Against::TorrIn(name) => other(name)
                .and_then(|case| case.row("torr")?.min(figure))
                .map(|value| (value, name)),
            Against::Nothing => Some((1.0, "")),
        };
        let factor = goal.factor_on(avx512, self.case.hashes);
        let mut text = format!("{} {} <= {}", goal.who, figure.name(), trim(factor));
        match (goal.against, reference) {
            (Against::Nothing, _) => text.push_str(&format!(" {}", figure.unit())),
            (Against::BestRival, reference) => text.push_str(&format!(
                "x best rival ({})",
                reference.map_or("none", |(_, name)| name)
            )),
            (Against::BestRivalIn(case), reference) => text.push_str(&format!(
                "x best rival of {case} ({})",
                reference.map_or("not run", |(_, name)| name)
            )),
            (Against::Floor, _) => text.push_str("x floor program"),
            (Against::TorrIn(case), _) => text.push_str(&format!("x torr in {case}")),
        }
        let own = self.row(goal.who).and_then(|row| row.min(figure));
        let values = own
            .zip(reference)
            .map(|(own, (other, _))| (own, other * factor));
        Verdict { text, values }
    }

    pub(crate) fn json(&self, all: &[Self], avx512: bool) -> Value {
        let goals: Vec<Value> = self
            .verdicts(all, avx512)
            .iter()
            .map(|verdict| {
                let (own, limit) = verdict.values.unzip();
                json!({ "goal": verdict.text, "torr": own, "limit": limit, "met": verdict.met() })
            })
            .collect();
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({
            "case": self.case.name, "title": self.case.title, "bytes": self.bytes, "rows": rows, "goals": goals,
        })
    }
}

impl Verdict {
    pub(crate) fn met(&self) -> Option<bool> {
        self.values.map(|(own, limit)| own <= limit)
    }
}

impl Figure {
    pub(crate) fn of(self, run: &Figures) -> f64 {
        let gib = run.bytes as f64 / f64::from(1 << 30);
        match self {
            Self::Total => (run.cpu.user + run.cpu.sys) / gib,
            Self::User => run.cpu.user / gib,
            Self::Sys => run.cpu.sys / gib,
            Self::Wall => run.wall,
            Self::Memory => mib(run.peak_bytes),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Total => "CPU",
            Self::User => "user CPU",
            Self::Sys => "system CPU",
            Self::Wall => "time",
            Self::Memory => "memory",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Total | Self::User | Self::Sys => "CPU s/GiB",
            Self::Wall => "s",
            Self::Memory => "MiB",
        }
    }
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A factor without zeros at its end.
fn trim(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
