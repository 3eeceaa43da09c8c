//! How puppets behave, as data; and the cast of those that mean harm.

use std::time::Duration;

use torr_base::PeerId;

/// What a puppet says that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claims {
    /// What it has.
    Truth,
    /// Everything.
    All,
    /// Not a word.
    Nothing,
    /// A bitfield one byte too long.
    WrongLength,
    /// A bitfield with bits past the last piece; a right one where there are none.
    SpareBits,
}

/// How a puppet opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// As BEP 3 has it.
    Normal,
    /// A byte every half second.
    Drip,
    /// Never.
    Never,
    /// Another protocol.
    Nonsense,
    /// For a torrent that nobody has.
    OtherTorrent,
}

/// Whether a puppet lets others ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchokes {
    /// Never.
    Never,
    /// When the other says that it is interested.
    AtOnce,
    /// So long after the connection opened.
    After(Duration),
    /// On and off.
    Flap {
        /// How long each lasts.
        period: Duration,
    },
    /// When the script says so.
    Scripted,
}

/// What a puppet sends when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The block.
    Right,
    /// Nothing.
    Never,
    /// Rejects, where they are agreed to; else nothing.
    Rejects,
    /// A wrong block, once in so many.
    Wrong {
        /// 1 for always.
        one_in: u64,
    },
    /// This one block wrong, all others right.
    WrongAt {
        /// Its piece.
        piece: u32,
        /// Bytes from the start of the piece.
        offset: u32,
    },
}

/// What a puppet does about the metadata (BEP 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataManners {
    /// It has it, says how long it is, and gives it.
    Right,
    /// It gives something else of the same length.
    Wrong,
    /// This one block is wrong.
    WrongAt(u32),
    /// It says that it has so much, and gives that.
    Sized(u32),
    /// Each block is of something longer than it said.
    Larger,
    /// It never answers.
    Silent,
    /// It rejects every request.
    Rejects,
    /// It asks, and has nothing.
    Lacks,
}

/// How a puppet behaves. The default is a polite peer of BEP 3 and 6 that serves what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manners {
    /// Speaks BEP 6.
    pub fast: bool,
    /// Speaks BEP 10.
    pub extended: bool,
    /// Its opening.
    pub hello: Hello,
    /// A peer id that is not its own.
    pub id: Option<PeerId>,
    /// What it says that it has.
    pub claims: Claims,
    /// Requests that it says it queues (BEP 10).
    pub reqq: Option<u32>,
    /// Pieces that it lets others have while it chokes them.
    pub allows_fast: Vec<u32>,
    /// Whether it lets others ask.
    pub unchokes: Unchokes,
    /// What it answers.
    pub serves: Serves,
    /// Speaks BEP 9, and how.
    pub metadata: Option<MetadataManners>,
    /// Speaks BEP 11, but says nothing of its own accord.
    pub pex: bool,
    /// Speaks BEP 54.
    pub dont_have: bool,
    /// Sends blocks although they were cancelled.
    pub ignores_cancels: bool,
    /// Downloads.
    pub leeches: bool,
    /// Reads what it is sent.
    pub reads: bool,
    /// `have`s every tenth of a second.
    pub haves_per_tick: u32,
    /// Requests every tenth of a second, asked for or not.
    pub requests_per_tick: u32,
    /// A block that nobody asked for, every so many tenths of a second.
    pub pushes_every: Option<u64>,
    /// A message of a gigabyte, every so many tenths of a second.
    pub oversize_every: Option<u64>,
    /// Hangs up after so long.
    pub leaves_after: Option<Duration>,
    /// Dials whoever it knows again and again.
    pub redials: Option<Duration>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            fast: true,
            extended: true,
            hello: Hello::Normal,
            id: None,
            claims: Claims::Truth,
            reqq: Some(250),
            allows_fast: Vec::new(),
            unchokes: Unchokes::AtOnce,
            serves: Serves::Right,
            metadata: Some(MetadataManners::Right),
            pex: true,
            dont_have: true,
            ignores_cancels: false,
            leeches: false,
            reads: true,
            haves_per_tick: 0,
            requests_per_tick: 0,
            pushes_every: None,
            oversize_every: None,
            leaves_after: None,
            redials: None,
        }
    }
}

