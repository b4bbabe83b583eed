//! A run as a picture: how many requests were answered a second, below it how long the slowest hundredth
//! took, and where a fault came. An SVG, because it is text, needs no library of the system, and shows
//! anywhere.

use super::Outcome;
use super::faults::FaultReport;
use super::report::{Point, points};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fs::Permissions;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const SIZE: (u32, u32) = (960, 600);
/// So much of a command is shown.
const MAX_LABEL: usize = 40;
const THROUGHPUT: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const P99: RGBColor = RGBColor(0xd6, 0x27, 0x28);
const FAULT: RGBColor = RGBColor(0x55, 0x55, 0x55);

/// Where the picture goes. It is made before the load runs, so that a place that cannot be written to costs
/// nothing, and gets its name when it is whole.
pub(super) struct PlotFile {
    path: PathBuf,
    draft: NamedTempFile,
}

impl PlotFile {
    pub fn create(path: &Path) -> Result<PlotFile, String> {
        let cannot = |why: &str| format!("cannot write the plot {}: {why}", path.display());
        if path.is_dir() {
            return Err(cannot("it is a folder"));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // For everybody to read, as far as the user's mask has it.
        let draft = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder);
        let draft = draft.map_err(|error| cannot(&error.to_string()))?;
        Ok(PlotFile { path: path.to_owned(), draft })
    }

    /// Writes the picture, and takes the place of what had its name.
    pub fn write(mut self, svg: &str) -> Result<(), String> {
        let written = self.draft.write_all(svg.as_bytes());
        let named = written.and_then(|()| self.draft.persist(&self.path).map_err(|error| error.error));
        named.map(drop).map_err(|error| format!("cannot write the plot {}: {error}", self.path.display()))
    }
}

/// The picture as text. Fails only where the drawing library does.
pub(super) fn svg(title: &str, outcome: &Outcome) -> Result<String, String> {
    let mut text = String::new();
    draw(&mut text, title, outcome).map_err(|error| format!("cannot draw the plot: {error}"))?;
    Ok(text)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(text: &mut String, title: &str, outcome: &Outcome) -> Drawn {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(title, ("sans-serif", 17))?;
    let (above, below) = root.split_vertically(SIZE.1 / 2 - 12);
    let points = points(&outcome.series, outcome.measured);
    let seconds = 0.0..outcome.measured.as_secs_f64().max(0.1);
    draw_throughput(&above, &points, seconds.clone(), &outcome.faults)?;
    draw_p99(&below, &points, seconds, &outcome.faults)?;
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_throughput(area: &Area<'_>, points: &[Point], seconds: Range<f64>, faults: &[FaultReport]) -> Drawn {
    let rates = points.iter().map(|point| point.operations_per_second);
    let most = rates.fold(1.0, f64::max) * 1.12;
    let mut chart = builder(area).build_cartesian_2d(seconds.clone(), 0.0..most)?;
    let mut mesh = chart.configure_mesh();
    mesh.y_desc("operations a second").y_label_formatter(&|rate| format!("{rate:.0}"));
    mesh.x_labels(12).light_line_style(TRANSPARENT).label_style(("sans-serif", 14)).draw()?;
    let line = points.iter().map(|point| (point.at_seconds, point.operations_per_second));
    chart.draw_series(LineSeries::new(line, THROUGHPUT.stroke_width(2)))?;
    for (number, fault) in faults.iter().enumerate() {
        chart.draw_series(LineSeries::new(vertical(fault, 0.0..most), FAULT))?;
        // Of two neighbours one stands lower, so that both can be read.
        let height = if number % 2 == 0 { most } else { most * 0.93 };
        chart.draw_series([label(fault, seconds.end, height)])?;
    }
    Ok(())
}

/// What happened, beside its line and on the side where there is more room.
fn label(fault: &FaultReport, seconds: f64, height: f64) -> Text<'static, (f64, f64), String> {
    let side = if fault.at_seconds < seconds / 2.0 { HPos::Left } else { HPos::Right };
    let style = ("sans-serif", 14).into_font().color(&FAULT).pos(Pos::new(side, VPos::Top));
    let mut what: String = fault.what.chars().take(MAX_LABEL).collect();
    if what.len() < fault.what.len() {
        what.push('…');
    }
    Text::new(format!("\u{a0}{what}\u{a0}"), (fault.at_seconds, height), style)
}

/// On a logarithmic axis: what is slow in a pause is slower by orders of magnitude.
fn draw_p99(area: &Area<'_>, points: &[Point], seconds: Range<f64>, faults: &[FaultReport]) -> Drawn {
    let times = || points.iter().filter_map(|point| point.p99_ms);
    let least = times().fold(f64::INFINITY, f64::min).clamp(0.01, 1.0e6) / 2.0;
    let most = times().fold(0.0, f64::max).max(least) * 2.0;
    let mut chart = builder(area).build_cartesian_2d(seconds, (least..most).log_scale())?;
    let mut mesh = chart.configure_mesh();
    mesh.y_desc("p99 in ms").x_desc("seconds after the warm-up").y_label_formatter(&|ms| shown(*ms));
    mesh.x_labels(12).light_line_style(TRANSPARENT).label_style(("sans-serif", 14)).draw()?;
    // Where nothing was answered, there is no time to show: the line has a hole.
    for run in points.split(|point| point.p99_ms.is_none()).filter(|run| !run.is_empty()) {
        let line = run.iter().filter_map(|point| Some((point.at_seconds, point.p99_ms?)));
        chart.draw_series(LineSeries::new(line, P99.stroke_width(2)).point_size(1))?;
    }
    for fault in faults {
        chart.draw_series(LineSeries::new(vertical(fault, least..most), FAULT))?;
    }
    Ok(())
}

fn builder<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).x_label_area_size(36).y_label_area_size(70);
    builder
}

