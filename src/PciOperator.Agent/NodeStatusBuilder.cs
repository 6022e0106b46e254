using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubernetes.Models;

namespace PciOperator.Agent;

/// <summary>Works out a PciNode's status from what the host shows, what the rules say and what is given away. Pure.</summary>
internal static class NodeStatusBuilder
{
    /// <summary>The most devices that status can hold.</summary>
    internal const int MostDevices = 1024;

    public static PciNodeStatus Build(
        PciNode node,
        HostSnapshot host,
        CompiledRules rules,
        IReadOnlyDictionary<string, PciAssignment> wanted,
        IReadOnlyList<Holding> known,
        IReadOnlyDictionary<PciAddress, string> vfNotes,
        string version,
        DateTimeOffset now)
    {
        var matched = rules.Match(host);
        var owners = Owners(wanted, known);
        var present = host.Functions.Select(f => f.Address).ToHashSet();
        var shown = Shown(host, matched, owners, known, present, out var truncated);
        var held = HeldVfs(host, owners);
        var devices = shown.Select(f => Device(f, held, present, matched, rules, vfNotes, owners)).ToList();
        var offered = devices.Where(d => d.Rule is not null).ToList();

        return new PciNodeStatus
        {
            ObservedGeneration = node.Metadata.Generation,
            KernelVersion = host.KernelVersion,
            BootId = host.BootId,
            AgentVersion = version,
            Summary = new PciNodeSummary
            {
                Devices = offered.Count,
                Available = offered.Count(d => d.State == PciDeviceState.Available),
                Claimed = offered.Count(d => d.State == PciDeviceState.Claimed),
                Allocated = offered.Count(d => d.State == PciDeviceState.Allocated),
                Claims = known.Count(h => h.State != HoldingState.Rejected),
            },
            Devices = devices,
            Assignments = [.. known.Select(h => Assignment(h, wanted))],
            Pools = Pools(offered),
            Conditions = NodeConditions(node, host, devices.Count, truncated, now),
        };
    }

    private sealed record Ownership(string ClaimUid, bool Bound);

    private static Dictionary<PciAddress, Ownership> Owners(IReadOnlyDictionary<string, PciAssignment> wanted, IReadOnlyList<Holding> known)
    {
        var owners = new Dictionary<PciAddress, Ownership>();
        foreach (var assignment in wanted.Values)
        {
            foreach (var device in assignment.Devices)
                owners[PciAddress.Parse(device.Address)] = new(assignment.ClaimUid, false);
        }

        // What the journal holds is the truth about now.
        foreach (var holding in known.Where(h => h.State != HoldingState.Rejected && h.Devices.Count > 0))
        {
            foreach (var device in holding.Devices)
                owners[device.Address] = new(holding.ClaimUid, holding.State == HoldingState.Prepared);
        }

        return owners;
    }

    /// <summary>Matched and given-away functions with the rest of their IOMMU groups, in order of address, up to the limit.</summary>
    private static List<HostFunction> Shown(HostSnapshot host, IReadOnlyDictionary<PciAddress, string> matched,
        Dictionary<PciAddress, Ownership> owners, IReadOnlyList<Holding> known, HashSet<PciAddress> present, out bool truncated)
    {
        var groups = host.Functions
            .Where(f => f.Function.IommuGroup is not null && (matched.ContainsKey(f.Function.Address) || owners.ContainsKey(f.Function.Address)))
            .Select(f => f.Function.IommuGroup!.Value)
            .ToHashSet();
        var all = host.Functions
            .Where(f => matched.ContainsKey(f.Function.Address) || owners.ContainsKey(f.Function.Address)
                || (f.Function.IommuGroup is { } group && groups.Contains(group)))
            .OrderBy(f => f.Function.Address)
            .ToList();

        // A device that left the bus while a claim holds it is still to be seen.
        foreach (var gone in known.Where(h => h.State != HoldingState.Rejected).SelectMany(h => h.Request.Devices).Where(d => !present.Contains(d.Address)))
        {
            all.Add(new HostFunction
            {
                Function = new PciFunction { Address = gone.Address, VendorId = gone.VendorId, ProductId = gone.ProductId, IommuGroup = gone.IommuGroup },
                GuardReason = "it is gone from the bus",
            });
        }

        truncated = all.Count > MostDevices;
        return truncated ? all[..MostDevices] : all;
    }

