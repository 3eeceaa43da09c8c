//! Landlock: which files, ports and processes are left.

use std::fs;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetError, Scope,
};

use crate::{Sandbox, SandboxError};

/// The newest version that this was tried with. Later ones close more, once it was looked at whether torr
/// needs that.
const NEWEST: ABI = ABI::V7;

/// Read below these: what programs and libraries are made of, and what everybody may know of the machine.
const FOLDERS: &[&str] = &[
    // Modules of the resolver are loaded when the first name is looked up, certificates with the first HTTPS.
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    // Not what is beside them: private keys.
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    "/etc/static",
    // Where resolv.conf is a link to; it is replaced when the network changes.
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/nscd",
    // How many threads and how much memory there may be.
    "/proc/self",
    "/proc/sys/kernel/random",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
];
const FILES: &[&str] = &[
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/nscd.conf",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
    "/dev/random",
    "/dev/urandom",
];
/// Certificates elsewhere, as OpenSSL has it.
const VARIABLES: &[&str] = &["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Restricts this thread. The version in force; 0 where there is none.
pub(crate) fn close(sandbox: &Sandbox) -> Result<u32, SandboxError> {
    restrict(sandbox).map_err(|error| SandboxError::Refused {
        what: "Landlock",
        source: Box::new(error),
    })
}

fn restrict(sandbox: &Sandbox) -> Result<u32, RulesetError> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let mut rules = rules.add_rule(NetPort::new(0, AccessNet::BindTcp))?;
    for port in &sandbox.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for path in FOLDERS.iter().chain(FILES) {
        rules = allow(rules, Path::new(path), reading())?;
    }
    if !rustix::process::geteuid().is_root() {
        // Files there are replaced, as resolv.conf is when the network changes, and a rule for a file ends
        // with it. What others may not know is kept from us by its mode; from root it would not be.
        rules = allow(rules, Path::new("/etc"), reading())?;
    }
    let elsewhere = VARIABLES.iter().filter_map(std::env::var_os);
    for path in elsewhere.flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>()) {
        rules = allow(rules, &path, reading())?;
    }
    rules = allow(
        rules,
        Path::new("/dev/null"),
        reading() | AccessFs::WriteFile,
    )?;
    for path in &sandbox.read {
        rules = allow(rules, path, reading())?;
    }
    for path in &sandbox.write {
        rules = allow(rules, path, writing())?;
    }
    Ok(match rules.restrict_self()?.landlock {
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
        LandlockStatus::Available { effective_abi, .. } => effective_abi.min(NEWEST) as u32,
    })
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// No devices, no pipes, no sockets, and nothing to execute.
fn writing() -> BitFlags<AccessFs> {
    reading()
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// What is not there stays closed.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let (Ok(fd), Ok(about)) = (PathFd::new(path), fs::metadata(path)) else {
        return Ok(rules);
    };
    let access = match about.is_dir() {
        true => access,
        false => access & AccessFs::from_file(NEWEST),
    };
    rules.add_rule(PathBeneath::new(fd, access))
}
