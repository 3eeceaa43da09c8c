//! From text to [`Scenario`].

use std::time::Duration;

use torr_base::{Bitfield, Geometry, Instant};

use super::{Expect, Peer, SameId, Scenario, Step, What, duration, pieces};
use crate::{
    Claims, Hello, LinkProfile, Manners, MetadataManners, NodePlan, Serves, Unchokes, words,
};

type Parsed<T> = Result<T, String>;

pub(super) fn parse(text: &str) -> Parsed<Scenario> {
    let lines = (1..).zip(text.lines());
    let lines = lines.map(|(number, line)| (number, line.split('#').next().unwrap_or("").trim()));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty()).collect();
    let geometry = geometry(&lines).ok_or("no `pieces N x LENGTH`")?;
    let mut scenario = Scenario {
        geometry,
        metadata_len: None,
        node: NodePlan::new(Bitfield::new(geometry.piece_count())),
        files: std::iter::once(0..geometry.piece_count()).collect(),
        peers: Vec::new(),
        steps: Vec::new(),
    };
    scenario.node.link.latency = Duration::from_millis(1);
    for (number, line) in lines {
        parse_line(&mut scenario, number, line)
            .map_err(|why| format!("line {number}, `{line}`: {why}"))?;
    }
    scenario.steps.sort_by_key(|step| step.at);
    Ok(scenario)
}

fn geometry(lines: &[(usize, &str)]) -> Option<Geometry> {
    let find = |word: &str| lines.iter().find_map(|(_, line)| line.strip_prefix(word));
    let (count, len) = find("pieces ")?.split_once(" x ")?;
    let len = bytes(len)?;
    let total = match find("total ") {
        Some(total) => bytes(total)?,
        None => count.trim().parse::<u64>().ok()? * len,
    };
    Geometry::new(total, len).ok()
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_suffix("KiB") {
        Some(number) => Some(number.trim().parse::<u64>().ok()? * 1_024),
        None => text.parse().ok(),
    }
}

fn parse_line(scenario: &mut Scenario, number: usize, line: &str) -> Parsed<()> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "pieces" | "total" => Ok(()),
        "metadata" => {
            let len = bytes(rest).ok_or("metadata LENGTH")?;
            scenario.metadata_len = Some(len as usize);
            Ok(())
        }
        "node:" => rest
            .split(';')
            .try_for_each(|part| node(scenario, part.trim())),
        "peer" => {
            let (name, rest) = rest.split_once(':').ok_or("peer NAME: …")?;
            let peer = peer(scenario, name.trim(), rest)?;
            scenario.peers.push(peer);
            Ok(())
        }
        "at" => {
            let (time, rest) = rest.split_once(' ').ok_or("at TIME …")?;
            let at = Instant::ZERO + duration(time).ok_or("not a time")?;
            let (who, rest) = rest.split_once(':').ok_or("at TIME PEER: …")?;
            let words: Vec<_> = rest.split(';').map(|word| word.trim().to_owned()).collect();
            let what = match who.trim().strip_prefix("->") {
                Some(who) => What::Hears {
                    peer: by_name(scenario, who)?,
                    words,
                },
                None => What::Says {
                    peer: by_name(scenario, who)?,
                    words,
                },
            };
            scenario.steps.push(Step {
                line: number,
                at,
                what,
            });
            Ok(())
        }
        "expect" => {
            let (rest, at) = match rest.rsplit_once(" by ").or(rest.rsplit_once(" at ")) {
                Some((rest, time)) => (rest, duration(time).ok_or("not a time")?),
                None => return Err("expect … by TIME".to_owned()),
            };
            let what = What::Expect(expect(scenario, rest)?);
            scenario.steps.push(Step {
                line: number,
                at: Instant::ZERO + at,
                what,
            });
            Ok(())
        }
        _ => Err("not a line of a scenario".to_owned()),
    }
}

fn by_name(scenario: &Scenario, name: &str) -> Parsed<usize> {
    let mut names = scenario.peers.iter();
    let place = names.position(|peer| peer.name == name.trim());
    place.ok_or_else(|| format!("no peer {name}"))
}

fn node(scenario: &mut Scenario, part: &str) -> Parsed<()> {
    let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
    let plan = &mut scenario.node;
    let geometry = scenario.geometry;
    let number = || rest.parse::<u64>().map_err(|_| format!("{word} NUMBER"));
    match word {
        "have" => plan.have = pieces(rest, geometry).ok_or("have PIECES")?,
        "wants" => plan.wanted = Some(pieces(rest, geometry).ok_or("wants PIECES")?),
        "magnet" => plan.magnet = true,
        "private" => plan.private = true,
        "no" if rest == "pex" => plan.tune = |config| config.pex = false,
        "sequential" => plan.sequential = true,
        "super-seed" => plan.super_seed = true,
        "up" => plan.up_rate = Some(number()?),
        "down" => plan.down_rate = Some(number()?),
        "blocks" => plan.blocks = number()? as usize,
        "files" => {
            let ranges = rest.split(' ').map(|range| {
                let (first, last) = range.split_once('-')?;
                Some(first.parse().ok()?..last.parse::<u32>().ok()? + 1)
            });
            let ranges: Option<Vec<_>> = ranges.collect();
            scenario.files = ranges.ok_or("files FIRST-LAST …")?;
        }
        _ => return Err(format!("`{part}` is nothing that a node can be told")),
    }
    Ok(())
}

