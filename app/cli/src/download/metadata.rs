//! Torrents of which a link is all that is known, and that are to be looked at before anything is
//! downloaded.

use std::path::Path;

use torr::metainfo::{Magnet, Metainfo};
use torr::{AddTorrent, Choose};

use crate::args::high::{Goal, High, Show};
use crate::args::low::Mode;
use crate::confine::{Needs, Taken, folder_of};
use crate::download::facts::chosen;
use crate::download::{Hooks, Planned, Problems, look_up, plan, run_plan, runtime};
use crate::download::{session_config, shut_in};
use crate::env::Env;
use crate::failure::{Exit, Failure};
use crate::input::{Link, Named, Torrent};
use crate::select::Selection;

/// The files that are wanted, once it is known what there is: those of `--select`, else those of the link.
pub(super) fn choose(select: Option<Selection>, magnet: &Magnet) -> Choose {
    let magnet = magnet.clone();
    Choose::new(move |info| {
        if let Some(selection) = &select {
            return chosen(selection, info);
        }
        let count = info.map().file_count();
        let wanted = magnet.priorities(count);
        match magnet.select.is_empty() || info.files().any(|file| magnet.selects(file.index)) {
            true => Ok(wanted),
            false => Err(format!("the link selects none of its {count} files")),
        }
    })
}

/// Fetches what is known by its link only. A status where someone stopped it.
pub(super) fn fetch_missing(
    env: &Env,
    high: &High,
    all: Vec<Named>,
    problems: &mut Problems,
    taken: Taken,
) -> Result<(Vec<Torrent>, Option<Exit>), Failure> {
    let mut places = Vec::new();
    let mut links = Vec::new();
    for named in all {
        match named {
            Named::Torrent(torrent) => places.push(Some(torrent)),
            Named::Link(link) => {
                let kept = kept(high, &link);
                if kept.is_none() {
                    links.push((places.len(), link));
                }
                places.push(kept);
            }
        }
    }
    let mut stopped = None;
    if !links.is_empty() {
        let (of, links): (Vec<usize>, Vec<Link>) = links.into_iter().unzip();
        let show = Show {
            print: None,
            ..high.show
        };
        let fetched = fetch(env, high, show, links, problems, taken)?;
        stopped = fetched.stopped;
        problems.failed.extend(fetched.failed);
        for (place, torrent) in of.into_iter().zip(fetched.torrents) {
            if let Some(slot) = places.get_mut(place) {
                *slot = torrent;
            }
        }
    }
    Ok((places.into_iter().flatten().collect(), stopped))
}

/// What an earlier run kept.
fn kept(high: &High, link: &Link) -> Option<Torrent> {
    // What is damaged, the session tells of.
    let bytes = torr::kept_torrent(&high.disk.state, link.magnet.info_hash).torrent?;
    let meta = Metainfo::parse(&bytes).ok()?;
    Some(Torrent {
        word: link.word.clone(),
        bytes,
        meta,
    })
}

/// Fetches one, for `torr magnet --save`, which writes it to `target`.
pub(crate) fn fetch_one(
    env: &Env,
    high: &High,
    link: Link,
    target: Option<&Path>,
) -> Result<Result<Torrent, Exit>, Failure> {
    let folder = target.map(folder_of).filter(|folder| folder.is_dir());
    let needs = Needs {
        write: folder
            .into_iter()
            .chain([high.disk.state.clone()])
            .collect(),
        session: Some(session_config(high)),
        ..Needs::default()
    };
    let mut taken = shut_in(env, high, needs)?;
    let _tidier = std::mem::take(&mut taken.tidier);
    if let Some(torrent) = kept(high, &link) {
        return Ok(Ok(torrent));
    }
    let problems = Problems::new(env, high);
    let show = Show {
        print: None,
        ..high.show
    };
    let fetched = fetch(env, high, show, vec![link], &problems, taken)?;
    let torrent = fetched.torrents.into_iter().flatten().next();
    let exit = fetched.stopped.or(fetched.failed.first().copied());
    Ok(torrent.ok_or(exit.unwrap_or(Exit::Other)))
}

struct Fetched {
    stopped: Option<Exit>,
    failed: Vec<Exit>,
    /// In the order of the links.
    torrents: Vec<Option<Torrent>>,
}

fn fetch(
    env: &Env,
    high: &High,
    show: Show,
    links: Vec<Link>,
    problems: &Problems,
    taken: Taken,
) -> Result<Fetched, Failure> {
    let words: Vec<String> = links.iter().map(|link| link.word.clone()).collect();
    let planned = links.into_iter().map(|link| Planned {
        name: link.word.clone(),
        word: link.word,
        hash: link.magnet.info_hash.to_string(),
        magnet: link.magnet.to_string(),
        choose: None,
        facts: None,
        add: AddTorrent {
            metadata_only: true,
            extra_trackers: high.network.trackers.clone(),
            ..AddTorrent::magnet(link.magnet, high.dir.clone())
        },
    });
    let mut whole = plan(env, high, planned.collect(), taken);
    whole.goal = Goal::default();
    whole.hooks = Hooks::None;
    whole.resume = None;
    whole.show = Show {
        // The list of files is the result.
        mode: if show.mode == Mode::Json {
            Mode::None
        } else {
            show.mode
        },
        ..show
    };
    let outcome = runtime()?.block_on(async {
        let peers = look_up(problems).await;
        for planned in &mut whole.torrents {
            planned.add.peers.clone_from(&peers);
        }
        run_plan(env, whole).await
    })?;
    let torrents = words
        .into_iter()
        .zip(outcome.metadata)
        .map(|(word, bytes)| {
            let bytes = bytes?.to_vec();
            let meta = Metainfo::parse(&bytes).ok()?;
            Some(Torrent { word, bytes, meta })
        });
    Ok(Fetched {
        stopped: outcome.stopped,
        failed: outcome.failed.into_iter().flatten().collect(),
        torrents: torrents.collect(),
    })
}
