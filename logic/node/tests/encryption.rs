//! Two nodes joined by a wire that somebody listens to, with every pair of opinions about encryption; and
//! half a handshake.
#![allow(clippy::unwrap_used)]

mod bytes;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{PIECE, Side, addr};
use torr_base::{Instant, Rng};
use torr_node::Encryption::{Off, Prefer, Require};
use torr_node::{CloseReason, Encryption, Notice};
use torr_swarm::{Idle, Incompatible};

/// What a listener makes of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// The protocol's name, and the data.
    Plaintext,
    /// The data, and from who dialled no name: the other side greets by the method that was chosen.
    HiddenDial,
    Encrypted,
}

struct World {
    leech: Side,
    seed: Side,
    original: Vec<u8>,
    now: Instant,
    rng: Rng,
    /// All that went over the wire since the last dial.
    wire: Vec<u8>,
    /// What of it was from who dialled.
    dialled: Vec<u8>,
    dials: usize,
    /// Ends that the other side knows of, of leech and seed.
    told: (usize, usize),
}

impl World {
    fn new(leech: Encryption, seed: Encryption) -> Self {
        let mut rng = Rng::new(9);
        let mut original = vec![0; 3 * PIECE as usize + 12_345];
        rng.fill(&mut original);
        Self {
            leech: Side::new(2, &original, false, vec![addr(1)], leech),
            seed: Side::new(1, &original, true, Vec::new(), seed),
            original,
            now: Instant::ZERO,
            rng,
            wire: Vec::new(),
            dialled: Vec::new(),
            dials: 0,
            told: (0, 0),
        }
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(20);
        let now = self.now;
        for side in [&mut self.leech, &mut self.seed] {
            side.node.handle_timeout(now);
        }
        self.act();
        self.leech.write(now, &mut self.rng);
        let mut pipe = std::mem::take(&mut self.leech.out);
        self.dialled.extend(&pipe);
        self.wire.extend(&pipe);
        self.seed.read(now, &mut pipe, &mut self.rng);
        self.act();
        self.seed.write(now, &mut self.rng);
        let mut pipe = std::mem::take(&mut self.seed.out);
        self.wire.extend(&pipe);
        self.leech.read(now, &mut pipe, &mut self.rng);
        assert!(pipe.is_empty(), "all is read");
        self.act();
    }

    /// Dials reach the other side, and so do ends.
    fn act(&mut self) {
        for _ in 0..4 {
            let (leech, seed) = (&mut self.leech, &mut self.seed);
            let dialled = leech.act(self.now);
            seed.act(self.now);
            let ended =
                leech.closes.len() > std::mem::replace(&mut self.told.0, leech.closes.len());
            if (ended || dialled)
                && let Some(conn) = seed.conn.take()
            {
                seed.node.handle_closed(self.now, conn);
            }
            let ended = seed.closes.len() > std::mem::replace(&mut self.told.1, seed.closes.len());
            if ended
                && !dialled
                && let Some(conn) = leech.conn.take()
            {
                leech.node.handle_closed(self.now, conn);
            }
            if dialled {
                self.dials += 1;
                self.wire.clear();
                self.dialled.clear();
                seed.out.clear();
                seed.conn = seed.node.handle_accept(self.now, addr(2));
                assert!(seed.conn.is_some());
            }
        }
    }

    /// Until the leech has everything, or for so many steps.
    fn run(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            self.step();
            if self.leech.notices.contains(&Notice::Synced) {
                return true;
            }
        }
        false
    }

    fn overheard(&self) -> Wire {
        let name = |bytes: &[u8]| has(bytes, b"BitTorrent protocol");
        let data = has(&self.wire, &self.original[1_000..1_032]);
        match (name(&self.dialled), name(&self.wire), data) {
            (true, true, true) => Wire::Plaintext,
            (false, true, true) => Wire::HiddenDial,
            (false, false, false) => Wire::Encrypted,
            mixed => panic!("{mixed:?}"),
        }
    }

    fn why(side: &Side) -> Option<CloseReason> {
        let stats = side.node.stats(side.key).unwrap();
        stats.swarm.last_failure.map(|(_, why)| why)
    }
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|at| at == what)
}

