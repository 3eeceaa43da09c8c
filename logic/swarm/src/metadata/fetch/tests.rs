use torr_base::Rng;

use super::*;

const BLOCK: usize = BLOCK_LEN as usize;

fn peer(n: u64) -> PeerKey {
    PeerKey::from_unique(n)
}

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

/// Three blocks, the last of them short.
fn metadata() -> Vec<u8> {
    let mut bytes = vec![0; 2 * BLOCK + 100];
    Rng::new(9).fill(&mut bytes);
    bytes
}

fn fetch(bytes: &[u8]) -> Fetch {
    Fetch::new(InfoHash(Sha1::digest(bytes).into()))
}

fn block(bytes: &[u8], block: u32) -> &[u8] {
    bytes.chunks(BLOCK).nth(block as usize).unwrap()
}

/// The peer answers all that it is asked, out of `bytes`.
fn serve(fetch: &mut Fetch, who: PeerKey, bytes: &[u8], now: Instant) -> Outcome {
    while let Some(n) = fetch.next(who, now) {
        let total = Some(bytes.len() as u32);
        let outcome = fetch.data(who, n, total, block(bytes, n), now).unwrap();
        fetch.check_invariants();
        if outcome != Outcome::More {
            return outcome;
        }
    }
    Outcome::More
}

fn found(bytes: &[u8], guilty: &[PeerKey]) -> Outcome {
    Outcome::Found {
        bytes: InfoBytes(bytes.into()),
        guilty: guilty.to_vec(),
    }
}

#[test]
fn blocks_come_from_several_at_once() {
    let bytes = metadata();
    let mut fetch = fetch(&bytes);
    let len = bytes.len() as u32;
    for n in 1..=5 {
        fetch.offer(peer(n), len, at(0)).unwrap();
    }
    let asked: Vec<_> = (1..=3).map(|n| fetch.next(peer(n), at(0))).collect();
    assert_eq!(asked, [Some(0), Some(1), Some(2)]);
    // Nobody is asked for two until it has answered, and none by more than two.
    assert_eq!(fetch.next(peer(1), at(0)), None);
    assert_eq!(fetch.next(peer(4), at(0)), Some(0));
    let (total, now) = (Some(len), at(1));
    for (who, n) in [(2, 1), (3, 2)] {
        let outcome = fetch.data(peer(who), n, total, block(&bytes, n), now);
        assert_eq!(outcome, Ok(Outcome::More));
    }
    let here = u64::from(len) - BLOCK as u64;
    assert_eq!(fetch.progress(), Some((here, len.into())));
    // The last one is asked of two already.
    assert_eq!(fetch.next(peer(2), now), None);
    assert_eq!(fetch.next(peer(5), now), None);
    let outcome = fetch.data(peer(1), 0, total, block(&bytes, 0), now);
    assert_eq!(outcome, Ok(found(&bytes, &[])));
}

/// Metadata of so many whole blocks.
fn blocks(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * BLOCK];
    Rng::new(9).fill(&mut bytes);
    bytes
}

fn ask_all(fetch: &mut Fetch, who: PeerKey, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| fetch.next(who, now)).collect()
}

#[test]
fn who_answers_in_order_is_asked_for_more_at_a_time() {
    let bytes = blocks(40);
    let mut fetch = fetch(&bytes);
    fetch.offer(peer(1), bytes.len() as u32, at(0)).unwrap();
    let mut owed = ask_all(&mut fetch, peer(1), at(0));
    assert_eq!(owed, [0]);
    let mut deepest = 1;
    while let Some(n) = owed.first().copied() {
        owed.remove(0);
        let outcome = fetch
            .data(peer(1), n, None, block(&bytes, n), at(0))
            .unwrap();
        if outcome != Outcome::More {
            assert_eq!(outcome, found(&bytes, &[]));
            break;
        }
        owed.extend(ask_all(&mut fetch, peer(1), at(0)));
        deepest = deepest.max(owed.len());
    }
    assert_eq!(deepest, DEPTH);
}

#[test]
fn requests_that_are_dropped_without_a_word_cost_no_time() {
    let bytes = blocks(12);
    let mut fetch = fetch(&bytes);
    fetch.offer(peer(1), bytes.len() as u32, at(0)).unwrap();
    // It keeps the first of those that come together, and forgets the rest.
    let mut outcome = Outcome::More;
    let mut dropped = 0;
    for _ in 0..40 {
        let asked = ask_all(&mut fetch, peer(1), at(0));
        let Some(n) = asked.first().copied() else {
            break;
        };
        dropped += asked.len() - 1;
        outcome = fetch
            .data(peer(1), n, None, block(&bytes, n), at(0))
            .unwrap();
        fetch.check_invariants();
        if outcome != Outcome::More {
            break;
        }
    }
    assert_eq!(outcome, found(&bytes, &[]));
    assert!(dropped > 0);
}

