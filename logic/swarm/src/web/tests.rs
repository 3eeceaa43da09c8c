//! Runs cut into ranges of files, and the faults of servers.

use std::time::Duration;

use torr_base::{Instant, Rng};
use torr_metainfo::FileMap;

use super::fetch::Part;
use super::{WebFault, WebFiles, WebInit, WebSeeds};

fn parts(map: &FileMap, mut at: u64, end: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some(part) = Part::next(map, at, end) {
        at = part.end;
        parts.push(part);
    }
    parts
}

#[test]
fn padding_and_empty_files_need_no_request() {
    let files = [
        (0, false),
        (10, false),
        (6, true),
        (0, false),
        (20, false),
        (12, true),
    ];
    let map = FileMap::new(16, files).unwrap();
    let all = parts(&map, 0, 48);
    let ranges: Vec<_> = all
        .iter()
        .map(|part| (part.file.get(), part.range()))
        .collect();
    assert_eq!(ranges, [(1, (0, 10)), (4, (0, 20))]);
    assert_eq!(
        all.iter().map(|part| part.end).collect::<Vec<_>>(),
        [16, 48]
    );
    let middle = parts(&map, 12, 20);
    assert_eq!(middle.len(), 1);
    assert_eq!(
        (middle[0].from, middle[0].to, middle[0].range()),
        (16, 20, (0, 4))
    );
    assert_eq!(parts(&map, 36, 48), []);
}

#[test]
fn the_parts_of_a_run_are_the_run() {
    let mut rng = Rng::new(11);
    for _ in 0..500 {
        let count = 1 + rng.index(12);
        let files: Vec<_> = (0..count)
            .map(|_| (rng.below(40) * rng.below(2), rng.one_in(4)))
            .collect();
        let map = FileMap::new(16, files.iter().copied()).unwrap();
        let total = map.geometry().total();
        let at = rng.below(total + 1);
        let end = at + rng.below(total + 1 - at);
        let mut asked = vec![false; total as usize];
        let mut next = at;
        for part in parts(&map, at, end) {
            assert!(next <= part.from && part.from < part.to && part.to <= part.end);
            assert!(part.end <= end && !map.is_pad(part.file));
            assert_eq!(map.start(part.file) + part.offset, part.from);
            assert!(part.range().1 <= map.len(part.file));
            (part.from..part.to).for_each(|byte| asked[byte as usize] = true);
            next = part.end;
        }
        for segment in map.segments(0, total) {
            let start = map.start(segment.file);
            for byte in start..start + map.len(segment.file) {
                let due = (at..end).contains(&byte) && !segment.pad;
                assert_eq!(asked[byte as usize], due, "byte {byte} of {at}..{end}");
            }
        }
    }
}

#[test]
fn waits_double_up_to_ten_minutes() {
    let secs = |failures| WebFault::Short.retry(failures).as_secs();
    let waits: Vec<_> = (1..10).map(secs).collect();
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
    assert_eq!(secs(u32::MAX), 600);
    let wish = Duration::from_secs(30);
    assert_eq!(WebFault::Busy(503, wish).retry(5), wish);
}

#[test]
fn only_web_servers_are_taken_each_once_and_not_too_many() {
    let map = FileMap::new(16, [(100, false)]).unwrap();
    let mut urls: Vec<String> = (0..100).map(|n| format!("http://h{n}/")).collect();
    urls.splice(
        0..0,
        ["ftp://h/x", "http://h0/", "nonsense", "HTTPS://h/"].map(str::to_owned),
    );
    let files = WebFiles::One(map.into());
    let seeds = WebSeeds::<()>::new(Some(WebInit { urls, files }), Instant::ZERO);
    assert_eq!(seeds.used(), 32);
    assert_eq!(seeds.seeds[0].url, "http://h0/");
    assert_eq!(seeds.seeds[1].url, "HTTPS://h/");
    assert_eq!(seeds.seeds[2].url, "http://h1/");
}
