//! What a run came to, for people as a table and for programs as one JSON object.

use super::Outcome;
use super::faults::{Event, FaultReport};
use super::options::Options;
use super::pauses::{Gap, after_fault};
use super::record::{Series, Slice, Tally};
use hdrhistogram::{Counter, Histogram};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn us_as_ms(time_us: u64) -> f64 {
    time_us as f64 / 1000.0
}

/// A time below which so many of the answers came, in milliseconds; none when there were none.
pub(super) fn quantile_ms<C: Counter>(times_us: &Histogram<C>, part: f64) -> Option<f64> {
    (!times_us.is_empty()).then(|| us_as_ms(times_us.value_at_quantile(part)))
}

// ---- For people ------------------------------------------------------------------------------------------

pub(super) fn table(options: &Options, outcome: &Outcome) -> String {
    let mut text = format!("{} clients at {}; {options}; ", options.clients, outcome.asked);
    if outcome.interrupted {
        text += &format!("interrupted after {:.1} of ", outcome.measured.as_secs_f64());
    }
    text += &format!("{} s after {} s of warm-up\n", options.seconds, options.warmup_seconds);
    text += "        operations/s   mean ms    p50 ms    p90 ms    p99 ms  p99.9 ms    max ms\n";
    let kinds = [("set", &outcome.sets, options.reads < 1.0), ("get", &outcome.gets, options.reads > 0.0)];
    for (name, tally, asked) in kinds {
        if asked {
            text += &row(name, &tally.times_us, outcome.measured);
        }
    }
    for (name, tally, _) in kinds {
        if !tally.errors.is_empty() {
            let errors: Vec<String> =
                tally.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
            text += &format!("{name} errors: {}\n", errors.join(", "));
        }
    }
    for fault in &outcome.faults {
        text += &fault_line(fault);
    }
    text
}

fn per_second(count: u64, measured: Duration) -> f64 {
    if measured.is_zero() { 0.0 } else { count as f64 / measured.as_secs_f64() }
}

fn row(name: &str, times_us: &Histogram<u64>, measured: Duration) -> String {
    let mut row = format!("{name}  {:>16.1}", per_second(times_us.len(), measured));
    let mut times = vec![if times_us.is_empty() { 0.0 } else { times_us.mean() / 1000.0 }];
    times.extend([0.5, 0.9, 0.99, 0.999].map(|part| us_as_ms(times_us.value_at_quantile(part))));
    times.push(us_as_ms(times_us.max()));
    for time in times {
        row += &format!("{time:>10.3}");
    }
    row + "\n"
}

fn fault_line(fault: &FaultReport) -> String {
    let FaultReport { what, at_seconds, error, pause_ms, pause_from_ms, writes_again_after_ms, .. } = fault;
    let mut line = format!("at {at_seconds:.3} s: {what}");
    if let Some(error) = error {
        line += &format!(", which FAILED: {error}");
    }
    line += &match (pause_from_ms, writes_again_after_ms) {
        (None, _) => "; no pause".to_owned(),
        (Some(_), Some(again)) => format!(
            "; longest time without an accepted write: {pause_ms:.1} ms, until {again:.1} ms after this"
        ),
        (Some(from), None) => format!(
            "; no write was accepted any more, for {pause_ms:.1} ms, from {from:.1} ms after this to the end"
        ),
    };
    line + "\n"
}

// ---- Faults ----------------------------------------------------------------------------------------------

/// Each fault with the pause that came after it.
pub(super) fn with_pauses(
    events: Vec<Event>,
    gaps: &[Gap],
    begin: Instant,
    count_from: Instant,
) -> Vec<FaultReport> {
    let times: Vec<Duration> = events.iter().map(|event| event.at.saturating_duration_since(begin)).collect();
    let report = |(number, event): (usize, Event)| {
        let at = times[number];
        let pause = after_fault(gaps, at, times.get(number + 1).copied());
        FaultReport {
            what: event.what,
            planned_seconds: event.planned.as_secs_f64(),
            at_seconds: event.at.saturating_duration_since(count_from).as_secs_f64(),
            error: event.error,
            pause_ms: pause.map_or(0.0, |gap| ms(gap.length())),
            pause_from_ms: pause.map(|gap| ms(gap.from - at)),
            writes_again_after_ms: pause.filter(|gap| !gap.is_last).map(|gap| ms(gap.to - at)),
        }
    };
    events.into_iter().enumerate().map(report).collect()
}

// ---- Over time -------------------------------------------------------------------------------------------

/// What came of one stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// When it began, after the warm-up.
    pub at_seconds: f64,
    /// Sets and gets that were answered with ok, a second.
    pub operations_per_second: f64,
    /// How many of each there were.
    pub sets: u64,
    pub gets: u64,
    /// Answers that were not ok, and requests whose answer never came.
    pub errors: u64,
    /// None when nothing was answered with ok.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

