//! A gateway that answers as the RFCs have it, or as none should.

#![allow(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use torr_base::{Instant, Rng};

use super::upnp::Place;
use super::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 20);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const PORT: u16 = 6881;

fn from_gateway() -> SocketAddr {
    SocketAddr::from((GATEWAY, GATEWAY_PORT))
}

/// A mapper, the time, and what it wants done.
struct World {
    mapper: PortMapper,
    now: Instant,
    out: Vec<MapAction>,
}

impl World {
    /// Asked where the gateway is, and told.
    fn new(udp: bool) -> Self {
        let mut secret = [7; 32];
        secret[12..24].fill(8);
        let mapper = PortMapper::new(PORT, udp, secret, Rng::new(1), Instant::ZERO);
        let mut world = Self {
            mapper,
            now: Instant::ZERO,
            out: Vec::new(),
        };
        world.locate();
        world
    }

    fn locate(&mut self) {
        self.mapper.handle_timeout(self.now, &mut self.out);
        assert_eq!(self.out, [MapAction::FindGateway]);
        self.out.clear();
        let gateway = Gateway {
            addr: GATEWAY,
            local: LOCAL,
        };
        self.mapper
            .handle_gateway(self.now, Ok(gateway), &mut self.out);
    }

    /// Lets time pass until something is to be done, or `secs` are over.
    fn wait(&mut self, secs: u64) {
        let end = self.now + Duration::from_secs(secs);
        while self.out.is_empty() {
            match self.mapper.next_timeout().filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due),
                None if self.mapper.next_timeout().is_none() => return,
                None => {
                    self.now = end;
                    return;
                }
            }
            self.mapper.handle_timeout(self.now, &mut self.out);
            self.mapper.check_invariants();
        }
    }

    /// The datagrams that go to the gateway.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let take = |action| match action {
            MapAction::Send { to, bytes } => {
                assert_eq!(to, SocketAddrV4::new(GATEWAY, GATEWAY_PORT));
                bytes
            }
            other => panic!("{other:?}"),
        };
        self.out.drain(..).map(take).collect()
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.mapper
            .handle_datagram(self.now, from_gateway(), bytes, &mut self.out);
        self.mapper.check_invariants();
    }

    fn open(&self) -> OpenPort {
        match self.mapper.status() {
            PortStatus::Open(open) => *open,
            other => panic!("{other:?}"),
        }
    }

    /// The next call over HTTP: its number, and its name; "" for a GET.
    fn http(&mut self) -> (u64, Place, String) {
        match self.out.remove(0) {
            MapAction::Http {
                request,
                place,
                call,
            } => (request, place, call.map_or(String::new(), |it| it.body)),
            other => panic!("{other:?}"),
        }
    }

    fn reply(&mut self, request: u64, status: u16, body: &str) {
        let answer = Ok((status, body.to_owned()));
        self.mapper
            .handle_http(self.now, request, answer, &mut self.out);
        self.mapper.check_invariants();
    }

    /// PCP and NAT-PMP stay unanswered: the search has begun.
    fn up_to_upnp(&mut self) {
        for _ in 0..2 {
            self.out.clear();
            self.mapper.handle_unreachable(self.now, &mut self.out);
        }
    }
}

/// The answer of RFC 6887 figure 9 to a request, made of the request.
fn pcp_answer(request: &[u8], result: u8, external: u16, lifetime: u32, epoch: u32) -> Vec<u8> {
    let mut answer = request.to_vec();
    answer[1] |= 0x80;
    answer[3] = result;
    answer[4..8].copy_from_slice(&lifetime.to_be_bytes());
    answer[8..12].copy_from_slice(&epoch.to_be_bytes());
    answer[12..24].fill(0);
    answer[42..44].copy_from_slice(&external.to_be_bytes());
    answer[44..60].copy_from_slice(&OUTSIDE.to_ipv6_mapped().octets());
    answer
}

