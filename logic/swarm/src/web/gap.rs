//! Which run of pieces to ask a web seed for: a gap that nobody else is at.

use std::ops::Range;

/// Pieces that are looked at for one run.
const LOOK_MAX: u32 = 1 << 16;

/// The first run of `want` pieces in a row that are free, from `from` on and around the end; where there is none,
/// the longest. At most [`LOOK_MAX`] pieces are looked at.
pub(super) fn find(
    pieces: u32,
    from: u32,
    want: u32,
    free: impl Fn(u32) -> bool,
) -> Option<Range<u32>> {
    let from = if from < pieces { from } else { 0 };
    let order = (from..pieces).chain(0..from).take(LOOK_MAX as usize);
    let (mut best, mut run) = (0..0, 0..0);
    for piece in order {
        if !free(piece) {
            continue;
        }
        if run.end == piece && !run.is_empty() {
            run.end += 1;
        } else {
            run = piece..piece + 1;
        }
        if run.len() > best.len() {
            best = run.clone();
        }
        if best.len() as u32 >= want {
            break;
        }
    }
    (!best.is_empty()).then_some(best)
}

#[cfg(test)]
mod tests {
    use torr_base::Rng;

    use super::*;

    #[test]
    fn gaps_are_found() {
        let free =
            |pattern: &'static str| move |piece: u32| pattern.as_bytes()[piece as usize] == b'.';
        let find = |pattern: &'static str, from, want| {
            find(pattern.len() as u32, from, want, free(pattern))
        };
        assert_eq!(find("##..#....#", 0, 2), Some(2..4));
        assert_eq!(find("##..#....#", 0, 3), Some(5..8));
        assert_eq!(find("##..#....#", 3, 9), Some(5..9), "none is that long");
        assert_eq!(find("..........", 7, 4), Some(0..4), "not over the end");
        assert_eq!(find("..........", 7, 3), Some(7..10));
        assert_eq!(find("####", 0, 1), None);
        assert_eq!(find("", 0, 1), None);
        assert_eq!(find(".", 99, 5), Some(0..1));
    }

    #[test]
    fn what_is_found_is_free_and_as_long_as_can_be() {
        let mut rng = Rng::new(7);
        for _ in 0..2_000 {
            let pieces = 1 + rng.below(60) as u32;
            let odds = 1 + rng.below(5);
            let map: Vec<bool> = (0..pieces).map(|_| !rng.one_in(odds)).collect();
            let (from, want) = (rng.below(70) as u32, 1 + rng.below(20) as u32);
            let free = |piece: u32| map[piece as usize];
            let found = find(pieces, from, want, free);
            let longest = map.split(|free| !free).map(<[bool]>::len).max().unwrap();
            let Some(run) = found else {
                assert_eq!(longest, 0);
                continue;
            };
            assert!(run.clone().all(free) && run.end <= pieces);
            assert!(run.len() as u32 <= want);
            // A gap around the start of the search is cut in two there.
            let start = from.min(pieces) % pieces;
            let cut = map
                .iter()
                .take(start as usize)
                .rev()
                .take_while(|f| **f)
                .count();
            assert!(
                run.len() + cut.min(longest) >= longest.min(want as usize),
                "{map:?} {from} {want} {run:?}"
            );
        }
    }
}
