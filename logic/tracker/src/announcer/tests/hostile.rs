//! G15: trackers that lie, one reply each. All of them in one torrent beside a good one, for a day.

use super::*;

/// Name, reply, and what people are told, where it fails.
fn replies() -> Vec<(&'static str, Answer, Option<&'static str>)> {
    let flood = |n: usize| {
        let mut body = format!("d8:intervali60e5:peers{}:", n * 6).into_bytes();
        (0..n).for_each(|i| body.extend_from_slice(&[8, 8, (i >> 8) as u8, i as u8, 0, 9]));
        body.push(b'e');
        body
    };
    let deep = [vec![b'l'; 5000], vec![b'e'; 5000]].concat();
    let status = |status, body: &str| Some((secs(1), Ok(HttpReply::new(status, body))));
    vec![
        ("interval-negative", says("d8:intervali-1e5:peers0:e"), None),
        ("interval-zero", says("d8:intervali0e5:peers0:e"), None),
        ("interval-one", says("d8:intervali1e5:peers0:e"), None),
        (
            "interval-2-63",
            says("d8:intervali9223372036854775808e5:peers0:e"),
            None,
        ),
        (
            "interval-huge",
            says("d8:intervali99999999999999999999999999e5:peers0:e"),
            None,
        ),
        ("interval-text", says("d8:interval4:1800e"), None),
        ("interval-missing", says("d5:peers0:e"), None),
        ("interval-list", says("d8:intervalli5eee"), None),
        (
            "min-huge",
            says("d8:intervali60e12:min intervali9223372036854775807ee"),
            None,
        ),
        (
            "min-negative",
            says("d8:intervali60e12:min intervali-5ee"),
            None,
        ),
        ("min-one", says("d8:intervali1e12:min intervali1ee"), None),
        ("empty", says(""), Some("empty reply")),
        (
            "html",
            says("<html><script>alert(1)</script>"),
            Some("not bencode"),
        ),
        ("integer", says("i5e"), Some("not bencode")),
        (
            "truncated",
            says("d8:intervali1800e5:peers60:x"),
            Some("not bencode"),
        ),
        ("deep", says(deep), Some("not bencode")),
        (
            "length-lie",
            says("d8:intervali60e5:peers4294967295:xe"),
            Some("not bencode"),
        ),
        (
            "length-overflow",
            says("d5:peers99999999999999999999:xe"),
            Some("not bencode"),
        ),
        (
            "duplicate-key",
            says("d8:intervali60e8:intervali70ee"),
            Some("not bencode"),
        ),
        (
            "trailing",
            says("d8:intervali1800e5:peers0:e\r\n<!-- x -->"),
            None,
        ),
        ("unsorted", says("d5:peers0:8:intervali1800ee"), None),
        (
            "peers-odd",
            says("d8:intervali1800e5:peers7:\x08\x08\x08\x08\x00\x09\x08e"),
            None,
        ),
        ("peers-integer", says("d8:intervali1800e5:peersi5ee"), None),
        (
            "peers-of-peers",
            says("d8:intervali1800e5:peersld2:ip1:x4:porti1eeee"),
            None,
        ),
        (
            "peers-names",
            says("d8:intervali1800e5:peersld2:ip9:localhost4:porti22eeee"),
            None,
        ),
        (
            "peers-ports",
            says("d8:intervali1800e5:peersld2:ip7:8.8.8.84:porti70000eeee"),
            None,
        ),
        (
            "peers-local",
            says("d8:intervali1800e5:peers6:\x7f\x00\x00\x01\x00\x16e"),
            None,
        ),
        (
            "peers-metadata",
            says([&b"d8:intervali1800e5:peers6:\xa9\xfe\xa9\xfe\0\x50e"[..]].concat()),
            None,
        ),
        ("peers-flood", says(flood(100_000)), None),
        (
            "failure",
            says("d14:failure reason8:go away!e"),
            Some("go away!"),
        ),
        (
            "failure-escape",
            says("d14:failure reason9:a\x1b]0;x\x07bze"),
            Some("a]0;xbz"),
        ),
        (
            "failure-empty",
            says("d14:failure reason0:e"),
            Some("refused without a reason"),
        ),
        (
            "failure-list",
            says("d14:failure reasonlee"),
            Some("refused without a reason"),
        ),
        (
            "failure-never",
            says("d14:failure reason2:no8:retry in5:nevere"),
            Some("no"),
        ),
        (
            "failure-retry",
            says("d14:failure reason2:no8:retry in1:0e"),
            Some("no"),
        ),
        (
            "failure-retry-huge",
            says("d14:failure reason2:no8:retry ini99999999999999ee"),
            Some("no"),
        ),
        (
            "failure-retry-negative",
            says("d14:failure reason2:no8:retry ini-5ee"),
            Some("no"),
        ),
        (
            "warning",
            says(b"d8:intervali60e15:warning message5:\xff\xfe\x00a\x07e"),
            None,
        ),
        (
            "tracker-id-long",
            says(
                [
                    b"d8:intervali60e10:tracker id9999:".to_vec(),
                    vec![b'x'; 9999],
                    b"e".to_vec(),
                ]
                .concat(),
            ),
            None,
        ),
        (
            "status-500",
            status(500, "d8:intervali60ee"),
            Some("HTTP status 500"),
        ),
        (
            "status-404",
            status(404, "not here"),
            Some("HTTP status 404"),
        ),
        (
            "status-403-bencode",
            status(403, "d14:failure reason4:nopee"),
            Some("nope"),
        ),
        ("hang", None, None),
        (
            "timeout",
            Some((secs(30), Err("time-out after 30 s".into()))),
            Some("time-out"),
        ),
        (
            "redirect-circle",
            Some((secs(1), Err("redirects in a circle".into()))),
            Some("circle"),
        ),
        (
            "rubbish",
            says(
                (0..1 << 20)
                    .map(|i: u32| (i * 7 % 251) as u8)
                    .collect::<Vec<_>>(),
            ),
            Some("not bencode"),
        ),
    ]
}