fn natpmp_answer(request: &[u8], external: u16, lifetime: u32, epoch: u32) -> Vec<u8> {
    let mut answer = vec![0, request[1] | 128, 0, 0];
    answer.extend(epoch.to_be_bytes());
    if request[1] == 0 {
        answer.extend(OUTSIDE.octets());
    } else {
        answer.extend(&request[4..6]);
        answer.extend(external.to_be_bytes());
        answer.extend(lifetime.to_be_bytes());
    }
    answer
}

#[test]
fn a_pcp_request_is_the_packet_of_the_rfc() {
    let mut world = World::new(false);
    let sent = world.sent();
    let mut wanted = vec![2, 1, 0, 0, 0, 0, 0x0e, 0x10];
    wanted.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 20]);
    wanted.extend([7; 12]);
    wanted.extend([6, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe1]);
    wanted.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(sent, [wanted]);
}

#[test]
fn pcp_maps_renews_at_half_and_takes_back() {
    let mut world = World::new(true);
    let sent = world.sent();
    assert_eq!(sent.len(), 2);
    world.hear(&pcp_answer(&sent[0], 0, 40_001, 600, 1_000));
    assert_eq!(*world.mapper.status(), PortStatus::Asking);
    world.hear(&pcp_answer(&sent[1], 0, 40_002, 600, 1_000));
    let open = world.open();
    assert_eq!((open.way, open.address), (Way::Pcp, Some(OUTSIDE)));
    assert_eq!(
        (open.local, open.tcp, open.udp),
        (PORT, 40_001, Some(40_002))
    );
    assert!(!open.is_behind_another());

    world.wait(299);
    assert!(world.out.is_empty());
    world.wait(2);
    assert_eq!(world.now.since(Instant::ZERO).as_secs(), 300);
    let again = world.sent();
    // The same nonce, and the port that is there already.
    assert_eq!(again[0][24..36], sent[0][24..36]);
    assert_eq!(again[0][42..44], 40_001_u16.to_be_bytes());
    world.hear(&pcp_answer(&again[0], 0, 40_001, 600, 1_300));
    world.hear(&pcp_answer(&again[1], 0, 40_002, 600, 1_300));
    assert_eq!(world.open().tcp, 40_001);

    world.mapper.end(world.now, &mut world.out);
    let back = world.sent();
    assert!(back.iter().all(|it| it[4..8] == [0; 4]) && back.len() == 2);
    assert!(!world.mapper.is_ended());
    world.hear(&pcp_answer(&back[0], 0, 40_001, 0, 1_301));
    world.hear(&pcp_answer(&back[1], 0, 40_002, 0, 1_301));
    assert!(world.mapper.is_ended() && world.mapper.next_timeout().is_none());
}

#[test]
fn a_gateway_that_is_silent_at_the_end_costs_a_second() {
    let mut world = World::new(false);
    let sent = world.sent();
    world.hear(&pcp_answer(&sent[0], 0, 40_001, 600, 1_000));
    let began = world.now;
    world.mapper.end(world.now, &mut world.out);
    let mut tries = 0;
    while !world.mapper.is_ended() {
        tries += world.sent().len();
        world.wait(10);
    }
    assert!(
        tries >= 2 && world.now.since(began) <= END_PATIENCE,
        "{tries}"
    );
}

