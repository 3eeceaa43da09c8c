//! What a person sees of a torrent at one moment, as text.

use std::time::Duration;

use crate::units;

/// The figures of one torrent, ready to be shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) phase: Phase,
    /// Bytes: verified, or checked so far while it is being checked.
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) uploaded: u64,
    pub(crate) peers: u32,
    pub(crate) seeds: u32,
    pub(crate) web_seeds: u32,
    /// Seconds.
    pub(crate) eta: Option<u64>,
    /// Why nothing comes.
    pub(crate) stalled: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// What a link stands for is looked for.
    Metadata,
    #[default]
    Checking,
    Downloading,
    /// All is here; the disk is told to keep it.
    Syncing,
    Seeding,
    Stopping,
    /// The storage said no; why is in `stalled`.
    Waiting,
    /// Files of this machine are read.
    Hashing,
}

impl View {
    /// ` 41%  2.4/5.9 GB  ↓ 86.1 MB/s ↑ 3.2 MB/s  38 peers (21 seeds)  eta 0:40`
    pub(crate) fn line(&self) -> String {
        match self.phase {
            Phase::Metadata => self.fetching(),
            Phase::Checking => format!("{}  checking what is there", self.share()),
            Phase::Syncing => format!("{}  making it durable", self.share()),
            Phase::Stopping => format!("{}  saving and saying goodbye", self.share()),
            Phase::Waiting => {
                let why = self.stalled.as_deref().unwrap_or("waiting for the disk");
                format!("{}  {why}", self.share())
            }
            Phase::Hashing => format!("{}  {}", self.share(), units::rate(self.down)),
            Phase::Seeding => format!(
                "seeding  ↑ {}  uploaded {} (ratio {:.2})  {}",
                units::rate(self.up),
                units::size(self.uploaded),
                ratio(self.uploaded, self.total),
                self.peers()
            ),
            Phase::Downloading => self.downloading(),
        }
    }

    /// `fetching metadata  16.4/40.0 kB  3 peers`
    fn fetching(&self) -> String {
        if let Some(why) = &self.stalled {
            return format!("fetching metadata  {why}");
        }
        match (self.peers, self.total) {
            (0, _) => "fetching metadata  looking for peers".to_owned(),
            (peers, 0) => format!(
                "fetching metadata  {}",
                units::count(u64::from(peers), "peer")
            ),
            (peers, total) => format!(
                "fetching metadata  {}  {}",
                units::size_of(self.done, total),
                units::count(u64::from(peers), "peer")
            ),
        }
    }

    fn downloading(&self) -> String {
        let share = self.share();
        if let Some(why) = &self.stalled {
            return format!("{share}  {why}");
        }
        if self.peers == 0 && self.down == 0 {
            let waits = match self.web_seeds {
                0 => "looking for peers".to_owned(),
                n => format!("waiting for {}", units::count(u64::from(n), "web seed")),
            };
            return format!("{share}  {waits}");
        }
        let (down, up) = (units::rate(self.down), units::rate(self.up));
        let eta = self.eta.map_or_else(
            || "eta -".to_owned(),
            |secs| format!("eta {}", units::clock(secs)),
        );
        let web = match self.web_seeds {
            0 => String::new(),
            n => format!(", {}", units::count(u64::from(n), "web seed")),
        };
        format!("{share}  ↓ {down} ↑ {up}  {}{web}  {eta}", self.peers())
    }

    /// ` 41%  2.4/5.9 GB`: 100 % only when it is all.
    fn share(&self) -> String {
        let percent = match self.total {
            0 => 100,
            total => u128::from(self.done) * 100 / u128::from(total),
        };
        format!("{percent:>3}%  {}", units::size_of(self.done, self.total))
    }

    fn peers(&self) -> String {
        let peers = units::count(u64::from(self.peers), "peer");
        format!("{peers} ({})", units::count(u64::from(self.seeds), "seed"))
    }
}

pub(crate) fn ratio(uploaded: u64, size: u64) -> f64 {
    match size {
        0 => 0.0,
        size => uploaded as f64 / size as f64,
    }
}

/// How a torrent that is done got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) took: Duration,
    pub(crate) size: u64,
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    pub(crate) goes_on_seeding: bool,
    /// What to do next is worth a word.
    pub(crate) advises: bool,
}

