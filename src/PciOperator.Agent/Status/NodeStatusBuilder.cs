using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubelet;

namespace PciOperator.Agent;

/// <summary>What the kubelet has of this node's claims.</summary>
/// <param name="Status">Whether it has the plugin.</param>
/// <param name="Delivered">Claims, by UID, some of whose devices are handed out by DRA.</param>
/// <param name="Resources">By claims' UIDs, the extended resources that it has taken up.</param>
internal sealed record KubeletView(
    KubeletStatus Status,
    IReadOnlySet<string> Delivered,
    IReadOnlyDictionary<string, ResourceStatus> Resources
);

/// <summary>Works out a PciNode's status from what the host shows, what the rules say and what is given away. Pure.</summary>
internal static class NodeStatusBuilder
{
    private const int MostNumaNodes = 128;
    private const int MostPods = 16;

    public static PciNodeStatus Build(
        PciNode node,
        HostSnapshot host,
        CompiledRules rules,
        IReadOnlyDictionary<string, PciAssignment> wanted,
        IReadOnlyList<Holding> known,
        IReadOnlyDictionary<PciAddress, string> vfNotes,
        string version,
        DateTimeOffset now,
        KubeletView? kubelet = null
    )
    {
        IReadOnlyDictionary<PciAddress, string> matched = rules.Match(host);
        Dictionary<PciAddress, Ownership> owners = Owners(wanted, known);
        var present = host.Functions.Select(f => f.Address).ToHashSet();
        List<HostFunction> shown = Shown(host, matched, owners, known, present);
        var view = new NodeDevices(host, matched, rules, owners, known, vfNotes);
        IReadOnlyList<AssignmentStatus> assignments = StatusShare.Assignments(
            [.. known.Select(h => Assignment(h, wanted, node.Spec.Settling == true, kubelet))],
            wanted.ContainsKey,
            out bool complete
        );
        IReadOnlyList<PciNodeDevice> devices = StatusShare.Devices(
            [.. shown.Select(view.Of)],
            d => owners.ContainsKey(PciAddress.Parse(d.Address)),
            assignments
        );
        var offered = devices.Where(d => d.Rule is not null).ToList();
        IReadOnlyList<PciNodeDevice> unmatched = StatusShare.Unmatched([.. Unmatched(host, shown).Select(view.OfUnmatched)]);

        return new PciNodeStatus
        {
            // A generation is taken up when every claim that it takes back is answered for below.
            ObservedGeneration = complete ? node.Metadata.Generation : node.Status?.ObservedGeneration,
            KernelVersion = host.KernelVersion,
            BootId = host.BootId,
            AgentVersion = version,
            NumaNodes =
            [
                .. host.NumaNodes.OrderBy(n => n.Key).Take(MostNumaNodes).Select(n => new PciNodeNumaNode { Id = n.Key, Socket = n.Value }),
            ],
            Summary = new PciNodeSummary
            {
                Devices = offered.Count,
                Available = offered.Count(d => d.State == DeviceState.Available),
                Claimed = offered.Count(d => d.State == DeviceState.Claimed),
                Allocated = offered.Count(d => d.State == DeviceState.Allocated),
                Claims = known.Count(h => h.State != HoldingState.Rejected),
            },
            Devices = devices,
            Unmatched = unmatched.Count > 0 ? unmatched : null,
            Assignments = assignments,
            Pools = StatusShare.Pools(Pools(offered)),
            Conditions = NodeConditions.Of(
                node.Status?.Conditions,
                host,
                devices,
                known,
                shown.Count - devices.Count,
                known.Count - assignments.Count,
                now,
                kubelet?.Status
            ),
        };
    }

    private static Dictionary<PciAddress, Ownership> Owners(IReadOnlyDictionary<string, PciAssignment> wanted, IReadOnlyList<Holding> known)
    {
        var owners = new Dictionary<PciAddress, Ownership>();
        foreach (PciAssignment assignment in wanted.Values)
        {
            foreach (AssignedDevice device in assignment.Devices)
                owners[PciAddress.Parse(device.Address)] = new(assignment.ClaimUid, false);
        }

        // What the journal holds is the truth about now.
        foreach (Holding holding in known.Where(h => h.State != HoldingState.Rejected && h.Devices.Count > 0))
        {
            foreach (HeldDevice device in holding.Devices)
                owners[device.Address] = new(holding.ClaimUid, holding.State == HoldingState.Prepared);
        }

        return owners;
    }

