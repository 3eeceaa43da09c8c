//! What callgrind counts: what is called through here, and nothing else.

/// Has callgrind count from where [`counted_call`] begins to where it ends. The name is looked for inside
/// symbols, which hold more than that.
pub(crate) const TOGGLE: &str = "--toggle-collect=*counted_call*";

/// Calls `work`, which must not come here again: that would end the counting.
#[inline(never)]
pub(crate) fn counted_call<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Calls `work`, counted or not.
pub(crate) fn call<T>(counted: bool, work: impl FnOnce() -> T) -> T {
    if counted { counted_call(work) } else { work() }
}
