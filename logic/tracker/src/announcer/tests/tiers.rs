use super::*;

#[test]
fn all_tiers_at_once_and_a_dead_first_one_costs_nothing() {
    let mut world = World::new(&[&["http://dead/a"], &["http://b/a"], &["http://c/a"]])
        .tracker("dead", |_| None)
        .tracker("b", |_| good())
        .tracker("c", |_| good());
    world.start();
    world.run(secs(1));
    assert_eq!(world.gets.len(), 3);
    assert_eq!(world.peers().len(), 2, "within the first second");
}

#[test]
fn inside_a_tier_the_next_one_follows_a_failure_at_once() {
    let mut world = World::new(&[&["http://a/a", "http://b/a", "http://c/a"]])
        .tracker("a", |_| refused())
        .tracker("b", |_| refused())
        .tracker("c", |_| good());
    world.start();
    world.run(secs(1));
    assert_eq!(world.peers().len(), 1);
    // The one that works is in front now (BEP 12), and the others are left alone.
    let front = world.announcer.tiers[0].order[0];
    let state = world.announcer.trackers().nth(front).unwrap().state;
    assert_eq!(state, TrackerState::Working);
    let asked = world.gets.len();
    world.run(secs(1700));
    assert_eq!(world.gets.len(), asked);
    world.run(secs(200));
    assert_eq!(world.gets.len(), asked + 1);
    assert_eq!(world.times("c").last(), Some(&1800));
    assert_eq!(
        world
            .states()
            .into_iter()
            .filter(|it| *it == TrackerState::Working)
            .count(),
        1
    );
}

#[test]
fn a_hanging_one_gets_company_after_five_seconds() {
    let mut world = World::new(&[&["http://a/a", "http://b/a"]])
        .tracker("a", |_| None)
        .tracker("b", |_| None);
    world.start();
    world.run(secs(4));
    assert_eq!(world.gets.len(), 1);
    world.run(secs(2));
    assert_eq!(world.gets.len(), 2);
    assert_eq!(world.gets[1].0, 1005);
}

#[test]
fn what_happens_elsewhere_hurries_nobody() {
    let mut world = World::new(&[
        &["http://a/a", "http://b/a"],
        &["http://c/a"],
        &["http://d/a"],
    ])
    .tracker("a", |_| None)
    .tracker("b", |_| None)
    .tracker("c", |_| good())
    .tracker("d", |_| Some((secs(3), Err("reset".to_owned()))));
    world.start();
    world.run(secs(4));
    assert_eq!(world.times("a").len() + world.times("b").len(), 1);
}

#[test]
fn order_inside_a_tier_is_random_but_tiers_stay() {
    let mut first = BTreeMap::new();
    for seed in 0..100 {
        let tiers = [vec!["http://a/".to_owned(), "http://b/".to_owned()]];
        let config = announcer(&[]).config;
        let mut announcer = Announcer::new(config, &tiers, Rng::new(seed));
        let mut out = Vec::new();
        announcer.start(Instant::ZERO);
        announcer.handle_timeout(Instant::ZERO, &Stats::default(), &mut out);
        let [TrackerAction::HttpGet { url, .. }] = &out[..] else {
            panic!("{out:?}");
        };
        *first.entry(host(url)).or_insert(0) += 1;
    }
    assert!(first.values().all(|n| (30..70).contains(n)), "{first:?}");
}

#[test]
fn a_failed_regular_announce_moves_the_tier_on_and_back_off_grows() {
    let mut a_works = true;
    let mut world = World::new(&[&["http://a/a"]]).tracker("a", move |_| {
        if std::mem::take(&mut a_works) {
            good()
        } else {
            refused()
        }
    });
    world.start();
    world.run(secs(1800 + 7200));
    let times = world.times("a");
    assert_eq!(times[..2], [0, 1800]);
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (n, gap) in gaps[1..].iter().enumerate() {
        let wait = (15 << n).min(1800);
        assert!(
            (wait * 3 / 4 - 1..=wait * 9 / 8 + 1).contains(gap),
            "{gaps:?}"
        );
    }
    assert!(gaps.len() >= 7, "{gaps:?}");
    assert_eq!(world.states(), [TrackerState::Failing]);
}

#[test]
fn those_that_failed_together_are_not_asked_again_together() {
    let urls: Vec<String> = (0..40).map(|i| format!("http://t{i}/a")).collect();
    let tiers: Vec<[&str; 1]> = urls.iter().map(|url| [url.as_str()]).collect();
    let tiers: Vec<&[&str]> = tiers.iter().map(|tier| &tier[..]).collect();
    let mut world = World::new(&tiers);
    for i in 0..40 {
        world = world.tracker(&format!("t{i}"), |_| refused());
    }
    world.start();
    world.run(secs(20));
    let mut per_second = BTreeMap::new();
    for (at, _) in &world.gets[40..] {
        *per_second.entry(*at).or_insert(0) += 1;
    }
    assert_eq!(per_second.values().sum::<i32>(), 40);
    assert!(per_second.values().all(|n| *n < 20), "{per_second:?}");
}

#[test]
fn a_tier_that_lost_its_tracker_asks_the_other_with_started() {
    let mut good_times = 1;
    let mut world = World::new(&[&["http://a/a"]]).tracker("a", move |_| {
        good_times -= 1;
        if good_times >= 0 { good() } else { refused() }
    });
    world = world.tracker("b", |_| good());
    world.start();
    world.run(secs(10));
    world
        .announcer
        .add_tracker(world.now, 0, "http://b/a")
        .unwrap();
    assert_eq!(
        world.announcer.add_tracker(world.now, 0, "http://b/a"),
        None
    );
    world.run(secs(1800));
    let expected = [("a", "started"), ("a", ""), ("b", "started")];
    let expected = expected.map(|(host, event)| (host.to_owned(), event.to_owned()));
    assert_eq!(world.events(), expected);
}

