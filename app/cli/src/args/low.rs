//! The words of the command line, split but not understood. What is not built yet is not here.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// A BitTorrent client for the command line.
#[derive(Debug, Parser)]
#[command(
    name = "torr",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    // Of an option that is there twice the last one counts, so that aliases can be overruled.
    args_override_self = true,
    disable_help_subcommand = true,
    override_usage = "torr [OPTIONS] <TORRENT>...\n       torr <COMMAND> ...",
    after_help = "`torr FILE.torrent -d DIR` downloads into DIR, checks every piece and exits; the same command \
                  goes on where it stopped.\n`torr COMMAND --help` tells more about a command."
)]
pub(crate) struct Low {
    #[command(flatten)]
    pub(crate) download: Box<DownloadArgs>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Download and exit: what torr does without a command
    Download(Box<DownloadArgs>),
    /// Show what is inside a torrent
    Info(InfoArgs),
    /// Make a torrent of a file or folder
    Create(CreateArgs),
    /// Verify the data on disk against a torrent
    Check(CheckArgs),
    /// Show the magnet link of a torrent, or what a magnet link says, or fetch what it stands for
    Magnet(MagnetArgs),
    /// Run a small tracker (HTTP and UDP)
    Tracker(TrackerArgs),
    /// Show what a download cannot do, by trying it
    Sandbox(SandboxArgs),
    /// Show torr at work on this machine alone: tracker, two seeds, one download
    Demo(DemoArgs),
    /// Show or explain the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completions for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_enum, hide_possible_values = true)]
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print each setting, its value, and where that came from
    Show,
}

#[derive(Debug, Default, Args)]
pub(crate) struct DownloadArgs {
    /// .torrent files, magnet links, info-hashes, URLs of .torrent files, or - for one on standard input
    #[arg(value_name = "TORRENT")]
    pub(crate) torrents: Vec<OsString>,

