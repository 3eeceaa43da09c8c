//! The kernels that this CPU can run, and which of them is the fastest for a number of messages.
//!
//! A kernel of `n` lanes takes as long for one message as for `n`. Which one pays for how many is measured
//! once, in about a millisecond, when something is first hashed: CPUs differ too much for a table.

use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::lanes::{BLOCK, LANES_MAX, Lanes, Pointers, Words};
use crate::soft::Soft;
use crate::{sha1, sha256};

/// The environment variable that names the kernels to be used: `portable`, `sha`, `avx2`, `avx512`, or
/// `auto`, which is all that the CPU can run.
pub const SWITCH: &str = "TORR_HASH";

/// What takes in blocks.
///
/// # Safety
/// `blocks * 64` bytes from each of the first [`Kernel::lanes`] pointers on must be readable.
type Compress<const N: usize> = unsafe fn(state: &mut Words<N>, data: &Pointers, blocks: usize);

/// A way to hash several messages at once. It exists only where the CPU can run it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel<const N: usize> {
    pub(crate) name: &'static str,
    pub(crate) lanes: usize,
    compress: Compress<N>,
}

/// A hash function of `N` words that is made of 64-byte blocks.
pub(crate) trait Function<const N: usize>: 'static {
    const START: [u32; N];

    /// Every kernel that this CPU can run; the portable ones first.
    fn kernels() -> Vec<Kernel<N>>;

    /// The choice for this CPU, made once.
    fn chosen() -> &'static Chosen<N>;
}

#[derive(Debug)]
pub(crate) struct Sha1;

#[derive(Debug)]
pub(crate) struct Sha256;

impl Function<{ sha1::WORDS }> for Sha1 {
    const START: [u32; sha1::WORDS] = sha1::START;

    fn kernels() -> Vec<Kernel<{ sha1::WORDS }>> {
        let mut all = vec![
            Kernel::new("portable", 1, soft_sha1::<Soft<1>>),
            Kernel::new("portable", 4, soft_sha1::<Soft<4>>),
        ];
        #[cfg(target_arch = "x86_64")]
        {
            use crate::{avx2, avx512, shani};
            if has_sha() {
                all.push(Kernel::new("sha", 1, shani::sha1::<1>));
                all.push(Kernel::new("sha", 2, shani::sha1::<2>));
            }
            if has_avx2() {
                all.push(Kernel::new("avx2", 8, avx2::sha1));
            }
            if has_avx512() {
                all.push(Kernel::new("avx512", 16, avx512::sha1));
            }
        }
        all
    }

    fn chosen() -> &'static Chosen<{ sha1::WORDS }> {
        static CHOSEN: OnceLock<Chosen<{ sha1::WORDS }>> = OnceLock::new();
        CHOSEN.get_or_init(Chosen::new::<Self>)
    }
}

impl Function<{ sha256::WORDS }> for Sha256 {
    const START: [u32; sha256::WORDS] = sha256::START;

    fn kernels() -> Vec<Kernel<{ sha256::WORDS }>> {
        let mut all = vec![
            Kernel::new("portable", 1, soft_sha256::<Soft<1>>),
            Kernel::new("portable", 4, soft_sha256::<Soft<4>>),
        ];
        #[cfg(target_arch = "x86_64")]
        {
            use crate::{avx2, avx512, shani};
            if has_sha() {
                all.push(Kernel::new("sha", 1, shani::sha256::<1>));
                all.push(Kernel::new("sha", 2, shani::sha256::<2>));
            }
            if has_avx2() {
                all.push(Kernel::new("avx2", 8, avx2::sha256));
            }
            if has_avx512() {
                all.push(Kernel::new("avx512", 16, avx512::sha256));
            }
        }
        all
    }

    fn chosen() -> &'static Chosen<{ sha256::WORDS }> {
        static CHOSEN: OnceLock<Chosen<{ sha256::WORDS }>> = OnceLock::new();
        CHOSEN.get_or_init(Chosen::new::<Self>)
    }
}

/// # Safety
/// As for [`sha1::compress`]; `V` needs no special instruction.
unsafe fn soft_sha1<V: Lanes>(state: &mut Words<{ sha1::WORDS }>, data: &Pointers, blocks: usize) {
    // SAFETY: the condition is this function's own.
    unsafe { sha1::compress::<V>(state, data, blocks) }
}

/// # Safety
/// As for [`sha256::compress`]; `V` needs no special instruction.
unsafe fn soft_sha256<V: Lanes>(
    state: &mut Words<{ sha256::WORDS }>,
    data: &Pointers,
    blocks: usize,
) {
    // SAFETY: the condition is this function's own.
    unsafe { sha256::compress::<V>(state, data, blocks) }
}

#[cfg(target_arch = "x86_64")]
fn has_sha() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

impl<const N: usize> Kernel<N> {
    /// The caller has looked whether the CPU can run it.
    fn new(name: &'static str, lanes: usize, compress: Compress<N>) -> Self {
        assert!((1..=LANES_MAX).contains(&lanes), "a kernel has lanes");
        Self {
            name,
            lanes,
            compress,
        }
    }