#[test]
fn forty_lies_delay_nobody_and_none_is_asked_too_often() {
    let lies = replies();
    assert!(lies.len() >= 40);
    let mut urls: Vec<String> = lies
        .iter()
        .map(|(name, ..)| format!("http://{name}/a"))
        .collect();
    urls.push("http://honest/a".to_owned());
    let tiers: Vec<[&str; 1]> = urls.iter().map(|url| [url.as_str()]).collect();
    let tiers: Vec<&[&str]> = tiers.iter().map(|tier| &tier[..]).collect();
    let mut world = World::new(&tiers).tracker("honest", |_| good());
    for (name, answer, _) in lies.clone() {
        world = world.tracker(name, move |_| answer.clone());
    }
    world.start();
    world.run(secs(1));
    assert!(
        world.peers().contains(&"8.8.8.8:6881".parse().unwrap()),
        "within a second"
    );
    world.run(secs(86_410));

    let transport = ["hang", "timeout", "redirect-circle"];
    for (name, _, _) in &lies {
        let times = world.times(name);
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let least = if transport.contains(name) { 11 } else { 60 };
        assert!(gaps.iter().all(|gap| *gap >= least), "{name}: {gaps:?}");
        let most = gaps.iter().max().copied().unwrap_or(0);
        assert!(
            most <= 3 * 3600 || name.contains("retry"),
            "{name}: {gaps:?}"
        );
        if !["failure-never", "failure-retry-huge"].contains(name) {
            assert!(times.len() >= 8, "{name} is not given up: {times:?}");
        }
    }
    assert_eq!(world.times("failure-never").len(), 1);
    assert_eq!(world.times("honest").len(), 86_400 / 1800 + 1);
    assert_eq!(world.times("interval-2-63").len(), 86_400 / (3 * 3600) + 1);

    for ((name, _, expected), status) in lies.iter().zip(world.announcer.trackers()) {
        match expected {
            Some(expected) => {
                let error = status.last_error.unwrap_or_default();
                assert!(error.contains(expected), "{name}: {error}");
                assert!(
                    error.len() < 1300 && !error.chars().any(char::is_control),
                    "{name}"
                );
            }
            None if *name == "hang" => assert_eq!(status.last_error, Some("no answer")),
            None => assert_eq!(status.state, TrackerState::Working, "{name}: {status:?}"),
        }
    }
}

