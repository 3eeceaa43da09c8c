//! What a gateway maps our port to is what those outside are told.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::{Rig, Said, Setup};
use torr_base::{InfoHash, Instant, PeerId, Rng};
use torr_node::{Action, Gateway, HttpReply, MagnetInit, MapAction, Node, NodeConfig, PortStatus};
use torr_store::{BlockBuf, BlockPool, StorageId};
use torr_tracker::portmap::GATEWAY_PORT;
use torr_wire::ExtendedHandshake;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 20);
const OWN_PORT: u16 = 6881;
const OUTSIDE: u16 = 40_001;

/// PCP's answer (RFC 6887 section 11.1) to what is asked under that secret.
fn grant(secret: [u8; 32]) -> Vec<u8> {
    let mut answer = vec![2, 0x81, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 0, 9];
    answer.resize(24, 0);
    answer.extend(&secret[..12]);
    answer.extend([6, 0, 0, 0]);
    answer.extend(OWN_PORT.to_be_bytes());
    answer.extend(OUTSIDE.to_be_bytes());
    answer.extend(Ipv4Addr::new(203, 0, 113, 5).to_ipv6_mapped().octets());
    answer
}

fn map<B>(node: &mut Node<B>, now: Instant) {
    node.handle_timeout(now);
    let gateway = Gateway {
        addr: GATEWAY,
        local: LOCAL,
    };
    node.handle_gateway(now, Ok(gateway));
    let from = SocketAddr::from((GATEWAY, GATEWAY_PORT));
    node.handle_gateway_datagram(now, from, &grant([3; 32]));
    let open = node.port_status();
    assert!(matches!(open, Some(PortStatus::Open(open)) if open.tcp == OUTSIDE));
}

#[test]
fn peers_outside_hear_the_port_outside_and_those_near_our_own() {
    let mut rig = Rig::with(&Setup::default(), |config| {
        config.map_port = Some([3; 32]);
    });
    let port = |rig: &mut Rig, ip: [u8; 4]| {
        let n = rig
            .connect_from(SocketAddr::from((ip, 7_000)), true)
            .unwrap();
        let said = rig.hear(n);
        let hello = said.iter().find_map(|said| match said {
            Said::Extended(text) => ExtendedHandshake::parse(text).ok(),
            _ => None,
        });
        hello.unwrap().port
    };
    assert_eq!(port(&mut rig, [11, 1, 1, 1]), Some(OWN_PORT));
    let now = rig.now;
    map(&mut rig.node, now);
    rig.act();
    assert_eq!(port(&mut rig, [11, 1, 2, 1]), Some(OUTSIDE));
    for near in [[192, 168, 1, 7], [10, 0, 0, 7], [127, 0, 0, 1]] {
        assert_eq!(port(&mut rig, near), Some(OWN_PORT), "{near:?}");
    }
}

/// Carries nothing out; what is asked of trackers is kept.
fn announces(node: &mut Node<BlockBuf>, now: Instant) -> Vec<String> {
    node.handle_timeout(now);
    let mut urls = Vec::new();
    while let Some(action) = node.poll_action() {
        if let Action::Http { request, url } = action {
            urls.push(url);
            let body = "d8:intervali1800e5:peers0:e";
            node.handle_http(now, request, Ok(HttpReply::new(200, body)));
        }
    }
    urls
}

#[test]
fn trackers_hear_the_port_outside_as_soon_as_they_allow() {
    let mut config = NodeConfig::new(PeerId([1; 20]), OWN_PORT, "torr test".into());
    config.map_port = Some([3; 32]);
    let pool = Box::new(BlockPool::with_bytes(1 << 20));
    let mut now = Instant::ZERO;
    let mut node = Node::new(config, pool, Rng::new(1), now);
    let init = MagnetInit {
        storage: StorageId(1),
        info_hash: InfoHash([9; 20]),
        trackers: vec![vec!["http://11.9.9.9/announce".to_owned()]],
        peers: Vec::new(),
        sequential: false,
        waits: false,
    };
    node.add_magnet(now, init).unwrap();
    // It is not waited for the gateway.
    let first = announces(&mut node, now);
    assert!(
        first.len() == 1 && first[0].contains("&port=6881&"),
        "{first:?}"
    );
    map(&mut node, now);
    assert!(announces(&mut node, now).is_empty(), "sooner than a minute");
    let mut more = Vec::new();
    for _ in 0..120 {
        now = now + Duration::from_secs(1);
        more.extend(announces(&mut node, now));
    }
    assert!(
        more.len() == 1 && more[0].contains("&port=40001&"),
        "{more:?}"
    );
}

#[test]
fn who_did_not_ask_for_it_asks_nobody() {
    let mut rig = Rig::new(&Setup::default());
    rig.pass(Duration::from_secs(5));
    let now = rig.now;
    rig.node.handle_network_changed(now);
    rig.node.handle_timeout(now + Duration::from_secs(20));
    while let Some(action) = rig.node.poll_action() {
        assert!(!matches!(action, Action::PortMap(MapAction::FindGateway)));
    }
    assert!(rig.node.port_status().is_none() && rig.node.is_port_given_back());
}