    /// <summary>For each PF, one of its VFs that is given away.</summary>
    private static Dictionary<PciAddress, PciAddress> HeldVfs(HostSnapshot host, Dictionary<PciAddress, Ownership> owners)
    {
        var held = new Dictionary<PciAddress, PciAddress>();
        foreach (var vf in host.Functions.Where(f => f.Function.ParentAddress is not null && owners.ContainsKey(f.Address)))
            held.TryAdd(vf.Function.ParentAddress!.Value, vf.Address);
        return held;
    }

    private static PciNodeDevice Device(HostFunction function, Dictionary<PciAddress, PciAddress> heldVfs, HashSet<PciAddress> present,
        IReadOnlyDictionary<PciAddress, string> matched, CompiledRules rules, IReadOnlyDictionary<PciAddress, string> vfNotes, Dictionary<PciAddress, Ownership> owners)
    {
        var f = function.Function;
        var rule = matched.GetValueOrDefault(f.Address);
        var unmanaged = rule is not null && !rules.Policy(rule).Managed;
        var (state, reason) = State(function, unmanaged, heldVfs, present, owners);
        if (state == PciDeviceState.Available && rule is not null && rules.Policy(rule).Reset == ResetPolicy.Required && function.ResetMethods.Count == 0)
            (state, reason) = (PciDeviceState.Unavailable, $"it can't be reset, and PciDeviceSpec {rule} says reset: required");
        if (reason is null && vfNotes.TryGetValue(f.Address, out var note))
            reason = note;
        return new PciNodeDevice
        {
            Address = f.Address.ToString(),
            StableId = f.StableId,
            VendorId = f.VendorId.ToString(),
            ProductId = f.ProductId.ToString(),
            SubsystemVendorId = f.SubsystemVendorId?.ToString(),
            SubsystemProductId = f.SubsystemProductId?.ToString(),
            ClassCode = f.ClassCode.ToString("x6"),
            Name = function.Name,
            Type = Translate.Type(f.Type),
            ParentAddress = f.ParentAddress?.ToString(),
            NumaNode = f.NumaNode,
            Socket = f.Socket,
            IommuGroup = f.IommuGroup,
            Driver = function.Driver,
            DeviceName = f.NetDevice,
            Serial = f.CardSerial,
            TotalVfs = f.Type == DeviceType.Pf ? f.SriovTotalVfs : null,
            NumVfs = f.Type == DeviceType.Pf ? function.NumVfs : null,
            ResetMethods = function.ResetMethods is { Count: > 0 } methods ? methods : null,
            Bridge = f.IsBridge ? true : null,
            Rule = rule,
            State = f.IsBridge ? null : state,
            Reason = reason,
        };
    }

    private static (PciDeviceState State, string? Reason) State(HostFunction function, bool unmanaged, Dictionary<PciAddress, PciAddress> heldVfs,
        HashSet<PciAddress> present, Dictionary<PciAddress, Ownership> owners)
    {
        var f = function.Function;
        if (owners.TryGetValue(f.Address, out var owner))
            return present.Contains(f.Address) ? (owner.Bound ? PciDeviceState.Allocated : PciDeviceState.Claimed, null) : (PciDeviceState.Removed, function.GuardReason);
        if (f.ParentAddress is { } parent && owners.TryGetValue(parent, out var parentOwner))
            return (parentOwner.Bound ? PciDeviceState.Unavailable : PciDeviceState.Unclaimable, $"its physical function {parent} is given away");
        if (heldVfs.TryGetValue(f.Address, out var vf))
            return (owners[vf].Bound ? PciDeviceState.Unavailable : PciDeviceState.Unclaimable, $"its virtual function {vf} is given away");
        // What an administrator bound to VFIO is somebody else's, unless a spec says managed: false; then it has to be so.
        if (function.GuardReason is { } refusal && !(unmanaged && function.GuardName == HoldingReasons.ForeignVfioBinding))
            return (PciDeviceState.Unavailable, refusal);
        if (unmanaged && function.Driver?.StartsWith("vfio", StringComparison.Ordinal) != true)
            return (PciDeviceState.Unavailable, $"its PciDeviceSpec says managed: false, and it is on {function.Driver ?? "no driver"}: bind it to vfio-pci");
        return f.IommuGroup is null
            ? (PciDeviceState.Unavailable, "it is in no IOMMU group: is the IOMMU on (intel_iommu=on or amd_iommu=on, and VT-d or AMD-Vi in the firmware)?")
            : (PciDeviceState.Available, null);
    }

