//! Driving the reader with messages, where blocks have no bytes.

use super::machine::Step;
use super::{Progress, State, WireReader, WireSink, copy_to};
use crate::WireError;

impl<B> WireReader<B> {
    /// Takes bytes off the front of `bytes` and gives what they say to the sink: whole streams, except
    /// that the payload of each block is left out. Stops at a block's header until
    /// [`Self::finish_block_with`] was called.
    ///
    /// What is not taken stays in `bytes`; feed it again, after the block or the reason to wait.
    ///
    /// # Errors
    /// As [`Self::process`].
    pub fn feed(
        &mut self,
        bytes: &mut &[u8],
        sink: &mut impl WireSink<B>,
    ) -> Result<Progress, WireError> {
        loop {
            let progress = self.run(sink)?;
            if progress != Progress::NeedMore || bytes.is_empty() || self.block_bytes().is_some() {
                return Ok(progress);
            }
            let room = self.make_room();
            let n = copy_to(
                self.spill.get_mut(self.end..room).unwrap_or_default(),
                bytes,
            );
            *bytes = bytes.get(n..).unwrap_or_default();
            self.end += n;
        }
    }

    /// The payload of the block in progress has arrived, all at once: `f` may mark the block it gets,
    /// or gets `None` where the sink discarded it. Then goes on with what was fed before. Without a
    /// block in progress `f` is not called.
    ///
    /// # Errors
    /// As [`Self::process`].
    pub fn finish_block_with(
        &mut self,
        f: impl FnOnce(Option<&mut B>),
        sink: &mut impl WireSink<B>,
    ) -> Result<Progress, WireError> {
        match &mut self.state {
            State::Header | State::Skip { .. } | State::Long { .. } => return self.run(sink),
            State::Block { raw, buf, filled } => {
                self.counts.payload += u64::from(raw.len - *filled);
                f(Some(buf));
            }
            State::Discard { raw, filled } => {
                self.counts.discarded += u64::from(raw.len - *filled);
                f(None);
            }
        }
        match self.end_block(sink) {
            Step::Done | Step::Payload => self.run(sink),
            Step::Stop(progress) => Ok(progress),
        }
    }

    /// Steps until payload is due or nothing is left.
    fn run(&mut self, sink: &mut impl WireSink<B>) -> Result<Progress, WireError> {
        loop {
            match self.step(sink)? {
                Step::Done => {}
                Step::Payload => return Ok(Progress::NeedMore),
                Step::Stop(progress) => return Ok(progress),
            }
        }
    }
}
