//! The table, as Markdown and as JSON, and the plots beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::case::Figure;
use super::client::Contender;
use super::machine::Machine;
use super::options::Options;
use super::plot::{Bar, bars};
use super::result::{CaseResult, Row, Verdict, mib};
use super::root;

/// Where the table lies in BENCHMARKS.md.
const BEGIN: &str = "<!-- versus: begin -->";
const END: &str = "<!-- versus: end -->";

/// Writes `versus.md`, `versus.json` and a plot for each case.
pub(crate) fn write(
    options: &Options,
    machine: &Machine,
    contenders: &[Contender],
    results: &[CaseResult],
) -> Result<()> {
    let out = options.out();
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let cases: Vec<Value> = results
        .iter()
        .map(|result| result.json(results, machine.avx512))
        .collect();
    let all = json!({ "v": 1, "machine": machine.json(), "runs": options.runs(), "size": options.basic_size(), "cases": cases });
    fs::write(out.join("versus.json"), serde_json::to_string_pretty(&all)?)?;
    let text = markdown(machine, contenders, results, Some(""));
    fs::write(out.join("versus.md"), text)?;
    plots(out, results)
}

/// Puts the table into BENCHMARKS.md and the plots beside it, in place of those before.
pub(crate) fn publish(
    machine: &Machine,
    contenders: &[Contender],
    results: &[CaseResult],
) -> Result<()> {
    let path = root()?.join("BENCHMARKS.md");
    let old = fs::read_to_string(&path).context("reading BENCHMARKS.md")?;
    let parts = old.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.context("BENCHMARKS.md has no place for the table")?;
    let table = markdown(machine, contenders, results, Some("docs/bench/"));
    fs::write(&path, format!("{before}{BEGIN}\n\n{table}{END}{after}"))?;
    let folder = root()?.join("docs/bench");
    fs::create_dir_all(&folder)?;
    plots(&folder, results)
}

fn plots(folder: &Path, results: &[CaseResult]) -> Result<()> {
    for result in results {
        let path = folder.join(format!("{}.svg", result.case.name));
        fs::write(&path, plot(result)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// `plots`: the folder of the plots as seen from the text.
pub(crate) fn markdown(
    machine: &Machine,
    contenders: &[Contender],
    results: &[CaseResult],
    plots: Option<&str>,
) -> String {
    let mut text = String::new();
    head(&mut text, machine, contenders);
    for result in results {
        table(&mut text, result);
        for verdict in result.verdicts(results, machine.avx512) {
            writeln!(text, "- {}", verdict_line(&verdict)).ok();
        }
        text.push('\n');
        if let Some(folder) = plots {
            let name = result.case.name;
            writeln!(text, "![{name}]({folder}{name}.svg)\n").ok();
        }
    }
    text
}

fn head(text: &mut String, machine: &Machine, contenders: &[Contender]) {
    let has = |flag: bool| if flag { "yes" } else { "no" };
    writeln!(
        text,
        "{}, {} CPUs, {:.0} GiB; Linux {}; AVX-512 {}, SHA instructions {}; load before the runs {:.2}.\n",
        machine.cpu,
        machine.cpus,
        machine.memory_gib,
        machine.kernel,
        has(machine.avx512),
        has(machine.sha_ni),
        machine.load,
    )
    .ok();
    let versions: Vec<String> = contenders
        .iter()
        .map(|contender| match &contender.version {
            Ok(version) => format!("{} {version}", contender.name).trim().to_owned(),
            Err(why) => format!("{}: not there ({why})", contender.name),
        })
        .collect();
    writeln!(text, "{}.\n", versions.join("; ")).ok();
}

fn table(text: &mut String, result: &CaseResult) {
    let gib = result.bytes as f64 / f64::from(1 << 30);
    let amount = match result.bytes {
        bytes if bytes < 1 << 30 => format!("{:.0} MiB", mib(bytes)),
        _ => format!("{gib:.0} GiB"),
    };
    writeln!(
        text,
        "### `{}`: {} ({amount})\n",
        result.case.name, result.case.title
    )
    .ok();
    text.push_str(
        "| client | CPU s/GiB: user | system | total | total, median | seconds | median | to the end | MiB | runs |\n",
    );
    text.push_str("|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    let mut rows: Vec<&Row> = result.rows.iter().collect();
    // The best first; those without figures last.
    let figure = result.case.main_figure();
    rows.sort_by(|a, b| {
        let key = |row: &Row| row.min(figure).unwrap_or(f64::INFINITY);
        key(a).total_cmp(&key(b))
    });
    for row in rows {
        line(text, row);
    }
    text.push('\n');
}

fn line(text: &mut String, row: &Row) {
    let name = format!("{} {}", row.name, row.version).trim().to_owned();
    let name = if row.name.starts_with("torr") && !row.name.starts_with("torrent") {
        format!("**{name}**")
    } else {
        name
    };
    if row.good.is_empty() {
        let why = row.bad.as_deref().unwrap_or("no run").replace('|', "/");
        writeln!(text, "| {name} | {why} | | | | | | | | 0 |").ok();
        return;
    }
    let min = |figure, digits: usize| match row.min(figure) {
        Some(value) => format!("{value:.digits$}"),
        None => String::new(),
    };
    let median = |figure, digits: usize| match row.median(figure) {
        Some(value) => format!("{value:.digits$}"),
        None => String::new(),
    };
    let exit = row.good.iter().filter_map(|run| run.exit);
    let exit = exit.min_by(f64::total_cmp);
    let failed = match &row.bad {
        Some(why) => format!(", then {}", why.replace('|', "/")),
        None => String::new(),
    };
    writeln!(
        text,
        "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {}{failed} |",
        min(Figure::User, 3),
        min(Figure::Sys, 3),
        min(Figure::Total, 3),
        median(Figure::Total, 3),
        min(Figure::Wall, 3),
        median(Figure::Wall, 3),
        exit.map_or(String::new(), |exit| format!("{exit:.3}")),
        min(Figure::Memory, 0),
        row.good.len(),
    )
    .ok();
}

fn verdict_line(verdict: &Verdict) -> String {
    let word = match verdict.met() {
        Some(true) => "met",
        Some(false) => "**not met**",
        None => "not compared",
    };
    match verdict.values {
        Some((own, limit)) => format!("{}: {own:.3}, limit {limit:.3}: {word}", verdict.text),
        None => format!("{}: {word}", verdict.text),
    }
}

fn plot(result: &CaseResult) -> String {
    let figure = result.case.main_figure();
    let mut all: Vec<Bar> = result
        .rows
        .iter()
        .filter_map(|row| {
            Some(Bar {
                name: format!("{} {}", row.name, row.version).trim().to_owned(),
                value: row.min(figure)?,
                mark: row.median(figure)?,
                own: !matches!(row.name, "floor") && row.name.starts_with("torr"),
            })
        })
        .collect();
    all.sort_by(|a, b| a.value.total_cmp(&b.value));
    let title = format!("{}: {}", result.case.name, result.case.title);
    bars(&title, figure.unit(), &all)
}
