//! A picture of what was measured over time: small charts of one size side by side.

use std::fmt::Write;

use super::series::{Series, Unit};

/// The measures of one chart, of the space around it, and how many stand side by side.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 70.0;
const MARGIN: f64 = 20.0;
const HEADING: f64 = 34.0;
const COLUMNS: usize = 3;

/// How many points a line has at most.
const POINTS: usize = 300;

/// Draws each series over so many seconds, as SVG. Each chart begins at zero.
pub fn svg(all: &[Series], seconds: f64) -> String {
    let rows = all.len().div_ceil(COLUMNS);
    let width = COLUMNS as f64 * (WIDTH + MARGIN) + MARGIN;
    let height = rows as f64 * (HEIGHT + HEADING + MARGIN) + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (at, series) in all.iter().enumerate() {
        let x = MARGIN + (at % COLUMNS) as f64 * (WIDTH + MARGIN);
        let y = MARGIN + (at / COLUMNS) as f64 * (HEIGHT + HEADING + MARGIN);
        write!(text, "<g transform=\"translate({x} {y})\">\n{}</g>\n", chart(series, seconds))
            .expect("a String takes whatever is written");
    }
    text.push_str("</svg>\n");
    text
}

fn chart(series: &Series, seconds: f64) -> String {
    let values = series.in_brief(POINTS);
    let most = values.iter().copied().fold(0.0, f64::max);
    let last = values.last().copied().unwrap_or_default();
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let y = |value: f64| HEADING + HEIGHT * (1.0 - if most > 0.0 { value / most } else { 0.0 });
    let points: Vec<String> =
        values.iter().enumerate().map(|(at, value)| format!("{:.1},{:.1}", at as f64 * step, y(*value))).collect();
    let (floor, flat) = (HEADING + HEIGHT, series.flat());
    let (colour, verdict) = if flat.is_flat { ("#2a7", "flat") } else { ("#c33", "grows") };
    let (measure, told, limit) = (&series.measure, shown(series.unit, last), shown(series.unit, most));
    format!(
        "<text y=\"12\" font-weight=\"bold\">{measure}</text>\n\
         <text y=\"28\" fill=\"#555\">{told} at the end, {limit} at most</text>\n\
         <text x=\"{WIDTH}\" y=\"12\" text-anchor=\"end\" fill=\"{colour}\">{verdict}</text>\n\
         <path d=\"M0 {floor}H{WIDTH}\" stroke=\"#bbb\" fill=\"none\"/>\n\
         <polyline points=\"{}\" stroke=\"{colour}\" fill=\"none\" stroke-width=\"1.5\"/>\n\
         <text x=\"{WIDTH}\" y=\"{}\" text-anchor=\"end\" fill=\"#999\" font-size=\"10\">{seconds:.0} s</text>\n",
        points.join(" "),
        floor + 11.0,
    )
}

/// `12`, `1.5 MiB`, `3 ms`
pub fn shown(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count => format!("{value:.0}"),
        Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
        Unit::Milliseconds => format!("{value:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_series_is_a_line_from_zero() {
        let of = |measure: &str, values: &[f64]| Series {
            measure: measure.to_owned(),
            unit: Unit::Count,
            values: values.to_vec(),
        };
        let text = svg(&[of("descriptors", &[0.0, 20.0, 10.0]), of("tokio tasks", &[0.0; 3])], 60.0);
        assert!(text.contains("points=\"0.0,104.0 150.0,34.0 300.0,69.0\""), "{text}");
        assert!(text.contains("points=\"0.0,104.0 150.0,104.0 300.0,104.0\""), "{text}");
        assert!(text.contains(">10 at the end, 20 at most<") && text.contains(">60 s<"), "{text}");
        assert_eq!(text.matches("<g ").count(), text.matches("</g>").count());
    }
}