/// The hostile ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Villain {
    /// Takes and never gives.
    FreeRider,
    /// Sends wrong blocks, always.
    Liar,
    /// Sends a wrong block now and then.
    SlyLiar,
    /// Lets others ask and never answers.
    Snubber,
    /// Takes half a minute for a handshake.
    SlowLoris,
    /// Chokes and unchokes all the time.
    ChokeFlapper,
    /// Claims everything and rejects every request.
    Forger,
    /// Sends a bitfield that cannot be.
    MalformedBitfield,
    /// Sends `have`s all the time.
    HaveFlooder,
    /// Sends requests all the time.
    RequestFlooder,
    /// Asks and never reads the answers.
    NeverReads,
    /// Sends blocks that nobody asked for.
    Pusher,
    /// Sends a message that is too long.
    Oversizer,
    /// Has everything and gives nothing.
    NeverUnchokes,
    /// Comes and goes.
    Restless,
    /// Gives wrong metadata, and pieces that are right.
    MetadataLiar,
    /// Has metadata of a length of its own making, and never gives it.
    MetadataHoarder,
}

impl Villain {
    /// All of them that mean harm to everybody.
    pub const ALL: [Self; 15] = [
        Self::FreeRider,
        Self::Liar,
        Self::SlyLiar,
        Self::Snubber,
        Self::SlowLoris,
        Self::ChokeFlapper,
        Self::Forger,
        Self::MalformedBitfield,
        Self::HaveFlooder,
        Self::RequestFlooder,
        Self::NeverReads,
        Self::Pusher,
        Self::Oversizer,
        Self::NeverUnchokes,
        Self::Restless,
    ];

    /// Those that mean harm to whoever has only the info-hash.
    pub const ABOUT_METADATA: [Self; 2] = [Self::MetadataLiar, Self::MetadataHoarder];

    /// Whether it has every piece, or pretends to.
    #[must_use]
    pub fn has_all(self) -> bool {
        !matches!(self, Self::FreeRider)
    }

    /// How it behaves.
    #[must_use]
    pub fn manners(self) -> Manners {
        let redials = Some(Duration::from_secs(20));
        let evil = Manners {
            claims: Claims::All,
            redials,
            ..Manners::default()
        };
        match self {
            Self::FreeRider => Manners {
                leeches: true,
                claims: Claims::Truth,
                unchokes: Unchokes::Never,
                ..evil
            },
            Self::Liar => Manners {
                serves: Serves::Wrong { one_in: 1 },
                ..evil
            },
            Self::SlyLiar => Manners {
                serves: Serves::Wrong { one_in: 20 },
                ..evil
            },
            Self::Snubber => Manners {
                serves: Serves::Never,
                ..evil
            },
            Self::SlowLoris => Manners {
                hello: Hello::Drip,
                ..evil
            },
            Self::ChokeFlapper => Manners {
                unchokes: Unchokes::Flap {
                    period: Duration::from_millis(700),
                },
                ..evil
            },
            Self::Forger => Manners {
                serves: Serves::Rejects,
                ..evil
            },
            Self::MalformedBitfield => Manners {
                claims: Claims::WrongLength,
                ..evil
            },
            Self::HaveFlooder => Manners {
                haves_per_tick: 200,
                claims: Claims::Truth,
                ..evil
            },
            Self::RequestFlooder => Manners {
                requests_per_tick: 300,
                ..evil
            },
            Self::NeverReads => Manners {
                requests_per_tick: 5,
                leeches: true,
                reads: false,
                claims: Claims::Nothing,
                ..evil
            },
            Self::Pusher => Manners {
                pushes_every: Some(13),
                ..evil
            },
            Self::Oversizer => Manners {
                oversize_every: Some(30),
                ..evil
            },
            Self::NeverUnchokes => Manners {
                unchokes: Unchokes::Never,
                ..evil
            },
            Self::Restless => Manners {
                leaves_after: Some(Duration::from_secs(5)),
                ..evil
            },
            Self::MetadataLiar => Manners {
                metadata: Some(MetadataManners::Wrong),
                ..evil
            },
            Self::MetadataHoarder => Manners {
                metadata: Some(MetadataManners::Silent),
                ..evil
            },
        }
    }
}