impl Summary {
    /// `done in 1:09, 5.9 GB, verified; uploaded 0.2 GB (ratio 0.04). Keep seeding with --seed.`
    pub(crate) fn line(&self) -> String {
        let size = units::size(self.size);
        if self.downloaded == 0 {
            let rest = match (self.goes_on_seeding, self.advises) {
                (true, _) => "; seeding",
                (false, true) => ", nothing to download. Seed it with --seed.",
                (false, false) => "",
            };
            return format!("complete already, {size}, verified{rest}");
        }
        let secs = units::clock(self.took.as_secs_f64().round() as u64);
        let uploaded = units::size_like(self.uploaded, self.size);
        let ratio = ratio(self.uploaded, self.size);
        let rest = match (self.goes_on_seeding, self.advises) {
            (true, _) => "; seeding",
            (false, true) => ". Keep seeding with --seed.",
            (false, false) => "",
        };
        format!("done in {secs}, {size}, verified; uploaded {uploaded} (ratio {ratio:.2}){rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            phase: Phase::Downloading,
            done: 2_430_000_000,
            total: 5_900_000_000,
            down: 86_100_000,
            up: 3_200_000,
            peers: 38,
            seeds: 21,
            eta: Some(40),
            ..View::default()
        }
    }

    #[test]
    fn lines_of_all_phases() {
        let line = " 41%  2.4/5.9 GB  ↓ 86.1 MB/s ↑ 3.2 MB/s  38 peers (21 seeds)  eta 0:40";
        assert_eq!(view().line(), line);
        let web = View {
            web_seeds: 2,
            ..view()
        };
        let line =
            " 41%  2.4/5.9 GB  ↓ 86.1 MB/s ↑ 3.2 MB/s  38 peers (21 seeds), 2 web seeds  eta 0:40";
        assert_eq!(web.line(), line);
        let stalled = View {
            stalled: Some("no peers: tracker.example knows none".to_owned()),
            ..view()
        };
        assert_eq!(
            stalled.line(),
            " 41%  2.4/5.9 GB  no peers: tracker.example knows none"
        );
        let seeding = View {
            phase: Phase::Seeding,
            done: 100,
            total: 100,
            uploaded: 150,
            peers: 1,
            ..view()
        };
        let line = "seeding  ↑ 3.2 MB/s  uploaded 150 B (ratio 1.50)  1 peer (21 seeds)";
        assert_eq!(seeding.line(), line);
    }

    #[test]
    fn a_line_that_waits() {
        let waiting = View {
            phase: Phase::Waiting,
            stalled: Some("waiting for space on /data (needs 40.0 MB, 1.0 MB free)".to_owned()),
            ..view()
        };
        let line = " 41%  2.4/5.9 GB  waiting for space on /data (needs 40.0 MB, 1.0 MB free)";
        assert_eq!(waiting.line(), line);
    }

    #[test]
    fn lines_while_the_metadata_is_fetched() {
        let fetching = View {
            phase: Phase::Metadata,
            done: 0,
            total: 0,
            peers: 0,
            ..view()
        };
        let line = "fetching metadata  looking for peers";
        assert_eq!(fetching.line(), line);
        let fetching = View {
            done: 16_384,
            total: 40_000,
            peers: 3,
            ..fetching
        };
        assert_eq!(fetching.line(), "fetching metadata  16.4/40.0 kB  3 peers");
        let stalled = View {
            stalled: Some("no peers: tracker.example knows of none".to_owned()),
            ..fetching
        };
        let line = "fetching metadata  no peers: tracker.example knows of none";
        assert_eq!(stalled.line(), line);
    }

    #[test]
    fn no_hundred_percent_before_the_end() {
        let nearly = View {
            done: 999_999,
            total: 1_000_000,
            ..view()
        };
        assert!(nearly.line().starts_with(" 99%  1.0/1.0 MB"));
        let empty = View {
            done: 0,
            total: 0,
            phase: Phase::Checking,
            ..view()
        };
        assert_eq!(empty.line(), "100%  0/0 B  checking what is there");
    }

    #[test]
    fn last_lines() {
        let summary = Summary {
            took: Duration::from_secs(69),
            size: 5_900_000_000,
            downloaded: 5_900_000_000,
            uploaded: 236_000_000,
            goes_on_seeding: false,
            advises: true,
        };
        let line = "done in 1:09, 5.9 GB, verified; uploaded 0.2 GB (ratio 0.04). Keep seeding with --seed.";
        assert_eq!(summary.line(), line);
        let again = Summary {
            downloaded: 0,
            ..summary
        };
        let line = "complete already, 5.9 GB, verified, nothing to download. Seed it with --seed.";
        assert_eq!(again.line(), line);
    }
}
