//! Why nothing comes, in plain words.

use torr::{
    MetadataStats, PeerStats, SearchStats, Torrent, TorrentStats, TrackerState, TrackerStatus,
};

use crate::failure::plain;
use crate::units;
use torr_base::printable;

/// Asks the session about peers and trackers, and says what is the matter.
pub(crate) async fn why(torrent: Torrent, peers_are_named: bool) -> String {
    let stats = torrent.stats();
    let (peers, trackers) = (torrent.peers().await, torrent.trackers().await);
    explain(&stats, &peers, &trackers, peers_are_named)
}

fn explain(
    stats: &TorrentStats,
    peers: &[PeerStats],
    trackers: &[TrackerStatus],
    peers_are_named: bool,
) -> String {
    let count = units::count(peers.len() as u64, "peer");
    if peers.is_empty() {
        return match (stats.half_open, stats.candidates) {
            (0, 0) => no_addresses(trackers, stats.dht, peers_are_named),
            (0, known) => {
                let known =
                    units::count(u64::from(known), "address").replace("addresss", "addresses");
                match stats.last_failure {
                    None => format!("no peers: none of {known} answers so far"),
                    Some((addr, why)) => format!("no peers: of {known}, {addr} {why}"),
                }
            }
            (dialled, _) => format!("no peers yet: connecting to {dialled}"),
        };
    }
    if let Some(metadata) = &stats.metadata {
        return no_metadata(metadata, &count);
    }
    if !peers.iter().any(|peer| peer.interesting) {
        return format!("{count}, none has what is missing here");
    }
    let useful = peers.iter().filter(|peer| peer.interesting);
    if useful.clone().all(|peer| peer.chokes_us) {
        return format!("{count}, all that have something for us let us wait (choked)");
    }
    if useful.clone().all(|peer| peer.chokes_us || peer.snubbed) {
        return format!("{count}, those that let us ask do not answer");
    }
    format!("{count}, waiting for the first data")
}

/// There are peers, and yet no metadata.
fn no_metadata(metadata: &MetadataStats, peers: &str) -> String {
    match (metadata.sources, metadata.too_large) {
        (0, Some(size)) => format!(
            "{peers}, whose metadata of {} is more than is fetched",
            units::size(u64::from(size))
        ),
        (0, None) => format!("{peers}, none has the metadata"),
        (sources, _) => format!("{peers}, waiting for {sources} of them to send the metadata"),
    }
}

/// Nobody to connect to: the trackers are to blame, the most telling one first.
fn no_addresses(
    trackers: &[TrackerStatus],
    dht: Option<SearchStats>,
    peers_are_named: bool,
) -> String {
    let in_state = |state| trackers.iter().find(move |tracker| tracker.state == state);
    if let Some(tracker) = in_state(TrackerState::Working) {
        let nor = match dht {
            Some(dht) if dht.answers > 0 => ", nor does the DHT",
            Some(_) | None => "",
        };
        return format!("no peers: {} knows of none{nor}", host(&tracker.url));
    }
    if let Some(tracker) = trackers.iter().find(|tracker| tracker.last_error.is_some()) {
        let error = tracker.last_error.as_deref().unwrap_or_default();
        return format!(
            "no peers: {}: {}",
            host(&tracker.url),
            plain(&printable(error))
        );
    }
    if let Some(tracker) = in_state(TrackerState::Announcing) {
        return format!("no peers yet: waiting for {} to answer", host(&tracker.url));
    }
    if let Some(dht) = dht {
        return no_addresses_by_dht(dht);
    }
    match (trackers.is_empty(), peers_are_named) {
        (true, true) => "no peers: those of --peer are not there".to_owned(),
        (true, false) => {
            "no peers: the torrent names no tracker; try --tracker or --peer".to_owned()
        }
        (false, _) => "no peers yet".to_owned(),
    }
}

/// … and there is no tracker, or none that is worth a word.
fn no_addresses_by_dht(dht: SearchStats) -> String {
    let answers = units::count(u64::from(dht.answers), "node");
    match (dht.rounds, dht.answers) {
        (0, _) => "no peers yet: asking the DHT".to_owned(),
        (_, 0) => {
            "no peers: no node of the DHT answers; is UDP blocked? --dht-node, --tracker or --peer \
             may help"
                .to_owned()
        }
        (_, _) => format!("no peers: the DHT knows of none ({answers} asked)"),
    }
}

/// `tracker.example:6969` of a masked URL: enough to know which one it is.
pub(super) fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    printable(host).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(url: &str, state: TrackerState, error: Option<&str>) -> TrackerStatus {
        TrackerStatus {
            tier: 0,
            url: url.to_owned(),
            state,
            last_error: error.map(str::to_owned),
            warning: None,
            seeds: None,
            leechers: None,
            peers: 0,
            next_announce: None,
        }
    }

    #[test]
    fn trackers_are_named_with_their_reason() {
        let dead = tracker(
            "udp://dead.example:1/announce",
            TrackerState::Failing,
            Some("timed out"),
        );
        let slow = tracker(
            "http://slow.example/announce/***",
            TrackerState::Announcing,
            None,
        );
        let empty = tracker("http://empty.example/a", TrackerState::Working, None);
        let text = |trackers: &[TrackerStatus]| no_addresses(trackers, None, false);
        assert_eq!(
            text(std::slice::from_ref(&slow)),
            "no peers yet: waiting for slow.example to answer"
        );
        assert_eq!(
            text(&[slow.clone(), dead.clone()]),
            "no peers: dead.example:1: timed out"
        );
        assert_eq!(
            text(&[slow, dead, empty]),
            "no peers: empty.example knows of none"
        );
        assert!(text(&[]).contains("--tracker"));
    }

    #[test]
    fn the_dht_is_named_where_it_is_what_is_left() {
        let dht = |rounds, answers| SearchStats {
            rounds,
            answers,
            ..SearchStats::default()
        };
        let text = |dht| no_addresses(&[], Some(dht), false);
        assert_eq!(text(dht(0, 0)), "no peers yet: asking the DHT");
        assert!(text(dht(1, 0)).contains("UDP"));
        assert_eq!(
            text(dht(2, 31)),
            "no peers: the DHT knows of none (31 nodes asked)"
        );
        let empty = tracker("http://empty.example/a", TrackerState::Working, None);
        assert_eq!(
            no_addresses(&[empty], Some(dht(1, 5)), false),
            "no peers: empty.example knows of none, nor does the DHT"
        );
    }
}
