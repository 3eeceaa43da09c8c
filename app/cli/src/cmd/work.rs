//! Work on files that takes a while: with progress, and to be stopped.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::args::low::Mode;
use crate::download::{Phase, Screen, View, Wish, Wishes};
use crate::env::Env;
use crate::failure::{Exit, Failure};

const TICK: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How far a piece of work is. Shared with the threads that do it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    /// Tells how far it is, and hears whether to go on.
    pub(crate) fn tell(&self, done: u64, total: u64) -> ControlFlow<()> {
        // Threads tell in any order.
        self.done.fetch_max(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        match self.stopped.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn view(&self, name: &str, began: Instant) -> View {
        let done = self.done.load(Ordering::Relaxed);
        let secs = began.elapsed().as_secs_f64().max(0.001);
        View {
            name: name.to_owned(),
            phase: Phase::Hashing,
            done,
            total: self.total.load(Ordering::Relaxed),
            down: (done as f64 / secs) as u64,
            ..View::default()
        }
    }
}

/// Does the work on a thread of its own. The first wish to stop is handed to it, the second ends the
/// waiting.
pub(crate) fn run<T: Send + 'static>(
    env: &Env,
    mut screen: Screen,
    name: &str,
    work: impl FnOnce(&Progress) -> T + Send + 'static,
) -> Result<T, Failure> {
    crate::download::runtime()?.block_on(async {
        let mut wishes = Wishes::listen(env);
        run_with(&mut wishes, &mut screen, name, work).await
    })
}

/// The same inside a runtime.
pub(crate) async fn run_with<T: Send + 'static>(
    wishes: &mut Wishes,
    screen: &mut Screen,
    name: &str,
    work: impl FnOnce(&Progress) -> T + Send + 'static,
) -> Result<T, Failure> {
    let progress = Arc::new(Progress::default());
    let (told, mut finished) = oneshot::channel();
    let shared = Arc::clone(&progress);
    std::thread::spawn(move || {
        // Nobody may be there any more to hear it.
        let _ = told.send(work(&shared));
    });
    let (began, mut said) = (Instant::now(), Instant::now());
    let mut ticks = tokio::time::interval(TICK);
    let mut stop = None;
    let result = loop {
        tokio::select! {
            result = &mut finished => break result,
            _ = ticks.tick() => {
                let view = [progress.view(name, began)];
                screen.draw(&view);
                if screen.mode() == Mode::Line && said.elapsed() >= LINE_EVERY {
                    said = Instant::now();
                    screen.lines(&view, true);
                }
            }
            wish = wishes.next() => if let Wish::Stop(exit) = wish {
                if stop.replace(exit).is_some() {
                    return Err(interrupted(name, exit));
                }
                progress.stopped.store(true, Ordering::Relaxed);
            },
        }
    };
    screen.draw(&[]);
    match (stop, result) {
        (Some(exit), _) => Err(interrupted(name, exit)),
        (None, Ok(result)) => Ok(result),
        (None, Err(_)) => Err(Failure::new(
            Exit::Other,
            name,
            "torr made a mistake and had to stop",
        )),
    }
}

fn interrupted(name: &str, exit: Exit) -> Failure {
    Failure::new(exit, name, "interrupted")
}
