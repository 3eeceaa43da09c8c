use std::collections::BTreeSet;

use proptest::prelude::any;
use proptest::proptest;

use super::*;

fn id(rng: &mut Rng) -> NodeId {
    let mut id = [0; 20];
    rng.fill(&mut id);
    NodeId(id)
}

fn addr(n: u64) -> SocketAddr {
    SocketAddr::from(([5 + (n >> 16) as u8, (n >> 8) as u8, n as u8, 1], 6881))
}

fn secs(n: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(n)
}

/// A table that met `n` nodes of as many networks.
fn met(n: u64, rng: &mut Rng) -> (Table, Vec<Contact>) {
    let mut table = Table::new(id(rng), Instant::ZERO);
    let nodes: Vec<_> = (0..n)
        .map(|n| Contact {
            id: id(rng),
            addr: addr(n),
        })
        .collect();
    for node in &nodes {
        table.answered(Instant::ZERO, *node);
        table.check_invariants();
    }
    (table, nodes)
}

#[test]
fn closest_are_what_a_sort_over_all_would_give() {
    let mut rng = Rng::new(1);
    let (table, _) = met(3_000, &mut rng);
    assert!(table.len() > 60 && table.len() < 120, "{}", table.len());
    let mut all = table.closest(table.own, 1_000);
    assert_eq!(all.len(), table.len());
    for n in [1, 8, 20, 500] {
        for _ in 0..50 {
            let target = id(&mut rng);
            all.sort_by_key(|it| it.id.distance(target));
            let want: Vec<_> = all.iter().copied().take(n).collect();
            assert_eq!(table.closest(target, n), want);
        }
    }
}

#[test]
fn the_nodes_around_our_id_all_have_a_place() {
    let mut rng = Rng::new(2);
    let (table, mut nodes) = met(3_000, &mut rng);
    nodes.sort_by_key(|it| it.id.distance(table.own));
    assert_eq!(table.closest(table.own, K), nodes[..K]);
}

#[test]
fn rumours_wait_until_they_answer() {
    let mut rng = Rng::new(3);
    let mut table = Table::new(id(&mut rng), Instant::ZERO);
    let node = Contact {
        id: id(&mut rng),
        addr: addr(1),
    };
    table.heard_of(secs(1), node);
    assert_eq!((table.len(), table.closest(node.id, 8).len()), (0, 0));
    assert_eq!(table.next_rumour(), Some(node));
    assert_eq!(table.next_rumour(), None);
    table.answered(secs(2), node);
    assert_eq!(table.closest(node.id, 8), [node]);
    table.heard_of(secs(3), node);
    assert_eq!(table.next_rumour(), None, "it has a place");
}

#[test]
fn one_network_has_one_place_in_a_bucket_but_for_local_ones() {
    let mut rng = Rng::new(4);
    let mut table = Table::new(NodeId([0; 20]), Instant::ZERO);
    for (net, places) in [([9, 8, 7], 1), ([192, 168, 1], 8)] {
        for host in 1..=50 {
            let mut id = id(&mut rng);
            id.0[0] |= 0x80;
            let [a, b, c] = net;
            let addr = SocketAddr::from(([a, b, c, host], 1_000));
            table.answered(secs(host.into()), Contact { id, addr });
            table.check_invariants();
        }
        let of_net = |it: &Contact| Prefix::of(it.addr).is_some() == (places == 1);
        let all = table.closest(table.own, 100);
        assert!(all.iter().filter(|it| of_net(it)).count() <= places);
    }
    assert_eq!(table.len(), 8);
}

#[test]
fn a_node_that_fails_gives_its_place_to_one_that_answered() {
    let mut rng = Rng::new(5);
    let (mut table, nodes) = met(200, &mut rng);
    let target = table.own.sharing(0, [0; 20]);
    let old = table.closest(target, 1)[0];
    let fresh: Vec<_> = nodes
        .iter()
        .filter(|it| it.id.shared_bits(table.own) == 0 && !table.knows(**it))
        .collect();
    assert!(!fresh.is_empty(), "some were left over");
    table.failed(secs(10), old);
    assert!(table.knows(old) && !table.closest(target, 8).contains(&old));
    assert_eq!(table.stale(secs(12)), None);
    assert_eq!(table.stale(secs(20)), Some(old));
    table.asked(secs(20), old);
    table.failed(secs(25), old);
    assert!(!table.knows(old));
    let heirs = table.closest(target, 8);
    assert!(fresh.iter().any(|it| heirs.contains(it)));
    table.check_invariants();
}