/// The series, of which the last stretch may be shorter than the others.
pub(super) fn points(series: &Series, measured: Duration) -> Vec<Point> {
    let point = |(slice, number): (&Slice, u32)| {
        let from = series.width * number;
        let Slice { sets, gets, errors, times_us } = slice;
        Point {
            at_seconds: from.as_secs_f64(),
            operations_per_second: per_second(sets + gets, measured.saturating_sub(from).min(series.width)),
            sets: *sets,
            gets: *gets,
            errors: *errors,
            p50_ms: quantile_ms(times_us, 0.5),
            p99_ms: quantile_ms(times_us, 0.99),
            max_ms: quantile_ms(times_us, 1.0),
        }
    };
    series.slices.iter().zip(0..).map(point).collect()
}

// ---- For programs ----------------------------------------------------------------------------------------

#[derive(Serialize)]
struct JsonReport<'a> {
    options: &'a Options,
    asked: &'a str,
    interrupted: bool,
    measured_seconds: f64,
    operations_per_second: f64,
    set: Option<Kind<'a>>,
    get: Option<Kind<'a>>,
    faults: &'a [FaultReport],
    /// The longest of all faults; none without faults.
    pause_ms: Option<f64>,
    series: JsonSeries,
}

#[derive(Serialize)]
struct Kind<'a> {
    ok: u64,
    operations_per_second: f64,
    mean_ms: Option<f64>,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
    #[serde(rename = "p99.9_ms")]
    p99_9_ms: Option<f64>,
    max_ms: Option<f64>,
    errors: &'a BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct JsonSeries {
    interval_seconds: f64,
    points: Vec<Point>,
}

/// One JSON object on one line.
pub(super) fn json(options: &Options, outcome: &Outcome) -> String {
    let Outcome { asked, interrupted, measured, sets, gets, series, faults } = outcome;
    let all = sets.times_us.len() + gets.times_us.len();
    let report = JsonReport {
        options,
        asked,
        interrupted: *interrupted,
        measured_seconds: measured.as_secs_f64(),
        operations_per_second: per_second(all, *measured),
        set: (options.reads < 1.0).then(|| kind(sets, *measured)),
        get: (options.reads > 0.0).then(|| kind(gets, *measured)),
        faults,
        pause_ms: faults.iter().map(|fault| fault.pause_ms).max_by(f64::total_cmp),
        series: JsonSeries {
            interval_seconds: series.width.as_secs_f64(),
            points: points(series, *measured),
        },
    };
    serde_json::to_string(&report).expect("plain values can be written as JSON") + "\n"
}

