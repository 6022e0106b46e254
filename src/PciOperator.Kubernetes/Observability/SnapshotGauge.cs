using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>A gauge that shows one look at something: what the last look did not find has no series.</summary>
/// <param name="metrics">Where it is shown.</param>
/// <param name="name">Its name.</param>
/// <param name="help">What it says, a sentence.</param>
/// <param name="labels">Its labels; at least one.</param>
public sealed class SnapshotGauge(CollectorRegistry metrics, string name, string help, params string[] labels)
{
    private readonly Gauge _gauge = Metrics.WithCustomRegistry(metrics).CreateGauge(name, help, labels);
    private readonly Lock _lock = new();

    /// <summary>Shows these series and no others.</summary>
    /// <param name="series">Values by the labels' values, in the order of the labels; each combination once.</param>
    public void Show(IEnumerable<(string[] Labels, double Value)> series)
    {
        lock (_lock)
        {
            var shown = new HashSet<string>(StringComparer.Ordinal);
            foreach ((string[] labels, double value) in series)
            {
                _gauge.WithLabels(labels).Set(value);
                shown.Add(string.Join('\0', labels));
            }

            foreach (string[] gone in _gauge.GetAllLabelValues().Where(l => !shown.Contains(string.Join('\0', l))).ToList())
                _gauge.RemoveLabelled(gone);
        }
    }
}
