use std::net::SocketAddr;

use torr_base::Rng;

use super::*;

const TARGET: NodeId = NodeId([0; 20]);

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([60, (n >> 8) as u8, n as u8, 1], 6881))
}

/// A node that shares `bits` with the target and whose id fits its address, or does not.
fn contact(bits: usize, n: usize, fits: bool, rng: &mut Rng) -> Contact {
    for attempt in 0.. {
        // Another address until one of the eight places of BEP 42 is where it is wanted.
        let addr = match fits {
            true => SocketAddr::from((
                [
                    61 + (attempt >> 16) as u8,
                    (attempt >> 8) as u8,
                    attempt as u8,
                    n as u8,
                ],
                1,
            )),
            false => addr(n),
        };
        let mut random = [0; 20];
        rng.fill(&mut random);
        let id = match fits {
            true => NodeId::for_ip(addr.ip(), random),
            false => TARGET.sharing(bits, random),
        };
        if id.shared_bits(TARGET) == bits && id.fits(addr.ip()) == fits {
            return Contact { id, addr };
        }
    }
    unreachable!("some address fits")
}

fn starts(nodes: &[Contact]) -> Vec<(Option<NodeId>, SocketAddr)> {
    nodes.iter().map(|it| (Some(it.id), it.addr)).collect()
}

fn lookup(nodes: &[Contact]) -> Lookup {
    Lookup::new(Family::V4, TARGET, Purpose::Neighbours, &starts(nodes))
}

fn next(lookup: &mut Lookup) -> Option<SocketAddr> {
    let next = lookup.next(|_| Leave::Granted);
    lookup.check_invariants();
    next.map(|(_, addr)| addr)
}

#[test]
fn paths_ask_side_by_side_and_only_what_they_heard_of() {
    let mut rng = Rng::new(1);
    let nodes: Vec<_> = (0..24).map(|n| contact(3, n, false, &mut rng)).collect();
    let mut lookup = lookup(&nodes);
    let first: Vec<_> = std::iter::from_fn(|| next(&mut lookup)).collect();
    assert_eq!(first.len(), PATHS * WIDTH_MIN);
    assert!(!lookup.is_over());
    let by_addr = |addr| nodes.iter().find(|it| it.addr == addr).copied();
    // The first path's answer names nodes next to the target; only it goes there.
    let named: Vec<_> = (100..108)
        .map(|n| contact(10, n, false, &mut rng))
        .collect();
    let one = by_addr(first[0]).expect("a start");
    lookup.answered(one, Some(b"t"), named.iter().copied());
    // What is far behind does not count: two questions are under way at the front.
    for _ in 0..WIDTH_MIN {
        let asked = next(&mut lookup).expect("it goes on");
        assert!(named.iter().any(|it| it.addr == asked));
    }
    assert_eq!(next(&mut lookup), None);
    let two = by_addr(first[WIDTH_MIN]).expect("a start");
    lookup.answered(two, Some(b"t"), std::iter::empty());
    while let Some(asked) = next(&mut lookup) {
        assert!(
            nodes.iter().any(|it| it.addr == asked),
            "the second path has heard of no others"
        );
    }
}

#[test]
fn the_slow_are_passed_by_and_may_still_answer() {
    let mut rng = Rng::new(2);
    let nodes: Vec<_> = (0..3).map(|n| contact(3, n, false, &mut rng)).collect();
    let mut lookup = lookup(&nodes);
    let asked: Vec<_> = std::iter::from_fn(|| next(&mut lookup)).collect();
    assert_eq!(asked.len(), 3);
    asked.iter().for_each(|addr| lookup.late(*addr));
    assert!(lookup.is_over());
    let late = nodes.iter().find(|it| it.addr == asked[0]).expect("asked");
    let more = contact(9, 50, false, &mut rng);
    lookup.answered(*late, Some(b"t"), std::iter::once(more));
    assert!(!lookup.is_over());
    assert_eq!(next(&mut lookup), Some(more.addr));
    lookup.failed(more.addr);
    assert!(lookup.is_over());
    assert_eq!(lookup.goals().len(), 1);
}