#[test]
fn a_sole_liar_is_guilty_and_others_go_on() {
    let (right, mut wrong) = (metadata(), metadata());
    wrong[5] ^= 1;
    let mut fetch = fetch(&right);
    fetch.offer(peer(1), right.len() as u32, at(0)).unwrap();
    assert_eq!(
        serve(&mut fetch, peer(1), &wrong, at(0)),
        Outcome::Guilty(peer(1))
    );
    fetch.gone(peer(1));
    fetch.offer(peer(2), right.len() as u32, at(0)).unwrap();
    assert_eq!(
        serve(&mut fetch, peer(2), &right, at(0)),
        found(&right, &[])
    );
}

/// A book of three peers, of which the second put in a wrong block, has just failed.
fn failed_by_the_second(right: &[u8], wrong: &[u8]) -> Fetch {
    let mut fetch = fetch(right);
    let len = right.len() as u32;
    for n in 1..=3 {
        fetch.offer(peer(n), len, at(0)).unwrap();
    }
    for (who, from) in [(1, right), (2, wrong), (3, right)] {
        let n = fetch.next(peer(who), at(0)).unwrap();
        let outcome = fetch.data(peer(who), n, Some(len), block(from, n), at(0));
        // Nobody is guilty yet.
        assert_eq!(outcome, Ok(Outcome::More));
    }
    fetch
}

#[test]
fn shared_blame_is_settled_by_books_from_one_peer_each() {
    let (right, mut wrong) = (metadata(), metadata());
    wrong[BLOCK + 5] ^= 1;
    let mut fetch = failed_by_the_second(&right, &wrong);
    // Two may show what they have, a third waits.
    let asked: Vec<_> = (1..=3).map(|n| fetch.next(peer(n), at(1))).collect();
    assert_eq!(asked, [Some(0), Some(0), None]);
    let outcome = fetch.data(peer(1), 0, None, block(&right, 0), at(1));
    assert_eq!(outcome, Ok(Outcome::More));
    // The right one tells the liar by the block that differs.
    assert_eq!(
        serve(&mut fetch, peer(1), &right, at(1)),
        found(&right, &[peer(2)])
    );
}

#[test]
fn who_lies_alone_in_a_suspect_size_is_guilty() {
    let (right, mut wrong) = (metadata(), metadata());
    wrong[BLOCK + 5] ^= 1;
    let mut fetch = failed_by_the_second(&right, &wrong);
    assert_eq!(
        serve(&mut fetch, peer(2), &wrong, at(1)),
        Outcome::Guilty(peer(2))
    );
    fetch.gone(peer(2));
    // The block that it had put in is known to be wrong in the end as well.
    assert_eq!(
        serve(&mut fetch, peer(3), &right, at(1)),
        found(&right, &[peer(2)])
    );
}

#[test]
fn each_size_has_a_book_of_its_own() {
    let right = metadata();
    let mut fetch = fetch(&right);
    let long = vec![7; right.len() + BLOCK];
    fetch.offer(peer(1), long.len() as u32, at(0)).unwrap();
    fetch.offer(peer(2), right.len() as u32, at(0)).unwrap();
    assert_eq!(fetch.next(peer(1), at(0)), Some(0));
    assert_eq!(
        serve(&mut fetch, peer(2), &right, at(0)),
        found(&right, &[])
    );
}

#[test]
fn invented_sizes_that_bring_nothing_make_room() {
    let right = metadata();
    let mut fetch = fetch(&right);
    for n in 1..=4 {
        fetch.offer(peer(n), 1_000_000 + n as u32, at(0)).unwrap();
        assert!(fetch.next(peer(n), at(0)).is_some());
    }
    fetch.offer(peer(9), right.len() as u32, at(0)).unwrap();
    let mut now = 0;
    loop {
        fetch.handle_timeout(at(now));
        for n in 1..=4 {
            // They ask for a place again as soon as they may.
            let _ = fetch.next(peer(n), at(now));
        }
        match serve(&mut fetch, peer(9), &right, at(now)) {
            Outcome::Found { .. } => break,
            other @ (Outcome::More | Outcome::Guilty(_)) => assert_eq!(other, Outcome::More),
        }
        now += 1;
        assert!(now < 60, "the right size never had its turn");
    }
}

#[test]
fn a_slow_peer_is_waited_for_but_others_are_asked_as_well() {
    let right = metadata();
    let mut fetch = fetch(&right);
    let len = right.len() as u32;
    fetch.offer(peer(1), len, at(0)).unwrap();
    assert_eq!(ask_all(&mut fetch, peer(1), at(0)), [0]);
    // It is late, and is asked for something else meanwhile, but not for the same again.
    assert_eq!(ask_all(&mut fetch, peer(1), at(20)), [1]);
    fetch.offer(peer(2), len, at(20)).unwrap();
    assert_eq!(ask_all(&mut fetch, peer(2), at(20)), [0]);
    // What comes late is as good as any.
    for (n, secs) in [(0, 30), (1, 40)] {
        let outcome = fetch.data(peer(1), n, None, block(&right, n), at(secs));
        assert_eq!(outcome, Ok(Outcome::More));
    }
    assert_eq!(ask_all(&mut fetch, peer(1), at(40)), [2]);
    let outcome = fetch.data(peer(1), 2, None, block(&right, 2), at(60));
    assert_eq!(outcome, Ok(found(&right, &[])));
}

