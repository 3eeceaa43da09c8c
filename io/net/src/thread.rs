//! The thread that a shard lives on, and the handle that others hold.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Poll;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;
use torr_base::{Instant, Rng};
use torr_node::{Node, NodeConfig};
use torr_store::{BlockBuf, BlockPool};

use crate::clock::Clock;
use crate::host::Host;
use crate::http::HttpClient;
use crate::inbox::DiskInbox;
use crate::listen::Sockets;
use crate::shard::{Parts, Shard, Shared};
use crate::tasks::{observe, run_accept, run_disk, run_observer, run_timer, run_udp};

/// Commands that wait for the shard; who sends more waits.
const COMMANDS_MAX: usize = 64;

/// What a shard is started with.
#[derive(Debug)]
pub struct ShardConfig {
    pub node: NodeConfig,
    /// For the listeners, and the datagrams of trackers.
    pub sockets: Sockets,
    /// Where connections leave from; the same that the sockets were bound to.
    pub bind: Option<IpAddr>,
    pub http: HttpClient,
    /// Bytes of memory for blocks.
    pub pool_bytes: u64,
    /// From the operating system's randomness.
    pub seed: u64,
    /// Where the disk leaves its answers.
    pub inbox: DiskInbox,
}

type Call<H> = Box<dyn FnOnce(&mut Node<BlockBuf>, &mut H, Instant) + Send>;

enum Command<H> {
    Call(Call<H>),
    Quit,
}

/// A running shard, from outside. Clones are handles on the same one. Once all are gone the shard ends
/// as if it was killed, which is safe.
pub struct ShardHandle<H> {
    commands: mpsc::Sender<Command<H>>,
    ending: watch::Receiver<Option<Ending>>,
}

/// How a shard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Quit,
    /// By a fault of its own; what it last said.
    Crashed(String),
}

/// The shard is not there any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct ShardGone;

impl<H> Clone for ShardHandle<H> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            ending: self.ending.clone(),
        }
    }
}

impl<H> fmt::Debug for ShardHandle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHandle")
            .field("ending", &*self.ending.borrow())
            .finish_non_exhaustive()
    }
}

impl<H: Host> ShardHandle<H> {
    /// Starts a shard on a thread of its own.
    ///
    /// # Errors
    /// Where there is no thread, or no runtime, to be had.
    pub fn start(config: ShardConfig, host: H) -> io::Result<Self> {
        let (commands, inbound) = mpsc::channel(COMMANDS_MAX);
        let (ended, ending) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name("torr-net".to_owned());
        thread.spawn(move || {
            let run = AssertUnwindSafe(|| {
                LocalSet::new().block_on(&runtime, serve(config, host, inbound));
            });
            let ending = match catch_unwind(run) {
                Ok(()) => Ending::Quit,
                Err(panic) => Ending::Crashed(last_words(panic.as_ref())),
            };
            // Look-ups that hang in the resolver must not hold anybody up.
            runtime.shutdown_background();
            ended.send_replace(Some(ending));
        })?;
        Ok(Self { commands, ending })
    }

    /// Runs `call` on the shard, as an input to its node, and returns what it returns.
    ///
    /// # Errors
    /// Where the shard has ended, or ends before it comes to that.
    pub async fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Node<BlockBuf>, &mut H, Instant) -> R + Send + 'static,
    ) -> Result<R, ShardGone> {
        let (reply, answer) = oneshot::channel();
        let call: Call<H> = Box::new(move |node, host, now| {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(call(node, host, now));
        });
        let sent = self.commands.send(Command::Call(call)).await;
        sent.map_err(|_| ShardGone)?;
        answer.await.map_err(|_| ShardGone)
    }

    /// As [`Self::call`], for threads that may wait and want no answer. Not to be used inside a runtime.
    ///
    /// # Errors
    /// Where the shard has ended.
    pub fn post(
        &self,
        call: impl FnOnce(&mut Node<BlockBuf>, &mut H, Instant) + Send + 'static,
    ) -> Result<(), ShardGone> {
        let sent = self.commands.blocking_send(Command::Call(Box::new(call)));
        sent.map_err(|_| ShardGone)
    }

    /// Ends the shard as it stands, and waits for the end. Whatever is to be ended in order, must be
    /// before.
    pub async fn quit(&self) -> Ending {
        // If it is not there to hear it, it has ended.
        let _ = self.commands.send(Command::Quit).await;
        self.ended().await
    }

    /// Waits for the end, however it comes.
    pub async fn ended(&self) -> Ending {
        let mut ending = self.ending.clone();
        let ended = ending.wait_for(Option::is_some).await;
        let ending = ended.ok().and_then(|ending| ending.clone());
        ending.unwrap_or_else(|| Ending::Crashed("the thread is gone".to_owned()))
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ending.borrow().clone()
    }
}

fn last_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}

/// The shard's main loop: commands, and the ends of tasks.
async fn serve<H: Host>(config: ShardConfig, host: H, commands: mpsc::Receiver<Command<H>>) {
    let shard = build(config, host);
    // Declared after the shard, so dropped before it: a thread that waits to send must not be waited for
    // by the host's end.
    let mut commands = commands;
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            panic = poll_fn(|cx| poll_reap(&shard, cx)) => resume_unwind(panic),
        };
        match command {
            Some(Command::Call(call)) => {
                shard
                    .borrow_mut()
                    .turn(|shard, now| call(&mut shard.node, &mut shard.host, now));
            }
            Some(Command::Quit) | None => break,
        }
    }
    observe(&shard);
    // Out of the shard first: a task that ends may want to look at it.
    let mut tasks = std::mem::take(&mut shard.borrow_mut().tasks);
    tasks.shutdown().await;
}