#[test]
fn an_answer_under_another_id_counts_as_what_it_is() {
    let mut rng = Rng::new(3);
    let said = contact(20, 1, false, &mut rng);
    let mut lookup = lookup(&[said]);
    assert_eq!(next(&mut lookup), Some(said.addr));
    let truth = Contact {
        id: NodeId([0xff; 20]),
        addr: said.addr,
    };
    lookup.answered(truth, Some(b"t"), std::iter::empty());
    assert_eq!(lookup.goals()[0].contact, truth);
    lookup.check_invariants();
}

#[test]
fn ids_that_do_not_fit_take_half_of_the_places_while_there_are_others() {
    let mut rng = Rng::new(4);
    let mut nodes: Vec<_> = (0..20).map(|n| contact(30, n, false, &mut rng)).collect();
    nodes.extend((0..12).map(|n| contact(2, n, true, &mut rng)));
    let mut lookup = lookup(&nodes);
    while let Some(addr) = next(&mut lookup) {
        let node = nodes
            .iter()
            .find(|it| it.addr == addr)
            .expect("one of them");
        lookup.answered(*node, Some(b"t"), std::iter::empty());
    }
    assert!(lookup.is_over());
    let goals = lookup.goals();
    let fit = goals
        .iter()
        .filter(|it| it.contact.id.fits(it.contact.addr.ip()));
    assert!(fit.count() >= K / 2, "{goals:?}");
    assert!(goals.len() <= K + PATHS * PATH_ENDS);
    // Where there are no others, they take all.
    let unfit = &nodes[..12];
    let mut lookup = self::lookup(unfit);
    while let Some(addr) = next(&mut lookup) {
        let node = unfit
            .iter()
            .find(|it| it.addr == addr)
            .expect("one of them");
        lookup.answered(*node, Some(b"t"), std::iter::empty());
    }
    assert!(lookup.goals().len() >= K);
}

#[test]
fn an_address_is_asked_once_and_a_network_twice() {
    let mut rng = Rng::new(5);
    let nodes: Vec<_> = (0..9).map(|n| contact(3, n, false, &mut rng)).collect();
    let mut lookup = lookup(&nodes);
    let mut hits = 0;
    for round in 0_u8..100 {
        let Some(addr) = next(&mut lookup) else { break };
        if addr.ip().to_string().starts_with("198.51.100.") {
            hits += 1;
            lookup.failed(addr);
            continue;
        }
        let named = (0..8_u8).map(|n| Contact {
            id: TARGET.sharing(40 + usize::from(n), [round; 20]),
            addr: SocketAddr::from(([198, 51, 100, round.wrapping_mul(8) + n], 2_000)),
        });
        let node = nodes.iter().find(|it| it.addr == addr).expect("a start");
        lookup.answered(*node, Some(b"t"), named);
    }
    assert_eq!(hits, PER_PREFIX_MAX);
}

#[test]
fn a_lookup_that_never_comes_closer_ends() {
    let mut rng = Rng::new(6);
    let start = contact(3, 0, false, &mut rng);
    let mut lookup = lookup(&[start]);
    let mut n = 0;
    while let Some((id, addr)) = lookup.next(|_| Leave::Granted) {
        n += 1;
        let id = id.expect("all have one");
        // Ever closer nodes that are all there.
        let named: Vec<_> = (0..8)
            .map(|i| {
                let bits = (3 + n / 2).min(150);
                let mut random = [0; 20];
                rng.fill(&mut random);
                Contact {
                    id: TARGET.sharing(bits, random),
                    addr: self::addr(n * 8 + i + 1),
                }
            })
            .collect();
        lookup.answered(Contact { id, addr }, None, named.into_iter());
        lookup.check_invariants();
    }
    assert!(lookup.is_over());
    assert!(lookup.queries <= QUERIES_MAX, "{}", lookup.queries);
}
