//! `torr config show`.

use crate::args::low::DownloadArgs;
use crate::args::settings::Settings;
use crate::env::Env;
use crate::failure::{Exit, Failure};

pub(crate) fn show(env: &Env) -> Result<Exit, Failure> {
    let settings = Settings::read(env, &DownloadArgs::default())?;
    for setting in settings.iter() {
        env.out.line(setting);
    }
    Ok(Exit::Done)
}
