//! Bars as SVG: one line for each client, the least run as the bar, the median as a mark.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 190.0;
const NUMBERS: f64 = 70.0;
const TOP: f64 = 56.0;
const STEP: f64 = 26.0;
const OWN: &str = "#0b6e4f";
const OTHERS: &str = "#8a94a6";

#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) mark: f64,
    pub(crate) own: bool,
}

/// A picture of `all`, from above in the order given. Shorter is better in every case.
pub(crate) fn bars(title: &str, unit: &str, all: &[Bar]) -> String {
    let height = TOP + STEP * all.len() as f64 + 12.0;
    let most = all.iter().map(|bar| bar.value.max(bar.mark));
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - NUMBERS) / most;
    let mut svg = String::new();
    let mut push = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        writeln!(svg, "{line}").ok();
    };
    push(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">"#
    ));
    push(format_args!(
        r##"<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>"##
    ));
    push(format_args!(
        r##"<text x="12" y="22" font-size="15" fill="#1b1f24">{}</text>"##,
        escape(title)
    ));
    push(format_args!(
        r##"<text x="12" y="41" font-size="12" fill="#57606a">{}; shorter is better; bar: least of the runs, line: median</text>"##,
        escape(unit)
    ));
    for (number, bar) in all.iter().enumerate() {
        let y = TOP + STEP * number as f64;
        let (width, mark) = (bar.value * scale, LABELS + bar.mark * scale);
        let (fill, weight) = if bar.own {
            (OWN, "bold")
        } else {
            (OTHERS, "normal")
        };
        push(format_args!(
            r##"<text x="{:.0}" y="{:.1}" text-anchor="end" font-weight="{weight}" fill="#1b1f24">{}</text>"##,
            LABELS - 8.0,
            y + 14.0,
            escape(&bar.name)
        ));
        push(format_args!(
            r#"<rect x="{LABELS}" y="{y:.1}" width="{width:.1}" height="18" fill="{fill}"/>"#
        ));
        push(format_args!(
            r##"<path d="M{mark:.1} {:.1}v22" stroke="#1b1f24" stroke-width="1.5"/>"##,
            y - 2.0
        ));
        push(format_args!(
            r##"<text x="{:.1}" y="{:.1}" fill="#1b1f24">{}</text>"##,
            (LABELS + width).max(mark) + 6.0,
            y + 14.0,
            number_text(bar.value)
        ));
    }
    push(format_args!("</svg>"));
    svg
}

/// Three digits that matter.
fn number_text(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each() {
        let bar = |name: &str, value| Bar {
            name: name.into(),
            value,
            mark: value * 1.1,
            own: name == "torr",
        };
        let svg = bars("a < b", "s", &[bar("torr", 0.5), bar("other", 2.0)]);
        assert!(svg.contains("a &lt; b") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg.matches("<rect").count(), 3);
        assert_eq!(svg.matches(OWN).count(), 1);
    }
}