/// Takes leave of tasks that have ended. Ready only if one of them panicked: then the shard does, too.
fn poll_reap<H: Host>(
    shard: &Shared<H>,
    cx: &mut std::task::Context<'_>,
) -> Poll<Box<dyn Any + Send>> {
    loop {
        let ended = shard.borrow_mut().tasks.poll_join_next(cx);
        match ended {
            Poll::Ready(Some(Err(error))) if error.is_panic() => {
                return Poll::Ready(error.into_panic());
            }
            Poll::Ready(Some(Ok(()) | Err(_))) => {}
            Poll::Ready(None) | Poll::Pending => return Poll::Pending,
        }
    }
}

fn build<H: Host>(config: ShardConfig, host: H) -> Shared<H> {
    let clock = Clock::start();
    let conns_max = config.node.conns_max;
    let pool = Box::new(BlockPool::with_bytes(config.pool_bytes));
    let node = Node::new(config.node, pool, Rng::new(config.seed), clock.now());
    let udp = config.sockets.udp.into_iter().map(UdpSocket::from_std);
    let udp: Vec<_> = udp.filter_map(Result::ok).map(Rc::new).collect();
    let lsd = config.sockets.lsd.into_iter().map(UdpSocket::from_std);
    let lsd: Vec<_> = lsd.filter_map(Result::ok).map(Rc::new).collect();
    let tcp = config.sockets.tcp.into_iter().map(TcpListener::from_std);
    let shard = Shard::new(Parts {
        node,
        host,
        clock,
        http: config.http,
        udp: udp.clone(),
        lsd: lsd.clone(),
        bind: config.bind,
        conns_max,
    });
    let mut parts = shard.borrow_mut();
    let me = parts.me();
    for listener in tcp.filter_map(Result::ok) {
        parts.tasks.spawn_local(run_accept(me.clone(), listener));
    }
    for socket in udp {
        let task = run_udp(me.clone(), socket, Node::handle_datagram);
        parts.tasks.spawn_local(task);
    }
    for socket in lsd {
        let task = run_udp(me.clone(), socket, Node::handle_local);
        parts.tasks.spawn_local(task);
    }
    parts.tasks.spawn_local(run_timer(me.clone()));
    parts.tasks.spawn_local(run_disk(me.clone(), config.inbox));
    #[cfg(target_os = "linux")]
    parts.tasks.spawn_local(crate::watch::run_watch(me.clone()));
    parts.tasks.spawn_local(run_observer(me));
    drop(parts);
    shard
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use torr_base::PeerId;
    use torr_node::{News, TorrentKey};
    use torr_store::{DiskJob, NoFiles};

    use super::*;
    use crate::PortChoice;

    /// Has nothing to do; may be told to fail.
    struct Idle {
        fails: bool,
        files: NoFiles,
    }

    impl Host for Idle {
        type Files = NoFiles;

        fn files(&mut self) -> &mut NoFiles {
            &mut self.files
        }

        fn disk(&mut self, _: DiskJob<BlockBuf>) {}

        fn tell(&mut self, _: &mut Node<BlockBuf>, _: Instant, _: TorrentKey, _: News) {}

        fn observe(&mut self, _: &mut Node<BlockBuf>, _: Instant) {
            assert!(!self.fails, "in a task");
        }
    }

    fn shard() -> ShardHandle<Idle> {
        let bind = Some(Ipv4Addr::LOCALHOST.into());
        let sockets = Sockets::bind(PortChoice::Exact(0), bind).unwrap();
        let node = NodeConfig::new(PeerId([b'x'; 20]), sockets.port(), "test".to_owned());
        let config = ShardConfig {
            node,
            sockets,
            bind,
            http: HttpClient::new(false),
            pool_bytes: 1 << 20,
            seed: 1,
            inbox: DiskInbox::new(),
        };
        let files = NoFiles;
        ShardHandle::start(
            config,
            Idle {
                fails: false,
                files,
            },
        )
        .unwrap()
    }

    #[tokio::test]
    async fn calls_are_answered_until_it_quits() {
        let shard = shard();
        assert_eq!(shard.call(|node, _, _| node.conn_count()).await, Ok(0));
        assert_eq!(shard.quit().await, Ending::Quit);
        assert_eq!(shard.call(|_, _, _| ()).await, Err(ShardGone));
        assert_eq!(shard.ending(), Some(Ending::Quit));
    }

    #[tokio::test]
    async fn a_panic_in_a_task_ends_the_shard() {
        let shard = shard();
        shard.call(|_, host, _| host.fails = true).await.unwrap();
        let ending = tokio::time::timeout(Duration::from_secs(10), shard.ended()).await;
        assert_eq!(ending, Ok(Ending::Crashed("in a task".to_owned())));
    }

    #[tokio::test]
    async fn it_ends_with_its_last_handle() {
        let shard = shard();
        let mut ending = shard.ending.clone();
        drop(shard);
        let ended = tokio::time::timeout(Duration::from_secs(10), ending.changed()).await;
        assert!(ended.is_ok());
    }
}
