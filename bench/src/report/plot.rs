//! Plots of distributions, as SVG texts to be put into a page.
//!
//! Contract: one line a contender; axes, grid and letters are drawn in [`INK`] and [`GRID`], two
//! colours that mean "ask the page", so that a style sheet can make them fit light and dark. Pure;
//! allocates; an empty plot is `None`, and so is one that the library cannot draw.

use hdrhistogram::Histogram;
use plotters::prelude::*;

use super::{format, hgrm};
use crate::result::Unit;

/// Stands for the page's colour of letters and axes.
pub const INK: &str = "#010101";
/// Stands for the page's colour of grid lines.
pub const GRID: &str = "#020202";
/// A contender's colour, by its place: told apart on white and on black, also by most who see colours
/// differently.
pub const COLOURS: [&str; 8] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#8A63D2", "#808080"];

const INK_RGB: RGBColor = RGBColor(1, 1, 1);
const GRID_RGB: RGBColor = RGBColor(2, 2, 2);
const SIZE: (u32, u32) = (720, 300);
/// Bins of a histogram.
const BINS: usize = 60;
/// From this ratio of largest to middle value on, the axis of values is logarithmic.
const LOGARITHMIC_FROM: f64 = 20.0;
/// Most nines that a percentile axis shows.
const MOST_NINES: f64 = 7.0;

/// Points of one line, in the units of the axes.
pub type Points = Vec<(f64, f64)>;

/// Values over percentiles, the percentiles by their nines. One histogram a contender.
#[must_use]
pub fn percentiles(unit: Unit, contenders: &[Histogram<u64>]) -> Option<String> {
    let largest = contenders.iter().map(Histogram::max).max().filter(|max| *max > 0)? as f64;
    let middle = contenders.iter().map(|h| h.value_at_quantile(0.5)).max()?.max(1) as f64;
    let logarithmic = largest / middle > LOGARITHMIC_FROM;
    let place = |value: f64| if logarithmic { value.max(1.0).log10() } else { value };
    let most = contenders.iter().map(|h| nines_of(h.len())).fold(1.0, f64::max).min(MOST_NINES);
    let lines: Vec<Points> = contenders
        .iter()
        .map(|histogram| {
            let end = nines_of(histogram.len());
            let rows = hgrm::rows(histogram).into_iter();
            rows.map(|row| (nines(row.percentile).min(end), place(row.value as f64))).collect()
        })
        .collect();
    let smallest = contenders.iter().filter(|h| !h.is_empty()).map(Histogram::min).min()?;
    let from = if logarithmic { place(smallest as f64) } else { 0.0 };
    let x_label = |x: f64| percent_of_nines(x);
    let y_label = |y: f64| format::value(unit, if logarithmic { 10_f64.powf(y) } else { y });
    let axes =
        Axes { x: (0.0, most), y: (from, above(from, place(largest))), ticks: most.ceil() as usize + 1 };
    draw(&axes, &lines, &x_label, &y_label)
}

/// Share of values in bins of equal width, up to the largest p99.9.
#[must_use]
pub fn histogram(unit: Unit, contenders: &[Histogram<u64>]) -> Option<String> {
    let filled = || contenders.iter().filter(|h| !h.is_empty());
    let from = filled().map(Histogram::min).min()? as f64;
    let to = above(from, filled().map(|h| h.value_at_quantile(0.999)).max()? as f64);
    let width = (to - from) / BINS as f64;
    let mut tallest: f64 = 0.0;
    let mut lines = Vec::new();
    for histogram in contenders {
        let mut bins = [0_u64; BINS];
        for value in histogram.iter_recorded() {
            let at = ((value.value_iterated_to() as f64 - from) / width).floor();
            if let Some(bin) = bins.get_mut(if at < 0.0 { 0 } else { at as usize }) {
                *bin += value.count_at_value();
            }
        }
        let share = |count: u64| 100.0 * count as f64 / histogram.len().max(1) as f64;
        let mut line = vec![(from, 0.0)];
        for (at, count) in bins.into_iter().enumerate() {
            let left = from + width * at as f64;
            line.extend([(left, share(count)), (left + width, share(count))]);
            tallest = tallest.max(share(count));
        }
        line.push((to, 0.0));
        lines.push(line);
    }
    let x_label = |x: f64| format::value(unit, x);
    let y_label = |y: f64| format!("{y:.0} %");
    draw(&Axes { x: (from, to), y: (0.0, above(0.0, tallest)), ticks: 6 }, &lines, &x_label, &y_label)
}

