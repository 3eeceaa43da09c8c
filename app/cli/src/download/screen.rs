//! Where a run talks: lines, a bar below them on a terminal, JSON on standard output.

use std::io;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use serde_json::{Map, Value, json};
use torr::Torrent;

use crate::args::high::{Show, Talk};
use crate::args::low::{Field, Mode};
use crate::download::job::Job;
use crate::download::view::View;
use crate::env::{Env, Output, State};
use crate::failure::Failure;
use crate::terminal::may_draw;
use torr_base::printable;

/// Bars that are drawn at most; more would push everything else off the screen.
const BARS_MAX: usize = 10;
const REDRAWS_PER_SECOND: u8 = 10;

pub(crate) struct Screen {
    out: Output,
    err: Output,
    show: Show,
    bars: Option<Bars>,
}

/// One line of `--json`.
pub(crate) fn object(kind: &str, fields: Value) -> Value {
    let mut object = Map::new();
    object.insert("v".to_owned(), json!(1));
    object.insert("t".to_owned(), json!(kind));
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

impl Screen {
    pub(crate) fn new(env: &Env, show: Show) -> Self {
        let draws = show.mode == Mode::Bar && show.talk > Talk::Quiet;
        Self {
            out: env.out.clone(),
            err: env.err.clone(),
            bars: draws.then(|| Bars::new(env.err.clone())),
            show,
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.show.mode
    }

    /// A line for everybody who did not ask for silence.
    pub(crate) fn say(&self, line: &str) {
        self.talk(Talk::Usual, line);
    }

    /// A line for those who asked for more.
    pub(crate) fn detail(&self, line: &str) {
        self.talk(Talk::Verbose, line);
    }

    pub(crate) fn warn(&self, name: &str, text: &str) {
        self.talk(
            Talk::Usual,
            &format!("warning: {name}: {}", printable(text)),
        );
    }

    /// What went wrong, for everybody.
    pub(crate) fn fail(&self, failure: &Failure) {
        self.above_bars(|| self.err.line(failure));
    }

    fn talk(&self, least: Talk, line: &str) {
        if self.show.talk >= least {
            self.above_bars(|| self.err.line(line));
        }
    }

    /// A result, alone on standard output.
    pub(crate) fn result(&self, line: &str) {
        if self.show.mode != Mode::Json {
            self.above_bars(|| self.out.line(line));
        }
    }

    /// Whether anybody wants the results.
    pub(crate) fn prints(&self) -> bool {
        self.show.print.is_some()
    }

    /// What `--print` asked for.
    pub(crate) fn print_result(&self, job: &Job, torrent: &Torrent) {
        let path = || {
            let path = torrent.path();
            path.map_or_else(String::new, |path| path.display().to_string())
        };
        let Some(field) = self.show.print else { return };
        match field {
            Field::Path => self.result(&path()),
            Field::Name => self.result(&job.name),
            Field::Hash => self.result(&job.hash),
            Field::Size => self.result(&job.size.to_string()),
            Field::Magnet => self.result(&job.magnet),
            Field::Files => {
                let files = torrent.info().into_iter().flat_map(|info| info.files());
                for path in files.filter_map(|file| torrent.file_path(file.index)) {
                    self.result(&path.display().to_string());
                }
            }
        }
    }

    /// An object of `--json`; nothing without.
    pub(crate) fn json(&self, kind: &str, fields: Value) {
        if self.show.mode != Mode::Json {
            return;
        }
        self.out.line(object(kind, fields));
    }

    /// Whether the one for whom all this is has left: the reader of `--json`.
    pub(crate) fn is_left(&self) -> Option<String> {
        match self.out.state() {
            State::Left if self.show.mode == Mode::Json => Some("its reader has left".to_owned()),
            State::Failed(why) if self.show.mode == Mode::Json => Some(why),
            State::Open | State::Left | State::Failed(_) => None,
        }
    }

    /// Draws the torrents that are under way.
    pub(crate) fn draw(&mut self, views: &[View]) {
        if let Some(bars) = &mut self.bars
            && (views.is_empty() || may_draw())
        {
            bars.draw(views);
        }
    }

    /// One line for each torrent, for those without a terminal.
    pub(crate) fn lines(&self, views: &[View], named: bool) {
        for view in views {
            let line = view.line();
            match named {
                true => self.say(&format!("{}: {}", view.name, line.trim_start())),
                false => self.say(line.trim_start()),
            }
        }
    }

    fn above_bars(&self, write: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.multi.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(bars) = &mut self.bars {
            bars.draw(&[]);
        }
    }
}

struct Bars {
    multi: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Bars {
    fn new(err: Output) -> Self {
        let target =
            ProgressDrawTarget::term_like_with_hz(Box::new(Terminal(err)), REDRAWS_PER_SECOND);
        Self {
            multi: MultiProgress::with_draw_target(target),
            lines: Vec::new(),
        }
    }

    fn draw(&mut self, views: &[View]) {
        let mut texts: Vec<String> = views
            .iter()
            .take(BARS_MAX)
            .map(|view| match views.len() {
                1 => view.line(),
                _ => format!("{:<20.20} {}", view.name, view.line()),
            })
            .collect();
        if let Some(more) = views.len().checked_sub(BARS_MAX).filter(|more| *more > 0) {
            texts.push(format!("and {more} more"));
        }
        while self.lines.len() > texts.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.multi.remove(&line);
            }
        }
        while self.lines.len() < texts.len() {
            let style = ProgressStyle::with_template("{wide_msg}");
            let style = style.expect("the template is one of indicatif's own");
            let line = ProgressBar::no_length().with_style(style);
            self.lines.push(self.multi.add(line));
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(text);
            line.tick();
        }
    }
}

/// A terminal behind an [`Output`], as indicatif wants to see it. Errors are kept by the output.
#[derive(Debug)]
struct Terminal(Output);

impl Terminal {
    fn escape(&self, count: usize, letter: char) -> io::Result<()> {
        if count > 0 {
            self.0.write(format!("\x1b[{count}{letter}").as_bytes());
        }
        Ok(())
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        self.0.width()
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.escape(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.escape(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.escape(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.escape(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.line(text);
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write(text.as_bytes());
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.write(b"\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