fn vertical(fault: &FaultReport, range: Range<f64>) -> [(f64, f64); 2] {
    [range.start, range.end].map(|y| (fault.at_seconds, y))
}

/// Milliseconds, with as many digits as they need.
fn shown(ms: f64) -> String {
    if ms < 1.0 { format!("{ms:.2}") } else { format!("{ms:.0}") }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::outcome;
    use super::*;

    /// How many lines of this colour there are, and how many points they have.
    fn lines_of(svg: &str, color: RGBColor) -> (usize, usize) {
        let document = roxmltree::Document::parse(svg).unwrap();
        let color = format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
        let is_it = |node: &roxmltree::Node<'_, '_>| {
            node.has_tag_name("polyline") && node.attribute("stroke") == Some(color.as_str())
        };
        let lines: Vec<_> = document.descendants().filter(is_it).collect();
        let points =
            lines.iter().map(|line| line.attribute("points").unwrap().split_whitespace().count()).sum();
        (lines.len(), points)
    }

    #[test]
    fn the_picture_has_both_lines_and_the_fault() {
        let svg = svg("a title with <angles> & more", &outcome()).unwrap();
        assert_eq!(lines_of(&svg, THROUGHPUT), (1, 20));
        // Two runs of answers, with a hole between and one behind.
        assert_eq!(lines_of(&svg, P99), (2, 4));
        assert_eq!(lines_of(&svg, FAULT), (2, 4));
        for text in ["a title with", "kill the leader (n2)", "operations a second", "p99 in ms"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn a_run_without_answers_has_a_picture_too() {
        let mut outcome = outcome();
        outcome.series.slices.clear();
        outcome.measured = std::time::Duration::ZERO;
        outcome.faults.clear();
        let svg = svg("nothing", &outcome).unwrap();
        assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in [folder.path().to_owned(), folder.path().join("no/such/folder.svg")] {
            let refused = PlotFile::create(&wrong).err().unwrap();
            assert!(refused.starts_with("cannot write the plot ") && !refused.contains('\n'), "{refused}");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn the_file_is_there_when_it_is_whole_and_takes_an_old_ones_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        drop(PlotFile::create(&path).unwrap());
        assert!(!path.exists());
        for text in ["<one/>", "<two/>"] {
            PlotFile::create(&path).unwrap().write(text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}
