use std::time::Duration;

use super::{Options, run};

fn small() -> Options {
    Options {
        nodes: 500,
        measured: Duration::from_secs(10 * 60),
        lookups: 600,
        ..Options::default()
    }
}

#[test]
fn five_hundred_nodes_find_each_other_among_liars_and_the_dead() {
    let report = run(&small());
    println!("{report}");
    assert_eq!(report.fault(), None);
}

#[test]
fn equal_seeds_give_equal_worlds() {
    let tiny = Options {
        nodes: 60,
        measured: Duration::from_secs(120),
        lookups: 50,
        flood: false,
        ..Options::default()
    };
    assert_eq!(run(&tiny).to_string(), run(&tiny).to_string());
}
