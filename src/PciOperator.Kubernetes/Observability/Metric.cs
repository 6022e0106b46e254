using System.Collections.Concurrent;

namespace PciOperator.Kubernetes;

/// <summary>A metric with its series, one per set of label values.</summary>
public abstract class Metric
{
    private protected Metric(string name, string help, string type, string[] labels)
    {
        Name = name;
        Help = help;
        Type = type;
        Labels = labels;
    }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>What it measures.</summary>
    public string Help { get; }

    /// <summary>Names of its labels.</summary>
    public IReadOnlyList<string> Labels { get; }

    internal string Type { get; }

    internal abstract void WriteTo(MetricsText text);
}

/// <summary>A metric whose series are of one type.</summary>
public abstract class Metric<TSeries> : Metric
    where TSeries : class
{
    private readonly ConcurrentDictionary<string, (string[] Values, TSeries Series)> _series = new(StringComparer.Ordinal);
    private TSeries? _only;

    private protected Metric(string name, string help, string type, string[] labels)
        : base(name, help, type, labels)
    {
    }

    /// <summary>Without labels there is one series, and it is shown from the start.</summary>
    private protected void ShowTheOnlySeries()
    {
        if (Labels.Count == 0)
            _only = SeriesOf([]);
    }

    private protected abstract TSeries NewSeries();

    private protected abstract void Write(MetricsText text, TSeries series, string[] values);

    private protected TSeries SeriesOf(ReadOnlySpan<string> values)
    {
        if (_only is not null && values.Length == 0)
            return _only;
        if (values.Length != Labels.Count)
            throw new ArgumentException($"{Name} has the labels {string.Join(", ", Labels)}; {values.Length} values were given.", nameof(values));
        var key = values.Length == 1 ? values[0] : string.Join('\uffff', values!);
        if (_series.TryGetValue(key, out var found))
            return found.Series;
        var copy = values.ToArray();
        return _series.GetOrAdd(key, static (_, arg) => (arg.copy, arg.self.NewSeries()), (copy, self: this)).Series;
    }

    /// <summary>Forgets a series, e.g. of an object that is gone.</summary>
    public void Remove(params ReadOnlySpan<string> labels) =>
        _series.TryRemove(labels.Length == 1 ? labels[0] : string.Join('\uffff', labels!), out _);

    internal override void WriteTo(MetricsText text)
    {
        if (_series.IsEmpty)
            return;
        text.Header(Name, Help, Type);
        foreach (var (_, (values, series)) in _series.OrderBy(s => s.Key, StringComparer.Ordinal))
            Write(text, series, values);
    }
}

/// <summary>One number of one series.</summary>
public sealed class MetricValue
{
    private double _value;

    internal double Value => Volatile.Read(ref _value);

    internal void Set(double value) => Volatile.Write(ref _value, value);

    internal void Add(double amount)
    {
        double was;
        do
            was = Volatile.Read(ref _value);
        while (Interlocked.CompareExchange(ref _value, was + amount, was) != was);
    }
}

/// <summary>A number that only grows.</summary>
public sealed class Counter : Metric<MetricValue>
{
    internal Counter(string name, string help, string[] labels)
        : base(name, help, "counter", labels) => ShowTheOnlySeries();

    /// <summary>One more.</summary>
    /// <param name="labels">Values of the labels, in their order.</param>
    public void Inc(params ReadOnlySpan<string> labels) => SeriesOf(labels).Add(1);

    /// <summary>More by a positive amount.</summary>
    public void Add(double amount, params ReadOnlySpan<string> labels)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(amount);
        SeriesOf(labels).Add(amount);
    }

    /// <summary>The total as another counter keeps it, such as the kernel's.</summary>
    internal void SetTotal(double total, params ReadOnlySpan<string> labels) => SeriesOf(labels).Set(total);

    /// <summary>What it stands at.</summary>
    public double Value(params ReadOnlySpan<string> labels) => SeriesOf(labels).Value;

    private protected override MetricValue NewSeries() => new();

    private protected override void Write(MetricsText text, MetricValue series, string[] values) =>
        text.Sample(Name, Labels, values, series.Value);
}

/// <summary>A number that goes up and down.</summary>
public sealed class Gauge : Metric<MetricValue>
{
    internal Gauge(string name, string help, string[] labels)
        : base(name, help, "gauge", labels) => ShowTheOnlySeries();

    /// <summary>Sets it.</summary>
    public void Set(double value, params ReadOnlySpan<string> labels) => SeriesOf(labels).Set(value);

    /// <summary>More, or with a negative amount less.</summary>
    public void Add(double amount, params ReadOnlySpan<string> labels) => SeriesOf(labels).Add(amount);

    /// <summary>What it stands at.</summary>
    public double Value(params ReadOnlySpan<string> labels) => SeriesOf(labels).Value;

    private protected override MetricValue NewSeries() => new();

    private protected override void Write(MetricsText text, MetricValue series, string[] values) =>
        text.Sample(Name, Labels, values, series.Value);
}

/// <summary>Observations of one series, counted by size.</summary>
public sealed class HistogramSeries
{
    private readonly Lock _lock = new();
    private readonly long[] _counts;
    private double _sum;

    internal HistogramSeries(int buckets) => _counts = new long[buckets + 1];

    internal void Observe(int bucket, double value)
    {
        lock (_lock)
        {
            _counts[bucket]++;
            _sum += value;
        }
    }

    internal (long[] Counts, double Sum) Snapshot()
    {
        lock (_lock)
            return ([.. _counts], _sum);
    }
}

/// <summary>Counts of observations by size.</summary>
public sealed class Histogram : Metric<HistogramSeries>
{
    private readonly double[] _bounds;

    internal Histogram(string name, string help, IReadOnlyList<double> bounds, string[] labels)
        : base(name, help, "histogram", labels)
    {
        _bounds = [.. bounds];
        for (var i = 0; i < _bounds.Length; i++)
        {
            if (!double.IsFinite(_bounds[i]) || (i > 0 && _bounds[i] <= _bounds[i - 1]))
                throw new ArgumentException($"The buckets of {name} should be finite and grow; +Inf is added.", nameof(bounds));
        }

        ShowTheOnlySeries();
    }

    /// <summary>Counts one observation.</summary>
    public void Observe(double value, params ReadOnlySpan<string> labels)
    {
        var bucket = 0;
        while (bucket < _bounds.Length && !(value <= _bounds[bucket]))
            bucket++;
        SeriesOf(labels).Observe(bucket, value);
    }

    private protected override HistogramSeries NewSeries() => new(_bounds.Length);

    private protected override void Write(MetricsText text, HistogramSeries series, string[] values)
    {
        var (counts, sum) = series.Snapshot();
        var total = 0L;
        for (var i = 0; i < counts.Length; i++)
        {
            total += counts[i];
            text.Bucket(Name, Labels, values, i < _bounds.Length ? _bounds[i] : double.PositiveInfinity, total);
        }

        text.Sample(Name + "_sum", Labels, values, sum);
        text.Sample(Name + "_count", Labels, values, total);
    }
}
