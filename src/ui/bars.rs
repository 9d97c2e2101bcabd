//! Progress as one bar a master.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::model::id::HostName;
use crate::model::text::{human_bytes, human_duration};
use crate::monitor::{Event, Monitor};

struct Bar {
    bar: ProgressBar,
    step: &'static str,
    frozen: bool,
}

pub(super) struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<HostName, Bar>>,
    width: usize,
}

impl Bars {
    pub(super) fn new(hosts: &[HostName]) -> Self {
        let width = hosts.iter().map(|host| host.as_str().len()).max().unwrap_or(0);
        Self { all: MultiProgress::new(), bars: Mutex::default(), width }
    }

    fn bar(&self, host: &HostName) -> Bar {
        let bar = self.all.add(ProgressBar::new_spinner().with_style(style(false)).with_prefix(format!("{host:<0$}", self.width)));
        bar.enable_steady_tick(Duration::from_millis(100));
        Bar { bar, step: "", frozen: false }
    }
}

fn style(frozen: bool) -> ProgressStyle {
    let template = if frozen {
        "{spinner:.red} {prefix} {elapsed_precise:.red.bold} FROZEN {wide_msg:.red}"
    } else {
        "{spinner} {prefix} {elapsed_precise:.dim} {wide_msg}"
    };
    // The template is a constant that is known to be good; its default is only a little plainer.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Monitor for Bars {
    fn event(&self, host: &HostName, event: Event) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(host.clone()).or_insert_with(|| self.bar(host));
        match event {
            Event::Step(step) => {
                bar.step = step.word();
                bar.bar.set_message(bar.step);
                // While containers are frozen the clock shows the freeze, not the step.
                if !bar.frozen {
                    bar.bar.reset_elapsed();
                }
            }
            Event::Progress { bytes, total } => {
                let of = total
                    .filter(|total| *total > 0)
                    .map(|total| format!(" of {} ({} %)", human_bytes(total), bytes.saturating_mul(100) / total));
                bar.bar.set_message(format!("{} {}{}", bar.step, human_bytes(bytes), of.unwrap_or_default()));
            }
            Event::Part { done, total, what } => bar.bar.set_message(format!("{} {done} of {total}: {what}", bar.step)),
            Event::Predicted(time) => bar.bar.set_message(format!("{}: about {}", bar.step, human_duration(time))),
            Event::Frozen => {
                bar.frozen = true;
                bar.bar.reset_elapsed();
                bar.bar.set_style(style(true));
            }
            Event::Thawed(took) => {
                bar.frozen = false;
                bar.bar.set_style(style(false));
                bar.bar.reset_elapsed();
                self.all.suspend(|| super::err(&format!("[{host}] thawed after {}\n", human_duration(took))));
            }
            Event::Note(note) => self.all.suspend(|| super::err(&format!("[{host}] {note}\n"))),
            Event::Finished => bar.bar.finish_and_clear(),
        }
    }
}
