//! How a node deals with peers that are slow, odd, or gone, told in messages.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Rig, Said, Setup};
use torr_wire::Message;

#[test]
fn a_seed_is_drained_and_every_block_comes_back() {
    let mut rig = Rig::new(&Setup::default());
    let n = rig.connect_seed();
    rig.answer_all(&[(n, 0)]);
    assert!(rig.is_complete(), "{} pieces", rig.have());
    rig.stop();
}

#[test]
fn unfinished_pieces_that_nobody_has_leave_room_for_others() {
    // As after a stop: as many unfinished pieces as may be open, of which the only peer has none.
    let partial = (0..5).map(|piece| (piece, vec![0])).collect();
    let setup = Setup {
        pieces: 10,
        partial,
        assembly_blocks: 20,
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    let n = rig.connect_with(&[5, 6, 7, 8, 9]);
    rig.pass(Duration::from_secs(1));
    rig.answer_all(&[(n, 0)]);
    assert_eq!(rig.have(), 5);
    rig.stop();
}

#[test]
fn pieces_left_open_by_peers_that_went_leave_room_for_others() {
    let setup = Setup {
        pieces: 10,
        assembly_blocks: 20,
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    let n = rig.connect_with(&[0, 1, 2, 3, 4]);
    // One block of each piece it has, as far as it is asked.
    for _ in 0..20 {
        let asked = rig.requests(n);
        for raw in asked.iter().filter(|raw| raw.offset == 0) {
            rig.send(n, *raw, 0);
        }
    }
    rig.close(n);
    let m = rig.connect_with(&[5, 6, 7, 8, 9]);
    for _ in 0..40 {
        rig.pass(Duration::from_secs(1));
        rig.answer_all(&[(m, 0)]);
    }
    assert_eq!(rig.have(), 5);
    rig.stop();
}

#[test]
fn a_reader_without_a_buffer_goes_on_when_a_connection_ends() {
    // Two peers hold all buffers between them: one that takes blocks and never reads, and then leaves.
    let setup = Setup {
        have: vec![0],
        buffers: 8,
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    rig.disk_at_once = false;
    let n = rig.connect_seed();
    let asked = {
        rig.pass(Duration::from_millis(200));
        rig.requests(n)
    };
    assert!(asked.len() >= 8, "{asked:?}");
    // Half of the buffers are in an unfinished piece, then a verify without blocks is at the disk.
    for raw in asked {
        rig.send(n, raw, 0);
    }
    for _ in 0..200 {
        rig.serve();
        rig.act();
        rig.pass(Duration::from_millis(100));
        for raw in rig.requests(n) {
            rig.send(n, raw, 0);
        }
    }
    assert!(rig.is_complete(), "{} pieces", rig.have());
    rig.stop();
}

#[test]
fn blocks_of_unfinished_pieces_go_to_the_disk_at_a_stop() {
    let mut rig = Rig::new(&Setup::default());
    let n = rig.connect_seed();
    let asked = rig.requests(n);
    rig.send(n, asked[0], 0);
    rig.stop();
    assert_eq!(rig.spilled.len(), 1);
}

#[test]
fn requests_of_a_fast_peer_that_chokes_and_says_no_more_come_free() {
    let mut rig = Rig::new(&Setup {
        pieces: 2,
        ..Setup::default()
    });
    let mute = rig.connect_seed();
    let taken = rig.requests(mute);
    assert_eq!(taken.len(), 8);
    rig.say(mute, &Message::Choke);
    let other = rig.connect_seed();
    for _ in 0..70 {
        rig.pass(Duration::from_secs(1));
        rig.answer_all(&[(other, 0)]);
    }
    assert!(rig.is_complete());
}

#[test]
fn a_choke_keeps_allowed_fast_requests_and_rejects_the_rest() {
    let setup = Setup {
        pieces: 40,
        have: (0..40).collect(),
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    rig.disk_at_once = false;
    while rig.serve() {}
    let n = rig.connect(true);
    let fast: Vec<u32> = rig
        .hear(n)
        .into_iter()
        .filter_map(|said| match said {
            Said::AllowedFast(piece) => Some(piece),
            _ => None,
        })
        .collect();
    assert_eq!(fast.len(), 10);
    // Twelve others take the slots from it in time.
    rig.wants_all(n);
    assert!(rig.hear(n).contains(&Said::Unchoke));
    let slow = (0..40).find(|piece| !fast.contains(piece)).unwrap();
    let range = |piece, index| torr_base::RawBlock {
        piece,
        offset: index * common::BLOCK,
        len: common::BLOCK,
    };
    for index in 0..4 {
        rig.say(n, &Message::Request(range(slow, index)));
        rig.say(n, &Message::Request(range(fast[0], index)));
    }
    for _ in 0..12 {
        let other = rig.connect(true);
        rig.wants_all(other);
    }
    let mut said = Vec::new();
    for _ in 0..300 {
        rig.pass(Duration::from_millis(100));
        let conn = rig.peers[n].conn;
        // Control only: while the disk is slow, nothing else can come.
        let _ = conn;
        said.extend(rig.hear(n));
        if said.contains(&Said::Choke) {
            break;
        }
        for other in 1..13 {
            rig.hear(other);
        }
    }
    assert!(said.contains(&Said::Choke), "{said:?}");
    let rejects = |said: &[Said]| said.iter().filter(|s| matches!(s, Said::Reject(_))).count();
    assert_eq!(rejects(&said), 4);
    // What is loaded makes room for the next when it is sent.
    for _ in 0..4 {
        while rig.serve() {
            rig.act();
        }
        said.extend(rig.hear(n));
        rig.act();
    }
    let blocks: Vec<_> = said
        .iter()
        .filter_map(|said| match said {
            Said::Block(raw) => Some(raw.piece),
            _ => None,
        })
        .collect();
    assert_eq!((blocks, rejects(&said)), (vec![fast[0]; 4], 4));
    rig.disk_at_once = true;
    rig.stop();
}

#[test]
fn pieces_that_nobody_can_give_do_not_hold_up_the_end_game() {
    // Piece 0 is only at a peer that chokes; what is asked of a mute peer is asked of another as well.
    let setup = Setup {
        pieces: 3,
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    let mute = rig.connect_with(&[1, 2]);
    assert_eq!(rig.requests(mute).len(), 8);
    let other = rig.connect_with(&[1, 2]);
    for _ in 0..25 {
        rig.pass(Duration::from_millis(100));
        rig.answer_all(&[(other, 0)]);
    }
    assert_eq!(rig.have(), 2);
}

#[test]
fn what_a_liar_sent_of_other_pieces_is_thrown_away() {
    let setup = Setup {
        pieces: 6,
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    let liar = rig.connect_seed();
    let asked = rig.requests(liar);
    assert_eq!(asked.len(), 8);
    // One block of the second piece, and then all of the first.
    rig.send(liar, asked[4], 7);
    for raw in &asked[..4] {
        rig.send(liar, *raw, 7);
    }
    assert_eq!(rig.banned(), [rig.peers[liar].addr]);
    assert_eq!(rig.node.blocks_held(), 0);
    let honest = rig.connect_seed();
    rig.answer_all(&[(honest, 0)]);
    assert!(rig.is_complete());
    assert_eq!(rig.banned().len(), 1);
    let stats = rig.node.stats(rig.key).unwrap().swarm;
    assert_eq!(stats.wasted, 5 * u64::from(common::BLOCK));
}

#[test]
fn a_piece_on_parole_does_not_wait_for_a_slow_owner() {
    let setup = Setup {
        pieces: 1,
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    let (liar, slow) = (rig.connect_seed(), rig.connect_seed());
    let asked = rig.requests(liar);
    assert_eq!(asked.len(), 4);
    // In the end game each sends half of the piece: what is owed for two seconds is asked of another.
    (0..21).for_each(|_| rig.pass(Duration::from_millis(100)));
    let same = rig.requests(slow);
    rig.send(liar, asked[0], 7);
    for raw in same.iter().filter(|raw| **raw != asked[0]) {
        rig.send(slow, *raw, 0);
    }
    assert_eq!((rig.have(), rig.banned().len()), (0, 0));
    // Now the piece is left to one of them, which says nothing more.
    let third = rig.connect_seed();
    for _ in 0..350 {
        rig.pass(Duration::from_millis(100));
        rig.hear(slow);
        rig.hear(liar);
        rig.answer_all(&[(third, 0)]);
    }
    assert!(rig.is_complete());
    assert_eq!(rig.banned(), [rig.peers[liar].addr]);
}

/// 100 ms of round trip and 1 Gbit/s: 131 µs for a block, 763 on the way at any time.
#[test]
fn one_fast_peer_on_a_long_line_is_kept_full() {
    let setup = Setup {
        pieces: 2_000,
        blocks_per_piece: 16,
        buffers: 4_000,
        assembly_blocks: 2_560,
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    rig.strict = false;
    let n = rig.connect_seed();
    // What the other client says of its queue.
    let reqq = b"d4:reqqi2000ee";
    rig.say(
        n,
        &Message::Extended {
            id: 0,
            payload: reqq,
        },
    );
    let block = Duration::from_micros(131);
    let one_way = Duration::from_millis(50);
    let mut asked = std::collections::VecDeque::new();
    let (mut line_free, mut ticked) = (rig.now, rig.now);
    let (mut blocks, mut busy_from) = (0_u32, None);
    while !rig.is_complete() && rig.now < torr_base::Instant::ZERO + Duration::from_secs(30) {
        for raw in rig.requests(n) {
            asked.push_back((rig.now + one_way, raw));
        }
        // The next block leaves when its request is there and the line is free.
        let next = asked
            .front()
            .map(|(there, _)| (*there).max(line_free) + block);
        let arrives = next.map(|sent| sent + one_way);
        let tick = ticked + Duration::from_millis(100);
        if arrives.is_some_and(|at| at < tick) {
            line_free = next.unwrap();
            rig.now = arrives.unwrap();
            let (_, raw) = asked.pop_front().unwrap();
            rig.send(n, raw, 0);
            if rig.now >= torr_base::Instant::ZERO + Duration::from_secs(2) {
                busy_from.get_or_insert(rig.now);
                blocks += 1;
            }
        } else {
            rig.now = tick;
            ticked = tick;
            rig.node.handle_timeout(rig.now);
            rig.act();
        }
    }
    assert!(rig.is_complete());
    let span = rig.now.since(busy_from.unwrap());
    let share = f64::from(blocks) * block.as_secs_f64() / span.as_secs_f64();
    assert!(share > 0.95, "{share} of the line, all in {:?}", rig.now);
}

#[test]
fn who_rejects_one_request_is_soon_asked_again() {
    let mut rig = Rig::new(&Setup {
        pieces: 2,
        blocks_per_piece: 1,
        ..Setup::default()
    });
    let n = rig.connect_seed();
    let mut waits = Vec::new();
    // It rejects all, then serves one piece, then rejects again.
    for round in 0..8 {
        let mut tenths = 0;
        let asked = loop {
            let asked = rig.requests(n);
            if !asked.is_empty() {
                break asked;
            }
            rig.pass(Duration::from_millis(100));
            tenths += 1;
            assert!(tenths < 700, "it is not asked any more");
        };
        waits.push((tenths + 5) / 10);
        for (place, raw) in asked.into_iter().enumerate() {
            match (round, place) {
                (6, 0) => rig.send(n, raw, 0),
                _ => rig.say(n, &Message::Reject(raw)),
            }
        }
    }
    assert_eq!(waits, [0, 5, 10, 20, 40, 60, 60, 5]);
}

#[test]
fn two_that_finish_see_it_and_part() {
    let mut rig = Rig::new(&Setup {
        pieces: 2,
        ..Setup::default()
    });
    let n = rig.connect_with(&[0]);
    let m = rig.connect_with(&[1]);
    let mut said = Vec::new();
    for _ in 0..10 {
        rig.pass(Duration::from_millis(100));
        for peer in [n, m] {
            for word in rig.hear(peer) {
                match word {
                    Said::Request(raw) => rig.send(peer, raw, 0),
                    word if peer == n => said.push(word),
                    _ => {}
                }
            }
        }
    }
    assert!(rig.is_complete());
    let upload_only = |word: &Said| match word {
        Said::Extended(text) => text.windows(11).any(|part| part == b"upload_only"),
        _ => false,
    };
    assert!(said.iter().any(upload_only), "{said:?}");
    let hello = b"d11:upload_onlyi1ee";
    rig.say(
        n,
        &Message::Extended {
            id: 0,
            payload: hello,
        },
    );
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.peers[n].closed, Some(torr_node::CloseReason::Redundant));
    assert_eq!(rig.peers[m].closed, None);
}

#[test]
fn the_idle_make_room_for_others() {
    let setup = Setup {
        have: vec![0],
        ..Setup::default()
    };
    let mut rig = Rig::with(&setup, |config| config.conns_per_torrent_max = 3);
    let giver = rig.connect_seed();
    let idle = rig.connect(true);
    rig.say(idle, &Message::HaveNone);
    let taker = rig.connect(true);
    rig.wants_all(taker);
    let early = rig.connect(true);
    assert!(rig.peers[early].closed.is_some());
    for _ in 0..61 {
        rig.pass(Duration::from_secs(1));
        (0..3).for_each(|n| drop(rig.hear(n)));
    }
    let late = rig.connect(true);
    assert_eq!(rig.peers[late].closed, None);
    let there = |n: usize| rig.peers[n].closed.is_none();
    assert_eq!([giver, idle, taker].map(there), [true, false, true]);
}

#[test]
fn who_never_ends_its_handshake_makes_way() {
    let mut rig = Rig::with(&Setup::default(), |config| config.half_open_max = 3);
    let slow = (1..=3).map(|n| {
        rig.pass(Duration::from_millis(100));
        let addr = SocketAddr::from(([12, 0, n, 1], 7_000));
        rig.node.handle_accept(rig.now, addr).unwrap()
    });
    let slow: Vec<_> = slow.collect();
    let n = rig.connect(true);
    assert_eq!(rig.peers[n].closed, None);
    let there = slow.iter().map(|conn| rig.node.wants_read(rig.now, *conn));
    assert_eq!(there.collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn who_does_nothing_with_a_place_makes_way_and_who_comes_may_ask_at_once() {
    let setup = Setup {
        have: (0..8).collect(),
        ..Setup::default()
    };
    let mut rig = Rig::with(&setup, |config| config.conns_per_torrent_max = 20);
    // They hold all slots, and ask for nothing; but for one that says nothing at all.
    for n in 0..20 {
        let n = rig.connect(n != 7);
        if n != 7 {
            rig.wants_all(n);
        }
    }
    rig.pass(Duration::from_secs(2));
    (0..20).for_each(|n| drop(rig.hear(n)));
    for gone in [7, 0] {
        let late = rig.connect(true);
        assert_eq!(rig.peers[late].closed, None);
        rig.wants_all(late);
        assert!(rig.hear(late).contains(&Said::Unchoke), "{gone}");
        assert!(rig.peers[gone].closed.is_some(), "{gone}");
    }
}

#[test]
fn who_made_nothing_of_its_slot_makes_way_before_who_waits_for_one() {
    let setup = Setup {
        have: (0..8).collect(),
        ..Setup::default()
    };
    let mut rig = Rig::with(&setup, |config| config.conns_per_torrent_max = 20);
    (0..19).for_each(|_| {
        rig.connect(true);
    });
    // The last to come are the first to ask for a slot, and get all there are.
    for n in (0..19).rev() {
        rig.wants_all(n);
    }
    let unchoked = |rig: &mut Rig, n| rig.hear(n).contains(&Said::Unchoke);
    let first: Vec<_> = (0..19).filter(|n| unchoked(&mut rig, *n)).collect();
    assert!(!first.is_empty() && !first.contains(&0), "{first:?}");
    rig.pass(Duration::from_millis(3_100));
    let last = rig.connect(true);
    rig.wants_all(last);
    for gone in first {
        let late = rig.connect(true);
        assert_eq!(rig.peers[late].closed, None);
        assert!(rig.peers[gone].closed.is_some(), "{gone}");
        assert!(rig.peers[0].closed.is_none());
    }
}

#[test]
fn a_seed_serves_everybody_within_minutes() {
    let setup = Setup {
        have: (0..8).collect(),
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    let mut served = vec![0_u32; 60];
    for _ in 0..60 {
        let n = rig.connect(true);
        rig.wants_all(n);
    }
    for _ in 0..600 {
        rig.pass(Duration::from_secs(1));
        for (n, times) in served.iter_mut().enumerate() {
            *times += rig.hear(n).iter().filter(|s| **s == Said::Unchoke).count() as u32;
            rig.say(n, &Message::KeepAlive);
        }
    }
    assert!(served.iter().all(|times| *times >= 2), "{served:?}");
}

#[test]
fn who_gives_most_is_given_to() {
    let setup = Setup {
        pieces: 1_000,
        have: (0..8).collect(),
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    rig.strict = false;
    for _ in 0..20 {
        let n = rig.connect(true);
        rig.say(n, &Message::Bitfield(&[vec![0], vec![255; 124]].concat()));
        rig.say(n, &Message::Interested);
        rig.say(n, &Message::Unchoke);
    }
    let mut choked = [true; 20];
    let mut owed = vec![std::collections::VecDeque::new(); 20];
    let mut unchoked_secs = [0; 20];
    for second in 0..100 {
        for n in 0..20 {
            for said in rig.hear(n) {
                match said {
                    Said::Request(raw) => owed[n].push_back(raw),
                    Said::Choke => choked[n] = true,
                    Said::Unchoke => choked[n] = false,
                    _ => {}
                }
            }
            let gives = if n >= 14 { 4 } else { 0 };
            for raw in (0..gives)
                .map_while(|_| owed[n].pop_front())
                .collect::<Vec<_>>()
            {
                rig.send(n, raw, 0);
            }
            unchoked_secs[n] += u32::from(!choked[n] && second >= 20);
        }
        rig.pass(Duration::from_secs(1));
    }
    let least = unchoked_secs[14..].iter().min().unwrap();
    assert!(*least >= 70, "{unchoked_secs:?}");
}

#[test]
fn who_hangs_up_where_both_ends_dialled_is_dialled_again_soon() {
    // libtorrent: its peer id is another one on each connection, it takes one for a second of the other at its end and
    // ours at the other, and closes both.
    let home = SocketAddr::from(([11, 0, 99, 1], 6_881));
    for (crosses, ours_first) in [(true, true), (true, false), (false, true)] {
        let mut rig = Rig::new(&Setup::default());
        rig.node.add_peers(rig.now, rig.key, &[home]);
        rig.pass(Duration::from_secs(1));
        let (conn, addr) = rig.dials.pop().unwrap();
        assert_eq!(addr, home);
        let guest = SocketAddr::new(home.ip(), 40_001);
        let n = crosses.then(|| rig.connect_from(guest, true).unwrap());
        rig.node.handle_connected(rig.now, conn);
        let hello = torr_wire::Handshake {
            reserved: torr_wire::Reserved::EXTENDED,
            info_hash: common::INFO_HASH,
            peer_id: torr_base::PeerId([7; 20]),
        };
        let hello = hello.encode();
        rig.node.handle_bytes(rig.now, conn, &mut hello.as_slice());
        rig.act();
        if ours_first {
            rig.node.handle_closed(rig.now, conn);
        }
        if let Some(n) = n {
            rig.close(n);
        }
        if !ours_first {
            rig.node.handle_closed(rig.now, conn);
        }
        rig.dials.clear();
        rig.pass(Duration::from_secs(3));
        let dialled = rig.dials.iter().any(|(_, addr)| *addr == home);
        assert_eq!(dialled, crosses);
        rig.stop();
    }
}