#[test]
fn ids_that_fit_their_address_drive_out_those_that_do_not() {
    let mut rng = Rng::new(6);
    let mut table = Table::new(NodeId([0; 20]), Instant::ZERO);
    let far = |rng: &mut Rng, fits: bool, n: u64| loop {
        let mut random = [0; 20];
        rng.fill(&mut random);
        let id = NodeId::for_ip(addr(n).ip(), random);
        let id = if fits { id } else { NodeId(random) };
        if id.0[0] & 0x80 != 0 {
            return Contact { id, addr: addr(n) };
        }
    };
    let mut n = 0;
    let mut next = |rng: &mut Rng, fits: bool| loop {
        n += 1;
        // Not every address may have an id on the far side.
        let possible = (0..8).any(|last| NodeId::for_ip(addr(n).ip(), [last; 20]).0[0] & 0x80 != 0);
        if possible {
            return far(rng, fits, n);
        }
    };
    for _ in 0..8 {
        let unfit = next(&mut rng, false);
        table.answered(Instant::ZERO, unfit);
    }
    assert_eq!(table.len(), 8);
    let mut fit = BTreeSet::new();
    for _ in 0..8 {
        let node = next(&mut rng, true);
        fit.insert(node);
        table.answered(secs(1), node);
    }
    assert_eq!(
        table
            .closest(table.own, 100)
            .into_iter()
            .collect::<BTreeSet<_>>(),
        fit
    );
    let late = next(&mut rng, false);
    table.answered(secs(2), late);
    assert!(!table.knows(late));
}

#[test]
fn an_address_under_a_new_id_and_an_id_at_a_new_address() {
    let mut rng = Rng::new(7);
    let (mut table, nodes) = met(20, &mut rng);
    let known = nodes[0];
    let renamed = Contact {
        id: id(&mut rng),
        addr: known.addr,
    };
    table.answered(secs(1), renamed);
    table.check_invariants();
    assert!(!table.knows(known));
    let thief = Contact {
        id: nodes[1].id,
        addr: addr(1_000),
    };
    table.answered(secs(2), thief);
    assert!(table.knows(nodes[1]) && !table.knows(thief));
    table.failed(secs(3), nodes[1]);
    table.answered(secs(4), thief);
    assert!(table.knows(thief));
    table.check_invariants();
}

#[test]
fn buckets_are_refreshed_when_they_have_room_or_are_old() {
    let mut rng = Rng::new(8);
    let (mut table, _) = met(500, &mut rng);
    let random = [0x55; 20];
    assert_eq!(table.refresh(secs(5), random), None);
    let deep = table
        .refresh(secs(30), random)
        .expect("the deepest has room");
    assert!(table.own.shared_bits(deep) >= 4);
    let mut buckets = BTreeSet::new();
    while let Some(target) = table.refresh(secs(16 * 60), random) {
        assert!(buckets.insert(table.index(target)));
    }
    assert_eq!(buckets.len(), table.buckets.len());
}

#[test]
fn another_id_keeps_the_nodes() {
    let mut rng = Rng::new(9);
    let (mut table, _) = met(40, &mut rng);
    let before: BTreeSet<_> = table.closest(table.own, 100).into_iter().collect();
    let own = id(&mut rng);
    table.move_to(own, secs(1));
    table.check_invariants();
    let after: BTreeSet<_> = table.closest(own, 100).into_iter().collect();
    assert!(after.intersection(&before).count() * 10 >= before.len() * 7);
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(seed in any::<u64>(), steps in 1_usize..400) {
        let mut rng = Rng::new(seed);
        let mut table = Table::new(id(&mut rng), Instant::ZERO);
        let mut nodes: Vec<Contact> = Vec::new();
        for step in 0..steps {
            let now = secs(step as u64 * 7);
            if nodes.is_empty() || rng.one_in(2) {
                let bits = rng.index(12);
                let mut random = [0; 20];
                rng.fill(&mut random);
                let id = table.own.sharing(bits, random);
                nodes.push(Contact { id, addr: addr(rng.below(60)) });
            }
            let node = nodes[rng.index(nodes.len())];
            match rng.below(7) {
                0 | 1 => table.answered(now, node),
                2 => table.heard_of(now, node),
                3 => table.failed(now, node),
                4 => drop(table.next_rumour()),
                5 => drop(table.refresh(now, node.id.0)),
                _ if rng.one_in(10) => table.move_to(id(&mut rng), now),
                _ => drop(table.stale(now)),
            }
            table.check_invariants();
        }
    }
}
