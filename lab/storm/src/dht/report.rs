//! What a run comes to.

use std::fmt;
use std::time::Duration;

/// One lookup that counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// It was there to announce; nobody had announced that before.
    pub(crate) announces: bool,
    /// Until it was over, announces included.
    pub(crate) took: Duration,
    /// Until the first peer that is really there; `None` if it found none.
    pub(crate) first: Option<Duration>,
    pub(crate) queries: u32,
    pub(crate) answers: u32,
    pub(crate) stored: u32,
    pub(crate) bytes: u64,
    /// Questions to the network that was aimed at.
    pub(crate) victims: u32,
}

/// What a flood got out of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flood {
    pub(crate) packets: u64,
    replies: u64,
    /// Bytes of replies in each second.
    seconds: Vec<usize>,
    /// Other datagrams that it made the node send.
    others: u64,
}

impl Flood {
    pub(crate) fn add(&mut self, second: usize, bytes: usize, reply: bool) {
        if !reply {
            self.others += 1;
            return;
        }
        self.replies += 1;
        self.seconds.resize(self.seconds.len().max(second + 1), 0);
        self.seconds[second] += bytes;
    }

    /// Bytes of replies in the worst second.
    pub(crate) fn worst(&self) -> usize {
        self.seconds.iter().copied().max().unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Lookups for what was announced.
    finds: Vec<Sample>,
    announces: Vec<Sample>,
    flood: Option<Flood>,
    /// Nodes in a table, in the mean.
    table: f64,
    packets_per_hour: f64,
    bytes_per_sec: f64,
    events: u64,
}

const SUCCESS_MIN: f64 = 99.0;
const MEDIAN_MAX: Duration = Duration::from_millis(1_500);
const FLOOD_BYTES_MAX: usize = 8_000;

impl Report {
    pub(crate) fn new(
        samples: Vec<Sample>,
        flood: Option<Flood>,
        table: f64,
        packets_per_hour: f64,
        bytes_per_sec: f64,
        events: u64,
    ) -> Self {
        let (announces, finds) = samples.into_iter().partition(|it| it.announces);
        Self {
            finds,
            announces,
            flood,
            table,
            packets_per_hour,
            bytes_per_sec,
            events,
        }
    }

    /// Percent of the lookups that found a peer that is there.
    pub(crate) fn success(&self) -> f64 {
        let found = self.finds.iter().filter(|it| it.first.is_some()).count();
        100.0 * found as f64 / self.finds.len().max(1) as f64
    }

    pub(crate) fn median(&self) -> Duration {
        percentile(self.finds.iter().map(|it| it.took), 50)
    }

    /// What is not as it must be.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.finds.is_empty() {
            return Some("nothing was looked for".to_owned());
        }
        if self.success() < SUCCESS_MIN {
            return Some(format!("{:.2} % of the lookups succeeded", self.success()));
        }
        if self.median() > MEDIAN_MAX {
            return Some(format!("the median lookup took {:?}", self.median()));
        }
        let worst = self.flood.as_ref().map_or(0, Flood::worst);
        (worst > FLOOD_BYTES_MAX).then(|| format!("a flood got {worst} bytes in a second"))
    }
}

fn percentile(of: impl Iterator<Item = Duration>, percent: usize) -> Duration {
    let mut all: Vec<_> = of.collect();
    all.sort();
    let at = (all.len().max(1) - 1) * percent / 100;
    all.get(at).copied().unwrap_or_default()
}

fn mean(of: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = of.len().max(1) as f64;
    of.sum::<f64>() / n
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finds = &self.finds;
        let millis = |time: Duration| time.as_millis();
        let took = |percent| millis(percentile(finds.iter().map(|it| it.took), percent));
        let first = |percent| millis(percentile(finds.iter().filter_map(|it| it.first), percent));
        writeln!(
            f,
            "{} lookups, {:.2} % found a live peer; over after {} ms (median), {} ms (p90), {} ms (p99); \
             first peer after {} ms (median), {} ms (p99)",
            finds.len(),
            self.success(),
            took(50),
            took(90),
            took(99),
            first(50),
            first(99),
        )?;
        writeln!(
            f,
            "a lookup: {:.1} queries, {:.1} answers, {:.1} messages, {:.0} bytes both ways; \
             to an innocent network at most {}, {:.3} in the mean",
            mean(finds.iter().map(|it| it.queries.into())),
            mean(finds.iter().map(|it| it.answers.into())),
            mean(finds.iter().map(|it| f64::from(it.queries + it.answers))),
            mean(finds.iter().map(|it| it.bytes as f64)),
            finds.iter().map(|it| it.victims).max().unwrap_or(0),
            mean(finds.iter().map(|it| it.victims.into())),
        )?;
        writeln!(
            f,
            "{} announces: taken by {:.1} nodes, over after {} ms (median)",
            self.announces.len(),
            mean(self.announces.iter().map(|it| it.stored.into())),
            millis(percentile(self.announces.iter().map(|it| it.took), 50)),
        )?;
        writeln!(
            f,
            "a node: {:.0} nodes in its table, sends {:.0} messages an hour, {:.0} bytes a second",
            self.table, self.packets_per_hour, self.bytes_per_sec,
        )?;
        if let Some(flood) = &self.flood {
            writeln!(
                f,
                "a flood of {} packets in 10 s: {} replies, {} bytes in the worst second, {} other datagrams",
                flood.packets,
                flood.replies,
                flood.worst(),
                flood.others,
            )?;
        }
        write!(f, "{} events", self.events)
    }
}
