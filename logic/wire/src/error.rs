//! How a stream of messages can be broken.

/// The stream can not be read on: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A message of a length that its kind can not have, or that is more than [`Limits`](crate::Limits)
    /// allows. Lengths are bytes as in the length prefix: the id and what follows it.
    #[error("`{name}` message of {got} bytes; {min} to {max} are allowed")]
    Length {
        /// As BEP 3, 6 and 10 call it.
        name: &'static str,
        min: u32,
        max: u32,
        got: u32,
    },
}
