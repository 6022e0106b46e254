using System.Diagnostics.Metrics;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>
/// What .NET itself counts (garbage collection, thread pool, HTTP connections), by prometheus-net's adapter of its meters.
/// </summary>
internal static class DotNetMeters
{
    /// <summary>Shows them from now on; until the result is disposed of.</summary>
    public static IDisposable Listen(CollectorRegistry metrics) =>
        MeterAdapter.StartListening(
            new MeterAdapterOptions
            {
                Registry = metrics,
                MetricFactory = Metrics.WithCustomRegistry(metrics),
                InstrumentFilterPredicate = IsOfDotNet,
                ResolveHistogramBuckets = _ => HistogramBuckets.Seconds.Buckets!,
            }
        );

    private static bool IsOfDotNet(Instrument instrument) => instrument.Meter.Name is "System.Runtime" or "System.Net.Http";
}
