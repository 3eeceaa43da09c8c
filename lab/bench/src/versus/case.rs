//! The cases, and what torr is to reach in each: a table.

use super::client::Task;
use super::ground::Data;
use super::options::{FULL, Options};

const MIB4: u32 = 4 << 20;
const KIB256: u32 = 256 << 10;
const FILES: u32 = 20_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) task: Task,
    pub(crate) amount: Amount,
    pub(crate) piece_len: u32,
    pub(crate) peers: usize,
    /// Everybody encrypts everything, and takes nothing else.
    pub(crate) rc4: bool,
    /// All contenders that can, or these alone.
    pub(crate) only: Option<&'static [&'static str]>,
    /// Hashing is most of the work: without AVX-512 the goals against rivals are weaker.
    pub(crate) hashes: bool,
    pub(crate) goals: &'static [Goal],
}

/// How much data: times the basic size, or fixed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    Times(u64),
    Bytes(u64),
    Files,
}

/// A figure of torr's that must be at most `factor` times another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) who: &'static str,
    pub(crate) figure: Figure,
    pub(crate) factor: f64,
    pub(crate) against: Against,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// User and system CPU seconds for a GiB.
    Total,
    User,
    Sys,
    /// Seconds.
    Wall,
    /// MiB.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    BestRival,
    /// The best rival of another case of the same run.
    BestRivalIn(&'static str),
    Floor,
    /// torr in another case of the same run.
    TorrIn(&'static str),
    /// The factor is the limit itself.
    Nothing,
}

const fn goal(figure: Figure, factor: f64, against: Against) -> Goal {
    Goal {
        who: "torr",
        figure,
        factor,
        against,
    }
}

const LEECH: Case = Case {
    name: "leech-4m",
    title: "download from one peer, 4 MiB pieces",
    task: Task::Leech,
    amount: Amount::Times(1),
    piece_len: MIB4,
    peers: 1,
    rc4: false,
    only: None,
    hashes: true,
    goals: &[
        goal(Figure::Total, 0.5, Against::BestRival),
        goal(Figure::User, 0.4, Against::BestRival),
        goal(Figure::Total, 1.4, Against::Floor),
    ],
};
const SWARM_GOALS: &[Goal] = &[
    goal(Figure::Total, 0.5, Against::BestRival),
    goal(Figure::Total, 1.6, Against::TorrIn("leech-4m")),
];
/// What grows with the number of peers or pieces, and must not make a block dear.
const LINEAR: Case = Case {
    name: "leech-200",
    title: "download from 200 peers, 4 MiB pieces",
    peers: 200,
    only: Some(&["torr"]),
    goals: &[goal(Figure::Total, 1.6, Against::TorrIn("leech-4m"))],
    ..LEECH
};
const RC4_GOALS: &[Goal] = &[goal(Figure::Total, 0.9, Against::BestRival)];
const SEED: Case = Case {
    name: "seed-1",
    title: "seed to one peer",
    task: Task::Seed,
    hashes: false,
    goals: &[goal(Figure::Total, 0.7, Against::BestRival)],
    ..LEECH
};
const RECHECK: Case = Case {
    name: "recheck",
    title: "verify data in the page cache, on two CPUs",
    task: Task::Check,
    amount: Amount::Times(2),
    goals: &[
        goal(Figure::Wall, 0.5, Against::BestRival),
        goal(Figure::Total, 0.5, Against::BestRival),
    ],
    ..LEECH
};

/// In the order in which data can be kept from one to the next.
pub(crate) const CASES: &[Case] = &[
    LEECH,
    Case {
        name: "leech-256k",
        title: "download from one peer, 256 KiB pieces",
        piece_len: KIB256,
        goals: &[goal(Figure::Total, 0.5, Against::BestRival)],
        ..LEECH
    },
    Case {
        name: "leech-8",
        title: "download from 8 peers, 4 MiB pieces",
        peers: 8,
        goals: SWARM_GOALS,
        ..LEECH
    },
    Case {
        name: "leech-50",
        title: "download from 50 peers, 4 MiB pieces",
        peers: 50,
        goals: SWARM_GOALS,
        ..LEECH
    },
    LINEAR,
    Case {
        name: "leech-131072",
        title: "download from one peer, 131,072 pieces of 32 KiB",
        piece_len: 32 << 10,
        peers: 1,
        ..LINEAR
    },
    Case {
        name: "leech-16m",
        title: "download from one peer, 16 MiB pieces",
        piece_len: 16 << 20,
        peers: 1,
        ..LINEAR
    },
    Case {
        name: "leech-rc4",
        title: "download from one peer, RC4 forced on both sides",
        rc4: true,
        goals: RC4_GOALS,
        ..LEECH
    },
    SEED,
    Case {
        name: "seed-20",
        title: "seed to 20 peers",
        peers: 20,
        ..SEED
    },
    Case {
        name: "seed-rc4",
        title: "seed to one peer, RC4 forced on both sides",
        rc4: true,
        goals: RC4_GOALS,
        ..SEED
    },
    Case {
        name: "memory",
        title: "memory while downloading, 4 MiB pieces",
        only: Some(&["torr", "torr-24m"]),
        goals: &[
            goal(Figure::Memory, 64.0, Against::Nothing),
            Goal {
                who: "torr-24m",
                ..goal(Figure::Memory, 24.0, Against::Nothing)
            },
            Goal {
                who: "torr-24m",
                ..goal(Figure::Total, 1.0, Against::BestRivalIn("leech-4m"))
            },
        ],
        ..LEECH
    },
    RECHECK,
    Case {
        name: "create",
        title: "make a torrent of data in the page cache, on two CPUs",
        task: Task::Create,
        goals: &[goal(Figure::Wall, 0.5, Against::BestRival)],
        ..RECHECK
    },
    Case {
        name: "files-20000",
        title: "download 20,000 files of 4 to 64 KiB",
        amount: Amount::Files,
        piece_len: KIB256,
        hashes: false,
        goals: &[
            goal(Figure::Wall, 0.8, Against::BestRival),
            goal(Figure::Total, 0.8, Against::BestRival),
        ],
        ..LEECH
    },
    Case {
        name: "small",
        title: "download 1 MiB, from the start of the program",
        amount: Amount::Bytes(1 << 20),
        piece_len: KIB256,
        hashes: false,
        goals: &[goal(Figure::Wall, 0.06, Against::Nothing)],
        ..LEECH
    },
];

impl Amount {
    pub(crate) fn data(self, options: &Options) -> Data {
        match self {
            Self::Times(times) => Data::Single(options.basic_size() * times),
            Self::Bytes(bytes) => Data::Single(bytes),
            Self::Files => {
                let files = u64::from(FILES) * options.size.unwrap_or(FULL).min(FULL) / FULL;
                Data::Many(u32::try_from(files).unwrap_or(FILES).max(100))
            }
        }
    }
}

impl Case {
    /// What the case is about: its first goal's figure, by which the table is sorted and the plot drawn.
    pub(crate) fn main_figure(&self) -> Figure {
        self.goals.first().map_or(Figure::Total, |goal| goal.figure)
    }
}

impl Goal {
    /// Hash-bound goals against rivals, where the wide instructions are missing.
    pub(crate) fn factor_on(&self, avx512: bool, hashes: bool) -> f64 {
        let weak = hashes && !avx512 && self.against == Against::BestRival;
        if weak {
            self.factor.max(0.8)
        } else {
            self.factor
        }
    }
}
