//! From words to what is meant: the first argument decides ([`first`]), clap splits ([`low`]), the layers
//! of settings are laid over each other ([`settings`]), and everything is checked at once ([`high`]).

pub(crate) mod first;
pub(crate) mod high;
pub(crate) mod low;
pub(crate) mod mistake;
pub(crate) mod settings;