#[test]
fn two_hedged_ones_both_answer_and_one_serves() {
    let slow = || Some((secs(8), Ok(HttpReply::new(200, GOOD))));
    let mut world = World::new(&[&["http://a/a", "http://b/a"]])
        .tracker("a", move |_| slow())
        .tracker("b", move |_| slow());
    world.start();
    world.run(secs(1790));
    assert_eq!(world.gets.len(), 2);
    world.run(secs(30));
    assert_eq!(world.gets.len(), 3, "{:?}", world.gets);
    world.announcer.stop(world.now);
    world.run(secs(6));
    let stopped = world
        .events()
        .into_iter()
        .filter(|(_, event)| event == "stopped");
    assert_eq!(stopped.count(), 2, "both had accepted a started");
    assert!(world.announcer.is_stopped());
}

#[test]
fn reannounce_keeps_the_minimum_and_retries_what_failed() {
    let mut world = World::new(&[&["http://a/a"], &["http://b/a"]])
        .tracker("a", |_| says("d8:intervali1800e12:min intervali300ee"))
        .tracker("b", |_| refused());
    world.start();
    world.run(secs(100));
    let b_before = world.times("b").len();
    world.announcer.reannounce(world.now);
    world.run(secs(1));
    assert_eq!(world.times("a").len(), 1);
    assert_eq!(world.times("b").len(), b_before + 1);
    world.run(secs(250));
    assert_eq!(world.times("a"), [0, 300]);
}

#[test]
fn an_hour_without_network_ends_within_seconds_and_without_a_storm() {
    // G17.
    let up = std::cell::Cell::new(false);
    let urls: Vec<String> = (0..40).map(|i| format!("http://t{i}/a")).collect();
    let tiers: Vec<[&str; 1]> = urls.iter().map(|url| [url.as_str()]).collect();
    let tiers: Vec<&[&str]> = tiers.iter().map(|tier| &tier[..]).collect();
    let mut world = World::new(&tiers);
    for i in 0..40 {
        world = world.tracker(
            &format!("t{i}"),
            |_| if up.get() { good() } else { refused() },
        );
    }
    world.start();
    world.run(secs(3600));
    let during = world.gets.len();
    assert!(during < 40 * 12, "{during} announces into the void");
    up.set(true);
    world.announcer.network_changed(world.now);
    world.run(secs(5));
    assert_eq!(world.peers().len(), 40, "all answered");
    let at: Vec<u64> = world.gets[during..].iter().map(|(at, _)| *at).collect();
    for second in 4600..4603 {
        let n = at.iter().filter(|at| **at == second).count();
        assert!((5..25).contains(&n), "spread over three seconds: {at:?}");
    }
}

#[test]
fn urls_that_can_not_be_used_are_shown_with_the_reason() {
    let world = World::new(&[&["wss://t/", "http://127.0.0.1:80/admin", "udp://[::1]:1?x=y"]]);
    assert_eq!(world.states(), [TrackerState::Unusable; 3]);
    let errors: Vec<_> = world
        .announcer
        .trackers()
        .map(|it| it.last_error.unwrap())
        .collect();
    assert!(errors[0].contains("udp trackers") && errors[1].contains("/announce"));
    assert!(errors[2].contains("arguments"), "{errors:?}");
    let mut announcer = world.announcer;
    announcer.start(Instant::ZERO);
    let mut out = Vec::new();
    announcer.handle_timeout(Instant::ZERO, &Stats::default(), &mut out);
    assert!(out.is_empty());
    assert_eq!(announcer.next_timeout(), None);
}

#[test]
fn a_private_torrent_uses_one_tracker_at_a_time() {
    let up = std::cell::Cell::new(true);
    let mut world = World::new(&[&["http://a/a"], &["http://b/a"], &["http://c/a"]])
        .tracker("a", |_| if up.get() { good() } else { None })
        .tracker("b", |_| refused())
        .tracker("c", |_| good());
    world.announcer.use_one_at_a_time();
    world.start();
    world.run(secs(1799));
    assert_eq!(world.gets.len(), 1);
    up.set(false);
    world.run(secs(59));
    assert_eq!(world.gets.len(), 2);
    // The world has no time-out of its own for a request that hangs; the announcer's is the long one.
    world.run(secs(360));
    assert_eq!((world.times("b").len(), world.times("c").len()), (1, 1));
    let working: Vec<_> = world
        .states()
        .iter()
        .map(|state| *state == TrackerState::Working)
        .collect();
    assert_eq!(working, [false, false, true]);
    let tiers: Vec<_> = world.announcer.trackers().map(|it| it.tier).collect();
    assert_eq!(tiers, [0, 1, 2]);
}

#[test]
fn a_private_torrent_gives_a_silent_tracker_up_for_the_next() {
    let mut world =
        World::new(&[&["udp://192.0.2.1:80"], &["http://b/a"]]).tracker("b", |_| good());
    world.announcer.use_one_at_a_time();
    world.start();
    world.run(secs(59));
    assert!(world.gets.is_empty());
    world.run(secs(2));
    assert_eq!(world.times("b"), [60]);
    assert_eq!(
        world.states(),
        [TrackerState::Failing, TrackerState::Working]
    );
    let sent = world.rest.len();
    world.run(secs(1700));
    assert_eq!(world.rest.len(), sent, "the silent one is left alone");
}
