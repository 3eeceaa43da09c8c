//! Runs cells side by side, prints a table and asserts that exactly the expected cells ran.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::client::Tools;
use crate::process::log_tails;

/// So much of each log is shown when a cell fails.
const TAIL_LINES: usize = 40;

/// What every cell may use.
#[derive(Debug)]
pub struct Context {
    pub tools: Tools,
    /// Everything temporary.
    pub scratch: PathBuf,
    /// The long variants.
    pub full: bool,
    /// Failed cells leave their folders here.
    pub keep: Option<PathBuf>,
}

type Run = dyn Fn(&Context, &Path) -> Result<String> + Send + Sync;

/// One test: a name, a limit and what to do in a folder of its own.
pub struct Cell {
    pub name: String,
    limit: Duration,
    /// Its figure would suffer from company.
    alone: bool,
    run: Box<Run>,
}

struct Outcome {
    name: String,
    seconds: f64,
    result: Result<String>,
}

impl Cell {
    pub fn new(
        name: String,
        limit: Duration,
        run: impl Fn(&Context, &Path) -> Result<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            limit,
            alone: false,
            run: Box::new(run),
        }
    }

    pub fn alone(self) -> Self {
        Self {
            alone: true,
            ..self
        }
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Runs all cells, `jobs` at a time, those that want to be alone last. `expected` names what must have run.
pub fn run(
    context: &Context,
    cells: Vec<Cell>,
    expected: &BTreeSet<String>,
    jobs: usize,
) -> Result<()> {
    if cells.is_empty() {
        bail!("no cell of that name");
    }
    let start = Instant::now();
    let (alone, together): (VecDeque<_>, VecDeque<_>) =
        cells.into_iter().partition(|cell| cell.alone);
    let mut outcomes = run_queue(context, together, jobs);
    outcomes.extend(run_queue(context, alone, 1));
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));

    say("");
    for outcome in &outcomes {
        let (word, detail) = match &outcome.result {
            Ok(detail) => ("ok", detail.clone()),
            Err(error) => (
                "FAILED",
                format!("{error:#}")
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ),
        };
        say(&format!(
            "{word:6} {:5.1} s  {:50} {detail}",
            outcome.seconds, outcome.name
        ));
    }
    let ran: BTreeSet<String> = outcomes
        .iter()
        .map(|outcome| outcome.name.clone())
        .collect();
    let missing: Vec<_> = expected.difference(&ran).collect();
    let surplus: Vec<_> = ran.difference(expected).collect();
    for name in &missing {
        say(&format!("MISSING          {name}"));
    }
    for name in &surplus {
        say(&format!("NOT EXPECTED     {name}"));
    }
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.result.is_err())
        .count()
        + missing.len()
        + surplus.len();
    let passed = outcomes
        .iter()
        .filter(|outcome| outcome.result.is_ok())
        .count();
    say(&format!(
        "\n{} cells in {:.0} s",
        outcomes.len(),
        start.elapsed().as_secs_f64()
    ));
    say(&format!("{passed} passed, {failed} failed"));
    if failed > 0 {
        bail!("{failed} cells failed");
    }
    Ok(())
}

fn run_queue(context: &Context, queue: VecDeque<Cell>, jobs: usize) -> Vec<Outcome> {
    let queue = Mutex::new(queue);
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (queue, send) = (&queue, send.clone());
            scope.spawn(move || {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(cell) = next else { return };
                    send.send(run_cell(context, &cell)).ok();
                }
            });
        }
        drop(send);
        receive.iter().collect()
    })
}

fn run_cell(context: &Context, cell: &Cell) -> Outcome {
    let dir = context.scratch.join(cell.name.replace('/', "_"));
    let start = Instant::now();
    let (finished, watch) = mpsc::channel::<()>();
    let watched = &dir;
    let result = std::thread::scope(|scope| {
        // Every wait inside a cell has a limit of its own. This is for a bug in the lab: better no result than none
        // for hours; the sandbox takes everything with it.
        scope.spawn(move || {
            if watch.recv_timeout(cell.limit + Duration::from_secs(60))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                say(&format!(
                    "{}: beyond its limit, giving up\n{}",
                    cell.name,
                    log_tails(watched, TAIL_LINES)
                ));
                say("0 passed, 1 failed");
                std::process::exit(1);
            }
        });
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (cell.run)(context, &dir)))
                .unwrap_or_else(|_| Err(anyhow!("the lab itself panicked")));
        drop(finished);
        result
    });
    let seconds = start.elapsed().as_secs_f64();
    let word = if result.is_ok() { "ok" } else { "FAILED" };
    say(&format!("{word:6} {seconds:5.1} s  {}", cell.name));
    if let Err(error) = &result {
        say(&format!("    {error:#}\n{}", log_tails(&dir, TAIL_LINES)));
        if let Some(keep) = &context.keep {
            keep_logs(&dir, &keep.join(cell.name.replace('/', "_")));
        }
    }
    std::fs::remove_dir_all(&dir).ok();
    Outcome {
        name: cell.name.clone(),
        seconds,
        result,
    }
}

/// Copies a failed cell's folder, without what was transferred.
fn keep_logs(dir: &Path, to: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let target = to.join(entry.file_name());
        if path.is_dir() {
            if entry.file_name() != "data" && entry.file_name() != "original" {
                keep_logs(&path, &target);
            }
        } else if std::fs::create_dir_all(to).is_ok() {
            std::fs::copy(&path, &target).ok();
        }
    }
}

/// Results go to standard output; a reader that has gone is no reason to stop.
fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").ok();
}
