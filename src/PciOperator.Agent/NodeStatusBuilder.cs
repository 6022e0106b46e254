using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Agent;

/// <summary>Works out a PciNode's status from what the host shows, what the rules say and what is given away. Pure.</summary>
internal static class NodeStatusBuilder
{
    /// <summary>The most devices that status can hold.</summary>
    internal const int MostDevices = 1024;

    private const int MostProblems = 8;
    private const string NoReset = "NoReset";

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
        var strangers = Strangers(known, host);
        var mustReset = MustReset(host, matched, rules);
        var alone = host.Functions.Where(f => f.Function is { IommuGroup: not null, IsBridge: false }).GroupBy(f => f.Function.IommuGroup!.Value)
            .Where(g => g.Count() == 1).Select(g => g.Key).ToHashSet();
        var devices = shown.Select(f => Device(f, held, present, matched, rules, vfNotes, owners, strangers, mustReset, alone)).ToList();
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
            Conditions = NodeConditions.Of(node.Status?.Conditions, host, devices, known, truncated, now),
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
            .Where(f => matched.ContainsKey(f.Function.Address) || owners.ContainsKey(f.Function.Address) || f.WithheldBy == PciOperatorApi.UsedOnce
                || (f.Function.IommuGroup is { } group && groups.Contains(group)))
            .OrderBy(f => f.Function.Address)
            .ToList();

        // A device that left the bus while a claim holds it is still to be seen.
        foreach (var gone in known.Where(h => h.State != HoldingState.Rejected).SelectMany(h => h.Request.Devices).Where(d => !present.Contains(d.Address)))
        {
            all.Add(new HostFunction
            {
                Function = new PciFunction { Address = gone.Address, VendorId = gone.VendorId, ProductId = gone.ProductId, IommuGroup = gone.IommuGroup },
                GuardReason = $"{gone.Address} is gone from the bus",
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

    /// <summary>Addresses at which there is another card now than the one that a claim holds, with that claim's words.</summary>
    private static Dictionary<PciAddress, string> Strangers(IReadOnlyList<Holding> known, HostSnapshot host)
    {
        var strangers = new Dictionary<PciAddress, string>();
        foreach (var holding in known.Where(h => h is { State: HoldingState.Stuck, Reason: HoldingReasons.DriftDetected }))
        {
            foreach (var device in holding.Request.Devices)
                strangers[device.Address] = $"claim {holding.Request.ClaimNamespace}/{holding.Request.ClaimName} holds what was here: {holding.Message}";
        }

        return strangers;
    }

    /// <summary>IOMMU groups with a device whose spec says <c>reset: required</c>, and that spec: a group goes as a whole.</summary>
    private static Dictionary<int, string> MustReset(HostSnapshot host, IReadOnlyDictionary<PciAddress, string> matched, CompiledRules rules)
    {
        var groups = new Dictionary<int, string>();
        foreach (var function in host.Functions)
        {
            if (function.Function.IommuGroup is { } group && matched.TryGetValue(function.Address, out var rule) && rules.Policy(rule).Reset == ResetPolicy.Required)
                groups.TryAdd(group, rule);
        }

        return groups;
    }

    private static PciNodeDevice Device(HostFunction function, Dictionary<PciAddress, PciAddress> heldVfs, HashSet<PciAddress> present,
        IReadOnlyDictionary<PciAddress, string> matched, CompiledRules rules, IReadOnlyDictionary<PciAddress, string> vfNotes, Dictionary<PciAddress, Ownership> owners,
        Dictionary<PciAddress, string> strangers, Dictionary<int, string> mustReset, HashSet<int> alone)
    {
        var f = function.Function;
        var rule = matched.GetValueOrDefault(f.Address);
        var unmanaged = rule is not null && !rules.Policy(rule).Managed;
        var (state, reason) = State(function, unmanaged, heldVfs, present, owners);
        string? withheldBy = null;
        if (state == PciDeviceState.Available && f.IommuGroup is { } g
            && Withheld(function, mustReset.GetValueOrDefault(g), alone.Contains(g)) is (var by, var why))
            (state, reason, withheldBy) = (PciDeviceState.Unavailable, why, by);
        if (strangers.TryGetValue(f.Address, out var stranger) && state is PciDeviceState.Claimed or PciDeviceState.Allocated)
            (state, reason) = (PciDeviceState.Unavailable, stranger);
        if (vfNotes.TryGetValue(f.Address, out var note))
            reason = Short(reason is null ? note : $"{reason}; {note}", 1024);
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
            Reason = Short(reason, 1024),
            WithheldBy = f.IsBridge ? null : withheldBy,
            ProvenReset = function.ProvenReset,
            Problems = function.Problems is { Count: > 0 } problems
                ? [.. problems.DistinctBy(p => p.Type).Take(MostProblems).Select(p => new PciDeviceProblem { Type = p.Type, Message = Short(p.Message, 1024) })]
                : null,
        };
    }

    /// <summary>What keeps a free device from being offered, in one word and in a sentence; null: nothing.</summary>
    /// <param name="function">The device.</param>
    /// <param name="mustReset">The spec that says <c>reset: required</c> of it or of a member of its group; null: none does.</param>
    /// <param name="alone">No other device goes with it.</param>
    private static (string By, string Why)? Withheld(HostFunction function, string? mustReset, bool alone)
    {
        if (function.Withheld is { } sentence && (function.WithheldBy != NoReset || mustReset is not null))
            return (function.WithheldBy ?? "Withheld", sentence);
        // Functions of a card without a way of their own may be reset together through VFIO: that is tried when they are first bound.
        return mustReset is not null && alone && function is { ResetMethods.Count: 0, ProvenReset: null }
            ? (NoReset, $"it can't be reset, and PciDeviceSpec {mustReset} says reset: required")
            : null;
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
}
