//! The steps of the gate, each a command that anyone can run by hand.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::tidy;

const LOGIC: &[&str] = &[
    "torr-base",
    "torr-bencode",
    "torr-metainfo",
    "torr-wire",
    "torr-store",
    "torr-tracker",
    "torr-dht",
    "torr-swarm",
    "torr-node",
];

/// How long fuzz targets run in the gate, in seconds each.
const FUZZ_SECS: &str = "10";

/// Runs the steps of one verb; true if all passed. Goes on after a failure, so that one run shows all.
pub(crate) fn run(root: &Path, verb: &str, args: &[String]) -> Result<bool> {
    let mut steps = Steps {
        root,
        passed: 0,
        failed: Vec::new(),
        args,
        env: Vec::new(),
    };
    match verb {
        "check" => check(&mut steps),
        "test" => test(&mut steps),
        "sim" => sim(&mut steps),
        "fuzz" => fuzz(&mut steps, args.first().map_or("60", String::as_str)),
        "bench" => bench(&mut steps),
        "interop" => interop(&mut steps),
        "survive" => survive(&mut steps),
        _ => {
            // Everything is built once: what would make the next build faster only fills the disk.
            steps.env.push(("CARGO_INCREMENTAL", "0"));
            steps.script("install", ".ci/install", &[]);
            steps.script("tools", ".ci/tools", &[]);
            check(&mut steps);
            test(&mut steps);
            sim(&mut steps);
            demo(&mut steps);
            bench(&mut steps);
            interop(&mut steps);
            survive(&mut steps);
            fuzz(&mut steps, FUZZ_SECS);
        }
    }
    for name in &steps.failed {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", steps.passed, steps.failed.len());
    Ok(steps.failed.is_empty())
}

fn check(steps: &mut Steps<'_>) {
    let started = Instant::now();
    let tidy = tidy::run(steps.root).unwrap_or_else(|error| {
        println!("tidy: {error:#}");
        false
    });
    steps.done("tidy", tidy, started.elapsed());
    steps.cargo("rustfmt", &["fmt", "--all", "--check"], &[]);
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    steps.cargo("clippy", &clippy, &[]);
    let docs = [
        "doc",
        "--workspace",
        "--no-deps",
        "--locked",
        "--document-private-items",
    ];
    steps.cargo(
        "docs",
        &docs,
        &[(
            "RUSTDOCFLAGS",
            "-D warnings -A rustdoc::private-intra-doc-links",
        )],
    );
    let mut wasm = vec!["build", "--locked", "--target", "wasm32-unknown-unknown"];
    LOGIC.iter().for_each(|name| wasm.extend(["-p", *name]));
    steps.cargo("logic on wasm32", &wasm, &[]);
    steps.cargo(
        "deny",
        &["deny", "--locked", "check", "bans", "licenses", "sources"],
        &[],
    );
}

fn test(steps: &mut Steps<'_>) {
    steps.cargo(
        "build",
        &["build", "--release", "--locked", "-p", "torr-cli"],
        &[],
    );
    steps.cargo(
        "test",
        &["test", "--workspace", "--locked", "--no-fail-fast"],
        &[],
    );
}

fn sim(steps: &mut Steps<'_>) {
    let storm = ["run", "--release", "--locked", "-p", "torr-storm", "--"];
    let own: Vec<&str> = steps.args.iter().map(String::as_str).collect();
    if !own.is_empty() {
        steps.cargo("storm", &[&storm[..], &own].concat(), &[]);
        return;
    }
    let usual = ["--seeds", "0..200", "--twice"];
    steps.cargo("storm", &[&storm[..], &usual].concat(), &[]);
    let fair = "--seeds 1..60 --peers 50 --hostile 0 --ratio-max 1.3";
    let fair: Vec<&str> = fair.split(' ').collect();
    steps.cargo("economics", &[&storm[..], &fair].concat(), &[]);
    let liars = ["liars", "--seeds", "1..4"];
    steps.cargo("liars", &[&storm[..], &liars].concat(), &[]);
    let dht = "dht --nodes 2000 --minutes 10 --lookups 1000";
    let dht: Vec<&str> = dht.split(' ').collect();
    steps.cargo("dht", &[&storm[..], &dht].concat(), &[]);
}

fn demo(steps: &mut Steps<'_>) {
    steps.cargo("demo", &["run", "--release", "--locked", "--", "demo"], &[]);
}

fn bench(steps: &mut Steps<'_>) {
    let bench = ["run", "--release", "--locked", "-p", "torr-bench", "--"];
    steps.cargo("bench", &[&bench[..], &["gate"]].concat(), &[]);
    let count = [&bench[..], &["instructions"]].concat();
    steps.cargo("instructions", &count, &[]);
}

fn interop(steps: &mut Steps<'_>) {
    steps.cargo(
        "interop",
        &[
            "run",
            "--release",
            "--locked",
            "-p",
            "torr-interop",
            "--",
            "run",
        ],
        &[],
    );
}

fn survive(steps: &mut Steps<'_>) {
    let run = ["run", "--release", "--locked", "-p", "torr-survive", "--"];
    steps.cargo("survive", &[&run[..], &["all"]].concat(), &[]);
}

fn fuzz(steps: &mut Steps<'_>, secs: &str) {
    steps.script("fuzz", "lab/fuzz/smoke", &[secs]);
}

struct Steps<'a> {
    root: &'a Path,
    passed: usize,
    failed: Vec<String>,
    args: &'a [String],
    /// For every step.
    env: Vec<(&'static str, &'static str)>,
}

impl Steps<'_> {
    fn cargo(&mut self, name: &str, args: &[&str], env: &[(&str, &str)]) {
        let mut command = Command::new("cargo");
        command.args(args).envs(env.iter().copied());
        self.run(name, command);
    }

    fn script(&mut self, name: &str, path: &str, args: &[&str]) {
        let mut command = Command::new("bash");
        command.arg(self.root.join(path)).args(args);
        self.run(name, command);
    }

    fn run(&mut self, name: &str, mut command: Command) {
        println!("==> {name}");
        let started = Instant::now();
        let env = self.env.iter().copied();
        let status = command.current_dir(self.root).envs(env).status();
        let passed = match status {
            Ok(status) => status.success(),
            Err(error) => {
                println!("{name} cannot be started: {error}");
                false
            }
        };
        self.done(name, passed, started.elapsed());
    }

    fn done(&mut self, name: &str, passed: bool, took: Duration) {
        let verdict = if passed { "ok" } else { "FAILED" };
        println!("<== {name}: {verdict} in {:.1} s", took.as_secs_f64());
        if passed {
            self.passed += 1;
        } else {
            self.failed.push(name.to_owned());
        }
    }
}
