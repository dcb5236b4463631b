//! `target_info`: what configuration says of the app, in every format, and never two of them.

#[path = "support/forks.rs"]
mod forks;
#[path = "support/metrics.rs"]
mod metrics;

use forks::Scratch;
use metrics::{page, spec};
use promring::client::{self, MetricType};
use promring::config::Config;

/// A process configured with these labels.
fn configure(scratch: &Scratch, labels: &str) {
    scratch.configure_with(&[("target_info", labels)]);
}

fn open_metrics() -> String {
    let page = promring::aggregator::scrape("application/openmetrics-text;version=1.0.0");
    String::from_utf8(page.body).expect("UTF-8")
}

#[test]
fn target_info_is_what_was_configured() {
    let scratch = Scratch::new("target-info");
    configure(&scratch, "service.name=shop \"1\", version=2");
    let sample = "target_info{service_name=\"shop \\\"1\\\"\",version=\"2\"} 1\n";
    assert!(page().contains(&format!("# TYPE target_info gauge\n{sample}")), "{}", page());
    let wanted = format!("# TYPE target info\n# HELP target Target metadata.\n{sample}# EOF\n");
    assert!(open_metrics().ends_with(&wanted), "{}", open_metrics());

    let own = client::family(&spec("target_info", MetricType::Gauge, "mine")).unwrap();
    own.series(&["yes"]).unwrap().set(1.0);
    assert_eq!(page().matches("\ntarget_info{").count(), 1, "the app's own comes first");

    let without = Scratch::new("target-info-none");
    configure(&without, "");
    assert!(!page().contains("target"), "none without labels");

    let mut config = Config::default();
    for bad in ["a", "=1", "__a=1", "a=1,a=2", "a\tb=1"] {
        assert!(config.set("target_info", bad).is_err(), "{bad}");
        assert!(config.target_info.is_empty());
    }
}
