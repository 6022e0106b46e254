using System.Diagnostics;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Agent;

/// <summary>What the agent shows of its host: devices by state, and resets.</summary>
internal sealed class HostMetrics
{
    private const string Other = "other";

    // The kernel's names (drivers/pci/pci.c, pci_reset_fn_methods), as a label takes them, and VFIO's.
    private static readonly HashSet<string> Methods =
    [
        "device_specific",
        "acpi",
        "flr",
        "af_flr",
        "pm",
        "bus",
        "cxl_bus",
        "vfio hot reset",
        "the kernel's choice",
    ];

    private readonly SnapshotGauge _devices;
    private readonly Histogram _resets;
    private readonly Counter _failed;

    public HostMetrics(PassthroughHost host, CollectorRegistry metrics)
    {
        _devices = new SnapshotGauge(
            metrics,
            "pcioperator_agent_devices",
            "Devices of this host that a PciDeviceSpec matches, by state.",
            "state"
        );
        MetricFactory factory = Metrics.WithCustomRegistry(metrics);
        _resets = factory.CreateHistogram(
            "pcioperator_agent_reset_duration_seconds",
            "Time of a reset that worked, with the wait for the device's answer, by method.",
            ["method"],
            HistogramBuckets.Seconds
        );
        _failed = factory.CreateCounter(
            "pcioperator_agent_reset_failures_total",
            "Resets that the kernel refused or that the device did not come back from, by method.",
            ["method"]
        );
        host.ResetTried += Count;
    }

    /// <summary>Shows the devices of a status.</summary>
    public void Show(PciNodeStatus status) =>
        _devices.Show(
            Enum.GetValues<DeviceState>()
                .Select(state =>
                    (
                        new[] { state.ToNova() },
                        (double)(status.Devices ?? []).Count(d => d.Rule is not null && (d.State ?? DeviceState.Unavailable) == state)
                    )
                )
        );

    private void Count(ResetTry tried)
    {
        string method = Methods.Contains(tried.Method) ? tried.Method : Other;
        using Activity? span = ClaimTrace.StartPart(ClaimTrace.Reset, tried.Duration);
        span?.SetTag(ClaimTrace.Devices, tried.Device.ToString()).SetTag(ClaimTrace.ResetMethod, method);
        if (tried.Worked)
        {
            _resets.WithLabels(method).Observe(tried.Duration.TotalSeconds);
        }
        else
        {
            _failed.WithLabels(method).Inc();
            span.Fail(HoldingReasons.ResetFailed, $"{tried.Device} was not reset by {method}");
        }
    }
}
