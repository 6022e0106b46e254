using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using Prometheus;

namespace PciOperator.Agent;

/// <summary>
/// VFs' traffic, read when somebody asks for the metrics and never else: it changes all the time, so that a status with it would be written
/// all the time. Of the PFs of which a PciDeviceSpec names a VF.
/// </summary>
internal sealed class VfTrafficMetrics
{
    // Several who ask at once, or one who asks all the time, cost one look.
    private static readonly TimeSpan Fresh = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(3);

    private static readonly (string Name, string Help, Func<VfTraffic, ulong> Of)[] Counters =
    [
        ("receive_bytes", "Bytes that came to a VF, as its PF's driver counts.", t => t.ReceivedBytes),
        ("transmit_bytes", "Bytes that a VF sent, as its PF's driver counts.", t => t.SentBytes),
        ("receive_packets", "Packets that came to a VF, as its PF's driver counts.", t => t.ReceivedPackets),
        ("transmit_packets", "Packets that a VF sent, as its PF's driver counts.", t => t.SentPackets),
        ("receive_dropped_packets", "Packets to a VF that were dropped, as its PF's driver counts.", t => t.ReceivedDropped),
        ("transmit_dropped_packets", "Packets of a VF that were dropped, as its PF's driver counts.", t => t.SentDropped),
    ];

    private readonly VfTrafficReader _reader;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly (Counter Counter, Func<VfTraffic, ulong> Of)[] _counters;
    private readonly Lock _lock = new();
    private volatile IReadOnlyList<PciAddress> _pfs = [];
    private Task _reading = Task.CompletedTask;
    private long? _readAt;
    private bool _silent;

    public VfTrafficMetrics(VfTrafficReader reader, TimeProvider time, ILogger log, CollectorRegistry metrics)
    {
        (_reader, _time, _log) = (reader, time, log);
        MetricFactory factory = Metrics.WithCustomRegistry(metrics);
        _counters =
        [
            .. Counters.Select(c => (factory.CreateCounter($"pcioperator_agent_vf_{c.Name}_total", c.Help, ["pf", "vf", "address"]), c.Of)),
        ];
        metrics.AddBeforeCollectCallback(ReadAsync);
    }

    /// <summary>Takes up which PFs there are from a status.</summary>
    public void Show(PciNodeStatus status) =>
        _pfs = [
            .. (status.Devices ?? [])
                .Where(d => d is { Type: DeviceType.Vf, Rule: not null })
                .Select(d => PciAddress.TryParse(d.ParentAddress, null, out PciAddress pf) ? pf : (PciAddress?)null)
                .OfType<PciAddress>()
                .Distinct()
                .Order(),
        ];

    private Task ReadAsync(CancellationToken ct)
    {
        lock (_lock)
        {
            if (_reading.IsCompleted && (_readAt is not { } before || _time.GetElapsedTime(before) >= Fresh))
                _reading = RefreshAsync();
            return _reading.WaitAsync(ct);
        }
    }

    private async Task RefreshAsync()
    {
        IReadOnlyList<PciAddress> pfs = _pfs;
        IReadOnlyList<VfCounters>? read = pfs.Count == 0 ? [] : await _reader.ReadAsync(pfs, Limit, CancellationToken.None);
        _readAt = _time.GetTimestamp();
        if (read is null && !_silent)
        {
            _log.LogWarning(
                "The kernel says nothing of VFs' traffic for {Limit} s; what is shown is what it said before",
                Limit.TotalSeconds
            );
        }

        _silent = read is null;
        if (read is not null)
            Show(read);
    }

    private void Show(IReadOnlyList<VfCounters> read)
    {
        var shown = read.ToDictionary(v => Labels(v), v => v.Traffic, LabelComparer.Instance);
        foreach ((Counter counter, Func<VfTraffic, ulong> of) in _counters)
        {
            foreach (string[] gone in counter.GetAllLabelValues().Where(l => !shown.ContainsKey(l)).ToList())
                counter.RemoveLabelled(gone);
            foreach ((string[] labels, VfTraffic traffic) in shown)
            {
                // A reset of a VF begins its counters anew, which a counter here can't but by being another.
                if (counter.WithLabels(labels).Value > of(traffic))
                    counter.RemoveLabelled(labels);
                counter.WithLabels(labels).IncTo(of(traffic));
            }
        }
    }

    private static string[] Labels(VfCounters vf) =>
        [vf.Pf.ToString(), vf.Number.ToString(System.Globalization.CultureInfo.InvariantCulture), vf.Address.ToString()];

    private sealed class LabelComparer : IEqualityComparer<string[]>
    {
        public static LabelComparer Instance { get; } = new();

        public bool Equals(string[]? x, string[]? y) => x is not null && y is not null && x.AsSpan().SequenceEqual(y);

        public int GetHashCode(string[] labels) => HashCode.Combine(labels[0], labels[1], labels[2]);
    }
}
