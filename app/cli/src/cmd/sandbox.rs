//! `torr sandbox`: what a download cannot do, by trying it.

use serde_json::{Value, json};
use torr::Listener;
use torr_sandbox::{Entered, Outcome, Tried};

use crate::args::high::High;
use crate::args::low::{DownloadArgs, SandboxArgs};
use crate::confine;
use crate::download::session_config;
use crate::env::{Env, Output};
use crate::failure::{Exit, Failure};

pub(crate) fn run(env: &Env, args: SandboxArgs) -> Result<Exit, Failure> {
    let low = DownloadArgs {
        // Needed by the rules of a download, and by nothing here.
        torrents: vec!["-".into()],
        dir: args.dir,
        state: args.state,
        port: args.port,
        ..DownloadArgs::default()
    };
    let high = High::from_low(env, low)?;
    let folders = [high.dir.clone(), high.disk.state.clone()];
    for folder in &folders {
        torr::make_folder(folder)
            .map_err(|error| Failure::new(Exit::Storage, "sandbox", error.to_string()))?;
    }
    let sandbox = (!args.no_sandbox).then(|| confine::sandbox(&[], &folders));
    // A process of its own tries, as there may be no thread and nothing open for it.
    let home = env.var("HOME").unwrap_or("/".as_ref());
    let take = || Listener::bind(&session_config(&high));
    let (entered, tried) = torr_sandbox::probe(sandbox.as_ref(), home.as_ref(), take)
        .map_err(|error| Failure::io("sandbox", &error))?;
    match args.json {
        true => env.out.line(as_json(entered.as_ref(), &tried)),
        false => show(&env.out, entered.as_ref(), &tried),
    }
    let left = tried.iter().any(|tried| is_left(entered.as_ref(), tried));
    Ok(if left { Exit::Other } else { Exit::Done })
}

/// Not shown to be closed, though this kernel could close it.
fn is_left(entered: Option<&Entered>, tried: &Tried) -> bool {
    let is_closed = matches!(tried.outcome, Outcome::Refused(_));
    !is_closed && entered.is_none_or(|entered| entered.closes(tried.part))
}

fn show(out: &Output, entered: Option<&Entered>, tried: &[Tried]) {
    let width = tried.iter().map(|tried| tried.what.len()).max();
    let width = width.unwrap_or_default();
    for tried in tried {
        let (state, by) = (state(tried), by(entered, tried));
        out.line(format_args!("{:<width$}  {state:<6}  {by}", tried.what));
    }
}

fn state(tried: &Tried) -> &'static str {
    match tried.outcome {
        Outcome::Open => "OPEN",
        Outcome::Refused(_) => "closed",
        Outcome::Untried(_) => "?",
    }
}

/// Who closes it, or why nobody does.
fn by(entered: Option<&Entered>, tried: &Tried) -> String {
    let since = tried.part.landlock_since();
    match (&tried.outcome, entered, since) {
        (Outcome::Untried(why), _, _) => why.clone(),
        (Outcome::Open, None, _) => "no sandbox".to_owned(),
        (Outcome::Open, Some(_), Some((version, linux))) => {
            format!("needs Landlock {version}, Linux {linux}")
        }
        (Outcome::Open, Some(_), None) => "needs seccomp".to_owned(),
        (Outcome::Refused(_), Some(entered), Some(_)) if entered.closes(tried.part) => {
            format!("Landlock {}", entered.landlock)
        }
        (Outcome::Refused(_), Some(entered), None) if entered.seccomp => "seccomp".to_owned(),
        (Outcome::Refused(_), _, _) => "the system".to_owned(),
    }
}

fn as_json(entered: Option<&Entered>, tried: &[Tried]) -> Value {
    let rows = tried.iter().map(|tried| {
        json!({
            "what": tried.what, "state": state(tried).to_lowercase(), "by": by(entered, tried),
            "kernel_can": entered.is_none_or(|entered| entered.closes(tried.part)),
        })
    });
    json!({
        "sandbox": entered.is_some(),
        "landlock": entered.map(|entered| entered.landlock),
        "seccomp": entered.map(|entered| entered.seccomp),
        "tries": rows.collect::<Vec<_>>(),
    })
}