    /// Where to put it (created if missing) [default: .]
    #[arg(short, long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) dir: Option<OsString>,
    /// Another name for the top-level file or folder
    #[arg(short, long, value_name = "NAME")]
    pub(crate) output: Option<String>,
    /// Only some files: numbers 1-5,8, globs '*.mkv', sizes '>100M', without '!sample*'
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) select: Vec<String>,
    /// Show the files and leave
    #[arg(short, long)]
    pub(crate) list: bool,
    /// Download in order
    #[arg(short = 'S', long)]
    pub(crate) sequential: bool,
    /// More torrents, one a line, from a file (- is standard input)
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) input: Option<OsString>,

    /// Go on seeding until stopped
    #[arg(long, help_heading = "When to stop")]
    pub(crate) seed: bool,
    /// Seed until N times the size was uploaded
    #[arg(long, value_name = "N", help_heading = "When to stop")]
    pub(crate) ratio: Option<OsString>,
    /// Seed for this long: 30m, 2h, 7d
    #[arg(long, value_name = "T", help_heading = "When to stop")]
    pub(crate) seed_time: Option<OsString>,
    /// Seed each piece once and see that it is passed on, until others have all of them: for the first seed of a
    /// torrent
    #[arg(long, help_heading = "When to stop")]
    pub(crate) super_seed: bool,
    /// Give up if it is not done after this long
    #[arg(long, value_name = "T", help_heading = "When to stop")]
    pub(crate) timeout: Option<OsString>,
    /// Give up if nothing came for this long
    #[arg(long, value_name = "T", help_heading = "When to stop")]
    pub(crate) stall_timeout: Option<OsString>,

    /// At most this much in a second: 10M, 500KiB; 0 or none is no limit
    #[arg(short = 'D', long, value_name = "RATE", help_heading = "Network")]
    pub(crate) down: Option<OsString>,
    /// The same for uploads
    #[arg(short = 'U', long, value_name = "RATE", help_heading = "Network")]
    pub(crate) up: Option<OsString>,
    /// A peer to ask besides those that trackers name (repeatable)
    #[arg(long, value_name = "HOST:PORT", help_heading = "Network")]
    pub(crate) peer: Vec<String>,
    /// A tracker to ask besides those of the torrent (repeatable)
    #[arg(short, long, value_name = "URL", help_heading = "Network")]
    pub(crate) tracker: Vec<String>,
    /// Where to listen: a port or a range [default: the first free of 6881-6889, else any]
    #[arg(short, long, value_name = "N|A-B", help_heading = "Network")]
    pub(crate) port: Option<OsString>,
    /// Use only this address of this machine
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub(crate) bind: Option<OsString>,
    /// prefer (hide the handshake where the peer can), require (encrypt everything, refuse those that
    /// cannot) or off [default: prefer]
    #[arg(long, value_name = "HOW", help_heading = "Network")]
    pub(crate) encrypt: Option<OsString>,
    /// Send nothing to others
    #[arg(long, help_heading = "Network")]
    pub(crate) no_upload: bool,
    /// Do not use the DHT (private torrents never do)
    #[arg(long, help_heading = "Network")]
    pub(crate) no_dht: bool,
    /// A node to find the DHT by, instead of the well-known ones (repeatable)
    #[arg(long, value_name = "HOST:PORT", help_heading = "Network")]
    pub(crate) dht_node: Vec<String>,
    /// Look for peers on the local network (private torrents never do)
    #[arg(long, help_heading = "Network")]
    pub(crate) lsd: bool,
    /// Have the gateway (router) let connections in: PCP, NAT-PMP or UPnP
    #[arg(long, help_heading = "Network")]
    pub(crate) map_port: bool,
    /// Do not hear of peers from peers, nor tell them (private torrents never do)
    #[arg(long, help_heading = "Network")]
    pub(crate) no_pex: bool,
    /// Use web seeds in private networks, and follow redirects into them
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_private: bool,

    /// Write over existing files that are not of this torrent
    #[arg(long, help_heading = "Disk")]
    pub(crate) overwrite: bool,
    /// Verify all that is there before going on
    #[arg(long, help_heading = "Disk")]
    pub(crate) recheck: bool,
    /// Believe that files of the right length are right
    #[arg(long, conflicts_with = "recheck", help_heading = "Disk")]
    pub(crate) trust: bool,
    /// Reserve the space before the download
    #[arg(long, help_heading = "Disk")]
    pub(crate) preallocate: bool,
    /// When the disk is full, fails or is not mounted: wait and go on by itself (as with --seed) instead of
    /// ending
    #[arg(long, help_heading = "Disk")]
    pub(crate) wait_for_space: bool,
    /// Where to keep what is needed to resume [default: $XDG_STATE_HOME/torr]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath, help_heading = "Disk")]
    pub(crate) state: Option<OsString>,
    /// How much memory to use [default: 64MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Disk")]
    pub(crate) memory: Option<OsString>,
    /// auto, direct (past the page cache) or buffered; auto is direct where no peer is waiting for what
    /// came [default: auto]
    #[arg(long, value_name = "HOW", help_heading = "Disk")]
    pub(crate) io: Option<OsString>,

    /// Keep all rights: by default torr reads and writes nothing but the folders above and starts no program but that
    /// of --exec
    #[arg(long, help_heading = "Disk")]
    pub(crate) no_sandbox: bool,

    /// Run this when a torrent is done, with TORR_HASH TORR_NAME TORR_PATH TORR_SIZE set
    #[arg(long, value_name = "CMD", help_heading = "Output")]
    pub(crate) exec: Option<OsString>,
    /// Say only what went wrong
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Say more: trackers, peers that were banned
    #[arg(short, long, help_heading = "Output")]
    pub(crate) verbose: bool,
    /// Events as JSON, one object a line, on standard output
    #[arg(long, conflicts_with = "print", help_heading = "Output")]
    pub(crate) json: bool,
    /// bar, line, json or none [default: a bar on a terminal, else a line every 10 s]
    #[arg(long, value_name = "MODE", help_heading = "Output")]
    pub(crate) progress: Option<OsString>,
    /// What to print when done: path, name, hash, size, magnet or files [default: path]
    #[arg(long, value_name = "FIELD", help_heading = "Output")]
    pub(crate) print: Option<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// A .torrent file, its URL, or - for standard input
    #[arg(value_name = "TORRENT")]
    pub(crate) torrent: OsString,
    /// One JSON object, trackers in full
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The file or folder to share
    #[arg(value_name = "PATH")]
    pub(crate) path: OsString,
    /// A tracker; each -t is a tier of its own, commas put several into one (repeatable)
    #[arg(short, long, value_name = "URL")]
    pub(crate) tracker: Vec<String>,
    /// A web seed (repeatable)
    #[arg(long, value_name = "URL")]
    pub(crate) web_seed: Vec<String>,
    /// Length of the pieces, a power of two [default: chosen by the size]
    #[arg(long, value_name = "SIZE")]
    pub(crate) piece: Option<String>,
    /// Peers from the trackers only
    #[arg(long)]
    pub(crate) private: bool,
    #[arg(long, value_name = "TEXT")]
    /// Text for people
    pub(crate) comment: Option<String>,
    /// Text that some trackers ask for
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,
    /// Another name for the top-level file or folder
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Leave out the date, so that the same files give the same torrent file
    #[arg(long)]
    pub(crate) no_date: bool,
    /// Where to write it, - for standard output [default: NAME.torrent]
    #[arg(short, long, value_name = "OUT", value_hint = clap::ValueHint::FilePath)]
    pub(crate) output: Option<OsString>,
    /// Write over an existing torrent file
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say only what went wrong
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// One JSON object instead of the path
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A .torrent file, or - for standard input
    #[arg(value_name = "TORRENT")]
    pub(crate) torrent: OsString,
    /// Where its data is [default: .]
    #[arg(short, long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) dir: Option<OsString>,
    /// The name that it has there, if it is not the torrent's
    #[arg(short, long, value_name = "NAME")]
    pub(crate) output: Option<String>,
    /// Only files that are not right
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MagnetArgs {
    /// A .torrent file, - for standard input, a magnet link or an info-hash
    #[arg(value_name = "TORRENT")]
    pub(crate) torrent: OsString,
    /// What a link says, as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Fetch the metadata from peers, and write it as a .torrent (- is standard output)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with = "json")]
    pub(crate) save: Option<OsString>,
    /// Write over an existing torrent file
    #[arg(long, requires = "save")]
    pub(crate) overwrite: bool,
    /// Give up if the metadata is not there after this long: 30s, 5m
    #[arg(long, value_name = "T", requires = "save")]
    pub(crate) timeout: Option<OsString>,
    /// A peer to ask besides those that trackers name (repeatable)
    #[arg(long, value_name = "HOST:PORT", requires = "save")]
    pub(crate) peer: Vec<String>,
    /// A tracker to ask besides those of the link (repeatable)
    #[arg(short, long, value_name = "URL", requires = "save")]
    pub(crate) tracker: Vec<String>,
    /// Where to listen: a port or a range [default: the first free of 6881-6889, else any]
    #[arg(short, long, value_name = "N|A-B", requires = "save")]
    pub(crate) port: Option<OsString>,
    /// Use only this address of this machine
    #[arg(long, value_name = "IP", requires = "save")]
    pub(crate) bind: Option<OsString>,
    /// Do not use the DHT
    #[arg(long, requires = "save")]
    pub(crate) no_dht: bool,
    /// A node to find the DHT by, instead of the well-known ones (repeatable)
    #[arg(long, value_name = "HOST:PORT", requires = "save")]
    pub(crate) dht_node: Vec<String>,
    /// Keep all rights while the metadata is fetched
    #[arg(long, requires = "save")]
    pub(crate) no_sandbox: bool,
    /// Say only what went wrong
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrackerArgs {
    /// Address and port for HTTP and UDP; port 0 is any free one [default: every address, 6969]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Keep all rights: by default it reads no file and starts no program
    #[arg(long)]
    pub(crate) no_sandbox: bool,
    /// Say nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    /// Where the download would go [default: .]
    #[arg(short, long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) dir: Option<OsString>,
    /// Where it would keep what is needed to resume [default: $XDG_STATE_HOME/torr]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) state: Option<OsString>,
    /// Where it would listen [default: the first free of 6881-6889, else any]
    #[arg(short, long, value_name = "N|A-B")]
    pub(crate) port: Option<OsString>,
    /// Try the same without a sandbox
    #[arg(long)]
    pub(crate) no_sandbox: bool,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How much to transfer
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) size: String,
    /// bar, line or none [default: a bar on a terminal, else a line every 10 s]
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<OsString>,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Bar,
    Line,
    Json,
    None,
}

/// What is printed for each torrent that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Field {
    Path,
    Name,
    Hash,
    Size,
    Magnet,
    Files,
}
