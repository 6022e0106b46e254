using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubelet;

namespace PciOperator.Agent;

/// <summary>
/// A PciNode's conditions: what the host is, whether its devices are well, and whether those that are held are still there.
/// </summary>
internal static class NodeConditions
{
    // As many devices as a sentence can name.
    private const int MostNamed = 8;
    private const int LongestMessage = 4096;

    /// <summary>The conditions as they are now; those that nothing says any more are gone.</summary>
    /// <param name="before">As they were.</param>
    /// <param name="host">What the host shows.</param>
    /// <param name="devices">The devices that status shows.</param>
    /// <param name="known">What the agent holds.</param>
    /// <param name="devicesLeftOut">How many devices status has no room for.</param>
    /// <param name="claimsLeftOut">How many claims it has no room for.</param>
    /// <param name="now">The time.</param>
    /// <param name="kubelet">Whether the kubelet has the agent's plugin; null: it is offered to none.</param>
    public static IReadOnlyList<V1Condition> Of(
        IReadOnlyList<V1Condition>? before,
        HostSnapshot host,
        IReadOnlyList<PciNodeDevice> devices,
        IReadOnlyList<Holding> known,
        int devicesLeftOut,
        int claimsLeftOut,
        DateTimeOffset now,
        KubeletStatus? kubelet
    )
    {
        IReadOnlyList<V1Condition>? conditions = before;
        bool truncated = devicesLeftOut > 0 || claimsLeftOut > 0;
        var said = new HashSet<string>();
        void Say(string type, bool? status, string reason, string message)
        {
            // The generation is status.observedGeneration's to say: these conditions are about the host.
            conditions = conditions.With(type, status, reason, Fitted.Text(message, LongestMessage), null, now);
            said.Add(type);
        }

        Say(
            Conditions.IommuEnabled,
            host.Iommu.Enabled,
            host.Iommu.Enabled ? "Enabled" : "Disabled",
            host.Iommu.Enabled ? Counted.Of(host.Iommu.Groups, "IOMMU group") : host.Iommu.WhyNot ?? "the kernel has no IOMMU groups"
        );
        Say(
            Conditions.VfioReady,
            host.Vfio.Ready,
            host.Vfio.Ready ? "Ready" : "NotReady",
            host.Vfio.Ready ? "vfio-pci is there" : host.Vfio.WhyNot ?? "vfio-pci is not there"
        );
        if (kubelet is not null)
            Say(Conditions.KubeletRegistered, kubelet.IsRegistered, kubelet.Reason, kubelet.Message);
        Say(
            Conditions.InventoryReady,
            true,
            "Complete",
            $"{Counted.Of(devices.Count, "device")} {Are(devices.Count)} shown{(devicesLeftOut > 0 ? $", {devicesLeftOut} {Are(devicesLeftOut)} not" : "")}"
        );
        if (truncated || before.Find(Conditions.InventoryTruncated) is not null)
        {
            Say(
                Conditions.InventoryTruncated,
                truncated,
                truncated ? "TooMany" : "Complete",
                truncated
                    ? $"a PciNode has no room for {devicesLeftOut} of {Counted.Of(devices.Count + devicesLeftOut, "device")}{(claimsLeftOut > 0 ? $" and {Counted.Of(claimsLeftOut, "claim")}" : "")}: what is left out is not offered; narrow the PciDeviceSpecs"
                    : "every device is shown"
            );
        }

        var ill = devices.Where(d => d.Problems is { Count: > 0 }).ToList();
        Say(
            Conditions.DevicesHealthy,
            ill.Count == 0,
            ill.Count == 0 ? "Healthy" : "Problems",
            ill.Count == 0
                ? "no device reports a problem"
                : Listed(
                    ill.SelectMany(d =>
                        d.Problems!.Select(p =>
                            p.Message?.Contains(d.Address, StringComparison.Ordinal) == true
                                ? p.Message
                                : $"{d.Address}: {p.Message ?? p.Type}"
                        )
                    )
                )
        );
        var drifted = known.Where(h => h.State == HoldingState.Stuck && PassthroughHost.IsDrift(h.Reason)).ToList();
        Say(
            Conditions.DriftDetected,
            drifted.Count > 0,
            drifted.Count == 0 ? "NoDrift"
                : drifted.Exists(h => h.Reason == HoldingReasons.DriftDetected) ? HoldingReasons.DriftDetected
                : HoldingReasons.DeviceGone,
            drifted.Count == 0
                ? "every device that a claim holds is where it was"
                : Listed(drifted.Select(h => $"claim {h.Request.ClaimNamespace}/{h.Request.ClaimName}: {h.Message}"))
        );
        foreach (HostFact fact in host.Facts)
            Say(fact.Type, fact.Status, fact.Reason, fact.Message);
        return [.. conditions!.Where(c => said.Contains(c.Type))];
    }

    private static string Are(int number) => number == 1 ? "is" : "are";

    private static string Listed(IEnumerable<string> sentences)
    {
        var all = sentences.ToList();
        string text = string.Join(' ', all.Take(MostNamed).Select(s => s.TrimEnd('.', ' ') + "."));
        return all.Count > MostNamed ? $"{text} And {all.Count - MostNamed} more." : text;
    }
}
