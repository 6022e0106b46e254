using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>The buckets of our histograms.</summary>
public static class HistogramBuckets
{
    /// <summary>Seconds, for requests and reconciles: 1 ms to 60 s.</summary>
    public static HistogramConfiguration Seconds { get; } =
        new() { Buckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] };

    /// <summary>Seconds, for what people and pods wait for: 1 s to a day. Times of objects have whole seconds.</summary>
    public static HistogramConfiguration Waits { get; } =
        new() { Buckets = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400] };
}