    /// <summary>Matched and given-away functions with the rest of their IOMMU groups, in order of address.</summary>
    private static List<HostFunction> Shown(
        HostSnapshot host,
        IReadOnlyDictionary<PciAddress, string> matched,
        Dictionary<PciAddress, Ownership> owners,
        IReadOnlyList<Holding> known,
        HashSet<PciAddress> present
    )
    {
        var groups = host
            .Functions.Where(f =>
                f.Function.IommuGroup is not null && (matched.ContainsKey(f.Function.Address) || owners.ContainsKey(f.Function.Address))
            )
            .Select(f => f.Function.IommuGroup!.Value)
            .ToHashSet();
        var all = host
            .Functions.Where(f =>
                matched.ContainsKey(f.Function.Address)
                || owners.ContainsKey(f.Function.Address)
                || f.WithheldBy == WithheldWords.UsedOnce
                || (f.Function.IommuGroup is { } group && groups.Contains(group))
            )
            .OrderBy(f => f.Function.Address)
            .ToList();

        // A device that left the bus while a claim holds it is still to be seen.
        foreach (
            DeviceToTake gone in known
                .Where(h => h.State != HoldingState.Rejected)
                .SelectMany(h => h.Request.Devices)
                .Where(d => !present.Contains(d.Address))
        )
        {
            all.Add(
                new HostFunction
                {
                    Function = new PciFunction
                    {
                        Address = gone.Address,
                        VendorId = gone.VendorId,
                        ProductId = gone.ProductId,
                        IommuGroup = gone.IommuGroup,
                    },
                    GuardReason = $"{gone.Address} is gone from the bus",
                }
            );
        }

        return all;
    }

    /// <summary>What could be offered too, in order of address: a PF stands for its VFs.</summary>
    private static IEnumerable<HostFunction> Unmatched(HostSnapshot host, List<HostFunction> shown)
    {
        var known = shown.Select(f => f.Address).ToHashSet();
        return host
            .Functions.Where(f => !f.Function.IsBridge && !f.Function.IsVirtual && !f.IsOfTheHost && !known.Contains(f.Address))
            .OrderBy(f => f.Address);
    }

    private static AssignmentStatus Assignment(
        Holding holding,
        IReadOnlyDictionary<string, PciAssignment> wanted,
        bool settling,
        KubeletView? kubelet
    )
    {
        AssignmentRequest request = holding.Request;
        ResourceStatus? resource = kubelet?.Resources.GetValueOrDefault(request.ClaimUid);
        // What is held and no longer wanted is on its way back, also before the first write of that.
        HoldingState state =
            settling || wanted.ContainsKey(request.ClaimUid) || holding.State == HoldingState.Stuck
                ? holding.State
                : HoldingState.Releasing;
        // What is in no journal has none.
        Dictionary<PciAddress, HeldPolicy>? policies =
            holding.State == HoldingState.Rejected || holding.Devices.Count == 0
                ? null
                : request.Devices.ToDictionary(d => d.Address, HostMapping.Policy);
        return new AssignmentStatus
        {
            ClaimUid = request.ClaimUid,
            ClaimNamespace = request.ClaimNamespace,
            ClaimName = request.ClaimName,
            State = state,
            Delivered = kubelet?.Delivered.Contains(request.ClaimUid) == true || resource is { Pods.Count: > 0 } ? true : null,
            ResourceName = resource?.ResourceName,
            Pods = resource is { Pods.Count: > 0 } ? [.. resource.Pods.Select(p => p.ToString()).Take(MostPods)] : null,
            Reason = Fitted.Text(holding.Reason, 64),
            Message = Fitted.Text(holding.Message, 1024),
            Devices =
            [
                .. (
                    holding.Devices.Count > 0 ? holding.Devices : request.Devices.Select(d => new HeldDevice { Address = d.Address })
                ).Select(d => new AssignedDeviceStatus
                {
                    Address = d.Address.ToString(),
                    Driver = d.Driver,
                    OriginalDriver = d.OriginalDriver,
                    Policy = policies?.GetValueOrDefault(d.Address),
                    DeviceNode = d.DeviceNode ?? d.VfioDeviceNode,
                }),
            ],
        };
    }

    private static List<PciPool> Pools(List<PciNodeDevice> offered) =>
        [
            .. offered
                .GroupBy(d => (d.VendorId, d.ProductId, d.Type, d.NumaNode, Address: d.ParentAddress ?? d.Address, d.Rule))
                .Select(g => new PciPool
                {
                    VendorId = g.Key.VendorId,
                    ProductId = g.Key.ProductId,
                    Type = g.Key.Type,
                    NumaNode = g.Key.NumaNode,
                    Address = g.Key.Address,
                    Rule = g.Key.Rule,
                    Total = g.Count(),
                    Available = g.Count(d => d.State == DeviceState.Available),
                    Claimed = g.Count(d => d.State == DeviceState.Claimed),
                    Allocated = g.Count(d => d.State == DeviceState.Allocated),
                }),
        ];
}
