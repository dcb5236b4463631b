//! What the benches count into: families of each type, and orders in which series are taken.

use promring::client::{self, Family, FamilySpec, GaugeMode, MetricType, Series};

/// A family with the default buckets, if it has any.
pub fn spec(name: &str, metric_type: MetricType) -> FamilySpec {
    let buckets = match metric_type {
        MetricType::Histogram => {
            vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
        }
        _ => Vec::new(),
    };
    FamilySpec {
        name: name.into(),
        help: "A bench.".into(),
        unit: String::new(),
        metric_type,
        gauge_mode: GaugeMode::All,
        label_names: vec!["k".into()],
        buckets,
        native: None,
    }
}

/// A family of the attached segment.
pub fn family(name: &str, metric_type: MetricType) -> &'static Family {
    client::family(&spec(name, metric_type)).expect("a family")
}

/// So many series of it.
pub fn series(family: &'static Family, n: usize) -> Vec<&'static Series> {
    (0..n).map(|i| family.series(&[&format!("value-{i}")]).expect("a series")).collect()
}

/// xorshift: the same numbers in each run.
pub struct Random(pub u64);

impl Random {
    /// From 0 to 1.
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// So many numbers below `over`, each as often.
pub fn uniform(n: usize, over: u16) -> Vec<u16> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    (0..n).map(|_| (random.next() * f64::from(over)) as u16).collect()
}

/// Zipf with exponent 1, by inverting its cumulative weights.
pub fn zipf(n: usize, over: u16) -> Vec<u16> {
    let mut sums: Vec<f64> = Vec::new();
    let mut sum = 0.0;
    for rank in 1..=over {
        sum += 1.0 / f64::from(rank);
        sums.push(sum);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let rank = |random: f64| sums.partition_point(|s| *s < random * sum) as u16;
    (0..n).map(|_| rank(random.next()).min(over - 1)).collect()
}