#[test]
fn waits_double_and_then_the_next_way_is_tried() {
    let mut world = World::new(false);
    let mut waits = Vec::new();
    let mut versions = Vec::new();
    let mut last = world.now;
    while let [MapAction::Send { bytes, .. }, ..] = &world.out[..] {
        versions.push(bytes[0]);
        waits.push(world.now.since(last).as_millis());
        last = world.now;
        world.out.clear();
        world.wait(60);
    }
    assert_eq!(versions, [2, 2, 2, 2, 0, 0, 0, 0]);
    assert_eq!(waits, [0, 250, 500, 1_000, 2_000, 250, 500, 1_000]);
    // Then UPnP, three times, and after that nothing for a quarter of an hour.
    let mut searches = 0;
    while let [MapAction::Search { .. }] = &world.out[..] {
        searches += 1;
        world.out.clear();
        world.wait(60);
    }
    assert_eq!(searches, 3);
    let PortStatus::Closed(why) = world.mapper.status() else {
        panic!()
    };
    assert_eq!(why, "PCP: no answer; NAT-PMP: no answer; UPnP: no answer");
    world.wait(13 * 60);
    assert!(world.out.is_empty());
    world.wait(4 * 60);
    assert_eq!(world.out, [MapAction::FindGateway]);
}

#[test]
fn a_gateway_of_version_0_is_asked_by_natpmp() {
    // RFC 6886 section 3.5, and RFC 6887 section 9: both are known.
    for answer in [
        &[0, 129, 0, 1, 0, 0, 0, 9][..],
        &[
            1, 0x81, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ] {
        let mut world = World::new(true);
        world.sent();
        world.hear(answer);
        let sent = world.sent();
        assert_eq!(sent.len(), 3);
        assert_eq!(sent[0], [0, 0]);
        assert_eq!(
            sent[1],
            [0, 2, 0, 0, 0x1a, 0xe1, 0x1a, 0xe1, 0, 0, 0x0e, 0x10]
        );
        assert_eq!(
            sent[2],
            [0, 1, 0, 0, 0x1a, 0xe1, 0x1a, 0xe1, 0, 0, 0x0e, 0x10]
        );
        for (request, port) in sent.iter().zip([0, 40_001, 40_002]) {
            world.hear(&natpmp_answer(request, port, 3_600, 50));
        }
        let open = world.open();
        assert_eq!(
            (open.way, open.address, open.tcp, open.udp),
            (Way::NatPmp, Some(OUTSIDE), 40_001, Some(40_002))
        );
        // Section 3.4: the port outside is 0 when it is taken back.
        world.mapper.end(world.now, &mut world.out);
        let back = world.sent();
        assert_eq!(back[0], [0, 2, 0, 0, 0x1a, 0xe1, 0, 0, 0, 0, 0, 0]);
        for request in &back {
            world.hear(&natpmp_answer(request, 0, 0, 51));
        }
        assert!(world.mapper.is_ended());
    }
}

#[test]
fn a_restart_of_the_gateway_has_all_mapped_again() {
    let mut world = World::new(false);
    let sent = world.sent();
    world.hear(&pcp_answer(&sent[0], 0, 40_001, 600, 100_000));
    world.wait(301);
    let renewal = world.sent();
    // The gateway is up for five seconds: whatever it says of this port, others may be gone.
    world.hear(&pcp_answer(&renewal[0], 0, 40_001, 600, 5));
    let again = world.sent();
    assert_eq!(again.len(), 1);
    // And it may not keep us at it.
    world.hear(&pcp_answer(&again[0], 0, 40_777, 600, 90_000));
    assert!(world.out.is_empty());
    assert_eq!(world.open().tcp, 40_777);
}

#[test]
fn answers_of_others_and_to_other_questions_are_nothing() {
    let mut world = World::new(false);
    let sent = world.sent();
    let good = pcp_answer(&sent[0], 0, 40_001, 600, 1_000);
    let others = [
        SocketAddr::from(([192, 168, 1, 2], GATEWAY_PORT)),
        SocketAddr::from((GATEWAY, 5_350)),
    ];
    for from in others {
        world
            .mapper
            .handle_datagram(world.now, from, &good, &mut world.out);
    }
    let change = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    // A question, another opcode, a wrong nonce, another protocol, another port; and all that is cut short.
    for (at, to) in [(1, 1), (1, 0x82), (24, 9), (36, 17), (36, 1), (40, 0)] {
        world.hear(&change(at, to));
    }
    for len in 0..good.len() {
        world.hear(&good[..len]);
    }
    assert_eq!(*world.mapper.status(), PortStatus::Asking);
    assert!(world.out.is_empty());
    world.hear(&good);
    assert_eq!(world.open().tcp, 40_001);
}

#[test]
fn odd_grants_are_bounded() {
    for lifetime in [1, u32::MAX] {
        let mut world = World::new(false);
        let sent = world.sent();
        world.hear(&pcp_answer(&sent[0], 0, 40_001, lifetime, 1_000));
        let next = world
            .mapper
            .next_timeout()
            .unwrap()
            .since(world.now)
            .as_secs();
        assert!((60..=43_200).contains(&next), "{next}");
    }
    // Port 0 is none.
    let mut world = World::new(false);
    let sent = world.sent();
    world.hear(&pcp_answer(&sent[0], 0, 0, 600, 1_000));
    assert_eq!(*world.mapper.status(), PortStatus::Asking);
    assert_eq!(world.sent()[0][0], natpmp::VERSION);
}

#[test]
fn a_mapping_outlasts_a_gateway_that_is_busy() {
    let mut world = World::new(false);
    let sent = world.sent();
    world.hear(&pcp_answer(&sent[0], 0, 40_001, 600, 1_000));
    world.wait(301);
    // Nothing is said to the renewal; the rest of the time is used.
    let mut renewals = 0;
    while world.now.since(Instant::ZERO) < Duration::from_secs(590) {
        renewals += world.sent().len();
        world.wait(60);
        assert_eq!(world.open().tcp, 40_001);
    }
    assert!((8..40).contains(&renewals), "{renewals}");
}

const DESCRIPTION: &str = "<?xml version=\"1.0\"?>\r\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device>\
    <serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>\
    <controlURL>/l3f</controlURL></service></serviceList><deviceList><device><serviceList>\
    <service><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType>\
    <controlURL>/ppp</controlURL></service><service>\n  <serviceType> urn:schemas-upnp-org:service:WANIPConnection:1 \
    </serviceType><controlURL>ctl/IPConn?a=1&amp;b=2</controlURL></service></serviceList></device></deviceList></device></root>";

fn search_answer(location: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
         Location: {location}\r\n\r\n"
    )
    .into_bytes()
}

