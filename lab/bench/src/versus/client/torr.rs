//! torr, by its command line alone; and the floor programs, which are this program under other names.

use super::{Contender, Done, Job, LISTEN, Launch, Task, Word, push};

pub(super) fn launch(contender: &Contender, job: &Job<'_>) -> Launch {
    let mut argv = contender.argv(&contender.program);
    let done = match job.task {
        Task::Leech | Task::Seed => {
            argv.extend([job.torrent.into(), "-d".into(), job.data.into()]);
            argv.extend(["--state".into(), job.home.join("state").into()]);
            let port = LISTEN.port().to_string();
            push(&mut argv, ["--port", &port, "--json", "--progress", "none"]);
            push(
                &mut argv,
                ["--encrypt", if job.rc4 { "require" } else { "off" }],
            );
            if let Some(memory) = contender.memory {
                push(&mut argv, ["--memory", memory]);
            }
            if job.task == Task::Seed {
                push(&mut argv, ["--seed", "--trust"]);
                Done::Seeds
            } else {
                // The last file is verified and written; what follows is the sync.
                Done::Said(Word {
                    text: "\"t\":\"file_done\"",
                    ends: true,
                })
            }
        }
        Task::Check => {
            argv.extend(["check".into(), job.torrent.into()]);
            argv.extend(["-d".into(), job.data.into(), "--quiet".into()]);
            Done::Exit
        }
        Task::Create => {
            argv.extend(["create".into(), job.payload().into(), "-o".into()]);
            argv.push(job.new_torrent().into());
            push(
                &mut argv,
                ["--quiet", "--piece", &job.piece_len.to_string()],
            );
            Done::Exit
        }
    };
    Launch::new(argv, done)
}

pub(super) fn floor(contender: &Contender, job: &Job<'_>) -> Option<Launch> {
    let mut argv = contender.argv(&contender.program);
    match job.task {
        Task::Leech => {
            push(&mut argv, ["floor-leech", &job.raw.to_string()]);
            argv.extend([job.torrent.into(), job.payload().into()]);
        }
        Task::Seed => {
            push(&mut argv, ["floor-seed", &LISTEN.to_string()]);
            argv.push(job.payload().into());
        }
        Task::Check | Task::Create => return None,
    }
    Some(Launch::new(argv, Done::Exit))
}