    private static AssignmentStatus Assignment(Holding holding, IReadOnlyDictionary<string, PciAssignment> wanted)
    {
        var request = holding.Request;
        // What is held and no longer wanted is on its way back, also before the first write of that.
        var state = wanted.ContainsKey(request.ClaimUid) || holding.State == HoldingState.Stuck ? Translate.State(holding.State) : AssignmentState.Releasing;
        return new AssignmentStatus
        {
            ClaimUid = request.ClaimUid,
            ClaimNamespace = request.ClaimNamespace,
            ClaimName = request.ClaimName,
            State = state,
            Reason = Short(holding.Reason, 64),
            Message = Short(holding.Message, 1024),
            Devices = holding.Devices.Count > 0
                ? [.. holding.Devices.Select(d => new AssignedDeviceStatus { Address = d.Address.ToString(), Driver = d.Driver, OriginalDriver = d.OriginalDriver, DeviceNode = d.DeviceNode })]
                : [.. request.Devices.Select(d => new AssignedDeviceStatus { Address = d.Address.ToString() })],
        };
    }

    private static string? Short(string? text, int most) => text is { Length: > 0 } && text.Length > most ? text[..(most - 1)] + "…" : text;

    private static List<PciPool> Pools(List<PciNodeDevice> offered) =>
    [
        .. offered.GroupBy(d => (d.VendorId, d.ProductId, d.Type, d.NumaNode, Address: d.ParentAddress ?? d.Address, d.Rule))
            .Select(g => new PciPool
            {
                VendorId = g.Key.VendorId,
                ProductId = g.Key.ProductId,
                Type = g.Key.Type,
                NumaNode = g.Key.NumaNode,
                Address = g.Key.Address,
                Rule = g.Key.Rule,
                Total = g.Count(),
                Available = g.Count(d => d.State == PciDeviceState.Available),
                Claimed = g.Count(d => d.State == PciDeviceState.Claimed),
                Allocated = g.Count(d => d.State == PciDeviceState.Allocated),
            }),
    ];

    private static IReadOnlyList<V1Condition> NodeConditions(PciNode node, HostSnapshot host, int count, bool truncated, DateTimeOffset now)
    {
        // The generation is status.observedGeneration's to say: these conditions are about the host.
        var conditions = node.Status?.Conditions;
        conditions = conditions.With(Conditions.IommuEnabled, host.Iommu.Enabled, host.Iommu.Enabled ? "Enabled" : "Disabled",
            host.Iommu.Enabled ? $"{host.Iommu.Groups} IOMMU groups" : host.Iommu.WhyNot ?? "the kernel has no IOMMU groups", null, now);
        conditions = conditions.With(Conditions.VfioReady, host.Vfio.Ready, host.Vfio.Ready ? "Ready" : "NotReady",
            host.Vfio.Ready ? "vfio-pci is there" : host.Vfio.WhyNot ?? "vfio-pci is not there", null, now);
        conditions = conditions.With(Conditions.InventoryReady, true, "Complete", truncated ? $"the first {MostDevices} devices are shown" : $"{count} devices are shown", null, now);
        return truncated || conditions.Find(Conditions.InventoryTruncated) is not null
            ? conditions.With(Conditions.InventoryTruncated, truncated, truncated ? "TooMany" : "Complete",
                truncated ? $"more than {MostDevices} devices match: narrow the PciDeviceSpecs, since those beyond are not offered" : "every device is shown", null, now)
            : conditions;
    }
}