#[test]
fn what_is_lost_is_asked_for_again() {
    let right = metadata();
    let mut fetch = fetch(&right);
    fetch.offer(peer(1), right.len() as u32, at(0)).unwrap();
    assert_eq!(ask_all(&mut fetch, peer(1), at(0)), [0]);
    fetch.handle_timeout(at(121));
    assert_eq!(
        serve(&mut fetch, peer(1), &right, at(121)),
        found(&right, &[])
    );
}

#[test]
fn who_rejects_is_left_alone_for_a_while() {
    let right = metadata();
    let mut fetch = fetch(&right);
    fetch.offer(peer(1), right.len() as u32, at(0)).unwrap();
    assert_eq!(fetch.next(peer(1), at(0)), Some(0));
    fetch.rejected(peer(1), 0, at(0));
    assert_eq!(fetch.next(peer(1), at(29)), None);
    assert_eq!(
        serve(&mut fetch, peer(1), &right, at(30)),
        found(&right, &[])
    );
}

#[test]
fn contradictions_are_no_accident() {
    let right = metadata();
    let len = right.len() as u32;
    let mut fetch = fetch(&right);
    fetch.offer(peer(1), len, at(0)).unwrap();
    fetch.offer(peer(1), len, at(0)).unwrap();
    let bad = Err(Misbehaved::Metadata);
    assert_eq!(
        fetch.offer(peer(1), len + 1, at(0)),
        Err(Misbehaved::Metadata)
    );
    let n = fetch.next(peer(1), at(0)).unwrap();
    let bytes = block(&right, n);
    // Larger than announced; a block that is too short; one that is not there; from a stranger.
    assert_eq!(fetch.data(peer(1), n, Some(len + 1), bytes, at(0)), bad);
    assert_eq!(fetch.data(peer(1), n, Some(len), &bytes[1..], at(0)), bad);
    assert_eq!(fetch.data(peer(1), 3, Some(len), bytes, at(0)), bad);
    assert_eq!(fetch.data(peer(2), n, Some(len), bytes, at(0)), bad);
}

#[test]
fn what_nobody_asked_for_is_forgiven_up_to_a_point() {
    let right = metadata();
    let mut fetch = fetch(&right);
    fetch.offer(peer(1), right.len() as u32, at(0)).unwrap();
    let bytes = block(&right, 0);
    for _ in 0..VAIN_MAX {
        assert_eq!(
            fetch.data(peer(1), 0, None, bytes, at(0)),
            Ok(Outcome::More)
        );
    }
    assert_eq!(
        fetch.data(peer(1), 0, None, bytes, at(0)),
        Err(Misbehaved::Metadata)
    );
    assert_eq!(fetch.progress(), None);
}

#[test]
fn a_size_beyond_the_limit_is_told_and_not_fetched() {
    let mut fetch = fetch(&metadata());
    fetch.offer(peer(1), METADATA_LEN_MAX + 1, at(0)).unwrap();
    assert_eq!(fetch.next(peer(1), at(0)), None);
    assert_eq!(
        (fetch.sources(), fetch.too_large()),
        (0, Some(METADATA_LEN_MAX + 1))
    );
    fetch.offer(peer(2), METADATA_LEN_MAX, at(0)).unwrap();
    assert_eq!(fetch.next(peer(2), at(0)), Some(0));
    assert_eq!(fetch.too_large(), None);
}

#[test]
fn all_books_together_stay_within_the_limit() {
    let right = metadata();
    let mut fetch = fetch(&right);
    let sizes = [METADATA_LEN_MAX, METADATA_LEN_MAX - 1];
    for (n, size) in (1..).zip(sizes) {
        fetch.offer(peer(n), size, at(0)).unwrap();
    }
    // Neither is right, and both bring all that they are asked for, side by side.
    let junk = vec![7; BLOCK];
    let mut guilty = Vec::new();
    while guilty.len() < 2 {
        for n in [1, 2] {
            let Some(block) = fetch.next(peer(n), at(0)) else {
                continue;
            };
            let len = len_of(sizes[n as usize - 1], block);
            match fetch
                .data(peer(n), block, None, &junk[..len], at(0))
                .unwrap()
            {
                Outcome::More => {}
                Outcome::Guilty(who) => {
                    fetch.gone(who);
                    guilty.push(who);
                }
                Outcome::Found { .. } => unreachable!("nobody has it"),
            }
            fetch.check_invariants();
        }
    }
}