#[test]
fn upnp_maps_renews_and_takes_back() {
    let mut world = World::new(true);
    world.up_to_upnp();
    assert!(matches!(world.out[..], [MapAction::Search { .. }]));
    world.out.clear();
    let ssdp = SocketAddr::from((GATEWAY, 1900));
    let answer = search_answer("http://192.168.1.1:5000/igd/root.xml");
    world
        .mapper
        .handle_search(world.now, ssdp, &answer, &mut world.out);
    let (request, place, body) = world.http();
    assert_eq!((place.path.as_str(), body.as_str()), ("/igd/root.xml", ""));
    world.reply(request, 200, DESCRIPTION);
    // TCP, refused for its lease, then for its port; then datagrams by the port of TCP.
    let (request, place, body) = world.http();
    assert_eq!(place.addr, SocketAddrV4::new(GATEWAY, 5_000));
    assert_eq!(place.path, "/igd/ctl/IPConn?a=1&b=2");
    assert!(body.contains("<NewLeaseDuration>3600<") && body.contains("<NewProtocol>TCP<"));
    assert!(body.contains("<NewInternalClient>192.168.1.20<"));
    world.reply(
        request,
        500,
        "<s:Fault><errorCode>725</errorCode></s:Fault>",
    );
    let (request, _, body) = world.http();
    assert!(body.contains("<NewLeaseDuration>0<") && body.contains("<NewExternalPort>6881<"));
    world.reply(request, 500, "<errorCode>718</errorCode>");
    let (request, _, body) = world.http();
    assert!(!body.contains("<NewExternalPort>6881<") && body.contains("<NewInternalPort>6881<"));
    world.reply(request, 200, "");
    let (request, _, body) = world.http();
    assert!(body.contains("<NewProtocol>UDP<"));
    world.reply(request, 200, "");
    let (request, _, body) = world.http();
    assert!(body.contains("GetExternalIPAddress"));
    world.reply(
        request,
        200,
        "<NewExternalIPAddress>10.0.0.7</NewExternalIPAddress>",
    );
    let open = world.open();
    assert_eq!((open.way, open.udp), (Way::Upnp, Some(open.tcp)));
    assert!(open.is_behind_another());

    world.wait(1_801);
    let (request, _, body) = world.http();
    assert!(body.contains(&format!("<NewExternalPort>{}<", open.tcp)));
    world.reply(request, 200, "");
    let (request, ..) = world.http();
    world.reply(request, 200, "");
    let (request, ..) = world.http();
    world.reply(
        request,
        200,
        "<NewExternalIPAddress>203.0.113.5</NewExternalIPAddress>",
    );
    assert_eq!(world.open().address, Some(OUTSIDE));

    world.mapper.end(world.now, &mut world.out);
    let calls = [world.http(), world.http()];
    assert!(
        calls
            .iter()
            .all(|(_, _, body)| body.contains("DeletePortMapping"))
    );
    for (request, ..) in calls {
        assert!(!world.mapper.is_ended());
        world.reply(request, 200, "");
    }
    assert!(world.mapper.is_ended());
}