    /// Takes in the first `blocks` blocks of each of `data`, of which there are at most as many as lanes,
    /// and at least one. Each is at least so long.
    pub(crate) fn run(&self, states: &mut [&mut [u32; N]], data: &[&[u8]], blocks: usize) {
        assert!(
            states.len() == data.len() && (1..=self.lanes).contains(&data.len()),
            "one state for each message, one lane for each state"
        );
        let long_enough = |bytes: &&[u8]| bytes.len() / BLOCK >= blocks;
        assert!(data.iter().all(long_enough), "so many blocks are there");
        // Lanes without a message of their own hash the first one again.
        let mut pointers = [data[0].as_ptr(); LANES_MAX];
        let mut words = [[0; LANES_MAX]; N];
        for (lane, (state, bytes)) in states.iter().zip(data).enumerate() {
            pointers[lane] = bytes.as_ptr();
            for (word, value) in words.iter_mut().zip(**state) {
                word[lane] = value;
            }
        }
        // SAFETY: a kernel exists only where the CPU can run it, and every pointer is the start of a slice
        // of at least `blocks * 64` bytes, as the assertions above made sure.
        unsafe { (self.compress)(&mut words, &pointers, blocks) };
        for (lane, state) in states.iter_mut().enumerate() {
            for (word, value) in words.iter().zip(state.iter_mut()) {
                *value = word[lane];
            }
        }
    }

    /// Whether it agrees with the plainest of the portable kernels, in each lane, on data of all sorts.
    fn is_right<F: Function<N>>(&self, reference: &Self) -> bool {
        const LEN: usize = 3 * BLOCK;
        let bytes: Vec<u8> = (0..LEN as u32 + 64)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        // Odd starts, so that no alignment helps.
        let data: Vec<&[u8]> = (0..self.lanes).map(|n| &bytes[n..n + LEN]).collect();
        let mut states = vec![F::START; self.lanes];
        self.run(&mut states.iter_mut().collect::<Vec<_>>(), &data, 3);
        data.iter().zip(&states).all(|(data, state)| {
            let mut due = F::START;
            reference.run(&mut [&mut due], &[data], 3);
            due == *state
        })
    }

    /// The least time for a block in each lane.
    fn time<F: Function<N>>(&self, bytes: &[u8]) -> Duration {
        let blocks = bytes.len() / BLOCK;
        let data = vec![bytes; self.lanes];
        let mut states = vec![F::START; self.lanes];
        let mut states: Vec<_> = states.iter_mut().collect();
        let mut least = Duration::MAX;
        // Each takes a microsecond or two; the least of many is one that nothing came between.
        for _ in 0..50 {
            let begun = Instant::now();
            self.run(&mut states, &data, blocks);
            least = least.min(begun.elapsed());
        }
        least
    }
}

/// The kernel for each number of messages.
#[derive(Debug)]
pub(crate) struct Chosen<const N: usize> {
    /// For one message, two, … [`LANES_MAX`].
    best: [Kernel<N>; LANES_MAX],
}

impl<const N: usize> Chosen<N> {
    fn new<F: Function<N>>() -> Self {
        let wish = std::env::var(SWITCH);
        Self::among::<F>(wish.as_deref().unwrap_or("auto"))
    }

    /// Out of the kernels of that name, and the portable ones for what they have no lanes for.
    pub(crate) fn among<F: Function<N>>(wish: &str) -> Self {
        let all = F::kernels();
        let plain = all[0];
        let fits = |kernel: &Kernel<N>| match wish {
            "portable" | "sha" | "avx2" | "avx512" => {
                kernel.name == wish || kernel.name == "portable"
            }
            _ => true,
        };
        // A kernel that is wrong, on whatever CPU that may be, is not used.
        let sound = all
            .into_iter()
            .filter(|kernel| fits(kernel) && kernel.is_right::<F>(&plain));
        let bytes = [0; 16 * BLOCK];
        let timed: Vec<_> = sound.map(|k| (k, k.time::<F>(&bytes))).collect();
        let forced = |name: &str| name == wish && timed.iter().any(|(k, _)| k.name == wish);
        Self {
            best: std::array::from_fn(|n| {
                let messages = n + 1;
                // The time until all of them are through, in rounds of as many as there are lanes.
                let cost = |kernel: &Kernel<N>, time: Duration| {
                    time * messages.div_ceil(kernel.lanes) as u32
                };
                let open = timed
                    .iter()
                    .filter(|(kernel, _)| !forced(wish) || kernel.name == wish);
                let best = open.min_by_key(|(kernel, time)| (cost(kernel, *time), kernel.lanes));
                best.map_or(plain, |(kernel, _)| *kernel)
            }),
        }
    }

    /// The kernel for so many messages, at least one.
    pub(crate) fn kernel(&self, messages: usize) -> &Kernel<N> {
        &self.best[messages.clamp(1, LANES_MAX) - 1]
    }

    /// Which kernel serves which numbers of messages.
    pub(crate) fn table(&self) -> Vec<(RangeInclusive<usize>, &'static str, usize)> {
        let mut out: Vec<(RangeInclusive<usize>, &'static str, usize)> = Vec::new();
        for (n, kernel) in self.best.iter().enumerate() {
            let messages = n + 1;
            match out.last_mut() {
                Some((range, name, lanes)) if (*name, *lanes) == (kernel.name, kernel.lanes) => {
                    *range = *range.start()..=messages;
                }
                Some(_) | None => out.push((messages..=messages, kernel.name, kernel.lanes)),
            }
        }
        out
    }
}
