//! The report as one page without outside resources: light and dark, readable on a phone and on paper.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::report::word;
use crate::model::manifest::FreezeMethod;
use crate::model::outlook::{Outlook, Seen, Weight};
use crate::model::text::{age_since, human_bytes, human_duration, printable};

const STYLE: &str = include_str!("report.css");
/// The timeline's width in its own units; it is scaled to its place.
const WIDTH: i64 = 1000;

/// The page.
#[must_use]
pub fn page(outlooks: &[Outlook<'_>], now: DateTime<Utc>) -> String {
    let count = |worst: Option<Weight>| outlooks.iter().filter(|o| o.worst() == worst).count();
    let (risk, fair, good) = (count(Some(Weight::Risk)), count(Some(Weight::Advice)), count(None));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Backups of Fuel masters</title><style>{STYLE}</style></head><body>\
         <header><h1>Backups of Fuel masters</h1><p>{} UTC, by tanker {}</p></header><main>\
         <ul class=\"sums\"><li class=\"risk\"><b>{risk}</b> at risk</li><li class=\"fair\"><b>{fair}</b> fair</li><li class=\"good\"><b>{good}</b> good</li></ul>",
        now.format("%Y-%m-%d %H:%M"),
        env!("CARGO_PKG_VERSION")
    );
    let mut order: Vec<&Outlook<'_>> = outlooks.iter().collect();
    order.sort_by_key(|o| std::cmp::Reverse(o.worst()));
    for outlook in order {
        host(&mut html, outlook, now);
    }
    if outlooks.iter().any(|o| !o.backups.is_empty()) {
        html.push_str(
            "<p class=\"legend\"><span class=\"bar\">a backup, as high as it is large</span> <span class=\"drilled\">drilled: its restore was tried out</span> \
             <span class=\"risk\">damaged</span></p>",
        );
    }
    html.push_str("</main></body></html>\n");
    html
}

fn class(worst: Option<Weight>) -> &'static str {
    match worst {
        None => "good",
        Some(Weight::Advice) => "fair",
        Some(Weight::Risk) => "risk",
    }
}

fn host(html: &mut String, outlook: &Outlook<'_>, now: DateTime<Utc>) {
    let state = class(outlook.worst());
    let _ = write!(
        html,
        "<section class=\"{state}\"><h2>{} <span class=\"badge\">{}</span></h2>",
        escape(outlook.host.as_str()),
        word(outlook.worst()).to_lowercase()
    );
    if !outlook.concerns.is_empty() {
        html.push_str("<ul class=\"concerns\">");
        for concern in &outlook.concerns {
            let _ = write!(html, "<li class=\"{}\">{}</li>", class(Some(concern.weight)), escape(&printable(&concern.text)));
        }
        html.push_str("</ul>");
    }
    if !outlook.backups.is_empty() {
        timeline(html, &outlook.backups, now);
        backups(html, &outlook.backups, now);
    }
    html.push_str("</section>");
}

/// Each backup a bar at its time, as high as it is large.
fn timeline(html: &mut String, backups: &[Seen<'_>], now: DateTime<Utc>) {
    let first = backups.iter().map(|seen| seen.manifest.description.started).min().unwrap_or(now);
    let span = (now - first).num_seconds().max(1);
    let largest = backups.iter().map(|seen| seen.manifest.archive.bytes).max().unwrap_or(1).max(1);
    let _ = write!(
        html,
        "<svg viewBox=\"0 0 {WIDTH} 84\" role=\"img\" aria-label=\"timeline of {} backups\" preserveAspectRatio=\"none\">",
        backups.len()
    );
    let _ = write!(html, "<line x1=\"0\" y1=\"70\" x2=\"{WIDTH}\" y2=\"70\"/>");
    for seen in backups {
        let at = (seen.manifest.description.started - first).num_seconds().saturating_mul(WIDTH - 12) / span;
        let high = (seen.manifest.archive.bytes.saturating_mul(60) / largest).max(3);
        let drilled = seen.record.drills.last().is_some_and(|drill| drill.failure.is_none());
        let state = match seen.record.damage() {
            Some(_) => "risk",
            None if drilled => "drilled",
            None => "bar",
        };
        let _ = write!(
            html,
            "<rect class=\"{state}\" x=\"{at}\" y=\"{}\" width=\"8\" height=\"{high}\"><title>{} {}</title></rect>",
            70 - high,
            escape(seen.manifest.description.id.as_str()),
            human_bytes(seen.manifest.archive.bytes)
        );
    }
    let _ = write!(html, "</svg><p class=\"axis\"><span>{}</span><span>{}</span></p>", first.format("%Y-%m-%d"), now.format("%Y-%m-%d"));
}

fn backups(html: &mut String, backups: &[Seen<'_>], now: DateTime<Utc>) {
    html.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>Backup</th><th>Age</th><th>Size</th><th>Freeze</th><th>Proven</th><th>Drilled</th><th>Copies</th></tr></thead><tbody>",
    );
    let ago = |time: DateTime<Utc>| age_since(time, now);
    for seen in backups.iter().rev() {
        let manifest = seen.manifest;
        let proven = match seen.record.closest_check() {
            Some(_) if seen.record.damage().is_some() => "<b class=\"risk\">damaged</b>".to_owned(),
            Some(check) => format!("{} {}", escape(&check.depth), ago(check.at)),
            None => format!("when made, {}", ago(manifest.proof.at)),
        };
        let drilled =
            seen.record.drills.last().map_or_else(String::new, |drill| {
                if drill.failure.is_some() { "<b class=\"risk\">failed</b>".into() } else { ago(drill.at) }
            });
        let freeze = match manifest.freeze.method {
            FreezeMethod::None => "none".to_owned(),
            _ => human_duration(std::time::Duration::from_millis(manifest.freeze.milliseconds)),
        };
        let copies: Vec<String> = seen.record.copies.iter().map(|copy| escape(&printable(&copy.remote))).collect();
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{freeze}</td><td>{proven}</td><td>{drilled}</td><td>{}</td></tr>",
            escape(manifest.description.id.as_str()),
            ago(manifest.description.started),
            human_bytes(manifest.archive.bytes),
            copies.join(" ")
        );
    }
    html.push_str("</tbody></table></div>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
