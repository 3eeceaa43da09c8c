//! Programs that make torrents and do nothing else.

use super::{Contender, Done, Job, Launch, Task, push};

pub(super) fn mktorrent(contender: &Contender, job: &Job<'_>) -> Option<Launch> {
    let mut argv = contender.argv(&contender.program);
    let power = job.piece_len.trailing_zeros().to_string();
    push(&mut argv, ["-a", "http://198.18.0.2/", "-l", &power, "-o"]);
    argv.extend([job.new_torrent().into(), job.payload().into()]);
    only_create(job, argv)
}

pub(super) fn imdl(contender: &Contender, job: &Job<'_>) -> Option<Launch> {
    let mut argv = contender.argv(&contender.program);
    let piece_len = job.piece_len.to_string();
    push(&mut argv, ["--quiet", "torrent", "create"]);
    push(&mut argv, ["--piece-length", &piece_len, "--output"]);
    argv.extend([job.new_torrent().into(), "--input".into()]);
    argv.push(job.payload().into());
    only_create(job, argv)
}

fn only_create(job: &Job<'_>, argv: Vec<std::ffi::OsString>) -> Option<Launch> {
    (job.task == Task::Create).then(|| Launch::new(argv, Done::Exit))
}