fn peer(scenario: &Scenario, name: &str, rest: &str) -> Parsed<Peer> {
    let mut peer = Peer {
        name: name.to_owned(),
        manners: Manners {
            unchokes: Unchokes::Scripted,
            ..Manners::default()
        },
        has: Bitfield::new(scenario.geometry.piece_count()),
        link: LinkProfile {
            latency: Duration::from_millis(1),
            ..LinkProfile::default()
        },
        dials: None,
        id: None,
    };
    for part in rest
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        trait_of(scenario, &mut peer, part).ok_or_else(|| format!("peers know no `{part}`"))?;
    }
    Ok(peer)
}

fn trait_of(scenario: &Scenario, peer: &mut Peer, part: &str) -> Option<()> {
    let manners = &mut peer.manners;
    let words: Vec<_> = part.split_whitespace().collect();
    match words.as_slice() {
        ["has", list] => peer.has = pieces(list, scenario.geometry)?,
        ["no", "fast"] => manners.fast = false,
        ["no", "ext"] => manners.extended = false,
        ["claims", "all"] => manners.claims = Claims::All,
        ["claims", "nothing"] => manners.claims = Claims::Nothing,
        ["claims", "too", "long"] => manners.claims = Claims::WrongLength,
        ["claims", "spare", "bits"] => manners.claims = Claims::SpareBits,
        ["unchokes", "at", "once"] => manners.unchokes = Unchokes::AtOnce,
        ["unchokes", "at", time] => manners.unchokes = Unchokes::After(duration(time)?),
        ["never", "unchokes"] => manners.unchokes = Unchokes::Never,
        ["flaps", time] => {
            manners.unchokes = Unchokes::Flap {
                period: duration(time)?,
            };
        }
        ["serves", "never"] => manners.serves = Serves::Never,
        ["serves", "rejects"] => manners.serves = Serves::Rejects,
        ["serves", "wrong"] => manners.serves = Serves::Wrong { one_in: 1 },
        ["serves", "wrong", block] => {
            let raw = words::parse_block(block, scenario.geometry)?;
            manners.serves = Serves::WrongAt {
                piece: raw.piece,
                offset: raw.offset,
            };
        }
        ["metadata", how] => manners.metadata = metadata(how, None)?,
        ["metadata", how, n] => manners.metadata = metadata(how, Some(n))?,
        ["no", "pex"] => manners.pex = false,
        ["no", "dont-have"] => manners.dont_have = false,
        ["ignores", "cancels"] => manners.ignores_cancels = true,
        ["leeches"] => manners.leeches = true,
        ["never", "reads"] => manners.reads = false,
        ["allows", list] => {
            manners.allows_fast = pieces(list, scenario.geometry)?
                .iter()
                .map(|p| p.get())
                .collect();
        }
        ["reqq", n] => manners.reqq = Some(n.parse().ok()?),
        ["hello", "drip"] => manners.hello = Hello::Drip,
        ["hello", "never"] => manners.hello = Hello::Never,
        ["hello", "nonsense"] => manners.hello = Hello::Nonsense,
        ["hello", "other"] => manners.hello = Hello::OtherTorrent,
        ["floods", "haves", n] => manners.haves_per_tick = n.parse().ok()?,
        ["floods", "requests", n] => manners.requests_per_tick = n.parse().ok()?,
        ["oversize"] => manners.oversize_every = Some(5),
        ["id", "of", "node"] => peer.id = Some(SameId::Node),
        ["id", "of", name] => peer.id = Some(SameId::Peer(by_name(scenario, name).ok()?)),
        ["up", rate] => peer.link.up = rate.parse().ok()?,
        ["dials"] => peer.dials = Some(Instant::ZERO + Duration::from_millis(10)),
        ["dials", "at", time] => peer.dials = Some(Instant::ZERO + duration(time)?),
        _ => return None,
    }
    Some(())
}

fn metadata(how: &str, n: Option<&str>) -> Option<Option<MetadataManners>> {
    let number = || n?.parse().ok();
    Some(Some(match how {
        "none" => return Some(None),
        "right" => MetadataManners::Right,
        "wrong" if n.is_some() => MetadataManners::WrongAt(number()?),
        "wrong" => MetadataManners::Wrong,
        "larger" => MetadataManners::Larger,
        "silent" => MetadataManners::Silent,
        "rejects" => MetadataManners::Rejects,
        "lacks" => MetadataManners::Lacks,
        "of" => MetadataManners::Sized(number()?),
        _ => return None,
    }))
}

fn expect(scenario: &Scenario, text: &str) -> Parsed<Expect> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let numbers = || {
        let words = rest.split_whitespace().map(str::parse::<u32>);
        words
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| "not numbers")
    };
    Ok(match (word, rest) {
        ("done", _) => Expect::Done,
        ("not", "done") => Expect::NotDone,
        ("metadata", _) => Expect::Metadata(true),
        ("no", "metadata") => Expect::Metadata(false),
        ("closed", rest) => {
            let (name, why) = rest.split_once(':').unwrap_or((rest, ""));
            Expect::Closed {
                peer: by_name(scenario, name)?,
                why: why.trim().to_owned(),
            }
        }
        ("open", name) => Expect::Open(by_name(scenario, name)?),
        ("banned", "none") => Expect::Banned(None),
        ("banned", name) => Expect::Banned(Some(by_name(scenario, name)?)),
        ("pieces", _) => Expect::Pieces(numbers()?),
        ("files", _) => Expect::Files(numbers()?),
        ("wasted", rest) => {
            let most = rest.strip_prefix("<= ").and_then(|n| n.parse().ok());
            Expect::WastedAtMost(most.ok_or("wasted <= BYTES")?)
        }
        ("opened", rest) => {
            let (name, times) = rest.split_once(' ').ok_or("opened PEER TIMES")?;
            Expect::Opened {
                peer: by_name(scenario, name)?,
                times: times.parse().map_err(|_| "opened PEER TIMES")?,
            }
        }
        _ => return Err(format!("`{text}` cannot be expected")),
    })
}
