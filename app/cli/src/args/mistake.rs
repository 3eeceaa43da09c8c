//! Mistakes on the command line, each in one line with the nearest thing that would be right.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;

/// The name that was probably meant: few letters away for its length.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (distance(word, name), name));
    let (score, name) = scored.min_by_key(|(score, _)| *score)?;
    (score <= 1 + word.chars().count() / 4).then_some(name)
}

/// Letters to insert, remove, replace, or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// What clap found, in our words.
pub(crate) fn from_clap(error: &clap::Error) -> Failure {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let arg = text(ContextKind::InvalidArg).unwrap_or_default();
    let name = arg.split_whitespace().next().unwrap_or_default().to_owned();
    let name = name.split('=').next().unwrap_or_default().to_owned();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let suggested = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    let near = suggested.into_iter().find_map(text);
    let mut hint = near.map(|near| format!("did you mean `{near}`?"));
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "clap may add kinds, and has words for all"
    )]
    let (what, why) = match error.kind() {
        ErrorKind::UnknownArgument if name.starts_with('-') => (name, "no such option".to_owned()),
        ErrorKind::UnknownArgument => (name, "one argument too many".to_owned()),
        ErrorKind::InvalidValue if value.is_empty() => (name, "a value is missing".to_owned()),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let words = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) => words.join(", "),
                _ => String::new(),
            };
            if hint.is_none() && !words.is_empty() {
                hint = Some(format!("one of {words}"));
            }
            (
                name,
                format!("`{}` is not one of its values", value.escape_debug()),
            )
        }
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg).unwrap_or_else(|| "the others".to_owned());
            let other = other.split_whitespace().next().unwrap_or_default();
            let why = if other == name {
                "it is there twice".to_owned()
            } else {
                format!("it does not go with {other}")
            };
            (name, why)
        }
        ErrorKind::MissingRequiredArgument => (name, "it is missing".to_owned()),
        ErrorKind::InvalidSubcommand | ErrorKind::MissingSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            (word, "no such command".to_owned())
        }
        ErrorKind::InvalidUtf8 => ("an argument".to_owned(), "it is not UTF-8".to_owned()),
        ErrorKind::TooManyValues => (name, "it takes no value".to_owned()),
        _ => (
            "the command line".to_owned(),
            first_line(&error.to_string()),
        ),
    };
    let hint = hint.unwrap_or_else(|| "`torr --help` shows what there is".to_owned());
    let what = if what.is_empty() {
        "the command line".to_owned()
    } else {
        what
    };
    Failure::usage(what, why).hint(hint)
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let names = ["info", "create", "check", "magnet", "demo"];
        assert_eq!(nearest("inof", names), Some("info"));
        assert_eq!(nearest("craete", names), Some("create"));
        assert_eq!(nearest("magnets", names), Some("magnet"));
        assert_eq!(nearest("zzz", names), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
