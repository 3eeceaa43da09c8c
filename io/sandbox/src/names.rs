//! Names as no honest torrent has them, the same ones for the same seed. Other crates' tests include this file, so
//! that all layers meet the same names.

/// How far up a name leads at most. Whoever uses names unchecked does so this deep in a folder of the test's own, and
/// looks at each one first: some begin with a slash.
pub(crate) const UP_MAX: usize = 6;

/// `count` paths, as the components of a torrent's file. `outside` is an absolute path that some of them lead to.
pub(crate) fn hostile(seed: u64, count: usize, outside: &str) -> Vec<Vec<Vec<u8>>> {
    let mut rng = Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..count).map(|n| path(&mut rng, n, outside)).collect()
}

struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// What `..` may hide behind.
const UP_LIKE: &[&str] = &[
    "..",
    "...",
    ".. ",
    " ..",
    "..\\x",
    "%2e%2e",
    "..%2f",
    "．．",
    "‥",
    "..\u{200b}",
    ". .",
    "..\t",
    "~",
    "~root",
    "..;",
    ".\u{2024}",
    "..\0",
    "",
];
/// What `/` may hide behind.
const SLASH_LIKE: &[&str] = &["/", "//", "/./", "\\", "∕", "／", "⁄", "\u{29f8}", "%2f"];
const DEVICES: &[&str] = &[
    "CON", "nul.txt", "COM1", "LPT9.log", "aux", "PRN:", "a:b", "$MFT",
];
const SPOOFED: &[&str] = &[
    "a\u{202e}gpj.exe",
    "\u{2066}x\u{2069}",
    "x\u{200b}y",
    "e\u{301}",
    "\u{e9}",
    "ﬁle",
    "\u{feff}bom",
    "esc\u{1b}[31m",
    "nl\nx",
    "del\u{7f}",
    "c1\u{9b}m",
];
const CASES: &[&str] = &["Readme", "README", "readme", "ReadMe", "reAdme.", "readme "];

fn path(rng: &mut Xorshift, n: usize, outside: &str) -> Vec<Vec<u8>> {
    let leaf = match rng.below(3) {
        0 => "victim".to_owned(),
        1 => format!("new-{n}"),
        _ => rng.one(CASES).to_owned(),
    };
    let ups = 1 + rng.below(UP_MAX);
    let text = |parts: Vec<String>| parts.into_iter().map(String::into_bytes).collect();
    match rng.below(12) {
        // `..`, as components of their own and inside of one.
        0 => text(
            std::iter::repeat_n("..".to_owned(), ups)
                .chain([leaf])
                .collect(),
        ),
        1 => text(vec![format!("{}{leaf}", "../".repeat(ups))]),
        2 => text(vec![
            "in".to_owned(),
            format!("{}{leaf}", "../".repeat(ups)),
        ]),
        // From the root on.
        3 => text(vec![format!("{outside}/{leaf}")]),
        4 => text(vec![format!("{outside}"), leaf]),
        5 => text(vec![
            rng.one(UP_LIKE).to_owned(),
            rng.one(UP_LIKE).to_owned(),
            leaf,
        ]),
        6 => text(vec![format!(
            "{}{}{leaf}",
            rng.one(UP_LIKE),
            rng.one(SLASH_LIKE)
        )]),
        // Folders that are links, or become one.
        7 => text(vec![rng.one(&["link", "swapped"]).to_owned(), leaf]),
        8 => text(vec![rng.one(DEVICES).to_owned()]),
        9 => text(vec![format!("{}{n}", rng.one(SPOOFED))]),
        10 => {
            let len = [240, 241, 255, 256, 4_000][rng.below(5)];
            text(vec![format!("{n}{}", "é".repeat(len / 2)), leaf])
        }
        // Not UTF-8: `..` written longer than it has to be, and bytes that mean nothing.
        _ => vec![b"\xc0\xae\xc0\xae".to_vec(), b"\xff\xfe/../victim".to_vec()],
    }
}
