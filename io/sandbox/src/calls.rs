//! seccomp: system calls that a client has no use for, and whoever took it over has.
//!
//! A list of what is denied. A list of what is allowed would have to follow every version of every libc; this
//! one is sound for all of them, because each answer is one that they know: `EPERM` where privileges lack,
//! `ENOSYS` where the kernel is older than the call.
//!
//! - No other program (`execve`), and no other process (`fork`, `clone` without a thread).
//! - No look into, and no hand in, another process (`ptrace`, `process_vm_*`, `pidfd_getfd`).
//! - No other world: mounts, namespaces, roots, files by handle.
//! - No change of modes, owners, times and attributes of files, which Landlock leaves open.
//! - Nothing of the kernel that is for administrators, and little of what it was most often broken by: BPF,
//!   `io_uring`, `userfaultfd`, performance events, keys, and families of sockets besides IP and Unix.
//! - No key presses into the terminal that torr was started from (`TIOCSTI`).
//! - Nothing newer than this list; and nothing by another way into the kernel (32-bit calls, x32).

use std::io;

use libc::{c_long, sock_filter, sock_fprog};

use crate::SandboxError;

const DENIED: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Other worlds.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Marks of files, which Landlock does not hold and torr does not set.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    // What the kernel was most often broken by.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    // What is for administrators.
    libc::SYS_kexec_load,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Which libc does not have for all machines.
const FCHMODAT2: c_long = 452;

/// The last call that was looked at, `mseal`: numbers beyond `open_tree` are the same on all machines. The
/// calls of x32 are beyond it as well.
const LAST: u32 = 462;

/// Netlink is how the resolver learns which families of addresses there are.
const FAMILIES: [i32; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// linux/audit.h
#[cfg(target_arch = "x86_64")]
const MACHINE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const MACHINE: Option<u32> = Some(0xc000_00b7);
#[cfg(target_arch = "riscv64")]
const MACHINE: Option<u32> = Some(0xc000_00f3);
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
const MACHINE: Option<u32> = None;

/// Restricts this thread. False where the kernel has no seccomp, or the list was not made for the machine.
pub(crate) fn close() -> Result<bool, SandboxError> {
    // SAFETY: it takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(refused("no-new-privs"));
    }
    let Some(machine) = MACHINE else {
        return Ok(false);
    };
    if install(&program(machine)) {
        return Ok(true);
    }
    match io::Error::last_os_error().raw_os_error() {
        // No seccomp, or none with filters.
        Some(libc::ENOSYS | libc::EINVAL) => Ok(false),
        Some(_) | None => Err(refused("seccomp")),
    }
}

fn refused(what: &'static str) -> SandboxError {
    SandboxError::Refused {
        what,
        source: Box::new(io::Error::last_os_error()),
    }
}

pub(crate) fn install(program: &[sock_filter]) -> bool {
    let program = sock_fprog {
        len: u16::try_from(program.len()).expect("the list has some hundred entries"),
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the pointer is to a `sock_fprog` whose `len` entries live until the call returns; the kernel
    // copies them, and writes to neither.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    done == 0
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const EAFNOSUPPORT: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;

/// Where the kernel puts number, machine, and the lower half of an argument (`struct seccomp_data`).
const NUMBER: u32 = 0;
const WHICH_MACHINE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// ```text
///   machine? ── other ──► ENOSYS
///   number beyond the list ──► ENOSYS
///   number of a denied one ──► EPERM
///   number of one that depends ──► look at its argument
///   else ──► allowed
/// ```
fn program(machine: u32) -> Vec<sock_filter> {
    let mut out = vec![
        load(WHICH_MACHINE),
        jump(libc::BPF_JEQ, machine, 1, 0),
        answer(ENOSYS),
        load(NUMBER),
        jump(libc::BPF_JGT, LAST, 0, 1),
        answer(ENOSYS),
    ];
    for call in DENIED {
        out.extend(when(*call, &[answer(EPERM)]));
    }
    // What it would do is behind a pointer. Every libc knows kernels without it.
    out.extend(when(libc::SYS_clone3, &[answer(ENOSYS)]));
    let clone = [
        load(argument(0)),
        jump(libc::BPF_JSET, NAMESPACES as u32, 1, 0),
        jump(libc::BPF_JSET, libc::CLONE_THREAD as u32, 1, 0),
        answer(EPERM),
        answer(ALLOW),
    ];
    out.extend(when(libc::SYS_clone, &clone));
    let terminal = [
        load(argument(1)),
        jump(libc::BPF_JEQ, libc::TIOCSTI as u32, 1, 0),
        jump(libc::BPF_JEQ, libc::TIOCLINUX as u32, 0, 1),
        answer(EPERM),
        answer(ALLOW),
    ];
    out.extend(when(libc::SYS_ioctl, &terminal));
    let mut socket = vec![load(argument(0))];
    for family in FAMILIES {
        socket.extend([jump(libc::BPF_JEQ, family as u32, 0, 1), answer(ALLOW)]);
    }
    socket.push(answer(EAFNOSUPPORT));
    out.extend(when(libc::SYS_socket, &socket));
    out.push(answer(ALLOW));
    out
}

/// A program that denies one call, as a kernel without it would.
#[cfg(test)]
pub(crate) fn only(call: c_long, errno: i32) -> Vec<sock_filter> {
    // SAFETY: it takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0);
    let mut out = vec![load(NUMBER)];
    out.extend(when(
        call,
        &[answer(libc::SECCOMP_RET_ERRNO | errno as u32)],
    ));
    out.push(answer(ALLOW));
    out
}

/// `block`, which answers, where the number is that of `call`.
fn when(call: c_long, block: &[sock_filter]) -> Vec<sock_filter> {
    let len = u8::try_from(block.len()).expect("blocks are short");
    let mut out = vec![jump(libc::BPF_JEQ, call as u32, 0, len)];
    out.extend_from_slice(block);
    out
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn answer(value: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, value)
}

fn statement(code: u32, k: u32) -> sock_filter {
    jump_code(code, k, 0, 0)
}

/// How many instructions are skipped where `test` holds of what was loaded and `k`, and where not.
fn jump(test: u32, k: u32, holds: u8, not: u8) -> sock_filter {
    jump_code(libc::BPF_JMP | test | libc::BPF_K, k, holds, not)
}

fn jump_code(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    let code = u16::try_from(code).expect("codes have 16 bits");
    sock_filter { code, jt, jf, k }
}
