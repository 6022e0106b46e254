using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>The buckets of our histograms.</summary>
public static class HistogramBuckets
{
    /// <summary>Seconds, for requests and reconciles: 1 ms to 60 s.</summary>
    public static HistogramConfiguration Seconds { get; } =
        new() { Buckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] };
}
