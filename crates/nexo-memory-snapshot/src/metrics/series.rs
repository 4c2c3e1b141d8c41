//! The series of one metric, by their labels.
//!
//! Unlike the library's family this one does not grow once it is made, needs no lock to be looked
//! into, and is always written in one order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The values of `N` labels.
pub(super) type Values<const N: usize> = [Cow<'static, str>; N];

/// A metric for each of some values of its labels.
#[derive(Debug, Clone)]
pub(super) struct Series<const N: usize, M> {
    labels: [&'static str; N],
    metrics: BTreeMap<Values<N>, M>,
}

impl<const N: usize, M> Series<N, M> {
    pub(super) fn new(
        labels: [&'static str; N],
        metrics: impl IntoIterator<Item = (Values<N>, M)>,
    ) -> Self {
        Self { labels, metrics: metrics.into_iter().collect() }
    }
}

impl<M> Series<1, M> {
    pub(super) fn get(&self, value: &'static str) -> Option<&M> {
        self.metrics.get(&[Cow::Borrowed(value)])
    }
}

impl<const N: usize, M: EncodeMetric + TypedMetric> EncodeMetric for Series<N, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (values, metric) in &self.metrics {
            let labels: [_; N] = std::array::from_fn(|n| (self.labels[n], values[n].as_ref()));
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
