//! libtorrent, through its Python binding and one script.

use anyhow::{Context, Result};

use super::{Contender, Done, Job, LISTEN, Launch, Task, Word, push};

const SCRIPT: &str = include_str!("../../../scripts/lt_versus.py");

pub(super) fn launch(contender: &Contender, job: &Job<'_>) -> Result<Launch> {
    let script = job.home.join("lt_versus.py");
    std::fs::write(&script, SCRIPT).context("writing the script")?;
    let mut argv = contender.argv(&contender.program);
    argv.push(script.into());
    let task = match job.task {
        Task::Leech => "leech",
        Task::Seed => "seed",
        Task::Check => "check",
        Task::Create => "create",
    };
    push(&mut argv, [task]);
    if job.task == Task::Create {
        argv.extend([job.payload().into(), job.new_torrent().into()]);
        push(&mut argv, [&job.piece_len.to_string()]);
    } else {
        argv.extend([job.torrent.into(), job.data.into()]);
        push(&mut argv, [&LISTEN.port().to_string()]);
        push(&mut argv, [if job.rc4 { "rc4" } else { "plain" }]);
    }
    let done = match job.task {
        Task::Leech | Task::Check => Done::Said(Word {
            text: "COMPLETE",
            ends: false,
        }),
        Task::Seed => Done::Seeds,
        Task::Create => Done::Exit,
    };
    Ok(Launch::new(argv, done))
}