#[test]
fn those_that_should_connect_do() {
    for (leech, seed, due, dials) in [
        (Prefer, Prefer, Wire::HiddenDial, 1),
        (Prefer, Require, Wire::Encrypted, 1),
        (Require, Prefer, Wire::Encrypted, 1),
        (Require, Require, Wire::Encrypted, 1),
        // The key gets no answer, and plaintext does.
        (Prefer, Off, Wire::Plaintext, 2),
        (Off, Prefer, Wire::Plaintext, 1),
        (Off, Off, Wire::Plaintext, 1),
    ] {
        let mut world = World::new(leech, seed);
        assert!(world.run(10_000), "{leech:?} {seed:?}");
        assert_eq!(world.overheard(), due, "{leech:?} {seed:?}");
        assert_eq!(world.dials, dials, "{leech:?} {seed:?}");
        assert_eq!(world.leech.disk.written.len(), 4);
        assert_eq!(World::why(&world.leech), None);
        for side in [&mut world.leech, &mut world.seed] {
            side.node.stop_torrent(world.now, side.key);
            side.act(world.now);
            let (free, total) = side.node.buffers();
            assert_eq!(free, total, "every block is back");
        }
    }
}

#[test]
fn those_that_should_not_say_why() {
    let incompatible = |why| Some(CloseReason::Incompatible(why));
    let mut world = World::new(Require, Off);
    assert!(!world.run(300));
    assert_eq!(
        World::why(&world.leech),
        incompatible(Incompatible::NoEncryption)
    );
    let protocol = CloseReason::Incompatible(Incompatible::Protocol);
    assert!(world.seed.closes.iter().all(|why| *why == protocol));
    assert!(!world.seed.closes.is_empty());
    let stats = world.seed.node.stats(world.seed.key).unwrap();
    assert_eq!(stats.refused, Some((addr(2), protocol)));

    let mut world = World::new(Off, Require);
    assert!(!world.run(300));
    assert_eq!(
        World::why(&world.leech),
        incompatible(Incompatible::NoPlaintext)
    );
    assert_eq!(
        World::why(&world.seed),
        incompatible(Incompatible::Plaintext)
    );
    assert!(!has(&world.wire, &world.original[1_000..1_032]));
}

#[test]
fn who_did_not_answer_the_key_is_greeted_in_plaintext_the_next_time() {
    let mut world = World::new(Prefer, Off);
    for _ in 0..8 {
        world.step();
    }
    assert_eq!(world.dials, 2);
    let conn = world.leech.conn.take().unwrap();
    world.leech.node.handle_closed(world.now, conn);
    let conn = world.seed.conn.take().unwrap();
    world.seed.node.handle_closed(world.now, conn);
    assert!(world.run(10_000));
    assert_eq!(world.dials, 3, "not by an exchange of keys again");
}

/// Somebody sends half a key, or a key and nothing more.
#[test]
fn half_an_exchange_is_ended_in_time() {
    for len in [1, 50, 95, 96, 300] {
        let mut world = World::new(Off, Prefer);
        let conn = world.seed.node.handle_accept(world.now, addr(2)).unwrap();
        world.seed.conn = Some(conn);
        let mut bytes = VecDeque::from(vec![0x55; len]);
        world.seed.read(world.now, &mut bytes, &mut world.rng);
        assert!(bytes.is_empty());
        for tenths in 0..=100 {
            assert_eq!(world.seed.conn.is_some(), tenths < 100, "{len} {tenths}");
            world.now = world.now + Duration::from_millis(100);
            world.seed.node.handle_timeout(world.now);
            world.seed.act(world.now);
        }
        assert_eq!(world.seed.closes, [CloseReason::Idle(Idle::Handshake)]);
        assert_eq!(world.seed.node.conn_count(), 0);
    }
}

/// A handshake of a torrent that is not here, and a peer whose exchange leads to another one than its
/// handshake says.
#[test]
fn noise_after_the_key_is_not_listened_to_for_long() {
    let mut world = World::new(Off, Prefer);
    let conn = world.seed.node.handle_accept(world.now, addr(2)).unwrap();
    world.seed.conn = Some(conn);
    let mut noise = vec![0; 5_000];
    world.rng.fill(&mut noise);
    let mut bytes = VecDeque::from(noise);
    while world.seed.conn.is_some() && !bytes.is_empty() {
        world.seed.read(world.now, &mut bytes, &mut world.rng);
        world.seed.act(world.now);
    }
    assert!(bytes.len() > 5_000 - 96 - 512 - 56, "{}", bytes.len());
    let why = Incompatible::Encryption(torr_wire::MseError::NoSync);
    assert_eq!(world.seed.closes, [CloseReason::Incompatible(why)]);
}