#[test]
fn what_comes_through_is_bounded_and_usable() {
    for (name, answer, _) in replies() {
        let mut world = World::new(&[&["http://liar/a"]]).tracker("liar", move |_| answer.clone());
        world.start();
        world.run(secs(40));
        let peers = world.peers();
        assert!(peers.len() <= crate::PEERS_MAX, "{name}");
        for peer in &peers {
            assert!(
                crate::policy::allowed_peer(*peer, false) && peer.port() != 0,
                "{name}: {peer}"
            );
        }
        match name {
            "peers-flood" => assert_eq!(peers.len(), crate::PEERS_MAX),
            "peers-odd" => assert_eq!(peers.len(), 1),
            _ => assert!(peers.is_empty(), "{name}: {peers:?}"),
        }
        for action in &world.rest {
            if let TrackerAction::Status {
                event: TrackerEvent::Warning(text),
                ..
            } = action
            {
                assert!(!text.chars().any(char::is_control), "{text:?}");
            }
        }
    }
}

#[test]
fn a_loopback_tracker_may_ask_for_a_short_interval() {
    let body = "d8:intervali5e12:min intervali2ee";
    let mut world = World::new(&[&["http://127.0.0.1/announce"], &["http://far/announce"]])
        .tracker("127.0.0.1", move |_| says(body))
        .tracker("far", move |_| says(body));
    world.start();
    world.run(secs(60));
    assert_eq!(world.times("127.0.0.1").len(), 12);
    assert_eq!(world.times("far"), [0]);
    // Without `min interval` the minute holds there as well.
    let mut world = World::new(&[&["http://localhost:80/announce"]])
        .tracker("localhost", |_| says("d8:intervali5ee"));
    world.start();
    world.run(secs(59));
    assert_eq!(world.times("localhost"), [0]);
}

#[test]
fn one_that_answers_from_loopback_is_known_by_its_address() {
    let body = b"d8:intervali5e12:min intervali2e5:peers6:\x7f\0\0\x01\x1a\xe1e";
    let reply = HttpReply {
        from: Some("::1".parse().unwrap()),
        ..HttpReply::new(200, body)
    };
    let answer = Some((secs(0), Ok(reply)));
    let mut world =
        World::new(&[&["http://named/announce"]]).tracker("named", move |_| answer.clone());
    world.start();
    world.run(secs(4));
    assert_eq!(world.peers(), ["127.0.0.1:6881".parse().unwrap()]);
}

#[test]
fn keys_never_show() {
    let key = "0123456789abcdef0123456789abcdef";
    let url = format!("http://a/{key}/announce");
    let error = format!("error for url ({url}?x=1): refused");
    let mut world = World::new(&[&[&url]]).tracker("a", move |url| {
        let reason = format!("d14:failure reason32:{key}e");
        match argument(url, "numwant").as_str() {
            "50" => Some((secs(1), Err(error.clone()))),
            _ => says(reason),
        }
    });
    world.start();
    world.run(secs(2));
    world.stats.peers_wanted = 7;
    world.run(secs(30));
    assert!(world.gets[0].1.contains(key));
    let shown = format!(
        "{:?} {:?} {:?}",
        world.rest,
        world.failures(),
        world.announcer.trackers().next()
    );
    assert!(!shown.contains(key), "{shown}");
    assert_eq!(world.failures().len(), 2);
    let action = TrackerAction::HttpGet {
        request: RequestId(0),
        url,
    };
    assert!(!format!("{action:?}").contains(key));
}
