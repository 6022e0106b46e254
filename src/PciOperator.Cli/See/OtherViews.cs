using PciOperator.Api;

namespace PciOperator.Cli.See;

/// <summary>An IOMMU group of a node: it goes to one claim, whole, or to none.</summary>
internal sealed record GroupView
{
    public required string Node { get; init; }

    public required int Group { get; init; }

    public int? NumaNode { get; init; }

    /// <summary><c>free</c>, <c>held</c>, or <c>not offered</c>.</summary>
    public required string State { get; init; }

    /// <summary>The claims that have devices of it.</summary>
    public required IReadOnlyList<string> Claims { get; init; }

    public required IReadOnlyList<DeviceView> Devices { get; init; }

    /// <summary>Why it is not offered.</summary>
    public string? Reason { get; init; }

    /// <summary>The groups of devices.</summary>
    public static IReadOnlyList<GroupView> Of(IReadOnlyList<DeviceView> devices) =>
        [
            .. devices
                .Where(d => d.IommuGroup is not null)
                .GroupBy(d => (d.Node, Group: d.IommuGroup!.Value))
                .OrderBy(g => g.Key.Node, StringComparer.Ordinal)
                .ThenBy(g => g.Key.Group)
                .Select(g => Of(g.Key.Node, g.Key.Group, [.. g])),
        ];

    private static GroupView Of(string node, int group, DeviceView[] devices)
    {
        IReadOnlyList<string> claims = [.. devices.Select(d => d.Claim).OfType<string>().Distinct().Order(StringComparer.Ordinal)];
        // With "companions: allow" a group is free although no spec names some of it: what a spec names says whether it can be had.
        DeviceView? keeps = devices.Any(d => d.IsFree)
            ? null
            : devices.OrderByDescending(d => d.Spec is not null).FirstOrDefault(d => d.State != "bridge");
        return new GroupView
        {
            Node = node,
            Group = group,
            NumaNode = devices.Select(d => d.NumaNode).FirstOrDefault(n => n is not null),
            Claims = claims,
            Devices = devices,
            State =
                claims.Count > 0 ? "held"
                : devices.Any(d => d.IsFree) ? "free"
                : "not offered",
            Reason =
                claims.Count > 0 || keeps is null ? null
                : keeps.State == "unmatched" ? $"{keeps.Address} ({keeps.Name}): no PciDeviceSpec names it"
                : $"{keeps.Address}: {keeps.Reason ?? keeps.WithheldBy ?? keeps.State}",
        };
    }
}

/// <summary>A physical function and its virtual functions.</summary>
internal sealed record FunctionView
{
    public required string Node { get; init; }

    /// <summary>The PF's address.</summary>
    public required string Address { get; init; }

    /// <summary>Its name; null: no spec names the PF, and its node says nothing of it.</summary>
    public string? Name { get; init; }

    public string? Interface { get; init; }

    public int? NumVfs { get; init; }

    public int? TotalVfs { get; init; }

    /// <summary>The PF's own state; null where its node says nothing of it.</summary>
    public string? State { get; init; }

    public string? Claim { get; init; }

    /// <summary>The VFs that a spec names, or that are in the group of one.</summary>
    public required IReadOnlyList<DeviceView> Vfs { get; init; }

    /// <summary>PFs with VFs, or that could have some.</summary>
    public static IReadOnlyList<FunctionView> Of(IReadOnlyList<DeviceView> devices)
    {
        var known = devices.ToDictionary(d => (d.Node, d.Address));
        ILookup<(string, string), DeviceView> vfs = devices
            .Where(d => d.ParentAddress is not null)
            .ToLookup(d => (d.Node, d.ParentAddress!));
        return
        [
            .. devices
                .Where(d => d.Type == "type-PF")
                .Select(d => (d.Node, d.Address))
                .Concat(vfs.Select(v => v.Key))
                .Distinct()
                .OrderBy(k => k.Item1, StringComparer.Ordinal)
                .ThenBy(k => k.Item2, StringComparer.Ordinal)
                .Select(key =>
                {
                    DeviceView? pf = known.GetValueOrDefault(key);
                    return new FunctionView
                    {
                        Node = key.Item1,
                        Address = key.Item2,
                        Name = pf?.Name,
                        Interface = pf?.Interface,
                        NumVfs = pf?.NumVfs,
                        TotalVfs = pf?.TotalVfs,
                        State = pf?.State,
                        Claim = pf?.Claim,
                        Vfs = [.. vfs[key]],
                    };
                }),
        ];
    }
}

