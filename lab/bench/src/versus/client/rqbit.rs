//! rqbit's one-shot command.

use super::{Contender, Done, Job, LISTEN, Launch, Task, push};

pub(super) fn launch(contender: &Contender, job: &Job<'_>) -> Option<Launch> {
    let mut argv = contender.argv(&contender.program);
    push(
        &mut argv,
        [
            "--disable-dht",
            "--disable-upnp-port-forward",
            "--disable-lsd",
            "--ipv4-only",
            "--listen-port",
            &LISTEN.port().to_string(),
            "download",
            "--overwrite",
            "--disable-http-api",
        ],
    );
    argv.extend(["-o".into(), job.data.into()]);
    let done = match job.task {
        // With all of the data there it checks it and leaves.
        Task::Leech | Task::Check => {
            push(&mut argv, ["--exit-on-finish"]);
            Done::Exit
        }
        Task::Seed => Done::Seeds,
        Task::Create => return None,
    };
    argv.push(job.torrent.into());
    Some(Launch::new(argv, done))
}