/// Values over the seconds of a run, one line each.
#[must_use]
pub fn track(unit: Unit, lines: &[Points]) -> Option<String> {
    let points = || lines.iter().flatten();
    let ends = |of: fn(&(f64, f64)) -> f64| {
        let values = || points().map(of);
        Some((values().min_by(f64::total_cmp)?, values().max_by(f64::total_cmp)?))
    };
    let ((first, last), (least, most)) = (ends(|point| point.0)?, ends(|point| point.1)?);
    let logarithmic = least > 0.0 && most / least > LOGARITHMIC_FROM;
    let place = |value: f64| if logarithmic { value.log10() } else { value };
    let placed: Vec<Points> =
        lines.iter().map(|line| line.iter().map(|(at, value)| (*at, place(*value))).collect()).collect();
    let from = if logarithmic { place(least) } else { 0.0 };
    let y_label = |y: f64| format::value(unit, if logarithmic { 10_f64.powf(y) } else { y });
    let x_label = |x: f64| format!("{:.1} min", x / 60.0);
    let axes = Axes { x: (first, above(first, last)), y: (from, above(from, place(most))), ticks: 6 };
    draw(&axes, &placed, &x_label, &y_label)
}

/// Ends of the axes, and how many labels the horizontal one has.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    ticks: usize,
}

fn draw(
    axes: &Axes,
    lines: &[Points],
    x_label: &dyn Fn(f64) -> String,
    y_label: &dyn Fn(f64) -> String,
) -> Option<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(28)
            .y_label_area_size(72)
            .build_cartesian_2d(axes.x.0..axes.x.1, axes.y.0..axes.y.1)
            .ok()?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID_RGB)
            .axis_style(INK_RGB)
            .label_style(("sans-serif", 13).into_font().color(&INK_RGB))
            .x_labels(axes.ticks)
            .y_labels(6)
            .x_label_formatter(&|x| x_label(*x))
            .y_label_formatter(&|y| y_label(*y))
            .draw()
            .ok()?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let style = rgb(colour).stroke_width(2);
            chart.draw_series(LineSeries::new(line.iter().copied(), style)).ok()?;
        }
        area.present().ok()?;
    }
    // Its size is the page's matter; the view box keeps the proportions.
    Some(svg.replacen(&format!("width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1), "role=\"img\" ", 1))
}

/// Room above the largest value, also when there is only one.
fn above(from: f64, largest: f64) -> f64 {
    if largest > from { largest + (largest - from) * 0.05 } else { from + from.abs().max(1.0) * 0.1 }
}

/// How many nines a percentile has: 0.9 one, 0.99 two.
fn nines(percentile: f64) -> f64 {
    if percentile < 1.0 { -(1.0 - percentile).log10() } else { f64::INFINITY }
}

/// The nines that so many values can tell.
fn nines_of(count: u64) -> f64 {
    (count.max(2) as f64).log10()
}

/// `99.9 %` of 3.
fn percent_of_nines(nines: f64) -> String {
    let decimals = (nines.round() as usize).saturating_sub(2);
    format!("{:.decimals$} %", 100.0 - 100.0 / 10_f64.powf(nines))
}

fn rgb(colour: &str) -> RGBColor {
    let part = |from: usize| colour.get(from..from + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    RGBColor(part(1).unwrap_or(0), part(3).unwrap_or(0), part(5).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::new_histogram;

    fn filled(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = new_histogram();
        values.for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn one_line_a_contender_and_colours_that_the_page_can_replace() {
        let contenders = [filled(1..2_000), filled((1..500).map(|v| v * 1_000)), new_histogram()];
        for plot in [percentiles, histogram] {
            let svg = plot(Unit::Nanoseconds, &contenders).unwrap();
            assert!(svg.starts_with("<svg role=\"img\" viewBox="), "{}", &svg[..200]);
            assert!(svg.contains(INK) && svg.contains(GRID), "{}", &svg[..500]);
            for colour in &COLOURS[..2] {
                assert!(svg.contains(&format!("stroke=\"{colour}\"")), "{colour}");
            }
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(percentiles(Unit::Plain, &contenders).unwrap().contains("99.9 %"));
    }

    #[test]
    fn nothing_or_one_value_is_no_trouble() {
        assert_eq!(percentiles(Unit::Bytes, &[]), None);
        assert_eq!(histogram(Unit::Bytes, &[new_histogram()]), None);
        let one = [filled([5_000].into_iter())];
        assert!(percentiles(Unit::Bytes, &one).is_some() && histogram(Unit::Bytes, &one).is_some());
    }

    #[test]
    fn a_track_of_nothing_is_none_and_of_one_point_a_plot() {
        assert_eq!(track(Unit::Plain, &[]), None);
        assert_eq!(track(Unit::Plain, &[Vec::new()]), None);
        let svg = track(Unit::Bytes, &[vec![(0.0, 0.0)], vec![(600.0, 4_096.0)]]).unwrap();
        assert!(svg.contains("3.91 KiB") && svg.contains("10.0 min") && !svg.contains("NaN"), "{svg}");
        assert!(track(Unit::Nanoseconds, &[vec![(1.0, 3.0), (2.0, 9e9)]]).is_some());
    }

    #[test]
    fn nines_and_percents() {
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0, 4.0].map(percent_of_nines),
            ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        );
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
    }
}
