//! Cases that an earlier run of the same command came to the end of, for one that goes on where that one was cut off.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::case::CASES;
use super::client::Contender;
use super::machine::Machine;
use super::options::Options;
use super::process::Cpu;
use super::result::{CaseResult, Row};
use super::runner::Figures;

/// What `versus.json` in the output folder holds; nothing where there is none.
///
/// # Errors
/// Where it is of another machine, of other programs, or of another size: figures of two kinds are not to stand in one table.
pub(crate) fn read(
    options: &Options,
    machine: &Machine,
    contenders: &[Contender],
) -> Result<Vec<CaseResult>> {
    let path = options.out().join("versus.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let all: Value = serde_json::from_slice(&text).context("versus.json is no JSON")?;
    let same = all["runs"] == options.runs()
        && all["size"] == options.basic_size()
        && machine.is_that_of(&all["machine"]);
    ensure!(
        same,
        "{} is of another machine, or of other sizes or numbers of runs: move it away, or leave out --resume",
        path.display()
    );
    let cases = all["cases"].as_array().map_or(&[][..], Vec::as_slice);
    cases
        .iter()
        .map(|case| {
            result(case, contenders).context("versus.json is not as this program writes it")
        })
        .collect()
}

fn result(case: &Value, contenders: &[Contender]) -> Result<CaseResult> {
    let name = case["case"].as_str();
    let known = CASES.iter().find(|known| Some(known.name) == name);
    let known = known.context("a case that is not known")?;
    let rows = case["rows"].as_array().context("a case without rows")?;
    let rows = rows.iter().map(|row| self::row(row, contenders));
    let bytes = case["bytes"].as_u64().context("a case without bytes")?;
    Ok(CaseResult::new(known, bytes, rows.collect::<Result<_>>()?))
}

fn row(row: &Value, contenders: &[Contender]) -> Result<Row> {
    let name = row["client"].as_str().context("a row without a client")?;
    let contender = contenders.iter().find(|contender| contender.name == name);
    let mut own = Row::new(contender.context("a client that is not known")?);
    ensure!(
        row["version"].as_str() == Some(&own.version),
        "{name} has another version by now"
    );
    let runs = row["runs"].as_array().context("a row without runs")?;
    own.good = runs
        .iter()
        .map(figures)
        .collect::<Option<_>>()
        .context("a run")?;
    own.bad = row["problem"].as_str().map(str::to_owned);
    Ok(own)
}

fn figures(run: &Value) -> Option<Figures> {
    let secs = |name: &str| run[name].as_f64();
    Some(Figures {
        cpu: Cpu {
            user: secs("user_secs")?,
            sys: secs("sys_secs")?,
        },
        wall: secs("wall_secs")?,
        exit: secs("exit_secs"),
        peak_bytes: run["peak_bytes"].as_u64()?,
        bytes: run["bytes"].as_u64()?,
        // Told as one number.
        harness: Cpu {
            user: secs("harness_secs")?,
            sys: 0.0,
        },
    })
}