/// <summary>A node, as far as passthrough goes.</summary>
internal sealed record NodeView
{
    public required string Name { get; init; }

    /// <summary>True, False or Unknown of the node's inventory; null: its agent has said nothing.</summary>
    public string? Ready { get; init; }

    public string? Iommu { get; init; }

    public string? Vfio { get; init; }

    public string? Kubelet { get; init; }

    public string? Healthy { get; init; }

    public int Devices { get; init; }

    public int Free { get; init; }

    public int Held { get; init; }

    public int Claims { get; init; }

    public string? Kernel { get; init; }

    public string? Agent { get; init; }

    /// <summary>What a PciNode says.</summary>
    public static NodeView Of(PciNode node, IReadOnlyList<DeviceView> devices)
    {
        DeviceView[] offered = [.. devices.Where(d => d.Node == node.Metadata.Name && d.Spec is not null)];
        return new NodeView
        {
            Name = node.Metadata.Name,
            Ready = Status(Conditions.InventoryReady),
            Iommu = Status(Conditions.IommuEnabled),
            Vfio = Status(Conditions.VfioReady),
            Kubelet = Status(Conditions.KubeletRegistered),
            Healthy = Status(Conditions.DevicesHealthy),
            Devices = offered.Length,
            Free = offered.Count(d => d.IsFree),
            Held = offered.Count(d => d.Claim is not null),
            Claims = offered.Select(d => d.Claim).OfType<string>().Distinct().Count(),
            Kernel = node.Status?.KernelVersion,
            Agent = node.Status?.AgentVersion,
        };

        string? Status(string type) => node.Status?.Conditions.Find(type)?.Status;
    }
}

/// <summary>A claim.</summary>
internal sealed record ClaimView
{
    public required string Namespace { get; init; }

    public required string Name { get; init; }

    public required string Phase { get; init; }

    public string? Node { get; init; }

    public bool Ready { get; init; }

    /// <summary>As Nova's flavors write it: <c>a1:2,a2:1</c>.</summary>
    public required string Requests { get; init; }

    public required IReadOnlyList<string> Devices { get; init; }

    public string? InUse { get; init; }

    /// <summary>What its conditions say, while it is not ready.</summary>
    public string? Message { get; init; }

    public DateTime? Created { get; init; }

    /// <summary>What a claim says.</summary>
    public static ClaimView Of(PassthroughClaim claim)
    {
        IReadOnlyList<k8s.Models.V1Condition>? conditions = claim.Status?.Conditions;
        bool ready = conditions.IsTrue(Conditions.Ready);
        return new ClaimView
        {
            Namespace = claim.Metadata.NamespaceProperty,
            Name = claim.Metadata.Name,
            Phase = claim.Status?.Phase?.ToString() ?? (claim.Metadata.DeletionTimestamp is null ? "New" : "Releasing"),
            Node = claim.Status?.NodeName is { Length: > 0 } node ? node : null,
            Ready = ready,
            Requests = claim.Spec.RequestsToNova(),
            Devices = [.. (claim.Status?.Devices ?? []).Select(d => d.Address)],
            InUse = conditions.IsTrue(Conditions.InUse) ? conditions.Find(Conditions.InUse)!.Message : null,
            Message = ready ? null : WhyNotReady(conditions),
            Created = claim.Metadata.CreationTimestamp,
        };
    }

    /// <summary>The first condition of a claim's way that is not true.</summary>
    private static string? WhyNotReady(IReadOnlyList<k8s.Models.V1Condition>? conditions) =>
        new[] { Conditions.Scheduled, Conditions.Prepared, Conditions.Ready }
            .Select(conditions.Find)
            .FirstOrDefault(c => c is not null && c.Status != "True")
            ?.Message;
}

/// <summary>Who has a device, and by what.</summary>
internal sealed record HolderView
{
    public required DeviceView Device { get; init; }

    /// <summary>The pods that use its claim, where the claim says so.</summary>
    public string? UsedBy { get; init; }

    /// <summary>The other devices of its IOMMU group: they go where it goes.</summary>
    public required IReadOnlyList<string> Companions { get; init; }
}