fn kind(tally: &Tally, measured: Duration) -> Kind<'_> {
    let times_us = &tally.times_us;
    Kind {
        ok: times_us.len(),
        operations_per_second: per_second(times_us.len(), measured),
        mean_ms: (!times_us.is_empty()).then(|| times_us.mean() / 1000.0),
        p50_ms: quantile_ms(times_us, 0.5),
        p90_ms: quantile_ms(times_us, 0.9),
        p99_ms: quantile_ms(times_us, 0.99),
        p99_9_ms: quantile_ms(times_us, 0.999),
        max_ms: quantile_ms(times_us, 1.0),
        errors: &tally.errors,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::options::tests::options;
    use super::*;
    use serde_json::Value;

    /// Two seconds, in the middle of which nothing was answered for a while.
    pub fn outcome() -> Outcome {
        let mut sets = Tally::new();
        for time_us in [1000, 2000, 3000, 4000] {
            sets.times_us.record(time_us).unwrap();
        }
        sets.errors.insert("busy".to_owned(), 3);
        let mut series = Series::new(2.0);
        series.fill(Duration::from_secs(2));
        for (place, time_us) in [(0, 1000), (1, 2000), (12, 3000), (13, 4000)] {
            series.slices[place].sets = 1;
            series.slices[place].times_us.record(time_us).unwrap();
        }
        series.slices[5].errors = 3;
        let fault = FaultReport {
            what: "kill the leader (n2)".to_owned(),
            planned_seconds: 0.5,
            at_seconds: 0.501,
            error: None,
            pause_ms: 412.34,
            pause_from_ms: Some(1.0),
            writes_again_after_ms: Some(413.34),
        };
        Outcome {
            asked: "all nodes".to_owned(),
            interrupted: false,
            measured: Duration::from_secs(2),
            sets,
            gets: Tally::new(),
            series,
            faults: vec![fault],
        }
    }

    #[test]
    fn the_table_tells_rates_times_and_errors() {
        let options = options(&["--seconds", "2", "--reads", "0.5"]).unwrap();
        let report = table(&options, &outcome());
        let lines: Vec<&str> = report.lines().collect();
        let first = "64 clients at all nodes; pipeline 1, values of 100 bytes, 10000 keys, 50% reads; 2 s \
                     after 1 s of warm-up";
        assert_eq!(lines[0], first);
        let set: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(set[..2], ["set", "2.0"]);
        assert!(set[2].starts_with("2.50") && set[7].starts_with("4.00"), "{report}");
        assert_eq!(lines[3].split_whitespace().next(), Some("get"));
        assert_eq!(lines[4], "set errors: busy 3");
        let fault = "at 0.501 s: kill the leader (n2); longest time without an accepted write: 412.3 ms, \
                     until 413.3 ms after this";
        assert_eq!(lines[5..], [fault]);
    }

    #[test]
    fn an_interrupted_run_counts_by_the_time_that_it_had() {
        let options = options(&["--seconds", "60"]).unwrap();
        let outcome = Outcome { interrupted: true, measured: Duration::from_secs(1), ..outcome() };
        let report = table(&options, &outcome);
        assert!(report.contains("; interrupted after 1.0 of 60 s after 1 s of warm-up\n"), "{report}");
        assert!(report.contains("\nset               4.0 "), "{report}");
        let nothing = Outcome { measured: Duration::ZERO, sets: Tally::new(), ..outcome };
        assert!(table(&options, &nothing).contains("\nset               0.0 "));
    }

    #[test]
    fn a_fault_that_fails_and_a_pause_without_end_are_told() {
        let fault = FaultReport {
            error: Some("no node led until the end".to_owned()),
            writes_again_after_ms: None,
            ..outcome().faults.remove(0)
        };
        let line = fault_line(&fault);
        assert!(line.contains("(n2), which FAILED: no node led until the end;"), "{line}");
        assert!(line.contains("any more, for 412.3 ms, from 1.0 ms after this to the end"), "{line}");
        let line = fault_line(&FaultReport { pause_ms: 0.0, pause_from_ms: None, ..fault });
        assert!(line.ends_with("; no pause\n"), "{line}");
    }

    #[test]
    fn the_json_is_one_object_with_the_same_figures() {
        let options = options(&["--seconds", "2", "--value-size", "10-20"]).unwrap();
        let line = json(&options, &outcome());
        assert_eq!(line.matches('\n').count(), 1);
        let report: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(report["options"]["value_size"], serde_json::json!({"least": 10, "most": 20}));
        assert_eq!(report["options"]["distribution"], "uniform");
        assert_eq!((&report["operations_per_second"], &report["set"]["ok"]), (&2.0.into(), &4.into()));
        assert_eq!(report["set"]["errors"]["busy"], 3);
        let max_ms = report["set"]["max_ms"].as_f64().unwrap();
        assert!((4.0..4.01).contains(&max_ms), "{max_ms}");
        assert_eq!(report["get"], Value::Null);
        assert_eq!(report["pause_ms"], 412.34);
        assert_eq!(report["faults"][0]["what"], "kill the leader (n2)");
        let points = report["series"]["points"].as_array().unwrap();
        assert_eq!((points.len(), &report["series"]["interval_seconds"]), (20, &0.1.into()));
        assert_eq!(points[0]["operations_per_second"], 10.0);
        assert_eq!((&points[5]["errors"], &points[5]["p99_ms"]), (&3.into(), &Value::Null));
    }

    #[test]
    fn the_last_stretch_may_be_shorter() {
        let Outcome { series, .. } = outcome();
        let points = points(&series, Duration::from_millis(1350));
        assert_eq!(points[12].operations_per_second.round(), 10.0);
        assert_eq!(points[13].operations_per_second.round(), 20.0);
    }

    #[test]
    fn each_fault_has_its_own_pause() {
        let begin = Instant::now();
        let at = |at_ms: u64| begin + Duration::from_millis(at_ms);
        let event = |at_ms, what: &str| Event {
            what: what.to_owned(),
            planned: Duration::from_millis(at_ms),
            at: at(at_ms),
            error: None,
        };
        let gap = |from_ms, to_ms, is_last| Gap {
            from: Duration::from_millis(from_ms),
            to: Duration::from_millis(to_ms),
            is_last,
        };
        let gaps = [gap(1990, 2400, false), gap(3005, 3500, true)];
        let faults = with_pauses(vec![event(2000, "one"), event(3000, "two")], &gaps, begin, at(1000));
        assert_eq!((faults[0].at_seconds, faults[1].at_seconds), (1.0, 2.0));
        assert_eq!((faults[0].pause_ms, faults[0].writes_again_after_ms), (400.0, Some(400.0)));
        assert_eq!((faults[1].pause_ms, faults[1].writes_again_after_ms), (495.0, None));
        assert_eq!(faults[1].pause_from_ms, Some(5.0));
    }
}
