use super::*;

fn pairs(events: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(host, event): &(&str, &str)| ((*host).to_owned(), (*event).to_owned());
    events.iter().map(own).collect()
}

#[test]
fn started_regular_completed_stopped() {
    let mut world = World::new(&[&["http://a/a"]]).tracker("a", |_| good());
    world.start();
    world.run(secs(1900));
    world.stats.left = 0;
    world.announcer.completed(world.now);
    world.announcer.completed(world.now);
    world.run(secs(4000));
    world.announcer.stop(world.now);
    assert!(!world.announcer.is_stopped());
    world.run(secs(1));
    assert!(world.announcer.is_stopped());
    assert_eq!(world.announcer.next_timeout(), None);
    assert_eq!(
        world.events(),
        pairs(&[
            ("a", "started"),
            ("a", ""),
            ("a", "completed"),
            ("a", ""),
            ("a", ""),
            ("a", "stopped")
        ])
    );
    // The interval counts from the completed announce on.
    assert_eq!(world.times("a"), [0, 1800, 1900, 3700, 5500, 5900]);
    let last = &world.gets.last().unwrap().1;
    assert_eq!(argument(last, "numwant"), "0");
    assert_eq!(argument(&world.gets[0].1, "numwant"), "50");
}

#[test]
fn a_partial_seed_says_paused_while_it_is_one() {
    let mut world = World::new(&[&["http://a/a"]]).tracker("a", |_| good());
    world.start();
    world.stats.partial_seed = true;
    world.run(secs(3700));
    (world.stats.left, world.stats.partial_seed) = (0, false);
    world.announcer.completed(world.now);
    world.run(secs(10));
    let events = ["started", "paused", "paused", "completed"].map(|event| ("a", event));
    assert_eq!(world.events(), pairs(&events));
}

#[test]
fn a_seed_from_the_start_never_says_completed() {
    let mut world = World::new(&[&["http://a/a"]]).tracker("a", |_| good());
    world.stats.left = 0;
    world.start();
    world.run(secs(10));
    world.announcer.completed(world.now);
    world.run(secs(4000));
    assert!(world.events().iter().all(|(_, event)| event != "completed"));
}

#[test]
fn completed_waits_for_started_and_survives_a_failure() {
    let mut n = 0;
    let mut world = World::new(&[&["http://a/a"]]).tracker("a", move |_| {
        n += 1;
        // started hangs a while; the first completed is refused.
        match n {
            1 => Some((secs(10), Ok(HttpReply::new(200, GOOD)))),
            2 => refused(),
            _ => good(),
        }
    });
    world.start();
    world.run(secs(2));
    world.announcer.completed(world.now);
    world.run(secs(100));
    let expected = pairs(&[("a", "started"), ("a", "completed"), ("a", "completed")]);
    assert_eq!(world.events(), expected);
    world.run(secs(3600));
    let completed = world
        .events()
        .into_iter()
        .filter(|(_, event)| event == "completed");
    assert_eq!(completed.count(), 2, "not again once accepted");
}

#[test]
fn stopped_goes_only_to_those_that_accepted_started() {
    let mut world = World::new(&[&["http://a/a"], &["http://b/a"], &["http://c/a"]])
        .tracker("a", |_| good())
        .tracker("b", |_| refused())
        .tracker("c", |_| None);
    world.start();
    world.run(secs(2));
    let before = world.gets.len();
    world.announcer.stop(world.now);
    world.run(Duration::from_millis(500));
    assert!(
        world.announcer.is_stopped(),
        "nobody waits for the hanging one"
    );
    assert_eq!(world.events()[before..], pairs(&[("a", "stopped")]));
    let cancels = world
        .rest
        .iter()
        .filter(|it| matches!(it, TrackerAction::Cancel { .. }));
    assert_eq!(cancels.count(), 1);
}

#[test]
fn a_tracker_that_never_answers_stopped_costs_five_seconds() {
    let mut world = World::new(&[&["http://a/a"]]).tracker("a", |url| {
        if url.contains("event=stopped") {
            None
        } else {
            good()
        }
    });
    world.start();
    world.run(secs(2));
    world.announcer.stop(world.now);
    world.run(Duration::from_millis(4900));
    assert!(!world.announcer.is_stopped());
    world.run(Duration::from_millis(200));
    assert!(world.announcer.is_stopped());
    assert_eq!(world.announcer.next_timeout(), None);
    assert!(matches!(
        world.rest.last(),
        Some(TrackerAction::Cancel { .. })
    ));
}

#[test]
fn a_session_may_begin_again() {
    let mut world = World::new(&[&["http://a/a"]]).tracker("a", |_| good());
    assert!(world.announcer.is_stopped());
    world.start();
    world.run(secs(2));
    world.announcer.stop(world.now);
    world.run(secs(2));
    world.start();
    world.run(secs(2));
    let expected = pairs(&[("a", "started"), ("a", "stopped"), ("a", "started")]);
    assert_eq!(world.events(), expected);
}

#[test]
fn key_and_tracker_id_are_kept() {
    let body = "d8:intervali100e10:tracker id5:x y&ze";
    let mut world = World::new(&[&["http://a/a"], &["http://b/a"]])
        .tracker("a", move |_| says(body))
        .tracker("b", |_| good());
    world.start();
    world.run(secs(101));
    let keys: Vec<_> = world
        .gets
        .iter()
        .map(|(_, url)| argument(url, "key"))
        .collect();
    assert!(
        keys.iter().all(|key| *key == keys[0] && key.len() == 8),
        "{keys:?}"
    );
    let a: Vec<_> = world
        .gets
        .iter()
        .filter(|(_, url)| host(url) == "a")
        .collect();
    assert_eq!(argument(&a[0].1, "trackerid"), "");
    assert_eq!(argument(&a[1].1, "trackerid"), "x%20y%26z");
    let b = world.gets.iter().find(|(_, url)| host(url) == "b").unwrap();
    assert!(!b.1.contains("trackerid"));
}

#[test]
fn a_late_answer_to_a_cancelled_request_changes_nothing() {
    let mut announcer = announcer(&[&["http://a/a"]]);
    let mut out = Vec::new();
    announcer.start(Instant::ZERO);
    announcer.handle_timeout(Instant::ZERO, &Stats::default(), &mut out);
    let [TrackerAction::HttpGet { request, .. }] = out[..] else {
        panic!("{out:?}");
    };
    announcer.stop(Instant::ZERO);
    let reply = HttpReply::new(200, GOOD);
    let mut out = Vec::new();
    announcer.handle_http(Instant::ZERO, request, Ok(reply), &mut out);
    assert!(out.is_empty());
    announcer.handle_timeout(Instant::ZERO, &Stats::default(), &mut out);
    assert_eq!(out, [TrackerAction::Cancel { request }]);
    assert!(announcer.is_stopped());
}