#[test]
fn no_text_leads_away_from_the_gateway() {
    let ssdp = SocketAddr::from((GATEWAY, 1900));
    let good = "http://192.168.1.1:5000/x";
    let away = [
        "http://192.168.1.2:5000/x",
        "http://127.0.0.1:5000/x",
        "http://192.168.1.1.example.com/x",
        "http://192.168.1.1@127.0.0.1/x",
        "http://localhost/x",
        "https://192.168.1.1/x",
        "http://192.168.1.1:0/x",
        "http://192.168.1.1:70000/x",
        "http://192.168.1.1/a b",
        "http://192.168.1.1/a\nb",
        "file:///etc/passwd",
        "",
    ];
    for location in away {
        assert_eq!(
            upnp::read_search_answer(&search_answer(location), GATEWAY),
            None,
            "{location}"
        );
        let at = Place::parse(good, GATEWAY).unwrap();
        let text = format!(
            "<URLBase>{location}</URLBase><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1\
             </serviceType><controlURL>/c</controlURL></service>"
        );
        let service = upnp::read_description(&text, &at).unwrap();
        assert_eq!(service.place.addr, at.addr, "{location}");
        if location.contains("://") {
            let text = text.replace("/c<", &format!("{location}<"));
            assert_eq!(upnp::read_description(&text, &at), None, "{location}");
        }
    }
    // And who is not the gateway may not tell where it is.
    let mut world = World::new(false);
    world.up_to_upnp();
    world.out.clear();
    let other = SocketAddr::from(([192, 168, 1, 2], 1900));
    world
        .mapper
        .handle_search(world.now, other, &search_answer(good), &mut world.out);
    assert!(world.out.is_empty());
    world
        .mapper
        .handle_search(world.now, ssdp, &search_answer(good), &mut world.out);
    assert_eq!(world.out.len(), 1);
}

#[test]
fn no_gateway_is_told_and_the_network_may_bring_one() {
    let mut world = World::new(false);
    world.mapper.network_changed(world.now);
    world.out.clear();
    world.mapper.handle_timeout(world.now, &mut world.out);
    let why = Err("there is none".to_owned());
    world.mapper.handle_gateway(world.now, why, &mut world.out);
    assert_eq!(
        *world.mapper.status(),
        PortStatus::Closed("there is none".to_owned())
    );
    world.out.clear();
    world.now = world.now + Duration::from_secs(1);
    world.mapper.network_changed(world.now);
    world.locate();
    assert_eq!(world.sent().len(), 1);
}
