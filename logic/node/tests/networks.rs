//! How many connections one network gets (section 4 of the guarantees).
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Rig, Setup};

/// Of one /24 or /64, of one /48, and of those of a /24 or /64 the half-open ones.
const NETWORK: usize = 10;
const SITE: usize = 40;
const HALF_OPEN: usize = 4;

fn v4(net: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([12, 0, net, host], 7_000))
}

/// In `2001:db9:1::/48`, or in another one.
fn v6(site: u16, net: u16, host: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb9, site, net, 0, 0, 0, host], 7_000))
}

/// Of those that come from there one after another, how many are let in; each shakes hands.
fn let_in(rig: &mut Rig, from: impl Iterator<Item = SocketAddr>) -> usize {
    let each = from.map(|addr| rig.connect_from(addr, true));
    each.collect::<Vec<_>>().iter().flatten().count()
}

#[test]
fn a_network_gets_ten_connections_and_a_site_forty() {
    let mut rig = Rig::new(&Setup::default());
    assert_eq!(let_in(&mut rig, (0..30).map(|n| v4(1, n))), NETWORK);
    assert_eq!(let_in(&mut rig, (0..30).map(|n| v6(1, 1, n))), NETWORK);
    // The neighbours of both are other networks; all /64s of a /48 are one site.
    assert_eq!(let_in(&mut rig, (0..30).map(|n| v4(2, n))), NETWORK);
    let others = (2..30).flat_map(|net| [v6(1, net, 1), v6(1, net, 2)]);
    assert_eq!(let_in(&mut rig, others), SITE - NETWORK);
    assert_eq!(let_in(&mut rig, (0..30).map(|n| v6(2, 1, n))), NETWORK);
}

#[test]
fn an_address_of_both_families_counts_once() {
    let mut rig = Rig::new(&Setup::default());
    let mapped = |n: u8| {
        let ip = std::net::Ipv4Addr::new(12, 0, 1, n).to_ipv6_mapped();
        SocketAddr::from((ip, 7_000))
    };
    let both = (0..30).map(|n| if n % 2 == 0 { v4(1, n) } else { mapped(n) });
    assert_eq!(let_in(&mut rig, both), NETWORK);
}

#[test]
fn who_left_makes_room_for_another_of_its_network() {
    let mut rig = Rig::new(&Setup::default());
    assert_eq!(let_in(&mut rig, (0..30).map(|n| v4(1, n))), NETWORK);
    rig.close(3);
    assert!(rig.connect_from(v4(1, 100), true).is_some());
    assert!(rig.connect_from(v4(1, 101), true).is_none());
}

#[test]
fn four_of_a_network_may_be_half_open() {
    let mut rig = Rig::new(&Setup::default());
    let knock = |rig: &mut Rig, addr| rig.node.handle_accept(rig.now, addr).is_some();
    for n in 0..30 {
        assert_eq!(knock(&mut rig, v4(1, n)), usize::from(n) < HALF_OPEN);
        assert_eq!(
            knock(&mut rig, v6(1, 1, n.into())),
            usize::from(n) < HALF_OPEN
        );
    }
    assert!(knock(&mut rig, v4(2, 1)) && knock(&mut rig, v6(1, 2, 1)));
    // They are given ten seconds.
    (0..11).for_each(|_| rig.pass(Duration::from_secs(1)));
    assert!(knock(&mut rig, v4(1, 1)) && knock(&mut rig, v6(1, 1, 1)));
}

#[test]
fn loopback_and_private_networks_are_not_limited() {
    let mut rig = Rig::new(&Setup::default());
    for net in [[127, 0, 0], [10, 0, 0], [192, 168, 1], [172, 16, 0]] {
        let [a, b, c] = net;
        let many = (1..=30).map(|n| SocketAddr::from(([a, b, c, n], 7_000)));
        assert_eq!(let_in(&mut rig, many), 30, "{net:?}");
    }
}
