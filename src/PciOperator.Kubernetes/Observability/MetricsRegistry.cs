using System.Buffers;

namespace PciOperator.Kubernetes;

/// <summary>
/// The program's metrics, written as Prometheus text (exposition format 0.0.4). Names follow the conventions: base units
/// (<c>_seconds</c>, <c>_bytes</c>), counters end in <c>_total</c>, our own begin with <c>pcioperator_</c>.
/// </summary>
public sealed class MetricsRegistry
{
    private readonly Lock _lock = new();
    private readonly SortedDictionary<string, Metric> _metrics = new(StringComparer.Ordinal);
    private readonly List<Action> _collectors = [];

    /// <summary>Seconds, for requests and reconciles: 1 ms to 60 s.</summary>
    public static IReadOnlyList<double> DefaultBuckets { get; } =
        [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

    /// <summary>A number that only grows. Asking again for the same name gives the same counter.</summary>
    /// <exception cref="ArgumentException">The name breaks the conventions, or is taken by another kind or other labels.</exception>
    public Counter Counter(string name, string help, params string[] labels) =>
        name.EndsWith("_total", StringComparison.Ordinal)
            ? Add(name, labels, () => new Counter(name, help, labels))
            : throw new ArgumentException($"Counter {name} should end in _total.", nameof(name));

    /// <summary>A number that goes up and down.</summary>
    /// <inheritdoc cref="Counter" path="/exception"/>
    public Gauge Gauge(string name, string help, params string[] labels) =>
        Add(name, labels, () => new Gauge(name, help, labels));

    /// <summary>Counts of observations by size.</summary>
    /// <param name="name">Name, with its unit.</param>
    /// <param name="help">What it measures.</param>
    /// <param name="buckets">Upper bounds, growing, without +Inf; null: <see cref="DefaultBuckets"/>.</param>
    /// <param name="labels">Names of the labels.</param>
    /// <inheritdoc cref="Counter" path="/exception"/>
    public Histogram Histogram(string name, string help, IReadOnlyList<double>? buckets = null, params string[] labels) =>
        Add(name, labels, () => new Histogram(name, help, buckets ?? DefaultBuckets, labels));

    /// <summary>Called before each writing, to set gauges that are worked out only then.</summary>
    public void OnCollect(Action collect)
    {
        lock (_lock)
            _collectors.Add(collect);
    }

    /// <summary>Adds <c>process_*</c> and the garbage collector's counts.</summary>
    public void AddProcessMetrics() => ProcessMetrics.AddTo(this);

    /// <summary>Writes all metrics, sorted by name.</summary>
    public void WriteTo(IBufferWriter<byte> output)
    {
        Action[] collectors;
        Metric[] metrics;
        lock (_lock)
            collectors = [.. _collectors];
        foreach (var collect in collectors)
            collect();
        lock (_lock)
            metrics = [.. _metrics.Values];
        var text = new MetricsText(output);
        foreach (var metric in metrics)
            metric.WriteTo(text);
    }

    /// <summary>Writes all metrics, sorted by name.</summary>
    public void WriteTo(Stream output)
    {
        var buffer = new ArrayBufferWriter<byte>();
        WriteTo(buffer);
        output.Write(buffer.WrittenSpan);
    }

    private TMetric Add<TMetric>(string name, string[] labels, Func<TMetric> make)
        where TMetric : Metric
    {
        if (!IsName(name, colons: true))
            throw new ArgumentException($"'{name}' is not a metric's name: expected [a-zA-Z_:][a-zA-Z0-9_:]*.", nameof(name));
        foreach (var label in labels)
        {
            if (!IsName(label, colons: false) || label.StartsWith("__", StringComparison.Ordinal) || label is "le" or "quantile")
                throw new ArgumentException($"'{label}' is not a label's name for {name}: expected [a-zA-Z_][a-zA-Z0-9_]*, not le, quantile or __*.", nameof(labels));
        }

        lock (_lock)
        {
            if (!_metrics.TryGetValue(name, out var metric))
                _metrics[name] = metric = make();
            return metric is TMetric same && same.Labels.SequenceEqual(labels)
                ? same
                : throw new ArgumentException($"Metric {name} is already there as another kind or with other labels.", nameof(name));
        }
    }

    private static bool IsName(string name, bool colons) =>
        name.Length > 0 && !char.IsAsciiDigit(name[0])
        && name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_' || (colons && c == ':'));
}
